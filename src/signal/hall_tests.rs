//! What the hall keeps for those who do not read, and whom it drops over it.

use std::net::IpAddr;
use std::time::Instant;

use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::hall::Hall;
use super::queue::Outlet;
use super::room::{Arrival, ConnId, Heard, Input};
use super::test_world::*;
use super::*;

/// One who registered in the swarm.
struct Guest {
    id: String,
    conn: ConnId,
    outlet: Outlet,
}

impl Guest {
    fn join(hall: &Hall, address: &str, seed: u8) -> Self {
        let id = format!("a{seed}");
        let arrival = Arrival {
            swarm: swarm("five"),
            nonce: nonce(0),
            network: address.parse::<IpAddr>().unwrap().into(),
            since: Instant::now(),
        };
        let (conn, outlet) = hall.enter(arrival).unwrap();
        let frame = ClientFrame::Register(registration(0, &id, seed, 1));
        let text = frame.to_text().into();
        assert!(say(hall, conn, frame, text));
        Self { id, conn, outlet }
    }

    /// Whether there was somebody to send it to is not asked.
    fn send(&self, hall: &Hall, to: &Self, text: &Utf8Bytes) {
        say(
            hall,
            self.conn,
            please_offer(&self.id, &to.id),
            text.clone(),
        );
    }

    fn is_there(&self, hall: &Hall) -> bool {
        hall.handle(self.conn, Input::Tick)
    }

    async fn read_all(&self) {
        while !self.outlet.is_empty() {
            let taken = self.outlet.next().await.unwrap();
            self.outlet.written(taken.weight());
        }
    }
}

fn say(hall: &Hall, conn: ConnId, frame: ClientFrame, text: Utf8Bytes) -> bool {
    let proof = Ok(());
    hall.handle(conn, Input::Frame(Box::new(Heard { text, frame, proof })))
}

fn hall(limits: Limits) -> Hall {
    Hall::open(rules(Admission::Open, limits), None, None)
}

#[tokio::test]
async fn forty_that_never_read_cost_no_more_than_the_bound_and_who_reads_stays() {
    let limits = Limits::default();
    let hall = hall(limits);
    let text = Utf8Bytes::from("x".repeat(MAX_FRAME));
    let sender = Guest::join(&hall, "10.0.0.1", 100);
    let reader = Guest::join(&hall, "10.0.0.1", 101);
    let deaf: Vec<_> = (0..40).map(|n| Guest::join(&hall, "10.0.0.1", n)).collect();
    // Almost all that may wait for one, so that none goes for its own sake.
    let each = limits.queued_bytes / MAX_FRAME - 1;
    assert!(deaf.len() * each * MAX_FRAME > limits.queued_bytes_in_all);
    let mut most = 0;
    for _ in 0..each {
        for to in deaf.iter().chain([&reader]) {
            sender.send(&hall, to, &text);
            most = most.max(hall.census().queued_bytes);
            sender.read_all().await;
            reader.read_all().await;
        }
    }
    assert!(most <= limits.queued_bytes_in_all, "{most} bytes waited");
    assert!(reader.is_there(&hall) && sender.is_there(&hall));
    let gone = deaf.iter().filter(|guest| !guest.is_there(&hall)).count();
    assert!(gone > 0, "the bound was reached");
    assert!(gone < 10, "{gone} were dropped, and fewer would have done");
    assert_eq!(hall.traffic().unwrap().dropped, gone as u64);
    // It is all given back.
    drop(deaf);
    reader.read_all().await;
    sender.read_all().await;
    assert_eq!(hall.census().queued_bytes, 0);
}

#[tokio::test]
async fn many_small_queues_of_one_address_go_before_the_largest_of_another() {
    let mebibyte = 1024 * 1024;
    let hall = hall(Limits {
        queued_bytes_in_all: 8 * mebibyte,
        ..Limits::default()
    });
    let text = Utf8Bytes::from("x".repeat(mebibyte / 4));
    let sender = Guest::join(&hall, "10.0.0.1", 100);
    let slow = Guest::join(&hall, "10.0.0.2", 101);
    let deaf: Vec<_> = (0..40).map(|n| Guest::join(&hall, "10.0.0.1", n)).collect();
    for _ in 0..8 {
        sender.send(&hall, &slow, &text);
    }
    for to in &deaf {
        sender.send(&hall, to, &text);
        sender.read_all().await;
    }
    assert!(hall.traffic().unwrap().dropped > 0);
    assert!(slow.is_there(&hall), "it is not the one who keeps the most");
}
