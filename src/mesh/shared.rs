//! What all peers of one mesh share: configuration, outputs, link ids, jitter, the next deadline.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use super::line::Line;
use super::{CloseReason, Config, Output};
use crate::identity::{AgentId, LinkId};

/// Kept apart from the peers, so that one peer and this can be borrowed together.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) config: Config,
    /// Microseconds on the wire count from here.
    pub(super) origin: Instant,
    /// Set by [`super::Mesh::leave`]: when the last links are closed.
    pub(super) leaving: Option<Instant>,
    /// Whether there is no signaling server: no offer can be carried.
    pub(super) cut_off: bool,
    /// The greatest number given out to `*`.
    pub(super) all_assigned: u64,
    /// What it was when this run began.
    pub(super) all_began: u64,
    /// Links being made, and peers that wait for it.
    pub(super) line: Line,
    outputs: VecDeque<Output>,
    /// Every link that is open or being made: at most two per peer.
    links: BTreeMap<LinkId, AgentId>,
    links_made: u64,
    jitter: u64,
    /// No deadline lies before this one. It may be early, never late.
    due: Option<Instant>,
}

impl Shared {
    pub(super) fn new(config: Config, now: Instant) -> Self {
        Self {
            jitter: config.seed,
            line: Line::new(config.making_at_once),
            config,
            origin: now,
            leaving: None,
            cut_off: false,
            all_assigned: 0,
            all_began: 0,
            outputs: VecDeque::new(),
            links: BTreeMap::new(),
            links_made: 0,
            due: None,
        }
    }

    pub(super) fn emit(&mut self, output: Output) {
        self.outputs.push_back(output);
    }

    pub(super) fn poll(&mut self) -> Option<Output> {
        let next = self.outputs.pop_front();
        if next.is_none() {
            self.outputs.shrink_to(FEW);
        }
        next
    }

    /// A fresh link id. The hash keeps the seed, and so the ids to come, from those who see one.
    pub(super) fn make_link(&mut self, peer: &AgentId) -> LinkId {
        loop {
            self.links_made += 1;
            let digest = Sha256::new()
                .chain_update(self.config.seed.to_be_bytes())
                .chain_update(self.config.session.to_string())
                .chain_update(self.links_made.to_be_bytes())
                .finalize();
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&digest[..8]);
            let link = LinkId::from_bytes(bytes);
            if self.take_link(link, peer) {
                return link;
            }
        }
    }

    /// Enters a link. False if it is in use, whoever's it is.
    pub(super) fn take_link(&mut self, link: LinkId, peer: &AgentId) -> bool {
        let free = !self.links.contains_key(&link);
        if free {
            self.links.insert(link, peer.clone());
        }
        free
    }

    pub(super) fn peer_of(&self, link: LinkId) -> Option<AgentId> {
        self.links.get(&link).cloned()
    }

    /// Forgets a link, and has it closed unless it ended by itself.
    pub(super) fn drop_link(&mut self, link: LinkId, why: CloseReason) {
        self.links.remove(&link);
        if why != CloseReason::Lost {
            self.emit(Output::Close { link, why });
        }
    }

    /// The wait after so many failures in a row: doubling, and by chance anything up to that (full
    /// jitter), so that agents that lost each other together do not come back together.
    pub(super) fn backoff(&mut self, failures: u32) -> Duration {
        let most = RETRY_FIRST
            .saturating_mul(1 << failures.min(16))
            .min(RETRY_MOST);
        let part = (self.random() >> 32) as u32;
        most.mul_f64(f64::from(part) / f64::from(u32::MAX))
    }

    /// SplitMix64 (Steele, Lea, Flood 2014): jitter only, nothing secret.
    fn random(&mut self) -> u64 {
        self.jitter = self.jitter.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.jitter;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Something is due at `at`.
    pub(super) fn wake(&mut self, at: Instant) {
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
    }

    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    pub(super) fn clear_due(&mut self) {
        self.due = None;
    }
}

/// The longest wait before the first new attempt.
const RETRY_FIRST: Duration = Duration::from_secs(1);
/// The longest wait between attempts.
const RETRY_MOST: Duration = Duration::from_secs(60);
/// Outputs of a usual event: the memory of more is given back.
const FEW: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Session;
    use crate::mesh::{Neighbours, OutboxLimits};

    fn shared(seed: u64) -> Shared {
        let config = Config {
            me: "a".parse().unwrap(),
            session: Session::new(1, [0; 10]),
            neighbours: Neighbours::All,
            reliable: true,
            dial_timeout: Duration::from_secs(10),
            making_at_once: 16,
            outbox: OutboxLimits::default(),
            durable: false,
            seed,
        };
        Shared::new(config, Instant::now())
    }

    #[test]
    fn the_wait_is_anything_up_to_a_second_that_doubles_to_sixty() {
        let mut shared = shared(7);
        for (failures, most) in [(0, 1), (1, 2), (2, 4), (5, 32), (6, 60), (40, 60)] {
            let most = Duration::from_secs(most);
            let waits: Vec<_> = (0..200).map(|_| shared.backoff(failures)).collect();
            assert!(waits.iter().all(|wait| *wait <= most), "{failures}");
            let in_tenth = |n: u32| {
                let (least, most) = (most * n / 10, most * (n + 1) / 10);
                waits.iter().any(|wait| (least..=most).contains(wait))
            };
            assert!((0..10).all(in_tenth), "{failures}: {waits:?}");
        }
    }

    #[test]
    fn link_ids_come_from_the_seed_and_are_never_the_same() {
        let peer = "b".parse().unwrap();
        let (mut one, mut same, mut other) = (shared(1), shared(1), shared(2));
        let first = one.make_link(&peer);
        assert_eq!(first, same.make_link(&peer));
        assert_ne!(first, other.make_link(&peer));
        assert_ne!(first, one.make_link(&peer));
    }
}
