//! Why a message is refused (`wire.md`, section *IFMessage v2.1*).

use std::fmt;

/// Why a message is refused: the first in this order that applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// Not readable as JSON within the limits.
    Malformed,
    /// A member is missing, unknown, or of the wrong type or shape.
    Schema,
    /// There is no signature.
    Unsigned,
    /// The signature does not cover exactly the other members.
    PartialCoverage,
    /// No key is known for the source.
    UnknownSource,
    /// The source is known under another key.
    KeyMismatch,
    /// The signature does not verify.
    BadSignature,
    /// It is meant for another agent.
    WrongRecipient,
    /// It came over the link of somebody else.
    WrongPeer,
    /// Of an unknown session and too old or too new.
    Stale,
    /// Seen before, or of an older session.
    Replayed,
    /// Too far ahead of the last one seen.
    OutOfWindow,
}

impl Reason {
    /// The name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Schema => "schema",
            Self::Unsigned => "unsigned",
            Self::PartialCoverage => "partial-coverage",
            Self::UnknownSource => "unknown-source",
            Self::KeyMismatch => "key-mismatch",
            Self::BadSignature => "bad-signature",
            Self::WrongRecipient => "wrong-recipient",
            Self::WrongPeer => "wrong-peer",
            Self::Stale => "stale",
            Self::Replayed => "replayed",
            Self::OutOfWindow => "out-of-window",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
