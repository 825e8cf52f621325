//! Server and clients over real sockets: what only they can show.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::SinkExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

use super::test_sockets::*;
use super::*;
use crate::identity::LinkId;

#[tokio::test]
async fn two_clients_register_and_an_offer_reaches_the_other_verified() {
    let server = server().await;
    let (mut a, registered) = join(&server, "a", 1).await;
    assert_eq!(registered.connected_agents, []);
    let (mut b, registered) = join(&server, "b", 2).await;
    assert_eq!(registered.connected_agents[0].agent_id.as_str(), "a");
    assert!(
        matches!(next(&mut a).await, ServerFrame::AgentJoined { agent } if agent.agent_id.as_str() == "b")
    );

    let sent = offer("a", 1, "b");
    a.sender().send(sent.clone().into()).await.unwrap();
    let ServerFrame::Offer(received) = next(&mut b).await else {
        panic!("no offer")
    };
    assert_eq!(received, sent);
    let me = "b".parse().unwrap();
    let expect = SdpExpect {
        me: &me,
        my_session: session(1_700_000_000_000),
        swarm: &SWARM.parse().unwrap(),
        key_of: &|_: &_| Some(key(1).public_key()),
    };
    assert_eq!(received.verify(&expect), Ok(()));

    let goodbye = Goodbye::sign(
        &SWARM.parse().unwrap(),
        &"a".parse().unwrap(),
        session(1_700_000_000_000),
        "done",
        Default::default(),
        &key(1),
    );
    a.sender()
        .send(ClientFrame::Goodbye(goodbye))
        .await
        .unwrap();
    let left = next(&mut b).await;
    assert!(
        matches!(
            left,
            ServerFrame::AgentLeft {
                reason: LeftReason::Goodbye,
                ..
            }
        ),
        "{left:?}"
    );
    assert!(
        a.recv().await.is_none(),
        "after a goodbye the server closes"
    );
    a.close().await;
    b.close().await;
    server.shutdown().await;
}

#[tokio::test]
async fn an_agent_whose_connection_broke_is_told_as_lost() {
    let server = server().await;
    let (mut a, _) = join(&server, "a", 1).await;
    let (b, _) = join(&server, "b", 2).await;
    next(&mut a).await;
    drop(b);
    let left = next(&mut a).await;
    assert!(
        matches!(
            left,
            ServerFrame::AgentLeft {
                reason: LeftReason::Lost,
                ..
            }
        ),
        "{left:?}"
    );
    server.shutdown().await;
    assert!(a.recv().await.is_none());
    assert!(a.recv().await.is_none());
}

#[tokio::test]
async fn a_registration_signed_with_another_key_is_refused() {
    let server = server().await;
    let mut socket = raw(&server).await;
    let Some(ServerFrame::Challenge { nonce, .. }) = raw_frame(&mut socket).await else {
        panic!("no challenge")
    };
    let mut register = Register::sign(
        SWARM.parse().unwrap(),
        "a".parse().unwrap(),
        session(1),
        server.local_addr().to_string(),
        &nonce,
        &key(1),
    );
    register.public_key = key(2).public_key();
    let text = ClientFrame::Register(register).to_text();
    socket.send(Message::text(text)).await.unwrap();
    assert_eq!(code_then_end(&mut socket).await, ErrorCode::BadSignature);
}

#[tokio::test]
async fn an_oversize_frame_is_told_and_closes_only_its_own_connection() {
    let server = server().await;
    let (mut a, _) = join(&server, "a", 1).await;
    let mut socket = raw_join(&server, "b", 2).await;
    next(&mut a).await;
    // The server stops reading half-way; whether all of it can be written is no matter.
    let _ = socket.send(Message::text("x".repeat(3 * MAX_FRAME))).await;
    assert_eq!(code_then_end(&mut socket).await, ErrorCode::TooLarge);
    let left = next(&mut a).await;
    assert!(
        matches!(
            left,
            ServerFrame::AgentLeft {
                reason: LeftReason::Lost,
                ..
            }
        ),
        "{left:?}"
    );
}

#[tokio::test]
async fn binary_frames_and_garbage_are_told_and_the_registered_connection_lives_on() {
    let server = server().await;
    let mut socket = raw_join(&server, "a", 1).await;
    for message in [
        Message::binary(vec![0, 255]),
        Message::text("garbage"),
        Message::text("{\"type\":\"offer\"}"),
        Message::text("{\"a\":1,\"a\":2}"),
    ] {
        socket.send(message).await.unwrap();
        let answer = raw_frame(&mut socket).await;
        let Some(ServerFrame::Error(error)) = answer else {
            panic!("{answer:?}")
        };
        assert_eq!(error.code, ErrorCode::BadFrame);
    }
    let mut stranger = raw(&server).await;
    stranger.send(Message::text("garbage")).await.unwrap();
    assert_eq!(code_then_end(&mut stranger).await, ErrorCode::BadFrame);
}

#[tokio::test]
async fn text_that_is_not_utf8_is_told_and_closes_the_connection() {
    let server = server().await;
    let mut socket = raw_join(&server, "a", 1).await;
    let frame = Frame::message(vec![0xff, 0xfe], OpCode::Data(Data::Text), true);
    socket.send(Message::Frame(frame)).await.unwrap();
    assert_eq!(code_then_end(&mut socket).await, ErrorCode::BadFrame);
}

#[tokio::test]
async fn a_client_that_never_reads_is_dropped_and_nobody_else_waits() {
    // Only the queue may end it here, not the rate or the ping.
    let limits = Limits {
        frames_per_second: 1_000_000,
        frames_burst: 1_000_000,
        queued_bytes: 1024 * 1024,
        ..Limits::default()
    };
    let server = server_with(limits).await;
    let _deaf = raw_join(&server, "deaf", 1).await;
    let mut flooder = raw_join(&server, "flooder", 2).await;
    let (mut witness, _) = join(&server, "witness", 3).await;
    assert!(matches!(
        raw_frame(&mut flooder).await,
        Some(ServerFrame::AgentJoined { .. })
    ));
    let mut sdp = offer("flooder", 2, "deaf");
    sdp.sdp = "x".repeat(60 * 1024);
    let text: Utf8Bytes = ClientFrame::from(sdp).to_text().into();
    let flood = async {
        // The queue, and what the kernel takes: ends when the offers find nobody.
        loop {
            flooder.send(Message::Text(text.clone())).await.unwrap();
            if let Ok(answer) = tokio::time::timeout(Duration::ZERO, raw_frame(&mut flooder)).await
            {
                return answer;
            }
        }
    };
    let answer = flood.await;
    assert!(
        matches!(answer, Some(ServerFrame::AgentLeft { .. })),
        "{answer:?}"
    );
    let left = next(&mut witness).await;
    assert!(
        matches!(&left, ServerFrame::AgentLeft { agent_id, reason: LeftReason::Lost, .. } if agent_id.as_str() == "deaf"),
        "{left:?}"
    );
    server.shutdown().await;
}

#[tokio::test]
async fn a_client_that_pings_and_never_reads_is_dropped_when_it_has_not_taken_a_frame_for_long() {
    let limits = Limits {
        frames_per_second: 1_000_000,
        frames_burst: 1_000_000,
        bytes_burst: 64 * 1024 * 1024,
        stalled_for: Duration::from_secs(2),
        ping_every: Duration::from_secs(1),
        ..Limits::default()
    };
    let server = server_with(limits).await;
    let mut deaf = raw_join(&server, "deaf", 1).await;
    let (mut flooder, _) = join(&server, "flooder", 2).await;
    // More than the kernel takes, less than the queue does.
    let mut sdp = offer("flooder", 2, "deaf");
    sdp.sdp = "x".repeat(MAX_SDP);
    for _ in 0..200 {
        flooder.sender().send(sdp.clone().into()).await.unwrap();
    }
    let alive = async {
        let mut pulse = tokio::time::interval(Duration::from_millis(200));
        loop {
            pulse.tick().await;
            // Fails when it was dropped.
            let _ = deaf.send(Message::Ping(Default::default())).await;
        }
    };
    let left = tokio::select! {
        left = next(&mut flooder) => left,
        () = alive => unreachable!("it pings for ever"),
    };
    assert!(
        matches!(&left, ServerFrame::AgentLeft { agent_id, reason: LeftReason::Lost, .. } if agent_id.as_str() == "deaf"),
        "{left:?}"
    );
    let (_, traffic) = server.observer().look().unwrap();
    assert_eq!(traffic.dropped, 1, "it was not the ping that ended it");
}

#[tokio::test]
async fn a_connection_that_shows_no_life_between_two_pings_is_dropped() {
    let limits = Limits {
        ping_every: Duration::from_secs(1),
        ..Limits::default()
    };
    let server = server_with(limits).await;
    let (mut a, _) = join(&server, "a", 1).await;
    // Registered, and then never polled again: pings are not answered.
    let _mute = raw_join(&server, "mute", 2).await;
    next(&mut a).await;
    let left = next(&mut a).await;
    assert!(matches!(left, ServerFrame::AgentLeft { .. }), "{left:?}");
}

#[tokio::test]
async fn a_connection_that_does_not_register_in_time_is_told() {
    let limits = Limits {
        register_within: Duration::from_secs(1),
        ..Limits::default()
    };
    let server = server_with(limits).await;
    let mut socket = raw(&server).await;
    assert_eq!(code_then_end(&mut socket).await, ErrorCode::NotRegistered);
    // Nor does a half-shaken hand keep a place.
    let mut tcp = TcpStream::connect(server.local_addr()).await.unwrap();
    tcp.write_all(b"GET /v1/five HTTP/1.1\r\n").await.unwrap();
    let mut rest = Vec::new();
    // Ends, whether by end of file or reset.
    let _ = tcp.read_to_end(&mut rest).await;
}

#[tokio::test]
async fn what_goes_wrong_while_connecting_is_told_with_the_url() {
    let server = server().await;
    let refused = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        format!("ws://{}", listener.local_addr().unwrap())
    };
    let fail = async |url: &str| {
        let mut config = config(url.into(), "a", 1);
        if url.ends_with("/silent") {
            config.connect_timeout = Duration::from_millis(200);
        }
        match Client::connect(config).await {
            Ok(_) => panic!("{url} connected"),
            Err(err) => err,
        }
    };
    let err = fail(&refused).await;
    assert!(matches!(err, ConnectError::Refused { .. }), "{err}");
    assert!(err.to_string().contains(&refused), "{err}");

    let err = fail("ws://no..host:1").await;
    assert!(matches!(err, ConnectError::NoSuchHost { .. }), "{err}");

    let err = fail("http://127.0.0.1:1").await;
    assert!(matches!(err, ConnectError::Url { .. }), "{err}");

    let err = fail(&format!("{}/elsewhere", server.url())).await;
    assert!(matches!(err, ConnectError::NotWebSocket { .. }), "{err}");
    assert!(err.to_string().contains("404"), "{err}");

    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let err = fail(&format!("ws://{}/silent", silent.local_addr().unwrap())).await;
    assert!(matches!(err, ConnectError::TimedOut { .. }), "{err}");

    let _a = join(&server, "a", 9).await;
    let err = fail(&server.url()).await;
    assert!(
        matches!(
            err,
            ConnectError::Registration {
                code: ErrorCode::IdTaken,
                ..
            }
        ),
        "{err}"
    );
    assert!(err.to_string().contains("id-taken"), "{err}");
}

#[tokio::test]
async fn the_witness_is_told_before_the_offer_arrives() {
    let notes = Arc::new(Mutex::new(Vec::new()));
    let listen = "127.0.0.1:0".parse().unwrap();
    let mut config = ServerConfig::new(listen, Admission::Open);
    let sink = Arc::clone(&notes);
    config.witness = Some(WitnessSink {
        note: Box::new(move |note: WitnessNote| sink.lock().unwrap().push(note)),
        sdp: crate::swarm::SdpDetail::Hash,
    });
    let server = Server::bind(config).await.unwrap();
    let (a, _) = join(&server, "a", 1).await;
    let (mut b, _) = join(&server, "b", 2).await;
    let sent = offer("a", 1, "b");
    a.sender().send(sent.clone().into()).await.unwrap();
    assert!(matches!(next(&mut b).await, ServerFrame::Offer(_)));
    let notes = notes.lock().unwrap();
    let events: Vec<_> = notes.iter().map(|note| note.event).collect();
    assert_eq!(
        events,
        [
            "signaling_server_started",
            "agent_registered",
            "agent_registered",
            "sdp_offer_relayed"
        ]
    );
    let metadata = &notes[3].metadata;
    assert_eq!(metadata["sdp_sha256"], hex::encode(sent.digest()));
    assert_eq!(
        metadata["frame"]["offer"],
        serde_json::json!({"type": "offer"})
    );
}

#[tokio::test]
async fn frames_go_out_in_order_and_the_largest_sdp_gets_through() {
    let server = server().await;
    let (a, _) = join(&server, "a", 1).await;
    let (mut b, _) = join(&server, "b", 2).await;
    let sender = a.sender();
    let mut sdp = offer("a", 1, "b");
    sdp.sdp = "x".repeat(MAX_SDP + 1);
    assert!(matches!(
        sender.send(sdp.clone().into()).await,
        Err(SendError::TooLarge { .. })
    ));
    sdp.sdp.pop();
    sender.send(sdp.clone().into()).await.unwrap();
    assert_eq!(next(&mut b).await, ServerFrame::Offer(sdp));
    for place in 0..50 {
        let candidates = Candidates {
            from: "a".parse().unwrap(),
            to: "b".parse().unwrap(),
            link: LinkId::from_bytes([1; 8]),
            candidates: vec![Candidate {
                candidate: "candidate:1".into(),
                sdp_mid: None,
                sdp_mline_index: Some(place),
            }],
            end: false,
        };
        sender
            .send(ClientFrame::IceCandidates(candidates))
            .await
            .unwrap();
    }
    for place in 0..50 {
        let ServerFrame::IceCandidates(candidates) = next(&mut b).await else {
            panic!("no candidates")
        };
        assert_eq!(candidates.candidates[0].sdp_mline_index, Some(place));
    }
    a.close().await;
    assert_eq!(
        sender
            .send(ClientFrame::PleaseOffer {
                from: "a".parse().unwrap(),
                to: "b".parse().unwrap()
            })
            .await,
        Err(SendError::Closed)
    );
}
