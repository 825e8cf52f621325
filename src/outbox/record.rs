//! One line of a journal.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::identity::{AgentId, PublicKey, Session, SwarmName};
use crate::message::Destination;

/// What happened to an agent's messages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "kebab-case", deny_unknown_fields)]
pub(super) enum Record<'a> {
    /// Whose journal it is; always the first line, and only the first.
    Opened {
        version: u64,
        swarm: Cow<'a, SwarmName>,
        agent_id: Cow<'a, AgentId>,
        public_key: PublicKey,
        /// In which session everything below was sent.
        session: Session,
    },
    /// Numbers up to this one are used under `*`; in the snapshot of a rewritten journal.
    Broadcasts { used: u64 },
    /// A peer that belongs to the mesh, and the greatest numbers meant for it.
    Peer {
        peer: Cow<'a, AgentId>,
        direct: u64,
        all: u64,
    },
    /// A message was accepted for these.
    Accepted {
        to: Cow<'a, [AgentId]>,
        destination: Cow<'a, Destination>,
        sequence_num: u64,
        /// When, in milliseconds since 1970, UTC.
        at: i64,
        /// As it goes over the wire.
        message: Cow<'a, str>,
    },
    /// These are acknowledged, refused or given back.
    Settled {
        peer: Cow<'a, AgentId>,
        destination: Cow<'a, Destination>,
        from: u64,
        to: u64,
    },
    /// This message of a peer is in the hands of the program; those before it need not be.
    Taken {
        peer: Cow<'a, AgentId>,
        /// The peer's.
        session: Session,
        /// Whether it was to everybody, or to this agent.
        to_all: bool,
        number: u64,
    },
    /// Messages of a peer are in the hands of the program, all up to this one.
    Seen {
        peer: Cow<'a, AgentId>,
        /// The peer's.
        session: Session,
        /// Whether those to everybody, or those to this agent.
        to_all: bool,
        up_to: u64,
    },
}

impl Record<'_> {
    /// Appends the record as a line.
    pub(super) fn write(&self, lines: &mut Vec<u8>) {
        serde_json::to_writer(&mut *lines, self).expect("names, numbers and text only");
        lines.push(b'\n');
    }

    /// The greatest number of a message that it speaks for. One that settles a range does for none,
    /// and its end may be what a peer said.
    pub(super) fn greatest(&self) -> u64 {
        match self {
            Self::Opened { .. } | Self::Settled { .. } => 0,
            Self::Broadcasts { used } => *used,
            Self::Peer { direct, all, .. } => *direct.max(all),
            Self::Accepted { sequence_num, .. } => *sequence_num,
            Self::Taken { number, .. } => *number,
            Self::Seen { up_to, .. } => *up_to,
        }
    }
}

/// The version of this format.
pub(super) const VERSION: u64 = 1;
