//! Files over links that are cut on the way: real agents over real WebRTC, whose links are closed
//! from inside, which no program can do.

use std::fs;
use std::time::Duration;

use tempfile::TempDir;

use crate::agent::{AcceptFiles, Agent, AgentEvent, FileState, FileTransfer};
use crate::signal::{Admission, Server, ServerConfig};

struct Pair {
    ann: Agent,
    bob: Agent,
    home: TempDir,
    _server: Server,
}

impl Pair {
    async fn start() -> Self {
        let home = tempfile::tempdir().unwrap();
        let anywhere = "127.0.0.1:0".parse().unwrap();
        let server = Server::bind(ServerConfig::new(anywhere, Admission::Open)).await;
        let server = server.unwrap();
        let swarm = "cut".parse().unwrap();
        let builder = |id: &str| Agent::builder(id.parse().unwrap(), &swarm).signal(&server.url());
        let accept = AcceptFiles {
            folder: home.path().join("in"),
            max_size: 1 << 30,
        };
        let ann = builder("ann").start().await.unwrap();
        let bob = builder("bob").accept_files(Some(accept));
        let bob = bob.start().await.unwrap();
        ann.linked(1).await.unwrap();
        Self {
            ann,
            bob,
            home,
            _server: server,
        }
    }

    async fn send(&self, bytes: &[u8]) -> FileTransfer {
        let path = self.home.path().join("a.bin");
        fs::write(&path, bytes).unwrap();
        self.ann.send_file(self.bob.id(), &path).await.unwrap()
    }
}

/// Closes all links of an agent, as a lost network would: without a goodbye.
async fn cut(agent: &Agent) {
    let links: Vec<_> = {
        let core = agent.shared.look();
        let made = core.links.iter().filter_map(|(_, link)| link.made.as_ref());
        made.map(|made| made.link.clone()).collect()
    };
    assert!(!links.is_empty(), "there is a link to be cut");
    for link in links {
        link.close().await;
    }
}

fn noise(length: usize) -> Vec<u8> {
    let mut chance = crate::link::memory::Chance::new(1);
    let words = std::iter::repeat_with(|| chance.any().to_le_bytes());
    words.flatten().take(length).collect()
}

async fn within(story: impl Future<Output = ()>) {
    let waited = tokio::time::timeout(Duration::from_secs(60), story).await;
    waited.expect("something that was waited for never came");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_goes_on_where_it_was_after_its_link_was_cut_from_either_end() {
    within(async {
        let pair = Pair::start().await;
        let mut events = pair.ann.subscribe();
        let bytes = noise(48 << 20);
        let sent = pair.send(&bytes).await;
        let mut progress = sent.progress();
        for (eighth, agent) in [(1, &pair.ann), (2, &pair.bob)] {
            let enough = eighth * (bytes.len() as u64 / 8);
            progress.wait_for(|have| *have >= enough).await.unwrap();
            cut(agent).await;
        }
        sent.finished().await.unwrap();
        assert!(fs::read(pair.home.path().join("in/a.bin")).unwrap() == bytes);
        assert_eq!(
            fs::read_dir(pair.home.path().join("in")).unwrap().count(),
            1
        );

        // The cuts took place: it was offered three times, and went on from further on each time.
        let mut accepted = Vec::new();
        let mut offered = false;
        while let Some(event) = events.try_recv() {
            match event {
                AgentEvent::File(file) if file.state == FileState::Offered => offered = true,
                AgentEvent::File(file) => {
                    if let FileState::Receiving { offset } = file.state
                        && std::mem::take(&mut offered)
                    {
                        accepted.push(offset);
                    }
                }
                _ => {}
            }
        }
        let eighth = bytes.len() as u64 / 8;
        let [0, first, second] = accepted[..] else {
            panic!("accepted from {accepted:?}")
        };
        assert!(
            (eighth..bytes.len() as u64).contains(&first),
            "{accepted:?}"
        );
        assert!(
            (2 * eighth..bytes.len() as u64).contains(&second),
            "{accepted:?}"
        );
        pair.ann.shutdown("done").await.unwrap();
        pair.bob.shutdown("done").await.unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receipt_that_was_lost_with_the_link_is_given_again_and_the_file_is_there_once() {
    within(async {
        let pair = Pair::start().await;
        let sent = pair.send(b"evidence").await;
        let offer = sent.offer().clone();
        sent.finished().await.unwrap();
        // As a sender that never heard of it would.
        let again = super::wire::FileSays::Offer(offer.clone());
        let (performative, payload) = again.to_payload();
        let mut draft = crate::message::Draft::new(pair.bob.id().clone(), payload);
        draft.performative = Some(performative);
        let mut events = pair.ann.subscribe();
        pair.ann.send(draft).await.unwrap();
        let mut said = Vec::new();
        while said.len() < 2 {
            if let Some(AgentEvent::Message(message)) = events.recv().await {
                said.push(message.payload()["type"].as_str().unwrap().to_owned());
            }
        }
        assert_eq!(said, ["file-accept", "file-received"]);
        assert_eq!(
            fs::read_dir(pair.home.path().join("in")).unwrap().count(),
            1
        );
        pair.ann.shutdown("done").await.unwrap();
        pair.bob.shutdown("done").await.unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sender_that_leaves_in_the_middle_is_told_so_and_the_receiver_keeps_what_it_has() {
    within(async {
        let Pair { ann, bob, home, .. } = Pair::start().await;
        let path = home.path().join("a.bin");
        fs::write(&path, noise(24 << 20)).unwrap();
        let sent = ann.send_file(bob.id(), &path).await.unwrap();
        let mut progress = sent.progress();
        progress.wait_for(|have| *have > 0).await.unwrap();
        let left = ann.shutdown_within("done", Duration::ZERO).await;
        left.unwrap();
        let outcome = sent.finished().await;
        assert!(
            matches!(outcome, Err(crate::agent::FileError::Ended)),
            "{outcome:?}"
        );
        bob.shutdown("done").await.unwrap();
        let names: Vec<_> = fs::read_dir(home.path().join("in"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        assert!(names.len() == 1 && names[0].ends_with(".part"), "{names:?}");
    })
    .await;
}
