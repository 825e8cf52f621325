//! Ctrl-C and SIGTERM, as often as they come.

use std::io::IsTerminal;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::failure::impossible;

/// Hears when somebody wants the process to end. While it lives, signals do not kill it.
#[derive(Debug)]
pub(crate) struct Interrupt {
    int: Signal,
    term: Signal,
    was_heard: bool,
}

impl Interrupt {
    /// Begins to listen.
    pub(crate) fn listen() -> anyhow::Result<Self> {
        Ok(Self {
            int: signal(SignalKind::interrupt()).map_err(impossible)?,
            term: signal(SignalKind::terminate()).map_err(impossible)?,
            was_heard: false,
        })
    }

    /// Whether one has come.
    pub(crate) fn was_heard(&self) -> bool {
        self.was_heard
    }

    /// Waits for the next signal. Cancel-safe.
    pub(crate) async fn heard(&mut self) {
        tokio::select! {
            _ = self.int.recv() => {}
            _ = self.term.recv() => {}
        }
        self.was_heard = true;
        // The terminal has written ^C where the next line is to begin.
        if std::io::stderr().is_terminal() {
            eprintln!();
        }
    }

    /// What `work` gives, or `None` if a signal came first; then `work` is dropped.
    pub(crate) async fn or<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            done = work => Some(done),
            () = self.heard() => None,
        }
    }
}
