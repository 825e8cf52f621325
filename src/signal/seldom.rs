//! How often something is logged that others can bring about as often as they like.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::identity::AgentId;

/// The lines that one other brings about: a few are said as they come, the rest are counted.
#[derive(Debug, Default)]
pub(crate) struct Seldom {
    /// When the first of these few was said.
    since: Option<Instant>,
    said: u32,
    unsaid: u64,
}

impl Seldom {
    /// Whether the next line is to be said, and how many were not since the last one that was.
    pub(crate) fn say(&mut self, now: Instant) -> Option<u64> {
        if self.is_over(now) {
            (self.since, self.said) = (Some(now), 0);
        }
        if self.said == MOST {
            self.unsaid += 1;
            return None;
        }
        self.said += 1;
        Some(std::mem::take(&mut self.unsaid))
    }

    fn is_over(&self, now: Instant) -> bool {
        self.since
            .is_none_or(|since| now.duration_since(since) >= SPAN)
    }
}

/// As [`Seldom`] for each peer, so that none drowns what there is to say of another.
#[derive(Debug, Default)]
pub(crate) struct SeldomOfEach {
    peers: BTreeMap<AgentId, Seldom>,
    /// Of those for whom there is no place.
    others: Seldom,
}

impl SeldomOfEach {
    /// Whether the next line about `peer` is to be said, and how many were not since the last one
    /// that was.
    pub(crate) fn say(&mut self, peer: &AgentId, now: Instant) -> Option<u64> {
        if self.peers.len() >= MAX_PEERS && !self.peers.contains_key(peer) {
            let is_quiet = |seldom: &Seldom| seldom.is_over(now) && seldom.unsaid == 0;
            self.peers.retain(|_, seldom| !is_quiet(seldom));
        }
        if self.peers.len() >= MAX_PEERS && !self.peers.contains_key(peer) {
            return self.others.say(now);
        }
        self.peers.entry(peer.clone()).or_default().say(now)
    }
}

/// In a span: enough to say of each agent of a usual swarm that it has the wrong key, and no more
/// than a log bears.
const MOST: u32 = 32;
/// With lines of their own; more than usual swarms have.
const MAX_PEERS: usize = 64;
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

    #[test]
    fn a_peer_that_floods_takes_no_lines_from_another_and_names_without_end_share_theirs() {
        let mut lines = SeldomOfEach::default();
        let start = Instant::now();
        let id = |number: u32| -> AgentId { format!("a{number}").parse().unwrap() };
        let mut said = |number, now| lines.say(&id(number), now);
        for _ in 0..1_000 {
            said(0, start);
        }
        assert_eq!(said(1, start), Some(0));
        let first_lines = (2..1_000).filter(|number| said(*number, start).is_some());
        assert_eq!(first_lines.count(), MAX_PEERS - 2 + MOST as usize);
        // Who had nothing more to say gives room; who has, says how much.
        let later = start + SPAN;
        assert_eq!(said(2_000, later), Some(0));
        assert_eq!(said(0, later), Some(1_000 - u64::from(MOST)));
    }
}
