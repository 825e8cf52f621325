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
//! | [`witness`] | the log of what was offered, said and refused |
//! | [`swarm`] | the swarm file |
//! | [`mesh`] | pure decisions: who dials, glare, replay, order, acknowledgements |
//! | [`outbox`] | what was sent and seen, on disk, for the time after a crash |
//! | [`signal`] | introduction of agents: frames, server, client |
//! | [`link`] | one WebRTC connection to one peer |
//! | [`agent`] | the agent: send, subscribe, peers, shutdown |
//! | [`admin`] | what an operator asks a running process: health and metrics |
//! | [`bench`](mod@bench) | whole swarms, in one process or one for each agent, measured beside their floors |
//! | [`chaos`] | faults on purpose, on real processes and on simulated time, and the ledger of messages |
//! | [`cli`] | the verbs of the command; nothing imports it |
//!
//! `mesh` on one side, `signal` and `link` on the other, do not know each other.

pub mod admin;
pub mod agent;
pub mod bench;
pub mod chaos;
pub mod cli;
pub mod identity;
pub mod link;
pub mod mesh;
pub mod message;
pub mod outbox;
pub mod signal;
pub mod swarm;
pub mod witness;
