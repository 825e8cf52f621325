//! The signaling server: a listener, one task per connection, and the room they share.
//!
//! A thin shell: what is allowed is decided in `room`, what one connection does in `connection`.

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::address::Names;
use super::admission::{Admission, Limits, Rules};
use super::census::Census;
use super::connection::{self, Accepted};
use super::hall::Hall;
use super::notes::WitnessNote;
use super::seldom::Seldom;
use super::tls::ServerTls;
use super::traffic::ServerObserver;
use super::wire::IceServer;
use crate::swarm::SdpDetail;

/// What a server is started with.
pub struct ServerConfig {
    /// Where to listen; port 0 takes one that is free.
    pub listen: SocketAddr,
    /// Who may register.
    pub swarms: Admission,
    /// `HOST:PORT` under which clients reach it, besides the address it listens on and `localhost`.
    pub names: Vec<String>,
    /// With it the server speaks `wss://`, and nothing else.
    pub tls: Option<ServerTls>,
    /// Told to every client.
    pub ice_servers: Vec<IceServer>,
    /// Who keeps the witness logs, if anybody does.
    pub witness: Option<WitnessSink>,
    /// What it bears.
    pub limits: Limits,
}

/// Who keeps a server's witness logs, one per swarm.
pub struct WitnessSink {
    /// Called in order, before what is noted is told to anybody; must not block for long, because
    /// all connections wait for it.
    pub note: Box<dyn FnMut(WitnessNote) + Send>,
    /// How much of offers and answers is kept.
    pub sdp: SdpDetail,
}

/// A running signaling server. Dropping it ends it at once; [`Server::shutdown`] ends it cleanly.
pub struct Server {
    local_addr: SocketAddr,
    secured: bool,
    hall: Arc<Hall>,
    shutdown: watch::Sender<bool>,
    /// One task, which owns all the others.
    task: JoinSet<()>,
}

/// Why a server could not be started.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// Somebody listens there already.
    #[error(
        "{listen} is in use: choose another port with --listen, or port 0 for one that is free"
    )]
    PortInUse {
        /// Where it should listen.
        listen: SocketAddr,
    },
    /// The operating system does not let this user listen there.
    #[error(
        "no permission to listen on {listen}: ports below 1024 are for root; choose a higher one with --listen"
    )]
    NoPermission {
        /// Where it should listen.
        listen: SocketAddr,
    },
    /// No interface of this machine has the address.
    #[error(
        "{listen} is no address of this machine: listen on one that is, on 127.0.0.1, or on 0.0.0.0 for all"
    )]
    NoSuchAddress {
        /// Where it should listen.
        listen: SocketAddr,
    },
    /// A name is no `HOST:PORT`.
    #[error("`{name}` is no name of a server: expected HOST:PORT, such as signal.example.org:443")]
    Name {
        /// The name.
        name: String,
    },
    /// The operating system refused for another reason.
    #[error("cannot listen on {listen}: {source}")]
    Io {
        /// Where it should listen.
        listen: SocketAddr,
        /// What it said.
        source: io::Error,
    },
}

impl ServerConfig {
    /// A server without further names, TLS, ICE servers or witness, with the usual limits.
    pub fn new(listen: SocketAddr, swarms: Admission) -> Self {
        Self {
            listen,
            swarms,
            names: Vec::new(),
            tls: None,
            ice_servers: Vec::new(),
            witness: None,
            limits: Limits::default(),
        }
    }
}

impl Server {
    /// Listens, and serves until [`Server::shutdown`]. To be called within a tokio runtime.
    ///
    /// # Errors
    /// [`ServerError`], which says what to do.
    pub async fn bind(config: ServerConfig) -> Result<Self, ServerError> {
        let listen = config.listen;
        let io = |source: io::Error| match source.kind() {
            io::ErrorKind::AddrInUse => ServerError::PortInUse { listen },
            io::ErrorKind::PermissionDenied => ServerError::NoPermission { listen },
            io::ErrorKind::AddrNotAvailable => ServerError::NoSuchAddress { listen },
            _ => ServerError::Io { listen, source },
        };
        // Before listening, so that a wrong name leaves nothing behind.
        Names::new(listen, &config.names).map_err(|name| ServerError::Name { name })?;
        let listener = listen_on(listen).map_err(io)?;
        let local_addr = listener.local_addr().map_err(io)?;
        let names =
            Names::new(local_addr, &config.names).map_err(|name| ServerError::Name { name })?;
        if names == Names::Any {
            tracing::warn!(
                address = %local_addr,
                reason = "no --name",
                "listening on every address without --name: registrations signed for any server name are taken"
            );
        }
        let secured = config.tls.is_some();
        if !secured && !local_addr.ip().is_loopback() {
            tracing::warn!(
                address = %local_addr,
                reason = "no TLS",
                "listening on {local_addr} without TLS: the network sees who talks to whom and where they are; \
                 give --tls-cert and --tls-key, or listen on 127.0.0.1"
            );
        }
        let rules = Rules {
            admission: config.swarms,
            names,
            ice_servers: config.ice_servers,
            limits: config.limits,
            listen: local_addr.to_string(),
            witness: config.witness.as_ref().map(|witness| witness.sdp),
        };
        let hall = Arc::new(Hall::open(
            rules,
            config.tls,
            config.witness.map(|witness| witness.note),
        ));
        let (shutdown, stopped) = watch::channel(false);
        let mut task = JoinSet::new();
        task.spawn(accept(listener, Arc::clone(&hall), stopped));
        Ok(Self {
            local_addr,
            secured,
            hall,
            shutdown,
            task,
        })
    }

    /// The address it listens on, with the port that was free if 0 was asked for.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// `ws://HOST:PORT`, or `wss://HOST:PORT` with TLS.
    pub fn url(&self) -> String {
        let scheme = if self.secured { "wss" } else { "ws" };
        format!("{scheme}://{}", self.local_addr)
    }

    /// What it holds at the moment. For watching it: it may have changed already.
    pub fn census(&self) -> Census {
        self.hall.census()
    }

    /// What looks at it from outside, as long as it serves.
    pub fn observer(&self) -> ServerObserver {
        ServerObserver(Arc::downgrade(&self.hall))
    }

    /// Stops listening, closes every connection and waits until all are closed, about 3 s at most.
    pub async fn shutdown(mut self) {
        // No receiver: the task ended by itself, which is what is wanted.
        let _ = self.shutdown.send(true);
        while self.task.join_next().await.is_some() {}
    }
}

fn listen_on(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    // A server that is started anew finds its port still held by connections of the one before.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(ACCEPT_QUEUE)
}

async fn accept(listener: TcpListener, hall: Arc<Hall>, stopped: watch::Receiver<bool>) {
    let mut tasks = JoinSet::new();
    let mut stop = stopped.clone();
    let mut refused = Seldom::default();
    loop {
        // All three are cancel-safe: no connection and no joined task is lost.
        tokio::select! {
            _ = stop.changed() => break,
            Some(_) = tasks.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((tcp, from)) => {
                    let from = from.ip();
                    let places = (hall.socket_place(from), hall.stranger_place(from));
                    // When all places are taken the newest goes: it is the cheapest to send away.
                    let (Some(socket), Some(stranger)) = places else {
                        turn_away(tcp, hall.turn_away(), hall.tls.is_some());
                        tracing::debug!(%from, "too many sockets, or too many that are shaking hands; dropped one");
                        continue;
                    };
                    let accepted = Accepted { tcp, from, socket, stranger, since: Instant::now() };
                    tasks.spawn(connection::serve(accepted, Arc::clone(&hall), stopped.clone()));
                }
                Err(err) => {
                    // Most often too many open files: it passes when connections end.
                    if let Some(unsaid) = refused.say(Instant::now()) {
                        tracing::warn!(reason = %err, unsaid, "cannot accept a connection: {err}");
                    }
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    drop(listener);
    hall.close_all();
    while tasks.join_next().await.is_some() {}
}

/// Drops a socket, after saying when to come back, in the only language that its other end can be
/// expected to know by now. Does not wait: what the kernel does not take at once is not said.
fn turn_away(tcp: TcpStream, wait: Duration, secured: bool) {
    // Of TLS not a word has been spoken, and another would only mislead.
    if !secured && let Ok(mut tcp) = tcp.into_std() {
        let seconds = wait.as_millis().div_ceil(1000);
        let _ = tcp.write(format!("{BUSY}Retry-After: {seconds}\r\n\r\n").as_bytes());
    }
}

/// The answer where there is no place (RFC 9110, section 15.6.4), up to the last header.
const BUSY: &str = "HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: 0\r\n";
/// Connections that the kernel keeps until they are accepted, which is soon: whom there is no place
/// for is told so. One more waits at its own end, for seconds, and is told nothing. What Linux allows
/// by default (`net.core.somaxconn`).
const ACCEPT_QUEUE: u32 = 4096;
/// Long enough not to spin while the operating system refuses, short enough not to be noticed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::{Client, ClientConfig, ServerFrame, Trust};
    use super::*;
    use crate::identity::{KeyPair, Session};

    fn config(listen: &str) -> ServerConfig {
        ServerConfig::new(listen.parse().unwrap(), Admission::Open)
    }

    #[tokio::test]
    async fn what_goes_wrong_while_listening_is_told_with_what_to_do() {
        let fail = async |config: ServerConfig| Server::bind(config).await.err().unwrap();
        let server = Server::bind(config("127.0.0.1:0")).await.unwrap();
        let taken = server.local_addr().to_string();
        let err = fail(config(&taken)).await;
        assert!(matches!(err, ServerError::PortInUse { .. }), "{err}");
        assert!(err.to_string().contains(&taken), "{err}");
        // TEST-NET-1 (RFC 5737) is nobody's address.
        let err = fail(config("192.0.2.1:0")).await;
        assert!(matches!(err, ServerError::NoSuchAddress { .. }), "{err}");
        let mut named = config("127.0.0.1:0");
        named.names = vec!["a".into()];
        let err = fail(named).await;
        assert!(err.to_string().contains("HOST:PORT"), "{err}");
    }

    #[tokio::test]
    async fn thirty_that_join_at_once_learn_of_every_other_exactly_once() {
        const AGENTS: u8 = 30;
        let server = Server::bind(config("127.0.0.1:0")).await.unwrap();
        let mut tasks = JoinSet::new();
        for n in 0..AGENTS {
            let config = ClientConfig {
                url: server.url(),
                swarm: "many".parse().unwrap(),
                agent_id: format!("agent-{n}").parse().unwrap(),
                key: KeyPair::from_secret(&[n; 32]),
                session: Session::new(1, [n; 10]),
                trust: Trust::default(),
                connect_timeout: Duration::from_secs(60),
            };
            tasks.spawn(async move {
                let me = config.agent_id.clone();
                let (mut client, registered) = Client::connect(config).await.unwrap();
                let peers = registered.connected_agents.into_iter();
                let mut known: BTreeSet<_> = peers.map(|peer| peer.agent_id).collect();
                while known.len() < usize::from(AGENTS) - 1 {
                    match client.recv().await.unwrap().unwrap() {
                        ServerFrame::AgentJoined { agent } => assert!(known.insert(agent.agent_id)),
                        frame => panic!("{frame:?}"),
                    }
                }
                assert!(!known.contains(&me));
                // Kept open, so that nobody sees anybody leave.
                client
            });
        }
        let clients = tasks.join_all().await;
        assert_eq!(clients.len(), usize::from(AGENTS));
        server.shutdown().await;
    }
}
