//! The frames of signaling: one JSON object per WebSocket text frame (`wire.md`, section *Signaling*).
//!
//! Reading is strict (no duplicate keys, bounded size and depth, our numbers are integers) and says
//! which member is wrong. Members that are not known are ignored, so that later versions can add some.

use serde::{Deserialize, Serialize};

use super::errors::{ErrorFrame, FrameError};
use super::members::{Members, Wrong, schema_error, unexpected};
use super::proof::{Goodbye, INTEGERS_END, Nonce, Register};
use super::sdp::{SdpFrame, SdpKind};
use crate::identity::{AgentId, LinkId, PublicKey, Session};

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

    /// Its `type`.
    pub fn frame_type(&self) -> &'static str {
        match self {
            Self::Register(_) => "register",
            Self::Offer(_) => "offer",
            Self::Answer(_) => "answer",
            Self::IceCandidates(_) => "ice-candidates",
            Self::PleaseOffer { .. } => "please-offer",
            Self::Goodbye(_) => "goodbye",
        }
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
            "challenge" => challenge(members),
            "registered" => Registered::of(members).map(Self::Registered),
            "agent-joined" => members
                .take_object("agent")
                .map(|agent| Self::AgentJoined { agent }),
            "agent-left" => agent_left(members),
            "offer" => SdpFrame::of(SdpKind::Offer, members).map(Self::Offer),
            "answer" => SdpFrame::of(SdpKind::Answer, members).map(Self::Answer),
            "ice-candidates" => Candidates::of(members).map(Self::IceCandidates),
            "please-offer" => {
                please_offer(members).map(|(from, to)| Self::PleaseOffer { from, to })
            }
            "error" => ErrorFrame::of(members).map(Self::Error),
            _ => return None,
        })
    }
}

impl Registered {
    /// The frame `registered`, of agents that are written already: the list of a large swarm is
    /// told to everybody who joins, while all others wait.
    pub(super) fn text<'a>(
        agent_id: &AgentId,
        connected_agents: impl Iterator<Item = &'a str>,
        ice_servers: &[IceServer],
    ) -> String {
        let agents: Vec<_> = connected_agents.collect();
        format!(
            r#"{{"type":"registered","agent_id":{},"connected_agents":[{}],"ice_servers":{}}}"#,
            to_text(agent_id),
            agents.join(","),
            to_text(&ice_servers),
        )
    }
}

impl Peer {
    /// As it stands in a list.
    pub(super) fn to_text(&self) -> String {
        to_text(self)
    }

    /// The frame `agent-joined`, of a peer that is written already.
    pub(super) fn joined(peer: &str) -> String {
        format!(r#"{{"type":"agent-joined","agent":{peer}}}"#)
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
            candidates: members.take_objects("candidates")?,
            end: members.take("end")?,
        })
    }
}

impl Registered {
    fn of(members: &mut Members) -> Result<Self, Wrong> {
        Ok(Self {
            agent_id: members.take("agent_id")?,
            connected_agents: members.take_objects("connected_agents")?,
            ice_servers: members.take_objects("ice_servers")?,
        })
    }
}

impl ErrorFrame {
    fn of(members: &mut Members) -> Result<Self, Wrong> {
        Ok(Self {
            code: members.take("code")?,
            message: members.take("message")?,
            in_reply_to: members.take("in_reply_to")?,
            to: members.take_optional("to")?,
            link: members.take_optional("link")?,
            session: members.take_optional("session")?,
            later: members.take_optional_object("later")?,
            retry_after_ms: retry_after(members)?,
        })
    }
}

fn challenge(members: &mut Members) -> Result<ServerFrame, Wrong> {
    Ok(ServerFrame::Challenge {
        nonce: members.take("nonce")?,
        protocol: members.take("protocol")?,
    })
}

fn agent_left(members: &mut Members) -> Result<ServerFrame, Wrong> {
    Ok(ServerFrame::AgentLeft {
        agent_id: members.take("agent_id")?,
        session: members.take("session")?,
        reason: members.take("reason")?,
    })
}

fn retry_after(members: &mut Members) -> Result<Option<u64>, Wrong> {
    match members.take_optional("retry_after_ms")? {
        Some(INTEGERS_END..) => Err(schema_error(
            "member `retry_after_ms`: expected an integer below 2^53".into(),
        )),
        wait => Ok(wait),
    }
}

fn please_offer(members: &mut Members) -> Result<(AgentId, AgentId), Wrong> {
    Ok((members.take("from")?, members.take("to")?))
}

fn to_text<T: Serialize>(frame: &T) -> String {
    serde_json::to_string(frame).expect("string keys and integers only")
}

/// The protocol and its version, as the challenge says it.
pub const PROTOCOL: &str = "ifswarm-signal/1";
/// The largest frame, in bytes (`wire.md`).
pub const MAX_FRAME: usize = 1024 * 1024;
/// The largest SDP, in bytes (`wire.md`).
pub const MAX_SDP: usize = 64 * 1024;
