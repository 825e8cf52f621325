//! One file that is offered to this agent: answered, taken in, checked, put in its place.
//!
//! 1. The policy decides: a place, the size, the folder. What was begun before is hashed anew.
//! 2. This end of the channel is opened, then the offer is accepted from the offset that is there.
//! 3. Frames must follow each other. They are written, hashed, then acknowledged.
//! 4. The whole must have the hash that was offered; then it gets its name, and the sender hears it.
//!
//! A link that is lost ends the task; the file stays beside its name, for the offer to be repeated.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use super::lane::owes_ack;
use super::link::{FileLink, Frames};
use super::store::{Part, StoreError};
use super::wire::{FileOffer, FileSays, HEADER, read_header};
use super::{Direction, FileEvent, FileState, Files};
use crate::agent::syncer::blocking;
use crate::identity::AgentId;
use crate::message::{IfMessage, Verified};
use crate::witness::Event;

/// A file that was offered.
pub(super) struct Receiving {
    files: Arc<Files>,
    link: Arc<FileLink>,
    message: Verified<IfMessage>,
    offer: Arc<FileOffer>,
    /// Where it comes in messages: its frames.
    chunks: Option<Frames>,
}

/// Why it does not become one of ours.
enum Fault {
    /// The link is lost: it may go on later.
    Paused,
    /// It is over; told to the sender in a word.
    Failed(String),
}

impl Receiving {
    pub(super) fn new(
        files: Arc<Files>,
        link: Arc<FileLink>,
        message: Verified<IfMessage>,
        offer: FileOffer,
    ) -> Self {
        Self {
            files,
            link,
            message,
            offer: Arc::new(offer),
            chunks: None,
        }
    }

    /// It comes in messages: nothing is accepted or acknowledged in words of its own, and what is
    /// here already comes again.
    pub(super) fn of_chunks(mut self, frames: Frames) -> Self {
        self.chunks = Some(frames);
        self
    }

    /// Sees it through; `_answer`, held until the end, is the right to.
    pub(super) async fn run(mut self, _answer: OwnedSemaphorePermit) {
        let transfer = self.offer.transfer;
        let chunks = self.chunks.take();
        let _claim = self.files.claim(self.peer(), transfer).await;
        self.record(Event::FileOffered, FileState::Offered);
        if self.files.has_arrived(self.peer(), &self.offer) {
            // The receipt was lost with a link.
            self.link.forget(transfer);
            let offset = self.offer.size;
            self.say(FileSays::Accept { transfer, offset }).await;
            return self.say_received().await;
        }
        let Some(place) = self.link.place() else {
            return self.reject("busy").await;
        };
        let part = match self.prepare().await {
            Ok(part) => part,
            Err(reason) => {
                drop(place);
                return self.reject(&reason).await;
            }
        };
        let taken = self.take_in(part, chunks).await;
        self.link.forget(transfer);
        let kept = match taken {
            Ok(part) => self.keep(part).await,
            Err(fault) => Err(fault),
        };
        // Before the word: who hears it may offer the next one at once.
        drop(place);
        match kept {
            Ok(()) => self.say_received().await,
            Err(Fault::Paused) => {}
            Err(Fault::Failed(reason)) => {
                self.fail(&reason);
                self.say(FileSays::Failed { transfer, reason }).await;
            }
        }
    }

    fn peer(&self) -> &AgentId {
        self.message.source()
    }

    /// What there is of it already, if it is wanted.
    async fn prepare(&self) -> Result<Part, String> {
        let (store, max_size) = self.files.policy.clone().ok_or("not-accepted")?;
        if self.offer.size > max_size {
            return Err("too-large".to_owned());
        }
        let (me, peer) = (self.files.me.clone(), self.peer().clone());
        let offer = Arc::clone(&self.offer);
        let part = blocking(move || store.part(&me, &peer, &offer)).await;
        part.map_err(|err| self.cannot_store(&err))
    }

    async fn take_in(&self, mut part: Part, chunks: Option<Frames>) -> Result<Part, Fault> {
        let (transfer, size) = (self.offer.transfer, self.offer.size);
        let offset = part.length();
        let in_messages = chunks.is_some();
        let frames = match chunks {
            Some(frames) => frames,
            None => {
                // First the ear, then the word: what comes for a channel that is not open is lost.
                let frames = self.link.expect(transfer).ok_or(Fault::Paused)?;
                let opened = self.link.open(&self.files).await;
                opened.map_err(|_| Fault::Paused)?;
                frames
            }
        };
        self.record(Event::FileAccepted, FileState::Receiving { offset });
        if !in_messages {
            self.say(FileSays::Accept { transfer, offset }).await;
        }
        let Frames {
            mut queue,
            withdrawn,
        } = frames;
        let (mut acked, mut told) = (offset, offset);
        while part.length() < size {
            let mut batch = Vec::new();
            match timeout(SILENCE, queue.recv_many(&mut batch, BATCH)).await {
                Err(_) => {
                    // An acknowledgement may have found no room; what waits for it would for ever.
                    self.link.acknowledge(&self.files, transfer, part.length());
                    continue;
                }
                Ok(0) => {
                    let reason = withdrawn.get().ok_or(Fault::Paused)?;
                    part.discard();
                    return Err(Fault::Failed(reason.clone()));
                }
                Ok(_) => {}
            }
            let written;
            (part, written) = blocking(move || {
                let written = write(&mut part, size, in_messages, &batch);
                (part, written)
            })
            .await;
            if let Err(err) = written {
                part.discard();
                return Err(Fault::Failed(match err {
                    None => "bad-frame".to_owned(),
                    Some(err) => self.cannot_store(&err),
                }));
            }
            let offset = part.length();
            if owes_ack(offset, acked, size) {
                acked = offset;
                self.link.acknowledge(&self.files, transfer, offset);
            }
            if offset - told >= tell_every(size) {
                told = offset;
                self.files.tell(self.event(FileState::Receiving { offset }));
            }
        }
        Ok(part)
    }

    /// Checks it, and gives it its name.
    async fn keep(&self, part: Part) -> Result<(), Fault> {
        let offer = Arc::clone(&self.offer);
        match blocking(move || part.finish(&offer)).await {
            Ok(path) => {
                self.files.arrived(self.peer(), &self.offer);
                let path = Some(path);
                self.record(Event::FileReceived, FileState::Received { path });
                Ok(())
            }
            Err(StoreError::HashMismatch) => Err(Fault::Failed("hash-mismatch".to_owned())),
            Err(err) => Err(Fault::Failed(self.cannot_store(&err))),
        }
    }

    async fn reject(&self, reason: &str) {
        self.link.forget(self.offer.transfer);
        self.fail(reason);
        let (transfer, reason) = (self.offer.transfer, reason.to_owned());
        self.say(FileSays::Reject { transfer, reason }).await;
    }

    async fn say_received(&self) {
        let FileOffer {
            transfer,
            size,
            sha256,
            ..
        } = *self.offer;
        let receipt = FileSays::Received {
            transfer,
            size,
            sha256,
        };
        self.say(receipt).await;
    }

    /// What cannot be said now is said when the offer is repeated.
    async fn say(&self, what: FileSays) {
        let (performative, payload) = what.to_payload();
        let draft = self.message.reply(performative, payload);
        if let Err(err) = self.files.send(draft).await {
            tracing::debug!(peer = %self.peer(), %err, "an answer about a file was not sent");
        }
    }

    /// The sender hears that much; the rest is for who runs this agent.
    fn cannot_store(&self, err: &StoreError) -> String {
        let peer = self.peer();
        let unsaid = self.files.enter(|core| core.of_peers.say(peer, core.now));
        if let Some(unsaid) = unsaid.flatten() {
            tracing::warn!(%peer, name = ?self.offer.name, reason = %err, unsaid, "a file cannot be stored");
        }
        "cannot-store".to_owned()
    }

    fn fail(&self, reason: &str) {
        let reason = reason.to_owned();
        self.record(Event::FileFailed, FileState::Failed { reason });
    }

    fn record(&self, event: Event, state: FileState) {
        self.files.record(event, self.event(state));
    }

    fn event(&self, state: FileState) -> FileEvent {
        FileEvent {
            peer: self.peer().clone(),
            direction: Direction::In,
            offer: Arc::clone(&self.offer),
            state,
        }
    }
}

/// Writes frames that follow each other and what is there; an error without a cause is the sender's.
/// What comes `again` and is here already is passed over.
fn write(
    part: &mut Part,
    size: u64,
    again: bool,
    frames: &[Bytes],
) -> Result<(), Option<StoreError>> {
    for frame in frames {
        let (_, offset) = read_header(frame).ok_or(None)?;
        let data = &frame[HEADER..];
        if again && offset.saturating_add(data.len() as u64) <= part.length() {
            continue;
        }
        if offset != part.length() || data.len() as u64 > size - offset {
            return Err(None);
        }
        part.write(data)?;
    }
    Ok(())
}

/// Bytes between two events about one file: a hundred or fewer for each.
pub(super) fn tell_every(size: u64) -> u64 {
    (size / 100).max(1024 * 1024)
}

/// Frames that are written at once.
const BATCH: usize = 32;
/// Without a frame for so long, what was written is acknowledged again.
const SILENCE: Duration = Duration::from_secs(1);
