//! Whose key is whose: the swarm's roster, or, without one, the key each agent was first seen with.

use std::collections::{HashMap, HashSet};
use std::sync::{PoisonError, RwLock};

use crate::identity::{AgentId, PublicKey, Roster};
use crate::message::Keys;

/// The keys an agent verifies with; shared by its links.
#[derive(Debug)]
pub(super) struct Keyring {
    known: Known,
    /// Refused whoever shows them.
    revoked: HashSet<PublicKey>,
}

#[derive(Debug)]
enum Known {
    /// Only these agents, under these keys.
    Roster(Roster),
    /// Whoever comes, bound to the first key seen for as long as this agent lives. That is all
    /// that is promised without a roster.
    Pinned(RwLock<HashMap<AgentId, PublicKey>>),
}

impl Keyring {
    /// The keys of `roster`, if there is one; without `revoked`, and without those it revokes
    /// itself.
    pub(super) fn new(roster: Option<Roster>, mut revoked: HashSet<PublicKey>) -> Self {
        revoked.extend(roster.iter().flat_map(Roster::revoked));
        let known = match roster {
            Some(roster) => Known::Roster(roster),
            None => Known::Pinned(RwLock::default()),
        };
        Self { known, revoked }
    }

    /// Whether `id` is known, or becomes known, under `key`.
    pub(super) fn admits(&self, id: &AgentId, key: &PublicKey) -> bool {
        if self.revoked.contains(key) {
            return false;
        }
        if let Known::Pinned(pinned) = &self.known {
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
        let key = match &self.known {
            Known::Roster(roster) => roster.key_of(id).copied(),
            Known::Pinned(pinned) => {
                let pinned = pinned.read().unwrap_or_else(PoisonError::into_inner);
                pinned.get(id).copied()
            }
        };
        key.filter(|key| !self.revoked.contains(key))
    }

    fn is_revoked(&self, key: &PublicKey) -> bool {
        self.revoked.contains(key)
    }
}

/// The keys that an agent believes, and its own.
pub(super) struct WithOwn<'a> {
    keyring: &'a Keyring,
    id: &'a AgentId,
    key: &'a PublicKey,
}

impl Keyring {
    /// These keys, and `key` for `id` itself, who needs not be on a roster of its own.
    pub(super) fn with<'a>(&'a self, id: &'a AgentId, key: &'a PublicKey) -> WithOwn<'a> {
        WithOwn {
            keyring: self,
            id,
            key,
        }
    }
}

impl Keys for WithOwn<'_> {
    fn key_of(&self, id: &AgentId) -> Option<PublicKey> {
        match id == self.id {
            true => Some(*self.key),
            false => self.keyring.key_of(id),
        }
    }

    fn is_revoked(&self, key: &PublicKey) -> bool {
        self.keyring.is_revoked(key)
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
        let keyring = Keyring::new(None, HashSet::new());
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
        let keyring = Keyring::new(Some(roster), HashSet::new());
        assert!(keyring.admits(&id, &key(1)));
        assert!(!keyring.admits(&id, &key(2)));
        assert!(!keyring.admits(&"b".parse().unwrap(), &key(3)));
    }

    #[test]
    fn a_revoked_key_is_neither_pinned_nor_taken_from_a_roster() {
        let id: AgentId = "a".parse().unwrap();
        let keyring = Keyring::new(None, HashSet::from([key(1)]));
        assert!(!keyring.admits(&id, &key(1)));
        assert_eq!(
            keyring.key_of(&id),
            None,
            "the place is free for the right key"
        );
        assert!(keyring.admits(&id, &key(2)));
        assert!(keyring.is_revoked(&key(1)) && !keyring.is_revoked(&key(2)));

        let roster = || Roster::new([(id.clone(), key(1))]).unwrap();
        let keyring = Keyring::new(Some(roster()), HashSet::from([key(1)]));
        assert!(!keyring.admits(&id, &key(1)));
        assert_eq!(keyring.key_of(&id), None);

        let keyring = Keyring::new(Some(roster().revoking([key(3)]).unwrap()), HashSet::new());
        assert!(keyring.is_revoked(&key(3)));
    }
}
