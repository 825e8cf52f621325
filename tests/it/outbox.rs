//! What `send` accepted arrives once and in order, whoever is away, slow or killed meanwhile: real
//! processes, real links, real kills.

use std::path::Path;
use std::sync::Arc;

use ifswarm::agent::{Agent, AgentEvent, SendError};
use ifswarm::mesh::{self, OutboxLimits};
use ifswarm::signal::Admission;
use serde_json::{Value, json};

use crate::live::{builder, say as draft, serve, within};
use crate::program::{Program, Stage, gone};

/// An agent with an outbox on disk, that stays.
fn start(stage: &Stage, id: &str) -> Program {
    let mut command = stage.agent(id);
    command.arg("--stay");
    command.arg("--outbox").arg(stage.path("outbox"));
    command.arg("--witness").arg(stage.path("witness"));
    Program::start(&mut command)
}

/// Kills it, and waits until it has let go of its folders.
fn killed(program: Program) {
    program.kill("KILL");
    gone(&program.id().to_string());
}

fn say(program: &mut Program, to: &str, n: u64) {
    program.say(to, &json!({ "n": n }));
}

/// The numbers of the messages that come next.
fn numbers(program: &Program, count: u64) -> Vec<u64> {
    (0..count)
        .map(|_| {
            program.event("message")["message"]["payload"]["n"]
                .as_u64()
                .unwrap()
        })
        .collect()
}

fn linked(program: &Program) {
    while program.event("peer")["state"] != "up" {}
}

#[test]
fn what_was_accepted_for_one_that_is_away_goes_out_after_a_kill_in_the_same_session() {
    let stage = Stage::new(&["ann", "bob"]);
    let mut ann = start(&stage, "ann");
    let session = ann.event("ready")["session"].clone();
    let bob = start(&stage, "bob");
    linked(&ann);
    linked(&bob);
    killed(bob);
    for n in 1..=20 {
        say(&mut ann, "bob", n);
    }
    for _ in 1..=20 {
        assert_eq!(ann.event("sent")["destination"], "bob");
    }
    killed(ann);
    let mut ann = start(&stage, "ann");
    assert_eq!(ann.event("ready")["session"], session, "it goes on");
    let bob = start(&stage, "bob");
    say(&mut ann, "bob", 21);
    assert_eq!(numbers(&bob, 21), Vec::from_iter(1..=21));
    ann.kill("TERM");
    assert_eq!(ann.end().code, 0);
    bob.kill("TERM");
    let ended = bob.end();
    assert_eq!(ended.code, 0);
    assert!(ended.events("message").is_empty(), "{:?}", ended.lines);
}

#[test]
fn a_receiver_that_is_killed_again_and_again_gets_everything_once_and_in_order() {
    const EACH: u64 = 40;
    let stage = Stage::new(&["ann", "bob"]);
    let mut ann = start(&stage, "ann");
    let mut came = Vec::new();
    let mut sent = 0;
    for _ in 0..4 {
        let bob = start(&stage, "bob");
        linked(&ann);
        for _ in 0..EACH {
            sent += 1;
            say(&mut ann, "bob", sent);
        }
        // Some of them; others are with it, or on their way, when it is killed.
        came.extend(numbers(&bob, EACH / 2));
        bob.kill("KILL");
        // What it had written by then, its program has.
        while let Some(line) = bob.line() {
            let event: Value = serde_json::from_str(&line).unwrap();
            if event["event"] == "message" {
                came.push(event["message"]["payload"]["n"].as_u64().unwrap());
            }
        }
        gone(&bob.id().to_string());
    }
    let bob = start(&stage, "bob");
    came.extend(numbers(&bob, sent - came.len() as u64));
    assert_eq!(came, Vec::from_iter(1..=sent));
    bob.kill("TERM");
    ann.kill("TERM");
    assert_eq!((ann.end().code, bob.end().code), (0, 0));
}

#[test]
fn a_program_that_did_not_read_a_message_gets_it_after_the_restart() {
    let stage = Stage::new(&["ann", "bob"]);
    let mut ann = start(&stage, "ann");
    // Reads its greeting and no more.
    let mut command = stage.exec("bob", "read greeting; exec sleep 1000");
    command.arg("--outbox").arg(stage.path("outbox"));
    let bob = Program::start(&mut command);
    linked(&ann);
    let long = "x".repeat(50_000);
    for n in 1..=5 {
        ann.say("bob", &json!({ "n": n, "long": long }));
    }
    // The first fits into the pipe, or into none: not all do.
    assert_eq!(ann.event("acked")["destination"], "bob");
    bob.kill("TERM");
    bob.end();
    let bob = start(&stage, "bob");
    // The second may have been in the pipe, whole or in part; the others never were.
    let mut came = numbers(&bob, 3);
    if came[0] == 2 {
        came.remove(0);
        came.extend(numbers(&bob, 1));
    }
    assert_eq!(came, [3, 4, 5]);
    bob.kill("TERM");
    ann.kill("TERM");
}

#[test]
fn what_nobody_comes_for_is_given_back_and_witnessed() {
    let stage = Stage::with(&["ann", "bob"], "outbox: { keep: 200ms }\n");
    let witness = stage.path("witness");
    let mut ann = Program::start(stage.agent("ann").arg("--witness").arg(&witness));
    let bob = Program::start(&mut stage.agent("bob"));
    linked(&ann);
    killed(bob);
    say(&mut ann, "bob", 1);
    let id = ann.event("sent")["id"].clone();
    let given_back = ann.event("undelivered");
    assert_eq!(
        (&given_back["id"], &given_back["reason"]),
        (&id, &json!("expired"))
    );
    let ended = ann.end();
    assert_eq!(ended.code, 3, "{}", ended.log);
    let entry = entries(&witness, "ann")
        .into_iter()
        .find(|entry| entry["event"] == "ifmessage_undelivered")
        .unwrap();
    assert_eq!(entry["metadata"]["reason"], "expired");
    assert_eq!(entry["peer_id"], "bob");
}

#[test]
fn what_was_kept_for_one_that_the_swarm_file_no_longer_links_is_given_back_at_the_start() {
    let stage = Stage::new(&["hub", "ann", "bob"]);
    let mut ann = start(&stage, "ann");
    let bob = start(&stage, "bob");
    linked(&ann);
    killed(bob);
    say(&mut ann, "bob", 1);
    assert_eq!(ann.event("sent")["destination"], "bob");
    killed(ann);
    let file = stage.path("swarm.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text + "topology: hub-spoke\n").unwrap();
    // The second start finds nothing any more that it would have to give back.
    for _ in 0..2 {
        let ann = start(&stage, "ann");
        ann.event("ready");
        ann.kill("TERM");
        let ended = ann.end();
        assert_eq!(ended.code, 0, "{}", ended.log);
    }
    let entries = entries(&stage.path("witness"), "ann");
    let given_back = entries
        .iter()
        .filter(|entry| entry["event"] == "ifmessage_undelivered");
    let given_back: Vec<_> = given_back
        .map(|entry| (&entry["peer_id"], &entry["metadata"]["reason"]))
        .collect();
    assert_eq!(given_back, [(&json!("bob"), &json!("no-neighbour"))]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_sends_more_than_is_kept_waits_or_is_told_and_an_acknowledgement_makes_room() {
    within(async {
        let server = serve(Admission::Open).await;
        let folder = tempfile::tempdir().unwrap();
        let start = async |id: &str| {
            let limits = OutboxLimits {
                messages: 2,
                ..OutboxLimits::default()
            };
            let builder = builder(id, &server.url(), folder.path());
            builder.outbox_limits(limits).start().await.unwrap()
        };
        let (ann, bob) = (start("ann").await, start("bob").await);
        let mut inbox = bob.subscribe();
        ann.linked(1).await.unwrap();
        let receipt = ann.send_acked(draft("bob", "first")).await.unwrap();
        assert_eq!(receipt.sequence_num, 1);

        // Many at once: each waits for its turn, and none is lost.
        let many = (0..50).map(|n| ann.send(draft("bob", &n.to_string())));
        for sent in futures_util::future::join_all(many).await {
            sent.unwrap();
        }
        // Faster than a peer can acknowledge.
        let refused = (0..1000).find_map(|_| ann.try_send(draft("bob", "more")).err());
        let full = mesh::SendError::Full {
            peer: bob.id().clone(),
        };
        assert_eq!(refused, Some(SendError::Mesh(full)));
        ann.send_acked(draft("bob", "last")).await.unwrap();
        let mut numbers = Vec::new();
        loop {
            if let Some(AgentEvent::Message(message)) = inbox.recv().await {
                numbers.push(message.sequence_num());
                if message.payload()["text"] == "last" {
                    break;
                }
            }
        }
        assert_eq!(numbers, Vec::from_iter(1..=numbers.len() as u64));
        ann.shutdown("done").await.unwrap();
        bob.shutdown("done").await.unwrap();
        server.shutdown().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_comes_before_anybody_listens_waits_and_is_not_taken() {
    within(async {
        let server = serve(Admission::Open).await;
        let folder = tempfile::tempdir().unwrap();
        let start = async |id: &str| {
            let builder = builder(id, &server.url(), folder.path());
            let builder = builder.outbox(Some(folder.path().join("outbox")));
            builder.start().await.unwrap()
        };
        let (ann, bob) = (start("ann").await, start("bob").await);
        // Who waits for links, or for acknowledgements, takes no message.
        ann.linked(1).await.unwrap();
        bob.linked(1).await.unwrap();
        ann.send(draft("bob", "early")).await.unwrap();
        let has_come = async |bob: &Agent| {
            while bob.stats().delivered == 0 {
                tokio::task::yield_now().await;
            }
        };
        has_come(&bob).await;
        bob.shutdown("nobody has listened").await.unwrap();

        // So it comes again, and waits for who is slow to listen.
        let bob = start("bob").await;
        has_come(&bob).await;
        let mut inbox = bob.subscribe();
        let mut next = async || loop {
            if let Some(AgentEvent::Message(message)) = inbox.recv().await {
                break message.payload()["text"].clone();
            }
        };
        assert_eq!(next().await, "early");
        let (acked, text) = tokio::join!(ann.send_acked(draft("bob", "late")), next());
        assert_eq!((acked.unwrap().sequence_num, text), (2, "late".into()));
        ann.shutdown("done").await.unwrap();
        bob.shutdown("done").await.unwrap();
        server.shutdown().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_of_many_callers_are_numbered_without_a_gap_and_arrive_in_that_order() {
    within(async {
        let server = serve(Admission::Open).await;
        let folder = tempfile::tempdir().unwrap();
        let start = async |id: &str| {
            let builder = builder(id, &server.url(), folder.path());
            Arc::new(builder.start().await.unwrap())
        };
        let (ann, bob) = (start("ann").await, start("bob").await);
        let mut inbox = bob.subscribe();
        ann.linked(1).await.unwrap();

        // Tasks that wait for their turn, and threads that do not.
        let mut callers = tokio::task::JoinSet::new();
        for _ in 0..4 {
            let (patient, hasty) = (Arc::clone(&ann), Arc::clone(&ann));
            callers.spawn(async move {
                for _ in 0..EACH {
                    patient.send(draft("bob", "turn")).await.unwrap();
                }
            });
            callers.spawn_blocking(move || {
                for _ in 0..EACH {
                    hasty.try_send(draft("bob", "no turn")).unwrap();
                }
            });
        }
        while let Some(called) = callers.join_next().await {
            called.unwrap();
        }
        let mut numbers = Vec::new();
        while numbers.len() < 8 * EACH {
            if let Some(AgentEvent::Message(message)) = inbox.recv().await {
                numbers.push(message.sequence_num());
            }
        }
        assert_eq!(numbers, Vec::from_iter(1..=8 * EACH as u64));
        for agent in [ann, bob] {
            let alone = Arc::into_inner(agent).unwrap();
            alone.shutdown("done").await.unwrap();
        }
        server.shutdown().await;
    })
    .await;
}

/// Messages of one caller: all of them together have room for one peer.
const EACH: usize = 100;

fn entries(witness: &Path, id: &str) -> Vec<Value> {
    let file = witness.join("staged").join(id).join("entries.jsonl");
    let text = std::fs::read_to_string(file).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}
