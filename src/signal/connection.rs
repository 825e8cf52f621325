//! One connection of the server, and the hall where all of them meet the room.
//!
//! The room is held under a lock for the time of one frame; what it says to whom is put into one
//! bounded queue per connection. A client that does not read fills its own queue, is dropped, and
//! nobody else waits.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::time::{sleep, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message, Utf8Bytes, http};

use super::address::swarm_of_path;
use super::admission::{Limits, Rules};
use super::errors::ErrorCode;
use super::proof::Nonce;
use super::room::{ConnId, Effect, Input, Room, WitnessNote};
use super::wire::MAX_FRAME;
use crate::identity::SwarmName;

/// The room, and the queues that lead to its connections.
pub(super) struct Hall {
    state: Mutex<State>,
    limits: Limits,
    /// Sockets that are no connection of the room: shaking hands, or being closed kindly.
    strangers: Semaphore,
}

struct State {
    room: Room,
    queues: HashMap<ConnId, Queue>,
    next_conn: ConnId,
    witness: Option<Box<dyn FnMut(WitnessNote) + Send>>,
    queued_bytes: usize,
    closed: bool,
}

/// The way to one connection. Dropping it closes the connection, after what was queued.
struct Queue {
    frames: mpsc::Sender<Outbound>,
    bytes: Arc<AtomicUsize>,
    /// Tells the connection at once, even when it is stuck in a write.
    _open: oneshot::Sender<()>,
}

enum Outbound {
    Text(Utf8Bytes),
    Ping,
}

/// The connection's end of its queue.
struct Outlet {
    conn: ConnId,
    frames: mpsc::Receiver<Outbound>,
    bytes: Arc<AtomicUsize>,
    closed: oneshot::Receiver<()>,
}

type Socket = WebSocketStream<TcpStream>;

impl Hall {
    pub(super) fn open(rules: Rules, witness: Option<Box<dyn FnMut(WitnessNote) + Send>>) -> Self {
        let limits = rules.limits;
        let (room, effects) = Room::open(rules);
        let mut state = State {
            room,
            queues: HashMap::new(),
            next_conn: 0,
            witness,
            queued_bytes: limits.queued_bytes,
            closed: false,
        };
        state.apply(effects);
        Self {
            state: Mutex::new(state),
            limits,
            strangers: Semaphore::new(limits.unregistered),
        }
    }

    /// Closes every connection, and lets none in any more.
    pub(super) fn close_all(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.queues.clear();
    }

    fn enter(&self, swarm: SwarmName, nonce: Nonce) -> Option<Outlet> {
        let mut state = self.lock();
        if state.closed {
            return None;
        }
        let conn = state.next_conn;
        state.next_conn += 1;
        let (sender, frames) = mpsc::channel(QUEUED_FRAMES);
        let (open, closed) = oneshot::channel();
        let bytes = Arc::new(AtomicUsize::new(0));
        let queue = Queue {
            frames: sender,
            bytes: Arc::clone(&bytes),
            _open: open,
        };
        state.queues.insert(conn, queue);
        state.handle(conn, Input::Connected { swarm, nonce });
        Some(Outlet {
            conn,
            frames,
            bytes,
            closed,
        })
    }

    fn handle(&self, conn: ConnId, input: Input) {
        self.lock().handle(conn, input);
    }

    fn ping(&self, conn: ConnId) {
        self.lock().push(conn, Outbound::Ping);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A witness that panicked must not take every connection with it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn handle(&mut self, conn: ConnId, input: Input) {
        if matches!(input, Input::Closed) {
            self.queues.remove(&conn);
        }
        let effects = self.room.handle(conn, input, Instant::now());
        self.apply(effects);
    }

    fn apply(&mut self, effects: Vec<Effect>) {
        let mut effects = VecDeque::from(effects);
        while let Some(effect) = effects.pop_front() {
            match effect {
                Effect::Send { conn, text } => {
                    if !self.push(conn, Outbound::Text(text)) {
                        effects.extend(self.room.handle(conn, Input::Closed, Instant::now()));
                    }
                }
                Effect::Close { conn } => {
                    self.queues.remove(&conn);
                }
                Effect::Witness(note) => {
                    if let Some(witness) = &mut self.witness {
                        witness(note);
                    }
                }
            }
        }
    }

    /// Whether it was queued; if not, there is no such connection any more.
    fn push(&mut self, conn: ConnId, outbound: Outbound) -> bool {
        let Some(queue) = self.queues.get(&conn) else {
            return false;
        };
        let size = outbound.size();
        let queued = queue.bytes.fetch_add(size, Ordering::Relaxed) + size;
        if queued <= self.queued_bytes && queue.frames.try_send(outbound).is_ok() {
            return true;
        }
        tracing::warn!(conn, "dropped a client that does not read what it is sent");
        self.queues.remove(&conn);
        false
    }
}

impl Outbound {
    fn size(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Ping => 0,
        }
    }
}

/// Serves one socket until it is closed.
pub(super) async fn serve(tcp: TcpStream, hall: Arc<Hall>, mut stopped: watch::Receiver<bool>) {
    // When all places are taken the newest goes: it is the cheapest to send away.
    let Ok(place) = hall.strangers.try_acquire() else {
        tracing::debug!("too many sockets are shaking hands; dropped one");
        return;
    };
    let shaking = timeout(hall.limits.register_within, shake_hands(tcp));
    // Stopping drops a half-shaken hand, which is all that can be done with it.
    let shaken = tokio::select! {
        shaken = shaking => shaken,
        _ = stopped.changed() => return,
    };
    let (socket, swarm) = match shaken {
        Ok(Ok(shaken)) => shaken,
        Ok(Err(err)) => return tracing::debug!("no WebSocket handshake: {err}"),
        Err(_) => return tracing::debug!("no WebSocket handshake in time"),
    };
    drop(place);
    let mut nonce = [0; 32];
    if let Err(err) = getrandom::fill(&mut nonce) {
        return tracing::error!("no randomness for a challenge: {err}");
    }
    let Some(outlet) = hall.enter(swarm, Nonce::from_bytes(nonce)) else {
        return;
    };
    let conn = outlet.conn;
    let socket = converse(socket, &hall, outlet).await;
    hall.handle(conn, Input::Closed);
    if let Ok(_place) = hall.strangers.try_acquire() {
        // Who stops the server waits for no client.
        tokio::select! {
            () = linger(socket.into_inner()) => {}
            _ = stopped.changed() => {}
        }
    }
}

#[expect(
    clippy::result_large_err,
    reason = "the handshake's callback is typed so"
)]
async fn shake_hands(tcp: TcpStream) -> Result<(Socket, SwarmName), Error> {
    // Offers are small and every one is waited for.
    tcp.set_nodelay(true)?;
    let mut swarm = None;
    let check_path = |request: &Request, response: Response| -> Result<Response, ErrorResponse> {
        swarm = swarm_of_path(request.uri().path());
        if swarm.is_some() {
            return Ok(response);
        }
        let mut refusal = ErrorResponse::new(Some("signaling lives at /v1/SWARM\n".into()));
        *refusal.status_mut() = http::StatusCode::NOT_FOUND;
        Err(refusal)
    };
    let config = Some(socket_config());
    let socket = tokio_tungstenite::accept_hdr_async_with_config(tcp, check_path, config).await?;
    let swarm = swarm.expect("the handshake fails without a swarm");
    Ok((socket, swarm))
}

/// Reads and writes until either end is done, and gives the socket back.
async fn converse(socket: Socket, hall: &Hall, outlet: Outlet) -> Socket {
    let Outlet {
        conn,
        frames,
        bytes,
        closed,
    } = outlet;
    let (mut sink, mut stream) = socket.split();
    let alive = AtomicBool::new(true);
    let too_slow = async {
        // Whether told or dropped, it is closed.
        let _ = closed.await;
        sleep(CLOSE_WITHIN).await;
    };
    // Whichever ends first ends the connection, so nothing is lost by dropping the others.
    tokio::select! {
        () = read(&mut stream, hall, conn, &alive) => {}
        () = write(&mut sink, frames, &bytes) => {}
        () = watch_over(hall, conn, &alive) => {}
        () = too_slow => {}
    }
    sink.reunite(stream).expect("both are halves of one socket")
}

/// Ends when the client closed the connection.
async fn read(stream: &mut SplitStream<Socket>, hall: &Hall, conn: ConnId, alive: &AtomicBool) {
    while let Some(message) = stream.next().await {
        alive.store(true, Ordering::Relaxed);
        let input = match message {
            Ok(Message::Text(text)) => Input::Text(text),
            Ok(Message::Binary(_)) => Input::Binary,
            Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => Input::Control,
            // The socket answers it by itself and then ends.
            Ok(Message::Close(_)) => continue,
            Err(err) => {
                let Some(input) = broken(&err) else { return };
                hall.handle(conn, input);
                // The queue is closed now; `write` ends when the client was told.
                return std::future::pending().await;
            }
        };
        hall.handle(conn, input);
    }
}

/// What is wrong with what came, if it is not just the end.
fn broken(err: &Error) -> Option<Input> {
    let (code, detail) = match err {
        Error::Capacity(_) => (
            ErrorCode::TooLarge,
            format!("a frame is over the {MAX_FRAME} bytes allowed"),
        ),
        Error::Utf8(_) => (
            ErrorCode::BadFrame,
            "a text frame that is not UTF-8".to_string(),
        ),
        Error::Protocol(err) => (ErrorCode::BadFrame, err.to_string()),
        _ => return None,
    };
    Some(Input::Broken { code, detail })
}

/// Ends when the queue is closed and everything in it was written, or writing failed.
async fn write(
    sink: &mut SplitSink<Socket, Message>,
    mut frames: mpsc::Receiver<Outbound>,
    bytes: &AtomicUsize,
) {
    while let Some(outbound) = frames.recv().await {
        bytes.fetch_sub(outbound.size(), Ordering::Relaxed);
        let message = match outbound {
            Outbound::Text(text) => Message::Text(text),
            Outbound::Ping => Message::Ping(Default::default()),
        };
        let fed = sink.feed(message).await;
        // One system call for all that wait.
        let done = if frames.is_empty() {
            sink.flush().await
        } else {
            Ok(())
        };
        if fed.and(done).is_err() {
            return;
        }
    }
    // Its failing means that it is closed already.
    let _ = sink.send(Message::Close(None)).await;
}

/// Ends when the client shows no life between two pings.
async fn watch_over(hall: &Hall, conn: ConnId, alive: &AtomicBool) {
    let registration = async {
        sleep(hall.limits.register_within).await;
        hall.handle(conn, Input::Tick);
        std::future::pending().await
    };
    let life = async {
        while alive.swap(false, Ordering::Relaxed) {
            hall.ping(conn);
            sleep(hall.limits.ping_every).await;
        }
    };
    // `registration` never ends by itself: what comes of it the room says.
    tokio::select! {
        () = registration => {}
        () = life => {}
    }
}

/// Closing a socket with unread bytes resets it, and the client would never read why it was refused:
/// so what still comes is thrown away, for a while.
async fn linger(mut tcp: TcpStream) {
    let _ = timeout(LINGER, async {
        tcp.shutdown().await?;
        let mut thrown = 0;
        let mut buffer = [0; 4096];
        while thrown < LINGER_BYTES {
            match tcp.read(&mut buffer).await? {
                0 => break,
                n => thrown += n,
            }
        }
        std::io::Result::Ok(())
    })
    .await;
}

/// For both ends: nothing over [`MAX_FRAME`] is ever buffered, and a connection that is idle holds
/// little memory.
pub(super) fn socket_config() -> WebSocketConfig {
    WebSocketConfig::default()
        .max_message_size(Some(MAX_FRAME))
        .max_frame_size(Some(MAX_FRAME))
        .read_buffer_size(SOCKET_BUFFER)
        .write_buffer_size(SOCKET_BUFFER)
}

/// A frame or two; larger ones get room when they come.
const SOCKET_BUFFER: usize = 8 * 1024;
/// A full swarm of 2,048 that joins, offers and trickles at once, and some.
const QUEUED_FRAMES: usize = 8 * 1024;
/// For writing what is queued when the connection is closed.
const CLOSE_WITHIN: Duration = Duration::from_secs(2);
/// For the client to take note and close its end.
const LINGER: Duration = Duration::from_secs(1);
/// A few frames that were on their way.
const LINGER_BYTES: usize = 4 * MAX_FRAME;
