//! What waits for the disk: everything that goes out, under `witness.sync: always`; and the next
//! checkpoint.
//!
//! Under the other settings effects pass by, and the disk is waited for once per checkpoint.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::witness::Event;

/// Holds effects back, in order, until the disk has the entries that they need.
#[derive(Debug)]
pub(super) struct Gate<T> {
    /// Whether effects wait for the disk.
    holds: bool,
    /// With the number of entries that the disk must have first.
    held: VecDeque<(u64, T)>,
    /// How many entries the disk has.
    synced: u64,
    /// Whether so much is held that nothing more should be read.
    crowded: watch::Sender<bool>,
    /// By when there is to be a checkpoint.
    checkpoint_due: Option<Instant>,
    checkpoint_wanted: bool,
    /// The disk has failed: nothing passes any more.
    broken: bool,
}

impl<T> Gate<T> {
    pub(super) fn new(holds: bool) -> Self {
        Self {
            holds,
            held: VecDeque::new(),
            synced: 0,
            crowded: watch::Sender::new(false),
            checkpoint_due: None,
            checkpoint_wanted: false,
            broken: false,
        }
    }

    /// Whether effects wait for the disk.
    pub(super) fn holds(&self) -> bool {
        self.holds
    }

    /// How much waits.
    pub(super) fn held(&self) -> usize {
        self.held.len()
    }

    /// Tells when too much is held. Always `false` where nothing waits.
    pub(super) fn crowded(&self) -> watch::Receiver<bool> {
        self.crowded.subscribe()
    }

    /// An entry was made, and wants to be covered by a checkpoint.
    pub(super) fn entered(&mut self, event: Event, now: Instant) {
        if wants_cover(event) {
            self.checkpoint_again(now);
        }
    }

    /// There is to be another checkpoint, within a second.
    pub(super) fn checkpoint_again(&mut self, now: Instant) {
        if !self.checkpoint_wanted && !self.broken {
            self.checkpoint_due.get_or_insert(now + CHECKPOINT);
        }
    }

    /// There is to be a checkpoint now.
    pub(super) fn want_checkpoint(&mut self) {
        self.checkpoint_wanted = !self.broken;
        self.checkpoint_due = None;
    }

    /// When a checkpoint is due.
    pub(super) fn timeout(&self) -> Option<Instant> {
        self.checkpoint_due
    }

    pub(super) fn tick(&mut self, now: Instant) {
        if self.checkpoint_due.is_some_and(|due| due <= now) {
            self.checkpoint_due = None;
            self.checkpoint_wanted = true;
        }
    }

    /// Holds `effects` until the disk has `entries` entries.
    pub(super) fn hold(&mut self, effects: impl IntoIterator<Item = T>, entries: u64) {
        let effects = effects.into_iter();
        if !self.broken {
            self.held.extend(effects.map(|effect| (entries, effect)));
        }
    }

    /// The next effect that need not wait any more.
    pub(super) fn next(&mut self) -> Option<T> {
        let (entries, _) = self.held.front()?;
        if *entries > self.synced {
            return None;
        }
        self.held.pop_front().map(|(_, effect)| effect)
    }

    /// To be called when all were taken that could be.
    pub(super) fn settle(&self) {
        let crowded = self.held.len() >= MANY;
        self.crowded.send_if_modified(|before| {
            let changed = *before != crowded;
            *before = crowded;
            changed
        });
    }

    /// Whether somebody has to wait for the disk.
    pub(super) fn wants_the_disk(&self) -> bool {
        !self.broken && (self.checkpoint_wanted || !self.held.is_empty())
    }

    /// Somebody does, beginning now; whether for a checkpoint too. Entries from now on will want
    /// the next one.
    pub(super) fn begin(&mut self) -> bool {
        std::mem::take(&mut self.checkpoint_wanted)
    }

    /// The disk has so many entries.
    pub(super) fn synced(&mut self, entries: u64) {
        self.synced = self.synced.max(entries);
    }

    /// The disk has failed. What waits for it never happens.
    pub(super) fn break_off(&mut self) {
        self.broken = true;
        self.held.clear();
        self.checkpoint_due = None;
    }
}

/// Whether an entry is to be covered by a checkpoint soon. What is said about checkpoints is not:
/// two agents that countersign each other, or refuse to, would never be idle.
pub(super) fn wants_cover(event: Event) -> bool {
    !matches!(event, Event::CheckpointCosigned | Event::CheckpointRejected)
}

/// From an entry to the checkpoint that covers it: a second, less what signing it and waiting for
/// a busy disk may take.
const CHECKPOINT: Duration = Duration::from_millis(800);
/// Effects that wait for the disk before links and the server are read no more, which throttles
/// those who send. Several times what a disk that works lets pile up; what callers of `send` add
/// is bounded by the queues of the links, in which each has its place.
const MANY: usize = 4_096;

#[cfg(test)]
mod tests {
    use super::*;

    fn free(gate: &mut Gate<u32>) -> Vec<u32> {
        let free = std::iter::from_fn(|| gate.next()).collect();
        gate.settle();
        free
    }

    #[test]
    fn lets_out_in_order_what_the_disk_has_the_entries_of() {
        let mut gate = Gate::new(true);
        gate.hold([1, 2], 10);
        gate.hold([3], 10);
        gate.hold([4], 12);
        assert!(free(&mut gate).is_empty() && gate.wants_the_disk());
        // A sync that began before the last entries were written.
        gate.synced(9);
        assert!(free(&mut gate).is_empty());
        gate.synced(11);
        assert_eq!(free(&mut gate), [1, 2, 3]);
        assert!(gate.wants_the_disk());
        // What needs nothing new goes behind what does.
        gate.hold([5], 12);
        assert!(free(&mut gate).is_empty());
        gate.synced(12);
        assert_eq!(free(&mut gate), [4, 5]);
        assert!(!gate.wants_the_disk());
        gate.hold([6], 12);
        assert_eq!(free(&mut gate), [6]);
    }

    #[test]
    fn says_when_it_is_crowded_and_when_not_any_more() {
        let mut gate = Gate::new(true);
        let crowded = gate.crowded();
        gate.hold(vec![0; MANY - 1], 1);
        assert!(free(&mut gate).is_empty() && !*crowded.borrow());
        gate.hold([0], 1);
        assert!(free(&mut gate).is_empty() && *crowded.borrow());
        gate.synced(1);
        assert_eq!(free(&mut gate).len(), MANY);
        assert!(!*crowded.borrow());
    }

    #[test]
    fn after_the_disk_has_failed_nothing_passes() {
        let mut gate = Gate::new(true);
        gate.hold([1], 1);
        gate.break_off();
        gate.hold([2], 1);
        gate.synced(5);
        assert!(free(&mut gate).is_empty() && !gate.wants_the_disk());
    }

    #[test]
    fn a_checkpoint_is_due_within_a_second_of_an_entry_and_never_for_a_cosignature() {
        let mut gate = Gate::<u32>::new(false);
        let start = Instant::now();
        gate.entered(Event::CheckpointCosigned, start);
        assert_eq!(gate.timeout(), None, "an idle agent has no timer");
        gate.entered(Event::IfmessageSent, start);
        gate.entered(Event::IfmessageSent, start + CHECKPOINT / 2);
        let due = gate.timeout().unwrap();
        assert!(due - start < Duration::from_secs(1));
        gate.tick(due - Duration::from_millis(1));
        assert!(!gate.wants_the_disk());
        gate.tick(due);
        assert!(gate.wants_the_disk() && gate.timeout().is_none());
        // Covered by the one that is wanted, which has not begun.
        gate.entered(Event::IfmessageSent, due);
        assert_eq!(gate.timeout(), None);
        assert!(gate.begin());
        assert!(!gate.wants_the_disk() && !gate.begin());
        gate.entered(Event::IfmessageSent, due);
        assert!(gate.timeout().is_some());
    }
}
