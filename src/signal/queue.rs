//! The frames that wait for one connection, between the hall, which puts them in, and the
//! connection's task, which writes them; and what those of all connections weigh together.
//!
//! What was taken out counts until it was written: a client that does not read keeps that in memory
//! as well. Who is dropped over it the hall decides.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio_tungstenite::tungstenite::Utf8Bytes;

/// What goes to a client.
pub(super) enum Outbound {
    Text(Utf8Bytes),
    Ping,
}

/// What waits in all queues of a server, in bytes.
#[derive(Clone, Default)]
pub(super) struct Weight(Arc<AtomicUsize>);

/// The hall's end. Dropping it closes the connection kindly.
pub(super) struct Queue(Arc<Shared>);

/// The connection's end. Dropping it frees what still waits.
pub(super) struct Outlet(Arc<Shared>);

/// Why a frame was not queued.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NotQueued {
    /// The connection is being closed.
    Closing,
    /// It would be too much.
    Full,
}

struct Shared {
    waiting: Mutex<Waiting>,
    all: Weight,
    /// There is something to write, or no more will come.
    news: Notify,
    closing: Notify,
    cut: Notify,
}

#[derive(Default)]
struct Waiting {
    frames: VecDeque<Outbound>,
    /// Of the frames, and of those that were taken out and are not written.
    bytes: usize,
    closing: bool,
}

/// An empty queue, whose bytes count among `all`.
pub(super) fn queue(all: &Weight) -> (Queue, Outlet) {
    let shared = Arc::new(Shared {
        waiting: Mutex::default(),
        all: all.clone(),
        news: Notify::new(),
        closing: Notify::new(),
        cut: Notify::new(),
    });
    (Queue(Arc::clone(&shared)), Outlet(shared))
}

impl Queue {
    /// Puts in what is to be written, unless more than `most` bytes would wait then.
    ///
    /// # Errors
    /// [`NotQueued`], and nothing has changed.
    pub(super) fn push(&self, outbound: Outbound, most: usize) -> Result<(), NotQueued> {
        let mut waiting = self.0.lock();
        let bytes = waiting.bytes + outbound.weight();
        if waiting.closing {
            return Err(NotQueued::Closing);
        }
        if bytes > most || waiting.frames.len() == QUEUED_FRAMES {
            return Err(NotQueued::Full);
        }
        self.0.all.add(outbound.weight());
        waiting.bytes = bytes;
        waiting.frames.push_back(outbound);
        self.0.news.notify_one();
        Ok(())
    }

    /// What waits in it.
    pub(super) fn bytes(&self) -> usize {
        self.0.lock().bytes
    }

    /// Nothing more is put in; what waits is written before the connection is closed.
    pub(super) fn close(&self) {
        self.0.lock().closing = true;
        self.0.closing.notify_one();
        self.0.news.notify_one();
    }

    /// The connection is closed at once, and what waits is freed. Of a frame that is being written
    /// that is true as soon as the connection's task hears of it.
    pub(super) fn cut(&self) {
        self.0.clear();
        self.0.cut.notify_one();
        self.0.news.notify_one();
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.close();
    }
}

impl Outlet {
    /// What is to be written next; `None` when there will be nothing more. Cancel-safe. Each of these
    /// three has one that waits for it.
    pub(super) async fn next(&self) -> Option<Outbound> {
        loop {
            {
                let mut waiting = self.0.lock();
                if let Some(outbound) = waiting.frames.pop_front() {
                    if waiting.frames.is_empty() {
                        // The memory of a burst is not kept for the next one.
                        waiting.frames.shrink_to(FEW);
                    }
                    return Some(outbound);
                }
                if waiting.closing {
                    return None;
                }
            }
            self.0.news.notified().await;
        }
    }

    /// Ends when nothing more is put in.
    pub(super) async fn closing(&self) {
        self.0.closing.notified().await;
    }

    /// Ends when what waits is not to be written any more.
    pub(super) async fn cut(&self) {
        self.0.cut.notified().await;
    }

    /// Whether nothing is to be written at the moment.
    pub(super) fn is_empty(&self) -> bool {
        self.0.lock().frames.is_empty()
    }

    /// So many of the bytes that were taken out are written.
    pub(super) fn written(&self, bytes: usize) {
        let mut waiting = self.0.lock();
        // None, if it was cut meanwhile.
        let bytes = bytes.min(waiting.bytes);
        waiting.bytes -= bytes;
        self.0.all.take(bytes);
    }
}

impl Drop for Outlet {
    fn drop(&mut self) {
        self.0.clear();
    }
}

impl Shared {
    fn clear(&self) {
        let mut waiting = self.lock();
        waiting.closing = true;
        waiting.frames = VecDeque::new();
        self.all.take(std::mem::take(&mut waiting.bytes));
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Weight {
    /// What waits in all queues.
    pub(super) fn bytes(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    fn add(&self, bytes: usize) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }

    fn take(&self, bytes: usize) {
        self.0.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Outbound {
    /// What it costs while it waits. A text that is queued for many counts for each of them, though
    /// they share it: whoever of them reads last keeps it.
    pub(super) fn weight(&self) -> usize {
        EACH + match self {
            Self::Text(text) => text.len(),
            Self::Ping => 0,
        }
    }
}

/// A full swarm of 2,048 that joins, offers and trickles at once, and some.
pub(super) const QUEUED_FRAMES: usize = 8 * 1024;
/// Of a frame: its place in the queue, and what the allocator needs for itself.
const EACH: usize = 128;
/// Frames that there is room for in a queue at rest.
const FEW: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn text(bytes: usize) -> Outbound {
        Outbound::Text("x".repeat(bytes).into())
    }

    #[tokio::test]
    async fn what_waits_is_counted_until_it_is_written_and_freed_with_either_end() {
        let all = Weight::default();
        let (queue, outlet) = queue(&all);
        let (other, _other_outlet) = super::queue(&all);
        for queue in [&queue, &other] {
            queue.push(text(1_000), 10_000).unwrap();
            queue.push(Outbound::Ping, 10_000).unwrap();
        }
        let each = 1_000 + 2 * EACH;
        assert_eq!((queue.bytes(), all.bytes()), (each, 2 * each));
        let taken = outlet.next().await.unwrap().weight();
        assert_eq!(all.bytes(), 2 * each, "it is not written yet");
        outlet.written(taken);
        assert_eq!((queue.bytes(), all.bytes()), (EACH, each + EACH));
        drop(outlet);
        assert_eq!((queue.bytes(), all.bytes()), (0, each));
        assert_eq!(queue.push(text(1), 10_000), Err(NotQueued::Closing));
        other.cut();
        assert_eq!(all.bytes(), 0);
    }

    #[tokio::test]
    async fn a_full_queue_takes_nothing_and_a_closed_one_is_written_to_its_end() {
        let all = Weight::default();
        let (queue, outlet) = queue(&all);
        assert_eq!(queue.push(text(1_000), 1_000), Err(NotQueued::Full));
        for _ in 0..QUEUED_FRAMES {
            queue.push(Outbound::Ping, usize::MAX).unwrap();
        }
        let one_more = queue.push(Outbound::Ping, usize::MAX);
        assert_eq!(one_more, Err(NotQueued::Full));
        drop(queue);
        outlet.closing().await;
        let mut written = 0;
        while outlet.next().await.is_some() {
            written += 1;
        }
        assert_eq!(written, QUEUED_FRAMES);
    }

    #[tokio::test]
    async fn a_queue_that_is_cut_ends_at_once_even_while_one_of_it_is_being_written() {
        let all = Weight::default();
        let (queue, outlet) = queue(&all);
        queue.push(text(10), 10_000).unwrap();
        queue.push(text(20), 10_000).unwrap();
        let taken = outlet.next().await.unwrap();
        queue.cut();
        outlet.cut().await;
        assert!(outlet.next().await.is_none());
        outlet.written(taken.weight());
        assert_eq!(all.bytes(), 0, "nothing is given back twice");
    }
}
