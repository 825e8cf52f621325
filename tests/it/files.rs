//! Files between real agents over real WebRTC: what arrives, what is refused, what is left where.
//! (What peers may do with offers and frames stands in `files_raw`.)

use std::fs;
use std::path::{Path, PathBuf};

use ifswarm::agent::{
    AcceptFiles, AgentEvent, Direction, FileError, FileEvent, FileState, FileTransfer,
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::live::{
    LiveAgent, LiveSwarm, builder, draft, read_witness, roster_of, say, testimony, within,
};
use crate::support::bytes_of;

/// Ann, who sends, and Bob, who takes files of up to a size.
struct Pair {
    swarm: LiveSwarm,
    home: TempDir,
}

impl Pair {
    async fn start(max_size: u64) -> Self {
        let home = tempfile::tempdir().unwrap();
        let inbox = home.path().join("in");
        let accept = AcceptFiles {
            folder: inbox,
            max_size,
        };
        let swarm = LiveSwarm::start_with(&["ann", "bob"], |place, builder| {
            builder.accept_files((place == 1).then(|| accept.clone()))
        })
        .await;
        Self { swarm, home }
    }

    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.home.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    async fn send(&self, path: &Path) -> FileTransfer {
        let bob = "bob".parse().unwrap();
        let sent = self.swarm.agent(0).send_file(&bob, path).await;
        sent.expect("it can be read")
    }

    fn inbox(&self) -> PathBuf {
        self.home.path().join("in")
    }

    /// The names in Bob's folder, hidden ones too.
    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.inbox()).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

/// The next thing that happens to a file, but for how far it is.
async fn file(live: &mut LiveAgent) -> FileEvent {
    live.until(|event| match event {
        AgentEvent::File(file) if !matches!(file.state, FileState::Receiving { .. }) => Some(file),
        _ => None,
    })
    .await
}

/// Bytes that look random, and are the same each time.
pub(crate) fn noise(name: &str, length: usize) -> Vec<u8> {
    let mut block: [u8; 32] = bytes_of("file", name);
    let mut bytes = Vec::with_capacity(length + 32);
    while bytes.len() < length {
        bytes.extend_from_slice(&block);
        block = Sha256::digest(block).into();
    }
    bytes.truncate(length);
    bytes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_arrives_whole_and_both_witnesses_have_it() {
    within(async {
        let mut pair = Pair::start(64 << 20).await;
        let bytes = noise("whole", 5_000_001);
        let path = pair.file("figures.csv", &bytes);
        let sent = pair.send(&path).await;
        let offer = sent.offer().clone();
        assert_eq!(offer.media_type, "text/csv");
        let progress = sent.progress();
        sent.finished().await.unwrap();
        assert_eq!(*progress.borrow(), 5_000_001);
        for (place, direction) in [(0, Direction::Out), (1, Direction::In)] {
            let live = &mut pair.swarm.agents[place];
            let offered = file(live).await;
            assert_eq!(offered.state, FileState::Offered);
            assert_eq!((offered.direction, &*offered.offer), (direction, &offer));
            let path = (place == 1).then(|| pair.home.path().join("in/figures.csv"));
            assert_eq!(file(live).await.state, FileState::Received { path });
        }
        assert_eq!(pair.names(), ["figures.csv"]);
        assert_eq!(fs::read(pair.inbox().join("figures.csv")).unwrap(), bytes);
        let witnesses = pair.swarm.end().await;
        for (place, (peer, direction)) in [("bob", "out"), ("ann", "in")].iter().enumerate() {
            for event in ["file_offered", "file_accepted", "file_received"] {
                let entries = testimony(&witnesses[place], event);
                let [(Some(with), what)] = &entries[..] else {
                    panic!("{event}: {entries:?}")
                };
                assert_eq!(
                    (with.as_str(), &what["direction"]),
                    (*peer, &json!(direction))
                );
                assert_eq!(what["sha256"], hex::encode(Sha256::digest(&bytes)));
                assert_eq!(what["transfer"], offer.transfer.to_string());
            }
            assert_eq!(testimony(&witnesses[place], "file_failed"), []);
        }
        // What was said of it stands in both as messages, signed.
        for (entries, event) in [
            (&witnesses[0], "ifmessage_received"),
            (&witnesses[1], "ifmessage_sent"),
        ] {
            let said: Vec<Value> = testimony(entries, event)
                .into_iter()
                .map(|(_, what)| what["performative"].clone())
                .collect();
            assert_eq!(said, ["accept-proposal", "inform"]);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_file_arrives_and_a_taken_name_gets_a_number() {
    within(async {
        let pair = Pair::start(64 << 20).await;
        let path = pair.file("a.txt", b"");
        pair.send(&path).await.finished().await.unwrap();
        let path = pair.file("a.txt", b"another");
        pair.send(&path).await.finished().await.unwrap();
        assert_eq!(pair.names(), ["a (2).txt", "a.txt"]);
        assert_eq!(fs::read(pair.inbox().join("a.txt")).unwrap(), b"");
        assert_eq!(
            fs::read(pair.inbox().join("a (2).txt")).unwrap(),
            b"another"
        );
        pair.swarm.end().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_receiver_decides_by_its_policy_and_the_largest_that_is_allowed_is() {
    within(async {
        let pair = Pair::start(1000).await;
        let path = pair.file("fits", &[7; 1000]);
        pair.send(&path).await.finished().await.unwrap();
        let path = pair.file("large", &[7; 1001]);
        let refused = pair.send(&path).await.finished().await;
        let Err(FileError::Rejected { peer, reason }) = refused else {
            panic!("expected a refusal, found {refused:?}")
        };
        assert_eq!((peer.as_str(), reason.as_str()), ("bob", "too-large"));
        // Ann takes none at all.
        let ann = "ann".parse().unwrap();
        let sent = pair.swarm.agent(1).send_file(&ann, &path).await.unwrap();
        let refused = sent.finished().await.unwrap_err().to_string();
        assert!(refused.contains("not-accepted") && refused.contains("--accept-files"));
        assert_eq!(pair.names(), ["fits"]);
        let witnesses = pair.swarm.end().await;
        for entries in witnesses {
            let failed = testimony(&entries, "file_failed");
            let reasons: Vec<_> = failed.iter().map(|(_, what)| &what["reason"]).collect();
            assert_eq!(reasons, ["too-large", "not-accepted"]);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_file_or_has_no_receiver_is_said_before_anything_is_offered() {
    within(async {
        let pair = Pair::start(1000).await;
        let (ann, bob) = ("ann".parse().unwrap(), "bob".parse().unwrap());
        let here = pair.home.path();
        for path in [here.to_owned(), here.join("missing")] {
            let refused = pair.swarm.agent(0).send_file(&bob, &path).await;
            let err = refused.unwrap_err();
            assert!(matches!(err, FileError::Source { .. }), "{err}");
            assert!(err.to_string().contains(path.to_str().unwrap()), "{err}");
        }
        let path = pair.file("a", b"a");
        let to_myself = pair.swarm.agent(0).send_file(&ann, &path).await;
        assert!(
            matches!(to_myself, Err(FileError::Send(_))),
            "{to_myself:?}"
        );
        let witnesses = pair.swarm.end().await;
        assert_eq!(testimony(&witnesses[0], "file_offered"), []);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_at_once_all_arrive_and_messages_flow_meanwhile() {
    within(async {
        const MESSAGES: u64 = 200;
        let mut pair = Pair::start(64 << 20).await;
        let files: Vec<_> = (0..10)
            .map(|n| (format!("{n}.bin"), noise(&n.to_string(), 1_000_000 + n)))
            .collect();
        let mut sent = Vec::new();
        for (name, bytes) in &files {
            let path = pair.file(name, bytes);
            sent.push(pair.send(&path).await.finished());
        }
        let LiveSwarm { agents, .. } = &mut pair.swarm;
        let [ann, bob] = &mut agents[..] else {
            panic!("two agents")
        };
        // Each is answered before the next is sent, so that every one waits for its own way.
        let talk = async {
            for n in 0..MESSAGES {
                ann.agent
                    .send(draft("bob", json!({ "n": n })))
                    .await
                    .unwrap();
                loop {
                    let message = bob.message().await;
                    if message.payload().contains_key("n") {
                        assert_eq!(message.payload()["n"], n);
                        break;
                    }
                }
                bob.agent.send(say("ann", "yes")).await.unwrap();
                while ann.message().await.payload().get("text").is_none() {}
            }
        };
        let (outcomes, ()) =
            futures_util::future::join(futures_util::future::join_all(sent), talk).await;
        for outcome in outcomes {
            outcome.unwrap();
        }
        for (name, bytes) in &files {
            assert_eq!(&fs::read(pair.inbox().join(name)).unwrap(), bytes, "{name}");
        }
        assert_eq!(pair.names().len(), 10);
        pair.swarm.end().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_files_than_a_link_has_places_for_wait_for_their_turn() {
    within(async {
        let pair = Pair::start(64 << 20).await;
        let mut sent = Vec::new();
        for n in 0..40 {
            let path = pair.file(&format!("{n}"), &noise(&n.to_string(), 30_000));
            sent.push(pair.send(&path).await.finished());
        }
        for outcome in futures_util::future::join_all(sent).await {
            outcome.unwrap();
        }
        assert_eq!(pair.names().len(), 40);
        pair.swarm.end().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_ends_can_send_at_once() {
    within(async {
        let home = tempfile::tempdir().unwrap();
        let swarm = LiveSwarm::start_with(&["ann", "bob"], |place, builder| {
            builder.accept_files(Some(AcceptFiles {
                folder: home.path().join(["ann", "bob"][place]),
                max_size: 1 << 30,
            }))
        })
        .await;
        let bytes = noise("both", 2_000_000);
        let path = home.path().join("a.bin");
        fs::write(&path, &bytes).unwrap();
        let (ann, bob) = ("ann".parse().unwrap(), "bob".parse().unwrap());
        let there = swarm.agent(0).send_file(&bob, &path).await.unwrap();
        let back = swarm.agent(1).send_file(&ann, &path).await.unwrap();
        there.finished().await.unwrap();
        back.finished().await.unwrap();
        for name in ["ann", "bob"] {
            let arrived = fs::read(home.path().join(name).join("a.bin")).unwrap();
            assert!(arrived == bytes, "{name}");
        }
        swarm.end().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_that_was_started_anew_goes_on_with_what_is_on_its_disk() {
    within(async {
        let Pair { mut swarm, home } = Pair::start(1 << 30).await;
        let bytes = noise("anew", 24 << 20);
        let path = home.path().join("a.bin");
        fs::write(&path, &bytes).unwrap();
        let bob_id = "bob".parse().unwrap();
        let sent = swarm.agent(0).send_file(&bob_id, &path).await.unwrap();
        let mut progress = sent.progress();
        let third = bytes.len() as u64 / 3;
        progress.wait_for(|have| *have >= third).await.unwrap();
        let bob = swarm.agents.pop().unwrap();
        // Without waiting for anything: the file goes on until then.
        let now = std::time::Duration::ZERO;
        let ended = bob.agent.shutdown_within("starting anew", now).await;
        ended.unwrap();
        let logs = tempfile::tempdir().unwrap();
        let bob = builder("bob", &swarm.server.url(), logs.path())
            .roster(roster_of(&["ann", "bob"]))
            .accept_files(Some(AcceptFiles {
                folder: home.path().join("in"),
                max_size: 1 << 30,
            }));
        let bob = LiveAgent::start(bob).await;
        sent.finished().await.unwrap();
        assert!(fs::read(home.path().join("in/a.bin")).unwrap() == bytes);
        bob.agent.shutdown("done").await.unwrap();
        let entries = read_witness(logs.path(), "bob");
        let accepted = testimony(&entries, "file_accepted");
        let offset = accepted[0].1["offset"].as_u64().unwrap();
        assert!((third..bytes.len() as u64).contains(&offset), "{offset}");
        swarm.end().await;
    })
    .await;
}
