//! The way to the signaling server: the first registration, and coming back after every outage.
//!
//! While there is no connection the agent lives on what it has. What to wait, and which server to
//! try next, is decided in [`Comeback`]; here are the sockets and the clock. It never gives up while
//! the agent lives.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::sync::mpsc;

use super::core::{Core, wall_clock};
use super::event::AgentEvent;
use super::{AgentError, StartError};
use crate::identity::{AgentId, KeyPair, Session, SwarmName};
use crate::signal::{
    Attempt, Client, ClientConfig, ClientFrame, ClientSender, Comeback, ConnectError, ErrorCode,
    Peer, RecvError, Registered, ServerFrame, Trust, servers,
};
use crate::witness::{Entry, Event};

/// The servers of one agent, and as whom it registers with them.
#[derive(Debug, Clone)]
pub(super) struct Servers {
    urls: Vec<String>,
    swarm: SwarmName,
    agent_id: AgentId,
    key: KeyPair,
    trust: Trust,
}

/// The connection to one of them, or the way back to it.
pub(super) struct Signaling {
    servers: Servers,
    session: Session,
    comeback: Comeback,
    state: State,
    /// What was logged since the connection was lost: what lasts is said once.
    told: BTreeSet<String>,
}

enum State {
    /// Registered, since then.
    Connected(Client, Instant),
    /// Until an attempt is made.
    Waiting(Attempt, Instant),
    Connecting(Pin<Box<Connecting>>),
}

type Connecting = dyn Future<Output = Result<(Client, Registered), ConnectError>> + Send;

/// What came of waiting for the server.
#[expect(
    clippy::large_enum_variant,
    reason = "there is one at a time, taken apart at once"
)]
pub(super) enum Came {
    /// A frame, or the end of the connection: see [`Client::recv`].
    Frame(Option<Result<ServerFrame, RecvError>>),
    /// The agent is registered again.
    Back(ClientSender, Registered),
    /// A later process of the same agent has its place, as its own registration proves.
    Replaced,
}

/// A new session, that begins now, or at `at_least` if that is later.
pub(super) fn fresh_session(at_least: u64) -> Result<Session, getrandom::Error> {
    let mut random = [0; 10];
    getrandom::fill(&mut random)?;
    let now = u64::try_from(wall_clock().unix_ms()).unwrap_or(0);
    Ok(Session::new(now.max(at_least), random))
}

impl Servers {
    /// `list` has one URL, or several, separated by commas.
    pub(super) fn new(
        list: &str,
        swarm: SwarmName,
        agent_id: AgentId,
        key: KeyPair,
        trust: Trust,
    ) -> Result<Self, ConnectError> {
        Ok(Self {
            urls: servers(list, &swarm)?,
            swarm,
            agent_id,
            key,
            trust,
        })
    }

    /// Registers for the first time, with the first server that can be reached. What another server
    /// could not change is an error at once. `kept` is the session that the agent had before.
    pub(super) async fn register(
        &self,
        kept: Option<Session>,
    ) -> Result<(Client, Registered, Session), StartError> {
        let mut tried = Vec::new();
        for url in &self.urls {
            match self.register_with(url, kept).await {
                Err(StartError::Connect(err)) if !err.is_lasting() => {
                    if self.urls.len() > 1 {
                        let (agent, reason) = (&self.agent_id, &err);
                        tracing::warn!(%agent, %reason, "this signaling server does not take the agent");
                    }
                    tried.push(err);
                }
                done => return done,
            }
        }
        let last = tried.pop();
        Err(match last {
            Some(only) if tried.is_empty() => only.into(),
            last => ConnectError::NoneOf {
                tried: tried.into_iter().chain(last).collect(),
            }
            .into(),
        })
    }

    /// Where a greater session of this agent is known, with one greater still: the newest process
    /// stays.
    async fn register_with(
        &self,
        url: &str,
        mut kept: Option<Session>,
    ) -> Result<(Client, Registered, Session), StartError> {
        let mut at_least = 0;
        let mut attempts = 1;
        loop {
            let session = match kept.take() {
                Some(session) => session,
                None => fresh_session(at_least)?,
            };
            match Client::connect(self.config(url, session)).await {
                Ok((client, registered)) => return Ok((client, registered, session)),
                Err(ConnectError::Registration {
                    code: ErrorCode::OlderSession,
                    session: Some(current),
                    ..
                }) if attempts < OLDER_SESSIONS => {
                    attempts += 1;
                    at_least = current.unix_ms() + 1;
                }
                Err(err) => return Err(err.into()),
            }
        }
    }

    fn config(&self, url: &str, session: Session) -> ClientConfig {
        ClientConfig {
            url: url.to_owned(),
            swarm: self.swarm.clone(),
            agent_id: self.agent_id.clone(),
            key: self.key.clone(),
            session,
            trust: self.trust.clone(),
            connect_timeout: CONNECT,
        }
    }
}

impl Signaling {
    /// Of an agent that has just registered.
    pub(super) fn new(servers: Servers, session: Session, client: Client, seed: u64) -> Self {
        Self {
            comeback: Comeback::new(servers.urls.len(), seed),
            servers,
            session,
            state: State::Connected(client, Instant::now()),
            told: BTreeSet::new(),
        }
    }

    /// What comes next. Cancel-safe: what is under way stands in `self`.
    pub(super) async fn next(&mut self) -> Came {
        loop {
            match &mut self.state {
                State::Connected(client, _) => return Came::Frame(client.recv().await),
                State::Waiting(attempt, until) => {
                    let server = attempt.server;
                    tokio::time::sleep_until((*until).into()).await;
                    let config = self
                        .servers
                        .config(&self.servers.urls[server], self.session);
                    self.state = State::Connecting(Box::pin(Client::connect(config)));
                }
                State::Connecting(attempt) => match attempt.await {
                    Ok((client, registered)) => {
                        let sender = client.sender();
                        self.state = State::Connected(client, Instant::now());
                        self.told.clear();
                        let agent = &self.servers.agent_id;
                        tracing::info!(%agent, "registered with the signaling server again");
                        return Came::Back(sender, registered);
                    }
                    Err(err) => {
                        let next = self.comeback.failed(err.retry_after(), err.is_lasting());
                        self.wait(next);
                        if self.is_replaced(&err) {
                            return Came::Replaced;
                        }
                        self.tell(&err);
                    }
                },
            }
        }
    }

    /// The connection is over; the server may have asked for a pause.
    pub(super) fn lost(&mut self, asked: Option<Duration>) {
        let State::Connected(_, since) = &self.state else {
            return;
        };
        let next = self.comeback.lost(since.elapsed(), asked);
        self.wait(next);
    }

    /// The connection, if there is one.
    pub(super) fn into_client(self) -> Option<Client> {
        match self.state {
            State::Connected(client, _) => Some(client),
            State::Waiting(..) | State::Connecting(_) => None,
        }
    }

    fn wait(&mut self, next: Attempt) {
        self.state = State::Waiting(next, Instant::now() + next.after);
    }

    /// A server's word is not enough to end an agent: only its own key can have signed the proof.
    fn is_replaced(&self, err: &ConnectError) -> bool {
        let Servers {
            swarm,
            agent_id,
            key,
            ..
        } = &self.servers;
        match err {
            ConnectError::Registration {
                code: ErrorCode::OlderSession,
                later: Some(later),
                ..
            } => later.proves(swarm, agent_id, &key.public_key(), self.session),
            _ => false,
        }
    }

    fn tell(&mut self, err: &ConnectError) {
        let (agent, reason) = (&self.servers.agent_id, err.to_string());
        if !err.is_lasting() {
            tracing::debug!(%agent, %reason, "not back yet");
        } else if !self.told.contains(&reason) && self.told.len() < MOST_TOLD {
            tracing::warn!(%agent, %reason, "the signaling server does not take this agent back; it is asked again now and then");
            self.told.insert(reason);
        }
    }
}

impl Core {
    /// The connection to the server is made, for the first time or again: everybody who is there is
    /// seen, and who is not has left.
    pub(super) fn registered(&mut self, peers: &[Peer]) {
        let entry = Entry::new(Event::SignalingConnected, self.wall);
        self.testify(entry.metadata(json!({ "agents": peers.len() })));
        self.tally.is_registered = true;
        let mut there = Vec::new();
        for peer in peers {
            if self.may_be_dialled(peer) {
                there.push((peer.agent_id.clone(), peer.session));
            }
        }
        self.mesh.signaling_back(&there, self.now);
        self.drain_mesh();
    }

    /// The agent is registered again. What was to be said over the connection before this one is
    /// stale: it had a queue of its own.
    pub(super) fn signaling_back(&mut self, sender: ClientSender, registered: &Registered) {
        let (queue, forwarding) = forward(sender);
        self.signal_queue = queue;
        self.spawn(forwarding);
        self.pause_asked = None;
        self.tally.comebacks += 1;
        self.tell(AgentEvent::SignalingBack);
        self.registered(&registered.connected_agents);
    }

    /// Signaling is gone. Links live on.
    pub(super) fn signaling_lost(&mut self, why: &str) {
        tracing::warn!(agent = %self.me, reason = why, "the signaling server is gone: links live on; trying to reach it again");
        self.tally.is_registered = false;
        // Whatever is queued for it is dropped with its queue.
        self.signal_queue = mpsc::channel(1).0;
        let entry = Entry::new(Event::SignalingLost, self.wall);
        self.testify(entry.metadata(json!({ "reason": why })));
        self.mesh.signaling_lost(self.now);
        self.tell(AgentEvent::SignalingLost);
    }

    /// A later process with the same id and key has this one's place.
    pub(super) fn replaced(&mut self) {
        self.tell(AgentEvent::Replaced);
        let why = Some(AgentError::Replaced);
        self.begin_leaving("replaced by a later process", Duration::ZERO, why);
    }
}

/// A queue of frames for the server, and what carries them there at the pace it allows, so that
/// nobody in the agent's state ever waits for it.
pub(super) fn forward(
    sender: ClientSender,
) -> (
    mpsc::Sender<ClientFrame>,
    impl Future<Output = ()> + Send + 'static,
) {
    let (queue, mut frames) = mpsc::channel(QUEUED_FRAMES);
    let forwarding = async move {
        while let Some(frame) = frames.recv().await {
            if let Err(err) = sender.send(frame).await {
                tracing::debug!(%err, "signaling frame not sent");
                return;
            }
        }
    };
    (queue, forwarding)
}

/// Frames that wait for the server: the offers and candidates of a thousand links.
const QUEUED_FRAMES: usize = 4_096;
/// For finding, reaching and convincing one server.
const CONNECT: Duration = Duration::from_secs(10);
/// Restarts of one agent that may race each other.
const OLDER_SESSIONS: usize = 4;
/// Refusals that are logged in one outage: a server that words each in another way is not to fill
/// the log.
const MOST_TOLD: usize = 64;
