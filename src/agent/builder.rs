//! How an agent is made.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::task::JoinSet;

use super::conversations::Conversations;
use super::core::{Core, Shared, wall_clock};
use super::countersigning::Countersigning;
use super::driver::run;

use super::files::Store;
use super::files::{AcceptFiles, Files};
use super::gate::Gate;
use super::keyring::Keyring;
use super::links::Links;
use super::sending::Rooms;
use super::signaling::{Servers, Signaling, forward};
use super::subscription::Subscribers;
use super::vitals::Tally;
use super::{Agent, Stats};
use crate::identity::{AgentId, KeyPair, PublicKey, Roster, SwarmName};
use crate::link::{BindError, ChannelOptions, ENOUGH_BUFFER, Endpoint, EndpointConfig, IceServer};
use crate::mesh::{Config, Mesh, Neighbours, OutboxLimits};
use crate::outbox::{Journal, JournalError};
use crate::signal::{ConnectError, Registered, Seldom, SeldomOfEach, Trust};
use crate::swarm::SdpDetail;
use crate::witness::{Log, LogOwner, OnWriteError, Opening, SyncPolicy};

/// Makes an [`Agent`]. Everything but the signaling server has a default.
#[derive(Debug)]
pub struct Builder {
    pub(super) id: AgentId,
    pub(super) swarm: SwarmName,
    signal: String,
    trust: Trust,
    key: Option<KeyPair>,
    roster: Option<Roster>,
    revoked: HashSet<PublicKey>,
    neighbours: Neighbours,
    addresses: Vec<IpAddr>,
    follow_addresses: bool,
    udp_port: Option<u16>,
    ice_servers: Vec<IceServer>,
    pub(super) channel: ChannelOptions,
    witness: Option<std::path::PathBuf>,
    sdp_detail: SdpDetail,
    witness_sync: SyncPolicy,
    on_witness_error: OnWriteError,
    dial_timeout: Duration,
    making_at_once: usize,
    outbox: OutboxLimits,
    pub(super) outbox_folder: Option<std::path::PathBuf>,
    conversation_silence: Duration,
    accept_files: Option<AcceptFiles>,
}

/// Why an agent did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The UDP port could not be bound.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The signaling server could not be reached, or did not take the registration.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The witness could not be opened.
    #[error(transparent)]
    Witness(#[from] crate::witness::OpenError),
    /// The outbox could not be opened.
    #[error(transparent)]
    Outbox(#[from] JournalError),
    /// The outbox needs a channel on which messages are acknowledged.
    #[error(
        "an outbox on disk needs a reliable channel: leave `channel.max_retransmits` out, and `ordered` true, or the outbox"
    )]
    Unreliable,
    /// The witness could not be written.
    #[error(transparent)]
    Write(#[from] crate::witness::WriteError),
    /// The agent's own key is among those that are revoked.
    #[error("the key {0} is revoked: nobody would believe it; make another with `ifswarm keygen`")]
    Revoked(Box<PublicKey>),
    /// The folder for files cannot be used.
    #[error("{}: {source}: name a folder that can be written to", path.display())]
    Folder {
        /// Which.
        path: std::path::PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The operating system has no randomness to give.
    #[error("no randomness: {0}")]
    Randomness(#[from] getrandom::Error),
}

impl Agent {
    /// An agent `id` of `swarm`.
    pub fn builder(id: AgentId, swarm: &SwarmName) -> Builder {
        Builder {
            id,
            swarm: swarm.clone(),
            signal: "ws://127.0.0.1:8443".into(),
            trust: Trust::system(),
            key: None,
            roster: None,
            revoked: HashSet::new(),
            neighbours: Neighbours::All,
            addresses: vec![IpAddr::from([127, 0, 0, 1])],
            follow_addresses: false,
            udp_port: None,
            ice_servers: Vec::new(),
            channel: ChannelOptions::default(),
            witness: None,
            sdp_detail: SdpDetail::Full,
            witness_sync: SyncPolicy::default(),
            on_witness_error: OnWriteError::default(),
            dial_timeout: Duration::from_secs(10),
            making_at_once: MAKING_AT_ONCE,
            outbox: OutboxLimits::default(),
            outbox_folder: None,
            conversation_silence: SILENCE,
            accept_files: None,
        }
    }
}

impl Builder {
    /// The signaling server: `ws://HOST:PORT` or `wss://HOST:PORT`, by default
    /// `ws://127.0.0.1:8443`. Several, separated by commas, are tried in order, now and whenever the
    /// connection was lost.
    #[must_use]
    pub fn signal(mut self, url: &str) -> Self {
        url.clone_into(&mut self.signal);
        self
    }

    /// Whose certificates to believe of a server at `wss://`; by default those of the authorities
    /// of the operating system, or only those of a PEM file: [`Trust::authority`].
    #[must_use]
    pub fn trust(mut self, trust: Trust) -> Self {
        self.trust = trust;
        self
    }

    /// The agent's key; by default one is made for the run.
    #[must_use]
    pub fn key(mut self, key: KeyPair) -> Self {
        self.key = Some(key);
        self
    }

    /// Whom to believe. Without a roster every agent is believed under the key it is first seen
    /// with, which protects nobody from a server that lies from the start.
    #[must_use]
    pub fn roster(mut self, roster: Roster) -> Self {
        self.roster = Some(roster);
        self
    }

    /// Keys that are refused whoever shows them, besides those that the roster revokes. Without a
    /// roster they are never the first key seen.
    #[must_use]
    pub fn revoked(mut self, keys: impl IntoIterator<Item = PublicKey>) -> Self {
        self.revoked.extend(keys);
        self
    }

    /// Whom to link with; by default everybody.
    #[must_use]
    pub fn neighbours(mut self, neighbours: Neighbours) -> Self {
        self.neighbours = neighbours;
        self
    }

    /// The local addresses to be reached at, each concrete; by default `127.0.0.1`.
    #[must_use]
    pub fn addresses(mut self, addresses: Vec<IpAddr>) -> Self {
        self.addresses = addresses;
        self
    }

    /// Whether to follow the host when its addresses change: all of them are bound then, and links
    /// that were made on one that is gone are made again. By default not: the addresses are those
    /// that were given, whatever comes. To begin with all: [`host_addresses`](super::host_addresses).
    #[must_use]
    pub fn follow_addresses(mut self, follow: bool) -> Self {
        self.follow_addresses = follow;
        self
    }

    /// The one UDP port of all links; by default a free one.
    #[must_use]
    pub fn udp_port(mut self, port: Option<u16>) -> Self {
        self.udp_port = port;
        self
    }

    /// STUN and TURN servers, beside those that the signaling server names.
    #[must_use]
    pub fn ice_servers(mut self, servers: Vec<IceServer>) -> Self {
        self.ice_servers = servers;
        self
    }

    /// How the messaging channel behaves; both ends of a link must agree.
    #[must_use]
    pub fn channel(mut self, channel: ChannelOptions) -> Self {
        self.channel = channel;
        self
    }

    /// The folder of witnesses; this agent's stands in `SWARM/AGENT` below it. By default the
    /// log is kept in memory as far as its hashes go, and its lines are not kept.
    #[must_use]
    pub fn witness(mut self, folder: Option<std::path::PathBuf>) -> Self {
        self.witness = folder;
        self
    }

    /// How much of offers and answers the witness keeps.
    #[must_use]
    pub fn sdp_detail(mut self, detail: SdpDetail) -> Self {
        self.sdp_detail = detail;
        self
    }

    /// When the witness waits for the disk; by default before every checkpoint. With
    /// [`SyncPolicy::Always`] what is sent and delivered waits too, a disk's round later.
    #[must_use]
    pub fn witness_sync(mut self, policy: SyncPolicy) -> Self {
        self.witness_sync = policy;
        self
    }

    /// What happens when the witness cannot be written; by default the agent ends.
    #[must_use]
    pub fn on_witness_error(mut self, what: OnWriteError) -> Self {
        self.on_witness_error = what;
        self
    }

    /// How long a link may take to make before it is tried again; by default ten seconds.
    #[must_use]
    pub fn dial_timeout(mut self, timeout: Duration) -> Self {
        self.dial_timeout = timeout;
        self
    }

    /// How many links the agent makes at once; other peers wait in line to be dialled. By default
    /// 16; fewer where many agents share a machine, so that each link comes up in time.
    #[must_use]
    pub fn making_at_once(mut self, links: usize) -> Self {
        self.making_at_once = links;
        self
    }

    /// The folder of outboxes; this agent's stands in `SWARM/AGENT` below it. By default messages
    /// are kept in memory. With a folder an agent that ends, however that happens, goes on in the
    /// same session when it starts again: what [`send`](Agent::send) accepted goes out, and what
    /// was [taken](super::Held) does not come again. What comes before somebody
    /// [subscribes](Agent::subscribe) waits for that.
    #[must_use]
    pub fn outbox(mut self, folder: Option<std::path::PathBuf>) -> Self {
        self.outbox_folder = folder;
        self
    }

    /// How much is kept for each peer until it acknowledges it, and how long.
    #[must_use]
    pub fn outbox_limits(mut self, limits: OutboxLimits) -> Self {
        self.outbox = limits;
        self
    }

    /// After how much silence a conversation is closed, and no more in
    /// [`Agent::conversations`]; by default 24 hours.
    #[must_use]
    pub fn conversation_silence(mut self, silence: Duration) -> Self {
        self.conversation_silence = silence;
        self
    }

    /// Which files to take; by default none.
    #[must_use]
    pub fn accept_files(mut self, accept: Option<AcceptFiles>) -> Self {
        self.accept_files = accept;
        self
    }

    /// Binds the port, opens the witness, registers, and starts linking.
    ///
    /// # Errors
    /// [`StartError`], which says what to do.
    pub async fn start(self) -> Result<Agent, StartError> {
        let key = match &self.key {
            Some(key) => key.clone(),
            None => KeyPair::generate()?,
        };
        let accept = self.accept_files.as_ref().map(|accept| {
            let store = Store::open(&accept.folder).map_err(|source| StartError::Folder {
                path: accept.folder.clone(),
                source,
            });
            store.map(|store| (store, accept.max_size))
        });
        let accept = accept.transpose()?;
        let public_key = key.public_key();
        let by_roster = self
            .roster
            .as_ref()
            .is_some_and(|r| r.is_revoked(&public_key));
        if by_roster || self.revoked.contains(&public_key) {
            return Err(StartError::Revoked(Box::new(public_key)));
        }
        let wall = wall_clock();
        let opening = Opening {
            agent_id: LogOwner::Agent(&self.id),
            swarm: &self.swarm,
            public_key,
            now: wall,
            sync: self.witness_sync,
        };
        let mut witness = match &self.witness {
            Some(folder) => Log::open(folder, opening)?,
            None => Log::in_memory(opening),
        };
        witness.commit()?;
        // In memory there is nothing to wait for.
        let holds = self.witness_sync == SyncPolicy::Always && self.witness.is_some();
        let mut journal = self.open_journal(public_key)?;
        let servers = Servers::new(
            &self.signal,
            self.swarm.clone(),
            self.id.clone(),
            key.clone(),
            self.trust.clone(),
        )?;
        let kept = journal.as_ref().map(Journal::session);
        let (client, registered, session) = servers.register(kept).await?;
        let lost = match &mut journal {
            Some(journal) if journal.session() != session => journal.renew(session)?,
            _ => Vec::new(),
        };
        let endpoint = self.bind(&registered)?;
        let now = Instant::now();
        let (mut seed, mut jitter) = ([0; 8], [0; 8]);
        getrandom::fill(&mut seed)?;
        getrandom::fill(&mut jitter)?;
        let mut mesh = Mesh::new(
            Config {
                me: self.id.clone(),
                session,
                neighbours: self.neighbours,
                reliable: self.channel.is_reliable(),
                dial_timeout: self.dial_timeout,
                making_at_once: self.making_at_once,
                outbox: self.outbox,
                durable: journal.is_some(),
                seed: u64::from_le_bytes(seed),
            },
            now,
        );
        if let Some(journal) = &journal {
            let (used, peers) = journal.remembered(wall);
            mesh.remember(used, peers, now);
        }
        let subscribers = match &journal {
            Some(_) => Subscribers::with_messages_kept(),
            None => Subscribers::default(),
        };
        let mut tasks = JoinSet::new();
        let (signal_queue, forwarding) = forward(client.sender());
        tasks.spawn(forwarding);
        let runtime = Handle::current();
        let shared = Arc::new_cyclic(|agent| {
            Shared::new(Core {
                me: self.id.clone(),
                session,
                key,
                keyring: Arc::new(Keyring::new(self.roster, self.revoked)),
                endpoint,
                mesh,
                gate: Gate::new(holds),
                countersigning: Countersigning::of(&self.swarm, &self.id, &public_key, &witness),
                witness: Some(witness),
                journal: journal.map(|journal| Arc::new(Mutex::new(journal))),
                rewrite: None,
                swarm: self.swarm,
                sdp_detail: self.sdp_detail,
                links: Links::new(agent.clone()),
                rooms: Rooms::default(),
                reliable: self.channel.is_reliable(),
                max_message: self.channel.max_message,
                files: Arc::new(Files::new(self.id.clone(), agent.clone(), accept)),
                subscribers,
                stats: Stats::default(),
                conversations: Conversations::new(self.conversation_silence),
                tally: Tally::new(),
                signal_queue,
                pause_asked: None,
                of_server: Seldom::default(),
                of_peers: SeldomOfEach::default(),
                runtime,
                tasks,
                network: None,
                on_error: self.on_witness_error,
                effects: Vec::new(),
                leaving: None,
                armed: now,
                now,
                wall,
                clock_off_ms: 0,
            })
        });
        shared.enter(|core| {
            core.tell_lost(&lost);
            core.registered(&registered.connected_agents);
        });
        if self.follow_addresses {
            shared.enter(Core::follow_network);
        }
        let jitter = u64::from_le_bytes(jitter);
        let signaling = Signaling::new(servers, session, client, jitter);
        Ok(Agent {
            id: self.id,
            session,
            public_key,
            driver: tokio::spawn(run(Arc::clone(&shared), signaling)),
            shared,
        })
    }

    fn bind(&self, registered: &Registered) -> Result<Endpoint, BindError> {
        let named = registered.ice_servers.iter().map(|server| IceServer {
            urls: server.urls.clone(),
            username: server.username.clone().unwrap_or_default(),
            credential: server.credential.clone().unwrap_or_default(),
        });
        let endpoint = Endpoint::bind(EndpointConfig {
            addresses: self.addresses.clone(),
            udp_port: self.udp_port,
            ice_servers: self.ice_servers.iter().cloned().chain(named).collect(),
            channel: self.channel,
        })?;
        if endpoint.receive_buffer() < ENOUGH_BUFFER {
            tracing::warn!(
                agent = %self.id,
                granted = endpoint.receive_buffer(),
                reason = "net.core.rmem_max is low",
                "the kernel grants small receive buffers, bursts will stall for a second: \
                 raise net.core.rmem_max to 4194304"
            );
        }
        Ok(endpoint)
    }
}

/// After how much silence a conversation is closed.
const SILENCE: Duration = Duration::from_secs(24 * 60 * 60);
/// Links that one agent makes at once: a link takes some ten milliseconds of a processor on both
/// ends together, so these are up long before any of them is given up.
const MAKING_AT_ONCE: usize = 16;
