//! A scenario file, read as swarm files are: what is wrong is shown at its place.

use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use super::conditions::{Conditions, RUNGS};
use super::plan::{MAX_FAULTS, longest_of, written};
use super::read_faults::faults;
use super::read_paths::{Ground, LONGEST, conditions, per_mille};
use super::scenario::{Expect, Fault, Kind, RandomFaults, Scenario, ScenarioError, Traffic};
use crate::swarm::parse_duration;
use crate::swarm::{Fault as Flaw, Field, Kind as Yaml, Members, Swarm, SwarmError};
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
            SwarmError::Folder { path } => ScenarioError::Folder { path },
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
                what: "found a best-effort channel, where messages may be lost and overtaken, expected one that delivers all of them in order: leave `ordered: false` and `max_retransmits` out",
            });
        }
        Ok(read_fields(&text, path, |root| scenario(root, swarm))?)
    }
}

fn scenario(root: &Field<'_>, swarm: Swarm) -> Result<Scenario, Flaw> {
    let fields = root.members(&FIELDS)?;
    let name = fields.need("chaos", "a name for reports, as in `chaos: storm`")?;
    let mut ground = Ground::new(&swarm);
    let ladder = fields.read("ladder", ladder)?.unwrap_or_default();
    if !ladder.is_empty() {
        alone_on_a_ladder(&fields)?;
    }
    ground.all = fields.read("all", conditions)?.unwrap_or_default();
    ground.links = fields
        .read("links", |field| ground.links(field))?
        .unwrap_or_default();
    let random = fields.read("random", random)?;
    let faults = fields.read("faults", |field| faults(field, &ground))?;
    let faults = faults.unwrap_or_default();
    let strikes = Strikes {
        any: !faults.is_empty() || random.is_some(),
        on_a_ladder: !ladder.is_empty(),
    };
    let length = length(&fields, &faults, random.as_ref())?;
    let read_expect = |field: &Field<'_>| expect(field, strikes);
    Ok(Scenario {
        name: short_name(name)?,
        length,
        traffic: fields.read("traffic", traffic)?.unwrap_or_default(),
        expect: fields.read("expect", read_expect)?.unwrap_or_default(),
        all: ground.all,
        links: ground.links,
        ladder,
        faults,
        random,
        swarm,
    })
}

/// How long a run is: all faults of the file end within it, and chance has time for one.
fn length(
    fields: &Members<'_>,
    faults: &[Fault],
    random: Option<&RandomFaults>,
) -> Result<Duration, Flaw> {
    // Without a length: a while after the last fault.
    let last = faults.iter().map(Fault::ends).max().unwrap_or_default();
    let length = fields.read("for", Field::duration)?;
    let length = length.unwrap_or(last + AFTERWARDS);
    if let Some(field) = fields.get("for").filter(|_| last > length) {
        return Err(field
            .fault(format!("`{}` or more", written(last)))
            .help("the last of `faults` ends then: one that does not fit would be left out"));
    }
    let least = random.map(|random| *random.every.start() + *random.lasts.start());
    if let (Some(least), Some(field)) = (least, fields.get("random"))
        && least > length
    {
        let (least, length) = (written(least), written(length));
        return Err(field
            .fault_found(
                format!("no fault that is over before {least}, in a run of {length}"),
                "a run that has time for at least one",
            )
            .help(format!("give it `for: {least}` or more")));
    }
    let every = random.map(|random| *random.every.start());
    if let (Some(every), Some(field)) = (every, fields.get("random"))
        && length > longest_of(every)
    {
        let members = field.members(&RANDOM)?;
        let (found, length) = (written(every), written(length));
        return Err(members
            .get("every")
            .unwrap_or(field)
            .fault_found(
                format!("a fault every {found} by chance, in a run of {length}"),
                format!("at most {MAX_FAULTS} of them"),
            )
            .help("make `every` longer, or `for` shorter: they would take longer to draw than to come"));
    }
    Ok(length)
}

/// What would not be looked at beside a ladder.
fn alone_on_a_ladder(fields: &Members<'_>) -> Result<(), Flaw> {
    for (name, why) in [
        ("faults", "on a ladder nothing goes wrong but the paths"),
        ("random", "on a ladder nothing goes wrong but the paths"),
        ("all", "the rungs say how every path is"),
        ("links", "the rungs say how every path is"),
    ] {
        if let Some(field) = fields.get(name) {
            return Err(field
                .fault_found(format!("`{name}` beside `ladder`"), "one of the two alone")
                .help(format!("{why}: make two scenarios of it")));
        }
    }
    Ok(())
}

/// What there is in a scenario that an expectation may speak of.
#[derive(Clone, Copy)]
struct Strikes {
    /// Some fault.
    any: bool,
    on_a_ladder: bool,
}

fn short_name(field: &Field<'_>) -> Result<String, Flaw> {
    let expected = "a name of 1-64 characters of a-z 0-9 -, such as `storm`";
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
                _ => Err(field
                    .fault("`1ms` or more")
                    .help("a program at a pipe writes no faster on every link")),
            })?
            .unwrap_or(default.every),
        payload: members
            .read("payload", |field| field.size(0..=MOST_PAYLOAD))?
            .unwrap_or(default.payload),
    })
}

fn random(field: &Field<'_>) -> Result<RandomFaults, Flaw> {
    let members = field.members(&RANDOM)?;
    let expected = "kinds of faults, as in `[kill, freeze]`";
    let of = members.need("of", expected)?;
    let kinds = of.list(expected)?;
    if kinds.is_empty() {
        return Err(of
            .fault_found(
                "an empty list",
                "at least one kind of fault, as in `[kill, freeze]`",
            )
            .help("or leave `random` out, and nothing comes by chance"));
    }
    let kinds = kinds.iter().map(|kind| kind.one_of(&Kind::ALL));
    Ok(RandomFaults {
        every: range(members.need("every", "how often, as in `2s..6s`")?)?,
        lasts: range(members.need("for", "for how long, as in `1s..6s`")?)?,
        of: kinds.collect::<Result<_, _>>()?,
    })
}

/// `2s..6s`, or `2s` for always the same.
fn range(field: &Field<'_>) -> Result<RangeInclusive<Duration>, Flaw> {
    let expected = "a time as in `2s`, or two as in `2s..6s`, the shorter first";
    let text = field.text(expected)?;
    let (least, most) = text.split_once("..").unwrap_or((text, text));
    let least = parse_duration(least.trim_end());
    let most = parse_duration(most.trim_start());
    match (least, most) {
        (Some(least), Some(most)) if !least.is_zero() && least <= most && most <= LONGEST => {
            Ok(least..=most)
        }
        _ => Err(field.fault(expected).help(
            "times are whole numbers with their unit, from `1us` to `24h`: `500ms`, `30s`, `2m`, `1h`",
        )),
    }
}

fn ladder(field: &Field<'_>) -> Result<Vec<(String, Conditions)>, Flaw> {
    let items = field.list("a list of rungs, as in `[loopback, good-wifi]`")?;
    if items.is_empty() {
        return Err(field
            .fault_found(
                "an empty list",
                "at least one rung, as in `[loopback, good-wifi]`",
            )
            .help("or leave `ladder` out"));
    }
    let rungs = items.iter().map(|item| {
        let conditions = item.one_of(&RUNGS.map(|rung| (rung.name, rung.conditions)))?;
        Ok((item.text("a rung")?.to_owned(), conditions))
    });
    rungs.collect()
}

fn expect(field: &Field<'_>, strikes: Strikes) -> Result<Expect, Flaw> {
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
            _ => Err(field
                .fault("how many there may be at most, or `any`")
                .help("write a whole number, such as `0`; with `any` it is not looked at")),
        });
        Ok(read?.unwrap_or(default))
    };
    if let Some(field) = members.get("heal_p95").filter(|_| !strikes.any) {
        return Err(field
            .fault_found(
                "a time to heal without any fault",
                "`faults` or `random` with it",
            )
            .help("leave `heal_p95` out: nothing breaks that could heal"));
    }
    if let Some(field) = members.get("memory").filter(|_| strikes.on_a_ladder) {
        return Err(field
            .fault_found(
                "`memory` on a ladder",
                "none: each rung has processes of its own",
            )
            .help("leave `memory` out: it is compared within one long run, as in `soak.yaml`"));
    }
    Ok(Expect {
        lost: count("lost", default.lost)?,
        doubled: count("doubled", default.doubled)?,
        out_of_order: count("out_of_order", default.out_of_order)?,
        heal_p95: members.read("heal_p95", Field::duration)?,
        memory: members.read("memory", whole_percent)?,
        links_down: count("links_down", default.links_down)?,
    })
}

fn whole_percent(field: &Field<'_>) -> Result<u32, Flaw> {
    match per_mille(field)? {
        share if share % 10 == 0 => Ok(u32::from(share / 10)),
        _ => Err(field
            .fault("a share in whole percent, such as `5%`")
            .help("memory is not known more closely than that")),
    }
}

/// What a scenario file may have.
const FIELDS: [&str; 10] = [
    "chaos", "swarm", "for", "traffic", "all", "links", "faults", "random", "ladder", "expect",
];
/// What `random` may have.
const RANDOM: [&str; 3] = ["every", "for", "of"];
/// How long a run goes on after the last fault where it does not say.
const AFTERWARDS: Duration = Duration::from_secs(5);
/// More a second than a program at a pipe writes.
const FASTEST: Duration = Duration::from_millis(1);
/// What a message of 64 KiB has room for beside its envelope.
const MOST_PAYLOAD: usize = 32 * 1024;
