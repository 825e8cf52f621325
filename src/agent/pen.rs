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

/// Why there is no place for a message.
enum NoPlace {
    Never(SendError),
    /// There is no room for it yet.
    Full {
        peer: AgentId,
        /// Tells when to try again.
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
    pub(super) async fn post(&self, draft: Draft) -> Result<Receipt, SendError> {
        let posted = self.post_and(draft, |_, _| ()).await;
        posted.map(|(receipt, ())| receipt)
    }

    /// Sends a message once there is room for it, and does `also` before anything can come of it.
    pub(super) async fn post_and<T>(
        &self,
        draft: Draft,
        also: impl FnOnce(&mut Core, &Receipt) -> T,
    ) -> Result<(Receipt, T), SendError> {
        loop {
            let turn = self.pen.turn.lock().await;
            let mut room = {
                let hand = self.pen.take();
                match self.place_for(&draft) {
                    Ok(place) => return self.write(&hand, draft, &place, also),
                    Err(NoPlace::Never(err)) => return Err(err),
                    Err(NoPlace::Full { room, .. }) => room,
                }
            };
            drop(turn);
            // Whoever ends the agent lets go of the other end; then the next attempt says so.
            let _ = room.changed().await;
        }
    }

    /// Sends a message, unless there is no room for it.
    pub(super) fn try_post(&self, draft: Draft) -> Result<Receipt, SendError> {
        let hand = self.pen.take();
        match self.place_for(&draft) {
            Ok(place) => {
                let written = self.write(&hand, draft, &place, |_, _| ());
                written.map(|(receipt, ())| receipt)
            }
            Err(NoPlace::Never(err)) => Err(err),
            Err(NoPlace::Full { peer, .. }) => Err(mesh::SendError::Full { peer }.into()),
        }
    }

    fn place_for(&self, draft: &Draft) -> Result<Place, NoPlace> {
        self.look().place_for(&draft.destination)
    }

    /// Signs a message and enters it. Its number is still free: only who has the pen gives one out.
    fn write<T>(
        &self,
        hand: &Hand,
        draft: Draft,
        place: &Place,
        also: impl FnOnce(&mut Core, &Receipt) -> T,
    ) -> Result<(Receipt, T), SendError> {
        let signed = hand.sign(draft, place)?;
        let sent = self.enter(|core| {
            let receipt = core.send(&signed)?;
            let also = also(core, &receipt);
            Ok((receipt, also))
        });
        sent.unwrap_or(Err(SendError::Ended))
    }
}

impl Core {
    /// The place of the next message to `destination`.
    fn place_for(&mut self, destination: &Destination) -> Result<Place, NoPlace> {
        if self.witness.is_none() || self.leaving.is_some() {
            return Err(NoPlace::Never(SendError::Ended));
        }
        self.read_clocks();
        let assigned = match self.mesh.assign(destination, self.now) {
            Ok(assigned) => assigned,
            Err(mesh::SendError::Full { peer }) => {
                let room = self.rooms.wait_for(&peer);
                return Err(NoPlace::Full { peer, room });
            }
            Err(err) => return Err(NoPlace::Never(err.into())),
        };
        // Nothing is kept on an unreliable channel, or for a peer that acknowledges what it cannot
        // have: the link's queue is what fills up.
        let limits = self.reliable.then(|| self.mesh.outbox_limits());
        for peer in assigned.to {
            let link = self.link_to(&peer);
            if let Some(room) = link.and_then(|link| link.way.drained(limits)) {
                return Err(NoPlace::Full { peer, room });
            }
        }
        Ok(Place {
            sequence_num: assigned.sequence_num,
            wall: self.wall,
        })
    }
}
