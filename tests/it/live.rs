//! Live swarms: real agents on real WebRTC, introduced by a real server, each with its witness on
//! disk.
//!
//! Tests wait on events. [`within`] is the one time-out, generous, for what never comes.

use std::collections::BTreeMap;
use std::fs;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ifswarm::agent::{Agent, AgentEvent, Builder, Subscription};
use ifswarm::identity::{AgentId, Roster, SwarmName, file_name};
use ifswarm::message::{Destination, Draft, IfMessage, Verified};
use ifswarm::signal::{Admission, Server, ServerConfig};
use ifswarm::witness;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::FixtureAgent;

/// Agents that are all linked with each other, and the server that introduced them.
pub(crate) struct LiveSwarm {
    pub(crate) server: Server,
    pub(crate) agents: Vec<LiveAgent>,
    folder: TempDir,
}

/// A running agent and everything that happened to it since it started.
pub(crate) struct LiveAgent {
    pub(crate) agent: Agent,
    pub(crate) events: Subscription,
}

impl LiveSwarm {
    /// Agents with these ids, under a roster of exactly their keys, which the server has too;
    /// returns once every link is up on both ends.
    pub(crate) async fn start(ids: &[&str]) -> Self {
        Self::start_with(ids, |_, builder| builder).await
    }

    /// As [`start`](Self::start); `change` has the last word on each agent, by its place.
    pub(crate) async fn start_with(
        ids: &[&str],
        change: impl Fn(usize, Builder) -> Builder,
    ) -> Self {
        let admission = Admission::Rosters(BTreeMap::from([(swarm_name(), roster_of(ids))]));
        Self::start_under(admission, ids, change).await
    }

    /// As [`start_with`](Self::start_with), under a server that admits others too.
    pub(crate) async fn start_under(
        admission: Admission,
        ids: &[&str],
        change: impl Fn(usize, Builder) -> Builder,
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let server = serve(admission).await;
        let builders = ids.iter().enumerate().map(|(place, id)| {
            let builder = builder(id, &server.url(), folder.path());
            change(place, builder.roster(roster_of(ids)))
        });
        let agents = futures_util::future::join_all(builders.map(LiveAgent::start)).await;
        for live in &agents {
            live.agent.linked(ids.len() - 1).await.unwrap();
        }
        Self {
            server,
            agents,
            folder,
        }
    }

    pub(crate) fn agent(&self, place: usize) -> &Agent {
        &self.agents[place].agent
    }

    /// Ends all agents at once, then the server; returns the witness of each, in their order.
    pub(crate) async fn end(self) -> Vec<Vec<Value>> {
        self.end_in_folder().await.0
    }

    /// As [`end`](Self::end), with the folder that the witnesses stand in.
    pub(crate) async fn end_in_folder(self) -> (Vec<Vec<Value>>, TempDir) {
        let agents = self.agents.into_iter().map(|live| live.agent);
        let (ids, ends): (Vec<_>, Vec<_>) = agents
            .map(|agent| (agent.id().clone(), agent.shutdown("the test is over")))
            .unzip();
        for end in futures_util::future::join_all(ends).await {
            end.expect("an orderly end");
        }
        self.server.shutdown().await;
        let read = |id: &AgentId| read_witness(self.folder.path(), id.as_str());
        (ids.iter().map(read).collect(), self.folder)
    }
}

/// Ann, in memory, and a place for Bob, who has an outbox on disk and comes and goes.
pub(crate) struct Visits {
    server: Server,
    folder: TempDir,
    pub(crate) ann: Agent,
}

impl Visits {
    pub(crate) async fn begin() -> Self {
        let server = serve(Admission::Open).await;
        let folder = tempfile::tempdir().unwrap();
        let ann = builder("ann", &server.url(), folder.path());
        let ann = ann.start().await.unwrap();
        Self {
            server,
            folder,
            ann,
        }
    }

    pub(crate) async fn bob(&self) -> Agent {
        let bob = builder("bob", &self.server.url(), self.folder.path());
        let bob = bob.outbox(Some(self.folder.path().join("outbox")));
        bob.start().await.unwrap()
    }

    /// All leave, Ann first.
    pub(crate) async fn end(self, bob: Agent) {
        self.ann.shutdown("done").await.unwrap();
        bob.shutdown("done").await.unwrap();
        self.server.shutdown().await;
    }
}

impl LiveAgent {
    pub(crate) async fn start(builder: Builder) -> Self {
        let agent = builder.start().await.expect("an agent that starts");
        let events = agent.subscribe();
        Self { agent, events }
    }

    /// The next event that `pick` takes; what comes before is dropped.
    pub(crate) async fn until<T>(&mut self, mut pick: impl FnMut(AgentEvent) -> Option<T>) -> T {
        loop {
            let event = self.events.recv().await.expect("an agent that lives");
            if let Some(found) = pick(event) {
                return found;
            }
        }
    }

    /// The next message.
    pub(crate) async fn message(&mut self) -> Verified<IfMessage> {
        self.until(|event| match event {
            AgentEvent::Message(message) => Some(message),
            _ => None,
        })
        .await
    }

    /// The peers that are up, with the link to each.
    pub(crate) async fn links(&self) -> BTreeMap<AgentId, String> {
        let peers = self.agent.peers().into_iter();
        peers
            .filter(|peer| peer.is_up())
            .map(|peer| (peer.view.id, peer.view.link.expect("it is up").to_string()))
            .collect()
    }
}

/// Runs a test's story; whatever never comes ends it with a clear text.
pub(crate) async fn within<T>(story: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, story)
        .await
        .expect("something that was waited for never came")
}

/// The swarm of all live tests.
pub(crate) fn swarm_name() -> SwarmName {
    "live".parse().expect("a swarm name")
}

/// The roster of these agents under their fixture keys.
pub(crate) fn roster_of(ids: &[&str]) -> Roster {
    let agents = ids.iter().map(|id| FixtureAgent::new(id));
    Roster::new(agents.map(|agent| (agent.id.clone(), agent.public_key()))).unwrap()
}

/// A server on a free port.
pub(crate) async fn serve(admission: Admission) -> Server {
    let listen = "127.0.0.1:0".parse().unwrap();
    Server::bind(ServerConfig::new(listen, admission))
        .await
        .unwrap()
}

/// An agent under its fixture key, without a roster as yet, with its witness below `folder`.
pub(crate) fn builder(id: &str, url: &str, folder: &Path) -> Builder {
    let agent = FixtureAgent::new(id);
    Agent::builder(agent.id, &swarm_name())
        .key(agent.key)
        .signal(url)
        .witness(Some(folder.to_owned()))
}

/// A message to `peer` that says `payload`, an object.
pub(crate) fn draft(peer: &str, payload: Value) -> Draft {
    let Value::Object(payload) = payload else {
        panic!("a payload is an object")
    };
    Draft::new(peer.parse::<Destination>().unwrap(), payload)
}

/// A message to `peer` with one line of text.
pub(crate) fn say(peer: &str, text: &str) -> Draft {
    draft(peer, json!({ "text": text }))
}

/// The entries of an agent's witness, which is checked first, and which must be its own.
pub(crate) fn read_witness(folder: &Path, id: &str) -> Vec<Value> {
    let path = witness_file(folder, id);
    let report = witness::check(&path).expect("a good witness");
    assert_eq!(report.agent_id, id);
    assert_eq!(report.public_key, FixtureAgent::new(id).public_key());
    let text = fs::read_to_string(path).unwrap();
    let entries: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(entries.len() as u64, report.entries);
    entries
}

/// Where an agent's entries stand.
pub(crate) fn witness_file(folder: &Path, id: &str) -> PathBuf {
    let swarm = file_name(swarm_name().as_str());
    folder
        .join(swarm)
        .join(file_name(id))
        .join(witness::ENTRIES_FILE)
}

/// The metadata of all entries of one kind, each with its `peer_id` beside it.
pub(crate) fn testimony(entries: &[Value], event: &str) -> Vec<(Option<String>, Value)> {
    let matching = entries.iter().filter(|entry| entry["event"] == event);
    matching
        .map(|entry| {
            let peer = entry["peer_id"].as_str().map(str::to_owned);
            (peer, entry["metadata"].clone())
        })
        .collect()
}

/// Far longer than anything here takes, on a busy machine too.
const PATIENCE: Duration = Duration::from_secs(60);
