//! The UDP port that all of an agent's connections share: one socket per local address, one
//! reader per socket, one [`Seat`](super::seat::Seat) per connection.
//!
//! A connection of the `webrtc` crate binds a socket of its own. Here it gets one that only
//! believes in the address, and sends through the shared one. One port per agent means one hole
//! in a firewall, and no exhaustion of ephemeral ports (Linux has 28,232; a full mesh of 169
//! agents in one process needs more).

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::conditioner::Conditioner;
use super::demux::{ConnectionId, Demux};
use super::engine::Engine;
use super::seat::Lane;
use super::socket::SharedSocket;
use crate::identity::AgentId;

/// The shared port. It reads for as long as it is not closed.
#[derive(Debug)]
pub(super) struct Port {
    sockets: Vec<Arc<SharedSocket>>,
    routes: Mutex<Routes>,
    conditioner: Arc<Conditioner>,
    engine: Engine,
}

#[derive(Debug, Default)]
struct Routes {
    demux: Demux,
    /// Per connection, one lane per socket.
    lanes: HashMap<ConnectionId, Arc<[Lane]>>,
    next: u64,
}

impl Port {
    /// Binds `addresses` to one and the same port (`port` 0: a free one) and starts reading.
    ///
    /// Returns the port and the smallest receive buffer that the kernel granted, in bytes.
    pub(super) fn bind(addresses: &[IpAddr], port: u16) -> Result<(Arc<Self>, usize), BindFailed> {
        let mut sockets = Vec::new();
        let mut number = port;
        let mut granted = usize::MAX;
        for ip in addresses {
            let (socket, receive_buffer) = SharedSocket::bind(SocketAddr::new(*ip, number))?;
            granted = granted.min(receive_buffer);
            number = socket.address().port();
            sockets.push(Arc::new(socket));
        }
        let port = Arc::new(Self {
            sockets,
            routes: Mutex::default(),
            conditioner: Arc::default(),
            engine: Engine::start(),
        });
        for socket in &port.sockets {
            port.serve(socket);
        }
        let conditioner = Arc::clone(&port.conditioner);
        let delayed = async move { conditioner.send_delayed().await };
        port.engine.spawn(Box::pin(delayed));
        Ok((port, granted))
    }

    /// Starts reading a socket.
    fn serve(self: &Arc<Self>, socket: &Arc<SharedSocket>) {
        let (port, own) = (Arc::clone(self), Arc::clone(socket));
        let read = async move {
            let deliver = |sender, datagram: &[u8]| port.deliver(&own, sender, datagram);
            own.read(deliver).await;
        };
        self.engine.spawn(Box::pin(read));
        let own = Arc::clone(socket);
        let writable = async move { own.wake_when_writable().await };
        self.engine.spawn(Box::pin(writable));
    }

    /// The addresses the port is bound to.
    pub(super) fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.sockets.iter().map(|socket| socket.address())
    }

    /// Where the connections' loops run.
    pub(super) fn engine(&self) -> &Engine {
        &self.engine
    }

    /// What the datagrams of the connections pass.
    pub(super) fn conditioner(&self) -> &Arc<Conditioner> {
        &self.conditioner
    }

    /// Stops reading, and every connection that was not closed.
    pub(super) async fn close(&self) {
        self.engine.stop().await;
    }

    /// Enters a connection to `peer` with the ICE user fragment `ufrag`.
    pub(super) fn admit(&self, peer: &AgentId, ufrag: &str) -> (ConnectionId, Arc<[Lane]>) {
        let lanes: Arc<[Lane]> = self.sockets.iter().cloned().map(Lane::of).collect();
        let mut routes = lock(&self.routes);
        routes.next += 1;
        let id = ConnectionId(routes.next);
        routes.demux.add(id, peer.clone(), ufrag.to_owned());
        routes.lanes.insert(id, Arc::clone(&lanes));
        (id, lanes)
    }

    /// Forgets a connection.
    pub(super) fn dismiss(&self, id: ConnectionId) {
        let mut routes = lock(&self.routes);
        routes.demux.remove(id);
        routes.lanes.remove(&id);
    }

    /// Notes what a connection sends, so that the answer finds its way back.
    pub(super) fn note_sent(&self, id: ConnectionId, stun: &[u8]) {
        lock(&self.routes).demux.sent(id, stun);
    }

    fn deliver(&self, socket: &Arc<SharedSocket>, sender: SocketAddr, datagram: &[u8]) {
        let lanes = {
            let mut routes = lock(&self.routes);
            let id = routes.demux.route(sender, datagram);
            id.and_then(|id| routes.lanes.get(&id).cloned())
        };
        // What belongs to nobody is dropped, as an unbound port would.
        let lane = lanes.as_ref().and_then(|lanes| {
            let mut lanes = lanes.iter();
            lanes.find(|lane| lane.is_of(socket))
        });
        if let Some(lane) = lane {
            lane.push(sender, datagram);
        }
    }
}

/// An address could not be bound.
#[derive(Debug)]
pub(super) struct BindFailed {
    pub(super) address: SocketAddr,
    pub(super) source: io::Error,
}

/// No code of this room panics while it holds a lock, so a poisoned one is as good as new.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
