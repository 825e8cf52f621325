//! Why an offer or an answer was rejected (`wire.md`, section *Signaling*).
//!
//! Stands here because both `signal`, which finds the first eight, and `mesh`, which finds the
//! others, give these reasons, and neither may import the other.

use std::fmt;

use serde::Serialize;

/// Why an offer or answer was rejected: `reason` of the witness entry `sdp_rejected`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SdpReason {
    /// A member is missing or of the wrong shape, or the SDP is too large.
    Schema,
    /// There is no `signature`.
    Unsigned,
    /// No key is known for `from`.
    UnknownSource,
    /// `from` is known under another key.
    KeyMismatch,
    /// The signature does not verify.
    BadSignature,
    /// `to` is somebody else.
    WrongRecipient,
    /// It was signed for another swarm.
    WrongSwarm,
    /// `to_session` is not mine, or the answer's `session` is not the one that was offered to.
    WrongSession,
    /// A later session of `from` is known.
    OlderSession,
    /// The `link` was used before.
    Replayed,
    /// An answer to no offer of mine.
    UnknownLink,
    /// An offer from the agent whose place it is to answer.
    Glare,
    /// As many offers are being answered as this agent can: it asks for another later.
    Busy,
}

impl SdpReason {
    /// All of them, in the order of their declaration.
    pub const ALL: [Self; 13] = [
        Self::Schema,
        Self::Unsigned,
        Self::UnknownSource,
        Self::KeyMismatch,
        Self::BadSignature,
        Self::WrongRecipient,
        Self::WrongSwarm,
        Self::WrongSession,
        Self::OlderSession,
        Self::Replayed,
        Self::UnknownLink,
        Self::Glare,
        Self::Busy,
    ];

    /// The name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Schema => "schema",
            Self::Unsigned => "unsigned",
            Self::UnknownSource => "unknown-source",
            Self::KeyMismatch => "key-mismatch",
            Self::BadSignature => "bad-signature",
            Self::WrongRecipient => "wrong-recipient",
            Self::WrongSwarm => "wrong-swarm",
            Self::WrongSession => "wrong-session",
            Self::OlderSession => "older-session",
            Self::Replayed => "replayed",
            Self::UnknownLink => "unknown-link",
            Self::Glare => "glare",
            Self::Busy => "busy",
        }
    }
}

impl fmt::Display for SdpReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
