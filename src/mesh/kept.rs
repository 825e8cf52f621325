//! What is kept of messages: how much, why no longer, and what an agent remembers of its last run.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;

use super::Lanes;
use crate::identity::{AgentId, Session};

/// How much is kept for each peer until it acknowledges it, and how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutboxLimits {
    /// Messages.
    pub messages: usize,
    /// Bytes of all of them; the last one may go beyond.
    pub bytes: usize,
    /// What is older is given back to the caller.
    pub keep: Duration,
}

impl Default for OutboxLimits {
    /// 4,096 messages and 4 MiB, for 24 hours: minutes of a busy conversation, and 400 MiB in the
    /// worst case of a hundred peers that are all away.
    fn default() -> Self {
        Self {
            messages: 4096,
            bytes: 4 * 1024 * 1024,
            keep: Duration::from_secs(24 * 60 * 60),
        }
    }
}

/// Why a message is given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum GivenBack {
    /// The peer did not come back within [`OutboxLimits::keep`].
    Expired,
    /// The peer is away, or takes nothing, and there is no room for all that is meant for it.
    Full,
    /// It is larger than the peer takes.
    TooLarge,
    /// This agent left before it was acknowledged.
    Left,
    /// It belongs to a session of this agent that a later one has taken the place of, or has a
    /// number under which the peer has another one of an earlier run.
    Superseded,
    /// It was kept by an earlier run for an agent that this one is not to be linked with.
    NoNeighbour,
}

impl GivenBack {
    /// The reason as a word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::Full => "full",
            Self::TooLarge => "too-large",
            Self::Left => "left",
            Self::Superseded => "superseded",
            Self::NoNeighbour => "no-neighbour",
        }
    }
}

/// What an agent that was here before knows of one peer: from the disk.
#[derive(Debug, Clone)]
pub struct Remembered {
    /// Who.
    pub peer: AgentId,
    /// What was meant for it.
    pub sent: Lanes<RememberedSent>,
    /// Its last session of which anything was seen, and up to which number.
    pub seen: Option<(Session, Lanes<RememberedSeen>)>,
}

/// What of a peer's messages under one destination the program has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RememberedSeen {
    /// All up to this one.
    pub up_to: Option<u64>,
    /// And these after it: it took them before others that came earlier.
    pub beyond: BTreeSet<u64>,
}

/// What was meant for a peer under one destination.
#[derive(Debug, Clone, Default)]
pub struct RememberedSent {
    /// The greatest number used.
    pub greatest: u64,
    /// What is not settled, in the order of the numbers: number, age, message.
    pub kept: Vec<(u64, Duration, Bytes)>,
}
