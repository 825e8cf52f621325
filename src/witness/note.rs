//! Signed notes (C2SP signed-note): a text, an empty line, and signature lines.
//!
//! Reading a note proves nothing: whoever takes its text for true verifies a signature of a key
//! that it knows, as [`checkpoint`](super::Checkpoint) does. Only Ed25519 is spoken here: type
//! 0x01, and 0x04 for cosignatures (C2SP tlog-cosignature).

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

use crate::identity::PublicKey;

/// A text with signatures, none of them verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedNote {
    text: String,
    signatures: Vec<NoteSignature>,
}

/// One signature line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoteSignature {
    name: String,
    key_id: [u8; 4],
    bytes: Vec<u8>,
}

/// How a signature of a note is made; its number on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SignatureType {
    /// Over the text.
    Ed25519 = 0x01,
    /// Over the text and a time.
    Cosignature = 0x04,
}

/// Text that is no signed note.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// Larger than any note of ours.
    #[error("{found} bytes; expected a note of at most {MAX_NOTE}")]
    TooLong {
        /// How many bytes there are.
        found: usize,
    },
    /// A byte that a note cannot have, or no text and signatures.
    #[error("expected a text, an empty line and lines `— NAME SIGNATURE` (C2SP signed-note): {0}")]
    Form(&'static str),
    /// A line among the signatures that is none.
    #[error("signature line {line}: {what}")]
    Signature {
        /// Which one, from 1.
        line: usize,
        /// What is wrong with it.
        what: &'static str,
    },
}

impl SignedNote {
    /// A note with one signature. The text ends with a newline and has no control characters.
    pub(super) fn new(text: String, signature: NoteSignature) -> Self {
        debug_assert!(text.ends_with('\n'));
        Self {
            text,
            signatures: vec![signature],
        }
    }

    /// What is signed, with the newline at its end.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The signature lines, of known and unknown keys, in their order.
    pub fn signatures(&self) -> &[NoteSignature] {
        &self.signatures
    }

    /// Adds a signature line.
    pub(super) fn push(&mut self, signature: NoteSignature) {
        self.signatures.push(signature);
    }

    /// Keeps those signature lines only.
    pub(super) fn retain(&mut self, keep: impl FnMut(&NoteSignature) -> bool) {
        self.signatures.retain(keep);
    }
}

impl NoteSignature {
    pub(super) fn new(
        name: &str,
        key: &PublicKey,
        kind: SignatureType,
        signature: Vec<u8>,
    ) -> Self {
        Self {
            name: name.into(),
            key_id: key_id(name, key, kind),
            bytes: signature,
        }
    }

    /// The name of the key: for ours, the origin of the signer's log.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The signature, without the key's number.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether it says that it is of this key. Verifying is the caller's.
    pub(super) fn is_of(&self, name: &str, key: &PublicKey, kind: SignatureType) -> bool {
        self.name == name && self.key_id == key_id(name, key, kind)
    }
}

impl FromStr for SignedNote {
    type Err = NoteError;

    fn from_str(note: &str) -> Result<Self, NoteError> {
        if note.len() > MAX_NOTE {
            return Err(NoteError::TooLong { found: note.len() });
        }
        if note.bytes().any(|byte| byte < 0x20 && byte != b'\n') {
            return Err(NoteError::Form("a control character"));
        }
        // The last empty line: the text may have others.
        let middle = note.rfind("\n\n").ok_or(NoteError::Form("no empty line"))?;
        let (text, lines) = (&note[..=middle], &note[middle + 2..]);
        let lines = lines
            .strip_suffix('\n')
            .ok_or(NoteError::Form("the last line is not whole"))?;
        let signatures = (1..).zip(lines.split('\n')).map(|(line, text)| {
            NoteSignature::parse(text).map_err(|what| NoteError::Signature { line, what })
        });
        Ok(Self {
            text: text.into(),
            signatures: signatures.collect::<Result<_, _>>()?,
        })
    }
}

impl NoteSignature {
    fn parse(line: &str) -> Result<Self, &'static str> {
        let rest = line.strip_prefix(DASH).ok_or("expected `— ` first")?;
        let (name, base64) = rest
            .split_once(' ')
            .ok_or("expected a name and a signature")?;
        if name.is_empty() || name.contains(|c: char| c.is_whitespace() || c == '+') {
            return Err("a key's name is not empty and has no spaces and no `+`");
        }
        let bytes = STANDARD
            .decode(base64)
            .map_err(|_| "expected standard base64")?;
        let (key_id, bytes) = bytes
            .split_first_chunk()
            .ok_or("expected the key's number, 4 bytes")?;
        if bytes.is_empty() {
            return Err("expected a signature after the key's number");
        }
        Ok(Self {
            name: name.into(),
            key_id: *key_id,
            bytes: bytes.into(),
        })
    }
}

impl fmt::Display for SignedNote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.text)?;
        self.signatures
            .iter()
            .try_for_each(|signature| writeln!(f, "{signature}"))
    }
}

impl fmt::Display for NoteSignature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = [&self.key_id[..], &self.bytes].concat();
        write!(f, "{DASH}{} {}", self.name, STANDARD.encode(bytes))
    }
}

/// The key's number: SHA-256(name ‖ newline ‖ type ‖ key), its first four bytes.
fn key_id(name: &str, key: &PublicKey, kind: SignatureType) -> [u8; 4] {
    let hash = Sha256::new()
        .chain_update(name)
        .chain_update([b'\n', kind as u8])
        .chain_update(key.as_bytes())
        .finalize();
    [hash[0], hash[1], hash[2], hash[3]]
}

/// What a signature line begins with: an em dash and a space.
const DASH: &str = "\u{2014} ";
/// Bytes of the largest note: a checkpoint with a cosignature of each of 64 agents, and post-quantum
/// signatures of strangers besides, fits; and half of a control frame is left.
pub(super) const MAX_NOTE: usize = 32 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification, and its key.
    const NOTE: &str = "This is an example message.\n\n— example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n";
    const VKEY: &str = "AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k";

    #[test]
    fn reads_and_writes_the_example_of_the_specification() {
        let note: SignedNote = NOTE.parse().unwrap();
        assert_eq!(note.text(), "This is an example message.\n");
        assert_eq!(note.to_string(), NOTE);
        let key = STANDARD.decode(VKEY).unwrap();
        let key = PublicKey::from_bytes(key[1..].try_into().unwrap()).unwrap();
        let [signature] = note.signatures() else {
            panic!("one signature")
        };
        assert!(signature.is_of("example.com/foo", &key, SignatureType::Ed25519));
        assert!(!signature.is_of("example.com/foo", &key, SignatureType::Cosignature));
        assert!(!signature.is_of("example.com/fo", &key, SignatureType::Ed25519));
    }

    #[test]
    fn the_text_may_have_empty_lines() {
        let note: SignedNote = "a\n\nb\n\n— n AAAAAAA=\n".parse().unwrap();
        assert_eq!(note.text(), "a\n\nb\n");
    }

    #[test]
    fn refuses_what_is_no_note() {
        for bad in [
            "",
            "text\n",
            "text\n\n",
            "text\n\n\n",
            "text\n\n— n AAAAAAA=",
            "text\n\n- n AAAAAAA=\n",
            "text\n\n— n\n",
            "text\n\n—  AAAAAAA=\n",
            "text\n\n— a+b AAAAAAA=\n",
            "text\n\n— a\u{a0}b AAAAAAA=\n",
            "text\n\n— n AAAAAAA\n",
            "text\n\n— n AAAA\n",
            "text\n\n— n AAAAAA==\n",
            "te\txt\n\n— n AAAAAAA=\n",
            "text\r\n\n— n AAAAAAA=\n",
        ] {
            assert!(bad.parse::<SignedNote>().is_err(), "{bad:?}");
        }
        let long = format!("{}\n\n— n AAAAAAA=\n", "x".repeat(MAX_NOTE));
        assert!(matches!(
            long.parse::<SignedNote>(),
            Err(NoteError::TooLong { .. })
        ));
    }
}
