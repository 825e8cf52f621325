//! What one signaling server knows and decides: who is connected, who may register, who is told
//! (`wire.md`, section *Signaling*).
//!
//! Pure: [`Room::handle`] takes what happened on a connection and the time, and returns what is to be
//! done, in order. It owns no socket, reads no clock and makes no nonce. Frames come to it read and
//! checked as far as one connection can know (`intake`), since it is held under a lock.

use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

use serde_json::json;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::admission::{Admission, Member, Rules, Swarm};
use super::census::Census;
use super::crowd::{Crowd, Full, Network};
use super::errors::{ErrorCode, ErrorFrame};
use super::line::Line;
use super::notes::{Refusals, WitnessNote};
use super::proof::{Goodbye, Later, Nonce, Register};
use super::traffic::Traffic;
use super::wire::{Candidates, ClientFrame, LeftReason, PROTOCOL, Peer, Registered, ServerFrame};
use crate::identity::{AgentId, BadSignature, SwarmName};

/// One connection; never used again.
pub(super) type ConnId = u64;

/// What happened on a connection.
#[derive(Debug)]
pub(super) enum Input {
    /// It was made.
    Connected(Arrival),
    /// A frame came.
    Frame(Box<Heard>),
    /// Something came that is not to be acted upon.
    Bad {
        refusal: ErrorFrame,
        /// Whether the connection ends over it even if it registered.
        close: bool,
    },
    /// Time passed.
    Tick,
    /// It ended.
    Closed,
}

/// A connection that was made.
#[derive(Debug)]
pub(super) struct Arrival {
    /// The swarm of its path.
    pub(super) swarm: SwarmName,
    /// What it is challenged with.
    pub(super) nonce: Nonce,
    pub(super) network: Network,
    /// When the time to register began.
    pub(super) since: Instant,
}

/// A frame, read and checked.
#[derive(Debug)]
pub(super) struct Heard {
    /// As it came: this is what is relayed.
    pub(super) text: Utf8Bytes,
    pub(super) frame: ClientFrame,
    /// Whether a registration or goodbye is signed by who claims it; for others it is good.
    pub(super) proof: Result<(), BadSignature>,
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
    pub(super) rules: Rules,
    conns: HashMap<ConnId, Conn>,
    /// All of `conns`.
    connected: Crowd,
    /// Those of `conns` that have not registered.
    unregistered: Crowd,
    /// Those for whom there was no place.
    pub(super) line: Line,
    pub(super) refusals: Refusals,
    pub(super) traffic: Traffic,
    pub(super) swarms: BTreeMap<SwarmName, Swarm>,
    pub(super) effects: Vec<Effect>,
}

#[derive(Debug)]
struct Conn {
    swarm: SwarmName,
    network: Network,
    since: Instant,
    nonce: Nonce,
    state: State,
}

#[derive(Debug, Clone)]
enum State {
    Challenged,
    Registered(AgentId),
}

impl Room {
    /// An empty room, and the notes with which it opens.
    pub(super) fn open(rules: Rules, now: Instant) -> (Self, Vec<Effect>) {
        let limits = &rules.limits;
        let mut room = Self {
            conns: HashMap::new(),
            connected: Crowd::new(limits.connections, limits.connections_per_address),
            unregistered: Crowd::new(limits.unregistered, limits.unregistered_per_address),
            line: Line::new(now),
            refusals: Refusals::new(now),
            traffic: Traffic::default(),
            rules,
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
        let came = matches!(input, Input::Frame(_) | Input::Bad { .. });
        self.traffic.received += u64::from(came);
        match input {
            Input::Connected(arrival) => self.connected(conn, arrival, now),
            Input::Closed => self.leave(conn, LeftReason::Lost),
            Input::Tick => self.tick(conn, now),
            Input::Frame(heard) => self.frame(conn, *heard, now),
            Input::Bad { refusal, close } => {
                let close = close || !self.is_registered(conn);
                self.refuse(conn, refusal, close);
            }
        }
        std::mem::take(&mut self.effects)
    }

    /// What of it is held here.
    pub(super) fn census(&self) -> Census {
        let swarms = self.swarms.values();
        Census {
            // Both, so that what one of them forgets shows.
            connections: self.conns.len().max(self.connected.len()),
            unregistered: self.unregistered.len(),
            addresses: self.connected.networks().max(self.unregistered.networks()),
            swarms: self.swarms.len(),
            agents: swarms.clone().map(|swarm| swarm.members.len()).sum(),
            bound_ids: swarms.clone().map(|swarm| swarm.pins.len()).sum(),
            left: swarms.map(|swarm| swarm.left.len()).sum(),
            ..Census::default()
        }
    }

    /// Whether the connection was made and not closed since.
    pub(super) fn knows(&self, conn: ConnId) -> bool {
        self.conns.contains_key(&conn)
    }

    fn connected(&mut self, conn: ConnId, arrival: Arrival, now: Instant) {
        let Arrival {
            swarm,
            nonce,
            network,
            since,
        } = arrival;
        if let Err(full) = self.enter(network) {
            let message = match full {
                Full::All => "no place for another connection; try again in a few seconds",
                Full::Network => {
                    "too many connections from your address; close some, or try again in a few seconds"
                }
            };
            let refusal = ErrorCode::ServerFull.because(message);
            let refusal = refusal.after(self.line.place(now));
            self.traffic.refused(refusal.code);
            self.send(conn, &ServerFrame::Error(refusal));
            self.effects.push(Effect::Close { conn });
            return;
        }
        self.traffic.connections += 1;
        let state = State::Challenged;
        self.conns.insert(
            conn,
            Conn {
                swarm,
                network,
                nonce,
                since,
                state,
            },
        );
        let protocol = PROTOCOL.to_string();
        self.send(conn, &ServerFrame::Challenge { nonce, protocol });
    }

    fn enter(&mut self, network: Network) -> Result<(), Full> {
        self.connected.enter(network)?;
        let entered = self.unregistered.enter(network);
        if entered.is_err() {
            self.connected.leave(network);
        }
        entered
    }

    fn tick(&mut self, conn: ConnId, now: Instant) {
        let within = self.rules.limits.register_within;
        let late = self.conns.get(&conn).is_some_and(|c| {
            matches!(c.state, State::Challenged) && now.saturating_duration_since(c.since) >= within
        });
        if late {
            let message = format!("no `register` came within {} s", within.as_secs());
            self.refuse(conn, ErrorCode::NotRegistered.because(message), true);
        }
    }

    fn frame(&mut self, conn: ConnId, heard: Heard, now: Instant) {
        let Some(Conn { state, swarm, .. }) = self.conns.get(&conn) else {
            return;
        };
        let (state, swarm) = (state.clone(), swarm.clone());
        let Heard { text, frame, proof } = heard;
        let me = match (state, &frame) {
            (State::Registered(me), _) => me,
            (State::Challenged, ClientFrame::Register(register)) => {
                return self.register(conn, &swarm, register, proof, now);
            }
            (State::Challenged, frame) => {
                let refusal = ErrorCode::NotRegistered.because("the first frame is `register`");
                return self.refuse(conn, refusal.in_reply_to(frame.frame_type()), true);
            }
        };
        let outcome = match &frame {
            ClientFrame::Register(_) => {
                let message = format!("this connection registered as `{me}` already; open another");
                Err(ErrorCode::BadFrame.because(message))
            }
            ClientFrame::Goodbye(goodbye) => self.goodbye(conn, &swarm, &me, goodbye, proof),
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

    fn register(
        &mut self,
        conn: ConnId,
        swarm: &SwarmName,
        register: &Register,
        proof: Result<(), BadSignature>,
        now: Instant,
    ) {
        let admitted = self.rules.admit(swarm, &self.swarms, register, proof);
        if let Err(refusal) = admitted {
            self.note_refused(swarm, register, refusal.code, now);
            let refusal = match refusal.code {
                ErrorCode::ServerFull => refusal.after(self.line.place(now)),
                _ => refusal,
            };
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
            self.unregistered.leave(c.network);
        }
        let Some(proof) = self.conns.get(&conn).map(|c| register.as_later(&c.nonce)) else {
            return;
        };
        self.replace(swarm, agent_id, &proof);
        self.traffic.registrations += 1;

        let metadata = json!({ "public_key": public_key, "session": session });
        self.note(swarm, "agent_registered", Some(agent_id), metadata);
        let state = self.swarms.entry(swarm.clone()).or_default();
        let others = state.members.values().map(|member| &*member.listed);
        let registered = Registered::text(agent_id, others, &self.rules.ice_servers);
        let member = Member::new(conn, register, proof);
        let joined = Peer::joined(&member.listed);
        state.left.remove(agent_id);
        state.members.insert(agent_id.clone(), member);
        if matches!(self.rules.admission, Admission::Open) {
            state.pins.insert(agent_id.clone(), public_key);
        }
        let text = registered.into();
        self.effects.push(Effect::Send { conn, text });
        self.tell_others(swarm, agent_id, joined);
    }

    /// Ends the earlier connection of an agent that registers again.
    fn replace(&mut self, swarm: &SwarmName, agent_id: &AgentId, by: &Later) {
        let state = self.swarms.get(swarm);
        let Some(earlier) = state.and_then(|s| s.members.get(agent_id)) else {
            return;
        };
        let conn = earlier.conn;
        let message = "an equal or later session of this agent registered elsewhere";
        self.traffic.refused(ErrorCode::Replaced);
        let is_later = by.session > earlier.session;
        let replaced = ErrorFrame {
            // Without it the agent would have to take our word.
            later: is_later.then(|| Box::new(by.clone())),
            ..ErrorCode::Replaced.because(message)
        };
        self.send(conn, &ServerFrame::Error(replaced));
        self.effects.push(Effect::Close { conn });
        // The swarm outlives this moment, and with it what it pinned: the agent comes back at once.
        if let Some(c) = self.conns.remove(&conn) {
            self.connected.leave(c.network);
        }
        self.unlist(swarm, agent_id, LeftReason::Replaced);
    }

    fn goodbye(
        &mut self,
        conn: ConnId,
        swarm: &SwarmName,
        me: &AgentId,
        goodbye: &Goodbye,
        proof: Result<(), BadSignature>,
    ) -> Result<(), ErrorFrame> {
        let member = self.swarms.get(swarm).and_then(|s| s.members.get(me));
        let mine = member.is_some_and(|member| member.session == goodbye.session);
        if !mine || proof.is_err() {
            let message = "the goodbye is not signed by this agent for this session";
            return Err(ErrorCode::BadSignature.because(message));
        }
        self.leave(conn, LeftReason::Goodbye);
        self.effects.push(Effect::Close { conn });
        Ok(())
    }

    fn refuse(&mut self, conn: ConnId, refusal: ErrorFrame, close: bool) {
        if !self.knows(conn) {
            return;
        }
        self.traffic.refused(refusal.code);
        self.send(conn, &ServerFrame::Error(refusal));
        if close {
            self.leave(conn, LeftReason::Lost);
            self.effects.push(Effect::Close { conn });
        }
    }

    /// Forgets a connection, and tells the others if it was somebody's.
    fn leave(&mut self, conn: ConnId, reason: LeftReason) {
        let Some(Conn {
            swarm,
            network,
            state,
            ..
        }) = self.conns.remove(&conn)
        else {
            return;
        };
        self.connected.leave(network);
        match state {
            State::Challenged => self.unregistered.leave(network),
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
        if let Some(state) = self.swarms.get_mut(swarm) {
            // With a roster as many as it has, without one as many as are bound to a key.
            state.left.insert(agent_id.clone(), member.proof);
        }
        let metadata = json!({ "reason": reason, "session": session });
        self.note(swarm, "agent_left", Some(agent_id), metadata);
        let left = ServerFrame::AgentLeft {
            agent_id: agent_id.clone(),
            session,
            reason,
        };
        self.tell_others(swarm, agent_id, left.to_text());
    }

    fn tell_others(&mut self, swarm: &SwarmName, agent_id: &AgentId, frame: String) {
        // Written once; what is queued per connection shares it.
        let text = Utf8Bytes::from(frame);
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

    fn is_registered(&self, conn: ConnId) -> bool {
        let state = self.conns.get(&conn).map(|c| &c.state);
        matches!(state, Some(State::Registered(_)))
    }
}
