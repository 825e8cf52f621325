//! A child program at the pipes of an agent: started again when it fails, with growing pauses, and
//! ended with all its own children.
//!
//! | the program | then |
//! |---|---|
//! | ends with 0 | it has done its work: the agent leaves, unless it is to stay |
//! | fails, or is killed | it is started again after 1 s, 2 s, … 30 s; from the beginning after it has lived for a minute |
//! | does not read | the agent's links are read no more once 256 lines wait, and the senders are held up |
//! | is still there when the agent has left | its input ends; after 1 s SIGTERM, after 1 s more SIGKILL, to its whole process group |

use std::io::{BufRead, BufReader, Read};
use std::process::{ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, timeout};

use super::agent_lines::Input;
use super::agent_pipes::{self, Ends, INPUTS, LINES, Pipes};

/// A program to be run.
pub(super) struct Program {
    /// For the shell.
    pub(super) command: String,
    /// Before each line of its standard error.
    pub(super) name: String,
    /// The first line that it is told, each time it starts.
    pub(super) greeting: String,
    /// Whether it is started again also when it ends with 0.
    pub(super) stays: bool,
}

/// Starts it, and looks after it until the agent drops its end of the lines.
pub(super) fn start(program: Program) -> Ends {
    let (lines, told) = mpsc::channel(LINES);
    let (inputs, read) = mpsc::channel(INPUTS);
    let (done, closed) = oneshot::channel();
    tokio::spawn(async move {
        supervise(&program, told, inputs).await;
        let _ = done.send(());
    });
    (read, lines, Pipes(closed))
}

async fn supervise(
    program: &Program,
    mut lines: mpsc::Receiver<String>,
    inputs: mpsc::Sender<Input>,
) {
    let mut pause = FIRST_PAUSE;
    let mut next = None;
    loop {
        let born = Instant::now();
        match live(program, &mut lines, &inputs, &mut next).await {
            Ok(Ended::Left) => return,
            Ok(Ended::Itself(status)) if status.success() && !program.stays => break,
            Ok(Ended::Itself(status)) => {
                tracing::warn!(name = %program.name, reason = %status, "the program has ended; it is started again");
            }
            Err(err) => {
                tracing::warn!(name = %program.name, reason = %err, "the program cannot be started; tried again");
            }
        }
        if born.elapsed() > LONG_ENOUGH {
            pause = FIRST_PAUSE;
        }
        // Cancel-safe both; who has gone meanwhile needs no program.
        tokio::select! {
            () = sleep(pause) => {}
            () = inputs.closed() => return,
        }
        pause = (2 * pause).min(LONGEST_PAUSE);
    }
    // The end of the input; what is told until the agent has left, nobody hears.
    drop(inputs);
    while lines.recv().await.is_some() {}
}

/// How one life of the program ended.
enum Ended {
    /// By itself.
    Itself(ExitStatus),
    /// Because the agent has left.
    Left,
}

/// One life. `next` is a line that could not be written to the program before this one.
async fn live(
    program: &Program,
    lines: &mut mpsc::Receiver<String>,
    inputs: &mpsc::Sender<Input>,
    next: &mut Option<String>,
) -> std::io::Result<Ended> {
    let mut child = Command::new("sh")
        .args(["-c", &program.command])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // A group of its own: its children are ended with it, and Ctrl-C is for the agent to hear.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()?;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (Some(mut stdin), Some(stdout), Some(stderr)) = (stdin, stdout, stderr) else {
        return Err(std::io::Error::other("no pipes"));
    };
    let stdout = std::fs::File::from(stdout.into_owned_fd()?);
    let stderr = std::fs::File::from(stderr.into_owned_fd()?);
    let (inputs, name) = (inputs.clone(), program.name.clone());
    thread::spawn(move || agent_pipes::read(stdout, &inputs));
    thread::spawn(move || log(stderr, &name));
    let left = {
        let telling = tell(&mut stdin, &program.greeting, lines, next);
        // `wait` is cancel-safe; telling keeps a line that it could not write.
        tokio::select! {
            left = telling => left,
            status = child.wait() => return Ok(Ended::Itself(status?)),
        }
    };
    drop(stdin);
    match left {
        Told::All => end(&mut child).await,
        // It has closed its input; it may have more to say before it ends.
        Told::NobodyReads => return Ok(Ended::Itself(child.wait().await?)),
    }
    Ok(Ended::Left)
}

enum Told {
    All,
    NobodyReads,
}

/// Tells the program what happens, until the agent has left or nobody reads.
async fn tell(
    stdin: &mut ChildStdin,
    greeting: &str,
    lines: &mut mpsc::Receiver<String>,
    next: &mut Option<String>,
) -> Told {
    if stdin.write_all(greeting.as_bytes()).await.is_err() {
        return Told::NobodyReads;
    }
    loop {
        if next.is_none() {
            *next = lines.recv().await;
        }
        let Some(line) = next else {
            return Told::All;
        };
        if stdin.write_all(line.as_bytes()).await.is_err() {
            return Told::NobodyReads;
        }
        *next = None;
    }
}

/// Ends a program whose input has ended.
async fn end(child: &mut Child) {
    let group = child
        .id()
        .and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
    for (patience, signal) in [(TO_FINISH, Signal::TERM), (TO_CLEAN_UP, Signal::KILL)] {
        if timeout(patience, child.wait()).await.is_ok() {
            return;
        }
        if let Some(group) = group {
            // It may have ended just now.
            let _ = kill_process_group(group, signal);
        }
    }
    let _ = child.wait().await;
}

/// Logs what the program says on standard error, line by line.
fn log(stderr: impl Read, name: &str) {
    let mut stderr = BufReader::new(stderr);
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = stderr
            .by_ref()
            .take(LONGEST_LOGGED)
            .read_until(b'\n', &mut line);
        if !matches!(read, Ok(1..)) {
            return;
        }
        let text = String::from_utf8_lossy(&line);
        tracing::info!(target: "ifswarm::exec", "{name}: {}", text.trim_end());
    }
}

/// From its end until it is started again: at first, and at most.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// What has lived so long was started well.
const LONG_ENOUGH: Duration = Duration::from_secs(60);
/// What a program has after its input ended, and after SIGTERM: an agent that is told to end does so
/// in five seconds, its program included.
const TO_FINISH: Duration = Duration::from_secs(1);
const TO_CLEAN_UP: Duration = Duration::from_secs(1);
/// A longer line is logged in parts.
const LONGEST_LOGGED: u64 = 8 * 1024;
