//! [`Mesh`]: the entrances of the state machine. Those for messages are in `messages.rs`.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::peer::Peer;
use super::shared::Shared;
use super::{
    CloseReason, Config, Farewell, GivenBack, HelloError, Last, Neighbours, Next, Output, PeerView,
};
use crate::identity::{AgentId, LinkId, Session};
use crate::message::SdpReason;

/// The mesh of one agent. See the [module](super) for how to drive it.
#[derive(Debug)]
pub struct Mesh {
    pub(super) shared: Shared,
    pub(super) peers: BTreeMap<AgentId, Peer>,
    /// The greatest number ever given out to a peer that was forgotten.
    floor: u64,
}

impl Mesh {
    /// A mesh without peers.
    pub fn new(config: Config, now: Instant) -> Self {
        Self {
            shared: Shared::new(config, now),
            peers: BTreeMap::new(),
            floor: 0,
        }
    }

    // Signaling told us.

    /// An agent is registered: from the list of the server, or from `agent-joined`.
    pub fn peer_seen(&mut self, peer: &AgentId, session: Session, now: Instant) {
        if self.shared.leaving.is_none()
            && let Some((peer, shared)) = self.entry(peer)
        {
            peer.seen(session, shared, now);
        }
        self.next_in_line(now);
    }

    /// `agent-left`: a hint. No link is torn down for it, but the far end is asked whether it is
    /// there, and nobody is dialled in vain.
    pub fn peer_left(&mut self, peer: &AgentId, session: Session, now: Instant) {
        if let Some(peer) = self.peers.get_mut(peer) {
            peer.left(session, &mut self.shared, now);
        }
    }

    /// `please-offer`.
    pub fn please_offer(&mut self, from: &AgentId, now: Instant) {
        if self.shared.leaving.is_none()
            && let Some(peer) = self.peers.get_mut(from)
        {
            peer.asks_for_offer(&mut self.shared, now);
        }
        self.next_in_line(now);
    }

    // Verdicts, returned at once because the caller holds the frame they are about.

    /// An offer whose signature, swarm, recipient and `to_session` the caller has checked.
    /// `Ok`: the caller answers it.
    ///
    /// # Errors
    /// [`SdpReason::Glare`] from an agent that must not offer, [`SdpReason::UnknownSource`] from
    /// one that is no neighbour, [`SdpReason::OlderSession`], [`SdpReason::Replayed`];
    /// [`SdpReason::WrongSession`] once this agent is leaving; [`SdpReason::Busy`] while it answers
    /// as many offers as it can: this one's author is asked for another.
    pub fn offer(
        &mut self,
        from: &AgentId,
        session: Session,
        link: LinkId,
        now: Instant,
    ) -> Result<(), SdpReason> {
        if *from >= self.shared.config.me {
            return Err(SdpReason::Glare);
        }
        if self.shared.leaving.is_some() {
            return Err(SdpReason::WrongSession);
        }
        let (peer, shared) = self.entry(from).ok_or(SdpReason::UnknownSource)?;
        peer.offer(session, link, shared, now)
    }

    /// An answer, checked by the caller like an offer. `Ok`: the caller applies it.
    ///
    /// # Errors
    /// [`SdpReason::UnknownLink`], [`SdpReason::WrongSession`] when another session answers than
    /// was asked, [`SdpReason::Replayed`] when the offer was answered before.
    pub fn answer(
        &mut self,
        from: &AgentId,
        session: Session,
        link: LinkId,
        now: Instant,
    ) -> Result<(), SdpReason> {
        let peer = self.peers.get_mut(from).ok_or(SdpReason::UnknownLink)?;
        peer.answer(session, link, &mut self.shared, now)
    }

    /// Whether candidates for this link are of use: it is open, or being made, with that peer.
    pub fn candidates(&self, from: &AgentId, link: LinkId) -> bool {
        self.peers.get(from).is_some_and(|peer| peer.has_link(link))
    }

    // The link told us.

    /// The channels are open.
    pub fn link_open(&mut self, link: LinkId, now: Instant) {
        if let Some((peer, shared)) = self.of_link(link) {
            peer.open(link, shared, now);
        }
        self.next_in_line(now);
    }

    /// `hello` came.
    ///
    /// # Errors
    /// [`HelloError`]; a link with the wrong agent or session is closed.
    pub fn hello(
        &mut self,
        link: LinkId,
        agent_id: &AgentId,
        session: Session,
        next: Next,
        now: Instant,
    ) -> Result<(), HelloError> {
        let (peer, shared) = self.of_link(link).ok_or(HelloError::UnknownLink { link })?;
        let greeted = peer.hello(link, agent_id, session, next, shared, now);
        self.next_in_line(now);
        greeted
    }

    /// The connection ended by itself, or could not be made. A link that the mesh itself had
    /// closed is none of its business any more.
    pub fn link_closed(&mut self, link: LinkId, now: Instant) {
        if let Some((peer, shared)) = self.of_link(link) {
            peer.lost(link, shared, now);
        }
        self.next_in_line(now);
    }

    /// `goodbye` came over the link, its signature checked by the caller. The link is closed when
    /// everything in `last` was seen, after two seconds at the latest; this session of the peer
    /// is not dialled again.
    pub fn goodbye(&mut self, link: LinkId, last: Last, now: Instant) {
        if let Some((peer, shared)) = self.of_link(link) {
            peer.goodbye(link, last, shared, now);
        }
        self.next_in_line(now);
    }

    // Heartbeat and shutdown.

    /// `ping` came: followed by [`Output::SendPong`].
    pub fn ping(&mut self, link: LinkId, t: u64, _now: Instant) {
        if let Some((_, shared)) = self.of_live_link(link) {
            shared.emit(Output::SendPong { link, t });
        }
    }

    /// `pong` came. Returns the round trip, if it answers a ping that was sent.
    pub fn pong(&mut self, link: LinkId, t: u64, now: Instant) -> Option<Duration> {
        let (peer, shared) = self.of_live_link(link)?;
        let heartbeat = &mut peer.live.as_mut()?.heartbeat;
        if heartbeat.pong(t, now)? {
            let peer = peer.id.clone();
            shared.emit(Output::PeerRecovered { peer, link });
        }
        peer.live.as_ref()?.heartbeat.rtt()
    }

    /// This agent leaves: nothing is dialled or assigned any more. Returns the goodbyes to send;
    /// the links close as the peers let go of them, after two seconds at the latest.
    pub fn leave(&mut self, now: Instant) -> Vec<Farewell> {
        if self.shared.leaving.is_none() {
            self.shared.leaving = Some(now + LEAVING);
            self.shared.wake(now + LEAVING);
        }
        let mut farewells = Vec::new();
        for peer in self.peers.values_mut() {
            peer.abandon(CloseReason::Leaving, &mut self.shared);
            peer.retry(&mut self.shared, now);
            peer.send_last_acks(&mut self.shared, now);
            farewells.extend(peer.goodbye_to());
            if !self.shared.config.durable {
                peer.give_all_back(GivenBack::Left, &mut self.shared);
            }
        }
        farewells
    }

    /// When [`tick`](Self::tick) is due; now and then earlier than there is anything to do.
    pub fn timeout(&self) -> Option<Instant> {
        self.shared.due()
    }

    /// Does what is due at `now`. Then nothing is due before a later time.
    pub fn tick(&mut self, now: Instant) {
        if self.shared.due().is_none_or(|due| now < due) {
            return;
        }
        let over = self.shared.leaving.is_some_and(|at| now >= at);
        for peer in self.peers.values_mut() {
            if over {
                peer.down(CloseReason::Leaving, &mut self.shared);
            }
            peer.tick(&mut self.shared, now);
        }
        self.next_in_line(now);
        // Counted anew once all is done, so that nothing that was due stays due.
        self.shared.clear_due();
        for peer in self.peers.values() {
            peer.wake(&mut self.shared);
        }
        if let Some(at) = self.shared.leaving.filter(|_| !over) {
            self.shared.wake(at);
        }
    }

    /// What to do next. To be drained after every call that takes `&mut self`.
    pub fn poll(&mut self) -> Option<Output> {
        self.shared.poll()
    }

    // What is so.

    /// Every peer known, in the order of their ids.
    pub fn peers(&self) -> impl Iterator<Item = PeerView> + '_ {
        self.peers.values().map(|peer| PeerView {
            id: peer.id.clone(),
            session: peer.latest_session(),
            state: peer.state(),
            link: (peer.live.as_ref().map(|live| live.link)).or(peer.making_link()),
            rtt: peer.live.as_ref().and_then(|live| live.heartbeat.rtt()),
            unacked: if self.shared.config.reliable {
                (peer.outgoing.direct.len() + peer.outgoing.all.len()) as u64
            } else {
                0
            },
        })
    }

    /// How many links there should be: one for each neighbour, or in a full mesh one for each
    /// agent that signaling knows and that has not said goodbye.
    pub fn expected_links(&self) -> usize {
        let me = &self.shared.config.me;
        match &self.shared.config.neighbours {
            Neighbours::All => self.peers.values().filter(|p| p.is_expected()).count(),
            Neighbours::Only(ids) => ids.iter().filter(|id| *id != me).count(),
        }
    }

    /// Whether messages to `peer` go out at once.
    pub fn is_linked(&self, peer: &AgentId) -> bool {
        self.sending_link(peer).is_some()
    }

    /// The link that messages to `peer` go out on.
    pub fn sending_link(&self, peer: &AgentId) -> Option<LinkId> {
        self.peers.get(peer)?.sending_link()
    }

    /// How many links are up.
    pub fn open_links(&self) -> usize {
        self.peers.values().filter(|p| p.live.is_some()).count()
    }

    // Look-ups.

    /// The peer of this id, entered if it should be linked and there is room.
    pub(super) fn entry(&mut self, id: &AgentId) -> Option<(&mut Peer, &mut Shared)> {
        let config = &self.shared.config;
        let wanted = match &config.neighbours {
            Neighbours::All => *id != config.me,
            Neighbours::Only(ids) => *id != config.me && ids.contains(id),
        };
        if !wanted {
            return None;
        }
        if !self.peers.contains_key(id) {
            if self.peers.len() >= MAX_PEERS {
                let gone = self.peers.values().find(|p| p.is_forgettable())?.id.clone();
                if let Some(mut gone) = self.peers.remove(&gone) {
                    gone.give_all_back(GivenBack::Full, &mut self.shared);
                    gone.go_on(&mut self.shared);
                    // Should it come back, its numbers must go on growing.
                    self.floor = self.floor.max(gone.direct_assigned);
                }
            }
            let peer = Peer::new(id.clone(), &self.shared.config, self.floor);
            self.peers.insert(id.clone(), peer);
        }
        let peer = self.peers.get_mut(id)?;
        Some((peer, &mut self.shared))
    }

    pub(super) fn of_link(&mut self, link: LinkId) -> Option<(&mut Peer, &mut Shared)> {
        let id = self.shared.peer_of(link)?;
        Some((self.peers.get_mut(&id)?, &mut self.shared))
    }

    pub(super) fn of_live_link(&mut self, link: LinkId) -> Option<(&mut Peer, &mut Shared)> {
        self.of_link(link)
            .filter(|(peer, _)| peer.live.as_ref().is_some_and(|live| live.link == link))
    }
}

/// Peers that are remembered: several times the largest swarm, so that in an open one those that
/// left can be told from those that come. Beyond it the ones that left are forgotten.
const MAX_PEERS: usize = 4096;
/// How long peers have to let go of a leaving agent: what they wait for (`wire.md`).
const LEAVING: Duration = Duration::from_secs(2);
