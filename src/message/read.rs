//! From a parsed object to typed members, one pass, by hand: the JSON Schema's rules and those
//! that a schema cannot express, without its cost.

use serde_json::{Map, Value};

use super::ifmessage::{ALGORITHM, IfMessage, Seal, VERSION};
use super::names::Level;
use super::shape::{self, Fault};
use crate::identity::{Signature, hex_bytes};

/// Reads all members but `signature`, which is not among them. Takes `payload` out of `members`;
/// the seal is left blank.
pub(super) fn message(members: &mut Map<String, Value>) -> Result<IfMessage, Fault> {
    let mut id = None;
    let mut timestamp = None;
    let mut level = None;
    let mut source = None;
    let mut destination = None;
    let mut session = None;
    let mut sequence_num = None;
    let mut performative = None;
    let mut conversation_id = None;
    let mut in_reply_to = None;
    let mut trace_id = None;
    let mut citation_ids = None;
    let mut hazards = None;
    let mut payload = None;
    let mut version = None;
    for (name, value) in members.iter_mut() {
        match name.as_str() {
            "id" => id = Some(message_id(name, value)?),
            "timestamp" => timestamp = Some(parsed(name, value, shape::TIMESTAMP)?),
            "level" => level = Some(read_level(value)?),
            "source" => source = Some(parsed(name, value, shape::ID)?),
            "destination" => destination = Some(parsed(name, value, shape::DESTINATION)?),
            "session" => session = Some(parsed(name, value, shape::SESSION)?),
            "sequence_num" => sequence_num = Some(read_sequence_num(value)?),
            "performative" => performative = Some(parsed(name, value, shape::PERFORMATIVE)?),
            "conversation_id" => conversation_id = Some(message_id(name, value)?),
            "in_reply_to" => in_reply_to = Some(message_id(name, value)?),
            "traceId" => {
                let text = text(name, value, shape::TRACE_ID)?;
                shape::check_trace_id(text)?;
                trace_id = Some(text.into());
            }
            "citation_ids" => {
                let ids = texts(name, value, shape::CITATIONS)?;
                shape::check_citations(&ids)?;
                citation_ids = Some(ids);
            }
            "hazards" => {
                let texts = texts(name, value, shape::HAZARDS)?;
                shape::check_hazards(&texts)?;
                hazards = Some(texts);
            }
            "payload" => match value {
                Value::Object(object) => payload = Some(std::mem::take(object)),
                other => return Err(Fault::new(name, other, shape::PAYLOAD)),
            },
            "version" => {
                if text(name, value, shape::VERSION)? != VERSION {
                    return Err(Fault::new(name, value, shape::VERSION));
                }
                version = Some(());
            }
            unknown => {
                let field = shape::excerpt(unknown);
                return Err(Fault::new(field, value, "no member of this name"));
            }
        }
    }
    version.ok_or_else(|| Fault::missing("version", shape::VERSION))?;
    Ok(IfMessage {
        id: id.ok_or_else(|| Fault::missing("id", shape::ID))?,
        timestamp: timestamp.ok_or_else(|| Fault::missing("timestamp", shape::TIMESTAMP))?,
        level: level.ok_or_else(|| Fault::missing("level", shape::LEVEL))?,
        source: source.ok_or_else(|| Fault::missing("source", shape::ID))?,
        destination: destination
            .ok_or_else(|| Fault::missing("destination", shape::DESTINATION))?,
        session: session.ok_or_else(|| Fault::missing("session", shape::SESSION))?,
        sequence_num: sequence_num
            .ok_or_else(|| Fault::missing("sequence_num", shape::SEQUENCE_NUM))?,
        performative,
        conversation_id,
        in_reply_to,
        trace_id,
        citation_ids,
        hazards,
        payload: payload.ok_or_else(|| Fault::missing("payload", shape::PAYLOAD))?,
        seal: Seal::blank([0; 32]),
    })
}

/// Reads `signature`: the seal, and the names it says are signed.
pub(super) fn signature(value: &Value) -> Result<(Seal, Vec<&str>), Fault> {
    let Value::Object(members) = value else {
        return Err(Fault::new("signature", value, shape::SIGNATURE));
    };
    let known = [
        "algorithm",
        "public_key",
        "signature_bytes",
        "signed_fields",
    ];
    if let Some((name, value)) = members
        .iter()
        .find(|(name, _)| !known.contains(&name.as_str()))
    {
        let field = format!("signature.{}", shape::excerpt(name));
        return Err(Fault::new(field, value, "no member of this name"));
    }
    let member = |name: &str, expected| match members.get(name) {
        Some(value) => Ok(value),
        None => Err(Fault::missing(&format!("signature.{name}"), expected)),
    };
    let algorithm = member("algorithm", shape::ALGORITHM)?;
    if algorithm.as_str() != Some(ALGORITHM) {
        return Err(Fault::new(
            "signature.algorithm",
            algorithm,
            shape::ALGORITHM,
        ));
    }
    let public_key = member("public_key", shape::HEX_64)?;
    let signature_bytes = member("signature_bytes", shape::HEX_128)?;
    let signed_fields = member("signed_fields", shape::SIGNED_FIELDS)?;
    let seal = Seal {
        public_key: public_key
            .as_str()
            .and_then(hex_bytes)
            .ok_or_else(|| Fault::new("signature.public_key", public_key, shape::HEX_64))?,
        signature: signature_bytes
            .as_str()
            .and_then(hex_bytes)
            .map(Signature::from_bytes)
            .ok_or_else(|| {
                Fault::new("signature.signature_bytes", signature_bytes, shape::HEX_128)
            })?,
    };
    let names = signed_fields
        .as_array()
        .and_then(|names| names.iter().map(Value::as_str).collect::<Option<Vec<_>>>())
        .ok_or_else(|| {
            Fault::new(
                "signature.signed_fields",
                signed_fields,
                shape::SIGNED_FIELDS,
            )
        })?;
    Ok((seal, names))
}

fn text<'a>(name: &str, value: &'a Value, expected: &'static str) -> Result<&'a str, Fault> {
    value
        .as_str()
        .ok_or_else(|| Fault::new(name, value, expected))
}

fn parsed<T: std::str::FromStr>(
    name: &str,
    value: &Value,
    expected: &'static str,
) -> Result<T, Fault> {
    let text = text(name, value, expected)?;
    text.parse().map_err(|_| Fault::new(name, value, expected))
}

fn message_id(name: &str, value: &Value) -> Result<String, Fault> {
    let id = text(name, value, shape::ID)?;
    shape::check_id(name, id)?;
    Ok(id.into())
}

fn texts(name: &str, value: &Value, expected: &'static str) -> Result<Vec<String>, Fault> {
    let Value::Array(items) = value else {
        return Err(Fault::new(name, value, expected));
    };
    let owned = items.iter().map(|item| item.as_str().map(String::from));
    owned
        .collect::<Option<_>>()
        .ok_or_else(|| Fault::new(name, value, expected))
}

/// `as_u64` gives nothing for `1.0` and `1e0`, which is what the contract asks.
fn read_level(value: &Value) -> Result<Level, Fault> {
    value
        .as_u64()
        .and_then(Level::from_number)
        .ok_or_else(|| Fault::new("level", value, shape::LEVEL))
}

fn read_sequence_num(value: &Value) -> Result<u64, Fault> {
    value
        .as_u64()
        .filter(|number| shape::is_sequence_num(*number))
        .ok_or_else(|| Fault::new("sequence_num", value, shape::SEQUENCE_NUM))
}
