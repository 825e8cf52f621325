//! One connection of the server, from the accepted socket to its end.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, sleep_until, timeout};
use tokio_tungstenite::tungstenite::{Error, Message};

use super::door::{STRANGER_BYTES, Shaken, Socket, linger, shake_hands};
use super::errors::ErrorCode;
use super::hall::{Hall, Outbound, Outlet, Place};
use super::intake::{Came, Intake};
use super::meter::Meter;
use super::proof::Nonce;
use super::room::{Arrival, ConnId, Input};
use super::wire::MAX_FRAME;

/// A socket that was accepted.
pub(super) struct Accepted {
    pub(super) tcp: TcpStream,
    pub(super) from: IpAddr,
    /// Its place among all sockets.
    pub(super) socket: Place,
    /// Its place among those that are shaking hands.
    pub(super) stranger: Place,
    /// When: registering must not take longer than `register_within` from here, all told.
    pub(super) since: Instant,
}

/// One connection's reading.
struct Reader<'a> {
    conn: ConnId,
    hall: &'a Hall,
    intake: Intake,
    meter: Meter,
    alive: &'a AtomicBool,
}

/// Serves one socket until it is closed.
pub(super) async fn serve(accepted: Accepted, hall: Arc<Hall>, mut stopped: watch::Receiver<bool>) {
    let Accepted {
        tcp,
        from,
        socket: _socket,
        stranger,
        since,
    } = accepted;
    let shaking = shake_hands(tcp, hall.tls.as_ref());
    let shaking = timeout(hall.limits.register_within, shaking);
    // Stopping drops a half-shaken hand, which is all that can be done with it.
    let shaken = tokio::select! {
        shaken = shaking => shaken,
        _ = stopped.changed() => return,
    };
    let Shaken {
        socket,
        meter,
        swarm,
    } = match shaken {
        Ok(Ok(shaken)) => shaken,
        Ok(Err(err)) => return tracing::debug!(%from, reason = %err, "no WebSocket handshake"),
        Err(_) => return tracing::debug!(%from, reason = "not in time", "no WebSocket handshake"),
    };
    drop(stranger);
    let mut nonce = [0; 32];
    if let Err(err) = getrandom::fill(&mut nonce) {
        return tracing::error!(%from, reason = %err, "no randomness for a challenge");
    }
    let nonce = Nonce::from_bytes(nonce);
    let intake = Intake::new(hall.limits, swarm.clone(), nonce, Instant::now());
    let arrival = Arrival {
        swarm,
        nonce,
        network: from.into(),
        since,
    };
    let Some(outlet) = hall.enter(arrival) else {
        return;
    };
    let conn = outlet.conn;
    let alive = AtomicBool::new(true);
    let reader = Reader {
        conn,
        hall: &hall,
        intake,
        meter,
        alive: &alive,
    };
    let socket = converse(socket, reader, outlet, since).await;
    hall.handle(conn, Input::Closed);
    if let Some(_stranger) = hall.stranger_place(from) {
        // Who stops the server waits for no client.
        tokio::select! {
            () = linger(socket.into_inner().into_inner()) => {}
            _ = stopped.changed() => {}
        }
    }
}

/// Reads and writes until either end is done, and gives the socket back.
async fn converse(socket: Socket, reader: Reader<'_>, outlet: Outlet, since: Instant) -> Socket {
    let Outlet {
        conn,
        frames,
        bytes,
        closed,
    } = outlet;
    let (hall, alive) = (reader.hall, reader.alive);
    let (mut sink, mut stream) = socket.split();
    let too_slow = async {
        // Whether told or dropped, it is closed.
        let _ = closed.await;
        sleep(CLOSE_WITHIN).await;
    };
    // Whichever ends first ends the connection, so nothing is lost by dropping the others.
    tokio::select! {
        () = reader.read(&mut stream) => {}
        () = write(&mut sink, frames, &bytes) => {}
        () = watch_over(hall, conn, alive, since) => {}
        () = too_slow => {}
    }
    sink.reunite(stream).expect("both are halves of one socket")
}

impl Reader<'_> {
    /// Ends when the client closed the connection.
    async fn read(mut self, stream: &mut SplitStream<Socket>) {
        while let Some(message) = stream.next().await {
            self.alive.store(true, Ordering::Relaxed);
            let came = match message {
                Ok(Message::Text(text)) => Came::Text(text),
                Ok(Message::Binary(bytes)) => Came::Binary(bytes.len()),
                Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => Came::Control,
                // The socket answers it by itself and then ends.
                Ok(Message::Close(_)) => continue,
                Err(err) => match broken(&err) {
                    Some(came) => came,
                    None => return,
                },
            };
            let Some(input) = self.intake.take(came, Instant::now()) else {
                continue;
            };
            if !self.hall.handle(self.conn, input) {
                // The queue is closed: `write` ends when the client was told. What it sends
                // meanwhile is not worth reading.
                return std::future::pending().await;
            }
            if self.intake.has_registered() {
                self.meter.lift();
            }
        }
    }
}

/// What is wrong with what came, if it is not just the end.
fn broken(err: &Error) -> Option<Came> {
    let (code, detail) = match err {
        Error::Capacity(_) => (
            ErrorCode::TooLarge,
            format!("a frame is over the {MAX_FRAME} bytes allowed"),
        ),
        Error::Io(err) if Meter::ran_out(err) => (
            ErrorCode::TooLarge,
            format!("more than {STRANGER_BYTES} bytes came, and no whole `register` among them"),
        ),
        Error::Utf8(_) => (
            ErrorCode::BadFrame,
            "a text frame that is not UTF-8".to_string(),
        ),
        Error::Protocol(err) => (ErrorCode::BadFrame, err.to_string()),
        _ => return None,
    };
    Some(Came::Broken { code, detail })
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
async fn watch_over(hall: &Hall, conn: ConnId, alive: &AtomicBool, since: Instant) {
    let registration = async {
        sleep_until((since + hall.limits.register_within).into()).await;
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

/// For writing what is queued when the connection is closed.
const CLOSE_WITHIN: Duration = Duration::from_secs(2);
