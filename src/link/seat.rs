//! One connection's place at the shared port: an inbox per socket, and what it holds in place of
//! sockets of its own.
//!
//! A seat keeps the sockets that the port had when it was taken, until it is left: a socket whose
//! address is gone meanwhile carries nothing any more, and the connection finds that out.

use std::collections::VecDeque;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use bytes::Bytes;
use webrtc::runtime::{AsyncUdpSocket, RecvMeta, Transmit};

use super::conditioner::Datagram;
use super::demux::ConnectionId;
use super::engine::Engine;
use super::port::{Port, lock};
use super::socket::SharedSocket;
use crate::identity::AgentId;

/// One connection's place at the port. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Seat {
    port: Arc<Port>,
    id: ConnectionId,
    peer: AgentId,
    lanes: Arc<[Lane]>,
}

/// A connection's part of one shared socket.
#[derive(Debug)]
pub(super) struct Lane {
    socket: Arc<SharedSocket>,
    /// What has arrived and was not read yet.
    inbox: Mutex<Queue>,
}

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

impl Seat {
    /// Takes a place at `port` for a connection to `peer` with the ICE user fragment `ufrag`.
    pub(super) fn take(port: &Arc<Port>, peer: &AgentId, ufrag: &str) -> Self {
        let (id, lanes) = port.admit(peer, ufrag);
        Self {
            port: Arc::clone(port),
            id,
            peer: peer.clone(),
            lanes,
        }
    }

    /// Gives the place up; nothing is routed to the connection any more.
    pub(super) fn leave(&self) {
        self.port.dismiss(self.id);
    }

    /// A socket that believes to be bound to `believed` and shares the port's socket of that IP.
    pub(super) fn socket(&self, believed: SocketAddr) -> io::Result<VirtualSocket> {
        let index = self
            .lanes
            .iter()
            .position(|lane| lane.socket.address().ip() == believed.ip())
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

    /// Whether the channels were open once.
    pub(super) fn is_open(&self) -> bool {
        let mut lanes = self.lanes.iter();
        lanes.all(|lane| lock(&lane.inbox).allowance == Allowance::Any)
    }

    fn allow(&self, allowance: Allowance) {
        for lane in self.lanes.iter() {
            let mut queue = lock(&lane.inbox);
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

    /// The addresses to gather candidates from; the port of each is the kernel's business.
    pub(super) fn believed_addresses(&self) -> Vec<SocketAddr> {
        let ips = self.lanes.iter().map(|lane| lane.socket.address().ip());
        ips.map(|ip| SocketAddr::new(ip, 0)).collect()
    }

    /// The shared port's number on `ip`, if it is bound there.
    pub(super) fn port_on(&self, ip: IpAddr) -> Option<u16> {
        let mut addresses = self.lanes.iter().map(|lane| lane.socket.address());
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
        let (contents, to) = (transmit.contents, transmit.destination);
        // DTLS is by far the most; only STUN is of interest to the routes.
        if contents.first().is_some_and(|byte| byte & 0xc0 == 0) {
            self.seat.port.note_sent(self.seat.id, contents);
        }
        let socket = &self.seat.lanes[self.index].socket;
        let conditioner = self.seat.port.conditioner();
        if conditioner.is_on() {
            let datagram = Datagram {
                socket,
                contents,
                to,
            };
            if conditioner.takes(&self.seat.peer, &datagram, Instant::now()) {
                return Poll::Ready(Ok(contents.len()));
            }
        }
        socket.poll_send(cx, contents, to)
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let mut queue = lock(&self.seat.lanes[self.index].inbox);
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

impl Lane {
    pub(super) fn of(socket: Arc<SharedSocket>) -> Self {
        let inbox = Mutex::default();
        Self { socket, inbox }
    }

    /// Whether it is the part of this socket.
    pub(super) fn is_of(&self, socket: &Arc<SharedSocket>) -> bool {
        Arc::ptr_eq(&self.socket, socket)
    }

    pub(super) fn push(&self, sender: SocketAddr, datagram: &[u8]) {
        let mut queue = lock(&self.inbox);
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

/// Datagrams a connection may leave unread: two receive windows of 1 MiB in packets of 1.2 KiB.
const MAX_INBOX: usize = 2_048;
