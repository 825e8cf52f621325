//! A run from start to report.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::heal::Healing;
use super::plan::plan;
use super::record::Record;
use super::report::{
    FaultLine, FaultRow, HealMs, LinkSums, Name, ProcessRow, Report, RungRow, millis,
};
use super::said::Order;
use super::scenario::Scenario;
use super::stage::{Due, Stage, Traffic};
use crate::bench::Progress;

/// How a scenario is run.
pub struct Options {
    /// Draws the faults by chance.
    pub seed: u64,
    /// Instead of the scenario's.
    pub length: Option<Duration>,
    /// This program, as a file.
    pub program: PathBuf,
    /// Options that every process is given before its verb.
    pub globals: Vec<String>,
    /// Where everything is kept.
    pub folder: PathBuf,
    /// Whether agents keep an outbox on the disk.
    pub outbox: bool,
    /// Is told what goes on.
    pub progress: Arc<dyn Progress>,
}

/// Why a scenario could not be run.
#[derive(Debug, thiserror::Error)]
pub enum ChaosError {
    /// The folder of the run cannot be made or written.
    #[error("{path}: the folder of the run cannot be written: {source}", path = .path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// A process cannot be started.
    #[error("the process of {process} cannot be started: {source}")]
    Start {
        /// Which.
        process: String,
        /// What the operating system said.
        source: io::Error,
    },
    /// The signaling server does not listen.
    #[error("the signaling server does not listen: {log} says why", log = .log.display())]
    Server {
        /// Its log.
        log: PathBuf,
    },
    /// The swarm did not form before there was any fault.
    #[error(
        "{up} of {expected} links came up within {} s, before any fault: the logs in {log} say why",
        FORMING.as_secs(), log = .log.display()
    )]
    NotFormed {
        /// Links that are up,
        up: usize,
        /// of so many.
        expected: usize,
        /// Where the logs are.
        log: PathBuf,
    },
}

/// Runs a scenario with real processes and real sockets.
///
/// # Errors
/// [`ChaosError`]: it could not be run. What does not hold is in the report.
pub async fn run(scenario: &Scenario, options: &Options) -> Result<Report, ChaosError> {
    let mut report = match scenario.ladder.is_empty() {
        true => weather(scenario, options).await?,
        false => climb(scenario, options).await?,
    };
    report.judge(&scenario.expect);
    Ok(report)
}

/// One swarm under all the faults.
async fn weather(scenario: &Scenario, options: &Options) -> Result<Report, ChaosError> {
    let length = options.length(scenario);
    let folder = options.folder.clone();
    let mut stage = Stage::new(scenario, options, folder.clone(), None)?;
    options.progress.step("the swarm forms");
    stage.open().await?;
    if !stage
        .until(Instant::now() + FORMING, Stage::is_linked)
        .await?
    {
        let (up, expected) = (stage.links_up(), stage.lanes.len() / 2);
        stage.close().await;
        return Err(ChaosError::NotFormed {
            up,
            expected,
            log: folder.join("log"),
        });
    }
    stage.begun = Instant::now();
    let faults = plan(scenario, options.seed, length);
    for (n, fault) in faults.iter().enumerate() {
        stage.at(stage.begun + fault.at, Due::Begin(n));
        stage.at(stage.begun + fault.at + fault.lasts, Due::End(n));
    }
    stage.records = faults.into_iter().map(Record::new).collect();
    stage.traffic = Traffic::Messages;
    let now = stage.begun;
    stage.at(now, Due::Traffic);
    stage.at(now, Due::Sample);
    options.progress.step("messages flow");
    stage.until(now + length, |_| false).await?;
    options.progress.step("faults heal");
    let healed = |stage: &Stage<'_>| Healing::are_healed(&stage.healing) && stage.is_linked();
    stage.until(Instant::now() + HEALING, healed).await?;
    settle(&mut stage).await?;
    let report = told(&mut stage, length);
    options.progress.step("the agents leave");
    stage.close().await;
    Ok(report)
}

/// Nothing more is sent, and what is under way arrives.
async fn settle(stage: &mut Stage<'_>) -> Result<(), ChaosError> {
    stage.traffic = Traffic::None;
    stage.options.progress.step("the last messages arrive");
    let is_done =
        |stage: &Stage<'_>| stage.ledger.awaited() == 0 && stage.ledger.unanswered(|_| true) == 0;
    stage.until(Instant::now() + ARRIVING, is_done).await?;
    // One that comes twice may come a little later.
    stage.until(Instant::now() + LATE, |_| false).await?;
    Ok(())
}

fn told(stage: &mut Stage<'_>, length: Duration) -> Report {
    stage.settle_evidence();
    let scenario = stage.scenario;
    let mut rows = BTreeMap::<String, FaultRow>::new();
    let mut log = Vec::new();
    let (began, mut all) = (stage.begun, Vec::new());
    for (n, record) in stage.records.iter().enumerate() {
        let since = |at: Option<Instant>| at.map(|at| at.saturating_duration_since(began));
        let (at, ended) = (since(record.began), since(record.ended));
        let (kind, took) = (record.fault.what.kind(), stage.healing.took(n));
        let row = rows.entry(kind.as_str().into()).or_default();
        row.count += 1;
        row.took_place += usize::from(record.took_place());
        row.healed += usize::from(took.is_some());
        row.took.extend(took);
        all.extend(took);
        let at = at.unwrap_or(record.fault.at);
        let lasted = ended.unwrap_or(length).saturating_sub(at);
        log.push(FaultLine {
            at_ms: millis(at),
            lasted_ms: millis(lasted),
            what: record.fault.what.to_string(),
            kind,
            took_place: record.took_place(),
            seen: record.evidence(),
            heal_ms: took.map(millis),
            delivered_meanwhile: record.delivered,
        });
    }
    for row in rows.values_mut() {
        row.heal_ms = HealMs::of(std::mem::take(&mut row.took));
    }
    let mark = MARK.min(length / 5);
    let agents = stage.agents.iter().map(|actor| {
        let name = Name::Agent(actor.id.clone());
        ProcessRow::new(&name, actor.life, &actor.rss, mark, actor.born)
    });
    let mut processes: Vec<_> = agents.collect();
    let (starts, born) = (stage.server_starts, stage.server_born);
    let server = ProcessRow::new(&Name::Signal, starts, &stage.server_rss, mark, born);
    processes.push(server);
    let mut failures = stage.deaths.clone();
    let waiting = |n: usize| {
        let lanes = stage.healing.open(n).into_iter().take(MANY);
        let named =
            lanes.map(|(from, to)| format!("{} → {}", stage.agents[from].id, stage.agents[to].id));
        named.collect::<Vec<_>>().join(", ")
    };
    let unhealed = (0..stage.records.len()).filter(|n| stage.healing.took(*n).is_none());
    failures.extend(unhealed.map(|n| {
        let record = &stage.records[n];
        format!(
            "not healed: {} at {} ms, still no message {}",
            record.fault.what,
            millis(record.fault.at),
            waiting(n)
        )
    }));
    for ((from, to), count, first) in stage.ledger.losses().into_iter().take(MANY) {
        let (from, to) = (&stage.agents[from].id, &stage.agents[to].id);
        failures.push(format!(
            "{count} lost from {from} to {to}, {first} the first"
        ));
    }
    Report {
        chaos: scenario.name.clone(),
        seed: stage.options.seed,
        seconds: length.as_secs_f64(),
        messages: stage.ledger.sums(),
        faults: rows,
        heal_ms: HealMs::of(all),
        log,
        links: links(stage),
        processes,
        ladder: Vec::new(),
        failures,
        ok: false,
    }
}

fn links(stage: &Stage<'_>) -> LinkSums {
    LinkSums {
        expected: stage.lanes.len() / 2,
        up: stage.links_up(),
        went_down: stage.went_down,
    }
}

/// A swarm for each rung, one after the other.
async fn climb(scenario: &Scenario, options: &Options) -> Result<Report, ChaosError> {
    let length = options.length(scenario);
    let mut report: Option<Report> = None;
    for (name, conditions) in &scenario.ladder {
        options.progress.step(&format!("the rung {name}"));
        let folder = options.folder.join(name);
        let mut stage = Stage::new(scenario, options, folder, Some(*conditions))?;
        stage.open().await?;
        let opened = Instant::now();
        let formed = stage.until(opened + FORMING, Stage::is_linked).await?;
        let setup = opened.elapsed();
        stage.begun = Instant::now();
        stage.traffic = Traffic::Requests;
        stage.at(stage.begun, Due::Traffic);
        stage.until(stage.begun + length, |_| false).await?;
        settle(&mut stage).await?;
        // No fault has this number: these are counted for the rung.
        for agent in 0..stage.agents.len() {
            stage.order(agent, &Order::Vitals(u64::MAX));
        }
        stage.until(Instant::now() + LATE, |_| false).await?;
        let rung = told(&mut stage, length);
        let row = RungRow {
            rung: name.clone(),
            links: links(&stage),
            setup_ms: formed.then_some(millis(setup)),
            rtt_us: stage.round_trips.percentiles(),
            messages: stage.ledger.sums(),
            struck: stage.struck,
        };
        stage.close().await;
        let report = report.get_or_insert(Report {
            processes: Vec::new(),
            failures: Vec::new(),
            ..rung.clone()
        });
        if report.ladder.is_empty() {
            report.messages = Default::default();
            report.links = Default::default();
        }
        if !conditions.are_calm() && row.struck == 0 {
            let failure = format!("the rung {name} has struck no datagram: it was none");
            report.failures.push(failure);
        }
        report.failures.extend(rung.failures);
        report.messages.add(&row.messages);
        report.links.expected += row.links.expected;
        report.links.up += row.links.up;
        report.links.went_down += row.links.went_down;
        report.ladder.push(row);
    }
    Ok(report.expect("a ladder has a rung"))
}

impl Options {
    pub(super) fn length(&self, scenario: &Scenario) -> Duration {
        self.length.unwrap_or(scenario.length)
    }
}

/// For a swarm to form, on the worst rung too.
const FORMING: Duration = Duration::from_secs(60);
/// For faults to heal once the last one is over: one that does not heal within it never does.
const HEALING: Duration = Duration::from_secs(60);
/// For messages that are under way.
const ARRIVING: Duration = Duration::from_secs(60);
/// For what comes although everything has come.
const LATE: Duration = Duration::from_millis(500);
/// Where memory has settled: two minutes, of short runs a fifth.
const MARK: Duration = Duration::from_secs(120);
/// Pairs whose losses are named.
const MANY: usize = 10;
