//! Whom a message is for.

use std::fmt;
use std::str::FromStr;

use crate::identity::{AgentId, InvalidName};

/// Whom a message is for: one agent, or `*`, every agent of the swarm.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Destination {
    /// One agent.
    Agent(AgentId),
    /// Every agent of the swarm, written `*`.
    All,
}

impl FromStr for Destination {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        match text {
            "*" => Ok(Self::All),
            id => id.parse().map(Self::Agent),
        }
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Agent(id) => id.fmt(f),
            Self::All => f.pad("*"),
        }
    }
}
