//! Agents, links, and how paths are, as a scenario file speaks of them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::conditions::{Conditions, RUNGS};
use super::scenario::What;
use crate::identity::AgentId;
use crate::swarm::{Fault as Flaw, Field, Kind as Yaml, Swarm};

/// Two agents that the topology links, the smaller first.
pub(super) type Link = (AgentId, AgentId);

/// What the faults of a file can strike: the agents of its swarm, their links, and how these are when
/// nothing is wrong.
pub(super) struct Ground {
    ids: Vec<AgentId>,
    linked: BTreeSet<Link>,
    pub(super) all: Conditions,
    pub(super) links: BTreeMap<Link, Conditions>,
}

impl Ground {
    /// All paths as they are.
    pub(super) fn new(swarm: &Swarm) -> Self {
        Self {
            ids: swarm.ids(),
            linked: swarm.links().into_iter().collect(),
            all: Conditions::default(),
            links: BTreeMap::new(),
        }
    }

    /// An agent of the swarm.
    pub(super) fn agent(&self, field: &Field<'_>) -> Result<AgentId, Flaw> {
        let known: Vec<_> = self.ids.iter().map(|id| (id.as_str(), id)).collect();
        field.one_of(&known).cloned()
    }

    /// Two agents that are linked, as they are written.
    pub(super) fn two_ends(&self, field: &Field<'_>) -> Result<(AgentId, AgentId), Flaw> {
        let expected = "two agents, as in `[finance, legal]`";
        let items = field.list(expected)?;
        let [a, b] = &items[..] else {
            return Err(field.fault_found(format!("a list of {}", items.len()), expected));
        };
        let (from, to) = (self.agent(a)?, self.agent(b)?);
        if from == to {
            return Err(b.fault_found(format!("`{to}` again"), "another agent than the first"));
        }
        if !self.linked.contains(&sorted(&from, &to)) {
            let others = self.ids.iter().filter(|id| self.is_linked(&from, id));
            let found = format!("`{to}`, which has no link with `{from}`");
            let others = listed(others);
            return Err(b
                .fault_found(found, "two agents that the topology of the swarm links")
                .help(format!("`{from}` is linked with {others}")));
        }
        Ok((from, to))
    }

    /// The link between two agents.
    pub(super) fn link(&self, field: &Field<'_>) -> Result<Link, Flaw> {
        let (a, b) = self.two_ends(field)?;
        Ok(sorted(&a, &b))
    }

    /// Reads the paths that are in their own way.
    pub(super) fn links(&self, field: &Field<'_>) -> Result<BTreeMap<Link, Conditions>, Flaw> {
        let items =
            field.list("a list such as `- { between: [finance, legal], are: bad-cellular }`")?;
        let mut links = BTreeMap::new();
        let mut seen = BTreeMap::new();
        for item in &items {
            let members = item.members(&["between", "are"])?;
            let between = members.need("between", "two agents, as in `[finance, legal]`")?;
            let link = self.link(between)?;
            if let Some(first) = seen.insert(link.clone(), between.node().at) {
                let found = format!("the link of `{}` and `{}` again", link.0, link.1);
                return Err(between
                    .fault_found(found, "each link once")
                    .repeats(first)
                    .help("leave one of the two out"));
            }
            let are = members.need("are", "a rung such as `bad-cellular`, or conditions")?;
            links.insert(link, conditions(are)?);
        }
        Ok(links)
    }

    /// The links that a fault of paths strikes.
    pub(super) fn struck<'a>(&'a self, what: &'a What) -> impl Iterator<Item = &'a Link> {
        self.linked.iter().filter(|(a, b)| what.touches(a, b))
    }

    /// How a link is when nothing is wrong.
    pub(super) fn usual(&self, link: &Link) -> Conditions {
        self.links.get(link).copied().unwrap_or(self.all)
    }

    /// Whether two faults strike the same process, path or server, so that nobody could tell one from
    /// the other, or the end of one would end both.
    pub(super) fn collide(&self, one: &What, other: &What) -> bool {
        match (one, other) {
            (What::Signaling, _) | (_, What::Signaling) => one == other,
            _ => match (one.process(), other.process()) {
                (Some(a), Some(b)) => a == b,
                (None, None) => self.struck(one).any(|(a, b)| other.touches(a, b)),
                _ => false,
            },
        }
    }

    fn is_linked(&self, a: &AgentId, b: &AgentId) -> bool {
        self.linked.contains(&sorted(a, b))
    }
}

/// Conditions: the name of a rung, or what they consist of.
pub(super) fn conditions(field: &Field<'_>) -> Result<Conditions, Flaw> {
    if let Yaml::Map(_) = field.node().kind {
        let known = ["delay", "jitter", "loss", "duplicate", "reorder", "rate"];
        let members = field.members(&known)?;
        let us = |name| -> Result<u64, Flaw> {
            let time = members.read(name, Field::duration)?.unwrap_or_default();
            Ok(u64::try_from(time.as_micros()).unwrap_or(u64::MAX))
        };
        let share = |name| members.read(name, per_mille).map(Option::unwrap_or_default);
        return Ok(Conditions {
            delay_us: us("delay")?,
            jitter_us: us("jitter")?,
            loss_per_mille: share("loss")?,
            duplicate_per_mille: share("duplicate")?,
            reorder_per_mille: share("reorder")?,
            rate: members
                .read("rate", |field| field.size(SLOWEST..=FASTEST))?
                .map(|bytes| bytes as u64),
            cut: false,
        });
    }
    let rungs = RUNGS.map(|rung| (rung.name, rung.conditions));
    field.one_of(&rungs).map_err(|flaw| match flaw.help {
        Some(_) => flaw,
        None => flaw.help("or say what they consist of, as in `{ delay: 80ms, loss: 1.5% }`"),
    })
}

/// `2%` or `0.5%` as thousandths.
pub(super) fn per_mille(field: &Field<'_>) -> Result<u16, Flaw> {
    let expected = "a share from `0%` to `100%`, such as `2%` or `0.5%`";
    let flaw = || {
        field.fault(expected).help(
            "write it with its `%`, and with one digit after the point or none: no path is known better",
        )
    };
    let Yaml::Text(text) = &field.node().kind else {
        return Err(flaw());
    };
    let parsed = || {
        let number = text.strip_suffix('%')?;
        let (whole, tenth) = number.split_once('.').unwrap_or((number, "0"));
        let digits = |text: &str| text.bytes().all(|c| c.is_ascii_digit());
        if tenth.len() != 1 || !digits(whole) || !digits(tenth) {
            return None;
        }
        let share = whole.parse::<u16>().ok()?.checked_mul(10)? + tenth.parse::<u16>().ok()?;
        (share <= 1_000).then_some(share)
    };
    parsed().ok_or_else(flaw)
}

/// `` `a`, `b` ``
pub(super) fn listed<'a>(ids: impl IntoIterator<Item = &'a AgentId>) -> String {
    let ids = ids.into_iter().map(|id| format!("`{id}`"));
    ids.collect::<Vec<_>>().join(", ")
}

fn sorted(a: &AgentId, b: &AgentId) -> Link {
    let (a, b) = if a < b { (a, b) } else { (b, a) };
    (a.clone(), b.clone())
}

/// Less than a message a second: nothing would ever heal.
const SLOWEST: usize = 1024;
/// Ten gigabits: more than this host carries.
const FASTEST: usize = 1_250_000_000;
/// No fault is longer than a run, and no clock jumps farther.
pub(super) const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);
