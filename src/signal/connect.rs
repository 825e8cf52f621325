//! How a client comes to be registered: TCP, TLS, WebSocket, challenge, proof; and why it does not.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::stream::FuturesUnordered;
use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{Error, Message, http};

use super::address::Target;
use super::client::ClientConfig;
use super::door::socket_config;
use super::errors::ErrorCode;
use super::proof::{Later, Register};
use super::tls::{CertificateFault, HandshakeFault, Stream};
use super::wire::{ClientFrame, PROTOCOL, Registered, ServerFrame};
use crate::identity::Session;

/// A client's socket.
pub(super) type Socket = WebSocketStream<Stream>;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The URL is none, or not one of a signaling server.
    #[error("`{url}` is no URL of a signaling server: {detail}")]
    Url {
        /// The URL.
        url: String,
        /// What was found and what was expected.
        detail: String,
    },
    /// The name of the host is not known.
    #[error("{url}: no host of this name ({source}); check the spelling and the network")]
    NoSuchHost {
        /// The URL.
        url: String,
        /// What the resolver said.
        source: io::Error,
    },
    /// Nobody listens there.
    #[error(
        "{url}: connection refused: nobody listens there; start a server with `ifswarm signal`, or check the port"
    )]
    Refused {
        /// The URL.
        url: String,
    },
    /// The host cannot be reached.
    #[error("{url}: cannot be reached ({source}); check the address, the network and firewalls")]
    Unreachable {
        /// The URL.
        url: String,
        /// What the operating system said.
        source: io::Error,
    },
    /// Somebody listens there who does not speak WebSocket.
    #[error(
        "{url}: no WebSocket server there ({detail}); is this the port of `ifswarm signal`, and the path /v1/SWARM?"
    )]
    NotWebSocket {
        /// The URL.
        url: String,
        /// What came instead.
        detail: String,
    },
    /// Somebody listens there who does not speak this protocol.
    #[error("{url}: no ifswarm signaling server there: {detail}")]
    Protocol {
        /// The URL.
        url: String,
        /// What was found and what was expected.
        detail: String,
    },
    /// It does not speak TLS.
    #[error(
        "{url}: no TLS there: dial ws://, if that is what its line `listening on` says, or start it with --tls-cert and --tls-key"
    )]
    NoTls {
        /// The URL.
        url: String,
    },
    /// It speaks nothing but TLS.
    #[error("{url}: it speaks TLS only: dial wss:// instead of ws://")]
    NeedsTls {
        /// The URL.
        url: String,
    },
    /// The server's certificate is not believed.
    #[error("{url}: the server's certificate is not believed: {fault}")]
    Certificate {
        /// The URL.
        url: String,
        /// Why not.
        fault: CertificateFault,
    },
    /// This system has no list of authorities.
    #[error(
        "{url}: no certificate authorities on this system{detail}: install its package ca-certificates, or name one with --ca FILE"
    )]
    NoAuthorities {
        /// The URL.
        url: String,
        /// What was found instead, in brackets.
        detail: String,
    },
    /// The TLS handshake failed for another reason.
    #[error("{url}: the TLS handshake failed: {detail}")]
    Tls {
        /// The URL.
        url: String,
        /// How.
        detail: String,
    },
    /// It took too long.
    #[error("{url}: no answer within {after:?}; check the address, the network and firewalls")]
    TimedOut {
        /// The URL.
        url: String,
        /// How long was waited.
        after: Duration,
    },
    /// The server said no.
    #[error("{url}: registration refused ({code}): {message}")]
    Registration {
        /// The URL.
        url: String,
        /// Its code.
        code: ErrorCode,
        /// Its explanation.
        message: String,
        /// With `older-session`: the session that is connected; a greater one may take its place.
        session: Option<Session>,
        /// With `older-session`: the registration of that session.
        later: Option<Box<Later>>,
        /// How long it asks to wait before the next attempt.
        retry_after: Option<Duration>,
    },
    /// It has no place for anybody at the moment.
    #[error("{url}: the server has no place at the moment; try again later, or another server")]
    Busy {
        /// The URL.
        url: String,
        /// How long it asks to wait before the next attempt.
        retry_after: Option<Duration>,
    },
    /// There are several servers, and none took this agent.
    #[error("none of the {} signaling servers can be reached:{}", tried.len(), lines(tried))]
    NoneOf {
        /// Each one's error, in their order.
        tried: Vec<Self>,
    },
}

impl ConnectError {
    /// Whether it stays so until somebody changes something here or there: no other server, and no
    /// later attempt, is the remedy.
    pub fn is_lasting(&self) -> bool {
        match self {
            Self::Url { .. }
            | Self::NoTls { .. }
            | Self::NeedsTls { .. }
            | Self::Certificate { .. }
            | Self::NoAuthorities { .. } => true,
            Self::Registration { code, .. } => match code {
                ErrorCode::BadFrame
                | ErrorCode::BadSignature
                | ErrorCode::NotAdmitted
                | ErrorCode::IdTaken
                | ErrorCode::OlderSession
                | ErrorCode::WrongServer
                | ErrorCode::NotYours
                | ErrorCode::TooLarge => true,
                ErrorCode::NotRegistered
                | ErrorCode::Replaced
                | ErrorCode::UnknownPeer
                | ErrorCode::RateLimited
                | ErrorCode::ServerFull => false,
            },
            Self::NoSuchHost { .. }
            | Self::Refused { .. }
            | Self::Unreachable { .. }
            | Self::NotWebSocket { .. }
            | Self::Protocol { .. }
            | Self::Tls { .. }
            | Self::TimedOut { .. }
            | Self::Busy { .. } => false,
            Self::NoneOf { tried } => tried.iter().any(Self::is_lasting),
        }
    }

    /// How long the server asks to wait before the next attempt.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Registration { retry_after, .. } | Self::Busy { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

fn lines(tried: &[ConnectError]) -> String {
    tried.iter().map(|err| format!("\n  {err}")).collect()
}

/// 1. look up and connect, 2. TLS, 3. WebSocket, 4. challenge, 5. register, 6. registered.
pub(super) async fn register(
    config: &ClientConfig,
    target: &Target,
) -> Result<(Socket, Registered), ConnectError> {
    let url = || target.url.clone();
    let protocol = |detail: String| ConnectError::Protocol { url: url(), detail };
    let tcp = connect_tcp(target).await?;
    let stream: Stream = if target.tls {
        let secured = config.trust.connect(tcp, &target.host).await;
        secured.map_err(|fault| fault.at(url()))?
    } else {
        Box::new(tcp)
    };
    let config_ws = Some(socket_config());
    let (mut socket, _) =
        tokio_tungstenite::client_async_with_config(&target.url, stream, config_ws)
            .await
            .map_err(|err| no_web_socket(url(), &err))?;

    let challenge = next_frame(&mut socket, target).await?;
    let ServerFrame::Challenge {
        nonce,
        protocol: spoken,
    } = challenge
    else {
        return Err(protocol("expected a challenge first".into()));
    };
    if spoken != PROTOCOL {
        let spoken: String = spoken.chars().take(40).collect();
        let detail = format!("it speaks {spoken:?}, expected {PROTOCOL:?}");
        return Err(protocol(detail));
    }
    let register = Register::sign(
        config.swarm.clone(),
        config.agent_id.clone(),
        config.session,
        target.authority.clone(),
        &nonce,
        &config.key,
    );
    let text = ClientFrame::Register(register).to_text();
    let sent = socket.send(Message::text(text)).await;
    // A server that refused before it read has said why: reading tells more than this failure.
    if let Err(err) = sent {
        tracing::debug!("registration was not written: {err}");
    }
    match next_frame(&mut socket, target).await? {
        ServerFrame::Registered(registered) if registered.agent_id == config.agent_id => {
            Ok((socket, registered))
        }
        _ => Err(protocol(format!(
            "expected `registered` for `{}`",
            config.agent_id
        ))),
    }
}

fn no_web_socket(url: String, err: &Error) -> ConnectError {
    match err {
        Error::Http(answer) if answer.status() == http::StatusCode::UPGRADE_REQUIRED => {
            ConnectError::NeedsTls { url }
        }
        // The server itself, or what stands before it (RFC 9110, sections 10.2.3 and 15.6.4).
        Error::Http(answer) if answer.status() == http::StatusCode::SERVICE_UNAVAILABLE => {
            let header = answer.headers().get(http::header::RETRY_AFTER);
            let seconds = header.and_then(|value| value.to_str().ok()?.parse().ok());
            let retry_after = seconds.map(Duration::from_secs);
            ConnectError::Busy { url, retry_after }
        }
        err => ConnectError::NotWebSocket {
            url,
            detail: err.to_string(),
        },
    }
}

impl HandshakeFault {
    fn at(self, url: String) -> ConnectError {
        match self {
            Self::Certificate(fault) => ConnectError::Certificate { url, fault },
            Self::NoTls => ConnectError::NoTls { url },
            Self::NobodyToBelieve(detail) => ConnectError::NoAuthorities { url, detail },
            Self::Other(detail) => ConnectError::Tls { url, detail },
        }
    }
}

async fn connect_tcp(target: &Target) -> Result<TcpStream, ConnectError> {
    let url = || target.url.clone();
    let addresses = tokio::net::lookup_host((target.host.as_str(), target.port))
        .await
        .map_err(|source| ConnectError::NoSuchHost { url: url(), source })?;
    let addresses: Vec<_> = addresses.collect();
    let unreachable = |source: io::Error| match source.kind() {
        io::ErrorKind::ConnectionRefused => ConnectError::Refused { url: url() },
        io::ErrorKind::TimedOut => ConnectError::TimedOut {
            url: url(),
            after: ONE_ADDRESS,
        },
        _ => ConnectError::Unreachable { url: url(), source },
    };
    let tcp = first_of(&addresses, ONE_ADDRESS, HEAD_START)
        .await
        .map_err(unreachable)?;
    // Offers are small and every one is waited for.
    tcp.set_nodelay(true).map_err(unreachable)?;
    Ok(tcp)
}

/// A connection to one of these addresses, the first that answers; what the last one said, if none
/// does. A host that drops packets says nothing, so the next address is tried beside it after a short
/// while, and at once where one has failed (RFC 8305, section 5).
async fn first_of(
    addresses: &[SocketAddr],
    patience: Duration,
    head_start: Duration,
) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    let mut next = addresses.iter();
    let mut attempts = FuturesUnordered::new();
    loop {
        if let Some(address) = next.next() {
            attempts.push(timeout(patience, TcpStream::connect(address)));
        }
        let is_last = next.len() == 0;
        tokio::select! {
            () = sleep(head_start), if !is_last => {}
            done = attempts.next() => match done {
                Some(Ok(Ok(tcp))) => return Ok(tcp),
                Some(Ok(Err(err))) => last = err,
                Some(Err(_)) => last = io::ErrorKind::TimedOut.into(),
                None => return Err(last),
            }
        }
    }
}

/// The next frame before registration; a refusal is an error.
async fn next_frame(socket: &mut Socket, target: &Target) -> Result<ServerFrame, ConnectError> {
    let url = target.url.clone();
    let text = loop {
        match socket.next().await {
            Some(Ok(Message::Text(text))) => break text,
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
            Some(Ok(_)) => {
                let detail = "it sent something else than a text frame".into();
                return Err(ConnectError::Protocol { url, detail });
            }
            Some(Err(Error::Io(source))) => {
                return Err(ConnectError::Unreachable { url, source });
            }
            Some(Err(err)) => {
                let detail = err.to_string();
                return Err(ConnectError::Protocol { url, detail });
            }
            None => {
                let detail = "it closed the connection".into();
                return Err(ConnectError::Protocol { url, detail });
            }
        }
    };
    match ServerFrame::parse(text.as_bytes()) {
        Ok(ServerFrame::Error(error)) => Err(ConnectError::Registration {
            url,
            retry_after: error.retry_after(),
            later: error.later,
            code: error.code,
            message: error.message,
            session: error.session,
        }),
        Ok(frame) => Ok(frame),
        Err(err) => Err(ConnectError::Protocol {
            url,
            detail: err.to_string(),
        }),
    }
}

/// For one address of a host to take a connection: a packet that was lost is sent again after 1 s and
/// after 3 s, and there is time left for another server.
const ONE_ADDRESS: Duration = Duration::from_secs(4);
/// What an address has before the next one is tried beside it, as RFC 8305 recommends.
const HEAD_START: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests {
    use socket2::{Domain, Socket as Raw, Type};
    use tokio::net::TcpListener;

    use super::*;

    fn any() -> SocketAddr {
        "127.0.0.1:0".parse().unwrap()
    }

    /// A listener that takes nobody: the kernel drops what comes once its queue is full.
    fn silent() -> (Raw, Vec<std::net::TcpStream>, SocketAddr) {
        let raw = Raw::new(Domain::IPV4, Type::STREAM, None).unwrap();
        raw.bind(&any().into()).unwrap();
        raw.listen(0).unwrap();
        let address = raw.local_addr().unwrap().as_socket().unwrap();
        let waiting = Duration::from_millis(200);
        let fill = || std::net::TcpStream::connect_timeout(&address, waiting).ok();
        let filled = std::iter::from_fn(fill).take(16).collect();
        (raw, filled, address)
    }

    #[tokio::test]
    async fn addresses_that_do_not_answer_keep_no_other_from_being_tried() {
        let (_raw, filled, silent) = silent();
        assert!(filled.len() < 16, "the kernel drops nothing");
        let good = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let good_address = good.local_addr().unwrap();
        // Bound, and not listening.
        let nobody = Raw::new(Domain::IPV4, Type::STREAM, None).unwrap();
        nobody.bind(&any().into()).unwrap();
        let gone = nobody.local_addr().unwrap().as_socket().unwrap();
        // More than an attempt's patience would bear one after the other.
        let for_ever = Duration::from_secs(3600);
        let addresses = [silent, silent, silent, gone, good_address];
        let tcp = first_of(&addresses, for_ever, Duration::from_millis(1));
        assert_eq!(tcp.await.unwrap().peer_addr().unwrap(), good_address);
        // One that has failed is not waited for.
        let tcp = first_of(&[gone, good_address], for_ever, for_ever).await;
        assert_eq!(tcp.unwrap().peer_addr().unwrap(), good_address);
        let patience = Duration::from_millis(20);
        let kind = async |addresses: Vec<SocketAddr>| {
            let failed = first_of(&addresses, patience, Duration::ZERO).await;
            failed.unwrap_err().kind()
        };
        assert_eq!(kind(vec![silent, silent]).await, io::ErrorKind::TimedOut);
        assert_eq!(kind(vec![gone]).await, io::ErrorKind::ConnectionRefused);
        assert_eq!(kind(vec![]).await, io::ErrorKind::NotFound);
    }
}
