//! Pure decisions of one agent about its mesh: who dials whom, glare, the life of a link,
//! replay and order, the outbox and acknowledgements, heartbeats, the states of peers.
//!
//! Implements the rules of `wire.md`, sections *IFMessage v2.1* (the reasons from
//! `wrong-recipient` on), *Signaling* (who dials) and *DataChannels* (the control frames).
//! Never reads a clock, opens a socket, or sees SDP, JSON, keys or a payload: `now` and the seed
//! are arguments, so that a run on simulated time replays exactly.
//!
//! The contract, in the manner of sans-IO stacks:
//!
//! 1. Tell [`Mesh`] what happened: one of its methods, with `now`.
//! 2. Drain [`Mesh::poll`] until `None` and do what each [`Output`] says, in order.
//! 3. Call [`Mesh::tick`] when [`Mesh::timeout`] is reached, then drain again.
//!
//! After [`Output::Close`] the mesh knows the link no more; frames that still come from it are
//! to be dropped by the caller, unread.

mod api;
mod guard;
mod healing;
#[cfg(test)]
mod healing_tests;
mod heartbeat;
mod keeping;
#[cfg(test)]
mod keeping_tests;
mod kept;
mod life;
mod line;
#[cfg(test)]
mod line_tests;
mod machine;
#[cfg(test)]
mod message_tests;
mod messages;
mod outgoing;
mod parting;
mod peer;
mod presence;
mod pressure;
#[cfg(test)]
mod restart_tests;
mod shared;
#[cfg(test)]
mod tests;

pub use api::{
    Assigned, Claimed, CloseReason, Config, Farewell, Header, HelloError, Lanes, Last, Neighbours,
    Next, Output, PeerState, PeerView, RefusedNotice, SendError,
};
pub use kept::{GivenBack, OutboxLimits, Remembered, RememberedSeen, RememberedSent};
pub use machine::Mesh;

/// How many messages a receiver keeps that arrive before `hello` (`wire.md`); the caller holds
/// them and closes the link at one more. They come again on the next one.
pub const MAX_BEFORE_HELLO: usize = 256;

/// Messages of one peer that are under way at most: handed to its link and not acknowledged. What a
/// receiver keeps before `hello`, so that a link that comes up is never sent more; enough for eight
/// acknowledgements, so that nobody waits for one; and more than what fits into the buffer of a link,
/// so that a long round trip costs nothing more. A receiver that has to have room for so much can
/// always read what comes.
pub const MAX_UNDER_WAY: usize = MAX_BEFORE_HELLO;
