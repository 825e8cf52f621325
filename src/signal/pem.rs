//! Files of certificates and keys (PEM, RFC 7468): read, and what is wrong with them in words.

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustls::pki_types::pem::{Error, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// Why a file of certificates or keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PemError {
    /// The file cannot be read.
    #[error("{path}: cannot be read: {source}", path = .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The file is no PEM: binary, cut off, or something else.
    #[error(
        "{path}: no PEM file ({detail}); it has lines such as `-----BEGIN CERTIFICATE-----`; a DER file becomes one with `openssl x509 -inform der`",
        path = .path.display()
    )]
    NotPem {
        /// The file.
        path: PathBuf,
        /// What was found.
        detail: String,
    },
    /// There is PEM in the file, and no certificate.
    #[error(
        "{path}: no certificate in it; expected `-----BEGIN CERTIFICATE-----`",
        path = .path.display()
    )]
    NoCertificate {
        /// The file.
        path: PathBuf,
    },
    /// There is PEM in the file, and no private key that can be read without a password.
    #[error(
        "{path}: no private key in it; expected `-----BEGIN PRIVATE KEY-----`, not encrypted",
        path = .path.display()
    )]
    NoKey {
        /// The file.
        path: PathBuf,
    },
    /// Somebody else may read the private key (mode other than 0600 or stricter).
    #[error("{path} can be read by others (mode {mode:03o}): run `chmod 600 {path}`", path = .path.display())]
    TooOpen {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Certificate and key are of two pairs.
    #[error(
        "the private key {key} does not belong to the certificate {cert}: give the two that were made together, the server's own certificate first in its file",
        key = .key.display(), cert = .cert.display()
    )]
    Mismatch {
        /// The file of the certificate.
        cert: PathBuf,
        /// The file of the key.
        key: PathBuf,
    },
    /// What is in the file is of a kind that is not supported, or broken.
    #[error("{path}: cannot be used: {detail}", path = .path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
}

impl PemError {
    pub(super) fn unusable(path: &Path, err: &rustls::Error) -> Self {
        Self::Unusable {
            path: path.into(),
            detail: err.to_string(),
        }
    }
}

/// All certificates of a file, at least one.
pub(super) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, PemError> {
    let (found, _) = items(path)?;
    if found.is_empty() {
        return Err(PemError::NoCertificate { path: path.into() });
    }
    Ok(found)
}

/// The first private key of a file that nobody but its owner can read.
pub(super) fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, PemError> {
    let (found, meta) = items(path)?;
    // What is no key at all is told as that, whoever can read it.
    let first = found.into_iter().next();
    let key = first.ok_or_else(|| PemError::NoKey { path: path.into() })?;
    let mode = meta.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        let path = path.into();
        return Err(PemError::TooOpen { path, mode });
    }
    Ok(key)
}

/// What there is of one kind in a PEM file; none is no error if there is anything else.
fn items<T: PemObject>(path: &Path) -> Result<(Vec<T>, Metadata), PemError> {
    let (bytes, meta) = read(path).map_err(|source| PemError::Read {
        path: path.into(),
        source,
    })?;
    let not_pem = |detail: String| PemError::NotPem {
        path: path.into(),
        detail,
    };
    let found: Vec<T> = T::pem_slice_iter(&bytes)
        .collect::<Result<_, _>>()
        .map_err(|err| not_pem(describe(&err)))?;
    let begins = |line: &[u8]| line.starts_with(b"-----BEGIN ");
    if found.is_empty() && !bytes.split(|byte| *byte == b'\n').any(begins) {
        return Err(not_pem("no line begins with `-----BEGIN`".into()));
    }
    Ok((found, meta))
}

fn read(path: &Path) -> io::Result<(Vec<u8>, Metadata)> {
    let mut bytes = Vec::new();
    let file = File::open(path)?;
    let meta = file.metadata()?;
    file.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE {
        let message = format!("larger than the {MAX_FILE} bytes that certificates and keys need");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
    }
    Ok((bytes, meta))
}

/// The library would print bytes as numbers.
fn describe(err: &Error) -> String {
    match err {
        Error::MissingSectionEnd { .. } => "cut off: a `-----BEGIN` has no `-----END`".into(),
        Error::Base64Decode(_) => "between `-----BEGIN` and `-----END` stands no base64".into(),
        Error::IllegalSectionStart { .. } => "a `-----BEGIN` line is not closed by `-----`".into(),
        other => other.to_string(),
    }
}

/// The bundle of a whole operating system is a fifth of it.
const MAX_FILE: u64 = 1024 * 1024;
