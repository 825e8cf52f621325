//! Judging one thing that stands in one piece: a JSON text, a note, a swarm file. (Logs: `verify_log`.)

use serde_json::{Map, Value};

use super::verify::Trust;
use super::verify_item::{Identity, Item, Kind};
use super::verify_note::{checkpoint, is_checkpoint, proof};
use crate::agent::Control;
use crate::identity::{AgentId, PublicKey};
use crate::message::{Malformed, parse_strict, verify, verify_integrity};
use crate::signal::{SdpFrame, parse_frame};
use crate::swarm::Swarm;
use crate::witness::ProofFile;

/// Judges one JSON text.
pub(super) fn judge(bytes: &[u8], trust: &Trust) -> Item {
    // A newline at the end of the file is none of the message's bytes.
    let text = bytes.trim_ascii_end();
    if is_checkpoint(text) {
        return finish(checkpoint(bytes, trust), trust);
    }
    let bytes = text;
    // A proof holds a whole line of a log, and begins like this.
    let limit = match bytes.starts_with(br#"{"checkpoint":"#) {
        true => ProofFile::MAX,
        false => MAX_TEXT,
    };
    let item = match parse_strict(bytes, limit) {
        Ok(Value::Object(members)) if has_format(&members, ProofFile::FORMAT) => {
            proof(bytes, trust)
        }
        Ok(Value::Object(members)) => {
            let name = members.get("type").and_then(Value::as_str);
            match name.and_then(FrameKind::of) {
                Some(kind) if !members.contains_key("version") => {
                    frame(kind, members.contains_key("session"), bytes, trust)
                }
                _ => message(bytes, trust),
            }
        }
        Ok(_) => malformed("found JSON that is no object, expected a message or a frame"),
        Err(Malformed::Syntax {
            line: 1,
            column,
            detail,
        }) => malformed(format!("column {column}: {detail}")),
        Err(err) => malformed(err.to_string()),
    };
    finish(item, trust)
}

/// Says what a good swarm file holds.
pub(super) fn judge_swarm(swarm: &Swarm, trust: &Trust) -> Item {
    let (agents, links) = (swarm.agents.len(), swarm.links().len());
    let keys = swarm.agents.iter().filter(|a| a.public_key.is_some());
    let keys = keys.count();
    let item = Item {
        detail: Some(format!(
            "{}, {agents} agents ({keys} with a public key), {links} links",
            swarm.name
        )),
        ..Item::good(Kind::Swarm)
    };
    finish(item, trust)
}

/// What is nothing of ours.
pub(super) fn malformed(detail: impl Into<String>) -> Item {
    Item::bad(Kind::Unknown, "malformed", detail)
}

/// Largest JSON text that is read: a frame, or a line of a log (`wire.md`).
pub(super) const MAX_TEXT: usize = 1 << 20;

/// Whether an object says that it is a file of that format, in whatever version.
pub(super) fn has_format(members: &Map<String, Value>, format: &str) -> bool {
    let found = members.get("format").and_then(Value::as_str);
    found.is_some_and(|found| found.starts_with(format)) && !members.contains_key("version")
}

/// Fails what is not proved to be from a known key, where that is asked for.
pub(super) fn finish(item: Item, trust: &Trust) -> Item {
    if trust.require_identity {
        item.require_identity()
    } else {
        item
    }
}

fn message(bytes: &[u8], trust: &Trust) -> Item {
    let verified = if trust.pins() {
        verify(bytes, trust)
    } else {
        verify_integrity(bytes)
    };
    match verified {
        Err(refusal) => Item::bad(Kind::Ifmessage, refusal.reason.as_str(), refusal.detail),
        Ok(message) => signed(
            Kind::Ifmessage,
            message.source(),
            message.public_key(),
            trust,
        ),
    }
}

/// Which of `wire.md`'s frames.
#[derive(Clone, Copy, PartialEq, Eq)]
enum FrameKind {
    Sdp,
    Signaling,
    /// `goodbye`: with a `session` towards the server, without one on a data channel.
    Goodbye,
    Control,
}

impl FrameKind {
    fn of(name: &str) -> Option<Self> {
        Some(match name {
            "offer" | "answer" => Self::Sdp,
            "challenge" | "register" | "registered" | "agent-joined" | "agent-left"
            | "ice-candidates" | "please-offer" | "error" => Self::Signaling,
            "goodbye" => Self::Goodbye,
            "hello" | "ack" | "refused" | "ping" | "pong" | "checkpoint" | "cosign"
            | "consistency" | "file-ack" => Self::Control,
            _ => return None,
        })
    }
}

fn frame(kind: FrameKind, has_session: bool, bytes: &[u8], trust: &Trust) -> Item {
    match kind {
        FrameKind::Control => control(bytes),
        FrameKind::Goodbye if !has_session => control(bytes),
        FrameKind::Sdp | FrameKind::Signaling | FrameKind::Goodbye => match parse_frame(bytes) {
            Ok(frame) => match frame.sdp() {
                Some(frame) => sdp(frame, trust),
                None => Item::good(Kind::Frame),
            },
            Err(err) => {
                let kind = match kind {
                    FrameKind::Sdp => Kind::Sdp,
                    _ => Kind::Frame,
                };
                Item::bad(kind, err.reason.as_str(), err.detail)
            }
        },
    }
}

fn control(bytes: &[u8]) -> Item {
    match Control::parse(bytes) {
        Ok(Control::Unknown) => Item::bad(
            Kind::Frame,
            "schema",
            "this version does not know this type of control frame",
        ),
        Ok(_) => Item::good(Kind::Frame),
        Err(detail) => Item::bad(Kind::Frame, "schema", detail),
    }
}

fn sdp(frame: &SdpFrame, trust: &Trust) -> Item {
    if let Err(refusal) = frame.verify_offline(trust.pins().then_some(trust)) {
        return Item::bad(Kind::Sdp, refusal.reason.as_str(), refusal.detail);
    }
    if let Some((swarm, _)) = &trust.swarm
        && *swarm != frame.swarm
    {
        let detail = format!("it is for swarm `{}`, not `{swarm}`", frame.swarm);
        return Item::bad(Kind::Sdp, "wrong-swarm", detail);
    }
    Item {
        detail: Some(format!("{} to {}", frame.kind.as_str(), frame.to)),
        ..signed(Kind::Sdp, &frame.from, &frame.public_key, trust)
    }
}

/// What bears a good signature of `signer` under `key`.
fn signed(kind: Kind, signer: &AgentId, key: &PublicKey, trust: &Trust) -> Item {
    if let Some(detail) = trust.other_than_key(key) {
        return Item::bad(kind, "key-mismatch", detail);
    }
    Item {
        signer: Some(signer.to_string()),
        public_key: Some(*key),
        identity: Some(if trust.pins() {
            Identity::Pinned
        } else {
            Identity::Unpinned
        }),
        ..Item::good(kind)
    }
}
