//! The meshes of many agents on simulated time: one seed is one run, and the same run every time.
//!
//! Everything around the mesh is simulated: a signaling server, links, disks, programs, clocks. The
//! mesh is the one that runs in an agent, and a disk holds what an agent's journal adds up to. A seed
//! decides how many agents there are, which of them have a disk, what is said, and what goes wrong.
//! Then the storm ends, and within two minutes every link must be up and every message that was
//! accepted must have come, once and in order: of agents that lived, or had a disk.

mod faults;
mod laws;
mod node;
mod program;
mod storm;
#[cfg(test)]
mod tests;
mod wires;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;

pub use faults::Faults;
pub use world::Shape;

use super::ledger::Sums;
use super::scenario::Kind;
use crate::mesh::OutboxLimits;
use world::World;

/// What one seed has shown.
#[derive(Debug, Clone, Default)]
pub struct Run {
    /// The faults that took place.
    pub faults: Faults,
    /// What became of the messages.
    pub messages: Sums,
    /// Offers made.
    pub dials: u64,
}

/// A law that a seed has broken.
#[derive(Debug, Clone, Serialize, thiserror::Error)]
#[error("seed {seed}, {at_ms} ms into it: {law}")]
pub struct Broken {
    /// Replays it.
    pub seed: u64,
    /// When, in simulated time.
    pub at_ms: u64,
    /// What did not hold.
    pub law: String,
}

/// What many seeds have shown.
#[derive(Debug, Clone, Default, Serialize)]
pub struct SimReport {
    /// How many were run.
    pub seeds: u64,
    /// What became of all messages.
    pub messages: Sums,
    /// The faults that took place, all in all.
    pub faults: Faults,
    /// The seeds that broke a law, the smallest first; no more than a few are looked for.
    pub broken: Vec<Broken>,
    /// Whether none did.
    pub ok: bool,
}

/// The mesh of one seed: 2 to 12 agents, all of them linked, under all kinds of faults.
pub fn shape_of(seed: u64) -> Shape {
    Shape {
        agents: 2 + (seed % 11) as usize,
        reliable: true,
        ring: false,
        outbox: OutboxLimits::default(),
        kinds: Kind::ALL.map(|(_, kind)| kind).to_vec(),
    }
}

/// Lives through one seed: a storm, and what comes after it.
///
/// # Errors
/// [`Broken`].
pub fn run_seed(seed: u64, shape: Shape) -> Result<Run, Broken> {
    live(seed, shape, STORM, None).0
}

/// The same, and all that happened, step by step.
pub fn trace_seed(seed: u64, shape: Shape) -> (Result<Run, Broken>, Vec<String>) {
    live(seed, shape, STORM, Some(Vec::new()))
}

/// A mesh without any fault, until it has formed.
///
/// # Errors
/// As [`run_seed`].
pub fn calm_seed(seed: u64, shape: Shape) -> Result<Run, Broken> {
    live(seed, shape, Duration::ZERO, None).0
}

fn live(
    seed: u64,
    shape: Shape,
    storm: Duration,
    trace: Option<Vec<String>>,
) -> (Result<Run, Broken>, Vec<String>) {
    let broken = |at: Duration, law| Broken {
        seed,
        at_ms: u64::try_from(at.as_millis()).unwrap_or(u64::MAX),
        law,
    };
    // A panic in the mesh is a broken law too, and must not hide its seed.
    let lived = catch_unwind(AssertUnwindSafe(|| {
        let mut world = World::new(seed, shape);
        world.trace = trace;
        if !storm.is_zero() {
            world.live_through(storm);
        }
        world.heal(if storm.is_zero() { FORMING } else { HEALING });
        world.probe();
        world.check();
        world
    }));
    let Ok(mut world) = lived else {
        let panicked = broken(Duration::ZERO, "the mesh has panicked, see above".into());
        return (Err(panicked), Vec::new());
    };
    let trace = world.trace.take().unwrap_or_default();
    let run = Run {
        faults: world.faults(),
        messages: world.ledger.sums(),
        dials: world.dials,
    };
    let at = world.now.duration_since(world.start);
    match world.laws.broken() {
        None => (Ok(run), trace),
        Some(law) => (Err(broken(at, law)), trace),
    }
}

/// Lives through many seeds on all processors; `shape` says which mesh a seed is, and `done` is told
/// after each how many there were.
pub fn simulate(
    seeds: std::ops::Range<u64>,
    shape: impl Fn(u64) -> Shape + Sync,
    done: impl Fn(u64) + Sync,
) -> SimReport {
    let next = AtomicU64::new(seeds.start);
    // None is counted on beyond the end, which may be the greatest number there is.
    let take = || {
        let step = |seed| (seed < seeds.end).then(|| seed + 1);
        next.fetch_update(Ordering::Relaxed, Ordering::Relaxed, step)
    };
    let enough = AtomicBool::new(false);
    let report = Mutex::new(SimReport::default());
    let work = || {
        while !enough.load(Ordering::Relaxed)
            && let Ok(seed) = take()
        {
            let run = run_seed(seed, shape(seed));
            let mut report = report.lock().unwrap_or_else(PoisonError::into_inner);
            report.seeds += 1;
            match run {
                Ok(run) => {
                    report.messages.add(&run.messages);
                    report.faults.sum(&run.faults);
                }
                Err(broken) => report.broken.push(broken),
            }
            enough.store(report.broken.len() >= ENOUGH, Ordering::Relaxed);
            done(report.seeds);
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    let mut report = report.into_inner().unwrap_or_else(PoisonError::into_inner);
    report.broken.sort_by_key(|broken| broken.seed);
    report.ok = report.broken.is_empty() && report.seeds > 0;
    report
}

/// How long faults come.
const STORM: Duration = Duration::from_secs(40);
/// Longer than any pause between two attempts and the time after which a silent link is dead.
const HEALING: Duration = Duration::from_secs(130);
/// A calm mesh has formed by then.
const FORMING: Duration = Duration::from_secs(5);
/// Broken seeds after which no more are looked for.
const ENOUGH: usize = 8;
