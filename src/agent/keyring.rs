//! Whose key is whose: the swarm's roster, or, without one, the key each agent was first seen with.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use crate::identity::{AgentId, PublicKey, Roster};
use crate::message::Keys;

/// The keys an agent verifies with; shared by its links.
#[derive(Debug)]
pub(super) enum Keyring {
    /// Only these agents, under these keys.
    Roster(Roster),
    /// Whoever comes, bound to the first key seen for as long as this agent lives. That is all
    /// that is promised without a roster.
    Pinned(RwLock<HashMap<AgentId, PublicKey>>),
}

impl Keyring {
    pub(super) fn new(roster: Option<Roster>) -> Self {
        match roster {
            Some(roster) => Self::Roster(roster),
            None => Self::Pinned(RwLock::default()),
        }
    }

    /// Whether `id` is known, or becomes known, under `key`.
    pub(super) fn admits(&self, id: &AgentId, key: &PublicKey) -> bool {
        if let Self::Pinned(pinned) = self {
            let mut pinned = pinned.write().unwrap_or_else(PoisonError::into_inner);
            if pinned.len() < MAX_PINNED {
                pinned.entry(id.clone()).or_insert(*key);
            }
        }
        self.key_of(id) == Some(*key)
    }
}

impl Keys for Keyring {
    fn key_of(&self, id: &AgentId) -> Option<PublicKey> {
        match self {
            Self::Roster(roster) => roster.key_of(id).copied(),
            Self::Pinned(pinned) => {
                let pinned = pinned.read().unwrap_or_else(PoisonError::into_inner);
                pinned.get(id).copied()
            }
        }
    }
}

/// Agents remembered without a roster; a thousand are a large swarm.
const MAX_PINNED: usize = 4_096;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::KeyPair;

    fn key(seed: u8) -> PublicKey {
        KeyPair::from_secret(&[seed; 32]).public_key()
    }

    #[test]
    fn without_a_roster_the_first_key_stays() {
        let keyring = Keyring::new(None);
        let id: AgentId = "a".parse().unwrap();
        assert_eq!(keyring.key_of(&id), None);
        assert!(keyring.admits(&id, &key(1)));
        assert!(!keyring.admits(&id, &key(2)));
        assert_eq!(keyring.key_of(&id), Some(key(1)));
    }

    #[test]
    fn with_a_roster_nobody_else_is_admitted() {
        let id: AgentId = "a".parse().unwrap();
        let roster = Roster::new([(id.clone(), key(1))]).unwrap();
        let keyring = Keyring::new(Some(roster));
        assert!(keyring.admits(&id, &key(1)));
        assert!(!keyring.admits(&id, &key(2)));
        assert!(!keyring.admits(&"b".parse().unwrap(), &key(3)));
    }
}
