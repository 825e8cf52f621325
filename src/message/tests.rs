//! What must hold for all messages: properties, and every reason in its order.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;
use crate::identity::{AgentId, KeyPair, PublicKey, Purpose, Roster, Session};

pub(super) fn id(text: &str) -> AgentId {
    text.parse().unwrap()
}

pub(super) fn key() -> KeyPair {
    KeyPair::from_secret(&[7; 32])
}

fn roster() -> Roster {
    Roster::new([(id("finance"), key().public_key())]).unwrap()
}

#[test]
fn a_refusal_says_that_the_key_it_was_shown_is_revoked() {
    let bytes = full_value().to_string();
    let next = KeyPair::from_secret(&[8; 32]).public_key();
    let refusal = |agent: &str, revoked: &[PublicKey]| {
        let roster = Roster::new([(id(agent), next)]).unwrap();
        let roster = roster.revoking(revoked.iter().copied()).unwrap();
        let refusal = verify(bytes.as_bytes(), &roster).unwrap_err();
        (refusal.reason, refusal.detail.contains("revoked"))
    };
    let old = [key().public_key()];
    assert_eq!(refusal("finance", &old), (Reason::KeyMismatch, true));
    assert_eq!(refusal("finance", &[]), (Reason::KeyMismatch, false));
    assert_eq!(refusal("legal", &old), (Reason::UnknownSource, true));
    assert_eq!(refusal("legal", &[]), (Reason::UnknownSource, false));
}

fn object(value: Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

pub(super) fn signed(draft: Draft) -> Result<Signed, DraftError> {
    let author = Author {
        id: &id("finance"),
        session: Session::new(1_769_847_330_000, [1; 10]),
        key: &key(),
    };
    let now = "2026-01-31T08:15:30.123Z".parse().unwrap();
    sign(draft, &author, 1, now, [9; 22])
}

/// A draft with every optional member.
pub(super) fn full_draft() -> Draft {
    Draft {
        id: Some("m-1".into()),
        level: Some(Level::Function),
        performative: Some(Performative::Escalate),
        conversation_id: Some("c-1".into()),
        in_reply_to: Some("m-0".into()),
        trace_id: Some("0123456789abcdef01234567".into()),
        citation_ids: vec!["cit:1".into(), "if://citation/2".into()],
        hazards: vec!["safety".into()],
        ..Draft::new(
            id("legal"),
            object(json!({"text": "hello", "deep": {"list": [1, -2.5, null, true]}})),
        )
    }
}

/// The full message as a value, to be spoiled.
pub(super) fn full_value() -> Value {
    serde_json::from_str(signed(full_draft()).unwrap().text()).unwrap()
}

/// Signs `value` again, naming exactly the members it has.
fn seal(value: &mut Value) {
    let members = value.as_object_mut().unwrap();
    members.remove("signature");
    let names: Vec<String> = members.keys().cloned().collect();
    seal_as(value, json!(names));
}

/// Signs `value` again with these `signed_fields`.
fn seal_as(value: &mut Value, signed_fields: Value) {
    value.as_object_mut().unwrap().remove("signature");
    let signature = key().sign(Purpose::Message, &canonical(value));
    value["signature"] = json!({
        "algorithm": "ed25519",
        "public_key": key().public_key(),
        "signature_bytes": signature,
        "signed_fields": signed_fields,
    });
}

fn refusal(text: &str) -> Box<Refusal> {
    verify(text.as_bytes(), &roster()).expect_err(text)
}

#[test]
fn a_signed_message_verifies_and_says_what_the_draft_said() {
    let signed = signed(full_draft()).unwrap();
    let verified = verify(signed.text().as_bytes(), &roster()).unwrap();
    assert_eq!(&*verified, signed.message());
    assert_eq!(verified.digest(), signed.digest());
    assert_eq!(verified.public_key(), &key().public_key());
    assert_eq!(verified.source(), &id("finance"));
    assert_eq!(verified.performative(), Some(Performative::Escalate));
    assert_eq!(verified.citation_ids(), ["cit:1", "if://citation/2"]);
    assert_eq!(Claim::from(&verified).sha256, *signed.digest());
}

#[test]
fn what_a_draft_leaves_open_is_made_from_time_and_randomness() {
    let signed = signed(Draft::new(Destination::All, Map::new())).unwrap();
    let message = signed.message();
    let made: Session = message.id().parse().expect("a UUIDv7");
    let again = Session::new(message.timestamp().unix_ms().unsigned_abs(), [9; 10]);
    assert_eq!(made, again);
    assert_eq!(message.trace_id(), Some("09".repeat(12).as_str()));
    assert_eq!(message.level(), Level::Module);
    assert!(!signed.text().contains("hazards"));
}

#[test]
fn a_message_serializes_as_it_stands_on_the_wire_and_verifies_again() {
    let signed = signed(full_draft()).unwrap();
    let again = serde_json::to_string(signed.message()).unwrap();
    let verified = verify(again.as_bytes(), &roster()).unwrap();
    assert_eq!(&*verified, signed.message());
    // An empty list is not the same as none.
    let mut value = full_value();
    value["hazards"] = json!([]);
    seal(&mut value);
    let verified = verify(value.to_string().as_bytes(), &roster()).unwrap();
    let again = serde_json::to_value(&*verified).unwrap();
    assert_eq!(again, value);
}

#[test]
fn a_reply_goes_to_the_author_and_keeps_conversation_and_trace() {
    let asked = signed(full_draft()).unwrap();
    let reply = asked.message().reply(Performative::Agree, Map::new());
    assert_eq!(reply.destination, id("finance").into());
    assert_eq!(reply.in_reply_to.as_deref(), Some("m-1"));
    assert_eq!(reply.conversation_id.as_deref(), Some("c-1"));
    assert_eq!(reply.trace_id, full_draft().trace_id);
}

#[test]
fn a_draft_is_read_from_json_and_unknown_members_are_refused() {
    let text = r#"{"destination":"*","payload":{},"traceId":"0123456789abcdef01234567","level":1}"#;
    let draft: Draft = serde_json::from_str(text).unwrap();
    assert_eq!(draft.level, Some(Level::Function));
    assert!(signed(draft).is_ok());
    for bad in [
        r#"{"destination":"*","payload":{},"source":"legal"}"#,
        r#"{"destination":"*","payload":[]}"#,
        r#"{"destination":"a b","payload":{}}"#,
        r#"{"payload":{}}"#,
    ] {
        assert!(serde_json::from_str::<Draft>(bad).is_err(), "{bad}");
    }
}

#[test]
fn a_draft_that_no_receiver_would_take_is_refused_with_the_member_named() {
    type Spoil = fn(&mut Draft);
    let spoilt: [(&str, Spoil); 8] = [
        ("id", |d| d.id = Some("a b".into())),
        ("conversation_id", |d| {
            d.conversation_id = Some(String::new())
        }),
        ("in_reply_to", |d| d.in_reply_to = Some("-".into())),
        ("traceId", |d| d.trace_id = Some("ABCDEF".repeat(4))),
        ("citation_ids[1]", |d| {
            d.citation_ids = vec!["cit:1".into(), "doi:1".into()];
        }),
        ("citation_ids", |d| {
            d.citation_ids = vec!["cit:1".into(); 65]
        }),
        ("hazards[0]", |d| d.hazards = vec!["ä".repeat(65)]),
        ("hazards", |d| d.hazards = vec!["legal".into(); 17]),
    ];
    for (name, spoil) in spoilt {
        let mut draft = full_draft();
        spoil(&mut draft);
        let err = signed(draft).expect_err(name);
        assert!(err.to_string().starts_with(&format!("`{name}`")), "{err}");
    }
    let mut long = full_draft();
    long.payload = object(json!({"text": "x".repeat(MAX_MESSAGE)}));
    assert!(matches!(signed(long), Err(DraftError::TooLarge { .. })));
}

#[test]
fn a_payload_is_signed_exactly_as_deep_as_it_is_read() {
    let deep = |levels: usize| {
        let list = (0..levels).fold(json!([]), |inner, _| json!([inner]));
        signed(Draft::new(id("legal"), object(json!({ "list": list }))))
    };
    // The message, its payload, and 62 arrays.
    let text = deep(61).unwrap();
    assert!(verify(text.text().as_bytes(), &roster()).is_ok());
    assert_eq!(deep(62).unwrap_err(), DraftError::TooDeep);
}

#[test]
fn sequence_numbers_run_from_1_to_below_two_to_the_53() {
    let numbered = |number| {
        let author = Author {
            id: &id("finance"),
            session: Session::new(0, [1; 10]),
            key: &key(),
        };
        let now = Timestamp::from_unix_ms(0);
        sign(full_draft(), &author, number, now, [9; 22])
    };
    let last = (1 << 53) - 1;
    assert!(verify(numbered(last).unwrap().text().as_bytes(), &roster()).is_ok());
    for bad in [0, last + 1, u64::MAX] {
        assert_eq!(numbered(bad).unwrap_err(), DraftError::SequenceNum(bad));
    }
}

#[test]
fn refuses_what_is_no_json_object_as_malformed() {
    let text = signed(full_draft()).unwrap().text().to_string();
    let mut not_utf8 = text.clone().into_bytes();
    not_utf8[text.find("hello").unwrap()] = 0xff;
    assert_eq!(
        verify(&not_utf8, &roster()).unwrap_err().reason,
        Reason::Malformed
    );
    let long = format!("{text}{}", " ".repeat(MAX_MESSAGE));
    let twice = text.replacen('{', r#"{"id":"m-1","#, 1);
    let lone = text.replace("hello", r"\ud800");
    for bad in ["", "[]", "7", &text[1..], &long, &twice, &lone] {
        let refusal = refusal(bad);
        assert_eq!(refusal.reason, Reason::Malformed, "{}", refusal.detail);
        assert_eq!(refusal.claim.source, None);
    }
}

/// Each case spoils the full message; `seal` in it signs the spoilt message properly.
#[test]
fn gives_the_first_reason_that_applies() {
    type Spoil = fn(&mut Value);
    let cases: &[(&str, &str, Spoil)] = &[
        ("schema", "a member missing", |v| {
            v.as_object_mut().unwrap().remove("version");
            seal(v);
        }),
        ("schema", "an unknown member", |v| {
            v["priority"] = json!(1);
            seal(v);
        }),
        ("schema", "an unknown member that nobody signed", |v| {
            v["priority"] = json!(1);
        }),
        ("schema", "an integer with a point", |v| {
            v["level"] = json!(1.0);
            seal(v);
        }),
        ("schema", "a date that there is not", |v| {
            v["timestamp"] = json!("2026-02-30T00:00:00.000Z");
            seal(v);
        }),
        ("schema", "another algorithm", |v| {
            v["signature"]["algorithm"] = json!("ed448");
        }),
        ("schema", "upper-case hex", |v| {
            let upper = v["signature"]["signature_bytes"]
                .as_str()
                .unwrap()
                .to_uppercase();
            v["signature"]["signature_bytes"] = json!(upper);
        }),
        ("schema", "no list of signed fields", |v| {
            v["signature"]["signed_fields"] = json!("all");
        }),
        ("schema", "a null where the signature should be", |v| {
            v["signature"] = Value::Null;
        }),
        ("schema", "both a wrong type and no signature", |v| {
            v["id"] = json!(7);
            v.as_object_mut().unwrap().remove("signature");
        }),
        ("unsigned", "no signature", |v| {
            v.as_object_mut().unwrap().remove("signature");
        }),
        ("unsigned", "no signature, of an unknown source", |v| {
            v["source"] = json!("nobody");
            v.as_object_mut().unwrap().remove("signature");
        }),
        ("partial-coverage", "payload left out, but signed", |v| {
            let names = v["signature"]["signed_fields"].as_array().unwrap().clone();
            let names: Vec<_> = names.into_iter().filter(|n| n != "payload").collect();
            seal_as(v, json!(names));
        }),
        ("partial-coverage", "one absent", |v| {
            v.as_object_mut().unwrap().remove("hazards");
        }),
        ("partial-coverage", "one twice", |v| {
            let names = v["signature"]["signed_fields"].as_array_mut().unwrap();
            names.insert(0, names[0].clone());
        }),
        ("partial-coverage", "unsorted", |v| {
            v["signature"]["signed_fields"]
                .as_array_mut()
                .unwrap()
                .reverse();
        }),
        ("partial-coverage", "signature names itself", |v| {
            let names = v["signature"]["signed_fields"].as_array_mut().unwrap();
            names.push(json!("signature"));
        }),
        (
            "partial-coverage",
            "nothing signed, of an unknown source",
            |v| {
                v["source"] = json!("nobody");
                seal_as(v, json!([]));
            },
        ),
        ("unknown-source", "somebody else", |v| {
            v["source"] = json!("nobody");
            seal(v);
        }),
        ("unknown-source", "somebody else, badly signed", |v| {
            v["source"] = json!("nobody");
        }),
        ("key-mismatch", "another key, which signed it well", |v| {
            let other = KeyPair::from_secret(&[8; 32]);
            let signature = v.as_object_mut().unwrap().remove("signature").unwrap();
            let signed = other.sign(Purpose::Message, &canonical(v));
            v["signature"] = signature;
            v["signature"]["public_key"] = json!(other.public_key());
            v["signature"]["signature_bytes"] = json!(signed);
        }),
        ("key-mismatch", "a key of small order", |v| {
            v["signature"]["public_key"] = json!(format!("01{}", "0".repeat(62)));
        }),
        ("bad-signature", "a nested value changed", |v| {
            v["payload"]["deep"]["list"][0] = json!(2);
        }),
        ("bad-signature", "the destination changed", |v| {
            v["destination"] = json!("*");
        }),
        ("bad-signature", "zeros", |v| {
            v["signature"]["signature_bytes"] = json!("0".repeat(128));
        }),
    ];
    for (reason, what, spoil) in cases {
        let mut value = full_value();
        spoil(&mut value);
        let refusal = refusal(&value.to_string());
        assert_eq!(refusal.reason.as_str(), *reason, "{what}: {refusal}");
        assert!(refusal.detail.starts_with('`'), "{what}: {refusal}");
        assert!(refusal.detail.len() < 400 && !refusal.detail.contains('\n'));
    }
}

#[test]
fn a_refusal_tells_what_the_message_claims_as_far_as_it_can_be_read() {
    let mut value = full_value();
    value["traceId"] = json!("x");
    value["sequence_num"] = json!(1.5);
    let claim = refusal(&value.to_string()).claim;
    assert_eq!(claim.message_id.as_deref(), Some("m-1"));
    assert_eq!(claim.source, Some(id("finance")));
    assert_eq!(claim.performative, Some(Performative::Escalate));
    assert_eq!((claim.trace_id, claim.sequence_num), (None, None));
    // The digest is that of the message without its signature, however it is spelt.
    let mut good = full_value();
    good.as_object_mut().unwrap().remove("signature");
    let spaced = serde_json::to_string_pretty(&good).unwrap();
    let digest = *signed(full_draft()).unwrap().digest();
    assert_eq!(refusal(&spaced).claim.sha256, digest);
}

#[test]
fn integrity_alone_needs_no_roster_and_takes_no_unusable_key() {
    let mut value = full_value();
    value["source"] = json!("nobody");
    seal(&mut value);
    let verified = verify_integrity(value.to_string().as_bytes()).unwrap();
    assert_eq!(verified.public_key(), &key().public_key());
    value["signature"]["public_key"] = json!(format!("01{}", "0".repeat(62)));
    let refusal = verify_integrity(value.to_string().as_bytes()).unwrap_err();
    assert_eq!(refusal.reason, Reason::BadSignature);
}

/// The payload has no exponent and no `\u` escape: their letters may be written in either case,
/// which is another spelling of the same message and no other message.
#[test]
fn no_single_changed_byte_is_accepted() {
    let good = signed(full_draft()).unwrap().bytes();
    assert!(verify(&good, &roster()).is_ok());
    let mut bytes = good.to_vec();
    for index in 0..bytes.len() {
        let flips = (0..8).map(|bit| good[index] ^ (1 << bit));
        for byte in flips.chain(*b"\" ,:0{\\") {
            if byte != good[index] {
                bytes[index] = byte;
                assert!(verify(&bytes, &roster()).is_err(), "{index}: {byte}");
            }
        }
        bytes[index] = good[index];
    }
}

/// Any JSON value, with the numbers and strings on which writers differ.
fn any_json() -> impl Strategy<Value = Value> {
    let double = any::<u64>()
        .prop_map(f64::from_bits)
        .prop_filter("finite", |n| n.is_finite());
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        (-1000i32..1000).prop_map(|n| Value::from(f64::from(n) / 8.0)),
        double.prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        "[\u{0}-\u{7f}\u{e000}\u{10000}\"\\\\]{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 40, 6, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            any_members(inner).prop_map(Value::Object),
        ]
    })
}

fn any_members(value: impl Strategy<Value = Value>) -> impl Strategy<Value = Map<String, Value>> {
    // U+E000 and U+10000 stand the other way round in UTF-16.
    let name = prop_oneof![any::<String>(), "[ab\u{e000}\u{ffff}\u{10000}]{0,3}"];
    proptest::collection::btree_map(name, value, 0..6).prop_map(|map| map.into_iter().collect())
}

proptest! {
    #[test]
    fn canonical_bytes_are_those_of_the_reference_and_stable(value in any_json()) {
        let bytes = canonical(&value);
        prop_assert_eq!(&bytes, &serde_json_canonicalizer::to_vec(&value).unwrap());
        let again = parse_strict(&bytes, MAX_MESSAGE).unwrap();
        prop_assert_eq!(canonical(&again), bytes);
    }

    #[test]
    fn whatever_is_signed_verifies_in_any_spelling(payload in any_members(any_json())) {
        let signed = signed(Draft { payload, ..full_draft() }).unwrap();
        let verified = verify(signed.text().as_bytes(), &roster()).unwrap();
        prop_assert_eq!(verified.digest(), signed.digest());
        let pretty = serde_json::to_string_pretty(signed.message()).unwrap();
        let again = verify(pretty.as_bytes(), &roster()).unwrap();
        prop_assert_eq!(again.digest(), signed.digest());
    }

    #[test]
    fn a_changed_byte_makes_no_other_message(
        payload in any_members(any_json()),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let signed = signed(Draft { payload, ..full_draft() }).unwrap();
        let mut bytes = signed.bytes().to_vec();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        // Another spelling of the same number or escape is the same message.
        if let Ok(verified) = verify(&bytes, &roster()) {
            prop_assert_eq!(verified.digest(), signed.digest());
        }
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in any::<Vec<u8>>(), value in any_json()) {
        prop_assert!(verify(&bytes, &roster()).is_err());
        prop_assert!(verify(value.to_string().as_bytes(), &roster()).is_err());
    }
}
