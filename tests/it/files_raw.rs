//! Files that a peer made by hand offers to a real agent: hostile names, broken promises, files in
//! messages, places taken and not used.

use std::collections::BTreeMap;
use std::fs;

use base64::Engine;
use ifswarm::agent::AcceptFiles;
use ifswarm::signal::Admission;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::files::noise;
use crate::live::{LiveSwarm, draft, roster_of, swarm_name, testimony, within};
use crate::raw::{Frame, Raw};

/// Bob, who takes files, and a peer made by hand that offers them.
async fn bob_and_raw() -> (LiveSwarm, Raw, TempDir) {
    let home = tempfile::tempdir().unwrap();
    let admission =
        Admission::Rosters(BTreeMap::from([(swarm_name(), roster_of(&["bob", "eve"]))]));
    let swarm = LiveSwarm::start_under(admission, &["bob"], |_, builder| {
        builder
            .roster(roster_of(&["bob", "eve"]))
            .accept_files(Some(AcceptFiles {
                folder: home.path().join("in"),
                max_size: 1 << 20,
            }))
    })
    .await;
    let raw = Raw::join(&swarm.server.url(), "eve", "bob").await;
    raw.say_hello();
    (swarm, raw, home)
}

/// Eve's next message, which she acknowledges.
async fn heard(eve: &mut Raw) -> Value {
    let message = eve.message().await;
    eve.say(&json!({
        "type": "ack", "session": message["session"], "destination": "eve",
        "up_to": message["sequence_num"],
    }));
    message
}

fn offer(transfer: &str, name: &str, bytes: &[u8]) -> Value {
    json!({
        "type": "file-offer", "transfer": transfer.repeat(16), "name": name, "size": bytes.len(),
        "sha256": hex::encode(Sha256::digest(bytes)), "media_type": "text/plain",
    })
}

fn frame(transfer: &str, offset: u64, data: &[u8]) -> Frame {
    let mut bytes = hex::decode(transfer.repeat(16)).unwrap();
    bytes.extend(offset.to_be_bytes());
    bytes.extend(data);
    Frame::file(bytes)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_names_become_files_in_the_folder_and_nothing_outside_it() {
    within(async {
        let (swarm, mut eve, home) = bob_and_raw().await;
        let names = [
            ("../../../evil", "evil"),
            ("/etc/passwd", "passwd"),
            ("..\\..\\evil.bat", "evil.bat"),
            ("..", "file"),
            (".ssh/authorized_keys", "authorized_keys"),
            (".ifswarm-0.part", "ifswarm-0.part"),
            ("a\u{0}b\n.txt", "ab.txt"),
            ("evil", "evil (2)"),
            ("NUL", "_NUL"),
        ];
        let mut expected: Vec<_> = names.iter().map(|(_, safe)| (*safe).to_owned()).collect();
        for (n, (hostile, _)) in (1..).zip(names) {
            let transfer = format!("{n:02x}");
            let what = offer(&transfer, hostile, b"evidence");
            eve.send(eve.sign(n, draft("bob", what)).text());
            let accepted = heard(&mut eve).await;
            assert_eq!(accepted["payload"]["type"], "file-accept", "{accepted}");
            assert_eq!(accepted["payload"]["offset"], 0);
            eve.link.send(frame(&transfer, 0, b"evidence"));
            let received = heard(&mut eve).await;
            assert_eq!(received["payload"]["type"], "file-received", "{received}");
        }
        let mut found: Vec<_> = fs::read_dir(home.path().join("in"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        found.sort();
        expected.sort();
        assert_eq!(found, expected);
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 1);
        swarm.end().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sender_that_does_not_send_what_it_offered_is_told_why_and_leaves_nothing() {
    within(async {
        let (swarm, mut eve, home) = bob_and_raw().await;
        let bytes = b"evidence";
        let lies: [(&str, Vec<Frame>); 4] = [
            ("hash-mismatch", vec![frame("01", 0, b"evidencf")]),
            ("bad-frame", vec![frame("02", 1, b"evidenc")]),
            ("bad-frame", vec![frame("03", 0, b"evidence and more")]),
            (
                "bad-frame",
                vec![frame("04", 0, b"evi"), frame("04", 2, b"x")],
            ),
        ];
        for (n, (reason, frames)) in (1..).zip(lies) {
            let transfer = format!("{n:02x}");
            let what = offer(&transfer, "a", bytes);
            eve.send(eve.sign(n, draft("bob", what)).text());
            assert_eq!(heard(&mut eve).await["payload"]["type"], "file-accept");
            // Of a transfer that nobody knows, of none at all, and text: dropped.
            eve.link.send(frame("ff", 0, b"x"));
            eve.link.send(Frame::file(vec![1, 2, 3]));
            for frame in frames {
                eve.link.send(frame);
            }
            let failed = heard(&mut eve).await;
            assert_eq!(failed["performative"], "failure");
            assert_eq!(failed["payload"]["reason"], reason, "{failed}");
        }
        // Offers that are none, and one of what is too large.
        let mut large = offer("05", "a", bytes);
        large["size"] = json!(1u64 << 40);
        eve.send(eve.sign(5, draft("bob", large)).text());
        let rejected = heard(&mut eve).await;
        assert_eq!(rejected["performative"], "reject-proposal");
        assert_eq!(rejected["payload"]["reason"], "too-large");
        let mut bad = offer("06", "a", bytes);
        bad["size"] = json!(-1);
        eve.send(eve.sign(6, draft("bob", bad)).text());
        // One that is withdrawn by its sender.
        eve.send(eve.sign(7, draft("bob", offer("07", "a", bytes))).text());
        assert_eq!(heard(&mut eve).await["payload"]["type"], "file-accept");
        let withdrawn =
            json!({"type": "file-failed", "transfer": "07".repeat(16), "reason": "source-changed"});
        eve.send(eve.sign(8, draft("bob", withdrawn)).text());
        assert_eq!(heard(&mut eve).await["payload"]["reason"], "source-changed");
        assert_eq!(fs::read_dir(home.path().join("in")).unwrap().count(), 0);
        let witnesses = swarm.end().await;
        let failed = testimony(&witnesses[0], "file_failed");
        assert_eq!(failed.len(), 6);
        assert_eq!(testimony(&witnesses[0], "file_received"), []);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_may_come_in_messages_from_who_has_no_channel_for_files() {
    within(async {
        let (swarm, mut eve, home) = bob_and_raw().await;
        let bytes = noise("chunks", 100_000);
        let mut number = 0;
        let mut say = |eve: &Raw, transfer: &str, offset: usize, data: &[u8]| {
            let mut payload = offer(transfer, "../a.bin", &bytes);
            payload["type"] = json!("evidence_chunk");
            payload["offset"] = json!(offset);
            payload["chunk_sha256"] = json!(hex::encode(Sha256::digest(data)));
            payload["data"] = json!(base64::engine::general_purpose::STANDARD.encode(data));
            number += 1;
            eve.send(eve.sign(number, draft("bob", payload)).text());
        };
        for (n, chunk) in bytes.chunks(20_000).enumerate() {
            say(&eve, "01", n * 20_000, chunk);
        }
        let received = heard(&mut eve).await;
        assert_eq!(received["payload"]["type"], "file-received", "{received}");
        assert_eq!(fs::read(home.path().join("in/a.bin")).unwrap(), bytes);
        // A gap is found, and of one that does not begin nothing is taken.
        say(&eve, "02", 40_000, &bytes[40_000..60_000]);
        say(&eve, "03", 0, &bytes[..20_000]);
        say(&eve, "03", 40_000, &bytes[40_000..60_000]);
        let failed = heard(&mut eve).await;
        assert_eq!(failed["payload"]["transfer"], "03".repeat(16));
        assert_eq!(failed["payload"]["reason"], "bad-frame");
        assert_eq!(fs::read_dir(home.path().join("in")).unwrap().count(), 1);
        swarm.end().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_offers_and_never_sends_has_sixteen_places_and_keeps_nobody_else_out() {
    within(async {
        let (swarm, mut eve, home) = bob_and_raw().await;
        let mut said = Vec::new();
        for n in 1..=18 {
            let what = offer(&format!("{n:02x}"), "a", &noise(&n.to_string(), 10));
            eve.send(eve.sign(n, draft("bob", what)).text());
            said.push(heard(&mut eve).await["payload"].clone());
        }
        let (accepted, refused) = said.split_at(16);
        assert!(
            accepted.iter().all(|said| said["type"] == "file-accept"),
            "{said:?}"
        );
        assert!(
            refused.iter().all(|said| said["reason"] == "busy"),
            "{said:?}"
        );
        // A place is free again once one of them is there.
        eve.link.send(frame("01", 0, &noise("1", 10)));
        assert_eq!(heard(&mut eve).await["payload"]["type"], "file-received");
        let what = offer("19", "b", b"b");
        eve.send(eve.sign(19, draft("bob", what)).text());
        assert_eq!(heard(&mut eve).await["payload"]["type"], "file-accept");
        eve.link.send(frame("19", 0, b"b"));
        assert_eq!(heard(&mut eve).await["payload"]["type"], "file-received");
        assert_eq!(fs::read(home.path().join("in/b")).unwrap(), b"b");
        swarm.end().await;
    })
    .await;
}
