//! What a run has shown.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::ledger::Sums;
use super::run::FORMING;
use super::scenario::{Expect, Kind};
use crate::bench::Percentiles;
use crate::identity::AgentId;

/// The report of a run; `ok` if everything held.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The name of the scenario.
    pub chaos: String,
    /// Repeats the plan of faults.
    pub seed: u64,
    /// How long faults and messages came.
    pub seconds: f64,
    /// What became of the messages.
    pub messages: Sums,
    /// Each kind of fault.
    pub faults: BTreeMap<String, FaultRow>,
    /// Times to heal of all faults.
    pub heal_ms: HealMs,
    /// Each fault, in the order of their times.
    pub log: Vec<FaultLine>,
    /// The links at the end.
    pub links: LinkSums,
    /// Each process.
    pub processes: Vec<ProcessRow>,
    /// Each rung of a ladder.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ladder: Vec<RungRow>,
    /// What did not hold, one line each.
    pub failures: Vec<String>,
    /// Whether all held.
    pub ok: bool,
}

/// The faults of one kind.
#[derive(Debug, Clone, Default, Serialize)]
pub struct FaultRow {
    /// How many there were,
    pub count: usize,
    /// really were,
    pub took_place: usize,
    /// and have healed.
    pub healed: usize,
    /// How long that took.
    pub heal_ms: HealMs,
}

/// Times to heal, in milliseconds; all zero of none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct HealMs {
    /// Half of them are at most this.
    pub p50: u64,
    /// 95 of 100 are at most this.
    pub p95: u64,
    /// The longest.
    pub max: u64,
}

/// One fault.
#[derive(Debug, Clone, Serialize)]
pub struct FaultLine {
    /// When it began.
    pub at_ms: u64,
    /// How long it lasted.
    pub lasted_ms: u64,
    /// What it was.
    pub what: String,
    /// Its kind.
    pub kind: Kind,
    /// Whether it really was.
    pub took_place: bool,
    /// How that was seen.
    pub seen: String,
    /// How long it took to heal; none if it has not.
    pub heal_ms: Option<u64>,
    /// Messages delivered while it lasted.
    pub delivered_meanwhile: u64,
}

/// The links of the swarm.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct LinkSums {
    /// Those of the topology.
    pub expected: usize,
    /// Up at the end, as both ends say.
    pub up: usize,
    /// How often one went down.
    pub went_down: u64,
}

/// One process.
#[derive(Debug, Clone, Serialize)]
pub struct ProcessRow {
    /// The agent, or `@signal`.
    pub process: String,
    /// How often it was started.
    pub starts: u32,
    /// Its memory early in the run; none where it was started later.
    pub early_kib: Option<u64>,
    /// Its memory at the end.
    pub late_kib: u64,
    /// From one to the other.
    pub change_percent: Option<f64>,
    /// The most memory it ever had.
    pub peak_kib: u64,
}

/// One rung.
#[derive(Debug, Clone, Serialize)]
pub struct RungRow {
    /// Its name.
    pub rung: String,
    /// Links that came up, and of how many.
    pub links: LinkSums,
    /// How long that took; none if not all did.
    pub setup_ms: Option<u64>,
    /// Round trips of signed requests and replies, between the programs at the agents' pipes.
    pub rtt_us: Percentiles,
    /// What became of the messages.
    pub messages: Sums,
    /// Datagrams that the conditions have struck.
    pub struck: u64,
}

impl HealMs {
    /// Of these.
    pub(super) fn of(mut took: Vec<Duration>) -> Self {
        took.sort_unstable();
        let at = |share: f64| {
            // The smallest that so many are at most.
            let rank = (share * took.len() as f64).ceil() as usize;
            let took = took.get(rank.saturating_sub(1));
            took.map_or(0, |took| millis(*took))
        };
        Self {
            p50: at(0.5),
            p95: at(0.95),
            max: at(1.0),
        }
    }
}

impl Report {
    /// Adds what does not hold.
    pub(super) fn judge(&mut self, expect: &Expect) {
        let mut failures = Vec::new();
        let m = self.messages;
        for (what, found, allowed) in [
            ("lost", m.lost, expect.lost),
            ("doubled", m.doubled, expect.doubled),
            ("out of order", m.out_of_order, expect.out_of_order),
        ] {
            if let Some(allowed) = allowed.filter(|allowed| found > *allowed) {
                failures.push(format!("{found} messages {what}, {allowed} allowed"));
            }
        }
        if m.unasked > 0 {
            failures.push(format!(
                "{} messages delivered that were never accepted",
                m.unasked
            ));
        }
        if m.sent == 0 {
            failures.push("no message was sent: nothing was shown".into());
        }
        for line in self.log.iter().filter(|line| !line.took_place) {
            failures.push(format!(
                "the fault at {} ms did not take place: {} ({})",
                line.at_ms, line.what, line.seen
            ));
        }
        if expect.heal_p95.is_some() && self.log.is_empty() {
            failures.push("a time to heal is expected, and there was no fault".into());
        }
        let (p95, allowed) = (self.heal_ms.p95, expect.heal_p95.map(millis));
        if let Some(allowed) = allowed.filter(|allowed| p95 > *allowed) {
            failures.push(format!(
                "95 of 100 faults took up to {p95} ms to heal, {allowed} allowed"
            ));
        }
        if self.links.up < self.links.expected {
            failures.push(format!(
                "{} of {} links are up at the end",
                self.links.up, self.links.expected
            ));
        }
        let down = self.links.went_down;
        if let Some(allowed) = expect.links_down.filter(|allowed| down > *allowed) {
            failures.push(format!("{down} links went down, {allowed} allowed"));
        }
        let mut agents = self.processes.iter().filter(|row| row.is_agent());
        if expect.memory.is_some() && !agents.any(|row| row.change_percent.is_some()) {
            failures.push(format!(
                "the memory of no agent can be compared: each was started again after the first fifth of the run, or a run of {} s is too short; take `memory` out, or let one live",
                self.seconds
            ));
        }
        for row in &self.processes {
            let moved = row.change_percent.unwrap_or(0.0);
            if let Some(allowed) = expect.memory.filter(|allowed| moved > f64::from(*allowed)) {
                failures.push(format!(
                    "the memory of {} has grown by {moved:.1} %, {allowed} % allowed",
                    row.process
                ));
            }
        }
        for row in &self.ladder {
            let lost = row.messages.lost;
            if let Some(allowed) = expect.lost.filter(|allowed| lost > *allowed) {
                failures.push(format!(
                    "{lost} messages lost on the rung {}, {allowed} allowed",
                    row.rung
                ));
            }
            if row.links.up < row.links.expected {
                failures.push(format!(
                    "{} of {} links came up on the rung {}",
                    row.links.up, row.links.expected, row.rung
                ));
            }
            if row.setup_ms.is_none() {
                failures.push(format!(
                    "not all links were up at one time within {} s on the rung {}",
                    FORMING.as_secs(),
                    row.rung
                ));
            }
            if row.rtt_us.count == 0 {
                failures.push(format!(
                    "no request was answered on the rung {}: nothing was shown",
                    row.rung
                ));
            }
        }
        self.failures.extend(failures);
        self.ok = self.failures.is_empty();
    }
}

impl ProcessRow {
    fn is_agent(&self) -> bool {
        self.process != Name::Signal.to_string()
    }

    /// Of samples: when, and how much memory; those before `since` are of an earlier run of it.
    pub(super) fn new(
        process: &Name,
        starts: u32,
        samples: &[(Duration, u64)],
        mark: Duration,
        since: Duration,
    ) -> Self {
        let around = |from: Duration, to: Duration| {
            let within = samples
                .iter()
                .filter(|(at, kib)| (from..=to).contains(at) && *kib > 0);
            let mut kib: Vec<_> = within.map(|(_, kib)| *kib).collect();
            kib.sort_unstable();
            kib.get(kib.len() / 2).copied()
        };
        let span = SPAN.min(mark / 2);
        let last = samples.last().map_or(Duration::ZERO, |(at, _)| *at);
        let late_kib = around(last.saturating_sub(span), last).unwrap_or(0);
        // One that was started again is another process, and begins small.
        let early_kib = match since <= mark.saturating_sub(span) && last > mark {
            true => around(mark.saturating_sub(span / 2), mark + span / 2),
            false => None,
        };
        let change = |early: u64| (late_kib as f64 - early as f64) / early as f64 * 100.0;
        Self {
            process: process.to_string(),
            starts,
            early_kib,
            late_kib,
            change_percent: early_kib.map(|early| (change(early) * 10.0).round() / 10.0),
            peak_kib: samples.iter().map(|(_, kib)| *kib).max().unwrap_or(0),
        }
    }
}

/// A process by its name.
#[derive(Debug, Clone)]
pub(super) enum Name {
    Agent(AgentId),
    Signal,
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Agent(id) => id.fmt(f),
            Self::Signal => f.write_str("@signal"),
        }
    }
}

/// In whole milliseconds.
pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Samples of so long are taken together, by their median: a link that is rebuilt has two
/// connections for some seconds, which is no trend. The peak shows it.
const SPAN: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_seen() {
        let seconds = |n: u64| (1..=n).map(Duration::from_secs).collect();
        let (p50, p95, max) = (50_000, 95_000, 100_000);
        assert_eq!(HealMs::of(seconds(100)), HealMs { p50, p95, max });
        assert_eq!(HealMs::of(seconds(1)).p50, 1_000);
        assert_eq!(HealMs::of(Vec::new()), HealMs::default());
    }

    #[test]
    fn memory_is_compared_within_one_life_only() {
        let samples: Vec<_> = (0..=60)
            .map(|n| (Duration::from_secs(n * 10), 1_000 + n))
            .collect();
        let row = |since| {
            let mark = Duration::from_secs(120);
            ProcessRow::new(&Name::Signal, 1, &samples, mark, since)
        };
        let lived = row(Duration::ZERO);
        assert_eq!((lived.early_kib, lived.late_kib), (Some(1_012), 1_057));
        assert_eq!(lived.change_percent, Some(4.4));
        assert_eq!(row(Duration::from_secs(300)).early_kib, None);
    }

    /// A run in which all went well, with an agent and the server.
    fn report(fault: bool, memory_of_agent: Option<f64>) -> Report {
        let row = |process: &str, change_percent| ProcessRow {
            process: process.into(),
            starts: 1,
            early_kib: None,
            late_kib: 1_000,
            change_percent,
            peak_kib: 1_000,
        };
        let line = FaultLine {
            at_ms: 1_000,
            lasted_ms: 1_000,
            what: "kill a".into(),
            kind: Kind::Kill,
            took_place: true,
            seen: String::new(),
            heal_ms: Some(10),
            delivered_meanwhile: 1,
        };
        Report {
            chaos: "test".into(),
            seed: 1,
            seconds: 10.0,
            messages: Sums {
                sent: 1,
                delivered: 1,
                ..Sums::default()
            },
            faults: BTreeMap::new(),
            heal_ms: HealMs::default(),
            log: fault.then_some(line).into_iter().collect(),
            links: LinkSums::default(),
            processes: vec![row("a", memory_of_agent), row("@signal", Some(0.0))],
            ladder: Vec::new(),
            failures: Vec::new(),
            ok: false,
        }
    }

    fn failures(mut report: Report, expect: Expect) -> String {
        report.judge(&expect);
        assert_eq!(report.ok, report.failures.is_empty());
        report.failures.join("\n")
    }

    #[test]
    fn memory_that_is_expected_and_cannot_be_compared_is_a_failure() {
        let expect = Expect {
            memory: Some(5),
            ..Expect::default()
        };
        assert_eq!(failures(report(true, Some(1.0)), expect), "");
        assert!(failures(report(true, Some(9.0)), expect).contains("grown"));
        let not_compared = failures(report(true, None), expect);
        assert!(not_compared.contains("no agent"), "{not_compared}");
        assert_eq!(failures(report(true, None), Expect::default()), "");
    }

    #[test]
    fn a_time_to_heal_that_is_expected_of_no_fault_is_a_failure() {
        let expect = Expect {
            heal_p95: Some(Duration::from_secs(5)),
            ..Expect::default()
        };
        assert_eq!(failures(report(true, None), expect), "");
        let unhurt = failures(report(false, None), expect);
        assert!(unhurt.contains("no fault"), "{unhurt}");
    }

    #[test]
    fn a_rung_that_never_stood_or_on_which_nothing_was_answered_is_a_failure() {
        let climbed = |setup_ms, count| {
            let mut report = report(false, None);
            report.ladder.push(RungRow {
                rung: "lan".into(),
                links: LinkSums::default(),
                setup_ms,
                rtt_us: Percentiles {
                    count,
                    ..Percentiles::default()
                },
                messages: Sums::default(),
                struck: 1,
            });
            failures(report, Expect::default())
        };
        assert_eq!(climbed(Some(100), 1), "");
        let late = climbed(None, 1);
        assert!(late.contains("within 60 s on the rung lan"), "{late}");
        let silent = climbed(Some(100), 0);
        assert!(silent.contains("answered on the rung lan"), "{silent}");
    }

    #[test]
    fn a_moment_with_more_memory_is_a_peak_and_no_trend() {
        let kib = |n: u64| if n.is_multiple_of(10) { 1_900 } else { 1_000 };
        let samples: Vec<_> = (0..=600)
            .map(|n| (Duration::from_secs(n), kib(n)))
            .collect();
        let mark = Duration::from_secs(120);
        let row = ProcessRow::new(&Name::Signal, 1, &samples, mark, Duration::ZERO);
        assert_eq!(row.change_percent, Some(0.0));
        assert_eq!(row.peak_kib, 1_900);
    }
}
