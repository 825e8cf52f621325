//! How long it takes after the end of a fault until all works again. Pure: time is an argument.
//!
//! A fault is healed when every [`Part`] that it struck works: an ordered pair of agents, once it has
//! delivered a message that was offered after the end; an agent's registration, once the agent is
//! registered. Where another fault strikes the same part before that, the clock of this part begins
//! again at the end of that one: nothing can heal while it is broken elsewhere.

use std::collections::BTreeMap;
use std::time::Duration;

/// What a fault may strike. Agents by their places in the swarm file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    /// Messages from one agent to another.
    Lane(usize, usize),
    /// An agent's registration at the signaling server.
    Registration(usize),
}

/// The faults of a run.
#[derive(Debug, Default)]
pub(super) struct Healing {
    faults: BTreeMap<usize, Wound>,
}

/// One fault.
#[derive(Debug)]
struct Wound {
    /// The parts that it struck and that have not healed. Of each, once the fault has ended: when, and
    /// the first number that was offered after that.
    open: BTreeMap<Part, Option<(Duration, u64)>>,
    over: bool,
    /// The longest of its parts so far.
    took: Duration,
}

impl Healing {
    /// A fault begins to strike these parts.
    pub(super) fn begin(&mut self, fault: usize, parts: impl IntoIterator<Item = Part>) {
        let open = parts.into_iter().map(|part| (part, None)).collect();
        let wound = Wound {
            open,
            over: false,
            took: Duration::ZERO,
        };
        self.faults.insert(fault, wound);
    }

    /// It has ended; `next` tells the number of a part's next message.
    pub(super) fn end(&mut self, fault: usize, at: Duration, next: impl Fn(&Part) -> u64) {
        let Some(wound) = self.faults.get_mut(&fault) else {
            return;
        };
        wound.over = true;
        let ended: Vec<_> = wound.open.keys().copied().collect();
        for part in ended {
            // Whoever waits for this part waits from now on, if nothing else strikes it.
            if self.is_struck(&part) {
                continue;
            }
            let first = next(&part);
            for wound in self.faults.values_mut().filter(|wound| wound.over) {
                if let Some(since) = wound.open.get_mut(&part) {
                    *since = Some((at, first));
                }
            }
        }
    }

    /// A part works: the message of this number has arrived.
    pub(super) fn works(&mut self, part: &Part, number: u64, at: Duration) {
        if self.is_struck(part) {
            return; // What arrives meanwhile proves nothing.
        }
        for wound in self.faults.values_mut() {
            if let Some(Some((since, first))) = wound.open.get(part)
                && number >= *first
            {
                wound.took = wound.took.max(at.saturating_sub(*since));
                wound.open.remove(part);
            }
        }
    }

    fn is_struck(&self, part: &Part) -> bool {
        let strikes = |wound: &Wound| !wound.over && wound.open.contains_key(part);
        self.faults.values().any(strikes)
    }

    /// Whether all have healed that have ended.
    pub(super) fn are_healed(&self) -> bool {
        self.faults.values().all(|w| w.over && w.open.is_empty())
    }

    /// How long a fault took to heal; none of one that has not.
    pub(super) fn took(&self, fault: usize) -> Option<Duration> {
        let wound = self.faults.get(&fault)?;
        (wound.over && wound.open.is_empty()).then_some(wound.took)
    }

    /// The parts that have not healed.
    pub(super) fn open(&self, fault: usize) -> impl Iterator<Item = Part> {
        let wound = self.faults.get(&fault).into_iter();
        wound.flat_map(|wound| wound.open.keys().copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Part = Part::Lane(0, 1);
    const B: Part = Part::Lane(1, 0);

    fn s(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn a_fault_has_healed_when_all_its_pairs_have_delivered_something_offered_after_it() {
        let mut healing = Healing::default();
        healing.begin(0, [A, B]);
        healing.works(&A, 9, s(1));
        healing.end(0, s(2), |_| 10);
        healing.works(&A, 9, s(3)); // offered before the end
        healing.works(&A, 10, s(4));
        assert_eq!(healing.took(0), None);
        assert_eq!(healing.open(0).collect::<Vec<_>>(), [B]);
        healing.works(&B, 12, s(7));
        assert_eq!(healing.took(0), Some(s(5)));
        assert!(healing.are_healed());
    }

    #[test]
    fn a_pair_that_another_fault_strikes_waits_from_the_end_of_that_one() {
        let mut healing = Healing::default();
        healing.begin(0, [A]);
        healing.begin(1, [A, B]);
        healing.end(0, s(2), |_| 1);
        healing.works(&A, 1, s(3)); // the other fault is not over
        assert_eq!(healing.took(0), None);
        healing.end(1, s(10), |_| 5);
        healing.works(&B, 5, s(11));
        healing.works(&A, 5, s(12));
        assert_eq!(healing.took(0), Some(s(2)));
        assert_eq!(healing.took(1), Some(s(2)));
    }

    #[test]
    fn one_that_begins_before_another_has_healed_takes_its_pairs_along() {
        let mut healing = Healing::default();
        healing.begin(0, [A]);
        healing.end(0, s(2), |_| 1);
        healing.begin(1, [A]);
        healing.works(&A, 3, s(5));
        assert_eq!(healing.took(0), None);
        healing.end(1, s(6), |_| 4);
        healing.works(&A, 4, s(7));
        assert_eq!((healing.took(0), healing.took(1)), (Some(s(1)), Some(s(1))));
    }

    #[test]
    fn the_loss_of_the_server_has_healed_when_all_are_registered_again_whatever_flows() {
        let registration = Part::Registration(0);
        let mut healing = Healing::default();
        healing.begin(0, [A, registration]);
        let next = |part: &Part| if *part == A { 5 } else { 0 };
        healing.end(0, s(2), next);
        healing.works(&A, 5, s(3));
        assert_eq!(healing.took(0), None);
        healing.works(&registration, 0, s(6));
        assert_eq!(healing.took(0), Some(s(4)));
    }
}
