//! What tests of whole processes share: one that speaks lines of JSON, and a swarm whose keys are
//! in files.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread::{JoinHandle, spawn};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::cli::{Running, ifswarm};
use crate::support::FixtureAgent;

/// A process with pipes. What it writes is read all the time, so that it never waits for the test.
pub(crate) struct Program {
    child: Child,
    pub(crate) stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    log: Receiver<String>,
    readers: Vec<JoinHandle<()>>,
}

/// How a process ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    /// What nobody had taken of its standard output.
    pub(crate) lines: Vec<String>,
    /// And of its standard error.
    pub(crate) log: String,
}

impl Program {
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (stdout, stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let (stdout, lines) = reader(stdout);
        let (stderr, log) = reader(stderr);
        Self {
            stdin: child.stdin.take(),
            child,
            lines,
            log,
            readers: vec![stdout, stderr],
        }
    }

    /// Writes one line to its standard input.
    pub(crate) fn write(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().expect("not closed yet");
        stdin.write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    /// A draft.
    pub(crate) fn say(&mut self, to: &str, payload: &Value) {
        let draft = serde_json::json!({ "destination": to, "payload": payload });
        self.write(&draft.to_string());
    }

    pub(crate) fn close_input(&mut self) {
        self.stdin = None;
    }

    /// The next line of its standard output; none at its end.
    pub(crate) fn line(&self) -> Option<String> {
        next(&self.lines)
    }

    /// The next line, as JSON.
    pub(crate) fn json(&self) -> Value {
        let line = self.line().expect("a line, not the end");
        serde_json::from_str(&line).unwrap_or_else(|err| panic!("{err}: {line}"))
    }

    /// The next event of this name; what comes before is dropped.
    pub(crate) fn event(&self, name: &str) -> Value {
        loop {
            let event = self.json();
            if event["event"] == name {
                return event;
            }
        }
    }

    /// The next line of its standard error with this in it; what comes before is dropped.
    pub(crate) fn logged(&self, part: &str) -> String {
        loop {
            let line = next(&self.log);
            let line = line.unwrap_or_else(|| panic!("never logged: {part}"));
            if line.contains(part) {
                return line;
            }
        }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal.
    pub(crate) fn kill(&self, signal: &str) {
        kill(signal, &self.child.id().to_string());
    }

    /// Closes its input, and waits for its end.
    pub(crate) fn end(mut self) -> Ended {
        self.stdin = None;
        let mut ended = Ended {
            code: -1,
            lines: Vec::new(),
            log: String::new(),
        };
        while let Some(line) = next(&self.lines) {
            ended.lines.push(line);
        }
        while let Some(line) = next(&self.log) {
            ended.log += &line;
            ended.log.push('\n');
        }
        for reader in self.readers.drain(..) {
            reader.join().unwrap();
        }
        ended.code = self.child.wait().unwrap().code().expect("no signal");
        ended
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Where a test failed before it ended it: gently, so that it takes its own children along.
        if let Ok(None) = self.child.try_wait() {
            self.stdin = None;
            sh(&format!("kill -CONT {0}; kill -TERM {0}", self.child.id()));
        }
    }
}

impl Ended {
    /// The events of this name among what nobody had taken.
    pub(crate) fn events(&self, name: &str) -> Vec<Value> {
        let events = self.lines.iter();
        let events = events.map(|line| serde_json::from_str::<Value>(line).unwrap());
        events.filter(|event| event["event"] == name).collect()
    }
}

/// A swarm of fixture agents with their keys in files, and a signaling server that admits them.
pub(crate) struct Stage {
    pub(crate) folder: TempDir,
    pub(crate) swarm: PathBuf,
    pub(crate) url: String,
    server: Option<Running>,
}

impl Stage {
    pub(crate) fn new(ids: &[&str]) -> Self {
        Self::with(ids, "")
    }

    /// `more` stands at the end of the swarm file.
    pub(crate) fn with(ids: &[&str], more: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut text = "swarm: staged\nagents:\n".to_owned();
        for id in ids {
            let agent = FixtureAgent::new(id);
            let key = folder.path().join(format!("{id}.pem"));
            agent.key.create_file(&key).unwrap();
            let public = agent.public_key();
            text += &format!("  - {{ id: {id}, public_key: {public}, key: {id}.pem }}\n");
        }
        let swarm = folder.path().join("swarm.yaml");
        fs::write(&swarm, text + more).unwrap();
        let mut server = Running::signal(&[
            "--listen",
            "127.0.0.1:0",
            "--swarm",
            swarm.to_str().unwrap(),
        ]);
        let line = server.line();
        let url = line.strip_prefix("listening on ").unwrap().to_owned();
        Self {
            folder,
            swarm,
            url,
            server: Some(server),
        }
    }

    /// Ends the server; where it listened.
    pub(crate) fn stop_server(&mut self) -> String {
        let server = self.server.take().expect("a server that runs");
        server.kill("TERM");
        assert_eq!(server.end().0, 0);
        let address = self.url.split_once("://").expect("a URL").1;
        address.to_owned()
    }

    /// Ends the server, and starts another like it at the same address.
    pub(crate) fn restart_server(&mut self) {
        let address = self.stop_server();
        let swarm = self.swarm.to_str().unwrap().to_owned();
        let mut server = Running::signal(&["--listen", &address, "--swarm", &swarm]);
        assert_eq!(server.line(), format!("listening on {}", self.url));
        self.server = Some(server);
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// `ifswarm VERB` with what every agent here needs, by way of these servers.
    fn command_of(&self, verb: &str, urls: &str) -> Command {
        let mut command = ifswarm();
        command.arg(verb).args(["--signal", urls, "--swarm"]);
        command.arg(&self.swarm);
        command
    }

    pub(crate) fn agent(&self, id: &str) -> Command {
        self.agent_of(id, &self.url)
    }

    /// An agent that knows of these servers.
    pub(crate) fn agent_of(&self, id: &str, urls: &str) -> Command {
        let mut command = self.command_of("agent", urls);
        command.args(["--id", id]);
        command
    }

    pub(crate) fn send(&self, from: &str, to: &str) -> Command {
        self.send_of(from, to, &self.url)
    }

    /// `send`, by way of these servers.
    pub(crate) fn send_of(&self, from: &str, to: &str, urls: &str) -> Command {
        let mut command = self.command_of("send", urls);
        command.args(["--as", from, "--to", to]);
        command
    }

    /// An agent with a program at its pipes.
    pub(crate) fn exec(&self, id: &str, program: &str) -> Command {
        let mut command = self.agent(id);
        command.args(["--exec", program]);
        command
    }
}

/// Sends a signal to a process.
pub(crate) fn kill(signal: &str, process: &str) {
    // The shell's own `kill`: a machine may have no other.
    let command = format!("kill -{signal} {process}");
    assert!(sh(&command), "{command}");
}

/// Whether a process is there, and is not only waiting for its parent to notice its end.
pub(crate) fn lives(process: &str) -> bool {
    let status = fs::read_to_string(Path::new("/proc").join(process).join("status"));
    status.is_ok_and(|status| !status.contains("\nState:\tZ"))
}

/// Waits until a process is no more.
pub(crate) fn gone(process: &str) {
    let until = std::time::Instant::now() + PATIENCE;
    while lives(process) {
        assert!(std::time::Instant::now() < until, "{process} lives");
        // Of a process that is not ours there is nothing to wait on.
        std::thread::yield_now();
    }
}

fn sh(command: &str) -> bool {
    let mut sh = Command::new("sh");
    sh.args(["-c", command]).status().unwrap().success()
}

fn reader(from: impl Read + Send + 'static) -> (JoinHandle<()>, Receiver<String>) {
    let (sender, lines) = channel();
    let reader = spawn(move || {
        for line in BufReader::new(from).lines() {
            // Who has gone does not hear it.
            let _ = sender.send(line.unwrap());
        }
    });
    (reader, lines)
}

fn next(lines: &Receiver<String>) -> Option<String> {
    use std::sync::mpsc::RecvTimeoutError::{Disconnected, Timeout};
    match lines.recv_timeout(PATIENCE) {
        Ok(line) => Some(line),
        Err(Disconnected) => None,
        Err(Timeout) => panic!("something that was waited for never came"),
    }
}

/// Far longer than anything here takes, on a busy machine too.
const PATIENCE: Duration = Duration::from_secs(120);
