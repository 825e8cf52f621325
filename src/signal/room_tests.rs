//! What is relayed, told and refused among those who registered, one rule after the other.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;

use super::intake::Came;
use super::room::Effect;
use super::test_world::*;
use super::*;

#[test]
fn relays_the_very_text_with_what_it_does_not_know() {
    let mut world = World::open();
    let a = world.join("a", 1);
    let b = world.join("b", 2);
    let text = offer("a", "b", "v=0")
        .to_text()
        .replacen('{', "{ \"later\": [1.50],", 1);
    let effects = world.hear(a, Came::Text(text.as_str().into()));
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
        assert_eq!(world.hear(a, Came::Control), []);
    }
    let flood: Vec<_> = (0..501)
        .flat_map(|_| world.hear(a, Came::Control))
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
    let broken = Came::Broken {
        code: ErrorCode::TooLarge,
        detail: "2 MiB".into(),
    };
    let effects = world.hear(a, broken);
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
        let effects = world.hear(stranger, Came::Text(text.into()));
        assert_eq!(error(&effects).code, ErrorCode::BadFrame, "{text}");
        assert_eq!(closed(&effects), [stranger]);
        let effects = world.hear(member, Came::Text(text.into()));
        assert_eq!(sent(&effects), ["1 error:bad-frame"], "{text}");
        assert_eq!(closed(&effects), NOBODY);
        let effects = world.hear(member, Came::Binary(3));
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

#[test]
fn a_stranger_may_say_no_more_than_a_registration_needs() {
    let mut world = World::open();
    let conn = world.connect();
    let mut register = ClientFrame::Register(registration(conn, "a", 1, 1)).to_text();
    register.push_str(&" ".repeat(4 * 1024 - register.len()));
    let effects = world.hear(conn, Came::Text(register.into()));
    assert_eq!(sent(&effects), ["1 registered"]);

    let conn = world.connect();
    let mut register = ClientFrame::Register(registration(conn, "b", 2, 1)).to_text();
    register.push_str(&" ".repeat(4 * 1024 + 1 - register.len()));
    let effects = world.hear(conn, Came::Text(register.into()));
    assert_eq!(sent(&effects), ["2 error:too-large"]);
    assert_eq!(closed(&effects), [conn]);
}

#[test]
fn eight_mebibytes_at_once_pass_and_then_one_a_second() {
    let mut world = World::open();
    let a = world.join("a", 1);
    world.join("b", 2);
    let mut large = please_offer("a", "b").to_text();
    large.push_str(&" ".repeat(MAX_FRAME - large.len()));
    let mut say = || {
        let effects = world.hear(a, Came::Text(large.as_str().into()));
        sent(&effects).first().cloned().unwrap_or_default()
    };
    // The registration took a few of the bytes.
    let at_once = (0..20).map(|_| say());
    let relayed = at_once.take_while(|sent| sent == "2 relayed").count();
    assert_eq!(relayed, 7);

    let mut world = World::open();
    let a = world.join("a", 1);
    world.join("b", 2);
    for _ in 0..30 {
        world.now += Duration::from_secs(1);
        let effects = world.hear(a, Came::Text(large.as_str().into()));
        assert_eq!(sent(&effects), ["2 relayed"]);
    }
}
