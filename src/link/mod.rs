//! One WebRTC connection to one peer, and the UDP port that all of an agent's connections share.

pub mod memory;
