//! ifswarm: agents that talk peer to peer over WebRTC, every message signed,
//! every offer and message on a log that anyone can verify offline.
//!
//! The rooms lie along the path of a message; a room imports only rooms above
//! it in this list (a test reads the `use crate::…` lines and fails on an
//! arrow that goes up):
//!
//! | room | holds |
//! |---|---|
//! | [`identity`] | agent ids, keys, signatures, key files, the roster |
//! | [`message`] | IFMessage v2.1: canonical bytes, sign, verify |

pub mod identity;
pub mod message;
