//! One agent of a swarm of processes: does in its process what [`RunningSwarm`](super::RunningSwarm)
//! does for all in one.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio::time::timeout;

use super::course::Course;
use super::orders::{
    Answer, Figures, Half, LaneFigures, Left, Order, Probes, Start, instant_at, unix_us,
};
use super::pacer::Schedule;
use super::progress::Quiet;
use super::resources::{self, Resources};
use super::running::RunError;
use super::stats::rounded;
use super::{forming, lanes, leaving, probe};
use crate::agent::{Agent, AgentError, PeerInfo};
use crate::identity::{AgentId, KeyPair, Roster};
use crate::swarm::Swarm;

/// One agent of a swarm of processes.
pub struct Member {
    swarm: Swarm,
    agent: Arc<Agent>,
    course: Option<Arc<Course>>,
    tasks: JoinSet<()>,
    faults: Vec<String>,
}

impl Member {
    /// Starts agent `id` of `swarm`.
    ///
    /// # Errors
    /// One line, for the parent to tell.
    pub async fn start(swarm: Swarm, id: &AgentId, start: Start) -> Result<Self, String> {
        let described = swarm.agents.iter().find(|agent| agent.id == *id);
        let described = described.ok_or_else(|| format!("there is no agent `{id}`"))?;
        let key = KeyPair::read_file(&start.key).map_err(|err| err.to_string())?;
        let roster = Roster::new(start.roster)
            .and_then(|roster| roster.revoking(swarm.revoked_keys()))
            .map_err(|err| err.to_string())?;
        let builder = Agent::of_swarm(&swarm, described)
            .key(key)
            .signal(&start.signal)
            .roster(roster)
            .witness(Some(start.witness));
        let agent = builder.start().await.map_err(|err| err.to_string())?;
        Ok(Self {
            agent: Arc::new(agent),
            swarm,
            course: None,
            tasks: JoinSet::new(),
            faults: Vec::new(),
        })
    }

    /// The agent. Who holds it lets go of it before the order to leave.
    pub fn agent(&self) -> &Arc<Agent> {
        &self.agent
    }

    /// Something that the report is to say no for, in one line.
    pub fn blame(&mut self, fault: String) {
        self.faults.push(fault);
    }

    /// Does what it is told; to `start` and `leave` are other ways.
    pub async fn obey(&mut self, order: Order) -> Answer {
        match order {
            Order::Form { patience_ms } => self.form(Duration::from_millis(patience_ms)).await,
            Order::Probe(probes) => self.probe(probes).await,
            Order::Figures => self.figures().await,
            Order::Start(_) | Order::Leave => Answer::Failed {
                message: "started already".into(),
            },
        }
    }

    async fn form(&self, patience: Duration) -> Answer {
        let me = self.agent.id();
        let links = self.swarm.links();
        let ends = links.into_iter().filter_map(|(a, b)| match me {
            me if *me == a => Some(b),
            me if *me == b => Some(a),
            _ => None,
        });
        let peers: BTreeSet<_> = ends.collect();
        let waiting = forming::wait_alone(&self.agent, peers);
        let at = match timeout(patience, waiting).await {
            Ok(Err(err)) => return failed(&err),
            Ok(Ok(at)) => at,
            Err(_) => Instant::now(),
        };
        let mut links = Vec::new();
        for peer in self.agent.peers().into_iter().filter(PeerInfo::is_up) {
            let setup = peer.setup.unwrap_or_default();
            links.push(Half {
                path: peer.path().await.to_string(),
                setup_us: u64::try_from(setup.as_micros()).unwrap_or(u64::MAX),
                peer: peer.view.id,
            });
        }
        let at_unix_us = unix_us(at);
        Answer::Formed { at_unix_us, links }
    }

    async fn probe(&mut self, probes: Probes) -> Answer {
        let schedule = Schedule {
            start: instant_at(probes.start_unix_us),
            interval: Duration::from_micros(probes.interval_us),
            lanes: u32::try_from(probes.links.len()).unwrap_or(u32::MAX),
            probes: probes.probes,
        };
        let links = lanes::ends(&self.swarm, probes.links);
        let course = Course::new(schedule, probes.payload, links, Arc::new(Quiet));
        let course = Arc::new(course);
        self.course = Some(Arc::clone(&course));
        // Of the lanes, those that begin here are asked on. The listeners stay, for the others.
        let agents = [Arc::clone(&self.agent)];
        match probe::run(&course, &agents, &mut self.tasks).await {
            Ok(()) => Answer::Probed,
            Err(source) => failed(&RunError::Ended {
                agent: self.agent.id().clone(),
                source,
            }),
        }
    }

    async fn figures(&self) -> Answer {
        leaving::settle(std::slice::from_ref(&self.agent)).await;
        let stats = self.agent.stats();
        let mut figures = Figures {
            rejected: stats.rejected,
            doubled: stats.duplicated,
            resources: Resources {
                rss_kib: resources::peak_rss_kib(),
                kib_per_connection: 0,
                cpu_s: rounded(resources::cpu_seconds(), 2),
            },
            ..Figures::default()
        };
        if let Some(course) = &self.course {
            let counts = &course.counts;
            figures.sent = counts.sent.load(Ordering::Relaxed);
            figures.delivered = counts.delivered.load(Ordering::Relaxed);
            figures.duplicated = counts.duplicated.load(Ordering::Relaxed);
            figures.flaws.extend(course.flaws());
            let lanes = course.lanes.iter().map(|lane| {
                let measured = lane.measured();
                LaneFigures {
                    rtt: measured.rtt.counted(),
                    one_way: measured.one_way.counted(),
                }
            });
            figures.lanes = lanes.collect();
        }
        Answer::Figures(figures)
    }

    /// Takes its leave.
    pub async fn leave(self, reason: &str, grace: Duration) -> Answer {
        let Self {
            agent,
            mut tasks,
            faults,
            ..
        } = self;
        tasks.shutdown().await;
        let id = agent.id().clone();
        let left = match timeout(TO_LET_GO, alone(agent)).await {
            Ok(agent) => agent.shutdown_within(reason, grace).await,
            Err(_) => Err(AgentError::Ended),
        };
        match left {
            Ok(summary) => Answer::Left(Left {
                entries: summary.entries,
                root: summary.root,
                path: summary.path,
                faults,
            }),
            Err(source) => failed(&RunError::Ended { agent: id, source }),
        }
    }
}

impl std::fmt::Debug for Member {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Member")
            .field("agent", self.agent.id())
            .finish_non_exhaustive()
    }
}

/// Waits until nobody else holds it: tasks that were cut off let go of it one by one.
async fn alone(mut agent: Arc<Agent>) -> Agent {
    loop {
        match Arc::try_unwrap(agent) {
            Ok(agent) => return agent,
            Err(shared) => agent = shared,
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

fn failed(err: &RunError) -> Answer {
    Answer::Failed {
        message: err.to_string(),
    }
}

/// Tasks end at their next await.
const TO_LET_GO: Duration = Duration::from_secs(2);
