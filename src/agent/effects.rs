//! What was decided in a round and not yet done: nothing leaves before the witness is written.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use tokio::sync::{mpsc, watch};

use super::event::AgentEvent;
use super::files::Heard;
use super::taking::OnItsWay;
use crate::link::{Link, LinkError};
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
/// kept there, on an unreliable channel, waits for [`drained`](Self::drained) first.
#[derive(Debug)]
pub(super) struct Outgoing {
    link: Link,
    queue: mpsc::UnboundedSender<Bytes>,
    /// Messages in the queue or with the writer.
    queued: AtomicUsize,
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
            // A writer that has ended is of a link that is closing.
            let _ = self.queue.send(bytes);
        }
    }

    /// Sends what came through the queue; waits until the link takes it.
    pub(super) async fn send_queued(&self, bytes: &Bytes) -> Result<(), LinkError> {
        let sent = self.link.send_message(text(bytes)).await;
        if self.queued.fetch_sub(1, Ordering::AcqRel) == MANY_QUEUED {
            self.drained.send_replace(());
        }
        sent
    }

    /// How many messages wait for the link.
    pub(super) fn queued(&self) -> usize {
        self.queued.load(Ordering::Acquire)
    }

    /// What tells that the queue has drained, if it is long.
    pub(super) fn drained(&self) -> Option<watch::Receiver<()>> {
        // In this order: what drains in between is told.
        let drained = self.drained.subscribe();
        (self.queued() >= MANY_QUEUED).then_some(drained)
    }
}

/// A message as it goes over a link.
pub(super) fn text(bytes: &Bytes) -> &str {
    std::str::from_utf8(bytes).expect("signed messages are UTF-8")
}

/// Messages queued for a link before those who send what is not kept have to wait.
const MANY_QUEUED: usize = 256;
