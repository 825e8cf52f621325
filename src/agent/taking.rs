//! Messages on their way into the hands of the program: what bounds them, and what an agent with an
//! outbox on disk notes of them.
//!
//! Such an agent acknowledges a message only once it is noted that the program has it. So one that
//! is not noted is sent again by its author after a crash, and one that is noted is not.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::OwnedSemaphorePermit;

use super::core::{Core, Shared};
use crate::identity::{AgentId, Session};
use crate::message::{Destination, IfMessage};
use crate::outbox::{Journal, JournalError};

/// A message that is on its way to the program, shared by all subscribers that have it.
#[derive(Debug)]
pub(super) struct OnItsWay {
    /// What the link that it came over is throttled by.
    _permit: OwnedSemaphorePermit,
    note: Option<Note>,
}

/// Where to note that the program has it.
#[derive(Debug)]
struct Note {
    which: Which,
    agent: Arc<Shared>,
    journal: SharedJournal,
    is_made: AtomicBool,
}

/// Which message.
#[derive(Debug, Clone)]
struct Which {
    peer: AgentId,
    session: Session,
    destination: Destination,
    sequence_num: u64,
}

/// The journal of an agent, which is written for what the program takes without waiting for the
/// agent's state.
pub(super) type SharedJournal = Arc<Mutex<Journal>>;

/// A message that its agent has not acknowledged yet, in an agent with an
/// [outbox on disk](super::Builder::outbox): it is when this is dropped. Until it is
/// [noted](Self::note), an agent that is killed, or ends, gets it again when it comes back.
#[derive(Debug)]
pub struct Held(pub(super) Option<Arc<OnItsWay>>);

impl Held {
    /// Notes that the message never comes again: to be called where it passes into the hands of
    /// somebody who outlives this agent, right before the last of it does.
    ///
    /// # Errors
    /// [`JournalError`]: it comes again, and the agent ends.
    pub fn note(&self) -> Result<(), JournalError> {
        let note = self.0.as_ref().and_then(|it| it.note.as_ref());
        note.map_or(Ok(()), Note::make)
    }

    /// The program has it, and nothing else to do for it.
    pub(super) fn taken(self) {
        // The last of several subscribers notes it: until then it is not with all of them.
        let last = self.0.and_then(Arc::into_inner);
        let note = last.as_ref().and_then(|it| it.note.as_ref());
        if let Some(Err(err)) = note.map(Note::make) {
            // The agent finds the same, and ends.
            tracing::error!(reason = %err, "a message that was taken may come again");
        }
    }
}

impl OnItsWay {
    /// A message that need not be noted.
    pub(super) fn unnoted(permit: OwnedSemaphorePermit) -> Self {
        Self {
            _permit: permit,
            note: None,
        }
    }

    /// A message that is acknowledged when it was taken.
    pub(super) fn noted(
        permit: OwnedSemaphorePermit,
        message: &IfMessage,
        agent: Arc<Shared>,
        journal: SharedJournal,
    ) -> Self {
        let which = Which {
            peer: message.source().clone(),
            session: message.session(),
            destination: message.destination().clone(),
            sequence_num: message.sequence_num(),
        };
        let note = Note {
            which,
            agent,
            journal,
            is_made: AtomicBool::new(false),
        };
        Self {
            _permit: permit,
            note: Some(note),
        }
    }
}

impl Note {
    fn make(&self) -> Result<(), JournalError> {
        let mut journal = open(&self.journal);
        if self.is_made.load(Ordering::Acquire) {
            return Ok(());
        }
        let which = &self.which;
        let to_all = which.destination == Destination::All;
        journal.note(&which.peer, which.session, to_all, which.sequence_num)?;
        self.is_made.store(true, Ordering::Release);
        Ok(())
    }
}

impl Drop for Note {
    /// Nobody has it any more.
    fn drop(&mut self) {
        let is_noted = self.is_made.load(Ordering::Acquire);
        let which = self.which.clone();
        self.agent.took(Mark { which, is_noted });
    }
}

/// The journal, for a moment.
pub(super) fn open(journal: &SharedJournal) -> MutexGuard<'_, Journal> {
    // It is consistent after a panic too: what is not written is written next.
    journal.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A message that nobody has any more.
#[derive(Debug)]
pub(super) struct Mark {
    which: Which,
    is_noted: bool,
}

/// What was let go of and is not acknowledged yet: kept apart from the state, since a message may be
/// let go of while that is locked.
#[derive(Debug, Default)]
pub(super) struct Marks(Mutex<Vec<Mark>>);

impl Marks {
    pub(super) fn push(&self, mark: Mark) {
        self.all().push(mark);
    }

    pub(super) fn take(&self) -> Vec<Mark> {
        std::mem::take(&mut *self.all())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all().is_empty()
    }

    fn all(&self) -> MutexGuard<'_, Vec<Mark>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Core {
    /// Acknowledges what the program has taken, or let go of. What it let go of while the agent was
    /// ending it has not taken: that comes again.
    pub(super) fn acknowledge(&mut self, marks: Vec<Mark>) {
        for Mark { which, is_noted } in marks {
            if self.journal.is_some() && !is_noted && self.leaving.is_some() {
                continue;
            }
            let settled = self.mesh.taken(
                &which.peer,
                which.session,
                &which.destination,
                which.sequence_num,
                self.now,
            );
            let Some(journal) = &self.journal else {
                continue;
            };
            let to_all = which.destination == Destination::All;
            match settled {
                Some(up_to) => open(journal).seen(&which.peer, which.session, to_all, up_to),
                None if is_noted => {}
                None => {
                    let number = which.sequence_num;
                    open(journal).taken(&which.peer, which.session, to_all, number);
                }
            }
        }
    }
}
