//! A hostile relay on the way of the packets: it changes them, says them twice, brings old ones, and
//! adds its own. What it carries is encrypted for the ends, so all it can do is to lose some.
//!
//! Eve is honest here. That her packets go through the relay she says herself, in an SDP that she
//! signs, as with a TURN server; and she is told no other way to Ann.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use ifswarm::agent::AgentEvent;
use tokio::net::UdpSocket;
use tokio::task::AbortHandle;

use super::stage::{Play, Stage};
use super::table::{By, Seen};
use crate::live::say;
use crate::raw::{Raw, RawLink};
use crate::support::FixtureAgent;

/// The relay: a socket that Ann talks to, and one that Eve talks to.
struct Relay {
    mischief: Arc<AtomicU8>,
    /// Packets that something was done to.
    done: Arc<AtomicUsize>,
    task: AbortHandle,
}

/// What it does to packets on their way to Ann.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mischief {
    /// Nothing.
    None = 0,
    /// One bit of some packets is another.
    Change,
    /// Each comes three times.
    Repeat,
    /// Before each come all of the last hundred.
    Replay,
    /// Before each come others that nobody has sent.
    Inject,
}

const EVE: &str = "eve";

pub(super) async fn play(play: &mut Play) {
    let mut eve = None;
    for (attack, mischief) in [
        ("packets changed on the way", Mischief::Change),
        ("packets said three times", Mischief::Repeat),
        ("packets replayed", Mischief::Replay),
        ("packets injected", Mischief::Inject),
    ] {
        play.act(By::Relay, attack, async |stage| {
            if eve.is_none() {
                eve = Some(join(stage).await);
            }
            let (raw, relay, number) = eve.as_mut().expect("she has joined");
            let (mark, before) = (stage.entries("ann"), relay.done.load(Ordering::Relaxed));
            relay.mischief.store(mischief as u8, Ordering::Relaxed);
            // Several, so that the mischief meets messages and not their acknowledgements alone.
            let mut texts = Vec::new();
            for _ in 0..MESSAGES {
                *number += 1;
                texts.push(format!("number {number}"));
                let message = raw.sign(*number, say("ann", &texts[texts.len() - 1]));
                raw.send(message.text());
            }
            stage.ann_hears_all(EVE, &texts).await;
            raw.acked(*number).await;
            relay
                .mischief
                .store(Mischief::None as u8, Ordering::Relaxed);
            let done = relay.done.load(Ordering::Relaxed) - before;
            assert!(done > 0, "the relay has done nothing");
            for event in ["ifmessage_rejected", "datachannel_closed", "peer_lost"] {
                let of_eve = |entry: &serde_json::Value| entry["peer_id"] == EVE;
                assert!(stage.entry("ann", mark, event, of_eve).is_none(), "{event}");
            }
            let told = format!("no valid record: dropped ({done} packets met)");
            Seen::new(
                "ann's DTLS",
                told,
                "none: below what is signed; each message came once",
            )
        })
        .await;
    }
}

/// Eve joins, and is linked with Ann through a relay.
async fn join(stage: &mut Stage) -> (Raw, Relay, u64) {
    let mut relay = None;
    let session = super::hand::Hand::session(EVE);
    let raw = Raw::join_by(stage.server.url(), EVE, "ann", session, async |offer, _| {
        let for_eve = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let for_ann = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let offer = with_port(offer, for_eve.local_addr().unwrap());
        let (link, answer) = RawLink::answer(&offer).await;
        let eve = address(&answer);
        let answer = with_port(&answer, for_ann.local_addr().unwrap());
        relay = Some(Relay::between(for_ann, for_eve, eve));
        (link, answer)
    })
    .await;
    raw.say_hello();
    raw.link.answer_pings();
    let up = stage.ann.until(|event| match event {
        AgentEvent::PeerUp { peer, .. } if peer.as_str() == EVE => Some(()),
        _ => None,
    });
    up.await;
    assert_eq!(raw.key.public_key(), FixtureAgent::new(EVE).public_key());
    (raw, relay.expect("made with the answer"), 0)
}

impl Relay {
    fn between(for_ann: UdpSocket, for_eve: UdpSocket, eve: SocketAddr) -> Self {
        let mischief = Arc::new(AtomicU8::new(0));
        let done = Arc::new(AtomicUsize::new(0));
        let (kind, count) = (Arc::clone(&mischief), Arc::clone(&done));
        let task = tokio::spawn(async move {
            let (mut from_ann, mut from_eve) = ([0; 2048], [0; 2048]);
            let ann = Mutex::new(None);
            let mut past: Vec<Vec<u8>> = Vec::new();
            loop {
                // Both are cancel-safe: a datagram is taken whole or not at all.
                tokio::select! {
                    Ok((size, from)) = for_ann.recv_from(&mut from_ann) => {
                        *ann.lock().unwrap() = Some(from);
                        let _ = for_eve.send_to(&from_ann[..size], eve).await;
                    }
                    Ok((size, _)) = for_eve.recv_from(&mut from_eve) => {
                        let Some(ann) = *ann.lock().unwrap() else { continue };
                        let packet = &from_eve[..size];
                        let packets = spoil(packet, kind.load(Ordering::Relaxed), &past, &count);
                        for packet in packets {
                            let _ = for_ann.send_to(&packet, ann).await;
                        }
                        past.push(packet.to_vec());
                        if past.len() > REMEMBERED {
                            past.remove(0);
                        }
                    }
                }
            }
        });
        Self {
            mischief,
            done,
            task: task.abort_handle(),
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What arrives in place of a packet.
fn spoil(packet: &[u8], mischief: u8, past: &[Vec<u8>], done: &AtomicUsize) -> Vec<Vec<u8>> {
    // ICE has its own checks; what carries the link is DTLS (RFC 7983, section 7).
    if mischief == Mischief::None as u8 || !(20..64).contains(&packet[0]) {
        return vec![packet.to_vec()];
    }
    let turn = done.fetch_add(1, Ordering::Relaxed);
    let mut packets = vec![packet.to_vec()];
    if mischief == Mischief::Change as u8 {
        // Not those that are sent again too, each after a longer wait.
        if turn < MESSAGES && turn.is_multiple_of(8) {
            let at = (turn / 8 * 7) % packet.len();
            packets[0][at] ^= 1 << (turn / 8 % 8);
        }
    } else if mischief == Mischief::Repeat as u8 {
        packets = vec![packet.to_vec(); 3];
    } else if mischief == Mischief::Replay as u8 {
        packets.splice(0..0, past.iter().cloned());
    } else {
        // An alert in the clear that the link is closed, a record of noise, a binding request of
        // nobody's, and no packet at all.
        let alert = [21, 254, 253, 0, 0, 0, 0, 0, 0, 0, 1, 0, 2, 1, 0].to_vec();
        let noise = [&[23, 254, 253, 0, 1][..], &[0xa5; 60]].concat();
        let stun = [&[0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42][..], &[7; 12]].concat();
        packets.splice(0..0, [alert, noise, stun, Vec::new(), vec![0xff; 1200]]);
    }
    packets
}

/// The address of the first candidate.
fn address(sdp: &str) -> SocketAddr {
    let line = sdp
        .lines()
        .find(|line| line.starts_with("a=candidate:"))
        .unwrap();
    let words: Vec<_> = line.split(' ').collect();
    format!("{}:{}", words[4], words[5]).parse().unwrap()
}

/// The same, reached at this address of the same host.
fn with_port(sdp: &str, reached_at: SocketAddr) -> String {
    let port = format!(" {} ", address(sdp).port());
    sdp.replace(&port, &format!(" {} ", reached_at.port()))
}

/// Messages that are sent during each mischief.
const MESSAGES: usize = 20;
/// Packets that are said again.
const REMEMBERED: usize = 100;
