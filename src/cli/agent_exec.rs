//! A child program at the pipes of an agent: started again when it fails, with growing pauses, and
//! ended with all its own children.
//!
//! | the program | then |
//! |---|---|
//! | ends with 0 | it has done its work: the agent leaves, unless it is to be started again always |
//! | fails, or is killed | it is started again after 1 s, 2 s, … 30 s, unless never; from the beginning after it has lived for a minute |
//! | leaves children behind | SIGTERM, after 2 s SIGKILL, before anything else is done |
//! | does not read | the agent's links are read no more once 256 lines wait, and the senders are held up |
//! | is still there when the agent has left | has 2 s to read what waits; its input ends; after 1 s SIGTERM, after 1 s more SIGKILL, to its whole process group |

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::Timespec;
use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, timeout};

use super::agent_lines::Input;
use super::agent_pipes::{self, Ends, INPUTS, LINES, Pipes, Told};

/// A program to be run.
pub(super) struct Program {
    /// For the shell.
    pub(super) command: String,
    /// Where it runs, if not here.
    pub(super) folder: Option<PathBuf>,
    /// Before each line of its standard error.
    pub(super) name: String,
    /// The first line that it is told, each time it starts.
    pub(super) greeting: String,
    /// When it is started again.
    pub(super) again: Again,
    /// Whether the agent goes on without it. What comes for a program that has done its work then counts
    /// as taken: nobody is to wait for it.
    pub(super) is_outlived: bool,
    /// Whether the agent has an outbox on disk: what a program that has failed did not take waits for
    /// the next run then, with its authors.
    pub(super) is_kept: bool,
}

/// When a program that has ended is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Again {
    Always,
    OnFailure,
    Never,
}

/// Starts it, and looks after it until the agent drops its end of the lines.
pub(super) fn start(program: Program) -> Ends {
    let (lines, told) = mpsc::channel(LINES);
    let (inputs, read) = mpsc::channel(INPUTS);
    let (done, closed) = oneshot::channel();
    tokio::spawn(async move {
        let fault = supervise(&program, told, inputs).await;
        let _ = done.send(fault);
    });
    (read, lines, Pipes(closed))
}

/// Why it has failed for good, if it has.
async fn supervise(
    program: &Program,
    mut lines: mpsc::Receiver<Told>,
    inputs: mpsc::Sender<Input>,
) -> Option<String> {
    let mut pause = FIRST_PAUSE;
    let mut next = None;
    let name = &program.name;
    let fault = loop {
        let born = Instant::now();
        let how = match live(program, &mut lines, &inputs, &mut next).await {
            Ok(Ended::Left) => return None,
            Ok(Ended::Itself(status, said)) => {
                if status.success() && program.again != Again::Always {
                    break None;
                }
                format!("the program has ended: {status}{said}")
            }
            Err(err) => format!("the program cannot be started: {err}"),
        };
        if program.again == Again::Never {
            tracing::warn!(%name, reason = %how, "it is not started again");
            break Some(how);
        }
        tracing::warn!(%name, reason = %how, "it is started again");
        if born.elapsed() > LONG_ENOUGH {
            pause = FIRST_PAUSE;
        }
        // Cancel-safe both; who has gone meanwhile needs no program.
        tokio::select! {
            () = sleep(pause) => {}
            () = inputs.closed() => return None,
        }
        pause = (2 * pause).min(LONGEST_PAUSE);
    };
    if program.is_outlived && program.is_kept && fault.is_some() {
        // As of one that does not read.
        inputs.closed().await;
    }
    // The end of the input; what is told until the agent has left, nobody hears: with an outbox on disk
    // it comes again.
    drop(inputs);
    while let Some(told) = lines.recv().await {
        if let (true, None, Some(held)) = (program.is_outlived, &fault, told.held) {
            held.taken();
        }
    }
    fault
}

/// How one life of the program ended.
enum Ended {
    /// By itself, and what it said last on standard error.
    Itself(ExitStatus, String),
    /// Because the agent has left.
    Left,
}

/// One life. `next` is a line that could not be written to the program before this one.
async fn live(
    program: &Program,
    lines: &mut mpsc::Receiver<Told>,
    inputs: &mpsc::Sender<Input>,
    next: &mut Option<Told>,
) -> std::io::Result<Ended> {
    let mut child = Command::new("sh")
        .args(["-c", &program.command])
        .current_dir(program.folder.as_deref().unwrap_or(Path::new(".")))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // A group of its own: its children are ended with it, and Ctrl-C is for the agent to hear.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()?;
    let mut group = Group::of(&child);
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (Some(mut stdin), Some(stdout), Some(stderr)) = (stdin, stdout, stderr) else {
        return Err(std::io::Error::other("no pipes"));
    };
    let stdout = std::fs::File::from(stdout.into_owned_fd()?);
    let stderr = std::fs::File::from(stderr.into_owned_fd()?);
    let (heard, name) = (inputs.clone(), program.name.clone());
    thread::spawn(move || agent_pipes::read(stdout, &heard));
    let (said, last) = oneshot::channel();
    thread::spawn(move || {
        let _ = said.send(log(stderr, &name));
    });
    let told = {
        let telling = tell(&mut stdin, &program.greeting, lines, next);
        let left = async {
            inputs.closed().await;
            sleep(TO_READ).await;
        };
        // `wait` is cancel-safe; telling keeps a line that it could not write.
        tokio::select! {
            told = telling => Some(told),
            _ = child.wait() => None,
            // One that does not read is not told all of it.
            () = left => Some(Heard::All),
        }
    };
    drop(stdin);
    if let Some(Heard::All) = told {
        end(&mut child, &mut group).await;
        return Ok(Ended::Left);
    }
    // One that has closed its input may have more to say before it ends.
    let status = child.wait().await?;
    group.end().await;
    Ok(Ended::Itself(status, last_words(last).await))
}

/// What a program has read of what there was.
enum Heard {
    All,
    NotAll,
}

/// Tells the program what happens, until the agent has left or nobody reads.
async fn tell(
    stdin: &mut ChildStdin,
    greeting: &str,
    lines: &mut mpsc::Receiver<Told>,
    next: &mut Option<Told>,
) -> Heard {
    if stdin.write_all(greeting.as_bytes()).await.is_err() {
        return Heard::NotAll;
    }
    loop {
        if next.is_none() {
            *next = lines.recv().await;
        }
        let Some(line) = next else {
            return Heard::All;
        };
        let (most, rest) = match &line.held {
            Some(_) => line.parts(),
            None => (line.text.as_bytes(), &[][..]),
        };
        if stdin.write_all(most).await.is_err() {
            return Heard::NotAll;
        }
        if let Some(held) = &line.held {
            // Nothing tells when a child's pipe has room without writing to it.
            while !agent_pipes::has_room(&*stdin, Some(&Timespec::default())) {
                sleep(LOOKED_AFTER).await;
            }
            if let Err(err) = held.note() {
                tracing::error!(reason = %err, "the program is told nothing more");
                return Heard::NotAll;
            }
        }
        if stdin.write_all(rest).await.is_err() {
            return Heard::NotAll;
        }
        *next = None;
    }
}

/// Ends a program whose input has ended.
async fn end(child: &mut Child, group: &mut Group) {
    if timeout(TO_FINISH, child.wait()).await.is_err() {
        group.signal(Signal::TERM);
        if timeout(TO_CLEAN_UP, child.wait()).await.is_err() {
            group.signal(Signal::KILL);
            let _ = child.wait().await;
        }
    }
    group.end().await;
}

/// The process group of a program. It lives as long as one of its members, and its number is nobody
/// else's so long.
struct Group(Option<Pid>);

impl Group {
    fn of(child: &Child) -> Self {
        let id = child.id().and_then(|id| i32::try_from(id).ok());
        Self(id.and_then(Pid::from_raw))
    }

    fn signal(&self, signal: Signal) {
        if let Some(group) = self.0 {
            // It may have ended just now.
            let _ = kill_process_group(group, signal);
        }
    }

    /// Ends what a program that has ended leaves behind.
    async fn end(&mut self) {
        self.signal(Signal::TERM);
        let until = Instant::now() + TO_CLEAN_UP;
        while self.lives() && Instant::now() < until {
            sleep(LOOKED_AFTER).await;
        }
        if self.lives() {
            self.signal(Signal::KILL);
        }
        self.0 = None;
    }

    fn lives(&self) -> bool {
        self.0
            .is_some_and(|group| test_kill_process_group(group).is_ok())
    }
}

impl Drop for Group {
    /// Who is in a hurry does not wait, and leaves nobody behind all the same.
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

/// Logs what the program says on standard error, line by line; the last of them.
fn log(stderr: impl Read, name: &str) -> VecDeque<String> {
    let mut stderr = BufReader::new(stderr);
    let mut line = Vec::new();
    let mut last = VecDeque::new();
    loop {
        line.clear();
        let read = stderr
            .by_ref()
            .take(LONGEST_LOGGED)
            .read_until(b'\n', &mut line);
        if !matches!(read, Ok(1..)) {
            return last;
        }
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_end();
        tracing::info!(target: "ifswarm::exec", "{name}: {text}");
        if last.len() == LAST_WORDS {
            last.pop_front();
        }
        last.push_back(text.to_owned());
    }
}

/// What a program that has ended, with all its children, said last; to stand behind its status.
async fn last_words(last: oneshot::Receiver<VecDeque<String>>) -> String {
    // A process that has left the group may hold the pipe for ever.
    match timeout(TO_CLEAN_UP, last).await {
        Ok(Ok(lines)) if !lines.is_empty() => {
            let lines: Vec<_> = lines.into();
            format!("; it said: {}", lines.join(" | "))
        }
        _ => String::new(),
    }
}

/// From its end until it is started again: at first, and at most.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// What has lived so long was started well.
const LONG_ENOUGH: Duration = Duration::from_secs(60);
/// What a program has to read what waits for it once nobody wants anything of it any more.
const TO_READ: Duration = Duration::from_secs(2);
/// What a program has after its input ended, and after SIGTERM: an agent that is told to end does so
/// in five seconds, its program included.
const TO_FINISH: Duration = Duration::from_secs(1);
const TO_CLEAN_UP: Duration = Duration::from_secs(1);
/// A longer line is logged in parts.
const LONGEST_LOGGED: u64 = 8 * 1024;
/// Between two looks at a group that is ending, or at a pipe that is full.
const LOOKED_AFTER: Duration = Duration::from_millis(20);
/// Lines of its standard error that are told with its end.
const LAST_WORDS: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_program_that_does_not_read_is_ended_when_the_agent_leaves() {
        let (inputs, lines, pipes) = start(Program {
            command: "exec sleep 600".into(),
            folder: None,
            name: "sleeper".into(),
            greeting: "{}\n".into(),
            again: Again::Always,
            is_outlived: false,
            is_kept: false,
        });
        // More than a pipe takes, and as many lines as wait beside it.
        let long = || Told::from("x".repeat(8 * 1024));
        for _ in 0..64 + LINES {
            lines.send(long()).await.unwrap();
            if lines.capacity() == 0 {
                break;
            }
        }
        drop((inputs, lines));
        assert_eq!(pipes.closed().await, None);
    }
}
