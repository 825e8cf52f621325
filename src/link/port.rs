//! The UDP port that all of an agent's connections share: one socket per local address, one
//! reader per socket, one [`Seat`](super::seat::Seat) per connection.
//!
//! A connection of the `webrtc` crate binds a socket of its own. Here it gets one that only
//! believes in the address, and sends through the shared one. One port per agent means one hole
//! in a firewall, and no exhaustion of ephemeral ports (Linux has 28,232; a full mesh of 169
//! agents in one process needs more).
//!
//! Addresses come and go while connections live. A connection keeps the sockets that there were
//! when it was made, see [`Port::rebind`].

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::conditioner::Conditioner;
use super::demux::{ConnectionId, Demux};
use super::endpoint::EndpointUsage;
use super::engine::{Engine, LoopHandle};
use super::seat::Lane;
use super::socket::SharedSocket;
use crate::identity::AgentId;

/// The shared port. It reads for as long as it is not closed.
#[derive(Debug)]
pub(super) struct Port {
    /// What the port's number should be on every address.
    number: u16,
    sockets: Mutex<Sockets>,
    routes: Mutex<Routes>,
    conditioner: Arc<Conditioner>,
    engine: Engine,
}

#[derive(Debug, Default)]
struct Sockets {
    present: Vec<Served>,
    /// Whose address is gone while connections still hold them.
    gone: Vec<Weak<SharedSocket>>,
}

/// A socket that is read.
#[derive(Debug)]
struct Served {
    socket: Arc<SharedSocket>,
    loops: [LoopHandle; 2],
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
            number,
            sockets: Mutex::default(),
            routes: Mutex::default(),
            conditioner: Arc::default(),
            engine: Engine::start(),
        });
        let served = sockets.into_iter().map(|socket| port.serve(socket));
        lock(&port.sockets).present.extend(served);
        let conditioner = Arc::clone(&port.conditioner);
        let delayed = async move { conditioner.send_delayed().await };
        port.engine.spawn(Box::pin(delayed));
        Ok((port, granted))
    }

    /// Has sockets on `addresses` and no others, from now on. A new one gets the port's number
    /// where that is free, else another.
    ///
    /// Connections that were made on an address that is gone keep its socket, unread, until they
    /// are closed: they fail, unless the address comes back first.
    pub(super) fn rebind(self: &Arc<Self>, addresses: &[IpAddr]) -> Rebinding {
        let mut sockets = lock(&self.sockets);
        let mut rebinding = Rebinding::default();
        let is_wanted = |served: &Served| addresses.contains(&served.socket.address().ip());
        let present = std::mem::take(&mut sockets.present);
        let (stay, leave): (Vec<_>, Vec<_>) = present.into_iter().partition(is_wanted);
        sockets.present = stay;
        for served in leave {
            served.loops.iter().for_each(LoopHandle::stop);
            rebinding.removed.push(served.socket.address());
            sockets.gone.push(Arc::downgrade(&served.socket));
        }
        for ip in addresses {
            if sockets
                .present
                .iter()
                .any(|s| s.socket.address().ip() == *ip)
            {
                continue;
            }
            match sockets.back_again(*ip).map_or_else(|| self.open(*ip), Ok) {
                Ok(socket) => {
                    rebinding.added.push(socket.address());
                    sockets.present.push(self.serve(socket));
                }
                Err(failed) => rebinding.failed.push(failed),
            }
        }
        sockets.gone.retain(|gone| gone.strong_count() > 0);
        rebinding
    }

    fn open(&self, ip: IpAddr) -> Result<Arc<SharedSocket>, BindFailed> {
        let bind = |number| SharedSocket::bind(SocketAddr::new(ip, number));
        let bound = match bind(self.number) {
            Err(failed) if failed.source.kind() == io::ErrorKind::AddrInUse => bind(0),
            bound => bound,
        };
        bound.map(|(socket, _)| Arc::new(socket))
    }

    /// Starts reading a socket.
    fn serve(self: &Arc<Self>, socket: Arc<SharedSocket>) -> Served {
        let (port, own) = (Arc::clone(self), Arc::clone(&socket));
        let read = async move {
            let deliver = |sender, datagram: &[u8]| port.deliver(&own, sender, datagram);
            own.read(deliver).await;
        };
        let own = Arc::clone(&socket);
        let writable = async move { own.wake_when_writable().await };
        let loops = [
            self.engine.spawn(Box::pin(read)),
            self.engine.spawn(Box::pin(writable)),
        ];
        Served { socket, loops }
    }

    /// The addresses the port is bound to.
    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        let sockets = lock(&self.sockets);
        let present = sockets.present.iter();
        present.map(|served| served.socket.address()).collect()
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
        let lanes: Arc<[Lane]> = {
            let sockets = lock(&self.sockets);
            let present = sockets.present.iter();
            let lanes = present.map(|served| Lane::of(Arc::clone(&served.socket)));
            lanes.collect()
        };
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

    /// What there is at the port.
    pub(super) fn usage(&self) -> EndpointUsage {
        let routes = lock(&self.routes);
        EndpointUsage {
            connections: routes.lanes.len(),
            routes: routes.demux.len(),
            loops: self.engine.loops(),
            delayed: self.conditioner.waiting(),
        }
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

impl Sockets {
    /// The socket of an address that was gone, if connections have kept it.
    fn back_again(&self, ip: IpAddr) -> Option<Arc<SharedSocket>> {
        let mut kept = self.gone.iter().filter_map(Weak::upgrade);
        kept.find(|socket| socket.address().ip() == ip)
    }
}

/// What has become of the port's sockets.
#[derive(Debug, Default)]
pub(super) struct Rebinding {
    pub(super) added: Vec<SocketAddr>,
    pub(super) removed: Vec<SocketAddr>,
    pub(super) failed: Vec<BindFailed>,
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

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([127, 0, 0, last])
    }

    fn admit(port: &Arc<Port>) -> ConnectionId {
        port.admit(&"peer".parse().unwrap(), "ufrag").0
    }

    #[tokio::test]
    async fn new_addresses_get_the_same_number_and_gone_ones_lose_their_socket() {
        let (port, _) = Port::bind(&[ip(1)], 0).unwrap();
        let number = port.addresses()[0].port();
        let both: [SocketAddr; 2] = [(ip(1), number).into(), (ip(2), number).into()];
        let rebinding = port.rebind(&[ip(1), ip(2)]);
        assert_eq!(rebinding.added, both[1..]);
        assert_eq!(port.addresses(), both);
        let rebinding = port.rebind(&[ip(2)]);
        assert_eq!(rebinding.removed, both[..1]);
        // Nobody holds it, so once its loops have ended another program may have the number.
        while std::net::UdpSocket::bind(both[0]).is_err() {
            tokio::task::yield_now().await;
        }
        port.close().await;
    }

    #[tokio::test]
    async fn a_connection_keeps_its_socket_and_has_it_again_when_the_address_is_back() {
        let (port, _) = Port::bind(&[ip(1)], 0).unwrap();
        let (id, lanes) = port.admit(&"peer".parse().unwrap(), "ufrag");
        let before = port.addresses();
        port.rebind(&[]);
        assert!(port.addresses().is_empty());
        let rebinding = port.rebind(&[ip(1)]);
        assert_eq!(rebinding.added, before);
        let socket = Arc::clone(&lock(&port.sockets).present[0].socket);
        assert!(lanes[0].is_of(&socket));
        port.dismiss(id);
        port.close().await;
    }

    #[tokio::test]
    async fn a_number_that_is_taken_on_a_new_address_is_another_one_there() {
        let (port, _) = Port::bind(&[ip(1)], 0).unwrap();
        let number = port.addresses()[0].port();
        let taken = std::net::UdpSocket::bind((ip(2), number)).unwrap();
        let rebinding = port.rebind(&[ip(1), ip(2)]);
        assert_eq!(rebinding.added.len(), 1);
        assert_ne!(rebinding.added[0].port(), number);
        drop(taken);
        port.close().await;
    }

    #[tokio::test]
    async fn an_address_that_cannot_be_bound_is_reported_and_the_others_are_served() {
        let (port, _) = Port::bind(&[ip(1)], 0).unwrap();
        let rebinding = port.rebind(&[IpAddr::from([192, 0, 2, 1]), ip(2)]);
        assert_eq!(rebinding.failed.len(), 1);
        assert_eq!(rebinding.added.len(), 1);
        assert_eq!(port.addresses(), rebinding.added);
        port.close().await;
    }

    #[tokio::test]
    async fn a_connection_that_is_dismissed_leaves_nothing_at_the_port() {
        let (port, _) = Port::bind(&[ip(1)], 0).unwrap();
        let before = port.usage();
        let id = admit(&port);
        assert_eq!(port.usage().connections, 1);
        port.dismiss(id);
        assert_eq!(port.usage(), before);
        port.close().await;
    }
}
