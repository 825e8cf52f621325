//! What a real agent says to a peer that speaks the wire by hand, and what it takes from it.

use std::collections::BTreeMap;

use ifswarm::agent::AgentEvent;
use ifswarm::identity::{KeyPair, Purpose};
use ifswarm::message::canonical;
use ifswarm::signal::{Admission, Server};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::live::{
    LiveAgent, builder, read_witness, roster_of, say, serve, swarm_name, testimony, within,
};
use crate::raw::{Frame, Raw, sign_as};
use crate::support::FixtureAgent;

/// The agent, whose id is the smaller one, and who therefore dials.
const AGENT: &str = "ann";
/// The peer that is made by hand.
const RAW: &str = "raw";
/// Somebody else of the swarm.
const OTHER: &str = "zoe";

/// A real agent, and a hand-made peer on an open link that has not said hello.
struct Scene {
    ann: LiveAgent,
    raw: Raw,
    server: Server,
    folder: TempDir,
}

async fn open() -> Scene {
    let roster = roster_of(&[AGENT, RAW, OTHER]);
    let admission = Admission::Rosters(BTreeMap::from([(swarm_name(), roster.clone())]));
    let server = serve(admission).await;
    let folder = tempfile::tempdir().unwrap();
    let builder = builder(AGENT, &server.url(), folder.path());
    let ann = LiveAgent::start(builder.roster(roster)).await;
    let raw = Raw::join(&server.url(), RAW, AGENT).await;
    Scene {
        ann,
        raw,
        server,
        folder,
    }
}

impl Scene {
    /// The reason for which the agent refuses the next message that it refuses.
    async fn rejection(&mut self) -> String {
        let found = self.ann.until(|event| match event {
            AgentEvent::Rejected { peer, reason, .. } => Some((peer, reason)),
            AgentEvent::Message(message) => panic!("delivered: {message:?}"),
            _ => None,
        });
        let (peer, reason) = found.await;
        assert_eq!(peer.as_str(), RAW);
        reason.as_str().to_owned()
    }

    /// The link still carries this message.
    async fn still_carries(&mut self, number: u64) {
        let good = self.raw.sign(number, say(AGENT, "good again"));
        self.raw.send(good.text());
        let message = self.ann.message().await;
        assert_eq!(message.sequence_num(), number);
        assert_eq!(message.payload()["text"], "good again");
        self.raw.acked(number).await;
    }

    /// Ends all; returns the agent's witness.
    async fn end(self) -> Vec<Value> {
        self.ann.agent.shutdown("the test is over").await.unwrap();
        self.server.shutdown().await;
        read_witness(self.folder.path(), AGENT)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hand_made_peer_is_greeted_heard_and_acknowledged() {
    within(async {
        let mut scene = open().await;
        let (id, session) = (scene.ann.agent.id(), scene.ann.agent.session());
        let next = json!({ AGENT: 1, "*": 1 });
        let expected = json!({"type": "hello", "agent_id": id, "session": session, "next": next});
        assert_eq!(scene.raw.hello, expected);
        scene.raw.say_hello();
        scene.ann.agent.linked(1).await.unwrap();
        scene.still_carries(1).await;

        let receipt = scene.ann.agent.send(say(RAW, "welcome")).await.unwrap();
        let message = scene.raw.message().await;
        assert_eq!(message["id"], receipt.id);
        let ack = json!({"type": "ack", "session": session, "destination": RAW, "up_to": 1});
        scene.raw.say(&ack);
        let up_to = scene.ann.until(|event| match event {
            AgentEvent::Acked { peer, up_to, .. } if peer.as_str() == RAW => Some(up_to),
            _ => None,
        });
        assert_eq!(up_to.await, 1);
        scene.end().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_that_come_before_hello_are_delivered_after_it() {
    within(async {
        // As many as a receiver keeps; that one more is too many is shown below.
        const EARLY: u64 = 256;
        let mut scene = open().await;
        for number in 1..=EARLY {
            let early = scene.raw.sign(number, say(AGENT, "early"));
            scene.raw.send(early.text());
        }
        scene.raw.say_hello();
        for number in 1..=EARLY {
            assert_eq!(scene.ann.message().await.sequence_num(), number);
        }
        scene.raw.acked(EARLY).await;
        scene.still_carries(EARLY + 1).await;
        scene.end().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_never_says_hello_is_not_kept_messages_for_without_end() {
    within(async {
        let mut scene = open().await;
        for number in 1..=257 {
            let early = scene.raw.sign(number, say(AGENT, "early"));
            scene.raw.send(early.text());
        }
        scene.raw.closed().await;
        assert!(scene.ann.links().await.is_empty());
        let witness = scene.end().await;
        assert_eq!(testimony(&witness, "ifmessage_received"), []);
        let closed = testimony(&witness, "datachannel_closed");
        let reason = closed[0].1["reason"].as_str().unwrap();
        assert!(reason.contains("before hello"), "{reason}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forged_message_is_refused_witnessed_and_told_and_the_link_lives_on() {
    within(async {
        let mut scene = open().await;
        scene.raw.say_hello();
        scene.still_carries(1).await;

        let text = scene.raw.sign(2, say(AGENT, "pay 100")).text().to_owned();
        let forged = text.replace("pay 100", "pay 900");
        assert_ne!(forged, text);
        scene.raw.send(&forged);
        assert_eq!(scene.rejection().await, "bad-signature");
        let refused = scene.raw.refused(2).await;
        assert_eq!(refused["reason"], "bad-signature");
        assert_eq!(refused["destination"], AGENT);
        scene.raw.acked(2).await;

        // Signed with a key of the roster, but not the one of its source.
        let other = FixtureAgent::new(OTHER);
        let foreign = sign_as(
            RAW,
            scene.raw.session,
            &other.key,
            3,
            say(AGENT, "I am raw"),
        );
        scene.raw.send(foreign.text());
        assert_eq!(scene.rejection().await, "key-mismatch");
        assert_eq!(scene.raw.refused(3).await["reason"], "key-mismatch");

        let mut unsigned: Value = serde_json::from_str(&text).unwrap();
        unsigned.as_object_mut().unwrap().remove("signature");
        unsigned["sequence_num"] = json!(4);
        scene.raw.send(&unsigned.to_string());
        assert_eq!(scene.rejection().await, "unsigned");
        assert_eq!(scene.raw.refused(4).await["reason"], "unsigned");

        // Nothing that could be named in a `refused` frame can be read of it.
        scene.raw.send("{\"id\":");
        assert_eq!(scene.rejection().await, "malformed");

        scene.still_carries(5).await;
        let stats = scene.ann.agent.stats();
        assert_eq!((stats.delivered, stats.rejected), (2, 4));
        // Each under its own reason, for whoever watches.
        let vitals = scene.ann.agent.observer().look().unwrap();
        let counted = vitals.refused.into_iter().filter(|(_, n)| *n > 0);
        let counted: Vec<_> = counted.map(|(reason, n)| (reason.as_str(), n)).collect();
        assert_eq!(
            counted,
            [
                ("malformed", 1),
                ("unsigned", 1),
                ("key-mismatch", 1),
                ("bad-signature", 1)
            ]
        );
        let witness = scene.end().await;
        let rejected = testimony(&witness, "ifmessage_rejected");
        let reasons: Vec<_> = rejected.iter().map(|(_, what)| &what["reason"]).collect();
        assert_eq!(
            reasons,
            ["bad-signature", "key-mismatch", "unsigned", "malformed"]
        );
        assert!(
            rejected
                .iter()
                .all(|(peer, _)| peer.as_deref() == Some(RAW))
        );
        let closed = testimony(&witness, "datachannel_closed");
        assert!(
            closed.iter().all(|(_, what)| what["reason"] == "leaving"),
            "{closed:?}"
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_bytes_again_are_refused_as_replayed() {
    within(async {
        let mut scene = open().await;
        scene.raw.say_hello();
        scene.still_carries(1).await;
        let again = scene.raw.sign(2, say(AGENT, "once"));
        scene.raw.send(again.text());
        assert_eq!(scene.ann.message().await.payload()["text"], "once");
        scene.raw.send(again.text());
        assert_eq!(scene.rejection().await, "replayed");
        // Written anew, but with a number that was used: the same.
        let reused = scene.raw.sign(2, say(AGENT, "something else"));
        scene.raw.send(reused.text());
        assert_eq!(scene.rejection().await, "replayed");

        // A duplicate is acknowledged and never answered with `refused`: the next frame of that
        // type is about the next message.
        let misdirected = scene.raw.sign(3, say(OTHER, "not for you"));
        scene.raw.send(misdirected.text());
        assert_eq!(scene.rejection().await, "wrong-recipient");
        let refused = scene.raw.refused(3).await;
        assert_eq!(refused["reason"], "wrong-recipient");
        assert_eq!(refused["destination"], OTHER);
        scene.still_carries(4).await;
        let stats = scene.ann.agent.stats();
        assert_eq!((stats.duplicated, stats.rejected), (2, 1));
        scene.end().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_others_signed_is_refused_when_it_was_not_forwarded() {
    within(async {
        let mut scene = open().await;
        scene.raw.say_hello();
        scene.still_carries(1).await;
        let zoe = FixtureAgent::new(OTHER);
        let stolen = sign_as(OTHER, zoe.session, &zoe.key, 1, say(AGENT, "from zoe"));
        scene.raw.send(stolen.text());
        assert_eq!(scene.rejection().await, "wrong-peer");
        scene.still_carries(2).await;
        scene.end().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn control_frames_of_later_versions_are_ignored_and_those_that_are_none_refused() {
    within(async {
        let mut scene = open().await;
        scene.raw.say_hello();
        scene.raw.say(&json!({"type": "later", "anything": [1]}));
        scene.raw.say(&json!(["no frame"]));
        scene.raw.link.send(Frame {
            is_text: false,
            ..Frame::control(json!({"type": "ping", "t": 41}).to_string())
        });
        scene
            .raw
            .say(&json!({"type": "ping", "t": 42, "more": true}));
        assert_eq!(scene.raw.control("pong").await["t"], 42);
        let stats = scene.ann.agent.stats();
        assert_eq!((stats.unknown_control, stats.bad_control), (1, 2));
        scene.still_carries(1).await;
        scene.end().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_a_goodbye_that_is_signed_ends_a_link_and_it_waits_for_what_is_under_way() {
    within(async {
        let mut scene = open().await;
        scene.raw.say_hello();
        scene.still_carries(1).await;
        let goodbye = |raw: &Raw, key: &KeyPair| {
            let last = json!({ AGENT: 2 });
            let bytes = canonical(&json!({"agent_id": RAW, "last": last, "reason": "done",
                "session": raw.session, "swarm": swarm_name()}));
            let signature = key.sign(Purpose::Goodbye, &bytes);
            json!({"type": "goodbye", "reason": "done", "last": last, "signature": signature})
        };
        let forged = goodbye(&scene.raw, &FixtureAgent::new(OTHER).key);
        scene.raw.say(&forged);
        scene.raw.say(&json!({"type": "ping", "t": 1}));
        scene.raw.control("pong").await;
        assert_eq!(scene.ann.agent.stats().bad_control, 1);
        assert_eq!(scene.ann.links().await.len(), 1);

        // The goodbye overtakes the last message that it speaks of.
        let signed = goodbye(&scene.raw, &scene.raw.key);
        scene.raw.say(&signed);
        let last = scene.raw.sign(2, say(AGENT, "my last one"));
        scene.raw.send(last.text());
        assert_eq!(scene.ann.message().await.payload()["text"], "my last one");
        let down = scene.ann.until(|event| match event {
            AgentEvent::PeerDown { peer, why } => Some((peer, why.as_str())),
            _ => None,
        });
        assert_eq!(down.await, (RAW.parse().unwrap(), "goodbye"));
        scene.end().await;
    })
    .await;
}
