//! The rules of the room, one by one, without sockets or clock.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::json;

use super::address::Names;
use super::admission::Rules;
use super::room::{ConnId, Effect, Input, Room};
use super::*;
use crate::identity::{KeyPair, LinkId, Roster, Session, SwarmName};

const SERVER: &str = "127.0.0.1:7";
const NOBODY: [ConnId; 0] = [];

struct World {
    room: Room,
    now: Instant,
    connections: ConnId,
    /// What the room did on being opened.
    opened: Vec<Effect>,
}

fn key(seed: u8) -> KeyPair {
    KeyPair::from_secret(&[seed; 32])
}

fn session(ms: u64) -> Session {
    Session::new(ms, [7; 10])
}

fn swarm(name: &str) -> SwarmName {
    name.parse().unwrap()
}

fn link() -> LinkId {
    LinkId::from_bytes([1; 8])
}

fn nonce(conn: ConnId) -> Nonce {
    Nonce::from_bytes([conn as u8; 32])
}

/// An honest registration of `id` under the key of `seed`.
fn registration(conn: ConnId, id: &str, seed: u8, ms: u64) -> Register {
    Register::sign(
        swarm("five"),
        id.parse().unwrap(),
        session(ms),
        SERVER.into(),
        &nonce(conn),
        &key(seed),
    )
}

fn please_offer(from: &str, to: &str) -> ClientFrame {
    ClientFrame::PleaseOffer {
        from: from.parse().unwrap(),
        to: to.parse().unwrap(),
    }
}

fn offer(from: &str, to: &str, sdp: &str) -> ClientFrame {
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

impl World {
    fn new(admission: Admission, limits: Limits) -> Self {
        let (room, opened) = Room::open(Rules {
            admission,
            names: Names::new(SERVER.parse().unwrap(), &[]).unwrap(),
            ice_servers: Vec::new(),
            limits,
            listen: SERVER.into(),
            witness: Some(SdpDetail::Full),
        });
        Self {
            room,
            now: Instant::now(),
            connections: 0,
            opened,
        }
    }

    fn open() -> Self {
        Self::new(Admission::Open, Limits::default())
    }

    /// With `a` under key 1 and `b` under key 2.
    fn with_roster() -> Self {
        let agents = [("a", 1), ("b", 2)];
        let agents = agents.map(|(id, seed)| (id.parse().unwrap(), key(seed).public_key()));
        let rosters = BTreeMap::from([(swarm("five"), Roster::new(agents).unwrap())]);
        Self::new(Admission::Rosters(rosters), Limits::default())
    }

    fn handle(&mut self, conn: ConnId, input: Input) -> Vec<Effect> {
        self.room.handle(conn, input, self.now)
    }

    fn say(&mut self, conn: ConnId, frame: &ClientFrame) -> Vec<Effect> {
        self.handle(conn, Input::Text(frame.to_text().into()))
    }

    fn connect_to(&mut self, name: &str) -> (ConnId, Vec<Effect>) {
        self.connections += 1;
        let conn = self.connections;
        let input = Input::Connected {
            swarm: swarm(name),
            nonce: nonce(conn),
        };
        (conn, self.handle(conn, input))
    }

    fn connect(&mut self) -> ConnId {
        self.connect_to("five").0
    }

    fn register(&mut self, id: &str, seed: u8, ms: u64) -> (ConnId, Vec<Effect>) {
        let conn = self.connect();
        let frame = ClientFrame::Register(registration(conn, id, seed, ms));
        (conn, self.say(conn, &frame))
    }

    fn join(&mut self, id: &str, seed: u8) -> ConnId {
        let (conn, effects) = self.register(id, seed, 1);
        assert!(closed(&effects).is_empty(), "{effects:?}");
        conn
    }
}

/// What was sent to whom, as `CONN type[:detail]`.
fn sent(effects: &[Effect]) -> Vec<String> {
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

fn closed(effects: &[Effect]) -> Vec<ConnId> {
    let close = |effect: &Effect| match effect {
        Effect::Close { conn } => Some(*conn),
        _ => None,
    };
    effects.iter().filter_map(close).collect()
}

fn noted(effects: &[Effect]) -> Vec<&'static str> {
    let note = |effect: &Effect| match effect {
        Effect::Witness(note) => Some(note.event),
        _ => None,
    };
    effects.iter().filter_map(note).collect()
}

fn error(effects: &[Effect]) -> ErrorFrame {
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

#[test]
fn who_registers_learns_of_the_others_and_they_of_it() {
    let mut world = World::open();
    let (a, effects) = world.connect_to("five");
    assert_eq!(sent(&effects), ["1 challenge"]);
    let frame = ClientFrame::Register(registration(a, "a", 1, 1));
    let effects = world.say(a, &frame);
    assert_eq!(sent(&effects), ["1 registered"]);
    assert_eq!(
        noted(&effects),
        ["signaling_server_started", "agent_registered"]
    );
    let (_, effects) = world.register("b", 2, 1);
    assert_eq!(sent(&effects), ["2 registered", "1 joined:b"]);
    assert_eq!(noted(&effects), ["agent_registered"]);
    let Some(Effect::Send { text, .. }) = effects.get(1) else {
        panic!("{effects:?}")
    };
    let Ok(ServerFrame::Registered(registered)) = ServerFrame::parse(text.as_bytes()) else {
        panic!("{text}")
    };
    let peer = Peer {
        agent_id: "a".parse().unwrap(),
        public_key: key(1).public_key(),
        session: session(1),
    };
    assert_eq!(registered.connected_agents, [peer]);
}

#[test]
fn every_refused_registration_has_its_code_and_is_closed_and_noted() {
    let cases: [(&str, fn() -> World, fn(&mut Register)); 7] = [
        ("wrong-server", World::open, |r| r.server = "evil:7".into()),
        ("bad-frame", World::open, |r| r.swarm = swarm("other")),
        ("bad-signature", World::open, |r| r.session = session(2)),
        ("bad-signature", World::with_roster, |r| {
            r.public_key = key(9).public_key()
        }),
        ("not-admitted", World::with_roster, |r| {
            *r = registration(2, "c", 3, 1)
        }),
        ("not-admitted", World::with_roster, |r| {
            *r = registration(2, "a", 2, 1)
        }),
        ("id-taken", World::open, |r| *r = registration(2, "b", 3, 1)),
    ];
    for (code, world, change) in cases {
        let mut world = world();
        world.join("b", 2);
        let conn = world.connect();
        let mut register = registration(conn, "a", 1, 1);
        change(&mut register);
        let effects = world.say(conn, &ClientFrame::Register(register));
        assert_eq!(error(&effects).code.as_str(), code);
        assert_eq!(error(&effects).in_reply_to.as_deref(), Some("register"));
        assert_eq!(closed(&effects), [conn], "{code}");
        assert_eq!(noted(&effects), ["registration_refused"], "{code}");
    }
}

#[test]
fn a_registration_of_another_connection_is_no_registration_here() {
    let mut world = World::open();
    let first = world.connect();
    let second = world.connect();
    let replayed = ClientFrame::Register(registration(first, "a", 1, 1));
    let effects = world.say(second, &replayed);
    assert_eq!(error(&effects).code, ErrorCode::BadSignature);
    assert_eq!(
        noted(&effects),
        [""; 0],
        "nobody is in the swarm: there is no log"
    );
}

#[test]
fn a_roster_admits_nobody_to_other_swarms() {
    let mut world = World::with_roster();
    assert_eq!(noted(&world.opened), ["signaling_server_started"]);
    let (conn, _) = world.connect_to("other");
    let mut register = registration(conn, "a", 1, 1);
    register = Register::sign(
        swarm("other"),
        register.agent_id,
        register.session,
        register.server,
        &nonce(conn),
        &key(1),
    );
    let effects = world.say(conn, &ClientFrame::Register(register));
    assert_eq!(error(&effects).code, ErrorCode::NotAdmitted);
}

#[test]
fn an_id_stays_bound_to_its_key_until_nobody_of_the_swarm_is_connected() {
    let mut world = World::open();
    let a = world.join("a", 1);
    let b = world.join("b", 2);
    world.handle(a, Input::Closed);
    let (_, effects) = world.register("a", 9, 2);
    assert_eq!(error(&effects).code, ErrorCode::IdTaken);
    world.handle(b, Input::Closed);
    let (_, effects) = world.register("a", 9, 2);
    assert_eq!(sent(&effects), ["4 registered"]);
}

#[test]
fn an_equal_or_later_session_replaces_and_an_older_one_is_told_the_current() {
    for ms in [10, 11] {
        let mut world = World::open();
        let (old, _) = world.register("a", 1, 10);
        world.join("b", 2);
        let (new, effects) = world.register("a", 1, ms);
        assert_eq!(
            sent(&effects),
            [
                "1 error:replaced",
                "2 left:a:Replaced",
                "3 registered",
                "2 joined:a"
            ]
        );
        assert_eq!(closed(&effects), [old]);
        assert_eq!(noted(&effects), ["agent_left", "agent_registered"]);
        // The end of the old connection says nothing about the new one.
        assert_eq!(world.handle(old, Input::Closed), []);
        let effects = world.say(new, &please_offer("a", "b"));
        assert_eq!(sent(&effects), ["2 relayed"]);

        let (_, effects) = world.register("a", 1, 9);
        assert_eq!(error(&effects).code, ErrorCode::OlderSession);
        assert_eq!(error(&effects).session, Some(session(ms)));
        let (_, effects) = world.register("a", 9, 99);
        assert_eq!(
            error(&effects).code,
            ErrorCode::IdTaken,
            "takeover by another key"
        );
    }
}

#[test]
fn an_agent_alone_in_its_swarm_can_be_replaced_too() {
    let mut world = World::open();
    world.join("a", 1);
    let (_, effects) = world.register("a", 1, 2);
    assert_eq!(sent(&effects), ["1 error:replaced", "2 registered"]);
    assert_eq!(noted(&effects), ["agent_left", "agent_registered"]);
    let (_, effects) = world.register("a", 9, 3);
    assert_eq!(error(&effects).code, ErrorCode::IdTaken);
}

#[test]
fn nothing_but_a_registration_is_taken_first_and_only_one() {
    let mut world = World::open();
    let a = world.join("a", 1);
    let stranger = world.connect();
    let effects = world.say(stranger, &please_offer("b", "a"));
    assert_eq!(error(&effects).code, ErrorCode::NotRegistered);
    assert_eq!(error(&effects).in_reply_to.as_deref(), Some("please-offer"));
    assert_eq!(closed(&effects), [stranger]);

    let again = ClientFrame::Register(registration(a, "a", 1, 1));
    let effects = world.say(a, &again);
    assert_eq!(error(&effects).code, ErrorCode::BadFrame);
    assert_eq!(closed(&effects), NOBODY);
}

#[test]
fn relays_the_very_text_with_what_it_does_not_know() {
    let mut world = World::open();
    let a = world.join("a", 1);
    let b = world.join("b", 2);
    let text = offer("a", "b", "v=0")
        .to_text()
        .replacen('{', "{ \"later\": [1.50],", 1);
    let effects = world.handle(a, Input::Text(text.as_str().into()));
    assert_eq!(noted(&effects), ["sdp_offer_relayed"]);
    let relayed = Effect::Send {
        conn: b,
        text: text.into(),
    };
    assert_eq!(effects.last(), Some(&relayed));
}

#[test]
fn refuses_a_spoofed_sender_and_an_unknown_receiver_and_says_which_link() {
    let mut world = World::open();
    let a = world.join("a", 1);
    world.join("b", 2);
    for (frame, code) in [
        (offer("b", "a", "v=0"), ErrorCode::NotYours),
        (offer("a", "c", "v=0"), ErrorCode::UnknownPeer),
    ] {
        let effects = world.say(a, &frame);
        let error = error(&effects);
        assert_eq!(error.code, code);
        assert_eq!(error.in_reply_to.as_deref(), Some("offer"));
        assert_eq!(error.link, Some(link()));
        assert!(error.to.is_some());
        assert_eq!(closed(&effects), NOBODY);
        assert_eq!(
            noted(&effects),
            [""; 0],
            "what is not relayed is not noted as such"
        );
    }
    let effects = world.say(a, &please_offer("b", "a"));
    assert_eq!(error(&effects).code, ErrorCode::NotYours);
}

#[test]
fn swarms_do_not_see_each_other() {
    let mut world = World::open();
    let a = world.join("a", 1);
    let (conn, _) = world.connect_to("other");
    let mut register = registration(conn, "b", 2, 1);
    register = Register::sign(
        swarm("other"),
        register.agent_id,
        register.session,
        register.server,
        &nonce(conn),
        &key(2),
    );
    let effects = world.say(conn, &ClientFrame::Register(register));
    assert_eq!(sent(&effects), ["2 registered"]);
    let effects = world.say(a, &please_offer("a", "b"));
    assert_eq!(error(&effects).code, ErrorCode::UnknownPeer);
}

#[test]
fn who_does_not_register_within_10_seconds_is_told_and_closed() {
    let mut world = World::open();
    let a = world.join("a", 1);
    let slow = world.connect();
    world.now += Duration::from_millis(9_999);
    assert_eq!(world.handle(slow, Input::Tick), []);
    world.now += Duration::from_millis(1);
    assert_eq!(world.handle(a, Input::Tick), []);
    let effects = world.handle(slow, Input::Tick);
    assert_eq!(sent(&effects), ["2 error:not-registered"]);
    assert_eq!(closed(&effects), [slow]);
    assert_eq!(error(&effects).in_reply_to, None);
}

#[test]
fn a_burst_of_500_passes_and_the_next_frame_closes_the_connection() {
    let mut world = World::open();
    let a = world.join("a", 1);
    world.join("b", 2);
    // The registration was the first.
    for _ in 0..499 {
        let effects = world.say(a, &please_offer("a", "b"));
        assert_eq!(sent(&effects), ["2 relayed"]);
    }
    let effects = world.say(a, &please_offer("a", "b"));
    assert_eq!(sent(&effects), ["1 error:rate-limited", "2 left:a:Lost"]);
    assert_eq!(closed(&effects), [a]);
    assert_eq!(world.say(a, &please_offer("a", "b")), [], "it is gone");
}

#[test]
fn a_hundred_frames_a_second_pass_for_ever_and_pings_count() {
    let mut world = World::open();
    let a = world.join("a", 1);
    for _ in 0..2_000 {
        world.now += Duration::from_millis(10);
        assert_eq!(world.handle(a, Input::Control), []);
    }
    let flood: Vec<_> = (0..501)
        .flat_map(|_| world.handle(a, Input::Control))
        .collect();
    assert_eq!(error(&flood).code, ErrorCode::RateLimited);
}

#[test]
fn what_is_over_a_limit_or_unreadable_for_good_closes_the_connection() {
    let mut world = World::open();
    let a = world.join("a", 1);
    world.join("b", 2);
    let effects = world.say(a, &offer("a", "b", &"x".repeat(MAX_SDP)));
    assert_eq!(sent(&effects), ["2 relayed"]);
    let effects = world.say(a, &offer("a", "b", &"x".repeat(MAX_SDP + 1)));
    assert_eq!(sent(&effects), ["1 error:too-large", "2 left:a:Lost"]);
    assert_eq!(error(&effects).in_reply_to.as_deref(), Some("offer"));
    assert_eq!(closed(&effects), [a]);

    let a = world.join("a", 1);
    let broken = Input::Broken {
        code: ErrorCode::TooLarge,
        detail: "2 MiB".into(),
    };
    let effects = world.handle(a, broken);
    assert_eq!(error(&effects).code, ErrorCode::TooLarge);
    assert_eq!(error(&effects).in_reply_to, None);
    assert_eq!(closed(&effects), [a]);
}

#[test]
fn bad_frames_close_a_stranger_and_are_told_to_a_member() {
    for text in [
        "",
        "[]",
        "{}",
        "{\"type\":\"register\"}",
        "{\"type\":\"nonsense\"}",
        "{\"type\":\"error\"}",
    ] {
        let mut world = World::open();
        let member = world.join("a", 1);
        let stranger = world.connect();
        let effects = world.handle(stranger, Input::Text(text.into()));
        assert_eq!(error(&effects).code, ErrorCode::BadFrame, "{text}");
        assert_eq!(closed(&effects), [stranger]);
        let effects = world.handle(member, Input::Text(text.into()));
        assert_eq!(sent(&effects), ["1 error:bad-frame"], "{text}");
        assert_eq!(closed(&effects), NOBODY);
        let effects = world.handle(member, Input::Binary);
        assert_eq!(sent(&effects), ["1 error:bad-frame"]);
    }
}

#[test]
fn a_goodbye_counts_only_if_this_agent_signed_it_for_this_session() {
    let mut world = World::open();
    let a = world.join("a", 1);
    world.join("b", 2);
    let goodbye = |id: &str, ms, seed| {
        let (swarm, id) = (swarm("five"), id.parse().unwrap());
        let last = BTreeMap::new();
        ClientFrame::Goodbye(Goodbye::sign(
            &swarm,
            &id,
            session(ms),
            "done",
            last,
            &key(seed),
        ))
    };
    for forged in [goodbye("a", 1, 9), goodbye("b", 1, 1), goodbye("a", 2, 1)] {
        let effects = world.say(a, &forged);
        assert_eq!(sent(&effects), ["1 error:bad-signature"]);
        assert_eq!(closed(&effects), NOBODY);
    }
    let effects = world.say(a, &goodbye("a", 1, 1));
    assert_eq!(sent(&effects), ["2 left:a:Goodbye"]);
    assert_eq!(closed(&effects), [a]);
    assert_eq!(noted(&effects), ["agent_left"]);
}

#[test]
fn a_full_server_refuses_agents_swarms_and_strangers() {
    let limits = Limits {
        agents_per_swarm: 2,
        swarms: 1,
        unregistered: 1,
        ..Limits::default()
    };
    let mut world = World::new(Admission::Open, limits);
    world.join("a", 1);
    world.join("b", 2);
    let (_, effects) = world.register("c", 3, 1);
    assert_eq!(error(&effects).code, ErrorCode::ServerFull);
    let (_, effects) = world.register("b", 2, 2);
    assert!(
        sent(&effects).contains(&"4 registered".to_string()),
        "a replacement needs no room"
    );

    let (conn, _) = world.connect_to("other");
    let mut register = registration(conn, "a", 1, 1);
    register = Register::sign(
        swarm("other"),
        register.agent_id,
        register.session,
        register.server,
        &nonce(conn),
        &key(1),
    );
    let effects = world.say(conn, &ClientFrame::Register(register));
    assert_eq!(error(&effects).code, ErrorCode::ServerFull);

    world.connect();
    let (_, effects) = world.connect_to("five");
    assert_eq!(sent(&effects), ["7 error:server-full"]);
    assert_eq!(closed(&effects), [7]);
    world.handle(6, Input::Closed);
    let (_, effects) = world.connect_to("five");
    assert_eq!(sent(&effects), ["8 challenge"]);
}

#[test]
fn ids_that_come_and_go_do_not_grow_the_pins_without_end() {
    let limits = Limits {
        agents_per_swarm: 2,
        ..Limits::default()
    };
    let mut world = World::new(Admission::Open, limits);
    world.join("stays", 1);
    let refused = (0..20).position(|n| {
        let (conn, effects) = world.register(&format!("passes-{n}"), 2, 1);
        world.handle(conn, Input::Closed);
        !closed(&effects).is_empty()
    });
    assert_eq!(
        refused,
        Some(7),
        "four times the agents, less the one that stays"
    );
}

#[test]
fn the_note_of_a_relayed_offer_holds_the_whole_signed_frame() {
    let mut world = World::open();
    let a = world.join("a", 1);
    world.join("b", 2);
    let frame = offer("a", "b", "v=0");
    let effects = world.say(a, &frame);
    let Some(Effect::Witness(note)) = effects.first() else {
        panic!("{effects:?}")
    };
    assert_eq!(note.peer.as_ref().map(|id| id.as_str()), Some("a"));
    let frame: serde_json::Value = serde_json::from_str(&frame.to_text()).unwrap();
    assert_eq!(
        note.metadata,
        json!({
            "frame": frame,
            "link": "0101010101010101",
            "sdp_sha256": "6b8a9dc1308eebbe905f696791fd14bca92a2ad667dd43ed464390c69a2b1e9c",
            "to": "b",
        })
    );
}
