//! What a run of `ifswarm chaos` has shown, as tables.

use std::fmt::Write as _;
use std::path::Path;

use comfy_table::Cell;

use super::figures::{self, number};
use crate::bench::grouped;
use crate::chaos::sim::SimReport;
use crate::chaos::{HealMs, Report};

/// All of it.
pub(super) fn text(report: &Report, color: bool) -> String {
    let mut text = format!(
        "{}, seed {}, {} s\n",
        report.chaos, report.seed, report.seconds
    );
    let m = report.messages;
    let mut ledger = figures::table(
        &[
            "sent",
            "delivered",
            "lost",
            "doubled",
            "out of order",
            "doubtful",
            "refused",
        ],
        color,
    );
    let counts = [
        m.sent,
        m.delivered,
        m.lost,
        m.doubled,
        m.out_of_order,
        m.doubtful,
        m.refused,
    ];
    ledger.add_row(counts.map(|count| number(grouped(count))));
    let _ = writeln!(text, "{ledger}");
    if !report.faults.is_empty() {
        text += &faults(report, color);
    }
    if !report.ladder.is_empty() {
        text += &ladder(report, color);
    }
    if !report.processes.is_empty() {
        text += &processes(report, color);
    }
    let links = report.links;
    let _ = writeln!(
        text,
        "{} of {} links up at the end; {} went down meanwhile",
        links.up, links.expected, links.went_down
    );
    text + &figures::verdict(&report.failures, color)
}

/// What many seeds have shown.
pub(super) fn simulated(report: &SimReport, file: &Path, color: bool) -> String {
    let m = report.messages;
    let mut text = format!(
        "{} seeds: {} messages sent, {} delivered, {} lost, {} doubled, {} out of order, {} forgiven\n",
        grouped(report.seeds),
        grouped(m.sent),
        grouped(m.delivered),
        grouped(m.lost),
        grouped(m.doubled),
        grouped(m.out_of_order),
        grouped(m.forgiven),
    );
    let mut table = figures::table(&["what befell them", "how often"], color);
    for (name, count) in report.faults.iter() {
        table.add_row([Cell::new(name), number(grouped(count))]);
    }
    let _ = writeln!(text, "{table}");
    let failures = report.broken.iter().map(|broken| {
        let (file, seed) = (file.display(), broken.seed);
        format!("{broken}\n    replay it: ifswarm chaos {file} --simulate --seed {seed}")
    });
    text + &figures::verdict(&failures.collect::<Vec<_>>(), color)
}

fn faults(report: &Report, color: bool) -> String {
    let header = [
        "fault",
        "count",
        "took place",
        "healed",
        "heal p50 ms",
        "p95 ms",
        "max ms",
    ];
    let mut table = figures::table(&header, color);
    let (mut count, mut took_place, mut healed) = (0, 0, 0);
    for (kind, row) in &report.faults {
        count += row.count;
        took_place += row.took_place;
        healed += row.healed;
        table.add_row(cells(
            kind,
            [row.count, row.took_place, row.healed],
            row.heal_ms,
        ));
    }
    table.add_row(cells("all", [count, took_place, healed], report.heal_ms));
    format!("{table}\n")
}

fn cells(name: &str, counts: [usize; 3], heal: HealMs) -> Vec<Cell> {
    let counts = counts.map(|count| number(grouped(count as u64)));
    let heal = [heal.p50, heal.p95, heal.max].map(|ms| number(grouped(ms)));
    let name = [Cell::new(name)];
    name.into_iter().chain(counts).chain(heal).collect()
}

fn ladder(report: &Report, color: bool) -> String {
    let header = [
        "rung",
        "links",
        "set-up ms",
        "round trips",
        "p50 µs",
        "p99 µs",
        "p99.9 µs",
        "lost",
        "struck",
    ];
    let mut table = figures::table(&header, color);
    for row in &report.ladder {
        let rtt = row.rtt_us;
        let setup = row.setup_ms.map_or_else(|| "never".into(), grouped);
        table.add_row([
            Cell::new(&row.rung),
            number(format!("{} of {}", row.links.up, row.links.expected)),
            number(setup),
            number(grouped(rtt.count)),
            number(grouped(rtt.p50)),
            number(grouped(rtt.p99)),
            number(grouped(rtt.p999)),
            number(grouped(row.messages.lost)),
            number(grouped(row.struck)),
        ]);
    }
    format!("{table}\n")
}

fn processes(report: &Report, color: bool) -> String {
    let header = [
        "process",
        "starts",
        "early KiB",
        "late KiB",
        "change %",
        "peak KiB",
    ];
    let mut table = figures::table(&header, color);
    for row in &report.processes {
        let early = row.early_kib.map_or_else(|| "–".into(), grouped);
        let change = row.change_percent.map(|change| format!("{change:+.1}"));
        table.add_row([
            Cell::new(&row.process),
            number(row.starts.to_string()),
            number(early),
            number(grouped(row.late_kib)),
            number(change.unwrap_or_else(|| "–".into())),
            number(grouped(row.peak_kib)),
        ]);
    }
    format!("{table}\n")
}
