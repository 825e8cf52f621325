//! A public network with a STUN server, and hosts on it, each behind a router of its own.
//!
//! ```text
//!   namespace public: bridge, 203.0.113.1 (STUN, signaling), 203.0.113.2 (STUN)
//!      │                          │
//!     wan 203.0.113.11           wan 203.0.113.12 ── a host without a router
//!   a router (nftables)
//!     lan 192.168.11.1
//!      │
//!     eth 192.168.11.2 ── a host
//! ```

use std::process::Command;

use super::kind::Kind;
use crate::program::Program;
use crate::world::World;

/// Everything in it ends with it.
pub(super) struct Network(World);

/// A host, in the namespace of its name.
#[derive(Debug, Clone)]
pub(super) struct Host {
    pub(super) name: String,
    pub(super) kind: Kind,
    /// Where the others are told to look for it, if they are told the truth.
    number: usize,
}

impl Network {
    /// The public part.
    pub(super) fn new() -> Self {
        let world = World::new(&TOOLS);
        world.run(&format!(
            "ip netns add public
             in_public() {{ ip netns exec public \"$@\"; }}
             in_public ip link set lo up
             in_public ip link add bridge type bridge
             in_public ip address add {SERVER}/24 dev bridge
             in_public ip address add {OTHER_ADDRESS}/24 dev bridge
             in_public ip link set bridge up"
        ));
        Self(world)
    }

    /// Starts the STUN server.
    pub(super) fn stun(&self) -> Program {
        let mut stun = self.command("public", "turnserver");
        // Its second address and port are what RFC 5780 needs.
        stun.args(["-n", "--stun-only", "-L", SERVER, "-L", OTHER_ADDRESS]);
        stun.args(["--no-tls", "--no-dtls", "--no-cli", "--simple-log"]);
        stun.args(["--log-file", "stdout", "--pidfile", "/run/turnserver.pid"]);
        let stun = Program::start(&mut stun);
        // The last that it starts, behind its listeners.
        while !stun.line().expect("it runs").contains("admin thread") {}
        stun
    }

    /// A host of this kind, and its router, if it has one. `number` is its own, from 11 to 250.
    pub(super) fn host(&self, name: String, kind: Kind, number: usize) -> Host {
        let host = Host { name, kind, number };
        let (name, gate) = (&host.name, host.gate());
        let public = host.public_address();
        self.0.run(&format!(
            "ip netns add {gate}
             ip link add wan netns {gate} type veth peer name wan{number} netns public
             ip netns exec public ip link set wan{number} master bridge up
             ip netns exec {gate} ip address add {public}/24 dev wan
             ip netns exec {gate} ip link set lo up
             ip netns exec {gate} ip link set wan up"
        ));
        if kind == Kind::None {
            self.0.run(&format!(
                "ip netns exec {name} ip route add default via {SERVER}"
            ));
            return host;
        }
        let (router, inside) = (format!("192.168.{number}.1"), host.address());
        let ports = [(host.port(), MAPPED_PORT), (PROBE_PORT, MAPPED_PROBE_PORT)];
        let rules = kind.rules(&public, &inside, &ports);
        self.0.run(&format!(
            "ip netns add {name}
             ip link add lan netns {gate} type veth peer name eth netns {name}
             ip netns exec {gate} ip address add {router}/24 dev lan
             ip netns exec {gate} ip link set lan up
             ip netns exec {gate} sysctl -qw net.ipv4.ip_forward=1
             ip netns exec {name} ip address add {inside}/24 dev eth
             ip netns exec {name} ip link set lo up
             ip netns exec {name} ip link set eth up
             ip netns exec {name} ip route add default via {router}
             ip netns exec {gate} nft -f - <<END\n{rules}\nEND"
        ));
        host
    }

    /// `program` on a host, or in `public`.
    pub(super) fn command(&self, on: &str, program: &str) -> Command {
        self.0.command(on, program)
    }

    /// What the host finds out about its router from the STUN server, by RFC 5780: how it maps,
    /// how it filters, and whether there is none.
    pub(super) fn discover(&self, host: &Host) -> (String, String, bool) {
        // Filtering first: each address and port that was sent to lets more in.
        let [filtering, mapping] = ["-f", "-m"].map(|what| {
            let mut discovery = self.command(&host.name, "turnutils_natdiscovery");
            discovery.args([what, "-L", &host.address()]);
            discovery.args(["-l", &PROBE_PORT.to_string(), SERVER]);
            String::from_utf8(discovery.output().unwrap().stdout).unwrap()
        });
        let conclusion = |text: &str| {
            let mut lines = text.lines().filter(|line| line.starts_with("NAT with"));
            lines.next_back().unwrap_or(text).to_owned()
        };
        let none = mapping.contains("No NAT!");
        (conclusion(&mapping), conclusion(&filtering), none)
    }

    /// From now on nobody answers a question to the DNS server.
    pub(super) fn silence_dns(&self) {
        self.0.run(&format!(
            "echo nameserver {OTHER_ADDRESS} >/run/silent
             at=$(readlink -m /etc/resolv.conf)
             case $at in /run/*) mkdir -p \"${{at%/*}}\"; touch \"$at\";; esac
             mount --bind /run/silent \"$at\"
             ip netns exec public nft -f - <<END
             table ip dns {{
                 counter asked {{ }}
                 chain input {{
                     type filter hook input priority filter;
                     udp dport 53 counter name asked drop
                 }}
             }}\nEND"
        ));
    }

    /// How many there were since then.
    pub(super) fn dns_questions(&self) -> u64 {
        self.counter("public", "dns asked")
    }

    /// How many packets that nobody had asked for the host's router has dropped.
    pub(super) fn unsolicited(&self, host: &Host) -> u64 {
        self.counter(&host.gate(), "nat unsolicited")
    }

    fn counter(&self, namespace: &str, name: &str) -> u64 {
        let list = format!("ip netns exec {namespace} nft list counter ip {name}");
        let said = self.0.run(&list);
        let packets = said.split("packets ").nth(1).unwrap();
        packets.split(' ').next().unwrap().parse().unwrap()
    }
}

impl Host {
    /// The UDP port of its agent.
    pub(super) fn port(&self) -> u16 {
        AGENT_PORTS + u16::try_from(self.number).unwrap()
    }

    /// The namespace that has its public address.
    fn gate(&self) -> String {
        match self.kind {
            Kind::None => self.name.clone(),
            _ => format!("{}-router", self.name),
        }
    }

    fn public_address(&self) -> String {
        format!("203.0.113.{}", self.number)
    }

    fn address(&self) -> String {
        match self.kind {
            Kind::None => self.public_address(),
            _ => format!("192.168.{}.2", self.number),
        }
    }
}

const TOOLS: [(&str, &str); 3] = [
    ("nft", "nftables"),
    ("turnserver", "coturn"),
    ("turnutils_natdiscovery", "coturn"),
];
/// The signaling server's address, and the STUN server's.
pub(super) const SERVER: &str = "203.0.113.1";
const OTHER_ADDRESS: &str = "203.0.113.2";
/// To which the number of the host is added.
const AGENT_PORTS: u16 = 5000;
const PROBE_PORT: u16 = 4000;
/// Where a router gives its host one port for all, it is another than the host's own, so that
/// nobody finds it by chance.
const MAPPED_PORT: u16 = 61_000;
const MAPPED_PROBE_PORT: u16 = 61_001;
