//! Why a journal could not be opened or written.

use std::io;
use std::path::{Path, PathBuf};

/// Why a journal could not be opened or written.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The folder or file could not be made, read or written.
    #[error("{path}: {source}; make room, or choose an outbox folder that this user can write to", path = .path.display())]
    Io {
        /// The folder or file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// A write has failed, and what it had written all the same could not be taken back: of what
    /// was refused with this error, the first part may count as done for whoever opens the journal
    /// again.
    #[error("{path}: {source}; what was written before that stays in it, since it cannot be cut off: {undoing}; make room, or choose an outbox folder that this user can write to; messages that were refused last may go out when the agent is back", path = .path.display())]
    HalfWritten {
        /// The file.
        path: PathBuf,
        /// Why the write failed.
        source: io::Error,
        /// Why it could not be taken back.
        undoing: io::Error,
    },
    /// Another process, or another agent of this one, has it open.
    #[error("{path} is in use by {holder}: an outbox has one agent; end that one, or choose another outbox folder", path = .path.display())]
    Locked {
        /// The folder.
        path: PathBuf,
        /// `process 1234`.
        holder: String,
    },
    /// A line is not what was once written.
    #[error("{path}:{line}: {detail}; nothing was changed: move the folder away to begin anew, and what is kept in it is lost", path = .path.display())]
    Flawed {
        /// The file.
        path: PathBuf,
        /// Its line, from 1.
        line: usize,
        /// What was found, and what was expected.
        detail: String,
    },
    /// It is another's.
    #[error("{path} was opened for {what} {found}, not {expected}: go on with that {what}, or choose another outbox folder", path = .path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// `key`, `agent` or `swarm`.
        what: &'static str,
        /// What it says.
        found: String,
        /// What it was to be opened for.
        expected: String,
    },
}

pub(super) fn io_at(path: &Path) -> impl Fn(io::Error) -> JournalError {
    let path = path.to_owned();
    move |source| JournalError::Io {
        path: path.clone(),
        source,
    }
}
