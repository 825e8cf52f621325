//! One link given up, or wanted again, while the agent lives on; and the agent told to leave.

use std::time::Duration;

use super::core::Core;
use super::{Agent, Observer};
use crate::identity::AgentId;

impl Agent {
    /// Says goodbye to `peer` alone and closes the link; no new one is made until one of the two
    /// wants it: this agent by [`connect`](Self::connect), the peer by offering or asking. A peer
    /// that starts anew offers. Whether a goodbye was said: a link was up.
    ///
    /// Subscribers hear of the end by [`PeerDown`](super::AgentEvent::PeerDown).
    pub fn disconnect_peer(&self, peer: &AgentId, reason: &str) -> bool {
        let parted = self.shared.enter(|core| core.part(peer, reason));
        parted.unwrap_or(false)
    }

    /// Wants a link with `peer`, also if one of the two had said goodbye: makes an offer, or asks
    /// the peer for one, if its id is the smaller. Whether signaling knows the peer to be there.
    /// [`linked_with`](Self::linked_with) waits for the link.
    pub fn connect(&self, peer: &AgentId) -> bool {
        let wanted = self.shared.enter(|core| core.mesh.connect(peer, core.now));
        wanted.unwrap_or(false)
    }
}

impl Observer {
    /// Tells the agent to leave, as [`Agent::shutdown_within`] does, and does not wait for it. One that
    /// is leaving already has no longer for it than this.
    pub fn shutdown_within(&self, reason: &str, grace: Duration) {
        if let Some(shared) = self.0.upgrade() {
            shared.enter(|core| {
                core.begin_leaving(reason, grace, None);
                if let Some(leaving) = &mut core.leaving {
                    leaving.deadline = leaving.deadline.min(core.now + grace);
                }
            });
        }
    }
}

impl Core {
    fn part(&mut self, peer: &AgentId, reason: &str) -> bool {
        let Some(farewell) = self.mesh.part(peer, self.now) else {
            return false;
        };
        // The last acknowledgements go first: the peer lets go of the link at the goodbye.
        self.drain_mesh();
        self.say_goodbye(&farewell, reason);
        true
    }
}
