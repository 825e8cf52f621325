//! What can be wrong with a log, by the names of `cli.md` (`verify --json`, `reason`).

use std::fmt;

/// The first thing wrong with a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flaw {
    /// The reason, as on the wire.
    pub reason: Reason,
    /// The line, from 1.
    pub line: u64,
    /// The column in bytes, from 1, where there is one.
    pub column: Option<usize>,
    /// What was found and what was expected.
    pub detail: String,
}

/// Kinds of flaws; [`Reason::as_str`] is their name on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Not JSON, not canonical, or larger than an entry may be.
    Malformed,
    /// Canonical JSON, but no entry of this log.
    Schema,
    /// Does not follow from the line before.
    ChainBroken,
    /// The last line lacks its newline: a write was cut short.
    TornLine,
}

impl Reason {
    /// The name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Schema => "schema",
            Self::ChainBroken => "chain-broken",
            Self::TornLine => "torn-line",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}", self.line)?;
        if let Some(column) = self.column {
            write!(f, ", column {column}")?;
        }
        write!(f, ": {}: {}", self.reason, self.detail)
    }
}
