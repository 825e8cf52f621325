//! Inclusion and consistency proofs (RFC 6962, sections 2.1.1 to 2.1.4), made while the log goes by.
//!
//! Both are the siblings on the way from one node up to the tree head. Those on the left are known
//! when the node is; those on the right come with the leaves that follow. A [`Path`] that is fed
//! these needs 130 hashes at most, however long the log, and no way back into it.

use super::tree::{Hash, Tree, node_hash};

/// The way from a perfect subtree up to the tree head, while the tree grows.
#[derive(Debug, Clone)]
pub(crate) struct Path {
    /// Height of the subtree, and its number among those of that height.
    level: u32,
    index: u64,
    /// Where the subtree is the smallest part of an earlier tree: its hash, for the verifier.
    seed: Option<Hash>,
    /// Siblings that are whole, from below; those on the left are all there from the beginning.
    left: Vec<Hash>,
    right: Vec<Hash>,
    /// The sibling that grows.
    growing: Tree,
    /// Leaves so far.
    size: u64,
}

/// The proof does not show what it is said to show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the proof does not fit")]
pub struct BadProof;

impl Path {
    /// To prove that `tree` was the beginning of a longer one. Not of an empty tree: that needs
    /// no proof.
    pub(crate) fn of_tree(tree: &Tree) -> Option<Self> {
        let (&subtree, rest) = tree.peaks().split_last()?;
        let level = tree.size().trailing_zeros();
        Some(Self {
            level,
            index: (tree.size() >> level) - 1,
            // A whole tree is the verifier's old root itself.
            seed: (!rest.is_empty()).then_some(subtree),
            left: rest.iter().rev().copied().collect(),
            right: Vec::new(),
            growing: Tree::default(),
            size: tree.size(),
        })
    }

    /// To prove that the leaf which comes next after `before` is in the tree.
    pub(crate) fn of_next_leaf(before: &Tree) -> Self {
        Self {
            level: 0,
            index: before.size(),
            seed: None,
            left: before.peaks().iter().rev().copied().collect(),
            right: Vec::new(),
            growing: Tree::default(),
            size: before.size() + 1,
        }
    }

    /// The next leaf after the tree or leaf that it began with.
    pub(crate) fn push(&mut self, leaf: Hash) {
        self.growing.push(leaf);
        self.size += 1;
        // A sibling on the right is whole when it is as large as the node on its left; the nodes
        // on the way that have one are those with an even number.
        if self.growing.size() == 1 << self.level_of_right(self.right.len()) {
            self.right.push(self.growing.root());
            self.growing = Tree::default();
        }
    }

    /// How many leaves the tree has.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// The proof towards the tree as it is now.
    pub(crate) fn proof(&self) -> Vec<Hash> {
        let mut proof = Vec::from_iter(self.seed);
        let (mut left, mut right) = (self.left.iter(), self.right.iter());
        let growing = (self.growing.size() > 0).then(|| self.growing.root());
        let mut growing = growing.iter();
        for level in self.level..u64::BITS {
            let sibling = if self.is_right(level) {
                left.next()
            } else {
                right.next().or_else(|| growing.next())
            };
            proof.extend(sibling);
        }
        proof
    }

    /// Whether the node of that height on the way is a right child.
    fn is_right(&self, level: u32) -> bool {
        (self.index >> (level - self.level)) & 1 == 1
    }

    /// The height of the n-th sibling on the right.
    fn level_of_right(&self, n: usize) -> u32 {
        (self.level..u64::BITS)
            .filter(|level| !self.is_right(*level))
            .nth(n)
            .expect("a log of 2^64 entries does not end")
    }
}

/// Whether a leaf is number `index` (from 0) of a tree of `size` leaves with this root.
///
/// # Errors
/// [`BadProof`].
pub fn verify_inclusion(
    leaf: &[u8; 32],
    index: u64,
    size: u64,
    root: &[u8; 32],
    proof: &[[u8; 32]],
) -> Result<(), BadProof> {
    if index >= size {
        return Err(BadProof);
    }
    let (node, _) = climb(index, size - 1, (*leaf, *leaf), proof)?;
    if node == *root { Ok(()) } else { Err(BadProof) }
}

/// Whether a tree of `new_size` leaves with `new_root` continues one of `old_size` with `old_root`.
///
/// # Errors
/// [`BadProof`].
pub fn verify_consistency(
    old_size: u64,
    old_root: &[u8; 32],
    new_size: u64,
    new_root: &[u8; 32],
    proof: &[[u8; 32]],
) -> Result<(), BadProof> {
    let fits = match (old_size, proof) {
        (old, _) if old > new_size => false,
        (old, []) if old == new_size => old_root == new_root,
        (old, _) if old == new_size => false,
        // Everything continues nothing.
        (0, proof) => proof.is_empty(),
        (_, []) => false,
        (_, [first, rest @ ..]) => {
            let level = old_size.trailing_zeros();
            let index = (old_size >> level) - 1;
            let (seed, proof) = if old_size.is_power_of_two() {
                (old_root, proof)
            } else {
                (first, rest)
            };
            let last = (new_size - 1) >> level;
            let (new, old) = climb(index, last, (*seed, *seed), proof)?;
            new == *new_root && old == *old_root
        }
    };
    if fits { Ok(()) } else { Err(BadProof) }
}

/// Climbs from node `index` of a row whose last is `last` to the top (RFC 9162, sections 2.1.3.2
/// and 2.1.4.2): with all siblings, and with those on the left alone.
fn climb(
    mut index: u64,
    mut last: u64,
    (mut all, mut left): (Hash, Hash),
    proof: &[Hash],
) -> Result<(Hash, Hash), BadProof> {
    for sibling in proof {
        if last == 0 {
            return Err(BadProof);
        }
        if index & 1 == 1 || index == last {
            all = node_hash(sibling, &all);
            left = node_hash(sibling, &left);
            // The last of a row has no sibling on some heights.
            let skipped = if index & 1 == 0 {
                index.trailing_zeros()
            } else {
                0
            };
            index >>= skipped;
            last >>= skipped;
        } else {
            all = node_hash(&all, sibling);
        }
        index >>= 1;
        last >>= 1;
    }
    if last == 0 {
        Ok((all, left))
    } else {
        Err(BadProof)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tree::leaf_hash;
    use super::*;

    const MOST: u64 = 70;

    fn leaf(n: u64) -> Hash {
        leaf_hash(&n.to_be_bytes())
    }

    fn trees() -> Vec<Tree> {
        let mut tree = Tree::default();
        let mut trees = vec![tree.clone()];
        for n in 0..MOST {
            tree.push(leaf(n));
            trees.push(tree.clone());
        }
        trees
    }

    #[test]
    fn every_tree_continues_every_shorter_one_and_proves_it() {
        let trees = trees();
        for old in 1..=MOST {
            let old_root = trees[old as usize].root();
            let mut path = Path::of_tree(&trees[old as usize]).unwrap();
            for new in old..=MOST {
                let root = trees[new as usize].root();
                let proof = path.proof();
                let verify = |old, new, proof: &[Hash]| {
                    verify_consistency(old, &old_root, new, &root, proof)
                };
                let proof = if new == old { Vec::new() } else { proof };
                assert_eq!(verify(old, new, &proof), Ok(()), "{old} to {new}");
                // No changed, missing or added hash.
                for at in 0..proof.len() {
                    let mut changed = proof.clone();
                    changed[at][0] ^= 1;
                    assert!(verify(old, new, &changed).is_err());
                    changed.remove(at);
                    assert!(verify(old, new, &changed).is_err());
                }
                let more = [&proof[..], &[[0; 32]]].concat();
                assert!(verify(old, new, &more).is_err());
                path.push(leaf(new));
            }
        }
    }

    #[test]
    fn every_leaf_is_in_every_tree_after_it_and_proves_it() {
        let trees = trees();
        for index in 0..MOST {
            let mut path = Path::of_next_leaf(&trees[index as usize]);
            for size in index + 1..=MOST {
                let root = trees[size as usize].root();
                let proof = path.proof();
                assert_eq!(path.size(), size);
                let verify =
                    |leaf: Hash, index| verify_inclusion(&leaf, index, size, &root, &proof);
                assert_eq!(verify(leaf(index), index), Ok(()), "{index} in {size}");
                assert!(verify(leaf(index + 1), index).is_err());
                assert!(verify(leaf(index), index + 1).is_err() || size == 1);
                path.push(leaf(size));
            }
        }
    }

    #[test]
    fn nothing_is_continued_by_everything_and_an_empty_tree_has_no_path() {
        let trees = trees();
        assert!(Path::of_tree(&trees[0]).is_none());
        let (none, some) = (trees[0].root(), trees[5].root());
        assert_eq!(verify_consistency(0, &none, 5, &some, &[]), Ok(()));
        assert_eq!(verify_consistency(5, &some, 0, &none, &[]), Err(BadProof));
        assert_eq!(verify_consistency(5, &some, 5, &none, &[]), Err(BadProof));
        assert_eq!(verify_inclusion(&leaf(0), 0, 0, &none, &[]), Err(BadProof));
    }

    /// The proofs of RFC 6962, section 2.1.3, over its tree of seven leaves.
    #[test]
    fn has_the_shape_of_the_examples_of_rfc_6962() {
        let trees = trees();
        let of = |range: std::ops::Range<u64>| {
            let mut tree = Tree::default();
            range.for_each(|n| tree.push(leaf(n)));
            tree.root()
        };
        let grown = |mut path: Path| {
            (path.size()..7).for_each(|n| path.push(leaf(n)));
            path.proof()
        };
        let inclusion = |n: usize| grown(Path::of_next_leaf(&trees[n]));
        assert_eq!(inclusion(0), [leaf(1), of(2..4), of(4..7)]);
        assert_eq!(inclusion(3), [leaf(2), of(0..2), of(4..7)]);
        assert_eq!(inclusion(4), [leaf(5), leaf(6), of(0..4)]);
        assert_eq!(inclusion(6), [of(4..6), of(0..4)]);
        let consistency = |n: usize| grown(Path::of_tree(&trees[n]).unwrap());
        assert_eq!(consistency(3), [leaf(2), leaf(3), of(0..2), of(4..7)]);
        assert_eq!(consistency(4), [of(4..7)]);
        assert_eq!(consistency(6), [of(4..6), leaf(6), of(0..4)]);
    }
}
