//! Frames: what is written is read again and satisfies the schema; what is wrong is named.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::test_world::{key, link, offer, session, swarm};
use super::*;
use crate::message::SdpReason;

/// One frame of every type, as a value.
fn samples() -> Vec<Value> {
    let id = |id: &str| id.parse().unwrap();
    let peer = Peer {
        agent_id: id("b"),
        public_key: key(2).public_key(),
        session: session(2),
    };
    let nonce = Nonce::from_bytes([1; 32]);
    let register = Register::sign(
        swarm("five"),
        id("if://agent/a"),
        session(1),
        "[::1]:8443".into(),
        &nonce,
        &key(1),
    );
    let last = [("*".to_string(), 3), ("b".to_string(), 7)].into();
    let goodbye = Goodbye::sign(&swarm("five"), &id("a"), session(1), "done", last, &key(1));
    let mut answer = sdp();
    answer.kind = SdpKind::Answer;
    let client = [
        ClientFrame::Register(register),
        offer("a", "b", "v=0\r\n"),
        answer.into(),
        ClientFrame::IceCandidates(Candidates {
            from: id("a"),
            to: id("b"),
            link: link(),
            candidates: vec![
                Candidate {
                    candidate: "candidate:1 1 udp 2130706431 192.0.2.1 40001 typ host".into(),
                    sdp_mid: Some("0".into()),
                    sdp_mline_index: Some(0),
                },
                Candidate {
                    candidate: String::new(),
                    sdp_mid: None,
                    sdp_mline_index: None,
                },
            ],
            end: true,
        }),
        ClientFrame::PleaseOffer {
            from: id("b"),
            to: id("a"),
        },
        ClientFrame::Goodbye(goodbye),
    ];
    let error = |in_reply_to: Option<&str>, session: Option<crate::identity::Session>| ErrorFrame {
        code: ErrorCode::OlderSession,
        message: "a later session is connected".into(),
        in_reply_to: in_reply_to.map(Into::into),
        to: session.map(|_| id("b")),
        link: session.map(|_| link()),
        session,
        retry_after_ms: session.map(|_| 1500),
        later: session.map(|session| {
            Box::new(Later {
                nonce,
                server: "127.0.0.1:8443".into(),
                session,
                signature: key(1).sign(crate::identity::Purpose::Registration, b""),
            })
        }),
    };
    let server = [
        ServerFrame::Challenge {
            nonce,
            protocol: PROTOCOL.into(),
        },
        ServerFrame::Registered(Registered {
            agent_id: id("a"),
            connected_agents: vec![peer.clone()],
            ice_servers: vec![
                IceServer {
                    urls: vec!["stun:192.0.2.1:3478".into()],
                    username: None,
                    credential: None,
                },
                IceServer {
                    urls: vec!["turn:192.0.2.1:3478".into()],
                    username: Some("u".into()),
                    credential: Some("c".into()),
                },
            ],
        }),
        ServerFrame::AgentJoined { agent: peer },
        ServerFrame::AgentLeft {
            agent_id: id("b"),
            session: session(2),
            reason: LeftReason::Replaced,
        },
        ServerFrame::Error(error(None, None)),
        ServerFrame::Error(error(Some("register"), Some(session(3)))),
    ];
    let client = client.iter().map(ClientFrame::to_text);
    let server = server.iter().map(ServerFrame::to_text);
    client
        .chain(server)
        .map(|text| serde_json::from_str(&text).unwrap())
        .collect()
}

fn sdp() -> SdpFrame {
    let ClientFrame::Offer(frame) = offer("a", "b", "v=0\r\n") else {
        unreachable!("offer makes an offer")
    };
    frame
}

fn parse(value: &Value) -> Result<Frame, FrameError> {
    parse_frame(value.to_string().as_bytes())
}

fn validator() -> jsonschema::Validator {
    let schema: Value = serde_json::from_str(schema()).unwrap();
    jsonschema::draft202012::new(&schema).unwrap()
}

#[test]
fn reads_what_it_writes_and_the_schema_accepts_it() {
    let validator = validator();
    for sample in samples() {
        let text = match parse(&sample) {
            Ok(Frame::Client(frame)) => frame.to_text(),
            Ok(Frame::Server(frame)) => frame.to_text(),
            Err(err) => panic!("{sample}: {err}"),
        };
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), sample);
        let errors: Vec<_> = validator
            .iter_errors(&sample)
            .map(|e| e.to_string())
            .collect();
        assert_eq!(errors, [""; 0], "{sample}");
    }
}

#[test]
fn a_list_of_agents_that_are_written_already_is_the_same_frame() {
    for sample in samples() {
        let whole = sample.to_string();
        match ServerFrame::parse(whole.as_bytes()) {
            Ok(ServerFrame::Registered(registered)) => {
                let peer = registered.connected_agents[0].clone();
                let written = peer.to_text();
                let servers = &registered.ice_servers;
                for n in 0..3 {
                    let frame = ServerFrame::Registered(Registered {
                        connected_agents: vec![peer.clone(); n],
                        ..registered.clone()
                    });
                    let list = std::iter::repeat_n(written.as_str(), n);
                    let text = Registered::text(&registered.agent_id, list, servers);
                    assert_eq!(text, frame.to_text());
                }
            }
            Ok(frame @ ServerFrame::AgentJoined { .. }) => {
                let ServerFrame::AgentJoined { agent } = &frame else {
                    unreachable!("matched above")
                };
                assert_eq!(Peer::joined(&agent.to_text()), frame.to_text());
            }
            _ => {}
        }
    }
}

#[test]
fn the_schema_and_the_reader_refuse_the_same() {
    let validator = validator();
    // Each is put in place of each member, nested ones included.
    let wrong = [
        json!(null),
        json!(""),
        json!("@"),
        json!(0.0),
        json!(-1),
        json!(70_000),
        json!(true),
        json!([1]),
        json!({}),
        json!({"x": 0.5}),
    ];
    let mut tried = 0;
    for sample in samples() {
        for pointer in pointers(&sample) {
            for wrong in &wrong {
                let mut changed = sample.clone();
                *changed.pointer_mut(&pointer).unwrap() = wrong.clone();
                // A JSON Schema integer may be written 0.0; the contract says otherwise.
                if *wrong == json!(0.0) && validator.is_valid(&changed) {
                    assert!(parse(&changed).is_err(), "{changed}");
                    continue;
                }
                let read = parse(&changed);
                assert_eq!(
                    read.is_ok(),
                    validator.is_valid(&changed),
                    "{pointer} {changed} {read:?}"
                );
                tried += 1;
            }
        }
        for member in sample.as_object().unwrap().keys() {
            let mut changed = sample.clone();
            changed.as_object_mut().unwrap().remove(member);
            let read = parse(&changed);
            assert_eq!(
                read.is_ok(),
                validator.is_valid(&changed),
                "{member} {changed} {read:?}"
            );
            if let Err(err) = read {
                assert!(
                    err.detail.contains(&format!("`{member}`")),
                    "{member}: {err}"
                );
            }
        }
    }
    assert!(tried > 800, "{tried}");
}

/// JSON pointers to everything within.
fn pointers(value: &Value) -> Vec<String> {
    let inner: Vec<(String, &Value)> = match value {
        Value::Object(members) => members
            .iter()
            // RFC 6901: an id as a key may hold slashes; none of ours here does.
            .map(|(name, value)| (format!("/{name}"), value))
            .collect(),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .map(|(place, value)| (format!("/{place}"), value))
            .collect(),
        _ => Vec::new(),
    };
    let mut all = Vec::new();
    for (pointer, value) in inner {
        all.extend(
            pointers(value)
                .into_iter()
                .map(|deeper| format!("{pointer}{deeper}")),
        );
        all.push(pointer);
    }
    all
}

#[test]
fn ignores_members_it_does_not_know() {
    for mut sample in samples() {
        sample["of_the_future"] = json!({"a": [1.5]});
        assert!(parse(&sample).is_ok(), "{sample}");
    }
}

#[test]
fn tells_malformed_schema_and_unsigned_apart_and_keeps_who_it_claims_to_be() {
    let frame: Value = serde_json::from_str(&ClientFrame::from(sdp()).to_text()).unwrap();
    let reason = |value: &Value| parse(value).unwrap_err().reason;
    let mut unsigned = frame.clone();
    unsigned.as_object_mut().unwrap().remove("signature");
    let err = parse(&unsigned).unwrap_err();
    assert_eq!(err.reason, FrameReason::Unsigned);
    assert_eq!(err.reason.sdp_reason(), SdpReason::Unsigned);
    assert_eq!(err.frame_type, Some("offer"));
    assert_eq!(err.from.unwrap().as_str(), "a");
    assert_eq!(err.link, Some(link()));

    let mut both = unsigned;
    both["to"] = json!("*");
    assert_eq!(reason(&both), FrameReason::Schema, "schema comes first");
    let mut null = frame.clone();
    null["signature"] = json!(null);
    assert_eq!(
        reason(&null),
        FrameReason::Schema,
        "there, but of the wrong shape"
    );
    let mut inner = frame.clone();
    inner["offer"]["type"] = json!("answer");
    assert_eq!(reason(&inner), FrameReason::Schema);
    let mut large = frame;
    large["offer"]["sdp"] = json!("ä".repeat(MAX_SDP / 2 + 1));
    assert_eq!(reason(&large), FrameReason::TooLarge);
    assert_eq!(reason(&large).as_str(), "schema");

    for text in [
        "",
        "[]",
        "1",
        "{",
        "{\"type\":\"error\",\"type\":\"error\"}",
    ] {
        let err = parse_frame(text.as_bytes()).unwrap_err();
        assert_eq!(err.reason.as_str(), "malformed", "{text}");
    }
}

#[test]
fn a_frame_of_the_other_side_is_none() {
    for sample in samples() {
        let text = sample.to_string();
        let client = ClientFrame::parse(text.as_bytes()).is_ok();
        let server = ServerFrame::parse(text.as_bytes()).is_ok();
        assert!(client || server, "{text}");
        let relayed = ["offer", "answer", "ice-candidates", "please-offer"];
        let both = relayed.contains(&sample["type"].as_str().unwrap());
        assert_eq!(client && server, both, "{text}");
    }
}

#[test]
fn an_explanation_stays_one_bounded_line_whatever_was_sent() {
    let hostile = json!({"type": "please-offer", "from": "\u{1b}[31m\n".repeat(10_000), "to": "b"});
    let err = parse(&hostile).unwrap_err();
    assert!(!err.detail.contains(['\n', '\u{1b}']), "{err}");
    assert!(err.detail.len() < 4_000, "{}", err.detail.len());
    let hostile = json!({"type": "x\n".repeat(10_000)});
    let err = parse(&hostile).unwrap_err();
    assert!(!err.detail.contains('\n') && err.detail.len() < 4_000);
    assert_eq!(err.frame_type, None);
}

proptest! {
    #[test]
    fn reading_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = parse_frame(&bytes);
        let _ = ClientFrame::parse(&bytes);
        let _ = ServerFrame::parse(&bytes);
    }

    #[test]
    fn reading_a_frame_with_changed_bytes_never_panics_nor_verifies_as_another(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let original = sdp();
        let mut bytes = ClientFrame::from(original.clone()).to_text().into_bytes();
        for (place, byte) in changes {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        if let Ok(Frame::Client(ClientFrame::Offer(frame) | ClientFrame::Answer(frame))) = parse_frame(&bytes)
            && frame.verify_offline(None).is_ok()
        {
            prop_assert_eq!(frame, original);
        }
    }
}
