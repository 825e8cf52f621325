//! The witness logs of a signaling server, one per swarm: joins what the server notes to
//! [`Log`]s on disk.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use tokio::sync::mpsc;

use super::failure::{impossible, unusable};
use crate::identity::{PublicKey, SwarmName};
use crate::message::Timestamp;
use crate::signal::{WitnessNote, WitnessSink};
use crate::swarm::SdpDetail;
use crate::witness::{Entry, Event, Log, LogOwner, OpenError, Opening};

/// The logs, and the news that one of them could not be written.
pub(super) struct SignalWitness {
    logs: Arc<Mutex<Logs>>,
    failures: mpsc::Receiver<anyhow::Error>,
    fail: mpsc::Sender<anyhow::Error>,
}

struct Logs {
    dir: PathBuf,
    public_key: PublicKey,
    /// With the turn in which each was last written.
    open: BTreeMap<SwarmName, (u64, Log)>,
    turn: u64,
}

impl SignalWitness {
    pub(super) fn new(dir: PathBuf, public_key: PublicKey) -> Self {
        let (fail, failures) = mpsc::channel(1);
        let logs = Logs {
            dir,
            public_key,
            open: BTreeMap::new(),
            turn: 0,
        };
        Self {
            logs: Arc::new(Mutex::new(logs)),
            failures,
            fail,
        }
    }

    /// What the server writes to. Each note is on disk before this returns, and so before what it is
    /// about is told to anybody.
    pub(super) fn sink(&self, sdp: SdpDetail) -> WitnessSink {
        let (logs, fail) = (self.logs.clone(), self.fail.clone());
        let note = Box::new(move |note| {
            if let Err(err) = lock(&logs).write(note) {
                // The first failure ends the server; there is no room for a second, nor need.
                let _ = fail.try_send(err);
            }
        });
        WitnessSink { note, sdp }
    }

    /// The failure, if there was one.
    pub(super) fn failed(&mut self) -> Option<anyhow::Error> {
        self.failures.try_recv().ok()
    }

    /// Waits until a log cannot be written. Cancel-safe.
    pub(super) async fn failure(&mut self) -> anyhow::Error {
        let failure = self.failures.recv().await;
        failure.expect("this holds a sender itself")
    }

    /// Closes every log; to be called when the server has ended.
    pub(super) fn close(self) -> anyhow::Result<()> {
        let logs = std::mem::take(&mut lock(&self.logs).open);
        for (_, (_, log)) in logs {
            log.close().map_err(impossible)?;
        }
        Ok(())
    }
}

impl Logs {
    fn write(&mut self, note: WitnessNote) -> anyhow::Result<()> {
        let now = wall_clock();
        let event: Event = note
            .event
            .parse()
            .expect("the server notes events of `wire.md` only");
        let mut entry = Entry::new(event, now).metadata(note.metadata);
        if let Some(peer) = &note.peer {
            entry = entry.peer(peer);
        }
        let log = self.log_of(&note.swarm, now)?;
        log.append(entry);
        log.commit().map_err(impossible)
    }

    fn log_of(&mut self, swarm: &SwarmName, now: Timestamp) -> anyhow::Result<&mut Log> {
        self.turn += 1;
        if !self.open.contains_key(swarm) {
            self.make_room()?;
            let opening = Opening {
                agent_id: LogOwner::Signal,
                swarm,
                public_key: self.public_key,
                now,
                sync: crate::witness::SyncPolicy::Batch,
            };
            let log = Log::open(&self.dir, opening).map_err(not_opened)?;
            self.open.insert(swarm.clone(), (self.turn, log));
        }
        let (turn, log) = self.open.get_mut(swarm).expect("it was just put there");
        *turn = self.turn;
        Ok(log)
    }

    /// Closes the log that was not written for longest, so that an open server into which ever more
    /// swarms come does not run out of files.
    fn make_room(&mut self) -> anyhow::Result<()> {
        if self.open.len() < MAX_OPEN_LOGS {
            return Ok(());
        }
        let oldest = self.open.iter().min_by_key(|(_, (turn, _))| *turn);
        let oldest = oldest.map(|(swarm, _)| swarm.clone());
        if let Some((_, log)) = oldest.and_then(|swarm| self.open.remove(&swarm)) {
            log.close().map_err(impossible)?;
        }
        Ok(())
    }
}

fn not_opened(err: OpenError) -> anyhow::Error {
    match err {
        OpenError::Foreign { what: "key", .. } => unusable(anyhow::Error::new(err).context(
            "the witness log goes on under the key it began with: give that key with --key FILE",
        )),
        OpenError::Foreign { .. } | OpenError::Flawed { .. } => unusable(err),
        _ => impossible(err),
    }
}

/// A panic while writing leaves at worst an entry that the next commit writes.
fn lock(logs: &Mutex<Logs>) -> MutexGuard<'_, Logs> {
    logs.lock().unwrap_or_else(PoisonError::into_inner)
}

fn wall_clock() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let ms = since.map_or(0, |since| since.as_millis());
    Timestamp::from_unix_ms(i64::try_from(ms).unwrap_or(i64::MAX))
}

/// Far below the usual limit of 1,024 open files; a closed log is opened again when it is needed.
const MAX_OPEN_LOGS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::KeyPair;
    use serde_json::json;

    #[test]
    fn keeps_few_logs_open_and_goes_on_with_one_that_was_closed() {
        let dir = tempfile::tempdir().unwrap();
        let key = KeyPair::from_secret(&[7; 32]).public_key();
        let mut witness = SignalWitness::new(dir.path().into(), key);
        let mut sink = witness.sink(SdpDetail::Full);
        for swarm in (0..=MAX_OPEN_LOGS).chain([0]) {
            (sink.note)(WitnessNote {
                swarm: format!("swarm-{swarm}").parse().unwrap(),
                event: "agent_registered",
                peer: Some("legal".parse().unwrap()),
                metadata: json!({}),
            });
            assert!(lock(&witness.logs).open.len() <= MAX_OPEN_LOGS);
        }
        assert!(witness.failed().is_none());
        witness.close().unwrap();
        let path = dir.path().join("swarm-0").join("%40signal");
        let report = crate::witness::check(&path).unwrap();
        // Opened, an agent, opened again, an agent.
        assert_eq!((report.entries, report.agent_id.as_str()), (4, "@signal"));
    }

    #[test]
    fn a_log_of_another_key_is_a_failure_that_names_the_flag() {
        let dir = tempfile::tempdir().unwrap();
        let note = || WitnessNote {
            swarm: "five".parse().unwrap(),
            event: "agent_registered",
            peer: None,
            metadata: json!({}),
        };
        let write = |secret: u8| {
            let key = KeyPair::from_secret(&[secret; 32]).public_key();
            let mut witness = SignalWitness::new(dir.path().into(), key);
            (witness.sink(SdpDetail::Full).note)(note());
            let failed = witness.failed();
            witness.close().unwrap();
            failed
        };
        assert!(write(7).is_none());
        assert!(write(8).unwrap().to_string().contains("--key"));
    }
}
