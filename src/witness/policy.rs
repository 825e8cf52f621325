//! What a log promises of the disk, and what its writer does when the disk is full.
//!
//! What is lost, by the setting:
//!
//! | `witness.sync` | process killed | system crash, power loss |
//! |---|---|---|
//! | `always` | nothing that was transmitted or delivered | nothing that was transmitted or delivered |
//! | `batch` | nothing that was transmitted or delivered | entries after the last checkpoint: about one second |
//! | `never` | nothing that was transmitted or delivered | what the system had not written by itself: half a minute is usual, and checkpoints may cover some of it |

/// When a log waits for the disk. Entries are written to the file before what they witness
/// happens, whatever is chosen; this is about when the system has to have them on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum SyncPolicy {
    /// Before every checkpoint, so that none covers what is not on disk, and at the end.
    #[default]
    Batch,
    /// Before anything is transmitted or delivered; one wait serves all that happened before it.
    Always,
    /// Not at all. After a power loss a log may be shorter than its checkpoint, and then it does
    /// not open again.
    Never,
}

/// What an agent or a server does when entries cannot be written, because the disk is full say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum OnWriteError {
    /// It ends, with an error. Nothing is sent unwitnessed.
    #[default]
    Stop,
    /// It goes on without a witness. Entries are counted and not kept; as soon as one can be
    /// written again, the log says how many are missing.
    Continue,
}
