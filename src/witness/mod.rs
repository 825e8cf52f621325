//! The witness: a log of everything that was offered, said and refused, which anyone can check offline.
//!
//! Implements `wire.md`, section *Witness log*: one canonical JSON line per entry, chained by
//! hash, under a Merkle tree as in RFC 6962. A changed, removed, inserted or reordered line is
//! found by [`check`]; whole lines missing at the end are not, until a checkpoint says how many
//! there were.
//!
//! | file | holds |
//! |---|---|
//! | `event` | what can happen |
//! | `entry` | one entry and its line |
//! | `tree` | the Merkle tree, as a compact range |
//! | `path` | inclusion and consistency proofs |
//! | `note`, `checkpoint` | signed notes, checkpoints and cosignatures of the C2SP |
//! | `check` | reading a log: the one judge of what is valid |
//! | `flaw` | what can be wrong with one |
//! | `disk` | folder, lock and file |
//! | `opening` | whose log it is |
//! | `log` | [`Log`]: open, append, commit |
//!
//! Never reads a clock. Only `disk` and [`check`] touch files. Checkpoints, cosignatures and
//! proofs will stand beside `tree`; they sign [`Log::root`].

mod check;
mod checkpoint;
#[cfg(test)]
mod crash_tests;
mod disk;
mod entry;
mod event;
mod flaw;
mod log;
mod note;
mod opening;
mod path;
#[cfg(test)]
mod tests;
mod tree;

pub use check::{CheckError, Report, check, check_reader};
pub use checkpoint::{Checkpoint, CheckpointError, NotCosigned, SignedCheckpoint, origin_of};
pub use disk::{ENTRIES_FILE, OpenError, WriteError};
pub use entry::Entry;
pub use event::{Event, UnknownEvent};
pub use flaw::{Flaw, Reason};
pub use log::{Log, Summary};
pub use note::{NoteError, NoteSignature, SignedNote};
pub use opening::{LogOwner, Opening};
pub use path::{BadProof, verify_consistency, verify_inclusion};
