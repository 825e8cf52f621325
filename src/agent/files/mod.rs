//! The files of an agent: what it takes, what is under way, and over which links.
//!
//! A transfer is one task that reads as the wire does: [`sending`] offers, waits for the answer
//! and hands the file to its link; [`receiving`] answers, takes in and says what came of it. Who goes
//! on next is decided by a [`Lane`](lane::Lane) for each link. A link that is lost ends none of them: it is offered again on the next one.

mod chunks;
mod lane;
mod link;
mod name;
mod receiving;
mod sending;
mod store;
#[cfg(test)]
mod tests;
mod wire;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use serde_json::{Value, json};
use tokio::sync::{Semaphore, mpsc, watch};

pub use sending::{FileError, FileTransfer};
pub(super) use store::Store;
pub use wire::{FileOffer, InvalidTransferId, TransferId};

use super::core::{Core, Shared};
use super::effects::Effect;
use super::event::AgentEvent;
use super::{Receipt, SendError, testimony};
use crate::identity::{AgentId, LinkId};
use crate::link::Link;
use crate::message::{Draft, IfMessage, Verified};
use crate::witness::Event;
use chunks::Chunk;
use lane::TRANSFERS;
use link::FileLink;
use receiving::Receiving;
use sending::Note;
use wire::FileSays;

/// Which files an agent takes. Without this it refuses all.
#[derive(Debug, Clone)]
pub struct AcceptFiles {
    /// Where they are put; made if it is not there. Nothing is ever written outside it.
    pub folder: PathBuf,
    /// Bytes of the largest that is taken.
    pub max_size: u64,
}

/// Something that happened to a file that is sent or received.
#[derive(Debug, Clone)]
pub struct FileEvent {
    /// The other end.
    pub peer: AgentId,
    /// Which way it goes.
    pub direction: Direction,
    /// The file, as its sender describes it.
    pub offer: Arc<FileOffer>,
    /// What happened.
    pub state: FileState,
}

/// Which way a file goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// To this agent.
    In,
    /// From it.
    Out,
}

/// Where a file stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileState {
    /// It was offered; after a lost link, offered again.
    Offered,
    /// It was accepted and is on its way; told of now and then.
    Receiving {
        /// So many bytes have arrived.
        offset: u64,
    },
    /// It has arrived whole, and its hash is right.
    Received {
        /// Where it is, if it came to this agent.
        path: Option<PathBuf>,
    },
    /// It was refused, or did not arrive.
    Failed {
        /// Why, in a word, or in the words of the other end.
        reason: String,
    },
}

/// All files of one agent.
pub(super) struct Files {
    pub(super) me: AgentId,
    agent: Weak<Shared>,
    pub(super) policy: Option<(Store, u64)>,
    /// The open links; none once the agent leaves.
    links: watch::Sender<Option<Links>>,
    outgoing: Mutex<BTreeMap<TransferId, Outgoing>>,
    /// Those that a task takes in, or answers to.
    incoming: watch::Sender<BTreeSet<(AgentId, TransferId)>>,
    /// The last that have arrived: an offer may be repeated because the receipt was lost.
    arrived: Mutex<VecDeque<(AgentId, TransferId, [u8; 32])>>,
    places: Mutex<BTreeMap<AgentId, Arc<Semaphore>>>,
}

type Links = BTreeMap<AgentId, Arc<FileLink>>;

/// What is known of a file that is sent, beside its task.
pub(super) struct Outgoing {
    pub(super) peer: AgentId,
    notes: mpsc::Sender<Note>,
    pub(super) progress: watch::Sender<u64>,
}

/// A message about a file, verified and witnessed.
pub(super) struct Heard {
    message: Verified<IfMessage>,
    says: Result<Said, (Option<TransferId>, String)>,
}

enum Said {
    Says(FileSays),
    Chunk(Chunk),
}

impl Files {
    pub(super) fn new(me: AgentId, agent: Weak<Shared>, policy: Option<(Store, u64)>) -> Self {
        Self {
            me,
            agent,
            policy,
            links: watch::Sender::new(Some(Links::new())),
            outgoing: Mutex::default(),
            incoming: watch::Sender::default(),
            arrived: Mutex::default(),
            places: Mutex::default(),
        }
    }

    /// Sends a message of this agent.
    pub(super) async fn send(&self, draft: Draft) -> Result<Receipt, SendError> {
        let agent = self.agent.upgrade().ok_or(SendError::Ended)?;
        agent.post(draft).await
    }

    /// Witnesses what happened to a file, and tells the program. False once the agent has ended.
    pub(super) fn record(&self, event: Event, what: FileEvent) -> bool {
        let Some(agent) = self.agent.upgrade() else {
            return false;
        };
        let recorded = agent.enter(|core| {
            core.testify(testimony::file(event, &what, core.wall));
            core.tell(AgentEvent::File(what));
        });
        recorded.is_some()
    }

    /// Tells the program how far a file is.
    pub(super) fn tell(&self, what: FileEvent) {
        if let Some(agent) = self.agent.upgrade() {
            agent.enter(|core| core.tell(AgentEvent::File(what)));
        }
    }

    /// Does something with the agent's state; none once it has ended.
    pub(super) fn enter<T>(&self, act: impl FnOnce(&mut Core) -> T) -> Option<T> {
        self.agent.upgrade()?.enter(act)
    }

    /// Waits for a link with `peer`; none once the agent leaves.
    async fn link_with(&self, peer: &AgentId) -> Option<Arc<FileLink>> {
        let mut links = self.links.subscribe();
        let known = |links: &Option<Links>| links.as_ref().is_none_or(|l| l.contains_key(peer));
        let links = links.wait_for(known).await.ok()?;
        links.as_ref()?.get(peer).cloned()
    }

    /// Waits until this is not the link with that peer any more.
    async fn gone(&self, peer: &AgentId, link: &Arc<FileLink>) {
        let mut links = self.links.subscribe();
        let gone = |links: &Option<Links>| {
            let now = links.as_ref().and_then(|links| links.get(peer));
            !now.is_some_and(|now| Arc::ptr_eq(now, link))
        };
        let _ = links.wait_for(gone).await;
    }

    fn link(&self, peer: &AgentId) -> Option<Arc<FileLink>> {
        self.links.borrow().as_ref()?.get(peer).cloned()
    }

    pub(super) fn up(&self, peer: &AgentId, id: LinkId, link: Link) {
        self.links.send_modify(|links| {
            if let Some(links) = links {
                let link = Arc::new(FileLink::new(id, link));
                let before = links.insert(peer.clone(), link);
                before.into_iter().for_each(|link| link.end());
            }
        });
    }

    pub(super) fn down(&self, peer: &AgentId) {
        self.links.send_modify(|links| {
            let link = links.as_mut().and_then(|links| links.remove(peer));
            link.into_iter().for_each(|link| link.end());
        });
    }

    /// The agent leaves: nothing goes on.
    pub(super) fn end(&self) {
        let links = self.links.send_replace(None);
        let links = links.unwrap_or_default();
        links.into_values().for_each(|link| link.end());
    }

    /// The places for files to `peer`.
    pub(super) fn places(&self, peer: &AgentId) -> Arc<Semaphore> {
        let mut places = held(&self.places);
        let places = places.entry(peer.clone());
        Arc::clone(places.or_insert_with(|| Arc::new(Semaphore::new(TRANSFERS))))
    }

    pub(super) fn begin(&self, transfer: TransferId, outgoing: Outgoing) {
        held(&self.outgoing).insert(transfer, outgoing);
    }

    pub(super) fn settle(&self, transfer: TransferId) {
        held(&self.outgoing).remove(&transfer);
    }

    /// Hands a note to the task of a file that is sent to `peer`; whether there is one.
    fn note(&self, peer: Option<&AgentId>, transfer: TransferId, note: Note) -> bool {
        let outgoing = held(&self.outgoing);
        let Some(outgoing) = outgoing.get(&transfer) else {
            return false;
        };
        if peer.is_some_and(|peer| *peer != outgoing.peer) {
            return false;
        }
        // One who says more than there is to say harms this file only.
        let _ = outgoing.notes.try_send(note);
        true
    }

    /// `peer` has acknowledged a file's bytes up to `offset`.
    pub(super) fn acked(&self, peer: &AgentId, id: LinkId, transfer: TransferId, offset: u64) {
        let Some(link) = self.link(peer).filter(|link| link.id == id) else {
            return;
        };
        if link.acked(transfer, offset)
            && let Some(outgoing) = held(&self.outgoing).get(&transfer)
        {
            outgoing.progress.send_replace(offset);
        }
    }

    /// Waits until no other task is about this transfer of that peer, and takes it.
    pub(super) async fn claim(self: &Arc<Self>, peer: &AgentId, transfer: TransferId) -> Claim {
        let what = (peer.clone(), transfer);
        let mut incoming = self.incoming.subscribe();
        while !self
            .incoming
            .send_if_modified(|set| set.insert(what.clone()))
        {
            // The sender of the watch is here: it cannot be gone.
            let _ = incoming.wait_for(|set| !set.contains(&what)).await;
        }
        let files = Arc::clone(self);
        Claim { files, what }
    }

    pub(super) fn has_arrived(&self, peer: &AgentId, offer: &FileOffer) -> bool {
        let arrived = held(&self.arrived);
        arrived.iter().any(|(from, transfer, sha256)| {
            from == peer && *transfer == offer.transfer && *sha256 == offer.sha256
        })
    }

    pub(super) fn arrived(&self, peer: &AgentId, offer: &FileOffer) {
        let mut arrived = held(&self.arrived);
        arrived.push_back((peer.clone(), offer.transfer, offer.sha256));
        if arrived.len() > ARRIVED {
            arrived.pop_front();
        }
    }
}

/// The right to take in one transfer; given back when dropped.
pub(super) struct Claim {
    files: Arc<Files>,
    what: (AgentId, TransferId),
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.files
            .incoming
            .send_if_modified(|set| set.remove(&self.what));
    }
}

impl Core {
    /// A message was accepted: what it says of files is heard once the witness has it.
    pub(super) fn listen_for_files(&mut self, message: &Verified<IfMessage>) {
        let payload = message.payload();
        let says = FileSays::read(payload).map(|says| says.map(Said::Says));
        let says = says.or_else(|| Chunk::read(payload).map(|chunk| chunk.map(Said::Chunk)));
        if let Some(says) = says {
            let message = message.clone();
            self.effects
                .push(Effect::File(Box::new(Heard { message, says })));
        }
    }

    pub(super) fn hear_of_file(&mut self, heard: Heard) {
        let Heard { message, says } = heard;
        let peer = message.source();
        let answers = message.in_reply_to().unwrap_or_default().to_owned();
        let says = match says {
            Ok(Said::Chunk(chunk)) => return self.take_chunk(message, &chunk),
            Ok(Said::Says(says)) => Ok(says),
            Err(err) => Err(err),
        };
        match says {
            Ok(FileSays::Offer(offer)) => self.take_offer(message, offer),
            Ok(FileSays::Accept { transfer, offset }) => {
                let note = Note::Accepted { answers, offset };
                self.files.note(Some(peer), transfer, note);
            }
            Ok(FileSays::Reject { transfer, reason }) => {
                let note = Note::Rejected { answers, reason };
                self.files.note(Some(peer), transfer, note);
            }
            Ok(FileSays::Received {
                transfer,
                size,
                sha256,
            }) => {
                let note = Note::Received { size, sha256 };
                self.files.note(Some(peer), transfer, note);
            }
            Ok(FileSays::Failed { transfer, reason }) => {
                let note = Note::Failed {
                    reason: reason.clone(),
                };
                if !self.files.note(Some(peer), transfer, note)
                    && let Some(link) = self.files.link(peer)
                {
                    link.withdraw(transfer, reason);
                }
            }
            Err((_, detail)) => {
                self.stats.bad_control += 1;
                if let Some(unsaid) = self.of_peers.say(peer, self.now) {
                    tracing::warn!(agent = %self.me, %peer, reason = %detail, unsaid, "a message about a file was not understood");
                }
            }
        }
    }

    /// This end of the channel for files is open.
    pub(super) fn files_open(&mut self, link: LinkId) {
        let Some(active) = self.links.get(link) else {
            return;
        };
        let open = json!({ "channels": ["if-agent-files"] });
        let event = Event::DatachannelOpen;
        self.testify(testimony::link(event, &active.peer, link, open, self.wall));
    }

    fn take_offer(&mut self, message: Verified<IfMessage>, offer: FileOffer) {
        let peer = message.source();
        let Some(link) = self.files.link(peer) else {
            return;
        };
        let Some(answer) = link.answer() else {
            tracing::debug!(%peer, "offers more files at once than it gets answers to");
            return;
        };
        let files = Arc::clone(&self.files);
        self.spawn(Receiving::new(files, link, message, offer).run(answer));
    }
}

impl Core {
    /// The first one is the offer; others are of one that was accepted, or dropped.
    fn take_chunk(&mut self, message: Verified<IfMessage>, chunk: &Chunk) {
        let transfer = chunk.offer.transfer;
        let Some(link) = self.files.link(message.source()) else {
            return;
        };
        if chunk.offset == 0 && !link.expects(transfer) {
            let (Some(answer), Some(frames)) = (link.answer(), link.expect(transfer)) else {
                return;
            };
            let files = Arc::clone(&self.files);
            let offer = chunk.offer.clone();
            let receiving = Receiving::new(files, Arc::clone(&link), message, offer);
            self.spawn(receiving.of_chunks(frames).run(answer));
        }
        for frame in chunk.frames() {
            if !link.push(transfer, frame) {
                return link.withdraw(transfer, "too-fast".to_owned());
            }
        }
    }
}

impl FileEvent {
    /// What a witness and a program are told of it: `direction`, the members of the offer, and
    /// `offset`, `stored_as` or `reason`.
    pub fn to_json(&self) -> Value {
        let offer = &self.offer;
        let mut what = json!({
            "direction": self.direction.as_str(),
            "transfer": offer.transfer,
            "name": offer.name,
            "size": offer.size,
            "sha256": crate::identity::hex_text(&offer.sha256),
            "media_type": offer.media_type,
        });
        match &self.state {
            FileState::Offered | FileState::Received { path: None } => {}
            FileState::Receiving { offset } => what["offset"] = json!(offset),
            FileState::Received { path: Some(path) } => {
                let name = path.file_name().unwrap_or_default();
                what["stored_as"] = name.to_string_lossy().into();
            }
            FileState::Failed { reason } => what["reason"] = reason.as_str().into(),
        }
        what
    }
}

impl FileState {
    /// `offered`, `receiving`, `received` or `failed`.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Offered => "offered",
            Self::Receiving { .. } => "receiving",
            Self::Received { .. } => "received",
            Self::Failed { .. } => "failed",
        }
    }
}

impl Direction {
    /// `in` or `out`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::In => "in",
            Self::Out => "out",
        }
    }
}

pub(super) fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Transfers that are remembered as arrived: many more than one link has under way.
const ARRIVED: usize = 1024;
