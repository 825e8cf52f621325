//! What an agent tells its program.

use std::time::Duration;

use super::files::FileEvent;
use crate::identity::AgentId;
use crate::mesh::{CloseReason, GivenBack};
use crate::message::{Destination, IfMessage, Reason, SdpReason, Verified};
use crate::witness::Fork;

/// One thing that happened to an agent.
#[derive(Debug, Clone)]
pub enum AgentEvent {
    /// A message for this agent, verified and witnessed.
    Message(Verified<IfMessage>),
    /// A link is up; messages may flow.
    PeerUp {
        /// With whom.
        peer: AgentId,
        /// From the first step of making it until `hello` had arrived both ways.
        setup: Duration,
    },
    /// A link that was up is no more.
    PeerDown {
        /// With whom.
        peer: AgentId,
        /// Why.
        why: CloseReason,
    },
    /// A peer has seen all of mine up to this one.
    Acked {
        /// Who.
        peer: AgentId,
        /// Of those sent to this destination.
        destination: Destination,
        /// The greatest number it has seen.
        up_to: u64,
    },
    /// These of mine are given up: they are not sent (again).
    Undelivered {
        /// Who has not acknowledged them.
        peer: AgentId,
        /// Of those sent to this destination,
        destination: Destination,
        /// from this number
        from: u64,
        /// to this one, as far as they were open still.
        to: u64,
        /// Why.
        why: GivenBack,
    },
    /// A peer refused one of mine.
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
    /// I refused a message of a peer.
    Rejected {
        /// Over whose link it came.
        peer: AgentId,
        /// Why.
        reason: Reason,
        /// What was found and what was expected: one line.
        detail: String,
    },
    /// I rejected an offer or answer.
    SdpRejected {
        /// Whose it says it is.
        peer: AgentId,
        /// Why.
        reason: SdpReason,
        /// What was found and what was expected: one line.
        detail: String,
    },
    /// Something happened to a file that is sent or received.
    File(FileEvent),
    /// A peer has countersigned a checkpoint of this agent's log.
    Countersigned {
        /// Who.
        peer: AgentId,
        /// How many entries the checkpoint covers.
        entries: u64,
    },
    /// The log of an agent has two histories; of this one, where `owner` is this agent. Nobody who
    /// knows countersigns it any more. What the agent says is as good as its signature, as before.
    Equivocation {
        /// Whose log it is.
        owner: AgentId,
        /// Who has shown what does not fit to what was seen before: the owner itself, or another.
        shown_by: AgentId,
        /// How it shows.
        fork: Fork,
    },
    /// The signaling server is gone. Links live on; new ones cannot be made. The agent tries to
    /// reach it again for as long as it lives.
    SignalingLost,
    /// The agent is registered again, with this or another of its servers: wanted links are made.
    SignalingBack,
    /// The witness cannot be written, and `witness.on_error` is `continue`: the agent goes on
    /// unwitnessed.
    WitnessInterrupted {
        /// Why, and what to do.
        error: String,
    },
    /// The witness is written again.
    WitnessResumed {
        /// How many entries it lacks; it says so itself.
        missing: u64,
    },
    /// A later process with the same id and key has taken this one's place; it ends.
    Replaced,
    /// So many events are left out here, none of them a message: the subscriber had left too many
    /// unread. What it believes may be out of date: [`peers`](super::Agent::peers) says which links
    /// are up.
    Missed {
        /// How many.
        events: u64,
    },
}

impl AgentEvent {
    /// How many events that are no messages may wait for a subscriber before this one is left out;
    /// none for a message, which never is.
    pub(super) fn most_waiting(&self) -> Option<usize> {
        match self {
            Self::Message(_) => None,
            Self::Rejected { .. } | Self::SdpRejected { .. } | Self::Countersigned { .. } => {
                Some(MAX_OF_OTHERS)
            }
            _ => Some(MAX_EVENTS),
        }
    }
}

/// For what others can bring about as often as they like, and nobody has to act on: a peer that sends
/// junk is not to push out what the program waits for.
pub(super) const MAX_OF_OTHERS: usize = 4_096;
/// For all else, some ten megabytes of it: what became of as many messages of the program's own, or
/// links that come and go for hours. This is for a program that subscribes and never reads.
pub(super) const MAX_EVENTS: usize = 65_536;
