//! The server's door: TLS if there is any, the WebSocket handshake, which swarm; and how a socket is
//! closed so that the other end can read why.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, http};

use super::address::swarm_of_path;
use super::meter::{Meter, Metered};
use super::tls::{ServerTls, Stream};
use super::wire::MAX_FRAME;
use crate::identity::SwarmName;

/// A socket of the server's.
pub(super) type Socket = WebSocketStream<Metered<Stream>>;

/// A socket that has shaken hands, on the path of a swarm.
pub(super) struct Shaken {
    pub(super) socket: Socket,
    pub(super) meter: Meter,
    pub(super) swarm: SwarmName,
}

/// Shakes hands. Takes as long as the client does: the caller sets a time.
#[expect(
    clippy::result_large_err,
    reason = "the handshake's callback is typed so"
)]
pub(super) async fn shake_hands(tcp: TcpStream, tls: Option<&ServerTls>) -> Result<Shaken, Error> {
    // Offers are small and every one is waited for.
    tcp.set_nodelay(true)?;
    let stream: Stream = match tls {
        Some(tls) => secure(tcp, tls).await?,
        None => Box::new(tcp),
    };
    let mut swarm = None;
    let check_path = |request: &Request, response: Response| -> Result<Response, ErrorResponse> {
        swarm = swarm_of_path(request.uri().path());
        if swarm.is_some() {
            return Ok(response);
        }
        let mut refusal = ErrorResponse::new(Some("signaling lives at /v1/SWARM\n".into()));
        *refusal.status_mut() = http::StatusCode::NOT_FOUND;
        Err(refusal)
    };
    let config = Some(socket_config());
    let meter = Meter::new(STRANGER_BYTES);
    let metered = Metered::new(stream, meter.clone());
    let socket =
        tokio_tungstenite::accept_hdr_async_with_config(metered, check_path, config).await?;
    Ok(Shaken {
        socket,
        meter,
        swarm: swarm.expect("the handshake fails without a swarm"),
    })
}

/// TLS, or, to a client that speaks plain HTTP, the news that it should.
async fn secure(mut tcp: TcpStream, tls: &ServerTls) -> io::Result<Stream> {
    let mut first = [0];
    if tcp.peek(&mut first).await? == 1 && first != [TLS_HANDSHAKE] {
        tcp.write_all(NEEDS_TLS.as_bytes()).await?;
        linger(Box::new(tcp)).await;
        return Err(io::Error::other("it does not speak TLS"));
    }
    tls.accept(tcp).await
}

/// Closing a socket with unread bytes resets it, and the client would never read why it was refused:
/// so what still comes is thrown away, for a while.
pub(super) async fn linger(mut stream: Stream) {
    let _ = timeout(LINGER, async {
        stream.shutdown().await?;
        let mut thrown = 0;
        let mut buffer = [0; 4096];
        while thrown < LINGER_BYTES {
            match stream.read(&mut buffer).await? {
                0 => break,
                n => thrown += n,
            }
        }
        io::Result::Ok(())
    })
    .await;
}

/// For both ends: nothing over [`MAX_FRAME`] is ever buffered, and a connection that is idle holds
/// little memory.
pub(super) fn socket_config() -> WebSocketConfig {
    WebSocketConfig::default()
        .max_message_size(Some(MAX_FRAME))
        .max_frame_size(Some(MAX_FRAME))
        .read_buffer_size(SOCKET_BUFFER)
        .write_buffer_size(SOCKET_BUFFER)
}

/// The first byte of a TLS record that opens a connection (RFC 8446, section 5.1).
const TLS_HANDSHAKE: u8 = 22;
/// The answer to HTTP without TLS (RFC 9110, section 15.5.22).
const NEEDS_TLS: &str = "HTTP/1.1 426 Upgrade Required\r\n\
    Upgrade: TLS/1.3\r\nConnection: Upgrade, close\r\n\
    Content-Type: text/plain\r\nContent-Length: 32\r\n\r\n\
    this port speaks TLS: use wss://";
/// What is read of a client before it has registered: headers such as proxies add, and one frame.
pub(super) const STRANGER_BYTES: usize = 16 * 1024;
/// A frame or two; larger ones get room when they come.
pub(super) const SOCKET_BUFFER: usize = 8 * 1024;
/// For the client to take note and close its end.
const LINGER: Duration = Duration::from_secs(1);
/// A few frames that were on their way.
const LINGER_BYTES: usize = 4 * MAX_FRAME;
