//! A hand-made log: what its owner shows of it, true or not.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ifswarm::identity::KeyPair;
use ifswarm::witness::{Checkpoint, ProofPath, SignedCheckpoint, Tree, origin};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::live::swarm_name;
use crate::support::FixtureAgent;

/// The leaves of a log, and who signs its checkpoints.
#[derive(Clone)]
pub(crate) struct RawLog {
    origin: String,
    key: KeyPair,
    leaves: Vec<[u8; 32]>,
}

impl RawLog {
    /// The log of an agent of the fixtures, with so many entries.
    pub(crate) fn of(id: &str, entries: usize) -> Self {
        let mut log = Self {
            origin: origin(&swarm_name(), id),
            key: FixtureAgent::new(id).key,
            leaves: Vec::new(),
        };
        log.grow("true", entries);
        log
    }

    /// Goes on until it has so many entries.
    pub(crate) fn grow(&mut self, history: &str, entries: usize) {
        while self.leaves.len() < entries {
            let leaf = format!("{history} {}", self.leaves.len());
            self.leaves.push(Sha256::digest(leaf).into());
        }
    }

    /// The same up to an entry, then another history, `entries` long.
    pub(crate) fn forked(&self, at: usize, entries: usize) -> Self {
        let mut fork = self.clone();
        fork.leaves.truncate(at);
        fork.grow("forked", entries);
        fork
    }

    fn tree(&self, entries: usize) -> Tree {
        let mut tree = Tree::default();
        let leaves = self.leaves[..entries].iter();
        leaves.for_each(|leaf| tree.push(*leaf));
        tree
    }

    pub(crate) fn checkpoint(&self) -> SignedCheckpoint {
        let tree = self.tree(self.leaves.len());
        let checkpoint = Checkpoint {
            origin: self.origin.clone(),
            size: tree.size(),
            root: tree.root(),
        };
        checkpoint.sign(&self.key)
    }

    /// The frame that shows the newest checkpoint.
    pub(crate) fn shown(&self) -> Value {
        json!({ "type": "checkpoint", "note": self.checkpoint().note().to_string() })
    }

    /// The frame that proves it to continue what this log was.
    pub(crate) fn continues(&self, from: usize) -> Value {
        let mut path = ProofPath::of_tree(&self.tree(from)).unwrap();
        self.leaves[from..].iter().for_each(|leaf| path.push(*leaf));
        let proof = path.proof().into_iter().map(|hash| STANDARD.encode(hash));
        let (origin, to) = (&self.origin, self.leaves.len());
        let proof: Vec<_> = proof.collect();
        json!({ "type": "consistency", "origin": origin, "from": from, "to": to, "proof": proof })
    }
}
