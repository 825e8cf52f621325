//! Many links at once, as seen from outside.

use super::tests::{Bench, FIRST, SECOND, ask, closed, dialled, id, session};
use super::*;
use crate::identity::{AgentId, LinkId};
use crate::message::SdpReason;

fn dials(outputs: &[Output]) -> Vec<(AgentId, LinkId)> {
    let dial = |output: &Output| match output {
        Output::Dial { peer, link, .. } => Some((peer.clone(), *link)),
        _ => None,
    };
    outputs.iter().filter_map(dial).collect()
}

fn names(dials: &[(AgentId, LinkId)]) -> Vec<&str> {
    dials.iter().map(|(peer, _)| peer.as_str()).collect()
}

/// `m`, which makes two links at once, and has seen `p1` to `p6`; what it has dialled.
fn two_at_once() -> (Bench, Vec<(AgentId, LinkId)>) {
    let mut bench = Bench::making_at_once(2);
    let mut outputs = Vec::new();
    for n in 1..=6 {
        outputs.extend(bench.seen(&format!("p{n}"), 5));
    }
    let dialled = dials(&outputs);
    assert_eq!(names(&dialled), ["p1", "p2"]);
    (bench, dialled)
}

impl Bench {
    fn rises(&mut self, (peer, link): &(AgentId, LinkId)) -> Vec<Output> {
        let answered = self.mesh.answer(peer, session(5), *link, self.now);
        assert_eq!(answered, Ok(()));
        self.greet(peer.as_str(), 5, *link, FIRST)
    }
}

#[test]
fn dials_beyond_the_bound_wait_and_each_link_that_is_up_lets_the_next_one_in() {
    let (mut bench, first) = two_at_once();
    assert_eq!(bench.state("p3"), Some(PeerState::Known));
    let outputs = bench.rises(&first[1]);
    assert_eq!(names(&dials(&outputs)), ["p3"]);
    bench.mesh.link_closed(first[0].1, bench.now);
    assert_eq!(names(&dials(&bench.outputs())), ["p4"]);
}

#[test]
fn the_time_to_make_a_link_runs_from_the_dial_and_who_failed_goes_behind_who_was_not_tried() {
    let (mut bench, first) = two_at_once();
    bench.wait(9 * SECOND);
    assert_eq!(bench.link_of("p3"), None, "waits");
    let mut outputs = bench.wait(SECOND);
    let late = closed(first[0].1, CloseReason::DialTimeout);
    assert!(outputs.contains(&late));
    assert_eq!(names(&dials(&outputs)), ["p3", "p4"]);
    outputs = bench.wait(9 * SECOND);
    assert_eq!(
        dials(&outputs),
        [],
        "p1 and p2 are back in line, with ten seconds for p3 and p4"
    );
    outputs = bench.wait(SECOND);
    assert_eq!(names(&dials(&outputs)), ["p5", "p6"]);
    outputs = bench.wait(10 * SECOND);
    let mut again = names(&dials(&outputs))
        .into_iter()
        .map(str::to_owned)
        .collect::<Vec<_>>();
    again.sort();
    assert_eq!(again, ["p1", "p2"]);
}

#[test]
fn who_leaves_while_it_waits_is_not_dialled_and_who_is_seen_again_keeps_its_place() {
    let (mut bench, first) = two_at_once();
    for peer in ["p3", "p4"] {
        bench.mesh.peer_left(&id(peer), session(5), bench.now);
    }
    assert_eq!(bench.seen("p4", 5), []);
    assert_eq!(bench.seen("p5", 6), [], "a newer session");
    bench.mesh.please_offer(&id("p6"), bench.now);
    assert_eq!(bench.outputs(), []);
    let up = bench.rises(&first[0]);
    assert_eq!(names(&dials(&up)), ["p4"]);
    let up = bench.rises(&first[1]);
    assert_eq!(names(&dials(&up)), ["p5"]);
    let newer = Output::Dial {
        peer: id("p5"),
        session: session(6),
        link: bench.link_of("p5").unwrap(),
    };
    assert!(up.contains(&newer));
}

#[test]
fn an_agent_whose_places_are_all_taken_answers_offers_all_the_same() {
    let (mut bench, _) = two_at_once();
    bench.up(5, 1);
    assert_eq!(bench.state("a"), Some(PeerState::Up));
}

#[test]
fn an_agent_that_may_make_no_link_at_once_makes_one() {
    let mut bench = Bench::making_at_once(0);
    assert!(dialled(&bench.seen("z", 5)).is_some());
    assert_eq!(dialled(&bench.seen("y", 5)), None);
}

#[test]
fn offers_beyond_all_measure_are_refused_and_asked_for_later() {
    let mut bench = Bench::new(true);
    let wide = |n: u16| LinkId::from_bytes((u64::from(n) + 1000).to_be_bytes());
    bench.seen("a", 5);
    for n in 0..512 {
        let from = id(&format!("b{n}"));
        let offered = bench.mesh.offer(&from, session(5), wide(n), bench.now);
        assert_eq!(offered, Ok(()), "{n}");
    }
    assert_eq!(bench.offer("a", 5, 1), Err(SdpReason::Busy));
    let from = id("b7");
    let newer = bench.mesh.offer(&from, session(5), wide(600), bench.now);
    assert_eq!(newer, Ok(()), "it takes the place of the one before");
    assert!(bench.wait(5 * SECOND).contains(&ask()));
    bench.wait(10 * SECOND);
    assert_eq!(bench.offer("a", 5, 1), Ok(()), "the others ran out of time");
}

#[test]
fn peers_beyond_the_bound_take_the_place_of_those_who_left() {
    let mut bench = Bench::new(true);
    for n in 0..5000 {
        let peer = format!("z{n}");
        bench.seen(&peer, 5);
    }
    assert_eq!(bench.mesh.peers().count(), 4096);
    let link = bench.mesh.peers().next().unwrap().link.unwrap();
    bench.mesh.peer_left(&id("z0"), session(5), bench.now);
    bench.mesh.link_closed(link, bench.now);
    bench.seen("zz", 5);
    assert_eq!(bench.state("zz"), Some(PeerState::Known));
    assert_eq!(bench.mesh.peers().count(), 4096);
    assert_eq!(bench.state("z0"), None);
}
