//! Runs the independent programs of `tests/interop`. A Python that is missing fails the test, with
//! what to install.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

/// Runs `tests/interop/SCRIPT` with `args`, and `input` on its standard input.
pub(crate) fn run(script: &str, args: &[&str], input: &str) -> Output {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/interop")
        .join(script);
    let mut child = Command::new(python())
        // Leaves no `__pycache__` behind.
        .arg("-B")
        .arg(path)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Beside it, so that neither end waits for the other with a full pipe.
    let mut stdin = child.stdin.take().expect("piped");
    let input = input.to_owned();
    let writer = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    let output = child.wait_with_output().unwrap();
    writer
        .join()
        .unwrap()
        .expect("the script reads all of its input");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.is_empty(), "{script}: {stderr}");
    output
}

/// The lines of its standard output.
pub(crate) fn lines(output: &Output) -> Vec<String> {
    let text = std::str::from_utf8(&output.stdout).unwrap();
    text.lines().map(str::to_owned).collect()
}

/// The first Python that has the package: the one that `tests/run.sh` found, Debian's, any.
fn python() -> &'static Path {
    static PYTHON: OnceLock<PathBuf> = OnceLock::new();
    PYTHON.get_or_init(|| {
        let named = std::env::var_os("IFSWARM_PYTHON").map(PathBuf::from);
        let usual = ["/usr/bin/python3", "python3"].map(PathBuf::from);
        let has_package = |python: &PathBuf| {
            let import = "import cryptography.hazmat.primitives.asymmetric.ed25519";
            let tried = Command::new(python).args(["-c", import]).output();
            tried.is_ok_and(|output| output.status.success())
        };
        named.into_iter().chain(usual).find(has_package).expect(
            "a Python 3 with the package `cryptography` is missing. As root: \
             apt-get install python3 python3-cryptography; \
             or name one that has it: IFSWARM_PYTHON=/path/to/python3",
        )
    })
}
