//! One agent: joins mesh, signal, link and witness behind a handle that can send, listen, and
//! leave.
//!
//! [`Agent`] is what a reader should meet first. Inside, `core` is the state, entered by one at a
//! time; readers of links verify signatures before they enter; the driver owns the only loop that
//! waits for time and the server. Nothing leaves before the witness is written.
//!
//! ```text
//! send ── sequence ── sign ── witness ── link ══ DataChannel ══ link ── verify ── replay, order ── witness ── subscriber
//! ```

mod asking;
mod builder;
mod conditions;
mod control;
mod conversations;
mod converse;
mod core;
mod cosigners;
mod countersigning;
mod driver;
mod effects;
mod event;
mod evidence;
mod files;
mod gate;
mod introduce;
mod judging;
mod keyring;
mod link_task;
mod links;
mod meddling;
mod network;
mod of_swarm;
mod parting;
mod pen;
mod quality;
mod remembering;
mod rewriter;
mod sending;
mod signaling;
mod subscription;
mod syncer;
mod taking;
#[cfg(test)]
mod test_pair;
mod testimony;
mod unread;
mod vitals;
mod witnessing;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;

pub use asking::{Answer, RequestError};
pub use builder::{Builder, StartError};
pub use control::Control;
pub use conversations::Conversation;
pub use event::AgentEvent;
pub use evidence::Evidence;
pub use files::{
    AcceptFiles, Direction, FileError, FileEvent, FileOffer, FileState, FileTransfer,
    InvalidTransferId, TransferId,
};
pub use network::host_addresses;
pub use quality::ConnectionQuality;
pub use sending::DeliveryError;
pub use subscription::Subscription;
pub use taking::Held;
pub use vitals::{Coverage, Holdings, Observer, Queued, RoundTrips, Vitals};

use crate::identity::{AgentId, PublicKey, Session};
use crate::link::{Link, Path};
use crate::mesh::PeerView;
use crate::message::{Destination, Draft, DraftError, IfMessage, Refusal, Verified, verify};
use crate::witness::Summary;
use core::Shared;

/// A running agent.
///
/// ```
/// # tokio::runtime::Runtime::new().unwrap().block_on(async {
/// use ifswarm::agent::{Agent, AgentEvent};
/// use ifswarm::message::{Destination, Draft};
/// use ifswarm::signal::{Admission, Server, ServerConfig};
///
/// let anywhere = "127.0.0.1:0".parse()?;
/// let server = Server::bind(ServerConfig::new(anywhere, Admission::Open)).await?;
/// let swarm = "two".parse()?;
/// let ann = Agent::builder("ann".parse()?, &swarm).signal(&server.url()).start().await?;
/// let bob = Agent::builder("bob".parse()?, &swarm).signal(&server.url()).start().await?;
///
/// let mut inbox = bob.subscribe();
/// ann.linked(1).await?;
/// let payload = serde_json::json!({ "hello": "bob" });
/// let to_bob = Destination::Agent(bob.id().clone());
/// ann.send(Draft::new(to_bob, payload.as_object().unwrap().clone())).await?;
///
/// let message = loop {
///     if let Some(AgentEvent::Message(message)) = inbox.recv().await {
///         break message;
///     }
/// };
/// assert_eq!(message.source(), ann.id());
/// assert_eq!(message.payload()["hello"], "bob");
/// ann.shutdown("done").await?;
/// bob.shutdown("done").await?;
/// server.shutdown().await;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
pub struct Agent {
    id: AgentId,
    session: Session,
    public_key: PublicKey,
    shared: Arc<Shared>,
    driver: JoinHandle<Result<Summary, AgentError>>,
}

/// A message that was signed, witnessed and kept for its receivers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// Its id.
    pub id: String,
    /// Its number within (this agent, this session, its destination).
    pub sequence_num: u64,
    /// The agents it is for, linked or away.
    pub to: Vec<AgentId>,
}

/// A peer, as [`Agent::peers`] tells of it.
#[derive(Debug, Clone)]
pub struct PeerInfo {
    /// What the mesh knows.
    pub view: PeerView,
    /// How long the link took to make, once it is up.
    pub setup: Option<Duration>,
    connection: Option<Link>,
}

/// What an agent has counted since it started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Messages signed and sent; one to everybody counts once.
    pub sent: u64,
    /// Messages verified, accepted and delivered.
    pub delivered: u64,
    /// Messages refused, but for duplicates.
    pub rejected: u64,
    /// Messages refused as `replayed`.
    pub duplicated: u64,
    /// Messages of mine that a peer refused.
    pub refused_by_peers: u64,
    /// Offers and answers refused.
    pub sdp_rejected: u64,
    /// Control frames of a type that is not known.
    pub unknown_control: u64,
    /// Control frames refused.
    pub bad_control: u64,
    /// Checkpoints of others that this agent has countersigned.
    pub countersigned: u64,
    /// Checkpoints of this agent that others have countersigned, each peer's counted by itself.
    pub cosigned: u64,
    /// Logs with two histories.
    pub equivocations: u64,
}

/// Why a message was not sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The mesh cannot take it now.
    #[error(transparent)]
    Mesh(#[from] crate::mesh::SendError),
    /// The draft cannot become a message.
    #[error(transparent)]
    Draft(#[from] DraftError),
    /// The message is larger than the peer takes.
    #[error(
        "{size} bytes are more than the {limit} that {peer} takes: raise `channel.max_message` on both ends (256 KiB at most), or send evidence as a file"
    )]
    TooLarge {
        /// Who does not take it.
        peer: AgentId,
        /// Bytes of the signed message.
        size: usize,
        /// Bytes the peer takes.
        limit: usize,
    },
    /// The operating system has no randomness to give.
    #[error("no randomness: {0}")]
    Randomness(String),
    /// The agent has ended or is leaving.
    #[error("the agent has ended: start another one to send more")]
    Ended,
}

/// Why an agent ended, or could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The witness cannot be written. The agent stops rather than speak unwitnessed.
    #[error(
        "the witness cannot be written, so the agent has stopped, and nothing was sent unwitnessed: {0}"
    )]
    Witness(#[from] crate::witness::WriteError),
    /// The outbox cannot be written. The agent stops rather than promise what it cannot keep.
    #[error("the outbox cannot be written, so the agent has stopped: {0}")]
    Outbox(#[from] crate::outbox::JournalError),
    /// A later process with the same id and key has taken this one's place.
    #[error("a later process with the same id and key has taken this one's place")]
    Replaced,
    /// The agent has ended.
    #[error("the agent has ended")]
    Ended,
}

impl Agent {
    /// The agent's id.
    pub fn id(&self) -> &AgentId {
        &self.id
    }

    /// The agent's session.
    pub fn session(&self) -> Session {
        self.session
    }

    /// The agent's public key.
    pub fn public_key(&self) -> &PublicKey {
        &self.public_key
    }

    /// Sends `draft` to every agent of the mesh: signed once, whatever its destination was.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub async fn broadcast(&self, mut draft: Draft) -> Result<Receipt, SendError> {
        draft.destination = Destination::All;
        self.send(draft).await
    }

    /// Receives what happens from now on; the first of an agent with an
    /// [outbox on disk](Builder::outbox) also the messages that came before.
    pub fn subscribe(&self) -> Subscription {
        Subscription::to(&self.shared)
    }

    /// Every peer that was ever seen, in the order of their ids.
    pub fn peers(&self) -> Vec<PeerInfo> {
        let core = self.shared.look();
        core.links.describe(&core.mesh)
    }

    /// The folder of its [outbox on disk](Builder::outbox), which nobody else has as long as it lives.
    /// What a program keeps there under a name of its own is left alone.
    pub fn outbox_folder(&self) -> Option<PathBuf> {
        let core = self.shared.look();
        let journal = core.journal.as_ref()?;
        Some(taking::open(journal).folder().to_owned())
    }

    /// Verifies a signed message under the keys that this agent believes, its own among them,
    /// wherever it was found. Whom it was for, and when, is not judged.
    ///
    /// # Errors
    /// [`Refusal`] with the first reason that applies, up to
    /// [`BadSignature`](crate::message::Reason::BadSignature).
    pub fn verify(&self, bytes: &[u8]) -> Result<Verified<IfMessage>, Box<Refusal>> {
        let keyring = Arc::clone(&self.shared.look().keyring);
        verify(bytes, &keyring.with(&self.id, &self.public_key))
    }

    /// What was counted so far.
    pub fn stats(&self) -> Stats {
        self.shared.look().stats
    }

    /// What looks at it from outside, as long as it lives.
    pub fn observer(&self) -> Observer {
        Observer(Arc::downgrade(&self.shared))
    }

    /// Waits until at least `count` links are up.
    ///
    /// # Errors
    /// [`AgentError::Ended`].
    pub async fn linked(&self, count: usize) -> Result<(), AgentError> {
        let up = || self.peers().iter().filter(|peer| peer.is_up()).count();
        self.until(|| up() >= count).await
    }

    /// Whether the link with `peer` is up.
    pub fn is_linked(&self, peer: &AgentId) -> bool {
        self.shared.look().mesh.is_linked(peer)
    }

    /// Whether a message to `destination` would be sent, or kept until its receiver is back; it may
    /// have to wait for room.
    pub fn would_take(&self, destination: &Destination) -> bool {
        use crate::mesh::SendError;
        let core = self.shared.look();
        let assigned = core.mesh.assign(destination, core.now);
        matches!(assigned, Ok(_) | Err(SendError::Full { .. }))
    }

    /// Waits until the link with `peer` is up.
    ///
    /// # Errors
    /// [`AgentError::Ended`].
    pub async fn linked_with(&self, peer: &AgentId) -> Result<(), AgentError> {
        self.until(|| self.is_linked(peer)).await
    }

    /// Waits until `holds`, which the coming of a link decides.
    async fn until(&self, holds: impl Fn() -> bool) -> Result<(), AgentError> {
        let is_up = |event: &AgentEvent| matches!(event, AgentEvent::PeerUp { .. }).then_some(());
        loop {
            // Asked again after every change rather than counted, and watched before it is asked, so
            // that nothing is missed.
            let up = self.shared.enter(|core| core.subscribers.watch(is_up));
            if holds() {
                return Ok(());
            }
            let up = up.ok_or(AgentError::Ended)?;
            up.await.map_err(|_| AgentError::Ended)?;
        }
    }

    /// Leaves: waits up to ten seconds for acknowledgements, says goodbye to everybody, and
    /// closes the witness, of which it returns the summary.
    ///
    /// # Errors
    /// [`AgentError`], if it had ended already, and why.
    pub async fn shutdown(self, reason: &str) -> Result<Summary, AgentError> {
        self.shutdown_within(reason, ACKNOWLEDGEMENTS).await
    }

    /// As [`shutdown`](Self::shutdown), waiting so long for acknowledgements.
    ///
    /// # Errors
    /// [`AgentError`], if it had ended already, and why.
    pub async fn shutdown_within(
        self,
        reason: &str,
        grace: Duration,
    ) -> Result<Summary, AgentError> {
        // If it has ended by itself, its result says why.
        self.shared
            .enter(|core| core.begin_leaving(reason, grace, None));
        self.ended().await
    }

    /// Waits until the agent ends by itself: replaced, or without a witness.
    ///
    /// # Errors
    /// [`AgentError`]: why it ended.
    pub async fn ended(mut self) -> Result<Summary, AgentError> {
        let ended = (&mut self.driver).await;
        ended.unwrap_or(Err(AgentError::Ended))
    }
}

impl Drop for Agent {
    /// The agent leaves without waiting for acknowledgements.
    fn drop(&mut self) {
        self.shared
            .enter(|core| core.begin_leaving("the program has ended", Duration::ZERO, None));
    }
}

impl std::fmt::Debug for Agent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Agent")
            .field("id", &self.id)
            .field("session", &self.session)
            .finish_non_exhaustive()
    }
}

impl PeerInfo {
    /// Whether messages may flow.
    pub fn is_up(&self) -> bool {
        use crate::mesh::PeerState;
        matches!(self.view.state, PeerState::Up | PeerState::Unhealthy)
    }

    /// How packets to this peer travel.
    pub async fn path(&self) -> Path {
        match &self.connection {
            Some(link) => link.path().await,
            None => Path::Unknown,
        }
    }
}

/// How long a leaving agent waits for acknowledgements.
const ACKNOWLEDGEMENTS: Duration = Duration::from_secs(10);
