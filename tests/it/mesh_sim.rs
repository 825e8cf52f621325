//! The mesh of many agents on simulated time: a fixed few hundred seeds. A failing run prints its
//! seed; `ifswarm chaos FILE --simulate --seed N`, or `IFSWARM_SEED=n` here, runs that one alone.

use std::ops::Range;
use std::time::Duration;

use ifswarm::chaos::sim::{
    Faults, Shape, SimReport, calm_seed, run_seed, shape_of, simulate, trace_seed,
};
use ifswarm::mesh::OutboxLimits;

/// Runs seeds and returns what they have shown.
fn run(seeds: Range<u64>, shape: impl Fn(u64) -> Shape + Sync) -> SimReport {
    let only = std::env::var("IFSWARM_SEED").ok();
    let only = only.map(|text| text.parse::<u64>().expect("IFSWARM_SEED is a number"));
    let seeds = only.map_or(seeds, |seed| seed..seed + 1);
    let report = simulate(seeds, shape, |_| {});
    let broken: Vec<_> = report.broken.iter().map(ToString::to_string).collect();
    assert!(report.ok, "\n{}", broken.join("\n"));
    report
}

/// A run without faults proves nothing.
fn all_took_place(faults: &Faults, names: &[&str]) {
    for name in names {
        assert!(faults.count(name) > 0, "no {name}: {faults:?}");
    }
}

#[test]
fn in_three_hundred_seeds_no_message_is_lost_doubled_or_overtaken_and_every_link_heals() {
    let report = run(0..300, shape_of);
    assert!(report.messages.sent > 10_000);
    all_took_place(
        &report.faults,
        &[
            "kills",
            "kills of agents with a disk",
            "freezes",
            "cuts",
            "one-way cuts",
            "partitions",
            "servers lost",
            "clock jumps",
            "bad paths",
            "frames held up by a cut",
            "links broken",
            "links broken one way",
            "departures",
            "signals lost",
            "signals doubled",
            "dials failed",
            "unhealthy links",
            "spoiled",
            "refusals told",
            "links broken while frozen",
            "registrations put off by a freeze",
            "programs busy",
            "messages held until read",
            "messages lost unread",
        ],
    );
}

#[test]
fn the_greatest_seeds_there_are_come_to_an_end() {
    let report = simulate(u64::MAX - 3..u64::MAX, shape_of, |_| {});
    assert_eq!((report.seeds, report.ok), (3, true), "{:?}", report.broken);
}

#[test]
fn a_message_that_is_given_back_to_an_agent_that_stays_is_against_the_law() {
    let law = |limits: fn(&mut OutboxLimits)| {
        let mut shape = shape_of(3);
        limits(&mut shape.outbox);
        run_seed(3, shape).unwrap_err().law
    };
    let too_old = law(|outbox| outbox.keep = Duration::from_millis(500));
    assert!(too_old.contains("expired"), "{too_old}");
    let no_room = law(|outbox| outbox.messages = 4);
    assert!(no_room.contains("is full"), "{no_room}");
}

#[test]
fn an_unreliable_mesh_heals_and_delivers_at_most_once() {
    let shape = |seed| Shape {
        reliable: false,
        ..shape_of(seed)
    };
    let faults = run(1000..1060, shape).faults;
    all_took_place(
        &faults,
        &["frames lost", "frames doubled", "replays refused"],
    );
}

#[test]
fn a_ring_links_neighbours_only() {
    run(2000..2060, |seed| Shape {
        ring: true,
        ..shape_of(seed)
    });
}

#[test]
fn a_calm_mesh_comes_up_without_a_single_failed_dial() {
    let shape = Shape {
        agents: 12,
        ..shape_of(0)
    };
    let run = calm_seed(1, shape).unwrap();
    assert_eq!(run.faults.count("dials failed"), 0);
    assert_eq!(run.dials, 12 * 11 / 2, "each pair dials once");
}

#[test]
fn the_same_seed_is_the_same_run_and_another_is_not() {
    let trace = |seed| {
        let shape = Shape {
            agents: 6,
            ..shape_of(seed)
        };
        trace_seed(seed, shape).1
    };
    let (one, same, other) = (trace(5), trace(5), trace(6));
    assert!(one.len() > 1000);
    for (at, (a, b)) in one.iter().zip(&same).enumerate() {
        assert_eq!(a, b, "step {at}");
    }
    assert_eq!(one.len(), same.len());
    assert_ne!(one, other);
}
