//! The rules about what is kept for peers that are away, or slow, as seen from outside.

use std::time::Duration;

use bytes::Bytes;

use super::tests::{
    Bench, FIRST, SECOND, ask, closed, config, id, link, session, to, transmitted, wall,
};
use super::*;
use crate::message::Reason;

/// Keeps three messages for ten minutes.
fn small() -> Bench {
    bounded(3)
}

fn bounded(messages: usize) -> Bench {
    Bench::of(Config {
        outbox: OutboxLimits {
            messages,
            bytes: 1000,
            keep: 600 * SECOND,
        },
        ..config(true)
    })
}

fn full() -> Result<Assigned, SendError> {
    Err(SendError::Full { peer: id("a") })
}

fn given_back(outputs: &[Output]) -> Vec<(u64, GivenBack)> {
    let given = outputs.iter().filter_map(|output| match output {
        Output::Undelivered { from, why, .. } => Some((*from, *why)),
        _ => None,
    });
    given.collect()
}

fn room(outputs: &[Output]) -> bool {
    outputs.contains(&Output::Room { peer: id("a") })
}

#[test]
fn who_sends_to_a_slow_peer_waits_until_it_acknowledges() {
    let mut bench = small();
    bench.up(5, 1);
    for _ in 0..3 {
        bench.sends("a");
    }
    assert_eq!(bench.takes("a"), full());
    assert_eq!(bench.takes("*"), full());
    bench.outputs();
    bench.mesh.ack(link(1), session(1), &to("a"), 1, bench.now);
    assert!(room(&bench.outputs()));
    bench.sends("a");
    assert_eq!(bench.takes("a"), full());
}

#[test]
fn who_waits_is_told_of_a_quarter_and_not_of_every_message() {
    let mut bench = bounded(8);
    bench.up(5, 1);
    for _ in 0..8 {
        bench.sends("a");
    }
    bench.outputs();
    bench.mesh.ack(link(1), session(1), &to("a"), 1, bench.now);
    assert!(!room(&bench.outputs()));
    assert_eq!(bench.takes("a"), full(), "nobody passes those who wait");
    bench.mesh.ack(link(1), session(1), &to("a"), 2, bench.now);
    assert!(room(&bench.outputs()));
    bench.sends("a");
    bench.sends("a");
    assert_eq!(bench.takes("a"), full());
}

#[test]
fn bytes_are_bounded_too() {
    let mut bench = small();
    bench.up(5, 1);
    let assigned = bench.takes("a").unwrap();
    let bytes = Bytes::from(vec![b'x'; 1000]);
    bench.mesh.sent(&to("a"), &assigned, &bytes, bench.now);
    assert_eq!(bench.takes("a"), full());
}

#[test]
fn for_a_peer_that_stays_away_the_oldest_are_given_back() {
    let mut bench = small();
    bench.up(5, 1);
    bench.mesh.link_closed(link(1), bench.now);
    bench.outputs();
    for destination in ["a", "*", "a"] {
        bench.sends(destination);
        bench.now += Duration::from_millis(1);
    }
    assert_eq!(bench.takes("a"), full(), "it may be back at once");
    assert!(!room(&bench.wait(59 * SECOND)));
    assert_eq!(bench.takes("a"), full());
    assert!(room(&bench.wait(2 * SECOND)), "nobody waits any longer");
    bench.sends("a");
    assert_eq!(given_back(&bench.outputs()), [(1, GivenBack::Full)]);
    bench.sends("*");
    assert_eq!(given_back(&bench.outputs()), [(1, GivenBack::Full)]);
    bench.offer("a", 5, 2).unwrap();
    let outputs = bench.greet("a", 5, link(2), FIRST);
    assert_eq!(transmitted(&outputs, 2), ["a 2", "a 3", "* 2"]);
}

#[test]
fn what_is_too_old_is_given_back() {
    let mut bench = small();
    bench.up(5, 1);
    bench.mesh.link_closed(link(1), bench.now);
    bench.outputs();
    bench.sends("a");
    let start = bench.now;
    bench.wait(300 * SECOND);
    bench.sends("a");
    let early = bench.wait(299 * SECOND);
    assert_eq!(given_back(&early), []);
    let outputs = bench.wait(2 * SECOND);
    assert_eq!(given_back(&outputs), [(1, GivenBack::Expired)]);
    assert!(bench.now - start < 602 * SECOND);
    bench.wait(400 * SECOND);
    assert!(bench.mesh.peers().all(|peer| peer.unacked == 0));
}

#[test]
fn an_agent_that_leaves_gives_back_what_was_not_acknowledged() {
    let mut bench = small();
    bench.up(5, 1);
    bench.sends("a");
    let farewells = bench.mesh.leave(bench.now);
    assert_eq!(farewells[0].last.direct, Some(1), "it may still come");
    assert_eq!(given_back(&bench.outputs()), [(1, GivenBack::Left)]);
}

#[test]
fn one_that_never_fits_is_given_back() {
    let mut bench = small();
    bench.up(5, 1);
    bench.sends("a");
    bench.mesh.give_up(&id("a"), &to("a"), 1);
    bench.mesh.give_up(&id("a"), &to("a"), 1);
    let outputs = bench.outputs();
    assert_eq!(given_back(&outputs), [(1, GivenBack::TooLarge)]);
}

#[test]
fn a_message_that_goes_out_says_which_of_the_two_of_its_number_it_is() {
    let mut bench = small();
    bench.up(5, 1);
    bench.sends("a");
    bench.sends("*");
    let outputs = bench.outputs();
    let out = outputs.iter().filter_map(|output| match output {
        Output::Transmit {
            destination,
            sequence_num,
            ..
        } => Some((destination.clone(), *sequence_num)),
        _ => None,
    });
    assert_eq!(out.collect::<Vec<_>>(), [(to("a"), 1), (to("*"), 1)]);
    // One of them does not fit: the other one is still to be acknowledged.
    bench.mesh.give_up(&id("a"), &to("a"), 1);
    let views: Vec<_> = bench.mesh.peers().collect();
    assert_eq!(views[0].unacked, 1);
}

#[test]
fn nothing_is_kept_for_one_that_left_or_was_never_here() {
    let mut bench = small();
    let nobody = Err(SendError::NotConnected { peer: id("a") });
    assert_eq!(bench.takes("a"), nobody);
    bench.up(5, 1);
    bench.mesh.goodbye(link(1), Last::default(), bench.now);
    bench.wait(3 * SECOND);
    assert_eq!(bench.takes("a"), nobody);
    assert_eq!(bench.takes("*"), Err(SendError::NoPeers));
}

#[test]
fn on_an_unreliable_channel_nothing_is_kept() {
    let mut bench = Bench::new(false);
    bench.up(5, 1);
    bench.sends("a");
    bench.mesh.link_closed(link(1), bench.now);
    bench.outputs();
    let nobody = Err(SendError::NotConnected { peer: id("a") });
    assert_eq!(bench.takes("a"), nobody);
    bench.offer("a", 5, 2).unwrap();
    let outputs = bench.greet("a", 5, link(2), FIRST);
    assert!(transmitted(&outputs, 2).is_empty());
}

// Over a restart.

#[test]
fn an_agent_that_comes_back_sends_what_it_kept_and_takes_nothing_twice() {
    let mut bench = Bench::of(Config {
        durable: true,
        ..config(true)
    });
    let kept = |number| (number, Duration::ZERO, Bytes::from(format!("a {number}")));
    let remembered = Remembered {
        peer: id("a"),
        sent: Lanes {
            direct: RememberedSent {
                greatest: 4,
                kept: vec![kept(2), kept(4)],
            },
            all: RememberedSent::default(),
        },
        seen: Some((
            session(5),
            Lanes {
                direct: RememberedSeen {
                    up_to: Some(7),
                    ..RememberedSeen::default()
                },
                all: RememberedSeen::default(),
            },
        )),
    };
    bench.mesh.remember(9, vec![remembered], bench.now);
    assert!(bench.sends("a").sequence_num > 4);
    assert!(bench.sends("*").sequence_num > 9);

    assert_eq!(
        bench.offer("a", 4, 1),
        Err(crate::message::SdpReason::OlderSession)
    );
    bench.offer("a", 5, 2).unwrap();
    let outputs = bench.greet("a", 5, link(2), Lanes { direct: 3, all: 1 });
    let hello = Output::SendHello {
        link: link(2),
        next: Lanes { direct: 8, all: 1 },
    };
    assert!(outputs.contains(&hello), "{outputs:?}");
    assert_eq!(transmitted(&outputs, 2)[0], "a 4");

    let (a, me) = (id("a"), to("m"));
    let header = |sequence_num| Header {
        source: &a,
        session: session(5),
        destination: &me,
        sequence_num,
        timestamp: wall(0),
    };
    assert_eq!(bench.accept(2, &header(7)), Err(Reason::Replayed));
    assert_eq!(bench.accept(2, &header(8)), Ok(()));
}

#[test]
fn a_durable_mesh_acknowledges_only_what_is_in_safe_hands() {
    let mut bench = Bench::of(Config {
        durable: true,
        ..config(true)
    });
    bench.up(5, 1);
    let (a, me) = (id("a"), to("m"));
    came(&mut bench, &[(1, false), (2, false)]);
    assert!(acknowledged(&bench.wait(SECOND)).is_empty());
    let now = bench.now;
    let taken = bench.mesh.taken(&a, session(5), &me, 1, now);
    assert_eq!(taken, Some(1));
    assert_eq!(acknowledged(&bench.wait(SECOND)), [1]);
    // A lost link before the second is taken: it is asked for again, and is a duplicate then.
    bench.mesh.link_closed(link(1), bench.now);
    bench.outputs();
    bench.offer("a", 5, 2).unwrap();
    let outputs = bench.greet("a", 5, link(2), FIRST);
    let hello = Output::SendHello {
        link: link(2),
        next: Lanes { direct: 2, all: 1 },
    };
    assert!(outputs.contains(&hello), "{outputs:?}");
}

// What is under way.

#[test]
fn no_more_is_under_way_than_may_be_and_what_waits_follows_in_order() {
    let most = MAX_UNDER_WAY as u64;
    let mut bench = Bench::new(true);
    bench.up(5, 1);
    let mut all = Vec::new();
    for n in 0..most + 50 {
        let destination = if n % 2 == 0 { "a" } else { "*" };
        bench.sends(destination);
        bench.now += Duration::from_micros(1);
        all.push(format!("{destination} {}", n / 2 + 1));
    }
    let mut sent = transmitted(&bench.outputs(), 1);
    assert_eq!(sent, all[..MAX_UNDER_WAY]);
    // The other lane is not acknowledged, and has its part of what may be under way.
    bench.mesh.ack(link(1), session(1), &to("a"), 10, bench.now);
    sent.extend(transmitted(&bench.outputs(), 1));
    assert_eq!(sent, all[..MAX_UNDER_WAY + 10]);
    let reason = Reason::OutOfWindow;
    let now = bench.now;
    bench
        .mesh
        .refused(link(1), session(1), &to("*"), 1, reason, now);
    sent.extend(transmitted(&bench.outputs(), 1));
    assert_eq!(sent, all[..MAX_UNDER_WAY + 11]);
    // Over the next link goes what is open, and again no more than that.
    bench.mesh.link_closed(link(1), bench.now);
    bench.outputs();
    bench.offer("a", 5, 2).unwrap();
    let next = Lanes { direct: 11, all: 2 };
    let again = transmitted(&bench.greet("a", 5, link(2), next), 2);
    let is_open = |message: &&String| match message.split_once(' ') {
        Some(("a", n)) => n.parse::<u64>().unwrap() > 10,
        _ => *message != "* 1",
    };
    let open = all.iter().filter(is_open).take(MAX_UNDER_WAY);
    assert!(again.iter().eq(open));
    assert_eq!(again.len(), MAX_UNDER_WAY);
}

#[test]
fn what_is_too_old_and_under_way_keeps_its_place_there() {
    let mut bench = Bench::of(Config {
        outbox: OutboxLimits {
            keep: 60 * SECOND,
            ..OutboxLimits::default()
        },
        ..config(true)
    });
    bench.up(5, 1);
    for _ in 0..MAX_UNDER_WAY + 50 {
        bench.sends("a");
    }
    let sent = transmitted(&bench.outputs(), 1).len();
    assert_eq!(sent, MAX_UNDER_WAY);
    let expired = given_back(&bench.answers("a", 61 * SECOND));
    assert_eq!(expired.len(), MAX_UNDER_WAY + 50);
    let next = bench.sends("a").sequence_num;
    assert_eq!(
        transmitted(&bench.outputs(), 1),
        [""; 0],
        "all may yet come"
    );
    bench.mesh.ack(link(1), session(1), &to("a"), 1, bench.now);
    let sent = transmitted(&bench.outputs(), 1);
    assert_eq!(sent, [format!("a {next}")]);
}

#[test]
fn what_would_be_refused_over_this_link_goes_over_another_one() {
    let mut bench = Bench::new(true);
    bench.seen("a", 5);
    bench.up(5, 1);
    bench.sends("*");
    let far = Assigned {
        sequence_num: 2 + (1 << 20),
        to: vec![id("a")],
    };
    let bytes = Bytes::from("* far");
    bench.mesh.sent(&to("*"), &far, &bytes, bench.now);
    assert_eq!(transmitted(&bench.outputs(), 1), ["* 1"]);
    bench.mesh.ack(link(1), session(1), &to("*"), 1, bench.now);
    let outputs = bench.outputs();
    assert!(outputs.contains(&closed(link(1), CloseReason::Replaced)));
    assert!(bench.wait(SECOND).contains(&ask()), "another is made");
    bench.offer("a", 5, 2).unwrap();
    let outputs = bench.greet("a", 5, link(2), Lanes { direct: 1, all: 2 });
    assert_eq!(transmitted(&outputs, 2), ["* far"]);
}

#[test]
fn what_is_held_until_it_is_taken_is_acknowledged_then_and_others_with_it() {
    let mut bench = Bench::new(true);
    bench.up(5, 1);
    let (a, me) = (id("a"), to("m"));
    came(&mut bench, &[(1, false), (2, true), (3, false)]);
    assert_eq!(acknowledged(&bench.wait(SECOND)), [1]);
    let now = bench.now;
    assert_eq!(bench.mesh.taken(&a, session(5), &me, 2, now), Some(3));
    assert_eq!(acknowledged(&bench.wait(SECOND)), [3]);
}

#[test]
fn who_leaves_without_a_disk_acknowledges_what_its_program_has_still_to_take() {
    for durable in [false, true] {
        let mut bench = Bench::of(Config {
            durable,
            ..config(true)
        });
        bench.up(5, 1);
        came(&mut bench, &[(1, true), (2, true), (3, true)]);
        assert!(acknowledged(&bench.wait(SECOND)).is_empty());
        bench.mesh.leave(bench.now);
        let last: &[u64] = if durable { &[] } else { &[3] };
        assert_eq!(acknowledged(&bench.outputs()), last, "durable: {durable}");
    }
}

/// Messages of `a` come over link 1: their numbers, and whether they are held until they are taken.
fn came(bench: &mut Bench, messages: &[(u64, bool)]) {
    let (a, me) = (id("a"), to("m"));
    for (sequence_num, until_taken) in messages {
        let header = Header {
            source: &a,
            session: session(5),
            destination: &me,
            sequence_num: *sequence_num,
            timestamp: wall(0),
        };
        let now = bench.now;
        let accepted = bench
            .mesh
            .accept(link(1), &header, *until_taken, now, wall(0));
        assert_eq!(accepted, Ok(()));
    }
}

fn acknowledged(outputs: &[Output]) -> Vec<u64> {
    let acks = outputs.iter().filter_map(|output| match output {
        Output::SendAck { up_to, .. } => Some(*up_to),
        _ => None,
    });
    acks.collect()
}
