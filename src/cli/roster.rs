//! The keys that a swarm file names.

use anyhow::anyhow;

use super::failure::unusable;
use crate::identity::{AgentId, KeyPair, Roster};
use crate::swarm::Swarm;

/// Who of a swarm is known under which key.
pub(super) struct Known {
    /// The agents with a key.
    pub(super) roster: Roster,
    /// The agents without one, in the order of the file.
    pub(super) without_key: Vec<AgentId>,
}

/// The public keys of `swarm`: of `public_key`, else the public half of the file `key`.
pub(super) fn known_keys(swarm: &Swarm) -> anyhow::Result<Known> {
    let mut keys = Vec::new();
    let mut without_key = Vec::new();
    for agent in &swarm.agents {
        match (agent.public_key, &agent.key) {
            (Some(key), _) => keys.push((agent.id.clone(), key)),
            (None, Some(path)) => {
                let pair = KeyPair::read_file(path).map_err(|err| {
                    unusable(anyhow!(err).context(format!("the key of agent `{}`", agent.id)))
                })?;
                keys.push((agent.id.clone(), pair.public_key()));
            }
            (None, None) => without_key.push(agent.id.clone()),
        }
    }
    let roster = Roster::new(keys).and_then(|roster| roster.revoking(swarm.revoked_keys()));
    let roster = roster.map_err(unusable)?;
    Ok(Known {
        roster,
        without_key,
    })
}
