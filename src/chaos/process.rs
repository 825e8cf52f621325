//! One real process of a run: its pipes, and the signals that strike it.
//!
//! The end of its standard input ends an agent or the server, however this process came to its own end.
//! One that is stopped reads no end: on Linux it is killed when the thread that started it ends, which
//! has to be one that lives as long as this process does (`cli::chaos_child`).

use std::fs::OpenOptions;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio::time::timeout;

/// Which process of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Who {
    /// An agent, by its place in the swarm file.
    Agent(usize),
    /// The signaling server.
    Server,
}

/// A line of a process, or its end.
#[derive(Debug)]
pub(super) struct Heard {
    pub(super) who: Who,
    /// Which run of it.
    pub(super) life: u32,
    pub(super) at: Instant,
    /// None at the end of its standard output.
    pub(super) line: Option<String>,
}

/// Why a line was not written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unwritten {
    /// The process takes no more, or has ended.
    Gone,
    /// It reads nothing, and as many wait for it as may.
    Full,
}

/// A process that runs, or is stopped.
pub(super) struct Process {
    child: Child,
    pid: Pid,
    input: Option<mpsc::Sender<String>>,
    /// Lines written so far: an agent counts them from 1 in what it says of them.
    written: u64,
}

impl Process {
    /// Starts it; what it says goes to `heard`, what it logs to the end of the file `log`.
    pub(super) fn start(
        command: std::process::Command,
        (who, life): (Who, u32),
        log: &Path,
        heard: mpsc::Sender<Heard>,
    ) -> io::Result<Self> {
        let log = OpenOptions::new().create(true).append(true).open(log)?;
        let mut child = Command::from(command)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()?;
        let gone = || io::Error::other("the process has ended at once");
        let pid = child.id().and_then(|id| i32::try_from(id).ok());
        let pid = pid.and_then(Pid::from_raw).ok_or_else(gone)?;
        let output = child.stdout.take().ok_or_else(gone)?;
        tokio::spawn(listen(output, who, life, heard));
        let (input, lines) = mpsc::channel(LINES);
        tokio::spawn(write(child.stdin.take().ok_or_else(gone)?, lines));
        Ok(Self {
            child,
            pid,
            input: Some(input),
            written: 0,
        })
    }

    /// Writes a line to its standard input; its number.
    pub(super) fn write(&mut self, line: String) -> Result<u64, Unwritten> {
        let input = self.input.as_ref().ok_or(Unwritten::Gone)?;
        input.try_send(line).map_err(|err| match err {
            TrySendError::Full(_) => Unwritten::Full,
            TrySendError::Closed(_) => Unwritten::Gone,
        })?;
        self.written += 1;
        Ok(self.written)
    }

    /// Stops it (SIGSTOP).
    pub(super) fn freeze(&self) -> io::Result<()> {
        Ok(kill_process(self.pid, Signal::STOP)?)
    }

    /// Lets it go on (SIGCONT).
    pub(super) fn thaw(&self) -> io::Result<()> {
        Ok(kill_process(self.pid, Signal::CONT)?)
    }

    /// Whether the kernel says that it is stopped (Linux; elsewhere nobody knows, and it is believed).
    pub(super) fn is_frozen(&self) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid.as_raw_nonzero()));
        // The state stands after the name, which is in parentheses and may hold anything.
        let state = |stat: String| {
            let (_, rest) = stat.rsplit_once(") ")?;
            rest.chars().next()
        };
        stat.ok().and_then(state).is_none_or(|state| state == 'T')
    }

    /// Kills it (SIGKILL) and waits until it is gone; whether that is what it died of.
    pub(super) async fn kill(&mut self) -> io::Result<bool> {
        self.child.start_kill()?;
        let status = self.child.wait().await?;
        Ok(status.signal() == Some(Signal::KILL.as_raw()))
    }

    /// Ends its input, at which it leaves.
    pub(super) fn close(&mut self) {
        self.input = None;
        let _ = self.thaw();
    }

    /// Waits for its end, and kills it if that does not come; how it ended by itself.
    pub(super) async fn end(mut self, patience: Duration) -> Option<ExitStatus> {
        match timeout(patience, self.child.wait()).await {
            Ok(status) => status.ok(),
            Err(_) => {
                let _ = self.kill().await;
                None
            }
        }
    }

    /// Its memory in KiB; 0 where `/proc` does not tell.
    pub(super) fn resident_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid.as_raw_nonzero()));
        status.map_or(0, |status| resident(&status))
    }
}

/// `VmRSS:     12345 kB`
fn resident(status: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    number.and_then(|kib| kib.parse().ok()).unwrap_or(0)
}

/// Reads lines until there are no more; those that were in the pipe when it died, too.
async fn listen(output: impl AsyncRead + Unpin, who: Who, life: u32, heard: mpsc::Sender<Heard>) {
    let mut lines = BufReader::new(output).lines();
    loop {
        let line = lines.next_line().await.ok().flatten();
        let is_last = line.is_none();
        let at = Instant::now();
        let heard = heard.send(Heard {
            who,
            life,
            at,
            line,
        });
        if heard.await.is_err() || is_last {
            return;
        }
    }
}

async fn write(mut input: ChildStdin, mut lines: mpsc::Receiver<String>) {
    while let Some(line) = lines.recv().await {
        // One that has died reads no more; its end is heard elsewhere.
        if input.write_all(line.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// Lines that wait for a process that does not read: drafts are held back long before.
const LINES: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn start(script: &str) -> (Process, mpsc::Receiver<Heard>) {
        let (heard, hearing) = mpsc::channel(16);
        let mut command = std::process::Command::new("sh");
        command.args(["-c", script]);
        let log = Path::new("/dev/null");
        let process = Process::start(command, (Who::Agent(0), 1), log, heard);
        (process.unwrap(), hearing)
    }

    #[tokio::test]
    async fn a_process_is_stopped_goes_on_and_is_killed_for_certain() {
        let (mut process, mut heard) = start("while read line; do echo got $line; done");
        assert_eq!(process.write("one\n".into()), Ok(1));
        let said = heard.recv().await.unwrap();
        assert_eq!(said.line.as_deref(), Some("got one"));
        assert!(!process.is_frozen());
        process.freeze().unwrap();
        while !process.is_frozen() {
            tokio::task::yield_now().await;
        }
        assert_eq!(process.write("two\n".into()), Ok(2));
        process.thaw().unwrap();
        assert_eq!(heard.recv().await.unwrap().line.as_deref(), Some("got two"));
        assert!(process.resident_kib() > 0);
        assert!(process.kill().await.unwrap());
        assert!(heard.recv().await.unwrap().line.is_none());
    }

    #[tokio::test]
    async fn the_end_of_its_input_ends_it() {
        let (mut process, mut heard) = start("cat >&2; echo done");
        process.close();
        let status = process.end(Duration::from_secs(60)).await;
        assert!(status.unwrap().success());
        assert_eq!(heard.recv().await.unwrap().line.as_deref(), Some("done"));
    }

    #[test]
    fn reads_what_the_kernel_writes() {
        assert_eq!(resident("Name:\tx\nVmRSS:\t   1234 kB\n"), 1_234);
        assert_eq!(resident("Name:\tx\n"), 0);
    }
}
