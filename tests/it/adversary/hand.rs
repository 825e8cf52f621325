//! A client of the signaling server that is made by hand, and says what no client would.

use std::net::{IpAddr, SocketAddr};

use futures_util::{SinkExt, StreamExt};
use ifswarm::identity::{KeyPair, Session};
use ifswarm::signal::{ClientFrame, Nonce, Register};
use serde_json::Value;
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::{WebSocketStream, client_async};

use super::signal_process::SignalProcess;
use crate::live::swarm_name;
use crate::support::{FixtureAgent, bytes_of};

/// A connection to the server that nobody has registered on.
pub(super) struct Hand {
    socket: WebSocketStream<TcpStream>,
    nonce: Nonce,
    authority: String,
}

/// Where a stranger comes from. A server counts by addresses, of which every host has millions:
/// on Linux all of 127/8 are its own.
pub(super) const HOME: [u8; 4] = [127, 0, 0, 1];

/// A TCP connection from this address.
pub(super) async fn dial(from: [u8; 4], server: &str) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::new(IpAddr::from(from), 0))?;
    let tcp = socket.connect(server.parse().unwrap()).await?;
    tcp.set_nodelay(true)?;
    Ok(tcp)
}

/// A socket that has shaken hands, and what it was told first; if it was told anything.
pub(super) async fn knock(
    from: [u8; 4],
    server: &str,
) -> Option<(WebSocketStream<TcpStream>, Value)> {
    let tcp = dial(from, server).await.ok()?;
    let url = format!("ws://{server}/v1/{}", swarm_name());
    let (mut socket, _) = client_async(url, tcp).await.ok()?;
    let first = next(&mut socket).await?;
    Some((socket, first))
}

/// The next frame; `None` when the server has closed the connection.
pub(super) async fn next(socket: &mut WebSocketStream<TcpStream>) -> Option<Value> {
    loop {
        match socket.next().await?.ok()? {
            Message::Text(text) => return Some(serde_json::from_str(&text).unwrap()),
            Message::Close(_) => return None,
            _ => {}
        }
    }
}

impl Hand {
    pub(super) async fn reach_out(server: &SignalProcess) -> Self {
        let authority = server.authority();
        let (socket, challenge) = knock(HOME, authority).await.expect("an open door");
        let nonce: [u8; 32] = hex::decode(challenge["nonce"].as_str().unwrap())
            .unwrap()
            .try_into()
            .unwrap();
        Self {
            socket,
            nonce: Nonce::from_bytes(nonce),
            authority: authority.to_owned(),
        }
    }

    /// Registered as `id`, in its turn, under its own key.
    pub(super) async fn registered(server: &SignalProcess, id: &str) -> Self {
        let mut hand = Self::reach_out(server).await;
        let register = hand.register(id, &FixtureAgent::new(id).key);
        hand.say(&register).await;
        let told = hand.told().await.unwrap();
        assert_eq!(told["type"], "registered", "{told}");
        hand
    }

    /// The registration of `id` under this key, for this connection; in a session of its own,
    /// later than that of the fixtures.
    pub(super) fn register(&self, id: &str, key: &KeyPair) -> String {
        self.register_at(id, key, &self.authority)
    }

    /// As [`register`](Self::register), signed for this server.
    pub(super) fn register_at(&self, id: &str, key: &KeyPair, server: &str) -> String {
        let session = Self::session(id);
        let (id, server) = (id.parse().unwrap(), server.to_owned());
        let register = Register::sign(swarm_name(), id, session, server, &self.nonce, key);
        ClientFrame::Register(register).to_text()
    }

    /// The session that [`register`](Self::register) is for.
    pub(super) fn session(id: &str) -> Session {
        let earlier = FixtureAgent::new(id).session;
        Session::new(earlier.unix_ms() + 1_000, bytes_of("hand", id))
    }

    pub(super) async fn say(&mut self, text: &str) {
        self.send(Message::text(text)).await;
    }

    /// The server may have hung up already: then it says why, or why not, all the same.
    pub(super) async fn send(&mut self, message: Message) {
        let _ = self.socket.send(message).await;
    }

    pub(super) async fn told(&mut self) -> Option<Value> {
        next(&mut self.socket).await
    }

    /// The code of the next refusal; what comes before it is dropped.
    pub(super) async fn refusal(&mut self) -> String {
        loop {
            let told = self.told().await.expect("a refusal");
            if told["type"] == "error" {
                return told["code"].as_str().unwrap().to_owned();
            }
        }
    }

    /// The code of the refusal with which the server hangs up.
    pub(super) async fn last_refusal(&mut self) -> String {
        let code = self.refusal().await;
        while let Some(told) = self.told().await {
            assert_ne!(told["type"], "error", "{told}");
        }
        code
    }
}

/// A text frame that is not UTF-8.
pub(super) fn not_utf8() -> Message {
    let bytes = b"{\"type\":\"\xff\"}".to_vec();
    Message::Frame(Frame::message(bytes, OpCode::Data(Data::Text), true))
}
