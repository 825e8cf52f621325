//! What is signed of the log of the fixtures: its checkpoint, countersigned; a proof; an export.
//!
//! And folders of logs for the tests, as an agent leaves them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use ifswarm::identity::{AgentId, SwarmName};
use ifswarm::message::Timestamp;
use ifswarm::witness::{
    CHECKPOINT_FILE, COSIGNATURES_FOLDER, Checkpoint, ENTRIES_FILE, Entry, Event, Log, LogOwner,
    Opening, SignedCheckpoint, SyncPolicy, check, export, prove,
};
use serde_json::json;

use crate::support::{FixtureAgent, fixtures_dir, now, roster};

/// Every fixture that is signed of the log `fixtures/witness/entries.jsonl`.
pub(crate) fn valid() -> BTreeMap<String, Vec<u8>> {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    let entries = fixtures_dir().join("witness").join(ENTRIES_FILE);
    fs::copy(&entries, folder.join(ENTRIES_FILE)).unwrap();
    let report = check(folder).unwrap();
    let checkpoint = Checkpoint {
        origin: origin("finance"),
        size: report.entries,
        root: report.root,
    };
    let mut signed = checkpoint.sign(&FixtureAgent::new("finance").key);
    let note = signed.note().to_string();
    cosign(&mut signed, "legal");
    let cosigned = signed.note().to_string();
    fs::write(folder.join(CHECKPOINT_FILE), &note).unwrap();
    fs::create_dir(folder.join(COSIGNATURES_FOLDER)).unwrap();
    fs::write(folder.join(COSIGNATURES_FOLDER).join("legal"), &cosigned).unwrap();

    let proof = prove(folder, 3).unwrap().to_line();
    let mut exported = Vec::new();
    export(folder, Some(&roster()), &mut exported).unwrap();
    BTreeMap::from([
        ("valid_export.jsonl".into(), exported),
        ("valid_proof.json".into(), proof.into_bytes()),
        ("witness/checkpoint".into(), note.into_bytes()),
        ("witness/cosignatures/legal".into(), cosigned.into_bytes()),
    ])
}

/// The name of an agent's log in checkpoints.
pub(crate) fn origin(id: &str) -> String {
    format!("ifswarm-log/five-agent/{id}")
}

/// Adds the countersignature of `peer`.
pub(crate) fn cosign(signed: &mut SignedCheckpoint, peer: &str) {
    let time = now().unix_ms() as u64 / 1000;
    signed.cosign(&origin(peer), &FixtureAgent::new(peer).key, time);
}

/// A log that is being written.
pub(crate) struct Written {
    id: AgentId,
    pub(crate) log: Log,
    /// The folder of the log.
    pub(crate) folder: PathBuf,
}

impl Written {
    /// Begins the log of `id` below `root`, or goes on with it.
    pub(crate) fn open(root: &Path, id: &str) -> Self {
        let agent = FixtureAgent::new(id);
        let swarm: SwarmName = "five-agent".parse().unwrap();
        let opening = Opening {
            agent_id: LogOwner::Agent(&agent.id),
            swarm: &swarm,
            public_key: agent.public_key(),
            now: now(),
            sync: SyncPolicy::Never,
        };
        Self {
            log: Log::open(root, opening).unwrap(),
            folder: root.join("five-agent").join(id),
            id: agent.id,
        }
    }

    /// Goes on until there are `size` entries.
    pub(crate) fn grow(&mut self, size: u64) {
        while self.log.len() < size {
            let n = self.log.len();
            let now = Timestamp::from_unix_ms(now().unix_ms() + n as i64);
            let entry = Entry::new(Event::IfmessageSent, now);
            let entry = entry.peer(&"legal".parse().unwrap());
            self.log
                .append(entry.metadata(json!({"sequence_num": n, "text": "兄弟 \u{1b}"})));
        }
        self.log.commit().unwrap();
    }

    /// Makes a checkpoint of now, and keeps it as countersigned by each of those alone.
    pub(crate) fn checkpoint(&mut self, cosigners: &[&str]) -> SignedCheckpoint {
        let key = FixtureAgent::new(self.id.as_str()).key;
        let secured = self.log.committed().secure().unwrap();
        let signed = secured.checkpoint(&key).unwrap();
        for peer in cosigners {
            let mut cosigned = signed.clone();
            cosign(&mut cosigned, peer);
            let files = self.log.folder().unwrap();
            files
                .write_cosignature(&peer.parse().unwrap(), &cosigned)
                .unwrap();
        }
        signed
    }

    /// Writes down that this agent has countersigned a checkpoint of `peer`.
    pub(crate) fn has_cosigned(&mut self, peer: &str, signed: &SignedCheckpoint) {
        let mut signed = signed.clone();
        cosign(&mut signed, self.id.as_str());
        let entry = Entry::new(Event::CheckpointCosigned, now());
        let entry = entry.peer(&peer.parse().unwrap()).metadata(json!({
            "origin": origin(peer),
            "size": signed.checkpoint().size,
            "note": signed.note().to_string(),
        }));
        self.log.append(entry);
        self.log.commit().unwrap();
    }
}
