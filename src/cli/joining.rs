//! How `agent` and `send` join a swarm: the flags they share, and the agent these make.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use anyhow::anyhow;

use super::failure::{impossible, unusable};
use super::roster::known_keys;
use crate::agent::{Agent, Builder, host_addresses};
use crate::identity::{AgentId, KeyPair, SwarmName};
use crate::signal::Trust;
use crate::swarm::{Swarm, SwarmAgent};

/// Where to register, as whom, and whom to believe.
#[derive(Debug, clap::Args)]
pub(crate) struct Joining {
    /// The signaling server: ws://HOST:PORT or wss://HOST:PORT; several, separated by commas, are
    /// tried in order
    #[arg(long, value_name = "URL")]
    signal: String,
    /// The swarm file: its name, its agents and their keys, and how they are linked
    #[arg(long, value_name = "FILE")]
    swarm: Option<PathBuf>,
    /// The swarm's name, where there is no file: then the first key seen of each agent is believed
    #[arg(long, value_name = "NAME", conflicts_with = "swarm")]
    swarm_name: Option<SwarmName>,
    /// The private key [default: `key:` of the swarm file; one made for this run where there is none]
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Believe the certificates of this authority (PEM) of a wss:// server, and no others
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Keep the witness log below this folder [default: `witness.dir` of the swarm file; otherwise none is kept]
    #[arg(long, value_name = "DIR")]
    witness: Option<PathBuf>,
    /// A local address to be reached at, several times for several [default: all of this host; where
    /// the server is at a loopback address, that]
    #[arg(long = "address", value_name = "IP")]
    addresses: Vec<IpAddr>,
}

impl Joining {
    /// The agent `id`, ready to be started.
    pub(crate) fn builder(&self, id: &AgentId) -> anyhow::Result<(Builder, Members)> {
        let trust = match &self.ca {
            Some(path) => Trust::authority(path).map_err(unusable)?,
            None => Trust::system(),
        };
        let key = self.key.as_ref().map(|path| KeyPair::read_file(path));
        let key = key.transpose().map_err(unusable)?;
        let addresses = match &self.addresses[..] {
            [] => local_addresses(&self.signal)?,
            given => given.to_vec(),
        };
        // Given by hand they hold, and so do those of a server on this host.
        let follow = self.addresses.is_empty() && !addresses.iter().all(IpAddr::is_loopback);
        let mut members = Members(None);
        let builder = match (&self.swarm, &self.swarm_name) {
            (Some(path), _) => {
                let swarm = Swarm::read(path).map_err(unusable)?;
                let builder = of_file(&path.display().to_string(), &swarm, id, key)?;
                members = Members::of(&swarm);
                builder
            }
            (None, Some(name)) => {
                let builder = Agent::builder(id.clone(), name);
                match key {
                    Some(key) => builder.key(key),
                    None => builder,
                }
            }
            (None, None) => {
                return Err(unusable(anyhow!(
                    "which swarm? Choose --swarm FILE, whose keys are believed, or --swarm-name NAME, where the first key seen of each agent is"
                )));
            }
        };
        let builder = match &self.witness {
            Some(folder) => builder.witness(Some(folder.clone())),
            None => builder,
        };
        let builder = builder
            .signal(&self.signal)
            .trust(trust)
            .addresses(addresses)
            .follow_addresses(follow);
        Ok((builder, members))
    }
}

/// Who is in the swarm, where a file says so.
#[derive(Debug)]
pub(crate) struct Members(Option<BTreeSet<AgentId>>);

impl Members {
    /// All agents of the file.
    pub(crate) fn of(swarm: &Swarm) -> Self {
        Self(Some(swarm.ids().into_iter().collect()))
    }

    /// Whether it may be; whoever comes may, where there is no file.
    pub(crate) fn has(&self, id: &AgentId) -> bool {
        self.0.as_ref().is_none_or(|members| members.contains(id))
    }

    /// Whether a file says who is in the swarm.
    pub(crate) fn are_listed(&self) -> bool {
        self.0.is_some()
    }

    /// All of them; none where there is no file.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &AgentId> {
        self.0.iter().flatten()
    }
}

/// The agent as the file describes it, under its key, believing the keys of the others.
fn of_file(
    shown: &str,
    swarm: &Swarm,
    id: &AgentId,
    key: Option<KeyPair>,
) -> anyhow::Result<Builder> {
    let Some(described) = swarm.agents.iter().find(|agent| agent.id == *id) else {
        let ids: Vec<_> = swarm
            .agents
            .iter()
            .take(MANY)
            .map(|a| a.id.as_str())
            .collect();
        let more = if swarm.agents.len() > MANY {
            ", …"
        } else {
            ""
        };
        return Err(unusable(anyhow!(
            "{shown}: there is no agent `{id}` in it, but {}{more}",
            ids.join(", ")
        )));
    };
    let key = own_key(shown, described, key)?;
    let known = known_keys(swarm)?;
    let builder = Agent::of_swarm(swarm, described).witness(swarm.witness.dir.clone());
    let builder = match (key, known.roster.is_empty()) {
        (Some(key), true) => builder.key(key),
        (Some(key), false) => builder.key(key).roster(known.roster),
        (None, true) => builder,
        (None, false) => {
            return Err(unusable(anyhow!(
                "{shown}: agent `{id}` has no key, and others have: nobody would believe it. Make one with `ifswarm keygen --id {id}`, and add its `public_key`"
            )));
        }
    };
    Ok(builder)
}

/// The private key of `--key`, else of the file, which must be what the file says.
fn own_key(
    file: &str,
    described: &SwarmAgent,
    given: Option<KeyPair>,
) -> anyhow::Result<Option<KeyPair>> {
    let id = &described.id;
    let key = match (given, &described.key) {
        (Some(key), _) => Some(key),
        (None, Some(path)) => Some(KeyPair::read_file(path).map_err(unusable)?),
        (None, None) => None,
    };
    match (&key, described.public_key) {
        (Some(key), Some(expected)) if key.public_key() != expected => {
            let found = key.public_key();
            Err(unusable(anyhow!(
                "{file}: the private key of `{id}` belongs to {found}, and its `public_key` is {expected}: name the key file that belongs to it with --key"
            )))
        }
        (None, Some(_)) => Err(unusable(anyhow!(
            "{file}: agent `{id}` has a `public_key`, and its private key is needed to be it: name the file with --key"
        ))),
        _ => Ok(key),
    }
}

/// Where this host can be reached by the others: when the servers are on this host alone, they are
/// too.
fn local_addresses(signal: &str) -> anyhow::Result<Vec<IpAddr>> {
    let servers = signal.split(',').map(|url| loopback_of(url.trim()));
    // One that is elsewhere may be the one that is reached.
    if let Some(mut addresses) = servers.collect::<Option<Vec<_>>>() {
        addresses.sort_unstable();
        addresses.dedup();
        return Ok(addresses);
    }
    let addresses = host_addresses().map_err(|err| {
        impossible(
            anyhow!(err)
                .context("the addresses of this host cannot be listed: name them with --address"),
        )
    })?;
    match addresses.is_empty() {
        true => Err(impossible(anyhow!(
            "this host has no address to be reached at: name one with --address"
        ))),
        false => Ok(addresses),
    }
}

/// The loopback address that a URL names, if it does.
fn loopback_of(url: &str) -> Option<IpAddr> {
    let (_, rest) = url.split_once("://")?;
    let authority = rest.split('/').next()?;
    let host = match authority.strip_prefix('[') {
        Some(v6) => v6.split(']').next()?,
        None => authority
            .rsplit_once(':')
            .map_or(authority, |(host, _)| host),
    };
    match host.parse::<IpAddr>() {
        Ok(address) => address.is_loopback().then_some(address),
        // Peers may have resolved it to either; this one is everywhere.
        Err(_) if host.eq_ignore_ascii_case("localhost") => Some(Ipv4Addr::LOCALHOST.into()),
        Err(_) => None,
    }
}

/// Ids that are named in an error.
const MANY: usize = 12;

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use super::*;

    #[test]
    fn knows_a_server_on_this_host() {
        let v4 = Some(IpAddr::V4(Ipv4Addr::LOCALHOST));
        assert_eq!(loopback_of("ws://127.0.0.1:8443"), v4);
        assert_eq!(loopback_of("wss://localhost"), v4);
        assert_eq!(loopback_of("wss://LOCALHOST:1/v1/x"), v4);
        let v6 = Some(IpAddr::V6(Ipv6Addr::LOCALHOST));
        assert_eq!(loopback_of("ws://[::1]:8443"), v6);
        for elsewhere in [
            "ws://192.0.2.1:8443",
            "wss://signal.example:443",
            "nonsense",
        ] {
            assert_eq!(loopback_of(elsewhere), None);
        }
    }

    #[test]
    fn is_on_this_host_alone_only_where_every_server_is() {
        let (v4, v6) = (
            IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(Ipv6Addr::LOCALHOST),
        );
        let addresses = |list| local_addresses(list).unwrap();
        assert_eq!(addresses("ws://127.0.0.1:1, ws://localhost:2"), [v4]);
        assert_eq!(addresses("ws://[::1]:1,ws://127.0.0.1:1"), [v4, v6]);
        let all = addresses("ws://192.0.2.1:1");
        assert_eq!(addresses("ws://127.0.0.1:1,ws://192.0.2.1:1"), all);
    }
}
