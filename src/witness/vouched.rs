//! Checkpoints that somebody keeps of a log, and who is known to have countersigned them.

use std::fs;
use std::io::{self, Read};
use std::path::Path;

use super::note::MAX_NOTE;
use super::opening::{origin, owner_of};
use super::{CHECKPOINT_FILE, COSIGNATURES_FOLDER, CheckpointError, LogReader, SignedCheckpoint};
use crate::identity::{AgentId, PublicKey, Roster, SwarmName};
use crate::message::one_line;

/// A note that is kept with a log; nothing of it is verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptNote {
    /// Where it was found, in words: `cosignatures/legal`.
    pub place: String,
    /// The note.
    pub note: String,
}

/// A checkpoint whose log's signature was verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vouched {
    /// Where it was found, in words.
    pub place: String,
    /// How many entries it covers.
    pub size: u64,
    /// The tree head over them.
    pub root: [u8; 32],
    /// Agents of the roster, the owner apart, whose countersignature was verified.
    pub cosigners: Vec<AgentId>,
    /// Signature lines besides that count for none: of strangers, or forged.
    pub uncounted: usize,
}

/// Whose checkpoints are read, and who is known.
#[derive(Debug, Clone)]
pub struct LogName<'a> {
    /// Whose log it is: an agent id, or `@signal`.
    pub agent_id: &'a str,
    /// The swarm it belongs to.
    pub swarm: &'a SwarmName,
    /// The key of its owner.
    pub key: PublicKey,
    /// Who may countersign; without one nobody is known.
    pub roster: Option<&'a Roster>,
}

impl<'a> LogName<'a> {
    /// As the log says itself.
    pub fn of<R: io::BufRead>(log: &'a LogReader<R>, roster: Option<&'a Roster>) -> Self {
        Self {
            agent_id: log.agent_id(),
            swarm: log.swarm(),
            key: *log.public_key(),
            roster,
        }
    }

    /// The name in checkpoints.
    pub fn origin(&self) -> String {
        origin(self.swarm, self.agent_id)
    }

    /// Verifies a note that is to be a checkpoint of this log.
    ///
    /// # Errors
    /// [`CheckpointError`]: only the log's own signature decides. Countersignatures that do not
    /// verify count for none, and anybody can add them.
    pub fn open(&self, kept: &KeptNote) -> Result<Vouched, CheckpointError> {
        let signed = SignedCheckpoint::open(&kept.note, &self.origin(), &self.key)?;
        let own = signed.bare(&self.key).note().signatures().len();
        let cosigners = self.cosigners(&signed);
        let lines = signed.note().signatures().len();
        let checkpoint = signed.checkpoint();
        Ok(Vouched {
            place: kept.place.clone(),
            size: checkpoint.size,
            root: checkpoint.root,
            uncounted: lines.saturating_sub(own + cosigners.len()),
            cosigners,
        })
    }

    fn cosigners(&self, signed: &SignedCheckpoint) -> Vec<AgentId> {
        let Some(roster) = self.roster else {
            return Vec::new();
        };
        let names = signed.note().signatures().iter().map(|line| line.name());
        let ids = names.filter_map(|name| owner_of(self.swarm, name));
        let mut cosigners: Vec<_> = ids
            .filter(|id| {
                // What the owner says of its own log is worth no more than its own signature.
                let key = roster.key_of(id).filter(|key| **key != self.key);
                let name = origin(self.swarm, id.as_str());
                key.is_some_and(|key| signed.cosigned_by(&name, key).is_ok())
                    && id.as_str() != self.agent_id
            })
            .collect();
        cosigners.sort();
        cosigners.dedup();
        cosigners
    }
}

/// The notes in the folder of a log: its newest checkpoint, and what peers have countersigned.
///
/// # Errors
/// What the operating system said; more cosignatures than there can be agents.
pub fn kept_notes(folder: &Path) -> io::Result<Vec<KeptNote>> {
    let mut notes = Vec::new();
    notes.extend(read_note(&folder.join(CHECKPOINT_FILE), CHECKPOINT_FILE)?);
    let cosignatures = match fs::read_dir(folder.join(COSIGNATURES_FOLDER)) {
        Ok(files) => files,
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(notes),
        Err(err) => return Err(err),
    };
    let mut files = cosignatures
        .map(|file| file.map(|file| file.path()))
        .take(MAX_COSIGNATURES + 1)
        .collect::<io::Result<Vec<_>>>()?;
    if files.len() > MAX_COSIGNATURES {
        return Err(io::Error::other(format!(
            "more than {MAX_COSIGNATURES} files in `{COSIGNATURES_FOLDER}`, one per peer expected"
        )));
    }
    files.sort();
    for file in files {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let place = format!("{COSIGNATURES_FOLDER}/{}", one_line(&name, MAX_NAME));
        notes.extend(read_note(&file, &place)?);
    }
    Ok(notes)
}

/// A note; none if there is no file.
fn read_note(path: &Path, place: &str) -> io::Result<Option<KeptNote>> {
    let file = match fs::File::open(path) {
        Ok(file) => file,
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(err) => return Err(err),
    };
    let mut bytes = Vec::new();
    // One byte more than a note: the proof that it is too long.
    file.take(MAX_NOTE as u64 + 1).read_to_end(&mut bytes)?;
    Ok(Some(KeptNote {
        place: place.into(),
        // What is not UTF-8 becomes other text, which no signature is over.
        note: String::from_utf8_lossy(&bytes).into_owned(),
    }))
}

/// A swarm has at most 1000 agents.
const MAX_COSIGNATURES: usize = 1000;
/// As long as file names can be.
const MAX_NAME: usize = 255;
