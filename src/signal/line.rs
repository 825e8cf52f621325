//! The line of those who were sent away: each is told to come back a little later than the one
//! before, so that a crowd comes back as fast as it can be served, and no faster. Pure.

use std::time::{Duration, Instant};

/// Knows no client: only until when the places in the line are given away.
#[derive(Debug)]
pub(super) struct Line {
    taken_until: Instant,
}

impl Line {
    /// Nobody stands in it.
    pub(super) fn new(now: Instant) -> Self {
        Self { taken_until: now }
    }

    /// The next place: how long to wait before coming back.
    pub(super) fn place(&mut self, now: Instant) -> Duration {
        let end = self.taken_until.max(now);
        let wait = SOONEST + (end - now);
        if wait >= LATEST {
            // They are as many as anybody is asked to wait for; chance spreads them from here.
            return LATEST;
        }
        self.taken_until = end + EACH;
        wait
    }
}

/// What one registration is given, TLS and all: 500 a second, which one core of a small machine
/// bears beside everything else.
const EACH: Duration = Duration::from_millis(2);
/// Places become free when others have registered or were dropped, which takes a moment.
const SOONEST: Duration = Duration::from_secs(1);
/// Nobody waits longer: ten thousand need 20 s.
const LATEST: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crowd_is_spread_over_the_time_it_takes_to_serve_it() {
        let start = Instant::now();
        let mut line = Line::new(start);
        let waits: Vec<_> = (0..10_000).map(|_| line.place(start)).collect();
        assert_eq!(waits[0], SOONEST);
        assert!(waits.windows(2).all(|pair| pair[1] - pair[0] == EACH));
        assert!(waits[9_999] < Duration::from_secs(22));
        let endless = (0..100_000).map(|_| line.place(start)).max();
        assert_eq!(endless, Some(LATEST));
    }

    #[test]
    fn the_line_is_gone_when_its_time_is_over() {
        let start = Instant::now();
        let mut line = Line::new(start);
        (0..500).for_each(|_| {
            line.place(start);
        });
        let later = start + Duration::from_millis(400);
        assert_eq!(line.place(later), SOONEST + Duration::from_millis(600));
        assert_eq!(line.place(start + 60 * SOONEST), SOONEST);
    }
}
