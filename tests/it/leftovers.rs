//! A link that comes and goes hundreds of times leaves nothing over at either end: no task, no
//! connection, no route, no descriptor.

use std::fs;
use std::time::{Duration, Instant};

use ifswarm::agent::{AgentEvent, Holdings};
use tokio::runtime::Handle;

use crate::live::{LiveAgent, LiveSwarm, say, within};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_that_is_made_again_forty_times_leaves_nothing_over() {
    within(reconnect(40)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the same more often: bash tests/long.sh leftovers"]
async fn a_link_that_is_made_again_two_hundred_times_leaves_nothing_over() {
    reconnect(200).await;
}

/// All that may be left over.
#[derive(Debug)]
struct Remains {
    /// Of both agents.
    held: [Holdings; 2],
    /// Of the whole process.
    tasks: usize,
    descriptors: usize,
}

impl Remains {
    /// Whether nothing is more than there.
    fn is_within(&self, other: &Self) -> bool {
        let mut both = self.held.iter().zip(&other.held);
        both.all(|(mine, its)| {
            mine.tasks <= its.tasks
                && mine.connections <= its.connections
                && mine.routes <= its.routes
                && mine.delayed <= its.delayed
        }) && self.tasks <= other.tasks
            && self.descriptors <= other.descriptors
    }
}

async fn reconnect(times: usize) {
    let mut swarm = LiveSwarm::start(&["ann", "bob"]).await;
    part(&mut swarm).await;
    // What is there once for all is there after a few.
    for _ in 0..3 {
        come_and_go(&mut swarm).await;
    }
    // Some tasks of the last link may still be ending: fewer than one for each reconnection.
    let before = unlinked(&swarm).await;
    for _ in 0..times {
        come_and_go(&mut swarm).await;
    }
    until(&swarm, |now| now.is_within(&before)).await;
    swarm.end().await;
}

/// Makes the link, until both ends say that it is up and it has carried something, and closes it.
async fn come_and_go(swarm: &mut LiveSwarm) {
    let bob = swarm.agent(1).id().clone();
    assert!(swarm.agent(0).connect(&bob));
    for live in &mut swarm.agents {
        up(live).await;
    }
    swarm.agent(0).send(say("bob", "again")).await.unwrap();
    swarm.agents[1].message().await;
    for held in remains(swarm).held {
        assert!(held.connections > 0 && held.routes > 0, "{held:?}");
    }
    part(swarm).await;
}

/// Closes the link, until both ends say that it is down.
async fn part(swarm: &mut LiveSwarm) {
    let bob = swarm.agent(1).id().clone();
    assert!(swarm.agent(0).disconnect_peer(&bob, "again"));
    for live in &mut swarm.agents {
        down(live).await;
    }
}

async fn down(live: &mut LiveAgent) {
    let down = |event| matches!(event, AgentEvent::PeerDown { .. }).then_some(());
    live.until(down).await;
}

async fn up(live: &mut LiveAgent) {
    let up = |event| matches!(event, AgentEvent::PeerUp { .. }).then_some(());
    live.until(up).await;
}

/// What remains of no link: once nothing of one is in the agents' tables.
async fn unlinked(swarm: &LiveSwarm) -> Remains {
    let is_unlinked = |held: &Holdings| (held.connections, held.routes) == (0, 0);
    until(swarm, |now| now.held.iter().all(is_unlinked)).await
}

/// What remains once it is `enough`. Links close in tasks of their own, which tell nobody when they
/// end.
async fn until(swarm: &LiveSwarm, enough: impl Fn(&Remains) -> bool) -> Remains {
    let patience = Instant::now() + PATIENCE;
    loop {
        let now = remains(swarm);
        if enough(&now) {
            return now;
        }
        assert!(Instant::now() < patience, "still there: {now:?}");
        tokio::task::yield_now().await;
    }
}

fn remains(swarm: &LiveSwarm) -> Remains {
    let held = |place: usize| swarm.agent(place).observer().look().unwrap().held;
    Remains {
        held: [held(0), held(1)],
        tasks: Handle::current().metrics().num_alive_tasks(),
        descriptors: fs::read_dir("/proc/self/fd").unwrap().count(),
    }
}

/// Far longer than a link takes to close, on a busy machine too.
const PATIENCE: Duration = Duration::from_secs(60);
