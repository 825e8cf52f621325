//! Whose log it is: what is given to open one, and must be what the log says of itself.

use std::fmt;
use std::path::Path;

use super::check::Opened;
use super::{OpenError, SyncPolicy};
use crate::identity::{AgentId, PublicKey, SwarmName};
use crate::message::Timestamp;

/// Whose log is opened, and when.
#[derive(Debug, Clone, Copy)]
pub struct Opening<'a> {
    /// Whose log it is.
    pub agent_id: LogOwner<'a>,
    /// The swarm it belongs to.
    pub swarm: &'a SwarmName,
    /// The owner's key. A log keeps the key it was opened with.
    pub public_key: PublicKey,
    /// When.
    pub now: Timestamp,
    /// When the log waits for the disk.
    pub sync: SyncPolicy,
}

/// Who keeps a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogOwner<'a> {
    /// An agent.
    Agent(&'a AgentId),
    /// A signaling server, `@signal`; it keeps one log per swarm.
    Signal,
}

impl Opening<'_> {
    /// Refuses a log that was opened for somebody else.
    pub(super) fn must_match(&self, opened: &Opened, path: &Path) -> Result<(), OpenError> {
        let key = (opened.public_key.to_string(), self.public_key.to_string());
        let agent = (opened.agent_id.clone(), self.agent_id.to_string());
        let swarm = (opened.swarm.to_string(), self.swarm.to_string());
        for (what, (found, expected)) in [("swarm", swarm), ("agent", agent), ("key", key)] {
            if found != expected {
                return Err(OpenError::Foreign {
                    path: path.into(),
                    what,
                    found,
                    expected,
                });
            }
        }
        Ok(())
    }
}

impl<'a> LogOwner<'a> {
    /// As it stands in the log.
    pub fn as_str(&self) -> &'a str {
        match self {
            Self::Agent(id) => id.as_str(),
            Self::Signal => SIGNAL,
        }
    }
}

impl<'a> From<&'a AgentId> for LogOwner<'a> {
    fn from(id: &'a AgentId) -> Self {
        Self::Agent(id)
    }
}

impl fmt::Display for LogOwner<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The name of a log in checkpoints (C2SP tlog-checkpoint).
pub fn origin(swarm: &SwarmName, owner: &str) -> String {
    format!("{ORIGIN}{swarm}/{owner}")
}

/// Whose log of `swarm` has this name; none for another swarm's, or a signaling server's.
pub fn owner_of(swarm: &SwarmName, origin: &str) -> Option<AgentId> {
    let rest = origin.strip_prefix(ORIGIN)?;
    let id = rest.strip_prefix(swarm.as_str())?.strip_prefix('/')?;
    id.parse().ok()
}

/// The swarm and the owner, an agent or `@signal`, of the log that has this name.
pub fn parse_origin(origin: &str) -> Option<(SwarmName, &str)> {
    // A swarm's name has no slash, an agent's may.
    let (swarm, owner) = origin.strip_prefix(ORIGIN)?.split_once('/')?;
    let is_owner = owner == SIGNAL || AgentId::is_valid(owner);
    Some((swarm.parse().ok()?, owner)).filter(|_| is_owner)
}

/// What the name of every log begins with.
const ORIGIN: &str = "ifswarm-log/";
/// How a signaling server is called in its own log; no agent can have this id.
pub(super) const SIGNAL: &str = "@signal";
/// `metadata.version` of `log_opened`: the version of this format.
pub(super) const FORMAT_VERSION: u64 = 1;
