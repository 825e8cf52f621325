//! What `verify` says of one thing, and of all of them (`cli.md`, `verify --json`).

use std::fmt;
use std::path::Path;
use std::process::ExitCode;

use serde::Serialize;

use super::failure::Failure;
use super::output::Out;
use crate::identity::{AgentId, PublicKey};

/// What was found out about one thing.
#[derive(Debug, Serialize)]
pub(super) struct Item {
    pub(super) file: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) line: Option<u64>,
    pub(super) kind: Kind,
    pub(super) ok: bool,
    /// An agent id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) signer: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) public_key: Option<PublicKey>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) identity: Option<Identity>,
    /// How many entries a log has, or a checkpoint covers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) entries: Option<u64>,
    /// How many of them the newest checkpoint covers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) covered: Option<u64>,
    /// Known agents that have countersigned it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cosigners: Option<Vec<AgentId>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) detail: Option<String>,
}

/// What it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    Ifmessage,
    Sdp,
    Frame,
    Witness,
    Checkpoint,
    Proof,
    Export,
    Swarm,
    Unknown,
}

/// Whether the signer's key is one that the caller named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Identity {
    Pinned,
    Unpinned,
}

/// Tells each item as it comes, and keeps only counts: a file of a million messages takes no more
/// memory than one of ten.
pub(super) struct Tally {
    json: bool,
    color: bool,
    out: Out,
    checked: u64,
    failed: u64,
    unreadable: u64,
}

impl Item {
    pub(super) fn good(kind: Kind) -> Self {
        Self {
            file: String::new(),
            line: None,
            kind,
            ok: true,
            signer: None,
            public_key: None,
            identity: None,
            entries: None,
            covered: None,
            cosigners: None,
            reason: None,
            detail: None,
        }
    }

    pub(super) fn bad(kind: Kind, reason: &'static str, detail: impl Into<String>) -> Self {
        Self {
            ok: false,
            reason: Some(reason),
            detail: Some(detail.into()),
            ..Self::good(kind)
        }
    }

    /// Says where it was found.
    pub(super) fn at(self, file: &Path, line: Option<u64>) -> Self {
        Self {
            file: file.display().to_string(),
            line: line.or(self.line),
            ..self
        }
    }

    /// Fails what is good, but proved to be from nobody in particular.
    pub(super) fn require_identity(self) -> Self {
        if !self.ok || self.identity == Some(Identity::Pinned) {
            return self;
        }
        let why = match self.identity {
            None => "nothing in it tells who made it",
            Some(_) if matches!(self.kind, Kind::Witness | Kind::Export) => {
                "no checkpoint of a known key signs the log"
            }
            Some(_) => "expected a key that --swarm or --key names",
        };
        Self {
            ok: false,
            reason: Some("unpinned"),
            detail: Some(why.into()),
            ..self
        }
    }
}

impl Tally {
    pub(super) fn new(json: bool, color: bool) -> Self {
        Self {
            json,
            color,
            out: Out::new(),
            checked: 0,
            failed: 0,
            unreadable: 0,
        }
    }

    pub(super) fn add(&mut self, item: &Item) -> anyhow::Result<()> {
        let first = self.checked == 0;
        self.checked += 1;
        self.failed += u64::from(!item.ok);
        if self.json {
            let item = serde_json::to_string(item).expect("strings and numbers only");
            let before = if first { r#"{"items":["# } else { "," };
            return self.out.write(&format!("{before}{item}"));
        }
        let word = match (item.ok, self.color) {
            (true, false) => "ok     ",
            (true, true) => "\x1b[32mok\x1b[0m     ",
            (false, false) => "FAILED ",
            (false, true) => "\x1b[1;31mFAILED\x1b[0m ",
        };
        self.out.write(&format!("{word} {item}\n"))
    }

    /// A file that cannot be read. Goes on with the others; the exit code will be 2.
    pub(super) fn unreadable(&mut self, file: &Path, why: &str) -> anyhow::Result<()> {
        self.unreadable += 1;
        eprintln!("error: {why}");
        if self.json {
            let item = Item {
                ok: false,
                detail: Some(why.into()),
                ..Item::good(Kind::Unknown)
            };
            self.add(&item.at(file, None))?;
        }
        Ok(())
    }

    pub(super) fn finish(mut self) -> anyhow::Result<ExitCode> {
        let ok = self.failed == 0 && self.unreadable == 0;
        if self.json {
            self.out.write(&format!("],\"ok\":{ok}}}\n"))?;
        } else if self.checked > 1 {
            let good = self.checked - self.failed;
            let (checked, failed) = (self.checked, self.failed);
            self.out
                .write(&format!("{checked} checked: {good} ok, {failed} FAILED\n"))?;
        }
        self.out.flush()?;
        Ok(match (self.unreadable, self.failed) {
            (0, 0) => ExitCode::SUCCESS,
            (0, _) => Failure::No.into(),
            _ => Failure::Unusable.into(),
        })
    }
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        write!(f, ": {}", self.kind)?;
        if let Some(signer) = &self.signer {
            let by = match self.kind {
                // Nobody signs a log without a checkpoint, nor all of it with one.
                Kind::Witness | Kind::Export => "of",
                _ => "signed by",
            };
            write!(f, " {by} {signer}")?;
        }
        if let Some(key) = &self.public_key {
            write!(f, ", key {key}")?;
        }
        match self.identity {
            Some(Identity::Pinned) => f.write_str(", identity: pinned")?,
            Some(Identity::Unpinned) => f.write_str(", identity: unpinned")?,
            None => {}
        }
        for part in [self.reason, self.detail.as_deref()].into_iter().flatten() {
            f.write_str(": ")?;
            // The excerpt of a swarm file has lines of its own; they stay together, indented.
            f.write_str(&part.replace('\n', "\n        "))?;
        }
        Ok(())
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ifmessage => "ifmessage",
            Self::Sdp => "sdp",
            Self::Frame => "frame",
            Self::Witness => "witness",
            Self::Checkpoint => "checkpoint",
            Self::Proof => "proof",
            Self::Export => "export",
            Self::Swarm => "swarm",
            Self::Unknown => "unknown",
        })
    }
}
