//! How often something is logged that others can bring about as often as they like.

use std::time::{Duration, Instant};

/// The lines of one kind: a few are said as they come, the rest are counted.
#[derive(Debug, Default)]
pub(super) struct Seldom {
    /// When the first of these few was said.
    since: Option<Instant>,
    said: u32,
    unsaid: u64,
}

impl Seldom {
    /// Whether the next line is to be said, and how many were not since the last one that was.
    pub(super) fn say(&mut self, now: Instant) -> Option<u64> {
        let is_over = |since| now.duration_since(since) >= SPAN;
        if self.since.is_none_or(is_over) {
            (self.since, self.said) = (Some(now), 0);
        }
        if self.said == MOST {
            self.unsaid += 1;
            return None;
        }
        self.said += 1;
        Some(std::mem::take(&mut self.unsaid))
    }
}

/// In a span: enough to say of each agent of a usual swarm that it has the wrong key, and no more
/// than a log bears.
const MOST: u32 = 32;
const SPAN: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_a_few_lines_a_minute_and_how_many_there_were_more() {
        let mut lines = Seldom::default();
        let start = Instant::now();
        for second in 0..60 {
            for _ in 0..100 {
                let unsaid = lines.say(start + Duration::from_secs(second));
                assert!(unsaid.is_none_or(|unsaid| unsaid == 0));
            }
        }
        let later = start + SPAN;
        assert_eq!(lines.say(later), Some(6_000 - u64::from(MOST)));
        assert_eq!(lines.say(later), Some(0));
        let more = (0..100).filter(|_| lines.say(later).is_some()).count();
        assert_eq!(more, MOST as usize - 2);
    }
}
