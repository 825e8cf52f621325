//! The links of an agent: queues, tasks, and what is known of each.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::AbortHandle;
use tokio::time::timeout;

use super::PeerInfo;
use super::core::Shared;
use super::effects::Outgoing;
use super::link_task::{Order, Writer};
use super::taking::UNTAKEN_MESSAGES;
use crate::identity::{AgentId, LinkId, Session};
use crate::link::{CandidateLine, Link};
use crate::mesh::Mesh;
use crate::signal::SdpKind;

/// All links of an agent.
pub(super) struct Links {
    active: HashMap<LinkId, Active>,
    /// The agent that their readers tell what happens.
    agent: Weak<Shared>,
    /// The permits of those peers of whose messages some are not taken, or that have a link.
    permits: HashMap<AgentId, Weak<Semaphore>>,
}

/// One link, from the decision to make it to its end.
pub(super) struct Active {
    pub(super) peer: AgentId,
    /// The session of the peer that the link is made with.
    pub(super) peer_session: Session,
    /// What this end makes for it.
    pub(super) kind: SdpKind,
    pub(super) orders: mpsc::Sender<Order>,
    pub(super) reader: AbortHandle,
    /// Since when it is being made.
    pub(super) since: Instant,
    /// How long that took, once it is up.
    pub(super) setup: Option<Duration>,
    /// Once the offer or answer is made.
    pub(super) made: Option<Made>,
    /// How many candidates of the peer it was given, besides those in the offer or answer.
    pub(super) candidates_taken: usize,
    /// Own candidates not yet sent, and until when they may wait for more.
    pub(super) candidates: Vec<CandidateLine>,
    pub(super) candidates_end: bool,
    pub(super) candidates_due: Option<Instant>,
}

/// A link that can be written to.
pub(super) struct Made {
    pub(super) link: Link,
    pub(super) way: Arc<Outgoing>,
    pub(super) control: mpsc::Sender<String>,
    writer: tokio::task::JoinHandle<()>,
}

impl Made {
    /// Starts the writer.
    pub(super) fn start(id: LinkId, link: Link, agent: Weak<Shared>, runtime: &Handle) -> Self {
        let (way, messages) = Outgoing::new(link.clone());
        let (control, control_out) = mpsc::channel(QUEUED_CONTROL);
        let way = Arc::new(way);
        let writer = Writer {
            id,
            link: link.clone(),
            way: Arc::downgrade(&way),
            messages,
            control: control_out,
            agent,
        };
        let writer = runtime.spawn(writer.run());
        Self {
            link,
            way,
            control,
            writer,
        }
    }
}

impl Links {
    pub(super) fn new(agent: Weak<Shared>) -> Self {
        Self {
            active: HashMap::new(),
            agent,
            permits: HashMap::new(),
        }
    }

    /// The permits of a peer, however many links with it there are, or were.
    pub(super) fn permits_of(&mut self, peer: &AgentId) -> Arc<Semaphore> {
        if let Some(permits) = self.permits.get(peer).and_then(Weak::upgrade) {
            return permits;
        }
        // None of its messages waits for anybody.
        self.permits.retain(|_, permits| permits.strong_count() > 0);
        let permits = Arc::new(Semaphore::new(UNTAKEN_MESSAGES));
        self.permits.insert(peer.clone(), Arc::downgrade(&permits));
        permits
    }

    pub(super) fn agent(&self) -> Weak<Shared> {
        self.agent.clone()
    }

    pub(super) fn insert(&mut self, id: LinkId, link: Active) {
        self.active.insert(id, link);
    }

    pub(super) fn get(&self, id: LinkId) -> Option<&Active> {
        self.active.get(&id)
    }

    pub(super) fn get_mut(&mut self, id: LinkId) -> Option<&mut Active> {
        self.active.get_mut(&id)
    }

    pub(super) fn remove(&mut self, id: LinkId) -> Option<Active> {
        self.active.remove(&id)
    }

    pub(super) fn remove_all(&mut self) -> Vec<Active> {
        self.active.drain().map(|(_, link)| link).collect()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (LinkId, &Active)> {
        self.active.iter().map(|(id, link)| (*id, link))
    }

    /// When the first batch of candidates has to go out.
    pub(super) fn candidates_due(&self) -> Option<Instant> {
        self.active.values().filter_map(|l| l.candidates_due).min()
    }

    /// The links whose candidates have waited long enough.
    pub(super) fn with_candidates(&mut self, now: Instant) -> Vec<(LinkId, &mut Active)> {
        let due = |link: &Active| link.candidates_due.is_some_and(|due| due <= now);
        let links = self.active.iter_mut().filter(|(_, link)| due(link));
        links.map(|(id, link)| (*id, link)).collect()
    }

    /// Every peer with its link.
    pub(super) fn describe(&self, mesh: &Mesh) -> Vec<PeerInfo> {
        let peers = mesh.peers().map(|view| {
            let active = view.link.and_then(|link| self.active.get(&link));
            PeerInfo {
                setup: active.and_then(|active| active.setup),
                connection: active.and_then(|a| a.made.as_ref()).map(|m| m.link.clone()),
                view,
            }
        });
        peers.collect()
    }
}

impl Active {
    /// Lets the queued frames go out, closes the connection, and ends the tasks. In this order:
    ///
    /// 1. The writer ends when it has drained the queues, which it sees when they are dropped: the
    ///    goodbye may stand in them.
    /// 2. The connection is closed once the engine has sent what the writer gave it.
    /// 3. The reader goes last: meanwhile it empties the engine's queues, without which the
    ///    acknowledgements that the other two wait for would not be handled. Where the link is still
    ///    being made, it is what makes it, and there is nothing else to end.
    pub(super) async fn end(self) {
        if let Some(made) = self.made {
            drop((made.way, made.control));
            let _ = timeout(LAST_WORDS, made.writer).await;
            made.link.close().await;
        }
        self.reader.abort();
    }
}

/// Control frames queued per link. An acknowledgement covers all before it, so few are needed.
const QUEUED_CONTROL: usize = 256;
/// What the queued frames of a closing link have to go out.
const LAST_WORDS: Duration = Duration::from_millis(500);
