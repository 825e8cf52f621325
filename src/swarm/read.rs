//! A swarm file from disk, bounded.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;

use super::error::{Fault, InvalidSwarm, SwarmError};
use super::field::Field;
use super::revoked::PublicHalf;
use super::text::Place;
use super::{Swarm, check, yaml};
use crate::identity::KeyPair;

impl Swarm {
    /// Reads and checks a swarm file. Where it revokes keys, the key files of its agents are read
    /// too, as far as they can be: theirs must not be among them.
    ///
    /// # Errors
    /// When it cannot be read, is larger than 1 MiB, or says something that cannot be; the error
    /// shows file, line, column, what was found, and what was expected.
    pub fn read(path: &Path) -> Result<Self, SwarmError> {
        let text = read_text(path)?;
        let public_half = |path: &Path| Some(KeyPair::read_file(path).ok()?.public_key());
        Self::parse_with(&text, path, &public_half)
    }

    /// Checks the text of a swarm file. `path` is where it is from: errors name it, and paths in
    /// the text are taken relative to its folder. No file is read.
    ///
    /// # Errors
    /// As [`Swarm::read`], but for what the operating system says.
    pub fn parse(text: &str, path: &Path) -> Result<Self, SwarmError> {
        Self::parse_with(text, path, &|_| None)
    }

    fn parse_with(
        text: &str,
        path: &Path,
        public_half: PublicHalf<'_>,
    ) -> Result<Self, SwarmError> {
        let folder = path.parent().unwrap_or(Path::new(""));
        read_fields(text, path, |root| check::swarm(root, folder, public_half))
    }
}

/// The text of a file that is written as swarm files are.
pub(crate) fn read_text(path: &Path) -> Result<String, SwarmError> {
    let failed = |source: std::io::Error| match source.kind() {
        ErrorKind::NotFound => SwarmError::Missing { path: path.into() },
        ErrorKind::IsADirectory => SwarmError::Folder { path: path.into() },
        _ => SwarmError::Io {
            path: path.into(),
            source,
        },
    };
    let file = File::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    // One byte more tells a file that is too large from one that just fits.
    file.take(MAX_FILE as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() > MAX_FILE {
        return Err(too_large(path));
    }
    String::from_utf8(bytes).map_err(|err| not_utf8(err.as_bytes(), err.utf8_error(), path))
}

/// What `read` makes of the fields of a text; a fault of it is shown at its place.
pub(crate) fn read_fields<T>(
    text: &str,
    path: &Path,
    read: impl FnOnce(&Field<'_>) -> Result<T, Fault>,
) -> Result<T, SwarmError> {
    if text.len() > MAX_FILE {
        return Err(too_large(path));
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let root = yaml::parse(text, path)?;
    read(&Field::root(&root)).map_err(|fault| fault.locate(text, path))
}

fn too_large(path: &Path) -> SwarmError {
    SwarmError::TooLarge {
        path: path.into(),
        limit: MAX_FILE,
    }
}

fn not_utf8(bytes: &[u8], err: std::str::Utf8Error, path: &Path) -> SwarmError {
    let place = Place::after(&String::from_utf8_lossy(&bytes[..err.valid_up_to()]));
    let message = format!(
        "found the byte 0x{:02X}, expected text in UTF-8",
        bytes[err.valid_up_to()]
    );
    let help = Some("save the file with the encoding UTF-8".into());
    InvalidSwarm::at(place, message, help, &String::from_utf8_lossy(bytes), path)
}

/// A thousand agents with keys take a fifth of it.
pub(super) const MAX_FILE: usize = 1024 * 1024;
