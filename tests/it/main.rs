//! Behaviour of the whole, through the public interface; one binary, one module per subject.
#![allow(
    clippy::unwrap_used,
    reason = "what fails a test may panic, in its helpers too"
)]

mod admission;
mod certificates;
mod cli;
mod cli_verify;
mod conversation;
mod countersigning;
mod fixtures;
mod fuzz;
mod hostile_server;
mod interop;
mod interop_witness;
mod layers;
mod live;
mod mesh;
mod mesh_processes;
mod mesh_sim;
mod mesh_up;
mod message_fixtures;
mod program;
mod programs;
mod programs_exec;
mod python;
mod raw;
mod raw_peer;
mod revocation;
mod sdp_fixtures;
mod support;
mod tls;
