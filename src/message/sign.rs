//! Signing: a draft becomes a message that anybody with the author's public key can check.

use std::sync::Arc;

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::MAX_MESSAGE;
use super::draft::{Draft, DraftError};
use super::ifmessage::{IfMessage, Seal};
use super::names::Level;
use super::shape;
use super::timestamp::Timestamp;
use crate::identity::{AgentId, KeyPair, Purpose, Session, hex_text};

/// Who signs.
#[derive(Debug, Clone, Copy)]
pub struct Author<'a> {
    /// The author's id.
    pub id: &'a AgentId,
    /// The author's session.
    pub session: Session,
    /// The author's key pair.
    pub key: &'a KeyPair,
}

/// A signed message and its bytes. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Signed {
    bytes: Bytes,
    message: Arc<IfMessage>,
    digest: [u8; 32],
}

impl Signed {
    /// The message as it goes on the wire: JSON without spaces.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.bytes).expect("written as UTF-8")
    }

    /// The bytes of [`Signed::text`], shared.
    pub fn bytes(&self) -> Bytes {
        self.bytes.clone()
    }

    /// The message.
    pub fn message(&self) -> &IfMessage {
        &self.message
    }

    /// SHA-256 of the canonical bytes that were signed.
    pub fn digest(&self) -> &[u8; 32] {
        &self.digest
    }
}

/// Signs `draft` as number `sequence_num` of `author`'s session, at the time `now`.
///
/// `random` gives 10 bytes to an id and 12 to a `traceId` where the draft has none.
///
/// # Errors
/// [`DraftError`] when a member is not as the contract wants it, or the result is too large.
pub fn sign(
    draft: Draft,
    author: &Author<'_>,
    sequence_num: u64,
    now: Timestamp,
    random: [u8; 22],
) -> Result<Signed, DraftError> {
    draft.check()?;
    if !shape::is_sequence_num(sequence_num) {
        return Err(DraftError::SequenceNum(sequence_num));
    }
    let mut for_id = [0; 10];
    let (left, for_trace) = random.split_at(for_id.len());
    for_id.copy_from_slice(left);
    let mut message = IfMessage {
        id: draft.id.unwrap_or_else(|| new_id(now, for_id)),
        timestamp: now,
        level: draft.level.unwrap_or(Level::Module),
        source: author.id.clone(),
        destination: draft.destination,
        session: author.session,
        sequence_num,
        performative: draft.performative,
        conversation_id: draft.conversation_id,
        in_reply_to: draft.in_reply_to,
        trace_id: Some(draft.trace_id.unwrap_or_else(|| hex_text(for_trace))),
        citation_ids: Some(draft.citation_ids).filter(|ids| !ids.is_empty()),
        hazards: Some(draft.hazards).filter(|hazards| !hazards.is_empty()),
        payload: draft.payload,
        seal: Seal::blank(*author.key.public_key().as_bytes()),
    };
    let mut bytes = message.canonical();
    let digest = Sha256::digest(&bytes).into();
    message.seal.signature = author.key.sign(Purpose::Message, &bytes);
    // The order of members is free on the wire, so the signed bytes go out as they are.
    bytes.pop();
    bytes.extend_from_slice(br#","signature":"#);
    message.signature().write(&mut bytes);
    bytes.push(b'}');
    if bytes.len() > MAX_MESSAGE {
        return Err(DraftError::TooLarge {
            size: bytes.len(),
            limit: MAX_MESSAGE,
        });
    }
    Ok(Signed {
        bytes: bytes.into(),
        message: message.into(),
        digest,
    })
}

/// A UUIDv7. A clock before 1970 gives 0.
fn new_id(now: Timestamp, random: [u8; 10]) -> String {
    let ms = u64::try_from(now.unix_ms()).unwrap_or(0);
    uuid::Builder::from_unix_timestamp_millis(ms, &random)
        .into_uuid()
        .to_string()
}
