//! What the targets judge by, beside the code under test: another canonicalizer, the published
//! schemas, and the bounds on what an error may say.

use std::sync::LazyLock;

use ifswarm::identity::{KeyPair, PublicKey};
use ifswarm::message::parse_strict;
use jsonschema::Validator;
use serde_json::{Map, Value};

/// The key that targets sign with.
pub(super) static KEY: LazyLock<KeyPair> = LazyLock::new(|| KeyPair::from_secret(&[7; 32]));

/// Somebody else's.
pub(super) fn other_key() -> PublicKey {
    static OTHER: LazyLock<PublicKey> =
        LazyLock::new(|| KeyPair::from_secret(&[8; 32]).public_key());
    *OTHER
}

/// The members of the one object in `bytes`, if they are strict JSON of at most `limit` bytes.
pub(super) fn members(bytes: &[u8], limit: usize) -> Option<Map<String, Value>> {
    match parse_strict(bytes, limit) {
        Ok(Value::Object(members)) => Some(members),
        _ => None,
    }
}

/// RFC 8785 by the crate that our own writer replaces.
pub(super) fn jcs(members: &Map<String, Value>) -> Vec<u8> {
    serde_json_canonicalizer::to_vec(members).expect("string keys and finite numbers only")
}

/// A published schema, ready to judge.
pub(super) fn validator(schema: &str) -> Validator {
    let schema = serde_json::from_str(schema).expect("our schemas are JSON");
    jsonschema::draft202012::new(&schema).expect("our schemas are schemas")
}

/// Hostile text must neither flood a log nor break its lines.
pub(super) fn assert_one_line(text: &str, most: usize) {
    assert!(!text.is_empty(), "an error says something");
    let length = text.chars().count();
    assert!(length <= most, "{length} characters in an error: {text}");
    assert!(
        !text.chars().any(char::is_control),
        "not one line: {text:?}"
    );
}

/// `line` and `column`, both from 1, are a place in `text`, or just behind it.
pub(super) fn assert_place(text: &[u8], line: usize, column: usize) {
    let mut lines = text.split(|byte| *byte == b'\n');
    let found = line.checked_sub(1).and_then(|line| lines.nth(line));
    let found = found.unwrap_or_else(|| panic!("there is no line {line}"));
    assert!(
        column <= found.len() + 1,
        "line {line} has no column {column}"
    );
}

/// The place that an error of strict JSON begins with is one; errors of size name none.
pub(super) fn assert_json_place(text: &[u8], error: &str) {
    let Some(rest) = error.strip_prefix("line ") else {
        assert!(error.contains("bytes are more than the"), "{error}");
        return;
    };
    let place = rest
        .split_once(": ")
        .expect("a place, then what is wrong")
        .0;
    let (line, column) = place.split_once(", column ").expect("line and column");
    let number = |digits: &str| digits.parse().expect("a number");
    assert_place(text, number(line), number(column));
}
