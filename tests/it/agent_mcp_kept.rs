//! What a language model has not read when its agent is killed, or ends, where the agent has an outbox
//! on disk.

use std::path::Path;
use std::process::Stdio;

use ifswarm::agent::AgentEvent;
use ifswarm::signal::{Admission, Server};
use rmcp::ServiceExt;
use serde_json::{Value, json};
use tokio::process::Child;

use crate::agent_mcp::{Client, done, practise, program};
use crate::live::{LiveAgent, builder, draft, say, serve, within};

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
        let server = serve(Admission::Open).await;
        let folder = tempfile::tempdir().unwrap();
        let legal = LiveAgent::start(builder("legal", &server.url(), folder.path())).await;
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
async fn a_model_that_does_not_read_does_not_hold_up_who_writes_to_it() {
    within(async {
        let server = serve(Admission::Open).await;
        let folder = tempfile::tempdir().unwrap();
        let mut legal = LiveAgent::start(builder("legal", &server.url(), folder.path())).await;
        let (mut child, client) = finance(&server, folder.path()).await;
        legal.agent.linked(1).await.unwrap();
        for n in 1..=MANY {
            let draft = draft("finance", json!({ "n": n }));
            legal.agent.send(draft).await.unwrap();
        }
        let older_are_acked = |event| match event {
            AgentEvent::Acked { up_to, .. } => (up_to == MANY - KEPT).then_some(()),
            _ => None,
        };
        legal.until(older_are_acked).await;
        child.kill().await.unwrap();
        drop(client);

        let (mut child, client) = finance(&server, folder.path()).await;
        all_came(&client, &legal).await;
        let mut came = Vec::new();
        while came.len() < KEPT as usize {
            came.extend(read(&client, 100).await);
        }
        let expected = (MANY - KEPT + 1..=MANY).map(|n| json!({ "n": n }));
        assert_eq!(came, Vec::from_iter(expected));
        client.cancel().await.unwrap();
        assert!(child.wait().await.unwrap().success());
        legal.agent.shutdown("done").await.unwrap();
        server.shutdown().await;
    })
    .await;
}

/// More than a peer may have under way to an agent whose program has nothing taken.
const MANY: u64 = 700;
/// So many of a peer come again: `MAX_HELD` in `cli::agent_mcp_inbox`.
const KEPT: u64 = 128;
