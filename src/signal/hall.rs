//! The hall, where all connections of a server meet the room.
//!
//! The room is held under a lock while it decides about one frame, which was read and checked before.
//! What it says to whom is put into one bounded queue per connection: a client that does not read
//! fills its own queue, is dropped, and nobody else waits. All queues together are bounded too: over
//! that, whoever lets most wait is dropped.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::admission::{Limits, Rules};
use super::census::Census;
use super::crowd::{Crowd, Network};
use super::notes::WitnessNote;
use super::queue::{NotQueued, Outbound, Outlet, Queue, Weight, queue};
use super::room::{Arrival, ConnId, Effect, Input, Room};
use super::seldom::Seldom;
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
    queues: HashMap<ConnId, Way>,
    /// What waits in all queues, those of connections that are being closed too.
    all: Weight,
    next_conn: ConnId,
    witness: Option<Box<dyn FnMut(WitnessNote) + Send>>,
    /// Lines about those who were dropped: anybody can bring them about.
    of_deaf: Seldom,
    closed: bool,
}

/// The way to one connection, until its task has ended.
struct Way {
    network: Network,
    queue: Queue,
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
            all: Weight::default(),
            next_conn: 0,
            witness,
            of_deaf: Seldom::default(),
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
        state.queues.values().for_each(|way| way.queue.close());
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
            queued_bytes: state.all.bytes(),
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

    /// A connection of its own, if any is let in.
    pub(super) fn enter(&self, arrival: Arrival) -> Option<(ConnId, Outlet)> {
        let mut state = self.lock();
        if state.closed {
            return None;
        }
        let conn = state.next_conn;
        state.next_conn += 1;
        let (queue, outlet) = queue(&state.all);
        let network = arrival.network;
        state.queues.insert(conn, Way { network, queue });
        state.handle(conn, Input::Connected(arrival));
        Some((conn, outlet))
    }

    /// Tells the room; whether the connection is still one of its own.
    pub(super) fn handle(&self, conn: ConnId, input: Input) -> bool {
        self.lock().handle(conn, input)
    }

    pub(super) fn ping(&self, conn: ConnId) {
        self.lock().push(conn, Outbound::Ping);
    }

    /// A frame could not be written to a connection for as long as is waited for that.
    pub(super) fn stalled(&self, conn: ConnId) {
        self.lock()
            .drop_deaf(conn, "it has not taken a frame for too long");
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
        let ended = matches!(input, Input::Closed);
        let effects = self.room.handle(conn, input, Instant::now());
        if ended {
            self.queues.remove(&conn);
        }
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
                    while let Some(deaf) = self.heaviest() {
                        self.drop_deaf(deaf, "more waits than may for all clients together");
                        effects.extend(self.room.handle(deaf, Input::Closed, Instant::now()));
                    }
                }
                Effect::Close { conn } => {
                    if let Some(way) = self.queues.get(&conn) {
                        way.queue.close();
                    }
                }
                Effect::Witness(note) => {
                    if let Some(witness) = &mut self.witness {
                        witness(note);
                    }
                }
            }
        }
    }

    /// Whether it was queued; if not, the connection is none any more.
    fn push(&mut self, conn: ConnId, outbound: Outbound) -> bool {
        let Some(way) = self.queues.get(&conn) else {
            return false;
        };
        let is_frame = matches!(outbound, Outbound::Text(_));
        match way
            .queue
            .push(outbound, self.room.rules.limits.queued_bytes)
        {
            Ok(()) => self.room.traffic.sent += u64::from(is_frame),
            Err(NotQueued::Closing) => return false,
            Err(NotQueued::Full) => {
                self.drop_deaf(conn, "its queue is full");
                return false;
            }
        }
        true
    }

    /// When more waits than may in all: whose queue is to go. It is the largest of the network that
    /// most waits for, so that a stranger with many connections pays with these, however little waits
    /// for each, and not whoever is slow for a moment.
    fn heaviest(&self) -> Option<ConnId> {
        if self.all.bytes() <= self.room.rules.limits.queued_bytes_in_all {
            return None;
        }
        let mut networks: HashMap<Network, (usize, (usize, ConnId))> = HashMap::new();
        for (conn, way) in &self.queues {
            let bytes = way.queue.bytes();
            let (sum, largest) = networks.entry(way.network).or_default();
            *sum += bytes;
            *largest = (*largest).max((bytes, *conn));
        }
        // A queue that was cut is empty: what is chosen here makes the sum smaller.
        let (_, (bytes, conn)) = networks.into_values().max()?;
        (bytes > 0).then_some(conn)
    }

    /// Closes a connection at once and frees what waits for it.
    fn drop_deaf(&mut self, conn: ConnId, reason: &str) {
        let Some(way) = self.queues.get(&conn) else {
            return;
        };
        let queued = way.queue.bytes();
        way.queue.cut();
        self.room.traffic.dropped += 1;
        if let Some(unsaid) = self.of_deaf.say(Instant::now()) {
            tracing::warn!(
                conn,
                queued,
                reason,
                unsaid,
                "dropped a client that does not read what it is sent"
            );
        }
    }
}
