//! What a test of faults does to a running agent, and counts in it. Nothing of it is done by itself.

use super::Observer;

/// What an agent holds at one moment: what is left over after many reconnections would show here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counted {
    /// Tasks of its own.
    pub tasks: usize,
    /// Links that are up or being made.
    pub links: usize,
}

impl Observer {
    /// Lets the agent's wall clock be off by so many milliseconds from now on, as if somebody had set
    /// it. Nothing but the times it writes and judges changes: it waits by another clock.
    pub fn set_clock_off(&self, by_ms: i64) {
        if let Some(shared) = self.0.upgrade() {
            shared.enter(|core| core.clock_off_ms = by_ms);
        }
    }

    /// What it holds; nothing once it has ended.
    pub fn held(&self) -> Counted {
        let shared = self.0.upgrade();
        shared.map_or_else(Counted::default, |shared| {
            let mut core = shared.look();
            // Those that have ended are not held.
            while core.tasks.try_join_next().is_some() {}
            Counted {
                tasks: core.tasks.len(),
                links: core.links.iter().count(),
            }
        })
    }
}
