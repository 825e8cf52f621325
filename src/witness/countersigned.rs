//! What a log says its owner has countersigned: so that an agent that starts again goes on from
//! where it was, and countersigns no other history.
//!
//! Read while the log is opened, in passing: the lines are overheard as they are checked.

use std::collections::BTreeMap;
use std::io::{self, BufRead, Read};

use serde_json::Value;

use super::Event;

/// The newest note of each log, by origin.
#[derive(Debug, Clone, Default)]
pub(super) struct Countersigned {
    own_origin: String,
    /// What every line begins with that could be meant.
    prefix: String,
    notes: BTreeMap<String, String>,
}

impl Countersigned {
    /// Of the log `own_origin` of `owner`.
    pub(super) fn of(own_origin: &str, owner: &str) -> Self {
        let event = Event::CheckpointCosigned;
        Self {
            own_origin: own_origin.into(),
            prefix: format!(r#"{{"agent_id":"{owner}","event":"{event}","#),
            notes: BTreeMap::new(),
        }
    }

    /// Takes notice of a line.
    pub(super) fn hear(&mut self, line: &[u8]) {
        if !line.starts_with(self.prefix.as_bytes()) {
            return;
        }
        // What is no entry is found out by the one who checks.
        let Ok(entry) = serde_json::from_slice::<Value>(line) else {
            return;
        };
        let text = |name: &str| entry["metadata"][name].as_str();
        let (Some(origin), Some(note)) = (text("origin"), text("note")) else {
            return;
        };
        let known = self.notes.contains_key(origin);
        if origin != self.own_origin && (known || self.notes.len() < MAX_LOGS) {
            self.notes.insert(origin.into(), note.into());
        }
    }

    /// Origin and note.
    pub(super) fn notes(&self) -> impl Iterator<Item = (&str, &str)> {
        let notes = self.notes.iter();
        notes.map(|(origin, note)| (origin.as_str(), note.as_str()))
    }
}

/// A reader whose whole lines are told to somebody else as they go by.
pub(super) struct Overheard<R, F> {
    inner: R,
    hear: F,
    /// The beginning of a line that is not whole.
    line: Vec<u8>,
}

impl<R: BufRead, F: FnMut(&[u8])> Overheard<R, F> {
    pub(super) fn new(inner: R, hear: F) -> Self {
        let line = Vec::new();
        Self { inner, hear, line }
    }
}

impl<R: BufRead, F: FnMut(&[u8])> BufRead for Overheard<R, F> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.inner.fill_buf()
    }

    fn consume(&mut self, amount: usize) {
        // Filled already: this only gives what is there once more.
        let consumed = self.inner.fill_buf().unwrap_or_default();
        let consumed = &consumed[..amount.min(consumed.len())];
        for part in consumed.split_inclusive(|byte| *byte == b'\n') {
            match part.strip_suffix(b"\n") {
                Some(rest) if self.line.is_empty() => (self.hear)(rest),
                Some(rest) => {
                    self.line.extend_from_slice(rest);
                    (self.hear)(&self.line);
                    self.line.clear();
                }
                None => self.line.extend_from_slice(part),
            }
        }
        self.inner.consume(amount);
    }
}

impl<R: BufRead, F: FnMut(&[u8])> Read for Overheard<R, F> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let read = self.fill_buf()?.read(out)?;
        self.consume(read);
        Ok(read)
    }
}

/// Logs whose histories are remembered: several times the agents of the largest swarm.
const MAX_LOGS: usize = 4_096;

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use super::*;

    #[test]
    fn remembers_the_newest_of_each_other_log() {
        let line = |origin: &str, note: &str| {
            format!(
                r#"{{"agent_id":"legal","event":"checkpoint_cosigned","index":1,"metadata":{{"note":"{note}","origin":"{origin}"}}}}"#
            )
        };
        let text = [
            line("b", "1"),
            line("own", "2"),
            line("c", "3"),
            line("b", "4"),
            line("b", "5").replace("checkpoint_cosigned", "ifmessage_sent"),
            String::new(),
        ];
        let text = text.join("\n");
        // However the bytes come.
        for capacity in [1, 7, 64, 4096] {
            let mut found = Countersigned::of("own", "legal");
            let reader = BufReader::with_capacity(capacity, text.as_bytes());
            let mut reader = Overheard::new(reader, |line| found.hear(line));
            let mut read = String::new();
            reader.read_to_string(&mut read).unwrap();
            assert_eq!(read, text);
            let notes: Vec<_> = found.notes().collect();
            assert_eq!(notes, [("b", "4"), ("c", "3")]);
        }
    }
}
