//! Files of `agent`: which it takes, those that its program sends, and what it is told of them.

use std::path::{Path, PathBuf};

use anyhow::anyhow;
use futures_util::stream::{FuturesUnordered, StreamExt};
use serde::Deserialize;
use tokio::sync::mpsc;

use super::agent::{FOR_A_LINK, wait_for_a_link};
use super::agent_lines::Line;
use super::agent_pipes::Told;
use super::failure::unusable;
use super::joining::Members;
use crate::agent::{AcceptFiles, Agent, Builder, FileEvent, FileState};
use crate::identity::AgentId;

/// Which files to take.
#[derive(Debug, clap::Args)]
pub(super) struct Taking {
    /// Take files that peers offer, and put them into this folder, never outside it and never over
    /// another file [default: refuse all]
    #[arg(long, value_name = "DIR")]
    accept_files: Option<PathBuf>,
    /// The largest file that is taken
    #[arg(long, value_name = "SIZE", default_value = "1 GiB", value_parser = size, requires = "accept_files")]
    accept_size: u64,
}

/// A line of the program that sends a file: `{"destination":"legal","file":"a.pdf"}`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FileDraft {
    pub(super) destination: AgentId,
    pub(super) file: PathBuf,
}

impl Taking {
    /// The agent, taking what was said.
    pub(super) fn apply(&self, builder: Builder) -> anyhow::Result<Builder> {
        let Some(folder) = &self.accept_files else {
            return Ok(builder);
        };
        if folder.exists() && !folder.is_dir() {
            return Err(unusable(anyhow!(
                "{}: expected a folder to put received files into",
                folder.display()
            )));
        }
        Ok(builder.accept_files(Some(AcceptFiles {
            folder: folder.clone(),
            max_size: self.accept_size,
        })))
    }
}

/// Sends files side by side, until there are no more to come and all are seen through; how many of
/// them did not arrive.
pub(super) async fn send(
    agent: &Agent,
    mut drafts: mpsc::Receiver<(u64, FileDraft)>,
    lines: &mpsc::Sender<Told>,
    members: &Members,
) -> usize {
    let mut under_way = FuturesUnordered::new();
    let (mut open, mut failed) = (true, 0);
    while open || !under_way.is_empty() {
        // Cancel-safe: a queue, and futures that go on where they are.
        tokio::select! {
            draft = drafts.recv(), if open => match draft {
                Some((line, draft)) => under_way.push(send_one(agent, line, draft, lines, members)),
                None => open = false,
            },
            Some(arrived) = under_way.next() => failed += usize::from(!arrived),
        }
    }
    failed
}

/// Whether it has arrived. Why not is told: here, or as an event where it was offered.
async fn send_one(
    agent: &Agent,
    line: u64,
    draft: FileDraft,
    lines: &mpsc::Sender<Told>,
    members: &Members,
) -> bool {
    let linked = wait_for_a_link(
        agent,
        &draft.destination.clone().into(),
        members,
        FOR_A_LINK,
    )
    .await;
    let begun = match linked {
        Ok(()) => {
            let begun = agent.send_file(&draft.destination, &draft.file).await;
            begun.map_err(|err| err.to_string())
        }
        Err(message) => Err(message),
    };
    match begun {
        Ok(transfer) => transfer.finished().await.is_ok(),
        Err(message) => {
            let error = Line::Error {
                line: Some(line),
                waits: false,
                message: &message,
            };
            let _ = lines.send(error.to_text().into()).await;
            false
        }
    }
}

/// What a program is told of a file.
pub(super) fn told(file: &FileEvent) -> String {
    let path = match &file.state {
        FileState::Received { path } => path.as_deref().map(Path::to_string_lossy),
        _ => None,
    };
    let line = Line::File {
        state: file.state.as_str(),
        peer: &file.peer,
        what: file.to_json(),
        path: path.as_deref(),
    };
    line.to_text()
}

/// The bytes of `512 KiB`, `1 GiB`.
fn size(text: &str) -> Result<u64, String> {
    let expected = || "expected a size such as 512 KiB, 64 MiB or 1 GiB".to_owned();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| expected())?;
    let unit: u64 = match unit.trim_start() {
        "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        _ => return Err(expected()),
    };
    let bytes = number.checked_mul(unit).ok_or_else(expected)?;
    // What an offer can say.
    (bytes < 1 << 53).then_some(bytes).ok_or_else(expected)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_sizes_in_powers_of_1024_and_nothing_else() {
        for (text, bytes) in [("1 GiB", 1 << 30), ("512KiB", 1 << 19), ("7 B", 7)] {
            assert_eq!(size(text), Ok(bytes));
        }
        for text in [
            "",
            "1",
            "1 GB",
            "-1 B",
            "1.5 MiB",
            "99999999999999999999 B",
            "9999999 TiB",
        ] {
            assert!(size(text).is_err(), "{text}");
        }
    }
}
