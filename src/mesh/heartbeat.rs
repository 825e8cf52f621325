//! Pings on one link: the round trip, and whether the far end still answers.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The heartbeat of one open link. Times on the wire are microseconds since `origin`.
#[derive(Debug)]
pub(super) struct Heartbeat {
    origin: Instant,
    /// The `t` of pings without an answer, oldest first.
    unanswered: VecDeque<u64>,
    /// When the far end last answered, at first when the link came up.
    answered: Instant,
    next: Instant,
    unhealthy: bool,
    rtt: Option<Duration>,
}

/// What is due.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Beat {
    /// Send a ping with this `t`.
    Ping(u64),
    /// Send a ping, and say that the peer has become unhealthy.
    Unhealthy(u64),
    /// Give the link up.
    Dead,
}

impl Heartbeat {
    /// The first ping is due at once, so that the round trip is known early.
    pub(super) fn new(origin: Instant, now: Instant) -> Self {
        Self {
            origin,
            unanswered: VecDeque::new(),
            answered: now,
            next: now,
            unhealthy: false,
            rtt: None,
        }
    }

    pub(super) fn is_unhealthy(&self) -> bool {
        self.unhealthy
    }

    pub(super) fn rtt(&self) -> Option<Duration> {
        self.rtt
    }

    pub(super) fn due(&self) -> Instant {
        self.next
    }

    /// What is due at `now`, if anything.
    pub(super) fn tick(&mut self, now: Instant) -> Option<Beat> {
        if now < self.next {
            return None;
        }
        // Only an unhealthy link can be dead: after a stall of our own process one ping is
        // unanswered, not three, and the far end gets its chance.
        if self.unhealthy && now.duration_since(self.answered) >= DEAD_AFTER {
            return Some(Beat::Dead);
        }
        let sick = !self.unhealthy && self.unanswered.len() >= MISSED;
        self.unhealthy |= sick;
        let t = micros(now.duration_since(self.origin));
        if self.unanswered.len() == MAX_UNANSWERED {
            self.unanswered.pop_front();
        }
        self.unanswered.push_back(t);
        self.next = now + self.interval();
        Some(if sick {
            Beat::Unhealthy(t)
        } else {
            Beat::Ping(t)
        })
    }

    /// A pong came. Returns whether the peer has recovered by it; `None` for a `t` that was not
    /// sent, or was answered before. That changes nothing: a peer must not choose its own round trip.
    pub(super) fn pong(&mut self, t: u64, now: Instant) -> Option<bool> {
        let at = self.unanswered.iter().position(|sent| *sent == t)?;
        self.unanswered.drain(..=at);
        let sent = self.origin + Duration::from_micros(t);
        self.rtt = Some(now.saturating_duration_since(sent));
        self.answered = now;
        Some(std::mem::take(&mut self.unhealthy))
    }

    fn interval(&self) -> Duration {
        if self.unhealthy {
            INTERVAL_UNHEALTHY
        } else {
            INTERVAL
        }
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Between pings (`wire.md`).
const INTERVAL: Duration = Duration::from_secs(5);
/// Between pings while unhealthy (`wire.md`).
const INTERVAL_UNHEALTHY: Duration = Duration::from_secs(1);
/// Unanswered pings that make a link unhealthy (`wire.md`).
const MISSED: usize = 3;
/// Silence that makes a link dead (`wire.md`).
const DEAD_AFTER: Duration = Duration::from_secs(30);
/// More pings than go out before a link is dead.
const MAX_UNANSWERED: usize = 40;

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn pings_at_once_then_every_five_seconds_and_measures_the_round_trip() {
        let start = Instant::now();
        let mut heart = Heartbeat::new(start, start);
        assert_eq!(heart.tick(start), Some(Beat::Ping(0)));
        assert_eq!(heart.tick(start), None);
        assert_eq!(heart.pong(0, start + Duration::from_millis(3)), Some(false));
        assert_eq!(heart.rtt(), Some(Duration::from_millis(3)));
        assert_eq!(heart.tick(start + seconds(4)), None);
        assert_eq!(heart.tick(start + seconds(5)), Some(Beat::Ping(5_000_000)));
    }

    #[test]
    fn three_missed_is_unhealthy_and_thirty_seconds_is_dead() {
        let start = Instant::now();
        let mut heart = Heartbeat::new(start, start);
        let mut seen = Vec::new();
        for s in 0..=40 {
            if let Some(beat) = heart.tick(start + seconds(s)) {
                let dead = beat == Beat::Dead;
                seen.push((s, beat));
                if dead {
                    break;
                }
            }
        }
        assert_eq!(seen[3], (15, Beat::Unhealthy(15_000_000)));
        assert_eq!(seen[4].0, 16, "once a second while unhealthy");
        assert_eq!(seen.last(), Some(&(30, Beat::Dead)));
    }

    #[test]
    fn an_answer_recovers_and_an_invented_one_does_not() {
        let start = Instant::now();
        let mut heart = Heartbeat::new(start, start);
        for s in 0..=16 {
            heart.tick(start + seconds(s));
        }
        assert!(heart.is_unhealthy());
        assert_eq!(heart.pong(15_000_001, start + seconds(16)), None);
        assert!(heart.is_unhealthy());
        assert_eq!(heart.pong(15_000_000, start + seconds(17)), Some(true));
        assert!(!heart.is_unhealthy());
    }

    #[test]
    fn a_stall_of_our_own_kills_nobody() {
        let start = Instant::now();
        let mut heart = Heartbeat::new(start, start);
        heart.tick(start);
        assert_eq!(
            heart.tick(start + seconds(3600)),
            Some(Beat::Ping(3_600_000_000))
        );
    }
}
