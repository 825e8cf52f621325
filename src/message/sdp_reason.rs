//! Why an offer or an answer is refused (`wire.md`, section *Signaling*).

use std::fmt;

use serde::{Serialize, Serializer};

/// Why an offer or an answer is refused; exactly one per refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SdpReason {
    /// A member is missing, or of the wrong type or shape.
    Schema,
    /// There is no signature.
    Unsigned,
    /// No key is known for the sender.
    UnknownSource,
    /// The sender is known under another key.
    KeyMismatch,
    /// The signature does not verify.
    BadSignature,
    /// It is meant for another agent.
    WrongRecipient,
    /// It belongs to another swarm.
    WrongSwarm,
    /// It is meant for another session of mine, or answers from another than was asked.
    WrongSession,
    /// A later session of the sender is known.
    OlderSession,
    /// This link was used already.
    Replayed,
    /// It answers an offer that is not open.
    UnknownLink,
    /// The sender has the larger id and may not offer.
    Glare,
}

impl SdpReason {
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
        }
    }
}

impl fmt::Display for SdpReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Serialize for SdpReason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}
