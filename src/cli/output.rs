//! Standard output, and whether a stream may be coloured.

use std::io::{self, BufWriter, ErrorKind, IsTerminal, Stdout, Write};

use rustix::fs::FileType;
use rustix::io::Errno;

use super::Globals;
use super::failure::impossible;

/// Standard output, buffered.
///
/// A reader that went away (`ifswarm verify … | head -1`, a closed terminal) is no error: the verb goes on in silence,
/// so that its exit code is still the true one.
pub(crate) struct Out {
    /// `None` once nobody reads.
    stdout: Option<BufWriter<Stdout>>,
}

/// Writes `text` to standard output at once.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    let mut out = Out::new();
    out.write(text)?;
    out.flush()
}

/// Writes a line to standard error. A terminal that was closed meanwhile is no reason to panic, as
/// `eprintln!` does: whoever closed it waits for the goodbye.
pub(crate) fn tell(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

impl Out {
    pub(crate) fn new() -> Self {
        Self {
            stdout: Some(BufWriter::new(io::stdout())),
        }
    }

    pub(crate) fn write(&mut self, text: &str) -> anyhow::Result<()> {
        self.attempt(|stdout| stdout.write_all(text.as_bytes()))
    }

    pub(crate) fn flush(&mut self) -> anyhow::Result<()> {
        self.attempt(BufWriter::flush)
    }

    /// Whether its reader has gone away.
    pub(crate) fn is_closed(&self) -> bool {
        self.stdout.is_none()
    }

    fn attempt(
        &mut self,
        action: impl FnOnce(&mut BufWriter<Stdout>) -> io::Result<()>,
    ) -> anyhow::Result<()> {
        let Some(stdout) = &mut self.stdout else {
            return Ok(());
        };
        match action(stdout) {
            Err(err) if err.kind() == ErrorKind::BrokenPipe || is_hung_up(&err) => {
                self.stdout = None;
                Ok(())
            }
            result => {
                result.map_err(|err| impossible(anyhow::Error::new(err).context("standard output")))
            }
        }
    }
}

/// Whether standard output was a terminal, which was closed. (A disk that fails says the same.)
fn is_hung_up(err: &io::Error) -> bool {
    let is_device = || {
        let status = rustix::fs::fstat(io::stdout());
        status.is_ok_and(|status| FileType::from_raw_mode(status.st_mode).is_char_device())
    };
    err.raw_os_error() == Some(Errno::IO.raw_os_error()) && is_device()
}

/// Whether `stream` may be coloured.
pub(super) fn color(globals: &Globals, stream: &impl IsTerminal) -> bool {
    let asked_not_to = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    !globals.no_color && !asked_not_to && stream.is_terminal()
}
