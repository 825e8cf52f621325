//! A room without sockets or clock, and words for what it does.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::time::Instant;

use super::address::Names;
use super::admission::Rules;
use super::intake::{Came, Intake};
use super::room::{Arrival, ConnId, Effect, Input, Room};
use super::*;
use crate::identity::{KeyPair, LinkId, Roster, Session, SwarmName};

pub(super) const SERVER: &str = "127.0.0.1:7";
pub(super) const NOBODY: [ConnId; 0] = [];

pub(super) struct World {
    pub(super) room: Room,
    pub(super) now: Instant,
    pub(super) connections: ConnId,
    limits: Limits,
    intakes: HashMap<ConnId, Intake>,
    /// What the room did on being opened.
    pub(super) opened: Vec<Effect>,
}

pub(super) fn key(seed: u8) -> KeyPair {
    KeyPair::from_secret(&[seed; 32])
}

pub(super) fn session(ms: u64) -> Session {
    Session::new(ms, [7; 10])
}

pub(super) fn swarm(name: &str) -> SwarmName {
    name.parse().unwrap()
}

pub(super) fn link() -> LinkId {
    LinkId::from_bytes([1; 8])
}

pub(super) fn nonce(conn: ConnId) -> Nonce {
    Nonce::from_bytes([conn as u8; 32])
}

/// An honest registration of `id` under the key of `seed`.
pub(super) fn registration(conn: ConnId, id: &str, seed: u8, ms: u64) -> Register {
    Register::sign(
        swarm("five"),
        id.parse().unwrap(),
        session(ms),
        SERVER.into(),
        &nonce(conn),
        &key(seed),
    )
}

pub(super) fn please_offer(from: &str, to: &str) -> ClientFrame {
    ClientFrame::PleaseOffer {
        from: from.parse().unwrap(),
        to: to.parse().unwrap(),
    }
}

pub(super) fn offer(from: &str, to: &str, sdp: &str) -> ClientFrame {
    let body = SdpBody {
        swarm: swarm("five"),
        from: from.parse().unwrap(),
        to: to.parse().unwrap(),
        session: session(1),
        to_session: session(1),
        link: link(),
        kind: SdpKind::Offer,
        sdp: sdp.into(),
    };
    SdpFrame::sign(body, &key(1)).into()
}

pub(super) fn rules(admission: Admission, limits: Limits) -> Rules {
    Rules {
        admission,
        names: Names::new(SERVER.parse().unwrap(), &[]).unwrap(),
        ice_servers: Vec::new(),
        limits,
        listen: SERVER.into(),
        witness: Some(crate::swarm::SdpDetail::Full),
    }
}

impl World {
    pub(super) fn new(admission: Admission, limits: Limits) -> Self {
        let now = Instant::now();
        let (room, opened) = Room::open(rules(admission, limits), now);
        Self {
            room,
            now,
            connections: 0,
            limits,
            intakes: HashMap::new(),
            opened,
        }
    }

    pub(super) fn open() -> Self {
        Self::new(Admission::Open, Limits::default())
    }

    /// With `a` under key 1 and `b` under key 2.
    pub(super) fn with_roster() -> Self {
        let agents = [("a", 1), ("b", 2)];
        let agents = agents.map(|(id, seed)| (id.parse().unwrap(), key(seed).public_key()));
        let rosters = BTreeMap::from([(swarm("five"), Roster::new(agents).unwrap())]);
        Self::new(Admission::Rosters(rosters), Limits::default())
    }

    pub(super) fn handle(&mut self, conn: ConnId, input: Input) -> Vec<Effect> {
        self.room.handle(conn, input, self.now)
    }

    pub(super) fn say(&mut self, conn: ConnId, frame: &ClientFrame) -> Vec<Effect> {
        self.hear(conn, Came::Text(frame.to_text().into()))
    }

    /// Something comes on a connection.
    pub(super) fn hear(&mut self, conn: ConnId, came: Came) -> Vec<Effect> {
        let intake = self.intakes.get_mut(&conn).expect("it is connected");
        let input = intake.take(came, self.now);
        input.map_or_else(Vec::new, |input| self.handle(conn, input))
    }

    pub(super) fn connect_to(&mut self, name: &str) -> (ConnId, Vec<Effect>) {
        self.connect_from("127.0.0.1", name)
    }

    pub(super) fn connect_from(&mut self, address: &str, name: &str) -> (ConnId, Vec<Effect>) {
        self.connections += 1;
        let conn = self.connections;
        let intake = Intake::new(self.limits, swarm(name), nonce(conn), self.now);
        self.intakes.insert(conn, intake);
        let arrival = Arrival {
            swarm: swarm(name),
            nonce: nonce(conn),
            network: address.parse::<IpAddr>().unwrap().into(),
            since: self.now,
        };
        (conn, self.handle(conn, Input::Connected(arrival)))
    }

    pub(super) fn connect(&mut self) -> ConnId {
        self.connect_to("five").0
    }

    pub(super) fn register(&mut self, id: &str, seed: u8, ms: u64) -> (ConnId, Vec<Effect>) {
        let conn = self.connect();
        let frame = ClientFrame::Register(registration(conn, id, seed, ms));
        (conn, self.say(conn, &frame))
    }

    pub(super) fn join(&mut self, id: &str, seed: u8) -> ConnId {
        let (conn, effects) = self.register(id, seed, 1);
        assert!(closed(&effects).is_empty(), "{effects:?}");
        conn
    }
}

/// What was sent to whom, as `CONN type[:detail]`.
pub(super) fn sent(effects: &[Effect]) -> Vec<String> {
    let describe = |effect: &Effect| {
        let Effect::Send { conn, text } = effect else {
            return None;
        };
        let frame = ServerFrame::parse(text.as_bytes()).unwrap();
        Some(match frame {
            ServerFrame::Challenge { .. } => format!("{conn} challenge"),
            ServerFrame::Registered(_) => format!("{conn} registered"),
            ServerFrame::AgentJoined { agent } => format!("{conn} joined:{}", agent.agent_id),
            ServerFrame::AgentLeft {
                agent_id, reason, ..
            } => format!("{conn} left:{agent_id}:{reason:?}"),
            ServerFrame::Error(error) => format!("{conn} error:{}", error.code),
            _ => format!("{conn} relayed"),
        })
    };
    effects.iter().filter_map(describe).collect()
}

pub(super) fn closed(effects: &[Effect]) -> Vec<ConnId> {
    let close = |effect: &Effect| match effect {
        Effect::Close { conn } => Some(*conn),
        _ => None,
    };
    effects.iter().filter_map(close).collect()
}

pub(super) fn noted(effects: &[Effect]) -> Vec<&'static str> {
    let note = |effect: &Effect| match effect {
        Effect::Witness(note) => Some(note.event),
        _ => None,
    };
    effects.iter().filter_map(note).collect()
}

pub(super) fn error(effects: &[Effect]) -> ErrorFrame {
    let errors = effects.iter().filter_map(|effect| match effect {
        Effect::Send { text, .. } => match ServerFrame::parse(text.as_bytes()) {
            Ok(ServerFrame::Error(error)) => Some(error),
            _ => None,
        },
        _ => None,
    });
    errors
        .last()
        .unwrap_or_else(|| panic!("no error in {effects:?}"))
}
