//! `send --file` and `agent --accept-files`: the program itself, one process each.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdout, Stdio};

use serde_json::{Value, json};

use crate::cli::{Running, ifswarm, run};

/// A server, and Bob, who takes files; each line that he says is an object.
struct Scene {
    url: String,
    bob: Child,
    said: BufReader<ChildStdout>,
    home: tempfile::TempDir,
    _server: Running,
}

impl Scene {
    fn start() -> Self {
        let home = tempfile::tempdir().unwrap();
        let mut server = Running::signal(&["--open", "--listen", "127.0.0.1:0"]);
        let line = server.line();
        let url = line.strip_prefix("listening on ").expect("its address");
        let mut bob = ifswarm()
            .args(["agent", "--id", "bob", "--swarm-name", "s", "--signal", url])
            .arg("--accept-files")
            .arg(home.path().join("in"))
            .args(["--accept-size", "1 MiB"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let said = BufReader::new(bob.stdout.take().unwrap());
        let mut scene = Self {
            url: url.to_owned(),
            bob,
            said,
            home,
            _server: server,
        };
        assert_eq!(
            scene.until(|line| line["event"] == "ready")["agent_id"],
            "bob"
        );
        scene
    }

    /// The next line that is wanted.
    fn until(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        loop {
            let mut line = String::new();
            let read = self.said.read_line(&mut line).unwrap();
            assert!(read > 0, "the agent has ended");
            let line = serde_json::from_str(&line).expect("an object");
            if wanted(&line) {
                return line;
            }
        }
    }

    fn send(&self, files: &[&str]) -> (i32, String, String) {
        run(ifswarm()
            .current_dir(self.home.path())
            .args(["send", "--as", "ann", "--to", "bob", "--swarm-name", "s"])
            .args(["--signal", &self.url, "--json", "--file"])
            .args(files))
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let _ = self.bob.kill();
        let _ = self.bob.wait();
    }
}

#[test]
fn files_go_from_one_process_to_another_and_the_lines_say_so() {
    let mut scene = Scene::start();
    let bytes = vec![7; 300_000];
    fs::write(scene.home.path().join("a.csv"), &bytes).unwrap();
    fs::write(scene.home.path().join("b.txt"), b"b").unwrap();
    let (code, stdout, stderr) = scene.send(&["a.csv", "b.txt"]);
    assert_eq!(code, 0, "{stderr}");
    assert_eq!(stderr, "", "no bar where there is no terminal");
    let outcome: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(outcome["files"][0]["file"], "a.csv");
    assert_eq!(outcome["files"][0]["size"], 300_000);
    assert_eq!(outcome.get("id"), None, "no message was sent");
    let inbox = scene.home.path().join("in");
    for _ in 0..2 {
        let received = scene.until(|line| line["state"] == "received");
        assert_eq!(received["event"], "file");
        assert_eq!(received["direction"], "in");
        let path = inbox.join(received["stored_as"].as_str().unwrap());
        assert_eq!(received["path"], json!(path));
        assert_eq!(
            fs::metadata(path).unwrap().len(),
            received["size"].as_u64().unwrap()
        );
    }
    assert_eq!(fs::read(inbox.join("a.csv")).unwrap(), bytes);
}

#[test]
fn what_does_not_arrive_is_3_what_cannot_be_read_is_2_and_both_say_why() {
    let scene = Scene::start();
    fs::write(scene.home.path().join("large"), vec![7; (1 << 20) + 1]).unwrap();
    fs::write(scene.home.path().join("fits"), vec![7; 1 << 20]).unwrap();
    let (code, stdout, stderr) = scene.send(&["large", "fits"]);
    assert_eq!((code, stdout.as_str()), (3, ""));
    assert!(
        stderr.starts_with("error: large: `bob` refuses the file: too-large"),
        "{stderr}"
    );
    assert!(!stderr.contains("fits"), "{stderr}");
    assert!(scene.home.path().join("in/fits").exists());
    let (code, _, stderr) = scene.send(&["missing"]);
    assert_eq!(code, 2);
    assert!(stderr.contains("missing: No such file"), "{stderr}");
}

#[test]
fn a_program_sends_a_file_with_a_line_and_hears_when_it_is_refused() {
    let mut scene = Scene::start();
    let path = scene.home.path().join("a.bin");
    fs::write(&path, b"a").unwrap();
    let mut ann = ifswarm()
        .args([
            "agent",
            "--id",
            "ann",
            "--swarm-name",
            "s",
            "--signal",
            &scene.url,
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = ann.stdin.take().unwrap();
    let lines = [
        json!({ "destination": "bob", "file": &path }),
        json!({ "destination": "bob", "file": "/no/such/file" }),
    ];
    for line in lines {
        writeln!(stdin, "{line}").unwrap();
    }
    // Ann takes none herself.
    let back = json!({ "destination": "ann", "file": &path });
    writeln!(scene.bob.stdin.as_mut().unwrap(), "{back}").unwrap();
    let failed = scene.until(|line| line["state"] == "failed");
    assert_eq!(failed["direction"], "out");
    assert_eq!(failed["reason"], "not-accepted");
    drop(stdin);
    let output = ann.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(3), "one of two did not arrive");
    let told = String::from_utf8(output.stdout).unwrap();
    let told: Vec<Value> = told
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let of = |event: &str| {
        told.iter()
            .filter(|line| line["event"] == event)
            .collect::<Vec<_>>()
    };
    assert!(
        of("file")
            .iter()
            .any(|line| line["state"] == "received" && line["direction"] == "out")
    );
    let [error] = of("error")[..] else {
        panic!("{told:?}")
    };
    assert_eq!(error["line"], 2);
    assert!(error["message"].as_str().unwrap().contains("/no/such/file"));
    assert!(scene.home.path().join("in/a.bin").exists());
}
