//! A server that lies: it changes offers and answers on their way, or brings them twice. Whoever
//! receives one finds out, witnesses why, and makes no link.
//!
//! The liar is a relay between real agents and a real server. It changes what the server says to
//! an agent, so the server itself has passed only good frames on.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::{SinkExt, StreamExt};
use ifswarm::agent::AgentEvent;
use ifswarm::identity::{KeyPair, SwarmName};
use ifswarm::message::SdpReason;
use ifswarm::signal::{
    Admission, ClientFrame, SdpBody, SdpFrame, SdpKind, Server, ServerConfig, ServerFrame,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{accept_async, connect_async};

use crate::live::{LiveAgent, builder, read_witness, roster_of, swarm_name, testimony, within};
use crate::support::FixtureAgent;

/// What the relay does to one offer or answer: the frames that arrive in its place.
type Lie = fn(Value) -> Vec<Value>;

/// Ann, who dials; Bob, who answers; and the relay that both are introduced by.
struct Story {
    ann: LiveAgent,
    bob: LiveAgent,
    folder: TempDir,
    server: Server,
    _relay: JoinSet<()>,
}

const IDS: [&str; 3] = ["ann", "bob", "eve"];

async fn begin(kind: SdpKind, lie: Lie) -> Story {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let relay = listener.local_addr().unwrap().to_string();
    let admission = Admission::Rosters(BTreeMap::from([(swarm_name(), roster_of(&IDS))]));
    let mut config = ServerConfig::new("127.0.0.1:0".parse().unwrap(), admission);
    // It is server name: the liar is the server.
    config.names = vec![relay.clone()];
    let server = Server::bind(config).await.unwrap();
    let upstream: Arc<str> = format!("{}/v1/{}", server.url(), swarm_name()).into();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((tcp, _)) = listener.accept().await {
            connections.spawn(carry(tcp, Arc::clone(&upstream), kind, lie));
        }
    });
    let folder = tempfile::tempdir().unwrap();
    let start = |id| {
        let builder = builder(id, &format!("ws://{relay}"), folder.path());
        LiveAgent::start(builder.roster(roster_of(&IDS)))
    };
    // Bob subscribes before Ann is there to dial him, and Ann before the answer can come.
    let bob = start("bob").await;
    let ann = start("ann").await;
    Story {
        ann,
        bob,
        folder,
        server,
        _relay: tasks,
    }
}

/// One connection: everything passes, but for frames of `kind` on their way to the agent.
async fn carry(tcp: TcpStream, upstream: Arc<str>, kind: SdpKind, lie: Lie) {
    let agent = accept_async(tcp).await.unwrap();
    let (server, _) = connect_async(&*upstream).await.unwrap();
    let (mut to_agent, from_agent) = agent.split();
    let (to_server, mut from_server) = server.split();
    let up = from_agent.forward(to_server);
    let down = async {
        while let Some(Ok(message)) = from_server.next().await {
            let frame = match &message {
                Message::Text(text) => serde_json::from_str(text).unwrap_or_default(),
                _ => Value::Null,
            };
            if frame["type"] == kind.as_str() {
                for frame in lie(frame) {
                    let sent = to_agent.send(Message::text(frame.to_string())).await;
                    sent.unwrap();
                }
            } else if to_agent.send(message).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        _ = up => {}
        () = down => {}
    }
}

impl Story {
    /// Ends all; returns the witnesses of Ann and Bob.
    async fn end(self) -> [Vec<Value>; 2] {
        for live in [self.ann, self.bob] {
            live.agent.shutdown("the test is over").await.unwrap();
        }
        self.server.shutdown().await;
        ["ann", "bob"].map(|id| read_witness(self.folder.path(), id))
    }
}

/// The lie is found out by its receiver for `reason`, and no link is made on either end.
async fn is_found_out(kind: SdpKind, lie: Lie, reason: SdpReason) {
    let mut story = begin(kind, lie).await;
    let victim = match kind {
        SdpKind::Offer => &mut story.bob,
        SdpKind::Answer => &mut story.ann,
    };
    let found = victim
        .until(|event| match event {
            AgentEvent::SdpRejected { reason, .. } => Some(reason),
            AgentEvent::PeerUp { peer, .. } => panic!("linked with {peer} in spite of the lie"),
            _ => None,
        })
        .await;
    assert_eq!(found, reason);
    for live in [&story.ann, &story.bob] {
        assert!(live.links().await.is_empty());
    }
    let witnesses = story.end().await;
    let place = usize::from(kind == SdpKind::Offer);
    let rejected = testimony(&witnesses[place], "sdp_rejected");
    assert!(!rejected.is_empty());
    for (_, what) in rejected {
        assert_eq!(what["reason"], reason.as_str());
    }
    for entries in &witnesses {
        assert_eq!(testimony(entries, "datachannel_open"), []);
    }
}

/// The text of a frame's SDP with the first fingerprint changed in one digit.
fn other_fingerprint(sdp: &str) -> String {
    let at = sdp.find("a=fingerprint:sha-256 ").unwrap() + "a=fingerprint:sha-256 ".len();
    let other = if sdp[at..].starts_with('0') { "1" } else { "0" };
    format!("{}{other}{}", &sdp[..at], &sdp[at + 1..])
}

/// The frame signed anew by `key`, after `change`: what a server can make that has a key.
fn signed_by(frame: &Value, key: &KeyPair, change: impl FnOnce(&mut SdpBody)) -> Value {
    let text = frame.to_string();
    let old = match ServerFrame::parse(text.as_bytes()).unwrap() {
        ServerFrame::Offer(old) | ServerFrame::Answer(old) => old,
        other => panic!("{other:?}"),
    };
    let mut body = SdpBody {
        swarm: old.swarm,
        from: old.from,
        to: old.to,
        session: old.session,
        to_session: old.to_session,
        link: old.link,
        kind: old.kind,
        sdp: old.sdp,
    };
    change(&mut body);
    let signed = SdpFrame::sign(body, key);
    serde_json::from_str(&ClientFrame::from(signed).to_text()).unwrap()
}

fn key(id: &str) -> KeyPair {
    FixtureAgent::new(id).key
}

fn fingerprint(mut frame: Value) -> Vec<Value> {
    let kind = frame["type"].as_str().unwrap().to_owned();
    let sdp = other_fingerprint(frame[&kind]["sdp"].as_str().unwrap());
    frame[&kind]["sdp"] = json!(sdp);
    vec![frame]
}

fn key_of_the_server(frame: Value) -> Vec<Value> {
    vec![signed_by(&frame, &key("server"), |body| {
        body.sdp = other_fingerprint(&body.sdp);
    })]
}

fn key_swapped(mut frame: Value) -> Vec<Value> {
    frame["public_key"] = json!(key("eve").public_key());
    vec![frame]
}

fn sender_swapped(mut frame: Value) -> Vec<Value> {
    frame["from"] = json!("eve");
    frame["public_key"] = json!(key("eve").public_key());
    vec![frame]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_does_not_lie_is_no_hindrance() {
    within(async {
        let story = begin(SdpKind::Offer, |frame| vec![frame]).await;
        story.ann.agent.linked(1).await.unwrap();
        story.bob.agent.linked(1).await.unwrap();
        let witnesses = story.end().await;
        for entries in &witnesses {
            assert_eq!(testimony(entries, "sdp_rejected"), []);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_swapped_fingerprint_is_found_out() {
    within(async {
        is_found_out(SdpKind::Offer, fingerprint, SdpReason::BadSignature).await;
        is_found_out(SdpKind::Answer, fingerprint, SdpReason::BadSignature).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_swapped_key_is_found_out() {
    within(async {
        is_found_out(SdpKind::Offer, key_of_the_server, SdpReason::KeyMismatch).await;
        is_found_out(SdpKind::Answer, key_of_the_server, SdpReason::KeyMismatch).await;
        is_found_out(SdpKind::Offer, key_swapped, SdpReason::KeyMismatch).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_swapped_sender_is_found_out() {
    within(async {
        is_found_out(SdpKind::Offer, sender_swapped, SdpReason::BadSignature).await;
        is_found_out(SdpKind::Answer, sender_swapped, SdpReason::BadSignature).await;
        let stranger: Lie = |mut frame| {
            frame["from"] = json!("mallory");
            vec![frame]
        };
        is_found_out(SdpKind::Offer, stranger, SdpReason::UnknownSource).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_offer_without_a_signature_is_found_out() {
    within(async {
        let strip: Lie = |mut frame| {
            frame.as_object_mut().unwrap().remove("signature");
            vec![frame]
        };
        is_found_out(SdpKind::Offer, strip, SdpReason::Unsigned).await;
        let spoil: Lie = |mut frame| {
            frame["link"] = json!("not a link");
            vec![frame]
        };
        is_found_out(SdpKind::Offer, spoil, SdpReason::Schema).await;
    })
    .await;
}

/// A server that has got hold of an agent's key cannot reuse what was signed for elsewhere.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_offer_that_was_signed_for_another_occasion_is_found_out() {
    within(async {
        let another_swarm: Lie = |frame| {
            vec![signed_by(&frame, &key("ann"), |body| {
                body.swarm = "elsewhere".parse::<SwarmName>().unwrap();
            })]
        };
        is_found_out(SdpKind::Offer, another_swarm, SdpReason::WrongSwarm).await;
        let another_receiver: Lie = |frame| {
            vec![signed_by(&frame, &key("ann"), |body| {
                body.to = "eve".parse().unwrap();
            })]
        };
        is_found_out(SdpKind::Offer, another_receiver, SdpReason::WrongRecipient).await;
        let earlier_session: Lie = |frame| {
            vec![signed_by(&frame, &key("ann"), |body| {
                body.to_session = FixtureAgent::new("bob").session;
            })]
        };
        is_found_out(SdpKind::Offer, earlier_session, SdpReason::WrongSession).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_to_another_link_is_found_out() {
    within(async {
        let another_link: Lie = |frame| {
            vec![signed_by(&frame, &key("bob"), |body| {
                body.link = "00112233445566aa".parse().unwrap();
            })]
        };
        is_found_out(SdpKind::Answer, another_link, SdpReason::UnknownLink).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_offer_from_the_one_who_should_be_dialled_is_glare() {
    within(async {
        // Bob's answer comes to Ann as an offer of Bob's, under his own key.
        let turned: Lie = |frame| {
            let mut offer = signed_by(&frame, &key("bob"), |body| body.kind = SdpKind::Offer);
            offer["link"] = json!("00112233445566aa");
            vec![signed_by(&offer, &key("bob"), |_| {})]
        };
        is_found_out(SdpKind::Answer, turned, SdpReason::Glare).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_offer_that_comes_twice_is_refused_once_and_the_link_is_made() {
    within(async {
        let mut story = begin(SdpKind::Offer, |frame| vec![frame.clone(), frame]).await;
        let reason = story.bob.until(|event| match event {
            AgentEvent::SdpRejected { reason, .. } => Some(reason),
            _ => None,
        });
        assert_eq!(reason.await, SdpReason::Replayed);
        story.ann.agent.linked(1).await.unwrap();
        story.bob.agent.linked(1).await.unwrap();
        let [_, bob] = story.end().await;
        let rejected = testimony(&bob, "sdp_rejected");
        assert_eq!(rejected.len(), 1);
        assert_eq!(rejected[0].0.as_deref(), Some("ann"));
    })
    .await;
}
