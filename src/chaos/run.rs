//! A run from start to report.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::account;
use super::plan::{PlanError, plan};
use super::record::Record;
use super::report::{Report, RungRow, millis};
use super::said::Order;
use super::scenario::Scenario;
use super::stage::{Due, Stage, Traffic};
use crate::bench::Progress;
use crate::identity::{AgentId, KeyFileError};

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
    /// The run would leave out faults: it is too short. Nothing was started.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// A key that the swarm file names cannot be used. Nothing was started, nor written.
    #[error("the key of agent `{agent}`: {source}")]
    Key {
        /// Whose.
        agent: AgentId,
        /// Which file, what is wrong with it, and what to do.
        source: KeyFileError,
    },
    /// The folder of the run cannot be made or written.
    #[error("{path}: the folder of the run cannot be written: {source}", path = .path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// A process cannot be started.
    #[error("the process of {process} cannot be started ({source}): is {program} this program, and may it be run?", program = .program.display())]
    Start {
        /// Which.
        process: String,
        /// What was run.
        program: PathBuf,
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
    let faults = plan(scenario, options.seed, length)?;
    let folder = options.folder.clone();
    let mut stage = Stage::new(scenario, options, folder.clone(), None)?;
    options.progress.step("the swarm forms");
    stage.open().await?;
    if !stage
        .until(Instant::now() + FORMING, Stage::is_linked)
        .await?
    {
        let (up, expected) = (stage.links_up(), stage.lanes.len() / 2);
        stage.close().await?;
        return Err(ChaosError::NotFormed {
            up,
            expected,
            log: folder.join("log"),
        });
    }
    stage.begun = Instant::now();
    for (n, fault) in faults.iter().enumerate() {
        stage.at(stage.begun + fault.at, Due::Begin(n));
        stage.at(stage.begun + fault.ends(), Due::End(n));
    }
    stage.records = faults.into_iter().map(Record::new).collect();
    stage.traffic = Traffic::Messages;
    let now = stage.begun;
    stage.at(now, Due::Traffic);
    stage.at(now, Due::Sample);
    options.progress.step("messages flow");
    stage.until(now + length, |_| false).await?;
    options.progress.step("faults heal");
    let healed = |stage: &Stage<'_>| {
        stage.healing.are_healed() && stage.is_linked() && stage.are_registered()
    };
    stage.until(Instant::now() + HEALING, healed).await?;
    settle(&mut stage).await?;
    let links = account::links(&stage);
    account::judge_agents(&mut stage);
    options.progress.step("the agents leave");
    stage.close().await?;
    Ok(account::told(&mut stage, length, links))
}

/// Nothing more is sent, and what is under way arrives.
async fn settle(stage: &mut Stage<'_>) -> Result<(), ChaosError> {
    stage.traffic = Traffic::None;
    stage.options.progress.step("the last messages arrive");
    let is_done = |stage: &Stage<'_>| stage.ledger.awaited() == 0 && stage.ledger.unanswered() == 0;
    stage.until(Instant::now() + ARRIVING, is_done).await?;
    // One that comes twice may come a little later.
    stage.until(Instant::now() + LATE, |_| false).await?;
    Ok(())
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
        let links = account::links(&stage);
        account::judge_agents(&mut stage);
        stage.close().await?;
        let rung = account::told(&mut stage, length, links);
        let row = RungRow {
            rung: name.clone(),
            links,
            setup_ms: formed.then_some(millis(setup)),
            rtt_us: stage.round_trips.percentiles(),
            messages: stage.ledger.sums(),
            struck: stage.struck,
        };
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
pub(super) const FORMING: Duration = Duration::from_secs(60);
/// For faults to heal once the last one is over: one that does not heal within it never does.
const HEALING: Duration = Duration::from_secs(60);
/// For messages that are under way.
const ARRIVING: Duration = Duration::from_secs(60);
/// For what comes although everything has come. What comes later, while the agents leave, counts too.
const LATE: Duration = Duration::from_secs(2);
