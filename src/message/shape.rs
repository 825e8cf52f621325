//! The shape of each member of an IFMessage, checked the same way in drafts and in received
//! messages. `ifmessage.schema.json` says the same to other programs; a test holds the two
//! together.

use serde_json::Value;

use super::json::MAX_DEPTH;
use crate::identity::AgentId;

/// A member that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{field}`: found {found}, expected {expected}")]
pub(super) struct Fault {
    /// The member, with an index where it is within a list.
    pub(super) field: String,
    /// What is there, shortened and escaped.
    pub(super) found: String,
    /// What should be there.
    pub(super) expected: &'static str,
}

impl Fault {
    pub(super) fn new(field: impl Into<String>, found: &Value, expected: &'static str) -> Self {
        Self {
            field: field.into(),
            found: describe(found),
            expected,
        }
    }

    pub(super) fn text(field: impl Into<String>, found: &str, expected: &'static str) -> Self {
        Self {
            field: field.into(),
            found: quote(found),
            expected,
        }
    }

    pub(super) fn missing(field: &str, expected: &'static str) -> Self {
        Self {
            field: field.into(),
            found: "nothing".into(),
            expected,
        }
    }
}

/// Checks the id of a message or a conversation.
pub(super) fn check_id(field: &str, id: &str) -> Result<(), Fault> {
    if AgentId::is_valid(id) {
        Ok(())
    } else {
        Err(Fault::text(field, id, ID))
    }
}

/// Checks a `traceId`.
pub(super) fn check_trace_id(id: &str) -> Result<(), Fault> {
    if is_trace_id(id) {
        Ok(())
    } else {
        Err(Fault::text("traceId", id, TRACE_ID))
    }
}

pub(super) fn is_trace_id(id: &str) -> bool {
    id.len() == TRACE_ID_DIGITS && is_lower_hex(id)
}

pub(super) fn is_lower_hex(text: &str) -> bool {
    text.bytes()
        .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

pub(super) fn is_sequence_num(number: u64) -> bool {
    (1..=MAX_INTEGER).contains(&number)
}

/// Checks `citation_ids`.
pub(super) fn check_citations(ids: &[String]) -> Result<(), Fault> {
    check_list("citation_ids", ids, MAX_CITATIONS, CITATIONS, |id| {
        let rest = id
            .strip_prefix("if://citation/")
            .or_else(|| id.strip_prefix("cit:"));
        rest.is_some_and(|rest| !rest.is_empty()) && id.chars().count() <= MAX_CITATION
    })
}

/// Checks `hazards`.
pub(super) fn check_hazards(hazards: &[String]) -> Result<(), Fault> {
    check_list("hazards", hazards, MAX_HAZARDS, HAZARDS, |hazard| {
        hazard.chars().count() <= MAX_HAZARD
    })
}

fn check_list(
    field: &str,
    items: &[String],
    limit: usize,
    expected: &'static str,
    good: impl Fn(&str) -> bool,
) -> Result<(), Fault> {
    if items.len() > limit {
        return Err(Fault {
            field: field.into(),
            found: format!("{} items", items.len()),
            expected,
        });
    }
    match items.iter().enumerate().find(|(_, item)| !good(item)) {
        Some((index, item)) => Err(Fault::text(format!("{field}[{index}]"), item, expected)),
        None => Ok(()),
    }
}

/// Whether a `payload` with these values stays within the depth that readers accept.
/// Never looks deeper than that itself.
pub(super) fn fits_depth<'a>(payload: impl Iterator<Item = &'a Value>) -> bool {
    // The message is the first level, its payload the second.
    each_fits(payload, MAX_DEPTH - 2)
}

fn each_fits<'a>(mut values: impl Iterator<Item = &'a Value>, levels: usize) -> bool {
    values.all(|value| match value {
        Value::Array(_) | Value::Object(_) if levels == 0 => false,
        Value::Array(items) => each_fits(Box::new(items.iter()) as Values<'_>, levels - 1),
        Value::Object(members) => each_fits(Box::new(members.values()) as Values<'_>, levels - 1),
        _ => true,
    })
}

/// One type for both kinds of iterator, so that the recursion is finite at compile time.
type Values<'a> = Box<dyn Iterator<Item = &'a Value> + 'a>;

/// Foreign text for a log line: shortened, escaped, without quotation marks.
pub(super) fn excerpt(text: &str) -> String {
    let short: String = text.chars().take(EXCERPT).collect();
    let more = if short.len() < text.len() { "…" } else { "" };
    format!("{}{more}", short.escape_debug())
}

/// An error's own text, which may quote a stranger's, as one line of at most `most` characters:
/// control characters replaced, the rest as it is.
pub(crate) fn one_line(text: &str, most: usize) -> String {
    let visible = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    text.chars().take(most).map(visible).collect()
}

fn quote(text: &str) -> String {
    format!("\"{}\"", excerpt(text))
}

fn describe(value: &Value) -> String {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::String(text) => quote(text),
        Value::Array(items) => format!("an array of {}", items.len()),
        Value::Object(members) => format!("an object of {}", members.len()),
    }
}

/// Characters of foreign text in an error: enough to recognise it, little enough for one line.
const EXCERPT: usize = 80;
/// Below 2^53 every integer is a double of its own, in every language.
pub(super) const MAX_INTEGER: u64 = (1 << 53) - 1;
const TRACE_ID_DIGITS: usize = 24;
const MAX_CITATIONS: usize = 64;
const MAX_CITATION: usize = 256;
const MAX_HAZARDS: usize = 16;
const MAX_HAZARD: usize = 64;

pub(super) const ID: &str =
    "1-128 characters of A-Z a-z 0-9 . _ : / @ -, the first a letter or digit";
pub(super) const DESTINATION: &str = "an agent id (1-128 characters of A-Z a-z 0-9 . _ : / @ -, the first a letter or digit) or \"*\"";
pub(super) const TIMESTAMP: &str = "UTC with milliseconds such as 2026-01-31T08:15:30.123Z";
pub(super) const LEVEL: &str = "the integer 1 (function) or 2 (module)";
pub(super) const VERSION: &str = "\"2.1\"";
pub(super) const PAYLOAD: &str = "an object";
pub(super) const SESSION: &str = "a lower-case UUIDv7";
pub(super) const SEQUENCE_NUM: &str =
    "an integer from 1 to 9007199254740991, without point or exponent";
pub(super) const PERFORMATIVE: &str = "one of the 15 performatives, such as \"inform\"";
pub(super) const TRACE_ID: &str = "24 lower-case hex digits";
pub(super) const CITATIONS: &str =
    "up to 64 strings of up to 256 characters, each if://citation/… or cit:…";
pub(super) const HAZARDS: &str = "up to 16 strings of up to 64 characters";
pub(super) const SIGNATURE: &str =
    "an object of algorithm, public_key, signature_bytes, signed_fields";
pub(super) const ALGORITHM: &str = "\"ed25519\"";
pub(super) const HEX_64: &str = "64 lower-case hex digits";
pub(super) const HEX_128: &str = "128 lower-case hex digits";
pub(super) const SIGNED_FIELDS: &str = "an array of names";
