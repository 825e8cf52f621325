//! Files of `send`: side by side, with a bar each, until the peer has said that it has them.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::anyhow;
use futures_util::future::join_all;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use super::failure::{impossible, unusable};
use crate::agent::{Agent, FileError, FileTransfer};
use crate::identity::AgentId;

/// A file that the peer has.
#[derive(Debug, Serialize)]
pub(super) struct Arrived {
    file: PathBuf,
    transfer: String,
    size: u64,
    sha256: String,
    /// From the offer until the receipt.
    elapsed_ms: f64,
}

/// Whether they can be read at all, before anything is opened.
pub(super) fn check(files: &[PathBuf]) -> anyhow::Result<()> {
    for path in files {
        let found = fs::File::open(path).and_then(|_| fs::metadata(path));
        match found {
            Ok(found) if found.is_file() => {}
            Ok(_) => {
                let path = path.display();
                return Err(unusable(anyhow!("{path}: expected a plain file")));
            }
            Err(err) => return Err(unusable(anyhow!("{}: {err}", path.display()))),
        }
    }
    Ok(())
}

/// Sends them all. Those that can arrive do, whatever comes of the others.
pub(super) async fn send(
    agent: &Agent,
    to: &AgentId,
    files: &[PathBuf],
) -> anyhow::Result<Vec<Arrived>> {
    // Draws nothing where standard error is no terminal.
    let bars = MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(10));
    let sent = files.iter().map(|path| send_one(agent, to, path, &bars));
    let outcomes = join_all(sent).await;
    let mut arrived = Vec::new();
    let mut failed = Vec::new();
    for (path, outcome) in files.iter().zip(outcomes) {
        match outcome {
            Ok(file) => arrived.push(file),
            Err(err) => failed.push(format!("{}: {err}", path.display())),
        }
    }
    match failed.is_empty() {
        true => Ok(arrived),
        false => Err(impossible(anyhow!(failed.join("\n")))),
    }
}

/// What is told of one, for people.
pub(super) fn text(to: &str, file: &Arrived) -> String {
    let seconds = file.elapsed_ms / 1e3;
    let rate = file.size as f64 / f64::from(1 << 20) / seconds.max(1e-6);
    format!(
        "{to} has {}: {} bytes in {seconds:.2} s, {rate:.1} MiB/s, SHA-256 {}\n",
        file.file.display(),
        file.size,
        file.sha256
    )
}

async fn send_one(
    agent: &Agent,
    to: &AgentId,
    path: &Path,
    bars: &MultiProgress,
) -> Result<Arrived, FileError> {
    let bar = bars.add(ProgressBar::new_spinner());
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    bar.set_message(format!("hashing {name}"));
    bar.enable_steady_tick(TICK);
    let transfer = agent.send_file(to, path).await?;
    let began = Instant::now();
    let offer = transfer.offer().clone();
    bar.set_style(style());
    bar.set_length(offer.size);
    bar.set_message(name.into_owned());
    let arrived = follow(transfer, &bar).await;
    bar.finish_and_clear();
    arrived.map(|()| Arrived {
        file: path.to_owned(),
        transfer: offer.transfer.to_string(),
        size: offer.size,
        sha256: crate::identity::hex_text(&offer.sha256),
        elapsed_ms: (began.elapsed().as_secs_f64() * 1e6).round() / 1e3,
    })
}

async fn follow(transfer: FileTransfer, bar: &ProgressBar) -> Result<(), FileError> {
    let mut progress = transfer.progress();
    let finished = transfer.finished();
    tokio::pin!(finished);
    loop {
        tokio::select! {
            outcome = &mut finished => return outcome,
            Ok(()) = progress.changed() => bar.set_position(*progress.borrow_and_update()),
        }
    }
}

fn style() -> ProgressStyle {
    let style = ProgressStyle::with_template(
        "{spinner} {msg:<24!} {bar:24} {bytes}/{total_bytes} {binary_bytes_per_sec} {eta}",
    );
    style.expect("the template is well formed")
}

/// A spinner that turns says that the program lives, whatever it waits for.
const TICK: Duration = Duration::from_millis(100);
