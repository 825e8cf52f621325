//! Proofs that a log continues what it was, made while it grows.
//!
//! A mark is set where a checkpoint is signed. As the log goes on its marks grow with it, so that
//! the proof towards any later checkpoint is at hand, and nobody has to read the log again. What has
//! no mark, because it is older than this process say, is proved from the file.

use std::collections::BTreeSet;
use std::io::{self, BufRead, Read};

use super::entry::MAX_LINE;
use super::path::ProofPath;
use super::tree::{Hash, Tree, leaf_hash};

/// That a log of `to` entries continues what it was when it had `from`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Continuation {
    /// How many entries it had.
    pub from: u64,
    /// The tree head over these.
    pub root: [u8; 32],
    /// How many it has.
    pub to: u64,
    /// The proof (RFC 6962, section 2.1.2).
    pub proof: Vec<[u8; 32]>,
}

/// The marks of one log.
#[derive(Debug, Clone, Default)]
pub(super) struct Marks(Vec<Mark>);

#[derive(Debug, Clone)]
struct Mark {
    size: u64,
    root: Hash,
    path: ProofPath,
}

impl Mark {
    /// None at an empty log, which everything continues.
    fn at(tree: &Tree) -> Option<Self> {
        Some(Self {
            size: tree.size(),
            root: tree.root(),
            path: ProofPath::of_tree(tree)?,
        })
    }

    fn continuation(&self) -> Continuation {
        Continuation {
            from: self.size,
            root: self.root,
            to: self.path.size(),
            proof: self.continued(),
        }
    }

    /// A log as long as it was continues itself without a proof.
    fn continued(&self) -> Vec<Hash> {
        match self.path.size() == self.size {
            true => Vec::new(),
            false => self.path.proof(),
        }
    }
}

impl Marks {
    /// Marks what the log is now. Where there are too many, the oldest goes.
    pub(super) fn set(&mut self, tree: &Tree) {
        if self.0.iter().any(|mark| mark.size == tree.size()) {
            return;
        }
        if self.0.len() == MAX_MARKS {
            self.0.remove(0);
        }
        self.0.extend(Mark::at(tree));
    }

    /// Keeps those of these sizes.
    pub(super) fn keep(&mut self, sizes: &BTreeSet<u64>) {
        self.0.retain(|mark| sizes.contains(&mark.size));
    }

    /// The log has one entry more.
    pub(super) fn push(&mut self, leaf: Hash) {
        self.0.iter_mut().for_each(|mark| mark.path.push(leaf));
    }

    pub(super) fn continuation(&self, from: u64) -> Option<Continuation> {
        let mark = self.0.iter().find(|mark| mark.size == from)?;
        Some(mark.continuation())
    }
}

/// How the first `to` entries of a log continue what it was at each of `sizes`, from the file. Sizes
/// that are not in it are left out.
pub(super) fn read_continuations(
    mut entries: impl BufRead,
    sizes: &BTreeSet<u64>,
    to: u64,
) -> io::Result<Vec<Continuation>> {
    let mut tree = Tree::default();
    let mut marks = Marks::default();
    let mut line = Vec::new();
    while tree.size() < to {
        line.clear();
        let limit = MAX_LINE as u64 + 1;
        entries.by_ref().take(limit).read_until(b'\n', &mut line)?;
        let Some(entry) = line.strip_suffix(b"\n") else {
            return Err(io::ErrorKind::UnexpectedEof.into());
        };
        let leaf = leaf_hash(entry);
        tree.push(leaf);
        marks.push(leaf);
        if sizes.contains(&tree.size()) {
            marks.set(&tree);
        }
    }
    Ok(marks.0.iter().map(Mark::continuation).collect())
}

/// Checkpoints that some peer has countersigned last. A peer lags behind the others by at most as
/// many as it takes to ask all of them in turn; for more, the file is read.
const MAX_MARKS: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::witness::verify_consistency;

    fn lines(n: u64) -> Vec<u8> {
        (0..n)
            .flat_map(|n| format!("entry {n}\n").into_bytes())
            .collect()
    }

    fn tree(n: u64) -> Tree {
        let mut tree = Tree::default();
        let lines = lines(n);
        let lines = lines.split(|byte| *byte == b'\n').take(n as usize);
        lines.for_each(|line| tree.push(leaf_hash(line)));
        tree
    }

    fn holds(found: &Continuation) {
        let Continuation {
            from,
            root,
            to,
            proof,
        } = found;
        assert_eq!(*root, tree(*from).root());
        let new = tree(*to).root();
        verify_consistency(*from, root, *to, &new, proof).unwrap();
    }

    #[test]
    fn marks_and_the_file_prove_the_same() {
        let sizes = BTreeSet::from([1, 4, 7, 20, 21]);
        let read = read_continuations(&lines(25)[..], &sizes, 20).unwrap();
        let from = |found: &[Continuation]| found.iter().map(|c| c.from).collect::<Vec<_>>();
        assert_eq!(from(&read), [1, 4, 7, 20]);
        read.iter().for_each(holds);

        let mut marks = Marks::default();
        let mut growing = Tree::default();
        marks.set(&growing);
        for n in 0..20 {
            let leaf = leaf_hash(format!("entry {n}").as_bytes());
            growing.push(leaf);
            marks.push(leaf);
            if sizes.contains(&growing.size()) {
                marks.set(&growing);
            }
        }
        for found in read {
            assert_eq!(marks.continuation(found.from), Some(found));
        }
        assert_eq!(marks.continuation(0), None);
        marks.keep(&BTreeSet::from([7]));
        assert_eq!(marks.continuation(4), None);
        assert!(marks.continuation(7).is_some());
    }

    #[test]
    fn a_file_that_is_shorter_than_the_log_proves_nothing() {
        let sizes = BTreeSet::from([2]);
        assert!(read_continuations(&lines(5)[..], &sizes, 6).is_err());
        let torn = &lines(5)[..lines(5).len() - 1];
        assert!(read_continuations(torn, &sizes, 5).is_err());
    }

    #[test]
    fn of_too_many_marks_the_oldest_goes() {
        let mut marks = Marks::default();
        for n in 1..=MAX_MARKS as u64 + 1 {
            let mut tree = Tree::default();
            (0..n).for_each(|_| tree.push([0; 32]));
            marks.set(&tree);
        }
        assert!(marks.continuation(1).is_none());
        assert!(marks.continuation(2).is_some());
    }
}
