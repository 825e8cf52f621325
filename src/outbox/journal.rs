//! The file of a journal: opened, appended to, rewritten.

use std::borrow::Cow;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::error::{JournalError, io_at};
use super::reading::read;
use super::record::{Record, VERSION};
use super::state::State;
use crate::identity::{AgentId, PublicKey, Session, SwarmName, file_name};
use crate::mesh::Remembered;
use crate::message::{Destination, Timestamp};
use crate::witness::{LockFault, lock_folder};

/// Whose journal it is.
#[derive(Debug, Clone, Copy)]
pub struct Owner<'a> {
    /// The agent.
    pub agent_id: &'a AgentId,
    /// Its swarm.
    pub swarm: &'a SwarmName,
    /// Its key: what is kept is signed with it.
    pub public_key: PublicKey,
}

/// A message that was kept, and is not any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    /// For whom it was.
    pub peer: AgentId,
    /// Under which destination.
    pub destination: Destination,
    /// Its number.
    pub sequence_num: u64,
}

/// The journal of one agent; see the [module](super).
#[derive(Debug)]
pub struct Journal {
    folder: PathBuf,
    swarm: SwarmName,
    agent_id: AgentId,
    public_key: PublicKey,
    session: Session,
    state: State,
    pending: Vec<u8>,
    file: Arc<File>,
    /// Length of all lines that are written.
    good_bytes: u64,
    /// The name of the file may not be on disk yet.
    is_new: bool,
    /// A write has failed, or what it tells of is not to be: nothing is written any more.
    is_broken: bool,
    _lock: File,
}

/// The file of an open journal, for whoever waits for the disk.
#[derive(Debug, Clone)]
pub struct JournalFile {
    path: PathBuf,
    file: Arc<File>,
    /// Has a name in it that the disk may not have.
    folder: Option<PathBuf>,
}

impl Journal {
    /// Opens `root/SWARM/AGENT`, or goes on with it: reads it all and cuts off a torn last line.
    /// `session` is that of a journal that begins now.
    ///
    /// # Errors
    /// [`JournalError`]; what is there is left as it is.
    pub fn open(root: &Path, owner: Owner<'_>, session: Session) -> Result<Self, JournalError> {
        let folder = root
            .join(file_name(owner.swarm.as_str()))
            .join(file_name(owner.agent_id.as_str()));
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder)
            .map_err(io_at(&folder))?;
        let lock = lock_folder(&folder).map_err(|fault| match fault {
            LockFault::Io { path, source } => JournalError::Io { path, source },
            LockFault::Held { holder } => JournalError::Locked {
                path: folder.clone(),
                holder,
            },
        })?;
        // What a crash left of a file that was to take its place.
        let _ = fs::remove_file(folder.join(NEW_FILE));
        let path = folder.join(JOURNAL_FILE);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let file = options.mode(0o600).open(&path).map_err(io_at(&path))?;
        let (state, found, good_bytes) = read(&path, &file, owner)?;
        file.set_len(good_bytes).map_err(io_at(&path))?;
        let mut journal = Self {
            folder,
            swarm: owner.swarm.clone(),
            agent_id: owner.agent_id.clone(),
            public_key: owner.public_key,
            session: found.unwrap_or(session),
            state,
            pending: Vec::new(),
            file: Arc::new(file),
            good_bytes,
            is_new: true,
            is_broken: false,
            _lock: lock,
        };
        if found.is_none() {
            journal.pending = journal.snapshot();
            journal.commit()?;
        }
        Ok(journal)
    }

    /// The session that the agent goes on with.
    pub fn session(&self) -> Session {
        self.session
    }

    /// What the mesh takes up: the greatest number used under `*`, and every peer.
    pub fn remembered(&self, now: Timestamp) -> (u64, Vec<Remembered>) {
        self.state.remembered(now)
    }

    /// Begins another session, since a later one than this is known to the server. What was kept
    /// is signed in the old one, and nobody would take it.
    ///
    /// # Errors
    /// [`JournalError::Io`].
    pub fn renew(&mut self, session: Session) -> Result<Vec<Lost>, JournalError> {
        self.session = session;
        let lost = self.state.forget_sent();
        self.rewrite()?;
        let lost = lost.into_iter().map(|(peer, to_all, sequence_num)| Lost {
            destination: match to_all {
                true => Destination::All,
                false => Destination::Agent(peer.clone()),
            },
            peer,
            sequence_num,
        });
        Ok(lost.collect())
    }

    /// A message was accepted for `to`.
    pub fn accepted(
        &mut self,
        to: &[AgentId],
        destination: &Destination,
        sequence_num: u64,
        at: Timestamp,
        bytes: &Bytes,
    ) {
        let at = at.unix_ms();
        self.state
            .accepted(to, destination, sequence_num, at, bytes);
        let record = Record::Accepted {
            to: Cow::Borrowed(to),
            destination: Cow::Borrowed(destination),
            sequence_num,
            at,
            message: String::from_utf8_lossy(bytes),
        };
        record.write(&mut self.pending);
    }

    /// Messages to `peer` are acknowledged, refused or given back: those from `from` to `to`.
    pub fn settled(&mut self, peer: &AgentId, destination: &Destination, from: u64, to: u64) {
        self.state.settled(peer, destination, (from, to));
        let record = Record::Settled {
            peer: Cow::Borrowed(peer),
            destination: Cow::Borrowed(destination),
            from,
            to,
        };
        record.write(&mut self.pending);
    }

    /// Writes at once that this message of `peer` is in the hands of the program, and nothing of
    /// what waits for the next commit.
    ///
    /// # Errors
    /// [`JournalError::Io`]: it comes again.
    pub fn note(
        &mut self,
        peer: &AgentId,
        session: Session,
        to_all: bool,
        number: u64,
    ) -> Result<(), JournalError> {
        let mut line = Vec::new();
        taken(peer, session, to_all, number).write(&mut line);
        self.append(&line)?;
        self.state.taken(peer, session, to_all, number);
        Ok(())
    }

    /// This message of `peer` is in the hands of the program; those before it need not be.
    pub fn taken(&mut self, peer: &AgentId, session: Session, to_all: bool, number: u64) {
        self.state.taken(peer, session, to_all, number);
        taken(peer, session, to_all, number).write(&mut self.pending);
    }

    /// Messages of `peer` are in the hands of the program, all up to this number of its session.
    pub fn seen(&mut self, peer: &AgentId, session: Session, to_all: bool, up_to: u64) {
        self.state.seen(peer, session, to_all, up_to);
        let record = Record::Seen {
            peer: Cow::Borrowed(peer),
            session,
            to_all,
            up_to,
        };
        record.write(&mut self.pending);
    }

    /// A link with `peer` is up: from now on it belongs to the mesh, also after a restart.
    pub fn met(&mut self, peer: &AgentId) {
        if self.state.knows(peer) {
            return;
        }
        self.state.meet(peer);
        let record = Record::Peer {
            peer: Cow::Borrowed(peer),
            direct: 0,
            all: 0,
        };
        record.write(&mut self.pending);
    }

    /// Writes everything since the last commit, in one `write` unless the system takes less.
    ///
    /// # Errors
    /// [`JournalError::Io`]. Nothing that was not written may go out.
    pub fn commit(&mut self) -> Result<(), JournalError> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let pending = std::mem::take(&mut self.pending);
        self.append(&pending)?;
        let live = self.state.live_bytes() as u64;
        if self.good_bytes > REWRITE_FROM.max(live * REWRITE_FACTOR) {
            self.rewrite()?;
        }
        Ok(())
    }

    /// What waits for the next commit is not to be, and nothing after it.
    pub fn break_off(&mut self) {
        self.is_broken = true;
        self.pending.clear();
    }

    fn append(&mut self, lines: &[u8]) -> Result<(), JournalError> {
        let path = self.folder.join(JOURNAL_FILE);
        if self.is_broken {
            let source = io::Error::other("an earlier write has failed");
            return Err(JournalError::Io { path, source });
        }
        // At a known place: after all that is whole.
        let written = self.file.write_all_at(lines, self.good_bytes);
        self.is_broken = written.is_err();
        written.map_err(io_at(&path))?;
        self.good_bytes += lines.len() as u64;
        Ok(())
    }

    /// The file as it is now.
    pub fn file(&mut self) -> JournalFile {
        JournalFile {
            path: self.folder.join(JOURNAL_FILE),
            file: Arc::clone(&self.file),
            folder: std::mem::take(&mut self.is_new).then(|| self.folder.clone()),
        }
    }

    /// Replaces the file by one that says the same in fewer lines, in one step.
    fn rewrite(&mut self) -> Result<(), JournalError> {
        let lines = self.snapshot();
        let (new, path) = (self.folder.join(NEW_FILE), self.folder.join(JOURNAL_FILE));
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true);
        let mut file = options.mode(0o600).open(&new).map_err(io_at(&new))?;
        file.write_all(&lines).map_err(io_at(&new))?;
        // What it takes the place of may be on the disk.
        file.sync_data().map_err(io_at(&new))?;
        fs::rename(&new, &path).map_err(io_at(&path))?;
        self.file = Arc::new(file);
        self.is_new = true;
        self.good_bytes = lines.len() as u64;
        self.pending.clear();
        Ok(())
    }

    fn snapshot(&self) -> Vec<u8> {
        let mut lines = Vec::new();
        let opened = Record::Opened {
            version: VERSION,
            swarm: Cow::Borrowed(&self.swarm),
            agent_id: Cow::Borrowed(&self.agent_id),
            public_key: self.public_key,
            session: self.session,
        };
        opened.write(&mut lines);
        self.state.write(&mut lines);
        lines
    }
}

impl JournalFile {
    /// Waits until the disk has everything that was committed before. Blocks.
    ///
    /// # Errors
    /// [`JournalError::Io`].
    pub fn sync(&self) -> Result<(), JournalError> {
        self.file.sync_data().map_err(io_at(&self.path))?;
        let Some(folder) = &self.folder else {
            return Ok(());
        };
        let synced = File::open(folder).and_then(|folder| folder.sync_all());
        synced.map_err(io_at(folder))
    }
}

fn taken(peer: &AgentId, session: Session, to_all: bool, number: u64) -> Record<'_> {
    Record::Taken {
        peer: Cow::Borrowed(peer),
        session,
        to_all,
        number,
    }
}

const JOURNAL_FILE: &str = "journal.jsonl";
/// What will be the journal once it is whole.
const NEW_FILE: &str = "new";
/// A shorter file is not worth rewriting.
const REWRITE_FROM: u64 = 1024 * 1024;
/// How many times longer than needed the file gets: each byte is then rewritten once for every
/// three appended at most.
const REWRITE_FACTOR: u64 = 4;
