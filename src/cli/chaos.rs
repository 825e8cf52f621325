//! `ifswarm chaos`: a swarm under a scenario of faults, and the ledger of its messages.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;

use super::bars::Bars;
use super::failure::{impossible, unusable};
use super::interrupt::Interrupt;
use super::mesh_up::{duration, interrupted, json, verdict};
use super::{Globals, chaos_tables, limits, output};
use crate::bench::Progress;
use crate::chaos::sim::{Shape, SimReport, shape_of, simulate as run_seeds, trace_seed};
use crate::chaos::{ChaosError, Kind, Options, Scenario, run as run_scenario};

/// Run a swarm under a scenario of faults, and account for every message
///
/// Kills, stops and restarts real processes of this program, cuts and conditions their paths, and ends
/// with 0 if no message was lost, doubled or out of order, every fault took place and healed, and
/// whatever else the file expects held; with 1 if not. The seed, printed first, draws the faults that
/// come by chance.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The scenario file, such as swarms/chaos/short.yaml
    file: PathBuf,
    /// Draws the faults that come by chance [default: one that is new]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(0..=LARGEST_SEED))]
    seed: Option<u64>,
    /// For how long faults and messages come [default: as the file says]
    #[arg(long = "for", value_name = "TIME", value_parser = duration)]
    length: Option<Duration>,
    /// Print one JSON object and nothing else
    #[arg(long)]
    json: bool,
    /// Live through the same kinds of faults on simulated time instead, many seeds one after the other
    ///
    /// Each seed is a mesh of 2 to 12 agents of its own. One that loses, doubles or overtakes a
    /// message, or does not heal, is named, and `--seed N` runs it alone.
    #[arg(long, conflicts_with = "length")]
    simulate: bool,
    /// With --simulate: how many seeds, from 0 on
    #[arg(long, value_name = "N", default_value_t = 300, requires = "simulate", conflicts_with = "seed",
          value_parser = clap::value_parser!(u64).range(1..=MOST_SEEDS))]
    seeds: u64,
    /// Keep logs, witness and outboxes in a folder of this run below this one; with --simulate all that
    /// happened, step by step: of the one --seed, or of each that broke a law
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
}

pub(crate) async fn run(args: Args, globals: &Globals) -> anyhow::Result<ExitCode> {
    let scenario = Scenario::read(&args.file).map_err(unusable)?;
    if args.simulate {
        return simulate(&args, &scenario, globals).await;
    }
    let seed = args.seed.map_or_else(any_seed, Ok)?;
    let mut interrupt = Interrupt::listen()?;
    eprintln!("seed {seed}: `--seed {seed}` draws the same faults again");
    // Pipes and logs of its processes.
    let descriptors = 64 + 8 * scenario.swarm.agents.len() as u64;
    limits::raise_descriptors(descriptors).map_err(impossible)?;
    let parent = args.keep.clone().unwrap_or_else(std::env::temp_dir);
    let folder = parent.join(format!("chaos-{seed}-{}", std::process::id()));
    let bars = Bars::new();
    let options = Options {
        seed,
        length: args.length,
        program: std::env::current_exe().map_err(impossible)?,
        globals: globals.passed_on(),
        folder: folder.clone(),
        outbox: OUTBOX,
        progress: Arc::new(bars.clone()),
    };
    let Some(ran) = interrupt.or(run_scenario(&scenario, &options)).await else {
        let ended = interrupted(&bars);
        output::tell(&format!(
            "what was written so far is in {}",
            folder.display()
        ));
        return Ok(ended);
    };
    bars.clear();
    // What could not be run, or did not hold, leaves its logs.
    let report = ran.map_err(|err| match err {
        ChaosError::Plan(_) | ChaosError::Key { .. } => unusable(err),
        err => impossible(err),
    })?;
    let is_kept = args.keep.is_some() || !report.ok;
    if is_kept {
        output::tell(&format!("kept in {}", folder.display()));
    } else {
        // Whoever cleans up temporary folders takes what cannot be removed now.
        let _ = std::fs::remove_dir_all(&folder);
    }
    match args.json {
        true => output::print(&json(&report)?)?,
        false => output::print(&chaos_tables::text(&report, globals.color()))?,
    }
    Ok(verdict(report.ok))
}

/// Many seeds, or one, on simulated time.
async fn simulate(args: &Args, scenario: &Scenario, globals: &Globals) -> anyhow::Result<ExitCode> {
    let seeds = args.seed.map_or(0..args.seeds, |seed| seed..seed + 1);
    let kinds = match scenario.kinds() {
        kinds if kinds.is_empty() => Kind::ALL.map(|(_, kind)| kind).to_vec(),
        kinds => kinds,
    };
    let mut interrupt = Interrupt::listen()?;
    let bars = Bars::new();
    let (told, count) = (bars.clone(), seeds.end - seeds.start);
    let befalls = kinds.clone();
    let work = tokio::task::spawn_blocking(move || {
        let shape = |seed| shape(&befalls, seed);
        run_seeds(seeds, shape, |done| {
            told.step(&format!("{done} of {count} seeds"))
        })
    });
    let Some(report) = interrupt.or(work).await else {
        return Ok(interrupted(&bars));
    };
    bars.clear();
    let report = report.map_err(impossible)?;
    if let Some(folder) = &args.keep {
        let seeds = to_tell(args.seed, &report);
        for seed in &seeds {
            let file = keep(folder, *seed, shape(&kinds, *seed)).map_err(impossible)?;
            output::tell(&format!("kept in {}", file.display()));
        }
        if seeds.is_empty() {
            output::tell("nothing is kept: no seed broke a law");
        }
    }
    match args.json {
        true => output::print(&json(&report)?)?,
        false => output::print(&chaos_tables::simulated(
            &report,
            &args.file,
            globals.color(),
        ))?,
    }
    Ok(verdict(report.ok))
}

/// The seeds of which all that happened is told: the one that was asked for, or those that broke a law.
fn to_tell(asked: Option<u64>, report: &SimReport) -> Vec<u64> {
    let broken = report.broken.iter().map(|broken| broken.seed);
    asked.map_or_else(|| broken.collect(), |seed| vec![seed])
}

/// Writes all that happens in a seed, step by step.
fn keep(folder: &Path, seed: u64, shape: Shape) -> anyhow::Result<PathBuf> {
    let (_, trace) = trace_seed(seed, shape);
    let file = folder.join(format!("seed-{seed}.txt"));
    let written = std::fs::create_dir_all(folder);
    let written = written.and_then(|()| std::fs::write(&file, trace.join("\n") + "\n"));
    written.with_context(|| format!("{} cannot be written", file.display()))?;
    Ok(file)
}

/// The mesh of a seed under faults of these kinds.
fn shape(kinds: &[Kind], seed: u64) -> Shape {
    Shape {
        kinds: kinds.to_vec(),
        ..shape_of(seed)
    }
}

fn any_seed() -> anyhow::Result<u64> {
    // Short enough to be typed.
    let mut bytes = [0; 4];
    getrandom::fill(&mut bytes).map_err(|err| impossible(anyhow::anyhow!("{err}")))?;
    Ok(u64::from(u32::from_le_bytes(bytes)))
}

/// The end of the seeds to live through is one more.
const LARGEST_SEED: u64 = u64::MAX - 1;
/// A day of a fast machine.
const MOST_SEEDS: u64 = 100_000_000;
/// Whether `agent` keeps an outbox on the disk, so that nothing is lost when it is killed.
const OUTBOX: bool = true;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chaos::sim::Broken;

    #[test]
    fn told_is_the_seed_that_was_asked_for_or_each_that_broke_a_law() {
        let mut report = SimReport::default();
        assert!(to_tell(None, &report).is_empty());
        report.broken = [3, 9].map(broken).into();
        assert_eq!(to_tell(None, &report), [3, 9]);
        assert_eq!(to_tell(Some(7), &report), [7]);
    }

    fn broken(seed: u64) -> Broken {
        Broken {
            seed,
            at_ms: 0,
            law: "none".into(),
        }
    }
}
