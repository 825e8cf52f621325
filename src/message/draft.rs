//! What a caller wants to say, before it is signed.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::names::{Destination, Level, Performative};
use super::shape::{self, Fault};

/// A message to be: what the caller decides. The rest (source, session, sequence number, time,
/// signature) is added by [`sign`](super::sign()), which consumes the draft.
///
/// As JSON it has the members of the wire (`traceId` included); unknown ones are refused. Read
/// the text with [`parse_strict`](super::parse_strict) first, which refuses duplicate keys.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Draft {
    /// One agent, or all.
    pub destination: Destination,
    /// Any JSON object.
    pub payload: Map<String, Value>,
    /// Made (UUIDv7) if absent. Unique per source.
    #[serde(default)]
    pub id: Option<String>,
    /// [`Level::Module`] if absent.
    #[serde(default)]
    pub level: Option<Level>,
    /// What the message does.
    #[serde(default)]
    pub performative: Option<Performative>,
    /// The conversation it belongs to; like an id.
    #[serde(default)]
    pub conversation_id: Option<String>,
    /// The id of the message that it answers.
    #[serde(default)]
    pub in_reply_to: Option<String>,
    /// 24 lower-case hex digits; made if absent.
    #[serde(default, rename = "traceId")]
    pub trace_id: Option<String>,
    /// Up to 64 of up to 256 characters, `if://citation/…` or `cit:…`.
    #[serde(default)]
    pub citation_ids: Vec<String>,
    /// Up to 16 of up to 64 characters, such as `safety`.
    #[serde(default)]
    pub hazards: Vec<String>,
}

/// A draft that cannot become a message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DraftError {
    /// A member is not as the contract wants it.
    #[error("`{field}`: found {found}, expected {expected}")]
    Member {
        /// The member.
        field: String,
        /// What is there, shortened and escaped.
        found: String,
        /// What should be there.
        expected: &'static str,
    },
    /// The payload is nested more deeply than readers accept.
    #[error("`payload`: nested more than 63 levels deep; flatten it")]
    TooDeep,
    /// The signed message would be larger than anybody accepts.
    #[error("the signed message has {size} bytes, {limit} are allowed; send evidence as a file")]
    TooLarge {
        /// Bytes of the signed message.
        size: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// The session has run out of sequence numbers, or counts from 0.
    #[error("sequence number {0} is not between 1 and 9007199254740991; begin a new session")]
    SequenceNum(u64),
}

impl Draft {
    /// A draft with nothing but what it must have.
    pub fn new(destination: impl Into<Destination>, payload: Map<String, Value>) -> Self {
        Self {
            destination: destination.into(),
            payload,
            id: None,
            level: None,
            performative: None,
            conversation_id: None,
            in_reply_to: None,
            trace_id: None,
            citation_ids: Vec::new(),
            hazards: Vec::new(),
        }
    }

    /// Checks everything that the types leave open.
    pub(super) fn check(&self) -> Result<(), DraftError> {
        let ids = [
            ("id", &self.id),
            ("conversation_id", &self.conversation_id),
            ("in_reply_to", &self.in_reply_to),
        ];
        for (field, id) in ids {
            if let Some(id) = id {
                shape::check_id(field, id)?;
            }
        }
        if let Some(id) = &self.trace_id {
            shape::check_trace_id(id)?;
        }
        shape::check_citations(&self.citation_ids)?;
        shape::check_hazards(&self.hazards)?;
        if shape::fits_depth(self.payload.values()) {
            Ok(())
        } else {
            Err(DraftError::TooDeep)
        }
    }
}

impl From<Fault> for DraftError {
    fn from(fault: Fault) -> Self {
        Self::Member {
            field: fault.field,
            found: fault.found,
            expected: fault.expected,
        }
    }
}
