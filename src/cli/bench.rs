//! `ifswarm bench`: figures beside the floors they stand on, of one run on one machine.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use clap::ValueEnum;
use comfy_table::Cell;

use super::bars::Bars;
use super::failure::{impossible, unusable};
use super::figures::{self, number};
use super::interrupt::Interrupt;
use super::mesh_up::{descriptors, duration, failed, interrupted, json, verdict};
use super::{Globals, limits, output};
use crate::bench::{
    Assertion, BenchOptions, BenchReport, Figures, Scenario, bench, blank, grouped, is_debug, page,
    rows, wall_clock,
};
use crate::swarm::{MAX_AGENTS, MIN_AGENTS};

/// Measure latency, throughput and set-up beside the floors of the same run
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Agents of the mesh
    #[arg(long, default_value_t = 5, value_parser = peers)]
    peers: usize,
    /// What to measure
    #[arg(long, value_enum, default_value_t)]
    scenario: Wanted,
    /// How long each scenario measures
    #[arg(long, default_value = "5s", value_parser = duration)]
    duration: Duration,
    /// Bytes of each message's payload
    #[arg(long, default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..=MOST_PAYLOAD))]
    payload: u32,
    /// Requests per second on each link of `rtt` [default: 500 shared by all links, at most 200]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rate: Option<u32>,
    /// Print one JSON object and nothing else
    #[arg(long)]
    json: bool,
    /// Write a page with plots, one file that needs no other
    #[arg(long, value_name = "FILE.html")]
    report: Option<PathBuf>,
    /// End with 1 unless this holds, such as 'rtt.p95<50ms' (may be given several times)
    ///
    /// A figure of the JSON report, one of < <= > >= ==, a number, and us, ms, s or /s if it has a
    /// unit. `_us`, `_ms` and `_s` in names may be left out; `throughput` is messages_per_second.
    #[arg(long = "assert", value_name = "FIGURE<VALUE")]
    assertions: Vec<String>,
}

#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum Wanted {
    /// Signed requests and replies on every link of a mesh
    Rtt,
    /// As many signed messages as one link carries
    Throughput,
    /// How long a mesh takes to form
    Setup,
    /// One agent to all the others
    Broadcast,
    /// All of them, one after the other
    #[default]
    All,
}

pub(crate) async fn run(args: Args, globals: &Globals) -> anyhow::Result<ExitCode> {
    let options = BenchOptions {
        scenario: args.scenario.into(),
        peers: args.peers,
        duration: args.duration,
        payload: args.payload as usize,
        rate: args.rate,
    };
    let assertions = read(&args.assertions, options)?;
    if let Some(path) = &args.report {
        writable(path)?;
    }
    limits::raise_descriptors(descriptors(args.peers)).map_err(impossible)?;
    if is_debug() {
        eprintln!(
            "note: a debug build, whose figures say little: measure with `cargo run --release`"
        );
    }
    let mut interrupt = Interrupt::listen()?;
    let bars = Bars::new();
    let measured = interrupt.or(bench(options, Arc::new(bars.clone()))).await;
    let Some(measured) = measured else {
        return Ok(interrupted(&bars));
    };
    bars.clear();
    let mut report = measured.map_err(failed)?;
    let figures = Figures::of(&report);
    for assertion in &assertions {
        if let Err(found) = assertion.check(&figures).map_err(unusable)? {
            report.mesh.failures.push(found);
        }
    }
    report.mesh.ok = report.mesh.failures.is_empty();
    if let Some(path) = &args.report {
        let written = std::fs::write(path, page(&report, &command(), wall_clock()));
        written.map_err(|err| {
            impossible(err).context(format!("{} cannot be written", path.display()))
        })?;
    }
    if args.json {
        output::print(&json(&report)?)?;
    } else {
        output::print(&text(&report, assertions.len(), globals.color()))?;
    }
    Ok(verdict(report.mesh.ok))
}

/// The assertions, checked against the names of the report that is to come: nobody should wait
/// for a measurement to learn of a misspelt name.
fn read(texts: &[String], options: BenchOptions) -> anyhow::Result<Vec<Assertion>> {
    let names = Figures::of(&blank(options, 0));
    let read = texts.iter().map(|text| {
        let assertion: Assertion = text.parse().map_err(unusable)?;
        // Whether it holds is another question.
        let _ = assertion.check(&names).map_err(unusable)?;
        Ok(assertion)
    });
    read.collect()
}

/// Whether a page can be written there, as far as that shows before: a measurement takes its time.
fn writable(path: &Path) -> anyhow::Result<()> {
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    if path.is_dir() {
        let path = path.display();
        return Err(unusable(anyhow!(
            "{path} is a folder: name a file in it for --report"
        )));
    }
    if !folder.is_dir() {
        let (path, folder) = (path.display(), folder.display());
        return Err(unusable(anyhow!(
            "{path} cannot be written: there is no folder {folder}"
        )));
    }
    Ok(())
}

/// The command line of this process, as a shell would take it.
fn command() -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@".contains(c);
    let args = std::env::args().skip(1).map(|arg| match arg {
        arg if !arg.is_empty() && arg.chars().all(plain) => arg,
        arg => format!("'{}'", arg.replace('\'', r"'\''")),
    });
    let args: Vec<_> = args.collect();
    format!("ifswarm {}", args.join(" "))
}

/// All figures, each beside its floor.
fn text(report: &BenchReport, assertions: usize, color: bool) -> String {
    let (machine, load) = (&report.machine, report.load);
    let mut text = format!(
        "{} agents, payloads of {} B (messages of {} B), {} s per scenario\n",
        report.mesh.agents,
        grouped(load.payload as u64),
        grouped(load.message as u64),
        load.seconds
    );
    let _ = writeln!(
        text,
        "{}, {} cores, {}, {} build",
        machine.cpu, machine.cores, machine.os, machine.profile
    );
    let mut table = figures::table(&["figure", "measured", "at best", "ratio"], color);
    for row in rows(report) {
        let indent = if row.is_detail { "  " } else { "" };
        let floor = row.floor.map(|(_, text)| text);
        let ratio = row.ratio.map(|ratio| format!("{ratio:.2}"));
        table.add_row([
            Cell::new(format!("{indent}{}", row.name)),
            number(row.measured.1),
            number(floor.unwrap_or_default()),
            number(ratio.unwrap_or_default()),
        ]);
    }
    let _ = writeln!(text, "{table}");
    let floors = report.floors;
    let _ = writeln!(
        text,
        "floors: sign {} µs, verify {} µs, UDP round trip {} µs, raw DataChannel {} µs (medians)",
        floors.sign_us, floors.verify_us, floors.udp_rtt_us, floors.datachannel_rtt_us
    );
    let m = report.mesh.messages;
    let _ = writeln!(
        text,
        "messages: {} sent, {} lost, {} doubled, {} refused; witness {}",
        grouped(m.sent),
        grouped(m.lost),
        grouped(m.duplicated),
        grouped(m.rejected),
        if report.mesh.witness.verified {
            "verified"
        } else {
            "NOT verified"
        }
    );
    if assertions > 0 {
        let _ = writeln!(text, "{assertions} asserted");
    }
    text + &figures::verdict(&report.mesh.failures, color)
}

fn peers(text: &str) -> Result<usize, String> {
    let expected = || format!("expected {MIN_AGENTS} to {MAX_AGENTS}");
    let peers = text.parse().map_err(|_| expected())?;
    if (MIN_AGENTS..=MAX_AGENTS).contains(&peers) {
        Ok(peers)
    } else {
        Err(expected())
    }
}

impl From<Wanted> for Scenario {
    fn from(wanted: Wanted) -> Self {
        match wanted {
            Wanted::Rtt => Self::Rtt,
            Wanted::Throughput => Self::Throughput,
            Wanted::Setup => Self::Setup,
            Wanted::Broadcast => Self::Broadcast,
            Wanted::All => Self::All,
        }
    }
}

/// What a message of 64 KiB has room for beside its envelope.
const MOST_PAYLOAD: i64 = 62 * 1024;
