//! `ifswarm signal`: the signaling server, until Ctrl-C or SIGTERM.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::anyhow;

use super::Globals;
use super::chaos_child::{end_of_input, end_with_the_runner, telling};
use super::failure::{Failure, impossible, unusable};
use super::interrupt::Interrupt;
use super::limits::{raise_descriptors, raise_descriptors_towards};
use super::output::print;
use super::roster::known_keys;
use super::signal_witness::{MAX_OPEN_LOGS, SignalWitness};
use super::watching::Watching;
use crate::admin::ServerWatch;
use crate::identity::KeyPair;
use crate::signal::{Admission, IceServer, Limits, Server, ServerConfig, ServerError, ServerTls};
use crate::swarm::{Swarm, WitnessConfig};

/// Run the signaling server, which introduces agents to each other
///
/// It can neither read, forge, nor sit in the middle: agents sign what it relays and check it. Ends on
/// Ctrl-C or SIGTERM; a second Ctrl-C ends it at once.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where to listen; port 0 takes one that is free
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8443", value_parser = listen_address)]
    listen: SocketAddr,
    /// Admit the agents of this swarm file, under its keys, and nobody else
    #[arg(long, value_name = "FILE", conflicts_with = "open")]
    swarm: Option<PathBuf>,
    /// Admit anybody into any swarm; an id belongs to the first key seen while anyone of its swarm is connected
    #[arg(long)]
    open: bool,
    /// A name under which agents reach this server, besides the address it listens on and localhost
    #[arg(long = "name", value_name = "HOST:PORT")]
    names: Vec<String>,
    /// Speak wss:// and nothing else, and show this certificate (PEM, the server's own first)
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The private key of the certificate (PEM), which nobody but you can read
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// The private key of the witness log [default: one made for this run]
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Keep a witness log of each swarm in this folder [default: `witness.dir` of the swarm file, if it has one]
    #[arg(long, value_name = "DIR")]
    witness: Option<PathBuf>,
    #[command(flatten)]
    watching: Watching,
    /// End with `ifswarm chaos` at the other end of the pipes, and say who registers and who leaves
    #[arg(long, hide = true)]
    chaos: bool,
}

pub(crate) async fn run(args: Args, _: &Globals) -> anyhow::Result<ExitCode> {
    // Before anything else, so that no signal is missed.
    let mut interrupt = Interrupt::listen()?;
    if args.chaos {
        end_with_the_runner()?;
    }
    let swarm = args.swarm.as_ref().map(|path| Swarm::read(path));
    let swarm = swarm.transpose().map_err(unusable)?;
    let key = match &args.key {
        Some(path) => KeyPair::read_file(path).map_err(unusable)?,
        None => KeyPair::generate().map_err(|err| impossible(anyhow!("{err}")))?,
    };

    let mut config = ServerConfig::new(args.listen, admission(&args, swarm.as_ref())?);
    if let (Some(cert), Some(key)) = (&args.tls_cert, &args.tls_key) {
        config.tls = Some(ServerTls::read(cert, key).map_err(unusable)?);
    }
    config.names = args.names;
    let mut keeping = WitnessConfig::default();
    if let Some(swarm) = &swarm {
        config.ice_servers = ice_servers(swarm);
        keeping = swarm.witness.clone();
    }
    let dir = args.witness.or_else(|| keeping.dir.clone());
    let mut other = OTHER_DESCRIPTORS;
    if dir.is_some() {
        other += LOG_DESCRIPTORS;
    }
    let limits = &mut config.limits;
    match &swarm {
        Some(swarm) => {
            // Twice, because a replaced connection lives on for a moment.
            let sockets = 2 * swarm.agents.len() + strangers(limits);
            raise_descriptors(sockets as u64 + other).map_err(impossible)?;
        }
        None => {
            // How many will come, nobody knows; what there is has to do.
            let wanted = (limits.connections + strangers(limits)) as u64 + other;
            let had = raise_descriptors_towards(wanted).map_err(impossible)?;
            if had < wanted {
                fit(limits, had.saturating_sub(other));
                tracing::warn!(
                    connections = limits.connections,
                    of_one_address = limits.connections_per_address,
                    reason = "too few open files",
                    "this process may have {had} files and sockets open, and takes fewer connections: for all of them \
                     raise the hard limit (`ulimit -Hn {wanted}` as root, or LimitNOFILE={wanted} of its service)"
                );
            }
        }
    }
    let mut witness = dir.map(|dir| SignalWitness::new(dir, key, keeping));
    config.witness = witness.as_ref().map(SignalWitness::sink);
    if args.chaos {
        config.witness = config.witness.map(telling);
    }

    let watch = Arc::new(ServerWatch::new(
        witness.as_ref().map(SignalWitness::coverage),
    ));
    // It answers until the process has ended, that it is ending too.
    let _admin = args.watching.start(watch.clone()).await?;
    let bound = Server::bind(config).await;
    // The first notes were written meanwhile; why that failed matters most.
    if let Some(err) = witness.as_mut().and_then(SignalWitness::failed) {
        return Err(err);
    }
    let server = bound.map_err(|err| match err {
        ServerError::Name { .. } => unusable(err),
        _ => impossible(err),
    })?;
    watch.started(server.observer());
    print(&format!("listening on {}\n", server.url()))?;

    let broken = async {
        match &mut witness {
            Some(witness) => witness.keep().await,
            None => std::future::pending().await,
        }
    };
    let orphaned = async {
        match args.chaos {
            true => end_of_input().await,
            false => std::future::pending().await,
        }
    };
    // All are cancel-safe; after any the others are not needed.
    let failed = tokio::select! {
        () = interrupt.heard() => None,
        () = orphaned => None,
        err = broken => Some(err),
    };
    if interrupt.or(server.shutdown()).await.is_none() {
        return Ok(Failure::Interrupted.into());
    }
    let closed = witness.map_or(Ok(()), SignalWitness::close);
    match failed {
        Some(err) => Err(err),
        None => closed.map(|()| ExitCode::SUCCESS),
    }
}

/// Who may register.
fn admission(args: &Args, swarm: Option<&Swarm>) -> anyhow::Result<Admission> {
    let Some(swarm) = swarm else {
        if args.open {
            return Ok(Admission::Open);
        }
        return Err(unusable(anyhow!(
            "who may register? Choose --swarm FILE to admit the agents of a swarm file, or --open to admit anybody"
        )));
    };
    let known = known_keys(swarm)?;
    if let Some(id) = known.without_key.first() {
        let path = args.swarm.as_deref().unwrap_or_else(|| "".as_ref());
        return Err(unusable(anyhow!(
            "{}: agent `{id}` has no `public_key`, so that nobody can prove to be it: make one with `ifswarm keygen --id {id}` and add it, or choose --open instead",
            path.display()
        )));
    }
    let rosters = BTreeMap::from([(swarm.name.clone(), known.roster)]);
    Ok(Admission::Rosters(rosters))
}

/// Sockets of those that have not registered, and of those that are shaking hands.
fn strangers(limits: &Limits) -> usize {
    2 * limits.unregistered
}

/// Makes do with so many sockets: everybody has the share of them that they had of all places, so that
/// one address can take no more of few than of many.
fn fit(limits: &mut Limits, sockets: u64) {
    let of = (limits.connections + strangers(limits)) as u64;
    let share = |places: &mut usize| {
        // One place at least: none would be no server.
        let fewer = (*places as u64).saturating_mul(sockets) / of;
        *places = usize::try_from(fewer).unwrap_or(*places).max(1);
    };
    share(&mut limits.connections);
    share(&mut limits.connections_per_address);
    share(&mut limits.unregistered);
    share(&mut limits.unregistered_per_address);
}

/// What the server tells its clients about the ways round a NAT.
fn ice_servers(swarm: &Swarm) -> Vec<IceServer> {
    let stun = swarm.ice.stun.iter().map(|url| IceServer {
        urls: vec![url.clone()],
        username: None,
        credential: None,
    });
    let turn = swarm.ice.turn.iter().map(|server| IceServer {
        urls: vec![server.url.clone()],
        username: Some(server.username.clone()),
        credential: Some(server.credential.clone()),
    });
    stun.chain(turn).collect()
}

pub(super) fn listen_address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        "expected ADDRESS:PORT, such as 127.0.0.1:8443, [::1]:8443, or 0.0.0.0:8443 for all interfaces".into()
    })
}

/// Standard streams, the listener, the runtime's own, who looks at `--admin`.
const OTHER_DESCRIPTORS: u64 = 64;
/// The witness logs that are open at once: entries, lock and folder of each, and what is being written.
const LOG_DESCRIPTORS: u64 = 4 * MAX_OPEN_LOGS as u64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_sockets_are_shared_as_many_are() {
        for sockets in [0, 1, 100, 960, 4_000, 12_047] {
            let mut limits = Limits::default();
            fit(&mut limits, sockets);
            let taken = limits.connections + strangers(&limits);
            assert!(taken <= sockets.max(3) as usize, "{limits:?}");
            assert!(taken + 4 > sockets as usize, "{limits:?}");
            assert!(2 * limits.connections_per_address <= limits.connections.max(2));
            assert!(4 * limits.unregistered_per_address <= limits.unregistered.max(4));
            assert!(limits.unregistered_per_address >= 1);
        }
    }
}
