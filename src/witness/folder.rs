//! The folder of a log: made, locked, opened; and its files, for a thread that may wait.
//!
//! | file | is written |
//! |---|---|
//! | `entries.jsonl` | by `disk`, at its end |
//! | `checkpoint`, `cosignatures/PEER` | here, each in one step: a reader finds the old one or the new one |
//! | `lock` | once, with the number of the process that has the log open |

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::disk::{Disk, ENTRIES_FILE, Sink};
use super::lock::{LockFault, lock_folder};
use super::note::MAX_NOTE;
use super::{OpenError, SignedCheckpoint, SyncPolicy, WriteError};
use crate::identity::{AgentId, file_name};

/// The file of a log's folder that holds its newest checkpoint.
pub const CHECKPOINT_FILE: &str = "checkpoint";
/// The folder in a log's folder that holds its newest cosignatures, one file per peer.
pub const COSIGNATURES_FOLDER: &str = "cosignatures";

/// A folder that is ours alone, and its file.
pub(super) struct Folder {
    path: PathBuf,
    pub(super) entries: PathBuf,
    pub(super) file: File,
    lock: File,
    /// Folders that have a new name in them.
    changed: Vec<PathBuf>,
}

/// The files of an open log, for whoever waits for the disk, so that the one who appends does not
/// have to. The log stays locked until the last of these is dropped.
#[derive(Debug, Clone)]
pub struct LogFolder(Arc<Files>);

#[derive(Debug)]
struct Files {
    path: PathBuf,
    entries: PathBuf,
    sink: Box<dyn Sink>,
    policy: SyncPolicy,
    /// Folders whose new names are not on disk yet: without them the entries cannot be found.
    changed: Mutex<Vec<PathBuf>>,
    /// How many entries the newest checkpoint covers. Held while a file is replaced.
    covered: Mutex<u64>,
    _lock: Option<File>,
}

impl Folder {
    /// Makes the folder (0700) where it is missing, locks it, and opens its file (0600).
    pub(super) fn open(folder: &Path) -> Result<Self, OpenError> {
        let io = |path: &Path| {
            let path = path.to_owned();
            |source| OpenError::Io { path, source }
        };
        let missing: Vec<_> = folder
            .ancestors()
            .take_while(|path| !path.exists())
            .collect();
        let parents = missing.iter().filter_map(|path| path.parent());
        let mut changed: Vec<_> = parents.map(or_here).collect();
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(io(folder))?;
        let lock = lock_folder(folder).map_err(|fault| match fault {
            LockFault::Io { path, source } => OpenError::Io { path, source },
            LockFault::Held { holder } => OpenError::Locked {
                path: folder.into(),
                holder,
            },
        })?;
        let entries = folder.join(ENTRIES_FILE);
        if !entries.exists() {
            changed.push(folder.into());
        }
        let file = open_file(&entries).map_err(io(&entries))?;
        if !file.metadata().map_err(io(&entries))?.is_file() {
            return Err(io(&entries)(io::Error::other("not a regular file")));
        }
        Ok(Self {
            path: folder.into(),
            entries,
            file,
            lock,
            changed,
        })
    }

    /// Where the newest checkpoint stands.
    pub(super) fn checkpoint(&self) -> PathBuf {
        self.path.join(CHECKPOINT_FILE)
    }

    /// The newest checkpoint, not verified; none before the first.
    pub(super) fn read_checkpoint(&self) -> Result<Option<Vec<u8>>, OpenError> {
        let path = self.checkpoint();
        // One byte more than a note: the proof that it is too long.
        let limit = MAX_NOTE as u64 + 1;
        let read = File::open(&path).and_then(|file| {
            let mut note = Vec::new();
            file.take(limit).read_to_end(&mut note)?;
            Ok(note)
        });
        match read {
            Ok(note) => Ok(Some(note)),
            Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(OpenError::Io { path, source }),
        }
    }

    /// Goes on after the first `good_bytes`; what follows them is cut off. `covered` are the
    /// entries that the newest checkpoint covers.
    pub(super) fn into_disk(
        self,
        good_bytes: u64,
        torn_bytes: u64,
        covered: u64,
        policy: SyncPolicy,
    ) -> Result<Disk, OpenError> {
        if torn_bytes > 0 {
            self.file
                .truncate(good_bytes)
                .map_err(|source| OpenError::Io {
                    path: self.entries.clone(),
                    source,
                })?;
        }
        let files = Files {
            path: self.path,
            entries: self.entries,
            sink: Box::new(self.file),
            policy,
            changed: Mutex::new(self.changed),
            covered: Mutex::new(covered),
            _lock: Some(self.lock),
        };
        Ok(Disk::new(LogFolder(Arc::new(files)), good_bytes))
    }
}

impl LogFolder {
    #[cfg(test)]
    pub(super) fn of_sink(path: &Path, sink: Box<dyn Sink>, policy: SyncPolicy) -> Self {
        Self(Arc::new(Files {
            path: path.into(),
            entries: path.join(ENTRIES_FILE),
            sink,
            policy,
            changed: Mutex::default(),
            covered: Mutex::new(0),
            _lock: None,
        }))
    }

    pub(super) fn sink(&self) -> &dyn Sink {
        &*self.0.sink
    }

    /// The file of the entries.
    pub fn entries(&self) -> &Path {
        &self.0.entries
    }

    /// Waits until the disk has all entries that were committed before, unless the log never waits.
    pub(super) fn sync(&self) -> Result<(), WriteError> {
        if self.0.policy == SyncPolicy::Never {
            return Ok(());
        }
        let failed = |path: &Path| {
            let path = path.to_owned();
            |source| WriteError::Sync { path, source }
        };
        self.sink().sync().map_err(failed(self.entries()))?;
        let mut changed = held(&self.0.changed);
        for folder in &*changed {
            sync_folder(folder).map_err(failed(folder))?;
        }
        changed.clear();
        Ok(())
    }

    /// Makes `checkpoint` the newest one, unless there is one over as many entries.
    pub(super) fn write_checkpoint(&self, checkpoint: &SignedCheckpoint) -> Result<(), WriteError> {
        let mut covered = held(&self.0.covered);
        let size = checkpoint.checkpoint().size;
        if size > *covered {
            let note = checkpoint.note().to_string();
            self.replace(&self.0.path.join(CHECKPOINT_FILE), &note)?;
            *covered = size;
        }
        Ok(())
    }

    /// Makes `checkpoint` the newest one that `peer` has countersigned. Blocks.
    ///
    /// # Errors
    /// [`WriteError::Replace`]; the one before still stands.
    pub fn write_cosignature(
        &self,
        peer: &AgentId,
        checkpoint: &SignedCheckpoint,
    ) -> Result<(), WriteError> {
        let _one_at_a_time = held(&self.0.covered);
        let folder = self.0.path.join(COSIGNATURES_FOLDER);
        let made = DirBuilder::new().mode(0o700).create(&folder);
        match made {
            Ok(()) => held(&self.0.changed).push(self.0.path.clone()),
            Err(err) if err.kind() == io::ErrorKind::AlreadyExists => {}
            Err(source) => {
                return Err(WriteError::Replace {
                    path: folder,
                    source,
                });
            }
        }
        let note = checkpoint.note().to_string();
        self.replace(&folder.join(file_name(peer.as_str())), &note)
    }

    /// The newest checkpoint that each peer has countersigned, by file and not verified. What cannot
    /// be read is left out: it will be replaced.
    pub fn cosignatures(&self) -> Vec<String> {
        let Ok(files) = fs::read_dir(self.0.path.join(COSIGNATURES_FOLDER)) else {
            return Vec::new();
        };
        let notes = files.take(MAX_COSIGNATURES).filter_map(|file| {
            let mut note = String::new();
            let limit = MAX_NOTE as u64 + 1;
            let file = File::open(file.ok()?.path()).ok()?;
            file.take(limit).read_to_string(&mut note).ok()?;
            Some(note)
        });
        notes.collect()
    }

    /// Writes a new file beside the log, and puts it in the place of the old one.
    fn replace(&self, target: &Path, text: &str) -> Result<(), WriteError> {
        // No peer's file can be mistaken for it: those have a folder of their own.
        let new = self.0.path.join(NEW_FILE);
        let waits = self.0.policy != SyncPolicy::Never;
        let replaced = write_new(&new, text, waits).and_then(|()| {
            fs::rename(&new, target)?;
            let folder = target.parent().map(or_here).filter(|_| waits);
            folder.map_or(Ok(()), |folder| sync_folder(&folder))
        });
        replaced.map_err(|source| {
            // A part of it only takes room where there is none.
            let _ = fs::remove_file(&new);
            let path = target.to_owned();
            WriteError::Replace { path, source }
        })
    }
}

fn write_new(path: &Path, text: &str, waits: bool) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = options.open(path)?;
    file.write_all(text.as_bytes())?;
    if waits {
        // Before it has its name: after a power loss the name must not stand for an empty file.
        file.sync_all()?;
    }
    Ok(())
}

/// Waits until the disk has the names in `folder`.
fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// The parent of a relative path of one name is the empty path, which cannot be opened.
fn or_here(folder: &Path) -> PathBuf {
    match folder.as_os_str().is_empty() {
        true => ".".into(),
        false => folder.into(),
    }
}

/// What is behind the locks here is good after a panic too.
fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn open_file(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    options.mode(0o600).open(path)
}

/// Peers whose cosignatures are read: several times those of the largest swarm.
const MAX_COSIGNATURES: usize = 4_096;
/// What will be a checkpoint or a cosignature once it is whole.
const NEW_FILE: &str = "new";
