//! What a bad path does to datagrams: when each of them leaves, and how often. Pure: no clock, no
//! sockets; chance is from a seed.
//!
//! For tests and chaos, on real sockets. The same for frames in memory is in
//! [`memory`](super::memory), whose [`Chance`] this uses.

use std::time::{Duration, Instant};

use super::memory::Chance;

/// How the path to a peer behaves, in the direction of sending. The default changes nothing.
///
/// ```
/// use std::time::Duration;
/// use ifswarm::link::PathConditions;
///
/// let bad_cellular = PathConditions {
///     delay: Duration::from_millis(150),
///     jitter: Duration::from_millis(100),
///     loss_per_mille: 50,
///     rate: Some(64 * 1024),
///     ..PathConditions::default()
/// };
/// let away = PathConditions { cut: true, ..PathConditions::default() };
/// # let _ = (bad_cellular, away);
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PathConditions {
    /// The shortest time that a datagram is under way.
    pub delay: Duration,
    /// Up to how much longer it is, evenly by chance. By itself it changes no order.
    pub jitter: Duration,
    /// How many of a thousand datagrams are lost.
    pub loss_per_mille: u32,
    /// How many of a thousand go out twice.
    pub duplicate_per_mille: u32,
    /// How many of a thousand are held back, 10 ms and the jitter longer than others, so that
    /// those behind overtake them.
    pub reorder_per_mille: u32,
    /// Bytes a second; none: no bound. A datagram that would have to queue for more than half a
    /// second is lost, so that the queue is bounded whatever the rate.
    pub rate: Option<u64>,
    /// Nothing goes out, and what was delayed is lost.
    pub cut: bool,
    /// What chance starts from: the same datagrams meet the same fate.
    pub seed: u64,
}

/// What happened to the datagrams to one peer while there were conditions: a test of a fault
/// asserts that the fault took place.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PathCounts {
    /// Given to the path.
    pub sent: u64,
    /// Lost: by chance, by a cut, or because a queue was full.
    pub dropped: u64,
    /// Of these: by a cut.
    pub cut: u64,
    /// Sent a second time.
    pub duplicated: u64,
    /// Sent later than at once.
    pub delayed: u64,
    /// Held back so that others overtake.
    pub reordered: u64,
}

/// A path under conditions: decides, and remembers what that depends on.
#[derive(Debug)]
pub(super) struct ConditionedPath {
    conditions: PathConditions,
    chance: Chance,
    /// When the line has sent out what it was given: the next datagram waits for that.
    free_at: Option<Instant>,
    /// When the latest datagram that keeps its place leaves.
    latest: Option<Instant>,
}

/// What becomes of one datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is lost.
    Lost,
    /// It leaves at this time.
    Leaves {
        at: Instant,
        twice: bool,
        overtaken: bool,
    },
}

impl ConditionedPath {
    pub(super) fn new(conditions: PathConditions) -> Self {
        Self {
            conditions,
            chance: Chance::new(conditions.seed),
            free_at: None,
            latest: None,
        }
    }

    pub(super) fn is_cut(&self) -> bool {
        self.conditions.cut
    }

    pub(super) fn conditions(&self) -> PathConditions {
        self.conditions
    }

    /// Decides about a datagram of `size` bytes.
    pub(super) fn decide(&mut self, size: usize, now: Instant) -> Fate {
        let conditions = self.conditions;
        // Drawn for every datagram, needed or not: so the fate of one does not hang on the size
        // of another.
        let lost = self.chance.per_mille(conditions.loss_per_mille);
        let twice = self.chance.per_mille(conditions.duplicate_per_mille);
        let overtaken = self.chance.per_mille(conditions.reorder_per_mille);
        let jitter = self.chance.between(Duration::ZERO, conditions.jitter);
        if conditions.cut || lost {
            return Fate::Lost;
        }
        let Some(through) = self.queue(size, now) else {
            return Fate::Lost;
        };
        let mut at = through + conditions.delay + jitter;
        if overtaken {
            at += conditions.jitter + HELD_BACK;
        } else {
            at = self.latest.map_or(at, |latest| at.max(latest));
            self.latest = Some(at);
        }
        Fate::Leaves {
            at,
            twice,
            overtaken,
        }
    }

    /// When the line has sent out a datagram that comes now; none if its queue is full.
    fn queue(&mut self, size: usize, now: Instant) -> Option<Instant> {
        let Some(rate) = self.conditions.rate else {
            return Some(now);
        };
        let begins = self.free_at.map_or(now, |free| free.max(now));
        if begins.duration_since(now) > LONGEST_QUEUE {
            return None;
        }
        let seconds = size as f64 / rate.max(1) as f64;
        let through = begins + Duration::from_secs_f64(seconds);
        self.free_at = Some(through);
        Some(through)
    }
}

/// How much later than the others a datagram leaves that is to be overtaken, beside the jitter.
const HELD_BACK: Duration = Duration::from_millis(10);
/// What a datagram may have to wait for a line with a rate: more than a good router keeps, less
/// than makes a protocol believe that the path is gone.
const LONGEST_QUEUE: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn fates(conditions: PathConditions, start: Instant) -> Vec<Fate> {
        let mut path = ConditionedPath::new(conditions);
        (0..1000)
            .map(|n| path.decide(100, start + n * MS))
            .collect()
    }

    fn leaving(fates: &[Fate]) -> Vec<Instant> {
        let leaving = fates.iter().filter_map(|fate| match fate {
            Fate::Lost => None,
            Fate::Leaves { at, .. } => Some(*at),
        });
        leaving.collect()
    }

    fn count(fates: &[Fate], holds: impl Fn(&Fate) -> bool) -> usize {
        fates.iter().filter(|fate| holds(fate)).count()
    }

    #[test]
    fn without_conditions_a_datagram_leaves_at_once() {
        let start = Instant::now();
        let at = leaving(&fates(PathConditions::default(), start));
        assert!(at.iter().copied().eq((0..1000).map(|n| start + n * MS)));
    }

    #[test]
    fn a_cut_loses_everything() {
        let conditions = PathConditions {
            cut: true,
            ..PathConditions::default()
        };
        assert!(leaving(&fates(conditions, Instant::now())).is_empty());
    }

    #[test]
    fn jitter_delays_and_keeps_the_order() {
        let start = Instant::now();
        let conditions = PathConditions {
            delay: 50 * MS,
            jitter: 20 * MS,
            ..PathConditions::default()
        };
        let at = leaving(&fates(conditions, start));
        assert!(at.is_sorted());
        let under_way = at.iter().zip(0..).map(|(at, n)| *at - (start + n * MS));
        let (least, most) = (under_way.clone().min(), under_way.max());
        assert!(least >= Some(50 * MS) && most <= Some(70 * MS), "{most:?}");
        assert!(most > Some(60 * MS), "{most:?}");
    }

    #[test]
    fn loss_doubling_and_reordering_take_place_as_often_as_asked() {
        let conditions = PathConditions {
            loss_per_mille: 100,
            duplicate_per_mille: 100,
            reorder_per_mille: 100,
            ..PathConditions::default()
        };
        let fates = fates(conditions, Instant::now());
        let lost = count(&fates, |fate| *fate == Fate::Lost);
        let twice = |fate: &Fate| matches!(fate, Fate::Leaves { twice: true, .. });
        let overtaken = |fate: &Fate| {
            matches!(
                fate,
                Fate::Leaves {
                    overtaken: true,
                    ..
                }
            )
        };
        for n in [lost, count(&fates, twice), count(&fates, overtaken)] {
            assert!((50..150).contains(&n), "{n} of 1000");
        }
        assert!(!leaving(&fates).is_sorted());
    }

    #[test]
    fn a_rate_spreads_what_comes_in_a_burst_and_drops_the_tail() {
        let start = Instant::now();
        let conditions = PathConditions {
            rate: Some(100_000),
            ..PathConditions::default()
        };
        let mut path = ConditionedPath::new(conditions);
        let burst: Vec<_> = (0..1000).map(|_| path.decide(1000, start)).collect();
        let at = leaving(&burst);
        // A datagram every 10 ms for half a second, the one that leaves then, and its successor.
        assert_eq!(at.len(), 51);
        assert_eq!(at[0], start + 10 * MS);
        assert_eq!(at[50] - at[49], 10 * MS);
        // Once the line is free again it carries as before.
        let later = start + Duration::from_secs(9);
        let next = path.decide(1000, later);
        assert_eq!(leaving(&[next]), [later + 10 * MS]);
    }

    #[test]
    fn no_rate_is_too_small_and_none_too_large() {
        for rate in [0, 1, u64::MAX] {
            let conditions = PathConditions {
                rate: Some(rate),
                ..PathConditions::default()
            };
            let mut path = ConditionedPath::new(conditions);
            assert_ne!(path.decide(65_535, Instant::now()), Fate::Lost);
        }
    }

    #[test]
    fn a_seed_repeats_every_fate() {
        let start = Instant::now();
        let with_seed = |seed| {
            let conditions = PathConditions {
                jitter: 5 * MS,
                loss_per_mille: 100,
                duplicate_per_mille: 100,
                reorder_per_mille: 100,
                seed,
                ..PathConditions::default()
            };
            fates(conditions, start)
        };
        assert_eq!(with_seed(1), with_seed(1));
        assert_ne!(with_seed(1), with_seed(2));
    }
}
