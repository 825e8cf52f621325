//! What a language model has not read when its agent is killed, or ends, where the agent has an outbox
//! on disk.

use std::path::Path;
use std::process::Stdio;

use ifswarm::signal::{Admission, Server};
use rmcp::ServiceExt;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Child;

use crate::agent_mcp::{Client, done, practise, program};
use crate::live::{LiveAgent, builder, draft, say, serve, within};

/// A server, the folder of all, and `legal`.
async fn office() -> (Server, TempDir, LiveAgent) {
    let server = serve(Admission::Open).await;
    let folder = tempfile::tempdir().unwrap();
    let legal = LiveAgent::start(builder("legal", &server.url(), folder.path())).await;
    (server, folder, legal)
}

/// The agent `finance` with an outbox below `folder`, and the client that has its pipes.
async fn finance(server: &Server, folder: &Path) -> (Child, Client) {
    let mut child = program(server, folder)
        .arg("--outbox")
        .arg(folder.join("outbox"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let pipes = (child.stdout.take().unwrap(), child.stdin.take().unwrap());
    let client = ().serve(pipes).await.unwrap();
    (child, client)
}

/// What legal has sent before has come to finance: an answer of legal that was sent after it has.
async fn all_came(finance: &Client, legal: &LiveAgent) {
    let arguments = json!({"to": "legal", "payload": {"ask": "may we?"}});
    tokio::select! {
        _ = done(finance, "request_reply", arguments) => {}
        () = practise(&legal.agent) => panic!("legal has ended"),
    }
}

/// The payloads of at most `limit` messages that wait for the model.
async fn read(finance: &Client, limit: usize) -> Vec<Value> {
    let arguments = json!({"limit": limit, "wait_seconds": 60});
    let read = done(finance, "read_inbox", arguments).await;
    assert_eq!(read["dropped"], 0);
    let messages = read["messages"].as_array().unwrap().iter();
    messages.map(|it| it["payload"].clone()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_model_has_not_read_comes_again_after_a_kill_or_an_end_and_what_it_has_does_not() {
    within(async {
        let (server, folder, legal) = office().await;
        let (mut child, client) = finance(&server, folder.path()).await;
        legal.agent.linked(1).await.unwrap();
        for text in ["one", "two", "three"] {
            legal.agent.send(say("finance", text)).await.unwrap();
        }
        all_came(&client, &legal).await;
        assert_eq!(read(&client, 1).await, [json!({"text": "one"})]);
        child.kill().await.unwrap();
        drop(client);

        let (mut child, client) = finance(&server, folder.path()).await;
        all_came(&client, &legal).await;
        assert_eq!(read(&client, 1).await, [json!({"text": "two"})]);
        client.cancel().await.unwrap();
        assert!(child.wait().await.unwrap().success());

        let (mut child, client) = finance(&server, folder.path()).await;
        all_came(&client, &legal).await;
        assert_eq!(read(&client, 9).await, [json!({"text": "three"})]);
        client.cancel().await.unwrap();
        assert!(child.wait().await.unwrap().success());
        legal.agent.shutdown("done").await.unwrap();
        server.shutdown().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_writes_to_a_model_that_does_not_read_never_waits_and_a_kill_loses_nothing() {
    within(async {
        let (server, folder, legal) = office().await;
        let (mut child, client) = finance(&server, folder.path()).await;
        legal.agent.linked(1).await.unwrap();
        // Far more than may be under way, and more bytes than an outbox keeps.
        for n in 1..=MANY {
            let payload = json!({ "n": n, "fill": "x".repeat(8 << 10) });
            legal.agent.send(draft("finance", payload)).await.unwrap();
        }
        let last = draft("finance", json!({ "n": MANY + 1 }));
        legal.agent.send_acked(last).await.unwrap();
        child.kill().await.unwrap();
        drop(client);

        let (mut child, client) = finance(&server, folder.path()).await;
        let mut came = Vec::new();
        while came.len() < MANY as usize / 2 {
            came.extend(read(&client, 100).await);
        }
        client.cancel().await.unwrap();
        assert!(child.wait().await.unwrap().success());
        let (mut child, client) = finance(&server, folder.path()).await;
        while came.len() <= MANY as usize {
            came.extend(read(&client, 100).await);
        }
        let came = came.iter().map(|payload| payload["n"].as_u64().unwrap());
        assert_eq!(Vec::from_iter(came), Vec::from_iter(1..=MANY + 1));
        client.cancel().await.unwrap();
        assert!(child.wait().await.unwrap().success());
        legal.agent.shutdown("done").await.unwrap();
        server.shutdown().await;
    })
    .await;
}

/// More than a peer may have under way to an agent whose program has nothing taken; they fit into the
/// inbox.
const MANY: u64 = 700;
