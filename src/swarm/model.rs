//! A checked swarm: what the rest of the program works with.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::Topology;
use crate::identity::{AgentId, PublicKey, Roster, RosterError, SwarmName};
use crate::message::Timestamp;
use crate::witness::{OnWriteError, SyncPolicy};

/// A swarm, checked: its ids, ports and keys are unique, its numbers within their bounds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Swarm {
    /// The name all its agents register under.
    pub name: SwarmName,
    /// At least [`MIN_AGENTS`], at most [`MAX_AGENTS`], in the order of the file.
    pub agents: Vec<SwarmAgent>,
    /// Keys that are refused whoever shows them, in the order of the file; at most
    /// [`MAX_REVOKED`], each once, and none an agent's.
    pub revoked: Vec<Revoked>,
    /// Which of them are linked.
    pub topology: Topology,
    /// The embedded signaling server.
    pub signal: SignalConfig,
    /// How agents find a path to each other.
    pub ice: IceConfig,
    /// The channel that carries messages.
    pub channel: ChannelConfig,
    /// Where the log goes and what it holds.
    pub witness: WitnessConfig,
    /// What is kept for agents that are away.
    pub outbox: OutboxConfig,
    /// What `mesh up` measures on every link.
    pub probe: Probe,
    /// What must hold for `mesh up` to end with 0.
    pub expect: Expect,
}

/// One agent of a swarm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SwarmAgent {
    /// Its id, unique in the swarm.
    pub id: AgentId,
    /// What it does, one line for people to read.
    pub role: Option<String>,
    /// The UDP port of all its links, for firewalls; `None` takes one that is free. Never 0.
    pub udp_port: Option<u16>,
    /// Its key, unique in the swarm. `None` together with `key` means the public half of that.
    pub public_key: Option<PublicKey>,
    /// Its private key file, already resolved against the folder of the swarm file.
    pub key: Option<PathBuf>,
    /// The program that is to have its pipes and answer for it, where one is.
    pub exec: Option<Exec>,
    /// Whether what runs it is started again when it has ended.
    pub restart: Restart,
}

/// A program that is an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exec {
    /// For the shell: one line of at most 4,096 characters, not empty.
    pub command: String,
    /// Where it runs: the folder of the swarm file.
    pub folder: PathBuf,
}

/// Whether what runs an agent, a process or its program, is started again when it has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Restart {
    /// However it ended, after a pause.
    Always,
    /// Its end is reported.
    #[default]
    Never,
}

/// A key that is refused whoever shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revoked {
    /// The key.
    pub public_key: PublicKey,
    /// Why, one line for people to read.
    pub reason: Option<String>,
    /// Since when, for people to read: it is refused whatever the time.
    pub since: Option<Timestamp>,
}

/// The embedded signaling server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignalConfig {
    /// Where it listens; port 0 takes one that is free.
    pub listen: SocketAddr,
}

/// STUN and TURN servers, at most [`MAX_ICE_SERVERS`] of each. None are needed on one host or LAN.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct IceConfig {
    /// STUN URIs (RFC 7064), such as `stun:stun.example.org:3478`.
    pub stun: Vec<String>,
    /// TURN servers, over UDP.
    pub turn: Vec<TurnServer>,
}

/// A TURN server (RFC 8656). Its `Debug` leaves the credential out.
#[derive(Clone, PartialEq, Eq)]
pub struct TurnServer {
    /// A TURN URI (RFC 7065), such as `turn:turn.example.org:3478`.
    pub url: String,
    /// The long-term credential's name.
    pub username: String,
    /// The long-term credential's password.
    pub credential: String,
}

/// The data channel that carries messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelConfig {
    /// Whether messages are delivered in the order they were sent.
    pub ordered: bool,
    /// How often a lost message is sent again before it is given up; `None` never gives up.
    pub max_retransmits: Option<u16>,
    /// The largest message in bytes, signature and all.
    pub max_message: usize,
}

/// The witness log.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WitnessConfig {
    /// Its folder, already resolved against that of the swarm file; `None` leaves the choice to
    /// the command.
    pub dir: Option<PathBuf>,
    /// How much of each offer and answer it keeps.
    pub sdp: SdpDetail,
    /// When it waits for the disk.
    pub sync: SyncPolicy,
    /// What happens when it cannot be written.
    pub on_error: OnWriteError,
}

/// What is kept for each agent until it acknowledges it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxConfig {
    /// Its folder, already resolved against that of the swarm file; `None` keeps messages in
    /// memory: they are lost with the process.
    pub dir: Option<PathBuf>,
    /// What is older is given back to who sent it.
    pub keep: Duration,
    /// Messages for each agent, at least 1.
    pub messages: usize,
    /// Bytes of them.
    pub bytes: usize,
}

/// How much of an offer or answer the witness keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SdpDetail {
    /// The whole signed frame.
    #[default]
    Full,
    /// The frame without the text of its SDP, whose hash stays: it names addresses.
    Hash,
}

/// What is measured on every link: signed requests, sent on a schedule, answered by signed replies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// How many requests, at least 1.
    pub messages: u32,
    /// The size of each request's payload in bytes. It fits into a message with its envelope.
    pub payload: usize,
    /// The time from one request to the next, never zero.
    pub interval: Duration,
}

/// What must hold at the end of `mesh up`. `None` is not checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expect {
    /// The median round trip is at most this.
    pub p50: Option<Duration>,
    /// 95 of 100 round trips take at most this.
    pub p95: Option<Duration>,
    /// 99 of 100 round trips take at most this.
    pub p99: Option<Duration>,
    /// All links are open after at most this.
    pub setup: Option<Duration>,
    /// How many links open.
    pub links: ExpectedLinks,
    /// At most so many messages are lost.
    pub lost: Option<u64>,
}

/// How many links must open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ExpectedLinks {
    /// All that the topology asks for.
    #[default]
    All,
    /// This many or more; never more than the topology has.
    AtLeast(usize),
}

impl Swarm {
    /// A full mesh of `n` agents `agent-01`, `agent-02`, … with every other setting at its default.
    ///
    /// The bounds of a file are not checked: the caller names the number.
    pub fn full_mesh(name: SwarmName, n: usize) -> Self {
        let digits = n.to_string().len().max(2);
        let agent = |i| SwarmAgent {
            id: format!("agent-{i:0digits$}")
                .parse()
                .expect("letters, a dash and digits are an agent id"),
            role: None,
            udp_port: None,
            public_key: None,
            key: None,
            exec: None,
            restart: Restart::default(),
        };
        Self {
            name,
            agents: (1..=n).map(agent).collect(),
            revoked: Vec::new(),
            topology: Topology::default(),
            signal: SignalConfig::default(),
            ice: IceConfig::default(),
            channel: ChannelConfig::default(),
            witness: WitnessConfig::default(),
            outbox: OutboxConfig::default(),
            probe: Probe::default(),
            expect: Expect::default(),
        }
    }

    /// The ids of all agents, in the order of the file.
    pub fn ids(&self) -> Vec<AgentId> {
        self.agents.iter().map(|agent| agent.id.clone()).collect()
    }

    /// The links that the topology asks for: each once, its smaller id first, sorted.
    pub fn links(&self) -> Vec<(AgentId, AgentId)> {
        self.topology.links(&self.ids())
    }

    /// Who belongs to the swarm under which key; `None` unless every agent has its `public_key`
    /// in the file.
    ///
    /// The inner result is an error only for a swarm that was put together by hand: one from a
    /// file has no id and no key twice, and no key that it revokes.
    pub fn roster(&self) -> Option<Result<Roster, RosterError>> {
        let agents: Option<Vec<_>> = self
            .agents
            .iter()
            .map(|agent| Some((agent.id.clone(), agent.public_key?)))
            .collect();
        agents.map(|agents| Roster::new(agents)?.revoking(self.revoked_keys()))
    }

    /// The keys that are refused whoever shows them.
    pub fn revoked_keys(&self) -> impl Iterator<Item = PublicKey> {
        self.revoked.iter().map(|revoked| revoked.public_key)
    }
}

impl fmt::Debug for TurnServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TurnServer")
            .field("url", &self.url)
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}

impl ChannelConfig {
    /// Whether a message may be lost for good: nothing is then acknowledged or sent again.
    pub fn is_best_effort(&self) -> bool {
        !self.ordered || self.max_retransmits.is_some()
    }
}

impl Default for SignalConfig {
    fn default() -> Self {
        Self {
            listen: (Ipv4Addr::LOCALHOST, 0).into(),
        }
    }
}

impl Default for ChannelConfig {
    fn default() -> Self {
        Self {
            ordered: true,
            max_retransmits: None,
            max_message: 64 * 1024,
        }
    }
}

impl Default for OutboxConfig {
    fn default() -> Self {
        Self {
            dir: None,
            keep: Duration::from_secs(24 * 60 * 60),
            messages: 4096,
            bytes: 4 * 1024 * 1024,
        }
    }
}

impl Default for Probe {
    fn default() -> Self {
        Self {
            messages: 200,
            payload: 512,
            interval: Duration::from_millis(5),
        }
    }
}

impl Default for Expect {
    fn default() -> Self {
        Self {
            p50: None,
            p95: None,
            p99: None,
            setup: None,
            links: ExpectedLinks::All,
            lost: Some(0),
        }
    }
}

/// Fewer have nobody to talk to.
pub const MIN_AGENTS: usize = 2;
/// A full mesh of more has half a million links, which no one host carries.
pub const MAX_AGENTS: usize = 1_000;
/// Every agent of the largest swarm, four times over; their lines are a third of the largest file.
pub const MAX_REVOKED: usize = 4_096;
/// An agent asks all of its ICE servers for every link: more only slow it down.
pub const MAX_ICE_SERVERS: usize = 16;
