//! Which file goes on next over one link, and how far: turns, a window, acknowledgements. Pure.
//!
//! 1. Every transfer that has something to send gets a turn of [`TURN`] bytes after the other.
//! 2. At most [`WINDOW`] bytes of a link are sent and not acknowledged. That bounds what the receiver
//!    must take in before its disk has caught up, so that files never hold up its messages.
//! 3. A receiver acknowledges at least every [`ACK_EVERY`] bytes of a transfer: what all together owe
//!    then stays well below the window, and nobody waits for anybody.

use std::collections::VecDeque;

use super::wire::TransferId;

/// The files that go out over one link.
#[derive(Debug, Default)]
pub(super) struct Lane(VecDeque<Sending>);

#[derive(Debug)]
struct Sending {
    transfer: TransferId,
    size: u64,
    /// Up to here it was sent.
    sent: u64,
    /// Up to here the peer has it.
    acked: u64,
}

/// One piece to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Turn {
    pub(super) transfer: TransferId,
    pub(super) offset: u64,
    pub(super) length: usize,
}

impl Lane {
    /// A transfer goes on from `offset`.
    pub(super) fn begin(&mut self, transfer: TransferId, offset: u64, size: u64) {
        self.end(transfer);
        self.0.push_back(Sending {
            transfer,
            size,
            sent: offset,
            acked: offset,
        });
    }

    /// Nothing more is sent of it.
    pub(super) fn end(&mut self, transfer: TransferId) {
        self.0.retain(|sending| sending.transfer != transfer);
    }

    /// The peer has all up to `offset`. Whether that is news, and can be.
    pub(super) fn acked(&mut self, transfer: TransferId, offset: u64) -> bool {
        let sending = self.0.iter_mut().find(|s| s.transfer == transfer);
        match sending {
            Some(sending) if (sending.acked + 1..=sending.sent).contains(&offset) => {
                sending.acked = offset;
                true
            }
            _ => false,
        }
    }

    /// What is to be sent now, if anything.
    pub(super) fn turn(&mut self) -> Option<Turn> {
        let unacked: u64 = self.0.iter().map(|s| s.sent - s.acked).sum();
        let at = self.0.iter().position(|s| s.sent < s.size)?;
        let left = self.0[at].size - self.0[at].sent;
        let length = left.min(TURN);
        if unacked + length > WINDOW {
            return None;
        }
        // Behind all others: that is what makes it fair.
        let mut sending = self.0.remove(at)?;
        let turn = Turn {
            transfer: sending.transfer,
            offset: sending.sent,
            length: usize::try_from(length).unwrap_or(usize::MAX),
        };
        sending.sent += length;
        self.0.push_back(sending);
        Some(turn)
    }
}

/// Whether a receiver that has `written`, and has acknowledged `acked`, has to acknowledge again.
pub(super) fn owes_ack(written: u64, acked: u64, size: u64) -> bool {
    written - acked >= ACK_EVERY || (written == size && acked < size)
}

/// Bytes of one transfer before another has its turn.
const TURN: u64 = 64 * 1024;
/// Bytes under way on one link: a long fat pipe (20 ms, 800 Mbit/s) is full with it, and it is half
/// of what the engine holds for a reader before it holds up the other channels.
const WINDOW: u64 = 2 * 1024 * 1024;
/// Bytes between two acknowledgements of one transfer: with [`TRANSFERS`] of them, half a window.
const ACK_EVERY: u64 = 64 * 1024;
/// Transfers that one link carries at once, each way; others wait for their place.
pub(super) const TRANSFERS: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u8) -> TransferId {
        TransferId::from_bytes([n; 16])
    }

    #[test]
    fn takes_turns_among_all_that_have_something_to_send() {
        let mut lane = Lane::default();
        for n in 1..=3 {
            lane.begin(id(n), 0, 10 * TURN);
        }
        lane.end(id(2));
        let turns: Vec<_> = std::iter::from_fn(|| lane.turn()).take(6).collect();
        let order: Vec<_> = turns.iter().map(|t| (t.transfer, t.offset)).collect();
        let expected = [0, 0, 1, 1, 2, 2].iter().zip([1, 3].iter().cycle());
        let expected: Vec<_> = expected.map(|(turn, n)| (id(*n), turn * TURN)).collect();
        assert_eq!(order, expected);
    }

    #[test]
    fn ten_transfers_share_to_within_one_turn_whenever_they_are_stopped() {
        let mut lane = Lane::default();
        for n in 0..10 {
            // One is far ahead, one nearly done.
            lane.begin(id(n), u64::from(n) * TURN, 1000 * TURN);
        }
        let mut sent = [0u64; 10];
        for _ in 0..777 {
            let turn = lane.turn().expect("there is room");
            let n = sent
                .iter()
                .enumerate()
                .position(|(n, _)| id(u8::try_from(n).unwrap()) == turn.transfer)
                .unwrap();
            sent[n] += turn.length as u64;
            assert!(lane.acked(turn.transfer, turn.offset + turn.length as u64));
            let (least, most) = (sent.iter().min().unwrap(), sent.iter().max().unwrap());
            assert!(most - least <= TURN, "{sent:?}");
        }
    }

    #[test]
    fn stops_at_the_window_and_goes_on_with_an_acknowledgement() {
        let mut lane = Lane::default();
        lane.begin(id(1), 0, u64::MAX / 2);
        let mut sent = 0;
        while let Some(turn) = lane.turn() {
            assert_eq!(turn.offset, sent);
            sent += turn.length as u64;
        }
        assert_eq!(sent, WINDOW);
        assert!(lane.acked(id(1), ACK_EVERY));
        assert_eq!(lane.turn().unwrap().offset, WINDOW);
        assert_eq!(lane.turn(), None);
    }

    #[test]
    fn an_acknowledgement_of_what_was_not_sent_or_was_known_is_none() {
        let mut lane = Lane::default();
        lane.begin(id(1), 100, 300);
        assert!(!lane.acked(id(1), 101), "not sent yet");
        assert_eq!(lane.turn().unwrap().length, 200);
        for (offset, news) in [
            (301, false),
            (200, true),
            (200, false),
            (150, false),
            (300, true),
        ] {
            assert_eq!(lane.acked(id(1), offset), news, "{offset}");
        }
        assert!(!lane.acked(id(2), 1));
        assert_eq!(lane.turn(), None, "all of it was sent");
    }

    #[test]
    fn goes_on_where_the_peer_says_that_it_is() {
        let mut lane = Lane::default();
        lane.begin(id(1), 0, 10 * TURN);
        assert!(lane.turn().is_some() && lane.turn().is_some());
        // The link was lost, and the peer had one turn of it.
        lane.begin(id(1), TURN, 10 * TURN);
        assert_eq!(lane.turn().unwrap().offset, TURN);
        lane.begin(id(1), 10 * TURN, 10 * TURN);
        assert_eq!(lane.turn(), None, "there is nothing left to send");
    }

    #[test]
    fn receivers_that_acknowledge_as_agreed_never_stop_a_lane_for_good() {
        let mut lane = Lane::default();
        let size = 37 * TURN + 5;
        let mut written = [(0u64, 0u64); TRANSFERS];
        for n in 0..TRANSFERS {
            lane.begin(id(u8::try_from(n).unwrap()), 0, size);
        }
        // Frames of an odd size: acknowledgements fall between turns.
        while let Some(turn) = lane.turn() {
            let n = (0..TRANSFERS)
                .find(|n| id(u8::try_from(*n).unwrap()) == turn.transfer)
                .unwrap();
            for _ in 0..turn.length.div_ceil(10_007) {
                let end = turn.offset + turn.length as u64;
                let (have, acked) = &mut written[n];
                *have = end.min(*have + 10_007);
                if owes_ack(*have, *acked, size) {
                    *acked = *have;
                    lane.acked(turn.transfer, *acked);
                }
            }
        }
        assert_eq!(written, [(size, size); TRANSFERS]);
    }
}
