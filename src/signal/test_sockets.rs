//! A server, clients, and sockets that may misbehave, for tests over real connections.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use super::*;
use crate::identity::{KeyPair, LinkId, Session};

pub(super) const SWARM: &str = "five";

pub(super) fn key(seed: u8) -> KeyPair {
    KeyPair::from_secret(&[seed; 32])
}

pub(super) fn session(ms: u64) -> Session {
    Session::new(ms, [7; 10])
}

pub(super) async fn server_with(limits: Limits) -> Server {
    let listen: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let mut config = ServerConfig::new(listen, Admission::Open);
    config.limits = limits;
    Server::bind(config).await.unwrap()
}

pub(super) async fn server() -> Server {
    server_with(Limits::default()).await
}

pub(super) fn config(url: String, id: &str, seed: u8) -> ClientConfig {
    ClientConfig {
        url,
        swarm: SWARM.parse().unwrap(),
        agent_id: id.parse().unwrap(),
        key: key(seed),
        session: session(1_700_000_000_000),
        trust: Trust::default(),
        connect_timeout: Duration::from_secs(10),
    }
}

pub(super) async fn join(server: &Server, id: &str, seed: u8) -> (Client, Registered) {
    Client::connect(config(server.url(), id, seed))
        .await
        .unwrap()
}

pub(super) fn offer(from: &str, seed: u8, to: &str) -> SdpFrame {
    SdpFrame::sign(
        SdpBody {
            swarm: SWARM.parse().unwrap(),
            from: from.parse().unwrap(),
            to: to.parse().unwrap(),
            session: session(1_700_000_000_000),
            to_session: session(1_700_000_000_000),
            link: LinkId::from_bytes([1; 8]),
            kind: SdpKind::Offer,
            sdp: "v=0\r\n".into(),
        },
        &key(seed),
    )
}

pub(super) type Raw = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// A client that may misbehave.
pub(super) async fn raw(server: &Server) -> Raw {
    let url = format!("{}/v1/{SWARM}", server.url());
    tokio_tungstenite::connect_async(url).await.unwrap().0
}

pub(super) async fn raw_frame(socket: &mut Raw) -> Option<ServerFrame> {
    loop {
        match socket.next().await?.ok()? {
            Message::Text(text) => return Some(ServerFrame::parse(text.as_bytes()).unwrap()),
            Message::Close(_) => return None,
            _ => {}
        }
    }
}

pub(super) async fn raw_join(server: &Server, id: &str, seed: u8) -> Raw {
    let mut socket = raw(server).await;
    let name = server.local_addr().to_string();
    register(&mut socket, id, seed, session(1_700_000_000_000), name).await;
    let answer = raw_frame(&mut socket).await;
    assert!(
        matches!(answer, Some(ServerFrame::Registered(_))),
        "{answer:?}"
    );
    socket
}

/// Answers the challenge, as `id` under the key of `seed`.
pub(super) async fn register(
    socket: &mut Raw,
    id: &str,
    seed: u8,
    session: Session,
    server: String,
) {
    let Some(ServerFrame::Challenge { nonce, .. }) = raw_frame(socket).await else {
        panic!("no challenge")
    };
    let register = Register::sign(
        SWARM.parse().unwrap(),
        id.parse().unwrap(),
        session,
        server,
        &nonce,
        &key(seed),
    );
    let text = ClientFrame::Register(register).to_text();
    socket.send(Message::text(text)).await.unwrap();
}

pub(super) async fn code_then_end(socket: &mut Raw) -> ErrorCode {
    loop {
        match raw_frame(socket).await {
            Some(ServerFrame::Error(error)) => {
                assert_eq!(raw_frame(socket).await, None, "the connection ends");
                return error.code;
            }
            Some(_) => {}
            None => panic!("ended without an error"),
        }
    }
}

pub(super) async fn next(client: &mut Client) -> ServerFrame {
    client.recv().await.unwrap().unwrap()
}
