//! The messages among the fixtures: good ones, and spoilt ones named after what is wrong.

use ifswarm::identity::{KeyPair, Purpose};
use ifswarm::message::{Destination, Draft, Level, Performative, Signed, canonical};
use serde_json::{Map, Value, json};

use crate::support::FixtureAgent;

/// Messages that verify, by file name.
pub(crate) fn valid() -> [(&'static str, Signed); 2] {
    [
        ("valid_ifmessage_escalate.json", escalate()),
        ("signed_message_with_citation.json", with_citation()),
    ]
}

/// Finance hands a conflict between two sources to legal.
fn escalate() -> Signed {
    let draft = Draft {
        level: Some(Level::Module),
        performative: Some(Performative::Escalate),
        conversation_id: Some("if://conversation/2026-q1-exposure".into()),
        citation_ids: vec![
            "if://citation/filing-10k-2025".into(),
            "cit:markets-note-17".into(),
        ],
        hazards: vec!["safety".into(), "conflict>20%".into()],
        ..Draft::new(
            agent("legal"),
            object(json!({
                "question": "Which figure may be published?",
                "findings": [
                    {"source": "filing", "exposure_musd": 412.5, "confidence": 0.93},
                    {"source": "markets", "exposure_musd": 530, "confidence": 0.71}
                ],
                "conflict": 0.2848484848484849,
                "note": "Wu Lun 兄弟: equals disagree — a person decides.\n"
            })),
        )
    };
    FixtureAgent::new("finance").sign("escalate", 1, draft)
}

/// Markets answers finance and says where it has the figure from.
fn with_citation() -> Signed {
    let draft = Draft {
        performative: Some(Performative::Inform),
        conversation_id: Some("if://conversation/2026-q1-exposure".into()),
        in_reply_to: Some("if://message/finance/1".into()),
        citation_ids: vec!["if://citation/markets-note-17".into()],
        ..Draft::new(
            agent("finance"),
            object(json!({"exposure_musd": 530, "as_of": "2026-01-30"})),
        )
    };
    FixtureAgent::new("markets").sign("citation", 1, draft)
}

/// Spoilt messages, by name. But for what the name says each is right: signed, and all covered.
pub(crate) fn invalid() -> Vec<(&'static str, Vec<u8>)> {
    let text = escalate().text().to_string();
    let replaced = |from: &str, to: &str| {
        assert!(text.contains(from), "{from}");
        text.replacen(from, to, 1).into_bytes()
    };
    let at = text.find("Which figure").expect("in the payload");
    let mut not_utf8 = text.clone().into_bytes();
    not_utf8[at] = 0xff;
    // The number is four levels deep already.
    let too_deep = format!("{}{}", "[".repeat(61), "]".repeat(61));
    let mut files = vec![
        (
            "malformed-duplicate-key",
            replaced(r#"{"citation_ids""#, r#"{"destination":"*","citation_ids""#),
        ),
        (
            "malformed-duplicate-key-in-payload",
            replaced(r#""conflict":"#, r#""conflict":0,"conflict":"#),
        ),
        ("malformed-cut-off", text.as_bytes()[..at].to_vec()),
        (
            "malformed-two-messages",
            format!("{text}{text}").into_bytes(),
        ),
        ("malformed-not-an-object", format!("[{text}]").into_bytes()),
        ("malformed-not-utf8", not_utf8),
        ("malformed-lone-surrogate", replaced("Which", r"\ud800")),
        ("malformed-number-not-finite", replaced("412.5", "1e400")),
        ("malformed-too-deep", replaced("412.5", &too_deep)),
    ];
    for (_, bytes) in &mut files {
        bytes.push(b'\n');
    }

    let finance = &FixtureAgent::new("finance").key;
    let mut add = |name, spoil: &dyn Fn(&mut Value)| {
        let mut message = serde_json::from_str(escalate().text()).unwrap();
        spoil(&mut message);
        files.push((name, line(&message)));
    };
    // What is changed before signing is under the author's own signature.
    let signed_with = |name: &'static str, value: Value| {
        move |message: &mut Value| {
            message[name] = value.clone();
            seal(message, finance);
        }
    };
    add("schema-unknown-member", &signed_with("priority", json!(1)));
    add("schema-level-as-text", &signed_with("level", json!("2")));
    add(
        "schema-level-with-a-point",
        &signed_with("level", json!(2.0)),
    );
    add(
        "schema-sequence-num-zero",
        &signed_with("sequence_num", json!(0)),
    );
    add(
        "schema-payload-not-an-object",
        &signed_with("payload", json!(["text"])),
    );
    add("schema-version-1.0", &signed_with("version", json!("1.0")));
    add(
        "schema-timestamp-without-milliseconds",
        &signed_with("timestamp", json!("2026-01-31T08:15:35Z")),
    );
    add(
        "schema-unknown-performative",
        &signed_with("performative", json!("shout")),
    );
    add(
        "schema-hazard-too-long",
        &signed_with("hazards", json!(["ä".repeat(65)])),
    );
    add("schema-session-missing", &|message| {
        members(message).remove("session");
        seal(message, finance);
    });
    add("schema-algorithm-not-ed25519", &|message| {
        message["signature"]["algorithm"] = json!("none");
    });
    add("schema-signature-in-upper-case", &|message| {
        let hex = message["signature"]["signature_bytes"].as_str().unwrap();
        message["signature"]["signature_bytes"] = json!(hex.to_uppercase());
    });
    add("unsigned-no-signature", &|message| {
        members(message).remove("signature");
    });
    add("partial-coverage-payload-left-out", &|message| {
        // What a careless verifier would accept: the rest is really signed, and the payload is not.
        let mut covered = message.clone();
        members(&mut covered).remove("payload");
        seal(&mut covered, finance);
        message["signature"] = covered["signature"].take();
        message["payload"]["question"] = json!("Publish at once?");
    });
    add("partial-coverage-absent-member-named", &|message| {
        members(message).remove("hazards");
        let fields = message["signature"]["signed_fields"].clone();
        seal_as(message, finance, fields);
    });
    for (name, change) in [
        (
            "partial-coverage-member-twice",
            (|fields| fields.insert(0, fields[0].clone())) as fn(&mut Vec<Value>),
        ),
        ("partial-coverage-unsorted", |fields| fields.swap(0, 1)),
        ("partial-coverage-nothing", Vec::clear),
    ] {
        add(name, &|message| {
            change(
                message["signature"]["signed_fields"]
                    .as_array_mut()
                    .unwrap(),
            );
        });
    }
    add("unknown-source-not-in-the-roster", &|message| {
        message["source"] = json!("intruder");
        seal(message, &FixtureAgent::new("intruder").key);
    });
    add("key-mismatch-other-members-key", &|message| {
        seal(message, &FixtureAgent::new("legal").key);
    });
    add("key-mismatch-unknown-key", &|message| {
        seal(message, &FixtureAgent::new("intruder").key);
    });
    add("bad-signature-nested-payload-changed", &|message| {
        message["payload"]["findings"][1]["confidence"] = json!(0.72);
    });
    add("bad-signature-sent-to-all", &|message| {
        message["destination"] = json!(Destination::All);
    });
    add("bad-signature-other-members-signature", &|message| {
        let mut other = message.clone();
        seal(&mut other, &FixtureAgent::new("legal").key);
        message["signature"]["signature_bytes"] = other["signature"]["signature_bytes"].take();
    });
    add("bad-signature-over-other-json", &|message| {
        let signature = members(message).remove("signature").unwrap();
        let spaced = serde_json::to_string_pretty(message).unwrap();
        let signed = finance.sign(Purpose::Message, spaced.as_bytes());
        message["signature"] = signature;
        message["signature"]["signature_bytes"] = json!(signed);
    });
    add("bad-signature-malleable-s", &|message| {
        let hex = message["signature"]["signature_bytes"].as_str().unwrap();
        message["signature"]["signature_bytes"] = json!(raise_s(hex));
    });
    files
}

/// Signs `message` again with `key`, naming exactly the members it has.
fn seal(message: &mut Value, key: &KeyPair) {
    members(message).remove("signature");
    let fields: Vec<_> = members(message).keys().cloned().collect();
    seal_as(message, key, json!(fields));
}

/// Signs `message` again with `key` and these `signed_fields`.
fn seal_as(message: &mut Value, key: &KeyPair, signed_fields: Value) {
    members(message).remove("signature");
    let signature = key.sign(Purpose::Message, &canonical(message));
    message["signature"] = json!({
        "algorithm": "ed25519",
        "public_key": key.public_key(),
        "signature_bytes": signature,
        "signed_fields": signed_fields,
    });
}

/// The same signature with the group order added to `S` (RFC 8032, section 5.1): a lax verifier
/// takes it for another good one.
fn raise_s(signature: &str) -> String {
    let order = hex::decode("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010");
    let mut bytes = hex::decode(signature).unwrap();
    let mut carry = 0u16;
    for (s, l) in bytes[32..].iter_mut().zip(order.unwrap()) {
        carry += u16::from(*s) + u16::from(l);
        *s = carry.to_le_bytes()[0];
        carry >>= 8;
    }
    hex::encode(bytes)
}

/// The message as a line of a file.
fn line(message: &Value) -> Vec<u8> {
    format!("{message}\n").into_bytes()
}

fn members(message: &mut Value) -> &mut Map<String, Value> {
    message.as_object_mut().unwrap()
}

fn object(value: Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

fn agent(id: &str) -> Destination {
    id.parse().unwrap()
}
