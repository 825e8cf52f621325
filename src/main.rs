//! The `ifswarm` command: reads the command line, does what it says, ends with its exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    ifswarm::cli::Cli::from_command_line().run()
}
