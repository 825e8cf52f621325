//! The mesh of many agents on simulated time: seeded delay, lost links, doubled and reordered
//! signaling, restarts. A failing run prints its seed; `IFSWARM_SEED=n` runs that one alone.

mod faults;
mod node;
mod wires;
mod world;

use std::time::Duration;

use faults::Faults;
use world::{Shape, World};

/// Prints the seed of a run that fails.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the failing seed: IFSWARM_SEED={}", self.0);
        }
    }
}

/// Runs seeds one after the other and returns the sum of the faults that took place.
fn run(seeds: std::ops::Range<u64>, shape: fn(u64) -> Shape) -> Faults {
    let only = std::env::var("IFSWARM_SEED").ok();
    let only = only.map(|text| text.parse::<u64>().expect("IFSWARM_SEED is a number"));
    let seeds = only.map_or(seeds, |seed| seed..seed + 1);
    let mut faults = Faults::default();
    for seed in seeds {
        let _seed = Seed(seed);
        let mut world = World::new(seed, shape(seed));
        world.live_through(Duration::from_secs(40));
        world.heal(Duration::from_secs(130));
        world.probe();
        world.check();
        faults.add(world.faults());
    }
    faults
}

fn agents(seed: u64) -> usize {
    2 + (seed % 11) as usize
}

fn full_mesh(seed: u64) -> Shape {
    Shape {
        agents: agents(seed),
        reliable: true,
        ring: false,
    }
}

#[test]
fn a_reliable_mesh_heals_and_delivers_once_and_in_order() {
    run(0..75, full_mesh).all_took_place();
}

/// The same in other weather; apart, so that two cores share the work.
#[test]
fn a_reliable_mesh_heals_from_other_seeds_too() {
    run(75..150, full_mesh).all_took_place();
}

#[test]
fn an_unreliable_mesh_heals_and_delivers_at_most_once() {
    let faults = run(1000..1060, |seed| Shape {
        agents: agents(seed),
        reliable: false,
        ring: false,
    });
    assert!(faults.messages_lost > 0 && faults.messages_doubled > 0);
    assert!(faults.replays_refused > 0);
}

#[test]
fn a_ring_links_neighbours_only() {
    run(2000..2060, |seed| Shape {
        agents: agents(seed),
        reliable: true,
        ring: true,
    });
}

#[test]
fn a_calm_mesh_comes_up_without_a_single_failed_dial() {
    let shape = Shape {
        agents: 12,
        reliable: true,
        ring: false,
    };
    let mut world = World::new(1, shape);
    world.heal(Duration::from_secs(5));
    world.probe();
    world.check();
    assert_eq!(world.faults().dials_failed, 0);
    assert_eq!(world.dials(), 12 * 11 / 2, "each pair dials once");
}

#[test]
fn the_same_seed_is_the_same_run_and_another_is_not() {
    let trace = |seed| {
        let shape = Shape {
            agents: 6,
            reliable: true,
            ring: false,
        };
        let mut world = World::new(seed, shape);
        world.keep_trace();
        world.live_through(Duration::from_secs(20));
        world.into_trace()
    };
    let (one, same, other) = (trace(5), trace(5), trace(6));
    assert!(one.len() > 1000);
    for (at, (a, b)) in one.iter().zip(&same).enumerate() {
        assert_eq!(a, b, "step {at}");
    }
    assert_eq!(one.len(), same.len());
    assert_ne!(one, other);
}
