//! One link given up and wanted again, over real connections; evidence, and how good a link is.

use std::time::Duration;

use ifswarm::agent::{AgentEvent, Evidence, SendError};
use ifswarm::identity::AgentId;
use ifswarm::link::Path;
use ifswarm::mesh::{CloseReason, PeerState};
use ifswarm::message::{Destination, DraftError, Reason};

use crate::live::{LiveAgent, LiveSwarm, say, within};

async fn down(live: &mut LiveAgent) -> CloseReason {
    live.until(|event| match event {
        AgentEvent::PeerDown { why, .. } => Some(why),
        _ => None,
    })
    .await
}

fn id(name: &str) -> AgentId {
    name.parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_disconnects_a_peer_says_goodbye_to_it_alone_and_can_have_it_again() {
    // Who parts has the smaller id, and then the greater.
    for (me, peer) in [(0, 1), (1, 0)] {
        within(async {
            let mut swarm = LiveSwarm::start(&["ann", "bob", "eve"]).await;
            let ids = ["ann", "bob"].map(id);
            let other = &ids[peer];
            // What was said before still arrives.
            swarm
                .agent(me)
                .send(say(other.as_str(), "last"))
                .await
                .unwrap();
            assert!(swarm.agent(me).disconnect_peer(other, "enough"));
            assert!(!swarm.agent(me).disconnect_peer(other, "enough"));
            let refused = swarm.agent(me).send(say(other.as_str(), "more")).await;
            assert!(matches!(refused, Err(SendError::Mesh(_))), "{refused:?}");
            assert_eq!(swarm.agents[peer].message().await.payload()["text"], "last");
            assert_eq!(down(&mut swarm.agents[me]).await, CloseReason::Leaving);
            assert_eq!(down(&mut swarm.agents[peer]).await, CloseReason::Goodbye);
            for place in [me, peer] {
                let gone = swarm.agent(place).connection_quality(&ids[1 - place]).await;
                assert_eq!(gone.unwrap().state, PeerState::Gone);
                assert!(swarm.agent(place).is_linked(&id("eve")));
            }
            assert!(!swarm.agent(me).connect(&id("nobody")));
            assert!(swarm.agent(me).connect(other));
            swarm.agent(me).linked_with(other).await.unwrap();
            swarm
                .agent(me)
                .send(say(other.as_str(), "again"))
                .await
                .unwrap();
            assert_eq!(
                swarm.agents[peer].message().await.payload()["text"],
                "again"
            );
            swarm.end().await;
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn evidence_cites_its_sources_and_the_link_says_how_good_it_is() {
    within(async {
        // For ann, silence begins at once.
        let mut swarm = LiveSwarm::start_with(&["ann", "bob"], |place, builder| match place {
            0 => builder.conversation_silence(Duration::ZERO),
            _ => builder,
        })
        .await;
        let bob: Destination = "bob".parse().unwrap();
        let refused = swarm
            .agent(0)
            .share_evidence(bob.clone(), Evidence::default())
            .await;
        let Err(SendError::Draft(DraftError::Member { field, .. })) = refused else {
            panic!("expected a refusal, found {refused:?}")
        };
        assert_eq!(field, "citation_ids");
        let evidence = Evidence {
            citation_ids: vec!["cit:1".into()],
            payload: say("bob", "seen").payload,
            conversation_id: Some("deal".into()),
            ..Evidence::default()
        };
        swarm.agent(0).share_evidence(bob, evidence).await.unwrap();
        let came = swarm.agents[1].message().await;
        assert_eq!(came.citation_ids(), ["cit:1"]);
        // Whoever has it can hold it against the keys it knows, its author too.
        let bytes = serde_json::to_vec(&*came).unwrap();
        for place in [0, 1] {
            let verified = swarm.agent(place).verify(&bytes).unwrap();
            assert_eq!(verified.digest(), came.digest());
        }
        let changed = String::from_utf8(bytes).unwrap().replace("seen", "sown");
        let refusal = swarm.agent(0).verify(changed.as_bytes()).unwrap_err();
        assert_eq!(refusal.reason, Reason::BadSignature);
        let talks = swarm.agent(1).conversations();
        assert_eq!((talks[0].id.as_str(), talks[0].received), ("deal", 1));
        assert!(talks[0].peers.contains(&id("ann")));
        assert_eq!(swarm.agent(0).conversations(), [], "closed by silence");

        let quality = swarm.agent(0).connection_quality(&id("bob")).await.unwrap();
        assert_eq!((quality.state, quality.path), (PeerState::Up, Path::Host));
        assert_eq!(swarm.agent(0).connection_quality(&id("eve")).await, None);
        swarm.end().await;
    })
    .await;
}
