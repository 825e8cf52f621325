//! What this agent sent to one peer under one destination and the peer has not acknowledged: the
//! outbox of one lane.
//!
//! Messages are opaque bytes here. Each is in one of three states, which are named like this in the
//! whole room:
//!
//! | a message | because | becomes |
//! |---|---|---|
//! | *waits* | no link is up, or as much is under way as may be | under way; settled, where it is given back |
//! | is *under way* | it was handed to the link that is up | settled; waits again when the link is lost |
//! | is *settled* | the peer has seen it, or refused it, or it was given back | forgotten |
//!
//! What waits or is under way is *kept*, in the order of the numbers: first what is under way, then
//! what waits. What is given back while it is under way is not kept, and may come all the same: its
//! place is free when it is acknowledged, or the link is lost.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::Bytes;

use super::guard::MAX_AHEAD;

/// The messages of one lane that are not settled.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    kept: VecDeque<Kept>,
    /// How many of those kept, from the front, are under way.
    under_way: usize,
    /// Those that were given back while they were under way, and are so still.
    given_up: VecDeque<u64>,
    /// Of all that are kept.
    bytes: usize,
    /// The greatest number that was ever under way.
    handed: u64,
    /// The greatest that was handed to the link that is up.
    on_link: Option<u64>,
    /// The greatest that is remembered of earlier runs of this agent.
    earlier: u64,
    /// Up to here earlier runs have used the numbers, more than is remembered.
    used: u64,
    /// Up to here the peer has seen all.
    seen: u64,
}

/// A message that may have to be sent again.
#[derive(Debug, Clone)]
pub(super) struct Kept {
    pub(super) number: u64,
    pub(super) bytes: Bytes,
    /// When it was accepted.
    pub(super) since: Instant,
}

impl Outgoing {
    /// As it was when this agent last ran: `sent` is the greatest number ever meant for the peer.
    pub(super) fn restored(sent: u64, kept: impl IntoIterator<Item = Kept>) -> Self {
        let kept: VecDeque<_> = kept.into_iter().collect();
        let earlier = sent.max(kept.back().map_or(0, |kept| kept.number));
        Self {
            bytes: kept.iter().map(|kept| kept.bytes.len()).sum(),
            // Any of them may have been, and the peer have it.
            handed: earlier,
            earlier,
            kept,
            ..Self::default()
        }
    }

    /// Keeps a message until it is settled.
    pub(super) fn keep(&mut self, number: u64, bytes: Bytes, since: Instant) {
        self.bytes += bytes.len();
        self.kept.push_back(Kept {
            number,
            bytes,
            since,
        });
    }

    /// A message goes out that nobody will acknowledge.
    pub(super) fn pass(&mut self, number: u64) {
        self.handed = number;
        self.seen = number;
    }

    /// The next one that waits.
    pub(super) fn waiting(&self) -> Option<&Kept> {
        self.kept.get(self.under_way)
    }

    /// The next one that waits is handed to the link that is up.
    pub(super) fn hand_over(&mut self) -> Option<Kept> {
        let next = self.waiting()?.clone();
        self.under_way += 1;
        self.handed = self.handed.max(next.number);
        self.on_link = Some(next.number);
        Some(next)
    }

    /// Whether the next one that waits is refused over the link that is up: so much before it was
    /// given back. The first over another link may be any.
    pub(super) fn is_out_of_reach(&self) -> bool {
        let (Some(next), Some(last)) = (self.waiting(), self.on_link) else {
            return false;
        };
        next.number > last.saturating_add(MAX_AHEAD)
    }

    /// How many messages are under way.
    pub(super) fn under_way(&self) -> usize {
        self.under_way + self.given_up.len()
    }

    /// The link is lost: what was under way waits for the next one.
    pub(super) fn link_lost(&mut self) {
        self.under_way = 0;
        self.on_link = None;
        self.given_up.clear();
    }

    /// How many messages are kept.
    pub(super) fn len(&self) -> usize {
        self.kept.len()
    }

    /// How many bytes they have together.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// When the oldest one was accepted.
    pub(super) fn oldest(&self) -> Option<Instant> {
        self.kept.front().map(|kept| kept.since)
    }

    /// The greatest number that a peer which is told goodbye should still wait for.
    pub(super) fn last(&self) -> Option<u64> {
        let under_way = self.kept.range(..self.under_way);
        let last = under_way.last().map_or(self.seen, |kept| kept.number);
        (last > 0).then_some(last)
    }

    /// The peer has seen all up to `up_to`. Returns whether that is news; nobody can acknowledge
    /// what was never sent.
    pub(super) fn ack(&mut self, up_to: u64) -> bool {
        let news = up_to > self.seen && up_to <= self.handed;
        if news {
            self.seen = up_to;
            self.take_up_to(up_to);
        }
        news
    }

    /// All up to this number are kept, and under way, no longer: the least and the greatest that
    /// were kept.
    fn take_up_to(&mut self, up_to: u64) -> Option<(u64, u64)> {
        self.given_up.retain(|number| *number > up_to);
        let mut taken = None;
        while self.kept.front().is_some_and(|kept| kept.number <= up_to)
            && let Some(Kept { number, .. }) = self.take_first()
        {
            let (first, _) = taken.unwrap_or((number, number));
            taken = Some((first, number));
        }
        taken
    }

    /// The peer has seen more than was ever under way: earlier runs of this agent got further than
    /// is remembered. Returns up to where that settles what is remembered, if it is news, and the
    /// least and the greatest of what this run had given the same numbers: the peer drops those as
    /// replayed, so they are not kept any longer.
    pub(super) fn overtaken(&mut self, up_to: u64) -> (Option<u64>, Option<(u64, u64)>) {
        let earlier = self.earlier;
        let acked = self.ack(earlier).then_some(earlier);
        let lost = self.take_up_to(up_to);
        self.used = up_to;
        self.handed = up_to;
        self.seen = up_to;
        (acked, lost)
    }

    /// Whether the peer has seen more than was ever under way.
    pub(super) fn is_behind(&self, up_to: u64) -> bool {
        up_to > self.handed
    }

    /// Whether the peer would take a message of this number for one of an earlier run.
    pub(super) fn is_used(&self, number: u64) -> bool {
        number <= self.used
    }

    /// The peer refuses this one. Returns whether it was kept; it is no more.
    pub(super) fn refuse(&mut self, number: u64) -> bool {
        let Ok(at) = self.kept.binary_search_by_key(&number, |kept| kept.number) else {
            return false;
        };
        if let Some(refused) = self.kept.remove(at) {
            self.bytes -= refused.bytes.len();
            self.under_way -= usize::from(at < self.under_way);
        }
        true
    }

    /// Gives the oldest one up: its number.
    pub(super) fn take_oldest(&mut self) -> Option<u64> {
        let may_come = self.under_way > 0;
        let number = self.take_first()?.number;
        if may_come {
            self.given_up.push_back(number);
        }
        Some(number)
    }

    /// Gives the oldest one that waits up: its number.
    pub(super) fn take_waiting(&mut self) -> Option<u64> {
        let waiting = self.kept.remove(self.under_way)?;
        self.bytes -= waiting.bytes.len();
        Some(waiting.number)
    }

    fn take_first(&mut self) -> Option<Kept> {
        let first = self.kept.pop_front()?;
        self.bytes -= first.bytes.len();
        self.under_way = self.under_way.saturating_sub(1);
        if self.kept.is_empty() {
            // The peer is back: the memory of what waited for it goes too.
            self.kept.shrink_to(FEW);
        }
        Some(first)
    }

    /// A link comes up and the peer expects `next`. Returns up to where it has seen all, if that
    /// is news; a peer that has started anew knows of nothing.
    pub(super) fn resume(&mut self, next: u64) -> Option<u64> {
        let seen = next.saturating_sub(1).min(self.handed);
        self.ack(seen).then_some(seen)
    }
}

/// Messages that are under way in a usual conversation.
const FEW: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(numbers: &[u64]) -> Outgoing {
        let mut outgoing = Outgoing::default();
        for n in numbers {
            outgoing.keep(*n, Bytes::from_static(b"message"), Instant::now());
            outgoing.hand_over();
        }
        outgoing
    }

    fn numbers(outgoing: &Outgoing) -> Vec<u64> {
        outgoing.kept.iter().map(|kept| kept.number).collect()
    }

    #[test]
    fn acknowledges_only_what_was_sent_and_only_once() {
        let mut outgoing = sent(&[1, 2, 3]);
        assert!(outgoing.ack(2));
        assert!(!outgoing.ack(2));
        assert!(!outgoing.ack(1));
        assert!(!outgoing.ack(4), "never sent");
        assert_eq!((outgoing.len(), outgoing.bytes()), (1, 7));
    }

    #[test]
    fn a_hello_settles_what_the_peer_has_seen_and_leaves_the_rest_to_be_sent_again() {
        let mut outgoing = sent(&[1, 2, 3, 4, 5]);
        outgoing.ack(2);
        assert_eq!(outgoing.resume(4), Some(3));
        assert_eq!(numbers(&outgoing), [4, 5]);
        assert_eq!(outgoing.resume(4), None, "no news");
    }

    #[test]
    fn a_peer_that_started_anew_gets_all_that_is_not_settled() {
        let mut outgoing = sent(&[1, 2, 3]);
        outgoing.ack(1);
        assert_eq!(outgoing.resume(1), None);
        assert_eq!(numbers(&outgoing), [2, 3]);
    }

    #[test]
    fn a_hello_that_expects_too_much_acknowledges_no_more_than_was_sent() {
        let mut outgoing = sent(&[7]);
        assert_eq!(outgoing.resume(u64::MAX), Some(7));
        assert_eq!(outgoing.len(), 0);
    }

    #[test]
    fn what_is_refused_or_given_up_is_not_kept() {
        let mut outgoing = sent(&[1, 2, 4, 6]);
        assert!(outgoing.refuse(4) && !outgoing.refuse(4) && !outgoing.refuse(5));
        assert_eq!(outgoing.take_oldest(), Some(1));
        assert_eq!(numbers(&outgoing), [2, 6]);
        assert_eq!(outgoing.bytes(), 14);
        assert!(
            outgoing.ack(4),
            "a number between is an acknowledgement too"
        );
        assert_eq!(numbers(&outgoing), [6]);
    }

    #[test]
    fn a_goodbye_names_what_can_still_come() {
        let mut outgoing = sent(&[1, 2]);
        assert_eq!(outgoing.last(), Some(2));
        outgoing.ack(1);
        outgoing.take_oldest();
        assert_eq!(outgoing.last(), Some(1), "what was given up does not come");
        assert_eq!(Outgoing::default().last(), None);
        outgoing.keep(3, Bytes::from_static(b"message"), Instant::now());
        assert_eq!(outgoing.last(), Some(1), "nor what waits");
    }

    #[test]
    fn what_is_given_up_under_way_keeps_its_place_until_it_is_acknowledged_or_the_link_is_lost() {
        let mut outgoing = sent(&[1, 2, 3]);
        outgoing.keep(4, Bytes::from_static(b"message"), Instant::now());
        assert_eq!(outgoing.take_waiting(), Some(4));
        assert_eq!(outgoing.under_way(), 3, "it never had one");
        assert_eq!(outgoing.take_oldest(), Some(1));
        assert_eq!(outgoing.take_oldest(), Some(2));
        assert_eq!((outgoing.under_way(), outgoing.len()), (3, 1));
        assert!(outgoing.ack(1));
        assert_eq!(outgoing.under_way(), 2);
        outgoing.link_lost();
        assert_eq!((outgoing.under_way(), outgoing.len()), (0, 1));
    }

    #[test]
    fn what_is_too_far_after_the_last_over_a_link_waits_for_another_one() {
        let mut outgoing = sent(&[7]);
        let keep = |outgoing: &mut Outgoing, number| {
            outgoing.keep(number, Bytes::from_static(b"message"), Instant::now());
        };
        keep(&mut outgoing, 7 + MAX_AHEAD);
        assert!(!outgoing.is_out_of_reach());
        outgoing.take_waiting();
        keep(&mut outgoing, 8 + MAX_AHEAD);
        assert!(outgoing.is_out_of_reach());
        outgoing.ack(7);
        outgoing.link_lost();
        assert!(!outgoing.is_out_of_reach());
    }

    #[test]
    fn what_waits_cannot_be_acknowledged_and_what_was_under_way_waits_for_the_next_link() {
        let mut outgoing = sent(&[1, 2]);
        outgoing.keep(3, Bytes::from_static(b"message"), Instant::now());
        assert!(!outgoing.ack(3), "not under way yet");
        assert!(outgoing.ack(1));
        assert!(outgoing.refuse(2));
        assert_eq!((outgoing.under_way(), outgoing.len()), (0, 1));
        assert_eq!(outgoing.hand_over().map(|kept| kept.number), Some(3));
        assert!(outgoing.hand_over().is_none());
        outgoing.link_lost();
        assert_eq!(outgoing.hand_over().map(|kept| kept.number), Some(3));
        assert!(outgoing.ack(3));
        assert_eq!(outgoing.under_way(), 0);
    }
}
