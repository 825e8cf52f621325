//! One agent on each host of a network, and what becomes of their links.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::path::Path;

use tempfile::TempDir;

use super::network::{Host, Network, SERVER};
use crate::cli::ifswarm;
use crate::program::Program;
use crate::support::FixtureAgent;

/// Real processes: a signaling server, and an agent for each host.
pub(super) struct Swarm {
    /// In the order of the hosts.
    agents: Vec<Program>,
    _server: Program,
    folder: TempDir,
}

/// How a link fared: the paths that its two ends tell, or none where the attempt was given up.
pub(super) type Fate = Option<BTreeSet<String>>;

impl Swarm {
    /// Starts it; `stun` is the server that its file names.
    pub(super) fn start(network: &Network, hosts: &[Host], stun: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("swarm.yaml");
        write_file(folder.path(), &file, hosts, stun);
        let program = env!("CARGO_BIN_EXE_ifswarm");
        let mut server = network.command("public", program);
        server.args(["signal", "--listen", &format!("{SERVER}:{PORT}")]);
        let server = Program::start(server.arg("--swarm").arg(&file));
        server.line().expect("it listens");
        let start = |host: &Host| {
            let mut agent = network.command(&host.name, program);
            agent.args(["agent", "--id", &host.name]);
            agent.args(["--signal", &format!("ws://{SERVER}:{PORT}")]);
            agent.arg("--swarm").arg(&file);
            agent.arg("--witness").arg(folder.path().join("witness"));
            Program::start(&mut agent)
        };
        let agents: Vec<_> = hosts.iter().map(start).collect();
        Self {
            agents,
            _server: server,
            folder,
        }
    }

    /// What became of the link of each two hosts.
    pub(super) fn fates<'a>(&self, hosts: &'a [Host]) -> Vec<((&'a Host, &'a Host), Fate)> {
        let dialing = hosts.iter().flat_map(|host| self.dialed(host, hosts));
        let mut fates: Vec<_> = dialing.collect();
        for (host, agent) in hosts.iter().zip(&self.agents) {
            let mine = fates.iter_mut().filter_map(|((one, other), fate)| {
                let peer = match &host.name {
                    name if *name == one.name => &other.name,
                    name if *name == other.name => &one.name,
                    _ => return None,
                };
                Some((peer.as_str(), fate.as_mut()?))
            });
            let mut mine: BTreeMap<_, _> = mine.collect();
            while !mine.is_empty() {
                let event = agent.event("peer");
                assert_eq!(event["state"], "up", "{}: {event}", host.name);
                let paths = mine.remove(event["peer"].as_str().unwrap());
                let path = event["path"].as_str().unwrap().to_owned();
                paths
                    .unwrap_or_else(|| panic!("{}: {event}", host.name))
                    .insert(path);
            }
        }
        fates
    }

    /// The links that this host's agent dials, and which of them came up: by what its witness
    /// says first of each, that it is up or that it was given up.
    fn dialed<'a>(&self, host: &'a Host, hosts: &'a [Host]) -> Vec<((&'a Host, &'a Host), Fate)> {
        let answering = hosts.iter().filter(|other| host.name < other.name);
        let mut open: BTreeMap<_, _> = answering.map(|peer| (peer.name.as_str(), peer)).collect();
        let log = self.folder.path().join("witness/nat").join(&host.name);
        let mut tail = ifswarm();
        tail.args(["witness", "tail", "--follow", "--json", "-n", "100000"]);
        let log = Program::start(tail.arg(log));
        let mut fates = Vec::new();
        while !open.is_empty() {
            let entry = log.json();
            let is_up = entry["metadata"]["state"] == "up";
            if !is_up && entry["metadata"]["reason"] != "dial-timeout" {
                continue;
            }
            if let Some(peer) = open.remove(entry["peer_id"].as_str().unwrap()) {
                fates.push(((host, peer), is_up.then(BTreeSet::new)));
            }
        }
        log.kill("TERM");
        fates
    }

    /// Ends the agents, and gives what they have complained of.
    pub(super) fn end(self) -> String {
        let ended = self.agents.into_iter().map(Program::end);
        let log = ended.map(|ended| {
            assert_eq!(ended.code, 0, "{}", ended.log);
            ended.log
        });
        log.collect()
    }
}

fn write_file(folder: &Path, file: &Path, hosts: &[Host], stun: &str) {
    let mut text = "swarm: nat\nagents:\n".to_owned();
    for host in hosts {
        let (id, port) = (&host.name, host.port());
        let agent = FixtureAgent::new(id);
        let key = folder.join(format!("{id}.pem"));
        agent.key.create_file(&key).unwrap();
        let public = agent.public_key();
        let keys = format!("public_key: {public}, key: {id}.pem");
        writeln!(text, "  - {{ id: {id}, udp_port: {port}, {keys} }}").unwrap();
    }
    writeln!(text, "ice: {{ stun: [\"stun:{stun}\"] }}").unwrap();
    fs::write(file, text).unwrap();
}

/// Of the signaling server.
const PORT: u16 = 8443;
