//! How a run tells what it is doing, while it does it.

/// Told of every step. Called from many tasks; must not block.
pub trait Progress: Send + Sync + 'static {
    /// The mesh begins to form: so many links are expected.
    fn forming(&self, links: usize) {
        let _ = links;
    }

    /// One more link is up on both ends.
    fn link_up(&self) {}

    /// Measuring begins: so many probes will be sent.
    fn probing(&self, probes: u64) {
        let _ = probes;
    }

    /// One more probe was answered.
    fn answered(&self) {}

    /// Another step begins.
    fn step(&self, what: &str) {
        let _ = what;
    }
}

/// Tells nobody.
#[derive(Debug, Clone, Copy, Default)]
pub struct Quiet;

impl Progress for Quiet {}
