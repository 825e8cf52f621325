//! A world of its own for a test: network namespaces with wires, routers and hosts, all by the
//! kernel of this machine.
//!
//! It lies in namespaces that `unshare`(1) makes: of network, mounts and processes, and of users
//! where the tests do not run as root. One process holds them. When it ends, with the test or
//! because the test was killed, the kernel ends every process in it and takes the rest away.
//! So nothing outside is touched, and nothing is left over.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};

/// Namespaces of its own, and the names of network namespaces in it.
pub(crate) struct World {
    holder: Child,
    /// Its process, as the outside numbers it.
    process: String,
}

impl World {
    /// `more` are tools that a test needs beside those of this file, and the packages they are in.
    ///
    /// # Panics
    /// Where a tool is missing or namespaces are not permitted, saying what to do.
    pub(crate) fn new(more: &[(&str, &str)]) -> Self {
        let tools = TOOLS.iter().chain(more);
        let missing = tools.filter(|(tool, _)| !is_there(tool));
        let packages: BTreeSet<_> = missing.map(|(_, package)| *package).collect();
        let packages = packages.into_iter().collect::<Vec<_>>().join(" ");
        assert!(
            packages.is_empty(),
            "tools are missing. As root: apt-get install {packages}"
        );
        let mut unshare = Command::new("unshare");
        if !is_root() {
            unshare.args(["--user", "--map-root-user"]);
        }
        unshare.args(["--net", "--mount", "--pid", "--fork", "--kill-child"]);
        let mut holder = unshare
            .args(["sh", "-c", HOLD])
            .env("PATH", path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut process = String::new();
        let stdout = holder.stdout.as_mut().unwrap();
        BufReader::new(stdout).read_line(&mut process).unwrap();
        let process = process.trim_end().to_owned();
        if process.is_empty() {
            let mut said = String::new();
            let stderr = holder.stderr.as_mut().unwrap();
            stderr.read_to_string(&mut said).unwrap();
            panic!("this machine permits no network namespaces: {said}{NOT_PERMITTED}");
        }
        Self { holder, process }
    }

    /// Runs a shell script in it, and gives what it printed.
    pub(crate) fn run(&self, script: &str) -> String {
        let mut sh = self.enter();
        let child = sh.args(["sh", "-eu"]).stdin(Stdio::piped());
        let mut child = child
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(script.as_bytes()).unwrap();
        drop(stdin);
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{script}\nfailed: {said}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// `program` in one of the network namespaces.
    pub(crate) fn command(&self, namespace: &str, program: &str) -> Command {
        let mut command = self.enter();
        command.args(["ip", "netns", "exec", namespace, program]);
        command.env_remove("RUST_LOG").env_remove("NO_COLOR");
        command
    }

    fn enter(&self) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.process, "--net", "--mount", "--pid"]);
        if !is_root() {
            command.args(["--user", "--preserve-credentials"]);
        }
        command.env("PATH", path());
        command
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // It waits for the end of its input.
        drop(self.holder.stdin.take());
        let _ = self.holder.wait();
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Who is not root has a path without the administrator's tools.
fn path() -> String {
    let path = std::env::var("PATH").unwrap_or_default();
    format!("{path}:/usr/sbin:/sbin")
}

fn is_there(tool: &str) -> bool {
    let mut sh = Command::new("sh");
    let sh = sh
        .args(["-c", &format!("command -v {tool}")])
        .env("PATH", path());
    sh.stdout(Stdio::null()).status().unwrap().success()
}

/// `/proc` is still the outside's, so this is the number by which it can be entered from there.
const HOLD: &str = "mount -t tmpfs none /run && mkdir /run/netns \
    && read -r process rest </proc/self/stat && echo $process && exec cat";
const TOOLS: [(&str, &str); 3] = [
    ("unshare", "util-linux"),
    ("nsenter", "util-linux"),
    ("ip", "iproute2"),
];
const NOT_PERMITTED: &str = "Run the tests as root. In a container they need its capabilities \
    SYS_ADMIN and NET_ADMIN; without root, user namespaces: sysctl -w user.max_user_namespaces=10000 \
    (and kernel.unprivileged_userns_clone=1, or kernel.apparmor_restrict_unprivileged_userns=0, \
    where there is such a thing). To leave these tests out: cargo nextest run -E 'not test(/^(nat|network_change)::/)'";
