//! Bad paths on purpose: a tool for tests and chaos, on the real sockets of a running agent.

use super::Agent;
use crate::identity::AgentId;
use crate::link::{PathConditions, PathCounts};

impl Agent {
    /// Makes the path to `peer` bad, or good again, for the links there are and those made later:
    /// delay, jitter, loss, doubling, reordering, a narrow line, a cut.
    ///
    /// It holds for what this agent sends; the other direction is the peer's. To cut a link both
    /// ways, cut it at both ends. Nobody is told, as with a real network: the agents have to find
    /// out. Not for an agent in earnest.
    pub fn condition(&self, peer: &AgentId, conditions: Option<PathConditions>) {
        let endpoint = self.shared.look().endpoint.clone();
        endpoint.condition(peer, conditions);
    }

    /// What became of the datagrams to `peer` while its path had conditions: that a fault really
    /// took place.
    pub fn path_counts(&self, peer: &AgentId) -> PathCounts {
        let endpoint = self.shared.look().endpoint.clone();
        endpoint.path_counts(peer)
    }

    /// The conditions that the path to `peer` has now, if any, and what became of the datagrams since
    /// they were set: that these conditions struck, and not those before.
    pub fn path_setting(&self, peer: &AgentId) -> Option<(PathConditions, PathCounts)> {
        let endpoint = self.shared.look().endpoint.clone();
        endpoint.path_setting(peer)
    }
}
