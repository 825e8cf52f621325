//! A token bucket: so many frames a second sustained, so many at once.

use std::time::{Duration, Instant};

/// Holds up to `burst` tokens and gains `per_second` of them each second. Reads no clock.
#[derive(Debug)]
pub(super) struct Bucket {
    per_second: f64,
    burst: f64,
    tokens: f64,
    filled: Instant,
}

impl Bucket {
    /// A full bucket.
    pub(super) fn new(per_second: u32, burst: u32, now: Instant) -> Self {
        Self {
            per_second: per_second.into(),
            burst: burst.into(),
            tokens: burst.into(),
            filled: now,
        }
    }

    /// Takes one token, if there is one.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        self.fill(now);
        let enough = self.tokens >= 1.0;
        if enough {
            self.tokens -= 1.0;
        }
        enough
    }

    /// How long until there is a token.
    pub(super) fn wait(&mut self, now: Instant) -> Duration {
        self.fill(now);
        let missing = (1.0 - self.tokens).max(0.0);
        Duration::from_secs_f64(missing / self.per_second)
    }

    fn fill(&mut self, now: Instant) {
        let gained = now.saturating_duration_since(self.filled).as_secs_f64() * self.per_second;
        self.tokens = (self.tokens + gained).min(self.burst);
        self.filled = self.filled.max(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_the_burst_at_once_and_then_the_rate() {
        let start = Instant::now();
        let mut bucket = Bucket::new(100, 500, start);
        assert_eq!((0..600).filter(|_| bucket.take(start)).count(), 500);
        let later = start + Duration::from_millis(1005);
        assert_eq!((0..600).filter(|_| bucket.take(later)).count(), 100);
        let wait = bucket.wait(later);
        assert!(wait <= Duration::from_millis(10), "{wait:?}");
        assert!(bucket.take(later + wait + Duration::from_micros(1)));
        assert!(!bucket.take(start), "time that goes back gives nothing");
    }
}
