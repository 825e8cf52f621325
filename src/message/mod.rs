//! IFMessage v2.1: types, JSON Schema, canonical bytes (RFC 8785), sign, verify.
//!
//! Implements `wire.md`, section *IFMessage v2.1*. Pure: time and randomness are arguments.
//! A message that was not verified cannot be delivered: `Verified` has no public
//! constructor but `verify`.

mod json;
mod sdp_reason;
mod timestamp;

pub use json::{Malformed, canonical, parse_strict};
pub use sdp_reason::SdpReason;
pub use timestamp::{InvalidTimestamp, Timestamp};
