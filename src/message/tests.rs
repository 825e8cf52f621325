//! What must hold for all messages: properties, and the agreement with the JSON Schema.

use serde_json::{Map, Value, json};

use super::*;
use crate::identity::{AgentId, KeyPair, Roster, Session};

fn id(text: &str) -> AgentId {
    text.parse().unwrap()
}

fn key() -> KeyPair {
    KeyPair::from_secret(&[7; 32])
}

fn roster() -> Roster {
    Roster::new([(id("finance"), key().public_key())]).unwrap()
}

fn object(value: Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

fn signed_as(draft: Draft) -> Result<Signed, DraftError> {
    let author = Author {
        id: &id("finance"),
        session: Session::new(1_769_847_330_000, [1; 10]),
        key: &key(),
    };
    let now = "2026-01-31T08:15:30.123Z".parse().unwrap();
    sign(draft, &author, 1, now, [9; 22])
}

#[test]
fn a_signed_message_verifies_and_says_what_the_draft_said() {
    let draft = Draft::new(
        id("legal"),
        object(json!({"text": "hello", "n": [1, 2.5, 1e30]})),
    );
    let signed = signed_as(draft).unwrap();
    let verified = verify(signed.text().as_bytes(), &roster()).unwrap();
    assert_eq!(&*verified, signed.message());
    assert_eq!(verified.digest(), signed.digest());
}
