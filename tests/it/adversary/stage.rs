//! The stage: an honest pair on a real link, introduced through the liar by a real server; what
//! happens on it, and what its witnesses say.

use std::fs;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::time::Duration;

use futures_util::FutureExt;
use ifswarm::agent::AgentEvent;
use serde_json::Value;
use tempfile::TempDir;

use super::signal_process::SignalProcess;
use super::table::{Attacks, By, Seen};
use crate::liar::Liar;
use crate::live::{LiveAgent, builder, read_witness, roster_of, say, swarm_name, witness_file};

/// Everybody who is on the roster. `ann` and `bob` are the honest pair, `cid` comes and goes,
/// `mel` has gone bad, and so have `max`, `mia`, `moe` and `mox`; `eve` is a name to abuse.
pub(super) const IDS: [&str; 10] = [
    "ann", "bob", "cid", "dan", "eve", "max", "mel", "mia", "moe", "mox",
];
/// The signaling server, in its own log.
pub(super) const SIGNAL: &str = "@signal";

/// The honest pair, its server, and the liar between them.
pub(super) struct Stage {
    pub(super) server: SignalProcess,
    pub(super) liar: Liar,
    pub(super) ann: LiveAgent,
    pub(super) bob: LiveAgent,
    pub(super) folder: TempDir,
    /// The one link of the honest pair, from the first attack to the last.
    pub(super) link: String,
    /// How many entries the witnesses of Ann and Cid had when the act began.
    pub(super) mark: [usize; 2],
    said: u64,
    /// What should have been delivered to Ann and to Bob by now.
    expected: [u64; 2],
}

/// The stage, and the table of what was played on it.
pub(super) struct Play {
    pub(super) stage: Stage,
    pub(super) attacks: Attacks,
}

/// An entry of a witness that is still being written.
#[derive(Debug, Clone)]
pub(super) struct Found {
    /// From 1.
    pub(super) line: usize,
    pub(super) metadata: Value,
    of: String,
    event: String,
}

impl Play {
    pub(super) async fn begin() -> Self {
        Self {
            stage: Stage::set().await,
            attacks: Attacks::default(),
        }
    }

    /// Plays one attack; then the honest pair exchange a message. Whatever fails is a row of the
    /// table, and the play goes on.
    pub(super) async fn act(
        &mut self,
        by: By,
        attack: &str,
        act: impl AsyncFnOnce(&mut Stage) -> Seen,
    ) {
        let stage = &mut self.stage;
        stage.mark = ["ann", "cid"].map(|id| stage.entries(id));
        let scene = async {
            let seen = act(stage).await;
            let honest = stage.honest().await;
            (seen, honest)
        };
        let scene = AssertUnwindSafe(scene).catch_unwind();
        match tokio::time::timeout(ONE_ACT, scene).await {
            Ok(Ok((seen, honest))) => self.attacks.refused(attack, by, seen, honest),
            Ok(Err(panic)) => self.failed(attack, by, &words(&*panic)),
            Err(_) => {
                let why = format!("nothing came of it in {} s", ONE_ACT.as_secs());
                self.failed(attack, by, &why);
            }
        }
    }

    fn failed(&mut self, attack: &str, by: By, why: &str) {
        self.attacks.failed(attack, by, why);
        // One row fails for one reason: what was delivered is not held against the next one.
        let stage = &mut self.stage;
        for (live, expected) in [&mut stage.ann, &mut stage.bob]
            .into_iter()
            .zip(&mut stage.expected)
        {
            while live.events.try_recv().is_some() {}
            *expected = live.agent.stats().delivered;
        }
    }
}

impl Stage {
    async fn set() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut liar = Liar::listen().await;
        let server = SignalProcess::start(folder.path(), &IDS, liar.authority());
        liar.lead_to(server.url(), &swarm_name());
        let ann = start("ann", &liar, folder.path()).await;
        let bob = start("bob", &liar, folder.path()).await;
        ann.agent.linked(1).await.unwrap();
        bob.agent.linked(1).await.unwrap();
        let mut stage = Self {
            link: ann.links().await[bob.agent.id()].clone(),
            server,
            liar,
            ann,
            bob,
            folder,
            mark: [0, 0],
            said: 0,
            expected: [0, 0],
        };
        stage.honest().await;
        stage
    }

    /// An agent that joins now, through the liar.
    pub(super) async fn newcomer(&self, id: &str) -> LiveAgent {
        start(id, &self.liar, self.folder.path()).await
    }

    /// One message each way over the link of the honest pair, and nothing else was delivered.
    pub(super) async fn honest(&mut self) -> String {
        self.said += 1;
        let text = format!("honest {}", self.said);
        self.ann.agent.send(say("bob", &text)).await.unwrap();
        let heard = self.bob.message().await;
        assert_eq!(
            (heard.source().as_str(), &heard.payload()["text"]),
            ("ann", &text.as_str().into())
        );
        self.bob.agent.send(say("ann", &text)).await.unwrap();
        self.expected[1] += 1;
        self.ann_hears("bob", &text).await;
        assert_eq!(self.bob.agent.stats().delivered, self.expected[1]);
        for (live, other) in [(&self.ann, &self.bob), (&self.bob, &self.ann)] {
            let links = live.links().await;
            assert_eq!(
                links.get(other.agent.id()),
                Some(&self.link),
                "another link"
            );
        }
        assert!(self.server.is_alive(), "the server has ended");
        "one message each way".into()
    }

    /// The next message that Ann hears, which must be this one, and the only one.
    pub(super) async fn ann_hears(&mut self, from: &str, text: &str) {
        self.ann_hears_all(from, &[text.to_owned()]).await;
    }

    /// The next messages that Ann hears, which must be these, in this order, and no others.
    pub(super) async fn ann_hears_all(&mut self, from: &str, texts: &[String]) {
        for text in texts {
            let message = self.ann.message().await;
            assert_eq!(message.source().as_str(), from);
            assert_eq!(message.payload()["text"], text.as_str());
            self.expected[0] += 1;
        }
        let delivered = self.ann.agent.stats().delivered;
        assert_eq!(delivered, self.expected[0], "delivered to ann");
    }

    /// The reason for which Ann refuses the next message that she refuses of `peer`.
    pub(super) async fn ann_refuses(&mut self, from: &str) -> String {
        let refused = self.ann.until(|event| match event {
            AgentEvent::Rejected { peer, reason, .. } if peer.as_str() == from => Some(reason),
            AgentEvent::Message(message) => panic!("delivered: {message:?}"),
            _ => None,
        });
        refused.await.as_str().to_owned()
    }

    /// How many entries somebody's witness has.
    pub(super) fn entries(&self, of: &str) -> usize {
        entries_of(self.folder.path(), of).len()
    }

    /// The first entry after `mark` that is of this kind and that `pick` takes.
    pub(super) fn entry(
        &self,
        of: &str,
        mark: usize,
        event: &str,
        pick: impl Fn(&Value) -> bool,
    ) -> Option<Found> {
        entry_in(self.folder.path(), of, mark, event, pick)
    }

    /// That entry, which must be there.
    pub(super) fn has_entry(
        &self,
        of: &str,
        mark: usize,
        event: &str,
        pick: impl Fn(&Value) -> bool,
    ) -> Found {
        let found = self.entry(of, mark, event, pick);
        found.unwrap_or_else(|| panic!("no such {event} in the witness of {of}"))
    }

    /// The metadata of all entries of this kind after `mark`.
    pub(super) fn all_entries(&self, of: &str, mark: usize, event: &str) -> Vec<Value> {
        let entries = entries_of(self.folder.path(), of).into_iter().skip(mark);
        let matching = entries.filter(|entry| entry["event"] == event);
        matching.map(|entry| entry["metadata"].clone()).collect()
    }

    /// Waits until the witness of `live`, which is `of`, has an entry of this kind after `mark`.
    pub(super) async fn until_entry(
        &self,
        live: &mut LiveAgent,
        of: &str,
        mark: usize,
        event: &str,
    ) -> Found {
        until_entry(self.folder.path(), live, of, mark, event).await
    }

    /// As [`until_entry`](Self::until_entry), of Ann.
    pub(super) async fn until_ann_has(&mut self, mark: usize, event: &str) -> Found {
        until_entry(self.folder.path(), &mut self.ann, "ann", mark, event).await
    }

    /// Ends all; every witness is whole, and its process has ended as it should.
    pub(super) async fn strike(self) {
        for live in [self.ann, self.bob] {
            live.agent.shutdown("the play is over").await.unwrap();
        }
        self.server.end();
        for id in ["ann", "bob", "cid", "dan"] {
            read_witness(self.folder.path(), id);
        }
        let log = witness_file(self.folder.path(), SIGNAL);
        let report = ifswarm::witness::check(&log).unwrap();
        assert_eq!(report.agent_id, SIGNAL);
    }
}

/// The first entry after `mark` in the witness of `of` below `folder` that is of this kind and
/// that `pick` takes.
pub(super) fn entry_in(
    folder: &Path,
    of: &str,
    mark: usize,
    event: &str,
    pick: impl Fn(&Value) -> bool,
) -> Option<Found> {
    let entries = entries_of(folder, of).into_iter().enumerate().skip(mark);
    let mut fitting = entries.filter(|(_, entry)| entry["event"] == event && pick(entry));
    fitting.next().map(|(index, entry)| Found {
        line: index + 1,
        metadata: entry["metadata"].clone(),
        of: of.into(),
        event: event.into(),
    })
}

/// An entry is written before the event it is about is told: so it is looked for, and then again
/// after each event.
async fn until_entry(
    folder: &Path,
    live: &mut LiveAgent,
    of: &str,
    mark: usize,
    event: &str,
) -> Found {
    loop {
        if let Some(found) = entry_in(folder, of, mark, event, |_| true) {
            return found;
        }
        live.events.recv().await.expect("an agent that lives");
    }
}

async fn start(id: &str, liar: &Liar, folder: &Path) -> LiveAgent {
    LiveAgent::start(builder(id, &liar.url(), folder).roster(roster_of(&IDS))).await
}

/// What stands in a witness now, which may be under way to more: none before it was begun.
fn entries_of(folder: &Path, of: &str) -> Vec<Value> {
    let text = fs::read(witness_file(folder, of)).unwrap_or_default();
    let whole = text.split_inclusive(|byte| *byte == b'\n');
    let whole = whole.filter(|line| line.ends_with(b"\n"));
    whole
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect()
}

impl std::fmt::Display for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}, line {} of {}", self.event, self.line, self.of)
    }
}

fn words(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
    text.unwrap_or_else(|| "it panicked".into())
}

/// Far longer than any attack takes.
const ONE_ACT: Duration = Duration::from_secs(30);
