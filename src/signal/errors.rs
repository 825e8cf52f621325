//! What is wrong: refusals by the server, and bytes that are no frame (`wire.md`, section *Signaling*).

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::proof::Later;
use crate::identity::{AgentId, LinkId, Session};
use crate::message::SdpReason;

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
    /// With `replaced` and `older-session`: the registration that has the place, if its session is a
    /// later one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub later: Option<Box<Later>>,
    /// How long to wait before coming back, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
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
    /// The roster has no such agent under this key, or revokes it.
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
    /// An SDP over [`MAX_SDP`](super::MAX_SDP); offline that is a matter of shape.
    TooLarge,
}

impl FrameReason {
    /// The reason in the words of `wire.md`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Schema | Self::TooLarge => "schema",
            Self::Unsigned => "unsigned",
        }
    }

    /// The reason of a rejected offer or answer; what is no JSON object is no shape either.
    pub fn sdp_reason(self) -> SdpReason {
        match self {
            Self::Malformed | Self::Schema | Self::TooLarge => SdpReason::Schema,
            Self::Unsigned => SdpReason::Unsigned,
        }
    }
}

impl ErrorFrame {
    /// How long the server asks to wait before coming back.
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after_ms.map(Duration::from_millis)
    }

    pub(super) fn after(mut self, wait: Duration) -> Self {
        self.retry_after_ms = u64::try_from(wait.as_millis()).ok();
        self
    }

    pub(super) fn in_reply_to(mut self, frame_type: &str) -> Self {
        self.in_reply_to = Some(frame_type.into());
        self
    }
}

impl From<FrameError> for ErrorFrame {
    fn from(err: FrameError) -> Self {
        let code = match err.reason {
            FrameReason::TooLarge => ErrorCode::TooLarge,
            FrameReason::Malformed | FrameReason::Schema | FrameReason::Unsigned => {
                ErrorCode::BadFrame
            }
        };
        Self {
            in_reply_to: err.frame_type.map(Into::into),
            to: err.to,
            link: err.link,
            ..code.because(err.detail)
        }
    }
}

impl ErrorCode {
    /// All of them, in the order of their declaration.
    pub const ALL: [Self; 13] = [
        Self::BadFrame,
        Self::BadSignature,
        Self::NotRegistered,
        Self::NotAdmitted,
        Self::IdTaken,
        Self::OlderSession,
        Self::Replaced,
        Self::WrongServer,
        Self::NotYours,
        Self::UnknownPeer,
        Self::TooLarge,
        Self::RateLimited,
        Self::ServerFull,
    ];

    /// A refusal with this code.
    pub(super) fn because(self, message: impl Into<String>) -> ErrorFrame {
        ErrorFrame {
            code: self,
            message: message.into(),
            in_reply_to: None,
            to: None,
            link: None,
            session: None,
            later: None,
            retry_after_ms: None,
        }
    }

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
