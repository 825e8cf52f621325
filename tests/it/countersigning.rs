//! Checkpoints among real agents: countersigned, gone on with after a restart, and refused when a
//! log has two histories.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use ifswarm::agent::AgentEvent;
use ifswarm::identity::AgentId;
use ifswarm::signal::{Admission, Server};
use ifswarm::witness::{
    COSIGNATURES_FOLDER, Checkpoint, ENTRIES_FILE, Fork, SignedCheckpoint, Tree, leaf_hash, origin,
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::live::{
    LiveAgent, LiveSwarm, builder, read_witness, roster_of, say, serve, swarm_name, testimony,
    within, witness_file,
};
use crate::raw::{Raw, RawLog};
use crate::support::FixtureAgent;

fn id(name: &str) -> AgentId {
    name.parse().unwrap()
}

fn origin_of(name: &str) -> String {
    origin(&swarm_name(), name)
}

/// What `cosigner` has countersigned last of the log of `owner`, by the file in the owner's folder.
fn cosignature(folder: &Path, owner: &str, cosigner: &str) -> Option<Checkpoint> {
    let file = witness_file(folder, owner);
    let file = file.with_file_name(COSIGNATURES_FOLDER).join(cosigner);
    let note = fs::read_to_string(file).ok()?;
    let key = FixtureAgent::new(owner).public_key();
    let signed = SignedCheckpoint::open(&note, &origin_of(owner), &key).unwrap();
    let key = FixtureAgent::new(cosigner).public_key();
    signed.cosigned_by(&origin_of(cosigner), &key).unwrap();
    assert_eq!(signed.note().signatures().len(), 2);
    Some(signed.checkpoint().clone())
}

/// The tree over the first `size` entries of a log.
fn tree(folder: &Path, owner: &str, size: u64) -> Tree {
    let text = fs::read_to_string(witness_file(folder, owner)).unwrap();
    let mut tree = Tree::default();
    let lines = text.lines().take(size as usize);
    lines.for_each(|line| tree.push(leaf_hash(line.as_bytes())));
    assert_eq!(tree.size(), size);
    tree
}

impl LiveAgent {
    /// Waits until `peer` has countersigned at least so many entries; of how many it was.
    async fn countersigned(&mut self, by: &str, least: u64) -> u64 {
        let by = id(by);
        self.until(|event| match event {
            AgentEvent::Countersigned { peer, entries } if peer == by && entries >= least => {
                Some(entries)
            }
            AgentEvent::Equivocation { owner, fork, .. } => panic!("{owner}: {fork:?}"),
            _ => None,
        })
        .await
    }

    /// Waits for the first word of two histories.
    async fn equivocation(&mut self) -> (AgentId, AgentId, Fork) {
        self.until(|event| match event {
            AgentEvent::Equivocation {
                owner,
                shown_by,
                fork,
            } => Some((owner, shown_by, fork)),
            _ => None,
        })
        .await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_leaves_has_all_it_said_countersigned_by_everybody() {
    within(async {
        let ids = ["ann", "bob", "zoe"];
        let mut swarm = LiveSwarm::start(&ids).await;
        swarm.agent(0).send(say("bob", "hello")).await.unwrap();
        swarm.agents[1].message().await;
        let ann = swarm.agents.remove(0);
        ann.agent.shutdown("done").await.unwrap();
        let (_, folder) = swarm.end_in_folder().await;
        let folder = folder.path();

        let entries = read_witness(folder, "ann");
        let is_sent = |entry: &Value| entry["event"] == "ifmessage_sent";
        let sent = entries.iter().position(is_sent).unwrap() as u64;
        let told = testimony(&entries, "checkpoint_cosigned");
        for cosigner in ["bob", "zoe"] {
            let checkpoint = cosignature(folder, "ann", cosigner).unwrap();
            assert!(checkpoint.size > sent, "{cosigner}: {checkpoint:?}");
            assert_eq!(checkpoint.root, tree(folder, "ann", checkpoint.size).root());
            // Both ends say so, in the same words.
            let of = |told: &[(Option<String>, Value)], peer: &str, size: u64| {
                let mine = told.iter().find(|(id, what)| {
                    id.as_deref() == Some(peer)
                        && what["origin"] == origin_of("ann")
                        && what["size"] == size
                });
                mine.map(|(_, what)| what.clone())
            };
            let theirs = testimony(&read_witness(folder, cosigner), "checkpoint_cosigned");
            let mine = of(&told, cosigner, checkpoint.size).expect("in the owner's log");
            assert_eq!(of(&theirs, "ann", checkpoint.size), Some(mine));
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_goes_on_after_a_restart_is_countersigned_on() {
    within(async {
        let mut pair = Pair::start().await;
        let first = pair.ann().countersigned("bob", 1).await;
        pair.restart_ann(|_| ()).await;
        // The proof begins before anything that this process has seen of the log.
        let second = pair.ann().countersigned("bob", first + 1).await;
        // And bob, started again, still knows what it has countersigned.
        pair.restart_bob().await;
        let third = pair.ann().countersigned("bob", second + 1).await;
        assert!(third > second);
        let folder = pair.end().await;
        for name in ["ann", "bob"] {
            let entries = read_witness(folder.path(), name);
            assert_eq!(testimony(&entries, "equivocation_detected"), []);
            assert_eq!(testimony(&entries, "checkpoint_rejected"), []);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_brought_back_from_an_old_copy_is_found_out_by_both_ends() {
    within(async {
        let mut pair = Pair::start().await;
        pair.ann().countersigned("bob", 1).await;
        let mut copy = None;
        pair.restart_ann(|folder| copy = Some(copied(folder))).await;
        pair.ann().countersigned("bob", 1).await;
        pair.ann().agent.linked(1).await.unwrap();
        let denied = say("bob", "to be denied");
        pair.ann().agent.send(denied).await.unwrap();
        pair.bob().message().await;
        // All of it goes: entries, checkpoint, cosignatures.
        pair.restart_ann(|folder| {
            fs::remove_dir_all(folder).unwrap();
            fs::rename(copy.take().unwrap(), folder).unwrap();
        })
        .await;
        let (owner, ..) = pair.bob().equivocation().await;
        assert_eq!(owner, id("ann"));
        // What it says is heard as before: it is signed.
        let later = say("bob", "I never said that");
        pair.ann().agent.send(later).await.unwrap();
        pair.bob().message().await;
        let folder = pair.end().await;
        let told = testimony(&read_witness(folder.path(), "bob"), "equivocation_detected");
        let [(peer, what)] = &told[..] else {
            panic!("once: {told:?}")
        };
        assert_eq!(peer.as_deref(), Some("ann"));
        let key = FixtureAgent::new("ann").public_key();
        let notes = what["checkpoints"].as_array().unwrap();
        for note in notes {
            SignedCheckpoint::open(note.as_str().unwrap(), &origin_of("ann"), &key).unwrap();
        }
        assert_ne!(notes[0], notes[1]);
    })
    .await;
}

/// Two real agents, and a hand-made peer that is linked with the first of them.
struct Trio {
    swarm: LiveSwarm,
    raw: Raw,
}

impl Trio {
    async fn start() -> Self {
        let roster = || roster_of(&["ann", "raw", "zoe"]);
        let admission = Admission::Rosters(BTreeMap::from([(swarm_name(), roster())]));
        let swarm = LiveSwarm::start_under(admission, &["ann", "zoe"], |_, builder| {
            builder.roster(roster())
        });
        let swarm = swarm.await;
        let raw = Raw::join(&swarm.server.url(), "raw", "ann").await;
        raw.say_hello();
        Self { swarm, raw }
    }

    fn agent(&mut self, place: usize) -> &mut LiveAgent {
        &mut self.swarm.agents[place]
    }

    /// Shows a log, of which ann has seen nothing, and has it countersigned.
    async fn begin(&mut self, log: &RawLog) {
        self.raw.say(&log.shown());
        let note = self.raw.control("cosign").await["note"].clone();
        let key = FixtureAgent::new("raw").public_key();
        let signed = SignedCheckpoint::open(note.as_str().unwrap(), &origin_of("raw"), &key);
        let ann = FixtureAgent::new("ann").public_key();
        signed
            .unwrap()
            .cosigned_by(&origin_of("ann"), &ann)
            .unwrap();
    }

    /// What ann has found out; how it shows.
    async fn found_out(&mut self) -> Fork {
        let (owner, shown_by, fork) = self.agent(0).equivocation().await;
        assert_eq!((owner, shown_by), (id("raw"), id("raw")));
        fork
    }

    /// The link is as it was. Ends all; the witnesses of ann and zoe.
    async fn end(mut self) -> [Vec<Value>; 2] {
        let good = self.raw.sign(1, say("ann", "still here"));
        self.raw.send(good.text());
        self.agent(0).message().await;
        self.swarm.end().await.try_into().unwrap()
    }
}

/// That a log with two histories is witnessed once, by whom it was shown.
fn is_witnessed(entries: &[Value], shown_by: &str, fork: Fork) {
    let told = testimony(entries, "equivocation_detected");
    let [(peer, what)] = &told[..] else {
        panic!("once: {told:?}")
    };
    assert_eq!(peer.as_deref(), Some(shown_by));
    assert_eq!(what["origin"], origin_of("raw"));
    assert_eq!(what["reason"], fork.as_str());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_written_anew_is_found_out_and_everybody_is_told() {
    within(async {
        let mut trio = Trio::start().await;
        let log = RawLog::of("raw", 7);
        trio.begin(&log).await;
        trio.raw.say(&log.forked(3, 7).shown());
        assert_eq!(trio.found_out().await, Fork::SameSize);
        let (owner, shown_by, fork) = trio.agent(1).equivocation().await;
        let expected = (id("raw"), id("ann"), Fork::SameSize);
        assert_eq!((owner, shown_by, fork), expected);
        let [ann, zoe] = trio.end().await;
        is_witnessed(&ann, "raw", Fork::SameSize);
        is_witnessed(&zoe, "ann", Fork::SameSize);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_goes_on_is_countersigned_and_one_that_forked_is_not() {
    within(async {
        let mut trio = Trio::start().await;
        let mut log = RawLog::of("raw", 7);
        trio.begin(&log).await;
        log.grow("true", 12);
        trio.raw.say(&log.shown());
        trio.raw.say(&log.continues(7));
        trio.raw.control("cosign").await;
        let fork = log.forked(9, 20);
        trio.raw.say(&fork.shown());
        trio.raw.say(&fork.continues(12));
        assert_eq!(trio.found_out().await, Fork::NotContinued);
        let [ann, _] = trio.end().await;
        is_witnessed(&ann, "raw", Fork::NotContinued);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_was_rolled_back_is_found_out() {
    within(async {
        let mut trio = Trio::start().await;
        trio.begin(&RawLog::of("raw", 7)).await;
        trio.raw.say(&RawLog::of("raw", 5).shown());
        assert_eq!(trio.found_out().await, Fork::RolledBack);
        let [ann, _] = trio.end().await;
        is_witnessed(&ann, "raw", Fork::RolledBack);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_that_never_proves_what_it_is_asked_for_is_found_out() {
    within(async {
        let mut trio = Trio::start().await;
        let log = RawLog::of("raw", 7);
        trio.begin(&log).await;
        for size in [12, 13] {
            let fork = log.forked(3, size);
            trio.raw.say(&fork.shown());
            trio.raw.say(&fork.continues(2));
            // What it has seen is what it was shown first.
            let asked = loop {
                // Ann shows its own log too.
                let frame = trio.raw.control("checkpoint").await;
                if frame["note"]
                    .as_str()
                    .unwrap()
                    .starts_with(&origin_of("raw"))
                {
                    break frame;
                }
            };
            assert_eq!(asked, log.shown());
        }
        let fork = log.forked(3, 14);
        trio.raw.say(&fork.shown());
        trio.raw.say(&fork.continues(2));
        assert_eq!(trio.found_out().await, Fork::NotContinued);
        let [ann, _] = trio.end().await;
        is_witnessed(&ann, "raw", Fork::NotContinued);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forged_checkpoints_and_cosignatures_are_refused_and_witnessed() {
    within(async {
        let mut trio = Trio::start().await;
        let shown = trio.raw.control("checkpoint").await;
        let note = shown["note"].as_str().unwrap();
        let ann = FixtureAgent::new("ann").public_key();
        let shown = SignedCheckpoint::open(note, &origin_of("ann"), &ann).unwrap();
        let raw = FixtureAgent::new("raw").key;
        let note = |checkpoint: SignedCheckpoint| checkpoint.note().to_string();
        let cosigned = |name: &str, key| {
            let mut checkpoint = shown.clone();
            checkpoint.cosign(&origin_of(name), key, 1_700_000_000);
            note(checkpoint)
        };
        // One bit of the signature, in the last character before the padding and the newline.
        let mut changed = cosigned("raw", &raw).into_bytes();
        let at = changed.len() - 8;
        changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
        let own = Checkpoint {
            origin: origin_of("ann"),
            size: 1 << 40,
            root: [7; 32],
        };
        let mut own = own.sign(&raw);
        own.cosign(&origin_of("raw"), &raw, 1_700_000_000);
        let cosignatures = [
            (note(shown.clone()), "bad-cosignature"),
            (cosigned("zoe", &raw), "bad-cosignature"),
            (
                cosigned("raw", &FixtureAgent::new("zoe").key),
                "bad-cosignature",
            ),
            (String::from_utf8(changed).unwrap(), "bad-cosignature"),
            (note(own), "bad-signature"),
            ("no note".to_owned(), "bad-signature"),
        ];
        for (note, _) in &cosignatures {
            trio.raw.say(&json!({ "type": "cosign", "note": note }));
        }
        let log = RawLog::of("raw", 7);
        let text = note(log.checkpoint());
        let checkpoints = [
            (text.replace("\n7\n", "\n8\n"), "bad-signature"),
            (text.replace("live/raw", "live/zoe"), "bad-signature"),
            (text.replace("live/raw", "live/eve"), "unknown-source"),
            (text.replace("live/raw", "dead/raw"), "unknown-log"),
            (text.replace('\n', ""), "malformed"),
        ];
        for (note, _) in &checkpoints {
            trio.raw.say(&json!({ "type": "checkpoint", "note": note }));
        }
        // All of that was read when this is countersigned.
        trio.begin(&log).await;
        let stats = trio.agent(0).agent.stats();
        let expected: Vec<_> = [&cosignatures[..], &checkpoints].concat();
        assert_eq!(stats.bad_control, expected.len() as u64);
        let [ann, _] = trio.end().await;
        let refused = testimony(&ann, "checkpoint_rejected");
        let reasons: Vec<_> = refused.iter().map(|(_, what)| &what["reason"]).collect();
        let expected: Vec<_> = expected.iter().map(|(_, reason)| *reason).collect();
        assert_eq!(reasons, expected);
        let by_raw = testimony(&ann, "checkpoint_cosigned").into_iter();
        let by_raw = by_raw.filter(|(peer, what)| {
            peer.as_deref() == Some("raw") && what["origin"] == origin_of("ann")
        });
        assert_eq!(by_raw.count(), 0);
    })
    .await;
}

/// Two real agents, of which either can be started again.
struct Pair {
    ann: Option<LiveAgent>,
    bob: Option<LiveAgent>,
    server: Server,
    folder: TempDir,
}

impl Pair {
    async fn start() -> Self {
        let roster = roster_of(&["ann", "bob"]);
        let server = serve(Admission::Rosters(BTreeMap::from([(swarm_name(), roster)]))).await;
        let mut pair = Self {
            ann: None,
            bob: None,
            server,
            folder: tempfile::tempdir().unwrap(),
        };
        pair.ann = Some(pair.begin("ann").await);
        pair.bob = Some(pair.begin("bob").await);
        pair
    }

    async fn begin(&self, name: &str) -> LiveAgent {
        let builder = builder(name, &self.server.url(), self.folder.path());
        LiveAgent::start(builder.roster(roster_of(&["ann", "bob"]))).await
    }

    fn ann(&mut self) -> &mut LiveAgent {
        self.ann.as_mut().unwrap()
    }

    fn bob(&mut self) -> &mut LiveAgent {
        self.bob.as_mut().unwrap()
    }

    /// Ends ann, lets `meanwhile` do what it likes to its folder, and starts it again.
    async fn restart_ann(&mut self, meanwhile: impl FnOnce(&Path)) {
        let ann = self.ann.take().unwrap();
        ann.agent.shutdown("back soon").await.unwrap();
        meanwhile(witness_file(self.folder.path(), "ann").parent().unwrap());
        self.ann = Some(self.begin("ann").await);
    }

    async fn restart_bob(&mut self) {
        let bob = self.bob.take().unwrap();
        bob.agent.shutdown("back soon").await.unwrap();
        self.bob = Some(self.begin("bob").await);
    }

    async fn end(self) -> TempDir {
        for agent in [self.ann, self.bob].into_iter().flatten() {
            agent.agent.shutdown("done").await.unwrap();
        }
        self.server.shutdown().await;
        self.folder
    }
}

/// A copy of an agent's folder beside it.
fn copied(folder: &Path) -> PathBuf {
    let copy = folder.with_extension("copy");
    let from = |name: &str| folder.join(name);
    fs::create_dir(&copy).unwrap();
    for name in [ENTRIES_FILE, "checkpoint"] {
        fs::copy(from(name), copy.join(name)).unwrap();
    }
    fs::create_dir(copy.join(COSIGNATURES_FOLDER)).unwrap();
    for file in fs::read_dir(from(COSIGNATURES_FOLDER)).unwrap() {
        let file = file.unwrap();
        fs::copy(
            file.path(),
            copy.join(COSIGNATURES_FOLDER).join(file.file_name()),
        )
        .unwrap();
    }
    copy
}
