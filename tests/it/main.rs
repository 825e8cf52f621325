//! Behaviour of the whole, through the public interface; one binary, one module per subject.
#![allow(
    clippy::unwrap_used,
    reason = "what fails a test may panic, in its helpers too"
)]

mod cli;
mod cli_verify;
mod fixtures;
mod mesh_sim;
mod message_fixtures;
mod sdp_fixtures;
mod support;
