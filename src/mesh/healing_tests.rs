//! Doubts, trouble and healing, as seen from outside.

use super::tests::{Bench, FIRST, SECOND, ask, closed, dialled, id, link, session};
use super::*;
use crate::identity::LinkId;

impl Bench {
    /// `m` with a link to `z`, which it dialled, that has been up for a while.
    fn linked() -> (Self, LinkId) {
        let mut bench = Self::new(true);
        let z = bench.dialled_up(5);
        bench.answers("z", 20 * SECOND);
        (bench, z)
    }

    /// `m` sees this run of `z`, dials it, and the link comes up.
    fn dialled_up(&mut self, run: u64) -> LinkId {
        let z = dialled(&self.seen("z", run)).expect("m is smaller than z");
        self.comes_up(run, z);
        z
    }

    fn comes_up(&mut self, run: u64, z: LinkId) {
        let answered = self.mesh.answer(&id("z"), session(run), z, self.now);
        assert_eq!(answered, Ok(()));
        self.greet("z", run, z, FIRST);
    }

    /// `z` falls silent, and is found unhealthy.
    fn unhealthy(&mut self) -> Vec<Output> {
        let outputs = self.wait(9 * SECOND);
        assert_eq!(self.state("z"), Some(PeerState::Unhealthy), "{outputs:?}");
        outputs
    }
}

fn pinged(outputs: &[Output]) -> bool {
    outputs.iter().any(|o| matches!(o, Output::SendPing { .. }))
}

fn is_up(bench: &Bench, link: LinkId) -> bool {
    bench.state("z") == Some(PeerState::Up) && bench.link_of("z") == Some(link)
}

// Doubts.

#[test]
fn a_doubt_is_a_question_and_an_answer_ends_it_without_a_trace() {
    type Doubt = fn(&mut Bench, LinkId);
    let doubts: [Doubt; 5] = [
        |bench, z| bench.mesh.link_disturbed(z, bench.now),
        |bench, _| bench.mesh.network_changed(bench.now),
        |bench, _| bench.mesh.peer_left(&id("z"), session(5), bench.now),
        |bench, _| {
            bench.mesh.peer_left(&id("z"), session(5), bench.now);
            bench.mesh.peer_seen(&id("z"), session(5), bench.now);
        },
        |bench, z| {
            bench.mesh.link_disturbed(z, bench.now);
            bench.mesh.link_settled(z, bench.now);
        },
    ];
    for (n, doubt) in doubts.iter().enumerate() {
        let (mut bench, z) = Bench::linked();
        doubt(&mut bench, z);
        let outputs = bench.outputs();
        assert!(
            matches!(outputs[..], [Output::SendPing { link, .. }] if link == z),
            "{n}: asked once, {outputs:?}"
        );
        assert!(is_up(&bench, z), "{n}: nothing is torn down");
        assert_eq!(bench.answers("z", 120 * SECOND), [], "{n}");
        assert!(is_up(&bench, z), "{n}");
    }
}

#[test]
fn a_transient_disturbance_of_a_few_seconds_tears_nothing_down_and_makes_nothing() {
    let (mut bench, z) = Bench::linked();
    // ICE says so after five seconds of silence; some more pass.
    bench.mesh.link_disturbed(z, bench.now);
    let outputs = bench.wait(SECOND * 3 / 2);
    assert!(outputs.iter().all(|o| matches!(o, Output::SendPing { .. })));
    bench.mesh.link_settled(z, bench.now);
    assert_eq!(bench.answers("z", 60 * SECOND), []);
    assert!(is_up(&bench, z));
}

#[test]
fn nobody_is_asked_who_is_leaving_or_is_not_linked() {
    let mut bench = Bench::new(true);
    bench.seen("a", 5);
    bench.mesh.network_changed(bench.now);
    assert!(!pinged(&bench.outputs()));
    let (mut bench, z) = Bench::linked();
    bench.mesh.part(&id("z"), bench.now);
    bench.outputs();
    bench.mesh.link_disturbed(z, bench.now);
    bench.mesh.peer_left(&id("z"), session(5), bench.now);
    assert_eq!(bench.outputs(), []);
}

// Trouble.

#[test]
fn an_unhealthy_link_is_kept_while_another_is_made_beside_it_that_replaces_it() {
    let (mut bench, old) = Bench::linked();
    let outputs = bench.unhealthy();
    let new = dialled(&outputs).expect("at once");
    assert!(outputs.contains(&Output::PeerUnhealthy {
        peer: id("z"),
        link: old
    }));
    assert!(bench.mesh.candidates(&id("z"), old) && bench.mesh.candidates(&id("z"), new));
    let message = bench.sends("z").sequence_num;
    assert_eq!(message, 1);
    let carried = bench.outputs();
    assert!(
        carried
            .iter()
            .any(|o| matches!(o, Output::Transmit { link, .. } if *link == old)),
        "it carries what it can: {carried:?}"
    );
    let answered = bench.mesh.answer(&id("z"), session(5), new, bench.now);
    assert_eq!(answered, Ok(()));
    bench.mesh.link_open(new, bench.now);
    let outputs = bench.outputs();
    assert_eq!(outputs[0], closed(old, CloseReason::Replaced));
    let hello = bench
        .mesh
        .hello(new, &id("z"), session(5), FIRST, bench.now);
    assert_eq!(hello, Ok(()));
    assert!(is_up(&bench, new));
}

#[test]
fn the_larger_asks_for_another_link_while_its_own_is_unhealthy() {
    let mut bench = Bench::new(true);
    bench.seen("a", 5);
    bench.up(5, 1);
    bench.answers("a", 20 * SECOND);
    let outputs = bench.wait(25 * SECOND);
    let asked = outputs.iter().filter(|output| **output == ask()).count();
    assert!((3..10).contains(&asked), "again and again: {asked}");
    assert_eq!(bench.state("a"), Some(PeerState::Unhealthy), "and keeps it");
    let dead = bench.wait(10 * SECOND);
    assert!(dead.contains(&closed(link(1), CloseReason::Dead)));
}

#[test]
fn attempts_are_repeated_for_as_long_as_a_link_is_unhealthy_and_it_dies_after_thirty_seconds() {
    let (mut bench, old) = Bench::linked();
    let mut outputs = bench.unhealthy();
    outputs.extend(bench.wait(30 * SECOND));
    let dials = outputs.iter().filter(|o| matches!(o, Output::Dial { .. }));
    assert!((3..=4).contains(&dials.count()), "{outputs:?}");
    assert!(outputs.contains(&closed(old, CloseReason::Dead)));
}

#[test]
fn an_unhealthy_link_that_answers_twice_is_up_and_a_link_being_made_may_still_replace_it() {
    let (mut bench, old) = Bench::linked();
    let new = dialled(&bench.unhealthy()).unwrap();
    let recovered = Output::PeerRecovered {
        peer: id("z"),
        link: old,
    };
    assert_eq!(bench.answers("z", SECOND), [], "once is not enough");
    assert_eq!(bench.answers("z", SECOND), [recovered]);
    bench.comes_up(5, new);
    assert!(is_up(&bench, new));

    let (mut bench, old) = Bench::linked();
    let new = dialled(&bench.unhealthy()).unwrap();
    let outputs = bench.answers("z", 120 * SECOND);
    assert!(outputs.contains(&closed(new, CloseReason::DialTimeout)));
    assert_eq!(dialled(&outputs), None, "no need of another");
    assert!(is_up(&bench, old));
}

#[test]
fn a_stall_of_this_process_blames_nobody() {
    let (mut bench, old) = Bench::linked();
    bench.wait(6 * SECOND);
    bench.now += 3600 * SECOND;
    bench.mesh.tick(bench.now);
    assert!(pinged(&bench.outputs()));
    assert_eq!(bench.answers("z", 60 * SECOND), []);
    assert!(is_up(&bench, old));
}

#[test]
fn packets_that_arrive_again_end_the_wait_for_the_next_attempt() {
    let (mut bench, old) = Bench::linked();
    let new = dialled(&bench.unhealthy()).unwrap();
    bench.mesh.link_closed(new, bench.now);
    assert_eq!(bench.outputs(), [], "it is put off");
    bench.mesh.link_settled(old, bench.now);
    assert!(dialled(&bench.outputs()).is_some());
    bench.mesh.link_settled(old, bench.now);
    assert_eq!(bench.outputs(), [], "one is being made");
}

#[test]
fn an_answer_that_comes_too_late_proves_that_the_peer_is_there() {
    let mut bench = Bench::new(true);
    let mut late = Vec::new();
    let mut outputs = bench.seen("z", 5);
    while late.len() < 8 {
        late.extend(dialled(&outputs));
        outputs = bench.wait(SECOND);
    }
    outputs.extend(bench.wait(10 * SECOND - SECOND));
    let given_up = |o: &Output| {
        matches!(
            o,
            Output::Close {
                why: CloseReason::DialTimeout,
                ..
            }
        )
    };
    assert!(outputs.iter().any(given_up), "{outputs:?}");
    assert_eq!(bench.state("z"), Some(PeerState::Known), "it waits");
    let answer =
        |bench: &mut Bench, run, link| bench.mesh.answer(&id("z"), session(run), link, bench.now);
    let unknown = Err(crate::message::SdpReason::UnknownLink);
    assert_eq!(answer(&mut bench, 4, late[7]), unknown);
    assert_eq!(bench.outputs(), [], "of another run");
    assert_eq!(answer(&mut bench, 5, late[7]), unknown);
    assert!(dialled(&bench.outputs()).is_some());
}

// A peer that is another process in the same session.

#[test]
fn a_peer_that_came_back_in_its_session_and_does_not_answer_gets_a_new_link_within_seconds() {
    let (mut bench, _) = Bench::linked();
    bench.mesh.peer_left(&id("z"), session(5), bench.now);
    bench.wait(SECOND);
    assert_eq!(
        dialled(&bench.seen("z", 5)),
        None,
        "it may be the same process"
    );
    assert!(dialled(&bench.wait(2 * SECOND)).is_some());
}

#[test]
fn an_offer_to_a_process_that_is_no_more_is_made_anew_when_its_session_is_back() {
    let mut bench = Bench::new(true);
    let first = dialled(&bench.seen("z", 5)).unwrap();
    bench.mesh.peer_left(&id("z"), session(5), bench.now);
    let outputs = bench.seen("z", 5);
    assert_eq!(outputs[0], closed(first, CloseReason::Replaced));
    let second = dialled(&outputs).unwrap();
    bench.comes_up(5, second);
    assert!(is_up(&bench, second));
}

#[test]
fn a_request_for_an_offer_replaces_an_attempt_that_the_peer_does_not_know() {
    let mut bench = Bench::new(true);
    let first = dialled(&bench.seen("z", 5)).unwrap();
    bench.wait(2 * SECOND);
    bench.mesh.please_offer(&id("z"), bench.now);
    let outputs = bench.outputs();
    assert_eq!(outputs[0], closed(first, CloseReason::Replaced));
    assert!(dialled(&outputs).is_some());
    bench.mesh.please_offer(&id("z"), bench.now);
    assert_eq!(bench.outputs(), [], "that one is new");
}

#[test]
fn a_session_that_said_goodbye_and_registers_again_is_back() {
    for goodbye_first in [true, false] {
        let (mut bench, z) = Bench::linked();
        let nothing = Lanes {
            direct: None,
            all: None,
        };
        if goodbye_first {
            bench.mesh.goodbye(z, nothing, bench.now);
            bench.mesh.peer_left(&id("z"), session(5), bench.now);
        } else {
            bench.mesh.peer_left(&id("z"), session(5), bench.now);
            bench.mesh.goodbye(z, nothing, bench.now);
        }
        let outputs = bench.wait(300 * SECOND);
        assert!(outputs.contains(&closed(z, CloseReason::Goodbye)));
        assert_eq!(dialled(&outputs), None);
        assert_eq!(bench.state("z"), Some(PeerState::Gone));
        let again = dialled(&bench.seen("z", 5)).expect("at once");
        bench.comes_up(5, again);
        assert!(is_up(&bench, again), "goodbye first: {goodbye_first}");
    }
}

// When an attempt is repeated.

#[test]
fn a_dial_that_fails_is_tried_again_later_each_time() {
    let mut bench = Bench::new(true);
    bench.seen("z", 5);
    let mut waits = Vec::new();
    for _ in 0..40 {
        let outputs = bench.wait(10 * SECOND);
        assert!(
            matches!(
                outputs[..],
                [Output::Close {
                    why: CloseReason::DialTimeout,
                    ..
                }]
            ),
            "{outputs:?}"
        );
        let failed = bench.now;
        let due = bench.mesh.timeout().unwrap();
        let outputs = bench.wait(due - failed);
        assert!(dialled(&outputs).is_some(), "{outputs:?}");
        waits.push(bench.now - failed);
    }
    for (n, wait) in waits.iter().enumerate() {
        let most = SECOND * 2_u32.pow(n.min(6) as u32);
        assert!(*wait <= most.min(60 * SECOND), "{n}: {wait:?}");
    }
    assert!(
        waits[6..].iter().any(|wait| *wait > 45 * SECOND),
        "{waits:?}"
    );
    assert!(
        waits[6..].iter().any(|wait| *wait < 15 * SECOND),
        "{waits:?}"
    );
}

#[test]
fn a_lost_link_is_dialled_again_within_a_second() {
    let (mut bench, z) = Bench::linked();
    bench.mesh.link_closed(z, bench.now);
    let down = Output::PeerDown {
        peer: id("z"),
        link: z,
        why: CloseReason::Lost,
    };
    assert_eq!(bench.outputs(), [down], "there is nothing to close");
    assert!(dialled(&bench.wait(SECOND)).is_some());
}

#[test]
fn a_link_that_falls_again_and_again_is_made_ever_later_until_one_has_held() {
    let mut bench = Bench::new(true);
    let mut z = bench.dialled_up(5);
    let mut waits = Vec::new();
    for _ in 0..40 {
        bench.answers("z", 3 * SECOND);
        bench.mesh.link_closed(z, bench.now);
        let lost = bench.now;
        z = loop {
            match dialled(&bench.wait(SECOND / 100)) {
                Some(link) => break link,
                None => assert!(bench.now - lost <= 61 * SECOND),
            }
        };
        waits.push(bench.now - lost);
        bench.comes_up(5, z);
    }
    assert!(waits.iter().any(|wait| *wait > 30 * SECOND), "{waits:?}");
    bench.answers("z", 20 * SECOND);
    bench.mesh.link_closed(z, bench.now);
    assert!(dialled(&bench.wait(SECOND)).is_some());
}

#[test]
fn signaling_ends_the_wait_when_it_says_that_the_peer_is_back_or_has_started_anew() {
    for run in [5, 6] {
        let mut bench = Bench::new(true);
        bench.seen("z", 5);
        bench.wait(200 * SECOND);
        while bench.state("z") != Some(PeerState::Known) {
            bench.wait(SECOND / 10);
        }
        if run == 5 {
            bench.mesh.peer_left(&id("z"), session(5), bench.now);
        }
        assert!(dialled(&bench.seen("z", run)).is_some());
    }
}

// Both ends notice at once.

#[test]
fn both_ends_notice_at_once_and_make_one_link() {
    // As `z` sees it: its own request crosses the offer, and is answered by it.
    let mut bench = Bench::new(true);
    bench.seen("a", 5);
    bench.up(5, 1);
    bench.answers("a", 20 * SECOND);
    let outputs = bench.wait(9 * SECOND);
    assert!(outputs.contains(&ask()));
    assert_eq!(bench.offer("a", 5, 2), Ok(()));
    let outputs = bench.wait(5 * SECOND);
    assert!(!outputs.contains(&ask()), "it has what it asked for");
    let outputs = bench.greet("a", 5, link(2), FIRST);
    assert_eq!(outputs[0], closed(link(1), CloseReason::Replaced));

    // As `m` sees it: the request comes while its offer is out.
    let (mut bench, _) = Bench::linked();
    let new = dialled(&bench.unhealthy()).unwrap();
    bench.mesh.please_offer(&id("z"), bench.now);
    assert_eq!(bench.outputs(), []);
    bench.comes_up(5, new);
    bench.mesh.please_offer(&id("z"), bench.now);
    assert_eq!(dialled(&bench.outputs()), None, "asked before it was up");
    assert!(is_up(&bench, new));
}
