//! The signaling server goes away and comes back: no link falls, messages flow, everybody registers
//! again by itself, and who must not come back does not.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use ifswarm::agent::{AgentError, AgentEvent, Builder, StartError};
use ifswarm::identity::{KeyPair, Session};
use ifswarm::mesh::PeerState;
use ifswarm::signal::{
    Admission, Client, ClientConfig, ConnectError, ErrorCode, Nonce, Register, Server,
    ServerConfig, ServerError, Trust,
};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{WebSocketStream, accept_async};

use crate::cli::Running;
use crate::live::{
    LiveAgent, builder, draft, read_witness, roster_of, say, swarm_name, testimony, within,
};
use crate::program::{Program, Stage};
use crate::support::FixtureAgent;

const IDS: [&str; 4] = ["ann", "bob", "cid", "dan"];

/// A server that admits everybody of `IDS`, at this address.
async fn serve_at(address: SocketAddr) -> Server {
    loop {
        let roster = BTreeMap::from([(swarm_name(), roster_of(&IDS))]);
        match Server::bind(ServerConfig::new(address, Admission::Rosters(roster))).await {
            Ok(server) => return server,
            // Some connection of this machine has the port for a moment.
            Err(ServerError::PortInUse { .. }) => tokio::task::yield_now().await,
            Err(err) => panic!("{err}"),
        }
    }
}

async fn serve_anywhere() -> Server {
    serve_at("127.0.0.1:0".parse().unwrap()).await
}

fn agent(id: &str, urls: &str, folder: &Path) -> Builder {
    builder(id, urls, folder).roster(roster_of(&IDS))
}

impl LiveAgent {
    /// Waits until the server is gone, or back; no link falls meanwhile.
    async fn signaling(&mut self, back: bool) {
        self.until(|event| match event {
            AgentEvent::SignalingLost if !back => Some(()),
            AgentEvent::SignalingBack if back => Some(()),
            AgentEvent::PeerDown { peer, why } => panic!("{peer} is down: {why:?}"),
            _ => None,
        })
        .await;
    }

    async fn hears(&mut self, from: &LiveAgent, text: &str) {
        let me = self.agent.id().to_string();
        from.agent.send(say(&me, text)).await.unwrap();
        let heard = self.until(|event| match event {
            AgentEvent::Message(message) => Some(message),
            AgentEvent::PeerDown { peer, why } => panic!("{peer} is down: {why:?}"),
            _ => None,
        });
        assert_eq!(heard.await.payload()["text"], text);
    }

    fn state_of(&self, peer: &str) -> Option<PeerState> {
        let peers = self.agent.peers().into_iter();
        let mut states = peers.filter(|p| p.view.id.as_str() == peer);
        states.next().map(|peer| peer.view.state)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_goes_and_comes_back_and_no_link_falls_and_a_newcomer_is_linked_by_all() {
    within(async {
        let folder = tempfile::tempdir().unwrap();
        let mut server = serve_anywhere().await;
        let (url, address) = (server.url(), server.local_addr());
        let mut ann = LiveAgent::start(agent("ann", &url, folder.path())).await;
        let mut bob = LiveAgent::start(agent("bob", &url, folder.path())).await;
        ann.agent.linked(1).await.unwrap();
        bob.agent.linked(1).await.unwrap();
        let links = ann.links().await;
        for outage in ["first", "second"] {
            server.shutdown().await;
            ann.signaling(false).await;
            bob.signaling(false).await;
            let vitals = ann.agent.observer().look().unwrap();
            assert!(!vitals.is_registered);
            bob.hears(&ann, outage).await;
            ann.hears(&bob, outage).await;
            let newcomer = agent("cid", &url, folder.path()).witness(None);
            let err = newcomer.start().await.unwrap_err();
            assert!(
                matches!(err, StartError::Connect(ConnectError::Refused { .. })),
                "{err}"
            );

            server = serve_at(address).await;
            ann.signaling(true).await;
            bob.signaling(true).await;
            assert_eq!(server.census().agents, 2);
            bob.hears(&ann, "again").await;
            assert_eq!(ann.links().await, links, "the very links of before");
        }
        let vitals = ann.agent.observer().look().unwrap();
        assert!(vitals.is_registered);
        assert_eq!(vitals.comebacks, 2);

        let cid = LiveAgent::start(agent("cid", &url, folder.path())).await;
        cid.agent.linked(2).await.unwrap();
        bob.agent.linked_with(cid.agent.id()).await.unwrap();
        bob.hears(&cid, "hello").await;

        for live in [ann, bob, cid] {
            live.agent.shutdown("the test is over").await.unwrap();
        }
        server.shutdown().await;
        let entries = read_witness(folder.path(), "ann");
        assert_eq!(testimony(&entries, "signaling_lost").len(), 2);
        let connected = testimony(&entries, "signaling_connected");
        assert_eq!(connected.len(), 3);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_server_takes_over_and_the_first_is_the_first_to_be_tried_again() {
    within(async {
        let folder = tempfile::tempdir().unwrap();
        let (first, second) = (serve_anywhere().await, serve_anywhere().await);
        let address = first.local_addr();
        let both = format!("{},{}", first.url(), second.url());
        let mut ann = LiveAgent::start(agent("ann", &both, folder.path())).await;
        let mut bob = LiveAgent::start(agent("bob", &both, folder.path())).await;
        ann.agent.linked(1).await.unwrap();
        bob.agent.linked(1).await.unwrap();
        assert_eq!((first.census().agents, second.census().agents), (2, 0));

        first.shutdown().await;
        for live in [&mut ann, &mut bob] {
            live.signaling(false).await;
            live.signaling(true).await;
        }
        assert_eq!(second.census().agents, 2);
        // Nobody listens at the first one: the next one it is.
        let cid = LiveAgent::start(agent("cid", &both, folder.path())).await;
        cid.agent.linked(2).await.unwrap();

        let first = serve_at(address).await;
        second.shutdown().await;
        for live in [&mut ann, &mut bob] {
            live.signaling(false).await;
            live.signaling(true).await;
        }
        bob.hears(&ann, "still the same link").await;
        assert!(first.census().agents >= 2);
        for live in [ann, bob, cid] {
            live.agent.shutdown("the test is over").await.unwrap();
        }
        first.shutdown().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_start_a_refusal_that_will_not_change_is_the_end_and_another_server_is_not_asked() {
    within(async {
        let folder = tempfile::tempdir().unwrap();
        let (first, second) = (serve_anywhere().await, serve_anywhere().await);
        let (one, two) = (first.url(), second.url());
        let start = async |urls: &str| {
            let stranger = agent("ann", urls, folder.path()).key(KeyPair::from_secret(&[7; 32]));
            let started = stranger.roster(roster_of(&["bob"])).witness(None).start();
            let StartError::Connect(err) = started.await.unwrap_err() else {
                panic!("no error of connecting")
            };
            err
        };
        let asked = |server: &Server| server.observer().look().unwrap().1.connections;
        let err = start(&format!("{one},{two}")).await;
        let ConnectError::Registration { code, .. } = &err else {
            panic!("{err}")
        };
        assert_eq!(*code, ErrorCode::NotAdmitted);
        assert_eq!((asked(&first), asked(&second)), (1, 0));

        // What is wrong with the second is found before the first is asked.
        let err = start(&format!("{one},http://127.0.0.1:1")).await;
        assert!(matches!(err, ConnectError::Url { .. }), "{err}");
        assert_eq!((asked(&first), asked(&second)), (1, 0));

        first.shutdown().await;
        second.shutdown().await;
        let err = start(&format!("{one},{two}")).await;
        let told = err.to_string();
        assert!(matches!(err, ConnectError::NoneOf { .. }), "{told}");
        assert!(told.contains(&one) && told.contains(&two), "{told}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_left_while_the_server_was_away_is_known_to_be_gone_when_it_is_back() {
    within(async {
        let folder = tempfile::tempdir().unwrap();
        let server = serve_anywhere().await;
        let (url, address) = (server.url(), server.local_addr());
        let mut ann = LiveAgent::start(agent("ann", &url, folder.path())).await;
        let mut bob = LiveAgent::start(agent("bob", &url, folder.path())).await;
        ann.agent.linked(1).await.unwrap();
        // Cid is registered and never answers, so that no link ever tells of its end.
        let cid = FixtureAgent::new("cid");
        let registered = Client::connect(ClientConfig {
            url: url.clone(),
            swarm: swarm_name(),
            agent_id: cid.id,
            key: cid.key,
            session: cid.session,
            trust: Trust::system(),
            connect_timeout: Duration::from_secs(30),
        });
        let (mut cid, _) = registered.await.unwrap();
        // Ann's offer: she knows of it.
        cid.recv().await.unwrap().unwrap();
        assert_eq!(ann.state_of("cid"), Some(PeerState::Dialing));

        server.shutdown().await;
        ann.signaling(false).await;
        bob.signaling(false).await;
        drop(cid);
        assert_ne!(ann.state_of("cid"), Some(PeerState::Gone), "nobody knows");
        let server = serve_at(address).await;
        ann.signaling(true).await;
        bob.signaling(true).await;
        assert_eq!(ann.state_of("cid"), Some(PeerState::Gone));
        assert_eq!(bob.state_of("cid"), Some(PeerState::Gone));
        assert_eq!(ann.state_of("bob"), Some(PeerState::Up));
        for live in [ann, bob] {
            live.agent.shutdown("the test is over").await.unwrap();
        }
        server.shutdown().await;
    })
    .await;
}

/// What comes up at the server's address in its place: it answers one registration with `error`.
async fn impostor(listener: &TcpListener, error: Value) -> WebSocketStream<TcpStream> {
    loop {
        let (tcp, _) = listener.accept().await.unwrap();
        // Who gives up meanwhile tries again.
        let Ok(mut socket) = accept_async(tcp).await else {
            continue;
        };
        let challenge = json!({ "type": "challenge", "nonce": format!("{:064}", 1),
            "protocol": "ifswarm-signal/1" });
        let _ = socket.send(Message::text(challenge.to_string())).await;
        if let Some(Ok(Message::Text(register))) = socket.next().await {
            assert!(register.contains("register"), "{register}");
            let _ = socket.send(Message::text(error.to_string())).await;
            return socket;
        }
    }
}

/// That a later session of `id` is connected; the proof is signed by `signer`.
fn older_session(id: &str, signer: Option<&str>) -> Value {
    let session = Session::new(1 << 44, [0; 10]);
    let mut error = json!({ "type": "error", "code": "older-session", "message": "",
        "in_reply_to": "register", "session": session });
    if let Some(signer) = signer {
        let nonce = Nonce::from_bytes([7; 32]);
        let key = FixtureAgent::new(signer).key;
        let (swarm, id) = (swarm_name(), id.parse().unwrap());
        let register = Register::sign(swarm, id, session, "127.0.0.1:1".into(), &nonce, &key);
        error["later"] = serde_json::to_value(register.as_later(&nonce)).unwrap();
    }
    error
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_says_that_a_later_process_is_there_ends_an_agent_only_if_it_proves_it() {
    within(async {
        for (signer, ends) in [(None, false), (Some("bob"), false), (Some("ann"), true)] {
            let folder = tempfile::tempdir().unwrap();
            let server = serve_anywhere().await;
            let (url, address) = (server.url(), server.local_addr());
            let mut ann = LiveAgent::start(agent("ann", &url, folder.path())).await;
            server.shutdown().await;
            ann.signaling(false).await;
            let listener = loop {
                match TcpListener::bind(address).await {
                    Ok(listener) => break listener,
                    Err(_) => tokio::task::yield_now().await,
                }
            };
            let mut socket = impostor(&listener, older_session("ann", signer)).await;
            // It closes the connection when it has read the answer.
            while let Some(Ok(_)) = socket.next().await {}
            if ends {
                let ended = ann.agent.ended().await;
                assert!(matches!(ended, Err(AgentError::Replaced)), "{ended:?}");
            } else {
                ann.agent.shutdown("the test is over").await.unwrap();
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drafts_to_who_is_linked_are_sent_while_a_server_answers_nothing_but_nonsense() {
    within(async {
        let folder = tempfile::tempdir().unwrap();
        let server = serve_anywhere().await;
        let (url, address) = (server.url(), server.local_addr());
        let mut ann = LiveAgent::start(agent("ann", &url, folder.path())).await;
        let mut bob = LiveAgent::start(agent("bob", &url, folder.path())).await;
        ann.agent.linked(1).await.unwrap();
        bob.agent.linked(1).await.unwrap();
        server.shutdown().await;
        ann.signaling(false).await;
        bob.signaling(false).await;
        let listener = loop {
            match TcpListener::bind(address).await {
                Ok(listener) => break listener,
                Err(_) => tokio::task::yield_now().await,
            }
        };
        for n in 0..6 {
            // Accepted and dropped; a word of another protocol; a silence that is not waited for.
            let (tcp, _) = listener.accept().await.unwrap();
            if n % 2 == 0 {
                let _ = tcp.try_write(b"SSH-2.0-nonsense\r\n");
            }
            drop(tcp);
            bob.agent
                .send(draft("ann", json!({ "n": n })))
                .await
                .unwrap();
            assert_eq!(ann.message().await.payload()["n"], n);
        }
        drop(listener);
        let server = serve_at(address).await;
        ann.signaling(true).await;
        bob.signaling(true).await;
        for live in [ann, bob] {
            live.agent.shutdown("the test is over").await.unwrap();
        }
        server.shutdown().await;
    })
    .await;
}

fn up_with(program: &Program, peer: &str) {
    loop {
        let event = program.event("peer");
        if event["peer"] == peer && event["state"] == "up" {
            return;
        }
    }
}

#[test]
fn of_two_processes_with_one_id_and_key_the_newest_stays_and_the_other_ends_with_3() {
    let mut stage = Stage::new(&["ann", "bob"]);
    let bob = Program::start(stage.agent("bob").arg("--stay"));
    let first = Program::start(stage.agent("ann").arg("--stay"));
    up_with(&bob, "ann");

    // At once, where the server is there.
    let mut second = Program::start(stage.agent("ann").arg("--stay"));
    second.event("ready");
    let ended = first.end();
    assert_eq!(ended.code, 3, "{}", ended.log);
    let told = &ended.events("error")[0]["message"];
    assert!(told.as_str().unwrap().contains("later process"), "{told}");

    // And when it comes back from an outage through which it slept, to find its place taken.
    second.say("bob", &json!({ "n": 2 }));
    assert_eq!(bob.event("message")["message"]["payload"]["n"], 2);
    second.kill("STOP");
    stage.restart_server();
    assert_eq!(bob.event("signaling")["state"], "lost");
    assert_eq!(bob.event("signaling")["state"], "back");
    let mut third = Program::start(stage.agent("ann").arg("--stay"));
    third.event("ready");
    second.kill("CONT");
    let ended = second.end();
    assert_eq!(ended.code, 3, "{}", ended.log);
    let last = ended.events("error").pop().unwrap();
    let told = last["message"].as_str().unwrap();
    assert!(told.contains("later process"), "{told}");

    // The newest is the one that bob is linked with, and stays.
    up_with(&third, "bob");
    third.say("bob", &json!({ "n": 3 }));
    assert_eq!(bob.event("message")["message"]["payload"]["n"], 3);
    for program in [third, bob] {
        program.kill("TERM");
        assert_eq!(program.end().code, 0);
    }
}

#[test]
fn an_agent_that_is_no_more_admitted_lives_on_and_says_so_once() {
    let mut stage = Stage::new(&["ann", "bob"]);
    let ann = Program::start(stage.agent("ann").arg("--stay"));
    let bob = Program::start(stage.agent("bob").arg("--stay"));
    up_with(&ann, "bob");
    let address = stage.stop_server();
    let other = Stage::new(&["bob", "cid"]);
    let swarm = other.swarm.to_str().unwrap();
    let _server = Running::signal(&["--listen", &address, "--swarm", swarm]);
    let told = ann.logged("does not take this agent back");
    assert!(told.contains("not-admitted"), "{told}");
    assert_eq!(bob.event("signaling")["state"], "lost");
    assert_eq!(bob.event("signaling")["state"], "back");
    for program in [ann, bob] {
        program.kill("TERM");
        let ended = program.end();
        assert_eq!(ended.code, 0);
        assert!(!ended.log.contains("does not take"), "{}", ended.log);
    }
}

#[test]
fn the_command_line_takes_several_servers_and_tries_them_in_order() {
    let stage = Stage::new(&["ann", "bob"]);
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let down = format!("ws://{}", nobody.local_addr().unwrap());
    drop(nobody);
    let urls = format!("{down},{}", stage.url);
    let bob = Program::start(stage.agent_of("bob", &urls).arg("--stay"));
    bob.event("ready");
    let mut send = stage.send_of("ann", "bob", &urls);
    let (code, stdout, stderr) = crate::cli::run(send.args(["--payload", r#"{"n":1}"#, "--json"]));
    assert_eq!(code, 0, "{stdout}{stderr}");
    assert_eq!(bob.event("message")["message"]["payload"]["n"], 1);
    bob.kill("TERM");
    assert_eq!(bob.end().code, 0);

    let (code, _, stderr) =
        crate::cli::run(&mut stage.send_of("ann", "bob", &format!("{down},{down}")));
    assert_eq!(code, 3);
    assert!(
        stderr.contains("none of the 2 signaling servers"),
        "{stderr}"
    );
    let mut bad = stage.send_of("ann", "bob", &format!("{},nonsense", stage.url));
    let (code, _, stderr) = crate::cli::run(&mut bad);
    assert_ne!(code, 0);
    assert!(stderr.contains("`nonsense`"), "{stderr}");
}
