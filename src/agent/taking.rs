//! Messages on their way into the hands of the program: what bounds them, when they are
//! acknowledged, and what an agent with an outbox on disk notes of them.
//!
//! A message is *taken* once a subscriber has said so and all of them have let go of it.
//!
//! | the agent | acknowledges a message | one that nobody received, of a subscriber that is dropped | one that was received, and let go of untaken |
//! |---|---|---|---|
//! | in memory | when it comes; while its program is [behind](is_behind), when nobody has it any more | is lost: there is no second chance, and the author must not wait for ever | the same |
//! | with an outbox on disk | when it is noted that the program has it | goes to the subscribers that are there, before what came later, or waits for the next one; when the agent ends, it is not noted, and comes again after the restart | comes again after the restart |
//!
//! So on disk a message that is not noted is sent again by its author after a crash, and one that is
//! noted is not.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::core::{Core, Shared};
use crate::identity::{AgentId, Session};
use crate::mesh::MAX_UNDER_WAY;
use crate::message::{Destination, IfMessage};
use crate::outbox::{Journal, JournalError};

/// A message that is on its way to the program, shared by all subscribers that have it.
#[derive(Debug)]
pub(super) struct OnItsWay {
    /// What the links of its peer are throttled by.
    _permit: OwnedSemaphorePermit,
    owed: Option<Owed>,
}

/// The acknowledgement of a message that waits until it is taken.
#[derive(Debug)]
struct Owed {
    which: Which,
    agent: Weak<Shared>,
    /// Where to note that the program has it.
    journal: Option<SharedJournal>,
    is_received: AtomicBool,
    is_taken: AtomicBool,
    is_noted: AtomicBool,
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
/// [outbox on disk](super::Builder::outbox): it is when it was [taken](Self::taken), or
/// [noted](Self::note) and this is dropped. Until then an agent that is killed, or ends, gets it again
/// when it comes back, and its author sends only so many more before. So say of each that it is taken,
/// or end the agent.
#[derive(Debug, Default)]
pub struct Held(pub(super) Option<Arc<OnItsWay>>);

impl Held {
    /// Notes that the message never comes again: to be called where it passes into the hands of
    /// somebody who outlives this agent, right before the last of it does.
    ///
    /// # Errors
    /// [`JournalError`]: it comes again, and the agent ends.
    pub fn note(&self) -> Result<(), JournalError> {
        let owed = self.0.as_ref().and_then(|it| it.owed.as_ref());
        owed.map_or(Ok(()), Owed::note)
    }

    /// The program has it, and nothing else to do for it.
    pub fn taken(self) {
        if let Some(owed) = self.0.as_ref().and_then(|it| it.owed.as_ref()) {
            owed.is_taken.store(true, Ordering::Release);
        }
        // The last of several subscribers notes it: until then it is not with all of them.
        let last = self.0.and_then(Arc::into_inner);
        let owed = last.as_ref().and_then(|it| it.owed.as_ref());
        if let Some(Err(err)) = owed.map(Owed::note) {
            // The agent finds the same, and ends.
            tracing::error!(reason = %err, "a message that was taken may come again");
        }
    }
}

impl OnItsWay {
    /// A message that is acknowledged already.
    pub(super) fn acknowledged(permit: OwnedSemaphorePermit) -> Self {
        Self {
            _permit: permit,
            owed: None,
        }
    }

    /// A message that is acknowledged when it was taken, and noted before, if there is a journal.
    pub(super) fn until_taken(
        permit: OwnedSemaphorePermit,
        message: &IfMessage,
        agent: Weak<Shared>,
        journal: Option<SharedJournal>,
    ) -> Self {
        let which = Which {
            peer: message.source().clone(),
            session: message.session(),
            destination: message.destination().clone(),
            sequence_num: message.sequence_num(),
        };
        let owed = Owed {
            which,
            agent,
            journal,
            is_received: AtomicBool::new(false),
            is_taken: AtomicBool::new(false),
            is_noted: AtomicBool::new(false),
        };
        Self {
            _permit: permit,
            owed: Some(owed),
        }
    }

    /// A subscriber has received it.
    pub(super) fn received(&self) {
        if let Some(owed) = &self.owed {
            owed.is_received.store(true, Ordering::Release);
        }
    }

    /// Whether a subscriber has.
    pub(super) fn is_received(&self) -> bool {
        let owed = self.owed.as_ref();
        owed.is_none_or(|owed| owed.is_received.load(Ordering::Acquire))
    }
}

impl Owed {
    fn note(&self) -> Result<(), JournalError> {
        let Some(journal) = &self.journal else {
            return Ok(());
        };
        let mut journal = open(journal);
        if self.is_noted.load(Ordering::Acquire) {
            return Ok(());
        }
        let which = &self.which;
        let to_all = which.destination == Destination::All;
        journal.note(&which.peer, which.session, to_all, which.sequence_num)?;
        self.is_noted.store(true, Ordering::Release);
        Ok(())
    }
}

impl Drop for Owed {
    /// Nobody has it any more.
    fn drop(&mut self) {
        if let Some(agent) = self.agent.upgrade() {
            agent.took(Mark {
                which: self.which.clone(),
                is_taken: self.is_taken.load(Ordering::Acquire),
                is_noted: self.is_noted.load(Ordering::Acquire),
            });
        }
    }
}

/// Whether so many messages of a peer are not taken that the acknowledgement of one more has to wait
/// until it is. Those that were acknowledged before, and those that its author may send meanwhile,
/// then fit into the peer's permits, and its links can always be read: a program that does not read
/// holds up the messages to it, and nothing else.
pub(super) fn is_behind(permits: &Semaphore) -> bool {
    permits.available_permits() < MAX_UNDER_WAY + SPARE
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
    is_taken: bool,
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
    /// Acknowledges what the program has taken. What it never received, or let go of without a word or
    /// while the agent was ending, it has not taken: with an outbox on disk that comes again.
    pub(super) fn acknowledge(&mut self, marks: Vec<Mark>) {
        for Mark {
            which,
            is_taken,
            is_noted,
        } in marks
        {
            let is_taken = is_noted || is_taken && self.leaving.is_none();
            if self.journal.is_some() && !is_taken {
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

/// Messages of one peer that were read and not yet taken by every subscriber: half of them
/// acknowledged, the others under way as far as their author knows; and room to read what comes again
/// over a new link meanwhile.
pub(super) const UNTAKEN_MESSAGES: usize = 2 * MAX_UNDER_WAY + SPARE;
/// The reader of a link has one before it has a message, and one that came already lets go of it at
/// once.
const SPARE: usize = 8;
