//! Holding a log against the checkpoints that somebody keeps of it.
//!
//! 1. The entries are read once, in their order; the tree head is noted at the size of every
//!    checkpoint.
//! 2. Each of those heads must be the one that was signed. A log that is shorter than one of them
//!    was cut; one with another head was rewritten.
//! 3. What a peer has countersigned at some size it has seen as a whole: it vouches for every
//!    entry before.

use std::collections::BTreeMap;
use std::io::BufRead;

use super::tree::Hash;
use super::{CheckError, CheckpointError, KeptNote, LogName, LogReader, Report, Tree, Vouched};
use crate::identity::{AgentId, Roster};

/// What was found out about a log and its checkpoints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audit {
    /// What the log says of itself.
    pub report: Report,
    /// How many bytes its entries take.
    pub bytes: u64,
    /// How many entries the newest checkpoint covers; none without a checkpoint.
    pub covered: Option<u64>,
    /// Who has countersigned it, and how many entries they have seen at most.
    pub cosigners: BTreeMap<AgentId, u64>,
    /// Signature lines that count for none: of strangers, or forged.
    pub uncounted: usize,
}

/// What speaks against a log.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The entries themselves, or reading them.
    #[error(transparent)]
    Log(#[from] CheckError),
    /// Entries are missing at the end.
    #[error("found {found} entries, expected {signed} ({place} covers so many): the end was cut off, {} entries are missing", .signed - .found)]
    Truncated {
        /// Where the checkpoint was found.
        place: String,
        /// How many entries it covers.
        signed: u64,
        /// How many there are.
        found: u64,
    },
    /// Entries are others than those that were signed.
    #[error("the first {size} entries are not those that {place} covers: of the entries {good} to {} at least one was changed, added or removed", .size - 1)]
    Mismatch {
        /// Where the checkpoint was found.
        place: String,
        /// How many entries it covers.
        size: u64,
        /// So many entries, fewer than `size`, are those of a smaller checkpoint.
        good: u64,
    },
    /// The log is as one checkpoint says, and its owner has signed another over as many entries.
    #[error(
        "{place} says another tree head over {size} entries than the log has, and what else its owner has signed: there are two histories"
    )]
    TwoHistories {
        /// Where the other one was found.
        place: String,
        /// How many entries both cover.
        size: u64,
    },
    /// A note that is kept with the log is no checkpoint signed by its owner.
    #[error("{place}: {source}")]
    Signature {
        /// Where it was found.
        place: String,
        /// What is wrong with it.
        source: CheckpointError,
    },
    /// The header of an export does not fit what follows it.
    #[error("{0}")]
    Header(String),
    /// Too few known agents have countersigned the log.
    #[error(
        "countersigned by {found} known agents besides its owner, expected at least {expected} (--require-cosigners)"
    )]
    TooFewCosigners {
        /// How many have.
        found: usize,
        /// How many were asked for.
        expected: usize,
    },
}

impl AuditError {
    /// The name of the reason (`cli.md`, `verify --json`); none where the log could not be read.
    pub fn reason(&self) -> Option<&'static str> {
        Some(match self {
            Self::Log(CheckError::Unreadable { .. }) => return None,
            Self::Log(CheckError::Flawed { flaw, .. }) => flaw.reason.as_str(),
            Self::Header(_) => "schema",
            Self::Truncated { .. } => "truncated",
            Self::Mismatch { .. } | Self::TwoHistories { .. } => "checkpoint-mismatch",
            Self::Signature { .. } => "bad-checkpoint-signature",
            Self::TooFewCosigners { .. } => "too-few-cosigners",
        })
    }

    /// The first line that is wrong or may be, from 1; that which is missing of a log that was cut.
    pub fn line(&self) -> Option<u64> {
        match self {
            Self::Log(CheckError::Flawed { flaw, .. }) => Some(flaw.line),
            Self::Truncated { found, .. } => Some(found + 1),
            Self::Mismatch { good, .. } => Some(good + 1),
            _ => None,
        }
    }
}

impl Audit {
    /// Up to which entry at least `count` agents vouch for the log.
    ///
    /// # Errors
    /// [`AuditError::TooFewCosigners`] when fewer have countersigned anything of it.
    pub fn vouched_by(&self, count: usize) -> Result<u64, AuditError> {
        let mut sizes: Vec<_> = self.cosigners.values().copied().collect();
        sizes.sort_unstable_by(|a, b| b.cmp(a));
        // Nobody vouches for nothing.
        let asked = count.max(1);
        sizes
            .get(asked - 1)
            .copied()
            .ok_or(AuditError::TooFewCosigners {
                found: sizes.len(),
                expected: asked,
            })
    }
}

/// Reads `log` to its end and holds it against the notes that are `kept` with it, and against
/// checkpoints of it that `others` hold. Countersignatures count of agents of `roster`.
///
/// # Errors
/// [`AuditError`]: of the entries first, then of the notes, then of the smallest checkpoint that
/// does not hold.
pub fn audit<R: BufRead>(
    mut log: LogReader<R>,
    roster: Option<&Roster>,
    kept: &[KeptNote],
    others: Vec<Vouched>,
) -> Result<Audit, AuditError> {
    let mut vouched = others;
    let mut bad_note = None;
    for kept in kept {
        match LogName::of(&log, roster).open(kept) {
            Ok(checkpoint) => vouched.push(checkpoint),
            Err(source) => {
                bad_note.get_or_insert(AuditError::Signature {
                    place: kept.place.clone(),
                    source,
                });
            }
        }
    }
    vouched.sort_by_key(|checkpoint| checkpoint.size);
    // Over nothing there is a head too.
    let mut heads: Vec<(u64, Hash)> = vec![(0, Tree::default().root())];
    let mut sizes = vouched.iter().map(|checkpoint| checkpoint.size);
    let mut next = sizes.find(|size| *size > 0);
    while let Some(line) = log.next_entry()? {
        let size = line.index + 1;
        if next == Some(size) {
            heads.push((size, log.tree().root()));
            next = sizes.find(|next| *next > size);
        }
    }
    let bytes = log.good_bytes();
    let report = log.finish()?;
    if let Some(err) = bad_note {
        return Err(err);
    }
    hold(&vouched, &heads, report.entries)?;

    let mut cosigners = BTreeMap::new();
    let mut uncounted = 0;
    for checkpoint in &vouched {
        uncounted += checkpoint.uncounted;
        // In the order of their sizes: the last one is the greatest.
        for cosigner in &checkpoint.cosigners {
            cosigners.insert(cosigner.clone(), checkpoint.size);
        }
    }
    Ok(Audit {
        report,
        bytes,
        covered: vouched.last().map(|checkpoint| checkpoint.size),
        cosigners,
        uncounted,
    })
}

/// Whether the heads are those of the checkpoints, which stand in the order of their sizes.
fn hold(vouched: &[Vouched], heads: &[(u64, Hash)], found: u64) -> Result<(), AuditError> {
    let mut good = 0;
    for Vouched {
        place, size, root, ..
    } in vouched
    {
        let (place, size) = (place.clone(), *size);
        match heads.binary_search_by_key(&size, |(size, _)| *size) {
            Ok(at) if heads[at].1 == *root => good = size,
            // Nothing has no entry that could have been changed.
            Ok(_) if good == size => return Err(AuditError::TwoHistories { place, size }),
            Ok(_) => return Err(AuditError::Mismatch { place, size, good }),
            // The newest one tells best how much is missing.
            Err(_) => {
                let last = vouched.last().filter(|last| last.size > size);
                return Err(AuditError::Truncated {
                    place: last.map_or(place, |last| last.place.clone()),
                    signed: last.map_or(size, |last| last.size),
                    found,
                });
            }
        }
    }
    Ok(())
}
