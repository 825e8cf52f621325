//! The frames of signaling: one JSON object per WebSocket text frame (`wire.md`, section *Signaling*).
//!
//! Reading is strict (no duplicate keys, bounded size and depth, our numbers are integers) and says
//! which member is wrong. Members that are not known are ignored, so that later versions can add some.

use std::fmt;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::proof::{Goodbye, Nonce, Register};
use super::sdp::{SdpFrame, SdpKind};
use crate::identity::{AgentId, LinkId, PublicKey, Session};
use crate::message::parse_strict;

/// What a client says to the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum ClientFrame {
    /// The first frame: who I am, and the proof of it.
    Register(Register),
    /// Candidates for a link being made.
    IceCandidates(Candidates),
    /// I wait for an offer of `to`, whose place it is to dial.
    PleaseOffer {
        /// Who asks.
        from: AgentId,
        /// Who should offer.
        to: AgentId,
    },
    /// I leave on purpose.
    Goodbye(Goodbye),
    /// An offer; its `kind` says so too.
    #[serde(untagged)]
    Offer(SdpFrame),
    /// An answer; its `kind` says so too.
    #[serde(untagged)]
    Answer(SdpFrame),
}

/// What the server says to a client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum ServerFrame {
    /// The first frame: what the registration has to sign.
    Challenge {
        /// 32 random bytes, new for each connection.
        nonce: Nonce,
        /// The protocol that the server speaks: [`PROTOCOL`].
        protocol: String,
    },
    /// The registration was taken.
    Registered(Registered),
    /// Somebody else registered.
    AgentJoined {
        /// Who.
        agent: Peer,
    },
    /// Somebody's connection to the server ended. A hint: no link is torn down for it.
    AgentLeft {
        /// Who.
        agent_id: AgentId,
        /// Which of its sessions.
        session: Session,
        /// How it ended.
        reason: LeftReason,
    },
    /// Candidates of a peer.
    IceCandidates(Candidates),
    /// A peer waits for my offer.
    PleaseOffer {
        /// Who asks.
        from: AgentId,
        /// Who should offer: me.
        to: AgentId,
    },
    /// Something I sent was refused, or the connection ends.
    Error(ErrorFrame),
    /// A peer's offer, as yet unverified.
    #[serde(untagged)]
    Offer(SdpFrame),
    /// A peer's answer, as yet unverified.
    #[serde(untagged)]
    Answer(SdpFrame),
}

/// A frame of either direction, for those who check frames offline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// What a client says, or what is relayed.
    Client(ClientFrame),
    /// What only the server says.
    Server(ServerFrame),
}

/// An agent that is registered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// Its id.
    pub agent_id: AgentId,
    /// The key that the server saw; the receiver holds it against its own roster.
    pub public_key: PublicKey,
    /// Its session.
    pub session: Session,
}

/// The answer to a registration that was taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Registered {
    /// Me.
    pub agent_id: AgentId,
    /// Everybody else of the swarm who is registered, in the order of their ids.
    pub connected_agents: Vec<Peer>,
    /// STUN and TURN servers to gather candidates from.
    pub ice_servers: Vec<IceServer>,
}

/// A STUN or TURN server, as `RTCIceServer` has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IceServer {
    /// `stun:` and `turn:` URLs.
    pub urls: Vec<String>,
    /// For TURN.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// For TURN.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<String>,
}

/// Candidates of one end of a link being made, batched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Candidates {
    /// Whose they are.
    pub from: AgentId,
    /// For whom.
    pub to: AgentId,
    /// The link being made.
    pub link: LinkId,
    /// The candidates; none is allowed, with `end`.
    pub candidates: Vec<Candidate>,
    /// No more will come.
    pub end: bool,
}

/// One candidate, as `RTCIceCandidateInit` has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidate {
    /// `candidate:…` (RFC 8839, section 5.1).
    pub candidate: String,
    /// The media section by its `a=mid`.
    #[serde(rename = "sdpMid", default)]
    pub sdp_mid: Option<String>,
    /// The media section by its place, from 0.
    #[serde(rename = "sdpMLineIndex", default)]
    pub sdp_mline_index: Option<u16>,
}

/// How an agent's connection to the server ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LeftReason {
    /// It said goodbye.
    Goodbye,
    /// The connection broke, or the server closed it.
    Lost,
    /// A later connection of the same agent took its place.
    Replaced,
}

/// A refusal by the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ErrorFrame {
    /// What is wrong, for programs.
    pub code: ErrorCode,
    /// What is wrong and what to do, for people.
    pub message: String,
    /// The `type` of the frame that was refused; null when it could not be read.
    pub in_reply_to: Option<String>,
    /// To whom that frame was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<AgentId>,
    /// Which link it was about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link: Option<LinkId>,
    /// With `older-session`: the session that is connected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<Session>,
}

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorCode {
    /// Not a frame that may be sent here.
    BadFrame,
    /// The signature of a registration or goodbye does not verify.
    BadSignature,
    /// Something else than `register` came first, or nothing in time.
    NotRegistered,
    /// The roster has no such agent under this key.
    NotAdmitted,
    /// Without a roster: the id is bound to another key.
    IdTaken,
    /// A later session of this agent is connected.
    OlderSession,
    /// An equal or later session of this agent took the place of this connection.
    Replaced,
    /// The registration was signed for another server.
    WrongServer,
    /// `from` is not the agent that registered here.
    NotYours,
    /// `to` is not registered.
    UnknownPeer,
    /// A frame or an SDP over its limit.
    TooLarge,
    /// More frames than 100 a second, after a burst of 500.
    RateLimited,
    /// No room for more agents, swarms or connections.
    ServerFull,
}

/// Bytes that are no frame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {detail}", .frame_type.unwrap_or("frame"))]
pub struct FrameError {
    /// Which of the reasons of `wire.md` applies.
    pub reason: FrameReason,
    /// The `type`, if it is a known one.
    pub frame_type: Option<&'static str>,
    /// What it claims as `from`, if that is an id.
    pub from: Option<AgentId>,
    /// What it claims as `to`, if that is an id.
    pub to: Option<AgentId>,
    /// What it claims as `link`, if that is one.
    pub link: Option<LinkId>,
    /// Which member, what was found, what was expected: one bounded line.
    pub detail: String,
}

/// Why bytes are no frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FrameReason {
    /// No acceptable JSON object.
    Malformed,
    /// Not the shape of any frame, or not of the one it says it is.
    Schema,
    /// An otherwise good offer or answer without `signature`.
    Unsigned,
    /// An SDP over [`MAX_SDP`]; offline that is a matter of shape.
    TooLarge,
}

/// What a frame's members are wrong about, before it is known whose frame it is.
pub(super) struct Wrong {
    pub(super) reason: FrameReason,
    pub(super) detail: String,
}

impl ClientFrame {
    /// Reads a frame of a client.
    ///
    /// # Errors
    /// [`FrameError`], which says what was found and what was expected.
    pub fn parse(bytes: &[u8]) -> Result<Self, FrameError> {
        Members::read(bytes)?.into_frame(|frame_type, members| {
            Self::of(frame_type, members).unwrap_or_else(|| Err(unexpected(frame_type, "client")))
        })
    }

    /// The frame as it goes on the wire.
    pub fn to_text(&self) -> String {
        to_text(self)
    }

    /// `None` when it is none of a client's types.
    fn of(frame_type: &str, members: &mut Members) -> Option<Result<Self, Wrong>> {
        Some(match frame_type {
            "register" => Register::of(members).map(Self::Register),
            "offer" => SdpFrame::of(SdpKind::Offer, members).map(Self::Offer),
            "answer" => SdpFrame::of(SdpKind::Answer, members).map(Self::Answer),
            "ice-candidates" => Candidates::of(members).map(Self::IceCandidates),
            "please-offer" => {
                please_offer(members).map(|(from, to)| Self::PleaseOffer { from, to })
            }
            "goodbye" => Goodbye::of(members).map(Self::Goodbye),
            _ => return None,
        })
    }
}

impl From<SdpFrame> for ClientFrame {
    fn from(frame: SdpFrame) -> Self {
        match frame.kind {
            SdpKind::Offer => Self::Offer(frame),
            SdpKind::Answer => Self::Answer(frame),
        }
    }
}

impl ServerFrame {
    /// Reads a frame of the server.
    ///
    /// # Errors
    /// [`FrameError`], which says what was found and what was expected.
    pub fn parse(bytes: &[u8]) -> Result<Self, FrameError> {
        Members::read(bytes)?.into_frame(|frame_type, members| {
            Self::of(frame_type, members).unwrap_or_else(|| Err(unexpected(frame_type, "server")))
        })
    }

    /// The frame as it goes on the wire.
    pub fn to_text(&self) -> String {
        to_text(self)
    }

    /// `None` when it is none of the server's types.
    fn of(frame_type: &str, members: &mut Members) -> Option<Result<Self, Wrong>> {
        Some(match frame_type {
            "challenge" => members.challenge(),
            "registered" => members.registered().map(Self::Registered),
            "agent-joined" => members
                .take("agent")
                .map(|agent| Self::AgentJoined { agent }),
            "agent-left" => members.agent_left(),
            "offer" => SdpFrame::of(SdpKind::Offer, members).map(Self::Offer),
            "answer" => SdpFrame::of(SdpKind::Answer, members).map(Self::Answer),
            "ice-candidates" => Candidates::of(members).map(Self::IceCandidates),
            "please-offer" => {
                please_offer(members).map(|(from, to)| Self::PleaseOffer { from, to })
            }
            "error" => members.error().map(Self::Error),
            _ => return None,
        })
    }
}

/// Reads a frame of either direction, as `ifswarm verify` does. Says nothing about signatures:
/// see [`SdpFrame::verify_offline`].
///
/// # Errors
/// [`FrameError`], which says what was found and what was expected.
pub fn parse_frame(bytes: &[u8]) -> Result<Frame, FrameError> {
    Members::read(bytes)?.into_frame(|frame_type, members| {
        if let Some(frame) = ClientFrame::of(frame_type, members) {
            return frame.map(Frame::Client);
        }
        let frame = ServerFrame::of(frame_type, members);
        frame.map_or_else(
            || Err(unexpected(frame_type, "frame")),
            |f| f.map(Frame::Server),
        )
    })
}

/// JSON Schema (draft 2020-12) of every frame. What it cannot say: an SDP is limited in bytes, not
/// code points, and its inner `type` is that of the frame.
pub fn schema() -> &'static str {
    include_str!("frames.schema.json")
}

impl Frame {
    /// The offer or answer, if it is one.
    pub fn sdp(&self) -> Option<&SdpFrame> {
        match self {
            Self::Client(ClientFrame::Offer(sdp) | ClientFrame::Answer(sdp)) => Some(sdp),
            _ => None,
        }
    }
}

impl Candidates {
    fn of(members: &mut Members) -> Result<Self, Wrong> {
        Ok(Self {
            from: members.take("from")?,
            to: members.take("to")?,
            link: members.take("link")?,
            candidates: members.take("candidates")?,
            end: members.take("end")?,
        })
    }
}

impl ErrorCode {
    /// The code on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BadFrame => "bad-frame",
            Self::BadSignature => "bad-signature",
            Self::NotRegistered => "not-registered",
            Self::NotAdmitted => "not-admitted",
            Self::IdTaken => "id-taken",
            Self::OlderSession => "older-session",
            Self::Replaced => "replaced",
            Self::WrongServer => "wrong-server",
            Self::NotYours => "not-yours",
            Self::UnknownPeer => "unknown-peer",
            Self::TooLarge => "too-large",
            Self::RateLimited => "rate-limited",
            Self::ServerFull => "server-full",
        }
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The members of a frame, taken out one by one, so that what is wrong can be named.
pub(super) struct Members(Map<String, Value>);

impl Members {
    fn read(bytes: &[u8]) -> Result<Self, FrameError> {
        let malformed = |detail: String| FrameError {
            reason: FrameReason::Malformed,
            frame_type: None,
            from: None,
            to: None,
            link: None,
            detail: one_line(&detail),
        };
        match parse_strict(bytes, MAX_FRAME) {
            Ok(Value::Object(members)) => Ok(Self(members)),
            Ok(_) => Err(malformed("expected a JSON object".into())),
            Err(err) => Err(malformed(err.to_string())),
        }
    }

    /// Puts together what went wrong and what the frame claims to be.
    fn into_frame<T>(
        mut self,
        of: impl FnOnce(&str, &mut Self) -> Result<T, Wrong>,
    ) -> Result<T, FrameError> {
        let from = self.claim("from");
        let to = self.claim("to");
        let link = self.claim("link");
        let mut known = None;
        let frame = self.take::<String>("type").and_then(|frame_type| {
            known = FRAME_TYPES.iter().copied().find(|t| *t == frame_type);
            of(&frame_type, &mut self)
        });
        frame.map_err(|wrong| FrameError {
            reason: wrong.reason,
            frame_type: known,
            from,
            to,
            link,
            detail: one_line(&wrong.detail),
        })
    }

    fn claim<T: std::str::FromStr>(&self, name: &str) -> Option<T> {
        self.0.get(name)?.as_str()?.parse().ok()
    }

    /// Takes a member that has to be there.
    pub(super) fn take<T: DeserializeOwned>(&mut self, name: &str) -> Result<T, Wrong> {
        self.take_optional(name)?
            .ok_or_else(|| schema_error(format!("missing member `{name}`")))
    }

    /// Takes a member that may be left out, but not be null unless `T` may.
    pub(super) fn take_optional<T: DeserializeOwned>(
        &mut self,
        name: &str,
    ) -> Result<Option<T>, Wrong> {
        let Some(value) = self.0.remove(name) else {
            return Ok(None);
        };
        serde_json::from_value(value)
            .map(Some)
            .map_err(|err| schema_error(format!("member `{name}`: {err}")))
    }

    fn challenge(&mut self) -> Result<ServerFrame, Wrong> {
        Ok(ServerFrame::Challenge {
            nonce: self.take("nonce")?,
            protocol: self.take("protocol")?,
        })
    }

    fn registered(&mut self) -> Result<Registered, Wrong> {
        Ok(Registered {
            agent_id: self.take("agent_id")?,
            connected_agents: self.take("connected_agents")?,
            ice_servers: self.take("ice_servers")?,
        })
    }

    fn agent_left(&mut self) -> Result<ServerFrame, Wrong> {
        Ok(ServerFrame::AgentLeft {
            agent_id: self.take("agent_id")?,
            session: self.take("session")?,
            reason: self.take("reason")?,
        })
    }

    fn error(&mut self) -> Result<ErrorFrame, Wrong> {
        Ok(ErrorFrame {
            code: self.take("code")?,
            message: self.take("message")?,
            in_reply_to: self.take("in_reply_to")?,
            to: self.take_optional("to")?,
            link: self.take_optional("link")?,
            session: self.take_optional("session")?,
        })
    }
}

fn please_offer(members: &mut Members) -> Result<(AgentId, AgentId), Wrong> {
    Ok((members.take("from")?, members.take("to")?))
}

pub(super) fn schema_error(detail: String) -> Wrong {
    Wrong {
        reason: FrameReason::Schema,
        detail,
    }
}

fn unexpected(frame_type: &str, of: &str) -> Wrong {
    schema_error(format!("`{frame_type}` is no type of a {of}'s frames"))
}

fn to_text<T: Serialize>(frame: &T) -> String {
    serde_json::to_string(frame).expect("string keys and integers only")
}

/// Hostile text is cut and escaped, so that a log line stays a line.
fn one_line(text: &str) -> String {
    text.chars()
        .take(MAX_DETAIL)
        .flat_map(|c| {
            if c.is_control() {
                c.escape_default().collect()
            } else {
                vec![c]
            }
        })
        .collect()
}

/// The protocol and its version, as the challenge says it.
pub const PROTOCOL: &str = "ifswarm-signal/1";
/// The largest frame, in bytes (`wire.md`).
pub const MAX_FRAME: usize = 1024 * 1024;
/// The largest SDP, in bytes (`wire.md`).
pub const MAX_SDP: usize = 64 * 1024;
/// Characters of an explanation: a few lines of a terminal.
const MAX_DETAIL: usize = 300;
/// Every `type` there is; others are not echoed.
const FRAME_TYPES: [&str; 11] = [
    "challenge",
    "register",
    "registered",
    "agent-joined",
    "agent-left",
    "offer",
    "answer",
    "ice-candidates",
    "please-offer",
    "goodbye",
    "error",
];
