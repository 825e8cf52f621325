//! A whole log in one file that can be checked elsewhere: a header, then the entries as they are.
//!
//! ```text
//! {"checkpoint":NOTE?,"cosignatures":[NOTE,…],"entries":n,"format":"ifswarm-export/1","origin":…,"roster":{ID:hex64,…}?}
//! <the lines of entries.jsonl>
//! ```
//!
//! The header is not signed: what it carries is. Its roster is what the exporter believed, and is
//! evidence of nothing.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, Read, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::entry::MAX_LINE;
use super::{
    Audit, AuditError, CHECKPOINT_FILE, ENTRIES_FILE, KeptNote, LogReader, audit, kept_notes,
};
use crate::identity::{AgentId, PublicKey, Roster, RosterError};
use crate::message::{canonical, one_line, parse_strict};

/// The first line of an export.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    format: String,
    /// The name of the log.
    pub origin: String,
    /// How many entries follow.
    pub entries: u64,
    /// The newest checkpoint, if there was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    checkpoint: Option<String>,
    /// The newest checkpoints that peers countersigned.
    cosignatures: Vec<String>,
    /// Who was known under which key.
    #[serde(skip_serializing_if = "Option::is_none")]
    roster: Option<BTreeMap<AgentId, PublicKey>>,
}

/// Why a log cannot be exported.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The log is not good.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// A file could not be read or written.
    #[error("{path}: {source}", path = .path.display())]
    Io {
        /// The folder of the log, or the file that is written.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The cosignatures and the roster are more than a header takes.
    #[error(
        "the header would have {size} bytes, more than {MAX_LINE}: leave --swarm out, or export less"
    )]
    TooLarge {
        /// How many it would have.
        size: usize,
    },
}

impl Header {
    /// What `format` begins with.
    pub const FORMAT: &str = "ifswarm-export/";

    /// Reads the first line of a file.
    ///
    /// # Errors
    /// What was found and what was expected.
    pub fn parse(line: &[u8]) -> Result<Self, String> {
        let shown = |text: String| one_line(&text, MAX_DETAIL);
        let value = parse_strict(line, MAX_LINE).map_err(|err| shown(err.to_string()))?;
        let header: Self = serde_json::from_value(value).map_err(|err| shown(err.to_string()))?;
        if header.format != format() {
            let found = shown(header.format);
            return Err(format!(
                "found the format `{found}`, expected `{}`",
                format()
            ));
        }
        Ok(header)
    }

    /// The roster that stands in it.
    ///
    /// # Errors
    /// [`RosterError`].
    pub fn roster(&self) -> Result<Option<Roster>, RosterError> {
        self.roster.clone().map(Roster::new).transpose()
    }

    /// Holds the entries that follow against what the header says.
    ///
    /// # Errors
    /// [`AuditError`]; its line counts from the first entry.
    pub fn audit<R: BufRead>(
        &self,
        log: LogReader<R>,
        roster: Option<&Roster>,
    ) -> Result<Audit, AuditError> {
        if log.origin() != self.origin {
            let found = one_line(&self.origin, MAX_DETAIL);
            return Err(AuditError::Header(format!(
                "found `origin` {found}, expected {}, the log that follows",
                log.origin()
            )));
        }
        let audit = audit(log, roster, &self.notes(), Vec::new())?;
        let found = audit.report.entries;
        if found < self.entries {
            return Err(AuditError::Truncated {
                place: "the header".into(),
                signed: self.entries,
                found,
            });
        }
        if found > self.entries {
            return Err(AuditError::Header(format!(
                "found {found} entries, expected {} (`entries`): something was added",
                self.entries
            )));
        }
        Ok(audit)
    }

    /// The notes in it.
    fn notes(&self) -> Vec<KeptNote> {
        let kept = |place: String, note: &String| KeptNote {
            place,
            note: note.clone(),
        };
        let checkpoint = self.checkpoint.iter();
        let checkpoint = checkpoint.map(|note| kept("the checkpoint of the header".into(), note));
        let cosignatures = (1..).zip(&self.cosignatures);
        let cosignatures =
            cosignatures.map(|(n, note)| kept(format!("cosignature {n} of the header"), note));
        checkpoint.chain(cosignatures).collect()
    }
}

/// Checks the log in `folder`, then writes it with its checkpoints and `roster` to `out`. What is
/// appended meanwhile is left out.
///
/// # Errors
/// [`ExportError`]; nothing was written if the log is not good.
pub fn export(
    folder: &Path,
    roster: Option<&Roster>,
    out: &mut impl Write,
) -> Result<Audit, ExportError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        |source| ExportError::Io { path, source }
    };
    // Before the entries: those only become more.
    let kept = kept_notes(folder).map_err(failed(folder))?;
    let log = LogReader::open(folder).map_err(AuditError::from)?;
    let origin = log.origin();
    let audit = audit(log, roster, &kept, Vec::new())?;

    let (checkpoint, cosignatures) = kept
        .into_iter()
        .partition::<Vec<_>, _>(|kept| kept.place == CHECKPOINT_FILE);
    let notes = |kept: Vec<KeptNote>| kept.into_iter().map(|kept| kept.note);
    let header = Header {
        format: format(),
        origin,
        entries: audit.report.entries,
        checkpoint: notes(checkpoint).next(),
        cosignatures: notes(cosignatures).collect(),
        roster: roster.map(|roster| {
            let agents = roster.iter();
            agents.map(|(id, key)| (id.clone(), *key)).collect()
        }),
    };
    let line = canonical(&header);
    if line.len() > MAX_LINE {
        return Err(ExportError::TooLarge { size: line.len() });
    }
    let entries = folder.join(ENTRIES_FILE);
    let file = File::open(&entries).map_err(failed(&entries))?;
    let written = out
        .write_all(&line)
        .and_then(|()| out.write_all(b"\n"))
        .and_then(|()| io::copy(&mut file.take(audit.bytes), out))
        .and_then(|copied| out.flush().map(|()| copied));
    match written {
        Ok(copied) if copied == audit.bytes => Ok(audit),
        Ok(_) => Err(failed(&entries)(io::Error::other(
            "became shorter while it was read",
        ))),
        Err(err) => Err(failed(Path::new("the export"))(err)),
    }
}

fn format() -> String {
    format!("{}1", Header::FORMAT)
}

/// Characters of an error of the JSON reader, which may quote the file.
const MAX_DETAIL: usize = 300;
