//! The signaling server is gone, and is back (`wire.md`, section *Signaling*): links live on without
//! it, new ones wait for it.

use std::collections::BTreeMap;
use std::time::Instant;

use super::peer::{Peer, Step};
use super::shared::Shared;
use super::{CloseReason, Mesh};
use crate::identity::{AgentId, Session};

impl Mesh {
    /// There is no server: until [`signaling_back`](Self::signaling_back) nobody is dialled or asked
    /// for an offer. Links that are up are as they were; those being made come up if all that they
    /// need has been said, and otherwise run out of time.
    pub fn signaling_lost(&mut self, _now: Instant) {
        self.shared.cut_off = true;
        for peer in self.peers.values_mut() {
            peer.retry_at = None;
        }
    }

    /// This agent is registered, for the first time or again, and these others are. Who is among
    /// them is seen, and dialled at once where a link is wanted and none is up; an offer that got no
    /// answer is made anew, for nobody knows how far it came. Who is not among them has left; a link
    /// that is up with such a one lives on.
    pub fn signaling_back(&mut self, there: &[(AgentId, Session)], now: Instant) {
        self.shared.cut_off = false;
        if self.shared.leaving.is_some() {
            return;
        }
        let mut there: BTreeMap<_, _> = there.iter().map(|(id, session)| (id, *session)).collect();
        for (id, peer) in &mut self.peers {
            match there.remove(id) {
                Some(session) => peer.is_back(session, &mut self.shared, now),
                None => peer.is_missing(&mut self.shared),
            }
        }
        for (id, session) in there {
            self.peer_seen(id, session, now);
        }
        self.next_in_line(now);
    }
}

impl Peer {
    /// It is there, which is news whatever was known before: it may be another process of the same
    /// session, so the link is doubted, and an offer that got no answer made anew.
    fn is_back(&mut self, session: Session, shared: &mut Shared, now: Instant) {
        self.present = false;
        // Who has said goodbye in this session may be here still, and not want a link.
        self.away = self.departed != Some(session);
        self.seen(session, shared, now);
    }

    /// It is not there: nobody is left to answer an offer.
    fn is_missing(&mut self, shared: &mut Shared) {
        self.present = false;
        self.away = true;
        self.retry_at = None;
        if self.is_unanswered() {
            self.abandon(CloseReason::DialTimeout, shared);
        }
    }

    fn is_unanswered(&self) -> bool {
        let making = self.making.as_ref();
        making.is_some_and(|making| making.step == Step::Offered)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Bench, FIRST, SECOND, closed, dialled, id, link, session};
    use super::super::{Lanes, Output, PeerState};
    use super::CloseReason;

    /// `m`, whose server is gone, with `a` and `z` linked: `a` has dialled it, it has dialled `z`.
    fn cut_off() -> Bench {
        let mut bench = Bench::new(true);
        bench.seen("a", 5);
        bench.up(5, 1);
        let z = dialled(&bench.seen("z", 6)).unwrap();
        assert_eq!(
            bench.mesh.answer(&id("z"), session(6), z, bench.now),
            Ok(())
        );
        bench.greet("z", 6, z, FIRST);
        bench.mesh.signaling_lost(bench.now);
        assert_eq!(bench.outputs(), []);
        bench
    }

    impl Bench {
        fn back(&mut self, there: &[(&str, u64)]) -> Vec<Output> {
            let there: Vec<_> = there
                .iter()
                .map(|(n, run)| (id(n), session(*run)))
                .collect();
            self.mesh.signaling_back(&there, self.now);
            self.outputs()
        }

        fn lose(&mut self, peer: &str) {
            let view = self.mesh.peers().find(|view| view.id == id(peer));
            let link = view.and_then(|view| view.link).expect("a link");
            self.mesh.link_closed(link, self.now);
            self.outputs();
        }
    }

    fn asked(outputs: &[Output]) -> bool {
        outputs.contains(&Output::AskForOffer { peer: id("a") })
    }

    #[test]
    fn links_live_on_without_the_server_and_are_left_alone_when_it_is_back() {
        let mut bench = cut_off();
        let ups = [PeerState::Up, PeerState::Up].map(Some);
        assert_eq!(["a", "z"].map(|peer| bench.state(peer)), ups);
        assert_eq!(bench.mesh.expected_links(), 2);
        // They are asked, for another process may be there in the same session.
        let outputs = bench.back(&[("a", 5), ("z", 6)]);
        let asked = |output: &Output| matches!(output, Output::SendPing { .. });
        assert!(
            outputs.len() == 2 && outputs.iter().all(asked),
            "{outputs:?}"
        );
        assert_eq!(["a", "z"].map(|peer| bench.state(peer)), ups);
        // Nor does anybody touch them who registers in the same session as before: it is being
        // asked already.
        bench.mesh.peer_left(&id("z"), session(6), bench.now);
        assert_eq!(bench.seen("z", 6), []);
        assert_eq!(bench.state("z"), Some(PeerState::Up));
    }

    #[test]
    fn nobody_is_dialled_or_asked_while_there_is_no_server_and_at_once_when_there_is() {
        let mut bench = cut_off();
        bench.lose("a");
        bench.lose("z");
        let outputs = bench.wait(600 * SECOND);
        assert!(
            dialled(&outputs).is_none() && !asked(&outputs),
            "{outputs:?}"
        );
        assert!(bench.mesh.connect(&id("z"), bench.now) && bench.mesh.connect(&id("a"), bench.now));
        assert_eq!(bench.outputs(), [], "wanted, and has to wait");

        let outputs = bench.back(&[("a", 5), ("z", 6)]);
        assert!(dialled(&outputs).is_some(), "{outputs:?}");
        assert!(!asked(&outputs), "it dials, as soon as it is back");
        assert!(
            asked(&bench.wait(10 * SECOND)),
            "and is asked if it does not"
        );
    }

    #[test]
    fn who_left_meanwhile_is_gone_and_is_not_dialled_and_a_link_that_is_up_is_no_reason_to_go() {
        let mut bench = cut_off();
        bench.lose("z");
        assert_eq!(bench.back(&[]), []);
        assert_eq!(bench.state("z"), Some(PeerState::Gone));
        assert_eq!(bench.state("a"), Some(PeerState::Up));
        bench.lose("a");
        assert_eq!(bench.state("a"), Some(PeerState::Gone));
        let offered = dialled(&bench.seen("y", 5)).unwrap();
        bench.mesh.signaling_lost(bench.now);
        assert_eq!(bench.state("y"), Some(PeerState::Dialing));
        let given_up = closed(offered, CloseReason::DialTimeout);
        assert_eq!(bench.back(&[]), [given_up]);
        assert_eq!(bench.state("y"), Some(PeerState::Gone));
        let outputs = bench.wait(600 * SECOND);
        assert!(
            dialled(&outputs).is_none() && !asked(&outputs),
            "{outputs:?}"
        );
        // It comes back after this agent.
        assert!(dialled(&bench.seen("z", 6)).is_some());
    }

    #[test]
    fn who_started_anew_meanwhile_is_dialled_though_the_old_link_is_not_known_to_be_dead() {
        let mut bench = cut_off();
        assert!(dialled(&bench.back(&[("a", 5), ("z", 7)])).is_some());
        assert_eq!(bench.state("a"), Some(PeerState::Up));
    }

    #[test]
    fn an_offer_without_an_answer_is_made_anew_and_one_with_goes_on() {
        let mut bench = Bench::new(true);
        let first = dialled(&bench.seen("z", 5)).unwrap();
        let other = dialled(&bench.seen("y", 5)).unwrap();
        let answer = bench.mesh.answer(&id("y"), session(5), other, bench.now);
        assert_eq!(answer, Ok(()));
        bench.mesh.signaling_lost(bench.now);
        let outputs = bench.back(&[("y", 5), ("z", 5)]);
        assert!(outputs.contains(&closed(first, CloseReason::Replaced)));
        let dials = outputs.iter().filter(|o| matches!(o, Output::Dial { .. }));
        assert_eq!(dials.count(), 1, "{outputs:?}");
        bench.greet("y", 5, other, FIRST);
        assert_eq!(bench.state("y"), Some(PeerState::Up));
    }

    #[test]
    fn a_link_being_made_that_runs_out_of_time_is_tried_again_when_the_server_is_back() {
        let mut bench = Bench::new(true);
        bench.seen("z", 5);
        assert_eq!(bench.offer("a", 5, 1), Ok(()));
        bench.outputs();
        bench.mesh.signaling_lost(bench.now);
        let outputs = bench.wait(60 * SECOND);
        assert!(outputs.contains(&closed(link(1), CloseReason::DialTimeout)));
        assert!(
            dialled(&outputs).is_none() && !asked(&outputs),
            "{outputs:?}"
        );
        assert!(dialled(&bench.back(&[("a", 5), ("z", 5)])).is_some());
    }

    #[test]
    fn who_said_goodbye_or_was_parted_from_is_not_dialled_because_the_server_is_back() {
        let mut bench = cut_off();
        bench.mesh.part(&id("z"), bench.now);
        bench.wait(3 * SECOND);
        let a = link(1);
        let nothing = Lanes {
            direct: None,
            all: None,
        };
        bench.mesh.goodbye(a, nothing, bench.now);
        let outputs = bench.back(&[("a", 5), ("z", 6)]);
        assert_eq!(dialled(&outputs), None);
        assert!(!asked(&bench.wait(600 * SECOND)));
    }
}
