//! Ctrl-C, SIGTERM, Ctrl-\ and the end of the terminal, as often as they come.

use std::fs;
use std::io::IsTerminal;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::failure::impossible;
use super::output::tell;

/// Hears when somebody wants the process to end. While it lives, signals do not kill it.
#[derive(Debug)]
pub(crate) struct Interrupt {
    int: Signal,
    term: Signal,
    /// Ctrl-\; none where whoever started this process had it ignored.
    quit: Option<Signal>,
    /// The terminal is closed; none likewise, as under nohup(1).
    hangup: Option<Signal>,
    was_heard: bool,
}

impl Interrupt {
    /// Begins to listen.
    pub(crate) fn listen() -> anyhow::Result<Self> {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let unless_ignored = |kind: SignalKind| match is_ignored(&status, kind) {
            true => Ok(None),
            false => signal(kind).map(Some).map_err(impossible),
        };
        Ok(Self {
            int: signal(SignalKind::interrupt()).map_err(impossible)?,
            term: signal(SignalKind::terminate()).map_err(impossible)?,
            quit: unless_ignored(SignalKind::quit())?,
            hangup: unless_ignored(SignalKind::hangup())?,
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
            () = next(&mut self.quit) => {}
            // Once: who closes a terminal sends it more than once, and is not in a hurry.
            () = next(&mut self.hangup) => self.hangup = None,
        }
        self.was_heard = true;
        // The terminal has written ^C where the next line is to begin.
        if std::io::stderr().is_terminal() {
            tell("");
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

/// The next of a signal that is heard, or never. Cancel-safe.
async fn next(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => {
            signal.recv().await;
        }
        None => std::future::pending().await,
    }
}

/// Whether the kernel, by the text of `/proc/self/status`, drops this signal; elsewhere than on Linux
/// nobody knows, and it is heard.
fn is_ignored(status: &str, kind: SignalKind) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask & (1 << (kind.as_raw_value() - 1)) != 0)
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use rustix::process::{Signal as Number, getpid, kill_process};

    use super::*;

    #[tokio::test]
    async fn a_terminal_that_is_closed_is_heard_of_once_however_often_it_says_so() {
        let mut interrupt = Interrupt::listen().unwrap();
        // Hears what it hears, at the same moment.
        let mut hangups = signal(SignalKind::hangup()).unwrap();
        kill_process(getpid(), Number::HUP).unwrap();
        interrupt.heard().await;
        hangups.recv().await.unwrap();
        kill_process(getpid(), Number::HUP).unwrap();
        hangups.recv().await.unwrap();
        assert!(interrupt.heard().now_or_never().is_none());
        kill_process(getpid(), Number::TERM).unwrap();
        interrupt.heard().await;
    }

    #[test]
    fn reads_of_the_kernel_which_signals_are_ignored() {
        let status = "Name:\tx\nSigBlk:\t00000000ffffffff\nSigIgn:\t0000000000000005\n";
        assert!(is_ignored(status, SignalKind::hangup()));
        assert!(is_ignored(status, SignalKind::quit()));
        assert!(!is_ignored(status, SignalKind::interrupt()));
        assert!(!is_ignored("", SignalKind::hangup()));
    }
}
