//! A swarm of five whose agents keep their keys, run by `mesh up` in a process of its own: so its
//! logs go on from one run to the next.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use ifswarm::identity::KeyPair;
use ifswarm::witness::{CHECKPOINT_FILE, ENTRIES_FILE};
use tempfile::TempDir;

use crate::cli::{ifswarm, run};

/// The swarm file, the keys, and what the runs leave behind.
pub(crate) struct KeptSwarm {
    dir: TempDir,
}

/// A run of it.
pub(crate) struct Run {
    child: Child,
    said: PathBuf,
}

/// Its agents.
pub(crate) const AGENTS: [&str; 5] = ["a", "b", "c", "d", "e"];
/// Its name.
pub(crate) const SWARM: &str = "kept";

impl KeptSwarm {
    /// With keys made by `keygen`, and these further lines in the swarm file.
    pub(crate) fn new(more: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut text = format!("swarm: {SWARM}\nagents:\n");
        for id in AGENTS {
            let key = dir.path().join(format!("{id}.pem"));
            let (code, _, stderr) = run(ifswarm().arg("keygen").arg("--out").arg(key));
            assert_eq!(code, 0, "{stderr}");
            text += &format!("  - {{ id: {id}, key: {id}.pem }}\n");
        }
        fs::write(dir.path().join("swarm.yaml"), text + more).unwrap();
        Self { dir }
    }

    /// Begins a run that would last for this time, through `wrapper`, a shell script that ends in
    /// running its arguments.
    pub(crate) fn start(&self, time: &str, wrapper: &str) -> Run {
        let program = ifswarm();
        let said = self.dir.path().join("stderr");
        let mut command = Command::new("sh");
        command
            .args(["-c", wrapper, "sh"])
            .arg(program.get_program())
            .args(["mesh", "up", "--for", time, "--witness"])
            .arg(self.dir.path().join("logs"))
            .arg(self.dir.path().join("swarm.yaml"))
            .env_remove("RUST_LOG")
            .stdout(File::create(self.dir.path().join("stdout")).unwrap())
            .stderr(File::create(&said).unwrap());
        let child = command.spawn().unwrap();
        Run { child, said }
    }

    pub(crate) fn key(&self, id: &str) -> KeyPair {
        KeyPair::read_file(&self.dir.path().join(format!("{id}.pem"))).unwrap()
    }

    /// Below which the logs stand.
    pub(crate) fn logs(&self) -> PathBuf {
        self.dir.path().join("logs")
    }

    /// The log of an agent, as it stands now.
    pub(crate) fn entries(&self, id: &str) -> Vec<u8> {
        fs::read(self.folder(id).join(ENTRIES_FILE)).unwrap_or_default()
    }

    /// Its newest checkpoint, if there is one.
    pub(crate) fn checkpoint(&self, id: &str) -> Option<String> {
        fs::read_to_string(self.folder(id).join(CHECKPOINT_FILE)).ok()
    }

    /// Bytes of all logs together.
    pub(crate) fn bytes(&self) -> u64 {
        let of = |id| fs::metadata(self.folder(id).join(ENTRIES_FILE));
        AGENTS
            .iter()
            .filter_map(|id| of(id).ok())
            .map(|m| m.len())
            .sum()
    }

    /// What anybody has received since `before` stands in its sender's log: it was written before
    /// it went out.
    pub(crate) fn sent_nothing_unwitnessed(&self, before: &[Vec<u8>; 5]) {
        let (mut sent, mut received) = (BTreeSet::new(), BTreeSet::new());
        for (id, before) in AGENTS.iter().zip(before) {
            let bytes = self.entries(id);
            for line in lines(&bytes[before.len()..]) {
                let line = String::from_utf8_lossy(line);
                let of = |event: &str| line.contains(&format!(r#""event":"ifmessage_{event}""#));
                let digest = || line.split(r#""sha256":""#).nth(1).unwrap()[..64].to_owned();
                if of("sent") {
                    sent.insert(digest());
                } else if of("received") {
                    received.insert(digest());
                }
            }
        }
        let unwitnessed = received.difference(&sent).count();
        assert_eq!(
            unwitnessed,
            0,
            "messages of {} were received, and are in no sender's log",
            received.len()
        );
    }

    fn folder(&self, id: &str) -> PathBuf {
        self.logs().join(SWARM).join(id)
    }
}

impl Run {
    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Looks again and again until `is_so`.
    pub(crate) fn until(&mut self, mut is_so: impl FnMut() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !is_so() {
            let ended = self.child.try_wait().unwrap();
            assert_eq!(ended, None, "it ended by itself: {}", self.said());
            assert!(Instant::now() < deadline, "it never came: {}", self.said());
            // Nobody tells when a file grows; between two looks the others get the processor.
            std::thread::sleep(LOOK);
        }
    }

    /// Reads what it has said on standard error, again and again, until `is_so`.
    pub(crate) fn until_said(&mut self, is_so: impl Fn(&str) -> bool) {
        let said = self.said.clone();
        self.until(|| is_so(&fs::read_to_string(&said).unwrap()));
    }

    /// Ends it at once, as `kill -9` does.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        let status = self.child.wait().unwrap();
        assert_eq!(
            status.code(),
            None,
            "it had ended by itself: {}",
            self.said()
        );
    }

    /// Waits until it ends by itself.
    pub(crate) fn end(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "it never ended: {}", self.said());
            std::thread::sleep(LOOK);
        }
    }

    /// What it said on standard error.
    pub(crate) fn said(&self) -> String {
        fs::read_to_string(&self.said).unwrap()
    }
}

/// The whole lines, with their newlines.
pub(crate) fn lines(bytes: &[u8]) -> Vec<&[u8]> {
    let lines = bytes.split_inclusive(|byte| *byte == b'\n');
    lines.filter(|line| line.ends_with(b"\n")).collect()
}

impl Drop for Run {
    fn drop(&mut self) {
        // Where a test failed before it ended its run.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Far longer than anything here takes, on a busy machine too.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(1);
