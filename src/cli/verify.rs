//! `ifswarm verify`: offline, whatever of ours a file holds.
//!
//! | file | does |
//! |---|---|
//! | `verify_input` | finds what there is to judge |
//! | `verify_judge`, `verify_note`, `verify_log` | judge one text, one note, one log |
//! | `verify_batch` | many texts on all cores |
//! | `verify_item` | tells what was found out |

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::anyhow;

use super::Globals;
use super::failure::unusable;
use super::roster::known_keys;
use super::verify_input::{Input, inputs_of, verify_input};
use super::verify_item::Tally;
use super::verify_log::evidence_of;
use crate::identity::{AgentId, PublicKey, Roster, SwarmName};
use crate::message::Keys;
use crate::swarm::Swarm;

/// Check messages, offers and answers, witness logs and swarm files, offline
///
/// Recognises IFMessages (JSON, or one per line), signed offers and answers, other signaling and
/// control frames, witness folders and logs (entries.jsonl) with their checkpoints, checkpoints,
/// proofs and exports by themselves, and swarm files (.yaml). Without --swarm or --key only
/// integrity is proved: that nothing was changed since somebody signed it, not who that was.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What to check: files, witness folders, or `-` for standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The swarm file whose agents and keys must have signed
    #[arg(long, value_name = "FILE")]
    swarm: Option<PathBuf>,
    /// The public key that must have signed, 64 hex digits
    #[arg(long, value_name = "HEX")]
    key: Option<PublicKey>,
    /// Fail whatever is not proved to be from a known key
    #[arg(long)]
    require_identity: bool,
    /// Fail logs of which so many agents of --swarm, the owner apart, have not countersigned anything
    #[arg(long, value_name = "K", requires = "swarm", value_parser = cosigners)]
    require_cosigners: Option<usize>,
    /// Print one JSON object instead of a line for each
    #[arg(long)]
    json: bool,
}

/// Who is believed.
#[derive(Debug, Default)]
pub(super) struct Trust {
    /// The swarm of `--swarm` and its keys.
    pub(super) swarm: Option<(SwarmName, Roster)>,
    /// `--key`
    pub(super) key: Option<PublicKey>,
    /// `--require-identity`
    pub(super) require_identity: bool,
    /// `--require-cosigners`
    pub(super) require_cosigners: Option<usize>,
}

pub(crate) fn run(args: Args, globals: &Globals) -> anyhow::Result<ExitCode> {
    let trust = Trust {
        swarm: args.swarm.as_deref().map(read_roster).transpose()?,
        key: args.key,
        require_identity: args.require_identity,
        require_cosigners: args.require_cosigners,
    };
    verify(&args.files, &trust, Tally::new(args.json, globals.color()))
}

/// Judges everything in `files`.
pub(super) fn verify(
    files: &[PathBuf],
    trust: &Trust,
    mut tally: Tally,
) -> anyhow::Result<ExitCode> {
    let inputs: Vec<_> = files.iter().flat_map(|file| inputs_of(file)).collect();
    let logs: Vec<_> = inputs.iter().filter_map(Input::log).collect();
    let evidence = evidence_of(&logs, trust);
    for input in &inputs {
        verify_input(input, &evidence, trust, &mut tally)?;
    }
    tally.finish()
}

/// Reads the number of `--require-cosigners`.
pub(super) fn cosigners(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(n @ 1..=MAX_COSIGNERS) => Ok(n),
        _ => Err(format!("expected a number from 1 to {MAX_COSIGNERS}")),
    }
}

/// Who is known by a swarm file.
pub(super) fn read_roster(path: &Path) -> anyhow::Result<(SwarmName, Roster)> {
    let swarm = Swarm::read(path).map_err(unusable)?;
    let known = known_keys(&swarm)?;
    if known.roster.is_empty() {
        return Err(unusable(anyhow!(
            "{}: no agent has a `public_key`, so that nobody can be recognised: add the keys, or leave --swarm out to check integrity only",
            path.display()
        )));
    }
    Ok((swarm.name, known.roster))
}

impl Keys for Trust {
    fn key_of(&self, id: &AgentId) -> Option<PublicKey> {
        Self::key_of(self, id)
    }

    fn is_revoked(&self, key: &PublicKey) -> bool {
        let roster = self.swarm.as_ref().map(|(_, roster)| roster);
        roster.is_some_and(|roster| roster.is_revoked(key))
    }
}

impl Trust {
    /// Whether signatures are held against known keys.
    pub(super) fn pins(&self) -> bool {
        self.swarm.is_some() || self.key.is_some()
    }

    /// The key that `id` must have signed with. Given both, it is the roster's, and
    /// [`Trust::other_than_key`] adds the rest.
    pub(super) fn key_of(&self, id: &AgentId) -> Option<PublicKey> {
        match &self.swarm {
            Some((_, roster)) => roster.key_of(id).copied(),
            None => self.key,
        }
    }

    /// Says so if `found` is not the key of `--key`, or is revoked.
    pub(super) fn other_than_key(&self, found: &PublicKey) -> Option<String> {
        if self.is_revoked(found) {
            return Some(format!("found the key {found}, which is revoked"));
        }
        let expected = self.key.filter(|key| key != found)?;
        Some(format!(
            "found the key {found}, expected {expected} (--key)"
        ))
    }
}

/// A swarm has at most 1000 agents, one of which is the owner.
const MAX_COSIGNERS: usize = 999;
