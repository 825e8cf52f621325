//! `ifswarm mesh up`: a whole swarm, in this process or one for each agent, measured.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use clap::Subcommand;

use super::bars::Bars;
use super::failure::{Failure, impossible, unusable};
use super::interrupt::Interrupt;
use super::mesh_member;
use super::mesh_run::Run;
use super::{Globals, figures, limits, output};
use crate::bench::{Options, RunError, WitnessPlace};
use crate::swarm::Swarm;

/// Run a whole swarm on this machine
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run all agents of a swarm file in this process, through an embedded signaling server, and
    /// measure every link
    ///
    /// Ends by itself: with 0 if every expected link opened and everything in `expect` held, with
    /// 1 if not.
    Up(Up),
    /// One agent of a swarm of processes, told what to do on standard input
    #[command(hide = true)]
    Member(mesh_member::Args),
}

#[derive(Debug, clap::Args)]
struct Up {
    /// The swarm file, such as swarms/five-agent.yaml
    file: PathBuf,
    /// Stay up after measuring, until Ctrl-C
    #[arg(long)]
    hold: bool,
    /// Probe for so long (such as 30s), instead of as many messages as the file says
    #[arg(long = "for", value_name = "TIME", value_parser = duration)]
    probe_for: Option<Duration>,
    /// Print one JSON object and nothing else
    #[arg(long)]
    json: bool,
    /// Keep the witness logs below this folder [default: the file's `witness.dir`, else a fresh
    /// folder below the system's temporary one]
    ///
    /// Unless every agent has a `key:` in the swarm file, each run makes new keys and gets a folder
    /// of its own, run-TIME-PROCESS, in it.
    #[arg(long, value_name = "DIR")]
    witness: Option<PathBuf>,
    /// Run each agent in a process of its own
    #[arg(long)]
    processes: bool,
}

pub(crate) async fn run(args: Args, globals: &Globals) -> anyhow::Result<ExitCode> {
    let args = match args.verb {
        Verb::Up(args) => args,
        Verb::Member(args) => return mesh_member::run(args, globals).await,
    };
    let swarm = Swarm::read(&args.file).map_err(unusable)?;
    limits::raise_descriptors(descriptors(swarm.agents.len())).map_err(impossible)?;
    let options = Options {
        witness: args
            .witness
            .map_or(WitnessPlace::AsInFile, WitnessPlace::Folder),
        probe_for: args.probe_for,
        ..Options::default()
    };
    let mut interrupt = Interrupt::listen()?;
    let bars = Bars::new();
    let progress = Arc::new(bars.clone());
    let launch = async {
        match args.processes {
            true => Run::processes(&swarm, &args.file, options, progress, globals).await,
            false => Run::here(&swarm, options, progress).await,
        }
    };
    let Some(launched) = interrupt.or(launch).await else {
        return Ok(interrupted(&bars));
    };
    let mut running = launched?;
    let color = globals.color();
    let measuring = async {
        running.form().await?;
        running.probe().await
    };
    let Some(measured) = interrupt.or(measuring).await else {
        // The agents take their leave, unless somebody is in a hurry.
        let _ = interrupt.or(running.finish()).await;
        return Ok(interrupted(&bars));
    };
    measured.map_err(failed)?;
    bars.clear();
    let so_far = running.report_so_far().await;
    if !args.json {
        output::print(&figures::headline(&so_far))?;
        output::print(&figures::links(&so_far, color))?;
    }
    if args.hold {
        eprintln!("{} links stay up; Ctrl-C ends the swarm", so_far.links.open);
        interrupt.heard().await;
    }
    let folder = running.witness_folder().to_owned();
    let Some(finished) = interrupt.or(running.finish()).await else {
        return Ok(interrupted(&bars));
    };
    bars.clear();
    let report = finished.map_err(failed)?;
    if args.json {
        output::tell(&format!("witness: {}", folder.display()));
        output::print(&json(&report)?)?;
    } else {
        output::print(&figures::totals(&report, &folder, color))?;
    }
    Ok(verdict(report.ok))
}

/// The object and a newline.
pub(super) fn json(report: &impl serde::Serialize) -> anyhow::Result<String> {
    let text = serde_json::to_string(report).map_err(impossible)?;
    Ok(text + "\n")
}

/// The exit code of an answer.
pub(super) fn verdict(ok: bool) -> ExitCode {
    if ok {
        ExitCode::SUCCESS
    } else {
        Failure::No.into()
    }
}

pub(super) fn interrupted(bars: &Bars) -> ExitCode {
    bars.clear();
    output::tell("interrupted");
    Failure::Interrupted.into()
}

/// For `map_err`: what to blame decides the exit code.
pub(super) fn failed(err: RunError) -> anyhow::Error {
    if err.is_bad_input() {
        unusable(err)
    } else {
        impossible(err)
    }
}

/// The files and sockets of `agents` agents in one process: each has a UDP port, both ends of a
/// signaling connection, and a log; the rest is the process's own.
pub(super) fn descriptors(agents: usize) -> u64 {
    64 + 6 * agents as u64
}

/// A time such as `500ms`, `30s`, `2m`: as in the swarm file.
pub(super) fn duration(text: &str) -> Result<Duration, anyhow::Error> {
    let expected = || anyhow!("expected a time such as 500ms, 30s or 2m");
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| expected())?;
    let millis = match unit.trim_start() {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(expected()),
    };
    match number.checked_mul(millis) {
        Some(millis) if (1..=LONGEST_MS).contains(&millis) => Ok(Duration::from_millis(millis)),
        _ => Err(anyhow!("expected 1ms to 24h")),
    }
}

/// A day: longer runs are somebody's mistake.
const LONGEST_MS: u64 = 24 * 60 * 60 * 1_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_times_as_the_swarm_file_does() {
        for (text, millis) in [
            ("500ms", 500),
            ("30s", 30_000),
            ("2 m", 120_000),
            ("24h", LONGEST_MS),
        ] {
            assert_eq!(
                duration(text).unwrap(),
                Duration::from_millis(millis),
                "{text}"
            );
        }
        for text in [
            "",
            "5",
            "s",
            "-1s",
            "0s",
            "25h",
            "1.5s",
            "99999999999999999999s",
            "1 µs",
        ] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
