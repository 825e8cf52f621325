//! `ifswarm schema NAME`: the JSON Schemas of what is written and sent.

use std::process::ExitCode;

use clap::ValueEnum;

use super::Globals;
use super::output::print;
use crate::{message, signal, swarm};

/// Print a JSON Schema (draft 2020-12)
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Of what
    #[arg(value_enum)]
    name: Name,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Name {
    /// A signed message, IFMessage v2.1
    Ifmessage,
    /// The signaling frames
    Frames,
    /// The swarm file
    Swarm,
}

pub(crate) fn run(args: Args, _: &Globals) -> anyhow::Result<ExitCode> {
    let schema = match args.name {
        Name::Ifmessage => message::schema(),
        Name::Frames => signal::schema(),
        Name::Swarm => swarm::schema(),
    };
    print(&format!("{}\n", schema.trim_end()))?;
    Ok(ExitCode::SUCCESS)
}
