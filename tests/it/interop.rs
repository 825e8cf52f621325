//! Two programs written from one contract agree: what Rust signs, Python verifies, and the other
//! way round; what was changed, both refuse, for the same reason.

use std::fs;

use ifswarm::identity::Roster;
use ifswarm::message::{Draft, IfMessage, Performative, Refusal, Signed, verify};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use serde_json::{Map, Value, json};

use crate::message_fixtures;
use crate::python::{lines, run};
use crate::support::{FixtureAgent, fixtures_dir, roster};

#[test]
fn python_judges_every_fixture_as_its_name_says() {
    let mut names = vec![];
    for folder in ["", "invalid"] {
        for entry in fs::read_dir(fixtures_dir().join(folder)).unwrap() {
            let path = entry.unwrap().path();
            let is_message = folder == "invalid"
                || message_fixtures::valid()
                    .iter()
                    .any(|(name, _)| path.ends_with(name));
            if is_message {
                names.push((path.to_str().unwrap().to_owned(), folder == "invalid"));
            }
        }
    }
    assert!(names.len() > 30);
    let roster = fixtures_dir().join("roster.yaml");
    let mut args = vec!["verify", "--roster", roster.to_str().unwrap()];
    args.extend(names.iter().map(|(path, _)| path.as_str()));
    let output = run("ifmessage.py", &args, "");
    assert_eq!(output.status.code(), Some(1), "some are refused");
    let verdicts = lines(&output);
    assert_eq!(verdicts.len(), names.len());
    for ((path, is_invalid), verdict) in names.iter().zip(verdicts) {
        if *is_invalid {
            let reason = reason_of(&verdict).unwrap_or_else(|| panic!("{path}: {verdict}"));
            let name = path.rsplit('/').next().unwrap();
            assert!(name.starts_with(reason), "{name}: {verdict}");
        } else {
            assert!(verdict.starts_with("ok "), "{path}: {verdict}");
        }
    }
}

#[test]
fn python_verifies_whatever_rust_signs() {
    let messages: Vec<_> = drafts().into_iter().enumerate().map(sign).collect();
    let texts: Vec<_> = messages
        .iter()
        .map(|message| message.text().as_bytes().to_vec())
        .collect();
    for (message, verdict) in messages.iter().zip(python_verdicts(&texts)) {
        let expected = format!("ok finance {}", hex::encode(message.digest()));
        assert_eq!(verdict, expected, "{}", message.text());
    }
}

#[test]
fn rust_verifies_whatever_python_signs_however_it_is_laid_out() {
    let finance = FixtureAgent::new("finance");
    let secret = fixture_secret("finance");
    let messages: Vec<_> = drafts().into_iter().enumerate().map(sign).collect();
    let unsigned: String = messages
        .iter()
        .map(|message| {
            let mut message: Value = serde_json::from_str(message.text()).unwrap();
            message.as_object_mut().unwrap().remove("signature");
            format!("{message}\n")
        })
        .collect();
    for layout in ["canonical", "spaced", "backwards", "escaped"] {
        let args = ["sign", "--secret", &secret, "--layout", layout];
        let output = run("ifmessage.py", &args, &unsigned);
        assert!(output.status.success());
        let signed = lines(&output);
        assert_eq!(signed.len(), messages.len());
        for (signed, expected) in signed.iter().zip(&messages) {
            let bytes = hex::decode(signed).unwrap();
            let message = verify(&bytes, &roster()).unwrap_or_else(|refusal| {
                panic!("{layout}: {refusal}: {}", String::from_utf8_lossy(&bytes))
            });
            // Ed25519 is deterministic: the two programs make the same signature.
            let signature =
                |message: &IfMessage| serde_json::to_value(message).unwrap()["signature"].clone();
            assert_eq!(
                signature(&message),
                signature(expected.message()),
                "{layout}"
            );
            assert_eq!(message.digest(), expected.digest(), "{layout}");
            assert_eq!(*message.public_key(), finance.public_key());
        }
    }
}

#[test]
fn both_refuse_a_message_with_any_one_byte_changed_for_the_same_reason() {
    let message = short();
    let bytes = message.text().as_bytes();
    assert!(bytes.len() < 1_500, "the changes are many");
    let mut changed = Vec::new();
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut copy = bytes.to_vec();
            copy[at] ^= 1 << bit;
            changed.push(copy);
        }
        let mut copy = bytes.to_vec();
        copy.remove(at);
        changed.push(copy);
    }
    both_refuse(&changed);
}

#[test]
fn both_refuse_every_other_byte_in_a_nested_payload() {
    let message = short();
    let text = message.text();
    let start = text.find("\"payload\":").unwrap();
    let end = start + text[start..].find("]}},").unwrap() + 3;
    let mut changed = Vec::new();
    for at in start..end {
        for other in 0..=255u8 {
            let mut copy = text.as_bytes().to_vec();
            if copy[at] != other {
                copy[at] = other;
                changed.push(copy);
            }
        }
    }
    assert!(changed.len() > 10_000);
    both_refuse(&changed);
}

/// Neither takes any of these, and they agree why.
fn both_refuse(changed: &[Vec<u8>]) {
    let roster = roster();
    for (bytes, python) in changed.iter().zip(python_verdicts(changed)) {
        let text = String::from_utf8_lossy(bytes);
        let rust = rust_refusal(bytes, &roster).unwrap_or_else(|| panic!("Rust takes {text}"));
        let found = reason_of(&python).unwrap_or_else(|| panic!("Python takes {text}"));
        assert_eq!(
            found,
            rust.reason.as_str(),
            "Rust: {rust}; Python: {python}; {text}"
        );
    }
}

fn rust_refusal(bytes: &[u8], roster: &Roster) -> Option<Box<Refusal>> {
    verify(bytes, roster).err()
}

/// What Python says of each of these messages, under the roster of the fixtures.
fn python_verdicts(messages: &[Vec<u8>]) -> Vec<String> {
    let roster = fixtures_dir().join("roster.yaml");
    let args = [
        "verify",
        "--hex-lines",
        "--roster",
        roster.to_str().unwrap(),
    ];
    let input: String = messages
        .iter()
        .map(|bytes| hex::encode(bytes) + "\n")
        .collect();
    let verdicts = lines(&run("ifmessage.py", &args, &input));
    assert_eq!(verdicts.len(), messages.len());
    verdicts
}

/// The reason in `refused REASON: DETAIL`.
fn reason_of(verdict: &str) -> Option<&str> {
    Some(verdict.strip_prefix("refused ")?.split_once(':')?.0)
}

/// A message with everything a payload may nest, and none of the few bytes whose change leaves
/// the meaning as it is, such as the `e` of a number.
fn short() -> Signed {
    let payload = json!({"a": {"b": [1.5, {"c": "d\u{e9}\n"}, null, true, -20]}});
    let draft = Draft {
        performative: Some(Performative::Inform),
        hazards: vec!["legal".into()],
        ..Draft::new(
            "legal".parse::<ifswarm::identity::AgentId>().unwrap(),
            object(payload),
        )
    };
    FixtureAgent::new("finance").sign("short", 1, draft)
}

fn sign((place, payload): (usize, Map<String, Value>)) -> Signed {
    let to_legal: ifswarm::identity::AgentId = "legal".parse().unwrap();
    let draft = Draft::new(to_legal, payload);
    FixtureAgent::new("finance").sign(&format!("message {place}"), place as u64 + 1, draft)
}

/// Payloads, the same ones each time: the corners, and many by chance.
fn drafts() -> Vec<Map<String, Value>> {
    let mut payloads = vec![
        json!({}),
        json!({"": "", "\u{20ac}": 1, "\r": 2, "\u{fb33}": 3, "1": 4, "\u{1f600}": 5, "\u{80}": 6, "\u{f6}": 7}),
        json!({"text": "\u{0}\u{1f}\u{7f}\u{2028}\u{feff}\u{ffff}\u{10ffff} \"\\/\u{8}\u{c}\n\r\t 兄弟 👩‍👩‍👧‍👦"}),
        json!({"integers": [0, -1, 9007199254740991i64, 9007199254740993i64, i64::MIN, u64::MAX]}),
        json!({"doubles": [-0.0, 0.1, 1e20, 1e21, 123456789012345680000.0, 1e-6, 1e-7, 5e-324,
            f64::MAX, f64::MIN_POSITIVE, 333_333_333.333_333_3, 1e23, 4.5, 2e-3, 9.5e-7, 100.0]}),
    ];
    let mut runner = TestRunner::deterministic();
    let any = json_value();
    payloads.extend((0..PAYLOADS).map(|_| {
        let value = any.new_tree(&mut runner).unwrap().current();
        json!({ "value": value })
    }));
    payloads.into_iter().map(object).collect()
}

/// Any JSON: text of every kind, numbers of every size, nested.
fn json_value() -> impl Strategy<Value = Value> {
    let finite = any::<f64>().prop_filter("JSON has no others", |x| x.is_finite());
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-1000i64..1000).prop_map(Value::from),
        finite.prop_map(Value::from),
        (-1e9..1e9).prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        "[ -~]{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::hash_map(any::<String>(), inner, 0..6)
                .prop_map(|members| members.into_iter().collect()),
        ]
    })
}

/// The secret key of a fixture agent, in hex; `fixtures/README.md` says how it is made.
fn fixture_secret(id: &str) -> String {
    use sha2::{Digest, Sha256};
    hex::encode(Sha256::digest(format!("ifswarm fixture key: {id}")))
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(members) => members,
        other => panic!("{other} is no object"),
    }
}

/// Enough to meet every kind of value often.
const PAYLOADS: usize = 500;
