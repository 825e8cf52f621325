//! Stands in for the entrance of the same name in the healing of links, until that is merged.

use std::time::Instant;

use super::Mesh;

impl Mesh {
    /// This host is reached in another way than before.
    pub fn network_changed(&mut self, _now: Instant) {}
}
