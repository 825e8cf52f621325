//! Files inside messages: `evidence_chunk`, the form of peers that have no channel for files, such as
//! a gateway to SIP. Taken on input only; see `wire.md`, *Files*. Pure.
//!
//! Each message has the members of a `file-offer`, and 64 KiB of data at most, in base64, with their
//! own SHA-256. The first one, at offset 0, is the offer; nothing is answered until the file is whole,
//! or has failed.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{BufMut, Bytes, BytesMut};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::wire::{FileOffer, FileSays, HEADER, MAX_DATA, TransferId, write_header};
use crate::identity::hex_bytes;

/// A piece of a file, whose own hash is right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chunk {
    pub(super) offer: FileOffer,
    pub(super) offset: u64,
    data: Vec<u8>,
}

impl Chunk {
    /// Reads a payload. `None` if it is of another type.
    ///
    /// # Errors
    /// One line that says what is wrong.
    pub(super) fn read(
        payload: &Map<String, Value>,
    ) -> Option<Result<Self, (Option<TransferId>, String)>> {
        if payload.get("type")?.as_str()? != "evidence_chunk" {
            return None;
        }
        let offer = match FileSays::offer(payload) {
            Ok(offer) => offer,
            Err(err) => return Some(Err(err)),
        };
        let transfer = offer.transfer;
        Some(Self::data(offer, payload).map_err(|detail| (Some(transfer), detail)))
    }

    fn data(offer: FileOffer, payload: &Map<String, Value>) -> Result<Self, String> {
        let member = |name: &str| payload.get(name).and_then(Value::as_str);
        let offset = payload.get("offset").and_then(Value::as_u64);
        let offset = offset.ok_or("`offset`: expected an integer")?;
        let data = member("data").and_then(|text| STANDARD.decode(text).ok());
        let data = data.filter(|data| data.len() <= MAX_CHUNK);
        let data = data.ok_or("`data`: expected base64 of up to 64 KiB")?;
        let hash = member("chunk_sha256").and_then(hex_bytes::<32>);
        let hash = hash.ok_or("`chunk_sha256`: expected 64 lower-case hex digits")?;
        if hash != *Sha256::digest(&data) {
            return Err("`chunk_sha256` is not that of `data`".to_owned());
        }
        Ok(Self {
            offer,
            offset,
            data,
        })
    }

    /// The same data as it would have come over the channel for files.
    pub(super) fn frames(&self) -> impl Iterator<Item = Bytes> {
        let mut offset = self.offset;
        self.data.chunks(MAX_DATA).map(move |data| {
            let mut frame = BytesMut::with_capacity(HEADER + data.len());
            frame.put_slice(&write_header(self.offer.transfer, offset));
            frame.put_slice(data);
            offset = offset.saturating_add(data.len() as u64);
            frame.freeze()
        })
    }
}

/// Bytes of data in one message.
const MAX_CHUNK: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::files::wire::read_header;
    use serde_json::json;

    fn payload(data: &[u8]) -> Value {
        json!({
            "type": "evidence_chunk", "transfer": "ab".repeat(16), "name": "a", "size": 7,
            "sha256": "01".repeat(32), "media_type": "text/plain", "offset": 3,
            "chunk_sha256": hex::encode(Sha256::digest(data)), "data": STANDARD.encode(data),
        })
    }

    #[test]
    fn becomes_the_frames_that_the_channel_would_have_carried() {
        let data = vec![7; MAX_CHUNK];
        let payload = payload(&data);
        let chunk = Chunk::read(payload.as_object().unwrap()).unwrap().unwrap();
        assert_eq!(chunk.offer.size, 7);
        let frames: Vec<_> = chunk.frames().collect();
        let offsets = frames.iter().map(|frame| read_header(frame).unwrap().1);
        let offsets: Vec<_> = offsets.collect();
        assert_eq!(offsets, [3, 16_387, 32_771, 49_155]);
        let joined: Vec<_> = frames.iter().flat_map(|frame| &frame[HEADER..]).collect();
        assert!(joined.iter().all(|byte| **byte == 7) && joined.len() == MAX_CHUNK);
    }

    #[test]
    fn what_is_changed_too_long_or_not_base64_is_refused() {
        let good = payload(b"data");
        for (member, bad) in [
            ("data", json!(STANDARD.encode(b"datb"))),
            ("data", json!("****")),
            ("chunk_sha256", json!("00".repeat(32))),
            ("offset", json!(-1)),
            ("transfer", json!("ab")),
            ("size", Value::Null),
        ] {
            let mut payload = good.clone();
            payload[member] = bad;
            let read = Chunk::read(payload.as_object().unwrap());
            assert!(matches!(read, Some(Err(_))), "{member}");
        }
        let long = payload(&[0; MAX_CHUNK + 1]);
        assert!(matches!(
            Chunk::read(long.as_object().unwrap()),
            Some(Err(_))
        ));
        assert_eq!(Chunk::read(&Map::new()), None);
    }
}
