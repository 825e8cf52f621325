//! What was decided in a round and not yet done: nothing leaves before the witness is written.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::event::AgentEvent;
use super::files::Heard;
use crate::identity::AgentId;
use crate::link::{Link, LinkError};
use crate::signal::ClientFrame;

/// One thing to do once the witness has it.
pub(super) enum Effect {
    /// Send a message: at once if the link takes it, else through its queue, in which the place
    /// is already the sender's.
    Message(Arc<Outgoing>, mpsc::OwnedPermit<Bytes>, Bytes),
    /// Send a control frame.
    Control(mpsc::Sender<String>, String),
    /// Send a frame to the signaling server.
    Signal(ClientFrame),
    /// Act on what a message says of a file.
    File(Box<Heard>),
    /// Tell the program.
    Event(AgentEvent, Option<OwnedSemaphorePermit>),
}

/// The way out of a link: past its queue while that is empty.
#[derive(Debug)]
pub(super) struct Outgoing {
    link: Link,
    /// Messages in the queue or with the writer.
    queued: AtomicUsize,
}

impl Outgoing {
    pub(super) fn new(link: Link) -> Self {
        let queued = AtomicUsize::new(0);
        Self { link, queued }
    }

    /// Sends `bytes`, or queues them. Called by one at a time, so that order holds.
    pub(super) fn send(&self, place: mpsc::OwnedPermit<Bytes>, bytes: Bytes) {
        let empty = self.queued.load(Ordering::Acquire) == 0;
        // A failure is found again, and reported, by the writer.
        if !empty || !self.link.try_send_message(text(&bytes)).unwrap_or(false) {
            self.queued.fetch_add(1, Ordering::AcqRel);
            place.send(bytes);
        }
    }

    /// Sends what came through the queue; waits until the link takes it.
    pub(super) async fn send_queued(&self, bytes: &Bytes) -> Result<(), LinkError> {
        let sent = self.link.send_message(text(bytes)).await;
        self.queued.fetch_sub(1, Ordering::AcqRel);
        sent
    }
}

fn text(bytes: &Bytes) -> &str {
    std::str::from_utf8(bytes).expect("signed messages are UTF-8")
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

    pub(super) fn clear(&self) {
        let mut queues = self.0.write().unwrap_or_else(PoisonError::into_inner);
        queues.clear();
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
