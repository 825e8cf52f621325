//! `ifswarm verify`.
use super::Globals;
use std::process::ExitCode;

/// Check messages, offers and answers, witness logs and swarm files, offline
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(_: Args, _: &Globals) -> anyhow::Result<ExitCode> {
    Ok(ExitCode::SUCCESS)
}
