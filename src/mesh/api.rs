//! What goes into [`Mesh`](super::Mesh) and what comes out of it.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;

use super::kept::{GivenBack, OutboxLimits};
use crate::identity::{AgentId, LinkId, Session};
use crate::message::{Destination, Reason, Timestamp};

/// Who this agent is and how its mesh behaves.
#[derive(Debug, Clone)]
pub struct Config {
    /// This agent.
    pub me: AgentId,
    /// This run of it.
    pub session: Session,
    /// Whom it should be linked with.
    pub neighbours: Neighbours,
    /// Whether the messaging channel is ordered and retransmits for ever. Otherwise nothing is
    /// acknowledged, and the replay guard is a window.
    pub reliable: bool,
    /// How long a link may take from offer to `hello`.
    pub dial_timeout: Duration,
    /// How many links it makes at once, at least one: other dials wait in line. What it answers
    /// does not count.
    pub making_at_once: usize,
    /// What is kept for a peer that has not acknowledged it.
    pub outbox: OutboxLimits,
    /// Whether a message that was accepted counts as seen only once
    /// [`Mesh::taken`](super::Mesh::taken) says so: the caller keeps numbers on disk and must not
    /// acknowledge what a crash would lose.
    pub durable: bool,
    /// Makes link ids and jitter. Random in life, fixed in a simulation.
    pub seed: u64,
}

/// Whom an agent should be linked with.
#[derive(Debug, Clone)]
pub enum Neighbours {
    /// Everybody: a full mesh.
    All,
    /// These only.
    Only(BTreeSet<AgentId>),
}

/// One thing for each of the two destinations under which messages travel between two peers:
/// the receiver's own id, and `*`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lanes<T> {
    /// Of messages to the receiver itself.
    pub direct: T,
    /// Of messages to everybody.
    pub all: T,
}

/// `next` of a `hello`: the `sequence_num` expected next, per destination.
pub type Next = Lanes<u64>;

/// `last` of a `goodbye`: the greatest `sequence_num` meant for the receiver, if there was any.
pub type Last = Lanes<Option<u64>>;

/// The part of a verified message that decides whether it is accepted.
#[derive(Debug, Clone, Copy)]
pub struct Header<'a> {
    /// Who wrote it.
    pub source: &'a AgentId,
    /// In which run.
    pub session: Session,
    /// For whom.
    pub destination: &'a Destination,
    /// Its number within (source, session, destination).
    pub sequence_num: u64,
    /// When it says it was written.
    pub timestamp: Timestamp,
}

/// What a message that failed verification says of itself; each part only if it was readable.
#[derive(Debug, Clone, Copy, Default)]
pub struct Claimed<'a> {
    /// Who it says wrote it.
    pub source: Option<&'a AgentId>,
    /// In which run.
    pub session: Option<Session>,
    /// For whom.
    pub destination: Option<&'a Destination>,
    /// Under which number.
    pub sequence_num: Option<u64>,
}

/// A `refused` control frame that is due; the reason is the caller's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedNotice {
    /// Where to send it, before anything that [`Mesh::poll`](super::Mesh::poll) says next.
    pub link: LinkId,
    /// The peer's session.
    pub session: Session,
    /// The destination of the refused message.
    pub destination: Destination,
    /// Its number.
    pub sequence_num: u64,
}

/// The number of a message about to be signed, and whom it is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assigned {
    /// Its number. Used once: a message that is then not sent leaves a gap, which is allowed.
    pub sequence_num: u64,
    /// The peers it is for, whether linked now or away.
    pub to: Vec<AgentId>,
}

/// Why a message cannot be sent now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The agent was never here, or has left.
    #[error(
        "no link to {peer} is open, and it was never here or has left: wait until it is up, then send again"
    )]
    NotConnected {
        /// The agent.
        peer: AgentId,
    },
    /// A message to everybody, and nobody is or was linked.
    #[error("no peer is linked: wait until one is up, then send again")]
    NoPeers,
    /// As much is kept for this agent as may be.
    #[error(
        "the outbox for {peer} is full: it does not acknowledge what it was sent; wait, or raise `outbox.messages` and `outbox.bytes`"
    )]
    Full {
        /// The agent.
        peer: AgentId,
    },
    /// A message to oneself.
    #[error("an agent sends no messages to itself: name another destination")]
    ToMyself,
    /// This agent has said goodbye.
    #[error("this agent is leaving the mesh: start another one to send more")]
    Leaving,
}

/// Why a `hello` is refused. The link is closed, except after [`Self::Again`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HelloError {
    /// The link is not, or no more, one of ours.
    #[error("hello on link {link}, which is not open: drop it")]
    UnknownLink {
        /// The link.
        link: LinkId,
    },
    /// The far end says it is another agent than the one that signed the offer or answer.
    #[error("{peer} says hello as {found}: the link is closed and dialled again")]
    WrongAgent {
        /// Who it should be.
        peer: AgentId,
        /// Who it says it is.
        found: AgentId,
    },
    /// The far end is another run of the peer than the one that signed the offer or answer.
    #[error(
        "{peer} says hello in session {found}, its offer or answer was of {expected}: the link is closed and dialled again"
    )]
    WrongSession {
        /// The peer.
        peer: AgentId,
        /// The session of the offer or answer.
        expected: Session,
        /// The session of the hello.
        found: Session,
    },
    /// A second hello on one link; ignored.
    #[error("{peer} says hello twice on one link: the second is ignored")]
    Again {
        /// The peer.
        peer: AgentId,
    },
}

/// Why a link is closed, or down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CloseReason {
    /// It was not up in time.
    DialTimeout,
    /// A newer link with the same peer takes its place.
    Replaced,
    /// The peer has started anew.
    NewerSession,
    /// The far end is not who it should be.
    WrongHello,
    /// The far end has not answered pings for too long.
    Dead,
    /// The peer said goodbye.
    Goodbye,
    /// This agent said goodbye.
    Leaving,
    /// The connection ended by itself. Only in [`Output::PeerDown`]: there is nothing to close.
    Lost,
}

impl CloseReason {
    /// The reason as a word for logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::DialTimeout => "dial-timeout",
            Self::Replaced => "replaced",
            Self::NewerSession => "newer-session",
            Self::WrongHello => "wrong-hello",
            Self::Dead => "dead",
            Self::Goodbye => "goodbye",
            Self::Leaving => "leaving",
            Self::Lost => "lost",
        }
    }
}

/// Where a peer stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PeerState {
    /// Signaling knows it; no link is being made at the moment.
    Known,
    /// An offer is out.
    Dialing,
    /// Its offer was accepted.
    Answering,
    /// The answer is there, or the channels are open; `hello` is missing.
    Opening,
    /// Linked.
    Up,
    /// Linked, but three pings in a row went unanswered.
    Unhealthy,
    /// It left, or signaling lost it, and no link is left.
    Gone,
}

impl PeerState {
    /// All of them, in the order of their declaration.
    pub const ALL: [Self; 7] = [
        Self::Known,
        Self::Dialing,
        Self::Answering,
        Self::Opening,
        Self::Up,
        Self::Unhealthy,
        Self::Gone,
    ];

    /// The state in a word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Known => "known",
            Self::Dialing => "dialing",
            Self::Answering => "answering",
            Self::Opening => "opening",
            Self::Up => "up",
            Self::Unhealthy => "unhealthy",
            Self::Gone => "gone",
        }
    }
}

/// One peer as the mesh sees it.
#[derive(Debug, Clone)]
pub struct PeerView {
    /// Who.
    pub id: AgentId,
    /// Its latest session known.
    pub session: Option<Session>,
    /// Where it stands.
    pub state: PeerState,
    /// The open link, else the one being made.
    pub link: Option<LinkId>,
    /// The round trip of the last ping answered on the open link.
    pub rtt: Option<Duration>,
    /// Messages meant for it that it has neither acknowledged nor that were given back; always 0
    /// on an unreliable channel.
    pub unacked: u64,
}

/// The goodbye due to one peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Farewell {
    /// To whom.
    pub peer: AgentId,
    /// Over which link.
    pub link: LinkId,
    /// What it should still wait for.
    pub last: Last,
}

/// What the caller has to do, or to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Make a connection and send an offer. If that fails: [`Mesh::link_closed`](super::Mesh::link_closed).
    Dial {
        /// Whom.
        peer: AgentId,
        /// `to_session` of the offer.
        session: Session,
        /// `link` of the offer.
        link: LinkId,
    },
    /// Send `please-offer`.
    AskForOffer {
        /// To whom.
        peer: AgentId,
    },
    /// Close the connection; no answer is expected.
    Close {
        /// Which.
        link: LinkId,
        /// Why.
        why: CloseReason,
    },
    /// Send `hello`, the first frame of this link.
    SendHello {
        /// Where.
        link: LinkId,
        /// Its `next`.
        next: Next,
    },
    /// Send `ack`.
    SendAck {
        /// Where.
        link: LinkId,
        /// The peer's session.
        session: Session,
        /// The destination of the acknowledged messages.
        destination: Destination,
        /// The greatest number seen.
        up_to: u64,
    },
    /// Send `refused` for a message that [`Mesh::accept`](super::Mesh::accept) refused.
    SendRefused {
        /// Where and what.
        notice: RefusedNotice,
        /// Why.
        reason: Reason,
    },
    /// Send `ping`.
    SendPing {
        /// Where.
        link: LinkId,
        /// Its `t`, microseconds.
        t: u64,
    },
    /// Send `pong`.
    SendPong {
        /// Where.
        link: LinkId,
        /// The `t` of the ping.
        t: u64,
    },
    /// A link is up: `hello` has arrived both ways, messages may flow.
    PeerUp {
        /// With whom.
        peer: AgentId,
        /// Which.
        link: LinkId,
    },
    /// A link that was up is no more.
    PeerDown {
        /// With whom.
        peer: AgentId,
        /// Which.
        link: LinkId,
        /// Why.
        why: CloseReason,
    },
    /// Three pings in a row went unanswered.
    PeerUnhealthy {
        /// Who.
        peer: AgentId,
        /// On which link.
        link: LinkId,
    },
    /// An unhealthy peer has answered.
    PeerRecovered {
        /// Who.
        peer: AgentId,
        /// On which link.
        link: LinkId,
    },
    /// The peer has seen all of mine up to this one.
    Acked {
        /// Who.
        peer: AgentId,
        /// Of those with this destination.
        destination: Destination,
        /// The greatest it has seen.
        up_to: u64,
    },
    /// Put this message on the link, behind those before it.
    Transmit {
        /// To whom.
        peer: AgentId,
        /// Where.
        link: LinkId,
        /// Its destination.
        destination: Destination,
        /// Its number, of those with this destination.
        sequence_num: u64,
        /// The signed message.
        bytes: Bytes,
    },
    /// There is room again for messages to this peer.
    Room {
        /// Whom.
        peer: AgentId,
    },
    /// These are given up; a later [`Self::Acked`] does not speak of them.
    Undelivered {
        /// Who did not acknowledge them.
        peer: AgentId,
        /// Those with this destination,
        destination: Destination,
        /// from this number
        from: u64,
        /// to this one, as far as they were meant for this peer and open still.
        to: u64,
        /// Why.
        why: GivenBack,
    },
    /// The peer refused one of mine. It counts as seen, and is not to be sent again.
    RefusedByPeer {
        /// Who.
        peer: AgentId,
        /// Its destination.
        destination: Destination,
        /// Its number.
        sequence_num: u64,
        /// Why.
        reason: Reason,
    },
}
