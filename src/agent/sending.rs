//! Sending from the caller's side: waiting for room, or for acknowledgements.

use std::collections::{BTreeMap, BTreeSet};

use tokio::sync::watch;

use super::event::AgentEvent;
use super::{Agent, Receipt, SendError};
use crate::identity::AgentId;
use crate::mesh::GivenBack;
use crate::message::{Destination, Draft, Reason};

/// Why a message was not acknowledged by all it was for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeliveryError {
    /// It was not sent.
    #[error(transparent)]
    Send(#[from] SendError),
    /// A receiver refused it.
    #[error("{peer} refused the message: {}", reason.as_str())]
    Refused {
        /// Who.
        peer: AgentId,
        /// Why.
        reason: Reason,
    },
    /// It was given back.
    #[error("{peer} did not acknowledge the message, and it was given back ({}): send it again", why.as_str())]
    Undelivered {
        /// Who did not acknowledge it.
        peer: AgentId,
        /// Why it is not kept any longer.
        why: GivenBack,
    },
    /// This agent has ended.
    #[error("the agent has ended before the message was acknowledged")]
    Ended,
}

impl Agent {
    /// Signs `draft`, witnesses it and keeps it for its receiver, or for every agent of the mesh if
    /// its destination is `*`, until it is acknowledged. It goes out at once where a link is up,
    /// and else when one is. Waits while as much is kept for a receiver as may be; with `*`, for
    /// all of them but those that have taken nothing for a minute.
    ///
    /// # Errors
    /// [`SendError`]: nothing was sent.
    pub async fn send(&self, draft: Draft) -> Result<Receipt, SendError> {
        self.shared.post(draft).await
    }

    /// As [`send`](Self::send), without waiting.
    ///
    /// # Errors
    /// [`SendError`]: nothing was sent. [`Full`](crate::mesh::SendError::Full) where it would have
    /// had to wait.
    pub fn try_send(&self, draft: Draft) -> Result<Receipt, SendError> {
        self.shared.try_post(draft)
    }

    /// As [`send`](Self::send), and waits until every receiver has acknowledged.
    ///
    /// # Errors
    /// [`DeliveryError`]: the first that is heard of.
    pub async fn send_acked(&self, draft: Draft) -> Result<Receipt, DeliveryError> {
        let destination = draft.destination.clone();
        let posted = self.shared.post_and(draft, |core, receipt| {
            let number = receipt.sequence_num;
            let mut open: BTreeSet<_> = receipt.to.iter().cloned().collect();
            core.subscribers.watch(move |event| {
                let (peer, outcome) = outcome(event, &destination, number)?;
                open.remove(&peer);
                (outcome.is_err() || open.is_empty()).then_some(outcome)
            })
        });
        let (receipt, acked) = posted.await?;
        // For nobody: then nobody acknowledges it.
        if !receipt.to.is_empty() {
            acked.await.unwrap_or(Err(DeliveryError::Ended))?;
        }
        Ok(receipt)
    }
}

/// What `event` says of the message of this number to `destination`: whose word that is, and what
/// became of it there.
pub(super) fn outcome(
    event: &AgentEvent,
    destination: &Destination,
    number: u64,
) -> Option<(AgentId, Result<(), DeliveryError>)> {
    let (peer, to, outcome) = match event {
        AgentEvent::Acked {
            peer,
            destination,
            up_to,
        } if *up_to >= number => (peer, destination, Ok(())),
        AgentEvent::RefusedByPeer {
            peer,
            destination,
            sequence_num,
            reason,
        } if *sequence_num == number => {
            let refused = DeliveryError::Refused {
                peer: peer.clone(),
                reason: *reason,
            };
            (peer, destination, Err(refused))
        }
        AgentEvent::Undelivered {
            peer,
            destination,
            from,
            to,
            why,
        } if (from..=to).contains(&&number) => {
            let undelivered = DeliveryError::Undelivered {
                peer: peer.clone(),
                why: *why,
            };
            (peer, destination, Err(undelivered))
        }
        _ => return None,
    };
    (to == destination).then(|| (peer.clone(), outcome))
}

/// Those who wait for room, by the peer they wait for.
#[derive(Debug, Default)]
pub(super) struct Rooms(BTreeMap<AgentId, watch::Sender<()>>);

impl Rooms {
    /// Tells when there is room for this peer.
    pub(super) fn wait_for(&mut self, peer: &AgentId) -> watch::Receiver<()> {
        let room = self
            .0
            .entry(peer.clone())
            .or_insert_with(|| watch::Sender::new(()));
        room.subscribe()
    }

    /// There is.
    pub(super) fn tell(&mut self, peer: &AgentId) {
        // Whoever has to wait again makes it anew.
        self.0.remove(peer);
    }

    /// Nobody waits any more.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}
