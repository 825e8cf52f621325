//! `agent --exec`: a child program at the pipes, started again, held up, logged, and ended with all
//! its own children.

use std::fs;
use std::path::PathBuf;

use serde_json::json;

use crate::program::{Program, Stage, gone, kill, lives};

#[test]
fn a_program_that_fails_is_started_again_and_greeted_anew_and_its_errors_are_logged() {
    let stage = Stage::new(&["ann", "bob"]);
    let bob = Program::start(&mut stage.agent("bob"));
    // The first life says so on standard error and fails; the second one speaks.
    let marker = stage.path("lived");
    let program = format!(
        r#"read ready
           case "$ready" in *'"event":"ready"'*) ;; *) exit 9 ;; esac
           if test ! -e {0}; then touch {0}; echo "first life" >&2; exit 7; fi
           echo '{{"destination":"bob","payload":{{"life":2}}}}'
           cat >/dev/null"#,
        marker.display()
    );
    let ann = Program::start(&mut stage.exec("ann", &program));
    assert!(ann.logged("first life").contains("ann: first life"));
    assert!(ann.logged("started again").contains("exit status: 7"));
    assert_eq!(bob.event("message")["message"]["payload"]["life"], 2);
    ann.kill("TERM");
    assert_eq!(ann.end().code, 0);
    bob.end();
}

#[test]
fn a_program_that_ends_with_0_has_done_its_work_and_the_agent_leaves() {
    let stage = Stage::new(&["ann", "bob"]);
    let bob = Program::start(&mut stage.agent("bob"));
    let program = r#"echo '{"destination":"bob","payload":{"last":"words"}}'"#;
    let ann = Program::start(&mut stage.exec("ann", program));
    assert_eq!(bob.event("message")["message"]["payload"]["last"], "words");
    let ended = ann.end();
    assert_eq!((ended.code, ended.lines.len()), (0, 0), "{}", ended.log);
    bob.end();
}

/// An agent whose program is deaf until there is a first file; then it keeps what comes in the second.
fn deaf(stage: &Stage, id: &str) -> (Program, PathBuf, PathBuf) {
    let (go, done) = (stage.path("go"), stage.path("done"));
    let program = format!(
        "while test ! -e {}; do sleep 0.05; done; cat >{}",
        go.display(),
        done.display()
    );
    (Program::start(&mut stage.exec(id, &program)), go, done)
}

#[test]
fn who_writes_to_a_program_that_does_not_read_is_held_up_and_loses_nothing() {
    let stage = Stage::new(&["ann", "bob", "zoe"]);
    let (deaf, go, done) = deaf(&stage, "bob");
    let mut ann = Program::start(&mut stage.agent("ann"));
    let mut zoe = Program::start(&mut stage.agent("zoe"));
    let mut stdin = ann.stdin.take().unwrap();
    let writer = std::thread::spawn(move || {
        use std::io::Write;
        let padding = "x".repeat(8_000);
        for n in 0..MANY {
            let draft = json!({ "destination": "bob", "payload": { "n": n, "pad": padding } });
            writeln!(stdin, "{draft}").unwrap();
        }
        stdin
    });
    // Ann's process is alive all the while, as zoe's messages show; rounds of them go by until it
    // has sent nothing more to bob in one.
    let (mut sent, mut told) = (0, None);
    loop {
        for n in 0..500 {
            zoe.say("ann", &json!({ "n": n }));
        }
        let (before, mut heard) = (sent, 0);
        while heard < 500 {
            let event = ann.json();
            match event["event"].as_str().unwrap() {
                "message" => heard += 1,
                "sent" => sent += 1,
                "error" => told = Some((event, sent)),
                _ => {}
            }
        }
        if sent == before && sent > 0 {
            break;
        }
    }
    assert!(sent < MANY, "nobody was held up");
    // Its own program is told so, once for the draft that waits.
    while told.is_none() {
        let event = ann.json();
        match event["event"].as_str().unwrap() {
            "error" => told = Some((event, sent)),
            "sent" => sent += 1,
            _ => {}
        }
    }
    let (told, before) = told.unwrap();
    assert_eq!(told["line"], before + 1);
    assert_eq!(told["waits"], true, "{told}");
    let text = told["message"].as_str().unwrap();
    assert!(text.contains("`bob` takes no more messages"), "{text}");
    // Now it reads; then all of it goes through, in order.
    fs::write(&go, "").unwrap();
    let stdin = writer.join().unwrap();
    while sent < MANY {
        if ann.json()["event"] == "sent" {
            sent += 1;
        }
    }
    drop(stdin);
    assert_eq!(ann.end().code, 0);
    deaf.kill("TERM");
    assert_eq!(deaf.end().code, 0);
    let kept = fs::read_to_string(&done).unwrap();
    let lines = kept
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let messages = lines.filter(|line| line["event"] == "message");
    let heard: Vec<_> = messages
        .map(|line| line["message"]["payload"]["n"].as_u64().unwrap())
        .collect();
    assert_eq!(heard, (0..MANY).collect::<Vec<_>>());
    zoe.end();
}

#[test]
fn what_is_said_to_others_does_not_wait_behind_a_program_that_does_not_read() {
    let stage = Stage::new(&["ann", "bob", "zoe"]);
    let (deaf, go, done) = deaf(&stage, "bob");
    let mut ann = Program::start(&mut stage.agent("ann"));
    let zoe = Program::start(&mut stage.agent("zoe"));
    let padding = "x".repeat(8_000);
    let mut count = 0;
    loop {
        ann.say("bob", &json!({ "n": count, "pad": padding }));
        count += 1;
        let told = loop {
            let event = ann.json();
            if event["event"] == "sent" || event["event"] == "error" {
                break event;
            }
        };
        if told["waits"] == true {
            break;
        }
    }
    for n in 0..10 {
        ann.say("bob", &json!({ "n": count + n }));
        ann.say("zoe", &json!({ "n": n }));
    }
    ann.say("nobody", &json!({}));
    for n in 0..10 {
        assert_eq!(zoe.event("message")["message"]["payload"]["n"], n);
    }
    assert_eq!(ann.event("error")["line"], count + 21);
    fs::write(&go, "").unwrap();
    assert_eq!(ann.end().code, 0);
    deaf.kill("TERM");
    assert_eq!(deaf.end().code, 0);
    let kept = fs::read_to_string(&done).unwrap();
    let lines = kept.lines();
    let lines = lines.map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let messages = lines.filter(|line| line["event"] == "message");
    let heard: Vec<_> = messages
        .map(|line| line["message"]["payload"]["n"].as_u64().unwrap())
        .collect();
    assert_eq!(heard, (0..count + 10).collect::<Vec<_>>());
    zoe.end();
}

#[test]
fn a_program_is_ended_with_its_own_children_however_the_agent_is_told() {
    let stage = Stage::new(&["ann", "bob"]);
    let pids = stage.path("pids");
    // Neither listens to anything, and the child would outlive its parent.
    let program = format!(
        "trap '' TERM; (trap '' TERM; while :; do sleep 60; done) & echo $$ $! >{0}.new; mv {0}.new {0}; while :; do sleep 60; done",
        pids.display()
    );
    let ann = Program::start(&mut stage.exec("ann", &program));
    let two = loop {
        if let Ok(text) = fs::read_to_string(&pids) {
            break text;
        }
        std::thread::yield_now();
    };
    let two: Vec<_> = two.split_whitespace().map(str::to_owned).collect();
    assert!(two.len() == 2 && two.iter().all(|pid| lives(pid)));
    ann.kill("TERM");
    assert_eq!(ann.end().code, 0);
    for pid in &two {
        gone(pid);
    }
}

#[test]
fn a_program_that_is_killed_leaves_no_children_to_the_next_one() {
    let stage = Stage::new(&["ann", "bob"]);
    let pids = stage.path("pids");
    let program = format!(
        "sleep 600 & echo $$ $! >>{}; while read line; do :; done",
        pids.display()
    );
    let ann = Program::start(&mut stage.exec("ann", &program));
    let lives_of = |n| loop {
        let text = fs::read_to_string(&pids).unwrap_or_default();
        if let Some(line) = text
            .split_inclusive('\n')
            .nth(n)
            .filter(|l| l.ends_with('\n'))
        {
            let two = line.split_whitespace().map(str::to_owned);
            break two.collect::<Vec<_>>();
        }
        std::thread::yield_now();
    };
    let first = lives_of(0);
    kill("KILL", &first[0]);
    let second = lives_of(1);
    gone(&first[1]);
    ann.kill("INT");
    assert_eq!(ann.end().code, 0);
    gone(&second[0]);
    gone(&second[1]);
}

/// Drafts of 8 kB: more than all pipes and queues on the way hold.
const MANY: u64 = 6_000;
