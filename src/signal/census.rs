//! What a server holds at a moment, counted: everything that grows with who comes.

/// How much of what grows with its clients a [`Server`](super::Server) holds. Whoever was refused
/// and is gone leaves nothing behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Census {
    /// Open sockets, from being accepted until they are closed.
    pub sockets: usize,
    /// Of these, such as are shaking hands or being closed kindly.
    pub strangers: usize,
    /// Connections that were challenged, registered or not.
    pub connections: usize,
    /// Of these, such as have not registered.
    pub unregistered: usize,
    /// Addresses that the connections come from.
    pub addresses: usize,
    /// Queues of frames to connections.
    pub queues: usize,
    /// Bytes that wait in these.
    pub queued_bytes: usize,
    /// Swarms with anybody in them.
    pub swarms: usize,
    /// Registered agents of all swarms.
    pub agents: usize,
    /// Ids of open swarms that are bound to a key.
    pub bound_ids: usize,
    /// Agents that left and whose last session is remembered, while anyone of their swarm is there.
    pub left: usize,
}
