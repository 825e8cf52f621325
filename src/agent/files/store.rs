//! Where received files are put: one folder, and nothing outside it, ever.
//!
//! The folder is opened once and everything is done relative to that handle, so that a folder or
//! link that takes its place later is not followed. A file is written beside its name, hidden and
//! locked, and gets the name when its hash is right: by a hard link, which never replaces what is
//! there. All of this waits for the disk; call it where that holds nobody up.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, Mode, OFlags, linkat, openat, unlinkat};
use sha2::{Digest, Sha256};

use super::name::{numbered, safe_name};
use super::wire::FileOffer;
use crate::identity::{AgentId, hex_text};

/// A folder that files are received into. Cheap to clone.
#[derive(Debug, Clone)]
pub(in crate::agent) struct Store {
    folder: Arc<File>,
    /// For people.
    shown: PathBuf,
}

/// A file that is being received: locked, so that no other transfer writes to it.
#[derive(Debug)]
pub(super) struct Part {
    store: Store,
    name: String,
    file: File,
    /// Of what is there.
    hash: Sha256,
    length: u64,
}

/// Why a file is not where it should be.
#[derive(Debug, thiserror::Error)]
pub(super) enum StoreError {
    /// The disk, or who owns it, does not want it.
    #[error("{what}: {source}")]
    Io {
        what: &'static str,
        #[source]
        source: io::Error,
    },
    /// What is there in its place is no file of ours.
    #[error("`{0}` is there already and is no plain file of this program: take it away")]
    NotOurs(String),
    /// What came is not what was offered.
    #[error("the SHA-256 of what came is not the one that was offered")]
    HashMismatch,
    /// Thousands of files have the name.
    #[error("`{0}` and all its numbered names are taken: move some of them away")]
    NameTaken(String),
}

impl Store {
    /// Opens the folder, and makes it if it is not there.
    pub(in crate::agent) fn open(path: &Path) -> io::Result<Self> {
        use std::os::unix::fs::DirBuilderExt;
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::open(path, flags, Mode::empty())?;
        Ok(Self {
            folder: Arc::new(File::from(folder)),
            shown: path.to_owned(),
        })
    }

    /// What there is of this file already, to be gone on with, or the empty beginning.
    ///
    /// Its name follows from who sends which bytes to whom: a receiver or a sender that has crashed
    /// goes on with it. While another transfer holds it, this one has its own.
    pub(super) fn part(
        &self,
        me: &AgentId,
        peer: &AgentId,
        offer: &FileOffer,
    ) -> Result<Part, StoreError> {
        let key = format!("{me}\n{peer}\n{}\n{}", offer.size, hex_text(&offer.sha256));
        let key = hex_text(&Sha256::digest(key)[..16]);
        let shared = format!("{PREFIX}{key}{SUFFIX}");
        let own = format!("{PREFIX}{key}-{}{SUFFIX}", offer.transfer);
        match self.locked(&shared)? {
            Some(file) => self.resumed(shared, file, offer.size),
            None => match self.locked(&own)? {
                Some(file) => self.resumed(own, file, offer.size),
                None => Err(StoreError::NotOurs(own)),
            },
        }
    }

    /// The file of this name, made if it is not there; none while somebody else has it.
    fn locked(&self, name: &str) -> Result<Option<File>, StoreError> {
        loop {
            let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            // Not waiting for a pipe that somebody has put there.
            let flags = flags | OFlags::NONBLOCK;
            let opened = openat(&self.folder, name, flags, Mode::RUSR | Mode::WUSR);
            let file = File::from(opened.map_err(io("cannot make the part file"))?);
            let found = file
                .metadata()
                .map_err(io("cannot look at the part file"))?;
            if !found.is_file() {
                return Err(StoreError::NotOurs(name.to_owned()));
            }
            match file.try_lock() {
                Ok(()) => {}
                Err(std::fs::TryLockError::WouldBlock) => return Ok(None),
                Err(std::fs::TryLockError::Error(err)) => {
                    return Err(io("cannot lock the part file")(err));
                }
            }
            // Whoever had it until now may have given it its name, or taken it away.
            let links = file
                .metadata()
                .map_err(io("cannot look at the part file"))?;
            match links.nlink() {
                1 => return Ok(Some(file)),
                0 => {}
                // Its bytes are also somebody else's.
                _ => self
                    .remove(name)
                    .map_err(io("cannot remove the part file"))?,
            }
        }
    }

    /// Hashes what is there.
    fn resumed(&self, name: String, mut file: File, size: u64) -> Result<Part, StoreError> {
        let read = io("cannot read the part file");
        let length = file.metadata().map_err(&read)?.len();
        if length > size {
            file.set_len(0).map_err(&read)?;
        }
        let mut hash = Sha256::new();
        let length = copy(&mut file, |bytes| hash.update(bytes)).map_err(&read)?;
        file.seek(SeekFrom::Start(length)).map_err(&read)?;
        Ok(Part {
            store: self.clone(),
            name,
            file,
            hash,
            length,
        })
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        Ok(unlinkat(&self.folder, name, AtFlags::empty())?)
    }
}

impl Part {
    /// How many bytes there are.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Adds what follows.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.file.write_all(bytes).map_err(io("cannot write"))?;
        self.hash.update(bytes);
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// Gives the file its name, or the first numbered one that is free, if it is what was offered;
    /// takes it away if not. Where it is then.
    pub(super) fn finish(self, offer: &FileOffer) -> Result<PathBuf, StoreError> {
        let hash: [u8; 32] = self.hash.clone().finalize().into();
        if self.length != offer.size || hash != offer.sha256 {
            self.discard();
            return Err(StoreError::HashMismatch);
        }
        self.file
            .sync_all()
            .map_err(io("cannot wait for the disk"))?;
        let name = safe_name(&offer.name);
        let folder = &self.store.folder;
        for n in 1..=MAX_NUMBER {
            let name = numbered(&name, n);
            match linkat(folder, &self.name, folder, &name, AtFlags::empty()) {
                Ok(()) => {
                    self.discard();
                    // The names too are to be there after a crash.
                    folder.sync_all().map_err(io("cannot wait for the disk"))?;
                    return Ok(self.store.shown.join(name));
                }
                Err(rustix::io::Errno::EXIST) => {}
                Err(err) => return Err(io("cannot give the file its name")(err)),
            }
        }
        Err(StoreError::NameTaken(name))
    }

    /// Takes the part file away.
    pub(super) fn discard(&self) {
        if let Err(err) = self.store.remove(&self.name) {
            tracing::warn!(file = self.name, reason = %err, "a part file was left behind");
        }
    }
}

/// A file of this host as it is offered: its size, hash and first look.
pub(super) fn fingerprint(file: &mut File) -> io::Result<(u64, [u8; 32])> {
    let mut hash = Sha256::new();
    let size = copy(file, |bytes| hash.update(bytes))?;
    Ok((size, hash.finalize().into()))
}

/// Reads to the end with memory for one block; how much it was.
fn copy(file: &mut File, mut take: impl FnMut(&[u8])) -> io::Result<u64> {
    let mut block = vec![0; BLOCK];
    let mut length = 0;
    loop {
        match file.read(&mut block) {
            Ok(0) => return Ok(length),
            Ok(read) => {
                take(&block[..read]);
                length += read as u64;
            }
            Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
            Err(err) => return Err(err),
        }
    }
}

fn io<E: Into<io::Error>>(what: &'static str) -> impl Fn(E) -> StoreError {
    move |err| StoreError::Io {
        what,
        source: err.into(),
    }
}

/// A dot first: no file that a stranger names can begin with one.
const PREFIX: &str = ".ifswarm-";
const SUFFIX: &str = ".part";
/// The greatest number behind a name that is taken.
const MAX_NUMBER: u32 = 9_999;
/// Bytes read at once.
const BLOCK: usize = 256 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::files::wire::TransferId;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn ids() -> (AgentId, AgentId) {
        ("bob".parse().unwrap(), "ann".parse().unwrap())
    }

    fn offer(n: u8, name: &str, bytes: &[u8]) -> FileOffer {
        FileOffer {
            transfer: TransferId::from_bytes([n; 16]),
            name: name.into(),
            size: bytes.len() as u64,
            sha256: Sha256::digest(bytes).into(),
            media_type: String::new(),
        }
    }

    fn part(folder: &Path, offer: &FileOffer) -> Result<Part, StoreError> {
        let (me, peer) = ids();
        Store::open(folder).unwrap().part(&me, &peer, offer)
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_gets_its_name_when_its_hash_is_right_and_never_replaces_another() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("in");
        let bytes = b"evidence";
        for n in 1..=3 {
            let offer = offer(n, "../a.txt", bytes);
            let mut part = part(&folder, &offer).unwrap();
            assert_eq!(part.length(), 0);
            part.write(bytes).unwrap();
            let path = part.finish(&offer).unwrap();
            assert_eq!(path.parent(), Some(&*folder));
            assert_eq!(fs::read(&path).unwrap(), bytes);
            let mode = fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        assert_eq!(names(&folder), ["a (2).txt", "a (3).txt", "a.txt"]);
        assert_eq!(names(dir.path()), ["in"]);
    }

    #[test]
    fn what_is_not_what_was_offered_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        for bytes in [&b"evidencf"[..], b"short", b"and too long"] {
            let offer = offer(1, "a", b"evidence");
            let mut part = part(dir.path(), &offer).unwrap();
            part.write(bytes).unwrap();
            assert!(matches!(part.finish(&offer), Err(StoreError::HashMismatch)));
            assert_eq!(names(dir.path()), [""; 0]);
        }
    }

    #[test]
    fn goes_on_with_what_is_there_whatever_the_transfer_is_called() {
        let dir = tempfile::tempdir().unwrap();
        let bytes = vec![7; 3 * BLOCK + 1];
        let first = offer(1, "a", &bytes);
        part(dir.path(), &first)
            .unwrap()
            .write(&bytes[..BLOCK + 1])
            .unwrap();
        let again = offer(2, "b", &bytes);
        let mut part = part(dir.path(), &again).unwrap();
        assert_eq!(part.length(), BLOCK as u64 + 1);
        part.write(&bytes[BLOCK + 1..]).unwrap();
        assert!(part.finish(&again).is_ok());
        assert_eq!(names(dir.path()), ["b"]);
    }

    #[test]
    fn a_part_that_is_being_written_to_belongs_to_one_transfer() {
        let dir = tempfile::tempdir().unwrap();
        let offers = [offer(1, "a", b"evidence"), offer(2, "a", b"evidence")];
        let mut first = part(dir.path(), &offers[0]).unwrap();
        first.write(b"evi").unwrap();
        let mut second = part(dir.path(), &offers[1]).unwrap();
        assert_eq!(second.length(), 0);
        assert!(part(dir.path(), &offers[1]).is_err(), "the same once more");
        first.write(b"dence").unwrap();
        second.write(b"evidence").unwrap();
        first.finish(&offers[0]).unwrap();
        second.finish(&offers[1]).unwrap();
        assert_eq!(names(dir.path()), ["a", "a (2)"]);
    }

    #[test]
    fn follows_no_link_and_writes_into_no_file_that_is_also_elsewhere() {
        let dir = tempfile::tempdir().unwrap();
        let (folder, victim) = (dir.path().join("in"), dir.path().join("victim"));
        let offer = offer(1, "a", b"evidence");
        drop(part(&folder, &offer).unwrap());
        let name = folder.join(&names(&folder)[0]);
        fs::write(&victim, b"precious").unwrap();

        fs::remove_file(&name).unwrap();
        symlink(&victim, &name).unwrap();
        assert!(part(&folder, &offer).is_err());

        fs::remove_file(&name).unwrap();
        fs::hard_link(&victim, &name).unwrap();
        let mut found = part(&folder, &offer).unwrap();
        assert_eq!(found.length(), 0);
        found.write(b"evidence").unwrap();

        // The name itself is a link out of the folder: it is taken, and that is all.
        symlink(dir.path().join("outside"), folder.join("a")).unwrap();
        let path = found.finish(&offer).unwrap();
        assert_eq!(path, folder.join("a (2)"));
        assert_eq!(fs::read(&victim).unwrap(), b"precious");
        assert_eq!(names(dir.path()), ["in", "victim"]);
    }

    #[test]
    fn stays_in_the_folder_that_was_opened_whatever_takes_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let (folder, moved) = (dir.path().join("in"), dir.path().join("moved"));
        let elsewhere = dir.path().join("elsewhere");
        fs::create_dir(&elsewhere).unwrap();
        let offer = offer(1, "a", b"evidence");
        let mut part = part(&folder, &offer).unwrap();
        fs::rename(&folder, &moved).unwrap();
        symlink(&elsewhere, &folder).unwrap();
        part.write(b"evidence").unwrap();
        part.finish(&offer).unwrap();
        assert_eq!(names(&elsewhere), [""; 0]);
        assert_eq!(names(&moved), ["a"]);
    }
}
