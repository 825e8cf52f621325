//! How long it takes after the end of a fault until all works again. Pure: time is an argument.
//!
//! A fault is healed when every [`Part`] that it struck works: an ordered pair of agents, once it has
//! delivered a message that was offered after the end; an agent's registration, once the agent is
//! registered; conditions, once the agent that had them tells that it has them no more. While another
//! fault under which nothing can heal strikes the same part its clock stands still. It goes on where
//! it stood, so that faults that come close together hide no slow heal; and what heals all the same
//! while it stands has taken that time, too.

use std::collections::BTreeMap;
use std::time::Duration;

/// What a fault may strike. Agents by their places in the swarm file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    /// Messages from one agent to another.
    Lane(usize, usize),
    /// An agent's registration at the signaling server.
    Registration(usize),
    /// An agent's paths, which this fault gave conditions: each fault has its own.
    Paths { fault: usize, agent: usize },
}

/// The faults of a run.
#[derive(Debug, Default)]
pub(super) struct Healing {
    faults: BTreeMap<usize, Wound>,
}

/// One fault.
#[derive(Debug)]
struct Wound {
    /// The parts that it struck and that have not healed; how long each has been waited for, once the
    /// fault has ended.
    open: BTreeMap<Part, Option<Wait>>,
    over: bool,
    /// Whether nothing can heal under it.
    stops: bool,
    /// The longest of its parts so far.
    took: Duration,
}

/// A part of a fault that has ended is waited for.
#[derive(Debug)]
struct Wait {
    /// The first number that was offered after the end.
    first: u64,
    /// Before the clock was stopped for the last time.
    spent: Duration,
    /// When it was stopped; or when it began to go, if it goes.
    since: Duration,
}

impl Healing {
    /// A fault begins to strike these parts; `stops` tells whether nothing can heal under it.
    pub(super) fn begin(
        &mut self,
        (fault, stops): (usize, bool),
        at: Duration,
        parts: impl IntoIterator<Item = Part>,
    ) {
        let open: BTreeMap<_, _> = parts.into_iter().map(|part| (part, None)).collect();
        for part in open.keys() {
            if !stops || self.is_stopped(part) {
                continue; // It goes on, or stands already.
            }
            for wait in waits(&mut self.faults, part) {
                wait.spent += at.saturating_sub(wait.since);
                wait.since = at;
            }
        }
        let wound = Wound {
            open,
            over: false,
            stops,
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
        for (part, wait) in &mut wound.open {
            *wait = Some(Wait {
                first: next(part),
                spent: Duration::ZERO,
                since: at,
            });
        }
        let stopped: Vec<_> = match wound.stops {
            true => wound.open.keys().copied().collect(),
            false => Vec::new(),
        };
        for part in &stopped {
            if self.is_stopped(part) {
                continue;
            }
            for wait in waits(&mut self.faults, part) {
                wait.since = at;
            }
        }
    }

    /// A part is seen to work: whether that shows it of a fault that has ended, given the first number
    /// that was offered after its end.
    pub(super) fn works(&mut self, part: &Part, at: Duration, shows: impl Fn(usize, u64) -> bool) {
        for (fault, wound) in &mut self.faults {
            if let Some(Some(wait)) = wound.open.get(part)
                && shows(*fault, wait.first)
            {
                let took = wait.spent + at.saturating_sub(wait.since);
                wound.took = wound.took.max(took);
                wound.open.remove(part);
            }
        }
    }

    fn is_stopped(&self, part: &Part) -> bool {
        let stops = |wound: &Wound| wound.stops && !wound.over && wound.open.contains_key(part);
        self.faults.values().any(stops)
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

/// Those of all faults that wait for a part.
fn waits<'a>(
    faults: &'a mut BTreeMap<usize, Wound>,
    part: &'a Part,
) -> impl Iterator<Item = &'a mut Wait> {
    let open = faults.values_mut().filter_map(|w| w.open.get_mut(part));
    open.filter_map(Option::as_mut)
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Part = Part::Lane(0, 1);
    const B: Part = Part::Lane(1, 0);

    fn s(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    impl Healing {
        /// The message of this number arrives.
        fn delivers(&mut self, part: &Part, number: u64, at: Duration) {
            self.works(part, at, |_, first| number >= first);
        }
    }

    #[test]
    fn a_fault_has_healed_when_all_its_pairs_have_delivered_something_offered_after_it() {
        let mut healing = Healing::default();
        healing.begin((0, true), s(0), [A, B]);
        healing.delivers(&A, 9, s(1));
        healing.end(0, s(2), |_| 10);
        healing.delivers(&A, 9, s(3)); // offered before the end
        healing.delivers(&A, 10, s(4));
        assert_eq!(healing.took(0), None);
        assert_eq!(healing.open(0).collect::<Vec<_>>(), [B]);
        healing.delivers(&B, 12, s(7));
        assert_eq!(healing.took(0), Some(s(5)));
        assert!(healing.are_healed());
    }

    #[test]
    fn a_pair_that_another_fault_strikes_waits_from_the_end_of_that_one() {
        let mut healing = Healing::default();
        healing.begin((0, true), s(0), [A]);
        healing.begin((1, true), s(1), [A, B]);
        healing.end(0, s(2), |_| 1);
        assert_eq!(healing.took(0), None);
        healing.end(1, s(10), |_| 5);
        healing.delivers(&B, 5, s(11));
        healing.delivers(&A, 5, s(12));
        assert_eq!(healing.took(0), Some(s(2)));
        assert_eq!(healing.took(1), Some(s(2)));
    }

    #[test]
    fn the_clock_of_a_pair_stands_still_while_another_fault_strikes_it_and_goes_on_where_it_stood()
    {
        let mut healing = Healing::default();
        healing.begin((0, true), s(0), [A]);
        healing.end(0, s(2), |_| 1);
        healing.begin((1, true), s(6), [A]);
        healing.begin((2, true), s(7), [A]); // it stands already
        healing.end(1, s(9), |_| 4);
        healing.end(2, s(10), |_| 4);
        healing.delivers(&A, 4, s(11));
        let took = [0, 1, 2].map(|fault| healing.took(fault));
        assert_eq!(took, [Some(s(5)), Some(s(1)), Some(s(1))]);
    }

    #[test]
    fn what_was_offered_after_the_end_heals_though_another_fault_is_under_way_and_took_that_long() {
        let mut healing = Healing::default();
        healing.begin((0, true), s(0), [A]);
        healing.end(0, s(2), |_| 5);
        healing.begin((1, true), s(6), [A]);
        healing.delivers(&A, 4, s(7)); // offered before the end
        assert_eq!(healing.took(0), None);
        healing.delivers(&A, 5, s(9));
        assert_eq!(healing.took(0), Some(s(7)));
        healing.end(1, s(10), |_| 8);
        healing.delivers(&A, 7, s(11));
        assert_eq!(healing.took(1), None, "of the other one it shows nothing");
    }

    #[test]
    fn a_fault_that_lets_things_heal_stops_no_clock_and_one_amid_it_does() {
        for heals_at in [40, 44] {
            let mut healing = Healing::default();
            healing.begin((0, true), s(0), [A]);
            healing.begin((1, false), s(1), [A]);
            healing.end(0, s(2), |_| 1);
            healing.begin((2, true), s(3), [A]);
            healing.end(2, s(34), |_| 2);
            if heals_at > 42 {
                healing.end(1, s(42), |_| 3);
            }
            healing.delivers(&A, 4, s(heals_at));
            let own = heals_at - 34;
            let took = [0, 2].map(|fault| healing.took(fault));
            assert_eq!(took, [Some(s(1 + own)), Some(s(own))]);
        }
    }

    #[test]
    fn what_shows_it_of_one_fault_need_not_of_another() {
        let mut healing = Healing::default();
        for fault in [0, 1] {
            healing.begin((fault, true), s(0), [A]);
            healing.end(fault, s(2), |_| 1);
        }
        healing.works(&A, s(3), |fault, _| fault == 1);
        assert_eq!((healing.took(0), healing.took(1)), (None, Some(s(1))));
    }

    #[test]
    fn the_loss_of_the_server_has_healed_when_all_are_registered_again_whatever_flows() {
        let registration = Part::Registration(0);
        let mut healing = Healing::default();
        healing.begin((0, true), s(0), [A, registration]);
        let next = |part: &Part| if *part == A { 5 } else { 0 };
        healing.end(0, s(2), next);
        healing.delivers(&A, 5, s(3));
        assert_eq!(healing.took(0), None);
        healing.delivers(&registration, 0, s(6));
        assert_eq!(healing.took(0), Some(s(4)));
    }
}
