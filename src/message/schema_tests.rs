//! The JSON Schema and the check by hand agree, wherever JSON Schema can say what is meant.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::tests::{full_value, key};
use super::*;

fn validator() -> jsonschema::Validator {
    let schema: Value = serde_json::from_str(schema()).unwrap();
    jsonschema::draft202012::meta::validate(&schema).unwrap();
    jsonschema::draft202012::new(&schema).unwrap()
}

/// Whether the check by hand finds the shape right. What comes after it is no matter of shape,
/// but the schema also asks for a signature.
fn right_shape(value: &Value) -> bool {
    match verify(value.to_string().as_bytes(), &|_: &_| {
        Some(key().public_key())
    }) {
        Ok(_) => true,
        Err(refusal) => !matches!(
            refusal.reason,
            Reason::Malformed | Reason::Schema | Reason::Unsigned
        ),
    }
}

/// Values at and beyond every limit of every member.
fn interesting() -> Vec<Value> {
    let mut values = vec![
        json!(null),
        json!(true),
        json!({}),
        json!({"a": 1}),
        json!([]),
        json!([7]),
    ];
    values.extend([-1i64, 0, 1, 2, 3, (1 << 53) - 1, 1 << 53].map(Value::from));
    values.push(json!(1.5));
    let texts = [
        "",
        "*",
        "**",
        "a",
        "-a",
        "a b",
        "@a",
        "a\n",
        "ä",
        "2.1",
        "2.0",
        "ed25519",
        "inform",
        "Inform",
        "query-if",
        "cit:",
        "cit:1",
        "cit:\n",
        "if://citation/",
        "if://citation/x",
        "xcit:1",
        "2026-01-31T08:15:30.123Z",
        "2026-13-31T08:15:30.123Z",
        "2026-01-32T08:15:30.123Z",
        "2026-01-31T24:15:30.123Z",
        "2026-01-31T08:60:30.123Z",
        "2026-01-31T08:15:60.123Z",
        "2026-01-31T08:15:30Z",
        "2026-01-31T08:15:30.123+00:00",
        "0000-01-01T00:00:00.000Z",
        "01890a5d-ac96-774b-bcce-b302099a8057",
        "01890a5d-ac96-474b-bcce-b302099a8057",
        "01890A5D-ac96-774b-bcce-b302099a8057",
        "01890a5dac96774bbcceb302099a8057",
        "0123456789abcdef01234567",
        "0123456789ABCDEF01234567",
        "0123456789abcdef0123456",
    ];
    for text in texts {
        values.extend([json!(text), json!([text]), json!([text, "cit:2"])]);
    }
    for length in [63, 64, 65, 127, 128, 129, 252, 253, 256, 257] {
        for text in ["a".repeat(length), "ä".repeat(length), "A".repeat(length)] {
            values.extend([json!(text), json!([text]), json!([format!("cit:{text}")])]);
        }
    }
    for count in [16, 17, 64, 65] {
        values.push(json!(vec!["cit:1"; count]));
    }
    values
}

/// Every member of the message and of its signature, and some that are unknown.
const MEMBERS: [&str; 23] = [
    "/id",
    "/timestamp",
    "/level",
    "/source",
    "/destination",
    "/version",
    "/payload",
    "/session",
    "/sequence_num",
    "/performative",
    "/conversation_id",
    "/in_reply_to",
    "/traceId",
    "/citation_ids",
    "/hazards",
    "/signature",
    "/signature/algorithm",
    "/signature/public_key",
    "/signature/signature_bytes",
    "/signature/signed_fields",
    "/signature/key",
    "/traceid",
    "/",
];

/// Sets the member at `path`, or takes it away.
fn change(message: &mut Value, path: &str, value: Option<Value>) {
    let (parent, name) = path.rsplit_once('/').unwrap();
    let Some(Value::Object(members)) = message.pointer_mut(parent) else {
        return;
    };
    match value {
        Some(value) => members.insert(name.into(), value),
        None => members.remove(name),
    };
}

#[test]
fn schema_and_check_agree_on_every_member_with_every_interesting_value() {
    let validator = validator();
    assert!(validator.is_valid(&full_value()) && right_shape(&full_value()));
    let (mut accepted, mut refused) = (0, 0);
    for path in MEMBERS {
        let values = interesting().into_iter().map(Some);
        for value in values.chain([None]) {
            let mut message = full_value();
            change(&mut message, path, value);
            let by_schema = validator.is_valid(&message);
            assert_eq!(by_schema, right_shape(&message), "{path}: {message}");
            *(if by_schema {
                &mut accepted
            } else {
                &mut refused
            }) += 1;
        }
    }
    assert!(accepted > 100 && refused > 1000, "{accepted} {refused}");
}

#[test]
fn the_check_is_stricter_only_where_json_schema_has_no_words() {
    let validator = validator();
    for (path, value) in [
        ("/level", json!(1.0)),
        ("/sequence_num", json!(7.0)),
        ("/timestamp", json!("2026-02-30T00:00:00.000Z")),
    ] {
        let mut message = full_value();
        change(&mut message, path, Some(value));
        assert!(
            validator.is_valid(&message) && !right_shape(&message),
            "{path}"
        );
    }
}

proptest! {
    #[test]
    fn schema_and_check_agree_on_several_changes_at_once(
        changes in proptest::collection::vec(
            (
                proptest::sample::select(&MEMBERS[..]),
                proptest::option::weighted(0.8, proptest::sample::select(interesting())),
            ),
            1..4,
        ),
        text in any::<String>(),
        text_at in proptest::sample::select(&MEMBERS[..]),
    ) {
        let validator = validator();
        let mut message = full_value();
        for (path, value) in changes {
            change(&mut message, path, value);
        }
        prop_assert_eq!(validator.is_valid(&message), right_shape(&message), "{}", message);
        let mut message = full_value();
        change(&mut message, text_at, Some(json!(text)));
        prop_assert_eq!(validator.is_valid(&message), right_shape(&message), "{}", message);
    }
}
