//! The faults that took place in a simulated run: a run without them proves nothing.

use std::collections::BTreeMap;

use serde::Serialize;

/// How often each befell a run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Faults(BTreeMap<&'static str, u64>);

impl Faults {
    /// One more, or so many.
    pub(super) fn add(&mut self, name: &'static str, count: u64) {
        *self.0.entry(name).or_default() += count;
    }

    /// Adds those of another run.
    pub fn sum(&mut self, more: &Self) {
        for (name, count) in &more.0 {
            self.add(name, *count);
        }
    }

    /// How often this one did.
    pub fn count(&self, name: &str) -> u64 {
        self.0.get(name).copied().unwrap_or(0)
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.0.iter().map(|(name, count)| (*name, *count))
    }
}
