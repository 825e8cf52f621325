//! What peers show of their logs and of others': judged, countersigned, or found out
//! (`wire.md`, *Countersigning*). What to say is for [`History`](crate::witness::History) to decide.

use std::cmp::Ordering;

use serde_json::json;
use sha2::{Digest, Sha256};

use super::control::Control;
use super::core::Core;
use super::countersigning::cosigned;
use super::event::AgentEvent;
use crate::identity::{AgentId, LinkId, hex_text};
use crate::message::Keys;
use crate::witness::{
    Entry, Equivocation, Event, Fork, Judgement, SignedCheckpoint, origin, origin_of, owner_of,
};

impl Core {
    /// A peer shows a checkpoint.
    pub(super) fn on_checkpoint(&mut self, peer: &AgentId, link: LinkId, note: &str) {
        if self.countersigning.cosigners.link_of(peer) != Some(link) {
            return;
        }
        let name = match origin_of(note) {
            Ok(name) => name,
            Err(err) => return self.refuse_checkpoint(peer, "malformed", &err.to_string(), note),
        };
        let Some(owner) = owner_of(&self.swarm, &name) else {
            let detail = "no log of an agent of this swarm";
            return self.refuse_checkpoint(peer, "unknown-log", detail, note);
        };
        let key = match owner == self.me {
            true => Some(self.key.public_key()),
            false => self.keyring.key_of(&owner),
        };
        let Some(key) = key else {
            let detail = "no key is known for its owner";
            return self.refuse_checkpoint(peer, "unknown-source", detail, note);
        };
        let checkpoint = match SignedCheckpoint::open(note, &name, &key) {
            Ok(checkpoint) => checkpoint.bare(&key),
            Err(err) => {
                return self.refuse_checkpoint(peer, "bad-signature", &err.to_string(), note);
            }
        };
        if owner == self.me {
            // What the peer has seen of mine. The next round proves that it goes on from there.
            self.countersigning.cosigners.asks(peer, checkpoint);
            return self.go_on_countersigning();
        }
        let history = self.countersigning.history(&owner, &name, &key);
        let judgement = match owner == *peer {
            true => history.shown(checkpoint),
            false => history.told(checkpoint),
        };
        self.judged(&owner, peer, judgement);
    }

    /// A peer proves that its log continues what it was.
    pub(super) fn on_consistency(
        &mut self,
        peer: &AgentId,
        name: &str,
        (from, to): (u64, u64),
        proof: &[[u8; 32]],
    ) {
        // It is about the checkpoint before it, which was verified under this key.
        let key = self.keyring.key_of(peer);
        let key = key.filter(|_| name == origin(&self.swarm, peer.as_str()));
        if let Some(key) = key {
            let history = self.countersigning.history(peer, name, &key);
            let judgement = history.proved(from, to, proof);
            self.judged(peer, peer, judgement);
        }
    }

    fn judged(&mut self, owner: &AgentId, from: &AgentId, judgement: Judgement) {
        match judgement {
            Judgement::Countersign(checkpoint) => self.countersign(owner, checkpoint),
            Judgement::AskFor(seen) => {
                if let Some(link) = self.countersigning.cosigners.link_of(owner) {
                    let note = seen.note().to_string();
                    self.queue_control(link, &Control::Checkpoint { note });
                }
            }
            Judgement::Equivocation(found) => self.equivocation(owner, from, &found),
            Judgement::Nothing => {}
        }
    }

    fn countersign(&mut self, owner: &AgentId, mut checkpoint: SignedCheckpoint) {
        let time = u64::try_from(self.wall.unix_ms() / 1000).unwrap_or(0);
        checkpoint.cosign(&self.countersigning.origin, &self.key, time);
        self.testify(cosigned(owner, &checkpoint, self.wall));
        self.stats.countersigned += 1;
        if let Some(link) = self.countersigning.cosigners.link_of(owner) {
            let note = checkpoint.note().to_string();
            self.queue_control(link, &Control::Cosign { note });
        }
    }

    /// The log of `owner` has two histories, as `from` has shown: everybody is told.
    fn equivocation(&mut self, owner: &AgentId, from: &AgentId, found: &Equivocation) {
        let notes = [&found.seen, &found.shown].map(|checkpoint| checkpoint.note().to_string());
        self.testify_equivocation(owner, from, found.fork, &notes);
        tracing::error!(agent = %self.me, %owner, peer = %from, reason = found.fork.as_str(), "an agent's log has two histories");
        let linked = self.countersigning.cosigners.linked();
        let others = linked.filter(|(peer, _)| *peer != owner && *peer != from);
        let others: Vec<_> = others.map(|(_, link)| link).collect();
        for link in others {
            for note in notes.clone() {
                self.queue_control(link, &Control::Checkpoint { note });
            }
        }
    }

    /// My own key has signed what is not in my log: the log was rolled back or written anew, or the
    /// key is another's too.
    pub(super) fn own_fork(
        &mut self,
        peer: &AgentId,
        asked: &SignedCheckpoint,
        newest: &SignedCheckpoint,
    ) {
        if std::mem::replace(&mut self.countersigning.is_forked, true) {
            return;
        }
        let size = asked.checkpoint().size;
        let fork = match size.cmp(&newest.checkpoint().size) {
            Ordering::Greater => Fork::RolledBack,
            Ordering::Equal => Fork::SameSize,
            Ordering::Less => Fork::NotContinued,
        };
        let notes = [asked, newest].map(|checkpoint| checkpoint.note().to_string());
        let me = self.me.clone();
        self.testify_equivocation(&me, peer, fork, &notes);
        tracing::error!(
            agent = %me, %peer, size, reason = fork.as_str(),
            "this agent's key has signed a history that is not in its log: the log was replaced by \
             an older or another one, or somebody else has the key; peers will not countersign it"
        );
    }

    fn testify_equivocation(
        &mut self,
        owner: &AgentId,
        from: &AgentId,
        fork: Fork,
        notes: &[String; 2],
    ) {
        let entry = Entry::new(Event::EquivocationDetected, self.wall).peer(from);
        self.testify(entry.metadata(json!({
            "checkpoints": notes,
            "origin": origin(&self.swarm, owner.as_str()),
            "reason": fork.as_str(),
        })));
        self.stats.equivocations += 1;
        self.tell(AgentEvent::Equivocation {
            owner: owner.clone(),
            shown_by: from.clone(),
            fork,
        });
    }

    pub(super) fn refuse_checkpoint(
        &mut self,
        peer: &AgentId,
        reason: &str,
        detail: &str,
        note: &str,
    ) {
        self.stats.bad_control += 1;
        if let Some(unsaid) = self.of_peers.say(peer, self.now) {
            tracing::warn!(agent = %self.me, %peer, reason, detail, unsaid, "a checkpoint was refused");
        }
        let entry = Entry::new(Event::CheckpointRejected, self.wall).peer(peer);
        let digest: [u8; 32] = Sha256::digest(note).into();
        self.testify(entry.metadata(json!({
            "detail": detail,
            "reason": reason,
            "sha256": hex_text(&digest),
        })));
    }
}
