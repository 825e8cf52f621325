//! A server and agents with `--admin`, their keys and logs on disk: real programs that are watched.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use ifswarm::identity::KeyPair;
use serde_json::Value;
use tempfile::TempDir;

use crate::cli::ifswarm;
use crate::deploy::health_check;
use crate::support::bytes_of;

/// A server and a swarm file of two, all with keys on disk.
pub(crate) struct Swarm {
    pub(crate) dir: TempDir,
    rust_log: &'static str,
    pub(crate) server: Process,
    url: String,
}

impl Swarm {
    pub(crate) fn start(more: &str) -> Self {
        Self::logging(more, "")
    }

    /// With this in the environment of all.
    pub(crate) fn logging(more: &str, rust_log: &'static str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut agents = String::new();
        for id in ["ann", "bob", "eve", "signal"] {
            let key = KeyPair::from_secret(&secret(id));
            key.create_file(&dir.path().join(format!("{id}.pem")))
                .unwrap();
            if ["ann", "bob"].contains(&id) {
                let public = key.public_key();
                agents += &format!("  - {{ id: {id}, public_key: {public}, key: {id}.pem }}\n");
            }
        }
        let text = format!("swarm: two\nagents:\n{agents}witness: {{ dir: logs }}\n{more}");
        fs::write(dir.path().join("swarm.yaml"), text).unwrap();
        let (server, url) = Self::serve(dir.path(), "127.0.0.1:0", rust_log);
        Self {
            dir,
            rust_log,
            server,
            url,
        }
    }

    fn serve(dir: &Path, listen: &str, rust_log: &str) -> (Process, String) {
        let listen = ["signal", "--listen", listen, "--swarm", "swarm.yaml"];
        let more = ["--key", "signal.pem"];
        let mut server = Process::start(dir, &[&listen[..], &more].concat(), rust_log);
        let line = server.line();
        let url = line.strip_prefix("listening on ").unwrap().to_owned();
        (server, url)
    }

    pub(crate) fn stop_serving(&mut self) {
        self.server.told_to_end();
        assert_eq!(self.server.child.wait().unwrap().code(), Some(0));
    }

    /// At the same address.
    pub(crate) fn serve_again(&mut self) {
        let address = self.url.split_once("://").unwrap().1;
        let (server, url) = Self::serve(self.dir.path(), address, self.rust_log);
        assert_eq!(url, self.url);
        self.server = server;
    }

    pub(crate) fn agent(&self, id: &str, more: &[&str]) -> Process {
        let args = ["agent", "--id", id, "--signal", &self.url];
        let args = [&args[..], more].concat();
        Process::start(self.dir.path(), &args, self.rust_log)
    }

    /// Both agents, linked.
    pub(crate) fn agents(&self) -> [Process; 2] {
        let stay = ["--swarm", "swarm.yaml", "--stay"];
        let mut agents = ["ann", "bob"].map(|id| self.agent(id, &stay));
        for agent in &mut agents {
            while agent.until("peer")["state"] != "up" {}
        }
        agents
    }
}

/// A program that runs until it is told to end.
pub(crate) struct Process {
    pub(crate) child: Child,
    pub(crate) stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
    /// Lines of its log, read so that it never waits for that.
    stderr: Receiver<String>,
    log: String,
    admin: Option<String>,
}

impl Process {
    /// An empty `RUST_LOG` is as good as none.
    fn start(dir: &Path, args: &[&str], rust_log: &str) -> Self {
        let mut child = ifswarm()
            .env("RUST_LOG", rust_log)
            .current_dir(dir)
            .args(["-vvv", "--log-format", "json"])
            .args(args)
            .args(["--admin", "127.0.0.1:0"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (lines, read) = channel();
        thread::spawn(move || {
            for line in stderr.lines() {
                // The test may have ended.
                let _ = lines.send(line.unwrap() + "\n");
            }
        });
        Self {
            stdin: child.stdin.take(),
            stdout: BufReader::new(child.stdout.take().unwrap()),
            stderr: read,
            log: String::new(),
            admin: None,
            child,
        }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        assert!(
            !line.is_empty(),
            "it has ended:\n{}",
            self.stderr.iter().collect::<String>()
        );
        line.trim_end().into()
    }

    /// The next line of this event.
    pub(crate) fn until(&mut self, event: &str) -> Value {
        loop {
            let line: Value = serde_json::from_str(&self.line()).unwrap();
            if line["event"] == event {
                return line;
            }
        }
    }

    pub(crate) fn say(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().unwrap();
        stdin.write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    pub(crate) fn told_to_end(&self) {
        let kill = format!("kill -TERM {}", self.child.id());
        let told = Command::new("sh").args(["-c", &kill]).status();
        assert!(told.unwrap().success());
    }

    /// Its exit code, and all that it logged.
    pub(crate) fn end(mut self) -> (i32, String) {
        let mut rest = Vec::new();
        self.stdout.read_to_end(&mut rest).unwrap();
        let code = self.child.wait().unwrap().code();
        let log = std::mem::take(&mut self.log) + &self.stderr.iter().collect::<String>();
        (code.unwrap_or_else(|| panic!("killed:\n{log}")), log)
    }

    /// Where its admin server is, by its log.
    fn admin(&mut self) -> String {
        while self.admin.is_none() {
            let line = self.stderr.recv().expect("it logs where it is");
            let entry: Value = serde_json::from_str(&line).unwrap();
            if entry["target"] == "ifswarm::admin" {
                let address = entry["fields"]["address"].as_str().unwrap();
                self.admin = Some(address.to_owned());
            }
            self.log += &line;
        }
        self.admin.clone().unwrap()
    }

    fn ask(&mut self, path: &str) -> (u16, String) {
        let mut tcp = TcpStream::connect(self.admin()).unwrap();
        write!(tcp, "GET {path} HTTP/1.0\r\n\r\n").unwrap();
        let mut answer = String::new();
        tcp.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, body.to_owned())
    }

    pub(crate) fn health(&mut self) -> (u16, String) {
        self.ask("/healthz")
    }

    /// What the probe of the Dockerfile says of it.
    pub(crate) fn probe(&mut self) -> bool {
        let admin = self.admin();
        let (_, port) = admin.rsplit_once(':').unwrap();
        let words = health_check(port);
        let probed = Command::new(&words[0]).args(&words[1..]).status();
        probed.unwrap().success()
    }

    pub(crate) fn metrics(&mut self) -> Metrics {
        let (status, text) = self.ask("/metrics");
        assert_eq!(status, 200);
        Metrics::read(text)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Where a test failed before it ended it.
        let _ = self.child.kill();
    }
}

/// A page in the text format 0.0.4.
pub(crate) struct Metrics(pub(crate) String);

impl Metrics {
    /// Checks its form: every number has a type above it, nothing stands twice.
    fn read(text: String) -> Self {
        let mut typed = Vec::new();
        let mut seen = Vec::new();
        for line in text.lines() {
            if let Some(of) = line.strip_prefix("# TYPE ") {
                let (name, kind) = of.split_once(' ').unwrap();
                assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
                assert!((kind == "counter") == name.ends_with("_total"), "{line}");
                assert!(
                    name.starts_with("ifswarm_") && !typed.contains(&name),
                    "{line}"
                );
                typed.push(name);
            } else if !line.starts_with("# HELP ") {
                let (series, number) = line.rsplit_once(' ').unwrap();
                number
                    .parse::<f64>()
                    .unwrap_or_else(|err| panic!("{line}: {err}"));
                let last = *typed.last().unwrap();
                assert!(series.starts_with(last), "{line} below {last}");
                assert!(!seen.contains(&series), "{line} stands twice");
                seen.push(series);
            }
        }
        assert!(text.ends_with('\n'));
        Self(text)
    }

    pub(crate) fn number(&self, series: &str) -> f64 {
        let mut lines = self.0.lines();
        let number = lines.find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        let number = number.unwrap_or_else(|| panic!("no {series} in:\n{}", self.0));
        number.parse().unwrap()
    }
}

pub(crate) fn secret(id: &str) -> [u8; 32] {
    bytes_of("operations key", id)
}
