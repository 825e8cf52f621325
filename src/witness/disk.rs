//! The entries on disk, and what can go wrong with them.
//!
//! A log has one writer at a time, so the file is written at known offsets: bytes that were
//! written twice after a failure are the same bytes at the same place.

use std::fmt::Debug;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::folder::LogFolder;
use super::{CheckpointError, Flaw};

/// The file of a log's folder that holds its entries.
pub const ENTRIES_FILE: &str = "entries.jsonl";

/// Why a log could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The folder or file could not be made, read or written.
    #[error("{path}: {source}; choose a witness folder that this user can write to", path = .path.display())]
    Io {
        /// The folder or file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// Another process, or another agent of this one, writes to the log.
    #[error("{path} is being written by {holder}: a log has one writer; end that one, or choose another witness folder", path = .path.display())]
    Locked {
        /// The folder of the log.
        path: PathBuf,
        /// `process 1234`.
        holder: String,
    },
    /// The log is not what was once written. It is never repaired.
    #[error("{path}: {flaw}; nothing was changed: keep the folder as evidence, and move it away to begin a new log", path = .path.display())]
    Flawed {
        /// The file.
        path: PathBuf,
        /// The first thing wrong with it.
        flaw: Flaw,
    },
    /// The log is not the one that its last checkpoint was signed for. It is never repaired.
    #[error("{path}: {flaw}; nothing was changed: keep the folder as evidence, and move it away to begin a new log", path = .path.display())]
    Checkpoint {
        /// The file of the checkpoint.
        path: PathBuf,
        /// What is wrong.
        flaw: CheckpointFlaw,
    },
    /// The log is another's: it was opened for another key, agent or swarm.
    #[error("{path} was opened for {what} {found}, not {expected}: go on with that {what}, or choose another witness folder", path = .path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// `key`, `agent` or `swarm`.
        what: &'static str,
        /// What the log says.
        found: String,
        /// What it was to be opened for.
        expected: String,
    },
    /// The log is good, but its next entries could not be written.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// How a log and its last checkpoint disagree.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointFlaw {
    /// Entries are missing at the end.
    #[error("truncated: the checkpoint covers {signed} entries, and {found} are there")]
    Truncated {
        /// How many there were.
        signed: u64,
        /// How many there are.
        found: u64,
    },
    /// Entries are others than those that were signed.
    #[error(
        "checkpoint-mismatch: the first {size} entries are not those that the checkpoint covers"
    )]
    Mismatch {
        /// How many the checkpoint covers.
        size: u64,
    },
    /// It is no checkpoint of this log.
    #[error(transparent)]
    Unreadable(#[from] CheckpointError),
}

/// The disk did not take something.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// There is no room: the disk or the quota is full, or the file as large as it may be. The
    /// entries are kept, and the next commit writes them first.
    #[error("{path}: {source}; make room, then try again: {pending} bytes of entries wait", path = .path.display())]
    Full {
        /// The file.
        path: PathBuf,
        /// How many bytes wait.
        pending: usize,
        /// What the operating system said.
        source: io::Error,
    },
    /// Any other failure to write entries, which are kept likewise.
    #[error("{path}: {source}; {pending} bytes of entries wait", path = .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// How many bytes wait.
        pending: usize,
        /// What the operating system said.
        source: io::Error,
    },
    /// The entries are written, but the system could not bring them to the disk. After this
    /// nobody knows which of them are there, whatever a later attempt says.
    #[error("{path}: {source}; the disk has not confirmed what was written last: check it, then open the log again to see what is there", path = .path.display())]
    Sync {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// A checkpoint or cosignature could not be replaced; the one before still stands.
    #[error("{path}: {source}; make room, and see that this user can write to the folder", path = .path.display())]
    Replace {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
}

/// Where entries go. A file, or in tests something that fails.
pub(super) trait Sink: Debug + Send + Sync {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize>;
    fn truncate(&self, length: u64) -> io::Result<()>;
    fn sync(&self) -> io::Result<()>;
}

/// The entries of an open log, and how far they are good.
#[derive(Debug)]
pub(super) struct Disk {
    folder: LogFolder,
    /// Length of all committed lines.
    good_bytes: u64,
    /// Bytes of another commit may stand after them: cutting them off has failed.
    leftovers: bool,
}

impl Sink for File {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        FileExt::write_at(self, bytes, offset)
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        self.set_len(length)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
}

impl Disk {
    pub(super) fn new(folder: LogFolder, good_bytes: u64) -> Self {
        Self {
            folder,
            good_bytes,
            leftovers: false,
        }
    }

    pub(super) fn folder(&self) -> &LogFolder {
        &self.folder
    }

    pub(super) fn good_bytes(&self) -> u64 {
        self.good_bytes
    }

    pub(super) fn path(&self) -> &Path {
        self.folder.entries()
    }

    /// Writes `lines` after what is there, in one `write` unless the system takes less. On
    /// failure the file is cut back to what it was, so that it holds nothing whose commit failed.
    pub(super) fn append(&mut self, lines: &[u8]) -> Result<(), WriteError> {
        if self.leftovers {
            self.cut_back()
                .map_err(|err| self.error(lines.len(), err))?;
            self.leftovers = false;
        }
        let mut rest = lines;
        while !rest.is_empty() {
            let offset = self.good_bytes + (lines.len() - rest.len()) as u64;
            match self.folder.sink().write_at(rest, offset) {
                Ok(0) => return Err(self.undo(lines.len(), io::ErrorKind::WriteZero.into())),
                // After a short write the next one goes through, or says what is wrong.
                Ok(written) => rest = &rest[written..],
                Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
                Err(err) => return Err(self.undo(lines.len(), err)),
            }
        }
        self.good_bytes += lines.len() as u64;
        Ok(())
    }

    /// The lines whose commit failed will not come again, but others in their place.
    pub(super) fn give_up(&mut self) {
        self.leftovers = self.cut_back().is_err();
    }

    fn undo(&self, pending: usize, err: io::Error) -> WriteError {
        // Should this fail too: the same bytes are written to the same place next time, and a
        // process that dies before leaves a beginning of them, as a killed write would.
        let _ = self.cut_back();
        self.error(pending, err)
    }

    fn cut_back(&self) -> io::Result<()> {
        self.folder.sink().truncate(self.good_bytes)
    }

    fn error(&self, pending: usize, source: io::Error) -> WriteError {
        use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull, WriteZero};
        let path = self.path().to_owned();
        match source.kind() {
            FileTooLarge | QuotaExceeded | StorageFull | WriteZero => WriteError::Full {
                path,
                pending,
                source,
            },
            _ => WriteError::Io {
                path,
                pending,
                source,
            },
        }
    }
}
