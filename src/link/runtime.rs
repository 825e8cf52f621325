//! What a connection of the `webrtc` crate runs on: tokio, with the agent's shared port in place
//! of the socket it binds.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::time::timeout;
use webrtc::runtime::{
    AsyncInterval, AsyncTcpListener, AsyncTcpStream, AsyncUdpSocket, JoinHandle, Runtime,
    TokioRuntime,
};

use super::pace::Pace;
use super::seat::Seat;

/// The runtime of one connection.
///
/// Its loop wakes for every connectivity check until there is a path: at first every few
/// milliseconds, since a link is made as fast as the first check that arrives. When none has for
/// a while, sleeps become longer, and so checks rarer; a packet still ends them at once.
#[derive(Debug)]
pub(super) struct ConnectionRuntime {
    seat: Seat,
    hurry: Hurry,
    pace: Pace,
    began: Instant,
}

impl ConnectionRuntime {
    pub(super) fn new(seat: Seat, hurry: Hurry, pace: Pace) -> Self {
        Self {
            seat,
            hurry,
            pace,
            began: Instant::now(),
        }
    }

    /// How long the loop really sleeps.
    fn paced(&self, duration: Duration) -> Duration {
        let eager = duration >= LEAST_SLEEP || self.seat.is_open() || self.began.elapsed() < EAGER;
        if eager { duration } else { LEAST_SLEEP }
    }

    /// The loop sleeps once a round, having handled all events: it may read again, and be handed
    /// messages.
    fn round_begins(&self) {
        self.seat.next_round();
        self.pace.round_begins();
    }
}

tokio::task_local! {
    /// Set for what a connection itself runs, its loop, and for nobody who calls it.
    static IN_LOOP: ();
}

/// Lets a connection's loop pass its next sleep over.
///
/// The loop writes, then handles events, then sleeps until a packet or a timer comes. What an
/// event queues is written only after that: when ICE has connected, the DTLS ClientHello waits
/// for a timer pass, and when DTLS has, the SCTP INIT waits for a write pass, each until the next
/// connectivity check or longer. A sleep passed over at these two moments brings both at once.
#[derive(Debug, Clone, Default)]
pub(super) struct Hurry(Arc<AtomicBool>);

impl Hurry {
    /// The next sleep ends at once.
    pub(super) fn once(&self) {
        self.0.store(true, Ordering::Release);
    }
}

type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

impl Runtime for ConnectionRuntime {
    fn wrap_udp_socket(&self, socket: std::net::UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        // The connection's own socket is closed here; only its address lives on, as the name
        // under which the connection knows its end of the shared one.
        let believed = socket.local_addr()?;
        Ok(Arc::new(self.seat.socket(believed)?))
    }

    fn spawn(&self, future: Boxed<'static, ()>) -> Box<dyn JoinHandle> {
        let future = Box::pin(IN_LOOP.scope((), future));
        Box::new(self.seat.engine().spawn(future))
    }

    fn wrap_tcp_listener(
        &self,
        listener: std::net::TcpListener,
    ) -> io::Result<Arc<dyn AsyncTcpListener>> {
        TokioRuntime.wrap_tcp_listener(listener)
    }

    fn connect_tcp<'a>(
        &'a self,
        address: SocketAddr,
    ) -> Boxed<'a, io::Result<Arc<dyn AsyncTcpStream>>> {
        TokioRuntime.connect_tcp(address)
    }

    fn resolve_host<'a>(&'a self, host: &'a str) -> Boxed<'a, io::Result<Vec<SocketAddr>>> {
        // The connection's loop waits for it, and with it all candidates that need no server.
        let resolved = timeout(RESOLVING, TokioRuntime.resolve_host(host));
        Box::pin(async move {
            resolved
                .await
                .unwrap_or(Err(io::ErrorKind::TimedOut.into()))
        })
    }

    fn sleep(&self, duration: Duration) -> Boxed<'static, ()> {
        // Senders sleep too, while the peer has acknowledged too little: that is no round.
        let is_loop = IN_LOOP.try_with(|()| ()).is_ok();
        if !is_loop {
            return TokioRuntime.sleep(duration);
        }
        self.round_begins();
        if self.hurry.0.swap(false, Ordering::AcqRel) {
            return Box::pin(std::future::ready(()));
        }
        TokioRuntime.sleep(self.paced(duration))
    }

    fn interval(&self, period: Duration) -> Box<dyn AsyncInterval> {
        TokioRuntime.interval(period)
    }

    fn block_on(&self, future: Pin<Box<dyn Future<Output = ()> + '_>>) {
        TokioRuntime.block_on(future);
    }

    /// No yielding: what paces a sender here is the bound on the send buffer. And a call that
    /// never waits after it has sent can be made without waiting, see
    /// [`Link::try_send_message`](super::Link::try_send_message).
    fn yield_now(&self) -> Boxed<'static, ()> {
        Box::pin(std::future::ready(()))
    }

    fn name(&self) -> &'static str {
        "ifswarm"
    }
}

/// How long checks go out as fast as they can: what the engine would do by itself.
const EAGER: Duration = Duration::from_millis(1_400);
/// What the loop of a link that is not open sleeps at least after that.
const LEAST_SLEEP: Duration = Duration::from_millis(50);
/// For the name of a STUN or TURN server: less than a peer that knows its own at once goes on
/// checking.
const RESOLVING: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use tokio::sync::oneshot;

    use super::super::port::Port;
    use super::*;

    #[tokio::test]
    async fn only_the_loop_begins_rounds_and_no_sender_that_waits() {
        let (port, _) = Port::bind(&[IpAddr::from([127, 0, 0, 1])], 0).unwrap();
        let seat = Seat::take(&port, &"peer".parse().unwrap(), "ufrag");
        let (hurry, pace) = (Hurry::default(), Pace::default());
        let runtime = ConnectionRuntime::new(seat, hurry.clone(), pace.clone());
        let runtime = Arc::new(runtime);
        while pace.has_room() {
            pace.handed();
        }
        hurry.once();
        drop(runtime.sleep(LEAST_SLEEP));
        assert!(!pace.has_room());
        assert!(hurry.0.load(Ordering::Acquire), "it is for the loop");

        let (slept, has_slept) = oneshot::channel();
        let own = Arc::clone(&runtime);
        // Passes over, since it is to hurry.
        let looping = async move {
            own.sleep(LEAST_SLEEP).await;
            slept.send(()).unwrap();
        };
        runtime.spawn(Box::pin(looping)).detach();
        has_slept.await.unwrap();
        assert!(pace.has_room());
        port.close().await;
    }
}
