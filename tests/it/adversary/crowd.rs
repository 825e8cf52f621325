//! Crowds: ten thousand connections that are refused, and those that dribble and never register.
//!
//! They come from other addresses of this host than the honest agents, as a stranger's would: the
//! server counts by addresses.

use std::collections::BTreeMap;

use futures_util::{SinkExt, StreamExt, stream};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Duration, interval};
use tokio_tungstenite::tungstenite::Message;

use super::hand::{dial, knock, next};
use super::stage::{Play, SIGNAL, Stage};
use super::table::{By, Seen};
use crate::live::say;

/// Those that dribble, since the play began.
pub(super) struct SlowLoris {
    sockets: JoinSet<End>,
}

/// How a connection that never registered ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    /// Told so: the time to register was over.
    NotRegistered,
    /// Told that there is no place for another.
    ServerFull,
    /// Let go at the door: too many from there were shaking hands.
    NoPlace,
    /// Closed, before a word of WebSocket was spoken.
    Closed,
}

impl SlowLoris {
    /// Begins: some that shake hands one byte at a time, some that send a frame one byte at a time,
    /// some that say nothing.
    pub(super) fn begin(stage: &Stage) -> Self {
        let mut sockets = JoinSet::new();
        for n in 0..DRIBBLERS {
            let server = stage.server.authority().to_owned();
            sockets.spawn(async move {
                if n % 4 == 0 {
                    half_a_handshake(&server).await
                } else {
                    no_registration(&server, n % 4 == 1).await
                }
            });
        }
        Self { sockets }
    }

    /// Waits until the server has ended them all.
    pub(super) async fn end(self, play: &mut Play) {
        play.act(
            By::Peer,
            "slow loris: 320 that dribble and never register",
            async |stage| {
                let mut ends = BTreeMap::new();
                for end in self.sockets.join_all().await {
                    *ends.entry(end).or_insert(0) += 1;
                }
                assert_eq!(ends.get(&End::Closed), Some(&(DRIBBLERS / 4)), "{ends:?}");
                assert!(ends.contains_key(&End::NotRegistered), "{ends:?}");
                assert_eq!(ends.values().sum::<usize>(), DRIBBLERS);
                let mark = stage.entries(SIGNAL);
                newcomer(stage).await;
                let entry = stage.has_entry(SIGNAL, mark, "agent_registered", |_| true);
                let told = format!("closed after 10 s: {ends:?}");
                Seen::new(
                    "server",
                    told,
                    format!("none: nobody had registered; then {entry}"),
                )
            },
        )
        .await;
    }
}

/// Ten thousand registrations with an old nonce, one connection each.
pub(super) async fn refused(play: &mut Play) {
    play.act(By::Peer, "10,000 refused connections", async |stage| {
        let mark = stage.entries(SIGNAL);
        let before = (stage.server.peak_kib(), stage.server.descriptors());
        let server = stage.server.authority();
        let old = stage.liar.registration("bob");
        let codes = stream::iter(0..CROWD)
            .map(|_| refusal(server, &old))
            .buffer_unordered(AT_ONCE);
        let codes: Vec<_> = codes.collect().await;
        let refused = codes
            .iter()
            .filter(|code| **code == "bad-signature")
            .count();
        assert_eq!(
            refused,
            CROWD,
            "{:?}",
            codes.iter().find(|code| **code != "bad-signature")
        );
        newcomer(stage).await;
        let noted = noted(stage, mark, CROWD).await;
        let grown = stage.server.peak_kib() - before.0;
        assert!(grown < MOST_KIB, "the server has grown by {grown} KiB");
        until_closed(stage, before.1).await;
        let entry = stage.has_entry(SIGNAL, mark, "registration_refused", |_| true);
        let told = format!("bad-signature; the server grew by {grown} KiB");
        let entry = format!(
            "{entry}, and {} more; with `not_noted` they account for all",
            noted - 1
        );
        Seen::new("server", told, entry)
    })
    .await;
}

/// Connects, registers as somebody else did once, and is refused: with this code.
async fn refusal(server: &str, old: &str) -> String {
    let Some((mut socket, _challenge)) = knock(CROWD_FROM, server).await else {
        return "no connection".into();
    };
    let _ = socket.send(Message::text(old)).await;
    let told = next(&mut socket).await.unwrap_or_default();
    let _ = socket.close(None).await;
    told["code"].as_str().unwrap_or("nothing").to_owned()
}

/// The server notes some of the refusals a second, and of the others how many they were: each
/// further one tells of those since the last that was noted. Returns how many entries that took.
async fn noted(stage: &Stage, mark: usize, refused: usize) -> usize {
    let mut more = 0;
    loop {
        let entries = stage.all_entries(SIGNAL, mark, "registration_refused");
        let not_noted = |entry: &Value| entry["not_noted"].as_u64().unwrap_or(0) as usize;
        let accounted: usize = entries.iter().map(|entry| 1 + not_noted(entry)).sum();
        assert!(
            accounted <= refused + more,
            "{accounted} of {refused} + {more}"
        );
        if accounted == refused + more {
            return entries.len();
        }
        let code = refusal(stage.server.authority(), &stage.liar.registration("bob")).await;
        assert_eq!(code, "bad-signature");
        more += 1;
    }
}

/// Waits until the server has closed what the crowd left open.
async fn until_closed(stage: &Stage, before: usize) {
    let mut look = interval(Duration::from_millis(20));
    // Those who join meanwhile have one each.
    while stage.server.descriptors() > before + 2 {
        look.tick().await;
    }
}

/// An honest agent joins, is linked with both, says something, and leaves.
async fn newcomer(stage: &mut Stage) {
    let dan = stage.newcomer("dan").await;
    dan.agent.linked(2).await.unwrap();
    dan.agent.send(say("ann", "new here")).await.unwrap();
    stage.ann_hears("dan", "new here").await;
    dan.agent.shutdown("that was all").await.unwrap();
}

/// Sends a handshake one byte at a time.
async fn half_a_handshake(server: &str) -> End {
    let tcp = dial(LORIS_FROM, server).await.unwrap();
    let (mut reading, mut writing) = tcp.into_split();
    let dribble = async {
        let mut slow = interval(DRIBBLE);
        for byte in b"GET /v1/live HTTP/1.1\r\nHost: "
            .iter()
            .chain([b'x'; 10_000].iter())
        {
            slow.tick().await;
            if writing.write_all(&[*byte]).await.is_err() {
                return;
            }
        }
    };
    let mut answer = Vec::new();
    tokio::select! {
        () = dribble => {}
        // By end of file or reset.
        _ = reading.read_to_end(&mut answer) => {}
    }
    // Nothing, or that there is no place.
    let answer = String::from_utf8_lossy(&answer);
    assert!(
        answer.is_empty() || answer.starts_with("HTTP/1.1 503 "),
        "{answer}"
    );
    End::Closed
}

/// Shakes hands and does not register: says nothing, or dribbles a frame.
async fn no_registration(server: &str, dribbles: bool) -> End {
    let Some((socket, first)) = knock(LORIS_FROM, server).await else {
        return End::NoPlace;
    };
    if first["code"] == "server-full" {
        return End::ServerFull;
    }
    let mut tcp: TcpStream = socket.into_inner();
    let mut slow = interval(DRIBBLE);
    if dribbles {
        // The head of a masked text frame of 1,000 bytes (RFC 6455, section 5.2).
        let _ = tcp.write_all(&[0x81, 0xfe, 0x03, 0xe8, 0, 0, 0, 0]).await;
    }
    let mut answer = Vec::new();
    loop {
        tokio::select! {
            _ = slow.tick(), if dribbles => {
                // That it is closed shows on the other side too.
                let _ = tcp.write_all(b" ").await;
            }
            read = tcp.read_buf(&mut answer) => {
                if matches!(read, Ok(0) | Err(_)) {
                    break;
                }
            }
        }
    }
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.contains("not-registered"), "{answer}");
    End::NotRegistered
}

/// Connections in the crowd.
const CROWD: usize = 10_000;
/// Of these at once: fewer than the server has places for one address.
const AT_ONCE: usize = 64;
/// Where the crowd comes from.
const CROWD_FROM: [u8; 4] = [127, 0, 0, 3];
/// What the server may grow by: what 64 connections hold at once, several times over.
const MOST_KIB: u64 = 32 * 1024;
/// More than the server has places for one address; a quarter of these shake hands for ever.
const DRIBBLERS: usize = 320;
/// Where they come from.
const LORIS_FROM: [u8; 4] = [127, 0, 0, 2];
/// Between two bytes.
const DRIBBLE: Duration = Duration::from_millis(200);
