//! Why a message was refused, and what it claimed to be.

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::ifmessage::IfMessage;
use super::names::{Destination, Performative, wire_names};
use super::shape;
use super::verify::Verified;
use crate::identity::{AgentId, Session};

wire_names! {
    /// Why a received message is refused: of all that apply, the first of this list.
    ///
    /// [`verify`](super::verify()) gives those up to [`Reason::BadSignature`]; the later ones
    /// need to know who receives, over which link, and when.
    Reason is a "reason" {
        /// Not JSON as the contract allows it, not an object, or too large.
        Malformed = "malformed",
        /// A member is missing, unknown, or of the wrong type or shape.
        Schema = "schema",
        /// There is no `signature`.
        Unsigned = "unsigned",
        /// `signed_fields` is not exactly the sorted list of all other members.
        PartialCoverage = "partial-coverage",
        /// No key is known for `source`.
        UnknownSource = "unknown-source",
        /// `source` is known under another key.
        KeyMismatch = "key-mismatch",
        /// The signature does not verify.
        BadSignature = "bad-signature",
        /// The message is for somebody else.
        WrongRecipient = "wrong-recipient",
        /// It came over the link of somebody else and was not forwarded.
        WrongPeer = "wrong-peer",
        /// Nothing of its session was ever accepted, and it is not of about now.
        Stale = "stale",
        /// Its sequence number was seen already, or its session is over.
        Replayed = "replayed",
        /// Its sequence number is implausibly far ahead.
        OutOfWindow = "out-of-window",
    }
}

/// A message that was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: {detail}")]
pub struct Refusal {
    /// The first reason that applies.
    pub reason: Reason,
    /// The member, what was found, what was expected: one bounded line, foreign text escaped.
    pub detail: String,
    /// What the message says of itself.
    pub claim: Claim,
}

/// What a text claims to be. Nothing of it is proved; each member is there only if it was of the
/// right shape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// `id`
    pub message_id: Option<String>,
    /// `source`
    pub source: Option<AgentId>,
    /// `destination`
    pub destination: Option<Destination>,
    /// `session`
    pub session: Option<Session>,
    /// `sequence_num`
    pub sequence_num: Option<u64>,
    /// `performative`
    pub performative: Option<Performative>,
    /// `traceId`
    pub trace_id: Option<String>,
    /// SHA-256 of the canonical bytes without `signature`, or of the raw bytes where there is no
    /// object.
    pub sha256: [u8; 32],
}

impl Claim {
    /// Of bytes that are no JSON object.
    pub(super) fn of_bytes(bytes: &[u8]) -> Self {
        Self {
            message_id: None,
            source: None,
            destination: None,
            session: None,
            sequence_num: None,
            performative: None,
            trace_id: None,
            sha256: Sha256::digest(bytes).into(),
        }
    }

    /// Of an object whose canonical bytes have the digest `sha256`.
    pub(super) fn of_members(members: &Map<String, Value>, sha256: [u8; 32]) -> Self {
        let text = |name: &str| members.get(name).and_then(Value::as_str);
        let number = |name: &str| members.get(name).and_then(Value::as_u64);
        Self {
            message_id: text("id")
                .filter(|id| AgentId::is_valid(id))
                .map(String::from),
            source: text("source").and_then(|id| id.parse().ok()),
            destination: text("destination").and_then(|to| to.parse().ok()),
            session: text("session").and_then(|session| session.parse().ok()),
            sequence_num: number("sequence_num").filter(|n| shape::is_sequence_num(*n)),
            performative: text("performative").and_then(|name| name.parse().ok()),
            trace_id: text("traceId")
                .filter(|id| shape::is_trace_id(id))
                .map(String::from),
            sha256,
        }
    }
}

impl From<&Verified<IfMessage>> for Claim {
    fn from(message: &Verified<IfMessage>) -> Self {
        Self {
            message_id: Some(message.id().into()),
            source: Some(message.source().clone()),
            destination: Some(message.destination().clone()),
            session: Some(message.session()),
            sequence_num: Some(message.sequence_num()),
            performative: message.performative(),
            trace_id: message.trace_id().map(String::from),
            sha256: *message.digest(),
        }
    }
}

impl Refusal {
    /// Of a binary frame where only text is spoken.
    pub(crate) fn binary(bytes: &[u8]) -> Self {
        Self {
            reason: Reason::Malformed,
            detail: "found a binary frame, expected text".into(),
            claim: Claim::of_bytes(bytes),
        }
    }
}
