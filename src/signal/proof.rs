//! Proofs of a key: registration towards one server and one challenge, and goodbye
//! (`wire.md`, sections *Signatures* and *Signaling*).

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::members::{Members, Wrong, schema_error};
use crate::identity::{
    AgentId, BadSignature, KeyPair, PublicKey, Purpose, Session, Signature, SwarmName,
};
use crate::message::canonical;

/// 32 random bytes that a registration signs, so that it cannot be used a second time; on the wire
/// 64 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Nonce([u8; 32]);

/// The frame `register`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Register {
    /// The swarm to join.
    pub swarm: SwarmName,
    /// Who I am.
    pub agent_id: AgentId,
    /// The key that I prove to have.
    pub public_key: PublicKey,
    /// My session.
    pub session: Session,
    /// `HOST:PORT` of the URL that I dialled, so that the proof serves no other server.
    pub server: String,
    /// Over all of it and the nonce.
    pub signature: Signature,
}

/// That an agent has registered in a later session: what a server shows to the connection that is
/// replaced, so that no server can end an agent by saying so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Later {
    /// What the later registration answered.
    pub nonce: Nonce,
    /// As in the registration.
    pub server: String,
    /// The later session.
    pub session: Session,
    /// The registration's.
    pub signature: Signature,
}

/// The frame `goodbye`, towards the server and on a data channel: I leave on purpose.
///
/// It does not say whose it is: the connection does, and the signature binds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Goodbye {
    /// The session that ends; left out on a data channel, whose `hello` said it.
    pub session: Session,
    /// Why, for people; up to 256 characters.
    pub reason: String,
    /// The greatest sequence number per destination (an agent id or `*`); empty towards the server.
    pub last: BTreeMap<String, u64>,
    /// Over all of it, the agent and the swarm.
    pub signature: Signature,
}

impl Nonce {
    /// The nonce of these bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl Register {
    /// Signs a registration as `agent_id` in answer to `nonce`.
    pub fn sign(
        swarm: SwarmName,
        agent_id: AgentId,
        session: Session,
        server: String,
        nonce: &Nonce,
        key: &KeyPair,
    ) -> Self {
        let public_key = key.public_key();
        let bytes = canonical(&RegisterBytes {
            agent_id: &agent_id,
            nonce,
            public_key: &public_key,
            server: &server,
            session,
            swarm: &swarm,
        });
        let signature = key.sign(Purpose::Registration, &bytes);
        Self {
            swarm,
            agent_id,
            public_key,
            session,
            server,
            signature,
        }
    }

    /// Whether it was signed with its own key, in answer to `nonce`.
    ///
    /// # Errors
    /// [`BadSignature`].
    pub fn verify(&self, nonce: &Nonce) -> Result<(), BadSignature> {
        let bytes = canonical(&RegisterBytes {
            agent_id: &self.agent_id,
            nonce,
            public_key: &self.public_key,
            server: &self.server,
            session: self.session,
            swarm: &self.swarm,
        });
        self.public_key
            .verify(Purpose::Registration, &bytes, &self.signature)
    }

    /// What to show to an earlier session of the same agent.
    pub fn as_later(&self, nonce: &Nonce) -> Later {
        Later {
            nonce: *nonce,
            server: self.server.clone(),
            session: self.session,
            signature: self.signature,
        }
    }

    pub(super) fn of(members: &mut Members) -> Result<Self, Wrong> {
        let register = Self {
            swarm: members.take("swarm")?,
            agent_id: members.take("agent_id")?,
            public_key: members.take("public_key")?,
            session: members.take("session")?,
            server: members.take("server")?,
            signature: members.take("signature")?,
        };
        if register.server.len() > MAX_SERVER {
            return Err(schema_error(format!(
                "member `server` is longer than {MAX_SERVER} bytes"
            )));
        }
        Ok(register)
    }
}

impl Later {
    /// Whether it proves that `agent_id` has registered, under its own key, in a session later than
    /// `session`.
    pub fn proves(
        &self,
        swarm: &SwarmName,
        agent_id: &AgentId,
        public_key: &PublicKey,
        session: Session,
    ) -> bool {
        let register = Register {
            swarm: swarm.clone(),
            agent_id: agent_id.clone(),
            public_key: *public_key,
            session: self.session,
            server: self.server.clone(),
            signature: self.signature,
        };
        self.session > session && register.verify(&self.nonce).is_ok()
    }
}

impl Goodbye {
    /// Signs the goodbye of `agent_id`.
    pub fn sign(
        swarm: &SwarmName,
        agent_id: &AgentId,
        session: Session,
        reason: &str,
        last: BTreeMap<String, u64>,
        key: &KeyPair,
    ) -> Self {
        let reason: String = reason.chars().take(MAX_REASON).collect();
        let bytes = goodbye_bytes(swarm, agent_id, session, &reason, &last);
        Self {
            session,
            reason,
            last,
            signature: key.sign(Purpose::Goodbye, &bytes),
        }
    }

    /// Whether `agent_id` said it, under `key`.
    ///
    /// # Errors
    /// [`BadSignature`].
    pub fn verify(
        &self,
        swarm: &SwarmName,
        agent_id: &AgentId,
        key: &PublicKey,
    ) -> Result<(), BadSignature> {
        let bytes = goodbye_bytes(swarm, agent_id, self.session, &self.reason, &self.last);
        key.verify(Purpose::Goodbye, &bytes, &self.signature)
    }

    pub(super) fn of(members: &mut Members) -> Result<Self, Wrong> {
        let goodbye = Self {
            session: members.take("session")?,
            reason: members.take("reason")?,
            last: members.take("last")?,
            signature: members.take("signature")?,
        };
        if goodbye.reason.chars().count() > MAX_REASON {
            return Err(schema_error(format!(
                "member `reason` is longer than {MAX_REASON} characters"
            )));
        }
        for (destination, sequence_num) in &goodbye.last {
            if destination != "*" && !AgentId::is_valid(destination) {
                return Err(schema_error(
                    "member `last`: a destination is an agent id or `*`".into(),
                ));
            }
            if *sequence_num >= INTEGERS_END {
                return Err(schema_error(
                    "member `last`: a sequence number is below 2^53".into(),
                ));
            }
        }
        Ok(goodbye)
    }
}

/// What a registration signs.
#[derive(Serialize)]
struct RegisterBytes<'a> {
    agent_id: &'a AgentId,
    nonce: &'a Nonce,
    public_key: &'a PublicKey,
    server: &'a str,
    session: Session,
    swarm: &'a SwarmName,
}

/// What a goodbye signs.
fn goodbye_bytes(
    swarm: &SwarmName,
    agent_id: &AgentId,
    session: Session,
    reason: &str,
    last: &BTreeMap<String, u64>,
) -> Vec<u8> {
    canonical(&serde_json::json!({
        "agent_id": agent_id,
        "last": last,
        "reason": reason,
        "session": session,
        "swarm": swarm,
    }))
}

impl fmt::Display for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Nonce {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Nonce {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let mut bytes = [0; 32];
        // `hex` also takes upper case; the wire has one spelling.
        let lower = !text.bytes().any(|b| b.is_ascii_uppercase());
        match hex::decode_to_slice(&text, &mut bytes) {
            Ok(()) if lower => Ok(Self(bytes)),
            _ => Err(serde::de::Error::custom(
                "expected 64 lower-case hex digits",
            )),
        }
    }
}

/// A host name has at most 253 characters (RFC 1035), a port 5.
const MAX_SERVER: usize = 260;
/// Characters in the reason of a goodbye, on every way it travels: a sentence.
pub const MAX_REASON: usize = 256;
/// Integers from here on are not told apart by every JSON reader.
pub(super) const INTEGERS_END: u64 = 1 << 53;

#[cfg(test)]
mod tests {
    use super::*;

    fn register(nonce: &Nonce) -> Register {
        Register::sign(
            "five-agent".parse().unwrap(),
            "finance".parse().unwrap(),
            Session::new(1_700_000_000_000, [7; 10]),
            "localhost:8443".into(),
            nonce,
            &KeyPair::from_secret(&[7; 32]),
        )
    }

    #[test]
    fn a_registration_holds_for_its_own_nonce_and_members_only() {
        let nonce = Nonce::from_bytes([1; 32]);
        let good = register(&nonce);
        assert_eq!(good.verify(&nonce), Ok(()));
        assert!(good.verify(&Nonce::from_bytes([2; 32])).is_err());
        let changes: [fn(&mut Register); 5] = [
            |r| r.swarm = "other".parse().unwrap(),
            |r| r.agent_id = "legal".parse().unwrap(),
            |r| r.public_key = KeyPair::from_secret(&[8; 32]).public_key(),
            |r| r.session = Session::new(1_700_000_000_001, [7; 10]),
            |r| r.server = "evil:8443".into(),
        ];
        for change in changes {
            let mut changed = good.clone();
            change(&mut changed);
            assert!(changed.verify(&nonce).is_err(), "{changed:?}");
        }
    }

    #[test]
    fn signs_exactly_the_bytes_of_the_contract() {
        let nonce = Nonce::from_bytes([1; 32]);
        let key = KeyPair::from_secret(&[7; 32]);
        let session = Session::new(1_700_000_000_000, [7; 10]);
        let bytes = format!(
            r#"{{"agent_id":"finance","nonce":"{}","public_key":"{}","server":"localhost:8443","session":"{session}","swarm":"five-agent"}}"#,
            "01".repeat(32),
            key.public_key()
        );
        let signature = key.sign(Purpose::Registration, bytes.as_bytes());
        assert_eq!(register(&nonce).signature, signature);

        let last = BTreeMap::from([("*".to_string(), 3)]);
        let goodbye = Goodbye::sign(
            &"five-agent".parse().unwrap(),
            &"finance".parse().unwrap(),
            session,
            "done",
            last,
            &key,
        );
        let bytes = format!(
            r#"{{"agent_id":"finance","last":{{"*":3}},"reason":"done","session":"{session}","swarm":"five-agent"}}"#
        );
        let signature = key.sign(Purpose::Goodbye, bytes.as_bytes());
        assert_eq!(goodbye.signature, signature);
    }
}
