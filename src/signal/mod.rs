//! Signaling (`wire.md`, section *Signaling*): frames, room, server, client.
//!
//! The server only introduces agents: it can neither read, forge, nor sit in the middle. What it
//! relays is signed by its author and checked by the receiver ([`SdpFrame::verify`]). `wire`, `proof`
//! and `sdp` are the frames; `room` decides, without sockets or clock; `server` and `client` are thin
//! shells that own the sockets and the clock.

mod address;
mod admission;
mod bucket;
mod census;
mod client;
mod comeback;
mod connect;
mod connection;
mod crowd;
mod door;
mod errors;
mod hall;
mod intake;
mod line;
mod members;
mod meter;
mod notes;
mod pem;
mod proof;
mod queue;
mod relay;
mod room;
mod sdp;
mod seldom;
mod server;
mod tls;
mod traffic;
mod wire;

pub use address::servers;
pub use admission::{Admission, Limits};
pub use census::Census;
pub use client::{Client, ClientConfig, ClientSender, RecvError, SendError};
pub use comeback::{Attempt, Comeback};
pub use connect::ConnectError;
pub use errors::{ErrorCode, ErrorFrame, FrameError, FrameReason};
pub use notes::WitnessNote;
pub use pem::PemError;
pub use proof::{Goodbye, Later, MAX_REASON, Nonce, Register};
pub use sdp::{KeyOf, SdpBody, SdpExpect, SdpFrame, SdpKind, SdpRefusal};
pub(crate) use seldom::{Seldom, SeldomOfEach};
pub use server::{Server, ServerConfig, ServerError, WitnessSink};
pub use tls::{CertificateFault, ServerTls, Trust};
pub use traffic::{ServerObserver, Traffic};
pub use wire::{
    Candidate, Candidates, ClientFrame, Frame, IceServer, LeftReason, MAX_FRAME, MAX_SDP, PROTOCOL,
    Peer, Registered, ServerFrame, parse_frame, schema,
};

#[cfg(test)]
mod admission_tests;
#[cfg(test)]
mod comeback_tests;
#[cfg(test)]
mod hall_tests;
#[cfg(test)]
mod refusal_tests;
#[cfg(test)]
mod room_tests;
#[cfg(test)]
mod socket_tests;
#[cfg(test)]
mod test_sockets;
#[cfg(test)]
mod test_world;
#[cfg(test)]
mod wire_tests;
