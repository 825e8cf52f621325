//! `ifswarm chaos`: seeds, and what they draw, at the bounds of what can be.

use std::fs;

use ifswarm::chaos::Scenario;

use crate::cli::{ifswarm, run};

/// A scenario of two agents, ten minutes long, with a fault by chance so often.
fn scenario(every: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let swarm = "swarm: two\nagents: [{ id: ann }, { id: bob }]\n";
    fs::write(dir.path().join("swarm.yaml"), swarm).unwrap();
    let text = format!(
        "chaos: test\nswarm: swarm.yaml\nfor: 10m\nrandom: {{ every: {every}, for: 1s..6s, of: [cut] }}\n"
    );
    fs::write(dir.path().join("scenario.yaml"), text).unwrap();
    dir
}

fn chaos(dir: &tempfile::TempDir, args: &[&str]) -> (i32, String) {
    let path = dir.path().join("scenario.yaml");
    let (code, _, stderr) = run(ifswarm().arg("chaos").args(args).arg(path));
    (code, stderr)
}

#[test]
fn a_fault_by_chance_so_often_that_it_takes_for_ever_to_draw_them_is_an_error_at_its_place() {
    for every in ["1us", "59ms..6s"] {
        let dir = scenario(every);
        let err = Scenario::read(&dir.path().join("scenario.yaml")).unwrap_err();
        let err = err.to_string();
        for part in ["scenario.yaml:4:18", "run of 600s", "at most 10000"] {
            assert!(err.contains(part), "{err}");
        }
    }
    let dir = scenario("60ms..6s");
    assert!(Scenario::read(&dir.path().join("scenario.yaml")).is_ok());
    let (code, stderr) = chaos(&dir, &["--for", "24h"]);
    assert_eq!(code, 2, "{stderr}");
    assert!(stderr.contains("600s or less"), "{stderr}");
}

#[test]
fn the_one_seed_that_has_no_end_is_refused_with_what_is_allowed() {
    let dir = scenario("2s");
    let (code, stderr) = chaos(&dir, &["--simulate", "--seed", "18446744073709551615"]);
    assert_eq!(code, 2, "{stderr}");
    assert!(stderr.contains("0..=18446744073709551614"), "{stderr}");
    let (code, stderr) = chaos(&dir, &["--simulate", "--seed", "18446744073709551614"]);
    assert_eq!(code, 0, "{stderr}");
}

#[test]
fn what_happened_in_simulated_seeds_is_kept_or_said_not_to_be() {
    let dir = scenario("2s");
    let kept = dir.path().join("kept");
    let keep = ["--simulate", "--keep", kept.to_str().unwrap()];
    let (code, stderr) = chaos(&dir, &[&keep[..], &["--seed", "7"]].concat());
    assert_eq!(code, 0, "{stderr}");
    let told = fs::read_to_string(kept.join("seed-7.txt")).unwrap();
    assert!(told.lines().count() > 1000, "{}", told.lines().count());
    let (code, stderr) = chaos(&dir, &[&keep[..], &["--seeds", "2"]].concat());
    assert_eq!(code, 0, "{stderr}");
    assert!(stderr.contains("no seed broke a law"), "{stderr}");
}
