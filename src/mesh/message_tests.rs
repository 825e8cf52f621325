//! The rules about messages and goodbyes, one by one, as seen from outside.

use std::time::Duration;

use super::tests::{Bench, FIRST, SECOND, closed, id, link, session, to, transmitted, wall};
use super::*;
use crate::message::{Reason, SdpReason};

// Messages out.

#[test]
fn numbers_count_per_destination_and_only_for_those_who_are_up() {
    let mut bench = Bench::new(true);
    let nobody = SendError::NotConnected { peer: id("a") };
    assert_eq!(bench.takes("a"), Err(nobody));
    assert_eq!(bench.takes("*"), Err(SendError::NoPeers));
    assert_eq!(bench.takes("m"), Err(SendError::ToMyself));
    bench.up(5, 1);
    for (destination, number) in [("a", 1), ("a", 2), ("*", 1), ("a", 3), ("*", 2)] {
        let assigned = bench.sends(destination);
        assert_eq!(assigned.sequence_num, number, "{destination}");
        assert_eq!(assigned.to, [id("a")]);
    }
    let views: Vec<_> = bench.mesh.peers().collect();
    assert_eq!(views[0].unacked, 5);
}

#[test]
fn acks_and_refusals_count_only_for_what_i_sent_in_this_session() {
    let mut bench = Bench::new(true);
    bench.up(5, 1);
    let now = bench.now;
    for _ in 0..3 {
        bench.sends("a");
    }
    bench.outputs();
    for (run, destination, up_to, news) in [
        (2, "a", 1, false),
        (1, "b", 1, false),
        (1, "*", 1, false),
        (1, "a", 4, false),
        (1, "a", 2, true),
        (1, "a", 1, false),
    ] {
        bench
            .mesh
            .ack(link(1), session(run), &to(destination), up_to, now);
        let told = !bench.outputs().is_empty();
        assert_eq!(told, news, "ack {run} {destination} {up_to}");
    }
    for (number, news) in [(2, false), (3, true), (4, false)] {
        let reason = Reason::BadSignature;
        bench
            .mesh
            .refused(link(1), session(1), &to("a"), number, reason, now);
        assert_eq!(!bench.outputs().is_empty(), news, "refused {number}");
    }
}

#[test]
fn a_new_link_carries_again_what_the_peer_has_not_seen() {
    let mut bench = Bench::new(true);
    bench.up(5, 1);
    for destination in ["a", "a", "*", "a"] {
        bench.sends(destination);
        bench.now += Duration::from_millis(1);
    }
    bench.mesh.link_closed(link(1), bench.now);
    bench.outputs();
    bench.sends("a");
    bench.now += Duration::from_millis(1);
    bench.sends("*");
    assert_eq!(bench.outputs(), [], "it is away");
    bench.offer("a", 5, 2).unwrap();
    let outputs = bench.greet("a", 5, link(2), Lanes { direct: 3, all: 1 });
    let acked = Output::Acked {
        peer: id("a"),
        destination: to("a"),
        up_to: 2,
    };
    assert!(outputs.contains(&acked), "{outputs:?}");
    assert_eq!(transmitted(&outputs, 2), ["* 1", "a 3", "a 4", "* 2"]);
    assert_eq!(bench.sends("a").sequence_num, 5, "no number is used twice");
    assert_eq!(transmitted(&bench.outputs(), 2), ["a 5"]);
}

#[test]
fn a_peer_that_started_anew_gets_what_its_last_run_has_not_acknowledged() {
    let mut bench = Bench::new(true);
    bench.up(5, 1);
    for _ in 0..3 {
        bench.sends("a");
    }
    bench.mesh.ack(link(1), session(1), &to("a"), 1, bench.now);
    bench.outputs();
    bench.offer("a", 6, 2).unwrap();
    let outputs = bench.greet("a", 6, link(2), FIRST);
    assert_eq!(transmitted(&outputs, 2), ["a 2", "a 3"]);
}

#[test]
fn what_a_peer_refused_is_not_sent_again() {
    let mut bench = Bench::new(true);
    bench.up(5, 1);
    bench.sends("a");
    bench.sends("a");
    let (now, reason) = (bench.now, Reason::Stale);
    let mesh = &mut bench.mesh;
    mesh.refused(link(1), session(1), &to("a"), 1, reason, now);
    mesh.link_closed(link(1), now);
    bench.outputs();
    bench.offer("a", 5, 2).unwrap();
    let outputs = bench.greet("a", 5, link(2), FIRST);
    assert_eq!(transmitted(&outputs, 2), ["a 2"]);
}

// Messages in.

#[test]
fn a_number_that_was_not_sent_is_given_out_again() {
    let mut bench = Bench::new(true);
    bench.up(5, 1);
    assert_eq!(bench.takes("a").unwrap().sequence_num, 1);
    assert_eq!(bench.takes("*").unwrap().sequence_num, 1);
    // Refused to the caller: nobody is to wait for it, nor is a peer told to.
    assert!(bench.mesh.peers().all(|peer| peer.unacked == 0));
    assert_eq!(bench.sends("a").sequence_num, 1);
    assert_eq!(bench.sends("a").sequence_num, 2);
    let farewell = bench.mesh.leave(bench.now);
    let last = Lanes {
        direct: Some(2),
        all: None,
    };
    assert_eq!(farewell[0].last, last);
}

#[test]
fn of_a_session_that_was_heard_the_number_decides_and_not_the_age() {
    let mut bench = Bench::new(true);
    bench.up(5, 1);
    let (a, me) = (id("a"), to("m"));
    let header = |run, seconds| Header {
        source: &a,
        session: session(run),
        destination: &me,
        sequence_num: 10,
        timestamp: wall(seconds),
    };
    assert_eq!(bench.accept(1, &header(5, 0)), Ok(()));
    bench.up(6, 2);
    assert_eq!(bench.accept(2, &header(5, -301)), Err(Reason::Replayed));
    assert_eq!(bench.accept(2, &header(4, -301)), Err(Reason::Stale));
}

#[test]
fn a_message_is_refused_for_the_first_reason_that_applies() {
    // Link 1 is of `a`, session 5; the last number accepted of it is 10.
    let old = -301;
    let far = 11 + (1 << 20);
    let table = [
        ("a", 5, "m", 11, 0, Ok(())),
        ("a", 5, "*", 1 << 40, 0, Ok(())),
        ("a", 5, "m", 11, old, Ok(())),
        ("a", 5, "z", 11, 0, Err(Reason::WrongRecipient)),
        ("b", 5, "z", 11, 0, Err(Reason::WrongRecipient)),
        ("b", 5, "m", 11, 0, Err(Reason::WrongPeer)),
        ("b", 5, "m", 11, old, Err(Reason::WrongPeer)),
        ("m", 1, "m", 11, 0, Err(Reason::WrongPeer)),
        ("a", 4, "m", 11, old, Err(Reason::Stale)),
        ("a", 6, "m", 11, 301, Err(Reason::Stale)),
        ("a", 4, "m", 11, 300, Err(Reason::Replayed)),
        ("a", 6, "m", 11, 300, Ok(())),
        ("a", 5, "m", 10, 0, Err(Reason::Replayed)),
        ("a", 5, "m", 9, 0, Err(Reason::Replayed)),
        ("a", 5, "m", far, 0, Err(Reason::OutOfWindow)),
        ("a", 5, "m", far - 1, 0, Ok(())),
    ];
    for (source, run, destination, sequence_num, age, expected) in table {
        let mut bench = Bench::new(true);
        bench.up(5, 1);
        let (a, me) = (id("a"), to("m"));
        let before = Header {
            source: &a,
            session: session(5),
            destination: &me,
            sequence_num: 10,
            timestamp: wall(0),
        };
        assert_eq!(bench.accept(1, &before), Ok(()));
        let header = Header {
            source: &id(source),
            session: session(run),
            destination: &to(destination),
            sequence_num,
            timestamp: wall(age),
        };
        let verdict = bench.accept(1, &header);
        assert_eq!(verdict, expected, "{header:?}");
        let elsewhere = bench.accept(2, &before);
        assert_eq!(elsewhere, Err(Reason::WrongPeer), "over no link");
    }
}

#[test]
fn the_guard_outlives_the_link_but_not_the_session() {
    let mut bench = Bench::new(true);
    bench.up(5, 1);
    let (a, me) = (id("a"), to("m"));
    let header = |run, n| Header {
        source: &a,
        session: session(run),
        destination: &me,
        sequence_num: n,
        timestamp: wall(0),
    };
    assert_eq!(bench.accept(1, &header(5, 7)), Ok(()));
    bench.mesh.link_closed(link(1), bench.now);
    bench.offer("a", 5, 2).unwrap();
    let outputs = bench.greet("a", 5, link(2), FIRST);
    let hello = Output::SendHello {
        link: link(2),
        next: Lanes { direct: 8, all: 1 },
    };
    assert!(outputs.contains(&hello), "{outputs:?}");
    assert_eq!(bench.accept(2, &header(5, 7)), Err(Reason::Replayed));
    bench.up(6, 3);
    assert_eq!(bench.accept(3, &header(6, 1)), Ok(()));
}

#[test]
fn who_comes_back_after_many_numbers_that_were_not_for_it_takes_the_next() {
    let mut bench = Bench::new(true);
    bench.up(5, 1);
    let source = id("a");
    let header = |destination, sequence_num| Header {
        source: &source,
        session: session(5),
        destination,
        sequence_num,
        timestamp: wall(0),
    };
    let far = 8 + (1 << 20);
    let lanes = [to("m"), to("*")];
    for destination in &lanes {
        assert_eq!(bench.accept(1, &header(destination, 7)), Ok(()));
        let refused = bench.accept(1, &header(destination, far));
        assert_eq!(refused, Err(Reason::OutOfWindow));
    }
    bench.mesh.link_closed(link(1), bench.now);
    bench.up(5, 2);
    for destination in &lanes {
        let again = bench.accept(2, &header(destination, 7));
        assert_eq!(again, Err(Reason::Replayed));
        assert_eq!(bench.accept(2, &header(destination, far)), Ok(()));
        let again = bench.accept(2, &header(destination, far));
        assert_eq!(again, Err(Reason::Replayed));
    }
}

#[test]
fn a_message_of_a_newer_session_ends_the_link_of_the_older() {
    let mut bench = Bench::new(true);
    bench.up(5, 1);
    let header = Header {
        source: &id("a"),
        session: session(6),
        destination: &to("m"),
        sequence_num: 1,
        timestamp: wall(0),
    };
    assert_eq!(bench.accept(1, &header), Ok(()));
    let outputs = bench.outputs();
    assert_eq!(outputs[0], closed(link(1), CloseReason::NewerSession));
}

#[test]
fn acknowledgements_go_out_after_ten_milliseconds_or_thirty_two_messages() {
    let mut bench = Bench::new(true);
    bench.up(5, 1);
    bench.answers("a", Duration::ZERO);
    let (a, me) = (id("a"), to("m"));
    let header = |n| Header {
        source: &a,
        session: session(5),
        destination: &me,
        sequence_num: n,
        timestamp: wall(0),
    };
    let ack = |up_to| Output::SendAck {
        link: link(1),
        session: session(5),
        destination: to("m"),
        up_to,
    };
    bench.accept(1, &header(1)).unwrap();
    assert_eq!(bench.wait(Duration::from_millis(9)), []);
    assert_eq!(bench.wait(Duration::from_millis(1)), [ack(1)]);
    for n in 2..34 {
        assert_eq!(bench.outputs(), []);
        bench.accept(1, &header(n)).unwrap();
    }
    assert_eq!(bench.outputs(), [ack(33)]);
    assert_eq!(bench.wait(SECOND), [], "nothing is owed");
    bench.accept(1, &header(33)).unwrap_err();
    assert_eq!(bench.wait(SECOND), [ack(33)], "its sender missed the first");
}

#[test]
fn nothing_is_acknowledged_on_an_unreliable_channel() {
    let mut bench = Bench::new(false);
    bench.up(5, 1);
    bench.wait(Duration::ZERO);
    for (n, verdict) in [(5, Ok(())), (3, Ok(())), (3, Err(Reason::Replayed))] {
        let header = Header {
            source: &id("a"),
            session: session(5),
            destination: &to("*"),
            sequence_num: n,
            timestamp: wall(0),
        };
        assert_eq!(bench.accept(1, &header), verdict, "{n}");
    }
    assert_eq!(bench.wait(SECOND), []);
    bench.sends("a");
    assert_eq!(bench.mesh.peers().next().unwrap().unacked, 0);
}

#[test]
fn a_spoiled_message_is_told_once_and_never_moves_the_guard() {
    let mut bench = Bench::new(true);
    bench.up(5, 1);
    bench.wait(Duration::ZERO);
    let (a, b, me, other) = (id("a"), id("b"), to("m"), to("b"));
    let claim = Claimed {
        source: Some(&a),
        session: Some(session(5)),
        destination: Some(&me),
        sequence_num: Some(7),
    };
    let now = bench.now;
    for foreign in [
        Claimed {
            source: Some(&b),
            ..claim
        },
        Claimed {
            source: None,
            ..claim
        },
        Claimed {
            session: Some(session(4)),
            ..claim
        },
        Claimed {
            destination: Some(&other),
            ..claim
        },
    ] {
        let notice = bench.mesh.refused_unverified(link(1), &foreign, now);
        assert_eq!(notice, None, "{foreign:?}");
    }
    let notice = bench.mesh.refused_unverified(link(1), &claim, now);
    let expected = RefusedNotice {
        link: link(1),
        session: session(5),
        destination: me.clone(),
        sequence_num: 7,
    };
    assert_eq!(notice, Some(expected));
    let again = bench.mesh.refused_unverified(link(1), &claim, now);
    assert_eq!(again, None, "a duplicate");
    let absurd = Claimed {
        sequence_num: Some(u64::MAX),
        ..claim
    };
    let notice = bench.mesh.refused_unverified(link(1), &absurd, now);
    assert_eq!(notice, None, "it would acknowledge all that is to come");
    let outputs = bench.wait(SECOND);
    assert!(matches!(outputs[..], [Output::SendAck { up_to: 7, .. }]));
    let header = Header {
        source: &a,
        session: session(5),
        destination: &me,
        sequence_num: 3,
        timestamp: wall(0),
    };
    assert_eq!(bench.accept(1, &header), Ok(()));
}

#[test]
fn a_verified_message_that_is_refused_is_told_once() {
    for (destination, number, reason) in [
        ("z", 1, Reason::WrongRecipient),
        ("m", 2 + (1 << 20), Reason::OutOfWindow),
    ] {
        let mut bench = Bench::new(true);
        bench.up(5, 1);
        let source = id("a");
        let mut header = Header {
            source: &source,
            session: session(5),
            destination: &to("m"),
            sequence_num: 1,
            timestamp: wall(0),
        };
        bench.accept(1, &header).unwrap();
        let destination = to(destination);
        header.destination = &destination;
        header.sequence_num = number;
        for told in [true, false] {
            assert_eq!(bench.accept(1, &header), Err(reason));
            let outputs = bench.outputs();
            let refused =
                |o: &Output| matches!(o, Output::SendRefused { reason: r, .. } if *r == reason);
            assert_eq!(outputs.iter().any(refused), told, "{outputs:?}");
        }
    }
}

// Goodbyes.

#[test]
fn after_a_goodbye_the_link_lives_until_the_last_message_or_two_seconds() {
    let last = Lanes {
        direct: Some(2),
        all: None,
    };
    let parted = closed(link(1), CloseReason::Goodbye);
    let mut bench = Bench::new(true);
    bench.seen("a", 5);
    bench.up(5, 1);
    bench.mesh.goodbye(link(1), last, bench.now);
    assert_eq!(bench.outputs(), []);
    assert!(bench.takes("a").is_err());
    let (source, mine) = (id("a"), to("m"));
    let header = |n| Header {
        source: &source,
        session: session(5),
        destination: &mine,
        sequence_num: n,
        timestamp: wall(0),
    };
    assert_eq!(bench.accept(1, &header(1)), Ok(()));
    assert_eq!(bench.outputs(), []);
    assert_eq!(bench.accept(1, &header(2)), Ok(()));
    let outputs = bench.outputs();
    assert!(matches!(outputs[0], Output::SendAck { up_to: 2, .. }));
    assert_eq!(outputs[1], parted);
    assert_eq!(bench.wait(100 * SECOND), [], "nobody asks it to come back");
    assert_eq!(bench.seen("a", 5), []);
    assert_eq!(bench.mesh.expected_links(), 0);

    let mut bench = Bench::new(true);
    bench.up(5, 1);
    bench.mesh.goodbye(link(1), last, bench.now);
    assert!(bench.wait(2 * SECOND).contains(&parted));
}

#[test]
fn who_leaves_says_how_far_it_got_and_is_out_in_two_seconds() {
    let mut bench = Bench::new(true);
    bench.up(5, 1);
    bench.seen("z", 5);
    bench.sends("a");
    bench.sends("a");
    let now = bench.now;
    let farewell = Farewell {
        peer: id("a"),
        link: link(1),
        last: Lanes {
            direct: Some(2),
            all: None,
        },
    };
    assert_eq!(bench.mesh.leave(now), [farewell]);
    let sent = bench.takes("a");
    assert_eq!(sent, Err(SendError::Leaving));
    assert_eq!(bench.offer("b", 5, 3), Err(SdpReason::WrongSession));
    let outputs = bench.wait(2 * SECOND);
    assert!(outputs.contains(&closed(link(1), CloseReason::Leaving)));
    assert_eq!(bench.mesh.open_links(), 0);
    assert_eq!(bench.wait(100 * SECOND), [], "and stays out");
}
