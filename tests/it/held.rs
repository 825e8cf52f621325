//! What a program that is busy, or goes away in the middle, means for the messages to it.

use ifswarm::agent::{AgentEvent, Subscription};
use ifswarm::identity::AgentId;
use serde_json::json;

use crate::live::{LiveSwarm, Visits, draft, say, within};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_program_received_and_let_go_of_untaken_comes_again_and_what_it_took_does_not() {
    within(async {
        let visits = Visits::begin().await;
        let (ann, bob) = (&visits.ann, visits.bob().await);
        let mut inbox = bob.subscribe();
        ann.linked(1).await.unwrap();
        let mut untaken = Vec::new();
        for text in ["one", "two", "three", "four"] {
            ann.send(say("bob", text)).await.unwrap();
            let held = loop {
                match inbox.recv_held().await.unwrap() {
                    (AgentEvent::Message(_), held) => break held,
                    (_, held) => held.taken(),
                }
            };
            match text {
                "one" | "three" => held.taken(),
                _ => untaken.push(held),
            }
        }
        // As where the pipe to a program breaks: while the agent lives, and knows of nothing.
        drop(untaken);
        ann.send(say("bob", "five")).await.unwrap();
        assert_eq!(text(&mut inbox, ann.id()).await, "five");
        bob.shutdown("once more").await.unwrap();

        let bob = visits.bob().await;
        let mut inbox = bob.subscribe();
        ann.linked(1).await.unwrap();
        ann.send(say("bob", "six")).await.unwrap();
        for expected in ["two", "four", "six"] {
            assert_eq!(text(&mut inbox, ann.id()).await, expected);
        }
        visits.end(bob).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_that_does_not_read_has_new_links_too_and_then_gets_everything_once_in_order() {
    within(async {
        let mut swarm = LiveSwarm::start(&["ann", "bob"]).await;
        let [ann, bob] = [0, 1].map(|place| swarm.agent(place));
        for n in 1..=MANY {
            ann.send(draft("bob", json!({ "n": n }))).await.unwrap();
        }
        while bob.stats().delivered < ROOM {
            tokio::task::yield_now().await;
        }
        for _ in 0..3 {
            let mut events = ann.subscribe();
            assert!(ann.disconnect_peer(bob.id(), "again"));
            while !matches!(events.recv().await.unwrap(), AgentEvent::PeerDown { .. }) {}
            assert!(ann.connect(bob.id()));
            ann.linked_with(bob.id()).await.unwrap();
            bob.linked_with(ann.id()).await.unwrap();
            // What was sent again has been read, and its link is well.
            bob.send_acked(say("ann", "I am busy")).await.unwrap();
        }
        let ann_id = ann.id().clone();
        let inbox = &mut swarm.agents[1].events;
        for n in 1..=MANY {
            let message = message(inbox, &ann_id).await;
            assert_eq!(message.payload()["n"], n);
        }
        swarm.end().await;
    })
    .await;
}

async fn message(
    inbox: &mut Subscription,
    peer: &AgentId,
) -> ifswarm::message::Verified<ifswarm::message::IfMessage> {
    loop {
        match inbox.recv().await.expect("an agent that lives") {
            AgentEvent::Message(message) if message.source() == peer => break message,
            _ => {}
        }
    }
}

async fn text(inbox: &mut Subscription, peer: &AgentId) -> String {
    let message = message(inbox, peer).await;
    message.payload()["text"].as_str().unwrap().to_owned()
}

/// What the agent takes for a program that does not read.
const ROOM: u64 = 512;
/// More than that, and than what may be under way besides.
const MANY: u64 = 900;
