//! IFMessages: `message::verify`.

use std::sync::LazyLock;

use ifswarm::identity::{AgentId, PublicKey, Purpose};
use ifswarm::message::{
    IfMessage, MAX_MESSAGE, Reason, Refusal, Timestamp, Verified, schema, verify, verify_integrity,
};
use jsonschema::Validator;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::oracle::{KEY, assert_json_place, assert_one_line, jcs, members, other_key, validator};

pub(super) fn target(bytes: &[u8]) {
    match verify_integrity(bytes) {
        Ok(message) => survives(bytes, &message),
        Err(refusal) => explained(bytes, &refusal),
    }
    keys_are_asked_for(bytes);
    if let Some(members) = members(bytes, MAX_MESSAGE) {
        schema_and_reader_agree(members);
    }
}

/// A good message is what its signed bytes say, and nothing else.
fn survives(bytes: &[u8], message: &Verified<IfMessage>) {
    let mut members = members(bytes, MAX_MESSAGE).expect("verified");
    assert!(SCHEMA.is_valid(&Value::Object(members.clone())));
    let signature = members.remove("signature").expect("verified");
    let signed = jcs(&members);
    assert_eq!(message.digest(), &<[u8; 32]>::from(Sha256::digest(&signed)));
    let hex = signature["signature_bytes"].as_str().expect("verified");
    let signature = hex.parse().expect("verified");
    let key = message.public_key();
    assert_eq!(key.verify(Purpose::Message, &signed, &signature), Ok(()));

    let written = serde_json::to_vec(&**message).expect("string keys");
    let again = verify_integrity(&written).expect("what was read can be stored and read again");
    assert_eq!(again.digest(), message.digest());
    assert_eq!(serde_json::to_vec(&*again).expect("string keys"), written);
    let refusal = verify(&written, &nobody).expect_err("nobody is known");
    assert_eq!(refusal.claim, message.into());
}

/// A refusal has a reason of the list, a detail that fits a log line, and the right digest.
fn explained(bytes: &[u8], refusal: &Refusal) {
    let Refusal {
        reason,
        detail,
        claim,
    } = refusal;
    assert_one_line(detail, MAX_DETAIL);
    let digest = match members(bytes, MAX_MESSAGE) {
        None => {
            assert_eq!(*reason, Reason::Malformed);
            if detail != "found no object, expected one" {
                assert_json_place(bytes, detail);
            }
            Sha256::digest(bytes)
        }
        Some(mut members) => {
            assert!(*reason > Reason::Malformed && *reason <= Reason::BadSignature);
            assert!(detail.starts_with('`'), "a member is named: {detail}");
            members.remove("signature");
            Sha256::digest(jcs(&members))
        }
    };
    assert_eq!(claim.sha256, <[u8; 32]>::from(digest));
}

/// Whoever knows no key, or another one, takes no message, and refuses it for the first reason.
fn keys_are_asked_for(bytes: &[u8]) {
    let integrity = verify_integrity(bytes).map_err(|refusal| refusal.reason);
    let unknown = verify(bytes, &nobody).expect_err("nobody is known").reason;
    let another = |_: &AgentId| Some(other_key());
    let mismatch = verify(bytes, &another).map_err(|refusal| refusal.reason);
    match integrity {
        Err(reason) if reason < Reason::UnknownSource => {
            assert_eq!(unknown, reason);
            assert_eq!(mismatch.expect_err("refused before"), reason);
        }
        _ => {
            assert_eq!(unknown, Reason::UnknownSource);
            // The other key is one that a mutation does not hit upon.
            assert_eq!(mismatch.expect_err("another key"), Reason::KeyMismatch);
        }
    }
}

/// Signed anew, the members are a message exactly if the schema says so.
fn schema_and_reader_agree(mut members: Map<String, Value>) {
    members.remove("signature");
    let mut signed = jcs(&members);
    let signature = KEY.sign(Purpose::Message, &signed);
    let mut names: Vec<_> = members.keys().map(String::as_str).collect();
    names.sort_unstable();
    let signature = json!({
        "algorithm": "ed25519",
        "public_key": KEY.public_key(),
        "signature_bytes": signature,
        "signed_fields": names,
    });
    // Canonical bytes: the schema cannot tell `1.0` from `1`.
    signed.pop();
    if signed.len() > 1 {
        signed.push(b',');
    }
    signed.extend_from_slice(format!("\"signature\":{signature}}}").as_bytes());
    let date = members.get("timestamp").and_then(Value::as_str);
    let has_date = date.is_some_and(|text| text.parse::<Timestamp>().is_ok());
    members.insert("signature".into(), signature);
    let fits_schema = SCHEMA.is_valid(&Value::Object(members));
    match verify_integrity(&signed) {
        Ok(message) => {
            assert!(fits_schema, "the reader takes what the schema refuses");
            survives(&signed, &message);
        }
        Err(refusal) if refusal.reason == Reason::Malformed => {
            assert!(signed.len() > MAX_MESSAGE, "only its size: {refusal}");
        }
        Err(refusal) => {
            assert_eq!(refusal.reason, Reason::Schema, "{refusal}");
            // A schema does not know which dates there are.
            assert!(!fits_schema || !has_date, "the schema takes it: {refusal}");
            explained(&signed, &refusal);
        }
    }
}

fn nobody(_: &AgentId) -> Option<PublicKey> {
    None
}

static SCHEMA: LazyLock<Validator> = LazyLock::new(|| validator(schema()));
/// Two excerpts of 80 characters, each up to ten times as long once escaped, and our own words.
const MAX_DETAIL: usize = 2_000;
