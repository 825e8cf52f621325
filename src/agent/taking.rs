//! Messages on their way into the hands of the program: what bounds them, and what an agent with an
//! outbox on disk notes when they have arrived there.
//!
//! Such an agent acknowledges a message only once the program has taken it and that is noted. So
//! one that is killed before is sent again by its author, and one that was taken is not.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OwnedSemaphorePermit;

use super::core::{Core, Shared};
use crate::identity::{AgentId, Session};
use crate::message::{Destination, IfMessage};

/// A message that is on its way to the program, shared by all subscribers that have it.
#[derive(Debug)]
pub(super) struct OnItsWay {
    /// What the link that it came over is throttled by.
    _permit: OwnedSemaphorePermit,
    note: Option<Note>,
}

/// Where to note that it was taken.
#[derive(Debug)]
struct Note {
    mark: Mark,
    agent: Arc<Shared>,
    is_taken: AtomicBool,
}

/// Which message was taken.
#[derive(Debug, Clone)]
pub(super) struct Mark {
    peer: AgentId,
    session: Session,
    destination: Destination,
    sequence_num: u64,
    /// Whether the program said so, or only let go of it.
    on_purpose: bool,
}

/// Holds a message back from being acknowledged, in an agent with an
/// [outbox on disk](super::Builder::outbox): until [`taken`](Self::taken), or until it is dropped
/// while the agent lives. An agent that is killed, or ends, before that gets the message again when
/// it comes back.
#[derive(Debug)]
pub struct Held(pub(super) Option<Arc<OnItsWay>>);

impl Held {
    /// The message is where it should be: it may be acknowledged, and never comes again.
    pub fn taken(self) {
        if let Some(note) = self.0.as_ref().and_then(|it| it.note.as_ref()) {
            note.take(true);
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
    ) -> Self {
        let mark = Mark {
            peer: message.source().clone(),
            session: message.session(),
            destination: message.destination().clone(),
            sequence_num: message.sequence_num(),
            on_purpose: false,
        };
        let note = Note {
            mark,
            agent,
            is_taken: AtomicBool::new(false),
        };
        Self {
            _permit: permit,
            note: Some(note),
        }
    }
}

impl Note {
    fn take(&self, on_purpose: bool) {
        if !self.is_taken.swap(true, Ordering::AcqRel) {
            let mark = self.mark.clone();
            self.agent.took(Mark { on_purpose, ..mark });
        }
    }
}

impl Drop for Note {
    /// Nobody has it any more, and nobody said that it arrived.
    fn drop(&mut self) {
        self.take(false);
    }
}

/// What was taken and is not noted yet: kept apart from the state, since a message may be let go of
/// while that is locked.
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

    fn all(&self) -> std::sync::MutexGuard<'_, Vec<Mark>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Core {
    /// Notes what the program has taken. What it only let go of, while the agent was ending, it has
    /// not: it comes again.
    pub(super) fn note_taken(&mut self, marks: Vec<Mark>) {
        let is_ending = self.leaving.is_some() || self.witness.is_none();
        for mark in marks {
            if is_ending && !mark.on_purpose {
                continue;
            }
            let Mark {
                peer,
                session,
                destination,
                sequence_num,
                ..
            } = mark;
            let settled = self
                .mesh
                .taken(&peer, session, &destination, sequence_num, self.now);
            if let (Some(up_to), Some(journal)) = (settled, &mut self.journal) {
                let to_all = destination == Destination::All;
                journal.seen(&peer, session, to_all, up_to);
            }
        }
    }
}
