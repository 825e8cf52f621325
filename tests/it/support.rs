//! What several tests need: the agents of the fixtures, whose keys are PUBLIC.
//!
//! The secret halves can be computed from the text below by anybody. They are for tests and
//! examples, never for a swarm that has something to lose.

use std::path::PathBuf;

use ifswarm::identity::{AgentId, KeyPair, PublicKey, Roster, Session};
use ifswarm::message::{Author, Draft, Signed, Timestamp, sign};
use sha2::{Digest, Sha256};

/// The agents of `fixtures/roster.yaml`.
pub(crate) const AGENTS: [&str; 5] = ["finance", "legal", "macro", "markets", "competitive"];

/// An agent of the fixtures: its key and session follow from its id, and are the same each time.
pub(crate) struct FixtureAgent {
    pub(crate) id: AgentId,
    pub(crate) session: Session,
    pub(crate) key: KeyPair,
}

impl FixtureAgent {
    pub(crate) fn new(id: &str) -> Self {
        Self {
            id: id.parse().expect("an agent id"),
            session: Session::new(SESSIONS_BEGAN_MS, bytes_of("session", id)),
            key: KeyPair::from_secret(&Sha256::digest(format!("ifswarm fixture key: {id}")).into()),
        }
    }

    pub(crate) fn public_key(&self) -> PublicKey {
        self.key.public_key()
    }

    /// Signs at the one time of the fixtures; `name` stands in for randomness.
    pub(crate) fn sign(&self, name: &str, sequence_num: u64, draft: Draft) -> Signed {
        let author = Author {
            id: &self.id,
            session: self.session,
            key: &self.key,
        };
        let random = bytes_of("randomness", name);
        sign(draft, &author, sequence_num, now(), random).expect("a good draft")
    }
}

/// The time of all fixtures.
pub(crate) fn now() -> Timestamp {
    Timestamp::from_unix_ms(SESSIONS_BEGAN_MS as i64 + 5_000)
}

/// The roster of `fixtures/roster.yaml`.
pub(crate) fn roster() -> Roster {
    let agents = AGENTS.map(FixtureAgent::new);
    Roster::new(agents.map(|agent| (agent.id.clone(), agent.public_key()))).expect("all different")
}

/// The folder `fixtures`.
pub(crate) fn fixtures_dir() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures")
}

/// Bytes that look random and are the same each time.
pub(crate) fn bytes_of<const N: usize>(purpose: &str, name: &str) -> [u8; N] {
    let digest: [u8; 32] = Sha256::digest(format!("ifswarm fixture {purpose}: {name}")).into();
    *digest
        .first_chunk()
        .expect("at most 32 bytes are asked for")
}

/// 2026-01-31T08:15:30.000Z
const SESSIONS_BEGAN_MS: u64 = 1_769_847_330_000;
