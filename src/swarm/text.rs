//! The plain text of a swarm file: its lines, and what is wrong with it before it is YAML.

use std::path::Path;

use super::error::{InvalidSwarm, SwarmError};

/// A place in the text, both from 1, the column in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) line: usize,
    pub(super) column: usize,
}

impl Place {
    /// Where a text begins.
    pub(super) const START: Self = Self { line: 1, column: 1 };

    /// The place of what follows `before`.
    pub(super) fn after(before: &str) -> Self {
        let before = before.replace("\r\n", "\n");
        let mut lines = before.split(LINE_BREAKS);
        let last = lines.next_back().unwrap_or_default();
        Self {
            line: lines.count() + 1,
            column: last.chars().count() + 1,
        }
    }
}

/// The text of a line, from 1; `None` beyond the last one.
pub(super) fn line(text: &str, number: usize) -> Option<String> {
    let text = text.replace("\r\n", "\n");
    text.split(LINE_BREAKS).nth(number - 1).map(Into::into)
}

/// Refuses what the YAML reader refuses without saying where, or takes too long to.
pub(super) fn check(text: &str, path: &Path) -> Result<(), SwarmError> {
    let fault = |offset, message, help| {
        let place = Place::after(&text[..offset]);
        Err(InvalidSwarm::at(place, message, help, text, path))
    };
    if let Some((offset, c)) = text.char_indices().find(|(_, c)| !is_yaml(*c)) {
        let code = u32::from(c);
        let message = format!("found the character U+{code:04X}, expected text without it");
        return fault(offset, message, None);
    }
    if let Some((offset, _)) = text.match_indices(['[', '{']).nth(MAX_BRACKETS) {
        let message = format!("found more than {MAX_BRACKETS} `[` and `{{`, expected fewer");
        let help = "write lists and mappings on lines of their own, without brackets";
        return fault(offset, message, Some(help.into()));
    }
    Ok(())
}

/// The characters that YAML allows (1.2, section 5.1). A byte order mark is taken off before.
fn is_yaml(c: char) -> bool {
    match c {
        '\t' | '\n' | '\r' | '\u{85}' => true,
        '\u{feff}' | '\u{fffe}' | '\u{ffff}' => false,
        c => !c.is_control(),
    }
}

/// Where lines end for the YAML reader (1.1, section 5.4), beside CR LF.
const LINE_BREAKS: [char; 5] = ['\n', '\r', '\u{85}', '\u{2028}', '\u{2029}'];

/// The reader's time grows with the square of the depth of brackets, and their number bounds the
/// depth, whatever stands in quotes and comments. A thousand agents on a line each need a
/// thousand; ten times as many still take less than a second.
const MAX_BRACKETS: usize = 10_000;
