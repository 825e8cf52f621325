//! How many messages a connection's loop is handed at once.
//!
//! Its loop takes what was handed to it since the last round through eight queues, one after the
//! other, and a queue never gives memory back. So a peer that was away for some seconds, and is
//! sent all that waited for it in one go, would cost half a megabyte for as long as its link lives.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::sync::Notify;
use tokio::sync::futures::Notified;

/// Bounds the messages of one connection and one round. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Pace(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// Messages since the last round.
    handed: AtomicUsize,
    round: Notify,
    ended: AtomicBool,
}

impl Pace {
    /// Whether the loop takes another message in this round.
    pub(super) fn has_room(&self) -> bool {
        self.0.handed.load(Ordering::Acquire) < BURST || self.0.ended.load(Ordering::Acquire)
    }

    /// The next round: is over when that begins, if it began after this was called.
    pub(super) fn round(&self) -> Notified<'_> {
        self.0.round.notified()
    }

    /// The loop was handed a message, and wakes for it.
    pub(super) fn handed(&self) {
        self.0.handed.fetch_add(1, Ordering::AcqRel);
    }

    /// A round of the loop begins: it has taken what it was handed.
    pub(super) fn round_begins(&self) {
        self.0.handed.store(0, Ordering::Release);
        self.0.round.notify_waiters();
    }

    /// There is no loop any more: nobody waits for it.
    pub(super) fn end(&self) {
        self.0.ended.store(true, Ordering::Release);
        self.0.round.notify_waiters();
    }
}

/// Messages of one round. A sender that signs as fast as it can is some four ahead of the loop; a
/// packet takes two messages of the usual size.
const BURST: usize = 32;

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn a_round_takes_so_many_messages_and_the_next_one_goes_with_the_next_round() {
        let pace = Pace::default();
        for _ in 0..BURST {
            assert!(pace.has_room());
            pace.handed();
        }
        assert!(!pace.has_room());
        let mut waiting = Box::pin(pace.round());
        assert!((&mut waiting).now_or_never().is_none());
        pace.round_begins();
        assert!(waiting.now_or_never().is_some());
        assert!(pace.has_room());
    }

    #[test]
    fn nobody_waits_for_a_loop_that_has_ended() {
        let pace = Pace::default();
        (0..BURST).for_each(|_| pace.handed());
        let mut waiting = Box::pin(pace.round());
        assert!((&mut waiting).now_or_never().is_none());
        pace.end();
        assert!(waiting.now_or_never().is_some());
    }
}
