//! One connection of the server, from the accepted socket to its end.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::error::Elapsed;
use tokio::time::{sleep, sleep_until, timeout};
use tokio_tungstenite::tungstenite::{Error, Message, Utf8Bytes};

use super::door::{SOCKET_BUFFER, STRANGER_BYTES, Shaken, Socket, linger, shake_hands};
use super::errors::ErrorCode;
use super::hall::{Hall, Place};
use super::intake::{Came, Intake};
use super::meter::Meter;
use super::proof::Nonce;
use super::queue::{Outbound, Outlet};
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
    let Some((conn, outlet)) = hall.enter(arrival) else {
        return;
    };
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
    let (conn, hall, alive) = (reader.conn, reader.hall, reader.alive);
    let (mut sink, mut stream) = socket.split();
    let too_slow = async {
        outlet.closing().await;
        sleep(CLOSE_WITHIN).await;
    };
    // Whichever ends first ends the connection, so nothing is lost by dropping the others.
    tokio::select! {
        () = reader.read(&mut stream) => {}
        written = write(&mut sink, &outlet, hall.limits.stalled_for) => {
            if written.is_err() {
                hall.stalled(conn);
            }
        }
        () = watch_over(hall, conn, alive, since) => {}
        () = outlet.cut() => {}
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
                Ok(Message::Text(text)) => Came::Text(by_itself(text)),
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

/// A small text shares the buffer that it was read into with what came before and after it. That is
/// not to be kept with it for as long as it waits in somebody's queue.
fn by_itself(text: Utf8Bytes) -> Utf8Bytes {
    match text.len() < SOCKET_BUFFER {
        true => text.as_str().into(),
        false => text,
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
///
/// # Errors
/// When the client has not taken a frame within `stalled_for`. Whoever says something now and then
/// shows life by that, and yet what waits for it is not to wait for ever.
async fn write(
    sink: &mut SplitSink<Socket, Message>,
    outlet: &Outlet,
    stalled_for: Duration,
) -> Result<(), Elapsed> {
    let mut unwritten = 0;
    while let Some(outbound) = outlet.next().await {
        unwritten += outbound.weight();
        let message = match outbound {
            Outbound::Text(text) => Message::Text(text),
            Outbound::Ping => Message::Ping(Default::default()),
        };
        // One system call for all that wait and that there is a buffer for.
        let flush = unwritten >= SOCKET_BUFFER || outlet.is_empty();
        let writing = async {
            sink.feed(message).await?;
            match flush {
                true => sink.flush().await,
                false => Ok(()),
            }
        };
        if timeout(stalled_for, writing).await?.is_err() {
            return Ok(());
        }
        if flush {
            outlet.written(std::mem::take(&mut unwritten));
        }
    }
    // Its failing means that it is closed already.
    let _ = sink.send(Message::Close(None)).await;
    Ok(())
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

#[cfg(test)]
mod tests {
    use tokio_tungstenite::tungstenite::Bytes;

    use super::*;

    #[test]
    fn a_small_text_is_kept_without_the_buffer_it_came_in_and_a_large_one_is_not_copied() {
        for (bytes, is_alone) in [(100, true), (SOCKET_BUFFER, false)] {
            let buffer = Bytes::from("x".repeat(2 * SOCKET_BUFFER));
            let text = by_itself(buffer.slice(..bytes).try_into().unwrap());
            assert_eq!(text.len(), bytes);
            assert_eq!(buffer.is_unique(), is_alone);
        }
    }
}
