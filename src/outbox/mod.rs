//! The outbox on disk: what an agent has to remember so that a crash loses no message that `send`
//! accepted, and delivers none twice.
//!
//! [`Journal`] is what a reader should meet first. A folder per agent, `DIR/SWARM/AGENT`:
//!
//! | file | holds |
//! |---|---|
//! | `journal.jsonl` | one record a line, appended; rewritten when most of it is past |
//! | `new` | what is about to take its place, while it is rewritten |
//! | `lock` | the process that has it open |
//!
//! 1. Every change is a record; [`Journal::commit`] writes those since the last one, in one
//!    `write`, before anything that they tell of goes out.
//! 2. Whoever opens the folder again reads them all into a state, and goes on in the same
//!    session: with what was not settled, and the numbers that were used and seen.
//! 3. A torn last line is cut off: what it told of has not gone out. So is what a write that failed
//!    has written: whoever waited for it is told that it did not take place.
//! 4. Whoever has the journal is asked now and then whether it is to be rewritten
//!    ([`Journal::due_rewrite`]), and has that [run](Rewrite::run) beside everything else.
//!
//! Survives the end of the process at any moment. The end of the machine it survives as far as
//! [`JournalFile::sync`] was waited for.

mod error;
mod journal;
mod reading;
mod record;
mod rewriting;
#[cfg(test)]
mod rewriting_tests;
mod state;
#[cfg(test)]
mod tests;

pub use error::JournalError;
pub use journal::{Journal, JournalFile, Lost, Owner};
pub use rewriting::Rewrite;
// What a simulated disk remembers.
pub(crate) use state::State;
