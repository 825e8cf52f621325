//! Pings on one link: the round trip, and whether the far end still answers.
//!
//! A link is *up*, *suspect* (a ping is late, or somebody else has a doubt: pings every second, and
//! nothing else happens), *unhealthy* (three pings in a row unanswered) or *dead*. An answer ends a
//! suspicion; two in a row end the unhealthiness.

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
    health: Health,
    rtt: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Health {
    Good,
    Suspect,
    /// `better`: since when it answers again, if it does, in the microseconds of pings.
    Unhealthy {
        better: Option<u64>,
    },
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
            health: Health::Good,
            rtt: None,
        }
    }

    pub(super) fn is_unhealthy(&self) -> bool {
        matches!(self.health, Health::Unhealthy { .. })
    }

    pub(super) fn rtt(&self) -> Option<Duration> {
        self.rtt
    }

    /// When [`tick`](Self::tick) is due: at the next ping, or when one is late.
    pub(super) fn due(&self) -> Instant {
        match self.health {
            Health::Good => self.late_at().map_or(self.next, |at| at.min(self.next)),
            Health::Suspect | Health::Unhealthy { .. } => self.next,
        }
    }

    /// Somebody doubts that the far end is there. Returns the ping that is to ask it.
    pub(super) fn suspect(&mut self, now: Instant) -> Option<u64> {
        if self.health != Health::Good {
            return None; // it is being asked
        }
        self.health = Health::Suspect;
        Some(self.ping(now))
    }

    /// What is due at `now`, if anything.
    pub(super) fn tick(&mut self, now: Instant) -> Option<Beat> {
        let due = self.due();
        if now < due {
            return None;
        }
        if now.duration_since(due) > STALL {
            // We have stood still ourselves: what was not answered meanwhile is no fault of the
            // far end, which gets its chance.
            self.unanswered.clear();
            self.answered = now;
        }
        let late = self.late_at().is_some_and(|at| now >= at);
        match &mut self.health {
            Health::Unhealthy { .. } if now.duration_since(self.answered) >= DEAD_AFTER => {
                return Some(Beat::Dead);
            }
            Health::Unhealthy { better } if late => *better = None,
            Health::Good | Health::Suspect if late && self.unanswered.len() >= MISSED => {
                self.health = Health::Unhealthy { better: None };
                return Some(Beat::Unhealthy(self.ping(now)));
            }
            Health::Good if late => self.health = Health::Suspect,
            _ => {}
        }
        Some(Beat::Ping(self.ping(now)))
    }

    /// A pong came. `Some(true)`: it makes an unhealthy link healthy. `None`: no ping had this `t`,
    /// or was answered before. That changes nothing: a peer must not choose its own round trip.
    pub(super) fn pong(&mut self, t: u64, now: Instant) -> Option<bool> {
        let at = self.unanswered.iter().position(|sent| *sent == t)?;
        self.unanswered.drain(..=at);
        let sent = self.origin + Duration::from_micros(t);
        self.rtt = Some(now.saturating_duration_since(sent));
        self.answered = now;
        match self.health {
            // Answers that were held up come all at once, and are one: the second is to a ping
            // that went out after the first had come.
            Health::Unhealthy { better: None } => {
                let better = Some(micros(now.duration_since(self.origin)));
                self.health = Health::Unhealthy { better };
            }
            Health::Unhealthy {
                better: Some(since),
            } if t <= since => {}
            Health::Unhealthy { .. } => {
                self.health = self.good_again(now);
                return Some(true);
            }
            Health::Good | Health::Suspect => self.health = self.good_again(now),
        }
        Some(false)
    }

    fn ping(&mut self, now: Instant) -> u64 {
        let t = micros(now.duration_since(self.origin));
        if self.unanswered.len() == MAX_UNANSWERED {
            self.unanswered.pop_front();
        }
        self.unanswered.push_back(t);
        self.next = now
            + match self.health {
                Health::Good => INTERVAL,
                Health::Suspect | Health::Unhealthy { .. } => INTERVAL_IN_DOUBT,
            };
        t
    }

    /// After an answer: a later ping may be late by itself.
    fn good_again(&self, now: Instant) -> Health {
        match self.late_at() {
            Some(at) if now >= at => Health::Suspect,
            _ => Health::Good,
        }
    }

    /// When the oldest ping without an answer is late.
    fn late_at(&self) -> Option<Instant> {
        let sent = self.origin + Duration::from_micros(*self.unanswered.front()?);
        let patience = self.rtt.unwrap_or_default() * ROUND_TRIPS;
        Some(sent + patience.clamp(LATE_LEAST, LATE_MOST))
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Between pings (`wire.md`).
const INTERVAL: Duration = Duration::from_secs(5);
/// Between pings of a link in doubt, suspect or unhealthy (`wire.md`).
const INTERVAL_IN_DOUBT: Duration = Duration::from_secs(1);
/// Unanswered pings that make a link unhealthy (`wire.md`).
const MISSED: usize = 3;
/// Silence that makes a link dead (`wire.md`).
const DEAD_AFTER: Duration = Duration::from_secs(30);
/// A ping is late after so many round trips: one that is lost costs SCTP a second.
const ROUND_TRIPS: u32 = 4;
/// And not before: one lost packet must not make a link suspect.
const LATE_LEAST: Duration = Duration::from_secs(2);
/// Nor is it waited for longer, for a round trip may have been measured over an outage.
const LATE_MOST: Duration = Duration::from_secs(10);
/// A tick that comes so much too late says that our own process has stood still, or is so busy that
/// answers lie unread.
const STALL: Duration = Duration::from_secs(1);
/// More pings than go out before a link is dead.
const MAX_UNANSWERED: usize = 40;

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    /// A heartbeat, and what was due at which second.
    struct Watch {
        start: Instant,
        heart: Heartbeat,
        at: u64,
    }

    impl Watch {
        fn new() -> Self {
            let start = Instant::now();
            Self {
                start,
                heart: Heartbeat::new(start, start),
                at: 0,
            }
        }

        /// Ticks once a second until that second, inclusive.
        fn until(&mut self, end: u64) -> Vec<(u64, Beat)> {
            let mut seen = Vec::new();
            while self.at <= end {
                let beat = self.heart.tick(self.start + seconds(self.at));
                seen.extend(beat.map(|beat| (self.at, beat)));
                self.at += 1;
            }
            seen
        }

        fn pong(&mut self, sent: u64, now: u64) -> Option<bool> {
            let now = self.start + seconds(now);
            self.heart.pong(sent * 1_000_000, now)
        }
    }

    fn ping(at: u64) -> (u64, Beat) {
        (at, Beat::Ping(at * 1_000_000))
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
        assert_eq!(heart.due(), start + seconds(5));
        assert_eq!(heart.tick(start + seconds(5)), Some(Beat::Ping(5_000_000)));
    }

    #[test]
    fn a_late_answer_makes_it_suspect_three_missed_unhealthy_and_thirty_seconds_dead() {
        let mut watch = Watch::new();
        assert_eq!(watch.until(3), [ping(0), ping(2), ping(3)]);
        assert!(!watch.heart.is_unhealthy());
        assert_eq!(watch.until(4), [(4, Beat::Unhealthy(4_000_000))]);
        assert!(watch.heart.is_unhealthy());
        let mut rest = watch.until(30);
        assert_eq!(rest.pop(), Some((30, Beat::Dead)));
        let every_second: Vec<_> = (5..30).map(ping).collect();
        assert_eq!(rest, every_second);
    }

    #[test]
    fn a_doubt_of_somebody_else_is_a_question_and_an_answer_ends_it() {
        let mut watch = Watch::new();
        watch.until(0);
        watch.pong(0, 0);
        let now = watch.start + SECOND;
        assert_eq!(watch.heart.suspect(now), Some(1_000_000));
        assert_eq!(watch.heart.suspect(now), None, "asked already");
        assert_eq!(watch.until(2), [ping(2)]);
        assert_eq!(watch.pong(2, 2), Some(false));
        assert_eq!(watch.until(3), [ping(3)]);
        watch.pong(3, 3);
        assert_eq!(watch.until(8), [ping(8)], "every five seconds again");
    }

    #[test]
    fn a_slow_link_is_not_suspected_for_being_slow() {
        let mut watch = Watch::new();
        watch.until(2);
        assert_eq!(watch.pong(0, 3), Some(false));
        // Each further answer takes four seconds.
        for at in 3..40 {
            let beats = watch.until(at);
            assert!(!watch.heart.is_unhealthy(), "{at}: {beats:?}");
            watch.pong(at.saturating_sub(4), at);
        }
        assert_eq!(watch.heart.rtt(), Some(seconds(4)));
    }

    #[test]
    fn an_invented_answer_changes_nothing() {
        let mut watch = Watch::new();
        watch.until(5);
        assert!(watch.heart.is_unhealthy());
        let now = watch.start + seconds(5);
        assert_eq!(watch.heart.pong(4_000_001, now), None);
        assert_eq!(watch.heart.rtt(), None);
        assert_eq!(watch.pong(4, 5), Some(false));
        assert_eq!(watch.pong(4, 5), None, "once");
    }

    #[test]
    fn two_answers_in_a_row_recover_and_those_held_up_together_are_one() {
        let mut watch = Watch::new();
        watch.until(8);
        for sent in [3, 4, 5, 6, 7, 8] {
            assert_eq!(watch.pong(sent, 8), Some(false));
        }
        assert!(watch.heart.is_unhealthy(), "one answer, as it were");
        watch.until(9);
        assert_eq!(watch.pong(9, 9), Some(true));
        assert!(!watch.heart.is_unhealthy());

        let mut watch = Watch::new();
        watch.until(8);
        watch.pong(8, 8);
        watch.until(12);
        assert_eq!(watch.pong(12, 12), Some(false), "not in a row");
        watch.until(13);
        assert_eq!(watch.pong(13, 13), Some(true));
    }

    #[test]
    fn a_stall_of_our_own_blames_nobody() {
        let start = Instant::now();
        let mut heart = Heartbeat::new(start, start);
        heart.tick(start);
        assert_eq!(
            heart.tick(start + seconds(3600)),
            Some(Beat::Ping(3_600_000_000))
        );
        // One that was nearly given up, too: three more pings, and thirty more seconds.
        let mut watch = Watch::new();
        watch.until(3);
        watch.at = 100;
        let unhealthy = (103, Beat::Unhealthy(103_000_000));
        let expected = [ping(100), ping(101), ping(102), unhealthy];
        assert_eq!(watch.until(103), expected);
        watch.at = 200;
        assert!(watch.until(229).iter().all(|(_, beat)| *beat != Beat::Dead));
        assert_eq!(watch.until(230), [(230, Beat::Dead)]);
    }
}
