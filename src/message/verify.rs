//! Verifying: the only way from received bytes to a message that may be delivered.
//!
//! The steps are those of the list of reasons, in its order: parse (`malformed`), shape
//! (`schema`), `signature` present (`unsigned`), all members covered (`partial-coverage`), key
//! known (`unknown-source`), key the right one (`key-mismatch`), signature good
//! (`bad-signature`).

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::MAX_MESSAGE;
use super::canonical::write_object;
use super::ifmessage::IfMessage;
use super::json::parse_strict;
use super::read;
use super::refusal::{Claim, Reason, Refusal};
use super::shape::{Fault, excerpt, one_line};
use crate::identity::{AgentId, PublicKey, Purpose, Roster};

/// Where a verifier finds the key of an agent: a [`Roster`], or a closure.
pub trait Keys {
    /// The key that `id` must have signed with, if it is known. Never one that is revoked.
    fn key_of(&self, id: &AgentId) -> Option<PublicKey>;

    /// Whether `key` is refused whoever shows it: a refusal says so.
    fn is_revoked(&self, key: &PublicKey) -> bool {
        let _ = key;
        false
    }
}

impl Keys for Roster {
    fn key_of(&self, id: &AgentId) -> Option<PublicKey> {
        Self::key_of(self, id).copied()
    }

    fn is_revoked(&self, key: &PublicKey) -> bool {
        Self::is_revoked(self, key)
    }
}

impl<F: Fn(&AgentId) -> Option<PublicKey>> Keys for F {
    fn key_of(&self, id: &AgentId) -> Option<PublicKey> {
        self(id)
    }
}

/// A `T` whose signature was verified. Only [`verify`] and [`verify_integrity`] make one.
/// Cheap to clone.
pub struct Verified<T> {
    inner: Arc<T>,
    digest: [u8; 32],
    public_key: PublicKey,
}

impl<T> Verified<T> {
    /// SHA-256 of the canonical bytes that were signed.
    pub fn digest(&self) -> &[u8; 32] {
        &self.digest
    }

    /// The key it was signed with.
    pub fn public_key(&self) -> &PublicKey {
        &self.public_key
    }
}

impl<T> Deref for Verified<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.inner
    }
}

impl<T> Clone for Verified<T> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            digest: self.digest,
            public_key: self.public_key,
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for Verified<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Verified").field(&self.inner).finish()
    }
}

/// Verifies a message under the key that `keys` gives for its source.
///
/// # Errors
/// [`Refusal`] with the first reason that applies, up to [`Reason::BadSignature`].
pub fn verify(bytes: &[u8], keys: &impl Keys) -> Result<Verified<IfMessage>, Box<Refusal>> {
    let shown = |embedded: &[u8; 32]| {
        PublicKey::from_bytes(embedded).map_or("", |shown| revoked_note(keys, &shown))
    };
    check(bytes, |source, embedded| {
        let Some(key) = keys.key_of(source) else {
            let note = shown(embedded);
            let detail =
                format!("`source`: found {source}, expected an agent whose key is known{note}");
            return Err((Reason::UnknownSource, detail));
        };
        if key.as_bytes() != embedded {
            let found = hex::encode(embedded);
            let note = shown(embedded);
            let detail = format!(
                "`signature.public_key`: found {found}, expected {key}, the key of {source}{note}"
            );
            return Err((Reason::KeyMismatch, detail));
        }
        Ok(key)
    })
}

/// What a refusal adds about the key that was shown: whether it is revoked.
pub(crate) fn revoked_note(keys: &dyn Keys, shown: &PublicKey) -> &'static str {
    match keys.is_revoked(shown) {
        true => "; the key it shows is revoked",
        false => "",
    }
}

/// Verifies a message under the key that it carries itself: that it is unaltered since somebody
/// signed it, not who that was.
///
/// # Errors
/// [`Refusal`] as from [`verify`], but never for want of a known key.
pub fn verify_integrity(bytes: &[u8]) -> Result<Verified<IfMessage>, Box<Refusal>> {
    check(bytes, |_, embedded| {
        PublicKey::from_bytes(embedded).map_err(|err| {
            let detail = format!("`signature.public_key`: {err}");
            (Reason::BadSignature, detail)
        })
    })
}

/// `choose` gives the key to verify with, of the source and the key that the message names.
fn check(
    bytes: &[u8],
    choose: impl FnOnce(&AgentId, &[u8; 32]) -> Result<PublicKey, Rejection>,
) -> Result<Verified<IfMessage>, Box<Refusal>> {
    let malformed = |detail: String| Refusal {
        reason: Reason::Malformed,
        detail,
        claim: Claim::of_bytes(bytes),
    };
    let mut members = match parse_strict(bytes, MAX_MESSAGE) {
        Ok(Value::Object(members)) => members,
        Ok(_) => return Err(malformed("found no object, expected one".into()).into()),
        Err(err) => return Err(malformed(one_line(&err.to_string(), MAX_DETAIL)).into()),
    };
    let signature = members.remove("signature");
    let mut signed = Vec::with_capacity(bytes.len());
    write_object(&mut signed, &members);
    let digest = Sha256::digest(&signed).into();
    match check_members(&mut members, signature.as_ref(), &signed, choose) {
        Ok((message, public_key)) => Ok(Verified {
            inner: message.into(),
            digest,
            public_key,
        }),
        Err((reason, detail)) => Err(Box::new(Refusal {
            reason,
            detail,
            claim: Claim::of_members(&members, digest),
        })),
    }
}

/// Everything after parsing. `signed` are the canonical bytes of `members`.
fn check_members(
    members: &mut Map<String, Value>,
    signature: Option<&Value>,
    signed: &[u8],
    choose: impl FnOnce(&AgentId, &[u8; 32]) -> Result<PublicKey, Rejection>,
) -> Result<(IfMessage, PublicKey), Rejection> {
    let signature = signature.map(read::signature).transpose()?;
    let message = read::message(members)?;
    let Some((seal, signed_fields)) = signature else {
        let detail = "`signature`: found nothing, expected an Ed25519 signature";
        return Err((Reason::Unsigned, detail.into()));
    };
    check_coverage(&signed_fields, &message)?;
    let public_key = choose(&message.source, &seal.public_key)?;
    public_key
        .verify(Purpose::Message, signed, &seal.signature)
        .map_err(|err| (Reason::BadSignature, format!("`signature`: {err}")))?;
    Ok((IfMessage { seal, ..message }, public_key))
}

/// `signed_fields` must be exactly the sorted names of all other members: whoever could leave
/// one out could change it.
fn check_coverage(signed_fields: &[&str], message: &IfMessage) -> Result<(), Rejection> {
    if message.names().eq(signed_fields.iter().copied()) {
        return Ok(());
    }
    let left_out = message.names().find(|name| !signed_fields.contains(name));
    let absent = signed_fields
        .iter()
        .find(|field| !message.names().any(|name| name == **field));
    let detail = match (left_out, absent) {
        (Some(name), _) => format!("found no `{name}`, which the message has"),
        (_, Some(field)) => format!("found \"{}\", which the message has not", excerpt(field)),
        (None, None) => "found a name twice, or out of order".into(),
    };
    Err((
        Reason::PartialCoverage,
        format!("`signature.signed_fields`: {detail}, expected the sorted list of all others"),
    ))
}

/// Characters of what the JSON reader says: a place, its own words, and 40 characters of a key.
const MAX_DETAIL: usize = 160;

/// A reason and its detail.
type Rejection = (Reason, String);

impl From<Fault> for Rejection {
    fn from(fault: Fault) -> Self {
        (Reason::Schema, fault.to_string())
    }
}
