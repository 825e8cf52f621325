//! The faults of a scenario file that come at fixed times.

use std::time::Duration;

use super::read::{agent, conditions, from_to, two_agents};
use super::scenario::{Fault, What};
use crate::identity::AgentId;
use crate::swarm::{Fault as Flaw, Field, parse_duration};

/// All of them, in the order of their times.
pub(super) fn faults(field: &Field<'_>, ids: &[AgentId]) -> Result<Vec<Fault>, Flaw> {
    let items = field.list("a list of faults, such as `- { at: 5s, kill: legal, for: 2s }`")?;
    let mut faults = Vec::new();
    for item in &items {
        let (first, every, times) = one(item, ids)?;
        for n in 0..times {
            let at = first.at + every * n;
            faults.push(Fault {
                at,
                ..first.clone()
            });
        }
        if faults.len() > MAX_FAULTS {
            return Err(field.fault_found(
                format!("more than {MAX_FAULTS} faults"),
                "fewer: `random` makes as many as one likes",
            ));
        }
    }
    faults.sort_by_key(|fault| fault.at);
    Ok(faults)
}

/// A fault, and how often it comes again after how long.
fn one(item: &Field<'_>, ids: &[AgentId]) -> Result<(Fault, Duration, u32), Flaw> {
    let members = item.members(&[
        "at",
        "for",
        "every",
        "times",
        "kill",
        "freeze",
        "cut",
        "one_way",
        "partition",
        "signaling",
        "clock",
        "by",
        "conditions",
        "between",
    ])?;
    let kinds = WHATS.iter().filter(|name| members.get(name).is_some());
    let kinds: Vec<_> = kinds.copied().collect();
    let [kind] = kinds[..] else {
        let expected = format!("exactly one of `{}`", WHATS.join("`, `"));
        return Err(match kinds[..] {
            [] => item.fault_found("a fault that says not what happens", expected),
            _ => item.fault_found(format!("`{}`", kinds.join("` and `")), expected),
        });
    };
    for (name, belongs_to) in [
        ("one_way", "cut"),
        ("by", "clock"),
        ("between", "conditions"),
    ] {
        if let Some(field) = members.get(name).filter(|_| kind != belongs_to) {
            let expected = format!("none: `{name}` belongs to `{belongs_to}`");
            return Err(field.fault(expected));
        }
    }
    let field = members.need(kind, "what happens")?;
    let one_way = members.read("one_way", Field::truth)?.unwrap_or(false);
    let what = match kind {
        "kill" => What::Kill(agent(field, ids)?),
        "freeze" => What::Freeze(agent(field, ids)?),
        "cut" => {
            let (from, to) = from_to(field, ids)?;
            What::Cut { from, to, one_way }
        }
        "partition" => halves(field, ids)?,
        "signaling" => {
            field.one_of(&[("down", ())])?;
            What::Signaling
        }
        "clock" => What::Clock {
            agent: agent(field, ids)?,
            by_ms: offset(members.need("by", "how far, as in `1h` or `-1h`")?)?,
        },
        _ => What::Conditions {
            between: members.read("between", |field| two_agents(field, ids))?,
            conditions: conditions(field)?,
        },
    };
    let every = members.read("every", Field::duration)?;
    let times = members.read("times", |field| field.whole(1..=MAX_FAULTS as u32))?;
    let lasts = members.need("for", "how long it lasts")?.duration()?;
    let at = members.need("at", "when it begins")?.duration()?;
    match (every, times) {
        (None, Some(_)) => Err(item.fault_found("`times` alone", "`every` with it")),
        (Some(every), _) if every <= lasts => Err(item.fault_found(
            "`every` within `for`",
            "that one ends before the next begins",
        )),
        _ => Ok((
            Fault { at, lasts, what },
            every.unwrap_or_default(),
            times.unwrap_or(1),
        )),
    }
}

fn halves(field: &Field<'_>, ids: &[AgentId]) -> Result<What, Flaw> {
    let expected = "two lists of agents, as in `[[finance, legal], [macro]]`";
    let halves = field.list(expected)?;
    let [one, other] = &halves[..] else {
        return Err(field.fault(expected));
    };
    let half = |field: &Field<'_>| -> Result<Vec<AgentId>, Flaw> {
        let items = field.list(expected)?;
        if items.is_empty() {
            return Err(field.fault("at least one agent"));
        }
        items.iter().map(|item| agent(item, ids)).collect()
    };
    let (one, second) = (half(one)?, half(other)?);
    match second.iter().find(|id| one.contains(id)) {
        Some(id) => {
            Err(other.fault_found(format!("`{id}` again"), "each agent in one half at most"))
        }
        None => Ok(What::Partition(one, second)),
    }
}

/// `1h` or `-1h` in milliseconds.
fn offset(field: &Field<'_>) -> Result<i64, Flaw> {
    let expected = "how far the clock jumps, as in `1h`, or `-1h` for back";
    let text = field.text(expected)?;
    let (sign, text) = match text.strip_prefix('-') {
        Some(text) => (-1, text),
        None => (1, text),
    };
    let by = parse_duration(text).map(|by| by.as_millis());
    match by.and_then(|by| i64::try_from(by).ok()) {
        Some(by_ms) if by_ms > 0 => Ok(sign * by_ms),
        _ => Err(field.fault(expected)),
    }
}

/// What can happen; a fault says exactly one of them.
const WHATS: [&str; 7] = [
    "kill",
    "freeze",
    "cut",
    "partition",
    "signaling",
    "clock",
    "conditions",
];
/// A run of a day has one every ten seconds.
const MAX_FAULTS: usize = 10_000;
