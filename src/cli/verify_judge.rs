//! Judging one thing: a JSON text, a witness log, a swarm file.

use serde_json::Value;

use super::verify::Trust;
use super::verify_item::{Identity, Item, Kind};
use crate::agent::Control;
use crate::identity::{AgentId, PublicKey};
use crate::message::{Malformed, parse_strict, revoked_note, verify, verify_integrity};
use crate::signal::{SdpFrame, parse_frame};
use crate::swarm::Swarm;
use crate::witness::{Flaw, Report};

/// Judges one JSON text.
pub(super) fn judge(bytes: &[u8], trust: &Trust) -> Item {
    // A newline at the end of the file is none of the message's bytes.
    let bytes = bytes.trim_ascii_end();
    let item = match parse_strict(bytes, MAX_TEXT) {
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

/// Says what was found out about a witness log.
///
/// Its entries prove that nothing was changed since, but anybody can write a log: without a
/// checkpoint, the key that it names is only held against the known ones, and never `pinned`.
pub(super) fn judge_log(checked: Result<Report, Flaw>, trust: &Trust) -> Item {
    let report = match checked {
        Ok(report) => report,
        Err(flaw) => {
            let detail = match flaw.column {
                Some(column) => format!("column {column}: {}", flaw.detail),
                None => flaw.detail,
            };
            let item = Item::bad(Kind::Witness, flaw.reason.as_str(), detail);
            return Item {
                line: Some(flaw.line),
                ..item
            };
        }
    };
    // A signaling server is in no roster.
    let id = report.agent_id.parse::<AgentId>().ok();
    let (found, owner) = (report.public_key, &report.agent_id);
    let roster = trust.swarm.as_ref().map(|(_, roster)| roster);
    let known = id.as_ref().and_then(|id| roster?.key_of(id));
    let mismatch = match known {
        Some(key) if *key != found => Some(format!(
            "found the key {found}, expected {key}, the key of {owner}{}",
            revoked_note(trust, &found)
        )),
        _ => trust.other_than_key(&found),
    };
    if let Some(detail) = mismatch {
        return Item::bad(Kind::Witness, "key-mismatch", detail);
    }
    let (entries, root) = (report.entries, hex::encode(report.root));
    let item = Item {
        signer: id.map(|id| id.to_string()),
        public_key: Some(found),
        identity: Some(Identity::Unpinned),
        detail: Some(format!(
            "log of {owner} in {}, {entries} entries, root {root}",
            report.swarm
        )),
        ..Item::good(Kind::Witness)
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

fn finish(item: Item, trust: &Trust) -> Item {
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
    /// Of a part that this version does not have.
    Later,
}

impl FrameKind {
    fn of(name: &str) -> Option<Self> {
        Some(match name {
            "offer" | "answer" => Self::Sdp,
            "challenge" | "register" | "registered" | "agent-joined" | "agent-left"
            | "ice-candidates" | "please-offer" | "error" => Self::Signaling,
            "goodbye" => Self::Goodbye,
            "hello" | "ack" | "refused" | "ping" | "pong" => Self::Control,
            "checkpoint" | "cosign" | "consistency" | "file-ack" => Self::Later,
            _ => return None,
        })
    }
}

fn frame(kind: FrameKind, has_session: bool, bytes: &[u8], trust: &Trust) -> Item {
    match kind {
        FrameKind::Later => Item::bad(
            Kind::Frame,
            "schema",
            "this version does not know this type of control frame",
        ),
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
