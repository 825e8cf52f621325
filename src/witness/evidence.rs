//! What logs say of each other: the checkpoints of other logs that stand in their entries.
//!
//! An agent that countersigns a peer's checkpoint writes it into its own log
//! (`checkpoint_cosigned`), and so the two that prove that a peer has shown different logs to
//! different agents (`equivocation_detected`). A peer whose folder lost its own checkpoints, or
//! that rewrote its log, is found out by these.
//!
//! A checkpoint counts by its log's own signature, whoever keeps it: the log that it stands in
//! may be broken, and nothing here is believed but signatures. What a log holds of another is as
//! good as its owner: of an honest one the last word is the newest, so that only this is verified.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use serde_json::{Map, Value};

use super::check::READ_BUFFER;
use super::entry::{Chained, MAX_LINE};
use super::note::MAX_NOTE;
use super::opening::origin;
use super::{Event, KeptNote, LogName, Vouched};
use crate::identity::{AgentId, PublicKey, Roster, SwarmName};
use crate::message::parse_strict;

/// The checkpoints that logs hold of other logs: at most three for each pair.
#[derive(Debug, Default)]
pub struct Evidence {
    /// By the name of the log. Two logs of one name are of two runs, under different keys.
    about: HashMap<String, Vec<Subject>>,
}

/// A log of which checkpoints are looked for.
#[derive(Debug)]
struct Subject {
    agent_id: String,
    swarm: SwarmName,
    key: PublicKey,
    held: Vec<Vouched>,
}

/// What one log says last of another; nothing of it is verified.
#[derive(Debug, Default)]
struct LastWord {
    /// The checkpoint that it has countersigned.
    cosigned: Option<KeptNote>,
    /// Two that contradict each other.
    contradicting: Vec<KeptNote>,
}

impl Evidence {
    /// Makes checkpoints of this log be looked for.
    pub fn expect(&mut self, name: &LogName<'_>) {
        let subjects = self.about.entry(name.origin()).or_default();
        if subjects.iter().all(|subject| subject.key != name.key) {
            subjects.push(Subject {
                agent_id: name.agent_id.into(),
                swarm: name.swarm.clone(),
                key: name.key,
                held: Vec::new(),
            });
        }
    }

    /// Takes what the log at `path` holds of the expected ones. Reads it without checking it.
    ///
    /// # Errors
    /// What the operating system said.
    pub fn gather(&mut self, path: &Path, roster: Option<&Roster>) -> io::Result<()> {
        for (about, word) in self.last_words(path)? {
            for subject in self.about.get_mut(&about).into_iter().flatten() {
                let name = LogName {
                    agent_id: &subject.agent_id,
                    swarm: &subject.swarm,
                    key: subject.key,
                    roster,
                };
                let notes = word.cosigned.iter().chain(&word.contradicting);
                // What this log's key has not signed is evidence of nothing.
                let opened = notes.filter_map(|kept| name.open(kept).ok());
                subject.held.extend(opened);
            }
        }
        Ok(())
    }

    /// What the other logs hold of this one.
    pub fn about(&self, name: &LogName<'_>) -> Vec<Vouched> {
        let mut subjects = self.about.get(&name.origin()).into_iter().flatten();
        let subject = subjects.find(|subject| subject.key == name.key);
        subject
            .map(|subject| subject.held.clone())
            .unwrap_or_default()
    }

    /// What a log says last of each of the expected ones, by their names.
    fn last_words(&self, path: &Path) -> io::Result<BTreeMap<String, LastWord>> {
        let mut reader = BufReader::with_capacity(READ_BUFFER, File::open(path)?);
        let mut words = BTreeMap::new();
        let mut line = Vec::new();
        // All lines of a log begin alike up to the event, so that the few are found cheaply.
        let mut start = None;
        for number in 1.. {
            line.clear();
            let mut limited = reader.by_ref().take(MAX_LINE as u64 + 1);
            limited.read_until(b'\n', &mut line)?;
            // A line that is none ends it: whoever checks the log will say so.
            let Some((b'\n', text)) = line.split_last() else {
                break;
            };
            let start = match &start {
                Some(start) => start,
                None => match start_of(text) {
                    Some(found) => start.insert(found),
                    None => break,
                },
            };
            let event = text.strip_prefix(start.as_slice());
            if event.is_some_and(|event| NAMES.iter().any(|name| event.starts_with(name))) {
                self.take(text, number, &mut words);
            }
        }
        Ok(words)
    }

    /// Takes what an entry says of an expected log, if it does.
    fn take(&self, line: &[u8], number: u64, words: &mut BTreeMap<String, LastWord>) {
        let Ok(value) = parse_strict(line, MAX_LINE) else {
            return;
        };
        let Ok(read) = Chained::from_value(value) else {
            return;
        };
        // It will be told whose log this is, and nobody has checked it.
        if !AgentId::is_valid(&read.agent_id) {
            return;
        }
        let metadata = read.entry.metadata.unwrap_or_default();
        let about = metadata.get("origin").and_then(Value::as_str);
        let Some((about, subjects)) = about.and_then(|about| self.about.get_key_value(about))
        else {
            return;
        };
        // What a log holds of itself its own folder has.
        if subjects
            .iter()
            .any(|subject| origin(&subject.swarm, &read.agent_id) == *about)
        {
            return;
        }
        let kept = notes(read.entry.event, &metadata).map(|note| KeptNote {
            place: format!("line {number} of the log of {}", read.agent_id),
            note: note.into(),
        });
        let kept: Vec<_> = kept.collect();
        let word = words.entry(about.clone()).or_default();
        match read.entry.event {
            Event::CheckpointCosigned => word.cosigned = kept.into_iter().next(),
            _ => word.contradicting = kept,
        }
    }
}

/// The notes in the metadata of an entry.
fn notes(event: Event, metadata: &Map<String, Value>) -> impl Iterator<Item = &str> {
    let (one, several) = match event {
        Event::CheckpointCosigned => (metadata.get("note"), None),
        Event::EquivocationDetected => (None, metadata.get("checkpoints")),
        _ => (None, None),
    };
    let several = several.and_then(Value::as_array).into_iter().flatten();
    let notes = one.into_iter().chain(several.take(2));
    let notes = notes.filter_map(Value::as_str);
    // Larger ones are none.
    notes.filter(|note| note.len() <= MAX_NOTE)
}

/// What stands before the event in every line of a log that begins with this one.
fn start_of(line: &[u8]) -> Option<Vec<u8>> {
    let member = br#"","event":""#;
    let at = line
        .windows(member.len())
        .take(MAX_START)
        .position(|part| part == member)?;
    Some(line[..at + member.len()].to_vec())
}

/// The events that hold checkpoints.
const NAMES: [&[u8]; 2] = [b"checkpoint_cosigned\"", b"equivocation_detected\""];
/// An id has at most 128 characters, and stands first.
const MAX_START: usize = 256;
