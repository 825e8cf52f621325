//! What was decided in a round and not yet done: nothing leaves before the witness is written.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use tokio::sync::{mpsc, watch};

use super::event::AgentEvent;
use super::files::Heard;
use super::taking::OnItsWay;
use crate::link::{Link, LinkError};
use crate::mesh::OutboxLimits;
use crate::message::MAX_MESSAGE;
use crate::signal::ClientFrame;

/// One thing to do once the witness has it.
pub(super) enum Effect {
    /// Send a message: at once if the link takes it, else through its queue.
    Message(Arc<Outgoing>, Bytes),
    /// Send a control frame.
    Control(mpsc::Sender<String>, String),
    /// Send a frame to the signaling server.
    Signal(ClientFrame),
    /// Act on what a message says of a file.
    File(Box<Heard>),
    /// Tell the program; of a message, what it has to give back.
    Event(AgentEvent, Option<OnItsWay>),
}

/// The way out of a link: past its queue while that is empty.
///
/// The queue itself has no bound: everything in it is in the outbox, which has one. What is not
/// kept there, on an unreliable channel or since the peer acknowledges what it cannot have, waits
/// for [`drained`](Self::drained) first.
#[derive(Debug)]
pub(super) struct Outgoing {
    link: Link,
    queue: mpsc::UnboundedSender<Bytes>,
    /// Messages in the queue or with the writer.
    queued: AtomicUsize,
    /// Their bytes.
    bytes: AtomicUsize,
    drained: watch::Sender<()>,
}

impl Outgoing {
    /// The way out, and the writer's end of its queue.
    pub(super) fn new(link: Link) -> (Self, mpsc::UnboundedReceiver<Bytes>) {
        let (queue, queue_out) = mpsc::unbounded_channel();
        let way = Self {
            link,
            queue,
            queued: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            drained: watch::Sender::new(()),
        };
        (way, queue_out)
    }

    /// Sends `bytes`, or queues them. Called by one at a time, so that order holds.
    pub(super) fn send(&self, bytes: Bytes) {
        let empty = self.queued.load(Ordering::Acquire) == 0;
        // A failure is found again, and reported, by the writer.
        if !empty || !self.link.try_send_message(text(&bytes)).unwrap_or(false) {
            self.queued.fetch_add(1, Ordering::AcqRel);
            self.bytes.fetch_add(bytes.len(), Ordering::AcqRel);
            // A writer that has ended is of a link that is closing.
            let _ = self.queue.send(bytes);
        }
    }

    /// Sends what came through the queue; waits until the link takes it.
    pub(super) async fn send_queued(&self, bytes: &Bytes) -> Result<(), LinkError> {
        let sent = self.link.send_message(text(bytes)).await;
        self.bytes.fetch_sub(bytes.len(), Ordering::AcqRel);
        let left = self.queued.fetch_sub(1, Ordering::AcqRel) - 1;
        if left < MANY_QUEUED && self.drained.receiver_count() > 0 {
            self.drained.send_replace(());
        }
        sent
    }

    /// How many messages wait for the link.
    pub(super) fn queued(&self) -> usize {
        self.queued.load(Ordering::Acquire)
    }

    /// What tells that the queue has drained, if it is longer than `limits` allow, which are those
    /// of the outbox; without them, than is good for what nobody keeps.
    pub(super) fn drained(&self, limits: Option<OutboxLimits>) -> Option<watch::Receiver<()>> {
        // In this order: what drains in between is told.
        let drained = self.drained.subscribe();
        let is_long = match limits {
            None => self.queued() >= MANY_QUEUED,
            // Of an honest peer all of it is in the outbox, and so never more than that.
            Some(limits) => {
                let bytes = self.bytes.load(Ordering::Acquire);
                self.queued() > limits.messages.saturating_mul(2)
                    || bytes > limits.bytes.max(MAX_MESSAGE).saturating_mul(2)
            }
        };
        is_long.then_some(drained)
    }
}

/// A message as it goes over a link.
pub(super) fn text(bytes: &Bytes) -> &str {
    std::str::from_utf8(bytes).expect("signed messages are UTF-8")
}

/// Messages queued for a link before those who send what is not kept have to wait.
const MANY_QUEUED: usize = 256;
