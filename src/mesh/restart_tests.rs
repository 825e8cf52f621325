//! What becomes of messages that an earlier run of this agent kept, or knew of and its disk does not,
//! as seen from outside.

use std::time::Duration;

use bytes::Bytes;

use super::tests::{Bench, config, id, link, session, to, transmitted};
use super::*;

/// An agent whose disk remembers number 4 as the last one, and that it is not acknowledged.
fn back(peer: &str, neighbours: Neighbours) -> Bench {
    let mut bench = Bench::of(Config {
        durable: true,
        neighbours,
        ..config(true)
    });
    let kept = |text: &'static str| RememberedSent {
        greatest: 4,
        kept: vec![(4, Duration::ZERO, Bytes::from_static(text.as_bytes()))],
    };
    let remembered = Remembered {
        peer: id(peer),
        sent: Lanes {
            direct: kept("a 4"),
            all: kept("* 4"),
        },
        seen: None,
    };
    bench.mesh.remember(4, vec![remembered], bench.now);
    bench
}

/// Who has what become of which numbers: acknowledged up to, or given back.
fn fates(outputs: &[Output]) -> Vec<String> {
    let fate = |output: &Output| match output {
        Output::Acked {
            destination, up_to, ..
        } => Some(format!("{destination} up to {up_to} acked")),
        Output::Undelivered {
            destination,
            from,
            to,
            why,
            ..
        } => Some(format!("{destination} {from}-{to} {}", why.as_str())),
        _ => None,
    };
    outputs.iter().filter_map(fate).collect()
}

#[test]
fn what_was_kept_for_one_that_is_no_neighbour_any_more_is_given_back() {
    let mut bench = back("q", Neighbours::Only([id("a")].into()));
    let outputs = bench.outputs();
    assert_eq!(
        fates(&outputs),
        ["q 4-4 no-neighbour", "* 4-4 no-neighbour"]
    );
    assert!(bench.mesh.peers().all(|peer| peer.id != id("q")));
}

#[test]
fn numbers_go_on_after_those_that_an_earlier_run_used_and_the_disk_forgot() {
    let mut bench = back("a", Neighbours::All);
    // While it is away: numbers under which it has others.
    for destination in ["a", "*"] {
        assert_eq!(bench.sends(destination).sequence_num, 4 + 64 + 1);
    }
    // Being signed while the peer comes back.
    let late = bench.takes("a").unwrap();
    bench.offer("a", 5, 1).unwrap();
    let next = Lanes {
        direct: 101,
        all: 81,
    };
    let outputs = bench.greet("a", 5, link(1), next);
    let expected = [
        "a up to 4 acked",
        "a 69-69 superseded",
        "* up to 4 acked",
        "* 69-69 superseded",
    ];
    assert_eq!(fates(&outputs), expected);
    assert_eq!(transmitted(&outputs, 1), [""; 0]);

    let bytes = Bytes::from_static(b"late");
    bench.mesh.sent(&to("a"), &late, &bytes, bench.now);
    let outputs = bench.outputs();
    assert_eq!(fates(&outputs), ["a 70-70 superseded"]);
    assert_eq!(transmitted(&outputs, 1), [""; 0]);
    bench.sends("a");
    bench.sends("*");
    assert_eq!(transmitted(&bench.outputs(), 1), ["a 101", "* 81"]);
    let peer = bench.mesh.peers().next().unwrap();
    assert_eq!(peer.unacked, 2, "only these");
}

#[test]
fn an_acknowledgement_of_what_this_run_never_sent_says_so_too() {
    let mut bench = back("a", Neighbours::All);
    bench.offer("a", 5, 1).unwrap();
    bench.greet("a", 5, link(1), Lanes { direct: 5, all: 5 });
    bench.sends("a");
    assert_eq!(transmitted(&bench.outputs(), 1), ["a 69"]);
    let now = bench.now;
    bench.mesh.ack(link(1), session(1), &to("a"), 100, now);
    assert_eq!(fates(&bench.outputs()), ["a 69-69 superseded"]);
    bench.sends("a");
    assert_eq!(transmitted(&bench.outputs(), 1), ["a 101"]);
    bench.mesh.ack(link(1), session(1), &to("a"), 101, now);
    assert_eq!(fates(&bench.outputs()), ["a up to 101 acked"]);
}

#[test]
fn a_peer_cannot_use_up_numbers_nor_speak_of_a_run_that_had_no_disk() {
    let began = 4 + 64;
    let mut bench = back("a", Neighbours::All);
    bench.offer("a", 5, 1).unwrap();
    let far = began + (1 << 20);
    let next = Lanes {
        direct: far + 1,
        all: far + 1,
    };
    bench.greet("a", 5, link(1), next);
    for destination in ["a", "*"] {
        assert_eq!(bench.sends(destination).sequence_num, began + 1);
    }
    let mut bench = Bench::new(true);
    bench.up(5, 1);
    bench
        .mesh
        .ack(link(1), session(1), &to("a"), 100, bench.now);
    assert_eq!(bench.sends("a").sequence_num, 1);
}
