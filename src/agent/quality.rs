//! How good the connection with a peer is, and whether there is to be one.

use std::time::Duration;

use super::{Agent, Observer, PeerInfo};
use crate::identity::AgentId;
use crate::link::Path;
use crate::mesh::PeerState;

/// The connection with one peer, as it is now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionQuality {
    /// Where the peer stands.
    pub state: PeerState,
    /// The round trip of the last ping answered on the open link; pings go out every five seconds,
    /// the first one when the link comes up.
    pub rtt: Option<Duration>,
    /// How packets travel.
    pub path: Path,
    /// Messages sent to it that it has not acknowledged.
    pub unacked: u64,
}

impl Agent {
    /// The connection with `peer`; none with somebody who was never seen.
    pub async fn connection_quality(&self, peer: &AgentId) -> Option<ConnectionQuality> {
        let known = self.peers().into_iter().find(|p| p.view.id == *peer)?;
        Some(known.quality().await)
    }
}

impl Observer {
    /// As [`Agent::peers`](super::Agent::peers); nobody once the agent has ended.
    pub fn peers(&self) -> Vec<PeerInfo> {
        let shared = self.0.upgrade();
        let peers = shared.map(|shared| {
            let core = shared.look();
            core.links.describe(&core.mesh)
        });
        peers.unwrap_or_default()
    }

    /// How packets to `peer` travel; unknown where there is no link, or no agent any more.
    pub async fn path(&self, peer: &AgentId) -> Path {
        let mut peers = self.peers().into_iter();
        match peers.find(|known| known.view.id == *peer) {
            Some(known) => known.path().await,
            None => Path::Unknown,
        }
    }
}

impl PeerInfo {
    /// How good the connection is.
    pub async fn quality(&self) -> ConnectionQuality {
        ConnectionQuality {
            state: self.view.state,
            rtt: self.view.rtt,
            path: self.path().await,
            unacked: self.view.unacked,
        }
    }
}
