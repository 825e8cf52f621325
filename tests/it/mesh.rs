//! Two, five and twenty agents on real connections: every link, every pair, every witness.

use std::collections::{BTreeMap, BTreeSet};

use ifswarm::agent::AgentEvent;
use serde_json::{Value, json};

use crate::live::{LiveSwarm, draft, say, testimony, within};
use crate::support::AGENTS;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_agents_open_one_link_and_talk_both_ways() {
    within(all_talk_to_all(&["ann", "bob"], 1)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_agents_open_ten_links_and_talk_both_ways() {
    within(all_talk_to_all(&AGENTS, 10)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_agents_open_190_links_and_talk_both_ways() {
    let ids: Vec<_> = (1..=20).map(|n| format!("agent-{n:02}")).collect();
    let ids: Vec<_> = ids.iter().map(String::as_str).collect();
    within(all_talk_to_all(&ids, 190)).await;
}

/// 1. All links are up, seen from both ends. 2. Everyone writes to everyone, and every payload
///    arrives as it was sent. 3. Everyone leaves, and the witnesses tell the same story.
async fn all_talk_to_all(ids: &[&str], expected_links: usize) {
    let mut swarm = LiveSwarm::start(ids).await;

    let mut ends: BTreeMap<String, BTreeSet<(String, String)>> = BTreeMap::new();
    for live in &swarm.agents {
        for (peer, link) in live.links().await {
            let end = (live.agent.id().to_string(), peer.to_string());
            ends.entry(link).or_default().insert(end);
        }
    }
    assert_eq!(ends.len(), expected_links);
    for (link, ends) in &ends {
        let there: Vec<_> = ends.iter().collect();
        let [(a, b), (c, d)] = there[..] else {
            panic!("link {link} is up on one end only: {there:?}")
        };
        assert_eq!((a, b), (d, c), "link {link} has the same two ends");
    }

    let mut sent = BTreeMap::new();
    for (place, from) in ids.iter().enumerate() {
        for to in ids.iter().filter(|to| *to != from) {
            let payload =
                json!({ "from": from, "to": to, "n": place, "nested": { "x": [1.5, null] } });
            let receipt = swarm
                .agent(place)
                .send(draft(to, payload.clone()))
                .await
                .unwrap();
            assert_eq!(receipt.to, [to.parse().unwrap()]);
            sent.insert((from.to_string(), to.to_string()), (receipt.id, payload));
        }
    }
    for live in &mut swarm.agents {
        for _ in 1..ids.len() {
            let message = live.message().await;
            let pair = (message.source().to_string(), live.agent.id().to_string());
            let (id, payload) = sent.remove(&pair).expect("sent once, received once");
            assert_eq!(message.id(), id);
            assert_eq!(Value::from(message.payload().clone()), payload);
            assert_eq!(message.destination().to_string(), pair.1);
        }
    }
    assert!(sent.is_empty(), "never received: {sent:?}");

    let witnesses = swarm.end().await;
    let mut said = BTreeMap::new();
    let mut heard = BTreeMap::new();
    for (id, entries) in ids.iter().zip(&witnesses) {
        for (peer, what) in testimony(entries, "ifmessage_sent") {
            let pair = (id.to_string(), peer.unwrap());
            assert_eq!(said.insert(pair, digest(&what)), None);
        }
        for (peer, what) in testimony(entries, "ifmessage_received") {
            let pair = (peer.unwrap(), id.to_string());
            assert_eq!(heard.insert(pair, digest(&what)), None);
        }
        assert_eq!(testimony(entries, "ifmessage_rejected"), []);
        assert_eq!(testimony(entries, "sdp_rejected"), []);
        let opened = testimony(entries, "datachannel_open");
        assert_eq!(opened.len(), ids.len() - 1, "{id} opened each link once");
        let closed = testimony(entries, "datachannel_closed");
        assert_eq!(
            links_of(&closed),
            links_of(&opened),
            "{id} closed them all, itself or after its peer"
        );
    }
    assert_eq!(said.len(), ids.len() * (ids.len() - 1));
    assert_eq!(
        said, heard,
        "what one says it sent is what the other says it received"
    );
}

fn links_of(entries: &[(Option<String>, Value)]) -> BTreeSet<String> {
    let links = entries.iter().map(|(_, what)| what["link"].as_str());
    links.map(|link| link.unwrap().to_owned()).collect()
}

/// What a message is known by in both witnesses.
fn digest(what: &Value) -> (String, String, u64) {
    let text = |name: &str| what[name].as_str().unwrap().to_owned();
    let number = what["sequence_num"].as_u64().unwrap();
    (text("message_id"), text("sha256"), number)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broadcast_is_signed_once_and_the_same_at_every_receiver() {
    within(async {
        let mut swarm = LiveSwarm::start(&AGENTS).await;
        let receipt = swarm
            .agent(0)
            .broadcast(say("*", "to everybody"))
            .await
            .unwrap();
        assert_eq!(receipt.to.len(), AGENTS.len() - 1);
        let mut digests = BTreeSet::new();
        for live in &mut swarm.agents[1..] {
            let message = live.message().await;
            assert_eq!(message.id(), receipt.id);
            assert_eq!(message.destination().to_string(), "*");
            assert_eq!(message.payload()["text"], "to everybody");
            digests.insert(hex::encode(message.digest()));
        }
        assert_eq!(digests.len(), 1);
        let witnesses = swarm.end().await;
        let sent = testimony(&witnesses[0], "ifmessage_sent");
        assert_eq!(sent.len(), 1, "signed and witnessed once");
        assert_eq!(
            sent[0].1["sha256"].as_str(),
            digests.first().map(String::as_str)
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_leaves_says_goodbye_and_what_it_said_last_still_arrives() {
    within(async {
        let mut swarm = LiveSwarm::start(&["ann", "bob", "eve"]).await;
        for n in 0..20 {
            swarm
                .agent(0)
                .send(say("bob", &format!("{n}")))
                .await
                .unwrap();
        }
        let ann = swarm.agents.remove(0);
        let left = ann.agent.shutdown("enough").await.unwrap();
        assert!(left.entries > 20);
        let bob = &mut swarm.agents[0];
        for n in 0..20 {
            assert_eq!(bob.message().await.payload()["text"], format!("{n}"));
        }
        for live in &mut swarm.agents {
            let (peer, why) = live
                .until(|event| match event {
                    AgentEvent::PeerDown { peer, why } => Some((peer, why.as_str())),
                    AgentEvent::Message(message) => panic!("after the last one: {message:?}"),
                    _ => None,
                })
                .await;
            assert_eq!((peer.as_str(), why), ("ann", "goodbye"));
            assert_eq!(live.links().await.len(), 1, "the others stay linked");
        }
        let refused = swarm.agent(0).send(say("ann", "are you there?")).await;
        assert!(
            refused.is_err(),
            "nobody is told that it was sent: {refused:?}"
        );
        let witnesses = swarm.end().await;
        let lost = testimony(&witnesses[0], "peer_lost");
        assert_eq!(lost[0].0.as_deref(), Some("ann"));
        assert_eq!(lost[0].1["reason"], "goodbye");
    })
    .await;
}
