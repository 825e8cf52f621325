//! Links being made by one agent, and the line of peers that wait to be dialled: so many at once
//! that each comes up in time, in a swarm of any size.
//!
//! Only offers wait. An answer takes no place of the answerer, so that no two agents wait for each
//! other.

use std::collections::BTreeMap;

use super::peer::Step;
use crate::identity::AgentId;

#[derive(Debug)]
pub(super) struct Line {
    /// Links that this agent makes at once, by its own offers.
    places: usize,
    dialled: usize,
    accepted: usize,
    /// By whether an attempt has failed already, then first come, first served.
    waiting: BTreeMap<(bool, u64), AgentId>,
    tickets: u64,
}

impl Line {
    /// With fewer than one place nobody would ever be dialled.
    pub(super) fn new(places: usize) -> Self {
        Self {
            places: places.max(1),
            dialled: 0,
            accepted: 0,
            waiting: BTreeMap::new(),
            tickets: 0,
        }
    }

    /// Whether another dial has to wait.
    pub(super) fn is_full(&self) -> bool {
        self.dialled >= self.places
    }

    /// Whether another offer is more than this agent can answer now.
    pub(super) fn is_busy(&self) -> bool {
        self.accepted >= MAX_ACCEPTED
    }

    /// `peer` waits: behind all that were never tried, if it was in vain.
    pub(super) fn enter(&mut self, peer: AgentId, tried: bool) {
        self.tickets += 1;
        self.waiting.insert((tried, self.tickets), peer);
    }

    /// Whose turn it is, if there is a place.
    pub(super) fn next(&mut self) -> Option<AgentId> {
        if self.is_full() {
            return None;
        }
        self.waiting.pop_first().map(|(_, peer)| peer)
    }

    pub(super) fn begun(&mut self, step: Step) {
        *self.count(step) += 1;
    }

    pub(super) fn ended(&mut self, step: Step) {
        *self.count(step) -= 1;
    }

    fn count(&mut self, step: Step) -> &mut usize {
        match step {
            Step::Offered | Step::Answered => &mut self.dialled,
            Step::Accepted => &mut self.accepted,
        }
    }
}

/// Offers of different peers that are answered at once: each costs a connection, some 100 KiB, and
/// comes up, or times out, within seconds. Whose offer is refused is asked for another.
const MAX_ACCEPTED: usize = 512;
