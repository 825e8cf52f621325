//! `ifswarm witness`: what is done with one log: follow, check, prove, export.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::anyhow;

use super::Globals;
use super::failure::{Failure, impossible, unusable};
use super::output::print;
use super::verify::{Trust, cosigners, read_roster, verify};
use super::verify_input::{Input, inputs_of};
use super::verify_item::Tally;
use super::{witness_export, witness_tail};
use crate::witness::{AuditError, CheckError, ProveError, prove};

/// Follow, check, prove or export a witness log
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    Export(witness_export::Args),
    Prove(ProveArgs),
    Tail(witness_tail::Args),
    Verify(VerifyArgs),
}

/// Check a log, or all logs of a folder, with their checkpoints and countersignatures
#[derive(Debug, clap::Args)]
struct VerifyArgs {
    /// The folder of a log (DIR/SWARM/AGENT), or one above
    dir: PathBuf,
    /// The swarm file whose agents and keys must have signed
    #[arg(long, value_name = "FILE")]
    swarm: Option<PathBuf>,
    /// Fail logs of which so many agents of --swarm, the owner apart, have not countersigned anything
    #[arg(long, value_name = "K", requires = "swarm", value_parser = cosigners)]
    require_cosigners: Option<usize>,
    /// Print one JSON object instead of a line for each
    #[arg(long)]
    json: bool,
}

/// Print one entry with a proof that it is in the log, which `verify` checks anywhere
///
/// By the smallest checkpoint on hand that covers it, countersigned or not.
#[derive(Debug, clap::Args)]
struct ProveArgs {
    /// Which entry, from 0: its `index`
    #[arg(value_name = "N")]
    index: u64,
    /// The folder of the log
    dir: PathBuf,
}

pub(crate) fn run(args: Args, globals: &Globals) -> anyhow::Result<ExitCode> {
    match args.what {
        What::Export(args) => witness_export::run(&args),
        What::Prove(args) => run_prove(&args),
        What::Tail(args) => super::block_on(witness_tail::run(args)),
        What::Verify(args) => {
            let trust = Trust {
                swarm: args.swarm.as_deref().map(read_roster).transpose()?,
                require_cosigners: args.require_cosigners,
                ..Trust::default()
            };
            verify(&[args.dir], &trust, Tally::new(args.json, globals.color()))
        }
    }
}

fn run_prove(args: &ProveArgs) -> anyhow::Result<ExitCode> {
    let folder = log_folder(&args.dir)?;
    let proof = prove(&folder, args.index).map_err(|err| match err {
        ProveError::Audit(err) => flawed(&folder, err),
        err @ ProveError::Io { .. } => unusable(err),
        err @ ProveError::NotCovered { .. } => {
            impossible(anyhow!(err).context(folder.display().to_string()))
        }
    })?;
    print(&proof.to_line())?;
    Ok(ExitCode::SUCCESS)
}

/// A log that is not good: the answer is no. One that cannot be read is unusable.
pub(super) fn flawed(folder: &Path, err: AuditError) -> anyhow::Error {
    match err {
        AuditError::Log(err @ CheckError::Unreadable { .. }) => unusable(err),
        AuditError::Log(err) => Failure::No.of(err),
        err => {
            let reason = err.reason().unwrap_or_default();
            Failure::No.of(anyhow!("{}: {reason}: {err}", folder.display()))
        }
    }
}

/// The folder of the one log that `path` names.
pub(super) fn log_folder(path: &Path) -> anyhow::Result<PathBuf> {
    let mut logs = Vec::new();
    for input in inputs_of(path) {
        match input {
            Input::Log(entries) => logs.push(entries),
            Input::Unreadable(_, why) => return Err(unusable(anyhow!(why))),
            Input::Swarm(path) | Input::Text(path) => {
                let path = path.display();
                let why = "expected the folder of a log, such as DIR/SWARM/AGENT";
                return Err(unusable(anyhow!("{path}: found no folder, {why}")));
            }
        }
    }
    let folder = |entries: &PathBuf| {
        let folder = entries
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty());
        folder.unwrap_or(Path::new(".")).to_owned()
    };
    match logs.as_slice() {
        [entries] => Ok(folder(entries)),
        logs => {
            let shown = logs.iter().take(SHOWN);
            let shown: Vec<_> = shown.map(|log| folder(log).display().to_string()).collect();
            Err(unusable(anyhow!(
                "{}: found {} logs, expected one: name its folder, such as {}",
                path.display(),
                logs.len(),
                shown.join(", ")
            )))
        }
    }
}

/// So many folders are named to choose from.
const SHOWN: usize = 5;
