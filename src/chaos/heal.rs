//! How long it takes after the end of a fault until messages flow again. Pure: time is an argument.
//!
//! A fault is healed when every ordered pair of agents that it struck has delivered a message that was
//! offered after its end. Where another fault strikes the same pair before that, the clock of this pair
//! begins again at the end of that one: nobody can heal while it is broken elsewhere.

use std::collections::BTreeMap;
use std::time::Duration;

/// The faults of a run; `K` names an ordered pair.
#[derive(Debug, Default)]
pub(super) struct Healing<K> {
    faults: BTreeMap<usize, Wound<K>>,
}

/// One fault.
#[derive(Debug)]
struct Wound<K> {
    /// The pairs that it struck and that have not healed. Of each, once the fault has ended: when, and
    /// the first number that was offered after that.
    open: BTreeMap<K, Option<(Duration, u64)>>,
    over: bool,
    /// The longest of its pairs so far.
    took: Duration,
}

impl<K: Ord + Clone> Healing<K> {
    /// None yet.
    pub(super) fn new() -> Self {
        Self {
            faults: BTreeMap::new(),
        }
    }

    /// A fault begins to strike these pairs.
    pub(super) fn begin(&mut self, fault: usize, lanes: impl IntoIterator<Item = K>) {
        let open: BTreeMap<_, _> = lanes.into_iter().map(|lane| (lane, None)).collect();
        let wound = Wound {
            open,
            over: false,
            took: Duration::ZERO,
        };
        self.faults.insert(fault, wound);
    }

    /// It has ended; `next` tells the number of a pair's next message.
    pub(super) fn end(&mut self, fault: usize, at: Duration, next: impl Fn(&K) -> u64) {
        let Some(wound) = self.faults.get_mut(&fault) else {
            return;
        };
        wound.over = true;
        let ended: Vec<_> = wound.open.keys().cloned().collect();
        for lane in ended {
            // Whoever waits for this pair waits from now on, if nothing else strikes it.
            let struck = |wound: &Wound<K>| !wound.over && wound.open.contains_key(&lane);
            if self.faults.values().any(struck) {
                continue;
            }
            let first = next(&lane);
            for wound in self.faults.values_mut().filter(|wound| wound.over) {
                if let Some(since) = wound.open.get_mut(&lane) {
                    *since = Some((at, first));
                }
            }
        }
    }

    /// A message of a pair has arrived.
    pub(super) fn delivered(&mut self, lane: &K, number: u64, at: Duration) {
        let struck = |wound: &Wound<K>| !wound.over && wound.open.contains_key(lane);
        if self.faults.values().any(struck) {
            return; // What arrives meanwhile proves nothing.
        }
        for wound in self.faults.values_mut() {
            if let Some(Some((since, first))) = wound.open.get(lane)
                && number >= *first
            {
                wound.took = wound.took.max(at.saturating_sub(*since));
                wound.open.remove(lane);
            }
        }
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

    /// The pairs that have not healed.
    pub(super) fn open(&self, fault: usize) -> Vec<K> {
        let wound = self.faults.get(&fault);
        wound.map_or_else(Vec::new, |wound| wound.open.keys().cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn a_fault_has_healed_when_all_its_pairs_have_delivered_something_offered_after_it() {
        let mut healing = Healing::new();
        healing.begin(0, ['a', 'b']);
        healing.delivered(&'a', 9, s(1));
        healing.end(0, s(2), |_| 10);
        healing.delivered(&'a', 9, s(3)); // offered before the end
        healing.delivered(&'a', 10, s(4));
        assert_eq!(healing.took(0), None);
        assert_eq!(healing.open(0), ['b']);
        healing.delivered(&'b', 12, s(7));
        assert_eq!(healing.took(0), Some(s(5)));
        assert!(healing.are_healed());
    }

    #[test]
    fn a_pair_that_another_fault_strikes_waits_from_the_end_of_that_one() {
        let mut healing = Healing::new();
        healing.begin(0, ['a']);
        healing.begin(1, ['a', 'b']);
        healing.end(0, s(2), |_| 1);
        healing.delivered(&'a', 1, s(3)); // the other fault is not over
        assert_eq!(healing.took(0), None);
        healing.end(1, s(10), |_| 5);
        healing.delivered(&'b', 5, s(11));
        healing.delivered(&'a', 5, s(12));
        assert_eq!(healing.took(0), Some(s(2)));
        assert_eq!(healing.took(1), Some(s(2)));
    }

    #[test]
    fn one_that_begins_before_another_has_healed_takes_its_pairs_along() {
        let mut healing = Healing::new();
        healing.begin(0, ['a']);
        healing.end(0, s(2), |_| 1);
        healing.begin(1, ['a']);
        healing.delivered(&'a', 3, s(5));
        assert_eq!(healing.took(0), None);
        healing.end(1, s(6), |_| 4);
        healing.delivered(&'a', 4, s(7));
        assert_eq!((healing.took(0), healing.took(1)), (Some(s(1)), Some(s(1))));
    }
}
