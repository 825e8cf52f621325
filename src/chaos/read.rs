//! A scenario file, read as swarm files are: what is wrong is shown at its place.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use super::conditions::{Conditions, RUNGS};
use super::read_faults::faults;
use super::scenario::{Expect, Kind, RandomFaults, Scenario, ScenarioError, Traffic};
use crate::identity::AgentId;
use crate::swarm::{Fault as Flaw, Field, Kind as Yaml, Swarm, SwarmError, parse_duration};
use crate::swarm::{read_fields, read_text};

impl Scenario {
    /// Reads and checks a scenario file and the swarm file that it names.
    ///
    /// # Errors
    /// When one of them cannot be read, or says something that cannot be; the error shows file, line,
    /// column, what was found, and what was expected.
    pub fn read(path: &Path) -> Result<Self, ScenarioError> {
        let text = read_text(path).map_err(|err| match err {
            SwarmError::Missing { path } => ScenarioError::Missing { path },
            err => err.into(),
        })?;
        let folder = path.parent().unwrap_or(Path::new(""));
        // First the swarm alone: the other fields speak of its agents.
        let file = read_fields(&text, path, |root| {
            let fields = root.members(&FIELDS)?;
            let swarm = fields.need("swarm", "the swarm file, relative to this file")?;
            swarm.text("the path of a swarm file").map(str::to_owned)
        })?;
        let file = folder.join(file);
        let swarm = Swarm::read(&file)?;
        if swarm.channel.is_best_effort() {
            return Err(ScenarioError::Swarm {
                path: file,
                what: "its channel is best effort, where messages may be lost and overtaken: leave `ordered: false` and `max_retransmits` out",
            });
        }
        Ok(read_fields(&text, path, |root| scenario(root, swarm))?)
    }
}

fn scenario(root: &Field<'_>, swarm: Swarm) -> Result<Scenario, Flaw> {
    let fields = root.members(&FIELDS)?;
    let name = fields.need("chaos", "a name for reports")?;
    let ids = swarm.ids();
    let random = fields.read("random", random)?;
    let length = fields.read("for", Field::duration)?;
    let faults = fields.read("faults", |field| faults(field, &ids))?;
    let faults = faults.unwrap_or_default();
    // Without a length: a while after the last fault.
    let last = faults.iter().map(|fault| fault.at + fault.lasts).max();
    let length = length.unwrap_or(last.unwrap_or_default() + AFTERWARDS);
    if let (Some(last), Some(field)) = (last, fields.get("for"))
        && last > length
    {
        return Err(field
            .fault(format!("at least {} s", last.as_secs() + 1))
            .help("the last of `faults` ends then"));
    }
    Ok(Scenario {
        name: short_name(name)?,
        length,
        traffic: fields.read("traffic", traffic)?.unwrap_or_default(),
        all: fields.read("all", conditions)?.unwrap_or_default(),
        links: fields
            .read("links", |field| links(field, &ids))?
            .unwrap_or_default(),
        ladder: fields.read("ladder", ladder)?.unwrap_or_default(),
        expect: fields.read("expect", expect)?.unwrap_or_default(),
        faults,
        random,
        swarm,
    })
}

fn short_name(field: &Field<'_>) -> Result<String, Flaw> {
    let expected = "a name of 1-64 characters of a-z 0-9 -";
    let text = field.text(expected)?;
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    match (1..=64).contains(&text.len()) && text.chars().all(is_plain) {
        true => Ok(text.into()),
        false => Err(field.fault(expected)),
    }
}

fn traffic(field: &Field<'_>) -> Result<Traffic, Flaw> {
    let members = field.members(&["every", "payload"])?;
    let default = Traffic::default();
    Ok(Traffic {
        every: members
            .read("every", |field| match field.duration()? {
                every if every >= FASTEST => Ok(every),
                _ => Err(field.fault("1ms or more")),
            })?
            .unwrap_or(default.every),
        payload: members
            .read("payload", |field| field.size(0..=MOST_PAYLOAD))?
            .unwrap_or(default.payload),
    })
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
                .read("rate", |field| field.size(SLOWEST..=FASTEST_RATE))?
                .map(|bytes| bytes as u64),
            cut: false,
        });
    }
    field.one_of(&RUNGS.map(|rung| (rung.name, rung.conditions)))
}

/// `2%` or `0.5%` as thousandths.
fn per_mille(field: &Field<'_>) -> Result<u16, Flaw> {
    let expected = "a share such as `2%` or `0.5%`, of one digit after the point";
    let text = field.text(expected)?;
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
    parsed().ok_or_else(|| field.fault(expected))
}

fn links(
    field: &Field<'_>,
    ids: &[AgentId],
) -> Result<BTreeMap<(AgentId, AgentId), Conditions>, Flaw> {
    let items =
        field.list("a list such as `- { between: [finance, legal], are: bad-cellular }`")?;
    let links = items.iter().map(|item| {
        let members = item.members(&["between", "are"])?;
        let between = two_agents(members.need("between", "two agents")?, ids)?;
        let are = conditions(members.need("are", "the name of a rung, or conditions")?)?;
        Ok((between, are))
    });
    links.collect()
}

/// Two agents, the smaller first.
pub(super) fn two_agents(field: &Field<'_>, ids: &[AgentId]) -> Result<(AgentId, AgentId), Flaw> {
    let (a, b) = from_to(field, ids)?;
    Ok(if a < b { (a, b) } else { (b, a) })
}

/// Two agents, as they are written.
pub(super) fn from_to(field: &Field<'_>, ids: &[AgentId]) -> Result<(AgentId, AgentId), Flaw> {
    let items = field.list("two agents, as in `[finance, legal]`")?;
    let [a, b] = &items[..] else {
        return Err(field.fault("two agents, as in `[finance, legal]`"));
    };
    let (first, second) = (agent(a, ids)?, agent(b, ids)?);
    if first == second {
        return Err(b.fault("another agent than the first"));
    }
    Ok((first, second))
}

/// An agent of the swarm.
pub(super) fn agent(field: &Field<'_>, ids: &[AgentId]) -> Result<AgentId, Flaw> {
    let known: Vec<_> = ids.iter().map(|id| (id.as_str(), id)).collect();
    field.one_of(&known).cloned()
}

fn random(field: &Field<'_>) -> Result<RandomFaults, Flaw> {
    let members = field.members(&["every", "for", "of"])?;
    let (every, lasts) = ("how often, as in `2s..6s`", "for how long, as in `1s..6s`");
    let of = members.need("of", "kinds of faults, as in `[kill, freeze]`")?;
    let kinds = of.list("kinds of faults, as in `[kill, freeze]`")?;
    if kinds.is_empty() {
        return Err(of.fault("at least one kind of fault"));
    }
    let kinds = kinds.iter().map(|kind| kind.one_of(&Kind::ALL));
    Ok(RandomFaults {
        every: range(members.need("every", every)?, every)?,
        lasts: range(members.need("for", lasts)?, lasts)?,
        of: kinds.collect::<Result<_, _>>()?,
    })
}

/// `2s..6s`, or `2s` for always the same.
fn range(field: &Field<'_>, expected: &str) -> Result<RangeInclusive<Duration>, Flaw> {
    let text = field.text(expected)?;
    let (least, most) = text.split_once("..").unwrap_or((text, text));
    let least = parse_duration(least.trim_end());
    let most = parse_duration(most.trim_start());
    match (least, most) {
        (Some(least), Some(most)) if !least.is_zero() && least <= most && most <= LONGEST => {
            Ok(least..=most)
        }
        _ => Err(field.fault(expected)),
    }
}

fn ladder(field: &Field<'_>) -> Result<Vec<(String, Conditions)>, Flaw> {
    let items = field.list("a list of rungs, as in `[loopback, good-wifi]`")?;
    let rungs = items.iter().map(|item| {
        let conditions = item.one_of(&RUNGS.map(|rung| (rung.name, rung.conditions)))?;
        Ok((item.text("a rung")?.to_owned(), conditions))
    });
    rungs.collect()
}

fn expect(field: &Field<'_>) -> Result<Expect, Flaw> {
    let members = field.members(&[
        "lost",
        "doubled",
        "out_of_order",
        "heal_p95",
        "memory",
        "links_down",
    ])?;
    let default = Expect::default();
    let count = |name, default| -> Result<Option<u64>, Flaw> {
        let read = members.read(name, |field| match &field.node().kind {
            Yaml::Int(_) => field.whole(0..=u64::from(u32::MAX)).map(Some),
            Yaml::Text(text) if text == "any" => Ok(None),
            _ => Err(field.fault("`any` or how many there may be")),
        });
        Ok(read?.unwrap_or(default))
    };
    Ok(Expect {
        lost: count("lost", default.lost)?,
        doubled: count("doubled", default.doubled)?,
        out_of_order: count("out_of_order", default.out_of_order)?,
        heal_p95: members.read("heal_p95", Field::duration)?,
        memory: members.read("memory", |field| Ok(u32::from(per_mille(field)? / 10)))?,
        links_down: count("links_down", default.links_down)?,
    })
}

/// What a scenario file may have.
pub(super) const FIELDS: [&str; 10] = [
    "chaos", "swarm", "for", "traffic", "all", "links", "faults", "random", "ladder", "expect",
];
/// How long a run goes on after the last fault where it does not say.
const AFTERWARDS: Duration = Duration::from_secs(5);
/// More a second than a program at a pipe writes.
const FASTEST: Duration = Duration::from_millis(1);
/// What a message of 64 KiB has room for beside its envelope.
const MOST_PAYLOAD: usize = 32 * 1024;
/// Less than a message a second: nothing would ever heal.
const SLOWEST: usize = 1024;
/// Ten gigabits: more than this host carries.
const FASTEST_RATE: usize = 1_250_000_000;
/// No fault is longer than a run.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);
