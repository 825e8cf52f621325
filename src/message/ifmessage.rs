//! The signed message itself: typed members, and the two ways to write them.

use std::fmt;
use std::io::Write;

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

use super::canonical::{TYPICAL_SIZE, write_list, write_object, write_text};
use super::draft::Draft;
use super::names::{Destination, Level, Performative};
use super::timestamp::Timestamp;
use crate::identity::{AgentId, Session, Signature, hex_text};

/// An IFMessage v2.1 with its signature. Only [`sign`](super::sign()) and
/// [`verify`](super::verify()) make one, so its members have the shape that the contract asks.
///
/// Serializes as it stands on the wire, signature included: what is stored that way can be
/// verified again.
#[derive(Debug, Clone, PartialEq)]
pub struct IfMessage {
    pub(super) id: String,
    pub(super) timestamp: Timestamp,
    pub(super) level: Level,
    pub(super) source: AgentId,
    pub(super) destination: Destination,
    pub(super) session: Session,
    pub(super) sequence_num: u64,
    pub(super) performative: Option<Performative>,
    pub(super) conversation_id: Option<String>,
    pub(super) in_reply_to: Option<String>,
    pub(super) trace_id: Option<String>,
    /// An empty list is not the same as none: it is signed.
    pub(super) citation_ids: Option<Vec<String>>,
    pub(super) hazards: Option<Vec<String>>,
    pub(super) payload: Map<String, Value>,
    pub(super) seal: Seal,
}

/// What `signature` says beside the names of the members.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Seal {
    /// The author's key as written; whether it is a usable one is decided when it is used.
    pub(super) public_key: [u8; 32],
    pub(super) signature: Signature,
}

impl Seal {
    /// A place for the signature that is to come.
    pub(super) fn blank(public_key: [u8; 32]) -> Self {
        Self {
            public_key,
            signature: Signature::from_bytes([0; 64]),
        }
    }
}

impl IfMessage {
    /// Unique per source.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// When it was signed, by its author's clock.
    pub fn timestamp(&self) -> Timestamp {
        self.timestamp
    }

    /// Function or module.
    pub fn level(&self) -> Level {
        self.level
    }

    /// The author.
    pub fn source(&self) -> &AgentId {
        &self.source
    }

    /// Whom it is for.
    pub fn destination(&self) -> &Destination {
        &self.destination
    }

    /// The author's session.
    pub fn session(&self) -> Session {
        self.session
    }

    /// From 1, growing by one per (source, session, destination).
    pub fn sequence_num(&self) -> u64 {
        self.sequence_num
    }

    /// What it does.
    pub fn performative(&self) -> Option<Performative> {
        self.performative
    }

    /// The conversation it belongs to.
    pub fn conversation_id(&self) -> Option<&str> {
        self.conversation_id.as_deref()
    }

    /// The id of the message that it answers.
    pub fn in_reply_to(&self) -> Option<&str> {
        self.in_reply_to.as_deref()
    }

    /// `traceId`: 24 hex digits, the same for everything that one event set off.
    pub fn trace_id(&self) -> Option<&str> {
        self.trace_id.as_deref()
    }

    /// What it cites.
    pub fn citation_ids(&self) -> &[String] {
        self.citation_ids.as_deref().unwrap_or_default()
    }

    /// What it warns of.
    pub fn hazards(&self) -> &[String] {
        self.hazards.as_deref().unwrap_or_default()
    }

    /// What it says.
    pub fn payload(&self) -> &Map<String, Value> {
        &self.payload
    }

    /// A draft that answers this message: to its author, in the same conversation and trace.
    pub fn reply(&self, performative: Performative, payload: Map<String, Value>) -> Draft {
        Draft {
            performative: Some(performative),
            in_reply_to: Some(self.id.clone()),
            conversation_id: self.conversation_id.clone(),
            trace_id: self.trace_id.clone(),
            ..Draft::new(self.source.clone(), payload)
        }
    }
}

impl IfMessage {
    /// All members but `signature`, in canonical order: the one list of their names.
    fn members(&self) -> impl Iterator<Item = (&'static str, Member<'_>)> {
        [
            (
                "citation_ids",
                self.citation_ids.as_deref().map(Member::Texts),
            ),
            (
                "conversation_id",
                self.conversation_id.as_deref().map(Member::Text),
            ),
            ("destination", Some(Member::Text(self.destination.as_str()))),
            ("hazards", self.hazards.as_deref().map(Member::Texts)),
            ("id", Some(Member::Text(&self.id))),
            ("in_reply_to", self.in_reply_to.as_deref().map(Member::Text)),
            ("level", Some(Member::Integer(self.level.number()))),
            ("payload", Some(Member::Object(&self.payload))),
            (
                "performative",
                self.performative.map(|p| Member::Text(p.as_str())),
            ),
            ("sequence_num", Some(Member::Integer(self.sequence_num))),
            ("session", Some(Member::Session(self.session))),
            ("source", Some(Member::Text(self.source.as_str()))),
            ("timestamp", Some(Member::Time(self.timestamp))),
            ("traceId", self.trace_id.as_deref().map(Member::Text)),
            ("version", Some(Member::Text(VERSION))),
        ]
        .into_iter()
        .filter_map(|(name, member)| Some((name, member?)))
    }

    /// The names of all members but `signature`, sorted.
    pub(super) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.members().map(|(name, _)| name)
    }

    /// The bytes that are signed: JCS of all members but `signature`.
    pub(super) fn canonical(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(TYPICAL_SIZE);
        out.push(b'{');
        for (name, member) in self.members() {
            if out.len() > 1 {
                out.push(b',');
            }
            write_text(&mut out, name);
            out.push(b':');
            member.write(&mut out);
        }
        out.push(b'}');
        out
    }

    /// What stands behind the member name `signature`.
    pub(super) fn signature(&self) -> SignatureMember {
        SignatureMember {
            algorithm: ALGORITHM,
            public_key: hex_text(&self.seal.public_key),
            signature_bytes: hex_text(self.seal.signature.as_bytes()),
            signed_fields: self.names().collect(),
        }
    }
}

impl Serialize for IfMessage {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (name, member) in self.members() {
            map.serialize_entry(name, &member)?;
        }
        map.serialize_entry("signature", &self.signature())?;
        map.end()
    }
}

/// The value of one member.
#[derive(Serialize)]
#[serde(untagged)]
enum Member<'a> {
    Text(&'a str),
    Session(Session),
    Time(Timestamp),
    Integer(u64),
    Texts(&'a [String]),
    Object(&'a Map<String, Value>),
}

impl Member<'_> {
    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Text(text) => write_text(out, text),
            // These hold nothing that JSON escapes.
            Self::Session(session) => put(out, format_args!("\"{session}\"")),
            Self::Time(time) => put(out, format_args!("\"{time}\"")),
            Self::Integer(number) => put(out, format_args!("{number}")),
            Self::Texts(texts) => write_list(out, texts, |out, text| write_text(out, text)),
            Self::Object(members) => write_object(out, members),
        }
    }
}

fn put(out: &mut Vec<u8>, text: fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a Vec takes every byte");
}

/// `signature`, as it is written.
#[derive(Serialize)]
pub(super) struct SignatureMember {
    algorithm: &'static str,
    public_key: String,
    signature_bytes: String,
    signed_fields: Vec<&'static str>,
}

impl SignatureMember {
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let Self {
            algorithm,
            public_key,
            signature_bytes,
            signed_fields,
        } = self;
        // Nothing here holds what JSON escapes.
        put(
            out,
            format_args!(
                r#"{{"algorithm":"{algorithm}","public_key":"{public_key}","signature_bytes":"{signature_bytes}","signed_fields":"#
            ),
        );
        write_list(out, signed_fields, |out, name| write_text(out, name));
        out.push(b'}');
    }
}

pub(super) const VERSION: &str = "2.1";
pub(super) const ALGORITHM: &str = "ed25519";
