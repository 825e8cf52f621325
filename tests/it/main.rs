//! Behaviour of the whole, through the public interface; one binary, one module per subject.
#![allow(
    clippy::unwrap_used,
    reason = "what fails a test may panic, in its helpers too"
)]

mod admission;
mod adversary;
mod agent_mcp;
mod agent_mcp_kept;
mod bad_paths;
mod certificates;
mod chaos;
mod cli;
mod cli_checkpoints;
mod cli_files;
mod cli_verify;
mod cli_witness;
mod comeback;
mod contract;
mod conversation;
mod countersigning;
mod deploy;
mod files;
mod files_raw;
mod fixtures;
mod full_disk;
mod fuzz;
mod hangup;
mod healing;
mod hostile_server;
mod interop;
mod interop_checkpoint;
mod interop_witness;
mod kept_swarm;
mod killed;
mod layers;
mod leftovers;
mod liar;
mod live;
mod logs;
mod mesh;
mod mesh_processes;
mod mesh_sim;
mod mesh_up;
mod message_fixtures;
mod nat;
mod network_change;
mod operations;
mod outbox;
mod parting;
mod program;
mod programs;
mod programs_exec;
mod python;
mod raw;
mod raw_peer;
mod rebinding;
mod revocation;
mod rewriting;
mod sdp_fixtures;
mod support;
mod tls;
mod unread;
mod witness_fixtures;
mod world;
