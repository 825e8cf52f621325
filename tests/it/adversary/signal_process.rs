//! A signaling server as it is run: the program itself, with its witness on disk.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use ifswarm::identity::KeyPair;

use crate::cli::ifswarm;
use crate::live::swarm_name;
use crate::support::FixtureAgent;

/// A running `ifswarm signal`.
pub(super) struct SignalProcess {
    child: Child,
    url: String,
    said: PathBuf,
}

impl SignalProcess {
    /// One that admits the agents of `ids` under their fixture keys, or, if there are none,
    /// everybody. Its logs stand below `folder`.
    pub(super) fn start(folder: &Path, ids: &[&str], name: &str) -> Self {
        fs::create_dir_all(folder).unwrap();
        let (key, said) = (folder.join("signal.pem"), folder.join("signal.err"));
        KeyPair::generate().unwrap().create_file(&key).unwrap();
        let mut command = ifswarm();
        command
            .args(["signal", "--listen", "127.0.0.1:0", "--name", name, "--key"])
            .arg(&key)
            .arg("--witness")
            .arg(folder);
        if ids.is_empty() {
            command.arg("--open");
        } else {
            let file = folder.join("swarm.yaml");
            fs::write(&file, swarm_file(ids)).unwrap();
            command.arg("--swarm").arg(file);
        }
        let mut child = command
            .stdout(Stdio::piped())
            // A file: nobody reads a pipe meanwhile, and a full one would stop the server.
            .stderr(File::create(&said).unwrap())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let stdout = child.stdout.take().unwrap();
        BufReader::new(stdout).read_line(&mut line).unwrap();
        let url = line.trim_end().strip_prefix("listening on ");
        let url = url.unwrap_or_else(|| panic!("{line}{}", fs::read_to_string(&said).unwrap()));
        Self {
            url: url.to_owned(),
            child,
            said,
        }
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// `HOST:PORT`.
    pub(super) fn authority(&self) -> &str {
        self.url.strip_prefix("ws://").unwrap()
    }

    pub(super) fn is_alive(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// How many descriptors it has open.
    pub(super) fn descriptors(&self) -> usize {
        let folder = format!("/proc/{}/fd", self.child.id());
        fs::read_dir(folder).unwrap().count()
    }

    /// The most memory that it ever had, in KiB.
    pub(super) fn peak_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let number = line.unwrap().trim().trim_end_matches(" kB");
        number.parse().unwrap()
    }

    /// Asks it to end, and waits: it ends as asked, and has not panicked.
    pub(super) fn end(mut self) {
        let command = format!("kill -TERM {}", self.child.id());
        let status = Command::new("sh").arg("-c").arg(command).status().unwrap();
        assert!(status.success());
        let code = self.child.wait().unwrap().code();
        let said = fs::read_to_string(&self.said).unwrap();
        assert_eq!(code, Some(0), "{said}");
        assert!(!said.contains("panicked"), "{said}");
    }
}

impl Drop for SignalProcess {
    fn drop(&mut self) {
        // Where a test failed before it ended its server.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn swarm_file(ids: &[&str]) -> String {
    let mut text = format!("swarm: {}\nagents:\n", swarm_name());
    for id in ids {
        let key = FixtureAgent::new(id).public_key();
        text += &format!("  - {{ id: {id}, public_key: {key} }}\n");
    }
    text
}
