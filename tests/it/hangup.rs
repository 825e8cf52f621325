//! A terminal that is closed ends what ran in it as Ctrl-C does, unless nohup(1) had it stay; so does
//! Ctrl-\.

use std::process::Command;

use serde_json::json;

use crate::program::{Program, Stage};

#[test]
fn an_agent_whose_terminal_is_closed_or_wants_it_to_quit_says_goodbye() {
    for signal in ["HUP", "QUIT"] {
        let stage = Stage::new(&["ann", "bob"]);
        let (ann, bob) = linked(&stage, "");
        ann.kill(signal);
        let down = bob.event("peer");
        assert_eq!(down["state"], "down");
        assert_eq!(down["reason"], "goodbye");
        assert_eq!(ann.end().code, 0);
        assert_eq!(bob.end().code, 0);
    }
}

#[test]
fn an_agent_that_was_started_to_outlive_its_terminal_does() {
    let stage = Stage::new(&["ann", "bob"]);
    let (mut ann, bob) = linked(&stage, "trap '' HUP;");
    ann.kill("HUP");
    ann.say("bob", &json!({ "still": "here" }));
    assert_eq!(bob.event("message")["message"]["payload"]["still"], "here");
    assert_eq!(ann.end().code, 0);
    assert_eq!(bob.end().code, 0);
}

/// Ann, started by a shell that does something first, and Bob.
fn linked(stage: &Stage, first: &str) -> (Program, Program) {
    let bob = Program::start(&mut stage.agent("bob"));
    let agent = stage.agent("ann");
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("{first} exec \"$@\""), "sh"]);
    shell.arg(agent.get_program()).args(agent.get_args());
    let ann = Program::start(&mut shell);
    for live in [&ann, &bob] {
        assert_eq!(live.event("peer")["state"], "up");
    }
    (ann, bob)
}
