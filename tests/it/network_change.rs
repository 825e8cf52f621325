//! A laptop's change of network: a real agent loses its address and gets another, in network
//! namespaces of this machine's kernel, and messages flow again over a new link.
//!
//! ```text
//!          hub: signaling server
//!    10.1.1.1 │           │ 10.1.2.1
//!    10.1.1.2 │           │ 10.1.2.2
//!            ann ═══════ bob
//!      10.9.0.2, then .3   10.9.0.1
//! ```
//!
//! The hub carries nothing from one cable to the other, so the link lies on the one between the two.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};

use serde_json::json;

use crate::program::Program;

#[test]
fn messages_flow_again_after_an_agent_has_lost_its_address_and_got_another() {
    let cables = Cables::lay();
    let signal = cables.program("hub", &["signal", "--open", "--listen", "0.0.0.0:8443"]);
    let listening = signal.line().expect("a line, not the end");
    assert!(listening.contains("listening on"), "{listening}");
    let agent = |id: &str, hub: &str| {
        let url = format!("ws://{hub}:8443");
        let args = [
            "agent",
            "--id",
            id,
            "--signal",
            &url,
            "--swarm-name",
            "moving",
            "--stay",
        ];
        cables.program(id, &args)
    };
    let mut bob = agent("bob", "10.1.2.1");
    let mut ann = agent("ann", "10.1.1.1");
    for live in [&ann, &bob] {
        assert_eq!(live.event("peer")["state"], "up");
    }
    ann.say("bob", &json!({ "n": 0 }));
    assert_eq!(bob.event("message")["message"]["payload"]["n"], 0);

    cables.run(
        "ip -n ann addr del 10.9.0.2/24 dev direct && ip -n ann addr add 10.9.0.3/24 dev direct",
    );
    // What is sent over the dead link may be given back; what is sent over the next one is not.
    for n in 1.. {
        assert!(
            n < 10,
            "link after link comes up, and none carries anything"
        );
        while ann.event("peer")["state"] != "up" {}
        ann.say("bob", &json!({ "n": n }));
        let sent = ann.event("sent")["id"].clone();
        if ann.event("acked")["id"] == sent {
            break;
        }
    }
    assert_ne!(bob.event("message")["message"]["payload"]["n"], 0);
    bob.say("ann", &json!({ "back": true }));
    assert_eq!(ann.event("message")["message"]["payload"]["back"], true);
    for mut program in [ann, bob, signal] {
        program.close_input();
    }
}

/// Three namespaces and the cables between them. When this ends, the kernel takes all away.
struct Cables {
    holder: Child,
    process: String,
}

impl Cables {
    /// # Panics
    /// Where namespaces are not permitted, saying what to do.
    fn lay() -> Self {
        let mut unshare = Command::new("unshare");
        if !rustix::process::geteuid().is_root() {
            unshare.args(["--user", "--map-root-user"]);
        }
        let mut holder = unshare
            .args(["--net", "--mount", "--pid", "--fork", "--kill-child"])
            .args(["sh", "-c", HOLD])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("unshare(1); as root: apt-get install util-linux iproute2");
        let mut process = String::new();
        let stdout = holder.stdout.as_mut().unwrap();
        BufReader::new(stdout).read_line(&mut process).unwrap();
        if process.is_empty() {
            let mut said = String::new();
            let stderr = holder.stderr.as_mut().unwrap();
            stderr.read_to_string(&mut said).unwrap();
            panic!("this machine permits no network namespaces: {said}{NOT_PERMITTED}");
        }
        let process = process.trim_end().to_owned();
        let cables = Self { holder, process };
        cables.run(LAY);
        cables
    }

    fn run(&self, script: &str) {
        let mut sh = self.enter();
        let output = sh.args(["sh", "-euc", script]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{script}\nfailed: {said}");
    }

    /// The program under test, in one of the namespaces.
    fn program(&self, namespace: &str, args: &[&str]) -> Program {
        let mut command = self.enter();
        command.args(["ip", "netns", "exec", namespace]);
        command.arg(env!("CARGO_BIN_EXE_ifswarm")).args(args);
        Program::start(command.env_remove("RUST_LOG"))
    }

    fn enter(&self) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.process, "--net", "--mount", "--pid"]);
        if !rustix::process::geteuid().is_root() {
            command.args(["--user", "--preserve-credentials"]);
        }
        command
    }
}

impl Drop for Cables {
    fn drop(&mut self) {
        // It ends with its input, and with it everything that was started in it.
        if let Some(mut stdin) = self.holder.stdin.take() {
            let _ = stdin.flush();
        }
        let _ = self.holder.wait();
    }
}

/// `/proc` is still the outside's, so this is the number by which it can be entered from there.
const HOLD: &str = "mount -t tmpfs none /run && mkdir /run/netns \
    && read -r process rest </proc/self/stat && echo $process && exec cat";
const LAY: &str = "
    for name in hub ann bob; do ip netns add $name; ip -n $name link set lo up; done
    cable() {
        ip link add $1 netns $2 type veth peer name $4 netns $5
        ip -n $2 addr add $3 dev $1; ip -n $5 addr add $6 dev $4
        ip -n $2 link set $1 up; ip -n $5 link set $4 up
    }
    cable ann hub 10.1.1.1/24 hub ann 10.1.1.2/24
    cable bob hub 10.1.2.1/24 hub bob 10.1.2.2/24
    cable direct ann 10.9.0.2/24 direct bob 10.9.0.1/24
";
const NOT_PERMITTED: &str = "Run the tests as root. In a container they need its capabilities \
    SYS_ADMIN and NET_ADMIN; without root, user namespaces: \
    sysctl -w user.max_user_namespaces=10000";
