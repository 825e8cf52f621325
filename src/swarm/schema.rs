//! The JSON Schema (draft 2020-12) of the swarm file, for editors and other programs.
//!
//! The parser does not use it: its own messages point at the line. The tests hold the two
//! together.

/// The JSON Schema of the swarm file, as `ifswarm schema swarm` prints it.
pub fn schema() -> &'static str {
    include_str!("schema.json")
}
