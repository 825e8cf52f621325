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

use serde_json::json;

use crate::program::Program;
use crate::world::World;

#[test]
fn messages_flow_again_after_an_agent_has_lost_its_address_and_got_another() {
    let world = World::new(&[]);
    world.run(LAY);
    let program = |namespace: &str, args: &[&str]| {
        let mut command = world.command(namespace, env!("CARGO_BIN_EXE_ifswarm"));
        Program::start(command.args(args))
    };
    let signal = program("hub", &["signal", "--open", "--listen", "0.0.0.0:8443"]);
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
        program(id, &args)
    };
    let mut bob = agent("bob", "10.1.2.1");
    let mut ann = agent("ann", "10.1.1.1");
    for live in [&ann, &bob] {
        assert_eq!(live.event("peer")["state"], "up");
    }
    ann.say("bob", &json!({ "n": 0 }));
    assert_eq!(bob.event("message")["message"]["payload"]["n"], 0);

    world.run(
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

/// Three namespaces and the cables between them.
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
