//! Finding what there is to judge in a file, a folder, or standard input, with memory for one line.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::verify::Trust;
use super::verify_item::{Item, Kind, Tally};
use super::verify_judge::{MAX_TEXT, judge, judge_log, judge_swarm, malformed};
use crate::message::parse_strict;
use crate::swarm::{Swarm, SwarmError};
use crate::witness::{self, CheckError, ENTRIES_FILE, Report};

/// Judges everything in `path`, which may be `-`.
pub(super) fn verify_file(path: &Path, trust: &Trust, tally: &mut Tally) -> anyhow::Result<()> {
    if path == Path::new("-") {
        return text(io::stdin().lock(), path, trust, tally);
    }
    if path.is_dir() {
        return folder(path, trust, tally);
    }
    match path.extension().and_then(|ext| ext.to_str()) {
        Some("yaml" | "yml") => return swarm(path, trust, tally),
        _ if path.file_name().is_some_and(|name| name == ENTRIES_FILE) => {
            return log(path, witness::check(path), trust, tally);
        }
        _ => {}
    }
    match File::open(path) {
        Ok(file) => text(BufReader::new(file), path, trust, tally),
        Err(err) => tally.unreadable(path, &format!("{}: {err}", path.display())),
    }
}

fn swarm(path: &Path, trust: &Trust, tally: &mut Tally) -> anyhow::Result<()> {
    let item = match Swarm::read(path) {
        Ok(swarm) => judge_swarm(&swarm, trust),
        Err(err @ SwarmError::TooLarge { .. }) => {
            Item::bad(Kind::Swarm, "malformed", err.to_string())
        }
        Err(SwarmError::Invalid(err)) => Item {
            line: Some(err.line as u64),
            ..Item::bad(Kind::Swarm, "malformed", err.to_string())
        },
        Err(err) => return tally.unreadable(path, &err.to_string()),
    };
    tally.add(&item.at(path, None))
}

/// A log, or a folder of logs as a swarm writes them: `DIR/AGENT`, `DIR/SWARM/AGENT`.
fn folder(path: &Path, trust: &Trust, tally: &mut Tally) -> anyhow::Result<()> {
    let mut level = vec![path.to_path_buf()];
    let mut found = false;
    for _ in 0..=FOLDER_LEVELS {
        let mut next = Vec::new();
        for folder in level {
            if folder.join(ENTRIES_FILE).exists() {
                found = true;
                let file = folder.join(ENTRIES_FILE);
                log(&file, witness::check(&file), trust, tally)?;
                continue;
            }
            match folders(&folder) {
                Ok(folders) => next.extend(folders),
                Err(err) => {
                    found = true;
                    tally.unreadable(&folder, &format!("{}: {err}", folder.display()))?;
                }
            }
        }
        level = next;
    }
    if found {
        return Ok(());
    }
    let path_shown = path.display();
    tally.unreadable(
        path,
        &format!("{path_shown}: found a folder without witness logs, expected `{ENTRIES_FILE}` in it, or below it as SWARM/AGENT/{ENTRIES_FILE}"),
    )
}

fn folders(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut folders = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            folders.push(path);
        }
    }
    folders.sort();
    Ok(folders)
}

fn log(
    path: &Path,
    checked: Result<Report, CheckError>,
    trust: &Trust,
    tally: &mut Tally,
) -> anyhow::Result<()> {
    let checked = match checked {
        Ok(report) => Ok(report),
        Err(CheckError::Flawed { flaw, .. }) => Err(flaw),
        Err(err @ CheckError::Unreadable { .. }) => {
            return tally.unreadable(path, &err.to_string());
        }
    };
    tally.add(&judge_log(checked, trust).at(path, None))
}

/// A JSON text, several of them one per line, or a log.
fn text(reader: impl BufRead, path: &Path, trust: &Trust, tally: &mut Tally) -> anyhow::Result<()> {
    match texts(reader, path, trust, tally) {
        Ok(told) => told,
        Err(err) => tally.unreadable(path, &format!("{}: {err}", path.display())),
    }
}

/// The outer error is of reading, the inner one of telling.
fn texts(
    mut reader: impl BufRead,
    path: &Path,
    trust: &Trust,
    tally: &mut Tally,
) -> io::Result<anyhow::Result<()>> {
    let mut lines = Lines::new(&mut reader);
    let Some(first) = lines.next()? else {
        return Ok(tally.add(&malformed("found nothing, expected JSON").at(path, None)));
    };
    if first.number == 1 && is_entry(&first.bytes) {
        let reader = first.bytes.as_slice().chain(reader);
        return Ok(log(path, witness::check_reader(reader, path), trust, tally));
    }
    let is_lines = path
        .extension()
        .is_some_and(|ext| ext == "jsonl" || ext == "ndjson");
    if !is_lines && !first.is_whole_object() {
        // One text over several lines, or nothing of ours.
        let mut bytes = first.bytes;
        let room = (MAX_TEXT + 1).saturating_sub(bytes.len()) as u64;
        reader.take(room).read_to_end(&mut bytes)?;
        return Ok(tally.add(&judge(&bytes, trust).at(path, None)));
    }
    let mut next = lines.next()?;
    let one = !is_lines && next.is_none();
    let mut line = Some(first);
    while let Some(this) = line {
        let number = (!one).then_some(this.number);
        if let Err(err) = tally.add(&judge(&this.bytes, trust).at(path, number)) {
            return Ok(Err(err));
        }
        line = match next.take() {
            Some(line) => Some(line),
            None => lines.next()?,
        };
    }
    Ok(Ok(()))
}

/// Lines that are not blank.
struct Lines<'a, R> {
    reader: &'a mut R,
    number: u64,
}

/// A line with its newline, if it has one. Of a line over the limit only so much as shows that.
struct Line {
    /// From 1.
    number: u64,
    bytes: Vec<u8>,
}

impl<'a, R: BufRead> Lines<'a, R> {
    fn new(reader: &'a mut R) -> Self {
        Self { reader, number: 0 }
    }

    fn next(&mut self) -> io::Result<Option<Line>> {
        loop {
            let mut bytes = Vec::new();
            // Its newline, and one byte that proves it too long.
            let limit = MAX_TEXT as u64 + 2;
            self.reader
                .by_ref()
                .take(limit)
                .read_until(b'\n', &mut bytes)?;
            if bytes.is_empty() {
                return Ok(None);
            }
            self.number += 1;
            if bytes.len() as u64 == limit && bytes.last() != Some(&b'\n') {
                self.reader.skip_until(b'\n')?;
            }
            if !bytes.trim_ascii().is_empty() {
                return Ok(Some(Line {
                    number: self.number,
                    bytes,
                }));
            }
        }
    }
}

impl Line {
    /// Whether it looks like an object on a line of its own; a text over several lines does not.
    fn is_whole_object(&self) -> bool {
        let text = self.bytes.trim_ascii();
        text.len() > 1 && text.starts_with(b"{") && text.ends_with(b"}")
    }
}

/// Whether a line is the first of a log, wherever the log stands.
fn is_entry(line: &[u8]) -> bool {
    let Ok(Value::Object(members)) = parse_strict(line, MAX_TEXT + 1) else {
        return false;
    };
    let named = |name| members.contains_key(name);
    named("event") && named("prev_hash") && !named("version") && !named("type")
}

/// Below the folder named: runs of `mesh up`, in each the swarms, and in each of these the agents.
const FOLDER_LEVELS: usize = 3;
