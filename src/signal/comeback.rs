//! When to try which server again once the connection is lost. Pure: no clock, no socket; the seed
//! is an argument, so that what an agent does can be replayed.
//!
//! 1. A *round* tries the servers in their order, the first one first, each at once after the one
//!    before it.
//! 2. Between rounds is a pause, by chance anywhere from nothing to half a second, doubling up to
//!    2 s, and to 15 s when that was long in vain ("full jitter"): ten thousand clients that lost one
//!    server together come back one by one.
//! 3. What a server asked to wait is waited for, and by chance up to as long again.
//! 4. Where every server says what will not change by itself, it is asked seldom.
//! 5. It never ends. A connection that stood for a while is forgiven what went before it.

use std::time::Duration;

/// The memory of one client's attempts.
#[derive(Debug, Clone)]
pub struct Comeback {
    /// How many servers there are.
    servers: usize,
    /// Which one is being tried.
    server: usize,
    /// Rounds in a row, and connections that did not last.
    rounds: u32,
    /// The longest pause that a server of this round asked for.
    asked: Duration,
    /// How many of this round said what will not change.
    lasting: usize,
    jitter: u64,
}

/// What to try next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attempt {
    /// Which of the servers, from 0.
    pub server: usize,
    /// After how long.
    pub after: Duration,
}

impl Comeback {
    /// Of a client with so many servers, at least one.
    pub fn new(servers: usize, seed: u64) -> Self {
        Self {
            servers: servers.max(1),
            server: 0,
            rounds: 0,
            asked: Duration::ZERO,
            lasting: 0,
            jitter: seed,
        }
    }

    /// The connection is lost: it had stood for so long, and the server may have asked for a pause.
    pub fn lost(&mut self, stood: Duration, asked: Option<Duration>) -> Attempt {
        if stood >= SETTLED {
            self.rounds = 0;
        }
        self.asked = asked.unwrap_or_default();
        self.lasting = 0;
        self.next_round()
    }

    /// The attempt failed; the server may have asked for a pause, or said what will not change.
    pub fn failed(&mut self, asked: Option<Duration>, is_lasting: bool) -> Attempt {
        self.asked = self.asked.max(asked.unwrap_or_default());
        self.lasting += usize::from(is_lasting);
        if self.server + 1 < self.servers {
            self.server += 1;
            return Attempt {
                server: self.server,
                after: Duration::ZERO,
            };
        }
        if self.lasting == self.servers {
            self.asked = self.asked.max(SELDOM);
        }
        self.next_round()
    }

    fn next_round(&mut self) -> Attempt {
        let asked = std::mem::take(&mut self.asked).min(MOST_ASKED);
        let most = if self.rounds < SOON_ROUNDS {
            SOON
        } else {
            MOST
        };
        let doubled = FIRST.saturating_mul(1 << self.rounds.min(16)).min(most);
        let span = doubled.max(asked.min(MOST));
        self.rounds = self.rounds.saturating_add(1);
        self.lasting = 0;
        self.server = 0;
        Attempt {
            server: 0,
            after: asked + span.mul_f64(self.chance()),
        }
    }

    /// From 0 to 1. SplitMix64 (Steele, Lea, Flood 2014): jitter only, nothing secret.
    fn chance(&mut self) -> f64 {
        self.jitter = self.jitter.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.jitter;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        f64::from((z >> 32) as u32) / f64::from(u32::MAX)
    }
}

/// The longest pause before the first attempt: a server that is only started anew is back by then.
const FIRST: Duration = Duration::from_millis(500);
/// The longest pause in the first two minutes or so, in which a host has started anew: whoever waits
/// for a new link does not wait long for a server that is back. One with a crowd before it asks for
/// longer pauses itself.
const SOON: Duration = Duration::from_secs(2);
const SOON_ROUNDS: u32 = 120;
/// The longest pause that nobody asked for. Ten thousand clients within it are 670 a second.
const MOST: Duration = Duration::from_secs(15);
/// The longest that a server may ask for: with what chance adds, a minute.
const MOST_ASKED: Duration = Duration::from_secs(45);
/// The pause after answers that will not change by themselves; somebody may change a roster.
const SELDOM: Duration = Duration::from_secs(30);
/// A connection that stood for so long was a good one: pauses begin small again. A server that falls
/// when its crowd is back falls sooner.
const SETTLED: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(3600);
    const SECOND: Duration = Duration::from_secs(1);

    /// The pauses of many clients before their `n`th round, from the shortest to the longest.
    fn pauses(n: u32, asked: Option<Duration>, is_lasting: bool) -> Vec<Duration> {
        let clients = (0..1000).map(|seed| {
            let mut comeback = Comeback::new(1, seed);
            let mut attempt = comeback.lost(LONG, (n == 0).then_some(asked).flatten());
            for round in 1..=n {
                attempt = comeback.failed((round == n).then_some(asked).flatten(), is_lasting);
            }
            assert_eq!(attempt.server, 0);
            attempt.after
        });
        let mut pauses: Vec<_> = clients.collect();
        pauses.sort_unstable();
        pauses
    }

    /// They fill all of it: no tenth of the span is without a twentieth of the clients.
    fn fill(pauses: &[Duration], from: Duration, span: Duration) {
        assert!(pauses[0] >= from && pauses[pauses.len() - 1] <= from + span);
        for tenth in 0..10 {
            let at = |n| from + span * n / 10;
            let within = |pause: &&Duration| **pause >= at(tenth) && **pause <= at(tenth + 1);
            let there = pauses.iter().filter(within).count();
            assert!(there >= pauses.len() / 20, "{there} in tenth {tenth}");
        }
    }

    #[test]
    fn clients_that_lost_a_server_together_come_back_spread_over_a_span_that_doubles() {
        for (round, span) in [(0, 500), (1, 1000), (2, 2000), (3, 2000), (119, 2000)] {
            let pauses = pauses(round, None, false);
            fill(&pauses, Duration::ZERO, Duration::from_millis(span));
        }
        fill(&pauses(120, None, false), Duration::ZERO, 15 * SECOND);
    }

    #[test]
    fn what_a_server_asks_for_is_waited_for_and_spread_and_is_never_more_than_a_minute() {
        fill(&pauses(0, Some(2 * SECOND), false), 2 * SECOND, 2 * SECOND);
        fill(&pauses(1, Some(8 * SECOND), false), 8 * SECOND, 8 * SECOND);
        fill(&pauses(3, Some(SECOND), false), SECOND, 2 * SECOND);
        let endless = Duration::from_millis(u64::MAX);
        fill(&pauses(9, Some(endless), false), 45 * SECOND, 15 * SECOND);
    }

    #[test]
    fn what_will_not_change_is_asked_seldom() {
        fill(&pauses(1, None, true), 30 * SECOND, 15 * SECOND);
    }

    #[test]
    fn tries_the_servers_in_their_order_and_pauses_only_when_all_have_failed() {
        let mut comeback = Comeback::new(3, 7);
        assert_eq!(comeback.lost(LONG, None).server, 0);
        for _ in 0..3 {
            for server in [1, 2] {
                let after = Duration::ZERO;
                assert_eq!(comeback.failed(None, false), Attempt { server, after });
            }
            let next = comeback.failed(None, false);
            assert!(next.server == 0 && next.after > Duration::ZERO, "{next:?}");
        }
        // From the second one, too, it goes back to the first.
        comeback.failed(None, false);
        assert_eq!(comeback.lost(LONG, None).server, 0);
    }

    #[test]
    fn one_server_that_might_come_back_is_not_asked_less_because_another_will_never_take_it() {
        let mut comeback = Comeback::new(2, 7);
        comeback.lost(LONG, None);
        comeback.failed(None, true);
        assert!(comeback.failed(None, false).after <= SECOND);
        // But a pause that any of them asked for is kept.
        comeback.failed(Some(20 * SECOND), false);
        assert!(comeback.failed(None, false).after >= 20 * SECOND);
    }

    #[test]
    fn a_connection_that_does_not_last_does_not_make_the_pauses_small_again() {
        let longest = |stood| {
            let pauses = (0..100).map(|seed| {
                let mut comeback = Comeback::new(1, seed);
                (0..9).for_each(|_| {
                    comeback.lost(stood, None);
                });
                comeback.lost(stood, None).after
            });
            pauses.max().unwrap()
        };
        assert!(longest(SECOND) > SECOND);
        assert!(longest(LONG) <= Duration::from_millis(500));
    }

    #[test]
    fn the_same_seed_waits_the_same_and_another_does_not() {
        let of = |seed| Comeback::new(1, seed).lost(LONG, None);
        assert_eq!(of(1), of(1));
        assert_ne!(of(1), of(2));
    }
}
