//! The UDP port that all of an agent's connections share: one socket per local address, one
//! reader per socket, one inbox per connection and socket.
//!
//! A connection of the `webrtc` crate binds a socket of its own. Here it gets a [`VirtualSocket`]
//! instead, which keeps the address the connection believes in and sends through the shared one.
//! One port per agent means one hole in a firewall, and no exhaustion of ephemeral ports
//! (Linux has 28,232; a full mesh of 169 agents in one process needs more).

use std::collections::{HashMap, VecDeque};
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use tokio::net::UdpSocket;
use tokio::sync::Notify;
use webrtc::runtime::{AsyncUdpSocket, RecvMeta, Transmit};

use super::demux::{ConnectionId, Demux};
use super::engine::Engine;
use super::renaming::Renaming;
use crate::identity::AgentId;

/// The shared port. It reads for as long as it is not closed.
#[derive(Debug)]
pub(super) struct Port {
    sockets: Vec<SharedSocket>,
    routes: Mutex<Routes>,
    renaming: Renaming,
    engine: Engine,
}

#[derive(Debug)]
struct SharedSocket {
    io: UdpSocket,
    address: SocketAddr,
    /// Connections that found the socket full.
    blocked: Mutex<Vec<Waker>>,
    was_full: Notify,
}

#[derive(Debug, Default)]
struct Routes {
    demux: Demux,
    /// Per connection, one inbox per socket.
    inboxes: HashMap<ConnectionId, Arc<[Inbox]>>,
    next: u64,
}

/// What has arrived for one connection on one socket and was not read yet.
#[derive(Debug, Default)]
struct Inbox(Mutex<Queue>);

#[derive(Debug, Default)]
struct Queue {
    datagrams: VecDeque<(SocketAddr, Bytes)>,
    reader: Option<Waker>,
    /// How many more may be read in this round of the connection's loop.
    allowance: Allowance,
}

/// A connection's loop reads a burst of datagrams before it handles the events of the first. A
/// message that comes in one burst with the end of the SCTP handshake finds its negotiated
/// channel not yet open, and is dropped although SCTP has acknowledged it. So one datagram a
/// round has to do until the channels are open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Allowance {
    #[default]
    None,
    One,
    Any,
}

/// One connection's place at the port.
#[derive(Debug, Clone)]
pub(super) struct Seat {
    port: Arc<Port>,
    id: ConnectionId,
    inboxes: Arc<[Inbox]>,
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
            let address = SocketAddr::new(*ip, number);
            let failed = |source| BindFailed { address, source };
            let (socket, receive_buffer) = bind_socket(address).map_err(failed)?;
            granted = granted.min(receive_buffer);
            let io = UdpSocket::from_std(socket).map_err(failed)?;
            let address = io.local_addr().map_err(failed)?;
            number = address.port();
            sockets.push(SharedSocket {
                io,
                address,
                blocked: Mutex::default(),
                was_full: Notify::new(),
            });
        }
        let port = Arc::new(Self {
            sockets,
            routes: Mutex::default(),
            renaming: Renaming::new(),
            engine: Engine::start(),
        });
        for index in 0..port.sockets.len() {
            port.engine.spawn(Box::pin(read(Arc::clone(&port), index)));
            let writable = wake_when_writable(Arc::clone(&port), index);
            port.engine.spawn(Box::pin(writable));
        }
        Ok((port, granted))
    }

    /// The addresses the port is bound to.
    pub(super) fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.sockets.iter().map(|socket| socket.address)
    }

    /// Where the connections' loops run.
    pub(super) fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Stops reading, and every connection that was not closed.
    pub(super) async fn close(&self) {
        self.engine.stop().await;
    }

    fn deliver(&self, index: usize, sender: SocketAddr, datagram: &mut [u8]) {
        let inboxes = {
            let mut routes = lock(&self.routes);
            let id = routes.demux.route(sender, datagram);
            id.and_then(|id| routes.inboxes.get(&id).cloned())
        };
        self.renaming.incoming(datagram);
        // What belongs to nobody is dropped, as an unbound port would.
        if let Some(inboxes) = inboxes {
            inboxes[index].push(sender, datagram);
        }
    }
}

impl Seat {
    /// Takes a place at `port` for a connection to `peer` with the ICE user fragment `ufrag`.
    pub(super) fn take(port: &Arc<Port>, peer: &AgentId, ufrag: &str) -> Self {
        let mut routes = lock(&port.routes);
        routes.next += 1;
        let id = ConnectionId(routes.next);
        routes.demux.add(id, peer.clone(), ufrag.to_owned());
        let inboxes: Arc<[Inbox]> = port.sockets.iter().map(|_| Inbox::default()).collect();
        routes.inboxes.insert(id, Arc::clone(&inboxes));
        Self {
            port: Arc::clone(port),
            id,
            inboxes,
        }
    }

    /// Gives the place up; nothing is routed to the connection any more.
    pub(super) fn leave(&self) {
        let mut routes = lock(&self.port.routes);
        routes.demux.remove(self.id);
        routes.inboxes.remove(&self.id);
    }

    /// A socket that believes to be bound to `believed` and shares the port's socket of that IP.
    pub(super) fn socket(&self, believed: SocketAddr) -> io::Result<VirtualSocket> {
        let index = self
            .port
            .sockets
            .iter()
            .position(|socket| socket.address.ip() == believed.ip())
            .ok_or(io::ErrorKind::AddrNotAvailable)?;
        Ok(VirtualSocket {
            seat: self.clone(),
            index,
            believed,
        })
    }

    /// Where the connection's loop runs.
    pub(super) fn engine(&self) -> &Engine {
        self.port.engine()
    }

    /// The connection's loop begins a new round.
    pub(super) fn next_round(&self) {
        self.allow(Allowance::One);
    }

    /// The channels are open: from now on the loop may read as much as there is.
    pub(super) fn opened(&self) {
        self.allow(Allowance::Any);
    }

    fn allow(&self, allowance: Allowance) {
        for inbox in self.inboxes.iter() {
            let mut queue = lock(&inbox.0);
            if queue.allowance == Allowance::Any {
                continue;
            }
            queue.allowance = allowance;
            let reader = match queue.datagrams.is_empty() {
                true => None,
                false => queue.reader.take(),
            };
            drop(queue);
            if let Some(reader) = reader {
                reader.wake();
            }
        }
    }

    /// The shared port's number on `ip`, if it is bound there.
    pub(super) fn port_on(&self, ip: IpAddr) -> Option<u16> {
        let mut addresses = self.port.addresses();
        addresses.find(|a| a.ip() == ip).map(|a| a.port())
    }
}

/// What a connection holds in place of a socket of its own.
#[derive(Debug)]
pub(super) struct VirtualSocket {
    seat: Seat,
    index: usize,
    believed: SocketAddr,
}

impl AsyncUdpSocket for VirtualSocket {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.believed)
    }

    fn poll_send(&self, cx: &mut Context<'_>, transmit: &Transmit<'_>) -> Poll<io::Result<usize>> {
        let contents = self.seat.port.renaming.outgoing(transmit.contents);
        // DTLS is by far the most; only STUN is of interest to the routes.
        if contents.first().is_some_and(|byte| byte & 0xc0 == 0) {
            let mut routes = lock(&self.seat.port.routes);
            routes.demux.sent(self.seat.id, &contents);
        }
        let socket = &self.seat.port.sockets[self.index];
        let send = || socket.io.try_send_to(&contents, transmit.destination);
        let mut sent = send();
        if is_full(&sent) {
            // Queue up first, then try once more: the socket may have drained in between. The
            // socket's own `poll_send_ready` keeps one waker only, and many connections wait here.
            lock(&socket.blocked).push(cx.waker().clone());
            socket.was_full.notify_one();
            sent = send();
        }
        if is_full(&sent) {
            Poll::Pending
        } else {
            Poll::Ready(sent)
        }
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let mut queue = lock(&self.seat.inboxes[self.index].0);
        let next = match queue.allowance {
            Allowance::None => None,
            Allowance::One | Allowance::Any => queue.datagrams.pop_front(),
        };
        let Some((sender, datagram)) = next else {
            queue.reader = Some(cx.waker().clone());
            return Poll::Pending;
        };
        if queue.allowance == Allowance::One {
            queue.allowance = Allowance::None;
        }
        let length = datagram.len().min(bufs[0].len());
        bufs[0][..length].copy_from_slice(&datagram[..length]);
        meta[0] = RecvMeta::default();
        meta[0].addr = sender;
        meta[0].len = length;
        meta[0].stride = length.max(1);
        Poll::Ready(Ok(1))
    }
}

impl Inbox {
    fn push(&self, sender: SocketAddr, datagram: &[u8]) {
        let mut queue = lock(&self.0);
        // A full inbox drops, as a full kernel buffer would; SCTP and DTLS repeat.
        if queue.datagrams.len() < MAX_INBOX {
            let datagram = Bytes::copy_from_slice(datagram);
            queue.datagrams.push_back((sender, datagram));
        }
        let reader = match queue.allowance {
            Allowance::None => None,
            Allowance::One | Allowance::Any => queue.reader.take(),
        };
        drop(queue);
        if let Some(reader) = reader {
            reader.wake();
        }
    }
}

/// An address could not be bound.
#[derive(Debug)]
pub(super) struct BindFailed {
    pub(super) address: SocketAddr,
    pub(super) source: io::Error,
}

fn bind_socket(address: SocketAddr) -> io::Result<(std::net::UdpSocket, usize)> {
    let socket = socket2::Socket::new(
        socket2::Domain::for_address(address),
        socket2::Type::DGRAM,
        Some(socket2::Protocol::UDP),
    )?;
    // A burst that overflows the kernel's buffer costs SCTP a retransmission time-out of one
    // second. The kernel grants what `net.core.rmem_max` allows and says nothing.
    socket.set_recv_buffer_size(KERNEL_BUFFER)?;
    socket.set_send_buffer_size(KERNEL_BUFFER)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    let granted = socket.recv_buffer_size()?;
    Ok((socket.into(), granted))
}

async fn read(port: Arc<Port>, index: usize) {
    let socket = &port.sockets[index];
    let mut buffer = vec![0; MAX_DATAGRAM];
    let mut read = 0;
    while socket.io.readable().await.is_ok() {
        match socket.io.try_recv_from(&mut buffer) {
            Ok((length, sender)) => port.deliver(index, sender, &mut buffer[..length]),
            Err(err) if err.kind() == io::ErrorKind::WouldBlock => {}
            // An ICMP error about an earlier datagram, to one of many peers: ICE finds out.
            Err(err) => tracing::debug!(address = %socket.address, %err, "receive failed"),
        }
        read += 1;
        if read % BURST == 0 {
            tokio::task::yield_now().await;
        }
    }
}

async fn wake_when_writable(port: Arc<Port>, index: usize) {
    let socket = &port.sockets[index];
    loop {
        socket.was_full.notified().await;
        if socket.io.writable().await.is_err() {
            return;
        }
        for waker in std::mem::take(&mut *lock(&socket.blocked)) {
            waker.wake();
        }
    }
}

fn is_full(sent: &io::Result<usize>) -> bool {
    matches!(sent, Err(err) if err.kind() == io::ErrorKind::WouldBlock)
}

/// No code panics while it holds one of these locks, so a poisoned one is as good as new.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is asked of the kernel for each direction, in bytes.
const KERNEL_BUFFER: usize = 4 * 1024 * 1024;
/// The largest UDP datagram there is.
const MAX_DATAGRAM: usize = 65_535;
/// Datagrams read in one go before other tasks get their turn.
const BURST: usize = 64;
/// Datagrams a connection may leave unread: two receive windows of 1 MiB in packets of 1.2 KiB.
const MAX_INBOX: usize = 2_048;
