//! A relay between real agents and a real server that lies: it changes offers and answers on their
//! way, brings them twice, brings old ones, and says what the server never said.
//!
//! It changes only what agents hear, so the server itself has passed good frames on. What it was
//! given and what it told instead is kept, for the tests to compare with the witnesses.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use futures_util::{SinkExt, StreamExt};
use ifswarm::identity::{KeyPair, SwarmName};
use ifswarm::signal::{ClientFrame, SdpBody, SdpFrame, SdpKind, ServerFrame};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{accept_async, connect_async};

use crate::support::FixtureAgent;

/// The relay, which is what agents take for the server.
pub(crate) struct Liar {
    listener: Option<TcpListener>,
    authority: String,
    mind: Arc<Mutex<Mind>>,
    /// Everything the relay does; ends with it.
    tasks: JoinSet<()>,
}

/// What is done to one offer or answer: the frames that arrive in its place.
pub(crate) type Lie = Box<dyn FnMut(Value) -> Vec<Value> + Send>;

/// When to lie, and how.
pub(crate) struct Plan {
    pub(crate) kind: SdpKind,
    /// Only what this agent says, if anybody in particular.
    pub(crate) from: Option<&'static str>,
    /// Only to this agent.
    pub(crate) to: Option<&'static str>,
    pub(crate) lie: Lie,
}

/// An offer or answer that was lied about.
#[derive(Debug, Clone)]
pub(crate) struct Told {
    pub(crate) truth: Value,
    pub(crate) instead: Vec<Value>,
}

#[derive(Default)]
struct Mind {
    plan: Option<Plan>,
    told: Vec<Told>,
    /// Every offer and answer that went by, in order, as it was said.
    heard: Vec<Value>,
    /// The last registration of each agent, as it was sent.
    registrations: BTreeMap<String, String>,
    /// The way to each agent.
    ways: BTreeMap<String, mpsc::UnboundedSender<Message>>,
}

impl Liar {
    /// Listens. Nobody is served before [`lead_to`](Self::lead_to).
    pub(crate) async fn listen() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let authority = listener.local_addr().unwrap().to_string();
        Self {
            listener: Some(listener),
            authority,
            mind: Arc::default(),
            tasks: JoinSet::new(),
        }
    }

    /// `HOST:PORT`: one of the server's names, since the liar is the server.
    pub(crate) fn authority(&self) -> &str {
        &self.authority
    }

    pub(crate) fn url(&self) -> String {
        format!("ws://{}", self.authority)
    }

    /// Carries everybody to this server, in the swarm `swarm`.
    pub(crate) fn lead_to(&mut self, server: &str, swarm: &SwarmName) {
        let upstream: Arc<str> = format!("{server}/v1/{swarm}").into();
        let listener = self.listener.take().expect("led to one server only");
        let mind = Arc::clone(&self.mind);
        self.tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((tcp, _)) = listener.accept().await {
                connections.spawn(carry(tcp, Arc::clone(&upstream), Arc::clone(&mind)));
            }
        });
    }

    /// Lies like this from now on.
    pub(crate) fn plan(&self, plan: Plan) {
        let mut mind = self.mind();
        mind.told.clear();
        mind.plan = Some(plan);
    }

    /// Speaks the truth again; what was told instead of it.
    pub(crate) fn repent(&self) -> Vec<Told> {
        let mut mind = self.mind();
        mind.plan = None;
        std::mem::take(&mut mind.told)
    }

    /// The last offer or answer that `from` said to `to`.
    pub(crate) fn heard(&self, kind: SdpKind, from: &str, to: &str) -> Option<Value> {
        let mind = self.mind();
        let mut heard = mind.heard.iter().rev();
        heard
            .find(|said| said["type"] == kind.as_str() && said["from"] == from && said["to"] == to)
            .cloned()
    }

    /// How an agent registered last.
    pub(crate) fn registration(&self, id: &str) -> String {
        self.mind().registrations[id].clone()
    }

    /// Says this to an agent, as the server.
    pub(crate) fn say(&self, to: &str, message: Message) {
        // An agent that has hung up hears nothing.
        let _ = self.mind().ways[to].send(message);
    }

    fn mind(&self) -> MutexGuard<'_, Mind> {
        self.mind.lock().unwrap()
    }
}

impl Mind {
    /// What is told to an agent when the server says this.
    fn tell(&mut self, frame: Value) -> Vec<Value> {
        self.heard.push(frame.clone());
        let wanted = self.plan.as_mut().filter(|plan| {
            let of = |name: &str, wanted: Option<&str>| wanted.is_none_or(|id| frame[name] == id);
            frame["type"] == plan.kind.as_str() && of("from", plan.from) && of("to", plan.to)
        });
        let Some(plan) = wanted else {
            return vec![frame];
        };
        let instead = (plan.lie)(frame.clone());
        let told = Told {
            truth: frame,
            instead: instead.clone(),
        };
        self.told.push(told);
        instead
    }
}

/// One connection: everything passes, but for what there is a lie about.
async fn carry(tcp: TcpStream, upstream: Arc<str>, mind: Arc<Mutex<Mind>>) {
    let mut agent = accept_async(tcp).await.unwrap();
    let (mut server, _) = connect_async(&*upstream).await.unwrap();
    let (way, mut to_say) = mpsc::unbounded_channel();
    loop {
        // All cancel-safe: a queue, and sockets that give out whole messages.
        let passed = tokio::select! {
            message = agent.next() => {
                let Some(Ok(message)) = message else { return };
                if let Message::Text(text) = &message {
                    let frame: Value = serde_json::from_str(text).unwrap_or_default();
                    if let ("register", Some(id)) = (text_of(&frame, "type"), frame["agent_id"].as_str()) {
                        let mut mind = mind.lock().unwrap();
                        mind.registrations.insert(id.into(), text.to_string());
                        mind.ways.insert(id.into(), way.clone());
                    }
                }
                server.send(message).await
            }
            message = server.next() => {
                let Some(Ok(message)) = message else { return };
                for message in heard(message, &mind) {
                    if agent.send(message).await.is_err() {
                        return;
                    }
                }
                Ok(())
            }
            Some(message) = to_say.recv() => agent.send(message).await,
        };
        if passed.is_err() {
            return;
        }
    }
}

fn heard(message: Message, mind: &Mutex<Mind>) -> Vec<Message> {
    let frame: Value = match &message {
        Message::Text(text) => serde_json::from_str(text).unwrap_or_default(),
        _ => Value::Null,
    };
    if !matches!(text_of(&frame, "type"), "offer" | "answer") {
        return vec![message];
    }
    let told = mind.lock().unwrap().tell(frame);
    let told = told.into_iter().map(|frame| frame.to_string());
    told.map(Message::text).collect()
}

fn text_of<'a>(frame: &'a Value, name: &str) -> &'a str {
    frame[name].as_str().unwrap_or_default()
}

// Lies.

/// The key that a fixture agent has.
pub(crate) fn key(id: &str) -> KeyPair {
    FixtureAgent::new(id).key
}

/// The frame signed anew by `key`, after `change`: what a liar can make that has a key.
pub(crate) fn signed_by(frame: &Value, key: &KeyPair, change: impl FnOnce(&mut SdpBody)) -> Value {
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

/// The text of an SDP with the first fingerprint changed in one digit.
fn other_fingerprint(sdp: &str) -> String {
    let at = sdp.find("a=fingerprint:sha-256 ").unwrap() + "a=fingerprint:sha-256 ".len();
    let other = if sdp[at..].starts_with('0') { "1" } else { "0" };
    format!("{}{other}{}", &sdp[..at], &sdp[at + 1..])
}

pub(crate) fn fingerprint(mut frame: Value) -> Vec<Value> {
    let kind = frame["type"].as_str().unwrap().to_owned();
    let sdp = other_fingerprint(frame[&kind]["sdp"].as_str().unwrap());
    frame[&kind]["sdp"] = json!(sdp);
    vec![frame]
}

pub(crate) fn key_of_the_server(frame: Value) -> Vec<Value> {
    vec![signed_by(&frame, &key("server"), |body| {
        body.sdp = other_fingerprint(&body.sdp);
    })]
}

pub(crate) fn key_swapped(mut frame: Value) -> Vec<Value> {
    frame["public_key"] = json!(key("eve").public_key());
    vec![frame]
}

/// The neutral point as key, with which a lax verifier takes any signature.
pub(crate) fn key_of_small_order(mut frame: Value) -> Vec<Value> {
    frame["public_key"] = json!(NEUTRAL);
    frame["signature"] = json!(format!("{NEUTRAL}{:064}", 0));
    vec![frame]
}

/// The signature with `S` plus the order of the group.
pub(crate) fn malleable(mut frame: Value) -> Vec<Value> {
    frame["signature"] = plus_the_order(&frame["signature"]);
    vec![frame]
}

pub(crate) fn sender_swapped(mut frame: Value) -> Vec<Value> {
    frame["from"] = json!("eve");
    frame["public_key"] = json!(key("eve").public_key());
    vec![frame]
}

pub(crate) fn stranger(mut frame: Value) -> Vec<Value> {
    frame["from"] = json!("mallory");
    vec![frame]
}

pub(crate) fn signature_stripped(mut frame: Value) -> Vec<Value> {
    frame.as_object_mut().unwrap().remove("signature");
    vec![frame]
}

pub(crate) fn spoiled(mut frame: Value) -> Vec<Value> {
    frame["link"] = json!("not a link");
    vec![frame]
}

/// For another swarm, under the right key: what was signed for elsewhere.
pub(crate) fn another_swarm(frame: Value) -> Vec<Value> {
    vec![signed_anew(&frame, |body| {
        body.swarm = "elsewhere".parse().unwrap();
    })]
}

/// For somebody else, under the right key.
pub(crate) fn another_receiver(frame: Value) -> Vec<Value> {
    vec![signed_anew(&frame, |body| body.to = "eve".parse().unwrap())]
}

/// For an earlier session of the receiver, under the right key.
pub(crate) fn earlier_session(frame: Value) -> Vec<Value> {
    vec![signed_anew(&frame, |body| {
        body.to_session = FixtureAgent::new("bob").session;
    })]
}

/// About a link that nobody is making, under the right key.
pub(crate) fn another_link(frame: Value) -> Vec<Value> {
    vec![signed_anew(&frame, |body| {
        body.link = "00112233445566aa".parse().unwrap();
    })]
}

/// An answer that comes as an offer of the one who should be dialled, under its own key.
pub(crate) fn turned_round(frame: Value) -> Vec<Value> {
    vec![signed_anew(&frame, |body| {
        body.kind = SdpKind::Offer;
        body.link = "00112233445566aa".parse().unwrap();
    })]
}

pub(crate) fn twice(frame: Value) -> Vec<Value> {
    vec![frame.clone(), frame]
}

/// Signed anew by whoever it is from.
fn signed_anew(frame: &Value, change: impl FnOnce(&mut SdpBody)) -> Value {
    signed_by(frame, &key(text_of(frame, "from")), change)
}

/// `S` plus the order of the group: the same equation holds (RFC 8032, section 5.1.7).
pub(crate) fn plus_the_order(signature: &Value) -> Value {
    let mut bytes = hex::decode(signature.as_str().unwrap()).unwrap();
    let mut carry = 0;
    for (byte, order) in bytes[32..].iter_mut().zip(GROUP_ORDER) {
        let sum = u16::from(*byte) + u16::from(order) + carry;
        *byte = sum.to_le_bytes()[0];
        carry = sum >> 8;
    }
    json!(hex::encode(bytes))
}

/// The neutral point of the curve, encoded: y = 1.
pub(crate) const NEUTRAL: &str = "0100000000000000000000000000000000000000000000000000000000000000";
/// The order of the group, little-endian (RFC 8032, section 5.1).
const GROUP_ORDER: [u8; 32] = [
    0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
];
