//! Checkpoints among peers: each shows its own, countersigns those of the others, and says so when a
//! log has two histories. So the mesh is its own set of witnesses (`wire.md`, *DataChannels*).
//!
//! 1. The syncer begins a [`Round`] with each checkpoint: whose turn it is, and from where each of
//!    them needs a proof. What has no mark in the log is read from the file, where that holds nobody up.
//! 2. [`Core::offer`] sends `checkpoint` and `consistency`.
//! 3. The peer judges (`witness::History`), witnesses, and answers `cosign`; or `checkpoint`, with what it
//!    has seen of the log, when the proof does not begin there.
//! 4. A cosignature that is good is witnessed, and stored with the next checkpoint.
//!
//! Only a log on disk is shown: of one in memory nobody could check an entry later.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;
use sha2::{Digest, Sha256};

use super::control::Control;
use super::core::Core;
use super::cosigners::{Cosigners, Turn};
use super::event::AgentEvent;
use crate::identity::{AgentId, LinkId, PublicKey, SwarmName, hex_text};
use crate::message::Keys;
use crate::witness::{
    Continuation, Entry, Equivocation, Event, Fork, History, Judgement, Log, LogFolder, Secured,
    SignedCheckpoint, WriteError, origin, origin_of, owner_of,
};

/// What an agent knows of its own log's cosigners, and of the logs of others.
pub(super) struct Countersigning {
    /// The name of the agent's own log.
    origin: String,
    /// Whether that is shown to others.
    is_shown: bool,
    pub(super) cosigners: Cosigners,
    histories: BTreeMap<AgentId, (PublicKey, History)>,
    /// What an earlier process has countersigned: note by origin.
    restored: BTreeMap<String, String>,
    /// Cosignatures that are not in their files yet.
    unstored: BTreeMap<AgentId, SignedCheckpoint>,
    last_call: LastCall,
    /// The agent's key has signed another history; said once.
    is_forked: bool,
}

/// The last checkpoint before an agent leaves is shown to everybody at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LastCall {
    No,
    Wanted,
    Made,
}

/// One checkpoint's way to the peers.
pub(super) struct Round {
    turns: Vec<Turn>,
    /// Proofs that are at hand, by where they begin.
    found: BTreeMap<u64, Continuation>,
    /// Where proofs begin that are not.
    missing: BTreeSet<u64>,
    /// The log could not be read for these.
    is_unread: bool,
    unstored: BTreeMap<AgentId, SignedCheckpoint>,
}

impl Countersigning {
    /// Goes on where an earlier process of the log's agent has ended.
    pub(super) fn of(swarm: &SwarmName, me: &AgentId, key: &PublicKey, log: &Log) -> Self {
        let notes = log.countersigned();
        let origin = origin(swarm, me.as_str());
        let folder = log.folder();
        let files = folder.as_ref().map(LogFolder::cosignatures);
        Self {
            cosigners: cosigners(swarm, &origin, key, &files.unwrap_or_default()),
            origin,
            is_shown: folder.is_some(),
            histories: BTreeMap::new(),
            restored: notes.map(|(o, n)| (o.into(), n.into())).collect(),
            unstored: BTreeMap::new(),
            last_call: LastCall::No,
            is_forked: false,
        }
    }

    /// The link to a peer is gone.
    pub(super) fn peer_down(&mut self, peer: &AgentId) {
        self.cosigners.down(peer);
        if let Some((_, history)) = self.histories.get_mut(peer) {
            history.forget_questions();
        }
    }

    /// Whether the last call has been answered, as far as it was heard.
    pub(super) fn is_settled(&self) -> bool {
        match self.last_call {
            LastCall::No => true,
            LastCall::Wanted => false,
            LastCall::Made => !self.cosigners.is_awaited(),
        }
    }

    /// Cosignatures that are not in their files yet; they are the caller's now.
    pub(super) fn take_unstored(&mut self) -> BTreeMap<AgentId, SignedCheckpoint> {
        std::mem::take(&mut self.unstored)
    }

    /// What was seen of the log of `owner` under this key.
    fn history(&mut self, owner: &AgentId, name: &str, key: &PublicKey) -> &mut History {
        let restored = self.restored.remove(name);
        let known = self.histories.entry(owner.clone());
        let known = known.or_insert_with(|| {
            let seen = restored.and_then(|note| SignedCheckpoint::open(&note, name, key).ok());
            let history = seen.map_or_else(History::default, |seen| History::of(seen.bare(key)));
            (*key, history)
        });
        if known.0 != *key {
            // Another key keeps another log.
            *known = (*key, History::default());
        }
        &mut known.1
    }
}

impl Round {
    /// Reads the proofs that are not at hand, and stores cosignatures. Blocks.
    pub(super) fn prepare(&mut self, secured: &Secured) -> Result<(), WriteError> {
        match secured.continuations(&self.missing) {
            Ok(read) => self.found.extend(read.into_iter().map(|c| (c.from, c))),
            Err(err) => {
                tracing::warn!(%err, "the log cannot be read to prove that it continues");
                self.is_unread = true;
            }
        }
        store(secured.folder(), &std::mem::take(&mut self.unstored))
    }
}

/// Puts cosignatures into their files. Blocks.
pub(super) fn store(
    folder: Option<&LogFolder>,
    cosignatures: &BTreeMap<AgentId, SignedCheckpoint>,
) -> Result<(), WriteError> {
    let Some(folder) = folder else {
        return Ok(());
    };
    cosignatures
        .iter()
        .try_for_each(|(peer, checkpoint)| folder.write_cosignature(peer, checkpoint))
}

impl Core {
    /// There will be one more checkpoint, for everybody.
    pub(super) fn call_for_the_last_time(&mut self) {
        let countersigning = &mut self.countersigning;
        if countersigning.is_shown && countersigning.cosigners.linked().next().is_some() {
            countersigning.last_call = LastCall::Wanted;
            self.gate.want_checkpoint();
        }
    }

    /// Who is to be shown the checkpoint that is made now.
    pub(super) fn begin_round(&mut self) -> Round {
        let Countersigning {
            is_shown,
            cosigners,
            last_call,
            unstored,
            ..
        } = &mut self.countersigning;
        let mut round = Round {
            turns: Vec::new(),
            found: BTreeMap::new(),
            missing: BTreeSet::new(),
            is_unread: false,
            unstored: std::mem::take(unstored),
        };
        let Some(log) = self.witness.as_mut().filter(|_| *is_shown) else {
            return round;
        };
        round.turns = cosigners.round(*last_call == LastCall::Wanted);
        for from in round.turns.iter().map(|turn| turn.from).filter(|n| *n > 0) {
            match log.continuation(from) {
                Some(found) => {
                    round.found.insert(from, found);
                }
                None => {
                    round.missing.insert(from);
                }
            }
        }
        log.mark(&cosigners.sizes());
        round
    }

    /// Shows a checkpoint to those whose turn it is.
    pub(super) fn offer(&mut self, round: Round, checkpoint: &SignedCheckpoint) {
        let size = checkpoint.checkpoint().size;
        let note = checkpoint.note().to_string();
        for turn in round.turns {
            let cosigners = &mut self.countersigning.cosigners;
            if cosigners.link_of(&turn.peer) != Some(turn.link) {
                continue;
            }
            let found = round.found.get(&turn.from);
            if turn.from > 0 && found.is_none() && round.is_unread {
                // Asked again with the next checkpoint.
                continue;
            }
            cosigners.offered(&turn.peer, size);
            let asked = turn.asked.as_ref();
            let theirs = asked.map(|asked| asked.checkpoint().root);
            if let Some(asked) = asked.filter(|_| theirs != found.map(|found| found.root)) {
                self.own_fork(&turn.peer, asked, checkpoint);
            }
            // What it had countersigned by our files and is not in the log, it will ask for itself;
            // what it has asked for and is not there has no proof, and so it learns that.
            let from = asked.map_or(0, |_| turn.from);
            let (from, proof) = found.map_or((from, Vec::new()), |found| {
                (found.from, found.proof.clone())
            });
            let note = note.clone();
            self.queue_control(turn.link, &Control::Checkpoint { note });
            let consistency = Control::Consistency {
                origin: self.countersigning.origin.clone(),
                from,
                to: size,
                proof,
            };
            self.queue_control(turn.link, &consistency);
        }
        if self.countersigning.last_call == LastCall::Wanted {
            self.countersigning.last_call = LastCall::Made;
        }
        self.go_on_countersigning();
    }

    /// Another round is needed while somebody waits for one.
    fn go_on_countersigning(&mut self) {
        if self.countersigning.is_shown && self.countersigning.cosigners.is_behind() {
            self.gate.checkpoint_again(self.now);
        }
    }

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

    /// A peer has countersigned a checkpoint of mine.
    pub(super) fn on_cosign(&mut self, peer: &AgentId, link: LinkId, note: &str) {
        if self.countersigning.cosigners.link_of(peer) != Some(link) {
            return;
        }
        let (mine, my_key) = (self.countersigning.origin.clone(), self.key.public_key());
        let checkpoint = match SignedCheckpoint::open(note, &mine, &my_key) {
            Ok(checkpoint) => checkpoint,
            Err(err) => {
                return self.refuse_checkpoint(peer, "bad-signature", &err.to_string(), note);
            }
        };
        let (theirs, key) = (
            origin(&self.swarm, peer.as_str()),
            self.keyring.key_of(peer),
        );
        let Some(key) = key.filter(|key| checkpoint.cosigned_by(&theirs, key).is_ok()) else {
            let detail = format!("no cosignature of `{theirs}` on it that verifies");
            return self.refuse_checkpoint(peer, "bad-cosignature", &detail, note);
        };
        let size = checkpoint.checkpoint().size;
        if self.countersigning.cosigners.is_news(peer, size) {
            let checkpoint = checkpoint.with_cosigner_only(&my_key, &theirs, &key);
            self.countersigning.cosigners.cosigned(peer, size);
            self.testify(cosigned(peer, &checkpoint, self.wall));
            self.stats.cosigned += 1;
            let peer_id = peer.clone();
            self.tell(AgentEvent::Countersigned {
                peer: peer_id,
                entries: size,
            });
            self.countersigning
                .unstored
                .insert(peer.clone(), checkpoint);
            self.go_on_countersigning();
        }
    }

    /// The log of `owner` has two histories, as `from` has shown: everybody is told.
    fn equivocation(&mut self, owner: &AgentId, from: &AgentId, found: &Equivocation) {
        let notes = [&found.seen, &found.shown].map(|checkpoint| checkpoint.note().to_string());
        self.testify_equivocation(owner, from, found.fork, &notes);
        tracing::error!(%owner, fork = found.fork.as_str(), "an agent's log has two histories");
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
    fn own_fork(&mut self, peer: &AgentId, asked: &SignedCheckpoint, newest: &SignedCheckpoint) {
        if std::mem::replace(&mut self.countersigning.is_forked, true) {
            return;
        }
        let size = asked.checkpoint().size;
        let fork = match size > newest.checkpoint().size {
            true => Fork::RolledBack,
            false => Fork::NotContinued,
        };
        let notes = [asked, newest].map(|checkpoint| checkpoint.note().to_string());
        let me = self.me.clone();
        self.testify_equivocation(&me, peer, fork, &notes);
        tracing::error!(
            %peer, size,
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

    fn refuse_checkpoint(&mut self, peer: &AgentId, reason: &str, detail: &str, note: &str) {
        self.stats.bad_control += 1;
        tracing::warn!(%peer, reason, detail, "a checkpoint was refused");
        let entry = Entry::new(Event::CheckpointRejected, self.wall).peer(peer);
        let digest: [u8; 32] = Sha256::digest(note).into();
        self.testify(entry.metadata(json!({
            "detail": detail,
            "reason": reason,
            "sha256": hex_text(&digest),
        })));
    }
}

/// Who has countersigned how much, by the files of an earlier process. Whether the signatures of
/// the peers are good is theirs to say: this only spares them a question.
fn cosigners(swarm: &SwarmName, own: &str, key: &PublicKey, notes: &[String]) -> Cosigners {
    let mut cosigners = Cosigners::default();
    for note in notes {
        let Ok(checkpoint) = SignedCheckpoint::open(note, own, key) else {
            continue;
        };
        let names = checkpoint.note().signatures().iter();
        let peers = names.filter(|line| line.name() != own);
        for peer in peers.filter_map(|line| owner_of(swarm, line.name())) {
            cosigners.cosigned(&peer, checkpoint.checkpoint().size);
        }
    }
    cosigners
}

/// With whom, and the checkpoint with both signatures.
fn cosigned(
    peer: &AgentId,
    checkpoint: &SignedCheckpoint,
    now: crate::message::Timestamp,
) -> Entry {
    let entry = Entry::new(Event::CheckpointCosigned, now).peer(peer);
    entry.metadata(json!({
        "note": checkpoint.note().to_string(),
        "origin": checkpoint.checkpoint().origin,
        "size": checkpoint.checkpoint().size,
    }))
}
