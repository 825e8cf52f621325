//! The ledger: what became of every numbered message. Pure.
//!
//! Per ordered pair of agents messages are numbered from 1. One *offered* was written to the sender's
//! pipe; one *accepted* is one whose `sent` came back. What was offered to a process that died before
//! it answered is *doubtful*: it may arrive once, or never; what one that lives never answers is
//! *unanswered*. Whatever arrives must arrive once, and after all that was offered before it.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

/// The messages of all ordered pairs; `K` names a pair.
#[derive(Debug, Default)]
pub struct Ledger<K> {
    lanes: BTreeMap<K, Lane>,
}

/// The messages of one ordered pair.
#[derive(Debug, Default)]
struct Lane {
    offered: u64,
    /// Offered, and not delivered yet: few, however long a run is.
    open: BTreeMap<u64, State>,
    /// Delivered before the receipt of the sender was read.
    early: BTreeMap<u64, ()>,
    last_delivered: u64,
    /// Offered when the receiver last began without any memory: these may come to it again,
    before: u64,
    /// once each.
    again: BTreeSet<u64>,
    sums: Sums,
}

/// What is known of a message that was not delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Offered,
    Accepted,
    /// Its sender died before it said.
    Doubtful,
    /// Its sender said that it could not be sent.
    Refused,
    /// Accepted, and given back as undelivered: nothing was dropped in silence, but it never came.
    GivenBack,
    /// Accepted, and nobody need deliver it any more.
    Forgiven,
}

/// Counts of messages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Sums {
    /// Accepted by the sender.
    pub sent: u64,
    /// Delivered, each once.
    pub delivered: u64,
    /// Accepted and not delivered, those given back among them.
    pub lost: u64,
    /// Of these: the sender said so.
    pub given_back: u64,
    /// Delivered again.
    pub doubled: u64,
    /// Delivered after a later one.
    pub out_of_order: u64,
    /// Offered to a process that died before it said whether it was accepted, and not delivered.
    pub doubtful: u64,
    /// Offered to a process that lives and has not said what became of it, and not delivered.
    pub unanswered: u64,
    /// Not accepted, as the sender said.
    pub refused: u64,
    /// Delivered though never accepted, or never even offered.
    pub unasked: u64,
    /// Accepted and not delivered, and nobody need deliver it: its sender had no disk and was killed,
    /// or was given it back for a reason.
    pub forgiven: u64,
}

impl<K: Ord + Clone> Ledger<K> {
    /// An empty one.
    pub fn new() -> Self {
        Self {
            lanes: BTreeMap::new(),
        }
    }

    /// The number of the next message; it is offered from now on.
    pub fn offer(&mut self, lane: &K) -> u64 {
        let lane = self.lane(lane);
        lane.offered += 1;
        lane.open.insert(lane.offered, State::Offered);
        lane.offered
    }

    /// The number that the next message will have.
    pub fn next(&self, lane: &K) -> u64 {
        self.lanes.get(lane).map_or(0, |lane| lane.offered) + 1
    }

    /// How many were offered and not answered for.
    pub fn unanswered(&self) -> u64 {
        self.count(State::Offered)
    }

    /// The sender has accepted it.
    pub fn accepted(&mut self, lane: &K, number: u64) {
        let lane = self.lane(lane);
        match lane.open.get_mut(&number) {
            Some(state @ (State::Offered | State::Doubtful | State::Refused)) => {
                *state = State::Accepted;
                lane.sums.sent += 1;
            }
            Some(State::Accepted | State::GivenBack | State::Forgiven) => {}
            None => {
                if lane.early.remove(&number).is_some() {
                    lane.sums.sent += 1;
                }
            }
        }
    }

    /// The sender says that it could not be sent.
    pub fn refused(&mut self, lane: &K, number: u64) {
        self.turn(lane, number, State::Offered, State::Refused);
    }

    /// The sender gives it back.
    pub fn given_back(&mut self, lane: &K, number: u64) {
        self.turn(lane, number, State::Accepted, State::GivenBack);
    }

    /// What is accepted of a pair and has not come need not come any more: its sender died, and
    /// had no disk.
    pub fn forgive_all(&mut self, lane: &K) {
        for state in self.lane(lane).open.values_mut() {
            *state = State::Forgiven;
        }
    }

    /// It need not come any more: its sender was told so, for a reason.
    pub fn forgive(&mut self, lane: &K, number: u64) {
        self.turn(lane, number, State::Accepted, State::Forgiven);
    }

    /// The receiver begins without any memory: what came to an earlier life of it may come again.
    pub fn receiver_forgets(&mut self, lane: &K) {
        let lane = self.lane(lane);
        lane.before = lane.offered;
        lane.last_delivered = 0;
        lane.again.clear();
    }

    /// The sender has died before it answered for it.
    pub fn doubted(&mut self, lane: &K, number: u64) {
        self.turn(lane, number, State::Offered, State::Doubtful);
    }

    /// It has arrived.
    pub fn delivered(&mut self, lane: &K, number: u64) {
        let lane = self.lane(lane);
        let state = lane.open.remove(&number);
        let sums = &mut lane.sums;
        match state {
            None if number > lane.offered || number == 0 => return sums.unasked += 1,
            // To this life of it in order, as all else.
            None if number <= lane.before && lane.again.insert(number) => {}
            None => return sums.doubled += 1,
            Some(State::Refused) => sums.unasked += 1,
            Some(State::Offered | State::Doubtful) => {
                lane.early.insert(number, ());
                // Receipts come in the order of the numbers.
                while lane.early.len() > MAX_EARLY {
                    lane.early.pop_first();
                }
                sums.delivered += 1;
            }
            Some(State::Accepted | State::GivenBack | State::Forgiven) => sums.delivered += 1,
        }
        if number < lane.last_delivered {
            sums.out_of_order += 1;
        }
        lane.last_delivered = lane.last_delivered.max(number);
    }

    /// How many are accepted and have not arrived.
    pub fn awaited(&self) -> u64 {
        self.sums_of(Lane::lost)
    }

    /// All of them together, as if the run ended now.
    pub fn sums(&self) -> Sums {
        let count = |state| self.count(state);
        Sums {
            sent: self.sums_of(|lane| lane.sums.sent),
            delivered: self.sums_of(|lane| lane.sums.delivered),
            doubled: self.sums_of(|lane| lane.sums.doubled),
            out_of_order: self.sums_of(|lane| lane.sums.out_of_order),
            unasked: self.sums_of(|lane| lane.sums.unasked),
            lost: self.sums_of(Lane::lost),
            given_back: count(State::GivenBack),
            doubtful: count(State::Doubtful),
            unanswered: count(State::Offered),
            refused: count(State::Refused),
            forgiven: count(State::Forgiven),
        }
    }

    /// The pairs that lost something, and the first number that each lost.
    pub fn losses(&self) -> Vec<(K, u64, u64)> {
        let lanes = self.lanes.iter().filter(|(_, lane)| lane.lost() > 0);
        let first = |lane: &Lane| {
            lane.open
                .iter()
                .find(|(_, s)| is_lost(**s))
                .map(|(n, _)| *n)
        };
        lanes
            .filter_map(|(key, lane)| Some((key.clone(), lane.lost(), first(lane)?)))
            .collect()
    }

    /// The pairs of whose messages none arrived, and how many were offered of each.
    pub fn silent(&self) -> impl Iterator<Item = (&K, u64)> {
        let lanes = self.lanes.iter();
        let lanes = lanes.filter(|(_, lane)| lane.offered > 0 && lane.sums.delivered == 0);
        lanes.map(|(key, lane)| (key, lane.offered))
    }

    fn count(&self, wanted: State) -> u64 {
        let is_wanted = |state: &&State| **state == wanted;
        self.sums_of(|lane| lane.open.values().filter(is_wanted).count() as u64)
    }

    fn sums_of(&self, count: impl Fn(&Lane) -> u64) -> u64 {
        self.lanes.values().map(count).sum()
    }

    fn turn(&mut self, lane: &K, number: u64, from: State, to: State) {
        match self.lane(lane).open.get_mut(&number) {
            Some(state) if *state == from => *state = to,
            _ => {}
        }
    }

    fn lane(&mut self, lane: &K) -> &mut Lane {
        self.lanes.entry(lane.clone()).or_default()
    }
}

impl Lane {
    fn lost(&self) -> u64 {
        self.open.values().filter(|state| is_lost(**state)).count() as u64
    }
}

impl Sums {
    /// Adds those of another run.
    pub(super) fn add(&mut self, more: &Self) {
        self.sent += more.sent;
        self.delivered += more.delivered;
        self.lost += more.lost;
        self.given_back += more.given_back;
        self.doubled += more.doubled;
        self.out_of_order += more.out_of_order;
        self.doubtful += more.doubtful;
        self.unanswered += more.unanswered;
        self.refused += more.refused;
        self.unasked += more.unasked;
        self.forgiven += more.forgiven;
    }
}

fn is_lost(state: State) -> bool {
    matches!(state, State::Accepted | State::GivenBack)
}

/// Deliveries that a sender's receipt is awaited for: more than it has under way at a time.
const MAX_EARLY: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn offered(count: u64) -> Ledger<char> {
        let mut ledger = Ledger::new();
        for n in 1..=count {
            assert_eq!(ledger.next(&'a'), n);
            assert_eq!(ledger.offer(&'a'), n);
        }
        ledger
    }

    #[test]
    fn what_is_accepted_and_arrives_once_is_nobodys_concern_any_more() {
        let mut ledger = offered(3);
        assert_eq!(ledger.unanswered(), 3);
        for n in 1..=3 {
            ledger.accepted(&'a', n);
            assert_eq!(ledger.awaited(), 1);
            ledger.delivered(&'a', n);
        }
        let expected = Sums {
            sent: 3,
            delivered: 3,
            ..Sums::default()
        };
        assert_eq!(ledger.sums(), expected);
        assert!(ledger.losses().is_empty());
    }

    #[test]
    fn finds_what_is_lost_doubled_and_out_of_order() {
        let mut ledger = offered(5);
        (1..=5).for_each(|n| ledger.accepted(&'a', n));
        for n in [2, 1, 5, 5, 1] {
            ledger.delivered(&'a', n);
        }
        let sums = ledger.sums();
        assert_eq!((sums.sent, sums.delivered, sums.lost), (5, 3, 2));
        assert_eq!((sums.out_of_order, sums.doubled), (1, 2));
        assert_eq!(ledger.losses(), [('a', 2, 3)]);
    }

    #[test]
    fn a_pair_whose_every_message_is_refused_is_silent_and_loses_nothing() {
        let mut ledger = offered(2);
        ledger.offer(&'b');
        (1..=2).for_each(|n| ledger.refused(&'a', n));
        ledger.delivered(&'b', 1);
        assert_eq!(ledger.silent().collect::<Vec<_>>(), [(&'a', 2)]);
        assert_eq!(ledger.sums().lost, 0);
        ledger.delivered(&'c', 1); // Nobody has offered it.
        assert_eq!(ledger.silent().count(), 1);
    }

    #[test]
    fn what_a_dead_process_did_not_answer_for_may_arrive_once_or_never() {
        let mut ledger = offered(3);
        ledger.accepted(&'a', 1);
        (1..=3).for_each(|n| ledger.doubted(&'a', n));
        ledger.delivered(&'a', 1);
        ledger.delivered(&'a', 2);
        let sums = ledger.sums();
        assert_eq!((sums.sent, sums.delivered, sums.lost), (1, 2, 0));
        assert_eq!((sums.doubtful, sums.doubled), (1, 0));
        assert_eq!(sums.unanswered, 0);
        ledger.delivered(&'a', 2);
        assert_eq!(ledger.sums().doubled, 1);
    }

    #[test]
    fn what_a_process_that_lives_does_not_answer_for_is_not_in_doubt() {
        let mut ledger = offered(2);
        ledger.accepted(&'a', 1);
        let sums = ledger.sums();
        assert_eq!((sums.unanswered, sums.doubtful, sums.lost), (1, 0, 1));
        assert_eq!(ledger.unanswered(), 1);
    }

    #[test]
    fn a_receipt_that_is_read_after_the_delivery_counts() {
        let mut ledger = offered(1);
        ledger.delivered(&'a', 1);
        ledger.accepted(&'a', 1);
        ledger.accepted(&'a', 1);
        assert_eq!(ledger.sums().sent, 1);
        assert_eq!(ledger.awaited(), 0);
    }

    #[test]
    fn a_receiver_without_memory_may_be_given_again_what_its_earlier_life_had_once() {
        let mut ledger = offered(2);
        (1..=2).for_each(|n| ledger.accepted(&'a', n));
        ledger.delivered(&'a', 1);
        ledger.delivered(&'a', 2);
        ledger.receiver_forgets(&'a');
        ledger.delivered(&'a', 1);
        ledger.delivered(&'a', 2);
        assert_eq!((ledger.sums().doubled, ledger.sums().out_of_order), (0, 0));
        ledger.delivered(&'a', 2);
        assert_eq!(ledger.sums().doubled, 1);
        ledger.receiver_forgets(&'a');
        ledger.delivered(&'a', 2);
        ledger.delivered(&'a', 1);
        assert_eq!((ledger.sums().doubled, ledger.sums().out_of_order), (1, 1));
    }

    #[test]
    fn what_is_forgiven_is_not_lost_and_may_come_once() {
        let mut ledger = offered(3);
        (1..=3).for_each(|n| ledger.accepted(&'a', n));
        ledger.forgive(&'a', 1);
        assert_eq!(ledger.sums().lost, 2);
        ledger.forgive_all(&'a');
        assert_eq!((ledger.sums().lost, ledger.sums().forgiven), (0, 3));
        ledger.delivered(&'a', 3);
        ledger.delivered(&'a', 3);
        assert_eq!((ledger.sums().delivered, ledger.sums().doubled), (1, 1));
    }

    #[test]
    fn what_was_refused_or_never_offered_must_not_arrive() {
        let mut ledger = offered(2);
        ledger.refused(&'a', 1);
        ledger.accepted(&'a', 2);
        ledger.given_back(&'a', 2);
        let sums = ledger.sums();
        assert_eq!((sums.refused, sums.lost, sums.given_back), (1, 1, 1));
        ledger.delivered(&'a', 1);
        ledger.delivered(&'a', 9);
        assert_eq!(ledger.sums().unasked, 2);
    }
}
