//! Links in trouble between agents on real sockets: paths that are cut, and mended.

use std::time::Duration;

use ifswarm::agent::AgentEvent;
use ifswarm::identity::AgentId;
use ifswarm::link::PathConditions;
use ifswarm::mesh::PeerState;

use crate::live::{LiveAgent, LiveSwarm, say, testimony, within};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_of_seconds_heals_by_a_new_link_before_the_old_one_is_dead() {
    within(async {
        let (mut swarm, old) = linked().await;
        cut(&swarm, true);
        let unhealthy = |peer: PeerState| peer == PeerState::Unhealthy;
        until(|| [0, 1].iter().all(|n| unhealthy(state(&swarm, *n)))).await;
        assert_eq!(link(&swarm, 0).await.as_ref(), Some(&old), "kept meanwhile");
        assert!(dropped(&swarm) > 0);
        cut(&swarm, false);
        for live in &mut swarm.agents {
            let downs = downs_until_up(live).await;
            assert!(
                matches!(downs[..], ["replaced" | "lost"]),
                "taken over once: {downs:?}"
            );
        }
        let (ann, bob) = (link(&swarm, 0).await, link(&swarm, 1).await);
        assert_eq!(ann, bob, "both noticed, and it is one link");
        assert!(ann.is_some_and(|new| new != old));
        talk(&mut swarm).await;
        for entries in swarm.end().await {
            let states = testimony(&entries, "connection_state_changed");
            let unhealthy = states.iter().any(|(_, what)| what["state"] == "unhealthy");
            assert!(unhealthy, "{states:?}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disturbance_that_passes_tears_nothing_down() {
    within(async {
        let (mut swarm, old) = linked().await;
        cut(&swarm, true);
        for (place, peer) in [(0, "bob"), (1, "ann")] {
            let agent = swarm.agent(place);
            agent.send(say(peer, "into the cut")).await.unwrap();
        }
        // The message, and SCTP's second attempt a second later.
        until(|| dropped(&swarm) >= 4).await;
        cut(&swarm, false);
        for live in &mut swarm.agents {
            let message = live.until(|event| match event {
                AgentEvent::Message(message) => Some(message),
                AgentEvent::PeerDown { why, .. } => panic!("down: {why:?}"),
                _ => None,
            });
            assert_eq!(message.await.payload()["text"], "into the cut");
        }
        talk(&mut swarm).await;
        assert_eq!(link(&swarm, 0).await, Some(old));
        for entries in swarm.end().await {
            let lost = testimony(&entries, "peer_lost");
            assert!(lost.iter().all(|(_, what)| what["reason"] == "goodbye"));
            assert_eq!(testimony(&entries, "datachannel_open").len(), 1);
        }
    })
    .await;
}

/// Two agents whose link is up, and what it is called.
async fn linked() -> (LiveSwarm, String) {
    let mut swarm = LiveSwarm::start(&["ann", "bob"]).await;
    for live in &mut swarm.agents {
        assert_eq!(downs_until_up(live).await, [""; 0]);
    }
    let link = link(&swarm, 0).await.expect("it is up");
    (swarm, link)
}

/// The path between the two agents is cut both ways, or mended.
fn cut(swarm: &LiveSwarm, is_cut: bool) {
    for (place, peer) in [(0, "bob"), (1, "ann")] {
        let conditions = PathConditions {
            cut: true,
            ..PathConditions::default()
        };
        let conditions = is_cut.then_some(conditions);
        swarm.agent(place).condition(&id(peer), conditions);
    }
}

/// Datagrams that the cut has taken, of both ways.
fn dropped(swarm: &LiveSwarm) -> u64 {
    let ways = [(0, "bob"), (1, "ann")];
    let dropped = ways.map(|(n, peer)| swarm.agent(n).path_counts(&id(peer)).dropped);
    dropped.iter().sum()
}

fn id(text: &str) -> AgentId {
    text.parse().unwrap()
}

fn state(swarm: &LiveSwarm, place: usize) -> PeerState {
    swarm.agent(place).peers()[0].view.state
}

/// The open link of this agent.
async fn link(swarm: &LiveSwarm, place: usize) -> Option<String> {
    swarm.agents[place].links().await.into_values().next()
}

/// Why the link was down, each time, until one is up.
async fn downs_until_up(live: &mut LiveAgent) -> Vec<&'static str> {
    let mut downs = Vec::new();
    live.until(|event| match event {
        AgentEvent::PeerDown { why, .. } => {
            downs.push(why.as_str());
            None
        }
        AgentEvent::PeerUp { .. } => Some(()),
        _ => None,
    })
    .await;
    downs
}

/// Each says one thing to the other.
async fn talk(swarm: &mut LiveSwarm) {
    for (from, to, peer) in [(0, 1, "bob"), (1, 0, "ann")] {
        let sent = swarm.agent(from).send(say(peer, "again")).await.unwrap();
        assert_eq!(swarm.agents[to].message().await.id(), sent.id);
    }
}

/// Waits for what no event tells.
async fn until(mut so: impl FnMut() -> bool) {
    let mut looks = tokio::time::interval(Duration::from_millis(10));
    while !so() {
        looks.tick().await;
    }
}
