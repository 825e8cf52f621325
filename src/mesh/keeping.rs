//! The outbox: whom a message is for, how much is kept for each peer, and what becomes of it when
//! the peer stays away.
//!
//! What becomes of one message is said in [`outgoing`](super::outgoing).
//!
//! | the peer | is sent to | at the bound |
//! |---|---|---|
//! | linked | at once, [`MAX_UNDER_WAY`] ahead of what it acknowledges at most | the caller waits until it has acknowledged a quarter; of what is for everybody not for one that is stuck |
//! | away for less than a minute | when it is back | the caller waits |
//! | away for longer | when it is back | the oldest are given back |
//! | has said goodbye, or was never here | no | |
//!
//! Who waits for how long is said in [`pressure`](super::pressure). On an unreliable channel nothing is kept, and only those who are linked are sent to.

use std::time::Instant;

use bytes::Bytes;

use super::guard::MAX_AHEAD;
use super::machine::Mesh;
use super::outgoing::{Kept, Outgoing};
use super::peer::{Peer, new_guards};
use super::pressure::Pressure;
use super::shared::Shared;
use super::{
    Assigned, CloseReason, GivenBack, Lanes, MAX_UNDER_WAY, OutboxLimits, Output, Remembered,
    SendError,
};
use crate::identity::{AgentId, LinkId};
use crate::message::Destination;

impl Mesh {
    /// Takes up what an agent of this id and session left behind, before anything else happens.
    /// `all_assigned` is the greatest number used under `*`. Numbers go on with a gap: one that
    /// was given out and not remembered is never used twice. What was kept for one that is no
    /// neighbour any more is given back.
    pub fn remember(&mut self, all_assigned: u64, peers: Vec<Remembered>, now: Instant) {
        self.shared.all_assigned = match all_assigned {
            0 => 0,
            used => used + GAP,
        };
        self.shared.all_began = self.shared.all_assigned;
        for remembered in peers {
            match self.entry(&remembered.peer) {
                Some((peer, shared)) => peer.remember(remembered, shared, now),
                None => self.shared.give_remembered_back(&remembered),
            }
        }
    }

    /// The next number for a message to `destination`, and whom it is for. It is used up once
    /// [`sent`](Self::sent) says so.
    ///
    /// # Errors
    /// [`SendError`].
    pub fn assign(&self, destination: &Destination, now: Instant) -> Result<Assigned, SendError> {
        if self.shared.leaving.is_some() {
            return Err(SendError::Leaving);
        }
        let to_all = *destination == Destination::All;
        let (to, greatest) = match destination {
            Destination::Agent(id) => {
                let peer = self.receiver(id)?;
                (vec![peer], peer.direct_assigned)
            }
            Destination::All => (self.members()?, self.shared.all_assigned),
        };
        if let Some(full) = to.iter().find(|peer| peer.holds_up(to_all, now)) {
            let peer = full.id.clone();
            return Err(SendError::Full { peer });
        }
        Ok(Assigned {
            sequence_num: greatest + 1,
            to: to.into_iter().map(|peer| peer.id.clone()).collect(),
        })
    }

    /// The peer that a message to `id` alone is for.
    fn receiver(&self, id: &AgentId) -> Result<&Peer, SendError> {
        if *id == self.shared.config.me {
            return Err(SendError::ToMyself);
        }
        let peer = self.peers.get(id);
        let peer = peer.filter(|peer| peer.is_receiver(&self.shared));
        peer.ok_or_else(|| SendError::NotConnected { peer: id.clone() })
    }

    /// Those that a message to everybody is for: at least one.
    fn members(&self) -> Result<Vec<&Peer>, SendError> {
        let peers = self.peers.values();
        let members: Vec<_> = peers.filter(|peer| peer.is_member(&self.shared)).collect();
        match members.is_empty() {
            true => Err(SendError::NoPeers),
            false => Ok(members),
        }
    }

    /// How much is kept for each peer.
    pub fn outbox_limits(&self) -> OutboxLimits {
        self.shared.config.outbox
    }

    /// The message that was given `assigned` is signed: it is kept, and goes out where a link is
    /// up.
    pub fn sent(
        &mut self,
        destination: &Destination,
        assigned: &Assigned,
        bytes: &Bytes,
        now: Instant,
    ) {
        let number = assigned.sequence_num;
        if *destination == Destination::All {
            // It may have gone on from there since this number was given out.
            self.shared.all_assigned = self.shared.all_assigned.max(number);
        }
        for id in &assigned.to {
            if let Some(peer) = self.peers.get_mut(id) {
                peer.send(destination, number, bytes, &mut self.shared, now);
            }
        }
    }

    /// This message cannot be sent to `peer`: it is larger than its link carries.
    pub fn give_up(&mut self, peer: &AgentId, destination: &Destination, sequence_num: u64) {
        let Some(peer) = self.peers.get_mut(peer) else {
            return;
        };
        if outgoing(peer, destination).is_some_and(|lane| lane.refuse(sequence_num)) {
            let range = (sequence_num, sequence_num);
            peer.tell_given_back(destination, range, GivenBack::TooLarge, &mut self.shared);
            peer.go_on(&mut self.shared);
        }
    }
}

impl Peer {
    fn remember(&mut self, remembered: Remembered, shared: &mut Shared, now: Instant) {
        let Lanes { direct, all } = remembered.sent;
        self.direct_assigned = match direct.greatest {
            0 => self.direct_assigned,
            used => used + GAP,
        };
        self.direct_began = self.direct_assigned;
        let restored = |lane: super::RememberedSent| {
            let kept = lane.kept.into_iter().map(|(number, age, bytes)| Kept {
                number,
                bytes,
                since: now.checked_sub(age).unwrap_or(now),
            });
            Outgoing::restored(lane.greatest, kept)
        };
        self.outgoing = Lanes {
            direct: restored(direct),
            all: restored(all),
        };
        if let Some((session, seen)) = remembered.seen {
            self.session = Some(session);
            self.hint = Some(session);
            self.guards = new_guards(&shared.config);
            self.guards.direct.restore(seen.direct);
            self.guards.all.restore(seen.all);
            self.hear(session);
        }
        self.met = true;
        self.away_since = Some(now);
        self.fills(&shared.config.outbox, now);
        self.wake(shared);
    }

    /// Whether a message to it alone is taken.
    fn is_receiver(&self, shared: &Shared) -> bool {
        self.is_member(shared)
            || shared.config.reliable && self.is_expected() && self.live.is_none()
    }

    /// Whether a message to everybody is for it too.
    pub(super) fn is_member(&self, shared: &Shared) -> bool {
        let has_left = self.parted || self.departed.is_some() && self.departed == self.hint;
        let is_away = self.met && self.live.is_none() && !has_left;
        self.sending_link().is_some() || shared.config.reliable && is_away
    }

    fn send(
        &mut self,
        destination: &Destination,
        number: u64,
        bytes: &Bytes,
        shared: &mut Shared,
        now: Instant,
    ) {
        if self.live.is_none() {
            self.away_since.get_or_insert(now);
        }
        let limits = shared.config.outbox;
        let to_all = *destination == Destination::All;
        let gives_way = self.is_long_away(now) || to_all && self.pressure == Pressure::Stuck;
        // Of one that has just come back there may be more by one than the bound.
        while gives_way && self.is_full(&limits) && self.give_waiting_back(shared) {}
        // All that is kept is under way, and may yet come.
        let no_room = gives_way && self.is_full(&limits);
        let lane = match destination {
            Destination::All => &mut self.outgoing.all,
            Destination::Agent(_) => {
                self.direct_assigned = self.direct_assigned.max(number);
                &mut self.outgoing.direct
            }
        };
        if !shared.config.reliable {
            lane.pass(number);
            if let Some(link) = self.sending_link() {
                self.transmit(link, destination.clone(), number, bytes.clone(), shared);
            }
        } else if lane.is_used(number) {
            let why = GivenBack::Superseded;
            self.tell_given_back(destination, (number, number), why, shared);
        } else if no_room {
            self.tell_given_back(destination, (number, number), GivenBack::Full, shared);
        } else {
            lane.keep(number, bytes.clone(), now);
            self.hand_over(shared);
        }
        self.fills(&limits, now);
        self.wake(shared);
    }

    /// The peer has acknowledged all up to this one, and that is news.
    pub(super) fn is_acked(
        &mut self,
        destination: Destination,
        up_to: u64,
        shared: &mut Shared,
        now: Instant,
    ) {
        let peer = self.id.clone();
        shared.emit(Output::Acked {
            peer,
            destination,
            up_to,
        });
        self.takes(shared, now);
    }

    /// The peer says that it has seen all up to `up_to`. Whether that is more than this run had
    /// under way: an earlier run of a durable agent has got further than its disk remembers. Then
    /// numbers go on from there, and what has one before it is given back, since the peer takes it
    /// for a message that it has. No further than a receiver lets numbers jump: a peer must not
    /// use up those of others.
    pub(super) fn catch_up(
        &mut self,
        destination: &Destination,
        up_to: u64,
        shared: &mut Shared,
    ) -> bool {
        let to_all = *destination == Destination::All;
        let began = match to_all {
            true => shared.all_began,
            false => self.direct_began,
        };
        let may_be = shared.config.durable && up_to < began.saturating_add(MAX_AHEAD);
        let lane = outgoing(self, destination).filter(|lane| may_be && lane.is_behind(up_to));
        let Some(lane) = lane else {
            return false;
        };
        let (acked, lost) = lane.overtaken(up_to);
        if let Some(up_to) = acked {
            shared.emit(Output::Acked {
                peer: self.id.clone(),
                destination: destination.clone(),
                up_to,
            });
        }
        if let Some(lost) = lost {
            self.tell_given_back(destination, lost, GivenBack::Superseded, shared);
        }
        let assigned = match to_all {
            true => &mut shared.all_assigned,
            false => &mut self.direct_assigned,
        };
        *assigned = up_to.max(*assigned);
        true
    }

    /// Some messages are settled, or a link is up: others are handed over in their place, and who
    /// waits for room is told if there is some.
    pub(super) fn go_on(&mut self, shared: &mut Shared) {
        self.hand_over(shared);
        self.tell_of_room(shared);
    }

    /// Hands what waits to the link that is up, in the order it was accepted, until as much is under
    /// way as may be.
    fn hand_over(&mut self, shared: &mut Shared) {
        let Some(link) = self.sending_link() else {
            return;
        };
        loop {
            let Lanes { direct, all } = &self.outgoing;
            if direct.under_way() + all.under_way() >= MAX_UNDER_WAY {
                return;
            }
            let (lane, destination) = self.next_waiting();
            if lane.is_out_of_reach() {
                // Once what went before is settled, so that this is the first over the new link.
                if lane.under_way() == 0 {
                    self.start_over(shared);
                }
                return;
            }
            let Some(kept) = lane.hand_over() else { return };
            self.transmit(link, destination, kept.number, kept.bytes, shared);
        }
    }

    /// What comes next would be refused over this link: another takes its place.
    fn start_over(&mut self, shared: &mut Shared) {
        self.down(CloseReason::Replaced, shared);
        self.retry_at = Some(shared.origin);
        shared.wake(shared.origin);
    }

    fn transmit(
        &self,
        link: LinkId,
        destination: Destination,
        sequence_num: u64,
        bytes: Bytes,
        shared: &mut Shared,
    ) {
        shared.emit(Output::Transmit {
            peer: self.id.clone(),
            link,
            destination,
            sequence_num,
            bytes,
        });
    }

    /// Gives back what is too old, and says so when those who wait need not wait any more.
    pub(super) fn tend_outbox(&mut self, shared: &mut Shared, now: Instant) {
        let keep = shared.config.outbox.keep;
        let too_old = |peer: &Self| {
            let oldest = peer.oldest();
            oldest.is_some_and(|since| now.duration_since(since) >= keep)
        };
        while too_old(self) && self.give_oldest_back(GivenBack::Expired, shared) {}
        self.go_on(shared);
        self.tend_pressure(shared, now);
    }

    /// When [`tend_outbox`](Self::tend_outbox) has something to do.
    pub(super) fn outbox_due(&self, limits: &OutboxLimits) -> Option<Instant> {
        let expires = self.oldest().map(|since| since + limits.keep);
        expires.into_iter().chain(self.pressure_due()).min()
    }

    /// Gives everything back.
    pub(super) fn give_all_back(&mut self, why: GivenBack, shared: &mut Shared) {
        while self.give_oldest_back(why, shared) {}
    }

    fn oldest(&self) -> Option<Instant> {
        let Lanes { direct, all } = &self.outgoing;
        direct.oldest().into_iter().chain(all.oldest()).min()
    }

    /// Gives the oldest one that waits back, for want of room. Whether there was one.
    fn give_waiting_back(&mut self, shared: &mut Shared) -> bool {
        let (lane, destination) = self.next_waiting();
        let Some(number) = lane.take_waiting() else {
            return false;
        };
        self.tell_given_back(&destination, (number, number), GivenBack::Full, shared);
        true
    }

    /// The lane whose turn it is, in the order in which messages were accepted.
    fn next_waiting(&mut self) -> (&mut Outgoing, Destination) {
        let Lanes { direct, all } = &mut self.outgoing;
        let to_all = match (direct.waiting(), all.waiting()) {
            (Some(one), Some(other)) => other.since < one.since,
            (one, _) => one.is_none(),
        };
        match to_all {
            true => (all, Destination::All),
            false => (direct, Destination::Agent(self.id.clone())),
        }
    }

    /// Whether there was one.
    fn give_oldest_back(&mut self, why: GivenBack, shared: &mut Shared) -> bool {
        let Lanes { direct, all } = &mut self.outgoing;
        let all_first = match (direct.oldest(), all.oldest()) {
            (Some(direct), Some(all)) => all < direct,
            (direct, _) => direct.is_none(),
        };
        let (lane, destination) = match all_first {
            true => (all, Destination::All),
            false => (direct, Destination::Agent(self.id.clone())),
        };
        let Some(number) = lane.take_oldest() else {
            return false;
        };
        self.tell_given_back(&destination, (number, number), why, shared);
        true
    }

    fn tell_given_back(
        &self,
        destination: &Destination,
        (from, to): (u64, u64),
        why: GivenBack,
        shared: &mut Shared,
    ) {
        shared.emit(Output::Undelivered {
            peer: self.id.clone(),
            destination: destination.clone(),
            from,
            to,
            why,
        });
    }
}

impl Shared {
    /// Gives back what an earlier run kept for one that this one has nothing to do with.
    fn give_remembered_back(&mut self, remembered: &Remembered) {
        let Lanes { direct, all } = &remembered.sent;
        let to_it = Destination::Agent(remembered.peer.clone());
        for (lane, destination) in [(direct, to_it), (all, Destination::All)] {
            let (Some((from, ..)), Some((to, ..))) = (lane.kept.first(), lane.kept.last()) else {
                continue;
            };
            self.emit(Output::Undelivered {
                peer: remembered.peer.clone(),
                destination,
                from: *from,
                to: *to,
                why: GivenBack::NoNeighbour,
            });
        }
    }
}

/// What is meant for `peer` under `destination`, if that is one of its two.
pub(super) fn outgoing<'a>(
    peer: &'a mut Peer,
    destination: &Destination,
) -> Option<&'a mut Outgoing> {
    match destination {
        Destination::All => Some(&mut peer.outgoing.all),
        Destination::Agent(id) if *id == peer.id => Some(&mut peer.outgoing.direct),
        Destination::Agent(_) => None,
    }
}

/// Numbers left out after a restart: more than a crash between giving a number out and keeping the
/// message can leave behind, which is one for each thread.
const GAP: u64 = 64;
