//! The pipes of an agent: where drafts come from and lines go to. Standard input and output here; of
//! a child program in `agent_exec`.
//!
//! Threads of their own: a read of standard input cannot be cancelled, and must not hold up the end
//! of the process.

use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::fd::AsFd;
use std::thread;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use tokio::sync::{mpsc, oneshot};

use super::agent_lines::{Input, Inputs};
use crate::agent::Held;

/// What is left to do when the agent has ended.
pub(super) struct Pipes(pub(super) oneshot::Receiver<Option<String>>);

impl Pipes {
    /// Waits until all lines are written, or nobody reads them. Of a program: how it has failed, if
    /// it has, and is not started again.
    pub(super) async fn closed(self) -> Option<String> {
        self.0.await.ok().flatten()
    }
}

/// The two ends that the agent has of its pipes, and what is left to do at the end.
pub(super) type Ends = (mpsc::Receiver<Input>, mpsc::Sender<Told>, Pipes);

/// A line for the program, and the message in it.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) text: String,
    pub(super) held: Option<Held>,
}

impl From<String> for Told {
    fn from(text: String) -> Self {
        Self { text, held: None }
    }
}

impl Told {
    /// What of the line may wait for the program to read, and what completes it: so little that it
    /// is written whole as soon as there is any room in the pipe. In between it is noted that the
    /// message never comes again, so that a kill at any moment neither loses nor doubles it, but
    /// for one in the instant between the two calls.
    pub(super) fn parts(&self) -> (&[u8], &[u8]) {
        let bytes = self.text.as_bytes();
        bytes.split_at(bytes.len().saturating_sub(ONE_WRITE))
    }
}

/// Whether a pipe has room for what completes a line; waits for that as long as `timeout`, or for
/// ever. What is no pipe, a file, has room.
pub(super) fn has_room(pipe: impl AsFd, timeout: Option<&Timespec>) -> bool {
    let mut pipes = [PollFd::new(&pipe, PollFlags::OUT)];
    match poll(&mut pipes, timeout) {
        Ok(ready) => ready > 0,
        // Interrupted, or it cannot be asked: writing will say what is wrong.
        Err(err) => err != Errno::INTR,
    }
}

/// Standard input and output; `greeting` is the first line.
pub(super) fn standard(greeting: String) -> Ends {
    let (lines, told) = mpsc::channel(LINES);
    let (done, closed) = oneshot::channel();
    thread::spawn(move || {
        write(io::stdout(), greeting, told);
        let _ = done.send(None);
    });
    let (inputs, read) = mpsc::channel(INPUTS);
    thread::spawn(move || self::read(io::stdin(), &inputs));
    (read, lines, Pipes(closed))
}

/// Reads lines until there are no more, or nobody wants them. Waits while there are enough.
pub(super) fn read(from: impl Read, inputs: &mpsc::Sender<Input>) {
    let mut lines = Inputs::new(BufReader::new(from));
    loop {
        match lines.next() {
            Ok(Some(input)) => {
                if inputs.blocking_send(input).is_err() {
                    return;
                }
            }
            Ok(None) => return,
            Err(err) => return tracing::warn!(reason = %err, "the input cannot be read any more"),
        }
    }
}

/// Writes lines until there are no more, or nobody reads them. Those that wait go out together, but
/// each message by itself.
fn write(to: impl Write + AsFd, greeting: String, mut lines: mpsc::Receiver<Told>) {
    let mut out = BufWriter::new(to);
    let mut next = Some(Told::from(greeting));
    while let Some(line) = next.take().or_else(|| lines.blocking_recv()) {
        let written = match &line.held {
            None => out.write_all(line.text.as_bytes()),
            Some(held) => write_message(&mut out, &line, held),
        };
        next = lines.try_recv().ok();
        let flushed = written.and_then(|()| match next {
            Some(_) => Ok(()),
            None => out.flush(),
        });
        if let Err(err) = flushed {
            if err.kind() != io::ErrorKind::BrokenPipe {
                tracing::warn!(reason = %err, "the output cannot be written any more");
            }
            return;
        }
    }
}

fn write_message(
    out: &mut BufWriter<impl Write + AsFd>,
    line: &Told,
    held: &Held,
) -> io::Result<()> {
    let (most, rest) = line.parts();
    out.write_all(most)?;
    out.flush()?;
    while !has_room(out.get_ref(), None) {}
    held.note().map_err(io::Error::other)?;
    out.get_mut().write_all(rest)
}

/// Lines that wait to be written; then the agent reads less from its links.
pub(super) const LINES: usize = 256;
/// Drafts that were read and wait for their turn: what a slow peer lets pile up is in the pipe, and
/// then with the program that writes.
pub(super) const INPUTS: usize = 16;
/// Bytes that a pipe takes in one piece (POSIX: at least 512; Linux: a page).
const ONE_WRITE: usize = 4096;
