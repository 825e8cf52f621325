//! An outbox on disk is rewritten while its agent lives: nobody waits for that, whatever the disk
//! takes, and neither a kill nor an end nor a failure amid it loses anything.

use std::cell::Cell;
use std::fs::File;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::time::Duration;

use ifswarm::agent::{Agent, AgentEvent, Subscription};
use ifswarm::identity::file_name;
use ifswarm::signal::{Admission, Server};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::live::{builder, draft, say, serve, swarm_name, within};
use crate::program::{Program, Stage, gone};

/// An agent that rewrites its outbox, on a disk that never comes to an end of it.
struct Amid {
    server: Server,
    folder: TempDir,
    ann: Agent,
    /// Acknowledges nothing: nobody listens.
    bob: Agent,
    carol: Agent,
    /// What ann writes to.
    new: PathBuf,
    pipe: File,
}

impl Amid {
    async fn a_rewrite() -> Self {
        let server = serve(Admission::Open).await;
        let folder = tempfile::tempdir().unwrap();
        let ann = on_disk("ann", &server, &folder).await;
        let bob = on_disk("bob", &server, &folder).await;
        let carol = builder("carol", &server.url(), folder.path());
        let carol = carol.start().await.unwrap();
        ann.linked(2).await.unwrap();
        for n in 1..=KEPT {
            let long = draft("bob", json!({ "n": n, "long": long() }));
            ann.send(long).await.unwrap();
        }
        let swarm = file_name(swarm_name().as_str());
        let new = folder.path().join("outbox").join(swarm).join("ann/new");
        // A file that takes 64 KiB until somebody reads it, and that cannot be synced.
        mknodat(CWD, &new, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        let begun = {
            let new = new.clone();
            tokio::task::spawn_blocking(move || {
                let mut pipe = File::open(new).unwrap();
                pipe.read_exact(&mut [0]).unwrap();
                pipe
            })
        };
        while !begun.is_finished() {
            ann.send(say("carol", &long())).await.unwrap();
        }
        let pipe = begun.await.unwrap();
        Self {
            server,
            folder,
            ann,
            bob,
            carol,
            new,
            pipe,
        }
    }
}

async fn on_disk(id: &str, server: &Server, folder: &TempDir) -> Agent {
    let builder = builder(id, &server.url(), folder.path());
    let builder = builder.outbox(Some(folder.path().join("outbox")));
    builder.start().await.unwrap()
}

/// The disk takes the rest.
fn drain(mut pipe: File) {
    tokio::task::spawn_blocking(move || pipe.read_to_end(&mut Vec::new()).unwrap());
}

async fn next_message(inbox: &mut Subscription) -> Value {
    loop {
        if let AgentEvent::Message(message) = inbox.recv().await.expect("an agent that lives") {
            return Value::Object(message.payload().clone());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_waits_for_a_rewrite_and_one_that_fails_ends_the_agent_and_loses_nothing() {
    within(async {
        let amid = Amid::a_rewrite().await;
        let (ann, bob, carol) = (amid.ann, amid.bob, amid.carol);
        for n in 1..=50 {
            ann.send_acked(draft("carol", json!({ "n": n })))
                .await
                .unwrap();
        }
        let mut inbox = ann.subscribe();
        let answer = carol.send_acked(say("ann", "you answer"));
        let (acked, heard) = tokio::join!(answer, next_message(&mut inbox));
        acked.unwrap();
        assert_eq!(heard["text"], "you answer");
        let more = draft("bob", json!({ "n": KEPT + 1 }));
        ann.send(more).await.unwrap();

        drain(amid.pipe);
        let why = ann.ended().await.unwrap_err().to_string();
        assert!(why.contains("ann/new: Invalid argument"), "{why}");
        drop(inbox);
        assert!(!amid.new.exists());
        let ann = on_disk("ann", &amid.server, &amid.folder).await;
        let mut inbox = bob.subscribe();
        let last = draft("bob", json!({ "n": KEPT + 2 }));
        ann.send(last).await.unwrap();
        for n in 1..=KEPT + 2 {
            assert_eq!(next_message(&mut inbox).await["n"], n);
        }
        for agent in [ann, bob, carol] {
            agent.shutdown("done").await.unwrap();
        }
        amid.server.shutdown().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_ends_amid_a_rewrite_leaves_its_folder_to_the_next() {
    within(async {
        let amid = Amid::a_rewrite().await;
        let (ann, bob, carol) = (amid.ann, amid.bob, amid.carol);
        let session = ann.session();
        let mut heard = carol.subscribe();
        let has_ended = Cell::new(false);
        let parted = async {
            while !matches!(heard.recv().await, Some(AgentEvent::PeerDown { .. })) {}
            // It waits for the disk, while others come and go.
            let dora = builder("dora", &amid.server.url(), amid.folder.path());
            let dora = dora.start().await.unwrap();
            dora.linked(2).await.unwrap();
            dora.shutdown("done").await.unwrap();
            assert!(!has_ended.get(), "its folder was not free");
            drain(amid.pipe);
        };
        let ended = async {
            let ended = ann.shutdown_within("done", Duration::ZERO).await;
            has_ended.set(true);
            ended
        };
        let (ended, ()) = tokio::join!(ended, parted);
        ended.unwrap();
        assert!(!amid.new.exists());
        let ann = on_disk("ann", &amid.server, &amid.folder).await;
        assert_eq!(ann.session(), session, "it goes on");
        let mut inbox = bob.subscribe();
        for n in 1..=KEPT {
            assert_eq!(next_message(&mut inbox).await["n"], n);
        }
        for agent in [ann, bob, carol] {
            agent.shutdown("done").await.unwrap();
        }
        amid.server.shutdown().await;
    })
    .await;
}

#[test]
fn a_kill_amid_a_rewrite_loses_nothing() {
    let stage = Stage::new(&["ann", "bob", "carol"]);
    let start = |id| {
        let mut command = stage.agent(id);
        command.arg("--stay").arg("--outbox");
        Program::start(command.arg(stage.path("outbox")))
    };
    let up = |program: &Program| while program.event("peer")["state"] != "up" {};
    let mut ann = start("ann");
    let bob = start("bob");
    up(&ann);
    bob.kill("KILL");
    gone(&bob.id().to_string());
    for n in 1..=KEPT {
        ann.say("bob", &json!({ "n": n, "long": long() }));
        ann.event("sent");
    }
    let carol = start("carol");
    let new = stage.path("outbox/staged/ann/new");
    let (mut first, mut accepted, mut amid) = (1, Vec::new(), 0);
    while amid < 3 {
        up(&ann);
        let mut stdin = ann.stdin.take().unwrap();
        let writer = std::thread::spawn(move || {
            let line = |n: u64| {
                let payload = json!({ "n": n, "long": long() });
                json!({ "destination": "carol", "payload": payload }).to_string() + "\n"
            };
            // Until nobody reads it.
            let written = |n: &u64| stdin.write_all(line(*n).as_bytes()).is_ok();
            (first..).take_while(written).last()
        });
        while !new.exists() {
            std::thread::yield_now();
        }
        let pid = Pid::from_raw(ann.id().try_into().unwrap()).unwrap();
        kill_process(pid, Signal::KILL).unwrap();
        gone(&ann.id().to_string());
        amid += u32::from(new.exists());
        let mut next = first;
        while let Some(line) = ann.line() {
            let event: Value = serde_json::from_str(&line).unwrap();
            if event["event"] == "sent" {
                accepted.push(next);
                next += 1;
            }
        }
        // The next one may have been accepted too, unsaid; others were not read.
        first = writer.join().unwrap().unwrap_or(first) + 2;
        ann = start("ann");
    }
    let bob = start("bob");
    for n in 1..=KEPT {
        assert_eq!(bob.event("message")["message"]["payload"]["n"], n);
    }
    ann.say("carol", &json!({ "n": 0 }));
    let came = std::iter::from_fn(|| carol.event("message")["message"]["payload"]["n"].as_u64());
    let came: Vec<_> = came.take_while(|n| *n != 0).collect();
    assert!(came.is_sorted_by(|a, b| a < b), "{came:?}");
    accepted.retain(|n| !came.contains(n));
    assert!(accepted.is_empty(), "lost: {accepted:?}");
    for program in [ann, bob, carol] {
        program.kill("TERM");
        assert_eq!(program.end().code, 0);
    }
}

fn long() -> String {
    "x".repeat(50_000)
}

/// Messages that are kept all the time: more than the pipe takes.
const KEPT: u64 = 8;
