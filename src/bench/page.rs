//! The report as one page: plots, table, machine. Needs no other file and no network.

use std::fmt::Write as _;

use super::plot::{self, Bar, escaped};
use super::rows::{Row, rows};
use super::stats::grouped;
use super::suite::BenchReport;
use crate::message::Timestamp;

/// The page. `command` is how it was made, so that others can make it again; `measured` when.
pub fn page(report: &BenchReport, command: &str, measured: Timestamp) -> String {
    let mut page = String::from(HEAD);
    let (machine, load) = (&report.machine, report.load);
    let verdict = if report.mesh.ok { "ok" } else { "failed" };
    let _ = write!(
        page,
        r#"<h1>ifswarm bench</h1><p class="lead">{} agents in one process, payloads of {} B (signed messages of {} B), {} s per scenario, {} build <span class="{verdict}">{verdict}</span></p>"#,
        report.mesh.agents,
        grouped(load.payload as u64),
        grouped(load.message as u64),
        load.seconds,
        machine.profile
    );
    if machine.profile == "debug" {
        page.push_str(r#"<p class="warning">A debug build: these figures say little.</p>"#);
    }
    for failure in &report.mesh.failures {
        let _ = write!(page, r#"<p class="warning">{}</p>"#, escaped(failure));
    }
    let rows = rows(report);
    if !report.curves.is_empty() {
        section_of_curves(&mut page, report);
    }
    section_of_bars(&mut page, &rows);
    section_of_rows(&mut page, &rows);
    section_of_floors(&mut page, report);
    section_of_run(&mut page, report, command, measured);
    page + "</main></body></html>\n"
}

fn section_of_curves(page: &mut String, report: &BenchReport) {
    let curves: Vec<_> = report
        .curves
        .iter()
        .map(|(name, all)| (*name, all))
        .collect();
    page.push_str("<h2>Latency by percentile</h2><p class=\"legend\">");
    for (n, (name, all)) in curves.iter().enumerate() {
        let _ = write!(
            page,
            r#"<span><i style="background:{}"></i>{} <small>{} samples</small></span>"#,
            plot::color(n),
            escaped(name),
            grouped(all.count())
        );
    }
    let rate = report.load.rate_per_link;
    let _ = write!(
        page,
        "</p>{}<p class=\"note\">Both axes are logarithmic; each curve ends where its samples do. \
         On the mesh each link is asked {rate} times a second on a schedule, and latency counts \
         from when a request was due, so that a stall is felt by all that wait behind it.</p>",
        plot::curves(&curves)
    );
}

fn section_of_bars(page: &mut String, rows: &[Row]) {
    let bars: Vec<_> = rows.iter().filter_map(bar).collect();
    if !bars.is_empty() {
        let _ = write!(
            page,
            "<h2>Beside what is possible at best</h2>{}<p class=\"note\">At best: what a figure can never \
             beat, computed from the floors below, which were measured in the same process.</p>",
            plot::bars(&bars)
        );
    }
}

fn bar(row: &Row) -> Option<Bar> {
    let floor = row.floor.clone()?;
    Some(Bar {
        name: row.name.clone(),
        figure: row.measured.clone(),
        floor,
    })
}

fn section_of_rows(page: &mut String, rows: &[Row]) {
    page.push_str(
        "<h2>Figures</h2><table><thead><tr><th>figure<th class=\"n\">measured<th class=\"n\">at best\
         <th class=\"n\">ratio</thead><tbody>",
    );
    for row in rows {
        let floor = row.floor.as_ref().map_or("", |(_, text)| text);
        let ratio = row.ratio.map(|ratio| format!("{ratio:.2}"));
        let _ = write!(
            page,
            r#"<tr><td{}>{}<td class="n">{}<td class="n">{}<td class="n">{}"#,
            if row.is_detail {
                r#" class="detail""#
            } else {
                ""
            },
            escaped(&row.name),
            escaped(&row.measured.1),
            escaped(floor),
            ratio.unwrap_or_default()
        );
    }
    page.push_str("</tbody></table>");
}

fn section_of_floors(page: &mut String, report: &BenchReport) {
    let (floors, samples) = (report.floors, report.floors.samples);
    let table = [
        (
            "Ed25519 signature",
            format!("{} µs", floors.sign_us),
            samples.sign,
        ),
        (
            "Ed25519 verification, strict",
            format!("{} µs", floors.verify_us),
            samples.sign,
        ),
        (
            "UDP round trip on loopback",
            format!("{} µs", floors.udp_rtt_us),
            samples.udp_rtt,
        ),
        (
            "raw DataChannel round trip",
            format!("{} µs", floors.datachannel_rtt_us),
            samples.datachannel_rtt,
        ),
        (
            "raw DataChannel link made",
            format!("{} ms", floors.datachannel_setup_ms),
            samples.datachannel_setup,
        ),
    ];
    page.push_str(
        "<h2>Floors</h2><table><thead><tr><th>floor<th class=\"n\">median<th class=\"n\">samples\
         </thead><tbody>",
    );
    for (name, value, samples) in table {
        let _ = write!(
            page,
            r#"<tr><td>{name}<td class="n">{value}<td class="n">{}"#,
            grouped(samples as u64)
        );
    }
    page.push_str("</tbody></table>");
}

fn section_of_run(page: &mut String, report: &BenchReport, command: &str, measured: Timestamp) {
    let machine = &report.machine;
    let messages = report.mesh.messages;
    let witness = if report.mesh.witness.verified {
        "every log verified"
    } else {
        "NOT verified"
    };
    let lines = [
        (
            "Processor",
            format!("{}, {} cores", machine.cpu, machine.cores),
        ),
        ("System", machine.os.clone()),
        (
            "Build",
            format!("ifswarm {}, {}", machine.version, machine.profile),
        ),
        (
            "Messages",
            format!(
                "{} sent, {} delivered, {} lost, {} doubled, {} refused",
                grouped(messages.sent),
                grouped(messages.delivered),
                grouped(messages.lost),
                grouped(messages.duplicated),
                grouped(messages.rejected)
            ),
        ),
        ("Witness", witness.to_owned()),
        ("Measured", measured.to_string()),
    ];
    page.push_str("<h2>This run</h2><dl>");
    for (name, value) in lines {
        let _ = write!(page, "<dt>{name}<dd>{}", escaped(&value));
    }
    let _ = write!(
        page,
        "<dt>Command<dd><code>{}</code></dl>",
        escaped(command)
    );
}

const HEAD: &str = r#"<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>ifswarm bench</title>
<style>
:root { color-scheme: light; --ink: #1d2733; --soft: #66727f; --line: #dfe4e9; --figure: #0072b2; --floor: #b9c2cb; }
* { box-sizing: border-box; }
body { margin: 0; background: #fff; color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 908px; margin: 0 auto; padding: 32px 24px 64px; }
h1 { font-size: 26px; margin: 0; }
h2 { font-size: 18px; margin: 40px 0 8px; }
p { margin: 8px 0; }
.lead, .note, small, dt { color: var(--soft); }
.note { font-size: 13px; max-width: 68ch; }
.ok, .failed { color: #fff; border-radius: 3px; padding: 1px 7px; margin-left: 6px; font-size: 13px; }
.ok { background: #00795a; }
.failed { background: #b3261e; }
.warning { border-left: 4px solid #b3261e; background: #fdf1f0; padding: 6px 12px; }
.legend span { margin-right: 20px; white-space: nowrap; }
.legend i { display: inline-block; width: 20px; height: 4px; border-radius: 2px; margin-right: 7px; vertical-align: middle; }
svg { display: block; width: 100%; height: auto; font: 12px system-ui, sans-serif; fill: var(--ink); }
.grid { stroke: var(--line); fill: none; }
.end { text-anchor: end; fill: var(--soft); }
.middle { text-anchor: middle; fill: var(--soft); }
.name { font-weight: 600; }
.soft { fill: var(--soft); }
.figure { fill: var(--figure); }
.floor { fill: var(--floor); }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th { text-align: left; font-weight: 600; border-bottom: 2px solid var(--line); padding: 4px 8px 4px 0; }
td { border-bottom: 1px solid var(--line); padding: 4px 8px 4px 0; }
.n { text-align: right; padding-right: 0; white-space: nowrap; }
.detail { padding-left: 20px; color: var(--soft); }
dl { display: grid; grid-template-columns: 110px 1fr; gap: 4px 12px; margin: 0; }
dd { margin: 0; overflow-wrap: anywhere; }
code { font: 13px ui-monospace, monospace; }
@media print { main { padding: 0; } h2 { break-after: avoid; } svg, table { break-inside: avoid; } }
</style></head><body><main>
"#;

#[cfg(test)]
mod tests {
    use super::super::suite::{BenchOptions, Scenario, blank};
    use super::*;

    fn now() -> Timestamp {
        Timestamp::from_unix_ms(0)
    }

    fn report() -> BenchReport {
        let options = BenchOptions {
            scenario: Scenario::All,
            peers: 5,
            duration: std::time::Duration::from_secs(1),
            payload: 512,
            rate: None,
        };
        blank(options, 1_167)
    }

    #[test]
    fn needs_nothing_from_elsewhere_and_says_where_it_was_measured() {
        let page = page(&report(), "ifswarm bench --assert 'rtt.p95<50ms'", now());
        for outside in ["http", "<link", "<script", "url(", "src="] {
            assert!(!page.contains(outside), "{outside}");
        }
        assert!(page.contains(&escaped(&report().machine.cpu)));
        assert!(page.contains("rtt.p95&lt;50ms"));
    }

    #[test]
    fn says_what_failed() {
        let mut report = report();
        report.mesh.failures.push("rtt.p95<1us: it is <500>".into());
        let page = page(&report, "ifswarm bench", now());
        assert!(page.contains("it is &lt;500&gt;"));
    }
}
