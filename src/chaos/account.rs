//! What a run has shown, from all that was noted of it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::heal::Part;
use super::ledger::Ledger;
use super::report::{FaultLine, FaultRow, HealMs, LinkSums, Name, ProcessRow, Report, millis};
use super::stage::{Lane, Stage};
use crate::identity::AgentId;

/// The report of a run that has ended, with its links as they were before its agents left.
pub(super) fn told(stage: &mut Stage<'_>, length: Duration, links: LinkSums) -> Report {
    let log = log(stage, length);
    let took = (0..log.len()).filter_map(|n| stage.healing.took(n));
    Report {
        chaos: stage.scenario.name.clone(),
        seed: stage.options.seed,
        seconds: length.as_secs_f64(),
        messages: stage.ledger.sums(),
        faults: rows(stage, &log),
        heal_ms: HealMs::of(took.collect()),
        log,
        links,
        processes: processes(stage, length),
        ladder: Vec::new(),
        failures: failures(stage),
        ok: false,
    }
}

/// The links as they are now.
pub(super) fn links(stage: &Stage<'_>) -> LinkSums {
    LinkSums {
        expected: stage.lanes.len() / 2,
        up: stage.links_up(),
        went_down: stage.links_down(),
    }
}

/// Every agent ought to be registered now, and to have said what became of its drafts.
pub(super) fn judge_agents(stage: &mut Stage<'_>) {
    for agent in 0..stage.agents.len() {
        let (id, open) = (
            stage.agents[agent].id.clone(),
            stage.agents[agent].drafts.len(),
        );
        if !stage.has_registered(agent) {
            stage.fail(format!("{id} is not registered at the server at the end"));
        }
        if open > 0 {
            stage.fail(format!("{id} never said what became of {open} drafts"));
        }
    }
}

/// Each fault, as it was.
fn log(stage: &Stage<'_>, length: Duration) -> Vec<FaultLine> {
    let since = |at: Option<Instant>| at.map(|at| at.saturating_duration_since(stage.begun));
    let records = stage.records.iter().enumerate();
    let lines = records.map(|(n, record)| {
        let at = since(record.began).unwrap_or(record.fault.at);
        let lasted = since(record.ended).unwrap_or(length).saturating_sub(at);
        FaultLine {
            at_ms: millis(at),
            lasted_ms: millis(lasted),
            what: record.fault.what.to_string(),
            kind: record.fault.what.kind(),
            took_place: record.took_place(),
            seen: record.evidence(),
            heal_ms: stage.healing.took(n).map(millis),
            delivered_meanwhile: record.delivered,
        }
    });
    lines.collect()
}

/// The faults by kind.
fn rows(stage: &Stage<'_>, log: &[FaultLine]) -> BTreeMap<String, FaultRow> {
    let mut rows = BTreeMap::<String, FaultRow>::new();
    let mut took = BTreeMap::<_, Vec<_>>::new();
    for (n, line) in log.iter().enumerate() {
        let row = rows.entry(line.kind.as_str().into()).or_default();
        row.count += 1;
        row.took_place += usize::from(line.took_place);
        row.healed += usize::from(line.heal_ms.is_some());
        took.entry(line.kind.as_str())
            .or_default()
            .extend(stage.healing.took(n));
    }
    for (kind, took) in took {
        if let Some(row) = rows.get_mut(kind) {
            row.heal_ms = HealMs::of(took);
        }
    }
    rows
}

fn processes(stage: &Stage<'_>, length: Duration) -> Vec<ProcessRow> {
    let mark = MARK.min(length / 5);
    let born = |at: Instant| at.saturating_duration_since(stage.begun);
    let agents = stage.agents.iter().map(|actor| {
        let name = Name::Agent(actor.id.clone());
        ProcessRow::new(&name, actor.life, &actor.rss, mark, born(actor.born))
    });
    let (starts, since) = (stage.server_starts, born(stage.server_born));
    let server = ProcessRow::new(&Name::Signal, starts, &stage.server_rss, mark, since);
    agents.chain([server]).collect()
}

/// What did not hold, whatever the scenario expects.
fn failures(stage: &Stage<'_>) -> Vec<String> {
    let mut failures = stage.failures.clone();
    let unhealed = (0..stage.records.len()).filter(|n| stage.healing.took(*n).is_none());
    failures.extend(unhealed.map(|n| {
        let record = &stage.records[n];
        format!(
            "not healed: {} at {} ms, still no {}",
            record.fault.what,
            millis(record.fault.at),
            missing(stage, n)
        )
    }));
    let names = |lane: Lane| (&stage.agents[lane.0].id, &stage.agents[lane.1].id);
    failures.extend(losses(&stage.ledger, stage.scenario.expect.lost, names));
    failures.extend(silences(&stage.ledger, names));
    failures
}

/// Between whom nothing was shown, however little was lost: whatever is refused is not.
fn silences<'a>(
    ledger: &Ledger<Lane>,
    names: impl Fn(Lane) -> (&'a AgentId, &'a AgentId),
) -> Vec<String> {
    let lines = ledger.silent().take(MANY).map(|(lane, offered)| {
        let (from, to) = names(*lane);
        format!("none of {offered} messages offered from {from} to {to} was delivered")
    });
    lines.collect()
}

/// Where messages were lost, if more were than the scenario allows.
fn losses<'a>(
    ledger: &Ledger<Lane>,
    allowed: Option<u64>,
    names: impl Fn(Lane) -> (&'a AgentId, &'a AgentId),
) -> Vec<String> {
    let lost = ledger.awaited();
    if allowed.is_none_or(|allowed| lost <= allowed) {
        return Vec::new();
    }
    let lanes = ledger.losses().into_iter().take(MANY);
    let lines = lanes.map(|(lane, count, first)| {
        let (from, to) = names(lane);
        format!("{count} lost from {from} to {to}, {first} the first")
    });
    lines.collect()
}

/// What a fault still keeps from working.
fn missing(stage: &Stage<'_>, fault: usize) -> String {
    let id = |agent: usize| &stage.agents[agent].id;
    let parts = stage.healing.open(fault).take(MANY);
    let named = parts.map(|part| match part {
        Part::Lane(from, to) => format!("message {} → {}", id(from), id(to)),
        Part::Registration(agent) => format!("registration of {}", id(agent)),
        Part::Paths { agent, .. } => format!("word of {} that its paths are as before", id(agent)),
    });
    named.collect::<Vec<_>>().join(", ")
}

/// Where memory has settled: two minutes, of short runs a fifth.
const MARK: Duration = Duration::from_secs(120);
/// Pairs whose losses, or silence, are named.
const MANY: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_are_named_where_there_are_more_than_are_allowed() {
        let ids: [AgentId; 2] = ["ann", "bob"].map(|id| id.parse().unwrap());
        let names = |lane: Lane| (&ids[lane.0], &ids[lane.1]);
        let mut ledger = Ledger::new();
        let lane = (1, 0);
        for _ in 0..2 {
            let number = ledger.offer(&lane);
            ledger.accepted(&lane, number);
        }
        let named = "2 lost from bob to ann, 1 the first";
        for allowed in [0, 1] {
            assert_eq!(losses(&ledger, Some(allowed), names), [named]);
        }
        for allowed in [Some(2), None] {
            assert!(losses(&ledger, allowed, names).is_empty());
        }
        let silent = "none of 2 messages offered from bob to ann was delivered";
        assert_eq!(silences(&ledger, names), [silent]);
    }
}
