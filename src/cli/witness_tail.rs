//! `ifswarm witness tail`: the last entries of a log, and those that come.
//!
//! Shows what stands there and checks nothing: that is for `verify`.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::anyhow;
use serde_json::Value;

use super::failure::{Failure, impossible, unusable};
use super::interrupt::Interrupt;
use super::output::Out;
use super::witness::log_folder;
use crate::message::one_line;
use crate::witness::{ENTRIES_FILE, MAX_LINE};

/// Show the last entries of a log, and those that come; checks nothing
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The folder of the log
    dir: PathBuf,
    /// How many of the last entries are shown
    #[arg(short = 'n', long, value_name = "N", default_value_t = 10)]
    lines: u64,
    /// Go on with every entry that comes, until Ctrl-C; waits for a log that is not there yet
    #[arg(short, long)]
    follow: bool,
    /// Print the entries as they stand in the log, one JSON object per line
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let mut interrupt = Interrupt::listen()?;
    let Some(entries) = found(&args, &mut interrupt).await? else {
        return Ok(ExitCode::SUCCESS);
    };
    let mut tail = Tail {
        at: start_of_last(&entries, args.lines).map_err(|err| unreadable(&entries, &err))?,
        entries,
        json: args.json,
        out: Out::new(),
    };
    loop {
        tail.show()?;
        if !args.follow || tail.out.is_closed() {
            return Ok(ExitCode::SUCCESS);
        }
        // Ctrl-C is how following ends.
        if interrupt.or(tokio::time::sleep(POLL)).await.is_none() {
            return Ok(ExitCode::SUCCESS);
        }
    }
}

/// The file of the entries; with `--follow` once there is one, or none if Ctrl-C came first.
async fn found(args: &Args, interrupt: &mut Interrupt) -> anyhow::Result<Option<PathBuf>> {
    let entries = args.dir.join(ENTRIES_FILE);
    let is_empty = |folder: &Path| {
        let mut files = folder.read_dir().into_iter().flatten();
        !files.any(|file| file.is_ok_and(|file| file.path().is_dir()))
    };
    // A folder with others in it may hold logs, of which one must be named.
    if !args.follow || entries.is_file() || args.dir.is_file() || !is_empty(&args.dir) {
        return Ok(Some(log_folder(&args.dir)?.join(ENTRIES_FILE)));
    }
    eprintln!("waiting for {}", entries.display());
    while !entries.is_file() {
        if interrupt.or(tokio::time::sleep(POLL)).await.is_none() {
            return Ok(None);
        }
    }
    Ok(Some(entries))
}

/// A log of which everything before `at` was shown.
struct Tail {
    entries: PathBuf,
    at: u64,
    json: bool,
    out: Out,
}

impl Tail {
    /// Shows the whole lines that are there and were not shown. A line without its newline is
    /// still being written.
    fn show(&mut self) -> anyhow::Result<()> {
        let shown = self.try_show();
        let told = shown.map_err(|err| unreadable(&self.entries, &err))?;
        told?;
        self.out.flush()
    }

    /// The outer error is of reading, the inner one of telling.
    fn try_show(&mut self) -> io::Result<anyhow::Result<()>> {
        let mut file = File::open(&self.entries)?;
        let length = file.metadata()?.len();
        if length < self.at {
            let path = self.entries.display();
            let why = format!(
                "{path}: found {length} bytes, expected at least the {} that were shown: the log was cut or replaced; check it with `ifswarm verify`",
                self.at
            );
            return Ok(Err(Failure::No.of(anyhow!(why))));
        }
        file.seek(SeekFrom::Start(self.at))?;
        let mut reader = BufReader::new(file);
        let mut line = Vec::new();
        loop {
            line.clear();
            let limit = MAX_LINE as u64 + 1;
            let read = reader.by_ref().take(limit).read_until(b'\n', &mut line)?;
            if line.pop_if(|last| *last == b'\n').is_none() {
                let path = self.entries.display();
                let why = format!("{path}: found a line of more than {MAX_LINE} bytes, no log has");
                return Ok(match read as u64 == limit {
                    true => Err(Failure::No.of(anyhow!(why))),
                    false => Ok(()),
                });
            }
            self.at += read as u64;
            let text = String::from_utf8_lossy(&line);
            let text = if self.json {
                format!("{text}\n")
            } else {
                human(&text)
            };
            if let Err(err) = self.out.write(&text) {
                return Ok(Err(err));
            }
        }
    }
}

/// An entry for people: number, time, event, peer, and the beginning of what else it says.
fn human(line: &str) -> String {
    let Ok(entry @ Value::Object(_)) = serde_json::from_str(line) else {
        return format!("     ?  no entry: {}\n", one_line(line, MAX_METADATA));
    };
    let text = |name: &str| {
        let text = entry.get(name).and_then(Value::as_str).unwrap_or("-");
        one_line(text, MAX_NAME)
    };
    let index = entry.get("index").map(Value::to_string);
    let index = one_line(&index.unwrap_or_else(|| "?".into()), MAX_NAME);
    let metadata = entry.get("metadata").map(Value::to_string);
    let metadata = one_line(&metadata.unwrap_or_default(), MAX_METADATA);
    let (time, event, peer) = (text("timestamp"), text("event"), text("peer_id"));
    let line = format!("{index:>6}  {time}  {event:<24}  {peer:<12}  {metadata}");
    format!("{}\n", line.trim_end())
}

/// Where the last `lines` whole lines begin, found from the end.
fn start_of_last(path: &Path, lines: u64) -> io::Result<u64> {
    let mut file = File::open(path)?;
    let mut end = file.metadata()?.len();
    let mut block = vec![0; BLOCK];
    // The newline at the end of a whole line, and before the first of those that are shown.
    let mut newlines = 0;
    while end > 0 {
        let start = end.saturating_sub(BLOCK as u64);
        let block = &mut block[..(end - start) as usize];
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(block)?;
        for (at, _) in block.iter().enumerate().rev().filter(|(_, b)| **b == b'\n') {
            newlines += 1;
            if newlines > lines {
                return Ok(start + at as u64 + 1);
            }
        }
        end = start;
    }
    Ok(0)
}

fn unreadable(path: &Path, err: &io::Error) -> anyhow::Error {
    let told = anyhow!("{}: {err}", path.display());
    match err.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied => unusable(told),
        _ => impossible(told),
    }
}

/// How often a log is looked at: people see no delay, and it costs one system call or two.
const POLL: Duration = Duration::from_millis(200);
/// Read at once while looking for the last lines.
const BLOCK: usize = 64 * 1024;
/// Characters of a name: as many as an id can have.
const MAX_NAME: usize = 128;
/// Characters of metadata that leave a line readable.
const MAX_METADATA: usize = 160;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_last_lines_of_short_and_long_files() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        for width in [1, 100, BLOCK - 1, BLOCK, BLOCK + 1] {
            let line = "x".repeat(width - 1) + "\n";
            for torn in ["", "torn"] {
                std::fs::write(&path, line.repeat(3) + torn).unwrap();
                for (lines, expected) in [(0, 3), (1, 2), (2, 1), (3, 0), (4, 0), (u64::MAX, 0)] {
                    let found = start_of_last(&path, lines).unwrap();
                    assert_eq!(found, (expected * width) as u64, "{lines} of {width}");
                }
            }
        }
        std::fs::write(&path, "").unwrap();
        assert_eq!(start_of_last(&path, 5).unwrap(), 0);
    }

    #[test]
    fn shows_nothing_that_could_move_the_cursor() {
        let hostile = "{\"event\":\"a\\u001b[2J\\n\",\"index\":1,\"metadata\":{\"x\":\"\\u009b\"}}";
        for line in [human(hostile), human("\u{1b}[2J"), human("[1]")] {
            let inner = line.strip_suffix('\n').expect("one line");
            assert!(!inner.chars().any(char::is_control), "{line:?}");
        }
    }
}
