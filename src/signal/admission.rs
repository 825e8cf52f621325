//! Who may register with a server, and what the server bears.

use std::collections::BTreeMap;
use std::time::Duration;

use super::address::Names;
use super::errors::{ErrorCode, ErrorFrame};
use super::proof::{Later, Register};
use super::room::ConnId;
use super::wire::{IceServer, Peer};
use crate::identity::{AgentId, BadSignature, PublicKey, Roster, Session, SwarmName};
use crate::swarm::SdpDetail;

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
    /// Connections, registered or not.
    pub connections: usize,
    /// Of these, from one address. Of IPv6 the first 64 bits are one address.
    pub connections_per_address: usize,
    /// Connections that have not registered, and as many sockets that are shaking hands.
    pub unregistered: usize,
    /// Of these, from one address.
    pub unregistered_per_address: usize,
    /// How long a connection may take to register, TLS and all.
    pub register_within: Duration,
    /// How often a connection is pinged; one that shows no life until the next ping is dropped.
    pub ping_every: Duration,
    /// Frames a second that one connection may send.
    pub frames_per_second: u32,
    /// Frames that one connection may send at once.
    pub frames_burst: u32,
    /// Bytes a second that one connection may send.
    pub bytes_per_second: u32,
    /// Bytes that one connection may send at once.
    pub bytes_burst: u32,
    /// Bytes that wait for a client that does not read; over them it is dropped.
    pub queued_bytes: usize,
    /// Bytes that wait for all clients; over them whoever most waits for is dropped.
    pub queued_bytes_in_all: usize,
    /// How long a client may need to take one frame; then it is dropped.
    pub stalled_for: Duration,
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

/// Who of one swarm is registered.
#[derive(Debug, Default)]
pub(super) struct Swarm {
    pub(super) members: BTreeMap<AgentId, Member>,
    /// Without a roster: the first key seen of each id.
    pub(super) pins: BTreeMap<AgentId, PublicKey>,
    /// Who was registered and is not: the last registration of each, which others may go by still.
    pub(super) left: BTreeMap<AgentId, Later>,
}

#[derive(Debug)]
pub(super) struct Member {
    pub(super) conn: ConnId,
    pub(super) session: Session,
    /// Its registration, for an earlier session that comes later.
    pub(super) proof: Later,
    /// Itself as JSON, written once: each who registers is told of all members.
    pub(super) listed: Box<str>,
}

impl Rules {
    /// Whether a registration may be taken; the first rule that says no gives the code.
    pub(super) fn admit(
        &self,
        swarm: &SwarmName,
        swarms: &BTreeMap<SwarmName, Swarm>,
        register: &Register,
        proof: Result<(), BadSignature>,
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
            return Err(ErrorCode::BadFrame.because(message));
        }
        if !self.names.contain(server) {
            let message = format!(
                "signed for `{}`, which is no name of this server; if it should be, start the server with --name",
                server.escape_debug()
            );
            return Err(ErrorCode::WrongServer.because(message));
        }
        if let Err(err) = proof {
            return Err(ErrorCode::BadSignature.because(err.to_string()));
        }
        let state = swarms.get(swarm);
        match &self.admission {
            Admission::Rosters(rosters) => {
                let roster = rosters.get(swarm);
                if roster.is_some_and(|roster| roster.is_revoked(public_key)) {
                    let message = format!(
                        "this key is revoked in swarm `{swarm}`; make another with `ifswarm keygen`, and have it put into the server's swarm file in its place"
                    );
                    return Err(ErrorCode::NotAdmitted.because(message));
                }
                let known = roster.and_then(|roster| roster.key_of(agent_id));
                if known != Some(public_key) {
                    let message = format!(
                        "the roster of swarm `{swarm}` has no agent `{agent_id}` under this key; add it to the server's swarm file, or use the key that is in it"
                    );
                    return Err(ErrorCode::NotAdmitted.because(message));
                }
            }
            Admission::Open => {
                let pin = state.and_then(|s| s.pins.get(agent_id));
                if pin.is_some_and(|pin| pin != public_key) {
                    let message =
                        format!("`{agent_id}` is bound to another key; choose another id");
                    return Err(ErrorCode::IdTaken.because(message));
                }
            }
        }
        let current = state.and_then(|s| s.members.get(agent_id));
        let (latest, is) = match current {
            Some(member) => (Some(&member.proof), "is connected"),
            // Its peers know the session, and would not hear of an older one.
            None => (state.and_then(|s| s.left.get(agent_id)), "was connected"),
        };
        if let Some(latest) = latest.filter(|latest| latest.session > *session) {
            let message = format!("a later session of `{agent_id}` {is}");
            let mut refusal = ErrorCode::OlderSession.because(message);
            refusal.session = Some(latest.session);
            // Without it the agent would have to take our word.
            refusal.later = Some(Box::new(latest.clone()));
            return Err(refusal);
        }
        let limits = &self.limits;
        let full = match state {
            None => swarms.len() >= limits.swarms,
            Some(_) if current.is_some() => false,
            Some(state) => {
                let pins = limits.agents_per_swarm.saturating_mul(PINS_PER_AGENT);
                state.members.len() >= limits.agents_per_swarm
                    || (state.pins.len() >= pins && !state.pins.contains_key(agent_id))
            }
        };
        if full {
            let message = "no room for another agent or swarm; try again later, or another server";
            return Err(ErrorCode::ServerFull.because(message));
        }
        Ok(())
    }
}

impl Member {
    /// Who registered on `conn`, with this proof of it.
    pub(super) fn new(conn: ConnId, register: &Register, proof: Later) -> Self {
        let peer = Peer {
            agent_id: register.agent_id.clone(),
            public_key: register.public_key,
            session: register.session,
        };
        Self {
            conn,
            session: register.session,
            proof,
            listed: peer.to_text().into(),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            agents_per_swarm: AGENTS_PER_SWARM,
            swarms: SWARMS,
            connections: CONNECTIONS,
            connections_per_address: CONNECTIONS_PER_ADDRESS,
            unregistered: UNREGISTERED,
            unregistered_per_address: UNREGISTERED_PER_ADDRESS,
            register_within: Duration::from_secs(10),
            ping_every: Duration::from_secs(15),
            frames_per_second: FRAMES_PER_SECOND,
            frames_burst: FRAMES_BURST,
            bytes_per_second: BYTES_PER_SECOND,
            bytes_burst: BYTES_BURST,
            queued_bytes: QUEUED_BYTES,
            queued_bytes_in_all: QUEUED_BYTES_IN_ALL,
            stalled_for: STALLED_FOR,
        }
    }
}

/// A list of so many, with ids of full length, fits in one frame (about 300 bytes each).
const AGENTS_PER_SWARM: usize = 2048;
/// Swarms cost little; the bound keeps an open server from growing without end.
const SWARMS: usize = 1024;
/// Each costs some 50 KiB with its buffers and TLS, half a GiB in all; and its buffers stay as large as
/// the largest frames that it sent and was sent, 2 MiB at most.
const CONNECTIONS: usize = 10_000;
/// A full swarm behind one address, twice, since a connection that was replaced lives on for a moment.
const CONNECTIONS_PER_ADDRESS: usize = 2 * AGENTS_PER_SWARM;
/// Each holds its buffers and 16 KiB of what it sent: 50 MiB in all.
const UNREGISTERED: usize = 1024;
/// As many of one host as register at once, and a quarter of all places.
const UNREGISTERED_PER_ADDRESS: usize = 256;
/// Ids that came and went keep their key while their swarm lives; these many times the agents.
const PINS_PER_AGENT: usize = 4;
/// Of one connection, sustained (`wire.md`).
pub(super) const FRAMES_PER_SECOND: u32 = 100;
/// Of one connection, at once (`wire.md`).
pub(super) const FRAMES_BURST: u32 = 500;
/// Of one connection, sustained: twice what 100 offers of a few KiB need.
pub(super) const BYTES_PER_SECOND: u32 = 1024 * 1024;
/// Of one connection, at once: a burst of 500 offers with room to spare, and half of what may wait
/// for whom they are sent to, so that no one member can drown another.
pub(super) const BYTES_BURST: u32 = 8 * 1024 * 1024;
/// Enough for 2,048 offers of a few KiB; what one client that does not read can cost.
const QUEUED_BYTES: usize = 16 * 1024 * 1024;
/// As much as the connections themselves cost, and 32 times what one client can.
const QUEUED_BYTES_IN_ALL: usize = 512 * 1024 * 1024;
/// Twice the time from ping to ping: who reads slowly, but reads, has taken a frame by then.
const STALLED_FOR: Duration = Duration::from_secs(30);
