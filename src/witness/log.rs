//! The log that one agent or signaling server keeps: open, append, commit.
//!
//! 1. [`Log::append`] makes the entry part of the chain and the tree; nothing is on disk yet.
//! 2. [`Log::commit`] writes everything appended since the last commit, in one `write`.
//! 3. Only then may what the entries witness be transmitted or delivered.
//!
//! So many entries cost one system call, and none is ever missing for what went out.

use std::fmt;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::check::{Chain, Checker, READ_BUFFER, ReadError};
use super::disk::{Disk, Folder};
use super::opening::{FORMAT_VERSION, Opening, origin};
use super::{Entry, Event, OpenError, WriteError};
use crate::identity::file_name;
use crate::message::Timestamp;

/// An append-only log: a hash chain of entries under a Merkle tree.
pub struct Log {
    /// As it stands in `agent_id` of every entry.
    owner: String,
    chain: Chain,
    /// Lines that are not on disk yet. Grows while commits fail: a caller whose commit fails
    /// must stop what it witnesses.
    pending: Vec<u8>,
    /// None in memory.
    disk: Option<Disk>,
    dropped_bytes: u64,
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
}

impl Log {
    /// Opens the log `root/SWARM/AGENT`, or goes on with it: reads it all, cuts off a torn last
    /// line, and commits `log_opened` or `log_reopened`. Folders are made where missing (0700).
    ///
    /// # Errors
    /// [`OpenError`]. A log with a broken chain, of another key, or in use is left as it is.
    pub fn open(root: &Path, opening: Opening<'_>) -> Result<Self, OpenError> {
        let owner = opening.agent_id.as_str();
        let folder = root
            .join(file_name(opening.swarm.as_str()))
            .join(file_name(owner));
        let folder = Folder::open(&folder)?;

        let mut checker = Checker::default();
        let mut reader = BufReader::with_capacity(READ_BUFFER, &folder.file);
        let path = || folder.path.clone();
        let tail = checker.read(&mut reader).map_err(|err| match err {
            ReadError::Io(source) => OpenError::Io {
                path: path(),
                source,
            },
            ReadError::Flawed(flaw) => OpenError::Flawed { path: path(), flaw },
        })?;
        let read = checker.into_parts();
        if let Some((opened, _)) = &read {
            opening.must_match(opened, &folder.path)?;
        }

        let mut log = Self {
            owner: owner.into(),
            chain: Chain::default(),
            pending: Vec::new(),
            disk: Some(folder.into_disk(tail.good_bytes, tail.torn_bytes)?),
            dropped_bytes: tail.torn_bytes,
        };
        let is_new = read.is_none();
        match read {
            Some((_, chain)) => log.chain = chain,
            None => log.append_opened(opening),
        }
        // A first line that was torn leaves a log that is new and yet lost something.
        if !is_new || log.dropped_bytes > 0 {
            log.append_reopened(opening.now);
        }
        log.commit()?;
        Ok(log)
    }

    /// The same chain and tree without a file: keeps no lines, so its memory is constant.
    pub fn in_memory(opening: Opening<'_>) -> Self {
        let mut log = Self {
            owner: opening.agent_id.as_str().into(),
            chain: Chain::default(),
            pending: Vec::new(),
            disk: None,
            dropped_bytes: 0,
        };
        log.append_opened(opening);
        log
    }

    /// Makes `entry` part of the log and returns its index. Not on disk before
    /// [`commit`](Self::commit).
    pub fn append(&mut self, mut entry: Entry) -> u64 {
        let index = self.len();
        let start = self.pending.len();
        let prev_hash = &self.chain.last_hash;
        entry.write_bounded(&self.owner, index, prev_hash, &mut self.pending);
        self.chain.push(&self.pending[start..]);
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
        self.pending.clear();
        self.pending.shrink_to(KEPT_BUFFER);
        Ok(())
    }

    /// Commits, and waits until the disk has everything.
    ///
    /// # Errors
    /// [`WriteError`]; entries of a commit that failed are lost then.
    pub fn close(mut self) -> Result<Summary, WriteError> {
        self.commit()?;
        if let Some(disk) = &mut self.disk {
            disk.sync()?;
        }
        Ok(Summary {
            entries: self.len(),
            root: self.root(),
            last_hash: self.last_hash(),
            path: self.path().map(Path::to_owned),
        })
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
            "origin": origin(opening.swarm, &self.owner),
            "public_key": opening.public_key,
            "swarm": opening.swarm,
            "version": FORMAT_VERSION,
        }));
        self.append(entry);
    }

    fn append_reopened(&mut self, now: Timestamp) {
        let mut entry = Entry::new(Event::LogReopened, now);
        if self.dropped_bytes > 0 {
            entry = entry.metadata(json!({ "dropped_bytes": self.dropped_bytes }));
        }
        self.append(entry);
    }

    #[cfg(test)]
    pub(super) fn on_sink(opening: Opening<'_>, sink: Box<dyn super::disk::Sink>) -> Self {
        let mut log = Self::in_memory(opening);
        log.chain = Chain::default();
        log.disk = Some(Disk::of_sink(sink));
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

/// A buffer that one large batch made larger is given back.
const KEPT_BUFFER: usize = 256 * 1024;
