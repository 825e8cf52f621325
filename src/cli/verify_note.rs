//! Judging what is signed of a log and stands by itself: a checkpoint, an entry with its proof.

use serde_json::Value;

use super::verify::Trust;
use super::verify_item::{Identity, Item, Kind};
use crate::identity::{AgentId, PublicKey, SwarmName};
use crate::message::revoked_note;
use crate::witness::{
    AuditError, BadProofFile, CheckpointError, KeptNote, LogName, ProofFile, Vouched, origin_of,
    parse_origin,
};

/// Whether a text is a checkpoint of a log of ours, or was one.
pub(super) fn is_checkpoint(text: &[u8]) -> bool {
    text.starts_with(ORIGIN)
}

/// Judges a checkpoint. It does not name its key: that must be known.
pub(super) fn checkpoint(note: &[u8], trust: &Trust) -> Item {
    let bad = |err: CheckpointError| {
        let reason = match err {
            CheckpointError::Signature(_) => BAD_SIGNATURE,
            _ => "malformed",
        };
        Item::bad(Kind::Checkpoint, reason, err.to_string())
    };
    // What is not UTF-8 becomes other text, which no signature is over.
    let note = String::from_utf8_lossy(note);
    let origin = match origin_of(&note) {
        Ok(origin) => origin,
        Err(err) => return bad(err),
    };
    let Some((swarm, agent_id)) = parse_origin(&origin) else {
        let detail = "found another first line, expected `ifswarm-log/SWARM/AGENT`";
        return Item::bad(Kind::Checkpoint, "malformed", detail);
    };
    let Some(key) = trust.key_of_log(agent_id) else {
        let detail = format!(
            "found no key of {agent_id}, and a checkpoint does not name it: give --swarm with the agent, or --key"
        );
        return Item::bad(Kind::Checkpoint, "unknown-source", detail);
    };
    let name = LogName {
        agent_id,
        swarm: &swarm,
        key,
        roster: trust.roster_of(&swarm),
    };
    let kept = KeptNote {
        place: "the checkpoint".into(),
        note: note.into(),
    };
    match name.open(&kept) {
        Err(err) => bad(err),
        Ok(vouched) => match trust.knows_log(agent_id, &swarm, &key) {
            Err((reason, detail)) => Item::bad(Kind::Checkpoint, reason, detail),
            Ok(known) => told(Kind::Checkpoint, &name, &vouched, known, trust, ""),
        },
    }
}

/// Judges an entry with its proof. It names its key, which is held against the known one.
pub(super) fn proof(bytes: &[u8], trust: &Trust) -> Item {
    let bad = |err: BadProofFile| Item::bad(Kind::Proof, err.reason(), err.to_string());
    let file = match ProofFile::parse(bytes) {
        Ok(file) => file,
        Err(err) => return bad(err),
    };
    let roster = parse_origin(&file.origin).and_then(|(swarm, _)| trust.roster_of(&swarm));
    let vouched = match file.verify(roster) {
        Ok(vouched) => vouched,
        Err(err) => return bad(err),
    };
    let (swarm, agent_id) = parse_origin(&file.origin).expect("verified");
    match trust.knows_log(agent_id, &swarm, &file.public_key) {
        Err((reason, detail)) => Item::bad(Kind::Proof, reason, detail),
        Ok(known) => {
            let name = LogName {
                agent_id,
                swarm: &swarm,
                key: file.public_key,
                roster,
            };
            let what = format!("entry {} ({}) of the ", file.index, event(&file.entry));
            told(Kind::Proof, &name, &vouched, known, trust, &what)
        }
    }
}

/// What is signed by the log's key.
fn told(
    kind: Kind,
    name: &LogName<'_>,
    vouched: &Vouched,
    known: bool,
    trust: &Trust,
    what: &str,
) -> Item {
    let cosigners = &vouched.cosigners;
    if let Some(expected) = trust.require_cosigners
        && cosigners.len() < expected
    {
        return Item::bad(
            kind,
            "too-few-cosigners",
            AuditError::TooFewCosigners {
                found: cosigners.len(),
                expected,
            }
            .to_string(),
        );
    }
    let mut detail = format!(
        "{what}log of {} in {}, {} entries, root {}",
        name.agent_id,
        name.swarm,
        vouched.size,
        hex::encode(vouched.root)
    );
    if !cosigners.is_empty() {
        detail += &format!("; countersigned by {}", listed(cosigners));
    }
    detail += &uncounted(vouched.uncounted, name.roster.is_some());
    let signer = name.agent_id.parse::<AgentId>().ok();
    Item {
        signer: signer.map(|id| id.to_string()),
        public_key: Some(name.key),
        identity: Some(identity(known)),
        entries: Some(vouched.size),
        cosigners: name.roster.map(|_| cosigners.clone()),
        detail: Some(detail),
        ..Item::good(kind)
    }
}

/// `pinned` if the key is a known one.
pub(super) fn identity(known: bool) -> Identity {
    match known {
        true => Identity::Pinned,
        false => Identity::Unpinned,
    }
}

/// The first of them, and how many more there are.
pub(super) fn listed<T: ToString>(agents: &[T]) -> String {
    let shown: Vec<_> = agents.iter().take(SHOWN).map(T::to_string).collect();
    let more = agents.len() - shown.len();
    match more {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// What is said of countersignatures that count for none.
pub(super) fn uncounted(count: usize, has_roster: bool) -> String {
    let why = match (count, has_roster) {
        (0, _) => return String::new(),
        (_, false) => "without --swarm their keys are unknown",
        (_, true) => "no known key made them",
    };
    format!("; countersignatures that count for none: {count}, {why}")
}

/// What happened, by the entry's own words.
fn event(entry: &str) -> String {
    let entry = serde_json::from_str::<Value>(entry).unwrap_or_default();
    let event = entry.get("event").and_then(Value::as_str);
    event.unwrap_or_default().into()
}

impl Trust {
    /// The key that the log of `agent_id` must have, if one is known.
    fn key_of_log(&self, agent_id: &str) -> Option<PublicKey> {
        let id = agent_id.parse::<AgentId>().ok();
        let roster = self.swarm.as_ref().map(|(_, roster)| roster);
        let known = id.and_then(|id| roster?.key_of(&id).copied());
        // A signaling server is in no roster.
        known.or(self.key)
    }

    /// Whether the key that a log of `swarm` has is the known one; what speaks against it.
    pub(super) fn knows_log(
        &self,
        agent_id: &str,
        swarm: &SwarmName,
        found: &PublicKey,
    ) -> Result<bool, (&'static str, String)> {
        if let Some((expected, _)) = &self.swarm
            && expected != swarm
        {
            let detail = format!("it is of swarm `{swarm}`, not `{expected}`");
            return Err(("wrong-swarm", detail));
        }
        let known = self.key_of_log(agent_id);
        if let Some(key) = known.filter(|key| key != found) {
            let detail = format!(
                "found the key {found}, expected {key}, the key of {agent_id}{}",
                revoked_note(self, found)
            );
            return Err(("key-mismatch", detail));
        }
        match self.other_than_key(found) {
            Some(detail) => Err(("key-mismatch", detail)),
            None => Ok(known.is_some()),
        }
    }
}

const BAD_SIGNATURE: &str = "bad-checkpoint-signature";
/// What the first line of our checkpoints begins with.
const ORIGIN: &[u8] = b"ifswarm-log/";
/// So many agents fit on a line.
const SHOWN: usize = 8;
