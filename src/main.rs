//! The `ifswarm` command: reads the command line, does what it says, ends with its exit code.

use std::process::ExitCode;

use tikv_jemallocator::Jemalloc;

/// Gives the memory of links that are gone back within seconds. With that of the C library an
/// agent whose links are rebuilt keeps what the busiest moment took.
#[global_allocator]
static MEMORY: Jemalloc = Jemalloc;

fn main() -> ExitCode {
    ifswarm::cli::Cli::from_command_line().run()
}
