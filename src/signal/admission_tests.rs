//! Who may register, one rule after the other.

use std::time::Duration;

use super::room::{Effect, Input};
use super::test_world::*;
use super::*;

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
    type Case = (&'static str, fn() -> World, fn(&mut Register));
    let cases: [Case; 7] = [
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
fn who_left_is_known_by_its_last_session_for_as_long_as_others_may_go_by_it() {
    for roster in [false, true] {
        let mut world = match roster {
            true => World::with_roster(),
            false => World::open(),
        };
        let (a, _) = world.register("a", 1, 20);
        let b = world.join("b", 2);
        // However it left: it may have no disk, and a clock that went back.
        world.handle(a, Input::Closed);
        assert_eq!(world.room.census().left, 1);
        let (conn, effects) = world.register("a", 1, 19);
        let refusal = error(&effects);
        assert_eq!(refusal.code, ErrorCode::OlderSession);
        assert_eq!(refusal.session, Some(session(20)));
        let later = refusal.later.unwrap();
        let (five, id, mine) = (swarm("five"), "a".parse().unwrap(), key(1).public_key());
        assert!(later.proves(&five, &id, &mine, session(19)));
        assert_eq!(closed(&effects), [conn]);
        // The process that was there, back after an outage; and one that makes a later session.
        for ms in [20, 20, 21] {
            let (back, effects) = world.register("a", 1, ms);
            assert_eq!(closed(&effects), NOBODY);
            assert_eq!(world.room.census().left, 0);
            world.handle(back, Input::Closed);
        }
        // With the last of the swarm nobody is left who goes by it.
        world.handle(b, Input::Closed);
        assert_eq!(world.room.census().left, 0);
        let (_, effects) = world.register("a", 1, 1);
        assert_eq!(closed(&effects), NOBODY);
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
fn one_address_cannot_take_all_places() {
    let limits = Limits {
        connections_per_address: 3,
        unregistered_per_address: 2,
        ..Limits::default()
    };
    let mut world = World::new(Admission::Open, limits);
    let (first, _) = world.connect_from("10.0.0.1", "five");
    world.connect_from("10.0.0.1", "five");
    let (third, effects) = world.connect_from("10.0.0.1", "five");
    assert_eq!(sent(&effects), ["3 error:server-full"]);
    assert!(error(&effects).message.contains("your address"));
    assert_eq!(closed(&effects), [third]);
    let (_, effects) = world.connect_from("10.0.0.2", "five");
    assert_eq!(sent(&effects), ["4 challenge"]);

    // Who registers makes room for the next stranger, until there are too many of both.
    let register = ClientFrame::Register(registration(first, "a", 1, 1));
    assert_eq!(sent(&world.say(first, &register)), ["1 registered"]);
    let (fifth, effects) = world.connect_from("10.0.0.1", "five");
    assert_eq!(sent(&effects), ["5 challenge"]);
    world.handle(fifth, Input::Closed);
    world.connect_from("10.0.0.1", "five");
    world.handle(2, Input::Closed);
    world.connect_from("10.0.0.1", "five");
    let (_, effects) = world.connect_from("10.0.0.1", "five");
    assert_eq!(sent(&effects), ["8 error:server-full"]);
}

#[test]
fn a_replaced_connection_gives_its_place_back() {
    let limits = Limits {
        connections: 2,
        ..Limits::default()
    };
    let mut world = World::new(Admission::Open, limits);
    for ms in 1..10 {
        let (_, effects) = world.register("a", 1, ms);
        let registered = sent(&effects).iter().any(|s| s.ends_with("registered"));
        assert!(registered, "{effects:?}");
    }
}

#[test]
fn strangers_cannot_fill_the_log_with_refusals() {
    let mut world = World::with_roster();
    let refused = |world: &mut World| -> Vec<Effect> {
        let (_, effects) = world.register("c", 3, 1);
        assert_eq!(error(&effects).code, ErrorCode::NotAdmitted);
        effects
    };
    let noted_at_once = (0..1_500).filter(|_| !noted(&refused(&mut world)).is_empty());
    assert_eq!(noted_at_once.count(), 1_000);
    world.now += Duration::from_secs(1);
    let effects = refused(&mut world);
    let Some(Effect::Witness(note)) = effects.first() else {
        panic!("{effects:?}")
    };
    assert_eq!(note.metadata["not_noted"], 500, "none is forgotten");
}
