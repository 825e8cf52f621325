//! A journal that is rewritten while it is written: one that says the same in fewer lines takes its
//! place. What takes long, writing it and waiting for the disk, holds nobody up.
//!
//! | step | has the journal | |
//! |---|---|---|
//! | 1 | yes | [`Journal::due_rewrite`] takes down what the journal says |
//! | 2 | no | that is written to `new`, and synced |
//! | 3 | no | what was appended to the old file meanwhile is copied from it, and synced; again, until little is left |
//! | 4 | yes | the rest is copied; from now on lines are appended to both |
//! | 5 | no | `new` is synced, takes the place of the old file, and the folder is synced |
//! | 6 | yes | the old file is let go of |
//!
//! So whichever of the two has the name, it holds all that was appended, whenever the process ends;
//! and all that was synced, whenever the machine does.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::error::{JournalError, io_at};
use super::journal::{JOURNAL_FILE, Journal, NEW_FILE};
use super::state::State;

/// A journal that is to be rewritten. Until this is [run](Self::run) there is no other of it.
#[derive(Debug)]
pub struct Rewrite {
    pub(super) folder: PathBuf,
    /// The first line.
    pub(super) opened: Vec<u8>,
    pub(super) state: State,
    /// What `opened` and `state` were taken from, and how much of it.
    pub(super) old: Arc<File>,
    pub(super) covered: u64,
    pub(super) stop: Arc<AtomicBool>,
}

/// The file that will be the journal.
#[derive(Debug)]
pub(super) struct Next {
    folder: PathBuf,
    path: PathBuf,
    pub(super) file: Arc<File>,
    pub(super) length: u64,
    old: Arc<File>,
    /// How much of the old file it says.
    covered: u64,
    stop: Arc<AtomicBool>,
}

impl Rewrite {
    /// Rewrites it, beside whoever appends to it. Blocks. If the journal is told
    /// [to stop](Journal::stop_rewriting) this ends soon, and the journal stays as it is.
    ///
    /// # Errors
    /// [`JournalError::Io`]. The journal holds all that it held.
    pub fn run(self, journal: &Mutex<Journal>) -> Result<(), JournalError> {
        let (new, stop) = (self.folder.join(NEW_FILE), Arc::clone(&self.stop));
        let done = match self.follow(journal) {
            // From here on both are written, whatever happens: it may have the name.
            Ok(next) => next.take_the_place().map(|()| held(journal).go_on()),
            Err(err) => {
                // The disk may be full.
                let _ = fs::remove_file(&new);
                Err(err)
            }
        };
        match done {
            // Nobody wants it any more.
            Err(_) if stop.load(Ordering::Relaxed) => Ok(()),
            done => done,
        }
    }

    /// Steps 2 to 4.
    fn follow(self, journal: &Mutex<Journal>) -> Result<Next, JournalError> {
        let mut next = self.write()?;
        for _ in 0..MAX_ROUNDS {
            let until = held(journal).length();
            if next.lacks(until) <= LITTLE {
                break;
            }
            next.catch_up(until)?;
        }
        held(journal).follow_with(&mut next)?;
        Ok(next)
    }

    /// Step 2: writes what the journal said to a file of its own.
    pub(super) fn write(self) -> Result<Next, JournalError> {
        let path = self.folder.join(NEW_FILE);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true);
        let file = options.mode(0o600).open(&path).map_err(io_at(&path))?;
        let mut next = Next {
            folder: self.folder,
            path,
            file: Arc::new(file),
            length: 0,
            old: self.old,
            covered: self.covered,
            stop: self.stop,
        };
        let mut lines = self.opened;
        self.state.records(|record| {
            record.write(&mut lines);
            if lines.len() >= PIECE {
                next.put(&lines)?;
                lines.clear();
            }
            Ok(())
        })?;
        next.put(&lines)?;
        Ok(next)
    }
}

impl Next {
    /// Step 3: copies what was appended to the old file, up to this length of it.
    pub(super) fn catch_up(&mut self, until: u64) -> Result<(), JournalError> {
        while let Some(lines) = self.appended(until)? {
            self.put(&lines)?;
        }
        Ok(())
    }

    /// Step 4: copies the rest, and waits for nothing.
    pub(super) fn copy(&mut self, until: u64) -> Result<(), JournalError> {
        while let Some(lines) = self.appended(until)? {
            self.append(&lines)?;
        }
        Ok(())
    }

    /// Step 5.
    pub(super) fn take_the_place(&self) -> Result<(), JournalError> {
        self.sync()?;
        let path = self.folder.join(JOURNAL_FILE);
        fs::rename(&self.path, &path).map_err(io_at(&path))?;
        sync_folder(&self.folder)
    }

    fn lacks(&self, until: u64) -> u64 {
        until - self.covered
    }

    /// A piece of what was appended to the old file.
    fn appended(&mut self, until: u64) -> Result<Option<Vec<u8>>, JournalError> {
        let length = self.lacks(until).min(PIECE as u64);
        if length == 0 {
            return Ok(None);
        }
        let mut lines = vec![0; length as usize];
        let read = self.old.read_exact_at(&mut lines, self.covered);
        read.map_err(io_at(&self.folder.join(JOURNAL_FILE)))?;
        self.covered += length;
        Ok(Some(lines))
    }

    /// Appends a piece and waits for the disk.
    fn put(&mut self, lines: &[u8]) -> Result<(), JournalError> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(io_at(&self.path)(io::ErrorKind::Interrupted.into()));
        }
        self.append(lines)?;
        self.sync()
    }

    fn append(&mut self, lines: &[u8]) -> Result<(), JournalError> {
        (&*self.file).write_all(lines).map_err(io_at(&self.path))?;
        self.length += lines.len() as u64;
        Ok(())
    }

    fn sync(&self) -> Result<(), JournalError> {
        self.file.sync_data().map_err(io_at(&self.path))
    }
}

/// Waits until the disk has the names in a folder.
pub(super) fn sync_folder(folder: &Path) -> Result<(), JournalError> {
    let synced = File::open(folder).and_then(|folder| folder.sync_all());
    synced.map_err(io_at(folder))
}

/// The journal, for a moment.
fn held(journal: &Mutex<Journal>) -> MutexGuard<'_, Journal> {
    // It is consistent after a panic too: what is not written is written next.
    journal.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Bytes that are written before the disk is waited for: so an agent that ends waits for no more
/// than these, and whoever else waits for the disk gets a turn.
const PIECE: usize = 4 * 1024 * 1024;
/// Bytes that are copied while the journal is held: some ten microseconds.
const LITTLE: u64 = 64 * 1024;
/// How often what was appended meanwhile is copied. Each time takes as long as the disk needs for
/// what came the time before, so it is soon little; if the disk is no faster than what comes, then
/// no number of rounds helps.
const MAX_ROUNDS: usize = 8;
