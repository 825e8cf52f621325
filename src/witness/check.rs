//! Reading a log: the one judge of what is valid, for the offline check and for going on with a log.
//!
//! Streams: memory for one line, however long the log. Repairs nothing.

use std::io::{self, BufRead, Read};
use std::path::{Path, PathBuf};

use super::entry::{Chained, Entry, MAX_LINE};
use super::opening::{FORMAT_VERSION, SIGNAL, origin};
use super::plain;
use super::tree::{Hash, Tree, leaf_hash};
use super::{ENTRIES_FILE, Event, Flaw, LogReader, Reason};
use crate::identity::{AgentId, PublicKey, SwarmName};
use crate::message::{Malformed, parse_strict};

/// What a good log says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// How many entries there are.
    pub entries: u64,
    /// The tree head over them (RFC 6962).
    pub root: [u8; 32],
    /// The leaf hash of the last entry.
    pub last_hash: [u8; 32],
    /// Whose log it is: an agent id, or `@signal`.
    pub agent_id: String,
    /// The swarm it belongs to.
    pub swarm: SwarmName,
    /// The key it names as its owner's. Nothing in the entries proves it; checkpoints do.
    pub public_key: PublicKey,
}

/// Why a log is not good.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// The log could not be read.
    #[error("{path}: {source}; expected a witness log (`{ENTRIES_FILE}`) or its folder", path = .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The log was read, and is not what was once written.
    #[error("{path}: {flaw}", path = .path.display())]
    Flawed {
        /// The file.
        path: PathBuf,
        /// The first thing wrong with it.
        flaw: Flaw,
    },
}

/// Checks the log at `path`, an `entries.jsonl` or the folder that holds one.
///
/// # Errors
/// [`CheckError`], with the first line that is wrong.
pub fn check(path: &Path) -> Result<Report, CheckError> {
    finish(LogReader::open(path)?)
}

/// Checks the log that `reader` gives; `name` stands for it in errors.
///
/// # Errors
/// [`CheckError`], with the first line that is wrong.
pub fn check_reader(reader: impl BufRead, name: &Path) -> Result<Report, CheckError> {
    finish(LogReader::new(reader, name)?)
}

fn finish(mut log: LogReader<impl BufRead>) -> Result<Report, CheckError> {
    while log.next_entry()?.is_some() {}
    log.finish()
}

/// The state of a log after some of its lines: what the next one must follow from.
#[derive(Debug, Clone, Default)]
pub(super) struct Chain {
    /// The leaf hash of the last line; zeros at first.
    pub(super) last_hash: Hash,
    pub(super) tree: Tree,
}

/// Follows a log line by line.
#[derive(Debug, Clone, Default)]
pub(super) struct Checker {
    chain: Chain,
    /// What the first entry says; none before it was read.
    opened: Option<Opened>,
    /// After how many lines to note the tree head.
    note_at: Option<u64>,
    noted: Option<Hash>,
}

/// What `log_opened` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Opened {
    pub(super) agent_id: String,
    pub(super) swarm: SwarmName,
    pub(super) public_key: PublicKey,
}

/// Where the good lines end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tail {
    /// Length of all whole lines.
    pub(super) good_bytes: u64,
    /// What follows them without a newline.
    pub(super) torn_bytes: u64,
}

/// What reading came upon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// A good line.
    Entry(Event),
    /// No whole line any more.
    End {
        /// What there is without a newline.
        torn_bytes: u64,
    },
}

/// Why reading ended early.
#[derive(Debug)]
pub(super) enum ReadError {
    Io(io::Error),
    Flawed(Flaw),
}

impl Chain {
    /// Becomes as `other`, in the memory that it has.
    pub(super) fn set(&mut self, other: &Self) {
        self.last_hash = other.last_hash;
        self.tree.set(&other.tree);
    }

    pub(super) fn push(&mut self, line: &[u8]) {
        self.last_hash = leaf_hash(line);
        self.tree.push(self.last_hash);
    }
}

impl Checker {
    /// One that notes the tree head over the first `size` lines.
    pub(super) fn noting(size: Option<u64>) -> Self {
        let mut checker = Self {
            note_at: size,
            ..Self::default()
        };
        checker.note();
        checker
    }

    /// The tree head that was to be noted; none if there are not so many lines.
    pub(super) fn noted(&self) -> Option<Hash> {
        self.noted
    }

    fn note(&mut self) {
        if self.note_at == Some(self.chain.tree.size()) {
            self.noted = Some(self.chain.tree.root());
        }
    }

    /// Reads every whole line. What is left without a newline at the end is no entry: a
    /// `write` that was cut short leaves a beginning of its bytes, and of a line only the
    /// newline says that it is whole.
    pub(super) fn read(&mut self, reader: &mut impl BufRead) -> Result<Tail, ReadError> {
        let mut line = Vec::new();
        let mut good_bytes = 0;
        loop {
            match self.next(reader, &mut line)? {
                Next::Entry(_) => good_bytes += line.len() as u64 + 1,
                Next::End { torn_bytes } => {
                    return Ok(Tail {
                        good_bytes,
                        torn_bytes,
                    });
                }
            }
        }
    }

    /// Reads the next whole line into `line`, without its newline, and takes it.
    pub(super) fn next(
        &mut self,
        reader: &mut impl BufRead,
        line: &mut Vec<u8>,
    ) -> Result<Next, ReadError> {
        line.clear();
        // One byte more than a line: its newline, or the proof that it is too long.
        let limit = MAX_LINE as u64 + 1;
        let read = reader.by_ref().take(limit).read_until(b'\n', line);
        let read = read.map_err(ReadError::Io)? as u64;
        if line.pop_if(|last| *last == b'\n').is_some() {
            return self.line(line).map(Next::Entry).map_err(ReadError::Flawed);
        }
        if read == limit {
            let detail = format!("a line of more than {MAX_LINE} bytes");
            let flaw = self.flaw(Reason::Malformed, None, detail);
            return Err(ReadError::Flawed(flaw));
        }
        Ok(Next::End { torn_bytes: read })
    }

    /// Takes the next line, without its newline; says what happened.
    fn line(&mut self, line: &[u8]) -> Result<Event, Flaw> {
        let quick = self.opened.as_ref().and_then(|opened| {
            let (owner, index) = (&opened.agent_id, self.chain.tree.size());
            plain::follows(line, owner, index, &self.chain.last_hash)
        });
        let event = match quick {
            Some(event) => event,
            None => self.examine(line)?,
        };
        self.chain.push(line);
        self.note();
        Ok(event)
    }

    /// The whole way: what the next line says, and all that can be wrong with it.
    fn examine(&mut self, line: &[u8]) -> Result<Event, Flaw> {
        let value = parse_strict(line, MAX_LINE).map_err(|err| {
            let (column, detail) = match err {
                Malformed::Syntax { column, detail, .. } => (Some(column), detail),
                err @ Malformed::TooLarge { .. } => (None, err.to_string()),
            };
            self.flaw(Reason::Malformed, column.filter(|c| *c > 0), detail)
        })?;
        let schema = |detail| self.flaw(Reason::Schema, None, detail);
        let read = Chained::from_value(value).map_err(schema)?;

        let mut canonical = Vec::with_capacity(line.len());
        let (entry, index) = (&read.entry, read.index);
        entry.write(&read.agent_id, index, &read.prev_hash, &mut canonical);
        if canonical != line {
            let same = line.iter().zip(&canonical).take_while(|(a, b)| a == b);
            let detail = "not canonical JSON (RFC 8785): this is not how the entry is written";
            return Err(self.flaw(Reason::Malformed, Some(same.count() + 1), detail.into()));
        }

        let next = self.chain.tree.size();
        if index != next {
            let detail =
                format!("index {index} where {next} follows: lines are missing, repeated or moved");
            return Err(self.flaw(Reason::ChainBroken, None, detail));
        }
        if read.prev_hash != self.chain.last_hash {
            let detail = match next {
                0 => "`prev_hash` of the first entry is not 64 zeros",
                _ => "`prev_hash` is not the hash of the line before: one of the two was changed",
            };
            return Err(self.flaw(Reason::ChainBroken, None, detail.into()));
        }

        match (&self.opened, entry.event) {
            (None, Event::LogOpened) => {
                self.opened = Some(Opened::read(&read.agent_id, entry).map_err(schema)?);
            }
            (None, event) => {
                return Err(schema(format!(
                    "the first entry is `{event}`, not `log_opened`"
                )));
            }
            (Some(_), Event::LogOpened) => {
                return Err(schema("`log_opened` is only ever the first entry".into()));
            }
            (Some(opened), _) if opened.agent_id != read.agent_id => {
                return Err(schema("`agent_id` is not that of the first entry".into()));
            }
            (Some(_), _) => {}
        }
        Ok(entry.event)
    }

    /// The state after the lines so far.
    pub(super) fn chain(&self) -> &Chain {
        &self.chain
    }

    /// What the first entry says; none before it was read.
    pub(super) fn opened(&self) -> Option<&Opened> {
        self.opened.as_ref()
    }

    /// A flaw of the line that would come next.
    pub(super) fn flaw(&self, reason: Reason, column: Option<usize>, detail: String) -> Flaw {
        Flaw {
            reason,
            line: self.chain.tree.size() + 1,
            column,
            detail,
        }
    }

    /// What the first entry says and how the log goes on; none of an empty log.
    pub(super) fn into_parts(self) -> Option<(Opened, Chain)> {
        self.opened.map(|opened| (opened, self.chain))
    }
}

impl Opened {
    fn read(agent_id: &str, entry: &Entry) -> Result<Self, String> {
        if agent_id != SIGNAL && !AgentId::is_valid(agent_id) {
            return Err(format!("`agent_id` is neither an agent id nor `{SIGNAL}`"));
        }
        let member = |name: &str| entry.metadata.as_ref().and_then(|m| m.get(name));
        let text = |name: &str| {
            let text = member(name).and_then(|value| value.as_str());
            text.ok_or_else(|| format!("`metadata` of `log_opened` has no text `{name}`"))
        };
        if member("version").and_then(|v| v.as_u64()) != Some(FORMAT_VERSION) {
            return Err(format!(
                "`metadata.version` is not {FORMAT_VERSION}, the only one this program reads"
            ));
        }
        let swarm = text("swarm")?;
        let swarm: SwarmName = swarm
            .parse()
            .map_err(|e| format!("`metadata.swarm`: {e}"))?;
        let public_key = text("public_key")?;
        let public_key = public_key
            .parse()
            .map_err(|e| format!("`metadata.public_key`: {e}"))?;
        let expected = origin(&swarm, agent_id);
        if text("origin")? != expected {
            return Err(format!("`metadata.origin` is not `{expected}`"));
        }
        Ok(Self {
            agent_id: agent_id.into(),
            swarm,
            public_key,
        })
    }
}

/// Large enough that reading does not decide how fast a long log is checked.
pub(super) const READ_BUFFER: usize = 256 * 1024;
