//! `mesh up` and `bench`: whole swarms in one process, over real connections.

use std::path::Path;
use std::process::Output;

use assert_cmd::Command;
use ifswarm::bench::{Options, Quiet, WitnessPlace, run_swarm};
use ifswarm::swarm::Swarm;
use serde_json::Value;

fn ifswarm(args: &[&str]) -> Output {
    Command::cargo_bin("ifswarm")
        .unwrap()
        .args(args)
        .output()
        .unwrap()
}

fn json(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    let parsed = serde_json::from_str(&text);
    parsed.unwrap_or_else(|err| panic!("{err}: {text}{}", stderr(output)))
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A swarm file of two agents with a few probes, and `more`.
fn swarm_file(dir: &Path, more: &str) -> String {
    let path = dir.join("swarm.yaml");
    let text = format!(
        "swarm: two\nagents:\n  - id: a\n  - id: b\nprobe: {{ messages: 20, interval: 2ms }}\n{more}"
    );
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_agents_exchange_every_probe_and_leave_logs_that_verify() {
    let dir = tempfile::tempdir().unwrap();
    let mut swarm = Swarm::full_mesh("pair".parse().unwrap(), 2);
    swarm.probe.messages = 50;
    let options = Options {
        witness: WitnessPlace::Folder(dir.path().to_owned()),
        ..Options::default()
    };
    let report = run_swarm(&swarm, options, Quiet).await.unwrap();
    assert!(report.ok, "{:?}", report.failures);
    assert_eq!((report.links.expected, report.links.open), (1, 1));
    let messages = report.messages;
    assert_eq!((messages.sent, messages.delivered), (100, 100));
    assert_eq!(
        (messages.lost, messages.rejected, messages.duplicated),
        (0, 0, 0)
    );
    assert_eq!((report.rtt_us.count, report.one_way_us.count), (50, 50));
    assert_eq!(report.per_link[0].rtt_us, report.rtt_us);
    assert!(report.one_way_us.p50 <= report.rtt_us.p50);
    // 50 sent and 50 received on both sides, and what it took to get there.
    assert!(report.witness.verified && report.witness.entries > 200);
    // Keys made for the run have a folder of their own.
    let runs: Vec<_> = std::fs::read_dir(dir.path()).unwrap().collect();
    assert_eq!(runs.len(), 1);
    let run = runs[0].as_ref().unwrap().path();
    for agent in ["agent-01", "agent-02"] {
        let log = run.join("pair").join(agent);
        assert!(ifswarm::witness::check(&log).is_ok(), "{}", log.display());
    }
}

#[test]
fn mesh_up_prints_one_object_with_the_members_of_the_contract() {
    let dir = tempfile::tempdir().unwrap();
    let file = swarm_file(dir.path(), "");
    let witness = dir.path().join("witness");
    let output = ifswarm(&[
        "mesh",
        "up",
        &file,
        "--json",
        "--witness",
        witness.to_str().unwrap(),
    ]);
    let report = json(&output);
    assert_eq!(output.status.code(), Some(0), "{report}{}", stderr(&output));
    let names: Vec<_> = report.as_object().unwrap().keys().cloned().collect();
    let mut expected = [
        "swarm",
        "agents",
        "links",
        "setup_ms",
        "rtt_us",
        "one_way_us",
        "per_link",
        "messages",
        "resources",
        "witness",
        "ok",
    ];
    expected.sort_unstable();
    assert_eq!(names, expected);
    assert_eq!(report["per_link"][0]["path"], "host");
    assert_eq!(report["rtt_us"]["count"], 20);
    assert!(report["resources"]["rss_kib"].as_u64().unwrap() > 0);
}

#[test]
fn mesh_up_shows_every_link_and_ends_with_ok() {
    let dir = tempfile::tempdir().unwrap();
    let output = ifswarm(&["mesh", "up", &swarm_file(dir.path(), "")]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{text}{}", stderr(&output));
    assert!(
        text.contains("a – b") && text.contains("1 of 1 links up"),
        "{text}"
    );
    assert!(text.ends_with("ok\n") && !text.contains('\x1b'), "{text}");
    // What it was told to keep nowhere else, it keeps below the temporary folder, and says where.
    let kept = text
        .lines()
        .find_map(|line| line.split(", in ").nth(1))
        .unwrap();
    assert!(Path::new(kept).is_dir(), "{kept}");
    std::fs::remove_dir_all(kept).unwrap();
}

#[test]
fn mesh_up_ends_with_1_when_an_expectation_does_not_hold() {
    let dir = tempfile::tempdir().unwrap();
    let file = swarm_file(dir.path(), "expect: { p50: 1us }\n");
    let output = ifswarm(&["mesh", "up", &file, "--json"]);
    let report = json(&output);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(report["ok"], false);
    let failure = report["failures"][0].as_str().unwrap();
    assert!(failure.starts_with("p50: "), "{failure}");
}

#[test]
fn mesh_up_ends_with_2_when_the_file_cannot_be_used() {
    let dir = tempfile::tempdir().unwrap();
    let output = ifswarm(&["mesh", "up", &swarm_file(dir.path(), "colour: red\n")]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("colour"), "{}", stderr(&output));
    // A key without its private half.
    let path = dir.path().join("keys.yaml");
    let key = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
    let text = format!("swarm: two\nagents:\n  - {{ id: a, public_key: {key} }}\n  - id: b\n");
    std::fs::write(&path, text).unwrap();
    let output = ifswarm(&["mesh", "up", path.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    assert!(stderr(&output).contains("key: FILE"), "{}", stderr(&output));
    assert!(output.stdout.is_empty());
}

#[test]
fn mesh_up_ends_with_3_when_its_port_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let file = swarm_file(
        dir.path(),
        &format!("signal: {{ listen: \"{address}\" }}\n"),
    );
    let output = ifswarm(&["mesh", "up", &file]);
    assert_eq!(output.status.code(), Some(3));
    assert!(
        stderr(&output).contains(&address.to_string()),
        "{}",
        stderr(&output)
    );
}

#[test]
fn bench_measures_a_round_trip_beside_its_floor_and_writes_a_page() {
    let dir = tempfile::tempdir().unwrap();
    let page = dir.path().join("page.html");
    let output = ifswarm(&[
        "bench",
        "--peers",
        "2",
        "--scenario",
        "rtt",
        "--duration",
        "400ms",
        "--json",
        "--report",
        page.to_str().unwrap(),
        "--assert",
        "rtt.count>10",
        "--assert",
        "rtt.p50<1us",
    ]);
    let report = json(&output);
    // The second assertion cannot hold.
    assert_eq!(output.status.code(), Some(1), "{report}{}", stderr(&output));
    let failures = report["failures"].as_array().unwrap();
    assert_eq!(failures.len(), 1, "{failures:?}");
    assert!(failures[0].as_str().unwrap().contains("rtt_us.p50 is"));
    let floors = &report["floors"];
    for name in ["udp_rtt_us", "datachannel_rtt_us", "sign_us", "verify_us"] {
        assert!(floors[name].as_f64().unwrap() > 0.0, "{floors}");
    }
    let ratio = report["unloaded_rtt_ratio"].as_f64().unwrap();
    let floor = floors["datachannel_rtt_us"].as_f64().unwrap()
        + 2.0 * (floors["sign_us"].as_f64().unwrap() + floors["verify_us"].as_f64().unwrap());
    let p50 = report["unloaded_rtt_us"]["p50"].as_f64().unwrap();
    assert!(
        (ratio - p50 / floor).abs() < 0.01,
        "{ratio} is not {p50} / {floor}"
    );
    assert_eq!(report["messages"]["lost"], 0);
    let page = std::fs::read_to_string(page).unwrap();
    assert!(page.contains("<svg") && page.contains("--scenario rtt"));
}

#[test]
fn bench_refuses_an_assertion_that_means_nothing_before_it_measures() {
    for (assertion, told) in [("rtt.p95", "< <= > >= =="), ("rtt.p90<1ms", "rtt_us.p95")] {
        let output = ifswarm(&["bench", "--assert", assertion]);
        assert_eq!(output.status.code(), Some(2), "{assertion}");
        assert!(stderr(&output).contains(told), "{}", stderr(&output));
    }
}
