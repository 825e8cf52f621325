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
    /// How packets to `peer` travel; unknown where there is no link, or no agent any more.
    pub async fn path(&self, peer: &AgentId) -> Path {
        let known = self.0.upgrade().and_then(|shared| {
            let core = shared.look();
            let peers = core.links.describe(&core.mesh);
            peers.into_iter().find(|known| known.view.id == *peer)
        });
        match known {
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
