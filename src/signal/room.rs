//! What one signaling server knows and decides: who is connected, who may register, who is told
//! (`wire.md`, section *Signaling*).
//!
//! Pure: [`Room::handle`] takes what happened on a connection and the time, and returns what is to be
//! done, in order. It owns no socket, reads no clock and makes no nonce.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::address::Names;
use super::bucket::Bucket;
use super::proof::{Goodbye, Nonce, Register};
use super::sdp::{SdpDetail, SdpFrame};
use super::wire::{
    ClientFrame, ErrorCode, ErrorFrame, FrameError, FrameReason, IceServer, LeftReason, PROTOCOL,
    Peer, Registered, ServerFrame,
};
use crate::identity::{AgentId, LinkId, PublicKey, Roster, Session, SwarmName};

/// Who may register.
#[derive(Debug, Clone)]
pub enum Admission {
    /// The agents of these swarms, under their keys, and nobody else.
    Rosters(BTreeMap<SwarmName, Roster>),
    /// Anybody, in any swarm. An id is bound to the first key seen for as long as anyone of its swarm
    /// is connected.
    Open,
}

/// What a server bears. The limits on frames and SDPs are the protocol's and stand in
/// [`MAX_FRAME`](super::MAX_FRAME) and [`MAX_SDP`](super::MAX_SDP).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Registered agents of one swarm.
    pub agents_per_swarm: usize,
    /// Swarms with anybody in them.
    pub swarms: usize,
    /// Connections that have not registered.
    pub unregistered: usize,
    /// How long a connection may take to register.
    pub register_within: Duration,
    /// How often a connection is pinged; one that shows no life until the next ping is dropped.
    pub ping_every: Duration,
    /// Frames a second that one connection may send.
    pub frames_per_second: u32,
    /// Frames that one connection may send at once.
    pub frames_burst: u32,
}

/// An entry for the witness log of one swarm.
#[derive(Debug, Clone, PartialEq)]
pub struct WitnessNote {
    /// Whose log.
    pub swarm: SwarmName,
    /// One of `wire.md`'s events.
    pub event: &'static str,
    /// The agent it is about; for `registration_refused` who it claimed to be.
    pub peer: Option<AgentId>,
    /// Of the entry.
    pub metadata: Value,
}

/// One connection; never used again.
pub(super) type ConnId = u64;

/// What happened on a connection.
#[derive(Debug)]
pub(super) enum Input {
    /// It was made, on the path of this swarm.
    Connected { swarm: SwarmName, nonce: Nonce },
    /// A text frame came.
    Text(Utf8Bytes),
    /// A binary frame came.
    Binary,
    /// A ping or pong came.
    Control,
    /// What came cannot be read, nor can anything after it.
    Broken { code: ErrorCode, detail: String },
    /// Time passed.
    Tick,
    /// It ended.
    Closed,
}

/// What is to be done.
#[derive(Debug, PartialEq)]
pub(super) enum Effect {
    Send {
        conn: ConnId,
        text: Utf8Bytes,
    },
    /// After what was sent before.
    Close {
        conn: ConnId,
    },
    Witness(WitnessNote),
}

/// The state of one server.
#[derive(Debug)]
pub(super) struct Room {
    rules: Rules,
    conns: HashMap<ConnId, Conn>,
    unregistered: usize,
    swarms: BTreeMap<SwarmName, Swarm>,
    effects: Vec<Effect>,
}

/// What a room is made from.
#[derive(Debug)]
pub(super) struct Rules {
    pub(super) admission: Admission,
    pub(super) names: Names,
    pub(super) ice_servers: Vec<IceServer>,
    pub(super) limits: Limits,
    /// The address it listens on, for the witness.
    pub(super) listen: String,
    /// `None`: nobody reads the notes, none is made.
    pub(super) witness: Option<SdpDetail>,
}

#[derive(Debug)]
struct Conn {
    swarm: SwarmName,
    since: Instant,
    bucket: Bucket,
    state: State,
}

#[derive(Debug, Clone)]
enum State {
    Challenged(Nonce),
    Registered(AgentId),
}

#[derive(Debug, Default)]
struct Swarm {
    members: BTreeMap<AgentId, Member>,
    /// Without a roster: the first key seen of each id.
    pins: BTreeMap<AgentId, PublicKey>,
}

#[derive(Debug)]
struct Member {
    conn: ConnId,
    public_key: PublicKey,
    session: Session,
}

impl Room {
    /// An empty room, and the notes with which it opens.
    pub(super) fn open(rules: Rules) -> (Self, Vec<Effect>) {
        let mut room = Self {
            rules,
            conns: HashMap::new(),
            unregistered: 0,
            swarms: BTreeMap::new(),
            effects: Vec::new(),
        };
        if let Admission::Rosters(rosters) = &room.rules.admission {
            for swarm in rosters.keys().cloned().collect::<Vec<_>>() {
                room.note_started(&swarm);
            }
        }
        let effects = std::mem::take(&mut room.effects);
        (room, effects)
    }

    /// Takes in what happened and returns what is to be done, in order. What happens on a connection
    /// that the room closed already is ignored.
    pub(super) fn handle(&mut self, conn: ConnId, input: Input, now: Instant) -> Vec<Effect> {
        match input {
            Input::Connected { swarm, nonce } => self.connected(conn, swarm, nonce, now),
            Input::Closed => self.leave(conn, LeftReason::Lost),
            Input::Tick => self.tick(conn, now),
            Input::Broken { code, detail } => self.refuse(conn, error(code, detail), true),
            Input::Text(text) => {
                if self.within_rate(conn, now) {
                    self.text(conn, text);
                }
            }
            Input::Binary => {
                if self.within_rate(conn, now) {
                    let message = "a binary frame; signaling speaks JSON in text frames";
                    let close = !self.is_registered(conn);
                    self.refuse(conn, error(ErrorCode::BadFrame, message), close);
                }
            }
            Input::Control => {
                self.within_rate(conn, now);
            }
        }
        std::mem::take(&mut self.effects)
    }

    fn connected(&mut self, conn: ConnId, swarm: SwarmName, nonce: Nonce, now: Instant) {
        let limits = &self.rules.limits;
        if self.unregistered >= limits.unregistered {
            let message = "too many connections wait to register; try again in a few seconds";
            self.send(
                conn,
                &ServerFrame::Error(error(ErrorCode::ServerFull, message)),
            );
            self.effects.push(Effect::Close { conn });
            return;
        }
        let bucket = Bucket::new(limits.frames_per_second, limits.frames_burst, now);
        self.unregistered += 1;
        self.conns.insert(
            conn,
            Conn {
                swarm,
                since: now,
                bucket,
                state: State::Challenged(nonce),
            },
        );
        let protocol = PROTOCOL.to_string();
        self.send(conn, &ServerFrame::Challenge { nonce, protocol });
    }

    fn tick(&mut self, conn: ConnId, now: Instant) {
        let within = self.rules.limits.register_within;
        let late = self.conns.get(&conn).is_some_and(|c| {
            matches!(c.state, State::Challenged(_))
                && now.saturating_duration_since(c.since) >= within
        });
        if late {
            let message = format!("no `register` came within {} s", within.as_secs());
            self.refuse(conn, error(ErrorCode::NotRegistered, message), true);
        }
    }

    /// Charges a connection for what it sent, and closes it when it sent too much.
    fn within_rate(&mut self, conn: ConnId, now: Instant) -> bool {
        let Some(c) = self.conns.get_mut(&conn) else {
            return false;
        };
        if c.bucket.take(now) {
            return true;
        }
        let Limits {
            frames_per_second,
            frames_burst,
            ..
        } = self.rules.limits;
        let message = format!(
            "more than {frames_per_second} frames a second after a burst of {frames_burst}; send slower"
        );
        self.refuse(conn, error(ErrorCode::RateLimited, message), true);
        false
    }

    fn text(&mut self, conn: ConnId, text: Utf8Bytes) {
        let Some(Conn { state, swarm, .. }) = self.conns.get(&conn) else {
            return;
        };
        let (state, swarm) = (state.clone(), swarm.clone());
        let frame = match ClientFrame::parse(text.as_bytes()) {
            Ok(frame) => frame,
            Err(err) => {
                let close = err.reason == FrameReason::TooLarge || !self.is_registered(conn);
                self.refuse(conn, unreadable(err), close);
                return;
            }
        };
        let me = match (state, frame) {
            (State::Challenged(nonce), ClientFrame::Register(register)) => {
                self.register(conn, &swarm, &nonce, register);
                return;
            }
            (State::Challenged(_), frame) => {
                let message = "the first frame has to be `register`";
                let mut refusal = error(ErrorCode::NotRegistered, message);
                refusal.in_reply_to = Some(frame_type(&frame).into());
                self.refuse(conn, refusal, true);
                return;
            }
            (State::Registered(me), frame) => (me, frame),
        };
        let outcome = match me {
            (me, ClientFrame::Offer(frame) | ClientFrame::Answer(frame)) => {
                self.relay_sdp(&swarm, &me, &frame, text)
            }
            (me, ClientFrame::IceCandidates(frame)) => {
                let route = Route::new("ice-candidates", &frame.from, &frame.to, Some(frame.link));
                self.relay(&swarm, &me, &route, text)
            }
            (me, ClientFrame::PleaseOffer { from, to }) => {
                let route = Route::new("please-offer", &from, &to, None);
                self.relay(&swarm, &me, &route, text)
            }
            (me, ClientFrame::Goodbye(goodbye)) => self.goodbye(conn, &swarm, &me, &goodbye),
            (me, ClientFrame::Register(_)) => {
                let message = format!("this connection registered as `{me}` already; open another");
                let mut refusal = error(ErrorCode::BadFrame, message);
                refusal.in_reply_to = Some("register".into());
                Err(refusal)
            }
        };
        if let Err(refusal) = outcome {
            self.refuse(conn, refusal, false);
        }
    }

    fn register(&mut self, conn: ConnId, swarm: &SwarmName, nonce: &Nonce, register: Register) {
        if let Err(mut refusal) = self.admit(swarm, nonce, &register) {
            refusal.in_reply_to = Some("register".into());
            let metadata = json!({ "code": refusal.code, "public_key": register.public_key });
            if self.has_log(swarm) {
                self.note(
                    swarm,
                    "registration_refused",
                    Some(&register.agent_id),
                    metadata,
                );
            }
            self.refuse(conn, refusal, true);
            return;
        }
        let Register {
            agent_id,
            public_key,
            session,
            ..
        } = register;
        if !self.swarms.contains_key(swarm) {
            if matches!(self.rules.admission, Admission::Open) {
                self.note_started(swarm);
            }
            self.swarms.insert(swarm.clone(), Swarm::default());
        }
        if let Some(c) = self.conns.get_mut(&conn) {
            c.state = State::Registered(agent_id.clone());
            self.unregistered -= 1;
        }
        self.replace(swarm, &agent_id);

        let metadata = json!({ "public_key": public_key, "session": session });
        self.note(swarm, "agent_registered", Some(&agent_id), metadata);
        let state = self.swarms.entry(swarm.clone()).or_default();
        let connected_agents = state.members.iter().map(|(id, m)| m.as_peer(id)).collect();
        let member = Member {
            conn,
            public_key,
            session,
        };
        let agent = member.as_peer(&agent_id);
        state.members.insert(agent_id.clone(), member);
        if matches!(self.rules.admission, Admission::Open) {
            state.pins.insert(agent_id.clone(), public_key);
        }
        let registered = ServerFrame::Registered(Registered {
            agent_id: agent_id.clone(),
            connected_agents,
            ice_servers: self.rules.ice_servers.clone(),
        });
        self.send(conn, &registered);
        self.tell_others(swarm, &agent_id, &ServerFrame::AgentJoined { agent });
    }

    /// Whether a registration may be taken; the first rule that says no gives the code.
    fn admit(
        &self,
        swarm: &SwarmName,
        nonce: &Nonce,
        register: &Register,
    ) -> Result<(), ErrorFrame> {
        let Register {
            agent_id,
            public_key,
            session,
            server,
            ..
        } = register;
        if register.swarm != *swarm {
            let message = format!(
                "registers for swarm `{}` on the path of `{swarm}`",
                register.swarm
            );
            return Err(error(ErrorCode::BadFrame, message));
        }
        if !self.rules.names.contain(server) {
            let message = format!(
                "signed for `{}`, which is no name of this server; if it should be, start the server with --name",
                server.escape_debug()
            );
            return Err(error(ErrorCode::WrongServer, message));
        }
        if let Err(err) = register.verify(nonce) {
            return Err(error(ErrorCode::BadSignature, err.to_string()));
        }
        let state = self.swarms.get(swarm);
        match &self.rules.admission {
            Admission::Rosters(rosters) => {
                let known = rosters.get(swarm).and_then(|r| r.key_of(agent_id));
                if known != Some(public_key) {
                    let message = format!(
                        "the roster of swarm `{swarm}` has no agent `{agent_id}` under this key; add it to the server's swarm file, or use the key that is in it"
                    );
                    return Err(error(ErrorCode::NotAdmitted, message));
                }
            }
            Admission::Open => {
                let pin = state.and_then(|s| s.pins.get(agent_id));
                if pin.is_some_and(|pin| pin != public_key) {
                    let message =
                        format!("`{agent_id}` is bound to another key; choose another id");
                    return Err(error(ErrorCode::IdTaken, message));
                }
            }
        }
        let current = state.and_then(|s| s.members.get(agent_id));
        if let Some(current) = current.filter(|current| current.session > *session) {
            let message = format!("a later session of `{agent_id}` is connected");
            let mut refusal = error(ErrorCode::OlderSession, message);
            refusal.session = Some(current.session);
            return Err(refusal);
        }
        let limits = &self.rules.limits;
        let full = match state {
            None => self.swarms.len() >= limits.swarms,
            Some(_) if current.is_some() => false,
            Some(state) => {
                let pins = limits.agents_per_swarm.saturating_mul(PINS_PER_AGENT);
                state.members.len() >= limits.agents_per_swarm
                    || (state.pins.len() >= pins && !state.pins.contains_key(agent_id))
            }
        };
        if full {
            let message = "no room for another agent or swarm; try again later, or another server";
            return Err(error(ErrorCode::ServerFull, message));
        }
        Ok(())
    }

    /// Ends the earlier connection of an agent that registers again.
    fn replace(&mut self, swarm: &SwarmName, agent_id: &AgentId) {
        let state = self.swarms.get(swarm);
        let Some(earlier) = state.and_then(|s| s.members.get(agent_id)) else {
            return;
        };
        let conn = earlier.conn;
        let message = "an equal or later session of this agent registered elsewhere";
        self.send(
            conn,
            &ServerFrame::Error(error(ErrorCode::Replaced, message)),
        );
        self.effects.push(Effect::Close { conn });
        // The swarm outlives this moment, and with it what it pinned: the agent comes back at once.
        self.conns.remove(&conn);
        self.unlist(swarm, agent_id, LeftReason::Replaced);
    }

    fn goodbye(
        &mut self,
        conn: ConnId,
        swarm: &SwarmName,
        me: &AgentId,
        goodbye: &Goodbye,
    ) -> Result<(), ErrorFrame> {
        let member = self.swarms.get(swarm).and_then(|s| s.members.get(me));
        let good = member.is_some_and(|member| {
            member.session == goodbye.session
                && goodbye.verify(swarm, me, &member.public_key).is_ok()
        });
        if !good {
            let message = "the goodbye is not signed by this agent for this session";
            let mut refusal = error(ErrorCode::BadSignature, message);
            refusal.in_reply_to = Some("goodbye".into());
            return Err(refusal);
        }
        self.leave(conn, LeftReason::Goodbye);
        self.effects.push(Effect::Close { conn });
        Ok(())
    }

    fn relay_sdp(
        &mut self,
        swarm: &SwarmName,
        me: &AgentId,
        frame: &SdpFrame,
        text: Utf8Bytes,
    ) -> Result<(), ErrorFrame> {
        let route = Route::new(
            frame.kind.as_str(),
            &frame.from,
            &frame.to,
            Some(frame.link),
        );
        let conn = self.route(swarm, me, &route)?;
        if let Some(detail) = self.rules.witness {
            let mut metadata = frame.witness_metadata(detail);
            metadata["link"] = json!(frame.link);
            metadata["to"] = json!(frame.to);
            let event = match frame.kind {
                super::SdpKind::Offer => "sdp_offer_relayed",
                super::SdpKind::Answer => "sdp_answer_relayed",
            };
            self.note(swarm, event, Some(me), metadata);
        }
        self.effects.push(Effect::Send { conn, text });
        Ok(())
    }

    /// Hands on the very text that came: what is signed in it, and what is not known, stays as it is.
    fn relay(
        &mut self,
        swarm: &SwarmName,
        me: &AgentId,
        route: &Route<'_>,
        text: Utf8Bytes,
    ) -> Result<(), ErrorFrame> {
        let conn = self.route(swarm, me, route)?;
        self.effects.push(Effect::Send { conn, text });
        Ok(())
    }

    fn route(
        &self,
        swarm: &SwarmName,
        me: &AgentId,
        route: &Route<'_>,
    ) -> Result<ConnId, ErrorFrame> {
        let (code, message) = if route.from != me {
            let message = format!("`from` is `{}`, but this connection is `{me}`", route.from);
            (ErrorCode::NotYours, message)
        } else {
            let state = self.swarms.get(swarm);
            if let Some(member) = state.and_then(|s| s.members.get(route.to)) {
                return Ok(member.conn);
            }
            let message = format!("`{}` is not registered in swarm `{swarm}`", route.to);
            (ErrorCode::UnknownPeer, message)
        };
        Err(ErrorFrame {
            in_reply_to: Some(route.frame_type.into()),
            to: Some(route.to.clone()),
            link: route.link,
            ..error(code, message)
        })
    }

    fn refuse(&mut self, conn: ConnId, refusal: ErrorFrame, close: bool) {
        if !self.conns.contains_key(&conn) {
            return;
        }
        self.send(conn, &ServerFrame::Error(refusal));
        if close {
            self.leave(conn, LeftReason::Lost);
            self.effects.push(Effect::Close { conn });
        }
    }

    /// Forgets a connection, and tells the others if it was somebody's.
    fn leave(&mut self, conn: ConnId, reason: LeftReason) {
        let Some(Conn { swarm, state, .. }) = self.conns.remove(&conn) else {
            return;
        };
        match state {
            State::Challenged(_) => self.unregistered -= 1,
            State::Registered(agent_id) => {
                self.unlist(&swarm, &agent_id, reason);
                if self
                    .swarms
                    .get(&swarm)
                    .is_some_and(|s| s.members.is_empty())
                {
                    self.swarms.remove(&swarm);
                }
            }
        }
    }

    fn unlist(&mut self, swarm: &SwarmName, agent_id: &AgentId, reason: LeftReason) {
        let state = self.swarms.get_mut(swarm);
        let Some(member) = state.and_then(|s| s.members.remove(agent_id)) else {
            return;
        };
        let session = member.session;
        let metadata = json!({ "reason": reason, "session": session });
        self.note(swarm, "agent_left", Some(agent_id), metadata);
        let left = ServerFrame::AgentLeft {
            agent_id: agent_id.clone(),
            session,
            reason,
        };
        self.tell_others(swarm, agent_id, &left);
    }

    fn tell_others(&mut self, swarm: &SwarmName, agent_id: &AgentId, frame: &ServerFrame) {
        // Written once; what is queued per connection shares it.
        let text = Utf8Bytes::from(frame.to_text());
        let members = self.swarms.get(swarm).map(|s| &s.members);
        for (_, member) in members
            .into_iter()
            .flatten()
            .filter(|(id, _)| *id != agent_id)
        {
            self.effects.push(Effect::Send {
                conn: member.conn,
                text: text.clone(),
            });
        }
    }

    fn send(&mut self, conn: ConnId, frame: &ServerFrame) {
        let text = frame.to_text().into();
        self.effects.push(Effect::Send { conn, text });
    }

    fn note_started(&mut self, swarm: &SwarmName) {
        let admission = match self.rules.admission {
            Admission::Rosters(_) => "roster",
            Admission::Open => "open",
        };
        let metadata = json!({ "admission": admission, "listen": self.rules.listen });
        self.note(swarm, "signaling_server_started", None, metadata);
    }

    fn note(
        &mut self,
        swarm: &SwarmName,
        event: &'static str,
        peer: Option<&AgentId>,
        metadata: Value,
    ) {
        if self.rules.witness.is_some() {
            self.effects.push(Effect::Witness(WitnessNote {
                swarm: swarm.clone(),
                event,
                peer: peer.cloned(),
                metadata,
            }));
        }
    }

    /// A stranger cannot make the server open a log for a swarm that nobody is in.
    fn has_log(&self, swarm: &SwarmName) -> bool {
        match &self.rules.admission {
            Admission::Rosters(rosters) => rosters.contains_key(swarm),
            Admission::Open => self.swarms.contains_key(swarm),
        }
    }

    fn is_registered(&self, conn: ConnId) -> bool {
        let state = self.conns.get(&conn).map(|c| &c.state);
        matches!(state, Some(State::Registered(_)))
    }
}

impl Member {
    fn as_peer(&self, agent_id: &AgentId) -> Peer {
        Peer {
            agent_id: agent_id.clone(),
            public_key: self.public_key,
            session: self.session,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            agents_per_swarm: AGENTS_PER_SWARM,
            swarms: SWARMS,
            unregistered: UNREGISTERED,
            register_within: Duration::from_secs(10),
            ping_every: Duration::from_secs(15),
            frames_per_second: FRAMES_PER_SECOND,
            frames_burst: FRAMES_BURST,
        }
    }
}

/// Where a frame says it comes from and goes.
struct Route<'a> {
    frame_type: &'static str,
    from: &'a AgentId,
    to: &'a AgentId,
    link: Option<LinkId>,
}

impl<'a> Route<'a> {
    fn new(
        frame_type: &'static str,
        from: &'a AgentId,
        to: &'a AgentId,
        link: Option<LinkId>,
    ) -> Self {
        Self {
            frame_type,
            from,
            to,
            link,
        }
    }
}

fn frame_type(frame: &ClientFrame) -> &'static str {
    match frame {
        ClientFrame::Register(_) => "register",
        ClientFrame::Offer(_) => "offer",
        ClientFrame::Answer(_) => "answer",
        ClientFrame::IceCandidates(_) => "ice-candidates",
        ClientFrame::PleaseOffer { .. } => "please-offer",
        ClientFrame::Goodbye(_) => "goodbye",
    }
}

fn unreadable(err: FrameError) -> ErrorFrame {
    let code = match err.reason {
        FrameReason::TooLarge => ErrorCode::TooLarge,
        FrameReason::Malformed | FrameReason::Schema | FrameReason::Unsigned => ErrorCode::BadFrame,
    };
    ErrorFrame {
        in_reply_to: err.frame_type.map(Into::into),
        to: err.to,
        link: err.link,
        ..error(code, err.detail)
    }
}

fn error(code: ErrorCode, message: impl Into<String>) -> ErrorFrame {
    ErrorFrame {
        code,
        message: message.into(),
        in_reply_to: None,
        to: None,
        link: None,
        session: None,
    }
}

/// A list of so many, with ids of full length, fits in one frame (about 300 bytes each).
const AGENTS_PER_SWARM: usize = 2048;
/// Swarms cost little; the bound keeps an open server from growing without end.
const SWARMS: usize = 1024;
/// Each may hold one frame of 1 MiB half received.
const UNREGISTERED: usize = 256;
/// Ids that came and went keep their key while their swarm lives; these many times the agents.
const PINS_PER_AGENT: usize = 4;
/// Of one connection, sustained (`wire.md`).
pub(super) const FRAMES_PER_SECOND: u32 = 100;
/// Of one connection, at once (`wire.md`).
pub(super) const FRAMES_BURST: u32 = 500;
