//! What can be known of an agent from outside while it runs: what it has counted, and what it holds.
//!
//! Counting is an addition in memory that is locked already: no message is allocated for. What is
//! held is looked at when somebody asks. Nothing here names a peer or repeats what one has said.

use std::sync::Weak;
use std::time::{Duration, Instant};

use super::Stats;
use super::core::{Core, Shared};
use crate::mesh::PeerState;
use crate::message::{Reason, SdpReason};

/// Looks at an agent without keeping it alive.
#[derive(Clone)]
pub struct Observer(pub(super) Weak<Shared>);

/// An agent at one moment.
#[derive(Debug, Clone)]
pub struct Vitals {
    /// What it has counted.
    pub stats: Stats,
    /// Messages of others that it has refused, by reason, duplicates among them.
    pub refused: Vec<(Reason, u64)>,
    /// Offers and answers that it has refused, by reason.
    pub sdp_rejected: Vec<(SdpReason, u64)>,
    /// How many peers stand where.
    pub peers: Vec<(PeerState, u64)>,
    /// Round trips of answered pings.
    pub round_trips: RoundTrips,
    /// Whether the signaling server is there.
    pub is_registered: bool,
    /// How often it has registered again after the server was gone.
    pub comebacks: u64,
    /// Whether it is on its way out.
    pub is_leaving: bool,
    /// Its own log.
    pub witness: Coverage,
    /// What waits.
    pub queued: Queued,
    /// What it holds for its links.
    pub held: Holdings,
}

/// A log, and how far checkpoints cover it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Coverage {
    /// Entries that are written.
    pub entries: u64,
    /// Their bytes; 0 in memory.
    pub bytes: u64,
    /// Entries that the newest checkpoint of this process does not cover.
    pub uncovered: u64,
    /// How old that checkpoint is, if there is one.
    pub checkpoint_age: Option<Duration>,
    /// Entries that could not be written, since the log last said so.
    pub missing: u64,
}

/// What waits for somebody.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Queued {
    /// Messages for links that do not take them now.
    pub messages: u64,
    /// Messages that a peer has not acknowledged, each peer's counted by itself.
    pub unacknowledged: u64,
    /// Control frames for links.
    pub control: u64,
    /// Frames for the signaling server.
    pub signaling: u64,
    /// What waits for the disk, under `witness.sync: always`.
    pub disk: u64,
}

/// What an agent holds for its links: as much after many reconnections as before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Holdings {
    /// Tasks of its own, and the loops of connections and sockets.
    pub tasks: u64,
    /// Connections that have a place at its UDP port.
    pub connections: u64,
    /// Entries of the tables by which datagrams find their connection.
    pub routes: u64,
    /// Datagrams that wait to leave on a path made bad on purpose: [`Agent::condition`](super::Agent::condition).
    pub delayed: u64,
}

/// A histogram of round trips.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RoundTrips {
    /// How many were at most each of [`BOUNDS`](Self::BOUNDS) and above the one before; the last
    /// are above all.
    counts: [u64; Self::BOUNDS.len() + 1],
    sum: Duration,
}

/// What the core counts for [`Vitals`], beside its [`Stats`].
#[derive(Debug)]
pub(super) struct Tally {
    refused: [u64; Reason::all().len()],
    sdp_rejected: [u64; SdpReason::ALL.len()],
    pub(super) round_trips: RoundTrips,
    pub(super) is_registered: bool,
    pub(super) comebacks: u64,
    /// When the newest checkpoint was signed, and over how many entries.
    checkpoint: Option<(Instant, u64)>,
}

impl Observer {
    /// What there is to see; `None` once the agent has ended.
    pub fn look(&self) -> Option<Vitals> {
        let shared = self.0.upgrade()?;
        let mut core = shared.look();
        // Tasks that have ended are not held.
        while core.tasks.try_join_next().is_some() {}
        core.vitals()
    }
}

impl std::fmt::Debug for Observer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Observer")
    }
}

impl RoundTrips {
    /// Up to where each count goes: from one host to round the world and through a full queue.
    pub const BOUNDS: [Duration; 13] = [
        Duration::from_micros(500),
        Duration::from_millis(1),
        Duration::from_micros(2500),
        Duration::from_millis(5),
        Duration::from_millis(10),
        Duration::from_millis(25),
        Duration::from_millis(50),
        Duration::from_millis(100),
        Duration::from_millis(250),
        Duration::from_millis(500),
        Duration::from_secs(1),
        Duration::from_millis(2500),
        Duration::from_secs(5),
    ];

    /// Adds one.
    pub fn record(&mut self, rtt: Duration) {
        self.counts[Self::BOUNDS.partition_point(|bound| *bound < rtt)] += 1;
        self.sum = self.sum.saturating_add(rtt);
    }

    /// Each bound, and how many were at most that.
    pub fn cumulative(&self) -> impl Iterator<Item = (Duration, u64)> {
        let counts = self.counts.iter().scan(0, |so_far, count| {
            *so_far += count;
            Some(*so_far)
        });
        Self::BOUNDS.into_iter().zip(counts)
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// All of them together.
    pub fn sum(&self) -> Duration {
        self.sum
    }
}

impl Tally {
    /// Of an agent that has registered just now.
    pub(super) fn new() -> Self {
        Self {
            refused: Default::default(),
            sdp_rejected: Default::default(),
            round_trips: RoundTrips::default(),
            is_registered: true,
            comebacks: 0,
            checkpoint: None,
        }
    }

    pub(super) fn refused(&mut self, reason: Reason) {
        self.refused[reason as usize] += 1;
    }

    pub(super) fn sdp_rejected(&mut self, reason: SdpReason) {
        self.sdp_rejected[reason as usize] += 1;
    }

    pub(super) fn checkpoint(&mut self, now: Instant, size: u64) {
        self.checkpoint = Some((now, size));
    }
}

impl Core {
    fn vitals(&self) -> Option<Vitals> {
        let witness = self.witness.as_ref()?;
        let entries = witness.committed_len();
        let checkpoint = self.tally.checkpoint;
        let coverage = Coverage {
            entries,
            bytes: witness.bytes(),
            uncovered: entries.saturating_sub(checkpoint.map_or(0, |(_, size)| size)),
            checkpoint_age: checkpoint.map(|(at, _)| at.elapsed()),
            missing: witness.unwitnessed(),
        };
        let mut peers = PeerState::ALL.map(|state| (state, 0));
        for peer in self.mesh.peers() {
            peers[peer.state as usize].1 += 1;
        }
        let named = |counts: &[u64]| Reason::all().iter().copied().zip(counts.to_vec()).collect();
        let sdp = SdpReason::ALL.into_iter().zip(self.tally.sdp_rejected);
        Some(Vitals {
            stats: self.stats,
            refused: named(&self.tally.refused),
            sdp_rejected: sdp.collect(),
            peers: peers.to_vec(),
            round_trips: self.tally.round_trips,
            is_registered: self.tally.is_registered,
            comebacks: self.tally.comebacks,
            is_leaving: self.leaving.is_some(),
            witness: coverage,
            queued: self.queued(),
            held: self.held(),
        })
    }

    fn held(&self) -> Holdings {
        let usage = self.endpoint.usage();
        let writers = self.links.iter().filter(|(_, link)| link.made.is_some());
        Holdings {
            tasks: (self.tasks.len() + writers.count() + usage.loops) as u64,
            connections: usage.connections as u64,
            routes: usage.routes as u64,
            delayed: usage.delayed as u64,
        }
    }

    fn queued(&self) -> Queued {
        let made = self.links.iter().filter_map(|(_, link)| link.made.as_ref());
        let mut queued = Queued {
            signaling: waiting(&self.signal_queue),
            disk: self.gate.held() as u64,
            unacknowledged: self.mesh.peers().map(|peer| peer.unacked).sum(),
            ..Queued::default()
        };
        for made in made {
            queued.messages += made.way.queued() as u64;
            queued.control += waiting(&made.control);
        }
        queued
    }
}

fn waiting<T>(queue: &tokio::sync::mpsc::Sender<T>) -> u64 {
    (queue.max_capacity() - queue.capacity()) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_trip_counts_for_its_bound_and_all_above() {
        let mut trips = RoundTrips::default();
        for ms in [1, 2, 60_000] {
            trips.record(Duration::from_millis(ms));
        }
        let counts: Vec<_> = trips.cumulative().map(|(_, count)| count).collect();
        // A bound is inclusive, and what is above all stands in the count alone.
        assert_eq!(counts, [0, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2]);
        assert_eq!((trips.count(), trips.sum().as_millis()), (3, 60_003));
    }

    #[test]
    fn every_reason_and_state_has_the_place_that_its_number_says() {
        // `Tally` counts by number and tells by list.
        for (place, reason) in Reason::all().iter().enumerate() {
            assert_eq!(*reason as usize, place);
        }
        for (place, reason) in SdpReason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, place);
        }
        for (place, state) in PeerState::ALL.into_iter().enumerate() {
            assert_eq!(state as usize, place);
        }
    }
}
