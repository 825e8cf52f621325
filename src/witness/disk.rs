//! The log on disk: its folder, its lock and its file.
//!
//! A log has one writer at a time, so the file is written at known offsets: bytes that were
//! written twice after a failure are the same bytes at the same place.

use std::fmt::Debug;
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::Flaw;

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

/// Entries could not be written. They are kept, and the next commit writes them first.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// There is no room: the disk or the quota is full, or the file as large as it may be.
    #[error("{path}: {source}; make room, then try again: {pending} bytes of entries wait, and nothing is sent unwitnessed", path = .path.display())]
    Full {
        /// The file.
        path: PathBuf,
        /// How many bytes wait.
        pending: usize,
        /// What the operating system said.
        source: io::Error,
    },
    /// Any other failure.
    #[error("{path}: {source}; {pending} bytes of entries wait, and nothing is sent unwitnessed", path = .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// How many bytes wait.
        pending: usize,
        /// What the operating system said.
        source: io::Error,
    },
}

/// Where entries go. A file, or in tests something that fails.
pub(super) trait Sink: Debug + Send + Sync {
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<usize>;
    fn truncate(&mut self, length: u64) -> io::Result<()>;
    fn sync(&mut self) -> io::Result<()>;
}

/// A sink, and how far it is good.
#[derive(Debug)]
pub(super) struct Disk {
    sink: Box<dyn Sink>,
    path: PathBuf,
    /// Length of all committed lines.
    good_bytes: u64,
    /// Held as long as the log is open.
    _lock: Option<File>,
}

/// A folder that is ours alone, and its file.
pub(super) struct Folder {
    pub(super) path: PathBuf,
    pub(super) file: File,
    lock: File,
}

impl Sink for File {
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        FileExt::write_at(self, bytes, offset)
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        self.set_len(length)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_all()
    }
}

impl Folder {
    /// Makes the folder (0700) where it is missing, locks it, and opens its file (0600).
    pub(super) fn open(folder: &Path) -> Result<Self, OpenError> {
        let io = |path: &Path| {
            let path = path.to_owned();
            |source| OpenError::Io { path, source }
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(io(folder))?;
        let lock = lock(folder)?;
        let path = folder.join(ENTRIES_FILE);
        let file = open_file(&path).map_err(io(&path))?;
        if !file.metadata().map_err(io(&path))?.is_file() {
            return Err(io(&path)(io::Error::other("not a regular file")));
        }
        Ok(Self { path, file, lock })
    }

    /// Goes on after the first `good_bytes`; what follows them is cut off.
    pub(super) fn into_disk(mut self, good_bytes: u64, torn_bytes: u64) -> Result<Disk, OpenError> {
        if torn_bytes > 0 {
            self.file
                .truncate(good_bytes)
                .map_err(|source| OpenError::Io {
                    path: self.path.clone(),
                    source,
                })?;
        }
        Ok(Disk {
            sink: Box::new(self.file),
            path: self.path,
            good_bytes,
            _lock: Some(self.lock),
        })
    }
}

impl Disk {
    #[cfg(test)]
    pub(super) fn of_sink(sink: Box<dyn Sink>) -> Self {
        Self {
            sink,
            path: "entries.jsonl".into(),
            good_bytes: 0,
            _lock: None,
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes `lines` after what is there, in one `write` unless the system takes less. On
    /// failure the file is cut back to what it was, so that it holds nothing whose commit failed.
    pub(super) fn append(&mut self, lines: &[u8]) -> Result<(), WriteError> {
        let mut rest = lines;
        while !rest.is_empty() {
            let offset = self.good_bytes + (lines.len() - rest.len()) as u64;
            match self.sink.write_at(rest, offset) {
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

    pub(super) fn sync(&mut self) -> Result<(), WriteError> {
        self.sink.sync().map_err(|err| self.error(0, err))
    }

    fn undo(&mut self, pending: usize, err: io::Error) -> WriteError {
        // Should this fail too: the same bytes are written to the same place next time, and a
        // process that dies before leaves a beginning of them, as a killed write would.
        let _ = self.sink.truncate(self.good_bytes);
        self.error(pending, err)
    }

    fn error(&self, pending: usize, source: io::Error) -> WriteError {
        use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull, WriteZero};
        let path = self.path.clone();
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

/// An advisory lock, in a file of its own that names the holder. It ends with the process.
fn lock(folder: &Path) -> Result<File, OpenError> {
    let path = folder.join(LOCK_FILE);
    let io = |source| OpenError::Io {
        path: path.clone(),
        source,
    };
    let mut file = open_file(&path).map_err(io)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::Error(err)) => return Err(io(err)),
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            // Empty in the moment between locking and writing.
            let _ = file.take(MAX_PID).read_to_string(&mut pid);
            let holder = match pid.trim().parse::<u32>() {
                Ok(pid) => format!("process {pid}"),
                Err(_) => "another process".into(),
            };
            return Err(OpenError::Locked {
                path: folder.into(),
                holder,
            });
        }
    }
    file.set_len(0).map_err(io)?;
    // On a full disk the name is missing, and the lock holds all the same.
    let _ = writeln!(file, "{}", std::process::id());
    Ok(file)
}

fn open_file(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    options.mode(0o600).open(path)
}

const LOCK_FILE: &str = "lock";
/// A process id has at most ten digits.
const MAX_PID: u64 = 16;
