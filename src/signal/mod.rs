//! Signaling (`wire.md`, section *Signaling*): frames, room, server, client.
//!
//! The server only introduces agents: it can neither read, forge, nor sit in the middle. What it
//! relays is signed by its author and checked by the receiver ([`SdpFrame::verify`]). `wire`, `proof`
//! and `sdp` are the frames; `room` decides, without sockets or clock; `server` and `client` are thin
//! shells that own the sockets and the clock.

mod proof;
mod sdp;
mod wire;

pub use proof::{Goodbye, Nonce, Register};
pub use sdp::{KeyOf, SdpBody, SdpDetail, SdpExpect, SdpFrame, SdpKind, SdpRefusal};
pub use wire::{
    Candidate, Candidates, ClientFrame, ErrorCode, ErrorFrame, Frame, FrameError, FrameReason,
    IceServer, LeftReason, MAX_FRAME, MAX_SDP, PROTOCOL, Peer, Registered, ServerFrame,
    parse_frame, schema,
};
