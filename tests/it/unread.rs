//! A program that does not read costs nobody anything but the messages to it; and what it leaves
//! unread when it lets go of its subscription.

use std::process::Stdio;

use ifswarm::agent::{Agent, AgentEvent, Subscription};
use ifswarm::identity::AgentId;
use ifswarm::signal::Admission;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::live::{LiveSwarm, Visits, draft, say, serve, within};
use crate::program::kill;
use crate::raw::Raw;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_that_does_not_read_keeps_its_links_and_then_gets_everything_once_in_order() {
    within(async {
        let mut swarm = LiveSwarm::start(&["ann", "bob", "cid"]).await;
        let [ann, bob, cid] = [0, 1, 2].map(|place| swarm.agent(place));
        // One of bob's subscribers reads, the other one, which is in `swarm`, does not.
        let mut reader = bob.subscribe();
        for n in 1..=MANY {
            ann.send(draft("bob", json!({ "n": n }))).await.unwrap();
        }
        for n in 1..=ROOM {
            assert_eq!(number(&mut reader, ann.id()).await, n);
        }
        // Control frames go both ways over the link, time and again.
        let mut events = ann.subscribe();
        for _ in 0..10 {
            bob.send_acked(say("ann", "I am busy")).await.unwrap();
        }
        while !is_countersigned(&events.recv().await.unwrap(), bob.id(), MANY) {}
        // Somebody else is served meanwhile.
        cid.send_acked(draft("bob", json!({ "n": 7 })))
            .await
            .unwrap();
        assert_eq!(number(&mut reader, cid.id()).await, 7);
        assert_eq!(bob.stats().delivered, ROOM + 1, "there is room for no more");

        drop(reader);
        let ann_id = ann.id().clone();
        let mut came = Vec::new();
        while (came.len() as u64) < MANY {
            match swarm.agents[1].events.recv().await.unwrap() {
                AgentEvent::Message(message) if *message.source() == ann_id => {
                    came.push(message.payload()["n"].as_u64().unwrap());
                }
                AgentEvent::PeerDown { peer, why } => panic!("{peer} is down: {why:?}"),
                _ => {}
            }
        }
        assert_eq!(came, Vec::from_iter(1..=MANY));
        let all = |event| match event {
            AgentEvent::PeerDown { peer, why } => panic!("{peer} is down: {why:?}"),
            AgentEvent::Acked { up_to, .. } => (up_to == MANY).then_some(()),
            _ => None,
        };
        swarm.agents[0].until(all).await;
        assert_eq!(swarm.agent(1).stats().duplicated, 0);
        swarm.end().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_stands_unread_in_a_subscription_that_is_dropped_waits_for_the_next_one() {
    within(async {
        let visits = Visits::begin().await;
        let (ann, bob) = (&visits.ann, visits.bob().await);
        let mut inbox = bob.subscribe();
        ann.linked(1).await.unwrap();
        send(ann, 1..=3).await;
        assert_eq!(number(&mut inbox, ann.id()).await, 1);
        delivered(&bob, 3).await;
        drop(inbox);
        // As does what comes while nobody listens. Nothing is held up by what was left unread: far
        // more goes through than may be under way.
        send(ann, 4..=MANY).await;
        let mut inbox = bob.subscribe();
        for n in 2..=MANY {
            assert_eq!(number(&mut inbox, ann.id()).await, n);
        }
        // One of two that leaves what the other has not: it goes to that one.
        let mut first = bob.subscribe();
        send(ann, MANY + 1..=MANY + 2).await;
        delivered(&bob, MANY + 2).await;
        assert_eq!(number(&mut first, ann.id()).await, MANY + 1);
        drop(inbox);
        let mut second = bob.subscribe();
        drop(first);
        assert_eq!(number(&mut second, ann.id()).await, MANY + 2);
        // What nobody has read at the end comes again after it.
        send(ann, MANY + 3..=MANY + 4).await;
        delivered(&bob, MANY + 4).await;
        assert_eq!(number(&mut second, ann.id()).await, MANY + 3);
        bob.shutdown("once more").await.unwrap();
        drop(second);

        let bob = visits.bob().await;
        let mut inbox = bob.subscribe();
        // He had said goodbye, and is not sent to before he is back.
        ann.linked(1).await.unwrap();
        send(ann, MANY + 5..=MANY + 5).await;
        for n in [MANY + 4, MANY + 5] {
            assert_eq!(number(&mut inbox, ann.id()).await, n);
        }
        visits.end(bob).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_that_subscribes_anew_and_then_drops_its_old_subscription_reads_all_in_order() {
    within(async {
        let visits = Visits::begin().await;
        let (ann, bob) = (&visits.ann, visits.bob().await);
        let mut old = bob.subscribe();
        ann.linked(1).await.unwrap();
        send(ann, 1..=3).await;
        assert_eq!(number(&mut old, ann.id()).await, 1);
        delivered(&bob, 3).await;
        let mut new = bob.subscribe();
        send(ann, 4..=5).await;
        delivered(&bob, 5).await;
        drop(old);
        send(ann, 6..=6).await;
        for n in 2..=6 {
            assert_eq!(number(&mut new, ann.id()).await, n);
        }
        // Two that are left: each has what it had not, in its place.
        let mut other = bob.subscribe();
        send(ann, 7..=8).await;
        delivered(&bob, 8).await;
        assert_eq!(number(&mut other, ann.id()).await, 7);
        let third = bob.subscribe();
        send(ann, 9..=9).await;
        delivered(&bob, 9).await;
        drop(new);
        drop(third);
        for n in 8..=9 {
            assert_eq!(number(&mut other, ann.id()).await, n);
        }
        // All is acknowledged, and nothing comes twice.
        assert_eq!(bob.stats().duplicated, 0);
        visits.end(bob).await;
        while let Some(event) = other.recv().await {
            assert!(!matches!(event, AgentEvent::Message(_)), "{event:?}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_that_does_not_read_while_a_peer_sends_junk_hears_what_it_missed_and_how_things_stand()
 {
    within(async {
        let server = serve(Admission::Open).await;
        let url = server.url();
        let agent = [
            "agent",
            "--id",
            "ann",
            "--swarm-name",
            "live",
            "--signal",
            &url,
        ];
        let mut ann = tokio::process::Command::new(env!("CARGO_BIN_EXE_ifswarm"))
            .args(agent)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut raw = Raw::join(&url, "raw", "ann").await;
        raw.say_hello();
        for _ in 0..JUNK {
            raw.send("junk");
        }
        raw.send(raw.sign(1, say("ann", "good")).text());
        raw.acked(1).await;
        let mut lines = BufReader::new(ann.stdout.take().unwrap()).lines();
        let mut event = async || {
            let line = lines.next_line().await.unwrap().expect("it lives");
            serde_json::from_str::<Value>(&line).unwrap()
        };
        let (mut rejected, mut missed) = (0, 0);
        loop {
            let heard = event().await;
            match heard["event"].as_str().unwrap() {
                "rejected" => rejected += 1,
                "missed" => {
                    missed += heard["events"].as_u64().unwrap();
                    let peer = event().await;
                    assert_eq!(
                        (&peer["peer"], &peer["state"]),
                        (&json!("raw"), &json!("up"))
                    );
                    assert_eq!(
                        event().await,
                        json!({"event": "signaling", "state": "back"})
                    );
                }
                "message" => break,
                _ => {}
            }
        }
        assert!(missed > 0, "{rejected} were told");
        assert_eq!(rejected + missed, JUNK);
        kill("TERM", &ann.id().unwrap().to_string());
        assert_eq!(ann.wait().await.unwrap().code(), Some(0));
        server.shutdown().await;
    })
    .await;
}

async fn send(ann: &Agent, numbers: impl Iterator<Item = u64>) {
    for n in numbers {
        ann.send(draft("bob", json!({ "n": n }))).await.unwrap();
    }
}

/// Until so many messages have come.
async fn delivered(bob: &Agent, count: u64) {
    while bob.stats().delivered < count {
        tokio::task::yield_now().await;
    }
}

/// The number in the next message of `peer`.
async fn number(inbox: &mut Subscription, peer: &AgentId) -> u64 {
    loop {
        match inbox.recv().await.expect("an agent that lives") {
            AgentEvent::Message(message) if message.source() == peer => {
                break message.payload()["n"].as_u64().unwrap();
            }
            _ => {}
        }
    }
}

fn is_countersigned(event: &AgentEvent, by: &AgentId, more_than: u64) -> bool {
    matches!(event, AgentEvent::Countersigned { peer, entries } if peer == by && *entries > more_than)
}

/// What the agent takes for a program that does not read.
const ROOM: u64 = 512;
/// More than that, and than what the engine holds, and what may be under way besides.
const MANY: u64 = 1500;
/// More than a pipe, the lines before it and an agent keep for who does not read.
const JUNK: u64 = 8_000;
