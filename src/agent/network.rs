//! Where this host can be reached, and following it: a laptop changes its network, an interface
//! goes, a new address comes.
//!
//! The addresses are looked at every two seconds. On a change the endpoint is bound anew and the
//! mesh is told, which asks every peer whether it still hears; links that do not answer are made
//! again, from the addresses there are then.

use std::io;
use std::net::IpAddr;
use std::sync::Weak;
use std::time::Duration;

use super::core::{Core, Shared};
use crate::link::Endpoint;

/// The addresses at which this host can be reached by others, and those by which it reaches
/// itself; none that hold on one wire alone (link-local).
///
/// # Errors
/// What the operating system says.
pub fn host_addresses() -> io::Result<Vec<IpAddr>> {
    let interfaces = if_addrs::get_if_addrs()?.into_iter();
    let mut addresses: Vec<_> = interfaces
        .filter(|interface| !interface.is_link_local())
        .map(|interface| interface.ip())
        .collect();
    addresses.sort_unstable();
    addresses.dedup();
    Ok(addresses)
}

impl Core {
    /// Begins to follow the host's addresses; ends when the agent begins to leave.
    pub(super) fn follow_network(&mut self) {
        let follow = follow(self.links.agent(), self.endpoint.clone());
        self.network = Some(self.spawn(follow));
    }
}

async fn follow(agent: Weak<Shared>, endpoint: Endpoint) {
    loop {
        tokio::time::sleep(LOOK_AGAIN).await;
        let addresses = match host_addresses() {
            Ok(addresses) => addresses,
            Err(err) => {
                tracing::warn!(reason = %err, "the addresses of this host cannot be listed");
                continue;
            }
        };
        if !rebind(&endpoint, &addresses) {
            continue;
        }
        let agent = agent.upgrade();
        if agent
            .and_then(|agent| agent.enter(network_changed))
            .is_none()
        {
            return;
        }
    }
}

fn network_changed(core: &mut Core) {
    core.mesh.network_changed(core.now);
}

/// Binds the endpoint to these addresses, if they are others than before; whether anything changed.
fn rebind(endpoint: &Endpoint, addresses: &[IpAddr]) -> bool {
    let mut bound: Vec<_> = endpoint.addresses().iter().map(|at| at.ip()).collect();
    bound.sort_unstable();
    if bound == addresses {
        return false;
    }
    let rebound = endpoint.rebind(addresses);
    for err in &rebound.failed {
        // An IPv6 address cannot be bound while it is made sure that it is nobody else's.
        tracing::debug!(%err, "not bound yet");
    }
    let changed = !rebound.added.is_empty() || !rebound.removed.is_empty();
    if changed {
        tracing::info!(added = ?rebound.added, removed = ?rebound.removed, "the network has changed");
    }
    changed
}

/// Between two looks at the host's addresses: soon enough beside what making a link takes, and a
/// system call or two each.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::{ChannelOptions, EndpointConfig};

    fn addresses(last: &[u8]) -> Vec<IpAddr> {
        let of = |last: &u8| IpAddr::from([127, 0, 0, *last]);
        last.iter().map(of).collect()
    }

    #[tokio::test]
    async fn nothing_has_changed_where_the_addresses_are_the_same() {
        let config = EndpointConfig {
            addresses: addresses(&[2, 1]),
            udp_port: None,
            ice_servers: Vec::new(),
            channel: ChannelOptions::default(),
        };
        let endpoint = Endpoint::bind(config).unwrap();
        assert!(!rebind(&endpoint, &addresses(&[1, 2])));
        assert!(rebind(&endpoint, &addresses(&[1])));
        assert!(rebind(&endpoint, &addresses(&[1, 3])));
        // Not an address of this host, and no change: it is asked for again at the next look.
        let elsewhere = IpAddr::from([192, 0, 2, 1]);
        let mut wanted = addresses(&[1, 3]);
        wanted.push(elsewhere);
        assert!(!rebind(&endpoint, &wanted));
        endpoint.close().await;
    }
}
