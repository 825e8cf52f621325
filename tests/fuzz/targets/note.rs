//! Signed notes and checkpoints: `SignedNote::from_str`, `SignedCheckpoint::open`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ifswarm::identity::{KeyPair, Purpose};
use ifswarm::witness::{CheckpointError, SignedCheckpoint, SignedNote, origin_of};
use sha2::{Digest, Sha256};

use super::oracle::{KEY, assert_one_line, other_key};

pub(super) fn target(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let note = match text.parse::<SignedNote>() {
        Ok(note) => note,
        Err(err) => {
            assert_one_line(&err.to_string(), MAX_DETAIL);
            let refused = SignedCheckpoint::open(text, ORIGIN, &KEY.public_key());
            assert_eq!(refused, Err(CheckpointError::Note(err)));
            return;
        }
    };
    // One spelling: what is read is what was written, to the byte.
    assert_eq!(note.to_string(), text);
    assert!(text.starts_with(note.text()) && note.text().ends_with('\n'));

    let origin = origin_of(text).unwrap_or_else(|err| {
        assert_one_line(&err.to_string(), MAX_DETAIL);
        ORIGIN.into()
    });
    match SignedCheckpoint::open(text, &origin, &KEY.public_key()) {
        Ok(checkpoint) => signed(&checkpoint),
        // Its origin is what was asked for: nobody's words but one's own.
        Err(CheckpointError::Signature(asked)) => assert_eq!(asked, origin),
        Err(err) => assert_one_line(&err.to_string(), MAX_DETAIL),
    }
    if let Err(err) = SignedCheckpoint::open(text, ORIGIN, &KEY.public_key()) {
        assert_one_line(&err.to_string(), MAX_DETAIL);
    }
    signed_anew(&note, &origin);
}

/// The same text under a signature of the target's own key is a checkpoint, or no log's.
fn signed_anew(note: &SignedNote, origin: &str) {
    let signature = KEY.sign(Purpose::Checkpoint, note.text().as_bytes());
    let key = KEY.public_key();
    let number = Sha256::digest([origin.as_bytes(), b"\n\x01", key.as_bytes()].concat());
    let line = STANDARD.encode([&number[..4], signature.as_bytes()].concat());
    let anew = format!("{}\n— {origin} {line}\n", note.text());
    match SignedCheckpoint::open(&anew, origin, &key) {
        Ok(checkpoint) => signed(&checkpoint),
        Err(CheckpointError::Form(_)) => assert!(origin_of(&anew).is_err()),
        Err(CheckpointError::Note(err)) => {
            let nameless = origin.contains(|c: char| c.is_whitespace() || c == '+');
            assert!(nameless || anew.len() > MAX_NOTE, "{err}");
        }
        Err(err) => panic!("{err}"),
    }
}

/// A checkpoint says what its text says, holds for its log and its key alone, and takes
/// cosignatures.
fn signed(checkpoint: &SignedCheckpoint) {
    let key = KEY.public_key();
    let said = checkpoint.checkpoint();
    let origin = said.origin.as_str();
    let text = checkpoint.note().text();
    let root = STANDARD.encode(said.root);
    assert_eq!(text, format!("{origin}\n{}\n{root}\n", said.size));

    let note = checkpoint.note().to_string();
    assert_eq!(
        SignedCheckpoint::open(&note, origin, &key).as_ref(),
        Ok(checkpoint)
    );
    assert!(SignedCheckpoint::open(&note, origin, &other_key()).is_err());
    assert!(SignedCheckpoint::open(&note, "ifswarm-log/x/y", &key).is_err());
    let bare = checkpoint.bare(&key).note().to_string();
    let bare = SignedCheckpoint::open(&bare, origin, &key).expect("its own signature is left");
    assert_eq!(bare.checkpoint(), said);

    let peer = KeyPair::from_secret(&[8; 32]);
    let mut cosigned = bare;
    cosigned.cosign(ORIGIN, &peer, 1_769_847_330);
    let read = SignedCheckpoint::open(&cosigned.note().to_string(), origin, &key);
    let time = read
        .expect("as before")
        .cosigned_by(ORIGIN, &peer.public_key());
    assert_eq!(time, Ok(1_769_847_330));
}

/// Whose log it is asked to be where it names none.
const ORIGIN: &str = "ifswarm-log/five-agent/finance";
const MAX_NOTE: usize = 32 * 1024;
/// An origin, and our own words.
const MAX_DETAIL: usize = 400;
