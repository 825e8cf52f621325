//! The pipes of an agent: where drafts come from and lines go to. Standard input and output here; of
//! a child program in `agent_exec`.
//!
//! Threads of their own: a read of standard input cannot be cancelled, and must not hold up the end
//! of the process.

use std::io::{self, BufReader, BufWriter, Read, Write};
use std::thread;

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

/// A line for the program, and the message in it, which is taken when the line is written.
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
    /// The program has it.
    pub(super) fn written(self) {
        if let Some(held) = self.held {
            held.taken();
        }
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

/// Writes lines until there are no more, or nobody reads them. Flushes when there are none waiting,
/// and before a message counts as taken.
fn write(to: impl Write, greeting: String, mut lines: mpsc::Receiver<Told>) {
    let mut out = BufWriter::new(to);
    let mut next = Some(Told::from(greeting));
    while let Some(line) = next.take().or_else(|| lines.blocking_recv()) {
        let written = out.write_all(line.text.as_bytes());
        next = lines.try_recv().ok();
        let flushed = written.and_then(|()| match (&next, &line.held) {
            (Some(_), None) => Ok(()),
            _ => out.flush(),
        });
        if let Err(err) = flushed {
            if err.kind() != io::ErrorKind::BrokenPipe {
                tracing::warn!(reason = %err, "the output cannot be written any more");
            }
            return;
        }
        line.written();
    }
}

/// Lines that wait to be written; then the agent reads less from its links.
pub(super) const LINES: usize = 256;
/// Drafts that were read and wait for their turn: what a slow peer lets pile up is in the pipe, and
/// then with the program that writes.
pub(super) const INPUTS: usize = 16;
