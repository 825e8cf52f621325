//! A bar on standard error for files that take a while to read; nothing where that is no terminal.

use std::fs::File;
use std::io::{self, BufReader, IsTerminal};

use indicatif::{ProgressBar, ProgressBarIter, ProgressDrawTarget, ProgressFinish, ProgressStyle};

/// A file that is being read, with its bar, which goes away with it.
pub(super) type Watched = BufReader<ProgressBarIter<File>>;

/// Reads `file` behind a bar, of whose reading nothing is told before its end.
pub(super) fn watched(file: File) -> io::Result<Watched> {
    let size = file.metadata()?.len();
    let bar = match size {
        LARGE.. => bar(size),
        _ => ProgressBar::hidden(),
    };
    Ok(BufReader::with_capacity(READ_BUFFER, bar.wrap_read(file)))
}

/// As [`watched`], for what is told line by line: no bar between lines on the same terminal.
pub(super) fn watched_line_by_line(file: File) -> io::Result<Watched> {
    if io::stdout().is_terminal() {
        let hidden = ProgressBar::hidden();
        return Ok(BufReader::with_capacity(
            READ_BUFFER,
            hidden.wrap_read(file),
        ));
    }
    watched(file)
}

fn bar(size: u64) -> ProgressBar {
    // Draws nothing where standard error is no terminal.
    let target = ProgressDrawTarget::stderr_with_hz(10);
    let style = ProgressStyle::with_template(
        "{spinner} checking {bar:36} {bytes}/{total_bytes}, {bytes_per_sec}",
    );
    ProgressBar::with_draw_target(Some(size), target)
        .with_style(style.expect("the template is well formed"))
        .with_finish(ProgressFinish::AndClear)
}

/// Bytes that are read in the blink of an eye need no bar.
const LARGE: u64 = 16 << 20;
/// Large enough that reading does not decide how fast a long file is checked.
const READ_BUFFER: usize = 256 * 1024;
