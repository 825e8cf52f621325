//! The command: its verbs, exit codes, and what it says of bad input. (`verify` stands in `cli_verify`.)

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, ChildStderr, ChildStdout, Command, Output, Stdio};

use ifswarm::identity::{KeyPair, PublicKey, Session};
use ifswarm::signal::{Client, ClientConfig};
use ifswarm::witness;
use serde_json::Value;

use crate::support::{FixtureAgent, fixtures_dir};

/// The program, with nothing of the caller's environment that changes what it says.
pub(crate) fn ifswarm() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ifswarm"));
    command.env_remove("RUST_LOG").env_remove("NO_COLOR");
    command
}

/// Runs it to its end.
pub(crate) fn run(command: &mut Command) -> (i32, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

/// Runs it with arguments.
pub(crate) fn with(args: &[&str]) -> (i32, String, String) {
    run(ifswarm().args(args))
}

#[test]
fn a_wrong_command_line_is_2_and_help_is_0() {
    for (args, said) in [
        (&["bogus"][..], "bogus"),
        (&["verify"], "FILE"),
        (&["verify", "--bogus", "x"], "--bogus"),
        (&["verify", "--key", "abc", "x"], "64"),
        (&["schema", "nothing"], "ifmessage"),
        (&["completions", "smallsh"], "bash"),
        (
            &["signal", "--open", "--listen", "localhost"],
            "127.0.0.1:8443",
        ),
        (&["signal", "--open", "--swarm", "x.yaml"], "--open"),
        (&["signal", "--open", "--tls-cert", "x.pem"], "--tls-key"),
        (&["signal", "--open", "--tls-key", "x.pem"], "--tls-cert"),
        (&["keygen", "--id", "no id"], "no id"),
        (&["--log-format", "xml", "schema", "swarm"], "json"),
        (&[], "Usage"),
    ] {
        let (code, stdout, stderr) = with(args);
        assert_eq!((code, stdout.as_str()), (2, ""), "{args:?}: {stderr}");
        assert!(stderr.contains(said), "{args:?}: {stderr}");
    }
    for args in [&["--help"][..], &["help", "verify"], &["--version"]] {
        let (code, stdout, _) = with(args);
        assert_eq!(code, 0);
        assert!(stdout.contains("ifswarm"), "{stdout}");
    }
}

#[test]
fn a_bad_rust_log_is_told_and_rust_log_overrides_the_flags() {
    let (code, _, stderr) = run(ifswarm()
        .env("RUST_LOG", "ifswarm=loud")
        .args(["schema", "swarm"]));
    assert_eq!(code, 2);
    assert!(
        stderr.contains("RUST_LOG") && stderr.contains("ifswarm=loud"),
        "{stderr}"
    );
    let (code, ..) = run(ifswarm()
        .env("RUST_LOG", "trace")
        .args(["-vv", "schema", "swarm"]));
    assert_eq!(code, 0);
}

#[test]
fn prints_schemas_that_are_json_and_completions_for_every_shell() {
    for name in ["ifmessage", "frames", "swarm"] {
        let (code, stdout, _) = with(&["schema", name]);
        let schema: Value = serde_json::from_str(&stdout).unwrap();
        assert_eq!(code, 0);
        assert_eq!(
            schema["$schema"],
            "https://json-schema.org/draft/2020-12/schema"
        );
    }
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let (code, stdout, _) = with(&["completions", shell]);
        assert_eq!(code, 0);
        assert!(stdout.contains("keygen"), "{shell}: {stdout}");
    }
    // bash itself finds no fault with its script.
    let dir = tempfile::tempdir().unwrap();
    let script = dir.path().join("ifswarm.bash");
    fs::write(&script, with(&["completions", "bash"]).1).unwrap();
    assert!(
        Command::new("bash")
            .arg("-n")
            .arg(script)
            .status()
            .unwrap()
            .success()
    );
}

#[test]
fn makes_a_key_that_only_its_owner_reads_and_never_overwrites_one() {
    let dir = tempfile::tempdir().unwrap();
    let keygen = |args: &[&str]| run(ifswarm().current_dir(dir.path()).arg("keygen").args(args));

    let (code, stdout, stderr) = keygen(&["--out", "a.pem"]);
    assert_eq!(code, 0, "{stderr}");
    let public: PublicKey = stdout.trim_end().parse().unwrap();
    let path = dir.path().join("a.pem");
    assert_eq!(KeyPair::read_file(&path).unwrap().public_key(), public);
    assert_eq!(
        fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
    assert!(!stdout.contains("PRIVATE") && !stderr.contains("PRIVATE"));

    let before = fs::read(&path).unwrap();
    let (code, stdout, stderr) = keygen(&["--out", "a.pem"]);
    assert_eq!((code, stdout.as_str()), (2, ""));
    assert!(
        stderr.starts_with("error: a.pem exists already"),
        "{stderr}"
    );
    assert_eq!(fs::read(&path).unwrap(), before);

    // Without --out the file is named after the agent; an id is no path.
    let (code, _, stderr) = keygen(&["--id", "if://agent/legal"]);
    assert_eq!(code, 0);
    assert!(
        dir.path().join("if%3A%2F%2Fagent%2Flegal.pem").exists(),
        "{stderr}"
    );
    assert_eq!(keygen(&[]).0, 0);
    assert!(dir.path().join("ifswarm.pem").exists());

    let (code, _, stderr) = keygen(&["--out", "no/such/folder/a.pem"]);
    assert_eq!(code, 3);
    assert!(stderr.contains("no/such/folder/a.pem"), "{stderr}");
}

#[test]
fn the_signaling_server_must_be_told_whom_to_admit() {
    let (code, stdout, stderr) = with(&["signal", "--listen", "127.0.0.1:0"]);
    assert_eq!((code, stdout.as_str()), (2, ""));
    assert!(
        stderr.contains("--swarm FILE") && stderr.contains("--open"),
        "{stderr}"
    );

    let dir = tempfile::tempdir().unwrap();
    let swarm = dir.path().join("s.yaml");
    let key = FixtureAgent::new("finance").public_key();
    let text =
        format!("swarm: s\nagents:\n  - {{ id: finance, public_key: {key} }}\n  - id: legal\n");
    fs::write(&swarm, text).unwrap();
    let (code, _, stderr) = run(ifswarm().arg("signal").arg("--swarm").arg(&swarm));
    assert_eq!(code, 2);
    assert!(
        stderr.contains("`legal`") && stderr.contains("keygen"),
        "{stderr}"
    );

    fs::write(&swarm, "swarm: s\nagnets: []\n").unwrap();
    let (code, _, stderr) = run(ifswarm().arg("signal").arg("--swarm").arg(&swarm));
    assert_eq!(code, 2);
    assert!(
        stderr.contains("s.yaml:2:1: ") && stderr.contains("| ^"),
        "{stderr}"
    );
    assert!(stderr.contains("agents"), "{stderr}");

    let missing = dir.path().join("missing.yaml");
    let (code, _, stderr) = run(ifswarm().arg("signal").arg("--swarm").arg(&missing));
    assert_eq!(code, 2, "{stderr}");
    assert!(stderr.contains("there is no such file"), "{stderr}");

    for (flag, value, said) in [
        ("--name", "nowhere", "HOST:PORT"),
        ("--key", "/no/such.pem", "/no/such.pem"),
    ] {
        let (code, stdout, stderr) =
            with(&["signal", "--open", "--listen", "127.0.0.1:0", flag, value]);
        assert_eq!((code, stdout.as_str()), (2, ""), "{stderr}");
        assert!(stderr.contains(said), "{stderr}");
    }
}

#[test]
fn a_port_in_use_could_not_be_had() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (code, stdout, stderr) = with(&["signal", "--open", "--listen", &address]);
    assert_eq!((code, stdout.as_str()), (3, ""));
    assert!(
        stderr.starts_with("error: ") && stderr.contains(&address),
        "{stderr}"
    );
    assert!(stderr.contains("port 0"), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
}

#[test]
fn a_signal_that_asks_for_it_ends_the_signaling_server_cleanly() {
    for name in ["TERM", "INT", "HUP"] {
        let mut server = Running::signal(&["--open", "--listen", "127.0.0.1:0"]);
        let url = server.line();
        let url = url.strip_prefix("listening on ws://127.0.0.1:").unwrap();
        assert!(url.parse::<u16>().unwrap() > 0);
        server.kill(name);
        let (code, stdout, stderr) = server.end();
        assert_eq!(
            (code, stdout.as_str(), stderr.as_str()),
            (0, "", ""),
            "{name}"
        );
    }
}

#[test]
fn warns_of_a_wildcard_without_a_name_or_tls_and_logs_json_if_asked() {
    let wildcard = ["--open", "--listen", "0.0.0.0:0"];
    let warnings = |more: &[&str]| {
        let mut server = Running::signal(&[&wildcard[..], more].concat());
        server.line();
        server.kill("TERM");
        let (code, _, stderr) = server.end();
        assert_eq!(code, 0);
        stderr
    };
    let stderr = warnings(&[]);
    assert_eq!(stderr.matches("WARN").count(), 2, "{stderr}");
    assert!(stderr.contains("--name"), "{stderr}");
    assert!(stderr.contains("TLS"), "{stderr}");

    for line in warnings(&["--log-format", "json"]).lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        assert_eq!(line["level"], "WARN");
    }

    let stderr = warnings(&["--name", "signal.example:443"]);
    assert_eq!(stderr.matches("WARN").count(), 1, "{stderr}");
    assert!(!stderr.contains("--name"), "{stderr}");
}

#[test]
fn the_signaling_server_witnesses_who_came_under_the_key_it_was_given() {
    let dir = tempfile::tempdir().unwrap();
    let key = dir.path().join("signal.pem");
    let logs = dir.path().join("logs");
    assert_eq!(run(ifswarm().arg("keygen").arg("--out").arg(&key)).0, 0);
    let roster = fixtures_dir().join("roster.yaml");
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let args = [
        "--listen",
        "127.0.0.1:0",
        "--swarm",
        &text(&roster),
        "--witness",
        &text(&logs),
    ];
    let key_text = text(&key);
    let keyed = [&args[..], &["--key", &key_text]].concat();

    for round in 1..=2 {
        let mut server = Running::signal(&keyed);
        let url = server.line();
        connect(url.strip_prefix("listening on ").unwrap());
        server.kill("TERM");
        let (code, _, stderr) = server.end();
        assert_eq!(code, 0, "{stderr}");
        let report = witness::check(&logs.join("five-agent").join("%40signal")).unwrap();
        let pair = KeyPair::read_file(&key).unwrap();
        assert_eq!(
            (report.public_key, report.agent_id.as_str()),
            (pair.public_key(), "@signal")
        );
        let entries = fs::read_to_string(logs.join("five-agent/%40signal/entries.jsonl")).unwrap();
        let registered = entries.matches(r#""event":"agent_registered""#).count();
        assert_eq!(registered, round, "{entries}");
    }
    let (code, stdout, _) = run(ifswarm().args(["verify", "--json"]).arg(&logs));
    let told: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((code, &told["items"][0]["kind"]), (0, &"witness".into()));

    // Another key cannot go on with the log.
    let (code, stdout, stderr) = run(ifswarm().arg("signal").args(args));
    assert_eq!((code, stdout.as_str()), (2, ""), "{stderr}");
    assert!(
        stderr.contains("--key FILE") && stderr.contains("because:"),
        "{stderr}"
    );
}

#[test]
fn a_witness_folder_that_cannot_be_written_ends_the_signaling_server() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let roster = fixtures_dir().join("roster.yaml");
    let mut command = ifswarm();
    command
        .args(["signal", "--listen", "127.0.0.1:0", "--swarm"])
        .arg(roster);
    let (code, stdout, stderr) = run(command.arg("--witness").arg(file));
    assert_eq!((code, stdout.as_str()), (3, ""));
    assert!(stderr.contains("choose a witness folder"), "{stderr}");
}

/// Registers as finance, and says goodbye.
fn connect(url: &str) {
    let finance = FixtureAgent::new("finance");
    let config = ClientConfig {
        url: url.into(),
        swarm: "five-agent".parse().unwrap(),
        agent_id: finance.id.clone(),
        key: finance.key.clone(),
        session: Session::new(1_769_847_330_000, [1; 10]),
        trust: ifswarm::signal::Trust::default(),
        connect_timeout: std::time::Duration::from_secs(60),
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        Client::connect(config).await.unwrap();
    });
}

/// A program that runs until it is told to end.
pub(crate) struct Running {
    child: Child,
    stdout: BufReader<ChildStdout>,
    stderr: BufReader<ChildStderr>,
}

impl Running {
    pub(crate) fn signal(args: &[&str]) -> Self {
        Self::start(ifswarm().arg("signal").args(args))
    }

    pub(crate) fn start(command: &mut Command) -> Self {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let stderr = BufReader::new(child.stderr.take().unwrap());
        Self {
            child,
            stdout,
            stderr,
        }
    }

    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        line.trim_end().into()
    }

    /// The next line of standard error.
    pub(crate) fn error_line(&mut self) -> String {
        let mut line = String::new();
        self.stderr.read_line(&mut line).unwrap();
        line.trim_end().into()
    }

    pub(crate) fn kill(&self, signal: &str) {
        // The shell's own `kill`: a machine may have no other.
        let command = format!("kill -{signal} {}", self.child.id());
        assert!(
            Command::new("sh")
                .arg("-c")
                .arg(command)
                .status()
                .unwrap()
                .success()
        );
    }

    pub(crate) fn end(mut self) -> (i32, String, String) {
        let (mut stdout, mut stderr) = (String::new(), String::new());
        self.stdout.read_to_string(&mut stdout).unwrap();
        self.stderr.read_to_string(&mut stderr).unwrap();
        (self.child.wait().unwrap().code().unwrap(), stdout, stderr)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Where a test failed before it ended its server.
        let _ = self.child.kill();
    }
}
