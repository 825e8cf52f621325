//! Finding what there is to judge in a file, a folder, or standard input, with memory for one line.

use std::fs::{self, File};
use std::io::{self, BufRead, Read};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::verify::Trust;
use super::verify_batch::Batch;
use super::verify_item::{Item, Kind, Tally};
use super::verify_judge::{MAX_TEXT, has_format, judge, judge_swarm, malformed};
use super::verify_log::{export, log, log_file};
use super::verify_progress::watched_line_by_line;
use crate::message::parse_strict;
use crate::swarm::{Swarm, SwarmError};
use crate::witness::{CHECKPOINT_FILE, ENTRIES_FILE, Evidence, Header, ProofFile};

/// One thing to be judged, and where it was found.
#[derive(Debug)]
pub(super) enum Input {
    /// The entries of a log.
    Log(PathBuf),
    /// A swarm file.
    Swarm(PathBuf),
    /// Whatever else a file holds; `-` is standard input.
    Text(PathBuf),
    /// What cannot be read, and why.
    Unreadable(PathBuf, String),
}

impl Input {
    /// The log that it is.
    pub(super) fn log(&self) -> Option<&PathBuf> {
        match self {
            Self::Log(path) => Some(path),
            _ => None,
        }
    }
}

/// Finds what there is to judge in `path`: of a folder, the logs in it.
pub(super) fn inputs_of(path: &Path) -> Vec<Input> {
    if path == Path::new("-") {
        return vec![Input::Text(path.into())];
    }
    if path.is_dir() {
        return folder(path);
    }
    vec![match path.extension().and_then(|ext| ext.to_str()) {
        Some("yaml" | "yml") => Input::Swarm(path.into()),
        _ if path.file_name().is_some_and(|name| name == ENTRIES_FILE) => Input::Log(path.into()),
        _ => Input::Text(path.into()),
    }]
}

/// Judges one of them; `evidence` is what the logs among them hold of each other.
pub(super) fn verify_input(
    input: &Input,
    evidence: &Evidence,
    trust: &Trust,
    tally: &mut Tally,
) -> anyhow::Result<()> {
    match input {
        Input::Log(path) => log_file(path, evidence, trust, tally),
        Input::Swarm(path) => swarm(path, trust, tally),
        Input::Unreadable(path, why) => tally.unreadable(path, why),
        Input::Text(path) if path == Path::new("-") => text(io::stdin().lock(), path, trust, tally),
        Input::Text(path) => match File::open(path).and_then(watched_line_by_line) {
            Ok(reader) => text(reader, path, trust, tally),
            Err(err) => tally.unreadable(path, &format!("{}: {err}", path.display())),
        },
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
fn folder(path: &Path) -> Vec<Input> {
    let mut level = vec![path.to_path_buf()];
    let mut found = Vec::new();
    for _ in 0..=FOLDER_LEVELS {
        let mut next = Vec::new();
        for folder in level {
            // A folder that lost its entries is a log too, and cannot be read.
            if [ENTRIES_FILE, CHECKPOINT_FILE]
                .iter()
                .any(|name| folder.join(name).is_file())
            {
                found.push(Input::Log(folder.join(ENTRIES_FILE)));
                continue;
            }
            match folders(&folder) {
                Ok(folders) => next.extend(folders),
                Err(err) => {
                    let why = format!("{}: {err}", folder.display());
                    found.push(Input::Unreadable(folder, why));
                }
            }
        }
        level = next;
    }
    if found.is_empty() {
        let why = format!(
            "{}: found a folder without witness logs, expected `{ENTRIES_FILE}` in it, or below it as SWARM/AGENT/{ENTRIES_FILE}",
            path.display()
        );
        found.push(Input::Unreadable(path.into(), why));
    }
    found
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
    if first.number == 1
        && let Ok(Value::Object(members)) = parse_strict(&first.bytes, MAX_TEXT + 1)
    {
        if is_entry(&members) {
            let reader = first.bytes.as_slice().chain(reader);
            let none = Evidence::default();
            return Ok(log(reader, path, &[], &none, trust, tally));
        }
        if has_format(&members, Header::FORMAT) {
            return Ok(export(&first.bytes, reader, path, trust, tally));
        }
    }
    let is_lines = path
        .extension()
        .is_some_and(|ext| ext == "jsonl" || ext == "ndjson");
    if !is_lines && !first.is_whole_object() {
        // One text over several lines, or nothing of ours.
        let mut bytes = first.bytes;
        let room = (ProofFile::MAX + 1).saturating_sub(bytes.len()) as u64;
        reader.take(room).read_to_end(&mut bytes)?;
        return Ok(tally.add(&judge(&bytes, trust).at(path, None)));
    }
    let second = lines.next()?;
    let one = !is_lines && second.is_none();
    let mut batch = Batch::default();
    batch.push((!one).then_some(first.number), first.bytes);
    let mut next = second;
    loop {
        let is_last = next.is_none();
        if let Some(line) = next.take() {
            batch.push(Some(line.number), line.bytes);
        }
        if is_last || batch.is_full() {
            for (number, item) in batch.judge(trust) {
                if let Err(err) = tally.add(&item.at(path, number)) {
                    return Ok(Err(err));
                }
            }
        }
        if is_last {
            return Ok(Ok(()));
        }
        next = lines.next()?;
    }
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
            // Its newline, and one byte that proves it too long. A proof stands by itself.
            let largest = match self.number {
                0 => ProofFile::MAX,
                _ => MAX_TEXT,
            };
            let limit = largest as u64 + 2;
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
fn is_entry(members: &Map<String, Value>) -> bool {
    let named = |name| members.contains_key(name);
    named("event") && named("prev_hash") && !named("version") && !named("type")
}

/// Below the folder named: runs of `mesh up`, in each the swarms, and in each of these the agents.
const FOLDER_LEVELS: usize = 3;
