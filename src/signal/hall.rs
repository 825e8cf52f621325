//! The hall, where all connections of a server meet the room.
//!
//! The room is held under a lock while it decides about one frame, which was read and checked before.
//! What it says to whom is put into one bounded queue per connection: a client that does not read
//! fills its own queue, is dropped, and nobody else waits.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};
use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::admission::{Limits, Rules};
use super::census::Census;
use super::crowd::{Crowd, Network};
use super::notes::WitnessNote;
use super::room::{Arrival, ConnId, Effect, Input, Room};
use super::tls::ServerTls;
use super::traffic::Traffic;

/// The room, and the queues that lead to its connections.
pub(super) struct Hall {
    state: Mutex<State>,
    pub(super) limits: Limits,
    pub(super) tls: Option<ServerTls>,
    /// All sockets, until they are closed.
    sockets: Arc<Mutex<Crowd>>,
    /// Those that are no connection of the room: shaking hands, or being closed kindly.
    strangers: Arc<Mutex<Crowd>>,
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

pub(super) enum Outbound {
    Text(Utf8Bytes),
    Ping,
}

/// The connection's end of its queue.
pub(super) struct Outlet {
    pub(super) conn: ConnId,
    pub(super) frames: mpsc::Receiver<Outbound>,
    pub(super) bytes: Arc<AtomicUsize>,
    pub(super) closed: oneshot::Receiver<()>,
}

/// A place in a crowd, given back when dropped.
pub(super) struct Place {
    crowd: Arc<Mutex<Crowd>>,
    network: Network,
}

impl Hall {
    pub(super) fn open(
        rules: Rules,
        tls: Option<ServerTls>,
        witness: Option<Box<dyn FnMut(WitnessNote) + Send>>,
    ) -> Self {
        let limits = rules.limits;
        let (room, effects) = Room::open(rules, Instant::now());
        let mut state = State {
            room,
            queues: HashMap::new(),
            next_conn: 0,
            witness,
            queued_bytes: limits.queued_bytes,
            closed: false,
        };
        state.apply(effects);
        let strangers = Crowd::new(limits.unregistered, limits.unregistered_per_address);
        let sockets = Crowd::new(
            limits.connections.saturating_add(limits.unregistered),
            limits
                .connections_per_address
                .saturating_add(limits.unregistered_per_address),
        );
        Self {
            state: Mutex::new(state),
            limits,
            tls,
            sockets: Arc::new(Mutex::new(sockets)),
            strangers: Arc::new(Mutex::new(strangers)),
        }
    }

    /// Closes every connection, and lets none in any more.
    pub(super) fn close_all(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.queues.clear();
    }

    /// A place for a socket, if there is one.
    pub(super) fn socket_place(&self, address: IpAddr) -> Option<Place> {
        Place::of(&self.sockets, address)
    }

    /// A place for a socket that is no connection of the room, if there is one.
    pub(super) fn stranger_place(&self, address: IpAddr) -> Option<Place> {
        Place::of(&self.strangers, address)
    }

    /// What is held at the moment.
    pub(super) fn census(&self) -> Census {
        let state = self.lock();
        Census {
            sockets: lock(&self.sockets).len(),
            strangers: lock(&self.strangers).len(),
            queues: state.queues.len(),
            queued_bytes: state.queued(),
            ..state.room.census()
        }
    }

    /// What was counted; `None` when no connection is let in any more.
    pub(super) fn traffic(&self) -> Option<Traffic> {
        let state = self.lock();
        (!state.closed).then_some(state.room.traffic)
    }

    /// A socket is dropped at once; when it may come back.
    pub(super) fn turn_away(&self) -> Duration {
        let mut state = self.lock();
        state.room.traffic.turned_away += 1;
        state.room.line.place(Instant::now())
    }

    pub(super) fn enter(&self, arrival: Arrival) -> Option<Outlet> {
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
        state.handle(conn, Input::Connected(arrival));
        Some(Outlet {
            conn,
            frames,
            bytes,
            closed,
        })
    }

    /// Tells the room; whether the connection is still one of its own.
    pub(super) fn handle(&self, conn: ConnId, input: Input) -> bool {
        self.lock().handle(conn, input)
    }

    pub(super) fn ping(&self, conn: ConnId) {
        self.lock().push(conn, Outbound::Ping);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A witness that panicked must not take every connection with it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    fn of(crowd: &Arc<Mutex<Crowd>>, address: IpAddr) -> Option<Self> {
        let network = address.into();
        lock(crowd).enter(network).ok()?;
        let crowd = Arc::clone(crowd);
        Some(Self { crowd, network })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        lock(&self.crowd).leave(self.network);
    }
}

fn lock(crowd: &Mutex<Crowd>) -> MutexGuard<'_, Crowd> {
    crowd.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    fn handle(&mut self, conn: ConnId, input: Input) -> bool {
        if matches!(input, Input::Closed) {
            self.queues.remove(&conn);
        }
        let effects = self.room.handle(conn, input, Instant::now());
        self.apply(effects);
        self.room.knows(conn)
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

    /// Bytes that wait in all queues.
    fn queued(&self) -> usize {
        let queues = self.queues.values();
        queues
            .map(|queue| queue.bytes.load(Ordering::Relaxed))
            .sum()
    }

    /// Whether it was queued; if not, there is no such connection any more.
    fn push(&mut self, conn: ConnId, outbound: Outbound) -> bool {
        let Some(queue) = self.queues.get(&conn) else {
            return false;
        };
        let (size, is_frame) = (outbound.size(), matches!(outbound, Outbound::Text(_)));
        let queued = queue.bytes.fetch_add(size, Ordering::Relaxed) + size;
        if queued <= self.queued_bytes && queue.frames.try_send(outbound).is_ok() {
            self.room.traffic.sent += u64::from(is_frame);
            return true;
        }
        self.room.traffic.dropped += 1;
        tracing::warn!(
            conn,
            queued,
            reason = "its queue is full",
            "dropped a client that does not read what it is sent"
        );
        self.queues.remove(&conn);
        false
    }
}

impl Outbound {
    pub(super) fn size(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Ping => 0,
        }
    }
}

/// A full swarm of 2,048 that joins, offers and trickles at once, and some.
const QUEUED_FRAMES: usize = 8 * 1024;
