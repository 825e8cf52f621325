//! Paths made bad on purpose, between agents on real sockets: what is lost below comes again above.

use std::time::Duration;

use ifswarm::agent::Agent;
use ifswarm::link::PathConditions;
use ifswarm::signal::Admission;

use crate::live::{LiveAgent, LiveSwarm, builder, roster_of, say, serve, swarm_name, within};

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
        let cut = PathConditions {
            cut: true,
            ..PathConditions::default()
        };
        swarm.agent(0).condition(&bob, Some(cut));
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

/// Waits until so many datagrams to bob were lost.
async fn dropped(agent: &Agent, at_least: u64) {
    let bob = "bob".parse().unwrap();
    while agent.path_counts(&bob).dropped < at_least {
        tokio::task::yield_now().await;
    }
}

/// Messages enough for every kind of misfortune.
const MANY: usize = 300;
