//! `ifswarm signal`: the signaling server.
use super::Globals;
use std::process::ExitCode;

/// Run the signaling server, which introduces agents to each other
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) async fn run(_: Args, _: &Globals) -> anyhow::Result<ExitCode> {
    Ok(ExitCode::SUCCESS)
}
