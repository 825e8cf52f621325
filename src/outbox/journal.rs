//! The file of a journal: opened, appended to, rewritten.

use std::borrow::Cow;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::iter;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;

use super::error::{JournalError, io_at};
use super::reading::read;
use super::record::{Record, VERSION};
use super::rewriting::{Next, Rewrite, sync_folder};
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
    lines: Lines,
    /// The file that is about to take the place of that one, and is written as well.
    next: Option<Lines>,
    /// A rewrite has begun and is not done.
    is_rewriting: bool,
    /// Its length after the last rewrite of this run.
    rewritten: u64,
    /// Told to a rewrite that is under way.
    stop: Arc<AtomicBool>,
    /// Folders with names in them that the disk may not have.
    unsynced: Vec<PathBuf>,
    /// A write has failed, or what it tells of is not to be: nothing is written any more.
    is_broken: bool,
    _lock: File,
}

/// A file that lines are appended to.
#[derive(Debug)]
struct Lines {
    file: Arc<File>,
    /// Length of all lines that are written.
    length: u64,
}

/// The file of an open journal, for whoever waits for the disk.
#[derive(Debug, Clone)]
pub struct JournalFile {
    path: PathBuf,
    file: Arc<File>,
    next: Option<Arc<File>>,
    pub(super) unsynced: Vec<PathBuf>,
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
        let unsynced = changed_by_making(&folder);
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
        if !file.metadata().map_err(io_at(&path))?.is_file() {
            return Err(io_at(&path)(io::Error::other("not a regular file")));
        }
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
            lines: Lines {
                file: Arc::new(file),
                length: good_bytes,
            },
            next: None,
            is_rewriting: false,
            rewritten: 0,
            stop: Arc::default(),
            unsynced,
            is_broken: false,
            _lock: lock,
        };
        if found.is_none() {
            journal.pending = journal.opened();
            journal.commit()?;
        }
        Ok(journal)
    }

    /// Its folder, in which others may keep what belongs to the agent under other names.
    pub fn folder(&self) -> &Path {
        &self.folder
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
    /// is signed in the old one, and nobody would take it. Blocks.
    ///
    /// # Errors
    /// [`JournalError::Io`].
    pub fn renew(&mut self, session: Session) -> Result<Vec<Lost>, JournalError> {
        self.session = session;
        let lost = self.state.forget_sent();
        // All that waits for the next commit is in what is written now.
        self.pending.clear();
        let mut next = self.begin_rewrite().write()?;
        self.follow_with(&mut next)?;
        next.take_the_place()?;
        self.go_on();
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
    /// [`JournalError`]. Nothing that was not written may go out.
    pub fn commit(&mut self) -> Result<(), JournalError> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let pending = std::mem::take(&mut self.pending);
        self.append(&pending)
    }

    /// What waits for the next commit is not to be, and nothing after it.
    pub fn break_off(&mut self) {
        self.is_broken = true;
        self.pending.clear();
    }

    /// If the file is much longer than what it says, and everything is committed: what makes it
    /// short. To be [run](Rewrite::run) where that holds nobody up.
    pub fn due_rewrite(&mut self) -> Option<Rewrite> {
        let live = self.state.live_bytes() as u64;
        let enough = REWRITE_FROM
            .max(live.saturating_mul(REWRITE_FACTOR))
            .max(self.rewritten.saturating_mul(REWRITE_AGAIN));
        let is_due = self.lines.length > enough
            && self.pending.is_empty()
            && !self.is_rewriting
            && !self.is_broken;
        is_due.then(|| self.begin_rewrite())
    }

    /// Nobody wants a rewrite any more: one that is under way ends soon.
    pub fn stop_rewriting(&mut self) {
        self.is_rewriting = true;
        self.stop.store(true, Ordering::Relaxed);
    }

    fn begin_rewrite(&mut self) -> Rewrite {
        self.is_rewriting = true;
        Rewrite {
            folder: self.folder.clone(),
            opened: self.opened(),
            state: self.state.clone(),
            old: Arc::clone(&self.lines.file),
            covered: self.lines.length,
            stop: Arc::clone(&self.stop),
        }
    }

    /// How long the file is.
    pub(super) fn length(&self) -> u64 {
        self.lines.length
    }

    /// Appends to `new` as well from now on.
    pub(super) fn follow_with(&mut self, new: &mut Next) -> Result<(), JournalError> {
        new.copy(self.lines.length)?;
        self.next = Some(Lines {
            file: Arc::clone(&new.file),
            length: new.length,
        });
        Ok(())
    }

    /// The one that was followed with has taken the place of the file.
    pub(super) fn go_on(&mut self) {
        if let Some(next) = self.next.take() {
            self.rewritten = next.length;
            self.lines = next;
        }
        self.is_rewriting = false;
    }

    fn append(&mut self, lines: &[u8]) -> Result<(), JournalError> {
        let path = self.folder.join(JOURNAL_FILE);
        if self.is_broken {
            let source = io::Error::other("an earlier write has failed");
            return Err(JournalError::Io { path, source });
        }
        let mut files = iter::once(&self.lines).chain(&self.next);
        if let Err(source) = files.try_for_each(|file| file.write(lines)) {
            self.is_broken = true;
            // Whoever waits for this is told that it did not take place, and so it may not, though
            // whole lines of it may be written.
            let files = iter::once(&self.lines).chain(&self.next);
            let undone = files.map(Lines::cut).fold(Ok(()), io::Result::and);
            return Err(match undone {
                Ok(()) => JournalError::Io { path, source },
                Err(undoing) => JournalError::HalfWritten {
                    path,
                    source,
                    undoing,
                },
            });
        }
        for file in iter::once(&mut self.lines).chain(&mut self.next) {
            file.length += lines.len() as u64;
        }
        Ok(())
    }

    /// The file as it is now.
    pub fn file(&mut self) -> JournalFile {
        JournalFile {
            path: self.folder.join(JOURNAL_FILE),
            file: Arc::clone(&self.lines.file),
            next: self.next.as_ref().map(|next| Arc::clone(&next.file)),
            unsynced: std::mem::take(&mut self.unsynced),
        }
    }

    /// The first line.
    fn opened(&self) -> Vec<u8> {
        let mut line = Vec::new();
        let opened = Record::Opened {
            version: VERSION,
            swarm: Cow::Borrowed(&self.swarm),
            agent_id: Cow::Borrowed(&self.agent_id),
            public_key: self.public_key,
            session: self.session,
        };
        opened.write(&mut line);
        line
    }
}

impl Lines {
    /// At a known place: after all that is whole.
    fn write(&self, lines: &[u8]) -> io::Result<()> {
        self.file.write_all_at(lines, self.length)
    }

    /// Takes back what a write that failed has written all the same.
    fn cut(&self) -> io::Result<()> {
        self.file.set_len(self.length)
    }
}

impl JournalFile {
    /// Waits until the disk has everything that was committed before. Blocks.
    ///
    /// # Errors
    /// [`JournalError::Io`].
    pub fn sync(&self) -> Result<(), JournalError> {
        for file in iter::once(&self.file).chain(&self.next) {
            file.sync_data().map_err(io_at(&self.path))?;
        }
        self.unsynced.iter().try_for_each(|it| sync_folder(it))
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

/// The folders that get a new name when this one, and a file in it, are made.
fn changed_by_making(folder: &Path) -> Vec<PathBuf> {
    let missing = folder.ancestors().take_while(|path| !path.exists());
    let parents =
        missing
            .filter_map(Path::parent)
            .map(|parent| match parent.as_os_str().is_empty() {
                true => ".".into(),
                false => parent.into(),
            });
    iter::once(folder.into()).chain(parents).collect()
}

pub(super) const JOURNAL_FILE: &str = "journal.jsonl";
/// What will be the journal once it is whole.
pub(super) const NEW_FILE: &str = "new";
/// A shorter file is not worth rewriting.
const REWRITE_FROM: u64 = 1024 * 1024;
/// How many times longer than needed the file gets: each byte is then rewritten once for every
/// three appended at most.
const REWRITE_FACTOR: u64 = 4;
/// How many times longer it gets than it was after the last rewrite: what it says may take more than
/// it seems, and would be rewritten with every line.
const REWRITE_AGAIN: u64 = 2;
