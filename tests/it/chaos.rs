//! `ifswarm chaos`: scenario files, and short runs of real processes and of simulated ones.

use std::fs;
use std::path::{Path, PathBuf};

use ifswarm::chaos::{Conditions, Kind, Scenario, What, plan};
use serde_json::Value;

use crate::cli::{ifswarm, run};
use crate::program::{Program, gone, kill, lives};

fn scenarios() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("swarms/chaos")
}

/// A scenario of two agents with these lines, in a folder of its own.
fn written(lines: &str) -> (tempfile::TempDir, PathBuf) {
    written_of(TWO, lines)
}

/// The same of the agents of this swarm.
fn written_of(swarm: &str, lines: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("swarm.yaml"), swarm).unwrap();
    let path = dir.path().join("scenario.yaml");
    fs::write(&path, format!("chaos: test\nswarm: swarm.yaml\n{lines}")).unwrap();
    (dir, path)
}

/// Every part is in what is said of a scenario with these lines.
fn refused(swarm: &str, lines: &str, parts: &[&str]) {
    let (_dir, path) = written_of(swarm, lines);
    let err = Scenario::read(&path).unwrap_err().to_string();
    for part in parts {
        assert!(err.contains(part), "{lines}\n{err}");
    }
}

const TWO: &str = "swarm: two\nagents: [{ id: ann }, { id: bob }]\n";
/// Four agents in a circle: ann and cat have no link, nor have bob and dan.
const RING: &str =
    "swarm: ring\nagents: [{ id: ann }, { id: bob }, { id: cat }, { id: dan }]\ntopology: ring\n";

fn chaos(args: &[&str], path: &Path) -> (i32, Value, String) {
    let (code, stdout, stderr) = run(ifswarm().arg("chaos").args(args).arg("--json").arg(path));
    let report = serde_json::from_str(&stdout).unwrap_or(Value::Null);
    (code, report, stderr)
}

#[test]
fn every_scenario_that_is_here_can_be_read_and_plans_something() {
    let mut count = 0;
    for entry in fs::read_dir(scenarios()).unwrap() {
        let path = entry.unwrap().path();
        let scenario = Scenario::read(&path).unwrap_or_else(|err| panic!("{err}"));
        let planned = plan(&scenario, 1, scenario.length).unwrap();
        let planned = planned.len() + scenario.ladder.len();
        assert!(planned > 0, "{}", path.display());
        assert_eq!(path.file_stem().unwrap().to_str(), Some(&*scenario.name));
        count += 1;
    }
    assert!(count >= 8, "{count} scenarios");
}

#[test]
fn reads_faults_conditions_and_expectations_as_they_are_written() {
    let (_dir, path) = written(
        "all: good-wifi\nlinks:\n  - { between: [bob, ann], are: { delay: 80ms, loss: 1.5%, rate: 64 KiB } }\n\
         faults:\n  - { at: 5s, cut: [bob, ann], one_way: true, for: 1s, every: 2s, times: 3 }\n  \
         - { at: 1s, clock: ann, by: -1h, for: 1s }\n\
         expect: { lost: any, memory: 5% }\n",
    );
    let scenario = Scenario::read(&path).unwrap();
    let (ann, bob) = ("ann".parse().unwrap(), "bob".parse().unwrap());
    let path = scenario.conditions(&ann, &bob);
    assert_eq!((path.delay_us, path.loss_per_mille), (80_000, 15));
    assert_eq!(path.rate, Some(65_536));
    assert_eq!(Conditions::named("good-wifi"), Some(scenario.all));
    let kinds: Vec<_> = scenario.faults.iter().map(|f| f.what.kind()).collect();
    let cut = Kind::OneWayCut;
    assert_eq!(kinds, [Kind::Clock, cut, cut, cut]);
    let by_ms = -3_600_000;
    let clock = What::Clock { agent: ann, by_ms };
    assert_eq!(scenario.faults[0].what, clock);
    assert_eq!(scenario.faults[3].at.as_secs(), 9);
    assert_eq!(scenario.length.as_secs(), 15, "five seconds after the last");
    assert_eq!(
        (scenario.expect.lost, scenario.expect.doubled),
        (None, Some(0))
    );
    assert_eq!(scenario.expect.memory, Some(5));
}

#[test]
fn says_of_a_bad_scenario_where_it_is_wrong_and_what_was_expected() {
    for (lines, parts) in [
        (
            "falts: []",
            &["scenario.yaml:3:1", "did you mean `faults`"][..],
        ),
        (
            "faults: [{ at: 1s, kil: ann, for: 1s }]",
            &["3:20", "did you mean `kill`"],
        ),
        (
            "faults: [{ at: 1s, kill: anna, for: 1s }]",
            &["`ann` or `bob`", "did you mean `ann`"],
        ),
        ("faults: [{ at: 1s, for: 1s }]", &["says not what happens"]),
        (
            "faults: [{ at: 1s, for: 1s, kill: ann, freeze: bob }]",
            &["`kill` and `freeze`"],
        ),
        ("faults: [{ at: 1s, kill: ann }]", &["no `for`"]),
        (
            "faults: [{ at: 1s, kill: ann, for: 1s, one_way: true }]",
            &["belongs to `cut`"],
        ),
        (
            "faults: [{ at: 1s, cut: [ann, ann], for: 1s }]",
            &["another agent"],
        ),
        ("faults: [{ at: 1s, cut: [ann], for: 1s }]", &["two agents"]),
        (
            "faults: [{ at: 1s, partition: [[ann], [ann]], for: 1s }]",
            &["`ann` again"],
        ),
        ("faults: [{ at: 1s, clock: ann, for: 1s }]", &["no `by`"]),
        (
            "faults: [{ at: 1s, clock: ann, by: soon, for: 1s }]",
            &["`1h`"],
        ),
        ("faults: [{ at: 1s, signaling: up, for: 1s }]", &["`down`"]),
        (
            "faults: [{ at: 1s, kill: ann, for: 2s, every: 1s, times: 2 }]",
            &["`every` within `for`"],
        ),
        (
            "for: 2s\nfaults: [{ at: 1s, kill: ann, for: 2s }]",
            &["3:6", "`3s` or more"],
        ),
        (
            "random: { every: 2s..1s, for: 1s, of: [kill] }",
            &["2s..6s"],
        ),
        (
            "random: { every: 2s, for: 1s, of: [] }",
            &["at least one kind"],
        ),
        (
            "random: { every: 2s, for: 1s, of: [freez] }",
            &["did you mean `freeze`"],
        ),
        ("all: good-wfi", &["did you mean `good-wifi`"]),
        ("all: { loss: 200% }", &["`0.5%`"]),
        ("traffic: { every: 1us }", &["`1ms` or more"]),
        ("ladder: [attic]", &["`loopback`"]),
        ("expect: { lost: none }", &["`any`"]),
    ] {
        refused(TWO, lines, parts);
    }
    let (code, _, stderr) = chaos(&[], Path::new("no/such.yaml"));
    assert_eq!(code, 2);
    assert!(stderr.contains("swarms/chaos/short.yaml"), "{stderr}");
}

#[test]
fn what_nothing_in_the_file_can_meet_is_an_error_at_its_place() {
    let kill = "faults: [{ at: 1s, kill: ann, for: 1s }]\n";
    for (lines, parts) in [
        (
            format!("ladder: [lan]\n{kill}"),
            &[
                "scenario.yaml:4:9",
                "`faults` beside `ladder`",
                "two scenarios",
            ][..],
        ),
        (
            "random: { every: 2s, for: 1s, of: [kill] }\nladder: [lan]".into(),
            &["3:9", "`random` beside `ladder`"],
        ),
        (
            "all: lan\nladder: [lan]".into(),
            &["3:6", "the rungs say how"],
        ),
        ("ladder: []".into(), &["3:9", "at least one rung"]),
        (
            "expect: { heal_p95: 5s }".into(),
            &["3:21", "without any fault", "leave `heal_p95` out"],
        ),
        (
            "ladder: [lan]\nexpect: { memory: 5% }".into(),
            &["4:19", "on a ladder"],
        ),
        (
            format!("{kill}expect: {{ memory: 0.5% }}"),
            &["4:19", "whole percent"],
        ),
        (
            "faults: [{ at: 1s, kill: ann, for: 1s, every: 3s }]".into(),
            &["3:47", "`every` alone", "times: 10"],
        ),
        (
            "faults: [{ at: 1s, kill: ann, for: 1s, times: 3 }]".into(),
            &["3:47", "`times` alone", "`every: 3s"],
        ),
        (
            "faults: [{ at: 1s, clock: ann, by: 500ms, for: 1s }]".into(),
            &["3:36", "`500ms`", "`1s` to `24h`", "took a while"],
        ),
        (
            "faults: [{ at: 1s, clock: ann, by: 25h, for: 1s }]".into(),
            &["3:36", "24h"],
        ),
        (
            "faults: [{ at: 1s, conditions: loopback, for: 1s }]".into(),
            &["3:32", "nothing happens"],
        ),
        (
            "all: lan\nfaults: [{ at: 1s, conditions: lan, for: 1s }]".into(),
            &["4:32", "anyway"],
        ),
        (
            "links: [{ between: [ann, bob], are: lan }, { between: [bob, ann], are: lan }]".into(),
            &["3:55", "again", "first on line 3"],
        ),
        (
            "for: 3s\nrandom: { every: 2s..9s, for: 2s, of: [kill] }".into(),
            &["4:9", "in a run of 3s", "`for: 4s` or more"],
        ),
    ] {
        refused(TWO, &lines, parts);
    }
}

#[test]
fn agents_without_a_link_have_no_path_that_a_scenario_can_speak_of() {
    let unlinked = &["no link with", "linked with `bob`, `dan`"][..];
    for (lines, parts) in [
        ("links: [{ between: [ann, cat], are: lan }]", unlinked),
        ("faults: [{ at: 1s, cut: [ann, cat], for: 1s }]", unlinked),
        (
            "faults: [{ at: 1s, conditions: lan, between: [ann, cat], for: 1s }]",
            unlinked,
        ),
        (
            "faults: [{ at: 1s, partition: [[ann], [cat]], for: 1s }]",
            &["3:31", "no link between `ann` and `cat`"],
        ),
        (
            "faults: [{ at: 1s, partition: [[ann, ann], [bob]], for: 1s }]",
            &["`ann` again"],
        ),
    ] {
        refused(RING, lines, parts);
    }
}

#[test]
fn faults_of_a_file_that_strike_the_same_at_one_time_are_an_error_and_others_are_not() {
    let faults = |one: &str, other: &str| format!("faults:\n  - {{ {one} }}\n  - {{ {other} }}\n");
    for (one, other) in [
        ("at: 1s, kill: ann, for: 5s", "at: 2s, kill: ann, for: 1s"),
        ("at: 1s, kill: ann, for: 5s", "at: 2s, freeze: ann, for: 9s"),
        (
            "at: 1s, clock: ann, by: 1h, for: 5s",
            "at: 5s, clock: ann, by: -1h, for: 5s",
        ),
        (
            "at: 1s, signaling: down, for: 5s",
            "at: 2s, signaling: down, for: 5s",
        ),
        (
            "at: 1s, cut: [ann, bob], for: 5s",
            "at: 2s, partition: [[bob], [ann, cat]], for: 5s",
        ),
        (
            "at: 1s, conditions: lan, for: 5s",
            "at: 2s, cut: [ann, bob], for: 1s",
        ),
    ] {
        let lines = faults(one, other);
        refused(
            RING,
            &lines,
            &["5:5", "first on line 4", "one after the other"],
        );
    }
    for (one, other) in [
        ("at: 1s, kill: ann, for: 5s", "at: 2s, kill: bob, for: 1s"),
        ("at: 1s, kill: ann, for: 1s", "at: 2s, freeze: ann, for: 9s"),
        (
            "at: 1s, signaling: down, for: 5s",
            "at: 2s, kill: ann, for: 1s",
        ),
        (
            "at: 1s, cut: [ann, bob], for: 5s",
            "at: 2s, partition: [[ann], [dan]], for: 5s",
        ),
    ] {
        let (_dir, path) = written_of(RING, &faults(one, other));
        let scenario = Scenario::read(&path).unwrap_or_else(|err| panic!("{err}"));
        assert_eq!(scenario.faults.len(), 2);
    }
}

#[test]
fn a_run_too_short_for_its_faults_is_2_before_anything_starts() {
    for (lines, args, parts) in [
        (
            "faults: [{ at: 1s, kill: ann, for: 9s }]",
            &["--for", "3s"][..],
            &["run of 3s", "`kill ann` at 1s", "10s or more"][..],
        ),
        (
            "for: 1m\nrandom: { every: 2s..6s, for: 1s..6s, of: [kill] }",
            &["--for", "1s", "--seed", "7"],
            &["no fault", "seed 7", "12s or more"],
        ),
        (
            "for: 2s\nrandom: { every: 2s, for: 1s, of: [kill] }",
            &["--simulate", "--seeds", "1"],
            &["scenario.yaml:4:9", "`for: 3s` or more"],
        ),
    ] {
        let (dir, path) = written(lines);
        let keep = dir.path().join("kept");
        let mut all = args.to_vec();
        if !args.contains(&"--simulate") {
            all.extend(["--keep", keep.to_str().unwrap()]);
        }
        let (code, report, stderr) = chaos(&all, &path);
        assert_eq!((code, report), (2, Value::Null), "{stderr}");
        for part in parts {
            assert!(stderr.contains(part), "{lines}\n{stderr}");
        }
        assert!(!keep.exists(), "nothing was started");
    }
}

#[test]
fn real_processes_survive_a_cut_a_freeze_a_kill_and_the_loss_of_the_server() {
    let path = scenarios().join("short.yaml");
    let (code, report, stderr) = chaos(&["--seed", "1"], &path);
    assert_eq!(code, 0, "{report:#}\n{stderr}");
    assert!(stderr.contains("--seed 1"), "{stderr}");
    let messages = &report["messages"];
    assert!(messages["sent"].as_u64() > Some(100), "{report:#}");
    for none in ["lost", "doubled", "out_of_order", "unasked", "refused"] {
        assert_eq!(messages[none], 0, "{report:#}");
    }
    for kind in ["cut", "freeze", "kill", "signaling"] {
        let row = &report["faults"][kind];
        let counts = [&row["count"], &row["took_place"], &row["healed"]];
        assert_eq!(counts, [1, 1, 1], "{report:#}");
    }
    assert_eq!(report["links"]["up"], 10);
}

#[test]
fn nobody_is_left_when_the_runner_is_killed() {
    let (_dir, path) = written("for: 10m\nfaults: [{ at: 500ms, freeze: ann, for: 1m }]\n");
    let mut command = ifswarm();
    command
        .arg("chaos")
        .arg("--keep")
        .arg(path.parent().unwrap());
    let runner = Program::start(command.arg(&path));
    // The server and two agents, one of which reads no end of its input.
    let all = loop {
        let found = children_of(runner.id());
        if found.len() == 3 && found.iter().any(|process| is_stopped(process)) {
            break Left(found);
        }
        std::thread::yield_now();
    };
    runner.kill("KILL");
    all.0.iter().for_each(|process| gone(process));
}

/// Processes that are killed, should this test fail.
struct Left(Vec<String>);

impl Drop for Left {
    fn drop(&mut self) {
        for process in self.0.iter().filter(|process| lives(process)) {
            kill("KILL", process);
        }
    }
}

fn is_stopped(process: &str) -> bool {
    let status = fs::read_to_string(format!("/proc/{process}/status"));
    status.is_ok_and(|status| status.contains("\nState:\tT"))
}

#[test]
fn a_server_under_chaos_says_who_registers_and_who_has_left() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = ifswarm();
    command.args(["signal", "--chaos", "--open", "--listen", "127.0.0.1:0"]);
    let server = Program::start(command.arg("--witness").arg(folder.path()));
    let line = server.line().unwrap();
    let url = line.strip_prefix("listening on ").unwrap();
    let (_dir, scenario) = written("");
    let mut command = ifswarm();
    command.args(["agent", "--id", "ann", "--signal", url, "--swarm"]);
    let agent = Program::start(command.arg(scenario.with_file_name("swarm.yaml")));
    assert_eq!(server.line().as_deref(), Some("registered ann"));
    agent.kill("KILL");
    assert_eq!(server.line().as_deref(), Some("left ann"));
    assert_eq!(server.end().code, 0);
}

#[test]
fn a_key_of_the_swarm_that_cannot_be_read_is_2_and_is_named_before_anything_is_made() {
    let swarm = "swarm: two\nagents: [{ id: ann }, { id: bob, key: no-key.pem }]\n";
    let (dir, path) = written_of(swarm, "faults: [{ at: 1s, kill: ann, for: 1s }]\n");
    let keep = dir.path().join("kept");
    let (code, report, stderr) = chaos(&["--keep", keep.to_str().unwrap()], &path);
    assert_eq!((code, report), (2, Value::Null), "{stderr}");
    for part in ["agent `bob`", "no-key.pem"] {
        assert!(stderr.contains(part), "{stderr}");
    }
    assert!(!keep.exists(), "nothing was started");
}

/// The processes whose parent this is.
fn children_of(parent: u32) -> Vec<String> {
    let entries = fs::read_dir("/proc").unwrap();
    let processes = entries.filter_map(|entry| entry.unwrap().file_name().into_string().ok());
    let is_child = |process: &String| {
        let status = fs::read_to_string(format!("/proc/{process}/status"));
        status.is_ok_and(|status| status.contains(&format!("\nPPid:\t{parent}\n")))
    };
    processes.filter(is_child).collect()
}

#[test]
fn a_run_that_does_not_hold_is_1_and_leaves_its_logs() {
    let (dir, path) = written(
        // Whatever the machine does, neither agent lives from beginning to end.
        "for: 5s\nfaults:\n  - { at: 500ms, clock: ann, by: 1h, for: 1s }\n  \
         - { at: 2s, kill: ann, for: 100ms }\n  - { at: 4s, kill: bob, for: 100ms }\n\
         expect: { memory: 5%, links_down: any }\n",
    );
    let keep = dir.path().join("kept");
    let (code, report, stderr) = chaos(&["--keep", keep.to_str().unwrap()], &path);
    assert_eq!(code, 1, "{report:#}\n{stderr}");
    let failures = report["failures"].to_string();
    assert!(failures.contains("memory of no agent"), "{failures}");
    assert_eq!(report["faults"]["clock"]["took_place"], 1, "{report:#}");
    let run = fs::read_dir(keep).unwrap().next().unwrap().unwrap().path();
    assert!(run.join("log/ann.log").is_file());
    assert!(run.join("witness/two/ann/entries.jsonl").is_file());
    assert!(run.join("outbox/two/ann/journal.jsonl").is_file());
}

#[test]
fn simulates_the_faults_of_a_scenario_and_repeats_a_seed() {
    let path = scenarios().join("partition.yaml");
    let (code, report, stderr) = chaos(&["--simulate", "--seeds", "10"], &path);
    assert_eq!(code, 0, "{report:#}\n{stderr}");
    assert_eq!(report["seeds"], 10);
    assert!(report["faults"]["partitions"].as_u64() > Some(10));
    assert_eq!(report["faults"].get("kills"), None, "no such fault in it");
    let one = || chaos(&["--simulate", "--seed", "7"], &path).1;
    assert_eq!(one(), one());
    assert_eq!(one()["seeds"], 1);
}
