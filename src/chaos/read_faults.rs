//! The faults of a scenario file that come at fixed times.

use std::collections::BTreeSet;
use std::time::Duration;

use super::plan::{MAX_FAULTS, written};
use super::read_paths::{Ground, LONGEST, conditions, listed};
use super::scenario::{Fault, What};
use crate::identity::AgentId;
use crate::swarm::{Fault as Flaw, Field, Members, parse_duration};

/// All of them, in the order of their times.
pub(super) fn faults(field: &Field<'_>, ground: &Ground) -> Result<Vec<Fault>, Flaw> {
    let items = field.list("a list of faults, such as `- { at: 5s, kill: legal, for: 2s }`")?;
    let mut faults = Vec::new();
    for item in &items {
        let (first, every, times) = one(item, ground)?;
        for n in 0..times {
            let at = first.at + every * n;
            faults.push((
                Fault {
                    at,
                    ..first.clone()
                },
                item,
            ));
        }
        if faults.len() > MAX_FAULTS {
            return Err(field.fault_found(
                format!("more than {MAX_FAULTS} faults"),
                "fewer: `random` makes as many as one likes",
            ));
        }
    }
    faults.sort_by_key(|(fault, _)| fault.at);
    one_after_the_other(&faults, ground)?;
    Ok(faults.into_iter().map(|(fault, _)| fault).collect())
}

/// None may strike what another strikes at that time.
fn one_after_the_other(faults: &[(Fault, &Field<'_>)], ground: &Ground) -> Result<(), Flaw> {
    let mut lasting: Vec<&(Fault, &Field<'_>)> = Vec::new();
    for here in faults {
        let (fault, item) = here;
        lasting.retain(|(earlier, _)| earlier.ends() > fault.at);
        let meets = |(earlier, _): &&&(Fault, _)| ground.collide(&earlier.what, &fault.what);
        if let Some((earlier, first)) = lasting.iter().find(meets) {
            let found = format!(
                "`{}` at {}, while `{}` lasts from {} to {}",
                fault.what,
                written(fault.at),
                earlier.what,
                written(earlier.at),
                written(earlier.ends())
            );
            let expected =
                "faults of one process, of one path or of the server one after the other";
            return Err(item
                .fault_found(found, expected)
                .repeats(first.node().at)
                .help("let one end before the next begins: nobody could tell them apart"));
        }
        lasting.push(here);
    }
    Ok(())
}

/// A fault, and how often it comes again after how long.
fn one(item: &Field<'_>, ground: &Ground) -> Result<(Fault, Duration, u32), Flaw> {
    let members = item.members(&MEMBERS)?;
    let kinds = WHATS.iter().filter(|name| members.get(name).is_some());
    let kinds: Vec<_> = kinds.copied().collect();
    let [kind] = kinds[..] else {
        let expected = format!("exactly one of `{}`", WHATS.join("`, `"));
        return Err(match kinds[..] {
            [] => item.fault_found("a fault that says not what happens", expected),
            _ => item
                .fault_found(format!("`{}`", kinds.join("` and `")), expected)
                .help("make them two faults of the list"),
        });
    };
    for (name, belongs_to) in [
        ("one_way", "cut"),
        ("by", "clock"),
        ("between", "conditions"),
    ] {
        if let Some(field) = members.get(name).filter(|_| kind != belongs_to) {
            return Err(field
                .fault_found(
                    format!("`{name}` of a fault that is `{kind}`"),
                    format!("none: `{name}` belongs to `{belongs_to}`"),
                )
                .help("leave it out"));
        }
    }
    let what = what(kind, members.need(kind, "what happens")?, &members, ground)?;
    let lasts = members.need("for", "how long it lasts, as in `for: 2s`")?;
    let at = members.need("at", "when it begins, as in `at: 5s`")?;
    let (lasts, at) = (lasts.duration()?, at.duration()?);
    let (every, times) = again(&members, lasts)?;
    Ok((Fault { at, lasts, what }, every, times))
}

/// What happens.
fn what(
    kind: &str,
    field: &Field<'_>,
    members: &Members<'_>,
    ground: &Ground,
) -> Result<What, Flaw> {
    Ok(match kind {
        "kill" => What::Kill(ground.agent(field)?),
        "freeze" => What::Freeze(ground.agent(field)?),
        "cut" => {
            let (from, to) = ground.two_ends(field)?;
            let one_way = members.read("one_way", Field::truth)?.unwrap_or(false);
            What::Cut { from, to, one_way }
        }
        "partition" => halves(field, ground)?,
        "signaling" => {
            field.one_of(&[("down", ())])?;
            What::Signaling
        }
        "clock" => What::Clock {
            agent: ground.agent(field)?,
            by_ms: offset(members.need("by", "how far, as in `1h` or `-1h`")?)?,
        },
        _ => weather(field, members, ground)?,
    })
}

/// How often a fault comes, and after how long again.
fn again(members: &Members<'_>, lasts: Duration) -> Result<(Duration, u32), Flaw> {
    let times = members.read("times", |field| field.whole(1..=MAX_FAULTS as u32))?;
    match (members.get("every"), members.get("times"), times) {
        (None, None, _) => Ok((Duration::ZERO, 1)),
        (None, Some(field), _) => Err(field
            .fault_found("`times` alone", "`every` with it")
            .help("say after how long it comes again, as in `every: 3s, times: 10`")),
        (Some(field), None, _) => Err(field
            .fault_found("`every` alone", "`times` with it")
            .help("say how often it comes in all, as in `every: 3s, times: 10`")),
        (Some(field), Some(_), times) => match field.duration()? {
            every if every <= lasts => Err(field
                .fault_found(
                    format!("`every` within `for`, which is {}", written(lasts)),
                    "more than that, so that one ends before the next begins",
                )
                .help("make `every` longer, or `for` shorter")),
            every => Ok((every, times.unwrap_or(1))),
        },
    }
}

/// Conditions that can be seen.
fn weather(field: &Field<'_>, members: &Members<'_>, ground: &Ground) -> Result<What, Flaw> {
    let conditions = conditions(field)?;
    if conditions.are_calm() {
        return Err(field
            .fault_found(
                "conditions under which nothing happens",
                "some that strike datagrams: nobody could see these",
            )
            .help("begin with bad paths (`all` or `links`) and let a fault be worse"));
    }
    let between = members.read("between", |field| ground.link(field))?;
    let what = What::Conditions {
        between,
        conditions,
    };
    if ground
        .struck(&what)
        .all(|link| ground.usual(link) == conditions)
    {
        return Err(field
            .fault_found(
                "conditions that the path has anyway",
                "others than those of `all` and `links`",
            )
            .help("nothing would change: name another rung"));
    }
    Ok(what)
}

fn halves(field: &Field<'_>, ground: &Ground) -> Result<What, Flaw> {
    let expected = "two lists of agents, as in `[[finance, legal], [macro]]`";
    let halves = field.list(expected)?;
    let [one, other] = &halves[..] else {
        return Err(field.fault_found(format!("a list of {}", halves.len()), expected));
    };
    let mut seen = BTreeSet::new();
    let mut half = |field: &Field<'_>| -> Result<Vec<AgentId>, Flaw> {
        let items = field.list(expected)?;
        if items.is_empty() {
            return Err(field.fault_found("nobody in this half", "at least one agent in each"));
        }
        let agents = items.iter().map(|item| {
            let id = ground.agent(item)?;
            match seen.insert(id.clone()) {
                true => Ok(id),
                false => Err(item.fault_found(
                    format!("`{id}` again"),
                    "each agent once, in one of the halves",
                )),
            }
        });
        agents.collect()
    };
    let (one, other) = (half(one)?, half(other)?);
    let what = What::Partition(one.clone(), other.clone());
    if ground.struck(&what).next().is_none() {
        let found = format!("no link between {} and {}", listed(&one), listed(&other));
        return Err(field.fault_found(
            found,
            "two halves with a link between them, by the topology of the swarm",
        ));
    }
    Ok(what)
}

/// `1h` or `-1h` in milliseconds.
fn offset(field: &Field<'_>) -> Result<i64, Flaw> {
    let expected = "how far the clock jumps, as in `1h`, or `-1h` for back";
    let text = field.text(expected)?;
    let (sign, text) = match text.strip_prefix('-') {
        Some(text) => (-1, text),
        None => (1, text),
    };
    let by = parse_duration(text).ok_or_else(|| {
        field
            .fault(expected)
            .help("a whole number with its unit: `ms`, `s`, `m` or `h`")
    })?;
    let by_ms = i64::try_from(by.as_millis()).ok();
    let by_ms = by_ms.filter(|_| (LEAST_JUMP..=LONGEST).contains(&by));
    by_ms.map(|by_ms| sign * by_ms).ok_or_else(|| {
        let (least, most) = (written(LEAST_JUMP), written(LONGEST));
        let flaw = field.fault(format!(
            "a jump of `{least}` to `{most}`, or back by as much"
        ));
        match by < LEAST_JUMP {
            true => flaw.help("a smaller one cannot be told from messages that took a while"),
            false => flaw,
        }
    })
}

/// What a fault may have.
const MEMBERS: [&str; 14] = [
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
];
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
/// Some messages are written within this after the order to jump: a jump back is shown by those that
/// seem older than the order, and later there are none.
const LEAST_JUMP: Duration = Duration::from_secs(1);
