//! Paths made bad on purpose, between agents on real sockets: what is lost below comes again above.

use std::time::Duration;

use ifswarm::agent::Agent;
use ifswarm::link::{LinkEvent, PathConditions};
use ifswarm::signal::Admission;

use crate::live::{LiveAgent, LiveSwarm, builder, roster_of, say, serve, swarm_name, within};
use crate::rebinding::bind;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_a_bad_path_everything_arrives_once_and_in_order() {
    within(async {
        let mut swarm = LiveSwarm::start(&["ann", "bob"]).await;
        let conditions = PathConditions {
            jitter: Duration::from_millis(3),
            loss_per_mille: 50,
            duplicate_per_mille: 50,
            reorder_per_mille: 100,
            seed: 7,
            ..PathConditions::default()
        };
        for (place, peer) in [(0, "bob"), (1, "ann")] {
            let peer = peer.parse().unwrap();
            swarm.agent(place).condition(&peer, Some(conditions));
        }
        for n in 0..MANY {
            let draft = say("bob", &n.to_string());
            swarm.agent(0).send(draft).await.unwrap();
        }
        for n in 0..MANY {
            let message = swarm.agents[1].message().await;
            assert_eq!(message.payload()["text"], n.to_string());
        }
        let counts = swarm.agent(0).path_counts(&"bob".parse().unwrap());
        assert!(counts.dropped > 0, "{counts:?}");
        assert!(counts.duplicated > 0, "{counts:?}");
        assert!(counts.delayed > 0, "{counts:?}");
        assert!(counts.reordered > 0, "{counts:?}");
        swarm.end().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_holds_one_way_and_what_was_sent_arrives_when_it_is_mended() {
    within(async {
        let mut swarm = LiveSwarm::start(&["ann", "bob"]).await;
        let bob = "bob".parse().unwrap();
        swarm.agent(0).condition(&bob, Some(CUT));
        swarm
            .agent(0)
            .send(say("bob", "into the cut"))
            .await
            .unwrap();
        dropped(swarm.agent(0), 1).await;
        swarm
            .agent(1)
            .send(say("ann", "the other way"))
            .await
            .unwrap();
        let message = swarm.agents[0].message().await;
        assert_eq!(message.payload()["text"], "the other way");
        swarm.agent(0).condition(&bob, None);
        let message = swarm.agents[1].message().await;
        assert_eq!(message.payload()["text"], "into the cut");
        swarm.end().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_cut_loses_is_counted_apart_and_what_happened_under_other_conditions_too() {
    within(async {
        let (a, b) = (bind(1), bind(1));
        let bob = "bob".parse().unwrap();
        assert_eq!(a.path_setting(&bob), None);
        let lossy = PathConditions {
            loss_per_mille: 1000,
            ..PathConditions::default()
        };
        a.condition(&bob, Some(lossy));
        let (near, _events, offer) = a.dial(&bob).await.unwrap();
        let (_far, _far_events, answer) = b.answer(&"ann".parse().unwrap(), &offer).await.unwrap();
        near.accept(&answer).await.unwrap();
        let lost = |at_least: u64| {
            let (a, bob) = (&a, &bob);
            async move {
                while a.path_counts(bob).dropped < at_least {
                    tokio::task::yield_now().await;
                }
            }
        };
        lost(1).await;
        assert_eq!(a.path_counts(&bob).cut, 0, "chance lost it");
        a.condition(&bob, Some(CUT));
        let before = a.path_counts(&bob);
        lost(before.dropped + 1).await;
        let (conditions, lately) = a.path_setting(&bob).unwrap();
        let all = a.path_counts(&bob);
        assert_eq!(conditions, CUT);
        assert!(all.cut > 0 && lately.cut > 0, "{all:?} {lately:?}");
        assert!(
            lately.dropped <= all.cut && all.cut < all.dropped,
            "{all:?} {lately:?}"
        );
        a.condition(&bob, None);
        assert_eq!(a.path_setting(&bob), None);
        a.close().await;
        b.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conditions_hold_for_a_link_that_is_made_later_too() {
    within(async {
        let folder = tempfile::tempdir().unwrap();
        let roster = || roster_of(&["ann", "bob"]);
        let rosters = [(swarm_name(), roster())].into();
        let server = serve(Admission::Rosters(rosters)).await;
        let start =
            |id| LiveAgent::start(builder(id, &server.url(), folder.path()).roster(roster()));
        let ann = start("ann").await;
        let slow = PathConditions {
            delay: Duration::from_millis(1),
            ..PathConditions::default()
        };
        let bob = "bob".parse().unwrap();
        ann.agent.condition(&bob, Some(slow));
        let peer = start("bob").await;
        ann.agent.linked_with(&bob).await.unwrap();
        let counts = ann.agent.path_counts(&bob);
        assert!(counts.delayed > 0, "{counts:?}");
        assert_eq!(counts.delayed, counts.sent);
        for live in [ann, peer] {
            live.agent.shutdown("the test is over").await.unwrap();
        }
        server.shutdown().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_path_that_comes_back_while_a_link_is_made_is_found() {
    within(async {
        let (a, b) = (bind(1), bind(1));
        let (ann, bob) = ("ann".parse().unwrap(), "bob".parse().unwrap());
        a.condition(&bob, Some(CUT));
        b.condition(&ann, Some(CUT));
        let (near, mut events, offer) = a.dial(&bob).await.unwrap();
        let (_far, _far_events, answer) = b.answer(&ann, &offer).await.unwrap();
        near.accept(&answer).await.unwrap();
        while a.path_counts(&bob).dropped < MORE_CHECKS_THAN_SOME_MAKE {
            tokio::task::yield_now().await;
        }
        a.condition(&bob, None);
        b.condition(&ann, None);
        loop {
            match events.recv(true).await {
                LinkEvent::Open => break,
                LinkEvent::Closed => panic!("it was given up"),
                _ => {}
            }
        }
        a.close().await;
        b.close().await;
    })
    .await;
}

/// Waits until so many datagrams to bob were lost.
async fn dropped(agent: &Agent, at_least: u64) {
    let bob = "bob".parse().unwrap();
    while agent.path_counts(&bob).dropped < at_least {
        tokio::task::yield_now().await;
    }
}

const CUT: PathConditions = PathConditions {
    cut: true,
    delay: Duration::ZERO,
    jitter: Duration::ZERO,
    loss_per_mille: 0,
    duplicate_per_mille: 0,
    reorder_per_mille: 0,
    rate: None,
    seed: 0,
};
/// Once a pair of candidates was given up after 140.
const MORE_CHECKS_THAN_SOME_MAKE: u64 = 160;
/// Messages enough for every kind of misfortune.
const MANY: usize = 300;
