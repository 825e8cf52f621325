//! Parting from one peer by this agent's own wish, and wanting it again.

use std::time::{Duration, Instant};

use super::peer::Peer;
use super::shared::Shared;
use super::{CloseReason, Farewell, Lanes, Mesh};
use crate::identity::AgentId;

impl Mesh {
    /// This agent parts from `peer`, and neither dials it nor asks it for an offer until one of the
    /// two wants a link again: this agent by [`connect`](Self::connect), the peer by an offer or by
    /// asking for one. Returns the goodbye to send, if a link is up; it closes as the peer lets go
    /// of it, after two seconds at the latest.
    pub fn part(&mut self, peer: &AgentId, now: Instant) -> Option<Farewell> {
        let farewell = self.peers.get_mut(peer)?.part(&mut self.shared, now);
        self.next_in_line(now);
        farewell
    }

    /// This agent wants a link with `peer`, also if one of the two said goodbye. Whether it can be
    /// had: signaling says that the peer is there.
    pub fn connect(&mut self, peer: &AgentId, now: Instant) -> bool {
        if self.shared.leaving.is_some() {
            return false;
        }
        let peer = self.peers.get_mut(peer);
        peer.is_some_and(|peer| peer.connect(&mut self.shared, now))
    }
}

impl Peer {
    fn part(&mut self, shared: &mut Shared, now: Instant) -> Option<Farewell> {
        self.parted = true;
        self.retry_at = None;
        self.abandon(CloseReason::Leaving, shared);
        self.send_last_acks(shared, now);
        let live = self.live.as_mut()?;
        if live.parting.is_some() {
            return None;
        }
        live.parting = Some(now + PARTING);
        shared.wake(now + PARTING);
        self.goodbye_to()
    }

    /// The goodbye to this peer, if a link is up.
    pub(super) fn goodbye_to(&self) -> Option<Farewell> {
        let live = self.live.as_ref()?;
        Some(Farewell {
            peer: self.id.clone(),
            link: live.link,
            last: Lanes {
                direct: self.outgoing.direct.last(),
                all: self.outgoing.all.last(),
            },
        })
    }

    fn connect(&mut self, shared: &mut Shared, now: Instant) -> bool {
        self.parted = false;
        self.departed = None;
        let linked = self.live.is_some() || self.making.is_some();
        // A link that is being parted from is followed by another when it is closed.
        if !self.present || linked || shared.cut_off {
            return self.present;
        }
        self.failures = 0;
        self.attempt(shared, now);
        true
    }

    /// Closes a link that the peer has not let go of in time.
    pub(super) fn end_parting(&mut self, shared: &mut Shared, now: Instant) {
        let parting = self.live.as_ref().and_then(|live| live.parting);
        if parting.is_some_and(|at| now >= at) {
            self.down(CloseReason::Leaving, shared);
            self.retry(shared, now); // should it be wanted again
        }
    }
}

/// How long a peer has to let go of the link: what it waits for (`wire.md`).
const PARTING: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::super::tests::{Bench, FIRST, SECOND, closed, dialled, id, link, session, to, wall};
    use super::super::{Header, Output, PeerState, SendError};
    use super::*;

    fn asked(outputs: &[Output]) -> bool {
        outputs.contains(&Output::AskForOffer { peer: id("a") })
    }

    #[test]
    fn says_goodbye_closes_and_does_not_dial_again_until_asked() {
        let mut bench = Bench::new(true);
        bench.seen("z", 5);
        let z = bench.mesh.peers().next().unwrap().link.unwrap();
        let answer = bench.mesh.answer(&id("z"), session(5), z, bench.now);
        assert_eq!(answer, Ok(()));
        bench.greet("z", 5, z, FIRST);
        bench.sends("z");
        let farewell = bench.mesh.part(&id("z"), bench.now).unwrap();
        assert_eq!((farewell.link, farewell.last.direct), (z, Some(1)));
        assert_eq!(bench.mesh.part(&id("z"), bench.now), None, "said once");
        let refused = bench.takes("z").unwrap_err();
        assert!(matches!(refused, SendError::NotConnected { .. }));
        let outputs = bench.wait(3 * SECOND);
        assert!(outputs.contains(&closed(z, CloseReason::Leaving)));
        // Neither time nor news of it bring it back.
        assert_eq!(dialled(&bench.wait(300 * SECOND)), None);
        assert_eq!(dialled(&bench.seen("z", 6)), None);
        assert_eq!(bench.state("z"), Some(PeerState::Gone));
        assert_eq!(bench.mesh.expected_links(), 0);

        assert!(bench.mesh.connect(&id("z"), bench.now));
        assert!(dialled(&bench.outputs()).is_some());
        assert!(!bench.mesh.connect(&id("nobody"), bench.now));
    }

    #[test]
    fn a_peer_that_lets_go_first_ends_it_as_this_agents_parting() {
        let mut bench = Bench::new(true);
        bench.seen("a", 5);
        bench.up(5, 1);
        assert!(bench.mesh.part(&id("a"), bench.now).is_some());
        bench.mesh.link_closed(link(1), bench.now);
        let down = Output::PeerDown {
            peer: id("a"),
            link: link(1),
            why: CloseReason::Leaving,
        };
        assert!(bench.outputs().contains(&down));
        assert!(!asked(&bench.wait(300 * SECOND)));

        assert!(bench.mesh.connect(&id("a"), bench.now));
        assert!(asked(&bench.outputs()));
        bench.up(5, 2);
    }

    #[test]
    fn without_a_link_nothing_is_owed_and_the_next_hello_says_what_came() {
        let mut bench = Bench::new(true);
        bench.seen("a", 5);
        bench.up(5, 1);
        let header = Header {
            source: &id("a"),
            session: session(5),
            destination: &to("m"),
            sequence_num: 1,
            timestamp: wall(0),
        };
        let now = bench.now;
        let held = bench.mesh.accept(link(1), &header, true, now, wall(0));
        assert_eq!(held, Ok(()));
        bench.mesh.link_closed(link(1), bench.now);
        assert_eq!(bench.mesh.part(&id("a"), bench.now), None, "no link is up");
        bench.wait(60 * SECOND);
        assert_eq!(bench.mesh.timeout(), None, "nothing is due without it");
        bench.offer("a", 5, 2).unwrap();
        let hello = Output::SendHello {
            link: link(2),
            next: Lanes { direct: 2, all: 1 },
        };
        assert!(bench.greet("a", 5, link(2), FIRST).contains(&hello));
    }

    #[test]
    fn the_peer_may_come_back_by_itself_and_is_then_wanted_as_before() {
        let mut bench = Bench::new(true);
        bench.seen("a", 5);
        bench.up(5, 1);
        bench.mesh.part(&id("a"), bench.now);
        bench.wait(3 * SECOND);
        bench.up(5, 2);
        bench.mesh.link_closed(link(2), bench.now);
        assert!(asked(&bench.wait(60 * SECOND)), "asked for as before");
    }
}
