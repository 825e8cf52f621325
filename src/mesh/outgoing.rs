//! What this agent sent to one peer under one destination, and what became of it.

/// Cumulative counts; the messages themselves are the caller's. (The outbox that resends belongs
/// here once there is one.)
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    /// The greatest number sent to this peer that it has seen or may still see.
    sent: Option<u64>,
    /// Up to here all are acknowledged or given back.
    settled: u64,
}

/// What the `next` of a hello tells about the messages of earlier links.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Resumed {
    /// Seen by the peer up to this one, which is news.
    pub(super) acked: Option<u64>,
    /// Not seen: from, to.
    pub(super) undelivered: Option<(u64, u64)>,
}

impl Outgoing {
    pub(super) fn sent(&self) -> Option<u64> {
        self.sent
    }

    /// How many are neither acknowledged nor given back.
    pub(super) fn unacked(&self) -> u64 {
        self.sent.unwrap_or(0).saturating_sub(self.settled)
    }

    pub(super) fn send(&mut self, sequence_num: u64) {
        self.sent = Some(sequence_num);
    }

    /// Whether this one is on its way: sent, and neither acknowledged nor given back.
    pub(super) fn is_open(&self, sequence_num: u64) -> bool {
        sequence_num > self.settled && self.sent.is_some_and(|sent| sequence_num <= sent)
    }

    /// The peer has seen all up to `up_to`. Returns whether that is news; nobody can acknowledge
    /// what was never sent.
    pub(super) fn ack(&mut self, up_to: u64) -> bool {
        let news = self.is_open(up_to);
        if news {
            self.settled = up_to;
        }
        news
    }

    /// A link comes up and the peer expects `next`; `assigned` is the greatest number given out
    /// under this destination, to whomever.
    pub(super) fn resume(&mut self, next: u64, assigned: u64) -> Resumed {
        let mut resumed = Resumed::default();
        if let Some(sent) = self.sent {
            let seen = next.saturating_sub(1).min(sent);
            resumed.acked = self.ack(seen).then_some(seen);
            resumed.undelivered = (sent > self.settled).then_some((self.settled + 1, sent));
            // A goodbye must not make the peer wait for what will not come.
            self.sent = (seen > 0).then_some(seen);
        }
        self.settled = self.settled.max(assigned);
        resumed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(numbers: &[u64]) -> Outgoing {
        let mut outgoing = Outgoing::default();
        for n in numbers {
            outgoing.send(*n);
        }
        outgoing
    }

    #[test]
    fn acknowledges_only_what_was_sent_and_only_once() {
        let mut outgoing = sent(&[1, 2, 3]);
        assert!(outgoing.ack(2));
        assert!(!outgoing.ack(2));
        assert!(!outgoing.ack(1));
        assert!(!outgoing.ack(4), "never sent");
        assert_eq!(outgoing.unacked(), 1);
    }

    #[test]
    fn a_hello_settles_what_earlier_links_left_open() {
        let mut outgoing = sent(&[1, 2, 3, 4, 5]);
        outgoing.ack(2);
        let resumed = outgoing.resume(4, 5);
        assert_eq!(resumed.acked, Some(3));
        assert_eq!(resumed.undelivered, Some((4, 5)));
        assert_eq!(outgoing.unacked(), 0);
        assert_eq!(outgoing.sent(), Some(3));
        outgoing.send(6);
        assert_eq!(outgoing.unacked(), 1);
        assert!(!outgoing.ack(5), "given back already");
        assert!(outgoing.ack(6));
    }

    #[test]
    fn a_peer_that_started_anew_has_seen_nothing() {
        let mut outgoing = sent(&[1, 2, 3]);
        outgoing.ack(1);
        let resumed = outgoing.resume(1, 3);
        assert_eq!(resumed.acked, None);
        assert_eq!(resumed.undelivered, Some((2, 3)));
        assert_eq!(outgoing.sent(), None);
    }

    #[test]
    fn a_hello_that_expects_too_much_acknowledges_no_more_than_was_sent() {
        let mut outgoing = sent(&[7]);
        let resumed = outgoing.resume(u64::MAX, 7);
        assert_eq!(resumed.acked, Some(7));
        assert_eq!(resumed.undelivered, None);
    }
}
