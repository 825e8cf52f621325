//! `agent` and `send`: real processes, their pipes, what they say of bad input and how they end.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use ifswarm::identity::Roster;
use ifswarm::message::verify;
use ifswarm::witness;
use serde_json::{Value, json};

use crate::certificates::{Authority, Valid};
use crate::cli::{Running, ifswarm, run};
use crate::program::{Program, Stage, gone};
use crate::support::{AGENTS, FixtureAgent};

#[test]
fn ten_thousand_messages_among_five_processes_come_once_in_order_and_stand_in_both_witnesses() {
    let stage = Stage::new(&AGENTS);
    let witness = stage.path("witness");
    let start = |id: &str| Program::start(stage.agent(id).arg("--witness").arg(&witness));
    let mut agents: Vec<_> = AGENTS.iter().map(|id| start(id)).collect();
    // Every writer beside the readers: nobody waits for anybody in a circle.
    let writers: Vec<_> = AGENTS
        .iter()
        .zip(&mut agents)
        .map(|(me, agent)| {
            use std::io::Write;
            let mut stdin = agent.stdin.take().unwrap();
            std::thread::spawn(move || {
                for n in 0..EACH {
                    for peer in AGENTS.iter().filter(|peer| *peer != me) {
                        let draft = json!({ "destination": peer, "payload": { "n": n } });
                        writeln!(stdin, "{draft}").unwrap();
                    }
                }
                // Kept open: who closes its input leaves, and the others may still write to it.
                stdin
            })
        })
        .collect();
    let roster = roster(&AGENTS);
    for (me, agent) in AGENTS.iter().zip(&agents) {
        let mut next = BTreeMap::<String, (u64, u64)>::new();
        for _ in 0..EACH * 4 {
            let message = agent.event("message")["message"].take();
            // Once more, by somebody else than the process that says so.
            let message = verify(message.to_string().as_bytes(), &roster).unwrap();
            assert_eq!(message.destination().as_str(), *me);
            let (n, number) = next
                .entry(message.source().to_string())
                .or_insert((0, message.sequence_num()));
            assert_eq!(message.payload()["n"], *n, "in order, none lost or doubled");
            assert_eq!(message.sequence_num(), *number);
            *n += 1;
            *number += 1;
        }
        assert!(next.values().all(|(n, _)| *n == EACH) && next.len() == 4);
    }
    let inputs: Vec<_> = writers.into_iter().map(|w| w.join().unwrap()).collect();
    drop(inputs);
    for agent in agents {
        let ended = agent.end();
        assert_eq!((ended.code, ended.log.as_str()), (0, ""));
        assert_eq!(ended.events("message"), [] as [Value; 0]);
    }
    let (mut sent, mut received) = (BTreeSet::new(), BTreeSet::new());
    for id in AGENTS {
        let entries = entries(&witness, id);
        // Whose, to whom, the number, and what it was.
        for entry in entries.iter().filter(|e| e["event"] == "ifmessage_sent") {
            let what = &entry["metadata"];
            let to = what["destination"].as_str().unwrap().to_owned();
            assert!(sent.insert((id.to_owned(), to, what["sha256"].to_string())));
        }
        for entry in entries
            .iter()
            .filter(|e| e["event"] == "ifmessage_received")
        {
            let from = entry["peer_id"].as_str().unwrap().to_owned();
            let sha256 = entry["metadata"]["sha256"].to_string();
            assert!(received.insert((from, id.to_owned(), sha256)));
        }
    }
    assert_eq!(received.len() as u64, 5 * 4 * EACH);
    assert_eq!(sent, received);
}

#[test]
fn every_bad_line_gets_one_error_with_its_number_and_the_agent_goes_on() {
    let stage = Stage::new(&["ann", "bob"]);
    let mut ann = Program::start(&mut stage.agent("ann"));
    let bob = Program::start(&mut stage.agent("bob"));
    let big = "x".repeat(70_000);
    let long = "x".repeat(2_000_000);
    for line in [
        "not json".to_owned(),
        r#"{"destination":"nobody","payload":{}}"#.into(),
        json!({ "destination": "bob", "payload": { "big": big } }).to_string(),
        format!(r#"{{"destination":"bob","payload":{{"long":"{long}"}}}}"#),
        r#"{"destination":"ann","payload":{}}"#.into(),
        "".into(),
        "\u{0}\u{1b}[31m".into(),
        r#"{"destination":"bob","payload":{},"traceId":"no"}"#.into(),
        r#"{"destination":"bob","payload":{"good":true}}"#.into(),
    ] {
        ann.write(&line);
    }
    let expected = BTreeMap::from([
        (1, "column 2: "),
        (2, "no agent `nobody`"),
        (3, "channel.max_message"),
        (4, "a line of more than 1048576 bytes"),
        (5, "itself"),
        (7, "column "),
        (8, "traceId"),
    ]);
    let mut lines = BTreeSet::new();
    for _ in 0..expected.len() {
        let error = ann.event("error");
        let number = error["line"].as_u64().unwrap();
        assert!(lines.insert(number), "told twice: {error}");
        let part = expected.get(&number).expect("a bad line");
        let text = error["message"].as_str().unwrap();
        assert!(text.contains(part) && !text.contains('\n'), "{error}");
        assert!(text.len() < 1_000, "{error}");
    }
    assert_eq!(bob.event("message")["message"]["payload"]["good"], true);
    let ended = ann.end();
    assert_eq!((ended.code, ended.log.as_str()), (0, ""));
    assert!(ended.events("error").is_empty(), "{:?}", ended.lines);
    assert_eq!(bob.end().code, 0);
}

#[test]
fn a_call_that_cannot_work_is_told_in_one_line_with_2_or_3() {
    let stage = Stage::new(&["ann", "bob"]);
    let other = stage.path("other.pem");
    FixtureAgent::new("eve").key.create_file(&other).unwrap();
    let nothing = stage.path("nothing.pem");
    let stranger = || {
        let mut command = ifswarm();
        command.args(["agent", "--id", "eve", "--signal", &stage.url]);
        command
    };
    let no_server = || {
        // Taken, and not listening.
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        drop(taken);
        let mut command = ifswarm();
        let url = format!("ws://{address}");
        command.args(["agent", "--id", "ann", "--signal", &url, "--swarm"]);
        command.arg(&stage.swarm);
        command
    };
    for (mut command, code, said) in [
        (stage.agent("eve"), 2, "no agent `eve` in it, but ann, bob"),
        (stage.agent("no id"), 2, "no id"),
        (with(stage.agent("ann"), "--key", &other), 2, "belongs to"),
        (
            with(stage.agent("ann"), "--key", &nothing),
            2,
            "nothing.pem",
        ),
        (with(stage.agent("ann"), "--ca", &nothing), 2, "nothing.pem"),
        (with(stranger(), "--swarm", &nothing), 2, "no such file"),
        (stranger(), 2, "--swarm-name NAME"),
        (
            with(stranger(), "--swarm-name", Path::new("staged")),
            3,
            "not-admitted",
        ),
        (no_server(), 3, "refused"),
        (
            with(stage.agent("ann"), "--witness", &stage.swarm),
            3,
            "witness",
        ),
        (
            with(stage.send("ann", "bob"), "--payload", Path::new("[1]")),
            2,
            "expected a JSON object",
        ),
        (
            with(stage.send("ann", "bob"), "--payload", Path::new("@none")),
            2,
            "none: ",
        ),
        (
            with(stage.send("ann", "bob"), "--payload", Path::new("{")),
            2,
            "--payload:1:",
        ),
        (stage.send("ann", "ann"), 2, "to itself"),
        (stage.send("ann", "eve"), 2, "no agent `eve`"),
        (
            with(
                stage.send("ann", "bob"),
                "--performative",
                Path::new("sing"),
            ),
            2,
            "sing",
        ),
        (
            with(stage.send("ann", "bob"), "--patience", Path::new("1ms")),
            3,
            "no link to `bob`",
        ),
    ] {
        let (found, stdout, stderr) = run(&mut command);
        assert_eq!((found, stdout.as_str()), (code, ""), "{said}: {stderr}");
        assert!(
            stderr.starts_with("error: ") && stderr.contains(said),
            "{said}: {stderr}"
        );
        // The command line's own errors show its usage too.
        let lines = stderr.lines().take_while(|line| !line.is_empty()).count();
        assert!(lines <= 2, "{stderr}");
    }
}

fn with(mut command: std::process::Command, flag: &str, value: &Path) -> std::process::Command {
    command.arg(flag).arg(value);
    command
}

#[test]
fn who_reads_no_more_ends_the_agent_cleanly() {
    let stage = Stage::new(&["ann", "bob"]);
    let bob = Program::start(&mut stage.agent("bob"));
    // `head` goes away after two lines; the third one breaks the pipe.
    let command = format!(
        "exec 3<&0; {} agent --id ann --signal {} --swarm {} --stay <&3 | head -2",
        env!("CARGO_BIN_EXE_ifswarm"),
        stage.url,
        stage.swarm.display()
    );
    let mut ann = Program::start(
        std::process::Command::new("bash").args(["-c", &format!("set -o pipefail; {command}")]),
    );
    assert_eq!(ann.json()["event"], "ready");
    assert_eq!(ann.json()["event"], "peer");
    ann.say("bob", &json!({}));
    ann.say("bob", &json!({}));
    bob.event("message");
    // It has left, and said goodbye.
    loop {
        let event = bob.event("peer");
        if event["state"] == "down" {
            assert_eq!(event["reason"], "goodbye", "{event}");
            break;
        }
    }
    let ended = ann.end();
    assert_eq!((ended.code, ended.log.as_str()), (0, ""));
    bob.end();
}

#[test]
fn an_agent_that_is_to_stay_stays_after_its_input_until_it_is_told() {
    let stage = Stage::new(&["ann", "bob"]);
    for signal in ["TERM", "INT"] {
        let mut ann = Program::start(stage.agent("ann").arg("--stay"));
        ann.close_input();
        let mut bob = Program::start(&mut stage.agent("bob"));
        bob.say("ann", &json!({ "still": "there?" }));
        assert_eq!(ann.event("message")["message"]["source"], "bob");
        bob.event("acked");
        ann.kill(signal);
        let ended = ann.end();
        assert_eq!((ended.code, ended.log.as_str()), (0, ""), "{signal}");
        loop {
            let event = bob.event("peer");
            if event["state"] == "down" {
                assert_eq!(event["reason"], "goodbye");
                break;
            }
        }
        assert_eq!(bob.end().code, 0);
    }
}

#[test]
fn the_end_of_the_input_waits_for_acknowledgements_and_says_which_never_came() {
    let stage = Stage::new(&["ann", "bob"]);
    let mut ann = Program::start(&mut stage.agent("ann"));
    let bob = Program::start(&mut stage.agent("bob"));
    for n in 0..100 {
        ann.say("bob", &json!({ "n": n }));
    }
    let ended = ann.end();
    assert_eq!(ended.code, 0, "{}", ended.log);
    assert_eq!(ended.events("sent").len(), 100);
    assert_eq!(ended.events("acked").len(), 100, "each by its id");
    let ids = |name| -> BTreeSet<String> {
        let events = ended.events(name);
        events.iter().map(|event| event["id"].to_string()).collect()
    };
    assert_eq!(ids("sent"), ids("acked"));
    // A peer that is stopped acknowledges nothing.
    let mut ann = Program::start(&mut stage.agent("ann"));
    while ann.event("peer")["state"] != "up" {}
    bob.kill("STOP");
    ann.say("bob", &json!({}));
    let id = ann.event("sent")["id"].clone();
    let ended = ann.end();
    bob.kill("CONT");
    assert_eq!(ended.code, 3);
    assert!(
        ended.log.starts_with("error: 1 of the messages"),
        "{}",
        ended.log
    );
    assert!(
        ended.events("acked").iter().all(|event| event["id"] != id),
        "{:?}",
        ended.lines
    );
    bob.end();
}

#[test]
fn send_tells_of_the_acknowledgement_and_of_the_reply_and_a_refusal_is_1() {
    let stage = Stage::new(&["ann", "bob", "zoe"]);
    let payload = stage.path("payload.json");
    fs::write(&payload, r#"{ "from": "a file" }"#).unwrap();
    let mut bob = Program::start(&mut stage.agent("bob"));
    // Nothing but the acknowledgement.
    let file = format!("@{}", payload.display());
    let mut send = stage.send("ann", "bob");
    let (code, stdout, stderr) = run(send.args(["--json", "--payload", &file]));
    assert_eq!(code, 0, "{stderr}");
    let told: Value = serde_json::from_str(&stdout).unwrap();
    let heard = bob.event("message")["message"].take();
    assert_eq!(told["id"], heard["id"]);
    assert_eq!(
        (&told["destination"], &told["acked"]),
        (&json!("bob"), &json!(true))
    );
    assert!(told.get("reply").is_none() && told["elapsed_ms"].is_number());
    assert_eq!(heard["payload"], json!({ "from": "a file" }));
    assert_eq!(heard["performative"], "inform");
    let names: Vec<_> = told.as_object().unwrap().keys().collect();
    assert_eq!(names, ["acked", "destination", "elapsed_ms", "id"]);
    // Replies.
    for (performative, expected) in [("inform", 0), ("refuse", 1), ("failure", 1)] {
        let mut send = stage.send("ann", "bob");
        send.args(["--await-reply", "60s", "--json", "--payload", "-"]);
        let mut send = Program::start(&mut send);
        use std::io::Write;
        let mut stdin = send.stdin.take().unwrap();
        stdin.write_all(b"{\"text\":\"done?\"}").unwrap();
        drop(stdin);
        let asked = bob.event("message")["message"].take();
        assert_eq!(asked["performative"], "request");
        assert_eq!(asked["payload"]["text"], "done?");
        for performative in ["agree", performative] {
            let reply = json!({
                "destination": "ann", "performative": performative,
                "in_reply_to": asked["id"], "payload": { "was": performative },
            });
            bob.write(&reply.to_string());
        }
        let ended = send.end();
        assert_eq!((ended.code, ended.log.as_str()), (expected, ""));
        let told: Value = serde_json::from_str(&ended.lines.concat()).unwrap();
        assert_eq!(told["id"], asked["id"]);
        assert_eq!(told["reply"]["performative"], performative);
        let reply = told["reply"].to_string();
        verify(reply.as_bytes(), &roster(&["ann", "bob"])).unwrap();
    }
    // For people.
    let (code, stdout, _) = run(&mut stage.send("ann", "bob"));
    assert!(code == 0 && stdout.starts_with("bob has it: "), "{stdout}");
    // No answer, and nobody there.
    let mut send = stage.send("ann", "bob");
    let (code, stdout, stderr) = run(send.args(["--await-reply", "1ms"]));
    assert_eq!((code, stdout.as_str()), (3, ""));
    assert!(stderr.contains("has not answered within 1 ms"), "{stderr}");
    assert_eq!(bob.end().code, 0);
}

#[test]
fn agents_and_send_join_over_tls_with_the_authority_they_are_told_to_believe() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new(folder.path(), "authority", "ours");
    let shown = authority.certify("server", &["127.0.0.1"], Valid::Now);
    let mut server = Running::signal(&[
        "--open",
        "--listen",
        "127.0.0.1:0",
        "--tls-cert",
        shown.cert.to_str().unwrap(),
        "--tls-key",
        shown.key.to_str().unwrap(),
    ]);
    let line = server.line();
    let url = line.strip_prefix("listening on ").unwrap();
    let joining = |verb: &str| {
        let mut command = ifswarm();
        command.args([verb, "--signal", url, "--swarm-name", "secured"]);
        command
    };
    let mut bob = joining("agent");
    bob.args(["--id", "bob", "--ca"]).arg(&authority.path);
    let bob = Program::start(&mut bob);
    bob.event("ready");
    let send = || {
        let mut send = joining("send");
        send.args(["--as", "ann", "--to", "bob", "--payload", r#"{"x":1}"#]);
        send
    };
    let (code, _, stderr) = run(&mut send());
    assert_eq!(code, 3);
    assert!(stderr.contains("--ca FILE"), "{stderr}");
    let (code, _, stderr) = run(send().arg("--ca").arg(&authority.path));
    assert_eq!(code, 0, "{stderr}");
    assert_eq!(bob.event("message")["message"]["payload"]["x"], 1);
    assert_eq!(bob.end().code, 0);
}

#[test]
fn a_later_process_of_the_same_agent_takes_its_place_and_the_earlier_one_says_so() {
    let stage = Stage::new(&["ann", "bob"]);
    let first = Program::start(stage.agent("ann").arg("--stay"));
    first.event("ready");
    let second = Program::start(&mut stage.agent("ann"));
    second.event("ready");
    let error = first.event("error");
    assert!(
        error["message"].as_str().unwrap().contains("later process"),
        "{error}"
    );
    let id = first.id().to_string();
    let ended = first.end();
    assert_eq!(ended.code, 3);
    assert!(
        ended.log.starts_with("error: a later process"),
        "{}",
        ended.log
    );
    gone(&id);
    assert_eq!(second.end().code, 0);
}

fn roster(ids: &[&str]) -> Roster {
    let agents = ids.iter().map(|id| FixtureAgent::new(id));
    Roster::new(agents.map(|agent| (agent.id.clone(), agent.public_key()))).unwrap()
}

/// The entries of an agent's log, which is checked first.
fn entries(folder: &Path, id: &str) -> Vec<Value> {
    let log = folder.join("staged").join(id);
    witness::check(&log).expect("a good witness");
    let text = fs::read_to_string(log.join(witness::ENTRIES_FILE)).unwrap();
    let entries = text.lines().map(serde_json::from_str);
    entries.map(Result::unwrap).collect()
}

/// Messages from each to each: ten thousand in all.
const EACH: u64 = 500;
