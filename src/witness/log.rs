//! The log that one agent or signaling server keeps: open, append, commit.
//!
//! 1. [`Log::append`] makes the entry part of the chain and the tree; nothing is on disk yet.
//! 2. [`Log::commit`] writes everything appended since the last commit, in one `write`.
//! 3. Only then may what the entries witness be transmitted or delivered.
//!
//! So many entries cost one system call, and none is ever missing for what went out.
//!
//! Nothing here waits for the disk but opening and closing: see [`Log::committed`].

use std::collections::BTreeSet;
use std::fmt;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::check::{Chain, Checker, READ_BUFFER, ReadError};
use super::countersigned::{Countersigned, Overheard};
use super::disk::{CheckpointFlaw, Disk};
use super::folder::{Folder, LogFolder};
use super::marks::Marks;
use super::opening::{FORMAT_VERSION, Opening, origin};
use super::tree::Hash;
use super::{
    Checkpoint, CheckpointError, Committed, Continuation, Entry, Event, NoteError, OpenError,
    SignedCheckpoint, WriteError,
};
use crate::identity::{KeyPair, file_name};
use crate::message::Timestamp;

/// An append-only log: a hash chain of entries under a Merkle tree.
pub struct Log {
    /// As it stands in `agent_id` of every entry.
    owner: String,
    /// The name of the log in checkpoints.
    origin: String,
    chain: Chain,
    /// Where the chain was at the last commit.
    committed: Chain,
    /// Lines that are not on disk yet. Grows while commits fail: a caller whose commit fails
    /// must stop what it witnesses, or give the entries up.
    pending: Vec<u8>,
    /// Leaf hashes of what is not committed.
    fresh: Vec<Hash>,
    marks: Marks,
    /// None in memory.
    disk: Option<Disk>,
    dropped_bytes: u64,
    gap: Gap,
    countersigned: Countersigned,
}

/// What there is to say of a log that was closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// How many entries there are.
    pub entries: u64,
    /// The tree head over them (RFC 6962).
    pub root: [u8; 32],
    /// The leaf hash of the last entry.
    pub last_hash: [u8; 32],
    /// The file, unless the log was in memory.
    pub path: Option<PathBuf>,
    /// How many entries are missing at its end without a word of it, because they were given up
    /// and nothing could be written since.
    pub unwitnessed: u64,
}

/// Entries that were given up.
#[derive(Debug, Clone, Copy, Default)]
struct Gap {
    /// How many, since the log last said so.
    entries: u64,
    /// The next commit says so.
    is_noted: bool,
}

impl Log {
    /// Opens the log `root/SWARM/AGENT`, or goes on with it: reads it all, cuts off a torn last
    /// line, and commits `log_opened` or `log_reopened`. Folders are made where missing (0700).
    ///
    /// # Errors
    /// [`OpenError`]. A log with a broken chain, of another key, in use, or at odds with its last
    /// checkpoint is left as it is.
    pub fn open(root: &Path, opening: Opening<'_>) -> Result<Self, OpenError> {
        let owner = opening.agent_id.as_str();
        let folder = root
            .join(file_name(opening.swarm.as_str()))
            .join(file_name(owner));
        let folder = Folder::open(&folder)?;

        let origin = origin(opening.swarm, owner);
        let signed = folder.read_checkpoint()?.map(|note| {
            let note = String::from_utf8(note).map_err(|_| NoteError::Form("no UTF-8"))?;
            SignedCheckpoint::open(&note, &origin, &opening.public_key)
        });
        let size = signed.as_ref().and_then(|s| s.as_ref().ok());
        let size = size.map(|signed| signed.checkpoint().size);

        let mut checker = Checker::noting(size);
        let mut countersigned = Countersigned::of(&origin, owner);
        let reader = BufReader::with_capacity(READ_BUFFER, &folder.file);
        let mut reader = Overheard::new(reader, |line| countersigned.hear(line));
        let path = || folder.entries.clone();
        let tail = checker.read(&mut reader).map_err(|err| match err {
            ReadError::Io(source) => OpenError::Io {
                path: path(),
                source,
            },
            ReadError::Flawed(flaw) => OpenError::Flawed { path: path(), flaw },
        })?;
        let noted = checker.noted();
        let read = checker.into_parts();
        if let Some((opened, _)) = &read {
            opening.must_match(opened, &folder.entries)?;
        }
        let chain = read.map(|(_, chain)| chain);
        let covered = must_hold(signed, noted, chain.as_ref()).map_err(|flaw| {
            let path = folder.checkpoint();
            OpenError::Checkpoint { path, flaw }
        })?;

        let (good, torn) = (tail.good_bytes, tail.torn_bytes);
        let mut log = Self {
            owner: owner.into(),
            origin,
            chain: Chain::default(),
            committed: Chain::default(),
            pending: Vec::new(),
            fresh: Vec::new(),
            marks: Marks::default(),
            disk: Some(folder.into_disk(good, torn, covered, opening.sync)?),
            dropped_bytes: torn,
            gap: Gap::default(),
            countersigned,
        };
        let is_new = chain.is_none();
        match chain {
            Some(chain) => {
                log.committed.set(&chain);
                log.chain = chain;
            }
            None => log.append_opened(opening),
        }
        // A first line that was torn leaves a log that is new and yet lost something.
        if !is_new || torn > 0 {
            log.append_reopened("dropped_bytes", torn, opening.now);
        }
        log.commit()?;
        Ok(log)
    }

    /// The same chain and tree without a file: keeps no lines, so its memory is constant.
    pub fn in_memory(opening: Opening<'_>) -> Self {
        let mut log = Self {
            owner: opening.agent_id.as_str().into(),
            origin: origin(opening.swarm, opening.agent_id.as_str()),
            chain: Chain::default(),
            committed: Chain::default(),
            pending: Vec::new(),
            fresh: Vec::new(),
            marks: Marks::default(),
            disk: None,
            dropped_bytes: 0,
            gap: Gap::default(),
            countersigned: Countersigned::default(),
        };
        log.append_opened(opening);
        log
    }

    /// Makes `entry` part of the log and returns its index. Not on disk before
    /// [`commit`](Self::commit).
    pub fn append(&mut self, entry: Entry) -> u64 {
        self.note_gap(entry.timestamp);
        self.push(entry)
    }

    fn push(&mut self, mut entry: Entry) -> u64 {
        let index = self.len();
        let start = self.pending.len();
        let prev_hash = &self.chain.last_hash;
        entry.write_bounded(&self.owner, index, prev_hash, &mut self.pending);
        self.chain.push(&self.pending[start..]);
        self.fresh.push(self.chain.last_hash);
        self.pending.push(b'\n');
        if self.disk.is_none() {
            self.pending.clear();
        }
        index
    }

    /// Writes everything appended since the last commit. To be called before what the entries
    /// witness is transmitted or delivered.
    ///
    /// All or nothing: after a failure the file is as it was, the entries are kept, and the next
    /// commit writes them first, so none is lost or doubled.
    ///
    /// # Errors
    /// [`WriteError`], which says what to do.
    pub fn commit(&mut self) -> Result<(), WriteError> {
        if let Some(disk) = &mut self.disk {
            disk.append(&self.pending)?;
        }
        self.committed.set(&self.chain);
        self.fresh.drain(..).for_each(|leaf| self.marks.push(leaf));
        self.pending.clear();
        self.pending.shrink_to(KEPT_BUFFER);
        if self.gap.is_noted {
            self.gap = Gap::default();
        }
        Ok(())
    }

    /// Gives the entries of a failed commit up, so that memory stays bounded while the disk is
    /// full: they are counted. The log stands where it was at the last commit, and before the
    /// next entry it will have a `log_reopened` that says how many are missing.
    pub fn give_up(&mut self) {
        let lost = self.len() - self.committed_len();
        // What would have told of the entries that were lost before is none itself.
        self.gap.entries += lost - u64::from(self.gap.is_noted);
        self.gap.is_noted = false;
        self.chain.set(&self.committed);
        self.fresh.clear();
        self.pending.clear();
        self.pending.shrink_to(KEPT_BUFFER);
        if let Some(disk) = &mut self.disk {
            disk.give_up();
        }
    }

    /// How many entries were given up since the log last said so; zero unless there is trouble.
    pub fn unwitnessed(&self) -> u64 {
        self.gap.entries
    }

    /// Appends a `log_reopened` if entries were given up and the log does not say so yet.
    /// [`append`](Self::append) does so too; this is for trying again while nothing happens.
    pub fn note_gap(&mut self, now: Timestamp) {
        if self.gap.entries > 0 && !self.gap.is_noted {
            self.gap.is_noted = true;
            self.append_reopened("unwitnessed", self.gap.entries, now);
        }
    }

    /// What is committed now, to be secured and signed while the log goes on.
    pub fn committed(&self) -> Committed {
        Committed {
            origin: self.origin.clone(),
            tree: self.committed.tree.clone(),
            folder: self.folder(),
        }
    }

    /// Marks what is committed now, so that a proof from here is at hand later; of the earlier
    /// marks those of `sizes` are kept.
    pub fn mark(&mut self, sizes: &BTreeSet<u64>) {
        self.marks.keep(sizes);
        self.marks.set(&self.committed.tree);
    }

    /// How what is committed continues the log of `size` entries, if that was marked.
    pub fn continuation(&self, size: u64) -> Option<Continuation> {
        self.marks.continuation(size)
    }

    /// The newest checkpoint of each other log that this one says its owner has countersigned, as
    /// it was read when the log was opened: origin and note.
    pub fn countersigned(&self) -> impl Iterator<Item = (&str, &str)> {
        self.countersigned.notes()
    }

    /// How many entries are committed.
    pub fn committed_len(&self) -> u64 {
        self.committed.tree.size()
    }

    /// The files of the log, for a thread that may wait; none in memory.
    pub fn folder(&self) -> Option<LogFolder> {
        self.disk.as_ref().map(|disk| disk.folder().clone())
    }

    /// Commits, and waits until the disk has everything, as far as the log waits at all.
    ///
    /// # Errors
    /// [`WriteError`]; entries of a commit that failed are lost then.
    pub fn close(mut self) -> Result<Summary, WriteError> {
        self.commit()?;
        self.committed().secure()?;
        Ok(self.summary())
    }

    /// As [`close`](Self::close), with a last checkpoint, signed with the log's key.
    ///
    /// # Errors
    /// [`WriteError`].
    pub fn close_signed(mut self, key: &KeyPair) -> Result<Summary, WriteError> {
        self.commit()?;
        self.committed().secure()?.checkpoint(key)?;
        Ok(self.summary())
    }

    fn summary(&self) -> Summary {
        Summary {
            entries: self.len(),
            root: self.root(),
            last_hash: self.last_hash(),
            path: self.path().map(Path::to_owned),
            unwitnessed: self.gap.entries,
        }
    }

    /// How many entries there are, committed or not.
    #[allow(
        clippy::len_without_is_empty,
        reason = "a log begins with an entry and is never empty"
    )]
    pub fn len(&self) -> u64 {
        self.chain.tree.size()
    }

    /// The tree head over all entries, committed or not (RFC 6962, section 2.1).
    pub fn root(&self) -> [u8; 32] {
        self.chain.tree.root()
    }

    /// The leaf hash of the last entry.
    pub fn last_hash(&self) -> [u8; 32] {
        self.chain.last_hash
    }

    /// Bytes of the entries that are committed; 0 in memory.
    pub fn bytes(&self) -> u64 {
        self.disk.as_ref().map_or(0, Disk::good_bytes)
    }

    /// The file, unless the log is in memory.
    pub fn path(&self) -> Option<&Path> {
        self.disk.as_ref().map(Disk::path)
    }

    /// How many bytes of a torn last line were cut off when the log was opened.
    pub fn dropped_bytes(&self) -> u64 {
        self.dropped_bytes
    }

    fn append_opened(&mut self, opening: Opening<'_>) {
        let entry = Entry::new(Event::LogOpened, opening.now).metadata(json!({
            "origin": self.origin,
            "public_key": opening.public_key,
            "swarm": opening.swarm,
            "version": FORMAT_VERSION,
        }));
        self.push(entry);
    }

    /// Says that the log goes on, and how much `what` it lacks, if any.
    fn append_reopened(&mut self, what: &str, count: u64, now: Timestamp) {
        let mut entry = Entry::new(Event::LogReopened, now);
        if count > 0 {
            entry = entry.metadata(json!({ what: count }));
        }
        self.push(entry);
    }

    #[cfg(test)]
    pub(super) fn on_sink(opening: Opening<'_>, sink: Box<dyn super::disk::Sink>) -> Self {
        let mut log = Self::in_memory(opening);
        log.chain = Chain::default();
        let folder = LogFolder::of_sink(Path::new(""), sink, opening.sync);
        log.disk = Some(Disk::new(folder, 0));
        log.append_opened(opening);
        log
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log")
            .field("owner", &self.owner)
            .field("entries", &self.len())
            .field("path", &self.path())
            .finish_non_exhaustive()
    }
}

/// Whether the log that was read, if there was one, is the one that its last checkpoint was
/// signed for; how many entries that covers. `noted` is the tree head over as many.
fn must_hold(
    signed: Option<Result<SignedCheckpoint, CheckpointError>>,
    noted: Option<[u8; 32]>,
    chain: Option<&Chain>,
) -> Result<u64, CheckpointFlaw> {
    let Some(signed) = signed.transpose()? else {
        return Ok(0);
    };
    let &Checkpoint { size, root, .. } = signed.checkpoint();
    match noted {
        Some(found) if found == root => Ok(size),
        Some(_) => Err(CheckpointFlaw::Mismatch { size }),
        None => Err(CheckpointFlaw::Truncated {
            signed: size,
            found: chain.map_or(0, |chain| chain.tree.size()),
        }),
    }
}

/// A buffer that one large batch made larger is given back.
const KEPT_BUFFER: usize = 256 * 1024;
