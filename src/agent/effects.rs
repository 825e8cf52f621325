//! What was decided in a round and not yet done: nothing leaves before the witness is written.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::event::AgentEvent;
use crate::identity::AgentId;
use crate::signal::ClientFrame;

/// One thing to do once the witness has it.
pub(super) enum Effect {
    /// Send a message: the place in the queue is already the sender's.
    Message(mpsc::OwnedPermit<Bytes>, Bytes),
    /// Send a control frame.
    Control(mpsc::Sender<String>, String),
    /// Send a frame to the signaling server.
    Signal(ClientFrame),
    /// Tell the program.
    Event(AgentEvent, Option<OwnedSemaphorePermit>),
}

/// Where messages for each linked peer are queued; written in rounds, read by callers of
/// `send`, who wait for their place there and so are slowed by exactly the peer that is slow.
#[derive(Debug, Clone, Default)]
pub(super) struct Directory(Arc<RwLock<BTreeMap<AgentId, mpsc::Sender<Bytes>>>>);

impl Directory {
    pub(super) fn insert(&self, peer: AgentId, queue: mpsc::Sender<Bytes>) {
        let mut queues = self.0.write().unwrap_or_else(PoisonError::into_inner);
        queues.insert(peer, queue);
    }

    pub(super) fn remove(&self, peer: &AgentId) {
        let mut queues = self.0.write().unwrap_or_else(PoisonError::into_inner);
        queues.remove(peer);
    }

    pub(super) fn queue_of(&self, peer: &AgentId) -> Option<mpsc::Sender<Bytes>> {
        let queues = self.0.read().unwrap_or_else(PoisonError::into_inner);
        queues.get(peer).cloned()
    }

    pub(super) fn all(&self) -> Vec<(AgentId, mpsc::Sender<Bytes>)> {
        let queues = self.0.read().unwrap_or_else(PoisonError::into_inner);
        queues
            .iter()
            .map(|(id, q)| (id.clone(), q.clone()))
            .collect()
    }
}
