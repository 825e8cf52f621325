//! The command line (`cli.md`): one file per verb, each `Args` and `run`; wiring and printing only.
//!
//! Results go to standard output, everything else to standard error. What a verb cannot do is a
//! `Failure`, which decides the exit code.

mod agent;
mod agent_attached;
mod agent_chaos;
mod agent_drafts;
mod agent_exec;
mod agent_files;
mod agent_ledger;
mod agent_lines;
mod agent_mcp;
mod agent_mcp_inbox;
mod agent_mcp_store;
mod agent_mcp_tools;
mod agent_pipes;
mod agent_told;
mod bars;
mod bench;
mod chaos;
mod chaos_child;
mod chaos_tables;
mod completions;
mod failure;
mod figures;
mod interrupt;
mod joining;
mod keygen;
pub mod limits;
mod logging;
mod mesh_member;
mod mesh_run;
mod mesh_up;
mod output;
mod roster;
mod schema;
mod send;
mod send_files;
mod signal;
mod signal_witness;
mod verify;
mod verify_batch;
mod verify_input;
mod verify_item;
mod verify_judge;
mod verify_log;
mod verify_note;
mod verify_progress;
mod watching;
mod witness;
mod witness_export;
mod witness_tail;

use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use logging::LogFormat;

/// A mesh of agents that talk peer to peer over WebRTC: every message signed, every offer and
/// message on a log that anyone can verify offline.
#[derive(Debug, Parser)]
#[command(name = "ifswarm", version, max_term_width = 100, after_help = EXIT_CODES)]
pub struct Cli {
    #[command(flatten)]
    globals: Globals,
    #[command(subcommand)]
    command: Command,
}

/// What every verb takes.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Options of every command")]
pub(crate) struct Globals {
    /// Say more on standard error: -v what happens, -vv why, -vvv everything
    #[arg(short, long, action = clap::ArgAction::Count, global = true, display_order = 101)]
    verbose: u8,
    /// How log lines are written
    #[arg(
        long,
        value_name = "FORMAT",
        value_enum,
        default_value_t,
        global = true,
        display_order = 102
    )]
    log_format: LogFormat,
    /// Never use colours (nor is any used where the output is no terminal, or NO_COLOR is set)
    #[arg(long, global = true, display_order = 103)]
    no_color: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    Agent(agent::Args),
    Bench(bench::Args),
    Chaos(chaos::Args),
    Completions(completions::Args),
    Keygen(keygen::Args),
    Mesh(mesh_up::Args),
    Schema(schema::Args),
    Send(send::Args),
    Signal(signal::Args),
    Verify(verify::Args),
    Witness(witness::Args),
}

impl Cli {
    /// Reads the command line of this process; on a wrong one says why and exits with 2.
    pub fn from_command_line() -> Self {
        Self::parse()
    }

    /// Does what was asked for and tells on standard error what could not be done.
    pub fn run(self) -> ExitCode {
        let globals = &self.globals;
        let result = logging::start(globals).and_then(|()| match self.command {
            Command::Agent(args) => block_on(agent::run(args, globals)),
            Command::Bench(args) => block_on(bench::run(args, globals)),
            Command::Chaos(args) => block_on(chaos::run(args, globals)),
            Command::Completions(args) => completions::run(args, globals),
            Command::Keygen(args) => keygen::run(args, globals),
            Command::Mesh(args) => block_on(mesh_up::run(args, globals)),
            Command::Schema(args) => schema::run(args, globals),
            Command::Send(args) => block_on(send::run(args, globals)),
            Command::Signal(args) => block_on(signal::run(args, globals)),
            Command::Verify(args) => verify::run(args, globals),
            Command::Witness(args) => witness::run(args, globals),
        });
        result.unwrap_or_else(|err| failure::report(&err))
    }
}

impl Globals {
    /// The same options, for a process that logs into this one's standard error.
    pub(crate) fn passed_on(&self) -> Vec<String> {
        let mut options = vec!["--no-color".into()];
        if self.log_format == LogFormat::Json {
            options.extend(["--log-format".into(), "json".into()]);
        }
        options.extend((0..self.verbose).map(|_| "-v".into()));
        options
    }

    /// Whether standard output may be coloured.
    pub(crate) fn color(&self) -> bool {
        output::color(self, &std::io::stdout())
    }
}

/// Runs a verb that waits for something.
fn block_on(verb: impl Future<Output = anyhow::Result<ExitCode>>) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Runtime::new().map_err(failure::impossible)?;
    let done = runtime.block_on(verb);
    // A read of standard input cannot be cancelled, and must not hold up the end for ever.
    runtime.shutdown_timeout(LAST_STEPS);
    done
}

/// What still runs when a verb is over, such as a write to the disk when it was interrupted.
const LAST_STEPS: std::time::Duration = std::time::Duration::from_secs(1);

const EXIT_CODES: &str = "\
Exit codes: 0 as asked · 1 the answer is no (a check failed) · 2 the call or its input is unusable
            3 it could not be done · 130 interrupted";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }
}
