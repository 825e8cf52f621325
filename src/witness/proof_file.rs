//! One entry that proves itself: its line, the way from it up to a tree head, and the checkpoint
//! that the log's key signed over that head.
//!
//! ```text
//! {"checkpoint":NOTE,"entry":LINE,"format":"ifswarm-proof/1","index":n,"origin":…,"proof":[base64,…],"public_key":hex64,"size":n}
//! ```
//!
//! The key stands in it so that integrity can be shown to whoever does not know it; that it is
//! the right one only a roster says.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::entry::{Chained, MAX_LINE};
use super::hash_text;
use super::opening::parse_origin;
use super::tree::Tree;
use super::{
    AuditError, BadProof, CheckError, CheckpointError, KeptNote, LogName, LogReader, ProofPath,
    Vouched, kept_notes, leaf_hash, verify_inclusion,
};
use crate::identity::{PublicKey, Roster};
use crate::message::{canonical, one_line, parse_strict};

/// An entry with its proof. Nothing of it is true before [`ProofFile::verify`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProofFile {
    format: String,
    /// The name of the log.
    pub origin: String,
    /// The key of its owner.
    pub public_key: PublicKey,
    /// Which entry, from 0.
    pub index: u64,
    /// Its line, without the newline.
    pub entry: String,
    /// How many entries the checkpoint covers.
    pub size: u64,
    /// The siblings on the way up, from below; in base64 each.
    #[serde(with = "hash_text")]
    pub proof: Vec<[u8; 32]>,
    /// The signed note, with countersignatures if it has any.
    pub checkpoint: String,
}

/// Why an entry cannot be proved.
#[derive(Debug, thiserror::Error)]
pub enum ProveError {
    /// The log is not good as far as it was read, or not the one that was signed.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// A file beside the log could not be read.
    #[error("{path}: {source}", path = .path.display())]
    Io {
        /// The folder of the log.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// No checkpoint on hand covers the entry.
    #[error("no checkpoint covers entry {index}: {}; give the log time for its next one (a second while it is written, or its end)", newest(*.covered))]
    NotCovered {
        /// Which one was asked for.
        index: u64,
        /// How many entries the newest one covers.
        covered: Option<u64>,
    },
}

/// A file that proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadProofFile {
    /// Not JSON, or not of the form.
    #[error("{0}")]
    Form(String),
    /// The log's key has not signed the checkpoint.
    #[error("the checkpoint in it: {0}")]
    Checkpoint(#[from] CheckpointError),
    /// The entry is not in the tree of the checkpoint.
    #[error("{0}: the entry, its number or the proof was changed")]
    Proof(#[from] BadProof),
}

impl BadProofFile {
    /// The name of the reason (`cli.md`, `verify --json`).
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Form(_) => "schema",
            Self::Checkpoint(_) => "bad-checkpoint-signature",
            Self::Proof(_) => "bad-proof",
        }
    }
}

impl ProofFile {
    /// What `format` begins with.
    pub const FORMAT: &str = "ifswarm-proof/";
    /// Bytes of the largest: a line that is escaped once more, a note, and 64 hashes.
    pub const MAX: usize = 2 * MAX_LINE + (256 << 10);

    /// Reads a file; proves nothing.
    ///
    /// # Errors
    /// [`BadProofFile::Form`].
    pub fn parse(bytes: &[u8]) -> Result<Self, BadProofFile> {
        let form = |text: String| BadProofFile::Form(one_line(&text, MAX_DETAIL));
        let value = parse_strict(bytes, Self::MAX).map_err(|err| form(err.to_string()))?;
        let file: Self = serde_json::from_value(value).map_err(|err| form(err.to_string()))?;
        if file.format != format() {
            return Err(form(format!(
                "found the format `{}`, expected `{}`",
                file.format,
                format()
            )));
        }
        Ok(file)
    }

    /// The file: one line of canonical JSON.
    pub fn to_line(&self) -> String {
        let line = String::from_utf8(canonical(self)).expect("JSON is UTF-8");
        line + "\n"
    }

    /// Whether the entry is in the log that `public_key` has signed; who has countersigned it.
    ///
    /// # Errors
    /// [`BadProofFile`].
    pub fn verify(&self, roster: Option<&Roster>) -> Result<Vouched, BadProofFile> {
        let form = |text: &str| BadProofFile::Form(text.into());
        let (swarm, agent_id) = parse_origin(&self.origin)
            .ok_or_else(|| form("`origin` is not `ifswarm-log/SWARM/AGENT`"))?;
        let name = LogName {
            agent_id,
            swarm: &swarm,
            key: self.public_key,
            roster,
        };
        let vouched = name.open(&KeptNote {
            place: "the checkpoint".into(),
            note: self.checkpoint.clone(),
        })?;
        if vouched.size != self.size {
            return Err(form("`size` is not that of the checkpoint"));
        }
        let entry = read_entry(self.entry.as_bytes())
            .map_err(|detail| form(&one_line(&format!("`entry`: {detail}"), MAX_DETAIL)))?;
        if entry.index != self.index || entry.agent_id != agent_id {
            return Err(form("`entry` has another `index` or `agent_id`"));
        }
        let leaf = leaf_hash(self.entry.as_bytes());
        verify_inclusion(&leaf, self.index, self.size, &vouched.root, &self.proof)?;
        Ok(vouched)
    }
}

/// Proves entry `index` of the log in `folder` by the smallest checkpoint on hand that covers it.
/// Reads, and checks, the log as far as that.
///
/// # Errors
/// [`ProveError`].
pub fn prove(folder: &Path, index: u64) -> Result<ProofFile, ProveError> {
    let kept = kept_notes(folder).map_err(|source| ProveError::Io {
        path: folder.into(),
        source,
    })?;
    let mut log = LogReader::open(folder).map_err(AuditError::from)?;
    let name = LogName::of(&log, None);
    // Those that do not verify are of no use here; `verify` is there to tell of them.
    let opened = kept
        .iter()
        .filter_map(|kept| Some((name.open(kept).ok()?, &kept.note)));
    let mut opened: Vec<_> = opened.collect();
    // Of one size, the one with the most signatures.
    opened.sort_by_key(|(vouched, _)| (vouched.size, usize::MAX - vouched.uncounted));
    let covering = opened.iter().find(|(vouched, _)| vouched.size > index);
    let Some((vouched, note)) = covering else {
        let covered = opened.last().map(|(vouched, _)| vouched.size);
        return Err(ProveError::NotCovered { index, covered });
    };
    let (origin, public_key) = (log.origin(), *log.public_key());
    let (path, entry) = path_of(&mut log, index, vouched)?;
    Ok(ProofFile {
        format: format(),
        origin,
        public_key,
        index,
        entry,
        size: vouched.size,
        proof: path.proof(),
        checkpoint: (*note).clone(),
    })
}

/// The way from entry `index` up to the head of `vouched`, and the line of the entry.
fn path_of<R: io::BufRead>(
    log: &mut LogReader<R>,
    index: u64,
    vouched: &Vouched,
) -> Result<(ProofPath, String), AuditError> {
    let mut before = Tree::default();
    let mut found = None;
    while let Some(line) = log.next_entry()? {
        let (number, hash) = (line.index, line.hash);
        match &mut found {
            None if number == index => {
                let text = String::from_utf8_lossy(line.bytes).into_owned();
                found = Some((ProofPath::of_next_leaf(&before), text));
            }
            None => before.push(hash),
            Some((path, _)) => path.push(hash),
        }
        if number + 1 == vouched.size {
            break;
        }
    }
    let (place, size) = (vouched.place.clone(), vouched.size);
    match found {
        Some(found) if log.tree().size() == size => {
            if log.tree().root() != vouched.root {
                let good = 0;
                return Err(AuditError::Mismatch { place, size, good });
            }
            Ok(found)
        }
        _ => Err(AuditError::Truncated {
            place,
            signed: size,
            found: log.tree().size(),
        }),
    }
}

/// An entry by itself: canonical, with all that an entry has.
fn read_entry(line: &[u8]) -> Result<Chained, String> {
    let value = parse_strict(line, MAX_LINE).map_err(|err| err.to_string())?;
    let read = Chained::from_value(value)?;
    let mut canonical = Vec::new();
    let (entry, index) = (&read.entry, read.index);
    entry.write(&read.agent_id, index, &read.prev_hash, &mut canonical);
    if canonical == line {
        Ok(read)
    } else {
        Err("not canonical JSON (RFC 8785)".into())
    }
}

fn newest(covered: Option<u64>) -> String {
    match covered {
        Some(size) => format!("the newest covers the {size} entries before number {size}"),
        None => "the log has none that verifies".into(),
    }
}

fn format() -> String {
    format!("{}1", ProofFile::FORMAT)
}

impl From<CheckError> for ProveError {
    fn from(err: CheckError) -> Self {
        Self::Audit(err.into())
    }
}

/// Characters of an error of the JSON reader, which may quote the file.
const MAX_DETAIL: usize = 300;

#[cfg(test)]
mod tests {
    use std::fs;

    use sha2::{Digest, Sha256};

    use super::super::tests::{message, open};
    use super::super::{COSIGNATURES_FOLDER, Log};
    use super::*;
    use crate::identity::KeyPair;

    fn key(id: &str) -> KeyPair {
        KeyPair::from_secret(&Sha256::digest(format!("ifswarm fixture key: {id}")).into())
    }

    /// The folder of a log of `size` entries with a checkpoint over all but the last.
    fn folder(root: &Path, size: u64) -> PathBuf {
        let mut log: Log = open(root).unwrap();
        for n in log.len()..size - 1 {
            log.append(message(n));
        }
        log.commit().unwrap();
        let secured = log.committed().secure().unwrap();
        secured.checkpoint(&key("finance")).unwrap();
        log.append(message(size));
        log.close().unwrap();
        root.join("five-agent/finance")
    }

    #[test]
    fn every_covered_entry_can_be_proved_and_no_other() {
        for size in 2..20 {
            let dir = tempfile::tempdir().unwrap();
            let folder = folder(dir.path(), size);
            let entries = fs::read_to_string(folder.join("entries.jsonl")).unwrap();
            for (index, line) in (0..size - 1).zip(entries.lines()) {
                let proof = prove(&folder, index).unwrap();
                assert_eq!((proof.index, proof.size), (index, size - 1));
                assert_eq!(proof.entry, line);
                let read = ProofFile::parse(proof.to_line().as_bytes()).unwrap();
                assert_eq!(read, proof);
                assert_eq!(read.verify(None).unwrap().size, size - 1);
            }
            for index in [size - 1, size, u64::MAX] {
                let err = prove(&folder, index).unwrap_err();
                assert!(matches!(err, ProveError::NotCovered { .. }), "{err}");
            }
        }
    }

    #[test]
    fn takes_the_smallest_checkpoint_that_covers_the_entry() {
        let dir = tempfile::tempdir().unwrap();
        let folder = folder(dir.path(), 10);
        let earlier = tempfile::tempdir().unwrap();
        let other = self::folder(earlier.path(), 6);
        fs::create_dir(folder.join(COSIGNATURES_FOLDER)).unwrap();
        fs::copy(other.join("checkpoint"), folder.join("cosignatures/legal")).unwrap();
        assert_eq!(prove(&folder, 4).unwrap().size, 5);
        assert_eq!(prove(&folder, 5).unwrap().size, 9);
        // One that does not verify is of no use.
        fs::write(folder.join("cosignatures/macro"), "x").unwrap();
        assert_eq!(prove(&folder, 4).unwrap().size, 5);
    }

    #[test]
    fn no_byte_of_a_proof_can_be_changed() {
        let dir = tempfile::tempdir().unwrap();
        let proof = prove(&folder(dir.path(), 7), 4).unwrap();
        let file = proof.to_line();
        for at in 0..file.len() - 1 {
            let mut bytes = file.clone().into_bytes();
            bytes[at] ^= 1 << (at % 5);
            let read = ProofFile::parse(&bytes);
            let verified = read.and_then(|proof| proof.verify(None));
            assert!(
                verified.is_err(),
                "byte {at}: {}",
                file[at..].get(..20).unwrap_or("")
            );
        }
    }

    #[test]
    fn a_log_that_was_cut_or_written_anew_proves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let folder = folder(dir.path(), 8);
        let entries = folder.join("entries.jsonl");
        let text = fs::read_to_string(&entries).unwrap();
        let short: Vec<_> = text.split_inclusive('\n').take(5).collect();
        fs::write(&entries, short.concat()).unwrap();
        let reason = |index| match prove(&folder, index) {
            Err(ProveError::Audit(err)) => err.reason(),
            other => panic!("{other:?}"),
        };
        assert_eq!(reason(2), Some("truncated"));
        fs::write(
            &entries,
            text.replacen("\"sequence_num\":6", "\"sequence_num\":7", 1),
        )
        .unwrap();
        assert_eq!(reason(2), Some("checkpoint-mismatch"));
        fs::write(
            &entries,
            text.replacen("\"sequence_num\":2", "\"sequence_num\":7", 1),
        )
        .unwrap();
        assert_eq!(reason(2), Some("chain-broken"));
    }
}
