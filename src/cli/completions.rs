//! `ifswarm completions SHELL`: what a shell needs to complete commands and flags.

use std::process::ExitCode;

use clap::CommandFactory;
use clap_complete::Shell;

use super::output::print;
use super::{Cli, Globals};

/// Print what a shell needs to complete commands and flags
///
/// For example: ifswarm completions bash > ~/.local/share/bash-completion/completions/ifswarm
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The shell
    shell: Shell,
}

pub(crate) fn run(args: Args, _: &Globals) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "ifswarm", &mut script);
    print(&String::from_utf8_lossy(&script))?;
    Ok(ExitCode::SUCCESS)
}
