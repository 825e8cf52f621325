//! A peer that speaks the wire by hand, from `wire.md`: it joins a real agent, and says what no
//! agent of this program would say.

mod link;
mod log;

use ifswarm::identity::{KeyPair, Session};
use ifswarm::message::{Author, Draft, Signed, Timestamp, sign};
use ifswarm::signal::{Client, ClientConfig, SdpBody, SdpFrame, SdpKind, ServerFrame};
use serde_json::{Value, json};

pub(crate) use link::{Channel, Frame, Happened, RawLink};
pub(crate) use log::RawLog;

use crate::live::swarm_name;
use crate::support::{FixtureAgent, bytes_of};

/// A peer that is made by hand, on an open link to an agent.
pub(crate) struct Raw {
    pub(crate) id: &'static str,
    /// The agent at the other end.
    pub(crate) agent: &'static str,
    pub(crate) key: KeyPair,
    pub(crate) session: Session,
    pub(crate) link: RawLink,
    /// The agent's hello, which comes first.
    pub(crate) hello: Value,
    /// Kept, so that the server sees nobody leave.
    _client: Client,
}

impl Raw {
    /// Joins as `id`, and takes the link that `agent` offers, which must have the smaller id.
    /// Returns when it is open, before any hello of its own.
    pub(crate) async fn join(server: &str, id: &'static str, agent: &'static str) -> Self {
        Self::join_in(server, id, agent, FixtureAgent::new(id).session).await
    }

    /// As [`join`](Self::join), in this session.
    pub(crate) async fn join_in(
        server: &str,
        id: &'static str,
        agent: &'static str,
        session: Session,
    ) -> Self {
        Self::join_by(server, id, agent, session, async |offer, _| {
            RawLink::answer(offer).await
        })
        .await
    }

    /// As [`join_in`](Self::join_in); `answer` makes the link and the answer.
    pub(crate) async fn join_by(
        server: &str,
        id: &'static str,
        agent: &'static str,
        session: Session,
        answer: impl AsyncFnOnce(&str, &SdpFrame) -> (RawLink, String),
    ) -> Self {
        let me = FixtureAgent::new(id);
        let config = ClientConfig {
            url: server.to_owned(),
            swarm: swarm_name(),
            agent_id: me.id.clone(),
            key: me.key.clone(),
            session,
            trust: ifswarm::signal::Trust::default(),
            connect_timeout: std::time::Duration::from_secs(10),
        };
        let (mut client, _) = Client::connect(config).await.unwrap();
        let offer = loop {
            match client.recv().await.unwrap().unwrap() {
                ServerFrame::Offer(offer) if offer.from.as_str() == agent => break offer,
                _ => {}
            }
        };
        let (mut link, sdp) = answer(&offer.sdp, &offer).await;
        let body = SdpBody {
            swarm: swarm_name(),
            from: me.id,
            to: offer.from,
            session,
            to_session: offer.session,
            link: offer.link,
            kind: SdpKind::Answer,
            sdp,
        };
        let answer = SdpFrame::sign(body, &me.key);
        client.sender().send(answer.into()).await.unwrap();
        // One channel may carry something before both are open.
        let (mut is_open, mut hello) = (false, None);
        while !is_open || hello.is_none() {
            match link.recv().await {
                Happened::Open => is_open = true,
                Happened::Frame(frame) => hello = serde_json::from_slice(&frame.bytes).ok(),
                Happened::Closed => panic!("the link went down before it was open"),
            }
        }
        Self {
            id,
            agent,
            key: me.key,
            session,
            link,
            hello: hello.expect("it came"),
            _client: client,
        }
    }

    /// The next control frame of this type; others are dropped.
    pub(crate) async fn control(&mut self, of_type: &str) -> Value {
        loop {
            let frame = self.next(Channel::Control).await;
            let frame: Value = serde_json::from_slice(&frame.bytes).unwrap();
            if frame["type"] == of_type {
                return frame;
            }
        }
    }

    /// The next message.
    pub(crate) async fn message(&mut self) -> Value {
        let frame = self.next(Channel::Messaging).await;
        assert!(frame.is_text);
        serde_json::from_slice(&frame.bytes).unwrap()
    }

    /// The next frame of this channel; those of the other are dropped.
    async fn next(&mut self, channel: Channel) -> Frame {
        loop {
            match self.link.recv().await {
                Happened::Frame(frame) if frame.channel == channel => return frame,
                Happened::Closed => panic!("the link went down"),
                _ => {}
            }
        }
    }

    /// Waits until the link is down.
    pub(crate) async fn closed(&mut self) {
        while self.link.recv().await != Happened::Closed {}
    }

    pub(crate) fn say_hello(&self) {
        self.say_hello_as(self.id);
    }

    /// Says hello in the name of `id`.
    pub(crate) fn say_hello_as(&self, id: &str) {
        let next = json!({ id: 1, "*": 1 });
        let session = self.session;
        self.say(&json!({"type": "hello", "agent_id": id, "session": session, "next": next}));
    }

    pub(crate) fn say(&self, control: &Value) {
        self.link.send(Frame::control(control.to_string()));
    }

    pub(crate) fn send(&self, text: &str) {
        self.link.send(Frame::message(text));
    }

    /// A message of this peer, signed at the present time.
    pub(crate) fn sign(&self, number: u64, draft: Draft) -> Signed {
        sign_as(self.id, self.session, &self.key, number, draft)
    }

    /// The next frame `refused`, which must be about this number.
    pub(crate) async fn refused(&mut self, number: u64) -> Value {
        let refused = self.control("refused").await;
        assert_eq!(refused["sequence_num"], number);
        assert_eq!(refused["session"], json!(self.session));
        refused
    }

    /// Waits for the acknowledgement of this number.
    pub(crate) async fn acked(&mut self, number: u64) {
        loop {
            let ack = self.control("ack").await;
            assert_eq!(ack["session"], json!(self.session));
            assert_eq!(ack["destination"], self.agent);
            let up_to = ack["up_to"].as_u64().unwrap();
            assert!(up_to <= number, "acknowledges what was never sent: {ack}");
            if up_to == number {
                return;
            }
        }
    }
}

/// Signs at the present time.
pub(crate) fn sign_as(
    id: &str,
    session: Session,
    key: &KeyPair,
    number: u64,
    draft: Draft,
) -> Signed {
    sign_at(present(), id, session, key, number, draft)
}

/// Signs, and says that it was at that time.
pub(crate) fn sign_at(
    time: Timestamp,
    id: &str,
    session: Session,
    key: &KeyPair,
    number: u64,
    draft: Draft,
) -> Signed {
    let id = id.parse().unwrap();
    let author = Author {
        id: &id,
        session,
        key,
    };
    let random = bytes_of("raw", &number.to_string());
    sign(draft, &author, number, time, random).unwrap()
}

/// The time of day.
pub(crate) fn present() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    Timestamp::from_unix_ms(since.unwrap().as_millis().try_into().unwrap())
}
