//! A token bucket: so many frames or bytes a second sustained, so many at once.

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

    /// Takes so many tokens, if they are there.
    pub(super) fn take(&mut self, tokens: usize, now: Instant) -> bool {
        self.fill(now);
        let tokens = tokens as f64;
        let enough = self.tokens >= tokens;
        if enough {
            self.tokens -= tokens;
        }
        enough
    }

    /// How long until there are so many, which is never if they are more than `burst`.
    pub(super) fn wait(&mut self, tokens: usize, now: Instant) -> Duration {
        self.fill(now);
        let missing = (tokens as f64 - self.tokens).max(0.0);
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
        assert_eq!((0..600).filter(|_| bucket.take(1, start)).count(), 500);
        let later = start + Duration::from_millis(1005);
        assert_eq!((0..600).filter(|_| bucket.take(1, later)).count(), 100);
        let wait = bucket.wait(1, later);
        assert!(wait <= Duration::from_millis(10), "{wait:?}");
        assert!(bucket.take(1, later + wait + Duration::from_micros(1)));
        assert!(!bucket.take(1, start), "time that goes back gives nothing");
        let later = later + Duration::from_secs(1);
        assert!(!bucket.take(101, later));
        assert!(bucket.take(99, later), "what was refused was not charged");
    }
}
