//! Watching and ending: the real programs, with their keys and logs on disk.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use ifswarm::identity::KeyPair;
use ifswarm::witness::{self, SignedCheckpoint};
use serde_json::Value;
use tempfile::TempDir;

use crate::cli::ifswarm;
use crate::deploy::health_check;
use crate::support::bytes_of;

#[test]
fn metrics_count_what_was_said_and_health_says_what_is_wrong() {
    let mut swarm = Swarm::start("");
    let [mut ann, mut bob] = swarm.agents();
    ann.say(r#"{"destination":"bob","payload":{"n":1}}"#);
    bob.until("message");
    ann.until("acked");

    let page = ann.metrics();
    let one = [
        "ifswarm_messages_total{direction=\"sent\"}",
        "ifswarm_links{state=\"up\"}",
        "ifswarm_registered",
        "ifswarm_healthy",
    ];
    for name in one {
        assert_eq!(page.number(name), 1.0, "{name}");
    }
    // The first ping goes out as the link comes up, and is answered before the message.
    assert!(page.number("ifswarm_rtt_seconds_count") >= 1.0);
    assert_eq!(
        page.number("ifswarm_rtt_seconds_bucket{le=\"+Inf\"}"),
        page.number("ifswarm_rtt_seconds_count")
    );
    assert_eq!(
        page.number("ifswarm_refused_total{reason=\"bad-signature\"}"),
        0.0
    );
    assert!(page.number("ifswarm_witness_entries_total") > 5.0);
    assert!(page.number("ifswarm_witness_bytes") > 500.0);
    assert_eq!(
        bob.metrics()
            .number("ifswarm_messages_total{direction=\"delivered\"}"),
        1.0
    );
    // Who talks to whom is nobody's business there.
    assert!(
        !page.0.contains("bob") && !page.0.contains("ann"),
        "{}",
        page.0
    );

    let page = swarm.server.metrics();
    assert_eq!(page.number("ifswarm_signal_census{what=\"agents\"}"), 2.0);
    assert_eq!(page.number("ifswarm_signal_registrations_total"), 2.0);
    assert!(page.number("ifswarm_signal_relayed_total{frame=\"offer\"}") >= 1.0);
    assert!(page.number("ifswarm_signal_relayed_total{frame=\"answer\"}") >= 1.0);
    assert!(page.number("ifswarm_witness_entries_total") >= 5.0);
    assert_eq!(
        page.number("ifswarm_signal_refused_total{code=\"not-admitted\"}"),
        0.0
    );
    // Eve has a key, and nobody knows it.
    let eve = swarm.agent("ann", &["--swarm", "swarm.yaml", "--key", "eve.pem"]);
    assert_eq!(eve.end().0, 2, "a key that is not that of the file");
    let eve = swarm.agent("eve", &["--swarm-name", "two", "--key", "eve.pem"]);
    assert_eq!(eve.end().0, 3);
    let page = swarm.server.metrics();
    assert_eq!(
        page.number("ifswarm_signal_refused_total{code=\"not-admitted\"}"),
        1.0
    );

    for process in [&mut swarm.server, &mut ann] {
        assert_eq!(process.health(), (200, "ok\n".into()));
        assert!(process.probe());
    }
    swarm.stop_serving();
    let gone = ann.until("error");
    assert!(
        gone["message"]
            .as_str()
            .unwrap()
            .contains("signaling server is gone")
    );
    let (status, why) = ann.health();
    assert_eq!(status, 503);
    assert!(why.contains("signaling server is gone"), "{why}");
    assert!(!ann.probe());
    assert_eq!(ann.metrics().number("ifswarm_healthy"), 0.0);
    assert_eq!(ann.metrics().number("ifswarm_registered"), 0.0);
    swarm.serve_again();
    assert_eq!(ann.until("signaling")["state"], "back");
    assert_eq!(ann.health(), (200, "ok\n".into()));
    let page = ann.metrics();
    assert_eq!(page.number("ifswarm_registered"), 1.0);
    assert_eq!(page.number("ifswarm_signaling_comebacks_total"), 1.0);
    assert_eq!(page.number("ifswarm_links{state=\"up\"}"), 1.0);
    for agent in [ann, bob] {
        agent.told_to_end();
        assert_eq!(agent.end().0, 0);
    }
}

#[test]
fn told_to_end_everybody_says_goodbye_and_leaves_a_log_that_is_covered_to_its_end() {
    let swarm = Swarm::start("");
    let [mut ann, mut bob] = swarm.agents();
    ann.say(r#"{"destination":"bob","payload":{"n":1}}"#);
    bob.until("message");
    // Over the link that is open.
    ann.told_to_end();
    assert_eq!(ann.end().0, 0);
    let down = bob.until("peer");
    assert_eq!(
        (&down["state"], &down["reason"]),
        (&"down".into(), &"goodbye".into())
    );
    // The server goes with an agent connected.
    swarm.server.told_to_end();
    assert_eq!(swarm.server.end().0, 0);
    bob.told_to_end();
    assert_eq!(bob.end().0, 0);

    let logs = swarm.dir.path().join("logs/two");
    let heard = entries(&logs.join("bob"));
    let lost = heard
        .iter()
        .find(|entry| entry["event"] == "peer_lost")
        .unwrap();
    assert_eq!(lost["metadata"]["reason"], "goodbye");
    assert_eq!(lost["peer_id"], "ann");
    for owner in ["ann", "bob", "@signal"] {
        let folder = logs.join(owner.replace('@', "%40"));
        let report = witness::check(&folder).unwrap();
        let note = fs::read_to_string(folder.join(witness::CHECKPOINT_FILE)).unwrap();
        let origin = format!("ifswarm-log/two/{owner}");
        let signed = SignedCheckpoint::open(&note, &origin, &report.public_key).unwrap();
        let covered = signed.checkpoint();
        assert_eq!(
            (covered.size, covered.root),
            (report.entries, report.root),
            "{owner}"
        );
    }
}

#[test]
fn an_agent_that_nobody_listens_to_ends_all_the_same_when_told() {
    let swarm = Swarm::start("");
    let [mut ann, mut bob] = swarm.agents();
    // The pipe to whoever started bob takes two of these, and 256 lines wait before it: what is
    // delivered beyond that is held up.
    let mut input = ann.stdin.take().unwrap();
    let talking = thread::spawn(move || {
        let filler = "x".repeat(32 * 1024);
        let line = format!("{{\"destination\":\"bob\",\"payload\":{{\"x\":\"{filler}\"}}}}\n");
        while input.write_all(line.as_bytes()).is_ok() {}
    });
    let delivered = "ifswarm_messages_total{direction=\"delivered\"}";
    while bob.metrics().number(delivered) < 300.0 {
        thread::yield_now();
    }
    bob.told_to_end();
    // Nothing was read of its output, nor is it now.
    assert_eq!(bob.child.wait().unwrap().code(), Some(0));
    ann.told_to_end();
    assert_eq!(ann.end().0, 0);
    talking.join().unwrap();
}

#[test]
fn an_agent_whose_input_has_ended_and_whose_output_nobody_reads_hears_that_it_is_to_end() {
    let swarm = Swarm::start("");
    let mut ann = swarm.agent("ann", &["--swarm", "swarm.yaml", "--stay"]);
    let mut bob = swarm.agent("bob", &["--swarm", "swarm.yaml"]);
    while bob.until("peer")["state"] != "up" {}
    let mut input = ann.stdin.take().unwrap();
    let talking = thread::spawn(move || {
        let filler = "x".repeat(32 * 1024);
        let line = format!("{{\"destination\":\"bob\",\"payload\":{{\"x\":\"{filler}\"}}}}\n");
        while input.write_all(line.as_bytes()).is_ok() {}
    });
    let delivered = "ifswarm_messages_total{direction=\"delivered\"}";
    while bob.metrics().number(delivered) < 300.0 {
        thread::yield_now();
    }
    // It says goodbye, and waits for what it told to be read.
    bob.stdin = None;
    while bob.health().0 == 200 {
        thread::yield_now();
    }
    bob.told_to_end();
    assert_eq!(bob.child.wait().unwrap().code(), Some(0));
    ann.told_to_end();
    assert_eq!(ann.end().0, 0);
    talking.join().unwrap();
}

#[test]
fn no_secret_is_in_any_log_however_much_is_logged() {
    let credential = "the-credential-of-the-turn-server";
    let turn = format!(
        "ice: {{ turn: [{{ url: \"turn:127.0.0.1:9\", username: operator, credential: {credential} }}] }}\n"
    );
    // As much as anything that is linked in can say.
    let swarm = Swarm::logging(&turn, "trace");
    let [mut ann, mut bob] = swarm.agents();
    ann.say(r#"{"destination":"bob","payload":{"n":1}}"#);
    bob.until("message");
    let mut logs = Vec::new();
    for process in [ann, bob, swarm.server] {
        process.told_to_end();
        let (code, log) = process.end();
        assert_eq!(code, 0);
        // It was logged, one object a line.
        for line in log.lines() {
            let line: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
            assert!(
                line["level"].is_string() && line["fields"]["message"].is_string(),
                "{line}"
            );
        }
        assert!(log.contains("admin: http://"), "{log}");
        logs.push(log);
    }
    let mut secrets = vec![("the credential of TURN", credential.to_owned())];
    for id in ["ann", "bob", "signal"] {
        let pem = fs::read_to_string(swarm.dir.path().join(format!("{id}.pem"))).unwrap();
        let body = pem.lines().nth(1).unwrap().to_owned();
        secrets.push(("the body of a key file", body));
        secrets.push(("a private key", hex::encode(secret(id))));
    }
    let witnessed =
        fs::read_to_string(swarm.dir.path().join("logs/two/ann/entries.jsonl")).unwrap();
    let passwords = witnessed.split("a=ice-pwd:").skip(1);
    let passwords = passwords.map(|rest| rest.split('\\').next().unwrap().to_owned());
    let before = secrets.len();
    secrets.extend(passwords.map(|password| ("an ice-pwd", password)));
    assert!(
        secrets.len() >= before + 2,
        "one of the offer, one of the answer"
    );
    for (what, secret) in &secrets {
        assert!(secret.len() >= 16, "{what}: {secret}");
        for log in &logs {
            assert!(!log.contains(secret.as_str()), "{what} is in a log:\n{log}");
        }
    }
}

/// A server and a swarm file of two, all with keys on disk.
struct Swarm {
    dir: TempDir,
    rust_log: &'static str,
    server: Process,
    url: String,
}

impl Swarm {
    fn start(more: &str) -> Self {
        Self::logging(more, "")
    }

    /// With this in the environment of all.
    fn logging(more: &str, rust_log: &'static str) -> Self {
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

    fn stop_serving(&mut self) {
        self.server.told_to_end();
        assert_eq!(self.server.child.wait().unwrap().code(), Some(0));
    }

    /// At the same address.
    fn serve_again(&mut self) {
        let address = self.url.split_once("://").unwrap().1;
        let (server, url) = Self::serve(self.dir.path(), address, self.rust_log);
        assert_eq!(url, self.url);
        self.server = server;
    }

    fn agent(&self, id: &str, more: &[&str]) -> Process {
        let args = ["agent", "--id", id, "--signal", &self.url];
        let args = [&args[..], more].concat();
        Process::start(self.dir.path(), &args, self.rust_log)
    }

    /// Both agents, linked.
    fn agents(&self) -> [Process; 2] {
        let stay = ["--swarm", "swarm.yaml", "--stay"];
        let mut agents = ["ann", "bob"].map(|id| self.agent(id, &stay));
        for agent in &mut agents {
            while agent.until("peer")["state"] != "up" {}
        }
        agents
    }
}

/// A program that runs until it is told to end.
struct Process {
    child: Child,
    stdin: Option<ChildStdin>,
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
    fn until(&mut self, event: &str) -> Value {
        loop {
            let line: Value = serde_json::from_str(&self.line()).unwrap();
            if line["event"] == event {
                return line;
            }
        }
    }

    fn say(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().unwrap();
        stdin.write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    fn told_to_end(&self) {
        let kill = format!("kill -TERM {}", self.child.id());
        let told = Command::new("sh").args(["-c", &kill]).status();
        assert!(told.unwrap().success());
    }

    /// Its exit code, and all that it logged.
    fn end(mut self) -> (i32, String) {
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

    fn health(&mut self) -> (u16, String) {
        self.ask("/healthz")
    }

    /// What the probe of the Dockerfile says of it.
    fn probe(&mut self) -> bool {
        let admin = self.admin();
        let (_, port) = admin.rsplit_once(':').unwrap();
        let words = health_check(port);
        let probed = Command::new(&words[0]).args(&words[1..]).status();
        probed.unwrap().success()
    }

    fn metrics(&mut self) -> Metrics {
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
struct Metrics(String);

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

    fn number(&self, series: &str) -> f64 {
        let mut lines = self.0.lines();
        let number = lines.find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        let number = number.unwrap_or_else(|| panic!("no {series} in:\n{}", self.0));
        number.parse().unwrap()
    }
}

fn entries(folder: &Path) -> Vec<Value> {
    let text = fs::read_to_string(folder.join("entries.jsonl")).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn secret(id: &str) -> [u8; 32] {
    bytes_of("operations key", id)
}
