//! Entries with their proofs: `ProofFile::parse`, `ProofFile::verify`.

use ifswarm::witness::{BadProofFile, Checkpoint, ProofFile, leaf_hash, parse_origin};

use super::oracle::{KEY, assert_one_line};

pub(super) fn target(bytes: &[u8]) {
    let file = match ProofFile::parse(bytes) {
        Ok(file) => file,
        Err(err) => {
            assert_eq!(err.reason(), "schema");
            assert_one_line(&err.to_string(), MAX_DETAIL);
            return;
        }
    };
    // What is read is written, read again and the same.
    let line = file.to_line();
    assert_eq!(line.matches('\n').count(), 1);
    assert_eq!(ProofFile::parse(line.as_bytes()).as_ref(), Ok(&file));
    match file.verify(None) {
        Err(err) => assert_one_line(&err.to_string(), MAX_DETAIL),
        Ok(vouched) => {
            assert_eq!(vouched.size, file.size);
            assert!(file.index < file.size && vouched.cosigners.is_empty());
            proves_nothing_else(&file);
        }
    }
    signed_anew(file);
}

/// Another number, another entry, another key, and a shorter proof prove nothing.
fn proves_nothing_else(file: &ProofFile) {
    let change: [fn(&mut ProofFile); 4] = [
        |file| file.index += 1,
        |file| file.entry = file.entry.replacen(':', ": ", 1),
        |file| file.public_key = KEY.public_key(),
        |file| file.proof.push([0; 32]),
    ];
    for change in change {
        let mut other = file.clone();
        change(&mut other);
        assert!(other == *file || other.verify(None).is_err());
    }
}

/// The same entry as the only one of a log of the target's own key is proved, or is no entry.
fn signed_anew(mut file: ProofFile) {
    if parse_origin(&file.origin).is_none() {
        return;
    }
    let checkpoint = Checkpoint {
        origin: file.origin.clone(),
        size: 1,
        root: leaf_hash(file.entry.as_bytes()),
    };
    file.checkpoint = checkpoint.sign(&KEY).note().to_string();
    file.public_key = KEY.public_key();
    (file.index, file.size) = (0, 1);
    file.proof.clear();
    match file.verify(None) {
        Ok(vouched) => assert_eq!(vouched.size, 1),
        Err(BadProofFile::Form(detail)) => assert_one_line(&detail, MAX_DETAIL),
        Err(err) => panic!("{err}"),
    }
}

/// Foreign text of 80 characters, escaped, an origin, and our own words.
const MAX_DETAIL: usize = 1_000;
