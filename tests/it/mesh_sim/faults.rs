//! The ledger of faults: a run without them proves nothing.

/// Faults that took place.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Faults {
    pub(super) cuts: u64,
    pub(super) one_way_cuts: u64,
    pub(super) restarts: u64,
    pub(super) departures: u64,
    pub(super) signals_lost: u64,
    pub(super) signals_doubled: u64,
    pub(super) dials_failed: u64,
    pub(super) unhealthy_links: u64,
    pub(super) spoiled: u64,
    pub(super) refusals_told: u64,
    pub(super) undelivered: u64,
    pub(super) messages_lost: u64,
    pub(super) messages_doubled: u64,
    pub(super) replays_refused: u64,
}

impl Faults {
    pub(super) fn add(&mut self, more: Self) {
        let pairs = self.all_mut().into_iter().zip({ more }.all());
        pairs.for_each(|(sum, n)| *sum += n);
    }

    /// Everything that can befall a reliable mesh did.
    pub(super) fn all_took_place(&self) {
        assert!(self.all()[..11].iter().all(|n| *n > 0), "{self:?}");
    }

    fn all(mut self) -> [u64; 14] {
        self.all_mut().map(|n| *n)
    }

    fn all_mut(&mut self) -> [&mut u64; 14] {
        [
            &mut self.cuts,
            &mut self.one_way_cuts,
            &mut self.restarts,
            &mut self.departures,
            &mut self.signals_lost,
            &mut self.signals_doubled,
            &mut self.dials_failed,
            &mut self.unhealthy_links,
            &mut self.spoiled,
            &mut self.refusals_told,
            &mut self.undelivered,
            &mut self.messages_lost,
            &mut self.messages_doubled,
            &mut self.replays_refused,
        ]
    }
}
