//! Who belongs to the swarm, and under which key.

use std::collections::{BTreeMap, HashSet};

use super::{AgentId, PublicKey};

/// The agents of a swarm and their public keys. The only thing a verifier has to trust.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Roster {
    agents: BTreeMap<AgentId, PublicKey>,
    /// Never anybody's.
    revoked: HashSet<PublicKey>,
}

/// Two agents cannot be told apart, or one has a key that is revoked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RosterError {
    /// The same id stands twice.
    #[error("agent `{0}` stands twice in the roster; ids are unique")]
    TwiceTheSameId(AgentId),
    /// Two ids share one key: either could speak for the other.
    #[error(
        "agents `{0}` and `{1}` have the same public key; give each its own with `ifswarm keygen`"
    )]
    TwiceTheSameKey(AgentId, AgentId),
    /// A key is revoked and somebody's.
    #[error(
        "agent `{0}` has a key that is revoked; give it another with `ifswarm keygen`, or revoke that one no longer"
    )]
    Revoked(AgentId),
}

impl Roster {
    /// A roster of these agents.
    ///
    /// # Errors
    /// When an id or a key stands twice.
    pub fn new(
        agents: impl IntoIterator<Item = (AgentId, PublicKey)>,
    ) -> Result<Self, RosterError> {
        let mut roster = Self::default();
        for (id, key) in agents {
            if let Some((other, _)) = roster.iter().find(|(other, k)| **k == key && **other != id) {
                return Err(RosterError::TwiceTheSameKey(AgentId::clone(other), id));
            }
            if roster.agents.contains_key(&id) {
                return Err(RosterError::TwiceTheSameId(id));
            }
            roster.agents.insert(id, key);
        }
        Ok(roster)
    }

    /// The same agents, and keys that are refused whoever shows them.
    ///
    /// # Errors
    /// When one of them is somebody's.
    pub fn revoking(
        mut self,
        keys: impl IntoIterator<Item = PublicKey>,
    ) -> Result<Self, RosterError> {
        self.revoked.extend(keys);
        let mut agents = self.agents.iter();
        match agents.find(|(_, key)| self.revoked.contains(*key)) {
            Some((id, _)) => Err(RosterError::Revoked(id.clone())),
            None => Ok(self),
        }
    }

    /// Whether `key` is refused whoever shows it.
    pub fn is_revoked(&self, key: &PublicKey) -> bool {
        self.revoked.contains(key)
    }

    /// The keys that are refused whoever shows them, in no order.
    pub fn revoked(&self) -> impl Iterator<Item = &PublicKey> {
        self.revoked.iter()
    }

    /// The key of `id`, if it belongs to the swarm.
    pub fn key_of(&self, id: &AgentId) -> Option<&PublicKey> {
        self.agents.get(id)
    }

    /// The agent that has `key`, if any does.
    pub fn agent_of(&self, key: &PublicKey) -> Option<&AgentId> {
        self.iter().find(|(_, k)| *k == key).map(|(id, _)| id)
    }

    /// All agents, in the order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = (&AgentId, &PublicKey)> {
        self.agents.iter()
    }

    /// How many agents belong to the swarm.
    pub fn len(&self) -> usize {
        self.agents.len()
    }

    /// Whether nobody does.
    pub fn is_empty(&self) -> bool {
        self.agents.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::super::KeyPair;
    use super::*;

    fn key(seed: u8) -> PublicKey {
        KeyPair::from_secret(&[seed; 32]).public_key()
    }

    fn id(text: &str) -> AgentId {
        text.parse().unwrap()
    }

    #[test]
    fn refuses_one_id_or_one_key_twice() {
        assert_eq!(
            Roster::new([(id("a"), key(1)), (id("a"), key(2))]),
            Err(RosterError::TwiceTheSameId(id("a")))
        );
        assert_eq!(
            Roster::new([(id("a"), key(1)), (id("b"), key(1))]),
            Err(RosterError::TwiceTheSameKey(id("a"), id("b")))
        );
    }

    #[test]
    fn finds_keys_by_agent_and_agents_by_key() {
        let roster = Roster::new([(id("a"), key(1)), (id("b"), key(2))]).unwrap();
        assert_eq!(roster.key_of(&id("b")), Some(&key(2)));
        assert_eq!(roster.agent_of(&key(1)), Some(&id("a")));
        assert_eq!(roster.key_of(&id("c")), None);
    }

    #[test]
    fn a_revoked_key_is_nobodys() {
        let roster = || Roster::new([(id("a"), key(1)), (id("b"), key(2))]).unwrap();
        let revoking = roster().revoking([key(3)]).unwrap();
        assert!(revoking.is_revoked(&key(3)) && !revoking.is_revoked(&key(1)));
        assert_ne!(revoking, roster());
        assert_eq!(
            revoking.revoking([key(4), key(2)]),
            Err(RosterError::Revoked(id("b")))
        );
    }
}
