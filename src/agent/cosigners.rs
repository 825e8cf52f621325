//! Whom to ask to countersign this agent's checkpoints, and what each has countersigned.
//!
//! Not everybody every time: a few peers a second, in turn, so that in a mesh of a hundred nobody
//! is busy with countersigning, and yet what is a second old is countersigned by somebody.
//!
//! Pure: the caller sends, and tells what came back.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use crate::identity::{AgentId, LinkId};
use crate::witness::SignedCheckpoint;

/// The peers of one log.
#[derive(Debug, Default)]
pub(super) struct Cosigners {
    peers: BTreeMap<AgentId, Cosigner>,
    /// How many entries are to be covered.
    target: u64,
    /// Who was asked last: the next round begins behind it.
    last: Option<AgentId>,
}

#[derive(Debug, Default)]
struct Cosigner {
    /// While it is linked.
    link: Option<LinkId>,
    /// How many entries it has countersigned.
    cosigned: u64,
    /// How many it was asked to, on this link.
    offered: u64,
    /// Whether the log was read from its file for it, on this link.
    has_read: bool,
    /// What it has seen of the log, or was told of it, and wants to be continued.
    asks: Option<SignedCheckpoint>,
}

/// One peer that is to be shown the newest checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Turn {
    pub(super) peer: AgentId,
    pub(super) link: LinkId,
    /// From how many entries on a proof is needed; none from 0.
    pub(super) from: u64,
    /// What the peer has asked for, if it has.
    pub(super) asked: Option<SignedCheckpoint>,
}

impl Cosigners {
    /// `peer` has countersigned so many entries, in an earlier process or just now.
    pub(super) fn cosigned(&mut self, peer: &AgentId, size: u64) {
        let peer = self.peers.entry(peer.clone()).or_default();
        peer.cosigned = peer.cosigned.max(size);
    }

    /// Whether that is more than before.
    pub(super) fn is_news(&self, peer: &AgentId, size: u64) -> bool {
        self.peers.get(peer).is_none_or(|peer| peer.cosigned < size)
    }

    /// So many entries are to be covered.
    pub(super) fn cover(&mut self, entries: u64) {
        self.target = entries;
    }

    pub(super) fn up(&mut self, peer: &AgentId, link: LinkId) {
        let peer = self.peers.entry(peer.clone()).or_default();
        peer.link = Some(link);
        peer.offered = 0;
        peer.has_read = false;
        peer.asks = None;
    }

    pub(super) fn down(&mut self, peer: &AgentId) {
        if let Some(peer) = self.peers.get_mut(peer) {
            peer.link = None;
            peer.asks = None;
        }
    }

    /// The link of a peer that is up.
    pub(super) fn link_of(&self, peer: &AgentId) -> Option<LinkId> {
        self.peers.get(peer).and_then(|peer| peer.link)
    }

    /// Everybody who is linked.
    pub(super) fn linked(&self) -> impl Iterator<Item = (&AgentId, LinkId)> {
        let peers = self.peers.iter();
        peers.filter_map(|(id, peer)| Some((id, peer.link?)))
    }

    /// `peer` wants a proof that the log continues `asked`. A newer question takes the place of
    /// one that was not answered yet.
    pub(super) fn asks(&mut self, peer: &AgentId, asked: SignedCheckpoint) {
        if let Some(peer) = self.peers.get_mut(peer) {
            peer.asks = Some(asked);
        }
    }

    /// Whose turn it is; `all` if there will be no other round.
    pub(super) fn round(&mut self, all: bool) -> Vec<Turn> {
        let waiting = |(_, peer): &(&AgentId, &Cosigner)| {
            peer.waits(self.target) && (all || !peer.is_awaited())
        };
        let from = self.last.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let behind = self.peers.range::<AgentId, _>((from, Bound::Unbounded));
        let to = self.last.as_ref().map_or(Bound::Unbounded, Bound::Included);
        let before = self.peers.range::<AgentId, _>((Bound::Unbounded, to));
        // Without a last one both are everybody.
        let before = before.filter(|_| self.last.is_some());
        let turns: Vec<_> = behind
            .chain(before)
            .filter(waiting)
            .take(if all { usize::MAX } else { AT_ONCE })
            .filter_map(|(id, peer)| peer.turn(id))
            .collect();
        for turn in &turns {
            if let Some(peer) = self.peers.get_mut(&turn.peer) {
                peer.asks = None;
            }
        }
        self.last = turns
            .last()
            .map(|turn| turn.peer.clone())
            .or(self.last.take());
        turns
    }

    /// Whether the log may be read from its file for `peer`: once on each link, since after that
    /// it knows what is at hand, and reading a long log takes a second.
    pub(super) fn may_read(&mut self, peer: &AgentId) -> bool {
        let peer = self.peers.get_mut(peer);
        peer.is_some_and(|peer| !std::mem::replace(&mut peer.has_read, true))
    }

    /// `peer` was shown a checkpoint over so many entries.
    pub(super) fn offered(&mut self, peer: &AgentId, size: u64) {
        if let Some(peer) = self.peers.get_mut(peer) {
            peer.offered = size;
        }
    }

    /// Whether another round is needed.
    pub(super) fn is_behind(&self) -> bool {
        let mut peers = self.peers.values();
        peers.any(|peer| peer.waits(self.target) && !peer.is_awaited())
    }

    /// Whether somebody who was asked has not answered.
    pub(super) fn is_awaited(&self) -> bool {
        self.peers.values().any(Cosigner::is_awaited)
    }

    /// From where proofs will be needed.
    pub(super) fn sizes(&self) -> BTreeSet<u64> {
        let peers = self.peers.values();
        peers
            .flat_map(|peer| [peer.cosigned, peer.offered])
            .filter(|size| *size > 0)
            .collect()
    }
}

impl Cosigner {
    fn waits(&self, target: u64) -> bool {
        self.link.is_some() && (self.asks.is_some() || self.offered < target)
    }

    /// Whether it was asked and has not answered: it may have a question first, which must not meet
    /// another checkpoint on its way.
    fn is_awaited(&self) -> bool {
        self.link.is_some() && self.asks.is_none() && self.offered > self.cosigned
    }

    fn turn(&self, id: &AgentId) -> Option<Turn> {
        let asked = self.asks.as_ref();
        Some(Turn {
            peer: id.clone(),
            link: self.link?,
            from: asked.map_or(self.cosigned, |asked| asked.checkpoint().size),
            asked: asked.cloned(),
        })
    }
}

/// Peers that are asked for each checkpoint: all of a swarm of five. More would make a mesh of a
/// hundred agents verify and sign ten thousand cosignatures a second.
const AT_ONCE: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: &str) -> AgentId {
        name.parse().unwrap()
    }

    fn linked(names: &[&str]) -> Cosigners {
        let mut cosigners = Cosigners::default();
        for (n, name) in (1..).zip(names) {
            cosigners.up(&id(name), LinkId::from_bytes([n; 8]));
        }
        cosigners
    }

    /// One round, in which everybody whose turn it is gets a checkpoint over `size` entries.
    fn round(cosigners: &mut Cosigners, size: u64) -> Vec<(String, u64)> {
        let turns = cosigners.round(false);
        for turn in &turns {
            cosigners.offered(&turn.peer, size);
        }
        turns
            .iter()
            .map(|turn| (turn.peer.to_string(), turn.from))
            .collect()
    }

    fn named(names: &[&str]) -> Vec<(String, u64)> {
        names.iter().map(|name| ((*name).to_owned(), 0)).collect()
    }

    #[test]
    fn everybody_gets_a_turn_and_then_there_is_peace() {
        let mut cosigners = linked(&["a", "b", "c", "d", "e", "f"]);
        assert!(!cosigners.is_behind(), "there are no entries");
        cosigners.cover(10);
        assert_eq!(round(&mut cosigners, 10), named(&["a", "b", "c", "d"]));
        assert!(cosigners.is_behind());
        // What comes meanwhile is for those whose turn it is now, and for the others when they
        // have answered.
        cosigners.cover(20);
        assert_eq!(round(&mut cosigners, 20), named(&["e", "f"]));
        assert!(!cosigners.is_behind() && round(&mut cosigners, 20).is_empty());
        cosigners.cosigned(&id("a"), 10);
        cosigners.cosigned(&id("c"), 10);
        assert!(cosigners.is_behind());
        let again = [("a".to_owned(), 10), ("c".to_owned(), 10)];
        assert_eq!(round(&mut cosigners, 20), again);
        // For the last time everybody is asked.
        let all = cosigners.round(true);
        assert_eq!(all.len(), 2, "b and d, who were asked for less");
        all.iter()
            .for_each(|turn| cosigners.offered(&turn.peer, 20));
        assert!(cosigners.is_awaited());
        for name in ["a", "b", "c", "d", "e"] {
            cosigners.cosigned(&id(name), 20);
        }
        assert!(cosigners.is_awaited());
        cosigners.down(&id("f"));
        assert!(!cosigners.is_awaited() && !cosigners.is_behind());
        assert_eq!(cosigners.sizes(), BTreeSet::from([20]));
    }

    #[test]
    fn a_proof_begins_at_what_the_peer_has_countersigned_or_asks_for() {
        let mut cosigners = linked(&["a", "b"]);
        cosigners.cosigned(&id("a"), 7);
        assert!(!cosigners.is_news(&id("a"), 7) && cosigners.is_news(&id("a"), 8));
        cosigners.cover(10);
        let turns = |found: &[(&str, u64)]| -> Vec<_> {
            found
                .iter()
                .map(|(name, from)| ((*name).to_owned(), *from))
                .collect()
        };
        assert_eq!(round(&mut cosigners, 10), turns(&[("a", 7), ("b", 0)]));
        let asked = crate::witness::Checkpoint {
            origin: "log".into(),
            size: 3,
            root: [0; 32],
        };
        let key = crate::identity::KeyPair::from_secret(&[1; 32]);
        cosigners.asks(&id("b"), asked.sign(&key));
        assert_eq!(round(&mut cosigners, 10), turns(&[("b", 3)]));
        assert!(cosigners.may_read(&id("a")) && !cosigners.may_read(&id("a")));
        // A new link is asked anew.
        cosigners.up(&id("a"), LinkId::from_bytes([9; 8]));
        assert_eq!(round(&mut cosigners, 10), turns(&[("a", 7)]));
        assert!(cosigners.may_read(&id("a")));
    }
}
