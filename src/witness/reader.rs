//! A log, entry by entry, each one checked before it is given out.
//!
//! For whoever does more with a log than [`check`](super::check()) it: prove, export, hold
//! checkpoints against it. Memory for one line, however long the log.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use super::check::{Checker, Next, Opened, READ_BUFFER, ReadError};
use super::opening::origin;
use super::tree::Tree;
use super::{CheckError, ENTRIES_FILE, Event, Flaw, Reason, Report};
use crate::identity::{PublicKey, SwarmName};

/// Reads a log and follows its chain.
#[derive(Debug)]
pub struct LogReader<R> {
    reader: R,
    /// What stands for it in errors.
    name: PathBuf,
    checker: Checker,
    opened: Opened,
    line: Vec<u8>,
    /// What happened in the first entry, until it was given out.
    first: Option<Event>,
    good_bytes: u64,
    torn_bytes: u64,
}

/// One good entry.
#[derive(Debug, Clone, Copy)]
pub struct Line<'a> {
    /// Which one, from 0.
    pub index: u64,
    /// What happened.
    pub event: Event,
    /// The line without its newline.
    pub bytes: &'a [u8],
    /// Its leaf hash.
    pub hash: [u8; 32],
}

impl LogReader<BufReader<File>> {
    /// Begins to read the log at `path`, an `entries.jsonl` or the folder that holds one.
    ///
    /// # Errors
    /// [`CheckError`], also if the first entry is not good.
    pub fn open(path: &Path) -> Result<Self, CheckError> {
        let path = if path.is_dir() {
            path.join(ENTRIES_FILE)
        } else {
            path.to_owned()
        };
        match File::open(&path) {
            Ok(file) => Self::new(BufReader::with_capacity(READ_BUFFER, file), &path),
            Err(source) => Err(CheckError::Unreadable { path, source }),
        }
    }
}

impl<R: BufRead> LogReader<R> {
    /// Begins to read; `name` stands for the log in errors.
    ///
    /// # Errors
    /// [`CheckError`], also if the first entry is not good.
    pub fn new(mut reader: R, name: &Path) -> Result<Self, CheckError> {
        let name = name.to_owned();
        let mut checker = Checker::default();
        let mut line = Vec::new();
        let next = checker.next(&mut reader, &mut line);
        let next = next.map_err(|err| error(err, &name))?;
        let (event, opened) = match (next, checker.opened()) {
            (Next::Entry(event), Some(opened)) => (event, opened.clone()),
            (Next::End { torn_bytes: 1.. }, _) => {
                let flaw = torn(&checker, line.len() as u64);
                return Err(CheckError::Flawed { path: name, flaw });
            }
            _ => {
                let empty = "an empty file is no log: its first entry is `log_opened`";
                let flaw = checker.flaw(Reason::Malformed, None, empty.into());
                return Err(CheckError::Flawed { path: name, flaw });
            }
        };
        Ok(Self {
            good_bytes: line.len() as u64 + 1,
            reader,
            name,
            checker,
            opened,
            line,
            first: Some(event),
            torn_bytes: 0,
        })
    }

    /// Gives the next entry, beginning with the first; none where the whole lines end.
    ///
    /// # Errors
    /// [`CheckError`], with the line that is wrong.
    pub fn next_entry(&mut self) -> Result<Option<Line<'_>>, CheckError> {
        let event = match self.first.take() {
            Some(first) => first,
            None => match self.checker.next(&mut self.reader, &mut self.line) {
                Ok(Next::Entry(event)) => {
                    self.good_bytes += self.line.len() as u64 + 1;
                    event
                }
                Ok(Next::End { torn_bytes }) => {
                    self.torn_bytes = torn_bytes;
                    return Ok(None);
                }
                Err(err) => return Err(error(err, &self.name)),
            },
        };
        let chain = self.checker.chain();
        Ok(Some(Line {
            index: chain.tree.size() - 1,
            event,
            bytes: &self.line,
            hash: chain.last_hash,
        }))
    }

    /// Whose log it says it is: an agent id, or `@signal`.
    pub fn agent_id(&self) -> &str {
        &self.opened.agent_id
    }

    /// The swarm it says it belongs to.
    pub fn swarm(&self) -> &SwarmName {
        &self.opened.swarm
    }

    /// The key it names as its owner's.
    pub fn public_key(&self) -> &PublicKey {
        &self.opened.public_key
    }

    /// The name of the log in checkpoints.
    pub fn origin(&self) -> String {
        origin(&self.opened.swarm, &self.opened.agent_id)
    }

    /// The tree over the entries so far. The first is in it from the beginning.
    pub fn tree(&self) -> &Tree {
        &self.checker.chain().tree
    }

    /// How many bytes the entries so far take.
    pub fn good_bytes(&self) -> u64 {
        self.good_bytes
    }

    /// How many bytes without a newline were found at the end.
    pub fn torn_bytes(&self) -> u64 {
        self.torn_bytes
    }

    /// What there is to say of the entries so far.
    pub fn report(&self) -> Report {
        let chain = self.checker.chain();
        Report {
            entries: chain.tree.size(),
            root: chain.tree.root(),
            last_hash: chain.last_hash,
            agent_id: self.opened.agent_id.clone(),
            swarm: self.opened.swarm.clone(),
            public_key: self.opened.public_key,
        }
    }

    /// Says of a log that was read to its end that it is good.
    ///
    /// # Errors
    /// [`CheckError`] when its last line is torn.
    pub fn finish(self) -> Result<Report, CheckError> {
        if self.torn_bytes > 0 {
            let flaw = torn(&self.checker, self.torn_bytes);
            let path = self.name;
            return Err(CheckError::Flawed { path, flaw });
        }
        Ok(self.report())
    }
}

fn torn(checker: &Checker, bytes: u64) -> Flaw {
    let detail = format!(
        "the last {bytes} bytes have no newline: the process was stopped while writing them"
    );
    checker.flaw(Reason::TornLine, None, detail)
}

fn error(err: ReadError, name: &Path) -> CheckError {
    let path = name.to_owned();
    match err {
        ReadError::Io(source) => CheckError::Unreadable { path, source },
        ReadError::Flawed(flaw) => CheckError::Flawed { path, flaw },
    }
}
