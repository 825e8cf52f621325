//! Judging witness logs: their entries, the checkpoints beside them, and what the logs that are
//! given together hold of each other. And exports, which are such logs in one file.

use std::fs::File;
use std::io::BufRead;
use std::path::{Path, PathBuf};

use super::verify::Trust;
use super::verify_item::{Item, Kind, Tally};
use super::verify_judge::finish;
use super::verify_note::{identity, listed, uncounted};
use super::verify_progress::watched;
use crate::identity::{AgentId, Roster, SwarmName};
use crate::witness::{
    Audit, AuditError, CheckError, Evidence, Header, KeptNote, LogName, LogReader, Vouched, audit,
    kept_notes,
};

/// What the logs that are given together hold of each other. One alone holds nothing.
pub(super) fn evidence_of(logs: &[&PathBuf], trust: &Trust) -> Evidence {
    let mut evidence = Evidence::default();
    if logs.len() < 2 {
        return evidence;
    }
    for path in logs {
        // A log that cannot be read, or whose first entry is bad, fails when it is judged.
        if let Ok(log) = LogReader::open(path) {
            evidence.expect(&LogName::of(&log, None));
        }
    }
    let roster = trust.swarm.as_ref().map(|(_, roster)| roster);
    for path in logs {
        let _ = evidence.gather(path, roster);
    }
    evidence
}

/// Judges the log whose entries are the file `path`, with what stands beside it.
pub(super) fn log_file(
    path: &Path,
    evidence: &Evidence,
    trust: &Trust,
    tally: &mut Tally,
) -> anyhow::Result<()> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    let opened = File::open(path).and_then(|file| {
        // Before the entries: those only become more.
        let kept = kept_notes(folder)?;
        Ok((watched(file)?, kept))
    });
    match opened {
        Ok((reader, kept)) => log(reader, path, &kept, evidence, trust, tally),
        Err(source) => {
            let path = path.to_owned();
            let err = CheckError::Unreadable { path, source };
            tally.unreadable(folder, &err.to_string())
        }
    }
}

/// Judges the log that `reader` gives, held against the notes that are kept with it.
pub(super) fn log(
    reader: impl BufRead,
    path: &Path,
    kept: &[KeptNote],
    evidence: &Evidence,
    trust: &Trust,
    tally: &mut Tally,
) -> anyhow::Result<()> {
    let audited = LogReader::new(reader, path).map_err(AuditError::from);
    let audited = audited.and_then(|log| {
        let roster = trust.roster_of(log.swarm());
        let others: Vec<Vouched> = evidence.about(&LogName::of(&log, roster));
        audit(log, roster, kept, others)
    });
    tell(Kind::Witness, audited, 0, path, trust, tally)
}

/// Judges an export: `header` is its first line, and `reader` gives what follows.
pub(super) fn export(
    header: &[u8],
    reader: impl BufRead,
    path: &Path,
    trust: &Trust,
    tally: &mut Tally,
) -> anyhow::Result<()> {
    let read = Header::parse(header).and_then(|header| {
        let own = header.roster().map_err(|err| format!("`roster`: {err}"))?;
        Ok((header, own))
    });
    let (header, own) = match read {
        Ok(read) => read,
        Err(detail) => {
            let item = Item::bad(Kind::Export, "schema", detail);
            return tally.add(&item.at(path, Some(1)));
        }
    };
    let audited = LogReader::new(reader, path).map_err(AuditError::from);
    let audited = audited.and_then(|log| {
        // Its own roster is as good as its exporter: enough to show who is said to have
        // countersigned, and never for `--require-cosigners`, which needs `--swarm`.
        let roster = match &trust.swarm {
            Some(_) => trust.roster_of(log.swarm()).cloned(),
            None => own,
        };
        header.audit(log, roster.as_ref())
    });
    // The header is a line too.
    tell(Kind::Export, audited, 1, path, trust, tally)
}

/// Tells what was found out; `lines` stand before the first entry.
fn tell(
    kind: Kind,
    audited: Result<Audit, AuditError>,
    lines: u64,
    path: &Path,
    trust: &Trust,
    tally: &mut Tally,
) -> anyhow::Result<()> {
    match audited {
        Err(AuditError::Log(err @ CheckError::Unreadable { .. })) => {
            tally.unreadable(path, &err.to_string())
        }
        Err(err) => tally.add(&flawed(kind, &err, lines).at(path, None)),
        Ok(audit) => tally.add(&judge_log(kind, &audit, trust).at(path, None)),
    }
}

/// What speaks against a log, with the first entry that is wrong.
fn flawed(kind: Kind, err: &AuditError, lines: u64) -> Item {
    let detail = match err {
        AuditError::Log(CheckError::Flawed { flaw, .. }) => {
            let column = flaw.column.map(|column| format!(", column {column}"));
            let column = column.unwrap_or_default();
            format!("entry {}{column}: {}", flaw.line - 1, flaw.detail)
        }
        err => err.to_string(),
    };
    let reason = err.reason().unwrap_or("malformed");
    Item {
        line: err.line().map(|line| line + lines),
        ..Item::bad(kind, reason, detail)
    }
}

/// Says what was found out about a log that is good by itself.
///
/// Its entries prove that nothing was changed since, but anybody can write a log: who it is of, a
/// checkpoint proves that a known key has signed.
fn judge_log(kind: Kind, audit: &Audit, trust: &Trust) -> Item {
    let report = &audit.report;
    let (agent_id, swarm) = (report.agent_id.as_str(), &report.swarm);
    let known = match trust.knows_log(agent_id, swarm, &report.public_key) {
        Ok(known) => known,
        Err((reason, detail)) => return Item::bad(kind, reason, detail),
    };
    let vouched = trust.require_cosigners.map(|count| audit.vouched_by(count));
    let vouched = match vouched.transpose() {
        Ok(vouched) => vouched,
        Err(err) => return flawed(kind, &err, 0),
    };
    let has_roster = trust.swarm.is_some();
    let mut detail = format!(
        "log of {agent_id} in {swarm}, {} entries, root {}{}",
        report.entries,
        hex::encode(report.root),
        checkpoints(audit, has_roster),
    );
    if let (Some(size), Some(count)) = (vouched, trust.require_cosigners) {
        detail += &format!("; vouched for by {count} or more: the first {size} entries");
    }
    let item = Item {
        signer: agent_id.parse::<AgentId>().ok().map(|id| id.to_string()),
        public_key: Some(report.public_key),
        identity: Some(identity(known && audit.covered.is_some())),
        entries: Some(report.entries),
        covered: audit.covered,
        cosigners: has_roster.then(|| audit.cosigners.keys().cloned().collect()),
        detail: Some(detail),
        ..Item::good(kind)
    };
    finish(item, trust)
}

/// What is said of a log's checkpoints.
fn checkpoints(audit: &Audit, has_roster: bool) -> String {
    let Some(covered) = audit.covered else {
        return "; no checkpoint: entries that are missing at its end would not be found".into();
    };
    let mut text = match audit.report.entries - covered {
        0 => format!("; its checkpoint covers all {covered}"),
        n => format!("; its checkpoint covers {covered}, not yet covered: {n}"),
    };
    if !audit.cosigners.is_empty() {
        let cosigners = audit.cosigners.iter();
        let cosigners: Vec<_> = cosigners
            .map(|(id, size)| format!("{id} ({size})"))
            .collect();
        text += &format!("; countersigned by {}", listed(&cosigners));
        if !has_roster {
            text += ", by the roster in the file, which nothing proves";
        }
    }
    text + &uncounted(audit.uncounted, has_roster)
}

impl Trust {
    /// The agents that are known of `swarm`.
    pub(super) fn roster_of(&self, swarm: &SwarmName) -> Option<&Roster> {
        let (known, roster) = self.swarm.as_ref()?;
        (known == swarm).then_some(roster)
    }
}
