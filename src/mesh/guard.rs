//! Replay, order and acknowledgement of what one peer sends in one session under one destination
//! (`wire.md`, section *IFMessage v2.1*: `replayed`, `out-of-window`; *DataChannels*: `ack`).

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use super::RememberedSeen;
use crate::message::Reason;

/// Outlives the link: it belongs to the peer's session.
#[derive(Debug)]
pub(super) struct Guard {
    accepted: Accepted,
    /// The greatest number seen, refused ones included.
    seen: Option<u64>,
    /// Accepted, and not in safe hands yet: not acknowledged, nor anything after them.
    held: VecDeque<u64>,
    /// Whether nothing was accepted yet over the link that is up.
    first_of_link: bool,
    /// In the hands of the program since before a restart, other than those before them.
    beyond: BTreeSet<u64>,
    /// Messages seen since the last acknowledgement, and when one is due.
    pending: u32,
    due: Option<Instant>,
}

/// What was accepted.
#[derive(Debug)]
enum Accepted {
    /// On a reliable channel: strictly increasing.
    InOrder { last: Option<u64> },
    /// On an unreliable one: the last [`WINDOW`] numbers, a bit for each; bit `n % WINDOW` is `n`.
    Window {
        greatest: Option<u64>,
        bits: [u64; WINDOW as usize / 64],
    },
}

impl Guard {
    pub(super) fn new(reliable: bool) -> Self {
        let accepted = if reliable {
            Accepted::InOrder { last: None }
        } else {
            Accepted::Window {
                greatest: None,
                bits: [0; WINDOW as usize / 64],
            }
        };
        Self {
            accepted,
            seen: None,
            held: VecDeque::new(),
            first_of_link: false,
            beyond: BTreeSet::new(),
            pending: 0,
            due: None,
        }
    }

    /// Goes on after what the program has.
    pub(super) fn restore(&mut self, seen: RememberedSeen) {
        self.beyond = seen.beyond;
        let seen = seen.up_to;
        let Some(number) = seen else { return };
        self.seen = seen;
        match &mut self.accepted {
            Accepted::InOrder { last } => *last = seen,
            // The window is not remembered: what is older than the last counts as a duplicate.
            Accepted::Window { greatest, bits } => {
                *greatest = Some(number);
                *bits = [u64::MAX; WINDOW as usize / 64];
            }
        }
    }

    /// A link is up. The peer may have used any amount of numbers without one, for others under `*`
    /// or for what it gave back: the first message over it may be any above the last.
    pub(super) fn link_is_up(&mut self) {
        self.first_of_link = true;
    }

    /// Accepts a verified message, or says why not. The first of a session may be any.
    pub(super) fn accept(&mut self, sequence_num: u64) -> Result<(), Reason> {
        let last = match &self.accepted {
            Accepted::InOrder { last } => *last,
            Accepted::Window { greatest, .. } => *greatest,
        };
        let too_far = |last: u64| sequence_num > last.saturating_add(MAX_AHEAD);
        if !self.first_of_link && last.is_some_and(too_far) {
            return Err(Reason::OutOfWindow);
        }
        match &mut self.accepted {
            Accepted::InOrder { last } => {
                if last.is_some_and(|last| sequence_num <= last) {
                    return Err(Reason::Replayed);
                }
                *last = Some(sequence_num);
                if self.beyond.remove(&sequence_num) {
                    return Err(Reason::Replayed);
                }
            }
            Accepted::Window { greatest, bits } => accept_in_window(greatest, bits, sequence_num)?,
        }
        self.first_of_link = false;
        Ok(())
    }

    /// Whether this number is greater than all seen so far: a refusal of it is told to the peer.
    pub(super) fn is_news(&self, sequence_num: u64) -> bool {
        self.seen.is_none_or(|seen| sequence_num > seen)
    }

    /// Whether an unverified number may count as seen. One that no honest peer can have reached
    /// does not: it would acknowledge all that is yet to come.
    pub(super) fn is_plausible(&self, sequence_num: u64) -> bool {
        self.seen
            .is_none_or(|seen| sequence_num <= seen.saturating_add(MAX_AHEAD))
    }

    /// A message was seen, accepted or not.
    pub(super) fn note(&mut self, sequence_num: u64) {
        self.seen = self.seen.max(Some(sequence_num));
    }

    /// An accepted message is not to be acknowledged before it is released.
    pub(super) fn hold(&mut self, sequence_num: u64) {
        self.held.push_back(sequence_num);
    }

    /// Whether this one is held.
    pub(super) fn holds(&self, sequence_num: u64) -> bool {
        self.held.binary_search(&sequence_num).is_ok()
    }

    /// A held message is in safe hands. Returns up to where all are, if that is news.
    pub(super) fn release(&mut self, sequence_num: u64) -> Option<u64> {
        let at = self.held.binary_search(&sequence_num).ok()?;
        self.held.remove(at);
        if at == 0 { self.settled() } else { None }
    }

    /// Nobody says any more of what is held that it is in safe hands: all that was seen counts as
    /// that. Returns whether anything was held.
    pub(super) fn release_all(&mut self) -> bool {
        let held = !self.held.is_empty();
        self.held.clear();
        held
    }

    /// The greatest number up to which all are seen and in safe hands.
    fn settled(&self) -> Option<u64> {
        match self.held.front() {
            None => self.seen,
            Some(held) => Some(held - 1).filter(|settled| *settled > 0),
        }
    }

    /// An acknowledgement is owed. Returns when: at the latest in [`ACK_DELAY`], at once after
    /// [`ACK_EVERY`] messages.
    pub(super) fn owe_ack(&mut self, now: Instant) -> Instant {
        self.pending += 1;
        let due = if self.pending >= ACK_EVERY {
            now
        } else {
            self.due.unwrap_or(now + ACK_DELAY)
        };
        *self.due.insert(due)
    }

    /// The acknowledgement, if it is due.
    pub(super) fn ack_due(&mut self, now: Instant) -> Option<u64> {
        if self.due? > now {
            return None;
        }
        self.take_ack()
    }

    /// The acknowledgement that is owed, due or not.
    pub(super) fn take_ack(&mut self) -> Option<u64> {
        self.due.take()?;
        self.pending = 0;
        self.settled()
    }

    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// What a `hello` asks for.
    pub(super) fn next(&self) -> u64 {
        self.settled().unwrap_or(0).saturating_add(1)
    }

    /// Whether everything up to `last` was seen and is in safe hands.
    pub(super) fn has_reached(&self, last: Option<u64>) -> bool {
        self.settled() >= last
    }
}

fn accept_in_window(
    greatest: &mut Option<u64>,
    bits: &mut [u64; WINDOW as usize / 64],
    sequence_num: u64,
) -> Result<(), Reason> {
    let old = *greatest;
    if let Some(old) = old {
        if sequence_num.saturating_add(WINDOW) <= old {
            return Err(Reason::Replayed);
        }
        if sequence_num > old {
            // The places between are taken over from numbers that have left the window.
            for n in (old + 1..=sequence_num).rev().take(WINDOW as usize) {
                let (word, bit) = place(n);
                bits[word] &= !bit;
            }
        }
    }
    let (word, bit) = place(sequence_num);
    if bits[word] & bit != 0 {
        return Err(Reason::Replayed);
    }
    bits[word] |= bit;
    *greatest = old.max(Some(sequence_num));
    Ok(())
}

fn place(sequence_num: u64) -> (usize, u64) {
    let n = sequence_num % WINDOW;
    ((n / 64) as usize, 1 << (n % 64))
}

/// How many numbers an unreliable channel remembers (`wire.md`).
const WINDOW: u64 = 1024;
/// How far ahead of the last a number may be (`wire.md`).
pub(super) const MAX_AHEAD: u64 = 1 << 20;
/// The latest an acknowledgement goes out (`wire.md`).
const ACK_DELAY: Duration = Duration::from_millis(10);
/// How many messages one acknowledgement may cover at most while more come (`wire.md`).
const ACK_EVERY: u32 = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_order_only_greater_numbers_pass() {
        let table: [(&[u64], u64, Result<(), Reason>); 8] = [
            (&[], 1, Ok(())),
            (&[], 1 << 40, Ok(())),
            (&[1], 2, Ok(())),
            (&[1], 5, Ok(())),
            (&[5], 5, Err(Reason::Replayed)),
            (&[5], 4, Err(Reason::Replayed)),
            (&[5], 5 + MAX_AHEAD, Ok(())),
            (&[5], 6 + MAX_AHEAD, Err(Reason::OutOfWindow)),
        ];
        for (before, number, expected) in table {
            let mut guard = Guard::new(true);
            for n in before {
                guard.accept(*n).unwrap();
            }
            assert_eq!(guard.accept(number), expected, "{before:?} then {number}");
        }
    }

    #[test]
    fn a_window_takes_each_number_once_and_none_that_is_too_old() {
        let table: [(&[u64], u64, Result<(), Reason>); 9] = [
            (&[], 1 << 40, Ok(())),
            (&[2000], 1999, Ok(())),
            (&[2000], 2000, Err(Reason::Replayed)),
            (&[2000, 1999], 1999, Err(Reason::Replayed)),
            (&[2000], 977, Ok(())),
            (&[2000], 976, Err(Reason::Replayed)),
            (&[2000, 5000], 4990, Ok(())),
            (&[1, 1025], 1025, Err(Reason::Replayed)),
            (&[2000], 2001 + MAX_AHEAD, Err(Reason::OutOfWindow)),
        ];
        for (before, number, expected) in table {
            let mut guard = Guard::new(false);
            for n in before {
                guard.accept(*n).unwrap();
            }
            assert_eq!(guard.accept(number), expected, "{before:?} then {number}");
        }
    }

    #[test]
    fn the_first_over_a_new_link_may_be_any_number_above_the_last() {
        let far = 5 + 2 * MAX_AHEAD;
        for reliable in [true, false] {
            let mut guard = Guard::new(reliable);
            guard.accept(5).unwrap();
            assert_eq!(guard.accept(far), Err(Reason::OutOfWindow));
            guard.link_is_up();
            assert_eq!(guard.accept(5), Err(Reason::Replayed), "sent again");
            assert_eq!(guard.accept(far), Ok(()));
            assert_eq!(guard.accept(far), Err(Reason::Replayed));
            assert_eq!(guard.accept(5), Err(Reason::Replayed));
            assert_eq!(guard.accept(2 * far), Err(Reason::OutOfWindow), "once");
            assert_eq!(guard.accept(far + 1), Ok(()));
        }
    }

    #[test]
    fn a_window_agrees_with_a_plain_set() {
        let mut guard = Guard::new(false);
        let mut accepted = std::collections::BTreeSet::new();
        let mut random = 1u64;
        for step in 0..20_000u64 {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let number = 1 + (step / 4 + (random >> 33) % 3000).saturating_sub(1000);
            let greatest = accepted.last().copied().unwrap_or(0);
            let fresh = !accepted.contains(&number) && number + WINDOW > greatest;
            assert_eq!(guard.accept(number).is_ok(), fresh, "step {step}, {number}");
            if fresh {
                accepted.insert(number);
            }
        }
        assert!(accepted.len() > 1000);
    }

    #[test]
    fn what_is_held_is_not_acknowledged_nor_asked_for_less() {
        let mut guard = Guard::new(true);
        let now = Instant::now();
        for n in [3, 4, 7] {
            guard.accept(n).unwrap();
            guard.hold(n);
            guard.note(n);
        }
        assert_eq!(guard.next(), 3);
        assert_eq!(guard.release(4), None, "not before the one before it");
        assert_eq!(guard.release(4), None, "once");
        assert_eq!(guard.release(3), Some(6));
        guard.owe_ack(now);
        assert_eq!(guard.take_ack(), Some(6));
        assert!(!guard.has_reached(Some(7)));
        assert_eq!(guard.release(7), Some(7));
        assert!(guard.has_reached(Some(7)));
    }

    #[test]
    fn a_restored_guard_takes_nothing_twice() {
        for reliable in [true, false] {
            let mut guard = Guard::new(reliable);
            guard.restore(RememberedSeen {
                up_to: Some(5),
                ..RememberedSeen::default()
            });
            assert_eq!(guard.next(), 6);
            assert_eq!(guard.accept(5), Err(Reason::Replayed));
            assert_eq!(guard.accept(4), Err(Reason::Replayed));
            assert_eq!(guard.accept(6), Ok(()));
        }
    }

    #[test]
    fn what_the_program_took_out_of_order_does_not_come_again_and_what_it_left_does() {
        let mut guard = Guard::new(true);
        guard.restore(RememberedSeen {
            up_to: Some(3),
            beyond: [5, 7].into(),
        });
        assert_eq!(guard.next(), 4);
        let taken =
            |guard: &mut Guard| (4..=8).map(|n| guard.accept(n).is_ok()).collect::<Vec<_>>();
        assert_eq!(taken(&mut guard), [true, false, true, false, true]);
    }

    #[test]
    fn an_acknowledgement_is_ten_milliseconds_or_thirty_two_messages_late_at_most() {
        let now = Instant::now();
        let mut guard = Guard::new(true);
        guard.note(1);
        assert_eq!(guard.owe_ack(now), now + ACK_DELAY);
        let later = now + Duration::from_millis(9);
        guard.note(2);
        assert_eq!(guard.owe_ack(later), now + ACK_DELAY, "the first decides");
        assert_eq!(guard.ack_due(later), None);
        assert_eq!(guard.ack_due(now + ACK_DELAY), Some(2));
        assert_eq!(guard.ack_due(now + ACK_DELAY), None, "once");
        for n in 3..34 {
            guard.note(n);
            assert!(guard.owe_ack(now) > now);
        }
        guard.note(34);
        assert_eq!(guard.owe_ack(now), now);
        assert_eq!(guard.ack_due(now), Some(34));
    }
}
