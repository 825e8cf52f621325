//! What the program of an agent says: drafts, read from its pipe and sent.
//!
//! Drafts for one destination go out one after the other, in their order; those for others do not
//! wait for them. So a peer that takes no more holds up what is for it, and what is for `*`, until so
//! much waits that the pipe is not read on.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::agent::{FOR_A_LINK, wait_for_a_link};
use super::agent_files::{self, FileDraft};
use super::agent_ledger::Ledger;
use super::agent_lines::{Asked, Input, Line};
use super::agent_pipes::Told;
use super::agent_told::{held, settled};
use super::joining::Members;
use crate::agent::{Agent, SendError};
use crate::message::{Destination, Draft};

/// Sends what the program asks for until there is no more, and sees its files through, however long
/// they are; how many of these did not arrive.
pub(super) async fn speak(
    agent: &Agent,
    inputs: mpsc::Receiver<Input>,
    lines: &mpsc::Sender<Told>,
    ledger: &Mutex<Ledger>,
    members: &Members,
) -> usize {
    let (files, drafts) = mpsc::channel(FILES);
    let speaker = Speaker {
        agent,
        lines,
        ledger,
        members,
        files,
    };
    let files = agent_files::send(agent, drafts, lines, members);
    let ((), failed) = tokio::join!(speaker.send_all(inputs), files);
    failed
}

/// Who sends drafts, and what that takes.
struct Speaker<'a> {
    agent: &'a Agent,
    lines: &'a mpsc::Sender<Told>,
    ledger: &'a Mutex<Ledger>,
    members: &'a Members,
    files: mpsc::Sender<(u64, FileDraft)>,
}

/// A draft that was read.
struct Wanted {
    line: u64,
    /// Of the line.
    bytes: usize,
    what: What,
}

enum What {
    Message(Box<Draft>),
    File(FileDraft),
}

impl Wanted {
    fn destination(&self) -> Destination {
        match &self.what {
            What::Message(draft) => draft.destination.clone(),
            What::File(draft) => draft.destination.clone().into(),
        }
    }
}

/// Drafts that were read and are not sent, by destination; one of each is being sent and counts as
/// waiting too.
#[derive(Default)]
struct Lanes {
    behind: BTreeMap<Destination, VecDeque<Wanted>>,
    lines: usize,
    bytes: usize,
}

impl Lanes {
    /// Whether another line may be read.
    fn have_room(&self) -> bool {
        self.behind.len() < MAX_DESTINATIONS && self.lines < MAX_LINES && self.bytes < MAX_BYTES
    }

    /// Takes a draft up; gives it back if it is the next of its destination.
    fn take_up(&mut self, wanted: Wanted) -> Option<Wanted> {
        self.lines += 1;
        self.bytes += wanted.bytes;
        match self.behind.get_mut(&wanted.destination()) {
            Some(behind) => {
                behind.push_back(wanted);
                None
            }
            None => {
                self.behind.insert(wanted.destination(), VecDeque::new());
                Some(wanted)
            }
        }
    }

    /// One of so many bytes to this destination is done; the next one.
    fn done(&mut self, destination: &Destination, bytes: usize) -> Option<Wanted> {
        self.lines -= 1;
        self.bytes -= bytes;
        let next = self.behind.get_mut(destination)?.pop_front();
        if next.is_none() {
            self.behind.remove(destination);
        }
        next
    }
}

impl Speaker<'_> {
    /// Sends drafts until there are no more.
    async fn send_all(self, mut inputs: mpsc::Receiver<Input>) {
        let mut lanes = Lanes::default();
        let mut under_way = FuturesUnordered::new();
        let mut is_open = true;
        while is_open || !under_way.is_empty() {
            // Cancel-safe: a queue, and futures that go on where they are. What is under way first, so
            // that what was asked for before a list is in it, unless that has to wait.
            let next = tokio::select! {
                biased;
                Some((destination, bytes)) = under_way.next() => lanes.done(&destination, bytes),
                input = inputs.recv(), if is_open && lanes.have_room() => match input {
                    Some(input) => self.read(input).await.and_then(|wanted| lanes.take_up(wanted)),
                    None => {
                        is_open = false;
                        None
                    }
                },
            };
            under_way.extend(next.map(|wanted| self.see_to(wanted)));
        }
    }

    /// The draft in a line. What is no draft is dealt with.
    async fn read(&self, input: Input) -> Option<Wanted> {
        let line = input.number;
        let bytes = input.text.as_ref().map_or(0, Vec::len);
        let what = match input.read() {
            Ok(Asked::Send(draft)) => What::Message(draft),
            Ok(Asked::SendFile(draft)) => What::File(draft),
            Ok(Asked::Conversations) => {
                let conversations = self.agent.conversations();
                let conversations = conversations.iter().map(Into::into).collect();
                self.tell(Line::Conversations { conversations }).await;
                return None;
            }
            Err(message) => {
                self.tell_error(line, false, &message).await;
                return None;
            }
        };
        Some(Wanted { line, bytes, what })
    }

    /// Does what is wanted; where to, and how many bytes the line had.
    async fn see_to(&self, wanted: Wanted) -> (Destination, usize) {
        let (destination, bytes, line) = (wanted.destination(), wanted.bytes, wanted.line);
        match wanted.what {
            What::Message(draft) => {
                if let Err(message) = self.send(line, *draft).await {
                    self.tell_error(line, false, &message).await;
                }
            }
            What::File(draft) => {
                // Hashing it takes a while: other drafts do not wait for that.
                let _ = self.files.send((line, draft)).await;
            }
        }
        (destination, bytes)
    }

    async fn send(&self, line: u64, draft: Draft) -> Result<(), String> {
        let destination = draft.destination.clone();
        if !self.agent.would_take(&destination) {
            wait_for_a_link(self.agent, &destination, self.members, FOR_A_LINK).await?;
        }
        let sending = self.agent.send(draft);
        tokio::pin!(sending);
        let sent = match timeout(HELD_UP, &mut sending).await {
            Ok(sent) => sent,
            Err(_) => {
                let message = &format!(
                    "`{destination}` takes no more messages, since its program does not read or its link is slow: this one waits, and all after it for `{destination}`"
                );
                self.tell_error(line, true, message).await;
                sending.await
            }
        };
        let receipt = sent.map_err(|err: SendError| err.to_string())?;
        // The receipt first: an acknowledgement may be known already.
        let known = held(self.ledger).sent(&receipt, &destination);
        let sent = Line::Sent {
            id: &receipt.id,
            destination: destination.as_str(),
            sequence_num: receipt.sequence_num,
        };
        self.tell(sent).await;
        for (peer, fate) in &known {
            let settled = settled(&receipt.id, &destination, peer, *fate);
            let _ = self.lines.send(settled.into()).await;
        }
        Ok(())
    }

    async fn tell_error(&self, line: u64, waits: bool, message: &str) {
        let line = Some(line);
        let error = Line::Error {
            line,
            waits,
            message,
        };
        self.tell(error).await;
    }

    async fn tell(&self, line: Line<'_>) {
        // A program that listens no more ends the agent elsewhere.
        let _ = self.lines.send(line.to_text().into()).await;
    }
}

/// Files that wait to be hashed and offered; then drafts wait too.
const FILES: usize = 64;
/// How long a draft waits for a slow receiver before its program is told.
const HELD_UP: Duration = Duration::from_secs(3);
/// Destinations with drafts that wait. With more the pipe is not read on: many peers are slow, and
/// the program should know.
const MAX_DESTINATIONS: usize = 64;
/// Drafts that wait in all: what a program says to a slow peer before those to others wait too.
const MAX_LINES: usize = 1_024;
/// And bytes of their lines, some of which take a multiple in memory.
const MAX_BYTES: usize = 4 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(line: u64, to: &str, bytes: usize) -> Wanted {
        let to: Destination = to.parse().unwrap();
        let what = What::Message(Box::new(Draft::new(to, serde_json::Map::new())));
        Wanted { line, bytes, what }
    }

    #[test]
    fn of_each_destination_one_is_next_and_others_follow_in_their_order() {
        let mut lanes = Lanes::default();
        let line = |next: Option<Wanted>| next.map(|wanted| wanted.line);
        assert_eq!(line(lanes.take_up(wanted(1, "b", 1))), Some(1));
        assert_eq!(line(lanes.take_up(wanted(2, "b", 1))), None);
        assert_eq!(line(lanes.take_up(wanted(3, "*", 1))), Some(3));
        assert_eq!(line(lanes.take_up(wanted(4, "b", 1))), None);
        assert_eq!(line(lanes.take_up(wanted(5, "c", 1))), Some(5));
        let to = |id: &str| id.parse().unwrap();
        assert_eq!(line(lanes.done(&to("c"), 1)), None);
        assert_eq!(line(lanes.done(&to("b"), 1)), Some(2));
        assert_eq!(line(lanes.done(&to("b"), 1)), Some(4));
        assert_eq!(line(lanes.take_up(wanted(6, "b", 1))), None);
        assert_eq!(line(lanes.done(&to("b"), 1)), Some(6));
        assert_eq!(line(lanes.done(&to("b"), 1)), None);
        assert_eq!(line(lanes.done(&to("*"), 1)), None);
        assert_eq!((lanes.lines, lanes.bytes, lanes.behind.len()), (0, 0, 0));
    }

    #[test]
    fn lines_are_read_on_until_so_many_so_large_or_for_so_many_wait() {
        let fill = |destinations: usize, bytes: usize| {
            let mut lanes = Lanes::default();
            while lanes.have_room() {
                let line = lanes.lines;
                lanes.take_up(wanted(
                    line as u64,
                    &format!("peer-{}", line % destinations),
                    bytes,
                ));
            }
            lanes.lines
        };
        assert_eq!(fill(1, 1), MAX_LINES);
        assert_eq!(fill(MAX_DESTINATIONS - 1, 1), MAX_LINES);
        assert_eq!(fill(MAX_LINES, 1), MAX_DESTINATIONS);
        assert_eq!(fill(1, MAX_BYTES / 4), 4);
    }
}
