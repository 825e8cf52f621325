//! The rules about messages that come: who may say what on which link, replay, acknowledgements
//! (`wire.md`, section *IFMessage v2.1*, from `wrong-recipient` on, and *DataChannels*).

use std::time::{Duration, Instant};

use super::guard::Guard;
use super::keeping::outgoing;
use super::machine::Mesh;
use super::peer::Peer;
use super::shared::Shared;
use super::{Claimed, Header, Lanes, Output, RefusedNotice};
use crate::identity::{AgentId, LinkId, Session};
use crate::message::{Destination, Reason, Timestamp};

impl Mesh {
    /// Whether a verified message that came over `link` is to be delivered. `wall` is the time of
    /// day. A refusal that the peer is to be told of follows as [`Output::SendRefused`].
    /// `until_taken`: a message that is accepted is not acknowledged before [`taken`](Self::taken)
    /// says so, as always on a [durable](super::Config::durable) mesh.
    ///
    /// # Errors
    /// The first that applies of [`Reason::WrongRecipient`], [`Reason::WrongPeer`] (also when the
    /// link is not up), [`Reason::Stale`], [`Reason::Replayed`], [`Reason::OutOfWindow`].
    pub fn accept(
        &mut self,
        link: LinkId,
        header: &Header<'_>,
        until_taken: bool,
        now: Instant,
        wall: Timestamp,
    ) -> Result<(), Reason> {
        let lane = self.lane_to_me(header.destination);
        let Some((peer, shared)) = self.of_live_link(link) else {
            return Err(lane.map_or(Reason::WrongRecipient, |_| Reason::WrongPeer));
        };
        let own = *header.source == peer.id && peer.session == Some(header.session);
        let Some(lane) = lane else {
            if own && let Destination::Agent(meant_for) = header.destination {
                refuse_misdirected(peer, shared, link, header, meant_for);
            }
            return Err(Reason::WrongRecipient);
        };
        if *header.source != peer.id {
            return Err(Reason::WrongPeer);
        }
        if !own {
            let age = wall.unix_ms().abs_diff(header.timestamp.unix_ms());
            // Of a session that was heard, the number decides, and not the age.
            let heard = peer.heard.contains(&header.session);
            if !heard && u128::from(age) > MAX_AGE.as_millis() {
                return Err(Reason::Stale);
            }
            if peer.session.is_some_and(|known| header.session < known) {
                return Err(Reason::Replayed);
            }
            // Signed in a newer session than that of the link: the peer has started anew.
            peer.adopt(header.session, shared);
            peer.retry(shared, now);
        }
        let guard = guard_of(peer, lane);
        let verdict = guard.accept(header.sequence_num);
        if verdict == Err(Reason::OutOfWindow) && guard.is_news(header.sequence_num) {
            shared.emit(Output::SendRefused {
                notice: RefusedNotice {
                    link,
                    session: header.session,
                    destination: header.destination.clone(),
                    sequence_num: header.sequence_num,
                },
                reason: Reason::OutOfWindow,
            });
        }
        if verdict.is_ok() {
            peer.hear(header.session);
            if until_taken || shared.config.durable {
                guard_of(peer, lane).hold(header.sequence_num);
            }
        }
        // A duplicate is acknowledged again: its sender has missed the first time.
        note(peer, lane, header.sequence_num, shared, now);
        verdict
    }

    /// A message that failed verification came over `link`. Returns the `refused` frame that is
    /// due, if one is: only for the peer's own session, and never twice. The number counts as
    /// seen for acknowledgements and never moves the replay guard.
    pub fn refused_unverified(
        &mut self,
        link: LinkId,
        claim: &Claimed<'_>,
        now: Instant,
    ) -> Option<RefusedNotice> {
        let (session, destination, sequence_num) =
            (claim.session?, claim.destination?, claim.sequence_num?);
        let lane = self.lane_to_me(destination)?;
        let (peer, shared) = self.of_live_link(link)?;
        if claim.source? != &peer.id || peer.session != Some(session) {
            return None;
        }
        let guard = guard_of(peer, lane);
        if !guard.is_news(sequence_num) || !guard.is_plausible(sequence_num) {
            return None;
        }
        note(peer, lane, sequence_num, shared, now);
        Some(RefusedNotice {
            link,
            session,
            destination: destination.clone(),
            sequence_num,
        })
    }

    /// A message that was accepted until it is taken is in safe hands: it may be acknowledged.
    /// Returns up to which number all are, if that has changed; on a
    /// [durable](super::Config::durable) mesh the caller keeps that before anything else goes out.
    pub fn taken(
        &mut self,
        peer: &AgentId,
        session: Session,
        destination: &Destination,
        sequence_num: u64,
        now: Instant,
    ) -> Option<u64> {
        let lane = self.lane_to_me(destination)?;
        let peer = self.peers.get_mut(peer)?;
        if peer.session != Some(session) {
            return None;
        }
        let up_to = guard_of(peer, lane).release(sequence_num)?;
        owe_ack(peer, lane, &mut self.shared, now);
        peer.part_if_complete(&mut self.shared, now);
        Some(up_to)
    }

    /// `ack` came: followed by [`Output::Acked`] if it says anything new about messages of mine.
    pub fn ack(
        &mut self,
        link: LinkId,
        session: Session,
        destination: &Destination,
        up_to: u64,
        now: Instant,
    ) {
        let Some((peer, shared)) = self.of_live_link(link) else {
            return;
        };
        if session != shared.config.session || !shared.config.reliable {
            return;
        }
        if peer.catch_up(destination, up_to, shared) {
            peer.go_on(shared);
        } else if outgoing(peer, destination).is_some_and(|sent| sent.ack(up_to)) {
            peer.is_acked(destination.clone(), up_to, shared, now);
            peer.go_on(shared);
        }
    }

    /// `refused` came: followed by [`Output::RefusedByPeer`] if it is about a message of mine
    /// that is still open.
    pub fn refused(
        &mut self,
        link: LinkId,
        session: Session,
        destination: &Destination,
        sequence_num: u64,
        reason: Reason,
        now: Instant,
    ) {
        let Some((peer, shared)) = self.of_live_link(link) else {
            return;
        };
        let mine = session == shared.config.session
            && outgoing(peer, destination).is_some_and(|sent| sent.refuse(sequence_num));
        if mine {
            peer.takes(shared, now);
            peer.go_on(shared);
            shared.emit(Output::RefusedByPeer {
                peer: peer.id.clone(),
                destination: destination.clone(),
                sequence_num,
                reason,
            });
        }
    }

    fn lane_to_me(&self, destination: &Destination) -> Option<Lane> {
        match destination {
            Destination::All => Some(Lane::All),
            Destination::Agent(id) => (*id == self.shared.config.me).then_some(Lane::Direct),
        }
    }
}

/// Which of two [`Lanes`].
#[derive(Debug, Clone, Copy)]
enum Lane {
    Direct,
    All,
}

impl Lane {
    fn of_mut<T>(self, lanes: &mut Lanes<T>) -> &mut T {
        match self {
            Self::Direct => &mut lanes.direct,
            Self::All => &mut lanes.all,
        }
    }
}

/// A message counts as seen: an acknowledgement is owed, and a leaving peer may be done.
fn note(peer: &mut Peer, lane: Lane, sequence_num: u64, shared: &mut Shared, now: Instant) {
    let guard = guard_of(peer, lane);
    guard.note(sequence_num);
    if !guard.holds(sequence_num) {
        owe_ack(peer, lane, shared, now);
    }
    peer.part_if_complete(shared, now);
}

fn owe_ack(peer: &mut Peer, lane: Lane, shared: &mut Shared, now: Instant) {
    if !peer.owes_acks(shared) {
        return;
    }
    let due = guard_of(peer, lane).owe_ack(now);
    if due <= now {
        peer.send_acks(Some(now), shared);
    } else {
        shared.wake(due);
    }
}

fn guard_of(peer: &mut Peer, lane: Lane) -> &mut Guard {
    lane.of_mut(&mut peer.guards)
}

/// A peer's own message that is meant for somebody else: said once per number.
fn refuse_misdirected(
    peer: &mut Peer,
    shared: &mut Shared,
    link: LinkId,
    header: &Header<'_>,
    meant_for: &AgentId,
) {
    let known = peer.misdirected.iter_mut().find(|(id, _)| id == meant_for);
    match known {
        Some((_, greatest)) if header.sequence_num <= *greatest => return,
        Some((_, greatest)) => *greatest = header.sequence_num,
        None => {
            if peer.misdirected.len() == MAX_MISDIRECTED {
                peer.misdirected.pop_front();
            }
            peer.misdirected
                .push_back((meant_for.clone(), header.sequence_num));
        }
    }
    shared.emit(Output::SendRefused {
        notice: RefusedNotice {
            link,
            session: header.session,
            destination: header.destination.clone(),
            sequence_num: header.sequence_num,
        },
        reason: Reason::WrongRecipient,
    });
}

/// Wrong destinations of one peer that are remembered: a peer with a bug has one or two.
const MAX_MISDIRECTED: usize = 8;
/// How old or new a message of an unknown session may be (`wire.md`).
const MAX_AGE: Duration = Duration::from_secs(5 * 60);
