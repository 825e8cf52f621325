//! Two real agents that are linked, for the tests of this room.

use super::Agent;
use crate::mesh::OutboxLimits;
use crate::signal::{Admission, Server, ServerConfig};

/// `ann` and `bob`, who keep so much for each other, and their server.
pub(super) async fn pair(limits: OutboxLimits) -> (Agent, Agent, Server) {
    let anywhere = "127.0.0.1:0".parse().unwrap();
    let server = Server::bind(ServerConfig::new(anywhere, Admission::Open))
        .await
        .unwrap();
    let start = |id: &str| {
        let swarm = "two".parse().unwrap();
        let agent = Agent::builder(id.parse().unwrap(), &swarm).outbox_limits(limits);
        agent.signal(&server.url()).start()
    };
    let (ann, bob) = (start("ann").await.unwrap(), start("bob").await.unwrap());
    ann.linked(1).await.unwrap();
    (ann, bob, server)
}
