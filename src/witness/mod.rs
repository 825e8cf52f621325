//! The witness: a log of everything that was offered, said and refused, which anyone can check offline.
//!
//! Implements `wire.md`, section *Witness log*: one canonical JSON line per entry, chained by
//! hash, under a Merkle tree as in RFC 6962. A changed, removed, inserted or reordered line is
//! found by [`check`]; whole lines missing at the end by [`audit`], once a checkpoint says how many
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
//! | `plain` | the quick way through lines that are right |
//! | `reader` | [`LogReader`]: a log, entry by entry |
//! | `vouched`, `audit` | checkpoints that are kept of a log, and holding it against them |
//! | `evidence` | the checkpoints that logs hold of each other |
//! | `proof_file`, `export` | what leaves the machine: one entry with its proof, a whole log |
//! | `flaw` | what can be wrong with one |
//! | `policy` | when the disk is waited for, and what happens when it is full |
//! | `folder` | the folder, its lock, and the files that are replaced whole |
//! | `disk` | the file of the entries |
//! | `committed` | from what is written to what is signed |
//! | `hash_text` | hashes of a proof in JSON |
//! | `marks` | proofs that a log continues what it was, made while it grows |
//! | `history` | what was seen of another's log, and whether what is shown next continues it |
//! | `countersigned` | what a log says its owner has countersigned |
//! | `opening` | whose log it is |
//! | `log` | [`Log`]: open, append, commit |
//!
//! Never reads a clock. Only `folder`, `disk` and those that read logs touch files.

mod audit;
#[cfg(test)]
mod audit_tests;
mod check;
mod checkpoint;
mod committed;
mod countersigned;
#[cfg(test)]
mod crash_tests;
mod disk;
#[cfg(test)]
mod durable_tests;
mod entry;
mod event;
mod evidence;
mod export;
mod flaw;
mod folder;
pub(crate) mod hash_text;
mod history;
mod lock;
mod log;
mod marks;
mod note;
mod opening;
mod path;
mod plain;
mod policy;
mod proof_file;
mod reader;
#[cfg(test)]
mod tests;
mod tree;
mod vouched;

pub use audit::{Audit, AuditError, audit};
pub use check::{CheckError, Report, check, check_reader};
pub use checkpoint::{Checkpoint, CheckpointError, NotCosigned, SignedCheckpoint, origin_of};
pub use committed::{Committed, Secured};
pub use disk::{CheckpointFlaw, ENTRIES_FILE, OpenError, WriteError};
pub use entry::{Entry, MAX_LINE};
pub use event::{Event, UnknownEvent};
pub use evidence::Evidence;
pub use export::{ExportError, Header, export};
pub use flaw::{Flaw, Reason};
pub use folder::{CHECKPOINT_FILE, COSIGNATURES_FOLDER, LogFolder};
pub use history::{Equivocation, Fork, History, Judgement};
pub(crate) use lock::{LockFault, lock_folder};
pub use log::{Log, Summary};
pub use marks::Continuation;
pub use note::{NoteError, NoteSignature, SignedNote};
pub use opening::{LogOwner, Opening, origin, owner_of, parse_origin};
pub use path::{BadProof, ProofPath, verify_consistency, verify_inclusion};
pub use policy::{OnWriteError, SyncPolicy};
pub use proof_file::{BadProofFile, ProofFile, ProveError, prove};
pub use reader::{Line, LogReader};
pub use tree::{Tree, leaf_hash};
pub use vouched::{KeptNote, LogName, Vouched, kept_notes};
