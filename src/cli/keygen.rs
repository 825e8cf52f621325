//! `ifswarm keygen`: a key pair, the private half in a file that only its owner can read.

use std::path::PathBuf;
use std::process::ExitCode;

use super::Globals;
use super::failure::{impossible, unusable};
use super::output::print;
use crate::identity::{AgentId, KeyFileError, KeyPair, file_name};

/// Make a key pair: the private key in a new file, the public key on standard output
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where the private key goes (PKCS#8 PEM, mode 0600); never overwritten [default: ID.pem, or ifswarm.pem]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Whose key it will be: names the file, and the line for the swarm file
    #[arg(long, value_name = "ID")]
    id: Option<AgentId>,
}

pub(crate) fn run(args: Args, _: &Globals) -> anyhow::Result<ExitCode> {
    let path = args.out.unwrap_or_else(|| default_path(args.id.as_ref()));
    let key = KeyPair::generate().map_err(|err| impossible(anyhow::Error::msg(err.to_string())))?;
    key.create_file(&path).map_err(|err| match err {
        KeyFileError::Io { .. } => impossible(err),
        _ => unusable(err),
    })?;
    let public_key = key.public_key();
    print(&format!("{public_key}\n"))?;
    eprintln!(
        "the private key is in {}; keep it where only its agent can read it",
        path.display()
    );
    if let Some(id) = args.id {
        eprintln!("for the swarm file: - {{ id: \"{id}\", public_key: {public_key} }}");
    }
    Ok(ExitCode::SUCCESS)
}

fn default_path(id: Option<&AgentId>) -> PathBuf {
    let stem = id.map_or_else(|| "ifswarm".into(), |id| file_name(id.as_str()));
    format!("{stem}.pem").into()
}
