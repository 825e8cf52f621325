//! Signaling (`wire.md`, section *Signaling*): frames, room, server, client.
//!
//! The server only introduces agents: it can neither read, forge, nor sit in the middle. What it
//! relays is signed by its author and checked by the receiver ([`SdpFrame::verify`]). `wire`, `proof`
//! and `sdp` are the frames; `room` decides, without sockets or clock; `server` and `client` are thin
//! shells that own the sockets and the clock.

mod address;
mod admission;
mod bucket;
mod client;
mod connection;
mod errors;
mod members;
mod proof;
mod room;
mod sdp;
mod server;
mod wire;

pub use admission::{Admission, Limits};
pub use client::{Client, ClientConfig, ClientSender, ConnectError, RecvError, SendError};
pub use errors::{ErrorCode, ErrorFrame, FrameError, FrameReason};
pub use proof::{Goodbye, MAX_REASON, Nonce, Register};
pub use room::WitnessNote;
pub use sdp::{KeyOf, SdpBody, SdpExpect, SdpFrame, SdpKind, SdpRefusal};
pub use server::{Server, ServerConfig, ServerError, WitnessSink};
pub use wire::{
    Candidate, Candidates, ClientFrame, Frame, IceServer, LeftReason, MAX_FRAME, MAX_SDP, PROTOCOL,
    Peer, Registered, ServerFrame, parse_frame, schema,
};

#[cfg(test)]
mod admission_tests;
#[cfg(test)]
mod room_tests;
#[cfg(test)]
mod socket_tests;
#[cfg(test)]
mod test_world;
#[cfg(test)]
mod wire_tests;
