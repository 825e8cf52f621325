//! Standard output, and whether a stream may be coloured.

use std::io::{self, ErrorKind, IsTerminal, Write};

use super::Globals;
use super::failure::impossible;

/// Writes `text` to standard output and flushes it.
///
/// A reader that went away (`ifswarm verify … | head -1`) is no error: the verb goes on in silence,
/// so that its exit code is still the true one.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    let written = stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush());
    match written {
        Err(err) if err.kind() != ErrorKind::BrokenPipe => {
            Err(impossible(err).context("cannot write to standard output"))
        }
        _ => Ok(()),
    }
}

/// Whether `stream` may be coloured.
pub(super) fn color(globals: &Globals, stream: &impl IsTerminal) -> bool {
    let asked_not_to = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    !globals.no_color && !asked_not_to && stream.is_terminal()
}
