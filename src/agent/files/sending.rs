//! One file that this agent sends: hashed, offered, handed to its link, until the receipt is there.
//!
//! A link that is lost ends nothing: the file is offered again on the next one, and goes on where
//! the receiver says that it is.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{sleep, timeout};

use super::link::FileLink;
use super::receiving::tell_every;
use super::store::fingerprint;
use super::wire::{FileOffer, FileSays, MAX_NAME, TransferId};
use super::{Direction, FileEvent, FileState, Files, Outgoing};
use crate::agent::syncer::blocking;
use crate::agent::{Agent, SendError};
use crate::identity::AgentId;
use crate::link::LinkError;
use crate::message::Draft;
use crate::witness::Event;

/// A file on its way to a peer. It goes on when this is dropped.
#[derive(Debug)]
pub struct FileTransfer {
    offer: Arc<FileOffer>,
    progress: watch::Receiver<u64>,
    outcome: oneshot::Receiver<Result<(), FileError>>,
}

/// Why a file was not sent.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be read, or is none.
    #[error("{}: {source}", path.display())]
    Source {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The offer cannot be made.
    #[error(transparent)]
    Send(#[from] SendError),
    /// The peer does not take it.
    #[error("`{peer}` refuses the file: {reason}{}", hint(.reason))]
    Rejected {
        /// Who.
        peer: AgentId,
        /// Why, in its words: `not-accepted`, `too-large`, `busy`, `cannot-store`, …
        reason: String,
    },
    /// The peer did not get it whole.
    #[error("`{peer}` did not get the file: {reason}")]
    Failed {
        /// Who.
        peer: AgentId,
        /// Why: `hash-mismatch`, `cannot-store`, `bad-frame`, …
        reason: String,
    },
    /// The link did not come up, or did not come back.
    #[error("no link to `{peer}` for {} s: the file can be sent again, and goes on where it was", LINK.as_secs())]
    NoLink {
        /// To whom.
        peer: AgentId,
    },
    /// The peer is linked and says nothing.
    #[error("`{peer}` has said nothing about the file for {} s", SILENCE.as_secs())]
    Silence {
        /// Who.
        peer: AgentId,
    },
    /// The agent has ended or is leaving.
    #[error(
        "the agent has ended before the file had arrived: send it again, and it goes on where it was"
    )]
    Ended,
}

/// What the task of a file that is sent is told.
#[derive(Debug)]
pub(super) enum Note {
    Accepted {
        answers: String,
        offset: u64,
    },
    Rejected {
        answers: String,
        reason: String,
    },
    Received {
        size: u64,
        sha256: [u8; 32],
    },
    Failed {
        reason: String,
    },
    /// It cannot be read any more.
    Broken(io::Error),
}

impl Agent {
    /// Offers the file at `path` to `peer`, and sends it if `peer` accepts. Returns once the file is
    /// hashed, which reads all of it. Up to 16 files go to one peer at once; more wait.
    ///
    /// A link that is lost is waited for, a minute at most, and the file goes on where it was.
    ///
    /// # Errors
    /// [`FileError::Source`], [`FileError::Ended`]; all else comes from
    /// [`FileTransfer::finished`].
    pub async fn send_file(&self, peer: &AgentId, path: &Path) -> Result<FileTransfer, FileError> {
        if *peer == self.id {
            return Err(SendError::Mesh(crate::mesh::SendError::ToMyself).into());
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let name = name.chars().take(MAX_NAME).collect();
        let media_type = media_type(path).to_owned();
        let path = path.to_owned();
        let hashed = reading(&path, |mut file| fingerprint(&mut file));
        let (size, sha256) = hashed.await?;
        let mut random = [0; 16];
        getrandom::fill(&mut random).map_err(|err| SendError::Randomness(err.to_string()))?;
        let offer = Arc::new(FileOffer {
            transfer: TransferId::from_bytes(random),
            name,
            size,
            sha256,
            media_type,
        });
        let (notes, heard) = mpsc::channel(NOTES);
        let (told, progress) = watch::channel(0);
        let (tell, outcome) = oneshot::channel();
        let files = Arc::clone(&self.shared.look().files);
        let sending = Sending {
            peer: peer.clone(),
            path,
            offer: Arc::clone(&offer),
            files: Arc::clone(&files),
            notes: heard,
            progress: progress.clone(),
        };
        let outgoing = Outgoing {
            peer: peer.clone(),
            notes,
            progress: told,
        };
        files.begin(offer.transfer, outgoing);
        let run = async move {
            let _ = tell.send(sending.run().await);
        };
        if self.shared.enter(|core| core.spawn(run)).is_none() {
            files.settle(offer.transfer);
            return Err(FileError::Ended);
        }
        Ok(FileTransfer {
            offer,
            progress,
            outcome,
        })
    }
}

impl FileTransfer {
    /// The file as it is offered.
    pub fn offer(&self) -> &FileOffer {
        &self.offer
    }

    /// How many bytes the peer has acknowledged.
    pub fn progress(&self) -> watch::Receiver<u64> {
        self.progress.clone()
    }

    /// Waits until the peer has the file whole, and has said so.
    ///
    /// # Errors
    /// [`FileError`].
    pub async fn finished(self) -> Result<(), FileError> {
        self.outcome.await.unwrap_or(Err(FileError::Ended))
    }
}

/// All that the task of a file has.
struct Sending {
    peer: AgentId,
    path: PathBuf,
    offer: Arc<FileOffer>,
    files: Arc<Files>,
    notes: mpsc::Receiver<Note>,
    progress: watch::Receiver<u64>,
}

/// How it goes on when nothing has gone wrong.
enum Step {
    /// The peer has it.
    Done,
    /// The link is lost.
    Again,
}

impl Sending {
    async fn run(mut self) -> Result<(), FileError> {
        let outcome = self.deliver().await;
        self.files.settle(self.offer.transfer);
        match &outcome {
            Ok(()) => self.record(Event::FileReceived, FileState::Received { path: None }),
            Err(err) => {
                let reason = match err {
                    FileError::Rejected { reason, .. } | FileError::Failed { reason, .. } => {
                        reason.clone()
                    }
                    FileError::Source { .. } => "source-changed".to_owned(),
                    FileError::Send(_) => "not-sent".to_owned(),
                    FileError::NoLink { .. } => "no-link".to_owned(),
                    FileError::Silence { .. } => "silence".to_owned(),
                    FileError::Ended => "ended".to_owned(),
                };
                self.record(Event::FileFailed, FileState::Failed { reason });
            }
        }
        outcome
    }

    async fn deliver(&mut self) -> Result<(), FileError> {
        let places = self.files.places(&self.peer);
        // Nobody closes it.
        let _place = places.acquire_owned().await.map_err(|_| FileError::Ended)?;
        // Now only: a thousand files that wait for a place hold no descriptors.
        let file = Arc::new(reading(&self.path, Ok).await?);
        loop {
            let link = timeout(LINK, self.files.link_with(&self.peer)).await;
            let link = link.map_err(|_| FileError::NoLink {
                peer: self.peer.clone(),
            })?;
            let link = link.ok_or(FileError::Ended)?;
            let step = self.over(&link, &file).await;
            link.stop(self.offer.transfer);
            match step? {
                Step::Done => return Ok(()),
                // A link that was refused to us is down, or will be.
                Step::Again => self.files.gone(&self.peer, &link).await,
            }
        }
    }

    /// As far as it goes over one link.
    async fn over(&mut self, link: &Arc<FileLink>, file: &Arc<File>) -> Result<Step, FileError> {
        self.record(Event::FileOffered, FileState::Offered);
        let (performative, payload) = FileSays::Offer((*self.offer).clone()).to_payload();
        let mut draft = Draft::new(self.peer.clone(), payload);
        draft.performative = Some(performative);
        let sent = match self.files.send(draft).await {
            Ok(receipt) => receipt.id,
            Err(SendError::Mesh(crate::mesh::SendError::NotConnected { .. })) => {
                return Ok(Step::Again);
            }
            Err(err) => return Err(err.into()),
        };
        let offset = loop {
            match self.next(link).await? {
                None => return Ok(Step::Again),
                Some(Note::Accepted { answers, offset }) if answers == sent => break offset,
                Some(Note::Rejected { answers, reason }) if answers == sent => {
                    let peer = self.peer.clone();
                    return Err(FileError::Rejected { peer, reason });
                }
                // Of an earlier offer.
                Some(Note::Accepted { .. } | Note::Rejected { .. }) => {}
                Some(note) => return self.end(note).await,
            }
        };
        let size = self.offer.size;
        if offset > size {
            return Err(self.failed("it says that it has more than there is"));
        }
        self.record(Event::FileAccepted, FileState::Receiving { offset });
        match link.open(&self.files).await {
            Ok(()) => {}
            Err(LinkError::Closed) => return Ok(Step::Again),
            Err(err) => return Err(self.failed(&err.to_string())),
        }
        link.send(self.offer.transfer, offset, size, Arc::clone(file));
        loop {
            match self.next(link).await? {
                None => return Ok(Step::Again),
                Some(Note::Accepted { .. } | Note::Rejected { .. }) => {}
                Some(note) => return self.end(note).await,
            }
        }
    }

    /// What is heard next; none if the link is lost first. Tells how far it is meanwhile.
    async fn next(&mut self, link: &Arc<FileLink>) -> Result<Option<Note>, FileError> {
        let mut told = *self.progress.borrow_and_update();
        loop {
            // All cancel-safe: a queue, a watch whose change stays one, and a watch for the link.
            // In this order: a receipt that came just before the link was lost is one.
            tokio::select! {
                biased;
                note = self.notes.recv() => return Ok(note),
                () = self.files.gone(&self.peer, link) => return Ok(None),
                Ok(()) = self.progress.changed() => {
                    let offset = *self.progress.borrow_and_update();
                    if offset.saturating_sub(told) >= tell_every(self.offer.size) {
                        told = offset;
                        self.files.tell(self.event(FileState::Receiving { offset }));
                    }
                }
                () = sleep(SILENCE) => {
                    return Err(FileError::Silence { peer: self.peer.clone() });
                }
            }
        }
    }

    /// What ends it.
    async fn end(&self, note: Note) -> Result<Step, FileError> {
        match note {
            Note::Received { size, sha256 }
                if (size, sha256) == (self.offer.size, self.offer.sha256) =>
            {
                Ok(Step::Done)
            }
            Note::Broken(source) => {
                let says = FileSays::Failed {
                    transfer: self.offer.transfer,
                    reason: "source-changed".to_owned(),
                };
                let (performative, payload) = says.to_payload();
                let mut draft = Draft::new(self.peer.clone(), payload);
                draft.performative = Some(performative);
                let _ = self.files.send(draft).await;
                let path = self.path.clone();
                Err(FileError::Source { path, source })
            }
            Note::Failed { reason } => Err(self.failed(&reason)),
            _ => Err(self.failed("it says that it has received another file")),
        }
    }

    fn failed(&self, reason: &str) -> FileError {
        FileError::Failed {
            peer: self.peer.clone(),
            reason: reason.to_owned(),
        }
    }

    fn record(&self, event: Event, state: FileState) {
        self.files.record(event, self.event(state));
    }

    fn event(&self, state: FileState) -> FileEvent {
        FileEvent {
            peer: self.peer.clone(),
            direction: Direction::Out,
            offer: Arc::clone(&self.offer),
            state,
        }
    }
}

/// Opens a plain file, and does with it what waits for the disk.
async fn reading<T: Send + 'static>(
    path: &Path,
    act: impl FnOnce(File) -> io::Result<T> + Send + 'static,
) -> Result<T, FileError> {
    let opened = path.to_owned();
    let done = blocking(move || {
        // Before it is opened: opening a pipe would wait for a writer.
        if !std::fs::metadata(&opened)?.is_file() {
            return Err(io::Error::other("expected a plain file"));
        }
        act(File::open(&opened)?)
    });
    done.await.map_err(|source| FileError::Source {
        path: path.to_owned(),
        source,
    })
}

/// By the end of the name; what is not known is bytes.
fn media_type(path: &Path) -> &'static str {
    let extension = path.extension().unwrap_or_default().to_string_lossy();
    match extension.to_ascii_lowercase().as_str() {
        "csv" => "text/csv",
        "html" => "text/html",
        "jpg" | "jpeg" => "image/jpeg",
        "json" => "application/json",
        "md" => "text/markdown",
        "mp4" => "video/mp4",
        "pdf" => "application/pdf",
        "png" => "image/png",
        "txt" | "log" => "text/plain",
        "wav" => "audio/wav",
        "xml" => "application/xml",
        "yaml" | "yml" => "application/yaml",
        "zip" => "application/zip",
        _ => "application/octet-stream",
    }
}

fn hint(reason: &str) -> &'static str {
    match reason {
        "not-accepted" => " (it takes no files: start it with --accept-files)",
        "too-large" => " (it takes smaller ones only: --accept-size)",
        "busy" => " (it has too many under way: send it again)",
        _ => "",
    }
}

/// Notes that wait for the task of a file: there are few to be said.
const NOTES: usize = 8;
/// How long a file waits for a link to come up or back: a peer that was restarted is there by then.
const LINK: Duration = Duration::from_secs(60);
/// How long a linked peer may say nothing: hashing what it has of a file of many GiB takes that.
const SILENCE: Duration = Duration::from_secs(120);
