//! What a hostile server says that no agent has said: frames that are none, lies about who is there,
//! errors about nothing, candidates without end.

use ifswarm::identity::Session;
use ifswarm::signal::{MAX_FRAME, Nonce, Register};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use super::hand::not_utf8;
use super::stage::{Play, Stage};
use super::table::{By, Seen};
use crate::live::{LiveAgent, say, swarm_name};
use crate::support::{FixtureAgent, bytes_of};

pub(super) async fn play(play: &mut Play) {
    garbage(play).await;
    lies(play).await;
    candidates(play).await;
    candidates_at_leisure(play).await;
    ends_of_signaling(play).await;
}

/// Frames that are none, to Ann herself: read past.
async fn garbage(play: &mut Play) {
    let deep = format!("{{\"type\":\"offer\",\"x\":{}", "[".repeat(100_000));
    for (attack, message) in [
        ("server: no JSON", Message::text("garbage")),
        ("server: binary frame", Message::binary(vec![0, 255, 7])),
        ("server: nested 100,000 deep", Message::text(deep)),
        (
            "server: duplicate keys",
            Message::text(r#"{"type":"offer","type":"answer"}"#),
        ),
        (
            "server: no type of frame",
            Message::text(r#"{"type":"obey"}"#),
        ),
        (
            "server: challenge again",
            Message::text(format!(
                r#"{{"type":"challenge","nonce":"{:064}","protocol":"ifswarm-signal/1"}}"#,
                0
            )),
        ),
    ] {
        play.act(By::Server, attack, async |stage| {
            stage.liar.say("ann", message);
            read_by_ann(stage).await;
            Seen::new(
                "ann",
                "read past",
                "none: it is nobody's offer or answer (wire.md)",
            )
        })
        .await;
    }
}

/// Unsigned hints: they cost no link that is open.
async fn lies(play: &mut Play) {
    let link = play.stage.link.clone();
    let bob = play.stage.bob.agent.session();
    let other = FixtureAgent::new("eve").public_key();
    let later = Session::new(bob.unix_ms() + 1, bytes_of("session", "later"));
    for (attack, frame, noticed) in [
        (
            "server: an error about the open link",
            json!({"type": "error", "code": "unknown-peer", "message": "", "in_reply_to": "offer",
                "to": "bob", "link": link}),
            "taken as a hint: the link is open",
        ),
        (
            "server: Bob has left",
            json!({"type": "agent-left", "agent_id": "bob", "session": bob, "reason": "lost"}),
            "taken as a hint",
        ),
        (
            "server: Bob is there under another key",
            json!({"type": "agent-joined",
                "agent": {"agent_id": "bob", "public_key": other, "session": later}}),
            "key-mismatch: not dialled",
        ),
        (
            "server: somebody is there who is on no roster",
            json!({"type": "agent-joined", "agent":
                {"agent_id": "aaa", "public_key": other, "session": later}}),
            "unknown-source: not dialled",
        ),
    ] {
        play.act(By::Server, attack, async |stage| {
            let mark = stage.entries("ann");
            stage.liar.say("ann", Message::text(frame.to_string()));
            read_by_ann(stage).await;
            let offered = stage.entry("ann", mark, "webrtc_offer_created", |entry| {
                entry["peer_id"] == "bob" || entry["peer_id"] == "aaa"
            });
            assert!(offered.is_none(), "a link was offered");
            Seen::new("ann", noticed, "none: a hint, not signed (wire.md)")
        })
        .await;
    }
}

/// Candidates for the link of the honest pair, in Bob's name.
async fn candidates(play: &mut Play) {
    let link = play.stage.link.clone();
    let frame = |candidates| candidates_frame(&link, candidates);
    let many: Vec<_> = (0..5_000).map(|n| frame(vec![line(n)])).collect();
    let long = vec![frame((5_000..10_000).map(line).collect())];
    for (attack, flood) in [
        ("candidate flood: 5,000 frames about the open link", many),
        ("candidate flood: 5,000 in one frame", long),
    ] {
        play.act(By::Server, attack, async |stage| {
            for message in flood {
                stage.liar.say("ann", message);
            }
            read_by_ann(stage).await;
            Seen::new(
                "ann",
                "what its queue does not take is dropped",
                "none: not signed (wire.md)",
            )
        })
        .await;
    }
}

/// As many as a link's reader has the time to take, and more than a link can need. Unbounded, each
/// would cost a KiB for as long as the link lives.
async fn candidates_at_leisure(play: &mut Play) {
    play.act(
        By::Server,
        "candidate flood: 12,000 at leisure",
        async |stage| {
            let before = resident_kib();
            for batch in 0..200 {
                let candidates = (batch * 60..batch * 60 + 60).map(line).collect();
                let frame = candidates_frame(&stage.link, candidates);
                stage.liar.say("ann", frame);
                read_by_ann(stage).await;
            }
            let grown = resident_kib().saturating_sub(before);
            assert!(grown < 6 * 1024, "the agent has grown by {grown} KiB");
            Seen::new(
                "ann",
                "a link takes 100, and no more",
                "none: not signed (wire.md)",
            )
        },
    )
    .await;
}

/// Memory of this process that is in use, in KiB.
fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.unwrap()
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .unwrap()
}

/// A candidate that nobody listens at.
fn line(n: usize) -> Value {
    let (host, port) = (n / 60_000 + 2, n % 60_000 + 1);
    json!({"candidate": format!("candidate:{n} 1 udp 2130706431 127.0.0.{host} {port} typ host"),
        "sdpMid": "0", "sdpMLineIndex": 0})
}

/// Candidates of Bob's for Ann.
fn candidates_frame(link: &str, candidates: Vec<Value>) -> Message {
    let frame = json!({"type": "ice-candidates", "from": "bob", "to": "ann", "link": link,
        "candidates": candidates, "end": false});
    Message::text(frame.to_string())
}

/// What ends the connection to the server: witnessed, and links live on.
async fn ends_of_signaling(play: &mut Play) {
    for (attack, message) in [
        ("server: text that is not UTF-8", not_utf8()),
        (
            "server: oversize frame",
            Message::text("x".repeat(MAX_FRAME + 1)),
        ),
        ("server: hangs up", Message::Close(None)),
        ("server: Cid is replaced", replaced(json!({}))),
        (
            "server: Cid is replaced, by who has another key",
            replaced(json!({ "later": forged_registration() })),
        ),
    ] {
        play.act(By::Server, attack, async |stage| {
            let mut cid = linked_cid(stage).await;
            let mark = stage.entries("cid");
            stage.liar.say("cid", message);
            let entry = stage
                .until_entry(&mut cid, "cid", mark, "signaling_lost")
                .await;
            assert_eq!(cid.links().await.len(), 2);
            cid.agent.send(say("ann", "still there")).await.unwrap();
            stage.ann_hears("cid", "still there").await;
            cid.agent.shutdown("the act is over").await.unwrap();
            Seen::new(
                "cid",
                "the connection is given up, links live on",
                entry.to_string(),
            )
        })
        .await;
    }
}

/// That a later process has taken Cid's place, which only its own registration could show.
fn replaced(more: Value) -> Message {
    let mut error =
        json!({ "type": "error", "code": "replaced", "message": "", "in_reply_to": null });
    for (name, value) in more.as_object().unwrap() {
        error[name] = value.clone();
    }
    Message::text(error.to_string())
}

/// A registration of Cid's in a later session, signed by Mel.
fn forged_registration() -> Value {
    let nonce = Nonce::from_bytes([7; 32]);
    let session = Session::new(1 << 44, [0; 10]);
    let (swarm, cid, mel) = (
        swarm_name(),
        "cid".parse().unwrap(),
        FixtureAgent::new("mel").key,
    );
    let register = Register::sign(swarm, cid, session, "127.0.0.1:1".into(), &nonce, &mel);
    serde_json::to_value(register.as_later(&nonce)).unwrap()
}

/// Cid, linked with both.
async fn linked_cid(stage: &Stage) -> LiveAgent {
    let cid = stage.newcomer("cid").await;
    cid.agent.linked(2).await.unwrap();
    cid
}

/// Waits until Ann has read all that the server said to her so far: she refuses an offer behind it.
async fn read_by_ann(stage: &mut Stage) {
    let mark = stage.entries("ann");
    let offer = json!({"type": "offer", "from": "dan"});
    stage.liar.say("ann", Message::text(offer.to_string()));
    let entry = stage.until_ann_has(mark, "sdp_rejected").await;
    assert_eq!(entry.metadata["reason"], "schema");
}
