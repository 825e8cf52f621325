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
//! | `check` | reading a log: the one judge of what is valid |
//! | `flaw` | what can be wrong with one |
//! | `disk` | folder, lock and file |
//! | `opening` | whose log it is |
//! | `log` | [`Log`]: open, append, commit |
//!
//! Never reads a clock. Only `disk` and [`check`] touch files. Checkpoints, cosignatures and
//! proofs will stand beside `tree`; they sign [`Log::root`].

mod check;
#[cfg(test)]
mod crash_tests;
mod disk;
mod entry;
mod event;
mod flaw;
mod log;
mod opening;
#[cfg(test)]
mod tests;
mod tree;

pub use check::{CheckError, Report, check, check_reader};
pub use disk::{ENTRIES_FILE, OpenError, WriteError};
pub use entry::Entry;
pub use event::{Event, UnknownEvent};
pub use flaw::{Flaw, Reason};
pub use log::{Log, Summary};
pub use opening::{LogOwner, Opening};
