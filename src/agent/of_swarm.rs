//! An agent as a swarm file describes it.

use std::collections::BTreeSet;

use super::{Agent, Builder};
use crate::link::{ChannelOptions, IceServer};
use crate::mesh::{Neighbours, OutboxLimits};
use crate::swarm::{Swarm, SwarmAgent, Topology};

impl Agent {
    /// The agent `described` of `swarm`, with all that the file says of it but its key and its
    /// witness folder, and nothing of where to register and whom to believe: the caller knows.
    pub fn of_swarm(swarm: &Swarm, described: &SwarmAgent) -> Builder {
        let neighbours = match swarm.topology {
            Topology::FullMesh => Neighbours::All,
            topology => {
                let neighbours = topology.neighbours(&swarm.ids(), &described.id);
                Neighbours::Only(BTreeSet::from_iter(neighbours))
            }
        };
        Self::builder(described.id.clone(), &swarm.name)
            .neighbours(neighbours)
            .udp_port(described.udp_port)
            .ice_servers(ice_servers(swarm))
            .channel(ChannelOptions {
                ordered: swarm.channel.ordered,
                max_retransmits: swarm.channel.max_retransmits,
                max_message: swarm.channel.max_message,
            })
            .outbox(swarm.outbox.dir.clone())
            .outbox_limits(OutboxLimits {
                messages: swarm.outbox.messages,
                bytes: swarm.outbox.bytes,
                keep: swarm.outbox.keep,
            })
            .sdp_detail(swarm.witness.sdp)
            .witness_sync(swarm.witness.sync)
            .on_witness_error(swarm.witness.on_error)
    }
}

fn ice_servers(swarm: &Swarm) -> Vec<IceServer> {
    let stun = swarm.ice.stun.iter().map(|url| IceServer {
        urls: vec![url.clone()],
        username: String::new(),
        credential: String::new(),
    });
    let turn = swarm.ice.turn.iter().map(|server| IceServer {
        urls: vec![server.url.clone()],
        username: server.username.clone(),
        credential: server.credential.clone(),
    });
    stun.chain(turn).collect()
}
