//! Private keys on disk: PKCS#8 PEM (RFC 8410), readable by their owner only, never overwritten.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use ed25519_dalek::pkcs8::{DecodePrivateKey, EncodePrivateKey, spki::der::pem::LineEnding};

use super::KeyPair;

/// Why a key file could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// The file is there already. A key that is overwritten is lost for good.
    #[error("{path} exists already and is not overwritten: choose another name, or move it away first", path = .path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// Somebody else may read the file (mode other than 0600 or stricter).
    #[error("{path} can be read by others (mode {mode:03o}): run `chmod 600 {path}`", path = .path.display())]
    TooOpen {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file is larger than any key file or is no regular file.
    #[error("{path} is no key file: expected a regular file of at most {MAX_KEY_FILE} bytes", path = .path.display())]
    NoKeyFile {
        /// The file.
        path: PathBuf,
    },
    /// The content is no Ed25519 private key.
    #[error("{path}: expected an Ed25519 private key in PKCS#8 PEM, as `ifswarm keygen --out` writes it ({detail})", path = .path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What the decoder found; never any of the content.
        detail: String,
    },
    /// The operating system refused.
    #[error("{path}: {source}", path = .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
}

impl KeyPair {
    /// Reads a private key.
    ///
    /// # Errors
    /// When the file cannot be read, can be read by others, or holds no Ed25519 private key.
    pub fn read_file(path: &Path) -> Result<Self, KeyFileError> {
        let io = |source| KeyFileError::Io {
            path: path.into(),
            source,
        };
        let file = File::open(path).map_err(io)?;
        let meta = file.metadata().map_err(io)?;
        if !meta.is_file() || meta.len() > MAX_KEY_FILE {
            return Err(KeyFileError::NoKeyFile { path: path.into() });
        }
        let mode = meta.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(KeyFileError::TooOpen {
                path: path.into(),
                mode,
            });
        }
        let content = |detail: String| KeyFileError::Content {
            path: path.into(),
            detail,
        };
        let mut bytes = Vec::new();
        file.take(MAX_KEY_FILE)
            .read_to_end(&mut bytes)
            .map_err(io)?;
        let pem = String::from_utf8(bytes).map_err(|_| content("it is not UTF-8".into()))?;
        let key = ed25519_dalek::SigningKey::from_pkcs8_pem(&pem)
            .map_err(|err| content(err.to_string()))?;
        Ok(Self::from_signing_key(key))
    }

    /// Writes the private key to a new file with mode 0600.
    ///
    /// # Errors
    /// [`KeyFileError::Exists`] when there is such a file; nothing is overwritten. A file that
    /// could not be written whole is taken away again.
    pub fn create_file(&self, path: &Path) -> Result<(), KeyFileError> {
        let pem = self
            .signing_key()
            .to_pkcs8_pem(LineEnding::LF)
            .map_err(|err| KeyFileError::Content {
                path: path.into(),
                detail: err.to_string(),
            })?;
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .map_err(|source| match source.kind() {
                io::ErrorKind::AlreadyExists => KeyFileError::Exists { path: path.into() },
                _ => KeyFileError::Io {
                    path: path.into(),
                    source,
                },
            })?;
        let written = file
            .write_all(pem.as_bytes())
            .and_then(|()| file.sync_all());
        written.map_err(|source| {
            // Half a key helps nobody, and would block the next attempt.
            let _ = std::fs::remove_file(path);
            KeyFileError::Io {
                path: path.into(),
                source,
            }
        })
    }
}

/// A PEM-encoded Ed25519 key has about 120 bytes; the rest is room for comments.
const MAX_KEY_FILE: u64 = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_back_what_it_wrote_with_mode_0600_and_never_overwrites() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.pem");
        let key = KeyPair::from_secret(&[7; 32]);
        key.create_file(&path).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let read = KeyPair::read_file(&path).unwrap();
        assert_eq!(read.public_key(), key.public_key());
        let again = KeyPair::from_secret(&[8; 32]).create_file(&path);
        assert!(matches!(again, Err(KeyFileError::Exists { .. })));
        let kept = KeyPair::read_file(&path).unwrap();
        assert_eq!(kept.public_key(), key.public_key());
    }

    #[test]
    fn refuses_a_key_that_others_can_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.pem");
        KeyPair::from_secret(&[7; 32]).create_file(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        let err = KeyPair::read_file(&path).unwrap_err();
        assert!(err.to_string().contains("chmod 600"), "{err}");
    }

    #[test]
    fn says_what_a_key_file_should_hold() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.pem");
        std::fs::write(&path, "hunter2").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        let text = KeyPair::read_file(&path).unwrap_err().to_string();
        assert!(
            text.contains("PKCS#8 PEM") && !text.contains("hunter2"),
            "{text}"
        );
    }
}
