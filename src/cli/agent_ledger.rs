//! What was sent and is not acknowledged yet: acknowledgements count, and programs want ids.

use std::collections::{BTreeMap, VecDeque};

use crate::agent::Receipt;
use crate::identity::AgentId;
use crate::mesh::{GivenBack, MAX_UNDER_WAY};
use crate::message::{Destination, Reason};

/// The messages of this agent that a peer has not settled.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    lanes: BTreeMap<(AgentId, Destination), Lane>,
    /// Messages that never came to a peer.
    undelivered: u64,
}

/// Those to one peer under one destination, by number.
#[derive(Debug, Default)]
struct Lane {
    open: VecDeque<(u64, String)>,
    /// What came before the receipt that it is about: the two have different ways here.
    acked: u64,
    lost: Option<(u64, u64, GivenBack)>,
    refused: BTreeMap<u64, Reason>,
}

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Acked,
    Undelivered(GivenBack),
    Refused(Reason),
}

impl Ledger {
    /// A message was accepted; what is known of it already, for each peer.
    pub(super) fn sent(&mut self, receipt: &Receipt, to: &Destination) -> Vec<(AgentId, Fate)> {
        let number = receipt.sequence_num;
        let mut known = Vec::new();
        for peer in &receipt.to {
            let lane = self.lanes.entry((peer.clone(), to.clone())).or_default();
            // What was refused is acknowledged too, and that only says that it was seen.
            let refused = lane.refused.remove(&number);
            let fate = match (refused, lane.lost) {
                (Some(why), _) => Fate::Refused(why),
                _ if number <= lane.acked => Fate::Acked,
                (_, Some((from, to, why))) if (from..=to).contains(&number) => {
                    Fate::Undelivered(why)
                }
                _ => {
                    lane.open.push_back((number, receipt.id.clone()));
                    continue;
                }
            };
            self.undelivered += u64::from(matches!(fate, Fate::Undelivered(_)));
            known.push((peer.clone(), fate));
        }
        known
    }

    /// A peer has seen all up to `up_to`: the ids of those that are settled by that.
    pub(super) fn acked(&mut self, peer: &AgentId, to: &Destination, up_to: u64) -> Vec<String> {
        let lane = self.lane(peer, to);
        lane.acked = lane.acked.max(up_to);
        let settled = lane.open.partition_point(|(number, _)| *number <= up_to);
        lane.open.drain(..settled).map(|(_, id)| id).collect()
    }

    /// A peer has refused one: its id.
    pub(super) fn refused(
        &mut self,
        peer: &AgentId,
        to: &Destination,
        number: u64,
        why: Reason,
    ) -> Option<String> {
        let lane = self.lane(peer, to);
        let at = lane.open.iter().position(|(n, _)| *n == number);
        if let Some(at) = at {
            return lane.open.remove(at).map(|(_, id)| id);
        }
        // The acknowledgement that covers it comes after it.
        if number > lane.acked {
            lane.refused.insert(number, why);
            if lane.refused.len() > MAX_REFUSED {
                lane.refused.pop_first();
            }
        }
        None
    }

    /// These were given up before the peer had acknowledged them: their ids.
    pub(super) fn lost(
        &mut self,
        peer: &AgentId,
        to: &Destination,
        (first, last): (u64, u64),
        why: GivenBack,
    ) -> Vec<String> {
        let lane = self.lane(peer, to);
        lane.lost = Some((first, last, why));
        let (mut lost, mut kept) = (Vec::new(), VecDeque::new());
        for (number, id) in lane.open.drain(..) {
            match (first..=last).contains(&number) {
                true => lost.push(id),
                false => kept.push_back((number, id)),
            }
        }
        lane.open = kept;
        self.undelivered += lost.len() as u64;
        lost
    }

    /// How many never came to a peer, or are open still.
    pub(super) fn unsettled(&self) -> u64 {
        let open: usize = self.lanes.values().map(|lane| lane.open.len()).sum();
        self.undelivered + open as u64
    }

    fn lane(&mut self, peer: &AgentId, to: &Destination) -> &mut Lane {
        self.lanes.entry((peer.clone(), to.clone())).or_default()
    }
}

/// Refused before their receipts came, of one lane: only what is under way can be.
const MAX_REFUSED: usize = MAX_UNDER_WAY;

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: &str) -> AgentId {
        name.parse().unwrap()
    }

    fn receipt(number: u64, to: &[&str]) -> Receipt {
        Receipt {
            id: format!("m{number}"),
            sequence_num: number,
            to: to.iter().map(|name| id(name)).collect(),
        }
    }

    #[test]
    fn settles_each_message_with_each_peer_once() {
        let (all, b, c) = (Destination::All, id("b"), id("c"));
        let mut ledger = Ledger::default();
        for number in 1..=3 {
            assert_eq!(ledger.sent(&receipt(number, &["b", "c"]), &all), []);
        }
        assert_eq!(ledger.acked(&b, &all, 2), ["m1", "m2"]);
        assert!(ledger.acked(&b, &all, 2).is_empty());
        assert_eq!(
            ledger.refused(&c, &all, 1, Reason::Stale).as_deref(),
            Some("m1")
        );
        assert_eq!(ledger.refused(&c, &all, 1, Reason::Stale), None);
        assert_eq!(ledger.unsettled(), 3);
        assert_eq!(
            ledger.lost(&c, &all, (2, 3), GivenBack::Expired),
            ["m2", "m3"]
        );
        assert_eq!(ledger.acked(&b, &all, 3), ["m3"]);
        assert_eq!(ledger.unsettled(), 2, "two never came");
    }

    #[test]
    fn an_acknowledgement_may_overtake_the_receipt() {
        let (to, b) = (Destination::Agent(id("b")), id("b"));
        let mut ledger = Ledger::default();
        assert!(ledger.acked(&b, &to, 2).is_empty());
        assert_eq!(
            ledger.sent(&receipt(2, &["b"]), &to),
            [(id("b"), Fate::Acked)]
        );
        assert_eq!(ledger.sent(&receipt(3, &["b"]), &to), []);
        assert!(ledger.lost(&b, &to, (4, 4), GivenBack::Full).is_empty());
        assert_eq!(
            ledger.sent(&receipt(4, &["b"]), &to),
            [(id("b"), Fate::Undelivered(GivenBack::Full))]
        );
        assert_eq!(ledger.unsettled(), 2);
    }

    #[test]
    fn a_refusal_may_overtake_the_receipt_and_the_acknowledgement_after_it_is_none() {
        let (to, b) = (Destination::Agent(id("b")), id("b"));
        let mut ledger = Ledger::default();
        assert_eq!(ledger.refused(&b, &to, 2, Reason::BadSignature), None);
        assert!(ledger.acked(&b, &to, 2).is_empty());
        assert_eq!(
            ledger.sent(&receipt(2, &["b"]), &to),
            [(id("b"), Fate::Refused(Reason::BadSignature))]
        );
        assert_eq!(ledger.unsettled(), 0, "as if the receipt had come first");
    }

    #[test]
    fn refusals_of_what_was_never_sent_are_not_remembered_without_end() {
        let (to, b) = (Destination::Agent(id("b")), id("b"));
        let mut ledger = Ledger::default();
        for number in 1..=10_000 {
            ledger.refused(&b, &to, number, Reason::Stale);
        }
        assert_eq!(ledger.lane(&b, &to).refused.len(), MAX_REFUSED);
    }
}
