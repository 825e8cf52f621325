//! Waiting for the links of a swarm, and what is known of each once they are up.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use tokio::time::timeout;

use super::progress::{Progress, Quiet};
use super::running::{RunError, RunningSwarm};
use crate::agent::{Agent, AgentError, AgentEvent, PeerInfo};
use crate::identity::AgentId;
use crate::link::Path;

type Pair = (AgentId, AgentId);

/// The links of a swarm after the time they had to come up.
#[derive(Debug, Clone, Default)]
pub struct Formed {
    /// Those that are up on both ends, in the order of their ends.
    pub open: Vec<OpenLink>,
    /// Those that are not.
    pub missing: Vec<Pair>,
    /// From the start of the first agent until the last one was up, or they were given up.
    pub setup: Duration,
}

/// A link that is up on both ends.
#[derive(Debug, Clone)]
pub struct OpenLink {
    /// Its smaller end, which dialled.
    pub a: AgentId,
    /// Its greater end.
    pub b: AgentId,
    /// How packets travel.
    pub path: Path,
    /// From the decision to dial until `hello` had arrived both ways, as `a` saw it.
    pub setup: Duration,
}

impl Formed {
    /// The ends of the open links.
    pub(super) fn open_links(&self) -> Vec<Pair> {
        let ends = |link: &OpenLink| (link.a.clone(), link.b.clone());
        self.open.iter().map(ends).collect()
    }
}

/// Waits for all links that the topology asks for, `patience` at most.
pub(super) async fn form(running: &RunningSwarm, patience: Duration) -> Result<Formed, RunError> {
    let expected = running.swarm.links();
    running.progress.forming(expected.len());
    let halves = Halves::new(running.progress.as_ref());
    let waiting = running.agents.iter().map(|agent| {
        let ends = expected.iter().filter_map(|(a, b)| match agent.id() {
            me if me == a => Some(b.clone()),
            me if me == b => Some(a.clone()),
            _ => None,
        });
        wait(agent, ends.collect(), &halves)
    });
    let all = timeout(patience, try_join_all(waiting)).await;
    let setup = match all {
        Ok(ups) => {
            let last = ups?.into_iter().max().unwrap_or(running.started);
            last.saturating_duration_since(running.started)
        }
        Err(_) => running.started.elapsed(),
    };
    describe(running, expected, setup).await
}

/// Waits until `agent` is linked with all of `peers`; says when the last link came up.
async fn wait(
    agent: &Agent,
    mut peers: BTreeSet<AgentId>,
    halves: &Halves<'_>,
) -> Result<Instant, RunError> {
    let ended = |source| RunError::Ended {
        agent: agent.id().clone(),
        source,
    };
    let mut events = agent.subscribe();
    let known = agent.peers();
    for peer in known.iter().filter(|peer| peer.is_up()) {
        if peers.remove(&peer.view.id) {
            halves.up(agent.id(), &peer.view.id);
        }
    }
    while !peers.is_empty() {
        let event = events.recv().await;
        match event.ok_or(AgentError::Ended).map_err(ended)? {
            AgentEvent::PeerUp { peer, .. } if peers.remove(&peer) => halves.up(agent.id(), &peer),
            _ => {}
        }
    }
    Ok(Instant::now())
}

/// Waits until `agent` is linked with all of `peers`, told by nobody else; says when that was.
pub(super) async fn wait_alone(
    agent: &Agent,
    peers: BTreeSet<AgentId>,
) -> Result<Instant, RunError> {
    wait(agent, peers, &Halves::new(&Quiet)).await
}

/// Looks at both ends of every link: what has come up may have gone down again.
async fn describe(
    running: &RunningSwarm,
    expected: Vec<Pair>,
    setup: Duration,
) -> Result<Formed, RunError> {
    let mut ends: BTreeMap<Pair, PeerInfo> = BTreeMap::new();
    for agent in &running.agents {
        let up = agent.peers().into_iter().filter(PeerInfo::is_up);
        ends.extend(up.map(|peer| ((agent.id().clone(), peer.view.id.clone()), peer)));
    }
    let mut formed = Formed {
        setup,
        ..Formed::default()
    };
    for (a, b) in expected {
        let other = ends.remove(&(b.clone(), a.clone()));
        match (ends.remove(&(a.clone(), b.clone())), other) {
            (Some(peer), Some(_)) => formed.open.push(OpenLink {
                a,
                b,
                path: peer.path().await,
                setup: peer.setup.unwrap_or_default(),
            }),
            _ => formed.missing.push((a, b)),
        }
    }
    Ok(formed)
}

/// Counts the ends of links: one is up when both ends say so.
struct Halves<'a> {
    one_end: Mutex<BTreeSet<Pair>>,
    progress: &'a dyn Progress,
}

impl<'a> Halves<'a> {
    fn new(progress: &'a dyn Progress) -> Self {
        Self {
            one_end: Mutex::default(),
            progress,
        }
    }

    fn up(&self, me: &AgentId, peer: &AgentId) {
        let link = (me.min(peer).clone(), me.max(peer).clone());
        let mut one_end = self.one_end.lock().unwrap_or_else(PoisonError::into_inner);
        if !one_end.insert(link) {
            self.progress.link_up();
        }
    }
}
