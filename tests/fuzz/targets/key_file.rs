//! Private keys: `KeyPair::read_file`.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use ifswarm::identity::{KeyFileError, KeyPair, Purpose};

use super::oracle::assert_one_line;

pub(super) fn target(bytes: &[u8]) {
    // In memory where the system has it: a new key file waits for the disk.
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
    let folder = folder.expect("a temporary folder");
    let path = folder.path().join("key.pem");
    fs::write(&path, bytes).expect("a temporary file");
    fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("one's own file");
    match KeyPair::read_file(&path) {
        Ok(key) => {
            let copy = folder.path().join("copy.pem");
            key.create_file(&copy).expect("a new file");
            let read = KeyPair::read_file(&copy).expect("what was written can be read");
            assert_eq!(read.public_key(), key.public_key());
            // Both halves, that is: it signs under the key it says it is.
            let signature = read.sign(Purpose::Message, b"{}");
            let verified = key.public_key().verify(Purpose::Message, b"{}", &signature);
            assert_eq!(verified, Ok(()));
        }
        Err(KeyFileError::Content { detail, .. }) => {
            assert_one_line(&detail, MAX_DETAIL);
            says_nothing_of(bytes, &detail);
        }
        Err(KeyFileError::NoKeyFile { .. }) => assert!(bytes.len() > MAX_KEY_FILE),
        Err(err) => panic!("neither of content nor of size: {err}"),
    }
}

/// A file that is nearly a key must not be found again in a log.
fn says_nothing_of(bytes: &[u8], detail: &str) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let is_base64 = |c: char| c.is_ascii_alphanumeric() || c == '+' || c == '/';
    for run in text.split(|c| !is_base64(c)) {
        assert!(run.len() < SECRET || !detail.contains(run), "{detail}");
    }
}

const MAX_KEY_FILE: usize = 16 * 1024;
const MAX_DETAIL: usize = 200;
/// Runs of this length are no words, and too much of a secret.
const SECRET: usize = 24;
