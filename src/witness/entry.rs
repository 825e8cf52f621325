//! One entry of the log and the line it stands in: canonical JSON (RFC 8785), members in order.
//!
//! ```text
//! {"agent_id":…,"event":…,"index":…,"metadata":{…}?,"peer_id":…?,"prev_hash":…,"timestamp":…,"trace_id":…?}
//! ```

use std::io::Write;

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::Event;
use super::tree::Hash;
use crate::identity::AgentId;
use crate::message::{Timestamp, canonical, write_object};

/// Something that happened, to be appended to a [`Log`](super::Log).
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    pub(super) event: Event,
    pub(super) timestamp: Timestamp,
    pub(super) peer_id: Option<AgentId>,
    pub(super) trace_id: Option<String>,
    pub(super) metadata: Option<Map<String, Value>>,
}

/// An entry as it was read, with the members that chain it.
pub(super) struct Chained {
    pub(super) agent_id: String,
    pub(super) index: u64,
    pub(super) prev_hash: Hash,
    pub(super) entry: Entry,
}

impl Entry {
    /// `event` happened at `now`.
    pub fn new(event: Event, now: Timestamp) -> Self {
        Self {
            event,
            timestamp: now,
            peer_id: None,
            trace_id: None,
            metadata: None,
        }
    }

    /// What happened.
    pub fn event(&self) -> Event {
        self.event
    }

    /// With whom it happened.
    pub fn peer(mut self, peer: &AgentId) -> Self {
        self.peer_id = Some(peer.clone());
        self
    }

    /// The trace it belongs to. Anything but 24 lower-case hex digits is left out: text of a
    /// stranger belongs into the metadata.
    pub fn trace(mut self, trace_id: &str) -> Self {
        self.trace_id = is_trace_id(trace_id).then(|| trace_id.into());
        self
    }

    /// What else there is to say: an object. Any other value is wrapped as `{"value": …}`.
    ///
    /// What is too large or too deep for a line is replaced when the entry is appended, by
    /// `{"bytes", "omitted", "sha256"}`: the log goes on and still commits to every byte.
    pub fn metadata(mut self, metadata: impl Into<Value>) -> Self {
        self.metadata = Some(match metadata.into() {
            Value::Object(members) => members,
            value => Map::from_iter([("value".to_owned(), value)]),
        });
        self
    }

    /// Appends the line, without a newline, to `out`.
    pub(super) fn write(&self, owner: &str, index: u64, prev_hash: &Hash, out: &mut Vec<u8>) {
        // Names, events, hashes and timestamps hold nothing that JSON escapes.
        let event = self.event.as_str();
        put(
            out,
            format_args!(r#"{{"agent_id":"{owner}","event":"{event}","index":{index}"#),
        );
        if let Some(metadata) = &self.metadata {
            out.extend_from_slice(br#","metadata":"#);
            write_object(out, metadata);
        }
        if let Some(peer) = &self.peer_id {
            put(out, format_args!(r#","peer_id":"{peer}""#));
        }
        out.extend_from_slice(br#","prev_hash":""#);
        let start = out.len();
        out.resize(start + 2 * prev_hash.len(), 0);
        hex::encode_to_slice(prev_hash, &mut out[start..]).expect("two digits per byte");
        put(out, format_args!(r#"","timestamp":"{}""#, self.timestamp));
        if let Some(trace) = &self.trace_id {
            put(out, format_args!(r#","trace_id":"{trace}""#));
        }
        out.push(b'}');
    }

    /// As [`write`](Self::write), but never more than a reader takes.
    pub(super) fn write_bounded(
        &mut self,
        owner: &str,
        index: u64,
        prev_hash: &Hash,
        out: &mut Vec<u8>,
    ) {
        if self.is_too_deep() {
            self.omit_metadata("too-deep");
        }
        let start = out.len();
        self.write(owner, index, prev_hash, out);
        if out.len() - start > MAX_LINE {
            out.truncate(start);
            self.omit_metadata("too-large");
            self.write(owner, index, prev_hash, out);
        }
    }

    fn is_too_deep(&self) -> bool {
        let members = self.metadata.iter().flat_map(Map::values);
        members.map(depth).max() > Some(MAX_DEPTH_OF_A_MEMBER)
    }

    fn omit_metadata(&mut self, why: &str) {
        let Some(metadata) = self.metadata.take() else {
            return;
        };
        let bytes = canonical(&metadata);
        *self = self.clone().metadata(json!({
            "bytes": bytes.len(),
            "omitted": why,
            "sha256": hex::encode(Sha256::digest(&bytes)),
        }));
    }
}

impl Chained {
    /// Reads the members of a line.
    ///
    /// # Errors
    /// What was found and what was expected.
    pub(super) fn from_value(value: Value) -> Result<Self, String> {
        let Value::Object(mut members) = value else {
            return Err("expected an object".into());
        };
        let mut text = |name: &str| match members.remove(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(format!("`{name}` is no string")),
        };
        let agent_id = required("agent_id", text("agent_id")?)?;
        let event = parsed::<Event>("event", text("event")?)?;
        let timestamp = parsed::<Timestamp>("timestamp", text("timestamp")?)?;
        let prev_hash = required("prev_hash", text("prev_hash")?)?;
        let peer_id = text("peer_id")?;
        let trace_id = text("trace_id")?;
        let index = members.remove("index");
        let metadata = members.remove("metadata");
        if let Some(name) = members.keys().next() {
            let name: String = name.chars().take(MAX_SHOWN).collect();
            return Err(format!("unknown member {name:?}"));
        }

        let index = required("index", index)?;
        let index = index
            .as_u64()
            .ok_or("`index` is no integer from 0 upwards")?;
        let mut hash = Hash::default();
        hex::decode_to_slice(&prev_hash, &mut hash)
            .map_err(|_| "`prev_hash` is not 64 lower-case hex digits")?;
        let peer_id = peer_id.map(|id| parsed("peer_id", Some(id))).transpose()?;
        if trace_id.as_deref().is_some_and(|id| !is_trace_id(id)) {
            return Err("`trace_id` is not 24 lower-case hex digits".into());
        }
        let metadata = match metadata {
            None => None,
            Some(Value::Object(members)) => Some(members),
            Some(_) => return Err("`metadata` is no object".into()),
        };
        Ok(Self {
            agent_id,
            index,
            prev_hash: hash,
            entry: Entry {
                event,
                timestamp,
                peer_id,
                trace_id,
                metadata,
            },
        })
    }
}

fn required<T>(name: &str, member: Option<T>) -> Result<T, String> {
    member.ok_or_else(|| format!("`{name}` is missing"))
}

fn parsed<T: std::str::FromStr<Err: ToString>>(
    name: &str,
    text: Option<String>,
) -> Result<T, String> {
    let text = required(name, text)?;
    text.parse()
        .map_err(|err: T::Err| format!("`{name}`: {}", err.to_string()))
}

pub(super) fn is_trace_id(text: &str) -> bool {
    text.len() == TRACE_ID && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// How many arrays and objects are nested in `value`, itself included.
fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(members) => 1 + members.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

fn put(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a Vec takes every byte");
}

/// A line without its newline has at most 1 MiB (`wire.md`).
pub const MAX_LINE: usize = 1 << 20;
/// 64 levels in all; the entry is the first and the metadata the second. A frame of a hostile
/// peer may use all 64 itself, and must not make our own log unreadable.
const MAX_DEPTH_OF_A_MEMBER: usize = 62;
const TRACE_ID: usize = 24;
/// Hostile text in an error is cut.
const MAX_SHOWN: usize = 40;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::parse_strict;

    fn now() -> Timestamp {
        "2026-01-31T08:15:30.123Z".parse().unwrap()
    }

    fn line(mut entry: Entry) -> Vec<u8> {
        let mut out = Vec::new();
        entry.write_bounded("legal", 7, &[0xab; 32], &mut out);
        out
    }

    #[test]
    fn writes_its_members_as_the_canonicalizer_would() {
        let peer: AgentId = "if://agent/swarm/legal-1".parse().unwrap();
        let bare = Entry::new(Event::PeerLost, now());
        let full = bare
            .clone()
            .peer(&peer)
            .trace("0123456789abcdef01234567")
            .metadata(json!({"z": 1.0, "a": {"text": "\u{7}\n€\"\\/"}, "é": null, "list": [1e30]}));
        for entry in [bare, full] {
            let line = line(entry.clone());
            let value = parse_strict(&line, MAX_LINE).unwrap();
            assert_eq!(canonical(&value), line);
            let read = Chained::from_value(value).unwrap();
            assert_eq!((read.index, read.prev_hash), (7, [0xab; 32]));
            assert_eq!(read.entry.peer_id, entry.peer_id);
            assert_eq!(read.entry.trace_id, entry.trace_id);
        }
    }

    #[test]
    fn stays_readable_whatever_the_metadata() {
        let mut nested = json!(1);
        for _ in 0..64 {
            nested = json!([nested]);
        }
        for (metadata, why) in [
            (json!({"frame": nested}), "too-deep"),
            (json!({"frame": "\u{1}".repeat(MAX_LINE / 4)}), "too-large"),
        ] {
            let sha256 = hex::encode(Sha256::digest(canonical(&metadata)));
            let line = line(Entry::new(Event::SdpRejected, now()).metadata(metadata));
            let value = parse_strict(&line, MAX_LINE).unwrap();
            assert_eq!(value["metadata"]["omitted"], why);
            assert_eq!(value["metadata"]["sha256"], sha256);
        }
    }

    #[test]
    fn keeps_what_just_fits() {
        let mut nested = json!(1);
        for _ in 0..62 {
            nested = json!([nested]);
        }
        let deep = line(Entry::new(Event::SdpRejected, now()).metadata(json!({"frame": nested})));
        let value = parse_strict(&deep, MAX_LINE).unwrap();
        assert!(value["metadata"]["frame"].is_array());

        let text =
            |n: usize| Entry::new(Event::PeerLost, now()).metadata(json!({"t": "x".repeat(n)}));
        let frame = line(text(0)).len();
        assert_eq!(line(text(MAX_LINE - frame)).len(), MAX_LINE);
        assert!(line(text(MAX_LINE - frame + 1)).len() < 1024);
    }

    #[test]
    fn wraps_what_is_no_object_and_leaves_out_what_is_no_trace() {
        let entry = Entry::new(Event::PeerLost, now());
        let entry = entry.metadata("late").trace("\"},{");
        let value = parse_strict(&line(entry), MAX_LINE).unwrap();
        assert_eq!(value["metadata"], json!({"value": "late"}));
        assert!(value.get("trace_id").is_none());
    }
}
