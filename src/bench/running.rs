//! A whole swarm in this process, through an embedded signaling server.
//!
//! In steps, so that a caller can show what it has between them, and can stop a step at any point
//! by dropping its future and still leave in order:
//!
//! 1. [`RunningSwarm::launch`]: server, keys, agents.
//! 2. [`RunningSwarm::form`]: until every expected link is up on both ends.
//! 3. [`RunningSwarm::probe`]: signed requests and replies on every link.
//! 4. [`RunningSwarm::finish`]: goodbye, witness check, report.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::task::JoinSet;

use super::folder::{Place, WitnessPlace};
use super::forming::{self, Formed};
use super::keys::{Keys, KeysError};
use super::lanes;
use super::leaving;
use super::pacer::Schedule;
use super::progress::Progress;
use super::report::Report;
use super::resources;
use super::stats::Latencies;
use super::{Course, probe};
use crate::agent::{Agent, AgentError, StartError};
use crate::identity::{AgentId, Roster};
use crate::message::Timestamp;
use crate::signal::{Admission, Server, ServerConfig, ServerError};
use crate::swarm::{Probe, Swarm};

/// How a swarm is run.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where the witness logs go.
    pub witness: WitnessPlace,
    /// Probe for so long, instead of as many messages as the swarm file says.
    pub probe_for: Option<Duration>,
    /// How long the links may take to come up.
    pub patience: Duration,
}

/// A swarm that runs in this process.
pub struct RunningSwarm {
    pub(super) swarm: Swarm,
    pub(super) agents: Vec<Arc<Agent>>,
    pub(super) server: Server,
    pub(super) place: Place,
    /// When the first agent was started.
    pub(super) started: Instant,
    pub(super) cpu_at_start: f64,
    pub(super) formed: Option<Formed>,
    pub(super) course: Option<Arc<Course>>,
    options: Options,
    pub(super) progress: Arc<dyn Progress>,
    pub(super) tasks: JoinSet<()>,
    /// What went wrong outside of what is measured.
    pub(super) faults: Vec<String>,
}

/// Why a swarm could not be run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// An agent has no usable key. The swarm file is to blame.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// The embedded signaling server could not listen.
    #[error("the embedded signaling server (`signal.listen`): {0}")]
    Server(#[from] ServerError),
    /// The witness folder could not be made.
    #[error("the witness folder cannot be made below {path}: {source}", path = .path.display())]
    Witness {
        /// Where.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// An agent did not start.
    #[error("agent `{agent}` did not start: {source}")]
    Start {
        /// The agent.
        agent: AgentId,
        /// Why.
        source: Box<StartError>,
    },
    /// An agent ended by itself.
    #[error("agent `{agent}` ended: {source}")]
    Ended {
        /// The agent.
        agent: AgentId,
        /// Why.
        source: AgentError,
    },
    /// The process of an agent did not start.
    #[error("agent `{agent}` did not start: {detail}")]
    Process {
        /// The agent.
        agent: AgentId,
        /// How it ended, and what it said last.
        detail: String,
    },
    /// A measurement needs a link that did not come up.
    #[error("only {open} of {expected} links came up in {} s: nothing can be measured", .waited.as_secs())]
    Links {
        /// How many were up.
        open: usize,
        /// How many should be.
        expected: usize,
        /// How long they had.
        waited: Duration,
    },
    /// What a floor is measured with failed.
    #[error("the floor of {what} could not be measured: {detail}")]
    Floor {
        /// Which floor.
        what: &'static str,
        /// Why.
        detail: String,
    },
}

/// Runs `swarm` from beginning to end: all four steps.
///
/// # Errors
/// [`RunError`]. Links that never come, and expectations that do not hold, are no errors: the
/// report says so.
pub async fn run_swarm(
    swarm: &Swarm,
    options: Options,
    progress: impl Progress,
) -> Result<Report, RunError> {
    let mut running = RunningSwarm::launch(swarm, options, Arc::new(progress)).await?;
    running.form().await?;
    running.probe().await?;
    running.finish().await
}

impl RunningSwarm {
    /// Starts the signaling server and every agent.
    ///
    /// # Errors
    /// [`RunError`]; agents that had started leave.
    pub async fn launch(
        swarm: &Swarm,
        options: Options,
        progress: Arc<dyn Progress>,
    ) -> Result<Self, RunError> {
        Self::launch_believing(swarm, options, progress, |_, roster| roster.clone()).await
    }

    /// As [`launch`](Self::launch), with a roster for each agent: a test makes some disagree.
    pub(super) async fn launch_believing(
        swarm: &Swarm,
        options: Options,
        progress: Arc<dyn Progress>,
        roster_of: impl Fn(&AgentId, &Roster) -> Roster,
    ) -> Result<Self, RunError> {
        let keys = Keys::of(swarm)?;
        let in_file = swarm.witness.dir.as_deref();
        let place = Place::prepare(&options.witness, in_file, keys.are_kept, wall_clock());
        let place = place.map_err(|source| RunError::Witness {
            path: std::env::temp_dir(),
            source,
        })?;
        let rosters = BTreeMap::from([(swarm.name.clone(), keys.roster.clone())]);
        let admission = Admission::Rosters(rosters);
        let server = Server::bind(ServerConfig::new(swarm.signal.listen, admission)).await?;
        let signal = format!("ws://{}", reachable(server.local_addr()));
        let (started, cpu_at_start) = (Instant::now(), resources::cpu_seconds());
        let making_at_once = share_of_links(swarm);
        let mut starting = JoinSet::new();
        for (n, (agent, key)) in swarm.agents.iter().zip(&keys.pairs).enumerate() {
            let builder = Agent::of_swarm(swarm, &swarm.agents[n])
                .key(key.clone())
                .signal(&signal)
                .roster(roster_of(&agent.id, &keys.roster))
                .witness(Some(place.path.clone()))
                .making_at_once(making_at_once);
            let id = agent.id.clone();
            starting.spawn(async move { (n, id, builder.start().await) });
        }
        let mut agents = BTreeMap::new();
        while let Some(joined) = starting.join_next().await {
            let Ok((n, agent, outcome)) = joined else {
                continue;
            };
            let source = match outcome {
                Ok(agent) => {
                    agents.insert(n, Arc::new(agent));
                    continue;
                }
                Err(err) => Box::new(err),
            };
            return Err(RunError::Start { agent, source });
        }
        Ok(Self {
            swarm: swarm.clone(),
            agents: agents.into_values().collect(),
            server,
            place,
            started,
            cpu_at_start,
            formed: None,
            course: None,
            options,
            progress,
            tasks: JoinSet::new(),
            faults: Vec::new(),
        })
    }

    /// Waits until every expected link is up on both ends, or the patience is over.
    ///
    /// # Errors
    /// [`RunError::Ended`].
    pub async fn form(&mut self) -> Result<&Formed, RunError> {
        let formed = forming::form(self, self.options.patience).await?;
        Ok(self.formed.insert(formed))
    }

    /// Probes every open link as the swarm file says.
    ///
    /// # Errors
    /// [`RunError::Ended`].
    pub async fn probe(&mut self) -> Result<(), RunError> {
        let probe = &self.swarm.probe;
        let probes = self.options.probes(probe);
        let (payload, interval) = (probe.payload, probe.interval);
        self.probe_on(self.schedule(probes, interval), payload)
            .await
    }

    /// So many probes of every open link, one per interval, soon.
    pub(super) fn schedule(&self, probes: u64, interval: Duration) -> Schedule {
        let links = self.formed.as_ref().map_or(0, |formed| formed.open.len());
        Schedule {
            start: Instant::now() + LEAD,
            interval,
            lanes: u32::try_from(links).unwrap_or(u32::MAX),
            probes,
        }
    }

    /// Probes every open link: requests with payloads of so many bytes.
    pub(super) async fn probe_on(
        &mut self,
        schedule: Schedule,
        payload: usize,
    ) -> Result<(), RunError> {
        let links = self.formed.as_ref().map(Formed::open_links);
        let links = links.unwrap_or_default();
        let links = lanes::ends(&self.swarm, links);
        let probes = schedule.probes.saturating_mul(lanes::asked(&links));
        self.progress.probing(probes);
        let progress = Arc::clone(&self.progress);
        let course = Arc::new(Course::new(schedule, payload, links, progress));
        // Kept at once: a course that is cut short has still measured something.
        self.course = Some(Arc::clone(&course));
        let ended = probe::run(&course, &self.agents, &mut self.tasks).await;
        self.tasks.shutdown().await;
        ended.map_err(|source| RunError::Ended {
            agent: self.swarm.agents[0].id.clone(),
            source,
        })
    }

    /// The agents, in the order of the file. Who holds one lets go of it before
    /// [`finish`](Self::finish).
    pub fn agents(&self) -> &[Arc<Agent>] {
        &self.agents
    }

    /// Something that the report is to say no for, in one line.
    pub fn blame(&mut self, fault: String) {
        self.faults.push(fault);
    }

    /// Where the witness logs are.
    pub fn witness_folder(&self) -> &Path {
        &self.place.path
    }

    /// All round trips that were measured.
    pub(super) fn rtt(&self) -> Latencies {
        let mut rtt = Latencies::new();
        for lane in self.course.iter().flat_map(|course| &course.lanes) {
            rtt.add(&lane.measured().rtt);
        }
        rtt
    }

    /// The report so far: without the witness, which is still being written. For showing what
    /// was measured while the swarm lives on.
    pub async fn report_so_far(&self) -> Report {
        leaving::report_so_far(self).await
    }

    /// All agents leave in order; then the witness is checked and the report made.
    ///
    /// # Errors
    /// [`RunError::Ended`] when an agent had ended by itself.
    pub async fn finish(self) -> Result<Report, RunError> {
        leaving::finish(self).await
    }
}

/// How many links each agent may make at once, where one process makes all of them: none may be
/// given up, and begun anew, because of the others.
fn share_of_links(swarm: &Swarm) -> usize {
    match swarm.links().len() {
        links if links <= MAKING_AT_ONCE => links,
        _ => MAKING_AT_ONCE / swarm.agents.len(),
    }
}

/// The address under which agents of this process reach a server that listens on `address`: one
/// that listens everywhere cannot be dialled as everywhere.
pub(super) fn reachable(mut address: std::net::SocketAddr) -> std::net::SocketAddr {
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
    if address.ip().is_unspecified() {
        address.set_ip(match address.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}

/// The time of day, in the precision of the wire.
pub fn wall_clock() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let ms = since.map_or(0, |since| since.as_millis());
    Timestamp::from_unix_ms(i64::try_from(ms).unwrap_or(i64::MAX))
}

impl Default for Options {
    /// The witness as the file says, the probes as the file says, thirty seconds to form.
    fn default() -> Self {
        Self {
            witness: WitnessPlace::default(),
            probe_for: None,
            patience: PATIENCE,
        }
    }
}

impl Options {
    /// How many requests go over each link.
    pub(super) fn probes(&self, probe: &Probe) -> u64 {
        match self.probe_for {
            Some(time) => {
                let probes = time.as_nanos() / probe.interval.as_nanos().max(1);
                u64::try_from(probes).unwrap_or(u64::MAX).max(1)
            }
            None => probe.messages.into(),
        }
    }
}

impl std::fmt::Debug for RunningSwarm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RunningSwarm")
            .field("swarm", &self.swarm.name)
            .field("agents", &self.agents.len())
            .finish_non_exhaustive()
    }
}

impl RunError {
    /// Whether the swarm file has to be changed, rather than the world around it.
    pub fn is_bad_input(&self) -> bool {
        matches!(self, Self::Keys(_))
    }
}

/// A thousand agents in one process need some of it; five need a hundredth of a second.
const PATIENCE: Duration = Duration::from_secs(30);
/// Links that one process makes at once: several times fewer than two processors make in the time
/// after which a link is given up.
const MAKING_AT_ONCE: usize = 200;
/// Between the decision to probe and the first probe: all tasks are waiting by then.
pub(super) const LEAD: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use super::super::progress::Quiet;
    use super::*;
    use crate::identity::KeyPair;

    fn options() -> Options {
        Options {
            witness: WitnessPlace::Throwaway,
            ..Options::default()
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_link_that_cannot_come_up_is_named_and_makes_the_report_say_no() {
        let swarm = Swarm::full_mesh("fault".parse().unwrap(), 3);
        let options = Options {
            patience: Duration::from_secs(3),
            ..options()
        };
        // The second agent knows the third under a key that is not its own.
        let wrong = |me: &AgentId, roster: &Roster| {
            let other = KeyPair::from_secret(&[9; 32]).public_key();
            let agents = roster.iter().map(|(id, key)| {
                let is_wrong = me.as_str() == "agent-02" && id.as_str() == "agent-03";
                (id.clone(), if is_wrong { other } else { *key })
            });
            Roster::new(agents).unwrap()
        };
        let progress = Arc::new(Quiet);
        let mut running = RunningSwarm::launch_believing(&swarm, options, progress, wrong)
            .await
            .unwrap();
        let formed = running.form().await.unwrap();
        assert_eq!((formed.open.len(), formed.missing.len()), (2, 1));
        running
            .probe_on(running.schedule(3, Duration::from_millis(1)), 64)
            .await
            .unwrap();
        let report = running.finish().await.unwrap();
        assert!(!report.ok);
        assert_eq!((report.links.expected, report.links.open), (3, 2));
        let failures = report.failures.join("\n");
        assert!(
            failures.contains("no link between agent-02 and agent-03"),
            "{failures}"
        );
        assert!(failures.contains("links: 2 of 3 opened"), "{failures}");
        // The others were measured all the same.
        assert_eq!((report.rtt_us.count, report.messages.lost), (6, 0));
        assert!(report.witness.verified);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_port_in_use_is_told_with_the_agent_that_wanted_it() {
        let taken = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut swarm = Swarm::full_mesh("ports".parse().unwrap(), 2);
        swarm.agents[1].udp_port = Some(taken.local_addr().unwrap().port());
        let run = run_swarm(&swarm, options(), Quiet).await;
        let err = run.unwrap_err();
        assert!(matches!(&err, RunError::Start { agent, .. } if agent.as_str() == "agent-02"));
        assert!(
            !err.is_bad_input() && err.to_string().contains("in use"),
            "{err}"
        );
    }
}
