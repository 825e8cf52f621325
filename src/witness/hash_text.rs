//! Hashes of a proof in JSON: base64, as in checkpoints. For serde's `with`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serializer};

use super::tree::Hash;

/// Writes a list of texts.
pub(crate) fn serialize<S: Serializer>(hashes: &[Hash], out: S) -> Result<S::Ok, S::Error> {
    out.collect_seq(hashes.iter().map(|hash| STANDARD.encode(hash)))
}

/// Reads one.
pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Hash>, D::Error> {
    let texts = Vec::<String>::deserialize(from)?;
    if texts.len() > MAX_HASHES {
        return Err(D::Error::custom(format_args!(
            "found {} hashes, a proof has at most {MAX_HASHES}",
            texts.len()
        )));
    }
    let hashes = texts.iter().map(|text| {
        let hash = STANDARD.decode(text).ok();
        let hash = hash.and_then(|bytes| Hash::try_from(bytes).ok());
        hash.ok_or_else(|| D::Error::custom("expected 32 bytes in base64"))
    });
    hashes.collect()
}

/// A proof has at most two hashes for each bit of the number of entries.
const MAX_HASHES: usize = 128;
