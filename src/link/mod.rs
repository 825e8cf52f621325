//! One WebRTC connection to one peer, and the UDP port that all of an agent's connections share.
//!
//! Implements `wire.md`, section *DataChannels*, up to the bytes: two channels negotiated in
//! advance (RFC 8831, RFC 8832 is not spoken), `if-agent-messaging` and `if-agent-control`, and
//! `if-agent-files` once it is needed. What the bytes say, who dials whom and what is signed is
//! decided elsewhere.
//!
//! The engine is the `webrtc` crate, kept behind [`Endpoint`] and [`Link`] so that it can be
//! exchanged. [`Endpoint`] is what a reader should meet first:
//!
//! ```text
//! Endpoint::bind ── one UDP port, one certificate, one set of settings
//!    ├─ dial()         -> Link, LinkEvents, offer
//!    └─ answer(offer)  -> Link, LinkEvents, answer
//! ```

mod conditioner;
mod conditions;
mod connection;
mod demux;
mod endpoint;
mod engine;
mod events;
mod files;
pub mod memory;
mod pace;
mod port;
mod renaming;
mod runtime;
mod sdp;
mod seat;
mod socket;

pub use conditions::{PathConditions, PathCounts};
pub use connection::{Link, LinkError, Path};
pub use endpoint::{
    BindError, ChannelOptions, ENOUGH_BUFFER, Endpoint, EndpointConfig, EndpointUsage, IceServer,
    Rebound,
};
pub use events::{CandidateLine, LinkEvent, LinkEvents};
pub use files::FileChannel;
