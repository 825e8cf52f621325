//! The client of a signaling server: connects, proves its key, then sends and receives frames.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_tungstenite::tungstenite::Message;

use super::address::Target;
use super::admission::{BYTES_BURST, BYTES_PER_SECOND, FRAMES_BURST, FRAMES_PER_SECOND};
use super::bucket::Bucket;
use super::connect::{ConnectError, Socket, register};
use super::errors::FrameError;
use super::tls::Trust;
use super::wire::{ClientFrame, MAX_FRAME, MAX_SDP, Registered, ServerFrame};
use crate::identity::{AgentId, KeyPair, Session, SwarmName};

/// Whom to connect to, and as whom.
#[derive(Debug, Clone)]
pub struct ClientConfig {
    /// `ws://HOST:PORT` or `wss://HOST:PORT`; a path other than `/` is taken as it is, otherwise `/v1/SWARM` is added.
    pub url: String,
    /// The swarm to join.
    pub swarm: SwarmName,
    /// Who I am.
    pub agent_id: AgentId,
    /// My key.
    pub key: KeyPair,
    /// My session.
    pub session: Session,
    /// Whose certificates to believe, if the URL says `wss://`.
    pub trust: Trust,
    /// For all of it: looking up, connecting, registering.
    pub connect_timeout: Duration,
}

/// A registered connection. Dropping it ends it at once; [`Client::close`] ends it cleanly.
pub struct Client {
    url: Arc<str>,
    stream: SplitStream<Socket>,
    sender: ClientSender,
    /// One task, which writes.
    writer: JoinSet<()>,
    last_heard: Instant,
    ended: bool,
}

/// Sends frames; cheap to clone.
#[derive(Clone)]
pub struct ClientSender(mpsc::Sender<Outbound>);

/// What came is no frame, or no more will come.
#[derive(Debug, thiserror::Error)]
pub enum RecvError {
    /// What came is no frame of a server; others may follow. An offer or answer among these is to be
    /// witnessed as rejected: [`FrameReason::sdp_reason`](super::FrameReason::sdp_reason).
    #[error("{url}: what came is no frame: {error}")]
    Frame {
        /// The URL.
        url: Arc<str>,
        /// What is wrong with it.
        error: FrameError,
    },
    /// The connection broke; nothing follows.
    #[error("{url}: the connection broke: {detail}")]
    Lost {
        /// The URL.
        url: Arc<str>,
        /// How.
        detail: String,
    },
}

/// A frame that was not sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The connection ended; connect anew.
    #[error("the connection to the signaling server ended")]
    Closed,
    /// The server would close the connection over it.
    #[error("{size} bytes of {what} are more than the {limit} allowed")]
    TooLarge {
        /// SDP or frame.
        what: &'static str,
        /// How many there are.
        size: usize,
        /// How many are allowed.
        limit: usize,
    },
}

enum Outbound {
    Text(String),
    Close,
}

impl Client {
    /// Connects and registers.
    ///
    /// # Errors
    /// [`ConnectError`], which names the URL and says what to do.
    pub async fn connect(config: ClientConfig) -> Result<(Self, Registered), ConnectError> {
        let target = Target::new(&config.url, &config.swarm).map_err(|detail| {
            let url = config.url.escape_debug().to_string();
            ConnectError::Url { url, detail }
        })?;
        let after = config.connect_timeout;
        let url: Arc<str> = target.url.as_str().into();
        let (socket, registered) =
            timeout(after, register(&config, &target))
                .await
                .map_err(|_| ConnectError::TimedOut {
                    url: url.to_string(),
                    after,
                })??;
        let (sink, stream) = socket.split();
        let (sender, frames) = mpsc::channel(QUEUED_FRAMES);
        let mut writer = JoinSet::new();
        writer.spawn(write(sink, frames));
        let client = Self {
            url,
            stream,
            sender: ClientSender(sender),
            writer,
            last_heard: Instant::now(),
            ended: false,
        };
        Ok((client, registered))
    }

    /// A way to send, to keep beside the client.
    pub fn sender(&self) -> ClientSender {
        self.sender.clone()
    }

    /// The next frame; `None` when the connection is closed. Cancel-safe.
    ///
    /// After [`RecvError::Frame`] others may follow; after [`RecvError::Lost`] comes `None`.
    pub async fn recv(&mut self) -> Option<Result<ServerFrame, RecvError>> {
        while !self.ended {
            // Cancel-safe: `next` takes a message out only when it is whole, and the deadline stands
            // in `self`.
            let next = timeout_at(self.last_heard + SILENCE, self.stream.next()).await;
            let message = match next {
                Ok(Some(Ok(message))) => message,
                Ok(Some(Err(err))) => return Some(Err(self.lost(err.to_string()))),
                Ok(None) => break,
                Err(_) => {
                    let detail = format!("nothing heard for {} s", SILENCE.as_secs());
                    return Some(Err(self.lost(detail)));
                }
            };
            self.last_heard = Instant::now();
            let bytes = match &message {
                Message::Text(text) => text.as_bytes(),
                // No frame either; the parser says so.
                Message::Binary(bytes) => bytes,
                Message::Ping(_) | Message::Pong(_) | Message::Frame(_) | Message::Close(_) => {
                    continue;
                }
            };
            return Some(ServerFrame::parse(bytes).map_err(|error| RecvError::Frame {
                url: Arc::clone(&self.url),
                error,
            }));
        }
        self.ended = true;
        None
    }

    /// Sends what is queued, closes the connection and waits until the server did too, 2 s at most.
    pub async fn close(mut self) {
        let _ = timeout(CLOSE_WITHIN, async {
            // A writer that ended already has closed the connection.
            let _ = self.sender.0.send(Outbound::Close).await;
            while self.writer.join_next().await.is_some() {}
            while let Some(Ok(_)) = self.stream.next().await {}
        })
        .await;
        self.writer.shutdown().await;
    }

    fn lost(&mut self, detail: String) -> RecvError {
        self.ended = true;
        RecvError::Lost {
            url: Arc::clone(&self.url),
            detail,
        }
    }
}

impl ClientSender {
    /// Queues a frame. Waits while the queue is full: frames go out no faster than the server allows.
    ///
    /// # Errors
    /// [`SendError`]: it was not sent.
    pub async fn send(&self, frame: ClientFrame) -> Result<(), SendError> {
        if let ClientFrame::Offer(sdp) | ClientFrame::Answer(sdp) = &frame {
            check_size("SDP", sdp.sdp.len(), MAX_SDP)?;
        }
        let text = frame.to_text();
        check_size("frame", text.len(), MAX_FRAME)?;
        let sent = self.0.send(Outbound::Text(text)).await;
        sent.map_err(|_| SendError::Closed)
    }
}

fn check_size(what: &'static str, size: usize, limit: usize) -> Result<(), SendError> {
    if size > limit {
        return Err(SendError::TooLarge { what, size, limit });
    }
    Ok(())
}

/// Ends when told to close or when writing failed; then the reader finds out too.
async fn write(mut sink: SplitSink<Socket, Message>, mut frames: mpsc::Receiver<Outbound>) {
    let now = || std::time::Instant::now();
    let mut pace = Bucket::new(PACE_PER_SECOND, PACE_BURST, now());
    let mut bytes = Bucket::new(BYTES_PACE, BYTES_BURST, now());
    while let Some(Outbound::Text(text)) = frames.recv().await {
        while !(bytes.wait(text.len(), now()).is_zero() && pace.take(1, now())) {
            if sink.flush().await.is_err() {
                return;
            }
            sleep(pace.wait(1, now()).max(bytes.wait(text.len(), now()))).await;
        }
        bytes.take(text.len(), now());
        let fed = sink.feed(Message::text(text)).await;
        // One system call for all that wait.
        let done = if frames.is_empty() {
            sink.flush().await
        } else {
            Ok(())
        };
        if let Err(err) = fed.and(done) {
            tracing::debug!("signaling frames are no longer written: {err}");
            return;
        }
    }
    // Its failing means that it is closed already.
    let _ = sink.send(Message::Close(None)).await;
}

/// Two agents' frames per peer in a swarm of a few hundred; more wait.
const QUEUED_FRAMES: usize = 1024;
/// A little slower than the server allows, so that what the network delays and then delivers at once
/// is never over its limit.
const PACE_PER_SECOND: u32 = FRAMES_PER_SECOND - 5;
/// See [`PACE_PER_SECOND`].
const BYTES_PACE: u32 = BYTES_PER_SECOND / 100 * 95;
/// See [`PACE_PER_SECOND`].
const PACE_BURST: u32 = FRAMES_BURST - 100;
/// The server pings every 15 s; after three silent pings it is gone.
const SILENCE: Duration = Duration::from_secs(50);
/// For a server that does not answer.
const CLOSE_WITHIN: Duration = Duration::from_secs(2);
