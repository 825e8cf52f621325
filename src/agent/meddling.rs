//! What a test of faults does to a running agent from outside. Nothing of it is done by itself.

use super::Observer;
use crate::identity::AgentId;
use crate::link::{Endpoint, PathConditions, PathCounts};

impl Observer {
    /// Lets the agent's wall clock be off by so many milliseconds from now on, as if somebody had set
    /// it. Nothing but the times it writes and judges changes: it waits by another clock.
    pub fn set_clock_off(&self, by_ms: i64) {
        if let Some(shared) = self.0.upgrade() {
            shared.enter(|core| core.clock_off_ms = by_ms);
        }
    }

    /// As [`Agent::condition`](super::Agent::condition).
    pub fn condition(&self, peer: &AgentId, conditions: Option<PathConditions>) {
        if let Some(shared) = self.0.upgrade() {
            let endpoint = shared.look().endpoint.clone();
            endpoint.condition(peer, conditions);
        }
    }

    /// As [`Agent::path_counts`](super::Agent::path_counts), of every peer that was ever seen; nothing
    /// once it has ended.
    pub fn path_counts(&self) -> Vec<(AgentId, PathCounts)> {
        self.of_paths(Endpoint::path_counts)
    }

    /// As [`Agent::path_setting`](super::Agent::path_setting), of every peer that was ever seen; nothing
    /// once it has ended.
    pub fn path_settings(&self) -> Vec<(AgentId, Option<(PathConditions, PathCounts)>)> {
        self.of_paths(Endpoint::path_setting)
    }

    fn of_paths<T>(&self, look: impl Fn(&Endpoint, &AgentId) -> T) -> Vec<(AgentId, T)> {
        let Some(shared) = self.0.upgrade() else {
            return Vec::new();
        };
        let (endpoint, peers) = {
            let core = shared.look();
            let peers = core.mesh.peers().map(|peer| peer.id).collect::<Vec<_>>();
            (core.endpoint.clone(), peers)
        };
        let paths = peers.into_iter().map(|peer| {
            let seen = look(&endpoint, &peer);
            (peer, seen)
        });
        paths.collect()
    }
}
