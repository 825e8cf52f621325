//! The Merkle tree over the entries (RFC 6962, section 2.1), as a compact range.
//!
//! Keeps the roots of the perfect subtrees only, one per bit of the size: 64 hashes at most,
//! however long the log. Proofs are made in `path`.

use sha2::{Digest, Sha256};

/// A SHA-256 hash.
pub(crate) type Hash = [u8; 32];

/// The tree of the leaves pushed so far.
#[derive(Debug, Clone, Default)]
pub struct Tree {
    size: u64,
    /// Roots of the perfect subtrees, the largest first.
    peaks: Vec<Hash>,
}

impl Tree {
    /// Adds a leaf on the right.
    pub fn push(&mut self, leaf: Hash) {
        let mut node = leaf;
        // Each one at the end of the size is a subtree as large as the one just completed.
        for _ in 0..self.size.trailing_ones() {
            let left = self.peaks.pop().expect("one peak per bit of the size");
            node = node_hash(&left, &node);
        }
        self.peaks.push(node);
        self.size += 1;
    }

    /// Becomes as `other`, in the memory that it has.
    pub(crate) fn set(&mut self, other: &Self) {
        self.size = other.size;
        self.peaks.clone_from(&other.peaks);
    }

    /// How many leaves there are.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Roots of the perfect subtrees, the largest first.
    pub fn peaks(&self) -> &[Hash] {
        &self.peaks
    }

    /// The tree head.
    pub fn root(&self) -> Hash {
        let from_the_right = self.peaks.iter().rev().copied();
        from_the_right
            .reduce(|right, left| node_hash(&left, &right))
            .unwrap_or_else(|| Sha256::digest([]).into())
    }
}

/// The hash of one entry: its line without the newline.
pub fn leaf_hash(line: &[u8]) -> Hash {
    let hash = Sha256::new_with_prefix([LEAF]);
    hash.chain_update(line).finalize().into()
}

pub(crate) fn node_hash(left: &Hash, right: &Hash) -> Hash {
    let hash = Sha256::new_with_prefix([NODE]);
    hash.chain_update(left)
        .chain_update(right)
        .finalize()
        .into()
}

/// Tell leaves from nodes, so that no entry can be passed off as a subtree.
const LEAF: u8 = 0;
const NODE: u8 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    /// The test vectors of certificate-transparency: leaves, and the root after each.
    const LEAVES: [&str; 8] = [
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    ];
    const ROOTS: [&str; 8] = [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ];
    const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn has_the_roots_of_the_known_vectors() {
        let mut tree = Tree::default();
        assert_eq!(hex::encode(tree.root()), EMPTY);
        for (leaf, root) in LEAVES.iter().zip(ROOTS) {
            tree.push(leaf_hash(&hex::decode(leaf).unwrap()));
            assert_eq!(
                hex::encode(tree.root()),
                root,
                "after {} leaves",
                tree.size()
            );
        }
    }

    /// RFC 6962, section 2.1, word for word.
    fn root_by_definition(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => Sha256::digest([]).into(),
            [leaf] => *leaf,
            _ => {
                let half = leaves.len().next_power_of_two() / 2;
                let (left, right) = leaves.split_at(half);
                node_hash(&root_by_definition(left), &root_by_definition(right))
            }
        }
    }

    #[test]
    fn agrees_with_the_definition_at_every_size() {
        let leaves: Vec<Hash> = (0..200u8).map(|i| leaf_hash(&[i])).collect();
        let mut tree = Tree::default();
        for (before, leaf) in leaves.iter().enumerate() {
            assert_eq!(tree.root(), root_by_definition(&leaves[..before]));
            tree.push(*leaf);
            assert_eq!(tree.peaks.len(), tree.size().count_ones() as usize);
        }
    }
}
