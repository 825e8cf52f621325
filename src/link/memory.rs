//! A network in memory, on simulated time: wires with delay, loss, duplication, reordering, cuts,
//! all from one seed.
//!
//! It carries frames of any type and knows nothing of what they mean. No threads, no clock: the
//! caller moves time on to [`Network::next_at`] and takes what has arrived. Two runs with the same
//! seed and the same calls are the same.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// Wires named `W`, one per direction, that carry frames `F`.
///
/// ```
/// use std::time::{Duration, Instant};
/// use ifswarm::link::memory::{Conditions, Network};
///
/// let start = Instant::now();
/// let delay = Duration::from_millis(5);
/// let mut network = Network::new(Conditions::steady(delay), 1);
/// network.send("a to b", "hello", start);
/// let at = network.next_at().expect("it is on its way");
/// assert_eq!(at, start + delay);
/// assert_eq!(network.receive(at), Some(("a to b", "hello")));
/// ```
#[derive(Debug)]
pub struct Network<W, F> {
    conditions: Conditions,
    chance: Chance,
    /// By time of arrival; the count keeps frames of one moment apart, in the order they were sent.
    in_flight: BTreeMap<(Instant, u64), (W, F)>,
    frames: u64,
    /// When the last frame of an ordered wire arrives: the next one must not overtake it.
    last_arrival: BTreeMap<W, Instant>,
    cut: BTreeSet<W>,
    counts: Counts,
}

/// How wires behave.
#[derive(Debug, Clone)]
pub struct Conditions {
    /// The shortest and the longest delay of a frame.
    pub delay: (Duration, Duration),
    /// How many of a thousand frames are lost.
    pub loss: u32,
    /// How many of a thousand frames arrive twice.
    pub duplicates: u32,
    /// Whether the frames of a wire arrive in the order they were sent.
    pub ordered: bool,
}

/// What happened to frames: a test of a fault asserts that the fault took place.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Handed in.
    pub sent: u64,
    /// Handed out, duplicates included.
    pub delivered: u64,
    /// Lost by chance, by a cut, or because too many were in flight.
    pub lost: u64,
    /// Sent a second time.
    pub duplicated: u64,
}

/// Chance from a seed (SplitMix64; Steele, Lea, Flood 2014): for simulations, nothing secret.
#[derive(Debug, Clone)]
pub struct Chance(u64);

impl<W: Ord + Clone, F: Clone> Network<W, F> {
    /// An empty network.
    pub fn new(conditions: Conditions, seed: u64) -> Self {
        Self {
            conditions,
            chance: Chance::new(seed),
            in_flight: BTreeMap::new(),
            frames: 0,
            last_arrival: BTreeMap::new(),
            cut: BTreeSet::new(),
            counts: Counts::default(),
        }
    }

    /// Changes how wires behave, for frames sent from now on.
    pub fn set_conditions(&mut self, conditions: Conditions) {
        self.conditions = conditions;
    }

    /// Puts a frame on a wire.
    pub fn send(&mut self, wire: W, frame: F, now: Instant) {
        self.counts.sent += 1;
        if self.cut.contains(&wire) || self.chance.per_mille(self.conditions.loss) {
            self.counts.lost += 1;
            return;
        }
        if self.chance.per_mille(self.conditions.duplicates) {
            self.counts.duplicated += 1;
            self.put(wire.clone(), frame.clone(), now);
        }
        self.put(wire, frame, now);
    }

    fn put(&mut self, wire: W, frame: F, now: Instant) {
        if self.in_flight.len() >= MAX_IN_FLIGHT {
            self.counts.lost += 1;
            return;
        }
        let (least, most) = self.conditions.delay;
        let mut at = now + self.chance.between(least, most);
        if self.conditions.ordered {
            let last = self.last_arrival.entry(wire.clone()).or_insert(at);
            at = at.max(*last);
            *last = at;
        }
        self.frames += 1;
        self.in_flight.insert((at, self.frames), (wire, frame));
    }

    /// Cuts a wire: what is in flight on it is lost, and whatever is sent until it is mended.
    pub fn cut(&mut self, wire: W) {
        let before = self.in_flight.len();
        self.in_flight.retain(|_, (on, _)| *on != wire);
        self.counts.lost += (before - self.in_flight.len()) as u64;
        self.last_arrival.remove(&wire);
        self.cut.insert(wire);
    }

    /// Mends a wire that was cut.
    pub fn mend(&mut self, wire: &W) {
        self.cut.remove(wire);
    }

    /// When the next frame arrives.
    pub fn next_at(&self) -> Option<Instant> {
        self.in_flight.first_key_value().map(|((at, _), _)| *at)
    }

    /// The next frame that has arrived by `now`, and its wire.
    pub fn receive(&mut self, now: Instant) -> Option<(W, F)> {
        if self.next_at()? > now {
            return None;
        }
        let ((at, _), (wire, frame)) = self.in_flight.pop_first()?;
        self.counts.delivered += 1;
        if self.last_arrival.get(&wire) == Some(&at) {
            // Nothing sent from now on can overtake it: idle wires cost nothing.
            self.last_arrival.remove(&wire);
        }
        Some((wire, frame))
    }

    /// How many frames are in flight.
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// What happened so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }
}

impl Conditions {
    /// Ordered, nothing lost or doubled, always this delay.
    pub fn steady(delay: Duration) -> Self {
        Self {
            delay: (delay, delay),
            loss: 0,
            duplicates: 0,
            ordered: true,
        }
    }
}

impl Chance {
    /// Chance from this seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Any number.
    pub fn any(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`; 0 if `end` is 0. Even enough for simulations.
    pub fn below(&mut self, end: u64) -> u64 {
        self.any().checked_rem(end).unwrap_or(0)
    }

    /// True `n` times of a thousand.
    pub fn per_mille(&mut self, n: u32) -> bool {
        self.below(1000) < u64::from(n)
    }

    /// A duration between these two, both included.
    pub fn between(&mut self, least: Duration, most: Duration) -> Duration {
        let span = most.saturating_sub(least).as_nanos();
        let span = u64::try_from(span).unwrap_or(u64::MAX - 1);
        least + Duration::from_nanos(self.below(span + 1))
    }
}

/// More than any simulation of a few hundred agents has in flight; what is beyond is lost, so
/// that a program that sends in a circle ends in a failed test and not without memory.
const MAX_IN_FLIGHT: usize = 1 << 18;

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn rough(ordered: bool) -> Conditions {
        Conditions {
            delay: (MS, 20 * MS),
            loss: 100,
            duplicates: 100,
            ordered,
        }
    }

    fn run(conditions: Conditions, seed: u64) -> (Vec<(Instant, u32)>, Counts) {
        let start = Instant::now();
        run_from(start, conditions, seed)
    }

    fn run_from(
        start: Instant,
        conditions: Conditions,
        seed: u64,
    ) -> (Vec<(Instant, u32)>, Counts) {
        let mut network = Network::new(conditions, seed);
        for n in 0..1000 {
            network.send((), n, start + n * MS);
        }
        let mut arrived = Vec::new();
        while let Some(at) = network.next_at() {
            let ((), n) = network.receive(at).expect("it arrives when it says");
            arrived.push((at, n));
        }
        (arrived, network.counts())
    }

    #[test]
    fn an_ordered_wire_keeps_order_though_delays_differ() {
        let (arrived, counts) = run(rough(true), 1);
        assert!(arrived.is_sorted_by_key(|(_, n)| *n));
        assert!(counts.lost > 50 && counts.duplicated > 50, "{counts:?}");
        assert_eq!(counts.delivered, 1000 - counts.lost + counts.duplicated);
    }

    #[test]
    fn an_unordered_wire_reorders() {
        let (arrived, _) = run(rough(false), 1);
        assert!(!arrived.is_sorted_by_key(|(_, n)| *n));
    }

    #[test]
    fn a_seed_replays_a_run() {
        let start = Instant::now();
        let one = run_from(start, rough(false), 1);
        assert_eq!(one, run_from(start, rough(false), 1));
        assert_ne!(one, run_from(start, rough(false), 2));
    }

    #[test]
    fn a_cut_loses_what_is_in_flight_and_what_follows() {
        let start = Instant::now();
        let mut network = Network::new(Conditions::steady(MS), 1);
        network.send('a', 1, start);
        network.send('b', 2, start);
        network.cut('a');
        network.send('a', 3, start);
        assert_eq!(network.receive(start + MS), Some(('b', 2)));
        assert_eq!(network.receive(start + MS), None);
        assert_eq!(network.counts().lost, 2);
        network.mend(&'a');
        network.send('a', 4, start);
        assert_eq!(network.receive(start + MS), Some(('a', 4)));
    }
}
