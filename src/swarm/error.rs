//! Why a swarm file cannot be used, shown at its place in the file.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use super::text::{self, Place};
use super::yaml;

/// Why a swarm file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SwarmError {
    /// Nothing is there under this name.
    #[error("{path}: there is no such file; name a swarm file, such as `swarms/five-agent.yaml`", path = .path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// The path names a folder.
    #[error("{path}: found a folder, expected a swarm file in it: name the file itself", path = .path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
    },
    /// The file is larger than any swarm file; no more than the limit was read.
    #[error("{path}: found more than {limit} bytes, expected a swarm file of at most that", path = .path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The limit in bytes.
        limit: usize,
    },
    /// The operating system refused.
    #[error("{path}: the swarm file cannot be read: {source}", path = .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// The content is wrong.
    #[error(transparent)]
    Invalid(Box<InvalidSwarm>),
}

/// What is wrong in a swarm file, and where. Shown as
///
/// ```text
/// FILE:LINE:COLUMN: FIELD: found …, expected …
///  LINE | the line itself
///       | ^
/// help: what to do
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidSwarm {
    /// The file.
    pub path: PathBuf,
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// Which field, what was found, what was expected; one line.
    pub message: String,
    /// What to do about it, where that is not plain from the message.
    pub help: Option<String>,
    /// The part of the line around the column, made fit to print.
    excerpt: String,
    /// How many characters of the excerpt stand before the column.
    before: usize,
}

/// What is wrong with one node, before its line is known.
#[derive(Debug)]
pub(crate) struct Fault {
    /// The node.
    pub(crate) at: usize,
    /// Its name, such as `agents[1].id`; empty for the file as a whole.
    pub(crate) field: String,
    /// What was found there.
    pub(crate) found: String,
    /// What is said of the same elsewhere.
    pub(crate) elsewhere: Option<Elsewhere>,
    /// What was expected instead.
    pub(crate) expected: String,
    /// What to do about it.
    pub(crate) help: Option<String>,
}

/// What is said of the same at another node.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Elsewhere {
    /// It stands there first.
    First(usize),
    /// It is revoked there.
    Revoked(usize),
}

impl Fault {
    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    pub(crate) fn repeats(mut self, first: usize) -> Self {
        self.elsewhere = Some(Elsewhere::First(first));
        self
    }

    pub(crate) fn revoked_at(mut self, revoked: usize) -> Self {
        self.elsewhere = Some(Elsewhere::Revoked(revoked));
        self
    }

    /// Finds the lines in `text`, which the node came from.
    pub(crate) fn locate(self, text: &str, path: &Path) -> SwarmError {
        let Self {
            field,
            found,
            expected,
            ..
        } = self;
        let mut message = String::new();
        if !field.is_empty() {
            message = format!("`{field}`: ");
        }
        message += &format!("found {found}");
        if let Some(elsewhere) = self.elsewhere {
            let (what, at) = match elsewhere {
                Elsewhere::First(at) => ("first", at),
                Elsewhere::Revoked(at) => ("revoked", at),
            };
            message += &format!(", {what} on line {}", yaml::locate(text, at).line);
        }
        message += &format!(", expected {expected}");
        InvalidSwarm::at(yaml::locate(text, self.at), message, self.help, text, path)
    }
}

impl InvalidSwarm {
    pub(super) fn at(
        place: Place,
        message: String,
        help: Option<String>,
        text: &str,
        path: &Path,
    ) -> SwarmError {
        let source = text::line(text, place.line).unwrap_or_default();
        let start = place.column.saturating_sub(EXCERPT_BEFORE + 1);
        let excerpt = source
            .chars()
            .skip(start)
            .take(EXCERPT)
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect();
        SwarmError::Invalid(Box::new(Self {
            path: path.into(),
            line: place.line,
            column: place.column,
            message,
            help,
            excerpt,
            before: place.column - 1 - start,
        }))
    }
}

impl fmt::Display for InvalidSwarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { line, column, .. } = self;
        writeln!(
            f,
            "{}:{line}:{column}: {}",
            self.path.display(),
            self.message
        )?;
        writeln!(f, " {line} | {}", self.excerpt.trim_end())?;
        let (margin, before) = (line.to_string().len() + 1, self.before);
        write!(f, "{:margin$} | {:before$}^", "", "")?;
        if let Some(help) = &self.help {
            write!(f, "\nhelp: {help}")?;
        }
        Ok(())
    }
}

impl std::error::Error for InvalidSwarm {}

/// Text from the file as it stands in a message: one short line, whatever it was.
pub(crate) fn quote(text: &str) -> String {
    let mut shown = String::new();
    for c in text.chars().take(QUOTE) {
        if c.is_control() {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    let more = if text.chars().nth(QUOTE).is_some() {
        "…"
    } else {
        ""
    };
    format!("`{shown}{more}`")
}

/// As much of a line as fits a terminal beside its number.
const EXCERPT: usize = 100;
/// How much of that stands before the column, at most.
const EXCERPT_BEFORE: usize = 60;
/// A public key in full; longer text does not help to recognise it.
const QUOTE: usize = 64;
