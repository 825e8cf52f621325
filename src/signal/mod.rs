//! Signaling (`wire.md`, section *Signaling*): frames, room, server, client.
