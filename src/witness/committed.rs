//! From what is written to what is signed: no checkpoint covers what is not on disk.
//!
//! 1. [`Log::committed`](super::Log::committed) takes the moment, in no time.
//! 2. [`Committed::secure`] waits for the disk, on a thread that may, while the log goes on.
//! 3. [`Secured::checkpoint`] signs what is there, and puts it in the place of the last one.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufReader};

use super::check::READ_BUFFER;
use super::marks::read_continuations;
use super::tree::Tree;
use super::{Checkpoint, Continuation, LogFolder, SignedCheckpoint, WriteError};
use crate::identity::KeyPair;

/// What a log had committed at one moment.
#[derive(Debug, Clone)]
pub struct Committed {
    pub(super) origin: String,
    pub(super) tree: Tree,
    /// None in memory.
    pub(super) folder: Option<LogFolder>,
}

/// What a log had committed at one moment, and has on disk, as far as its
/// [`SyncPolicy`](super::SyncPolicy) waits for that.
#[derive(Debug, Clone)]
pub struct Secured(Committed);

impl Committed {
    /// Waits for the disk. Blocks.
    ///
    /// # Errors
    /// [`WriteError::Sync`].
    pub fn secure(self) -> Result<Secured, WriteError> {
        if let Some(folder) = &self.folder {
            folder.sync()?;
        }
        Ok(Secured(self))
    }
}

impl Secured {
    /// How it continues the log at each of `sizes`, read from the file: for what has no mark. Sizes
    /// beyond it are left out; in memory there are none. Blocks for as long as reading the log takes.
    ///
    /// # Errors
    /// What the operating system said.
    pub fn continuations(&self, sizes: &BTreeSet<u64>) -> io::Result<Vec<Continuation>> {
        let Some(folder) = self.0.folder.as_ref().filter(|_| !sizes.is_empty()) else {
            return Ok(Vec::new());
        };
        let entries = BufReader::with_capacity(READ_BUFFER, File::open(folder.entries())?);
        read_continuations(entries, sizes, self.0.tree.size())
    }

    /// The files of the log; none in memory.
    pub fn folder(&self) -> Option<&LogFolder> {
        self.0.folder.as_ref()
    }

    /// How many entries these are.
    pub fn entries(&self) -> u64 {
        self.0.tree.size()
    }

    /// Signs a checkpoint over them with the log's key, and makes it the newest one, unless one
    /// over as many entries stands there. Blocks.
    ///
    /// # Errors
    /// [`WriteError::Replace`]; the checkpoint before still stands.
    pub fn checkpoint(&self, key: &KeyPair) -> Result<SignedCheckpoint, WriteError> {
        let checkpoint = Checkpoint {
            origin: self.0.origin.clone(),
            size: self.entries(),
            root: self.0.tree.root(),
        };
        let signed = checkpoint.sign(key);
        if let Some(folder) = &self.0.folder {
            folder.write_checkpoint(&signed)?;
        }
        Ok(signed)
    }
}
