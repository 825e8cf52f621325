//! Watching and ending: the real programs, with their keys and logs on disk.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::thread::{self, JoinHandle};

use ifswarm::witness::{self, SignedCheckpoint};
use serde_json::Value;

use crate::watched::{Process, Swarm, secret};

#[test]
fn metrics_count_what_was_said_and_health_says_what_is_wrong() {
    let mut swarm = Swarm::start("");
    let [mut ann, mut bob] = swarm.agents();
    ann.say(r#"{"destination":"bob","payload":{"n":1}}"#);
    bob.until("message");
    ann.until("acked");

    let page = ann.metrics();
    let one = [
        "ifswarm_messages_total{direction=\"sent\"}",
        "ifswarm_links{state=\"up\"}",
        "ifswarm_registered",
        "ifswarm_healthy",
    ];
    for name in one {
        assert_eq!(page.number(name), 1.0, "{name}");
    }
    // The first ping goes out as the link comes up, and is answered before the message.
    assert!(page.number("ifswarm_rtt_seconds_count") >= 1.0);
    assert_eq!(
        page.number("ifswarm_rtt_seconds_bucket{le=\"+Inf\"}"),
        page.number("ifswarm_rtt_seconds_count")
    );
    assert_eq!(
        page.number("ifswarm_refused_total{reason=\"bad-signature\"}"),
        0.0
    );
    assert!(page.number("ifswarm_witness_entries_total") > 5.0);
    assert!(page.number("ifswarm_witness_bytes") > 500.0);
    assert_eq!(
        bob.metrics()
            .number("ifswarm_messages_total{direction=\"delivered\"}"),
        1.0
    );
    // Who talks to whom is nobody's business there.
    assert!(
        !page.0.contains("bob") && !page.0.contains("ann"),
        "{}",
        page.0
    );

    let page = swarm.server.metrics();
    assert_eq!(page.number("ifswarm_signal_census{what=\"agents\"}"), 2.0);
    assert_eq!(page.number("ifswarm_signal_registrations_total"), 2.0);
    assert!(page.number("ifswarm_signal_relayed_total{frame=\"offer\"}") >= 1.0);
    assert!(page.number("ifswarm_signal_relayed_total{frame=\"answer\"}") >= 1.0);
    assert!(page.number("ifswarm_witness_entries_total") >= 5.0);
    assert_eq!(
        page.number("ifswarm_signal_refused_total{code=\"not-admitted\"}"),
        0.0
    );
    // Eve has a key, and nobody knows it.
    let eve = swarm.agent("ann", &["--swarm", "swarm.yaml", "--key", "eve.pem"]);
    assert_eq!(eve.end().0, 2, "a key that is not that of the file");
    let eve = swarm.agent("eve", &["--swarm-name", "two", "--key", "eve.pem"]);
    assert_eq!(eve.end().0, 3);
    let page = swarm.server.metrics();
    assert_eq!(
        page.number("ifswarm_signal_refused_total{code=\"not-admitted\"}"),
        1.0
    );

    for process in [&mut swarm.server, &mut ann] {
        assert_eq!(process.health(), (200, "ok\n".into()));
        assert!(process.probe());
    }
    swarm.stop_serving();
    let gone = ann.until("error");
    assert!(
        gone["message"]
            .as_str()
            .unwrap()
            .contains("signaling server is gone")
    );
    let (status, why) = ann.health();
    assert_eq!(status, 503);
    assert!(why.contains("signaling server is gone"), "{why}");
    assert!(!ann.probe());
    assert_eq!(ann.metrics().number("ifswarm_healthy"), 0.0);
    assert_eq!(ann.metrics().number("ifswarm_registered"), 0.0);
    swarm.serve_again();
    assert_eq!(ann.until("signaling")["state"], "back");
    assert_eq!(ann.health(), (200, "ok\n".into()));
    let page = ann.metrics();
    assert_eq!(page.number("ifswarm_registered"), 1.0);
    assert_eq!(page.number("ifswarm_signaling_comebacks_total"), 1.0);
    assert_eq!(page.number("ifswarm_links{state=\"up\"}"), 1.0);
    for agent in [ann, bob] {
        agent.told_to_end();
        assert_eq!(agent.end().0, 0);
    }
}

#[test]
fn told_to_end_everybody_says_goodbye_and_leaves_a_log_that_is_covered_to_its_end() {
    let swarm = Swarm::start("");
    let [mut ann, mut bob] = swarm.agents();
    ann.say(r#"{"destination":"bob","payload":{"n":1}}"#);
    bob.until("message");
    // Over the link that is open.
    ann.told_to_end();
    assert_eq!(ann.end().0, 0);
    let down = bob.until("peer");
    assert_eq!(
        (&down["state"], &down["reason"]),
        (&"down".into(), &"goodbye".into())
    );
    // The server goes with an agent connected.
    swarm.server.told_to_end();
    assert_eq!(swarm.server.end().0, 0);
    bob.told_to_end();
    assert_eq!(bob.end().0, 0);

    let logs = swarm.dir.path().join("logs/two");
    let heard = entries(&logs.join("bob"));
    let lost = heard
        .iter()
        .find(|entry| entry["event"] == "peer_lost")
        .unwrap();
    assert_eq!(lost["metadata"]["reason"], "goodbye");
    assert_eq!(lost["peer_id"], "ann");
    for owner in ["ann", "bob", "@signal"] {
        let folder = logs.join(owner.replace('@', "%40"));
        let report = witness::check(&folder).unwrap();
        let note = fs::read_to_string(folder.join(witness::CHECKPOINT_FILE)).unwrap();
        let origin = format!("ifswarm-log/two/{owner}");
        let signed = SignedCheckpoint::open(&note, &origin, &report.public_key).unwrap();
        let covered = signed.checkpoint();
        assert_eq!(
            (covered.size, covered.root),
            (report.entries, report.root),
            "{owner}"
        );
    }
}

#[test]
fn an_agent_that_nobody_listens_to_ends_all_the_same_when_told() {
    let swarm = Swarm::start("");
    let [mut ann, mut bob] = swarm.agents();
    let talking = held_up(&mut ann, &mut bob);
    bob.told_to_end();
    // Nothing was read of its output, nor is it now.
    assert_eq!(bob.child.wait().unwrap().code(), Some(0));
    ann.told_to_end();
    assert_eq!(ann.end().0, 0);
    talking.join().unwrap();
}

#[test]
fn an_agent_whose_input_has_ended_and_whose_output_nobody_reads_hears_that_it_is_to_end() {
    let swarm = Swarm::start("");
    let mut ann = swarm.agent("ann", &["--swarm", "swarm.yaml", "--stay"]);
    let mut bob = swarm.agent("bob", &["--swarm", "swarm.yaml"]);
    while bob.until("peer")["state"] != "up" {}
    let talking = held_up(&mut ann, &mut bob);
    // It says goodbye, and waits for what it told to be read.
    bob.stdin = None;
    while bob.health().0 == 200 {
        thread::yield_now();
    }
    bob.told_to_end();
    assert_eq!(bob.child.wait().unwrap().code(), Some(0));
    ann.told_to_end();
    assert_eq!(ann.end().0, 0);
    talking.join().unwrap();
}

#[test]
fn no_secret_is_in_any_log_however_much_is_logged() {
    let credential = "the-credential-of-the-turn-server";
    let turn = format!(
        "ice: {{ turn: [{{ url: \"turn:127.0.0.1:9\", username: operator, credential: {credential} }}] }}\n"
    );
    // As much as anything that is linked in can say.
    let swarm = Swarm::logging(&turn, "trace");
    let [mut ann, mut bob] = swarm.agents();
    ann.say(r#"{"destination":"bob","payload":{"n":1}}"#);
    bob.until("message");
    let mut logs = Vec::new();
    for process in [ann, bob, swarm.server] {
        process.told_to_end();
        let (code, log) = process.end();
        assert_eq!(code, 0);
        // It was logged, one object a line.
        for line in log.lines() {
            let line: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
            assert!(
                line["level"].is_string() && line["fields"]["message"].is_string(),
                "{line}"
            );
        }
        assert!(log.contains("admin: http://"), "{log}");
        logs.push(log);
    }
    let mut secrets = vec![("the credential of TURN", credential.to_owned())];
    for id in ["ann", "bob", "signal"] {
        let pem = fs::read_to_string(swarm.dir.path().join(format!("{id}.pem"))).unwrap();
        let body = pem.lines().nth(1).unwrap().to_owned();
        secrets.push(("the body of a key file", body));
        secrets.push(("a private key", hex::encode(secret(id))));
    }
    let witnessed =
        fs::read_to_string(swarm.dir.path().join("logs/two/ann/entries.jsonl")).unwrap();
    let passwords = witnessed.split("a=ice-pwd:").skip(1);
    let passwords = passwords.map(|rest| rest.split('\\').next().unwrap().to_owned());
    let before = secrets.len();
    secrets.extend(passwords.map(|password| ("an ice-pwd", password)));
    assert!(
        secrets.len() >= before + 2,
        "one of the offer, one of the answer"
    );
    for (what, secret) in &secrets {
        assert!(secret.len() >= 16, "{what}: {secret}");
        for log in &logs {
            assert!(!log.contains(secret.as_str()), "{what} is in a log:\n{log}");
        }
    }
}

/// Ann talks to Bob for ever, until so much has come that Bob, whose output nobody reads, is held up:
/// the pipe to whoever started him takes two of these, and 256 lines wait before it.
fn held_up(ann: &mut Process, bob: &mut Process) -> JoinHandle<()> {
    let mut input = ann.stdin.take().unwrap();
    let talking = thread::spawn(move || {
        let filler = "x".repeat(32 * 1024);
        let line = format!("{{\"destination\":\"bob\",\"payload\":{{\"x\":\"{filler}\"}}}}\n");
        while input.write_all(line.as_bytes()).is_ok() {}
    });
    let delivered = "ifswarm_messages_total{direction=\"delivered\"}";
    while bob.metrics().number(delivered) < 300.0 {
        thread::yield_now();
    }
    talking
}

fn entries(folder: &Path) -> Vec<Value> {
    let text = fs::read_to_string(folder.join("entries.jsonl")).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}
