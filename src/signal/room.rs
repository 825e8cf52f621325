//! What one signaling server knows and decides: who is connected, who may register, who is told
//! (`wire.md`, section *Signaling*).
//!
//! Pure: [`Room::handle`] takes what happened on a connection and the time, and returns what is to be
//! done, in order. It owns no socket, reads no clock and makes no nonce.

use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::admission::{Admission, Limits, Member, Rules, Swarm};
use super::bucket::Bucket;
use super::errors::{ErrorCode, ErrorFrame, FrameReason};
use super::proof::{Goodbye, Nonce, Register};
use super::sdp::{SdpFrame, SdpKind};
use super::wire::{Candidates, ClientFrame, LeftReason, PROTOCOL, Registered, ServerFrame};
use crate::identity::{AgentId, LinkId, SwarmName};

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
            Input::Broken { code, detail } => {
                self.refuse(conn, code.because(detail), true);
            }
            Input::Text(text) => {
                if self.within_rate(conn, now) {
                    self.text(conn, text);
                }
            }
            Input::Binary => {
                if self.within_rate(conn, now) {
                    let message = "a binary frame; signaling speaks JSON in text frames";
                    let close = !self.is_registered(conn);
                    self.refuse(conn, ErrorCode::BadFrame.because(message), close);
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
                &ServerFrame::Error(ErrorCode::ServerFull.because(message)),
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
            self.refuse(conn, ErrorCode::NotRegistered.because(message), true);
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
        self.refuse(conn, ErrorCode::RateLimited.because(message), true);
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
                self.refuse(conn, err.into(), close);
                return;
            }
        };
        let me = match (state, &frame) {
            (State::Registered(me), _) => me,
            (State::Challenged(nonce), ClientFrame::Register(register)) => {
                return self.register(conn, &swarm, &nonce, register);
            }
            (State::Challenged(_), frame) => {
                let refusal = ErrorCode::NotRegistered.because("the first frame is `register`");
                return self.refuse(conn, refusal.in_reply_to(frame.frame_type()), true);
            }
        };
        let outcome = match &frame {
            ClientFrame::Register(_) => {
                let message = format!("this connection registered as `{me}` already; open another");
                Err(ErrorCode::BadFrame.because(message))
            }
            ClientFrame::Goodbye(goodbye) => self.goodbye(conn, &swarm, &me, goodbye),
            ClientFrame::IceCandidates(Candidates { from, to, link, .. }) => {
                self.relay(&swarm, &me, from, to, Some(*link), text)
            }
            ClientFrame::PleaseOffer { from, to } => self.relay(&swarm, &me, from, to, None, text),
            ClientFrame::Offer(sdp) | ClientFrame::Answer(sdp) => {
                self.relay_sdp(&swarm, &me, sdp, text)
            }
        };
        if let Err(refusal) = outcome {
            self.refuse(conn, refusal.in_reply_to(frame.frame_type()), false);
        }
    }

    fn register(&mut self, conn: ConnId, swarm: &SwarmName, nonce: &Nonce, register: &Register) {
        let admitted = self.rules.admit(swarm, &self.swarms, nonce, register);
        if let Err(refusal) = admitted {
            if self.has_log(swarm) {
                let metadata = json!({ "code": refusal.code, "public_key": register.public_key });
                let claimed = Some(&register.agent_id);
                self.note(swarm, "registration_refused", claimed, metadata);
            }
            self.refuse(conn, refusal.in_reply_to("register"), true);
            return;
        }
        let agent_id = &register.agent_id;
        let (public_key, session) = (register.public_key, register.session);
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
        self.replace(swarm, agent_id);

        let metadata = json!({ "public_key": public_key, "session": session });
        self.note(swarm, "agent_registered", Some(agent_id), metadata);
        let state = self.swarms.entry(swarm.clone()).or_default();
        let connected_agents = state.members.iter().map(|(id, m)| m.as_peer(id)).collect();
        let member = Member {
            conn,
            public_key,
            session,
        };
        let agent = member.as_peer(agent_id);
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
        self.tell_others(swarm, agent_id, &ServerFrame::AgentJoined { agent });
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
            &ServerFrame::Error(ErrorCode::Replaced.because(message)),
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
            return Err(ErrorCode::BadSignature.because(message));
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
        let conn = self.route(swarm, me, &frame.from, &frame.to, Some(frame.link))?;
        if let Some(detail) = self.rules.witness {
            let mut metadata = frame.witness_metadata(detail);
            metadata["link"] = json!(frame.link);
            metadata["to"] = json!(frame.to);
            let event = match frame.kind {
                SdpKind::Offer => "sdp_offer_relayed",
                SdpKind::Answer => "sdp_answer_relayed",
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
        from: &AgentId,
        to: &AgentId,
        link: Option<LinkId>,
        text: Utf8Bytes,
    ) -> Result<(), ErrorFrame> {
        let conn = self.route(swarm, me, from, to, link)?;
        self.effects.push(Effect::Send { conn, text });
        Ok(())
    }

    fn route(
        &self,
        swarm: &SwarmName,
        me: &AgentId,
        from: &AgentId,
        to: &AgentId,
        link: Option<LinkId>,
    ) -> Result<ConnId, ErrorFrame> {
        let members = self.swarms.get(swarm).map(|s| &s.members);
        let refusal = if from != me {
            let message = format!("`from` is `{from}`, but this connection is `{me}`");
            ErrorCode::NotYours.because(message)
        } else if let Some(member) = members.and_then(|members| members.get(to)) {
            return Ok(member.conn);
        } else {
            let message = format!("`{to}` is not registered in swarm `{swarm}`");
            ErrorCode::UnknownPeer.because(message)
        };
        Err(ErrorFrame {
            to: Some(to.clone()),
            link,
            ..refusal
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
