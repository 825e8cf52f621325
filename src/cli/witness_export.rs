//! `ifswarm witness export`: a log in one file that can be checked elsewhere.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::anyhow;

use super::failure::{Failure, impossible, unusable};
use super::verify::{Trust, read_roster};
use super::witness::{flawed, log_folder};
use crate::witness::{Audit, ExportError, LogReader, export};

/// Write a log, its checkpoints and the roster as one file that `verify` checks anywhere
///
/// The log is checked first; one that is not good is not exported. Digests, and whole offers and
/// answers with their addresses, are in it as they are in the log.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The folder of the log
    dir: PathBuf,
    /// The swarm file whose roster goes with it; the log's key must be as it says
    #[arg(long, value_name = "FILE")]
    swarm: Option<PathBuf>,
    /// The file to write, replaced in one step (default: standard output)
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let folder = log_folder(&args.dir)?;
    let trust = Trust {
        swarm: args.swarm.as_deref().map(read_roster).transpose()?,
        ..Trust::default()
    };
    must_be_known(&folder, &trust)?;
    match &args.out {
        None => match write(&folder, &trust, &mut io::stdout().lock()) {
            // A reader that goes away is no error.
            Err(ExportError::Io { source, .. }) if source.kind() == io::ErrorKind::BrokenPipe => {}
            written => drop(written.map_err(|err| failed(&folder, err))?),
        },
        Some(out) => {
            let audit = write_file(&folder, &trust, out)?;
            let (report, out) = (audit.report, out.display());
            eprintln!("{out}: {} entries of {}", report.entries, report.agent_id);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Refuses a roster that is of another swarm, or knows the owner under another key.
fn must_be_known(folder: &Path, trust: &Trust) -> anyhow::Result<()> {
    let log = LogReader::open(folder).map_err(|err| flawed(folder, err.into()))?;
    let known = trust.knows_log(log.agent_id(), log.swarm(), log.public_key());
    known.map(drop).map_err(|(reason, detail)| {
        Failure::No.of(anyhow!("{}: {reason}: {detail}", folder.display()))
    })
}

fn write(folder: &Path, trust: &Trust, out: &mut impl Write) -> Result<Audit, ExportError> {
    let roster = trust.swarm.as_ref().map(|(_, roster)| roster);
    export(folder, roster, &mut BufWriter::new(out))
}

/// Writes beside `target`, and puts it in its place once it is whole.
fn write_file(folder: &Path, trust: &Trust, target: &Path) -> anyhow::Result<Audit> {
    let Some(name) = target.file_name() else {
        let target = target.display();
        return Err(unusable(anyhow!(
            "--out {target}: expected the name of a file"
        )));
    };
    let mut new = name.to_owned();
    new.push(format!(".{}.new", std::process::id()));
    let new = target.with_file_name(new);
    let told = |err: io::Error| {
        let target = target.display().to_string();
        impossible(anyhow!(err).context(target))
    };
    let mut file = create(&new).map_err(told)?;
    let written = write(folder, trust, &mut file)
        .map_err(|err| failed(folder, err))
        .and_then(|audit| {
            let placed = file.sync_all().and_then(|()| fs::rename(&new, target));
            placed.map(|()| audit).map_err(told)
        });
    if written.is_err() {
        // A part of it is of no use to anybody.
        let _ = fs::remove_file(&new);
    }
    written
}

/// As private as the log.
fn create(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600).open(path)
}

fn failed(folder: &Path, err: ExportError) -> anyhow::Error {
    match err {
        ExportError::Audit(err) => flawed(folder, err),
        // A log that was cut since it was checked.
        err => impossible(err),
    }
}
