//! The witness logs of a signaling server, one per swarm: joins what the server notes to
//! [`Log`]s on disk, and signs checkpoints of them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::{Notify, mpsc};

use super::failure::{impossible, unusable};
use crate::agent::Coverage;
use crate::identity::{KeyPair, SwarmName};
use crate::message::Timestamp;
use crate::signal::{WitnessNote, WitnessSink};
use crate::swarm::WitnessConfig;
use crate::witness::{
    Entry, Event, Log, LogOwner, OnWriteError, OpenError, Opening, SyncPolicy, WriteError,
};

/// The logs, and the news that one of them could not be written.
pub(super) struct SignalWitness {
    logs: Arc<Mutex<Logs>>,
    /// A log has entries that no checkpoint covers.
    uncovered: Arc<Notify>,
    failures: mpsc::Receiver<anyhow::Error>,
    fail: mpsc::Sender<anyhow::Error>,
}

struct Logs {
    dir: PathBuf,
    key: KeyPair,
    config: WitnessConfig,
    open: BTreeMap<SwarmName, OpenLog>,
    turn: u64,
    /// The last note could not be written, and the server goes on without.
    interrupted: bool,
    /// Entries written by this process, in logs that are closed again too.
    entries: u64,
    /// When a checkpoint was signed last.
    checkpoint: Option<Instant>,
}

struct OpenLog {
    log: Log,
    /// The turn in which it was last written.
    turn: u64,
    /// It has entries that no checkpoint covers.
    uncovered: bool,
    /// It is waited for the disk to have it, so it cannot be closed.
    busy: bool,
    /// Entries that the last checkpoint of this process covers.
    covered: u64,
}

impl SignalWitness {
    /// Logs below `dir`, under `key`, kept as `config` says.
    pub(super) fn new(dir: PathBuf, key: KeyPair, config: WitnessConfig) -> Self {
        let (fail, failures) = mpsc::channel(1);
        let logs = Logs {
            dir,
            key,
            config,
            open: BTreeMap::new(),
            turn: 0,
            interrupted: false,
            entries: 0,
            checkpoint: None,
        };
        Self {
            logs: Arc::new(Mutex::new(logs)),
            uncovered: Arc::default(),
            failures,
            fail,
        }
    }

    /// What the server writes to. Each note is written before this returns, and so before what it
    /// is about is told to anybody; under `witness.sync: always` the server waits for the disk.
    pub(super) fn sink(&self) -> WitnessSink {
        let sdp = lock(&self.logs).config.sdp;
        let (logs, fail) = (self.logs.clone(), self.fail.clone());
        let uncovered = self.uncovered.clone();
        let note = Box::new(move |note| match lock(&logs).write(note) {
            Ok(()) => uncovered.notify_one(),
            // The first failure ends the server; there is no room for a second, nor need.
            Err(err) => drop(fail.try_send(err)),
        });
        WitnessSink { note, sdp }
    }

    /// How the logs stand, whenever it is asked; all of them together.
    pub(super) fn coverage(&self) -> Box<dyn Fn() -> Coverage + Send + Sync> {
        let logs = self.logs.clone();
        Box::new(move || lock(&logs).coverage())
    }

    /// The failure, if there was one.
    pub(super) fn failed(&mut self) -> Option<anyhow::Error> {
        self.failures.try_recv().ok()
    }

    /// Signs checkpoints as they fall due, until a log cannot be written. Cancel-safe: what it
    /// began ends by itself.
    pub(super) async fn keep(&mut self) -> anyhow::Error {
        // Both are cancel-safe: a receiver of a queue, and what leaves its work to threads.
        tokio::select! {
            failure = self.failures.recv() => failure.expect("this holds a sender itself"),
            failure = checkpoints(&self.logs, &self.uncovered) => failure,
        }
    }

    /// Closes every log; to be called when the server has ended.
    pub(super) fn close(self) -> anyhow::Result<()> {
        let mut logs = lock(&self.logs);
        for (_, open) in std::mem::take(&mut logs.open) {
            logs.close(open.log)?;
        }
        Ok(())
    }
}

impl Logs {
    fn write(&mut self, note: WitnessNote) -> anyhow::Result<()> {
        let on_error = self.config.on_error;
        match self.put(note) {
            Ok(()) => {
                if std::mem::take(&mut self.interrupted) {
                    tracing::warn!(
                        reason = "the disk takes it again",
                        "the witness is written again; it says how much it lacks"
                    );
                }
                Ok(())
            }
            Err(err) if on_error == OnWriteError::Continue && err.may_pass() => {
                if !std::mem::replace(&mut self.interrupted, true) {
                    tracing::warn!(reason = %err, "the witness cannot be written; going on WITHOUT it");
                }
                Ok(())
            }
            Err(NoteError::Open(err)) => Err(not_opened(err)),
            Err(err) => Err(impossible(err)),
        }
    }

    fn put(&mut self, note: WitnessNote) -> Result<(), NoteError> {
        let now = wall_clock();
        let event: Event = note
            .event
            .parse()
            .expect("the server notes events of `wire.md` only");
        let mut entry = Entry::new(event, now).metadata(note.metadata);
        if let Some(peer) = &note.peer {
            entry = entry.peer(peer);
        }
        let (sync, on_error) = (self.config.sync, self.config.on_error);
        let open = self.log_of(&note.swarm, now)?;
        let before = open.log.committed_len();
        open.log.append(entry);
        if let Err(err) = open.log.commit() {
            if on_error == OnWriteError::Continue {
                open.log.give_up();
            }
            return Err(err.into());
        }
        open.uncovered = true;
        let written = open.log.committed_len() - before;
        let wait = (sync == SyncPolicy::Always).then(|| open.log.committed());
        self.entries += written;
        if let Some(committed) = wait {
            committed.secure()?;
        }
        Ok(())
    }

    fn log_of(&mut self, swarm: &SwarmName, now: Timestamp) -> Result<&mut OpenLog, NoteError> {
        self.turn += 1;
        if !self.open.contains_key(swarm) {
            self.make_room()?;
            let opening = Opening {
                agent_id: LogOwner::Signal,
                swarm,
                public_key: self.key.public_key(),
                now,
                sync: self.config.sync,
            };
            let open = OpenLog {
                log: Log::open(&self.dir, opening)?,
                turn: self.turn,
                uncovered: false,
                busy: false,
                covered: 0,
            };
            self.open.insert(swarm.clone(), open);
            // `log_opened` or `log_reopened`.
            self.entries += 1;
        }
        let open = self.open.get_mut(swarm).expect("it was just put there");
        open.turn = self.turn;
        Ok(open)
    }

    /// Closes the log that was not written for longest, so that an open server into which ever more
    /// swarms come does not run out of files.
    fn make_room(&mut self) -> Result<(), NoteError> {
        if self.open.len() < MAX_OPEN_LOGS {
            return Ok(());
        }
        let idle = self.open.iter().filter(|(_, open)| !open.busy);
        let oldest = idle.min_by_key(|(_, open)| open.turn);
        let oldest = oldest.map(|(swarm, _)| swarm.clone());
        if let Some(open) = oldest.and_then(|swarm| self.open.remove(&swarm)) {
            self.close(open.log)?;
        }
        Ok(())
    }

    fn close(&self, log: Log) -> Result<(), WriteError> {
        let summary = match self.config.on_error {
            OnWriteError::Stop => log.close_signed(&self.key)?,
            OnWriteError::Continue => {
                if let Err(err) = log.committed().secure()?.checkpoint(&self.key) {
                    tracing::warn!(reason = %err, "no last checkpoint of the witness");
                }
                log.close()?
            }
        };
        if summary.unwitnessed > 0 {
            let missing = summary.unwitnessed;
            tracing::warn!(
                missing,
                reason = "it cannot be written",
                "the witness lacks its last entries, and cannot say so"
            );
        }
        Ok(())
    }

    fn coverage(&self) -> Coverage {
        let open = self.open.values();
        let missing: u64 = open.clone().map(|open| open.log.unwitnessed()).sum();
        Coverage {
            entries: self.entries,
            bytes: open.clone().map(|open| open.log.bytes()).sum(),
            uncovered: open
                .map(|open| open.log.committed_len().saturating_sub(open.covered))
                .sum(),
            checkpoint_age: self.checkpoint.map(|at| at.elapsed()),
            // A log that cannot be opened counts nothing.
            missing: missing.max(u64::from(self.interrupted)),
        }
    }

    /// The next log that a checkpoint is due for.
    fn next_uncovered(&mut self) -> Option<(&SwarmName, &mut OpenLog)> {
        self.open.iter_mut().find(|(_, open)| open.uncovered)
    }
}

/// Signs checkpoints within a second of what they cover, and waits while there is nothing.
async fn checkpoints(logs: &Arc<Mutex<Logs>>, uncovered: &Notify) -> anyhow::Error {
    loop {
        uncovered.notified().await;
        tokio::time::sleep(CHECKPOINT).await;
        let logs = Arc::clone(logs);
        let covered = tokio::task::spawn_blocking(move || cover(&logs)).await;
        match covered {
            Ok(Ok(())) => {}
            Ok(Err(err)) => return impossible(err),
            Err(err) => return impossible(err),
        }
    }
}

/// Signs a checkpoint of every log that needs one. Waits for the disk, without the lock.
fn cover(logs: &Mutex<Logs>) -> Result<(), WriteError> {
    loop {
        let mut locked = lock(logs);
        let (key, on_error) = (locked.key.clone(), locked.config.on_error);
        let Some((swarm, open)) = locked.next_uncovered() else {
            return Ok(());
        };
        (open.uncovered, open.busy) = (false, true);
        let (swarm, committed) = (swarm.clone(), open.log.committed());
        drop(locked);

        let secured = committed.secure()?;
        let (signed, covered) = (secured.checkpoint(&key), secured.entries());
        let mut locked = lock(logs);
        if let Some(open) = locked.open.get_mut(&swarm) {
            open.busy = false;
            if signed.is_ok() {
                open.covered = covered;
                locked.checkpoint = Some(Instant::now());
            }
        }
        match (signed, on_error) {
            (Err(err), OnWriteError::Stop) => return Err(err),
            (Err(err), OnWriteError::Continue) => {
                tracing::warn!(reason = %err, "no new checkpoint of the witness");
            }
            (Ok(_), _) => {}
        }
    }
}

/// Why a note was not written.
#[derive(Debug, thiserror::Error)]
enum NoteError {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Write(#[from] WriteError),
}

impl NoteError {
    /// Whether it may be written later: the disk is full, say.
    fn may_pass(&self) -> bool {
        matches!(
            self,
            Self::Open(OpenError::Io { .. } | OpenError::Write(_))
                | Self::Write(WriteError::Full { .. } | WriteError::Io { .. })
        )
    }
}

fn not_opened(err: OpenError) -> anyhow::Error {
    match err {
        OpenError::Foreign { what: "key", .. } => unusable(anyhow::Error::new(err).context(
            "the witness log goes on under the key it began with: give that key with --key FILE",
        )),
        OpenError::Foreign { .. } | OpenError::Flawed { .. } | OpenError::Checkpoint { .. } => {
            unusable(err)
        }
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
pub(super) const MAX_OPEN_LOGS: usize = 64;
/// From a note to the checkpoint that covers it: a second, less what the disk may take.
const CHECKPOINT: Duration = Duration::from_millis(800);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::witness::{CHECKPOINT_FILE, SignedCheckpoint};
    use serde_json::json;
    use std::path::Path;

    fn new(dir: &Path, secret: u8, config: WitnessConfig) -> SignalWitness {
        SignalWitness::new(dir.into(), KeyPair::from_secret(&[secret; 32]), config)
    }

    fn note(swarm: &str) -> WitnessNote {
        WitnessNote {
            swarm: swarm.parse().unwrap(),
            event: "agent_registered",
            peer: Some("legal".parse().unwrap()),
            metadata: json!({}),
        }
    }

    /// How many entries the checkpoint of a swarm's log covers.
    fn covered(dir: &Path, swarm: &str) -> u64 {
        let path = dir.join(swarm).join("%40signal").join(CHECKPOINT_FILE);
        let note = std::fs::read_to_string(path).unwrap();
        let key = KeyPair::from_secret(&[7; 32]).public_key();
        let origin = format!("ifswarm-log/{swarm}/@signal");
        let signed = SignedCheckpoint::open(&note, &origin, &key).unwrap();
        signed.checkpoint().size
    }

    #[test]
    fn keeps_few_logs_open_and_goes_on_with_one_that_was_closed() {
        let dir = tempfile::tempdir().unwrap();
        let mut witness = new(dir.path(), 7, WitnessConfig::default());
        let mut sink = witness.sink();
        for swarm in (0..=MAX_OPEN_LOGS).chain([0]) {
            (sink.note)(note(&format!("swarm-{swarm}")));
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
        let write = |secret: u8| {
            let mut witness = new(dir.path(), secret, WitnessConfig::default());
            (witness.sink().note)(note("five"));
            let failed = witness.failed();
            witness.close().unwrap();
            failed
        };
        assert!(write(7).is_none());
        assert!(write(8).unwrap().to_string().contains("--key"));
    }

    #[test]
    fn signs_a_checkpoint_of_each_log_that_needs_one_and_of_all_at_the_end() {
        for sync in [SyncPolicy::Batch, SyncPolicy::Always, SyncPolicy::Never] {
            let dir = tempfile::tempdir().unwrap();
            let config = WitnessConfig {
                sync,
                ..WitnessConfig::default()
            };
            let witness = new(dir.path(), 7, config);
            let mut sink = witness.sink();
            (sink.note)(note("one"));
            (sink.note)(note("two"));
            cover(&witness.logs).unwrap();
            assert_eq!(
                (covered(dir.path(), "one"), covered(dir.path(), "two")),
                (2, 2)
            );
            (sink.note)(note("one"));
            cover(&witness.logs).unwrap();
            assert_eq!(
                (covered(dir.path(), "one"), covered(dir.path(), "two")),
                (3, 2)
            );
            (sink.note)(note("two"));
            witness.close().unwrap();
            assert_eq!(
                (covered(dir.path(), "one"), covered(dir.path(), "two")),
                (3, 3)
            );
        }
    }

    #[test]
    fn goes_on_without_a_log_that_cannot_be_opened_if_it_was_told_to() {
        for (on_error, fails) in [(OnWriteError::Stop, true), (OnWriteError::Continue, false)] {
            let dir = tempfile::tempdir().unwrap();
            // A file where the swarm's folder is to be.
            std::fs::write(dir.path().join("five"), "").unwrap();
            let config = WitnessConfig {
                on_error,
                ..WitnessConfig::default()
            };
            let mut witness = new(dir.path(), 7, config);
            (witness.sink().note)(note("five"));
            assert_eq!(witness.failed().is_some(), fails);
            std::fs::remove_file(dir.path().join("five")).unwrap();
            (witness.sink().note)(note("five"));
            witness.close().unwrap();
            assert_eq!(covered(dir.path(), "five"), 2);
        }
    }
}
