//! This agent's checkpoints on their way to the peers and back, countersigned; and what is known of
//! the logs of others, which `judging` works with. So the mesh is its own set of witnesses
//! (`wire.md`, *Countersigning*).
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

use super::control::Control;
use super::core::Core;
use super::cosigners::{Cosigners, Turn};
use super::event::AgentEvent;
use crate::identity::{AgentId, LinkId, PublicKey, SwarmName};
use crate::message::Keys;
use crate::witness::{
    Continuation, Entry, Event, History, Log, LogFolder, Secured, SignedCheckpoint, WriteError,
    origin, owner_of,
};

/// What an agent knows of its own log's cosigners, and of the logs of others.
pub(super) struct Countersigning {
    /// The name of the agent's own log.
    pub(super) origin: String,
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
    pub(super) is_forked: bool,
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
    pub(super) fn history(&mut self, owner: &AgentId, name: &str, key: &PublicKey) -> &mut History {
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
                tracing::warn!(reason = %err, "the log cannot be read to prove that it continues");
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
        round.turns.retain(|turn| {
            let from = turn.from;
            if let Some(found) = log.continuation(from) {
                round.found.insert(from, found);
            } else if from > 0 && from <= log.committed_len() {
                if !cosigners.may_read(&turn.peer) {
                    // As good as shown: it has to wait for the next link.
                    cosigners.offered(&turn.peer, log.committed_len());
                    return false;
                }
                round.missing.insert(from);
            }
            true
        });
        log.mark(&cosigners.sizes());
        round
    }

    /// Shows a checkpoint to those whose turn it is.
    pub(super) fn offer(&mut self, round: Round, checkpoint: &SignedCheckpoint) {
        let size = checkpoint.checkpoint().size;
        self.tally.checkpoint(self.now, size);
        let note = checkpoint.note().to_string();
        for turn in round.turns {
            let cosigners = &mut self.countersigning.cosigners;
            if cosigners.link_of(&turn.peer) != Some(turn.link) {
                continue;
            }
            cosigners.offered(&turn.peer, size);
            let found = round.found.get(&turn.from);
            if turn.from > 0 && found.is_none() && round.is_unread {
                continue;
            }
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
    pub(super) fn go_on_countersigning(&mut self) {
        if self.countersigning.is_shown && self.countersigning.cosigners.is_behind() {
            self.gate.checkpoint_again(self.now);
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
pub(super) fn cosigned(
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
