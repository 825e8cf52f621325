//! What logs say of each other: the checkpoints of other logs that stand in their entries.
//!
//! An agent that countersigns a peer's checkpoint writes it into its own log
//! (`checkpoint_cosigned`), and so the two that prove that a peer has shown different logs to
//! different agents (`equivocation_detected`). A peer whose folder lost its own checkpoints, or
//! that rewrote its log, is found out by these.
//!
//! A checkpoint counts by its log's own signature, whoever keeps it: the log that it stands in
//! may be broken, and nothing here is believed but signatures.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use serde_json::{Map, Value};

use super::check::READ_BUFFER;
use super::entry::{Chained, MAX_LINE};
use super::opening::origin;
use super::{Event, KeptNote, LogName, Vouched};
use crate::identity::{PublicKey, Roster, SwarmName};
use crate::message::parse_strict;

/// The checkpoints that logs hold of other logs. Memory for three of each pair.
#[derive(Debug, Default)]
pub struct Evidence {
    about: HashMap<Named, Subject>,
}

/// A log, and under which key.
type Named = (String, PublicKey);

#[derive(Debug)]
struct Subject {
    agent_id: String,
    swarm: SwarmName,
    /// What each holder has, by its name.
    held: BTreeMap<String, Held>,
}

/// What one log holds of another.
#[derive(Debug, Default)]
struct Held {
    /// The newest that it has countersigned.
    cosigned: Option<Vouched>,
    /// The two newest that it found to contradict.
    contradicting: Vec<Vouched>,
}

impl Evidence {
    /// Makes checkpoints of this log be looked for.
    pub fn expect(&mut self, name: &LogName<'_>) {
        self.about
            .entry((name.origin(), name.key))
            .or_insert_with(|| Subject {
                agent_id: name.agent_id.into(),
                swarm: name.swarm.clone(),
                held: BTreeMap::new(),
            });
    }

    /// Takes what the log at `path` holds of the expected ones. Reads it without checking it.
    ///
    /// # Errors
    /// What the operating system said.
    pub fn gather(&mut self, path: &Path, roster: Option<&Roster>) -> io::Result<()> {
        let mut reader = BufReader::with_capacity(READ_BUFFER, File::open(path)?);
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
                self.entry(text, number, roster);
            }
        }
        Ok(())
    }

    /// What the other logs hold of this one.
    pub fn about(&self, name: &LogName<'_>) -> Vec<Vouched> {
        let subject = self.about.get(&(name.origin(), name.key));
        let held = subject.iter().flat_map(|subject| subject.held.values());
        held.flat_map(|held| held.cosigned.iter().chain(&held.contradicting))
            .cloned()
            .collect()
    }

    /// Takes what an entry holds, if it is one.
    fn entry(&mut self, line: &[u8], number: u64, roster: Option<&Roster>) {
        let Ok(value) = parse_strict(line, MAX_LINE) else {
            return;
        };
        let Ok(read) = Chained::from_value(value) else {
            return;
        };
        let (Some(metadata), event) = (read.entry.metadata, read.entry.event) else {
            return;
        };
        let Some(about) = metadata.get("origin").and_then(Value::as_str) else {
            return;
        };
        let place = format!("line {number} of the log of {}", read.agent_id);
        let subjects = self.about.iter_mut();
        for ((_, key), subject) in subjects.filter(|((origin, _), _)| origin == about) {
            let own = origin(&subject.swarm, &read.agent_id);
            // What a log holds of itself its own folder has.
            if own == about {
                continue;
            }
            let name = LogName {
                agent_id: &subject.agent_id,
                swarm: &subject.swarm,
                key: *key,
                roster,
            };
            let opened = notes(event, &metadata)
                .map(|note| KeptNote {
                    place: place.clone(),
                    note: note.into(),
                })
                .filter_map(|kept| name.open(&kept).ok());
            let opened: Vec<_> = opened.collect();
            if !opened.is_empty() {
                subject.held.entry(own).or_default().take(event, opened);
            }
        }
    }
}

impl Held {
    fn take(&mut self, event: Event, opened: Vec<Vouched>) {
        for vouched in opened {
            if event == Event::EquivocationDetected {
                self.contradicting.push(vouched);
                continue;
            }
            let newest = self.cosigned.as_ref().map_or(0, |newest| newest.size);
            if vouched.size > newest {
                self.cosigned = Some(vouched);
            }
        }
        let excess = self.contradicting.len().saturating_sub(2);
        self.contradicting.drain(..excess);
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
    one.into_iter()
        .chain(several.take(2))
        .filter_map(Value::as_str)
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
