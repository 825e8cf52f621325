//! The swarm file: what is written, checked into what is true (`cli.md`, section *Swarm file*).
//!
//! Start at [`Swarm`]. Pure but for [`Swarm::read`], which reads one file, and the key files it
//! names where it revokes keys: no clock, no randomness, no network. The way of a file, one step per module:
//!
//! 1. `read`: the bytes of the file, bounded, as `text` that YAML allows.
//! 2. `yaml`: the text as a tree of nodes, each with a number by which its line is found again.
//! 3. `field`: a node seen from its place (`agents[1].udp_port`), read as what is expected there;
//!    `units` and `ice` know how sizes, durations and server URIs are written, `revoked` which keys
//!    nobody may have.
//! 4. `check`: the fields as a [`Swarm`], and what must hold between them.
//!
//! Whatever is wrong becomes a [`SwarmError`] that shows the place.

mod check;
mod error;
mod field;
mod ice;
mod model;
mod read;
mod revoked;
mod schema;
mod text;
mod topology;
mod units;
mod yaml;

#[cfg(test)]
mod tests;

// For other files that are written as swarm files are.
pub(crate) use error::Fault;
pub use error::{InvalidSwarm, SwarmError};
pub(crate) use field::{Field, Members};
pub use model::{
    ChannelConfig, Exec, Expect, ExpectedLinks, IceConfig, MAX_AGENTS, MAX_ICE_SERVERS,
    MAX_REVOKED, MIN_AGENTS, OutboxConfig, Probe, Restart, Revoked, SdpDetail, SignalConfig, Swarm,
    SwarmAgent, TurnServer, WitnessConfig,
};
pub(crate) use read::{read_fields, read_text};
pub use schema::schema;
pub use topology::Topology;
pub(crate) use units::parse_duration;
pub(crate) use yaml::Kind;
