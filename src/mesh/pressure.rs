//! How full the outbox of a peer is, and who waits for it.
//!
//! It is *full* from when the bound is reached until a quarter is free.
//!
//! | the outbox | who sends to this peer alone | who sends to everybody |
//! |---|---|---|
//! | is not full | goes on | goes on |
//! | is full | waits | waits |
//! | is full, and in [`PATIENCE`] the peer has taken nothing | waits | goes on: of what waits for this peer the oldest are given back |
//! | is full, and the peer is away for [`PATIENCE`] | goes on: the oldest are given back | the same |
//!
//! So a peer that is slow slows those who send to everybody to its pace, and one that is stuck holds
//! them up for a minute. Whatever it takes begins another one: nobody knows that it will not take
//! more.

use std::time::{Duration, Instant};

use super::peer::Peer;
use super::shared::Shared;
use super::{Lanes, OutboxLimits, Output};

/// How full an outbox is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pressure {
    /// There is room.
    Roomy,
    /// It is full, and since then the peer has taken nothing.
    Full { since: Instant },
    /// It is full, and the peer has taken nothing for so long that only who sends to it alone waits.
    Stuck,
}

impl Peer {
    /// Whether who sends to it alone, or to everybody, has to wait.
    pub(super) fn holds_up(&self, to_all: bool, now: Instant) -> bool {
        let waits = match self.pressure {
            Pressure::Roomy => false,
            Pressure::Full { .. } => true,
            Pressure::Stuck => !to_all,
        };
        waits && !self.is_long_away(now)
    }

    /// Whether anybody may wait for room.
    pub(super) fn is_waited_for(&self) -> bool {
        self.pressure != Pressure::Roomy
    }

    pub(super) fn is_full(&self, limits: &OutboxLimits) -> bool {
        let Lanes { direct, all } = &self.outgoing;
        direct.len() + all.len() >= limits.messages || direct.bytes() + all.bytes() >= limits.bytes
    }

    /// Whether a quarter is free: who waits is woken for that and not for every acknowledgement.
    fn has_room_again(&self, limits: &OutboxLimits) -> bool {
        let Lanes { direct, all } = &self.outgoing;
        let (messages, bytes) = (direct.len() + all.len(), direct.bytes() + all.bytes());
        messages + (limits.messages / 4).max(1) <= limits.messages
            && bytes + limits.bytes / 4 <= limits.bytes
    }

    pub(super) fn is_long_away(&self, now: Instant) -> bool {
        let since = self.away_since.filter(|_| self.live.is_none());
        since.is_some_and(|since| now.duration_since(since) >= PATIENCE)
    }

    /// More is kept for it than before.
    pub(super) fn fills(&mut self, limits: &OutboxLimits, now: Instant) {
        if self.pressure == Pressure::Roomy && self.is_full(limits) {
            self.pressure = Pressure::Full { since: now };
        }
    }

    /// It has taken something: it is not stuck.
    pub(super) fn takes(&mut self, shared: &mut Shared, now: Instant) {
        if self.is_waited_for() {
            self.pressure = Pressure::Full { since: now };
            shared.wake(now + PATIENCE);
        }
    }

    /// Says that there is room again, if there was none.
    pub(super) fn tell_of_room(&mut self, shared: &mut Shared) {
        if self.is_waited_for() && self.has_room_again(&shared.config.outbox) {
            self.relax(Pressure::Roomy, shared);
        }
    }

    /// Says so when those who wait, or some of them, need not wait any more.
    pub(super) fn tend_pressure(&mut self, shared: &mut Shared, now: Instant) {
        if self.is_waited_for() && self.live.is_none() {
            self.away_since.get_or_insert(now);
        }
        if self.is_waited_for() && self.is_long_away(now) {
            return self.relax(Pressure::Roomy, shared);
        }
        if let Pressure::Full { since } = self.pressure
            && now.duration_since(since) >= PATIENCE
        {
            self.relax(Pressure::Stuck, shared);
        }
    }

    fn relax(&mut self, to: Pressure, shared: &mut Shared) {
        self.pressure = to;
        let peer = self.id.clone();
        shared.emit(Output::Room { peer });
    }

    /// When [`tend_pressure`](Self::tend_pressure) has something to do.
    pub(super) fn pressure_due(&self) -> Option<Instant> {
        let away = self.away_since;
        let away = away.filter(|_| self.is_waited_for() && self.live.is_none());
        let full = match self.pressure {
            Pressure::Full { since } => Some(since),
            Pressure::Roomy | Pressure::Stuck => None,
        };
        let since = away.into_iter().chain(full).min();
        since.map(|since| since + PATIENCE)
    }
}

/// How long those who send to a peer wait for it when its outbox is full and it is away, and those
/// who send to everybody also when it is linked and takes nothing: a peer that restarts, or changes
/// its network, is back by then; for one that is gone or stuck nobody waits.
const PATIENCE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::super::tests::{Bench, FIRST, SECOND, config, id, link, session, to, transmitted};
    use super::super::*;
    use super::*;

    /// Linked with `a` over link 1 and `b` over link 2; `messages` are kept for each.
    fn linked(messages: usize) -> Bench {
        let outbox = OutboxLimits {
            messages,
            ..OutboxLimits::default()
        };
        let mut bench = Bench::of(Config {
            outbox,
            ..config(true)
        });
        bench.up(5, 1);
        bench.offer("b", 5, 2).unwrap();
        bench.greet("b", 5, link(2), FIRST);
        bench
    }

    /// Time passes in which everybody answers pings; what else is put out.
    fn pass(bench: &mut Bench, span: Duration) -> Vec<Output> {
        let end = bench.now + span;
        let mut outputs = Vec::new();
        loop {
            let due = bench.mesh.timeout().filter(|due| *due <= end);
            bench.now = due.map_or(end, |due| due.max(bench.now));
            bench.mesh.tick(bench.now);
            let next = bench.mesh.timeout();
            assert!(next.is_none_or(|next| next > bench.now), "due for ever");
            for output in bench.outputs() {
                match output {
                    Output::SendPing { link, t } => {
                        bench.mesh.pong(link, t, bench.now);
                    }
                    other => outputs.push(other),
                }
            }
            if due.is_none() {
                return outputs;
            }
        }
    }

    fn acks(bench: &mut Bench, n: u8, destination: &str, up_to: u64) {
        let now = bench.now;
        let mesh = &mut bench.mesh;
        mesh.ack(link(n), session(1), &to(destination), up_to, now);
    }

    /// Whether `a` holds up who sends to this destination.
    fn waits(bench: &Bench, destination: &str) -> bool {
        bench.takes(destination) == Err(SendError::Full { peer: id("a") })
    }

    fn room(outputs: &[Output]) -> bool {
        outputs.contains(&Output::Room { peer: id("a") })
    }

    /// What `a` is not sent any more.
    fn given_back(outputs: &[Output]) -> Vec<(String, GivenBack)> {
        let given = outputs.iter().filter_map(|output| match output {
            Output::Undelivered {
                peer,
                destination,
                from,
                to,
                why,
            } if *peer == id("a") && from == to => Some((format!("{destination} {from}"), *why)),
            _ => None,
        });
        given.collect()
    }

    fn full(message: &str) -> Vec<(String, GivenBack)> {
        vec![(message.to_owned(), GivenBack::Full)]
    }

    #[test]
    fn one_that_takes_nothing_holds_up_who_sends_to_everybody_for_a_minute() {
        let most = MAX_UNDER_WAY as u64;
        let mut bench = linked(MAX_UNDER_WAY + 2);
        // At no time at which a ping is due.
        pass(&mut bench, Duration::from_millis(1300));
        bench.sends("a");
        for _ in 0..=most {
            bench.sends("*");
        }
        for up_to in [most, most + 1] {
            acks(&mut bench, 2, "*", up_to);
        }
        bench.outputs();
        assert!(waits(&bench, "*") && waits(&bench, "a") && !waits(&bench, "b"));
        assert!(!room(&pass(&mut bench, 59 * SECOND)));
        assert!(waits(&bench, "*"));
        assert!(room(&pass(&mut bench, SECOND)));
        // What is under way to it may yet come, and is not given back.
        bench.sends("*");
        let outputs = bench.outputs();
        assert_eq!(given_back(&outputs), full(&format!("* {most}")));
        assert_eq!(transmitted(&outputs, 2), [format!("* {}", most + 2)]);
        assert!(!waits(&bench, "*") && waits(&bench, "a"));

        acks(&mut bench, 1, "*", most - 1);
        let outputs = bench.outputs();
        let rest = [format!("* {}", most + 1), format!("* {}", most + 2)];
        assert_eq!(transmitted(&outputs, 1), rest);
        assert!(room(&outputs) && !waits(&bench, "a"));
    }

    #[test]
    fn where_all_is_under_way_the_new_one_is_given_back() {
        let mut bench = linked(3);
        for _ in 0..3 {
            bench.sends("*");
        }
        acks(&mut bench, 2, "*", 3);
        pass(&mut bench, 61 * SECOND);
        bench.sends("*");
        let outputs = bench.outputs();
        assert_eq!(given_back(&outputs), full("* 4"));
        assert_eq!(transmitted(&outputs, 1), [""; 0]);
        assert_eq!(transmitted(&outputs, 2), ["* 4"]);
        acks(&mut bench, 1, "*", 3);
        bench.sends("*");
        assert_eq!(transmitted(&bench.outputs(), 1), ["* 5"]);
    }

    #[test]
    fn one_that_takes_something_is_waited_for_and_another_minute_begins() {
        let mut bench = linked(8);
        for _ in 0..8 {
            bench.sends("*");
        }
        acks(&mut bench, 2, "*", 8);
        pass(&mut bench, 50 * SECOND);
        acks(&mut bench, 1, "*", 1);
        assert!(!room(&pass(&mut bench, 50 * SECOND)));
        assert!(waits(&bench, "*"));
        assert!(room(&pass(&mut bench, 11 * SECOND)));
        assert!(!waits(&bench, "*"));
        bench.sends("*");
        // It is not stuck after all.
        let now = bench.now;
        let spoiled = crate::message::Reason::BadSignature;
        let mesh = &mut bench.mesh;
        mesh.refused(link(1), session(1), &to("*"), 2, spoiled, now);
        assert!(waits(&bench, "*"), "a quarter is not free");
        assert!(room(&pass(&mut bench, 61 * SECOND)));
        assert!(!waits(&bench, "*"));
    }

    #[test]
    fn a_link_that_falls_and_comes_back_begins_no_other_minute() {
        let mut bench = linked(3);
        for _ in 0..3 {
            bench.sends("*");
        }
        acks(&mut bench, 2, "*", 3);
        pass(&mut bench, 30 * SECOND);
        bench.mesh.link_closed(link(1), bench.now);
        pass(&mut bench, 20 * SECOND);
        bench.up(5, 3);
        assert!(waits(&bench, "*"));
        assert!(room(&pass(&mut bench, 11 * SECOND)));
        assert!(!waits(&bench, "*"));
        // What it takes at last it takes in order, and who sends to everybody goes on.
        bench.mesh.link_closed(link(3), bench.now);
        bench.sends("*");
        assert_eq!(given_back(&bench.outputs()), full("* 1"));
        bench.offer("a", 5, 4).unwrap();
        let outputs = bench.greet("a", 5, link(4), FIRST);
        assert_eq!(transmitted(&outputs, 4), ["* 2", "* 3", "* 4"]);
        acks(&mut bench, 1, "*", 4);
        assert!(!room(&bench.outputs()), "over a link that is no more");
        acks(&mut bench, 4, "*", 4);
        assert!(room(&bench.outputs()));
    }
}
