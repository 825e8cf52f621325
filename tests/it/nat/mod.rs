//! Which links need a relay: real agents behind real address translation, each kind with each.
//!
//! What a router is said to be is not believed: the host asks a STUN server, in the manner of RFC
//! 5780 and with a tool of others, and the test fails where the router is something else.

mod kind;
mod network;
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::thread;

use kind::Kind;
use network::{Host, Network, SERVER};

use crate::cli::ifswarm;
use crate::program::Program;
use crate::support::FixtureAgent;

#[test]
fn behind_a_plain_masquerade_a_link_is_direct_and_with_a_symmetric_translator_it_needs_a_relay() {
    let matrix = matrix(&[Kind::PortRestricted, Kind::PortRestricted, Kind::Symmetric]);
    assert_eq!(matrix.len(), 2);
}

#[test]
#[ignore = "a longer run: tests/long.sh"]
fn each_kind_of_translation_with_each_is_direct_or_needs_a_relay_as_its_rfcs_say() {
    // Two of each, since each meets its own kind too.
    let kinds: Vec<_> = Kind::ALL.into_iter().flat_map(|kind| [kind; 2]).collect();
    let matrix = matrix(&kinds);
    assert_eq!(matrix.len(), 15);
}

/// How a link fared: the paths that its two ends tell, or none where it needs a relay.
type Fate = Option<BTreeSet<String>>;
/// By the kinds of its ends, the smaller one first.
type Matrix = BTreeMap<(Kind, Kind), BTreeSet<Fate>>;

/// A swarm of agents behind routers of these kinds, all linked with all as far as that is
/// possible without a relay. Prints how, and checks it.
fn matrix(kinds: &[Kind]) -> Matrix {
    let network = Network::new();
    let stun = network.stun();
    let host = |(at, kind): (usize, &Kind)| {
        let name = format!("{}-{}", kind.word(), at + 1);
        network.host(name, *kind, FIRST_NUMBER + at)
    };
    let hosts: Vec<_> = kinds.iter().enumerate().map(host).collect();
    let folder = tempfile::tempdir().unwrap();
    write_swarm(folder.path(), &hosts);
    let server = server(&network, folder.path());
    let agents: Vec<_> = hosts
        .iter()
        .map(|host| agent(&network, folder.path(), host))
        .collect();
    let fates = thread::scope(|scope| {
        for host in &hosts {
            scope.spawn(|| is_what_it_says(&network, host));
        }
        fates(folder.path(), &hosts, &agents)
    });
    let mut matrix = Matrix::new();
    for ((one, other), fate) in fates {
        let kinds = (one.kind.min(other.kind), one.kind.max(other.kind));
        if fate.is_none() {
            // Both have sent to where the other was said to be.
            for host in [one, other] {
                let dropped = network.unsolicited(host);
                assert!(dropped > 0, "{} has dropped nothing", host.name);
            }
        }
        matrix.entry(kinds).or_default().insert(fate);
    }
    print(&matrix);
    for ((one, other), fates) in &matrix {
        let ends = format!("{one:?} with {other:?}: {fates:?}");
        for fate in fates {
            assert_eq!(fate.is_some(), one.is_direct(*other), "{ends}");
        }
        let paths: BTreeSet<_> = fates.iter().flatten().flatten().collect();
        // Who has no router is at its own address for the other, which then need not notice that
        // it is behind a router itself.
        let translated = [one, other].iter().any(|kind| **kind != Kind::None);
        let own = [one, other].iter().any(|kind| **kind == Kind::None);
        if !paths.is_empty() {
            assert_eq!(paths.contains(&"srflx".to_owned()), translated, "{ends}");
            assert!(own || !paths.contains(&"host".to_owned()), "{ends}");
        }
    }
    drop((agents, server, stun));
    matrix
}

fn write_swarm(folder: &Path, hosts: &[Host]) {
    let mut text = "swarm: nat\nagents:\n".to_owned();
    for host in hosts {
        let (id, port) = (&host.name, host.port());
        let agent = FixtureAgent::new(id);
        let key = folder.join(format!("{id}.pem"));
        agent.key.create_file(&key).unwrap();
        let public = agent.public_key();
        let agent =
            format!("{{ id: {id}, udp_port: {port}, public_key: {public}, key: {id}.pem }}");
        writeln!(text, "  - {agent}").unwrap();
    }
    writeln!(text, "ice: {{ stun: [\"stun:{SERVER}\"] }}").unwrap();
    fs::write(folder.join("swarm.yaml"), text).unwrap();
}

fn server(network: &Network, folder: &Path) -> Program {
    let mut server = network.command("public", env!("CARGO_BIN_EXE_ifswarm"));
    server.args(["signal", "--listen", &format!("{SERVER}:{SIGNALING}")]);
    server.arg("--swarm").arg(folder.join("swarm.yaml"));
    let server = Program::start(&mut server);
    server.line().expect("it listens");
    server
}

fn agent(network: &Network, folder: &Path, host: &Host) -> Program {
    let mut agent = network.command(&host.name, env!("CARGO_BIN_EXE_ifswarm"));
    agent.args(["agent", "--id", &host.name]);
    agent.args(["--signal", &format!("ws://{SERVER}:{SIGNALING}")]);
    agent.arg("--swarm").arg(folder.join("swarm.yaml"));
    agent.arg("--witness").arg(folder.join("witness"));
    let agent = Program::start(&mut agent);
    agent.event("ready");
    agent
}

/// The router is of the kind that it was built to be.
fn is_what_it_says(network: &Network, host: &Host) {
    let (mapping, filtering, none) = network.discover(host);
    let found = (mapping.as_str(), filtering.as_str());
    assert_eq!(found, host.kind.discovered(), "{}", host.name);
    assert_eq!(none, host.kind == Kind::None, "{}", host.name);
}

/// What became of each pair, by what the witness of the one that dials says first: that the link
/// is up, or that it was given up.
fn fates<'a>(
    folder: &Path,
    hosts: &'a [Host],
    agents: &[Program],
) -> Vec<((&'a Host, &'a Host), Fate)> {
    let mut fates = Vec::new();
    let mut linked: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for dialing in hosts {
        let answering = hosts.iter().filter(|host| dialing.name < host.name);
        let mut open: BTreeMap<_, _> = answering.map(|host| (host.name.as_str(), host)).collect();
        let log = folder.join("witness").join("nat").join(&dialing.name);
        let log = Program::start(
            ifswarm()
                .args(["witness", "tail", "--follow", "--json"])
                .args(["-n", "100000"])
                .arg(log),
        );
        while !open.is_empty() {
            let entry = log.json();
            let said = &entry["metadata"];
            let is_up = said["state"] == "up";
            if !is_up && said["reason"] != "dial-timeout" {
                continue;
            }
            let peer = entry["peer_id"].as_str().unwrap();
            let Some(peer) = open.remove(peer) else {
                continue;
            };
            if is_up {
                linked.entry(&dialing.name).or_default().insert(&peer.name);
                linked.entry(&peer.name).or_default().insert(&dialing.name);
            }
            fates.push(((dialing, peer), is_up.then(BTreeSet::new)));
        }
        log.kill("TERM");
    }
    for (host, agent) in hosts.iter().zip(agents) {
        let mut awaited = linked.remove(&host.name).unwrap_or_default();
        while !awaited.is_empty() {
            let event = agent.event("peer");
            let peer = event["peer"].as_str().unwrap();
            assert_eq!(event["state"], "up", "{}: {event}", host.name);
            assert!(awaited.remove(&peer.to_owned()), "{}: {event}", host.name);
            let path = event["path"].as_str().unwrap();
            let ends = fates.iter_mut().find(|((one, other), _)| {
                [&one.name, &other.name].contains(&&host.name)
                    && [one.name.as_str(), other.name.as_str()].contains(&peer)
            });
            let (_, fate) = ends.expect("all pairs are known");
            fate.as_mut().expect("it is up").insert(path.to_owned());
        }
    }
    fates
}

fn print(matrix: &Matrix) {
    let kinds: BTreeSet<_> = matrix
        .keys()
        .flat_map(|(one, other)| [*one, *other])
        .collect();
    print!("{:>11}", "");
    kinds
        .iter()
        .for_each(|kind| print!("  {:<17}", kind.word()));
    println!();
    for one in &kinds {
        print!("{:>11}", one.word());
        for other in &kinds {
            let fates = matrix.get(&(*one.min(other), *one.max(other)));
            let fates = fates.into_iter().flatten().map(|fate| match fate {
                Some(paths) => {
                    let paths: Vec<_> = paths.iter().map(String::as_str).collect();
                    format!("direct {}", paths.join("/"))
                }
                None => "relay needed".to_owned(),
            });
            print!("  {:<17}", fates.collect::<Vec<_>>().join(" | "));
        }
        println!();
    }
}

/// Of the first host.
const FIRST_NUMBER: usize = 11;
const SIGNALING: u16 = 8443;
