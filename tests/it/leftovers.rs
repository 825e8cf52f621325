//! A link that comes and goes hundreds of times leaves nothing over at either end: no task, no
//! connection, no route, no descriptor.

use std::fs;

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
#[derive(Debug, Clone, PartialEq, Eq)]
struct Remains {
    /// Of both agents.
    held: [Holdings; 2],
    /// Of the whole process.
    tasks: usize,
    descriptors: usize,
}

async fn reconnect(times: usize) {
    let mut swarm = LiveSwarm::start(&["ann", "bob"]).await;
    // What is there once for all is there after a few.
    for _ in 0..3 {
        come_and_go(&mut swarm).await;
    }
    let before = settled(&swarm, None).await;
    assert!(before.held.iter().all(|held| held.connections == 1));
    for _ in 0..times {
        come_and_go(&mut swarm).await;
    }
    let after = settled(&swarm, Some(&before)).await;
    assert_eq!(after, before, "after {times} reconnections");
    swarm.end().await;
}

/// Closes the link, until both ends say that it is down, and makes it again, until both say that it
/// is up and it has carried something.
async fn come_and_go(swarm: &mut LiveSwarm) {
    let bob = swarm.agent(1).id().clone();
    assert!(swarm.agent(0).disconnect_peer(&bob, "again"));
    for live in &mut swarm.agents {
        down(live).await;
    }
    assert!(swarm.agent(0).connect(&bob));
    for live in &mut swarm.agents {
        up(live).await;
    }
    swarm.agent(0).send(say("bob", "again")).await.unwrap();
    swarm.agents[1].message().await;
}

async fn down(live: &mut LiveAgent) {
    let down = |event| matches!(event, AgentEvent::PeerDown { .. }).then_some(());
    live.until(down).await;
}

async fn up(live: &mut LiveAgent) {
    let up = |event| matches!(event, AgentEvent::PeerUp { .. }).then_some(());
    live.until(up).await;
}

/// What remains: as soon as it is no more than `before`, or else when it stays the same.
async fn settled(swarm: &LiveSwarm, before: Option<&Remains>) -> Remains {
    // Links close in tasks of their own, which tell nobody when they end.
    let mut last = remains(swarm);
    let mut same = 0;
    while same < ENOUGH_LOOKS && Some(&last) != before {
        tokio::task::yield_now().await;
        let now = remains(swarm);
        same = if now == last { same + 1 } else { 0 };
        last = now;
    }
    last
}

fn remains(swarm: &LiveSwarm) -> Remains {
    let held = |place: usize| swarm.agent(place).observer().look().unwrap().held;
    Remains {
        held: [held(0), held(1)],
        tasks: Handle::current().metrics().num_alive_tasks(),
        descriptors: fs::read_dir("/proc/self/fd").unwrap().count(),
    }
}

/// So many looks that show the same are seconds, on any machine.
const ENOUGH_LOOKS: usize = 100_000;
