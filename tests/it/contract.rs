//! `docs/INTERFACES/workstream-2-webrtc-contract.yaml` and `sip-handoff.md` say what is so.
//!
//! Every item that the contract may name is listed in `items!` below, which does not compile if
//! one of them is gone; and the file must name exactly these. Fixtures are looked for on the disk.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use ifswarm::agent::AgentEvent;
use serde_yaml::Value;

/// The paths, as text; each is used as what it is.
macro_rules! items {
    (types: $($ty:ty),+; functions: $($function:expr),+; events: $($event:path),+ $(,)?) => {
        fn items() -> BTreeSet<String> {
            $( let _ = std::mem::size_of::<$ty>(); )+
            $( let _ = $function; )+
            $( let _ = |event: &AgentEvent| matches!(event, $event { .. }); )+
            let names = [$(stringify!($ty),)+ $(stringify!($function),)+ $(stringify!($event),)+];
            names.iter().map(|name| name.replace(char::is_whitespace, "")).collect()
        }
    };
}

items! {
    types:
        ifswarm::agent::Agent,
        ifswarm::agent::AgentError,
        ifswarm::agent::Builder,
        ifswarm::agent::ConnectionQuality,
        ifswarm::agent::Conversation,
        ifswarm::agent::Evidence,
        ifswarm::agent::FileError,
        ifswarm::agent::FileTransfer,
        ifswarm::agent::PeerInfo,
        ifswarm::agent::Receipt,
        ifswarm::agent::RequestError,
        ifswarm::agent::SendError,
        ifswarm::agent::StartError,
        ifswarm::agent::Subscription,
        ifswarm::message::Draft,
        ifswarm::message::IfMessage;
    functions:
        ifswarm::agent::Agent::answer,
        ifswarm::agent::Agent::broadcast,
        ifswarm::agent::Agent::builder,
        ifswarm::agent::Agent::connect,
        ifswarm::agent::Agent::connection_quality,
        ifswarm::agent::Agent::conversations,
        ifswarm::agent::Agent::disconnect_peer,
        ifswarm::agent::Agent::id,
        ifswarm::agent::Agent::is_linked,
        ifswarm::agent::Agent::linked,
        ifswarm::agent::Agent::linked_with,
        ifswarm::agent::Agent::peers,
        ifswarm::agent::Agent::public_key,
        ifswarm::agent::Agent::request,
        ifswarm::agent::Agent::send,
        ifswarm::agent::Agent::send_file,
        ifswarm::agent::Agent::serve::<fn(Told) -> Answered, Answered>,
        ifswarm::agent::Agent::share_evidence,
        ifswarm::agent::Agent::shutdown,
        ifswarm::agent::Agent::shutdown_within,
        ifswarm::agent::Agent::subscribe,
        ifswarm::agent::Agent::verify,
        ifswarm::agent::Builder::accept_files,
        ifswarm::agent::Builder::conversation_silence,
        ifswarm::agent::Builder::key,
        ifswarm::agent::Builder::roster,
        ifswarm::agent::Builder::signal,
        ifswarm::agent::Builder::start,
        ifswarm::agent::Builder::trust,
        ifswarm::agent::Builder::witness,
        ifswarm::agent::PeerInfo::is_up,
        ifswarm::agent::PeerInfo::quality,
        ifswarm::agent::Subscription::recv;
    events:
        ifswarm::agent::AgentEvent::Acked,
        ifswarm::agent::AgentEvent::File,
        ifswarm::agent::AgentEvent::Message,
        ifswarm::agent::AgentEvent::PeerDown,
        ifswarm::agent::AgentEvent::PeerUp,
        ifswarm::agent::AgentEvent::RefusedByPeer,
        ifswarm::agent::AgentEvent::Rejected,
        ifswarm::agent::AgentEvent::Replaced,
        ifswarm::agent::AgentEvent::SdpRejected,
        ifswarm::agent::AgentEvent::SignalingBack,
        ifswarm::agent::AgentEvent::SignalingLost,
        ifswarm::agent::AgentEvent::Undelivered,
}

type Told = ifswarm::message::Verified<ifswarm::message::IfMessage>;
type Answered = std::future::Ready<ifswarm::agent::Answer>;

/// The names that the other workstreams use.
const METHODS: [&str; 14] = [
    "broadcastIFMessage",
    "connectToSignaling",
    "createOffer",
    "disconnect",
    "disconnectPeer",
    "getAgentId",
    "getConnectedPeers",
    "getConnectionQuality",
    "getPublicKey",
    "isPeerReady",
    "offIFMessage",
    "onIFMessage",
    "sendIFMessage",
    "shareEvidence",
];

/// What is wrong with a contract, one line each.
fn faults(contract: &str) -> Vec<String> {
    let contract: Value = serde_yaml::from_str(contract).expect("YAML");
    let (mut named, mut faults) = (BTreeSet::new(), Vec::new());
    collect(&contract, &mut named);
    let items: BTreeSet<String> = items()
        .iter()
        // Generic arguments are needed here and not there.
        .map(|name| name.split("::<").next().expect("never empty").to_owned())
        .collect();
    for name in named.iter().filter(|name| name.starts_with("ifswarm::")) {
        if !items.contains(name) {
            faults.push(format!("`{name}` is no item that is listed in contract.rs"));
        }
    }
    for item in items.iter().filter(|item| !named.contains(*item)) {
        faults.push(format!("`{item}` is listed in contract.rs, and not named"));
    }
    for name in &named {
        let is_path = name.starts_with("fixtures/") || name.starts_with("docs/");
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
        let is_there = match fs::metadata(&path) {
            Ok(found) if found.is_dir() => {
                fs::read_dir(&path).is_ok_and(|mut d| d.next().is_some())
            }
            Ok(found) => found.len() > 0,
            Err(_) => false,
        };
        if is_path && !is_there {
            faults.push(format!("`{name}` does not exist, or is empty"));
        }
    }
    let methods = contract["methods"]
        .as_sequence()
        .cloned()
        .unwrap_or_default();
    let mut names: Vec<_> = methods.iter().filter_map(|m| m["name"].as_str()).collect();
    names.sort_unstable();
    if names != METHODS {
        faults.push(format!("the methods are {names:?}, expected {METHODS:?}"));
    }
    for method in &methods {
        for member in [
            "rust",
            "parameters",
            "result",
            "errors",
            "events",
            "guarantees",
        ] {
            if method.get(member).is_none() {
                faults.push(format!("{:?} has no `{member}`", method["name"]));
            }
        }
    }
    faults
}

/// All that looks like a path: of an item, or of a file.
fn collect(value: &Value, named: &mut BTreeSet<String>) {
    match value {
        Value::String(text) if PATHS.iter().any(|start| text.starts_with(start)) => {
            named.insert(text.clone());
        }
        Value::Sequence(values) => values.iter().for_each(|value| collect(value, named)),
        Value::Mapping(members) => members.values().for_each(|value| collect(value, named)),
        _ => {}
    }
}

/// What begins with one of these is looked for.
const PATHS: [&str; 3] = ["ifswarm::", "fixtures/", "docs/"];

fn contract() -> String {
    read("docs/INTERFACES/workstream-2-webrtc-contract.yaml")
}

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

#[test]
fn every_item_and_fixture_that_the_contract_names_exists() {
    assert_eq!(faults(&contract()), Vec::<String>::new());
}

#[test]
fn a_contract_that_names_what_is_not_there_is_found_out() {
    let good = contract();
    for (from, to, said) in [
        (
            "ifswarm::agent::Agent::connect\n",
            "ifswarm::agent::Agent::create_offer\n",
            "create_offer",
        ),
        (
            "rust: ifswarm::agent::Agent::shutdown\n",
            "rust: ifswarm::agent::Agent\n",
            "shutdown` is listed",
        ),
        (
            "fixtures/roster.yaml",
            "fixtures/rooster.yaml",
            "rooster.yaml` does not exist",
        ),
        ("name: disconnect\n", "name: hangUp\n", "hangUp"),
        ("AgentEvent::Message", "AgentEvent::Massage", "Massage"),
    ] {
        assert!(good.contains(from), "{from}");
        let faults = faults(&good.replacen(from, to, 1));
        assert!(
            faults.iter().any(|fault| fault.contains(said)),
            "{faults:?}"
        );
    }
}

mod handoff {
    //! `sip-handoff.md`, word for word.

    use std::io::{BufRead, BufReader, Write};
    use std::process::Stdio;
    use std::time::Duration;

    use ifswarm::agent::{Agent, Answer, Conversation};
    use ifswarm::identity::{KeyPair, Roster, SwarmName};
    use ifswarm::message::Draft;
    use ifswarm::signal::Admission;
    use serde_json::{Value, json};

    use crate::live::{LiveAgent, builder, roster_of, serve, swarm_name, within};
    use crate::support::FixtureAgent;

    type Any = Box<dyn std::error::Error>;

    #[rustfmt::skip] // As it stands in the document.
    async fn call(signal: String, swarm: SwarmName, key: KeyPair, roster: Roster) -> Result<Vec<Conversation>, Any> {
// ten lines
let sip = Agent::builder("sip".parse()?, &swarm).signal(&signal).key(key).roster(roster).start().await?;
let legal = "legal".parse()?;
sip.linked_with(&legal).await?;
let mut draft = Draft::new(legal, json!({ "heard": "the caller asks for a refund" }).as_object().cloned().unwrap_or_default());
draft.conversation_id = Some("call-17".into());
draft.citation_ids = vec!["cit:call-17/00:42".into()];
let answer = sip.request(draft, Duration::from_secs(5)).await?;
println!("{} says {:?}", answer.source(), answer.payload());
let talks = sip.conversations();
sip.shutdown("the call is over").await?;
// so far
        assert_eq!(answer.payload()["advice"], "up to 50");
        Ok(talks)
    }

    /// The lines of the block of the document that begins with this line.
    fn block(first: &str) -> Vec<String> {
        let document = super::read("docs/INTERFACES/sip-handoff.md");
        let lines = document.lines().skip_while(|line| *line != first).skip(1);
        let block = lines.take_while(|line| *line != "```");
        block.map(str::to_owned).collect()
    }

    /// Legal, who knows what callers may get.
    async fn advise(legal: &Agent) {
        let advice = json!({ "advice": "up to 50" });
        legal
            .serve(|request| {
                assert_eq!(request.citation_ids(), ["cit:call-17/00:42"]);
                let advice = advice.as_object().cloned().unwrap();
                std::future::ready(Answer::inform(advice))
            })
            .await;
    }

    #[test]
    fn the_ten_lines_of_rust_are_those_that_are_run_here() {
        let source = include_str!("contract.rs").lines();
        let here: Vec<_> = source
            .skip_while(|line| *line != "// ten lines")
            .skip(1)
            .take_while(|line| *line != "// so far")
            .collect();
        assert_eq!(block("```rust"), here);
        assert_eq!(here.len(), 10);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_ten_lines_of_rust_get_an_agent_send_evidence_and_receive_the_answer() {
        within(async {
            let ids = ["legal", "sip"];
            let server = serve(Admission::Rosters([(swarm_name(), roster_of(&ids))].into())).await;
            let folder = tempfile::tempdir().unwrap();
            let legal = builder("legal", &server.url(), folder.path()).roster(roster_of(&ids));
            let legal = LiveAgent::start(legal).await;
            let key = FixtureAgent::new("sip").key;
            let talks = tokio::select! {
                talks = call(server.url(), swarm_name(), key, roster_of(&ids)) => talks.unwrap(),
                () = advise(&legal.agent) => panic!("legal has ended"),
            };
            assert_eq!(talks[0].id, "call-17");
            assert_eq!((talks[0].sent, talks[0].received), (1, 1));
            legal.agent.shutdown("done").await.unwrap();
            server.shutdown().await;
        })
        .await;
    }

    /// Whether `line` is as the document has it: all members that it names, and these values.
    fn fits(line: &Value, expected: &Value) -> bool {
        match (line, expected) {
            (Value::Object(line), Value::Object(expected)) => expected
                .iter()
                .all(|(name, value)| line.get(name).is_some_and(|line| fits(line, value))),
            (Value::Array(line), Value::Array(expected)) => {
                line.len() == expected.len() && line.iter().zip(expected).all(|(l, e)| fits(l, e))
            }
            _ => line == expected,
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_ten_json_lines_are_what_the_agent_takes_and_says() {
        within(async {
            let server = serve(Admission::Open).await;
            let legal = Agent::builder("legal".parse().unwrap(), &swarm_name());
            let legal = legal.signal(&server.url()).start().await.unwrap();
            let mut sip = crate::cli::ifswarm()
                .args(["agent", "--id", "sip", "--swarm-name", "live", "--signal"])
                .args([&server.url(), "--stay"])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let mut input = sip.stdin.take().unwrap();
            let output = BufReader::new(sip.stdout.take().unwrap());
            let talking = tokio::task::spawn_blocking(move || {
                let lines = block("```text");
                assert_eq!(lines.len(), 10);
                let mut said = output
                    .lines()
                    .map(|line| serde_json::from_str(&line.unwrap()));
                // What came and is not asked for yet: `acked` and `message` in either order.
                let mut waiting: Vec<Value> = Vec::new();
                for line in lines {
                    let (way, text) = line.split_at(2);
                    if way == "> " {
                        writeln!(input, "{text}").unwrap();
                        continue;
                    }
                    let expected = text.replace(",…", "").replace("…", "");
                    let expected: Value = serde_json::from_str(&expected).unwrap();
                    while !waiting.iter().any(|line| fits(line, &expected)) {
                        waiting.push(said.next().expect("another line").unwrap());
                    }
                    waiting.retain(|line| !fits(line, &expected));
                }
                input
            });
            let input = tokio::select! {
                input = talking => input.unwrap(),
                () = advise(&legal) => panic!("legal has ended"),
            };
            drop(input);
            sip.kill().unwrap();
            sip.wait().unwrap();
            legal.shutdown("done").await.unwrap();
            server.shutdown().await;
        })
        .await;
    }
}
