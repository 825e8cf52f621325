//! The files of one link: who goes on next, who waits for data, and the two tasks that carry them.
//!
//! The pump sends what the lane says, a turn at a time, read from the disk elsewhere; the intake
//! hands frames to the transfers that wait for them. Both end with the link.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, OnceLock};

use bytes::{Bytes, BytesMut};
use tokio::sync::{Notify, OnceCell, OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::AbortHandle;

use super::lane::{Lane, TRANSFERS, Turn};
use super::sending::Note;
use super::wire::{HEADER, MAX_DATA, TransferId, read_header, write_header};
use super::{Files, held};
use crate::agent::control::Control;
use crate::agent::syncer::blocking;
use crate::identity::LinkId;
use crate::link::{FileChannel, Link, LinkError};

/// What one link carries of files.
pub(super) struct FileLink {
    pub(super) id: LinkId,
    link: Link,
    channel: OnceCell<FileChannel>,
    out: Mutex<Out>,
    /// There is something to send again.
    changed: Notify,
    expected: Mutex<Option<BTreeMap<TransferId, Expected>>>,
    /// Answers that may be in the making, files that come in among them.
    answers: Arc<Semaphore>,
    places: Arc<Semaphore>,
    tasks: Mutex<Vec<AbortHandle>>,
}

#[derive(Default)]
struct Out {
    lane: Lane,
    sources: BTreeMap<TransferId, Arc<File>>,
}

struct Expected {
    frames: mpsc::Sender<Bytes>,
    withdrawn: Arc<OnceLock<String>>,
}

/// What comes of one file.
pub(super) struct Frames {
    /// The frames, as they came. Ends with the link, or when the sender has withdrawn the file.
    pub(super) queue: mpsc::Receiver<Bytes>,
    /// Why the sender has withdrawn it, if it has.
    pub(super) withdrawn: Arc<OnceLock<String>>,
}

impl FileLink {
    pub(super) fn new(id: LinkId, link: Link) -> Self {
        Self {
            id,
            link,
            channel: OnceCell::new(),
            out: Mutex::default(),
            changed: Notify::new(),
            expected: Mutex::new(Some(BTreeMap::new())),
            answers: Arc::new(Semaphore::new(2 * TRANSFERS)),
            places: Arc::new(Semaphore::new(TRANSFERS)),
            tasks: Mutex::default(),
        }
    }

    /// Opens this end of the channel, the first time, and starts what carries files.
    pub(super) async fn open(self: &Arc<Self>, files: &Arc<Files>) -> Result<(), LinkError> {
        let open = async || {
            let channel = self.link.open_files().await?;
            let pump = pump(Arc::clone(self), Arc::clone(files), channel.clone());
            let intake = intake(Arc::clone(self), channel.clone());
            let started = files.enter(|core| {
                core.files_open(self.id);
                [core.spawn(pump), core.spawn(intake)]
            });
            held(&self.tasks).extend(started.ok_or(LinkError::Closed)?);
            Ok(channel)
        };
        self.channel.get_or_try_init(open).await.map(|_| ())?;
        if held(&self.expected).is_none() {
            // The link went down meanwhile, and may not have seen these tasks.
            self.end();
            return Err(LinkError::Closed);
        }
        Ok(())
    }

    /// The link is down. Who waits for frames gets no more; the tasks end.
    pub(super) fn end(&self) {
        *held(&self.expected) = None;
        held(&self.tasks).drain(..).for_each(|task| task.abort());
    }

    /// A file goes out from `offset` on.
    pub(super) fn send(&self, transfer: TransferId, offset: u64, size: u64, source: Arc<File>) {
        let mut out = held(&self.out);
        out.lane.begin(transfer, offset, size);
        out.sources.insert(transfer, source);
        self.changed.notify_one();
    }

    /// Nothing more goes out of it.
    pub(super) fn stop(&self, transfer: TransferId) {
        let mut out = held(&self.out);
        out.lane.end(transfer);
        out.sources.remove(&transfer);
        // What it had under way is room for others.
        self.changed.notify_one();
    }

    /// The peer has it up to here; whether that is news.
    pub(super) fn acked(&self, transfer: TransferId, offset: u64) -> bool {
        let news = held(&self.out).lane.acked(transfer, offset);
        if news {
            self.changed.notify_one();
        }
        news
    }

    /// Frames of this transfer are wanted; none once the link is down.
    pub(super) fn expect(&self, transfer: TransferId) -> Option<Frames> {
        let (frames, queue) = mpsc::channel(FRAMES);
        let withdrawn = Arc::new(OnceLock::new());
        let entry = Expected {
            frames,
            withdrawn: Arc::clone(&withdrawn),
        };
        held(&self.expected).as_mut()?.insert(transfer, entry);
        Some(Frames { queue, withdrawn })
    }

    /// Whether they are.
    pub(super) fn expects(&self, transfer: TransferId) -> bool {
        let expected = held(&self.expected);
        let expected = expected.as_ref();
        expected.is_some_and(|expected| expected.contains_key(&transfer))
    }

    /// A frame that came another way; whether there was room for it.
    pub(super) fn push(&self, transfer: TransferId, frame: Bytes) -> bool {
        let expected = held(&self.expected);
        let entry = expected.as_ref().and_then(|map| map.get(&transfer));
        entry.is_none_or(|entry| entry.frames.try_send(frame).is_ok())
    }

    /// No more frames of it are.
    pub(super) fn forget(&self, transfer: TransferId) {
        if let Some(expected) = held(&self.expected).as_mut() {
            expected.remove(&transfer);
        }
    }

    /// The sender will not send the rest.
    pub(super) fn withdraw(&self, transfer: TransferId, reason: String) {
        let mut expected = held(&self.expected);
        let removed = expected.as_mut().and_then(|map| map.remove(&transfer));
        if let Some(entry) = removed {
            let _ = entry.withdrawn.set(reason);
        }
    }

    /// The right to answer an offer.
    pub(super) fn answer(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.answers).try_acquire_owned().ok()
    }

    /// A place for a file that comes in.
    pub(super) fn place(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.places).try_acquire_owned().ok()
    }

    /// Acknowledges what was written.
    pub(super) fn acknowledge(&self, files: &Files, transfer: TransferId, offset: u64) {
        let frame = Control::FileAck { transfer, offset };
        files.enter(|core| core.queue_control(self.id, &frame));
    }

    fn turn(&self) -> Option<(Turn, Arc<File>)> {
        let mut out = held(&self.out);
        let turn = out.lane.turn()?;
        let source = out.sources.get(&turn.transfer)?;
        Some((turn, Arc::clone(source)))
    }
}

/// Sends files, turn by turn.
async fn pump(link: Arc<FileLink>, files: Arc<Files>, channel: FileChannel) {
    // A link that takes small messages only gets small frames.
    let most = link.link.max_message().saturating_sub(HEADER);
    let most = most.clamp(1, MAX_DATA);
    let mut block = Vec::new();
    loop {
        let Some((turn, source)) = link.turn() else {
            link.changed.notified().await;
            continue;
        };
        let read;
        (block, read) = blocking(move || {
            block.resize(turn.length, 0);
            let read = source.read_exact_at(&mut block, turn.offset);
            (block, read)
        })
        .await;
        if let Err(err) = read {
            link.stop(turn.transfer);
            files.note(None, turn.transfer, Note::Broken(err));
            continue;
        }
        let mut offset = turn.offset;
        for data in block.chunks(most) {
            let mut frame = BytesMut::with_capacity(HEADER + data.len());
            frame.extend_from_slice(&write_header(turn.transfer, offset));
            frame.extend_from_slice(data);
            if let Err(err) = channel.send(frame).await {
                tracing::debug!(%err, "a frame of a file was not sent");
                return;
            }
            offset += data.len() as u64;
        }
    }
}

/// Hands frames to who waits for them. Others are of files that have failed here, or were never
/// accepted, and are dropped.
async fn intake(link: Arc<FileLink>, channel: FileChannel) {
    while let Some(frame) = channel.recv().await {
        let transfer = read_header(&frame).map(|(transfer, _)| transfer);
        let queue = {
            let expected = held(&link.expected);
            let entry = transfer.and_then(|transfer| expected.as_ref()?.get(&transfer));
            entry.map(|entry| entry.frames.clone())
        };
        match queue {
            // Waits only for one who sends more than the window allows.
            Some(queue) => drop(queue.send(frame).await),
            None => tracing::trace!(?transfer, "a frame that nobody waits for"),
        }
    }
}

/// Frames of one file that wait for the disk: what the window of a link holds, and the odd one.
const FRAMES: usize = 160;
