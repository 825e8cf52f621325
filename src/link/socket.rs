//! One socket of the shared port: made once per local address, used by many connections.

use std::io;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::task::{Context, Poll, Waker};

use tokio::net::UdpSocket;
use tokio::sync::Notify;

use super::port::{BindFailed, lock};

/// A bound socket that many connections send through.
#[derive(Debug)]
pub(super) struct SharedSocket {
    io: UdpSocket,
    address: SocketAddr,
    /// Connections that found the socket full.
    blocked: Mutex<Vec<Waker>>,
    was_full: Notify,
}

impl SharedSocket {
    /// Binds `address`. Returns the socket and the receive buffer that the kernel granted, in bytes.
    pub(super) fn bind(address: SocketAddr) -> Result<(Self, usize), BindFailed> {
        let failed = |source| BindFailed { address, source };
        let (socket, receive_buffer) = bind_socket(address).map_err(failed)?;
        let io = UdpSocket::from_std(socket).map_err(failed)?;
        let address = io.local_addr().map_err(failed)?;
        let socket = Self {
            io,
            address,
            blocked: Mutex::default(),
            was_full: Notify::new(),
        };
        Ok((socket, receive_buffer))
    }

    /// What it is bound to.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sends one datagram, or says that the socket is full.
    pub(super) fn try_send(&self, contents: &[u8], to: SocketAddr) -> io::Result<usize> {
        self.io.try_send_to(contents, to)
    }

    /// Sends one datagram; the caller is woken when a full socket has drained.
    pub(super) fn poll_send(
        &self,
        cx: &mut Context<'_>,
        contents: &[u8],
        to: SocketAddr,
    ) -> Poll<io::Result<usize>> {
        let mut sent = self.try_send(contents, to);
        if is_full(&sent) {
            // Queue up first, then try once more: the socket may have drained in between. The
            // socket's own `poll_send_ready` keeps one waker only, and many connections wait here.
            lock(&self.blocked).push(cx.waker().clone());
            self.was_full.notify_one();
            sent = self.try_send(contents, to);
        }
        if is_full(&sent) {
            Poll::Pending
        } else {
            Poll::Ready(sent)
        }
    }

    /// Hands every datagram that comes, and its sender, to `deliver`, for as long as it is polled.
    pub(super) async fn read(&self, deliver: impl Fn(SocketAddr, &mut [u8])) {
        let mut buffer = vec![0; MAX_DATAGRAM];
        let mut read = 0;
        while self.io.readable().await.is_ok() {
            match self.io.try_recv_from(&mut buffer) {
                Ok((length, sender)) => deliver(sender, &mut buffer[..length]),
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => {}
                // An ICMP error about an earlier datagram, to one of many peers: ICE finds out.
                Err(err) => tracing::debug!(address = %self.address, %err, "receive failed"),
            }
            read += 1;
            if read % BURST == 0 {
                tokio::task::yield_now().await;
            }
        }
    }

    /// Wakes those who wait for a full socket, for as long as it is polled.
    pub(super) async fn wake_when_writable(&self) {
        loop {
            self.was_full.notified().await;
            if self.io.writable().await.is_err() {
                return;
            }
            for waker in std::mem::take(&mut *lock(&self.blocked)) {
                waker.wake();
            }
        }
    }
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

fn is_full(sent: &io::Result<usize>) -> bool {
    matches!(sent, Err(err) if err.kind() == io::ErrorKind::WouldBlock)
}

/// What is asked of the kernel for each direction, in bytes.
const KERNEL_BUFFER: usize = 4 * 1024 * 1024;
/// The largest UDP datagram there is.
const MAX_DATAGRAM: usize = 65_535;
/// Datagrams read in one go before other tasks get their turn.
const BURST: usize = 64;
