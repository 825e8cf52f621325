//! The table of the attacks: who played what, who noticed, and what the witness says of it.

use comfy_table::{ContentArrangement, LineStyle, Table, TableStyle};

/// Who plays an attack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    /// The signaling server, or who has taken its place: it says what it likes.
    Server,
    /// A member, or a stranger, with a socket of its own.
    Peer,
    /// Who stands between: it changes and repeats what others say.
    Relay,
}

/// What came of an attack.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    /// Who noticed.
    pub(super) by: String,
    /// The refusal, in the words of the wire.
    pub(super) reason: String,
    /// The witness entry, and its line in whose log; or why there is none.
    pub(super) entry: String,
}

/// All that was played so far.
#[derive(Debug, Default)]
pub(super) struct Attacks {
    rows: Vec<[String; 6]>,
    failures: Vec<String>,
}

impl Seen {
    pub(super) fn new(
        by: impl Into<String>,
        reason: impl Into<String>,
        entry: impl Into<String>,
    ) -> Self {
        Self {
            by: by.into(),
            reason: reason.into(),
            entry: entry.into(),
        }
    }
}

impl Attacks {
    /// An attack was refused, as `seen`, and the honest link did this afterwards.
    pub(super) fn refused(&mut self, attack: &str, by: By, seen: Seen, honest: String) {
        let by = by.to_string();
        let row = [attack.into(), by, seen.by, seen.reason, seen.entry, honest];
        self.rows.push(row);
    }

    /// An attack was not refused as it should have been.
    pub(super) fn failed(&mut self, attack: &str, by: By, why: &str) {
        self.failures.push(format!("{attack}: {why}"));
        self.remark(attack, by, format!("FAILED: {why}"));
    }

    fn remark(&mut self, attack: &str, by: By, remark: String) {
        let mut row = <[String; 6]>::default();
        [row[0], row[1], row[2]] = [attack.into(), by.to_string(), remark];
        self.rows.push(row);
    }

    /// Prints the table, and fails if any attack did.
    pub(super) fn show(mut self) {
        self.print();
        assert!(self.failures.is_empty(), "\n{}", self.failures.join("\n"));
    }

    fn print(&mut self) {
        let mut table = Table::new();
        table
            .load_style(STYLE)
            .set_content_arrangement(ContentArrangement::Dynamic)
            .set_width(WIDTH);
        table.set_header([
            "attack",
            "played by",
            "who noticed",
            "refusal reason",
            "witness entry",
            "honest link afterwards",
        ]);
        let (played, failed) = (self.rows.len(), self.failures.len());
        self.rows.drain(..).for_each(|row| {
            table.add_row(row);
        });
        println!("{table}");
        println!("{played} attacks played, {failed} not refused as they should be");
    }
}

impl Drop for Attacks {
    /// Where the play was broken off, what was played until then is told all the same.
    fn drop(&mut self) {
        if !self.rows.is_empty() {
            self.print();
        }
    }
}

impl std::fmt::Display for By {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Server => "server",
            Self::Peer => "peer",
            Self::Relay => "relay",
        })
    }
}

/// Rules above, below and under the header; rows close together.
const STYLE: TableStyle = TableStyle::new()
    .top_border(RULE)
    .header_separator(RULE)
    .bottom_border(RULE);
const RULE: LineStyle = LineStyle::none().fill('─').junction('─');
/// Characters of a line: wide enough that most rows need one or two.
const WIDTH: u16 = 190;
