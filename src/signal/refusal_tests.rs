//! Every refusal of the contract over real sockets, and what is left of who was refused.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::SinkExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;

use super::door::STRANGER_BYTES;
use super::test_sockets::*;
use super::*;
use crate::identity::{AgentId, Roster};

#[tokio::test]
async fn every_code_of_the_contract_comes_and_closes_the_socket_where_it_says_so() {
    let contract = include_str!("../../docs/INTERFACES/wire.md");
    let listed = contract
        .lines()
        .find_map(|line| line.strip_prefix("Codes: `"));
    let listed = listed.unwrap().trim_end_matches("`.");
    let codes: Vec<ErrorCode> = listed
        .split(' ')
        .map(|code| serde_json::from_value(code.into()).unwrap())
        .collect();
    assert_eq!(codes.len(), 13);
    for code in codes {
        within(async {
            let server = server_for(code).await;
            let mut others = Vec::new();
            let mut socket = provoke(code, &server, &mut others).await;
            let error = refusal(&mut socket).await;
            assert_eq!(error.code, code, "{error:?}");
            let (in_reply_to, closes) = promised(code);
            assert_eq!(error.in_reply_to.as_deref(), in_reply_to, "{code}");
            if closes {
                assert_eq!(raw_frame(&mut socket).await, None, "{code}");
            } else {
                ask(&mut socket, "a", "zoe").await;
                let answer = refusal(&mut socket).await;
                assert_eq!(answer.code, ErrorCode::UnknownPeer, "after {code}");
            }
            let current = (code == ErrorCode::OlderSession).then(|| session(LATER));
            assert_eq!(error.session, current, "{code}");
            // Who is proven to be there later, and how long to stay away.
            let proof = error.later.as_ref().map(|later| {
                let (swarm, a) = (SWARM.parse().unwrap(), "a".parse().unwrap());
                later.proves(&swarm, &a, &key(1).public_key(), session(LATER - 1))
            });
            let proven = (code == ErrorCode::OlderSession).then_some(true);
            assert_eq!(proof, proven, "{code}");
            let pause = matches!(code, ErrorCode::ServerFull | ErrorCode::RateLimited);
            let asked = error
                .retry_after()
                .map(|pause| pause >= Duration::from_secs(1));
            assert_eq!(asked, pause.then_some(true), "{code}");
        })
        .await;
    }
}

/// What `wire.md` says of the refusals that [`provoke`] provokes: `in_reply_to`, and whether the
/// socket is closed.
fn promised(code: ErrorCode) -> (Option<&'static str>, bool) {
    match code {
        ErrorCode::BadSignature
        | ErrorCode::NotAdmitted
        | ErrorCode::IdTaken
        | ErrorCode::OlderSession
        | ErrorCode::WrongServer
        | ErrorCode::ServerFull => (Some("register"), true),
        ErrorCode::NotRegistered => (Some("please-offer"), true),
        ErrorCode::TooLarge => (Some("offer"), true),
        ErrorCode::Replaced | ErrorCode::RateLimited => (None, true),
        ErrorCode::NotYours | ErrorCode::UnknownPeer => (Some("please-offer"), false),
        ErrorCode::BadFrame => (None, false),
    }
}

/// A server that refuses with this code.
async fn server_for(code: ErrorCode) -> Server {
    let usual = Limits::default();
    match code {
        ErrorCode::NotAdmitted => {
            let roster = Roster::new([("a".parse().unwrap(), key(1).public_key())]).unwrap();
            let rosters = BTreeMap::from([(SWARM.parse().unwrap(), roster)]);
            let listen = "127.0.0.1:0".parse().unwrap();
            let config = ServerConfig::new(listen, Admission::Rosters(rosters));
            Server::bind(config).await.unwrap()
        }
        ErrorCode::RateLimited => {
            server_with(Limits {
                frames_per_second: 1,
                frames_burst: 10,
                ..usual
            })
            .await
        }
        ErrorCode::ServerFull => {
            server_with(Limits {
                agents_per_swarm: 1,
                ..usual
            })
            .await
        }
        _ => server().await,
    }
}

/// Does what is refused with this code, and gives the connection on which the refusal will come.
/// Connections that must live on meanwhile are put into `others`.
async fn provoke(code: ErrorCode, server: &Server, others: &mut Vec<Raw>) -> Raw {
    let name = || server.local_addr().to_string();
    let registering = async |id, seed, ms, name| {
        let mut socket = raw(server).await;
        register(&mut socket, id, seed, session(ms), name).await;
        socket
    };
    match code {
        ErrorCode::BadSignature => {
            // One that was good on another connection.
            let mut other = raw(server).await;
            let Some(ServerFrame::Challenge { nonce, .. }) = raw_frame(&mut other).await else {
                panic!("no challenge")
            };
            let (swarm, id) = (SWARM.parse().unwrap(), "a".parse().unwrap());
            let register = Register::sign(swarm, id, session(1), name(), &nonce, &key(1));
            others.push(other);
            let mut socket = raw(server).await;
            say(&mut socket, &ClientFrame::Register(register)).await;
            socket
        }
        ErrorCode::NotRegistered => {
            let mut socket = raw(server).await;
            ask(&mut socket, "a", "b").await;
            socket
        }
        ErrorCode::NotAdmitted => registering("b", 2, 1, name()).await,
        ErrorCode::WrongServer => registering("a", 1, 1, "elsewhere.example:443".into()).await,
        ErrorCode::IdTaken => {
            others.push(raw_join(server, "a", 1).await);
            registering("a", 2, LATER, name()).await
        }
        ErrorCode::OlderSession => {
            others.push(raw_join(server, "a", 1).await);
            registering("a", 1, LATER - 1, name()).await
        }
        ErrorCode::ServerFull => {
            others.push(raw_join(server, "a", 1).await);
            registering("b", 2, 1, name()).await
        }
        ErrorCode::Replaced => {
            let earlier = raw_join(server, "a", 1).await;
            others.push(raw_join(server, "a", 1).await);
            earlier
        }
        ErrorCode::BadFrame => {
            let mut socket = raw_join(server, "a", 1).await;
            socket.send(Message::text("garbage")).await.unwrap();
            socket
        }
        ErrorCode::NotYours => {
            let mut socket = raw_join(server, "a", 1).await;
            ask(&mut socket, "b", "a").await;
            socket
        }
        ErrorCode::UnknownPeer => {
            let mut socket = raw_join(server, "a", 1).await;
            ask(&mut socket, "a", "b").await;
            socket
        }
        ErrorCode::TooLarge => {
            let mut socket = raw_join(server, "a", 1).await;
            let mut large = offer("a", 1, "b");
            large.sdp = "x".repeat(MAX_SDP + 1);
            say(&mut socket, &large.into()).await;
            socket
        }
        ErrorCode::RateLimited => {
            let mut socket = raw_join(server, "a", 1).await;
            // To itself, so that what is not yet too much is relayed and no refusal.
            let me: AgentId = "a".parse().unwrap();
            let frame = ClientFrame::PleaseOffer {
                from: me.clone(),
                to: me,
            };
            for _ in 0..50 {
                // The server may have stopped reading.
                let _ = socket.send(Message::text(frame.to_text())).await;
            }
            socket
        }
    }
}

#[tokio::test]
async fn who_was_refused_and_is_gone_leaves_nothing_behind() {
    within(async {
        let server = server_with(unhurried()).await;
        let _a = raw_join(&server, "a", 1).await;
        let before = server.census();
        assert_eq!(
            before,
            Census {
                sockets: 1,
                strangers: 0,
                connections: 1,
                unregistered: 0,
                addresses: 1,
                queues: 1,
                queued_bytes: 0,
                swarms: 1,
                agents: 1,
                bound_ids: 1,
                left: 0,
            }
        );
        for round in 0..ROUNDS {
            // What is no WebSocket, another path, half a handshake.
            for bytes in [
                &b"\x16\x03\x01 nonsense\r\n\r\n"[..],
                b"GET /elsewhere HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n\r\n",
                b"GET /v1/five HTTP/1.1\r\n",
                b"",
            ] {
                let mut tcp = TcpStream::connect(server.local_addr()).await.unwrap();
                tcp.write_all(bytes).await.unwrap();
            }
            // Frames that are refused before registration.
            for message in [
                Message::text("garbage"),
                Message::binary(vec![0; 9]),
                Message::text("x".repeat(STRANGER_BYTES / 2)),
                Message::text("x".repeat(4 * STRANGER_BYTES)),
            ] {
                let mut socket = raw(&server).await;
                // The server may have stopped reading.
                let _ = socket.send(message).await;
                refusal(&mut socket).await;
            }
            // Registrations that are: for the name, the key, the session; each under an id of its
            // own where ids could pile up.
            let name = server.local_addr().to_string();
            for (id, seed, ms, name) in [
                (format!("b-{round}"), 2, 1, "elsewhere.example:443"),
                ("a".into(), 2, LATER, &name),
                ("a".into(), 1, 1, &name),
            ] {
                let mut socket = raw(&server).await;
                register(&mut socket, &id, seed, session(ms), name.into()).await;
                refusal(&mut socket).await;
            }
            // And somebody who comes, and goes without a word.
            drop(raw(&server).await);
        }
        holds(&server, before).await;
        server.shutdown().await;
    })
    .await;
}

#[tokio::test]
async fn strangers_who_say_nothing_take_their_own_places_and_no_more() {
    within(async {
        const PLACES: usize = 8;
        let limits = Limits {
            unregistered: PLACES,
            unregistered_per_address: PLACES,
            ..unhurried()
        };
        let server = server_with(limits).await;
        let mut a = raw_join(&server, "a", 1).await;
        let before = server.census();

        let mut silent = Vec::new();
        for _ in 0..5 * PLACES {
            silent.push(TcpStream::connect(server.local_addr()).await.unwrap());
        }
        for turned_away in silent.split_off(PLACES) {
            ended(turned_away).await;
        }
        let full = Census {
            sockets: 1 + PLACES,
            strangers: PLACES,
            ..before
        };
        holds(&server, full).await;
        // Who is registered notices nothing.
        ask(&mut a, "a", "zoe").await;
        assert_eq!(refusal(&mut a).await.code, ErrorCode::UnknownPeer);
        drop(silent);
        holds(&server, before).await;

        // The same for those that shake hands and then do not register.
        let mut mute = Vec::new();
        for _ in 0..PLACES {
            let mut socket = raw(&server).await;
            raw_frame(&mut socket).await.unwrap();
            mute.push(socket);
        }
        for _ in 0..3 * PLACES {
            let mut socket = raw(&server).await;
            assert_eq!(refusal(&mut socket).await.code, ErrorCode::ServerFull);
        }
        let full = Census {
            sockets: 1 + PLACES,
            connections: 1 + PLACES,
            unregistered: PLACES,
            queues: 1 + PLACES,
            ..before
        };
        holds(&server, full).await;
        drop(mute);
        holds(&server, before).await;
        server.shutdown().await;
    })
    .await;
}

/// Nobody is dropped because this machine is slow.
fn unhurried() -> Limits {
    Limits {
        register_within: 4 * PATIENCE,
        ping_every: 4 * PATIENCE,
        ..Limits::default()
    }
}

async fn say(socket: &mut Raw, frame: &ClientFrame) {
    let text = Message::text(frame.to_text());
    socket.send(text).await.unwrap();
}

/// A frame that nobody has to sign.
async fn ask(socket: &mut Raw, from: &str, to: &str) {
    let (from, to) = (from.parse().unwrap(), to.parse().unwrap());
    say(socket, &ClientFrame::PleaseOffer { from, to }).await;
}

/// The next error; what else the server says is passed over.
async fn refusal(socket: &mut Raw) -> ErrorFrame {
    loop {
        match raw_frame(socket).await {
            Some(ServerFrame::Error(error)) => return error,
            Some(_) => {}
            None => panic!("closed without a reason"),
        }
    }
}

/// The other end has closed it, in whatever manner.
async fn ended(mut tcp: TcpStream) {
    let _ = tcp.read_to_end(&mut Vec::new()).await;
}

/// Waits until the server holds exactly this. Its tasks run while this yields.
async fn holds(server: &Server, expected: Census) {
    let mut found = server.census();
    let wait = async {
        while found != expected {
            tokio::task::yield_now().await;
            found = server.census();
        }
    };
    let waited = timeout(PATIENCE, wait).await;
    assert!(waited.is_ok(), "found {found:?}, expected {expected:?}");
}

async fn within<T>(story: impl Future<Output = T>) -> T {
    let told = timeout(2 * PATIENCE, story).await;
    told.expect("what is waited for comes")
}

/// For what never comes; what does takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(60);
/// The session of those who join.
const LATER: u64 = 1_700_000_000_000;
/// Enough that something left behind by each client shows.
const ROUNDS: usize = 20;

#[tokio::test]
async fn a_socket_that_is_turned_away_is_told_when_to_come_back_and_each_a_little_later() {
    within(async {
        let server = server_with(Limits {
            unregistered: 0,
            ..Limits::default()
        })
        .await;
        let mut pauses = Vec::new();
        for _ in 0..600 {
            let refused = Client::connect(config(server.url(), "a", 1)).await;
            match refused.err().unwrap() {
                ConnectError::Busy { retry_after, .. } => pauses.push(retry_after.unwrap()),
                // It was dropped before the request was written.
                ConnectError::NotWebSocket { .. } | ConnectError::Unreachable { .. } => {}
                err => panic!("{err}"),
            }
        }
        // Most have read it; nobody waits for them to.
        assert!(pauses.len() >= 300, "{}", pauses.len());
        assert!(pauses.iter().all(|pause| *pause >= Duration::from_secs(1)));
        assert_eq!(server.observer().look().unwrap().1.turned_away, 600);
        server.shutdown().await;
    })
    .await;
}
