//! A scenario: which swarm, under which faults, and what must hold in the end.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use super::conditions::Conditions;
use crate::identity::AgentId;
use crate::swarm::Swarm;

/// A checked scenario.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// One word for reports.
    pub name: String,
    /// Who takes part, and who is linked with whom.
    pub swarm: Swarm,
    /// For how long faults and messages come.
    pub length: Duration,
    /// What everybody sends to every neighbour.
    pub traffic: Traffic,
    /// How every path behaves that `links` does not name.
    pub all: Conditions,
    /// Paths that behave in their own way, the smaller id first.
    pub links: BTreeMap<(AgentId, AgentId), Conditions>,
    /// Faults at fixed times, in the order of these.
    pub faults: Vec<Fault>,
    /// Faults by chance, from a seed.
    pub random: Option<RandomFaults>,
    /// Conditions that the swarm is to form and be measured under, one after the other.
    pub ladder: Vec<(String, Conditions)>,
    /// What must hold for the run to end with 0.
    pub expect: Expect,
}

/// The numbered messages of each ordered pair of neighbours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Traffic {
    /// One each so often.
    pub every: Duration,
    /// Bytes of padding in the payload.
    pub payload: usize,
}

/// Something goes wrong, and is right again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// When it begins, from the moment at which all links are up.
    pub at: Duration,
    /// How long it lasts.
    pub lasts: Duration,
    /// What.
    pub what: What,
}

/// What goes wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// The process is killed (SIGKILL), and started again at the end.
    Kill(AgentId),
    /// The process is stopped (SIGSTOP), and goes on at the end (SIGCONT).
    Freeze(AgentId),
    /// Nothing gets through.
    Cut {
        /// From here
        from: AgentId,
        /// to here,
        to: AgentId,
        /// or also the other way.
        one_way: bool,
    },
    /// Nothing gets from one half to the other, either way.
    Partition(Vec<AgentId>, Vec<AgentId>),
    /// The signaling server is killed, and started again at the end.
    Signaling,
    /// The wall clock of an agent jumps, and jumps back at the end.
    Clock {
        /// Whose.
        agent: AgentId,
        /// By so many milliseconds.
        by_ms: i64,
    },
    /// Paths behave differently.
    Conditions {
        /// The path between these two; all paths without.
        between: Option<(AgentId, AgentId)>,
        /// How.
        conditions: Conditions,
    },
}

/// The kind of a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// [`What::Kill`]
    Kill,
    /// [`What::Freeze`]
    Freeze,
    /// [`What::Cut`], both ways
    Cut,
    /// [`What::Cut`], one way
    OneWayCut,
    /// [`What::Partition`]
    Partition,
    /// [`What::Signaling`]
    Signaling,
    /// [`What::Clock`]
    Clock,
    /// [`What::Conditions`]
    Conditions,
}

/// Faults by chance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RandomFaults {
    /// From the beginning of one to the beginning of the next.
    pub every: RangeInclusive<Duration>,
    /// How long each lasts.
    pub lasts: RangeInclusive<Duration>,
    /// Of these kinds, each as likely as the others.
    pub of: Vec<Kind>,
}

/// What must hold; `None` is not looked at.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Expect {
    /// Messages accepted and never delivered, at most.
    pub lost: Option<u64>,
    /// Messages delivered again, at most.
    pub doubled: Option<u64>,
    /// Messages delivered after a later one, at most.
    pub out_of_order: Option<u64>,
    /// 95 of 100 faults heal within this.
    pub heal_p95: Option<Duration>,
    /// How far the memory of a process may move, in percent.
    pub memory: Option<u32>,
    /// Links that may go down, all in all.
    pub links_down: Option<u64>,
}

impl Scenario {
    /// Every ordered pair of agents that the topology links.
    pub fn lanes(&self) -> Vec<(AgentId, AgentId)> {
        let links = self.swarm.links().into_iter();
        let lanes = links.flat_map(|(a, b)| [(a.clone(), b.clone()), (b, a)]);
        lanes.collect()
    }

    /// How the path between two agents behaves when nothing is wrong.
    pub fn conditions(&self, a: &AgentId, b: &AgentId) -> Conditions {
        let link = if a < b { (a, b) } else { (b, a) };
        let link = (link.0.clone(), link.1.clone());
        self.links.get(&link).copied().unwrap_or(self.all)
    }

    /// The kinds of faults that may come.
    pub fn kinds(&self) -> Vec<Kind> {
        let fixed = self.faults.iter().map(|fault| fault.what.kind());
        let random = self.random.iter().flat_map(|random| random.of.clone());
        let mut kinds: Vec<_> = fixed.chain(random).collect();
        kinds.sort_unstable();
        kinds.dedup();
        kinds
    }
}

impl Fault {
    /// When it ends, from the moment at which all links are up.
    pub fn ends(&self) -> Duration {
        self.at + self.lasts
    }
}

impl What {
    /// Its kind.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Kill(_) => Kind::Kill,
            Self::Freeze(_) => Kind::Freeze,
            Self::Cut { one_way: false, .. } => Kind::Cut,
            Self::Cut { one_way: true, .. } => Kind::OneWayCut,
            Self::Partition(..) => Kind::Partition,
            Self::Signaling => Kind::Signaling,
            Self::Clock { .. } => Kind::Clock,
            Self::Conditions { .. } => Kind::Conditions,
        }
    }

    /// Whether messages flow and links are made under it, however badly: then what is broken can heal.
    pub(super) fn lets_heal(&self) -> bool {
        matches!(self, Self::Clock { .. } | Self::Conditions { .. })
    }

    /// The process it strikes as a whole.
    pub(super) fn process(&self) -> Option<&AgentId> {
        match self {
            Self::Kill(agent) | Self::Freeze(agent) | Self::Clock { agent, .. } => Some(agent),
            _ => None,
        }
    }

    /// Whether it strikes messages from `a` to `b`.
    pub(super) fn touches(&self, a: &AgentId, b: &AgentId) -> bool {
        match self {
            Self::Kill(agent) | Self::Freeze(agent) | Self::Clock { agent, .. } => {
                agent == a || agent == b
            }
            // Acknowledgements go the other way, so that a cut one way strikes both.
            Self::Cut { from, to, .. } => (from, to) == (a, b) || (from, to) == (b, a),
            Self::Partition(one, other) => {
                one.contains(a) && other.contains(b) || one.contains(b) && other.contains(a)
            }
            Self::Signaling => true,
            Self::Conditions { between: None, .. } => true,
            Self::Conditions {
                between: Some((c, d)),
                ..
            } => (c, d) == (a, b) || (c, d) == (b, a),
        }
    }
}

impl Kind {
    /// All of them, under the names of scenario files.
    pub const ALL: [(&'static str, Self); 8] = [
        ("kill", Self::Kill),
        ("freeze", Self::Freeze),
        ("cut", Self::Cut),
        ("one-way-cut", Self::OneWayCut),
        ("partition", Self::Partition),
        ("signaling", Self::Signaling),
        ("clock", Self::Clock),
        ("conditions", Self::Conditions),
    ];

    /// Its name.
    pub fn as_str(self) -> &'static str {
        let named = Self::ALL.iter().find(|(_, kind)| *kind == self);
        named.map_or("", |(name, _)| name)
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kill(agent) => write!(f, "kill {agent}"),
            Self::Freeze(agent) => write!(f, "freeze {agent}"),
            Self::Cut {
                from,
                to,
                one_way: false,
            } => write!(f, "cut {from} – {to}"),
            Self::Cut { from, to, .. } => write!(f, "cut {from} → {to}"),
            Self::Partition(one, other) => {
                let listed = |half: &[AgentId]| {
                    let ids: Vec<_> = half.iter().map(AgentId::as_str).collect();
                    ids.join(" ")
                };
                write!(f, "partition {} | {}", listed(one), listed(other))
            }
            Self::Signaling => f.write_str("signaling down"),
            Self::Clock { agent, by_ms } => write!(f, "clock of {agent} by {by_ms} ms"),
            Self::Conditions { between: None, .. } => f.write_str("conditions of all paths"),
            Self::Conditions {
                between: Some((a, b)),
                ..
            } => write!(f, "conditions of {a} – {b}"),
        }
    }
}

impl Default for Traffic {
    fn default() -> Self {
        Self {
            every: Duration::from_millis(50),
            payload: 200,
        }
    }
}

impl Default for Expect {
    fn default() -> Self {
        Self {
            lost: Some(0),
            doubled: Some(0),
            out_of_order: Some(0),
            heal_p95: None,
            memory: None,
            links_down: None,
        }
    }
}

/// Why a scenario cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    /// Nothing is there under this name.
    #[error("{path}: there is no such file; name a scenario, such as `swarms/chaos/short.yaml`", path = .path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// The path names a folder.
    #[error("{path}: found a folder, expected a scenario file in it: name the file itself, such as `swarms/chaos/short.yaml`", path = .path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
    },
    /// The scenario file, or the swarm file that it names, cannot be read or says what cannot be.
    #[error(transparent)]
    File(#[from] crate::swarm::SwarmError),
    /// The swarm is not one for a test of this kind.
    #[error("{path}: {what}", path = .path.display())]
    Swarm {
        /// The swarm file.
        path: PathBuf,
        /// Why not, and what to do.
        what: &'static str,
    },
}
