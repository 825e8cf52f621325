//! Figures for people: tables and lines of a measured swarm.

use std::fmt::Write as _;
use std::path::Path;

use comfy_table::{
    Attribute, Cell, CellAlignment, Color, ContentArrangement, LineStyle, Table, TableStyle,
};

use crate::bench::{Links, Percentiles, Report, grouped};

/// The links with their latencies: all of them, or the slowest where there are very many.
pub(crate) fn links(report: &Report, color: bool) -> String {
    let mut links: Vec<_> = report.per_link.iter().collect();
    let total = links.len();
    let are_slowest = total > MOST_ROWS;
    if are_slowest {
        links.sort_by_key(|link| std::cmp::Reverse((link.rtt_us.p95, link.rtt_us.p99)));
        links.truncate(SLOWEST);
    }
    let mut table = table(
        &[
            "link",
            "path",
            "set-up ms",
            "p50 µs",
            "p95 µs",
            "p99 µs",
            "max µs",
        ],
        color,
    );
    for link in links {
        let rtt = link.rtt_us;
        table.add_row([
            Cell::new(format!("{} – {}", link.a, link.b)),
            Cell::new(link.path.to_string()),
            number(format!("{:.1}", link.setup_ms)),
            number(grouped(rtt.p50)),
            number(grouped(rtt.p95)),
            number(grouped(rtt.p99)),
            number(grouped(rtt.max)),
        ]);
    }
    let mut text = format!("{table}\n");
    if are_slowest {
        let _ = writeln!(
            text,
            "the {SLOWEST} slowest of {total} links by p95; --json has them all"
        );
    }
    text
}

/// One line on how the mesh came up.
pub(crate) fn headline(report: &Report) -> String {
    let Links { expected, open } = report.links;
    let what = if report.best_effort {
        ", best effort: messages may be lost"
    } else {
        ""
    };
    format!(
        "{}: {} agents, {open} of {expected} links up in {:.1} ms{what}\n",
        report.swarm, report.agents, report.setup_ms
    )
}

/// Totals, witness, and `ok` or what failed.
pub(crate) fn totals(report: &Report, folder: &Path, color: bool) -> String {
    let mut text = String::new();
    let mut line = |name: &str, what: String| {
        let _ = writeln!(text, "{name:<11}{what}");
    };
    line("round trip", percentiles(&report.rtt_us));
    line("one way", percentiles(&report.one_way_us));
    let m = report.messages;
    line(
        "messages",
        format!(
            "{} sent, {} delivered, {} lost, {} doubled, {} refused",
            grouped(m.sent),
            grouped(m.delivered),
            grouped(m.lost),
            grouped(m.duplicated),
            grouped(m.rejected)
        ),
    );
    let used = report.resources;
    line(
        "resources",
        format!(
            "{:.1} MiB at most ({} KiB per connection), {:.2} s of processor time",
            used.rss_kib as f64 / 1024.0,
            grouped(used.kib_per_connection),
            used.cpu_s
        ),
    );
    let witness = report.witness;
    let checked = if witness.verified {
        "verified"
    } else {
        "NOT as the agents left it"
    };
    let entries = grouped(witness.entries);
    line(
        "witness",
        format!("{entries} entries, {checked}, in {}", folder.display()),
    );
    line("", format!("root {}", hex::encode(witness.root)));
    text.push_str(&verdict(&report.failures, color));
    text
}

/// `ok`, or `FAILED:` and why.
pub(crate) fn verdict(failures: &[String], color: bool) -> String {
    let (good, bad, plain) = if color {
        ("\x1b[32m", "\x1b[31m", "\x1b[0m")
    } else {
        ("", "", "")
    };
    match failures {
        [] => format!("{good}ok{plain}\n"),
        [one] => format!("{bad}FAILED{plain}: {one}\n"),
        many => format!("{bad}FAILED{plain}:\n  {}\n", many.join("\n  ")),
    }
}

/// `p50 … p95 … p99 … max … µs (n)`.
pub(crate) fn percentiles(p: &Percentiles) -> String {
    if p.count == 0 {
        return "nothing measured".into();
    }
    format!(
        "p50 {}  p95 {}  p99 {}  max {} µs  ({})",
        grouped(p.p50),
        grouped(p.p95),
        grouped(p.p99),
        grouped(p.max),
        grouped(p.count)
    )
}

/// An empty table in the one style of this program.
pub(crate) fn table(header: &[&str], color: bool) -> Table {
    let mut table = Table::new();
    table
        .load_style(STYLE)
        .set_content_arrangement(ContentArrangement::Dynamic);
    let header = header.iter().enumerate().map(|(column, name)| {
        let cell = Cell::new(name);
        let cell = if color {
            cell.add_attribute(Attribute::Bold).fg(Color::Cyan)
        } else {
            cell
        };
        // Words stand left, figures right.
        if column > 0 && !name.chars().all(char::is_alphabetic) {
            cell.set_alignment(CellAlignment::Right)
        } else {
            cell
        }
    });
    table.set_header(header);
    if !color {
        table.force_no_tty();
    }
    table
}

/// A figure, aligned right.
pub(crate) fn number(text: impl Into<String>) -> Cell {
    Cell::new(text.into()).set_alignment(CellAlignment::Right)
}

/// Rules above, below and under the header; rows close together.
const STYLE: TableStyle = TableStyle::new()
    .top_border(RULE)
    .header_separator(RULE)
    .bottom_border(RULE);
const RULE: LineStyle = LineStyle::none().fill('─').junction('─');
/// Links that are all shown: those of ten agents.
const MOST_ROWS: usize = 45;
/// Of more, these few.
const SLOWEST: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_is_ok_or_what_failed() {
        assert_eq!(verdict(&[], false), "ok\n");
        assert_eq!(verdict(&["a".into()], false), "FAILED: a\n");
        assert_eq!(
            verdict(&["a".into(), "b".into()], false),
            "FAILED:\n  a\n  b\n"
        );
    }
}
