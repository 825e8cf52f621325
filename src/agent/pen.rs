//! The agent's pen: messages are numbered, signed and entered one after the other.
//!
//! Signing takes longer than all else that a message needs. So it happens beside the state, which
//! readers of links wait for; and callers of `send` wait as tasks for their turn, since a thread
//! that waits for a lock carries nothing meanwhile.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::core::{Core, Shared};
use super::{Receipt, SendError};
use crate::identity::{AgentId, KeyPair, Session};
use crate::mesh;
use crate::message::{Author, Destination, Draft, Signed, Timestamp, sign};

/// What signs.
#[derive(Debug)]
pub(super) struct Pen {
    /// In the order they came.
    turn: tokio::sync::Mutex<()>,
    /// Also for those who do not wait for a turn. Whoever has it gives out the next number.
    hand: Mutex<Hand>,
}

#[derive(Debug)]
struct Hand {
    id: AgentId,
    session: Session,
    key: KeyPair,
}

/// Why a message is not sent now.
enum Unsent {
    Failed(SendError),
    /// There is no room for it.
    Waits {
        draft: Box<Draft>,
        peer: AgentId,
        room: watch::Receiver<()>,
    },
}

/// A message's place among those of this agent.
struct Place {
    sequence_num: u64,
    wall: Timestamp,
}

impl Pen {
    pub(super) fn new(id: AgentId, session: Session, key: KeyPair) -> Self {
        Self {
            turn: tokio::sync::Mutex::default(),
            hand: Mutex::new(Hand { id, session, key }),
        }
    }

    fn take(&self) -> MutexGuard<'_, Hand> {
        // It holds nothing that a panic could leave half done.
        self.hand.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Hand {
    fn sign(&self, draft: Draft, place: &Place) -> Result<Signed, SendError> {
        let mut random = [0; 22];
        getrandom::fill(&mut random).map_err(|err| SendError::Randomness(err.to_string()))?;
        let author = Author {
            id: &self.id,
            session: self.session,
            key: &self.key,
        };
        let signed = sign(draft, &author, place.sequence_num, place.wall, random)?;
        Ok(signed)
    }
}

impl Shared {
    /// Sends a message once there is room for it.
    pub(super) async fn post(&self, mut draft: Draft) -> Result<Receipt, SendError> {
        loop {
            let turn = self.pen.turn.lock().await;
            let tried = self.post_now(draft);
            drop(turn);
            let mut room = match tried {
                Ok(receipt) => return Ok(receipt),
                Err(Unsent::Failed(err)) => return Err(err),
                Err(Unsent::Waits {
                    draft: kept, room, ..
                }) => {
                    draft = *kept;
                    room
                }
            };
            // Whoever ends the agent lets go of the other end; then the next attempt says so.
            let _ = room.changed().await;
        }
    }

    /// Sends a message, unless there is no room for it.
    pub(super) fn try_post(&self, draft: Draft) -> Result<Receipt, SendError> {
        self.post_now(draft).map_err(|unsent| match unsent {
            Unsent::Failed(err) => err,
            Unsent::Waits { peer, .. } => mesh::SendError::Full { peer }.into(),
        })
    }

    fn post_now(&self, draft: Draft) -> Result<Receipt, Unsent> {
        let hand = self.pen.take();
        let place = match self.look().place_for(&draft.destination) {
            Err(Held::Failed(err)) => return Err(err.into()),
            Err(Held::Full { peer, room }) => {
                let draft = Box::new(draft);
                return Err(Unsent::Waits { draft, peer, room });
            }
            Ok(place) => place,
        };
        let signed = hand.sign(draft, &place)?;
        let sent = self.enter(|core| core.send(&signed));
        Ok(sent.unwrap_or(Err(SendError::Ended))?)
    }
}

/// Why there is no place for a message.
enum Held {
    Failed(SendError),
    Full {
        peer: AgentId,
        room: watch::Receiver<()>,
    },
}

impl Core {
    /// The place of the next message to `destination`.
    fn place_for(&mut self, destination: &Destination) -> Result<Place, Held> {
        if self.witness.is_none() || self.leaving.is_some() {
            return Err(Held::Failed(SendError::Ended));
        }
        self.read_clocks();
        let assigned = match self.mesh.assign(destination, self.now) {
            Ok(assigned) => assigned,
            Err(mesh::SendError::Full { peer }) => {
                let room = self.rooms.wait_for(&peer);
                return Err(Held::Full { peer, room });
            }
            Err(err) => return Err(Held::Failed(err.into())),
        };
        // Nothing is kept on an unreliable channel, or for a peer that acknowledges what it cannot
        // have: the link's queue is what fills up.
        let limits = self.reliable.then(|| self.mesh.outbox_limits());
        for peer in assigned.to {
            let link = self.link_to(&peer);
            if let Some(room) = link.and_then(|link| link.way.drained(limits)) {
                return Err(Held::Full { peer, room });
            }
        }
        Ok(Place {
            sequence_num: assigned.sequence_num,
            wall: self.wall,
        })
    }
}

impl From<SendError> for Unsent {
    fn from(err: SendError) -> Self {
        Self::Failed(err)
    }
}
