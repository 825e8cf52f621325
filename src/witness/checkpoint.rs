//! Checkpoints (C2SP tlog-checkpoint) and what peers say of them (C2SP tlog-cosignature, v1).
//!
//! A checkpoint is a signed note that says how many entries a log has and what their tree head is:
//!
//! ```text
//! ifswarm-log/SWARM/AGENT        the origin: whose log, and the name of its key
//! 4711                           how many entries
//! <base64>                       the tree head over them
//! ```
//!
//! A cosignature says: at that time this was the longest history of that log that I had seen, and
//! it continued all that I had seen before.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::note::{NoteError, NoteSignature, SignatureType, SignedNote};
use super::tree::Hash;
use crate::identity::{KeyPair, PublicKey, Purpose, Signature};
use crate::message::one_line;

/// How long a log is, and its tree head. Nothing proves it until it is signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The name of the log.
    pub origin: String,
    /// How many entries it has.
    pub size: u64,
    /// The tree head over them (RFC 6962).
    pub root: [u8; 32],
}

/// A checkpoint whose log's signature was made or verified here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedCheckpoint {
    checkpoint: Checkpoint,
    note: SignedNote,
}

/// A note that is no checkpoint of this log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// Not even a note.
    #[error("no signed note: {0}")]
    Note(#[from] NoteError),
    /// A note about something else.
    #[error("expected the lines ORIGIN, SIZE and ROOT in base64 (C2SP tlog-checkpoint): {0}")]
    Form(&'static str),
    /// A checkpoint of another log.
    #[error("a checkpoint of `{found}`, expected one of `{expected}`")]
    Origin {
        /// Whose it says it is, shortened.
        found: String,
        /// Whose it should be.
        expected: String,
    },
    /// The log's key has not signed it.
    #[error("not signed by the key of `{0}`")]
    Signature(String),
}

/// What a peer's signature under a checkpoint is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no valid cosignature of this key is on the checkpoint")]
pub struct NotCosigned;

impl Checkpoint {
    /// The text that is signed.
    fn text(&self) -> String {
        let root = STANDARD.encode(self.root);
        format!("{}\n{}\n{root}\n", self.origin, self.size)
    }

    fn parse(text: &str) -> Result<Self, CheckpointError> {
        use CheckpointError::Form;
        let mut lines = text.split('\n');
        let mut line = || lines.next().unwrap_or_default();
        let (origin, size, root) = (line(), line(), line());
        if origin.is_empty() {
            return Err(Form("no origin"));
        }
        let size = size
            .parse::<u64>()
            .ok()
            .filter(|n| n.to_string() == size)
            .ok_or(Form("the size is no decimal number without leading zeros"))?;
        let root = STANDARD.decode(root).ok();
        let root = root.and_then(|root| Hash::try_from(root).ok());
        let root = root.ok_or(Form("the root is not 32 bytes in base64"))?;
        // Extension lines are for logs that have them; ours have none.
        if !line().is_empty() || lines.next().is_some() {
            return Err(Form("more than three lines"));
        }
        Ok(Self {
            origin: origin.into(),
            size,
            root,
        })
    }

    /// Signs it with the log's key.
    pub fn sign(self, key: &KeyPair) -> SignedCheckpoint {
        let text = self.text();
        let signature = key.sign(Purpose::Checkpoint, text.as_bytes());
        let signature = NoteSignature::new(
            &self.origin,
            &key.public_key(),
            SignatureType::Ed25519,
            signature.as_bytes().to_vec(),
        );
        SignedCheckpoint {
            checkpoint: self,
            note: SignedNote::new(text, signature),
        }
    }
}

impl SignedCheckpoint {
    /// Reads a note that is to be a checkpoint of the log `origin`, signed with `key`.
    ///
    /// # Errors
    /// [`CheckpointError`].
    pub fn open(note: &str, origin: &str, key: &PublicKey) -> Result<Self, CheckpointError> {
        let note: SignedNote = note.parse()?;
        let checkpoint = Checkpoint::parse(note.text())?;
        if checkpoint.origin != origin {
            return Err(CheckpointError::Origin {
                found: one_line(&checkpoint.origin, MAX_ORIGIN),
                expected: origin.into(),
            });
        }
        let signed = signatures_of(&note, origin, key, SignatureType::Ed25519).any(|bytes| {
            let signature = <[u8; 64]>::try_from(bytes).map(Signature::from_bytes);
            signature.is_ok_and(|signature| {
                let text = note.text().as_bytes();
                key.verify(Purpose::Checkpoint, text, &signature).is_ok()
            })
        });
        if !signed {
            return Err(CheckpointError::Signature(origin.into()));
        }
        Ok(Self { checkpoint, note })
    }

    /// What it says.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// The note, with all signature lines that it came with.
    pub fn note(&self) -> &SignedNote {
        &self.note
    }

    /// The same without signatures of others than the log.
    #[must_use]
    pub fn bare(&self, key: &PublicKey) -> Self {
        let mut bare = self.clone();
        let origin = &self.checkpoint.origin;
        bare.note
            .retain(|line| line.is_of(origin, key, SignatureType::Ed25519));
        bare
    }

    /// The same with the cosignature of this peer and no other.
    #[must_use]
    pub fn with_cosigner_only(&self, key: &PublicKey, cosigner: &str, peer: &PublicKey) -> Self {
        let mut one = self.clone();
        let origin = &self.checkpoint.origin;
        one.note.retain(|line| {
            line.is_of(origin, key, SignatureType::Ed25519)
                || line.is_of(cosigner, peer, SignatureType::Cosignature)
        });
        one
    }

    /// Adds what the peer whose log is `cosigner` says of it, at `time` (seconds since 1970).
    pub fn cosign(&mut self, cosigner: &str, key: &KeyPair, time: u64) {
        let text = cosigned_text(time, self.note.text());
        let signature = key.sign(Purpose::Cosignature, text.as_bytes());
        let bytes = [&time.to_be_bytes()[..], signature.as_bytes()].concat();
        let kind = SignatureType::Cosignature;
        let line = NoteSignature::new(cosigner, &key.public_key(), kind, bytes);
        self.note.push(line);
    }

    /// When the peer whose log is `cosigner` has countersigned it, in seconds since 1970.
    ///
    /// # Errors
    /// [`NotCosigned`] when it has not.
    pub fn cosigned_by(&self, cosigner: &str, key: &PublicKey) -> Result<u64, NotCosigned> {
        signatures_of(&self.note, cosigner, key, SignatureType::Cosignature)
            .find_map(|bytes| {
                let (time, signature) = bytes.split_first_chunk()?;
                let time = u64::from_be_bytes(*time);
                let signature = Signature::from_bytes(<[u8; 64]>::try_from(signature).ok()?);
                let text = cosigned_text(time, self.note.text());
                let verified = key.verify(Purpose::Cosignature, text.as_bytes(), &signature);
                (time <= LAST_TIME && verified.is_ok()).then_some(time)
            })
            .ok_or(NotCosigned)
    }
}

/// The origin that an unverified note names, to find the key to verify it with.
///
/// # Errors
/// [`CheckpointError::Note`] and [`CheckpointError::Form`].
pub fn origin_of(note: &str) -> Result<String, CheckpointError> {
    let note: SignedNote = note.parse()?;
    Checkpoint::parse(note.text()).map(|checkpoint| checkpoint.origin)
}

fn signatures_of<'a>(
    note: &'a SignedNote,
    name: &str,
    key: &PublicKey,
    kind: SignatureType,
) -> impl Iterator<Item = &'a [u8]> {
    let lines = note.signatures().iter();
    lines
        .filter(move |line| line.is_of(name, key, kind))
        .map(NoteSignature::bytes)
}

fn cosigned_text(time: u64, text: &str) -> String {
    format!("cosignature/v1\ntime {time}\n{text}")
}

/// Characters of the longest origin that a log of ours has: `ifswarm-log/`, a swarm, `/`, an agent.
const MAX_ORIGIN: usize = 12 + 64 + 1 + 128;
/// A time is at most 2^63 - 1.
const LAST_TIME: u64 = u64::MAX >> 1;

#[cfg(test)]
mod tests {
    use super::*;

    const ORIGIN: &str = "ifswarm-log/five-agent/finance";
    const PEER: &str = "ifswarm-log/five-agent/legal";

    fn key(n: u8) -> KeyPair {
        KeyPair::from_secret(&[n; 32])
    }

    fn signed() -> SignedCheckpoint {
        let checkpoint = Checkpoint {
            origin: ORIGIN.into(),
            size: 4711,
            root: [7; 32],
        };
        checkpoint.sign(&key(1))
    }

    fn open(note: &str) -> Result<SignedCheckpoint, CheckpointError> {
        SignedCheckpoint::open(note, ORIGIN, &key(1).public_key())
    }

    #[test]
    fn is_what_its_log_signed_and_nothing_else() {
        let signed = signed();
        let note = signed.note().to_string();
        assert!(note.starts_with("ifswarm-log/five-agent/finance\n4711\nBwcH"));
        assert_eq!(open(&note), Ok(signed));
        assert_eq!(origin_of(&note).as_deref(), Ok(ORIGIN));
        let other = SignedCheckpoint::open(&note, ORIGIN, &key(2).public_key());
        assert_eq!(other, Err(CheckpointError::Signature(ORIGIN.into())));
        let other = SignedCheckpoint::open(&note, PEER, &key(1).public_key());
        assert!(matches!(other, Err(CheckpointError::Origin { .. })));
    }

    #[test]
    fn no_byte_of_it_can_be_changed() {
        let note = signed().note().to_string();
        for at in 0..note.len() {
            for bit in 0..8 {
                let mut bytes = note.clone().into_bytes();
                bytes[at] ^= 1 << bit;
                let changed = String::from_utf8(bytes);
                assert!(!changed.is_ok_and(|note| open(&note).is_ok()), "byte {at}");
            }
        }
    }

    #[test]
    fn a_cosignature_is_of_one_peer_one_time_and_one_checkpoint() {
        let mut cosigned = signed();
        cosigned.cosign(PEER, &key(2), 1_700_000_000);
        let read = open(&cosigned.note().to_string()).unwrap();
        let of = |name, n: u8| read.cosigned_by(name, &key(n).public_key());
        assert_eq!(of(PEER, 2), Ok(1_700_000_000));
        assert_eq!(of(PEER, 3), Err(NotCosigned));
        assert_eq!(of("ifswarm-log/five-agent/macro", 2), Err(NotCosigned));
        // The log's own signature is none.
        assert_eq!(of(ORIGIN, 1), Err(NotCosigned));

        let line = read.note().signatures()[1].clone();
        let mut other = Checkpoint {
            size: 4712,
            ..signed().checkpoint
        }
        .sign(&key(1));
        other.note.push(line.clone());
        assert!(other.cosigned_by(PEER, &key(2).public_key()).is_err());

        // The time is signed too.
        let mut later = line.bytes().to_vec();
        later[7] ^= 1;
        let kind = SignatureType::Cosignature;
        let line = NoteSignature::new(PEER, &key(2).public_key(), kind, later);
        let mut other = signed();
        other.note.push(line);
        assert!(other.cosigned_by(PEER, &key(2).public_key()).is_err());
        assert_eq!(read.bare(&key(1).public_key()), signed());
    }

    #[test]
    fn refuses_notes_that_are_no_checkpoints() {
        let root = STANDARD.encode([7; 32]);
        for text in [
            format!("{ORIGIN}\n4711\n"),
            format!("{ORIGIN}\n04711\n{root}\n"),
            format!("{ORIGIN}\n+4711\n{root}\n"),
            format!("{ORIGIN}\n18446744073709551616\n{root}\n"),
            format!("{ORIGIN}\n4711\n{}\n", &root[4..]),
            format!("{ORIGIN}\n4711\n{root}\nextension\n"),
            format!("{ORIGIN}\n4711\n{root}\n\n"),
            format!("\n4711\n{root}\n"),
        ] {
            let signature = key(1).sign(Purpose::Checkpoint, text.as_bytes());
            let bytes = signature.as_bytes().to_vec();
            let kind = SignatureType::Ed25519;
            let line = NoteSignature::new(ORIGIN, &key(1).public_key(), kind, bytes);
            let note = SignedNote::new(text, line).to_string();
            assert!(
                matches!(open(&note), Err(CheckpointError::Form(_))),
                "{note}"
            );
        }
    }
}
