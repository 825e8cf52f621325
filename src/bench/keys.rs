//! The keys of a swarm that runs in this process: from the key files it names, or made for the run.

use std::path::PathBuf;

use crate::identity::{AgentId, KeyFileError, KeyPair, PublicKey, Roster, RosterError};
use crate::swarm::Swarm;

/// A key pair for every agent.
pub(super) struct Keys {
    /// In the order of the swarm's agents.
    pub(super) pairs: Vec<KeyPair>,
    pub(super) roster: Roster,
    /// Whether the next run will have the same keys.
    pub(super) are_kept: bool,
}

/// Why an agent of a swarm file has no usable key.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// Its private key file cannot be used.
    #[error("agent `{agent}`: {source}")]
    File {
        /// The agent.
        agent: AgentId,
        /// Why.
        source: KeyFileError,
    },
    /// The swarm file says which key it has, but not where the private half is.
    #[error(
        "agent `{agent}` has a `public_key`, so its private key is needed to run it: add `key: FILE`, or leave `public_key` out for a key that is made for the run"
    )]
    NoPrivateKey {
        /// The agent.
        agent: AgentId,
    },
    /// The key file is that of another key.
    #[error(
        "agent `{agent}`: {path} holds the private key of {found}, expected that of its `public_key` {expected}",
        path = .path.display()
    )]
    Mismatch {
        /// The agent.
        agent: AgentId,
        /// The key file.
        path: PathBuf,
        /// Whose key it holds.
        found: Box<PublicKey>,
        /// What the swarm file says.
        expected: Box<PublicKey>,
    },
    /// Two agents have the same key.
    #[error(transparent)]
    Roster(#[from] RosterError),
    /// The operating system has no randomness to give.
    #[error("no randomness to make keys from: {0}")]
    Randomness(#[from] getrandom::Error),
}

impl Keys {
    /// The keys of `swarm`.
    pub(super) fn of(swarm: &Swarm) -> Result<Self, KeysError> {
        let mut pairs = Vec::with_capacity(swarm.agents.len());
        let mut are_kept = true;
        for agent in &swarm.agents {
            let id = || agent.id.clone();
            let pair = match (&agent.key, agent.public_key) {
                (Some(path), expected) => {
                    let read = KeyPair::read_file(path);
                    let pair = read.map_err(|source| KeysError::File {
                        agent: id(),
                        source,
                    })?;
                    let found = pair.public_key();
                    match expected {
                        Some(expected) if expected != found => {
                            return Err(KeysError::Mismatch {
                                agent: id(),
                                path: path.clone(),
                                found: Box::new(found),
                                expected: Box::new(expected),
                            });
                        }
                        _ => pair,
                    }
                }
                (None, Some(_)) => return Err(KeysError::NoPrivateKey { agent: id() }),
                (None, None) => {
                    are_kept = false;
                    KeyPair::generate()?
                }
            };
            pairs.push(pair);
        }
        let keys = pairs.iter().map(KeyPair::public_key);
        let roster =
            Roster::new(swarm.ids().into_iter().zip(keys))?.revoking(swarm.revoked_keys())?;
        Ok(Self {
            pairs,
            roster,
            are_kept,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn swarm() -> Swarm {
        Swarm::full_mesh("keys".parse().unwrap(), 2)
    }

    #[test]
    fn makes_the_keys_that_the_file_does_not_name() {
        let keys = Keys::of(&swarm()).unwrap();
        assert!(!keys.are_kept);
        assert_eq!(keys.roster.len(), 2);
        assert_ne!(keys.pairs[0].public_key(), keys.pairs[1].public_key());
    }

    #[test]
    fn a_public_key_needs_its_private_half() {
        let mut swarm = swarm();
        swarm.agents[1].public_key = Some(KeyPair::from_secret(&[1; 32]).public_key());
        let err = Keys::of(&swarm).err().unwrap().to_string();
        assert!(
            err.contains("agent-02") && err.contains("key: FILE"),
            "{err}"
        );
    }

    #[test]
    fn the_roster_of_a_run_knows_what_the_file_revokes() {
        let mut swarm = swarm();
        let public_key = KeyPair::from_secret(&[3; 32]).public_key();
        let (reason, since) = (None, None);
        swarm.revoked.push(crate::swarm::Revoked {
            public_key,
            reason,
            since,
        });
        assert!(Keys::of(&swarm).unwrap().roster.is_revoked(&public_key));
    }

    #[test]
    fn a_key_file_of_another_key_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.pem");
        KeyPair::from_secret(&[1; 32]).create_file(&path).unwrap();
        let mut swarm = swarm();
        swarm.agents[0].key = Some(path);
        swarm.agents[0].public_key = Some(KeyPair::from_secret(&[2; 32]).public_key());
        let err = Keys::of(&swarm).err().unwrap();
        assert!(matches!(err, KeysError::Mismatch { .. }), "{err}");
        swarm.agents[0].public_key = None;
        let keys = Keys::of(&swarm).unwrap();
        let expected = KeyPair::from_secret(&[1; 32]).public_key();
        assert_eq!(keys.pairs[0].public_key(), expected);
    }
}
