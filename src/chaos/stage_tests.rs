//! The loop of a run, with processes that do no more than live, or end.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::account;
use super::conditions::Conditions;
use super::process::{Heard, Who};
use super::record::{Record, Written};
use super::report::LinkSums;
use super::run::Options;
use super::said::{Setting, Vitals};
use super::scenario::{Fault, Scenario, What};
use super::stage::Stage;
use crate::bench::Quiet;

/// What a run needs to begin, with a shell that runs this script for every process.
struct Run {
    scenario: Scenario,
    options: Options,
    _folder: tempfile::TempDir,
}

impl Run {
    fn of(script: &str) -> Self {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("swarms/chaos/short.yaml");
        let folder = tempfile::tempdir().unwrap();
        Self {
            scenario: Scenario::read(&file).unwrap(),
            options: Options {
                seed: 1,
                length: None,
                program: PathBuf::from("/bin/sh"),
                globals: vec!["-c".into(), script.into()],
                folder: folder.path().join("run"),
                outbox: false,
                progress: Arc::new(Quiet),
            },
            _folder: folder,
        }
    }

    fn stage(&self) -> Stage<'_> {
        let folder = self.options.folder.clone();
        Stage::new(&self.scenario, &self.options, folder, None).unwrap()
    }

    /// With every agent started, and this fault to come.
    fn stage_with(&self, what: What) -> Stage<'_> {
        let mut stage = self.stage();
        for agent in 0..stage.agents.len() {
            stage.start_agent(agent).unwrap();
        }
        stage.records = vec![Record::new(Fault {
            at: Duration::ZERO,
            lasts: Duration::ZERO,
            what,
        })];
        stage
    }
}

/// Every lane delivers a message that was offered since all that has happened.
fn deliver_on_all(stage: &mut Stage<'_>, written: Option<Written>) {
    for lane in stage.lanes.clone() {
        let number = stage.ledger.next(&lane);
        stage.note_delivered(lane, number, written, Instant::now());
    }
}

#[tokio::test]
async fn who_ends_before_it_is_ready_could_not_register_if_no_server_was_there_and_it_says_so() {
    // It says no more, and is still there for a moment.
    let slow = "exec >&-; sleep 0.2; exit 3";
    for (script, server_is_there, fails) in [
        ("exit 3", false, false),
        (slow, false, false),
        ("exit 3", true, true),
        ("exit 101", false, true),
        ("exit 2", false, true),
        ("kill -KILL $$", false, true),
    ] {
        let run = Run::of(script);
        let mut stage = run.stage();
        stage.server_since = server_is_there.then(Instant::now);
        stage.start_agent(0).unwrap();
        let has_ended = |stage: &Stage<'_>| stage.agents[0].process.is_none();
        let ended = stage.until(Instant::now() + PATIENCE, has_ended).await;
        assert!(ended.unwrap());
        let failures = &stage.failures;
        assert_eq!(!failures.is_empty(), fails, "{script}: {failures:?}");
    }
}

#[tokio::test]
async fn conditions_have_healed_when_agents_tell_after_the_end_that_they_have_them_no_more() {
    // What they are told is in their logs.
    let run = Run::of("cat >&2");
    let ids = run.scenario.swarm.ids();
    let mut stage = run.stage_with(What::Conditions {
        between: Some((ids[0].clone(), ids[1].clone())),
        conditions: Conditions::named("satellite").unwrap(),
    });
    stage.begin(0).await.unwrap();
    stage.end(0).unwrap();
    deliver_on_all(&mut stage, None);
    assert_eq!(stage.healing.took(0), None, "messages flow under them, too");

    let mut process = stage.agents[0].process.take().unwrap();
    process.close();
    assert!(process.end(PATIENCE).await.unwrap().success());
    let told = fs::read_to_string(stage.place.log(ids[0].as_str())).unwrap();
    let told: Vec<serde_json::Value> = told
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let tags: Vec<_> = told.iter().map(|order| order["vitals"].as_u64()).collect();
    assert_eq!(tags, [Some(0), None, Some(1), None, Some(2)], "{told:?}");

    let answer = |seed: Option<u64>| Vitals {
        tag: 2,
        settings: seed
            .map(|seed| {
                let struck = Default::default();
                (ids[1].clone(), Setting { seed, struck })
            })
            .into_iter()
            .collect(),
        ..Vitals::default()
    };
    let ordered = told[1]["conditions"]["seed"].as_u64();
    stage.hear_vitals(0, &answer(ordered));
    // The other end is no more, and has no conditions.
    stage.forget(1);
    assert_eq!(stage.healing.took(0), None, "it has them still");
    stage.hear_vitals(0, &answer(Some(12_345)));
    assert!(stage.healing.took(0).is_some());
}

#[tokio::test]
async fn a_jump_has_healed_when_messages_say_the_right_time_again() {
    let run = Run::of("cat >&2");
    let agent = run.scenario.swarm.ids()[0].clone();
    let by_ms = 3_600_000;
    let mut stage = run.stage_with(What::Clock { agent, by_ms });
    stage.begin(0).await.unwrap();
    let written = |off| Written {
        offered_ms: 1_000_000_000,
        says_ms: 1_000_000_001 + off,
        now_ms: 1_000_000_002,
    };
    deliver_on_all(&mut stage, Some(written(0)));
    assert!(!stage.records[0].took_place());
    deliver_on_all(&mut stage, Some(written(by_ms)));
    assert!(stage.records[0].took_place());
    stage.end(0).unwrap();
    deliver_on_all(&mut stage, Some(written(by_ms)));
    deliver_on_all(&mut stage, None);
    assert_eq!(stage.healing.took(0), None);
    deliver_on_all(&mut stage, Some(written(0)));
    assert!(stage.healing.took(0).is_some());
}

#[tokio::test]
async fn an_agent_of_which_the_server_has_let_go_is_registered_again_when_both_say_so() {
    let run = Run::of("cat >&2");
    let agent = run.scenario.swarm.ids()[0].clone();
    let mut stage = run.stage_with(What::Freeze(agent.clone()));
    stage.start_server().unwrap();
    let by_server = |verb: &str| (Who::Server, format!("{verb} {agent}"));
    let by_agent = |state: &str| {
        let line = format!(r#"{{"event":"signaling","state":"{state}"}}"#);
        (Who::Agent(0), line)
    };
    for (said, is_registered) in [
        (by_agent("back"), false),
        (by_server("registered"), true),
        (by_server("left"), false),
    ] {
        hear(&mut stage, said).await;
        assert_eq!(stage.has_registered(0), is_registered);
    }
    stage.begin(0).await.unwrap();
    stage.end(0).unwrap();
    deliver_on_all(&mut stage, None);
    assert_eq!(stage.healing.took(0), None);
    // In whichever order the two pipes are read.
    hear(&mut stage, by_server("registered")).await;
    hear(&mut stage, by_agent("lost")).await;
    assert!(!stage.has_registered(0));
    hear(&mut stage, by_agent("back")).await;
    assert!(stage.has_registered(0) && stage.healing.took(0).is_some());
}

#[tokio::test]
async fn a_pair_whose_every_draft_is_refused_fails_the_run() {
    let run = Run::of("exit 0");
    let mut stage = run.stage();
    let ids = run.scenario.swarm.ids();
    let number = stage.ledger.offer(&(0, 1));
    stage.ledger.refused(&(0, 1), number);
    let report = account::told(&mut stage, Duration::from_secs(1), LinkSums::default());
    let silent = format!(
        "none of 1 messages offered from {} to {} was delivered",
        ids[0], ids[1]
    );
    assert_eq!(report.failures, [silent]);
}

async fn hear(stage: &mut Stage<'_>, (who, line): (Who, String)) {
    let heard = Heard {
        who,
        life: 1,
        at: Instant::now(),
        line: Some(line),
    };
    stage.hear(heard).await.unwrap();
}

/// Far longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);
