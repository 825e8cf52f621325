//! One child process, supervised: started, told what to do, started again when it dies where that
//! is wanted, and ended.
//!
//! A child is ended by the end of its standard input, which it also sees when this process is no
//! more, however it ended. After that it has its time, then SIGTERM, then SIGKILL.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{sleep_until, timeout};

use super::orders::{Answer, Numbered, Order, Start};
use crate::identity::AgentId;
use crate::swarm::Restart;

/// How a child is started.
pub(super) struct Recipe {
    pub(super) id: AgentId,
    pub(super) command: Box<dyn Fn() -> std::process::Command + Send + Sync>,
    pub(super) start: Start,
    pub(super) restart: Restart,
}

/// The one who looks after a child.
pub(super) struct Keeper {
    pub(super) id: AgentId,
    orders: mpsc::Sender<Asked>,
    deaths: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

type Asked = (Order, oneshot::Sender<Result<Answer, String>>);

impl Keeper {
    /// Starts the child, which is then to be told to start.
    pub(super) fn start(recipe: Recipe) -> Self {
        let (orders, asked) = mpsc::channel(1);
        let deaths = Arc::default();
        let id = recipe.id.clone();
        let task = tokio::spawn(keep(recipe, asked, Arc::clone(&deaths)));
        Self {
            id,
            orders,
            deaths,
            task,
        }
    }

    /// Tells it what to do, and waits until it has done so; or why it has not: one line.
    pub(super) async fn ask(&self, order: Order) -> Result<Answer, String> {
        let gone = || format!("the process of {} is gone", self.id);
        let (answer, answered) = oneshot::channel();
        let asked = self.orders.send((order, answer)).await;
        asked.map_err(|_| gone())?;
        match answered.await.map_err(|_| gone())?? {
            Answer::Failed { message } => Err(format!("{}: {message}", self.id)),
            answer => Ok(answer),
        }
    }

    /// How its processes have died so far that were not started again.
    pub(super) fn deaths(&self) -> Vec<String> {
        let deaths = self.deaths.lock().unwrap_or_else(PoisonError::into_inner);
        deaths.clone()
    }

    /// Ends it, and waits until it has ended.
    pub(super) async fn end(self) {
        drop(self.orders);
        let _ = self.task.await;
    }
}

async fn keep(recipe: Recipe, mut orders: mpsc::Receiver<Asked>, deaths: Arc<Mutex<Vec<String>>>) {
    let id = &recipe.id;
    let mut pause = FIRST_PAUSE;
    let mut is_first = true;
    loop {
        let born = Instant::now();
        let died = match Life::begin(&recipe) {
            Ok(life) => match live(life, &recipe, is_first, &mut orders).await {
                Some(died) => died,
                None => return,
            },
            Err(err) => format!("the process of {id} cannot be started: {err}"),
        };
        is_first = false;
        if recipe.restart == Restart::Never {
            tracing::error!(reason = %died, "a process has ended for good");
            remember(&deaths, &died);
            refuse(&mut orders, &died, None).await;
            return;
        }
        tracing::warn!(reason = %died, "a process has ended; it is started again");
        if born.elapsed() > LONG_ENOUGH {
            pause = FIRST_PAUSE;
        }
        let until = Instant::now() + pause;
        if !refuse(&mut orders, &died, Some(until)).await {
            return;
        }
        pause = (2 * pause).min(LONGEST_PAUSE);
    }
}

fn remember(deaths: &Mutex<Vec<String>>, died: &str) {
    let mut deaths = deaths.lock().unwrap_or_else(PoisonError::into_inner);
    deaths.push(died.to_owned());
}

/// Answers orders with `why` until then, or until there are no more; whether there may be.
async fn refuse(orders: &mut mpsc::Receiver<Asked>, why: &str, until: Option<Instant>) -> bool {
    loop {
        let over = async {
            match until {
                Some(until) => sleep_until(until.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = over => return true,
            asked = orders.recv() => match asked {
                Some((_, answer)) => drop(answer.send(Err(why.to_owned()))),
                None => return false,
            },
        }
    }
}

/// One life: until it dies, and how; or until there are no more orders, and it was ended.
async fn live(
    mut life: Life,
    recipe: &Recipe,
    is_first: bool,
    orders: &mut mpsc::Receiver<Asked>,
) -> Option<String> {
    if !is_first {
        match life.ask(&Order::Start(recipe.start.clone())).await {
            Ok(Answer::Failed { message }) => {
                let said = life.end().await;
                return Some(format!(
                    "{} did not start again: {message}{said}",
                    recipe.id
                ));
            }
            Ok(_) => {}
            Err(()) => return Some(life.died(&recipe.id).await),
        }
    }
    loop {
        // Cancel-safe: a receiver of a queue, and waiting for the end of a process.
        let asked = tokio::select! {
            asked = orders.recv() => asked,
            _ = life.child.wait() => return Some(life.died(&recipe.id).await),
        };
        let Some((order, mut answer)) = asked else {
            life.end().await;
            return None;
        };
        // The order is written whole; waiting for the answer is cancel-safe, and nobody may want it
        // any more: then the next order ends this one.
        let answered = match life.tell(&order).await {
            Ok(number) => tokio::select! {
                answered = life.answer(number, order.patience()) => answered,
                () = answer.closed() => continue,
            },
            Err(()) => Err(()),
        };
        match answered {
            Ok(answered) => {
                // It ends by itself then, as it should.
                let has_left = matches!(answered, Answer::Left(_));
                let _ = answer.send(Ok(answered));
                if has_left {
                    life.end().await;
                    return None;
                }
            }
            Err(()) => {
                let died = life.died(&recipe.id).await;
                let _ = answer.send(Err(died.clone()));
                return Some(died);
            }
        }
    }
}

/// A running child.
struct Life {
    child: Child,
    stdin: Option<ChildStdin>,
    /// How many it was told.
    orders: u64,
    answers: Lines<BufReader<ChildStdout>>,
    said: JoinHandle<VecDeque<String>>,
}

impl Life {
    fn begin(recipe: &Recipe) -> std::io::Result<Self> {
        let mut child = Command::from((recipe.command)())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Ctrl-C is for this process to hear, which tells the children.
            .process_group(0)
            .spawn()?;
        let (stdin, stdout, stderr) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(stdout), Some(stderr)) = (stdout, stderr) else {
            return Err(std::io::Error::other("no pipes"));
        };
        Ok(Self {
            child,
            stdin,
            orders: 0,
            answers: BufReader::new(stdout).lines(),
            said: tokio::spawn(pass_on(stderr, recipe.id.clone())),
        })
    }

    /// Its answer. Without one it is dying, or not what it was.
    async fn ask(&mut self, order: &Order) -> Result<Answer, ()> {
        let number = self.tell(order).await?;
        self.answer(number, order.patience()).await
    }

    /// Tells it what to do; the number of this.
    async fn tell(&mut self, order: &Order) -> Result<u64, ()> {
        self.orders += 1;
        let number = self.orders;
        let mut text = serde_json::to_string(&Numbered {
            number,
            what: order,
        })
        .map_err(drop)?;
        text.push('\n');
        let stdin = self.stdin.as_mut().ok_or(())?;
        match timeout(order.patience(), stdin.write_all(text.as_bytes())).await {
            Ok(Ok(())) => Ok(number),
            _ => Err(()),
        }
    }

    async fn answer(&mut self, number: u64, patience: Duration) -> Result<Answer, ()> {
        let answered = async {
            loop {
                let line = self.answers.next_line().await.ok()??;
                let answer: Numbered<Answer> = serde_json::from_str(&line).ok()?;
                // One before it may be the last word on an order that nobody waited for.
                if answer.number == number {
                    return Some(answer.what);
                }
            }
        };
        timeout(patience, answered).await.ok().flatten().ok_or(())
    }

    /// How it has died: its status, and what it said last. Ends what is left of it.
    async fn died(mut self, id: &AgentId) -> String {
        self.stdin = None;
        let status = match timeout(TO_DIE, self.child.wait()).await {
            Ok(Ok(status)) => status.to_string(),
            _ => {
                self.signal(Signal::KILL);
                "no answer".into()
            }
        };
        let said = self.last_words().await;
        format!("the process of {id} has ended: {status}{said}")
    }

    /// Ends it; what it said last.
    async fn end(mut self) -> String {
        self.stdin = None;
        for (patience, signal) in [(TO_LEAVE, Signal::TERM), (TO_DIE, Signal::KILL)] {
            if timeout(patience, self.child.wait()).await.is_ok() {
                break;
            }
            self.signal(signal);
        }
        let _ = self.child.wait().await;
        self.last_words().await
    }

    fn signal(&self, signal: Signal) {
        let id = self.child.id().and_then(|id| i32::try_from(id).ok());
        if let Some(id) = id.and_then(Pid::from_raw) {
            // It may have ended just now.
            let _ = kill_process(id, signal);
        }
    }

    async fn last_words(&mut self) -> String {
        // Somebody else may hold the pipe for ever.
        match timeout(TO_DIE, &mut self.said).await {
            Ok(Ok(lines)) if !lines.is_empty() => {
                let lines: Vec<_> = lines.into();
                format!("; it said: {}", lines.join(" | "))
            }
            _ => String::new(),
        }
    }
}

/// Passes on what it says on standard error, line by line; the last of them.
async fn pass_on(stderr: ChildStderr, id: AgentId) -> VecDeque<String> {
    let mut lines = BufReader::new(stderr).split(b'\n');
    let mut last = VecDeque::new();
    while let Ok(Some(line)) = lines.next_segment().await {
        let line = String::from_utf8_lossy(&line);
        let line = line.trim_end();
        // As it is: it is a log line already, of a process that logs as this one does.
        // It may be a terminal that was closed.
        let _ = writeln!(io::stderr(), "{id}: {line}");
        if last.len() == LAST_WORDS {
            last.pop_front();
        }
        last.push_back(line.chars().take(LONGEST_WORDS).collect());
    }
    last
}

/// From its end until it is started again: at first, and at most.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// What has lived so long was started well.
const LONG_ENOUGH: Duration = Duration::from_secs(60);
/// After the end of its input: goodbyes take two seconds, and ending a program five.
const TO_LEAVE: Duration = Duration::from_secs(10);
/// For what can only be waited for.
const TO_DIE: Duration = Duration::from_secs(2);
/// Lines of its standard error that are told with its end, and how much of each.
const LAST_WORDS: usize = 5;
const LONGEST_WORDS: usize = 500;
