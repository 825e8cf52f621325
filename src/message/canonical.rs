//! The one canonical way to write JSON: RFC 8785 (JCS).
//!
//! A direct writer over [`Value`]: every signature and every log line passes through it, and
//! `serde_json_canonicalizer` takes seven times as long because it copies each member into buffers
//! of its own. That crate still writes the fractions, and the tests hold this writer to it.

use serde::Serialize;
use serde_json::{Map, Number, Value};

/// The canonical bytes of a value: RFC 8785, every number written as the double it is read as.
///
/// # Panics
/// Never for what this crate passes: values and structs whose keys are strings and whose
/// numbers are finite.
pub fn canonical<T: Serialize>(value: &T) -> Vec<u8> {
    let value = serde_json::to_value(value).expect("string keys only");
    let mut out = Vec::with_capacity(TYPICAL_SIZE);
    write_value(&mut out, &value);
    out
}

/// Writes any value.
fn write_value(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(true) => out.extend_from_slice(b"true"),
        Value::Bool(false) => out.extend_from_slice(b"false"),
        Value::Number(number) => write_number(out, number),
        Value::String(text) => write_text(out, text),
        Value::Array(items) => write_list(out, items, write_value),
        Value::Object(members) => write_object(out, members),
    }
}

/// Writes an object, its members in the order of their UTF-16 code units (section 3.2.3).
pub(crate) fn write_object(out: &mut Vec<u8>, members: &Map<String, Value>) {
    // The map's own order is that of UTF-8, which differs above U+FFFF: usually nothing moves.
    let mut sorted: Vec<_> = members.iter().collect();
    sorted.sort_by(|(a, _), (b, _)| match a.is_ascii() && b.is_ascii() {
        true => a.cmp(b),
        false => a.encode_utf16().cmp(b.encode_utf16()),
    });
    out.push(b'{');
    for (index, (name, value)) in sorted.into_iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write_text(out, name);
        out.push(b':');
        write_value(out, value);
    }
    out.push(b'}');
}

/// Writes an array, each item with `write`.
pub(super) fn write_list<T>(out: &mut Vec<u8>, items: &[T], write: impl Fn(&mut Vec<u8>, &T)) {
    out.push(b'[');
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write(out, item);
    }
    out.push(b']');
}

/// Writes a string. serde_json escapes exactly as section 3.2.2.2 asks.
pub(super) fn write_text(out: &mut Vec<u8>, text: &str) {
    // Without an early exit, so that the compiler checks many bytes at once.
    let is_plain = |b: u8| b >= b' ' && b != b'"' && b != b'\\';
    if text.bytes().fold(true, |all, b| all & is_plain(b)) {
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
    } else {
        serde_json::to_writer(out, text).expect("writing to memory cannot fail");
    }
}

/// Writes a number as ECMAScript does (section 3.2.2.3).
fn write_number(out: &mut Vec<u8>, number: &Number) {
    // Integers of this size are doubles of their own, and are written as they are.
    let exact = match (number.as_u64(), number.as_i64()) {
        (Some(n), _) => n <= MAX_EXACT,
        (None, Some(n)) => n.unsigned_abs() <= MAX_EXACT,
        (None, None) => false,
    };
    if exact {
        serde_json::to_writer(out, number).expect("writing to memory cannot fail");
    } else {
        let double = number.as_f64().expect("every number here is a double");
        serde_json_canonicalizer::to_writer(&double, out).expect("a Value's numbers are finite");
    }
}

/// Beyond 2^53 not every integer is a double.
const MAX_EXACT: u64 = 1 << 53;
/// Room for most messages and log lines, so that the buffer rarely grows.
pub(super) const TYPICAL_SIZE: usize = 2048;

#[cfg(test)]
mod tests {
    use super::super::json::{Malformed, parse_strict};
    use super::*;

    fn parse(text: &str) -> Result<Value, Malformed> {
        parse_strict(text.as_bytes(), 1 << 20)
    }

    /// RFC 8785, sections 3.2.2.3 and 3.2.3 and appendix B.
    #[test]
    fn writes_canonical_json_as_the_rfc_does() {
        let text = r#"{"numbers":[333333333.33333329,1E30,4.50,2e-3,0.000000000000000000000000001,-0,9007199254740993],"string":"\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/","literals":[null,true,false]}"#;
        let expected = "{\"literals\":[null,true,false],\"numbers\":[333333333.3333333,1e+30,4.5,0.002,1e-27,0,9007199254740992],\"string\":\"€$\\u000f\\nA'B\\\"\\\\\\\\\\\"/\"}";
        let canonical = canonical(&parse(text).unwrap());
        assert_eq!(String::from_utf8(canonical).unwrap(), expected);
        // Keys are sorted by UTF-16 code units, not by code points.
        let text = "{\"\u{fb33}\":1,\"\u{1f600}\":2,\"\u{20ac}\":3,\"1\":4}";
        let expected = "{\"1\":4,\"\u{20ac}\":3,\"\u{1f600}\":2,\"\u{fb33}\":1}";
        let canonical = super::canonical(&parse(text).unwrap());
        assert_eq!(String::from_utf8(canonical).unwrap(), expected);
    }
}
