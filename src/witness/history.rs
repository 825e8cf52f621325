//! What one agent has seen of another's log, and whether what it is shown next continues that.
//!
//! 1. The owner shows a checkpoint. The first one is believed; a later one needs a proof.
//! 2. The owner proves that its tree continues the one that was seen before (RFC 6962, section 2.1.2).
//! 3. Then the checkpoint is countersigned, and is what was seen from now on.
//!
//! Whoever is shown two histories says so once, and countersigns that log no more. Others may tell of
//! checkpoints that they were shown; what cannot be compared with what was seen here, the owner is
//! asked to prove, and until it does nothing is countersigned.
//!
//! Pure: no clock, no socket, no file.

use super::path::verify_consistency;
use super::{Checkpoint, SignedCheckpoint};

/// What was seen of one log. All checkpoints in it are of that log, and its key has signed them.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// The newest one that was countersigned.
    seen: Option<SignedCheckpoint>,
    /// Shown after it, and not proved yet.
    shown: Option<SignedCheckpoint>,
    /// Told by another, and not proved yet.
    told: Option<SignedCheckpoint>,
    /// How often the owner was asked to continue what was seen, in vain.
    asked: u8,
    /// Two histories were shown: nothing is countersigned any more.
    forked: bool,
}

/// What is to be done about a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judgement {
    /// It continues all that was seen: countersign it.
    Countersign(SignedCheckpoint),
    /// Tell the owner that this was seen of its log, so that it proves to continue it.
    AskFor(SignedCheckpoint),
    /// Two histories. Said once.
    Equivocation(Box<Equivocation>),
    /// Nothing: known already, or a proof is awaited, or all has been said.
    Nothing,
}

/// Two checkpoints that one log cannot both have had, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Equivocation {
    /// How that shows.
    pub fork: Fork,
    /// What was seen first.
    pub seen: SignedCheckpoint,
    /// What was shown then.
    pub shown: SignedCheckpoint,
}

/// How two histories show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fork {
    /// As many entries, and others: the two checkpoints prove it to anybody.
    SameSize,
    /// Fewer entries than before.
    RolledBack,
    /// More entries, and the owner's own proof does not lead from the one to the other; or it was
    /// asked for one, and gave others instead.
    NotContinued,
}

impl Fork {
    /// The name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SameSize => "same-size",
            Self::RolledBack => "rolled-back",
            Self::NotContinued => "not-continued",
        }
    }
}

impl History {
    /// Goes on with what an earlier process has countersigned.
    pub fn of(seen: SignedCheckpoint) -> Self {
        Self {
            seen: Some(seen),
            ..Self::default()
        }
    }

    /// The newest checkpoint that was countersigned.
    pub fn seen(&self) -> Option<&SignedCheckpoint> {
        self.seen.as_ref()
    }

    /// The owner shows a checkpoint, as its newest.
    pub fn shown(&mut self, shown: SignedCheckpoint) -> Judgement {
        if self.forked {
            return Judgement::Nothing;
        }
        if let Some(known) = self.contradicts(&shown) {
            return self.equivocation(Fork::SameSize, known, shown);
        }
        if let Some(told) = &self.told {
            if told.checkpoint() != shown.checkpoint() {
                self.shown = Some(shown);
                return Judgement::Nothing;
            }
            // The owner stands by what was told of it.
            self.told = None;
        }
        match &self.seen {
            None => self.countersign(shown),
            Some(seen) if size(&shown) == size(seen) => self.countersign(shown),
            Some(seen) if size(&shown) < size(seen) => {
                let seen = seen.clone();
                self.equivocation(Fork::RolledBack, seen, shown)
            }
            Some(_) => {
                self.shown = Some(shown);
                Judgement::Nothing
            }
        }
    }

    /// The owner proves that its tree of `to` entries continues that of `from`.
    pub fn proved(&mut self, from: u64, to: u64, proof: &[[u8; 32]]) -> Judgement {
        let Some(shown) = self.shown.clone().filter(|shown| size(shown) == to) else {
            return Judgement::Nothing;
        };
        let (told, seen) = (self.told.clone(), self.seen.clone());
        if let Some(told) = told.filter(|told| size(told) == from) {
            if !continues(&told, &shown, proof) {
                return self.equivocation(Fork::NotContinued, told, shown);
            }
            self.told = None;
            // What was told is in the same history as what is shown. Is what was seen?
            return match seen {
                None => self.countersign(shown),
                Some(seen) if size(&seen) == from => self.countersign(shown),
                Some(seen) => self.ask_for(seen, shown),
            };
        }
        match seen {
            // The owner does not know what was seen of its log here.
            Some(seen) if size(&seen) != from => self.ask_for(seen, shown),
            Some(seen) if !continues(&seen, &shown, proof) => {
                self.equivocation(Fork::NotContinued, seen, shown)
            }
            // It continues what was seen; what was told is still to be proved.
            Some(_) if self.told.is_some() => Judgement::Nothing,
            Some(_) => self.countersign(shown),
            None => Judgement::Nothing,
        }
    }

    /// Another says that it was shown this one.
    pub fn told(&mut self, told: SignedCheckpoint) -> Judgement {
        if self.forked {
            return Judgement::Nothing;
        }
        if let Some(known) = self.contradicts(&told) {
            return self.equivocation(Fork::SameSize, known, told);
        }
        let is_known = self.known().any(|known| size(known) == size(&told));
        // One at a time: more only keep the owner busy.
        if is_known || self.told.is_some() {
            return Judgement::Nothing;
        }
        self.told = Some(told.clone());
        Judgement::AskFor(told)
    }

    /// The link to the owner is gone: what it was asked, it will not answer.
    pub fn forget_questions(&mut self) {
        self.shown = None;
        self.told = None;
        self.asked = 0;
    }

    /// All that the owner has signed, as far as it is known here.
    fn known(&self) -> impl Iterator<Item = &SignedCheckpoint> {
        [&self.seen, &self.shown, &self.told].into_iter().flatten()
    }

    /// What is known and of the same length, but with other entries.
    fn contradicts(&self, other: &SignedCheckpoint) -> Option<SignedCheckpoint> {
        let (other, root) = (size(other), other.checkpoint().root);
        let mut known = self.known();
        let known = known.find(|known| size(known) == other && known.checkpoint().root != root);
        known.cloned()
    }

    fn countersign(&mut self, shown: SignedCheckpoint) -> Judgement {
        self.shown = None;
        self.asked = 0;
        self.seen = Some(shown.clone());
        Judgement::Countersign(shown)
    }

    fn ask_for(&mut self, seen: SignedCheckpoint, shown: SignedCheckpoint) -> Judgement {
        if self.asked == MAX_ASKED {
            return self.equivocation(Fork::NotContinued, seen, shown);
        }
        self.asked += 1;
        Judgement::AskFor(seen)
    }

    fn equivocation(
        &mut self,
        fork: Fork,
        seen: SignedCheckpoint,
        shown: SignedCheckpoint,
    ) -> Judgement {
        self.forked = true;
        self.shown = None;
        self.told = None;
        Judgement::Equivocation(Box::new(Equivocation { fork, seen, shown }))
    }
}

fn size(signed: &SignedCheckpoint) -> u64 {
    signed.checkpoint().size
}

fn continues(old: &SignedCheckpoint, new: &SignedCheckpoint, proof: &[[u8; 32]]) -> bool {
    let (old, new): (&Checkpoint, &Checkpoint) = (old.checkpoint(), new.checkpoint());
    verify_consistency(old.size, &old.root, new.size, &new.root, proof).is_ok()
}

/// An owner may show another checkpoint before the question has reached it; not twice, since it
/// waits for an answer, but for its last one.
const MAX_ASKED: u8 = 2;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::KeyPair;
    use crate::witness::tree::leaf_hash;
    use crate::witness::{ProofPath, Tree};

    /// A log that can have several histories: `main` up to an entry, then `fork`.
    fn tree(main: u64, fork: u64) -> Tree {
        let mut tree = Tree::default();
        (0..main).for_each(|n| tree.push(leaf_hash(&n.to_be_bytes())));
        (0..fork).for_each(|n| tree.push(leaf_hash(&[n as u8])));
        tree
    }

    fn signed(tree: &Tree) -> SignedCheckpoint {
        let checkpoint = Checkpoint {
            origin: "ifswarm-log/five-agent/finance".into(),
            size: tree.size(),
            root: tree.root(),
        };
        checkpoint.sign(&KeyPair::from_secret(&[1; 32]))
    }

    fn main(size: u64) -> SignedCheckpoint {
        signed(&tree(size, 0))
    }

    /// As the main history, but for the last `entries`.
    fn fork(size: u64, entries: u64) -> SignedCheckpoint {
        signed(&tree(size - entries, entries))
    }

    fn proof(from: u64, to: u64) -> Vec<[u8; 32]> {
        let mut path = ProofPath::of_tree(&tree(from, 0)).unwrap();
        (from..to).for_each(|n| path.push(leaf_hash(&n.to_be_bytes())));
        path.proof()
    }

    fn is_fork(judgement: &Judgement, expected: Fork) -> bool {
        matches!(judgement, Judgement::Equivocation(found) if found.fork == expected)
    }

    #[test]
    fn what_continues_is_countersigned_and_nothing_before_it_is_proved() {
        let mut history = History::default();
        assert_eq!(history.shown(main(3)), Judgement::Countersign(main(3)));
        assert_eq!(history.shown(main(9)), Judgement::Nothing);
        assert_eq!(history.seen(), Some(&main(3)));
        let judged = history.proved(3, 9, &proof(3, 9));
        assert_eq!(judged, Judgement::Countersign(main(9)));
        // Again, for an owner whom the cosignature did not reach.
        assert_eq!(history.shown(main(9)), Judgement::Countersign(main(9)));
        // A proof of what was not shown.
        assert_eq!(history.proved(9, 12, &proof(9, 12)), Judgement::Nothing);
    }

    #[test]
    fn two_histories_of_one_length_are_told_apart_once() {
        let mut history = History::of(main(7));
        assert!(is_fork(&history.shown(fork(7, 1)), Fork::SameSize));
        for shown in [fork(7, 2), main(7), main(9)] {
            assert_eq!(history.shown(shown), Judgement::Nothing);
        }
        assert_eq!(history.proved(7, 9, &proof(7, 9)), Judgement::Nothing);
        assert_eq!(history.seen(), Some(&main(7)));
    }

    #[test]
    fn a_shorter_history_is_rolled_back() {
        let mut history = History::of(main(7));
        assert!(is_fork(&history.shown(main(6)), Fork::RolledBack));
    }

    #[test]
    fn a_longer_history_that_forked_before_cannot_be_proved() {
        for forged in [proof(7, 12), Vec::new(), vec![[0; 32]; 70]] {
            let mut history = History::of(main(7));
            assert_eq!(history.shown(fork(12, 8)), Judgement::Nothing);
            let judged = history.proved(7, 12, &forged);
            assert!(is_fork(&judged, Fork::NotContinued));
        }
        // One that forked after it is a continuation, as far as anybody can see.
        let mut history = History::of(main(7));
        history.shown(fork(12, 5));
        let mut path = ProofPath::of_tree(&tree(7, 0)).unwrap();
        (0..5u8).for_each(|n| path.push(leaf_hash(&[n])));
        let judged = history.proved(7, 12, &path.proof());
        assert_eq!(judged, Judgement::Countersign(fork(12, 5)));
    }

    #[test]
    fn an_owner_who_does_not_know_what_was_seen_is_told() {
        let mut history = History::of(main(7));
        history.shown(main(12));
        let judged = history.proved(3, 12, &proof(3, 12));
        assert_eq!(judged, Judgement::AskFor(main(7)));
        history.shown(main(12));
        let judged = history.proved(7, 12, &proof(7, 12));
        assert_eq!(judged, Judgement::Countersign(main(12)));
    }

    #[test]
    fn an_owner_who_proves_something_else_again_and_again_is_found_out() {
        let mut history = History::of(main(7));
        for size in [12, 13] {
            history.shown(fork(size, 8));
            let judged = history.proved(0, size, &[]);
            assert_eq!(judged, Judgement::AskFor(main(7)));
        }
        history.shown(fork(14, 8));
        assert!(is_fork(&history.proved(0, 14, &[]), Fork::NotContinued));
    }

    #[test]
    fn what_others_tell_is_compared_or_the_owner_is_asked() {
        let mut history = History::of(main(7));
        assert_eq!(history.told(main(7)), Judgement::Nothing);
        assert_eq!(history.told(main(9)), Judgement::AskFor(main(9)));
        assert_eq!(history.told(main(10)), Judgement::Nothing, "one at a time");
        // Nothing is countersigned before the owner has answered.
        assert_eq!(history.shown(main(12)), Judgement::Nothing);
        assert_eq!(history.proved(7, 12, &proof(7, 12)), Judgement::Nothing);
        let judged = history.proved(9, 12, &proof(9, 12));
        assert_eq!(judged, Judgement::AskFor(main(7)));
        history.shown(main(12));
        let judged = history.proved(7, 12, &proof(7, 12));
        assert_eq!(judged, Judgement::Countersign(main(12)));

        let mut history = History::of(main(7));
        assert!(is_fork(&history.told(fork(7, 2)), Fork::SameSize));
        let mut history = History::of(main(7));
        history.told(fork(9, 5));
        history.shown(main(12));
        let judged = history.proved(9, 12, &proof(9, 12));
        assert!(is_fork(&judged, Fork::NotContinued));
        let mut history = History::of(main(7));
        history.told(fork(9, 5));
        assert!(is_fork(&history.shown(main(9)), Fork::SameSize));
    }

    #[test]
    fn an_owner_that_never_answers_is_believed_again_on_the_next_link() {
        let mut history = History::of(main(7));
        history.told(main(9));
        history.forget_questions();
        history.shown(main(12));
        let judged = history.proved(7, 12, &proof(7, 12));
        assert_eq!(judged, Judgement::Countersign(main(12)));
    }
}
