//! The processes of a run, and the one loop that writes to them, hears them, and strikes them.
//!
//! The runner is the program at every agent's pipes: it offers numbered drafts, reads receipts and
//! messages, and keeps the ledger of them. Nothing in here waits for a process but for the end of one
//! that was killed, or whose output has ended.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::time::sleep_until;

use super::conditions::Conditions;
use super::heal::Healing;
use super::ledger::Ledger;
use super::place::Place;
use super::process::{Heard, Process, Who};
use super::record::Record;
use super::run::{ChaosError, Options};
use super::scenario::Scenario;
use crate::bench::Latencies;
use crate::identity::AgentId;

/// An ordered pair of agents, by their places in the swarm file.
pub(super) type Lane = (usize, usize);

/// A swarm of processes under a scenario.
pub(super) struct Stage<'a> {
    pub(super) scenario: &'a Scenario,
    pub(super) options: &'a Options,
    pub(super) place: Place,
    pub(super) agents: Vec<Actor>,
    pub(super) server: Option<Process>,
    pub(super) server_starts: u32,
    /// Since when it listens; none while it does not.
    pub(super) server_since: Option<Instant>,
    /// Once it was heard for the first time: it comes back at the same address.
    pub(super) server_at: Option<SocketAddr>,
    pub(super) server_rss: Vec<(Duration, u64)>,
    pub(super) server_born: Instant,
    /// Faults that end when the server is back.
    pub(super) server_ends: Vec<usize>,
    pub(super) lanes: Vec<Lane>,
    /// Who says that the link with whom is up.
    pub(super) up: BTreeSet<Lane>,
    /// How often each end of a link has said that it is down, or was killed.
    pub(super) downs: BTreeMap<Lane, u64>,
    /// The agents that say that they are registered,
    pub(super) registered: BTreeSet<usize>,
    /// and those of whom the server says so. It may let go of one that is stopped, and does not know.
    pub(super) listed: BTreeSet<usize>,
    pub(super) ledger: Ledger<Lane>,
    /// When messages were offered that have not arrived, by the clock of this host.
    pub(super) offered_ms: BTreeMap<(Lane, u64), i64>,
    pub(super) healing: Healing,
    pub(super) records: Vec<Record>,
    /// What every path is like instead of what the scenario says.
    pub(super) rung: Option<Conditions>,
    pub(super) traffic: Traffic,
    /// Requests that wait for their reply.
    pub(super) asked: BTreeMap<(Lane, u64), Instant>,
    pub(super) round_trips: Latencies,
    pub(super) struck: u64,
    /// How often conditions were told.
    pub(super) turn: u64,
    /// What must not be, as it was seen.
    pub(super) failures: Vec<String>,
    /// All processes are to end.
    pub(super) is_closing: bool,
    /// When the faults' time began.
    pub(super) begun: Instant,
    due: BTreeMap<(Instant, u64), Due>,
    heard: mpsc::Receiver<Heard>,
    hearing: mpsc::Sender<Heard>,
}

/// What is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Traffic {
    None,
    /// A message on every lane.
    Messages,
    /// A request from the smaller id of each link to the greater one, which is answered.
    Requests,
}

/// One agent.
pub(super) struct Actor {
    pub(super) id: AgentId,
    pub(super) process: Option<Process>,
    /// How often it was started.
    pub(super) life: u32,
    pub(super) ready: bool,
    /// When this life began.
    pub(super) born: Instant,
    /// Nothing more comes from this life.
    pub(super) is_silent: bool,
    /// Faults that end when it is ready.
    pub(super) ends: Vec<usize>,
    /// Drafts that were not answered for, by the line they stood on.
    pub(super) drafts: BTreeMap<(u32, u64), (usize, u64)>,
    /// How it was told that its paths are, in this life.
    pub(super) told: BTreeMap<usize, Conditions>,
    pub(super) rss: Vec<(Duration, u64)>,
}

/// What is due at a time.
#[derive(Debug, Clone, Copy)]
pub(super) enum Due {
    Traffic,
    Begin(usize),
    End(usize),
    Start(Who),
    Sample,
}

impl<'a> Stage<'a> {
    /// Nothing runs yet.
    pub(super) fn new(
        scenario: &'a Scenario,
        options: &'a Options,
        folder: PathBuf,
        rung: Option<Conditions>,
    ) -> Result<Self, ChaosError> {
        let place = Place::prepare(&folder, &scenario.swarm)?;
        let ids = scenario.swarm.ids();
        let index = |id: &AgentId| ids.iter().position(|other| other == id);
        let lanes = scenario.lanes();
        let lanes = lanes
            .iter()
            .filter_map(|(a, b)| Some((index(a)?, index(b)?)));
        let (hearing, heard) = mpsc::channel(HEARD);
        Ok(Self {
            agents: ids.iter().cloned().map(Actor::new).collect(),
            lanes: lanes.collect(),
            server: None,
            server_starts: 0,
            server_since: None,
            server_at: None,
            server_rss: Vec::new(),
            server_born: Instant::now(),
            server_ends: Vec::new(),
            up: BTreeSet::new(),
            downs: BTreeMap::new(),
            registered: BTreeSet::new(),
            listed: BTreeSet::new(),
            ledger: Ledger::new(),
            offered_ms: BTreeMap::new(),
            healing: Healing::default(),
            records: Vec::new(),
            rung,
            traffic: Traffic::None,
            asked: BTreeMap::new(),
            round_trips: Latencies::new(),
            struck: 0,
            turn: 0,
            failures: Vec::new(),
            is_closing: false,
            begun: Instant::now(),
            due: BTreeMap::new(),
            scenario,
            options,
            place,
            heard,
            hearing,
        })
    }

    /// Starts the server, and when it listens, the agents.
    pub(super) async fn open(&mut self) -> Result<(), ChaosError> {
        self.start_server()?;
        let deadline = Instant::now() + PATIENCE;
        if !self
            .until(deadline, |stage| stage.server_at.is_some())
            .await?
        {
            return Err(ChaosError::Server {
                log: self.place.log("@signal"),
            });
        }
        for agent in 0..self.agents.len() {
            self.start_agent(agent)?;
        }
        Ok(())
    }

    /// Time, in the run.
    pub(super) fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Whether every link is up, as both ends say.
    pub(super) fn is_linked(&self) -> bool {
        self.lanes.iter().all(|lane| self.up.contains(lane))
    }

    /// How many links are up.
    pub(super) fn links_up(&self) -> usize {
        let both = |lane: &&Lane| {
            lane.0 < lane.1 && self.up.contains(lane) && self.up.contains(&(lane.1, lane.0))
        };
        self.lanes.iter().filter(both).count()
    }

    /// How many links went down: those of which one end, or both, had said that they are up. Both say
    /// that it is down in any order: the first one may have said that the next one is up before the
    /// other says that this one is down. So of each pair the end that had more of them counts.
    pub(super) fn links_down(&self) -> u64 {
        let at = |lane: Lane| self.downs.get(&lane).copied().unwrap_or(0);
        let links = self.lanes.iter().filter(|lane| lane.0 < lane.1);
        links.map(|(a, b)| at((*a, *b)).max(at((*b, *a)))).sum()
    }

    /// Whether an agent is registered at the server, as both say.
    pub(super) fn has_registered(&self, agent: usize) -> bool {
        self.registered.contains(&agent) && self.listed.contains(&agent)
    }

    /// Whether every agent is.
    pub(super) fn are_registered(&self) -> bool {
        (0..self.agents.len()).all(|agent| self.has_registered(agent))
    }

    /// Something is as it must not be.
    pub(super) fn fail(&mut self, what: String) {
        tracing::info!("{what}");
        if self.failures.len() < FAILURES {
            self.failures.push(what);
        }
    }

    pub(super) fn at(&mut self, at: Instant, due: Due) {
        let mut key = (at, 0);
        while self.due.contains_key(&key) {
            key.1 += 1;
        }
        self.due.insert(key, due);
    }

    /// Lives on until then, or until it is `done`, whichever comes first; whether it is.
    pub(super) async fn until(
        &mut self,
        deadline: Instant,
        done: impl Fn(&Self) -> bool,
    ) -> Result<bool, ChaosError> {
        loop {
            if done(self) {
                return Ok(true);
            }
            let next = self.due.first_key_value().map(|((at, _), _)| *at);
            let next = next.unwrap_or(deadline).min(deadline);
            // Both are cancel-safe.
            tokio::select! {
                Some(heard) = self.heard.recv() => self.hear(heard).await?,
                () = sleep_until(next.into()) => {
                    let now = Instant::now();
                    if now >= deadline {
                        return Ok(done(self));
                    }
                    let is_due = |stage: &Self| {
                        let first = stage.due.first_key_value();
                        first.is_some_and(|((at, _), _)| *at <= now)
                    };
                    while is_due(self) {
                        if let Some((_, due)) = self.due.pop_first() {
                            self.happen(due).await?;
                        }
                    }
                }
            }
        }
    }

    async fn happen(&mut self, due: Due) -> Result<(), ChaosError> {
        match due {
            Due::Traffic => {
                self.offer();
                let again = Instant::now() + self.scenario.traffic.every;
                self.at(again, Due::Traffic);
            }
            Due::Begin(fault) => self.begin(fault).await?,
            Due::End(fault) => self.end(fault)?,
            Due::Start(Who::Agent(agent)) => self.start_agent(agent)?,
            Due::Start(Who::Server) => self.start_server()?,
            Due::Sample => {
                self.sample();
                self.at(Instant::now() + BETWEEN_SAMPLES, Due::Sample);
            }
        }
        Ok(())
    }

    fn sample(&mut self) {
        let at = self.elapsed();
        for actor in &mut self.agents {
            let kib = actor.process.as_ref().map(Process::resident_kib);
            actor.rss.extend(kib.map(|kib| (at, kib)));
        }
        let kib = self.server.as_ref().map(Process::resident_kib);
        self.server_rss.extend(kib.map(|kib| (at, kib)));
    }

    // Processes.

    pub(super) fn start_server(&mut self) -> Result<(), ChaosError> {
        let mut command = self.command("signal");
        command.arg("--chaos");
        let listen = self.server_at.unwrap_or(self.scenario.swarm.signal.listen);
        command.args(["--listen", &listen.to_string()]);
        command.arg("--swarm").arg(&self.place.swarm_file);
        command.arg("--key").arg(&self.place.server_key);
        command
            .arg("--witness")
            .arg(self.place.folder.join("witness"));
        self.server_starts += 1;
        self.server_born = Instant::now();
        let (who, log) = ((Who::Server, self.server_starts), self.place.log("@signal"));
        let started = Process::start(command, who, &log, self.hearing.clone());
        self.server = Some(started.map_err(|source| self.not_started("@signal", source))?);
        Ok(())
    }

    pub(super) fn start_agent(&mut self, agent: usize) -> Result<(), ChaosError> {
        let id = self.agents[agent].id.clone();
        let mut command = self.command("agent");
        command.args(["--id", id.as_str(), "--chaos"]);
        let server = self.server_at.map(|at| format!("ws://{at}"));
        command.args(["--signal", &server.unwrap_or_default()]);
        command.arg("--swarm").arg(&self.place.swarm_file);
        command.arg("--key").arg(&self.place.keys[agent]);
        command
            .arg("--witness")
            .arg(self.place.folder.join("witness"));
        if self.options.outbox {
            command
                .arg("--outbox")
                .arg(self.place.folder.join("outbox"));
        }
        let actor = &mut self.agents[agent];
        actor.life += 1;
        (actor.ready, actor.is_silent, actor.born) = (false, false, Instant::now());
        actor.told.clear();
        let (who, log) = (Who::Agent(agent), self.place.log(id.as_str()));
        let who = (who, self.agents[agent].life);
        let started = Process::start(command, who, &log, self.hearing.clone());
        let started = started.map_err(|source| self.not_started(id.as_str(), source))?;
        self.agents[agent].process = Some(started);
        // It reads them as soon as it is registered, before its links are up.
        self.tell_conditions(agent);
        Ok(())
    }

    /// There is no server, and so nobody is registered, whoever has noticed.
    pub(super) fn server_is_gone(&mut self) {
        self.server = None;
        self.server_since = None;
        self.registered.clear();
        self.listed.clear();
    }

    fn command(&self, verb: &str) -> Command {
        let mut command = Command::new(&self.options.program);
        command.args(&self.options.globals).arg(verb);
        command
    }

    fn not_started(&self, name: &str, source: io::Error) -> ChaosError {
        ChaosError::Start {
            process: name.into(),
            program: self.options.program.clone(),
            source,
        }
    }

    /// Ends all processes, and hears them to their end. One that does not end well is a failure.
    pub(super) async fn close(&mut self) -> Result<(), ChaosError> {
        self.is_closing = true;
        self.traffic = Traffic::None;
        self.due.clear();
        for process in self.agents.iter_mut().filter_map(|a| a.process.as_mut()) {
            process.close();
        }
        let are_silent = |stage: &Self| stage.agents.iter().all(|actor| actor.is_silent);
        self.until(Instant::now() + LEAVING, are_silent).await?;
        for agent in 0..self.agents.len() {
            if let Some(process) = self.agents[agent].process.take() {
                let how = process.end(REAPED).await;
                self.judge_end(self.agents[agent].id.to_string(), how);
            }
        }
        if let Some(mut server) = self.server.take() {
            server.close();
            let how = server.end(LEAVING).await;
            self.judge_end("@signal".into(), how);
        }
        Ok(())
    }

    fn judge_end(&mut self, name: String, how: Option<ExitStatus>) {
        let how = match how {
            Some(how) if how.success() => return,
            Some(how) => format!("ended with {how}"),
            None => format!("did not end within {} s and was killed", LEAVING.as_secs()),
        };
        let log = self.place.log(&name);
        self.fail(format!(
            "told to leave, {name} {how}: see {}",
            log.display()
        ));
    }
}

impl Actor {
    fn new(id: AgentId) -> Self {
        Self {
            id,
            process: None,
            life: 0,
            ready: false,
            born: Instant::now(),
            is_silent: true,
            ends: Vec::new(),
            drafts: BTreeMap::new(),
            told: BTreeMap::new(),
            rss: Vec::new(),
        }
    }
}

/// Lines that wait to be heard; then processes wait, and so do those who send to them.
const HEARD: usize = 65_536;
/// For the server to listen.
const PATIENCE: Duration = Duration::from_secs(30);
/// For a process to leave; then it is killed.
const LEAVING: Duration = Duration::from_secs(20);
/// For the end of a process whose output has ended.
pub(super) const REAPED: Duration = Duration::from_secs(5);
/// Failures that are told.
const FAILURES: usize = 100;
/// Often enough to see a trend in a minute, seldom enough to cost nothing.
const BETWEEN_SAMPLES: Duration = Duration::from_secs(2);
