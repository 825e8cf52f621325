//! Who is speaking: agent ids, swarm names, sessions, Ed25519 keys, key files, the roster.
//!
//! Implements `wire.md`, sections *Names* and *Signatures* (published as
//! `docs/INTERFACES/wire.md`). Pure but for [`KeyPair::read_file`] and
//! [`KeyPair::create_file`]: never reads a clock; randomness comes from the
//! operating system only where a key is made.

mod hex_text;
mod key;
mod key_file;
mod name;
mod roster;
mod session;

pub(crate) use hex_text::{hex_bytes, hex_text};
pub use key::{BadSignature, InvalidKey, KeyPair, PublicKey, Purpose, Signature};
pub use key_file::KeyFileError;
pub use name::{AgentId, InvalidName, SwarmName, file_name};
pub use roster::{Roster, RosterError};
pub use session::{InvalidLinkId, InvalidSession, LinkId, Session};
