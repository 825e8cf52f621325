//! The outbox: whom a message is for, how much is kept for each peer, and what becomes of it when
//! the peer stays away.
//!
//! What becomes of one message is said in [`outgoing`](super::outgoing).
//!
//! | the peer | is sent to | at the bound |
//! |---|---|---|
//! | linked | at once, [`MAX_UNDER_WAY`] ahead of what it acknowledges at most | the caller waits until it has acknowledged a quarter |
//! | away for less than [`PATIENCE`] | when it is back | the caller waits |
//! | away for longer | when it is back | the oldest are given back |
//! | has said goodbye, or was never here | no | |
//!
//! On an unreliable channel nothing is kept, and only those who are linked are sent to.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::machine::Mesh;
use super::outgoing::{Kept, Outgoing};
use super::peer::{Peer, new_guards};
use super::shared::Shared;
use super::{
    Assigned, GivenBack, Lanes, MAX_UNDER_WAY, OutboxLimits, Output, Remembered, SendError,
};
use crate::identity::{AgentId, LinkId};
use crate::message::Destination;

impl Mesh {
    /// Takes up what an agent of this id and session left behind, before anything else happens.
    /// `all_assigned` is the greatest number used under `*`. Numbers go on with a gap: one that
    /// was given out and not remembered is never used twice.
    pub fn remember(&mut self, all_assigned: u64, peers: Vec<Remembered>, now: Instant) {
        self.shared.all_assigned = match all_assigned {
            0 => 0,
            used => used + GAP,
        };
        for remembered in peers {
            let Some((peer, shared)) = self.entry(&remembered.peer) else {
                continue;
            };
            peer.remember(remembered, shared, now);
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
        let (to, greatest) = match destination {
            Destination::Agent(id) => {
                let peer = self.receiver(id)?;
                (vec![peer], peer.direct_assigned)
            }
            Destination::All => (self.members()?, self.shared.all_assigned),
        };
        if let Some(full) = to.iter().find(|peer| peer.holds_up(now)) {
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
            self.shared.all_assigned = number;
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
        self.holding_up = self.is_full(&shared.config.outbox);
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

    /// Whether who sends to it has to wait.
    fn holds_up(&self, now: Instant) -> bool {
        self.holding_up && !self.is_long_away(now)
    }

    fn is_full(&self, limits: &OutboxLimits) -> bool {
        let Lanes { direct, all } = &self.outgoing;
        direct.len() + all.len() >= limits.messages || direct.bytes() + all.bytes() >= limits.bytes
    }

    /// Whether a quarter is free: who waits is woken for that and not for every acknowledgement.
    fn has_room_again(&self, limits: &OutboxLimits) -> bool {
        let Lanes { direct, all } = &self.outgoing;
        let (messages, bytes) = (direct.len() + all.len(), direct.bytes() + all.bytes());
        messages + (limits.messages / 4).max(1) <= limits.messages
            && bytes + limits.bytes / 4 <= limits.bytes
    }

    fn is_long_away(&self, now: Instant) -> bool {
        let since = self.away_since.filter(|_| self.live.is_none());
        since.is_some_and(|since| now.duration_since(since) >= PATIENCE)
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
        // Of one that has just come back there may be more by one than the bound.
        while self.is_long_away(now)
            && self.is_full(&shared.config.outbox)
            && self.give_oldest_back(GivenBack::Full, shared)
        {}
        let lane = match destination {
            Destination::All => &mut self.outgoing.all,
            Destination::Agent(_) => {
                self.direct_assigned = number;
                &mut self.outgoing.direct
            }
        };
        if shared.config.reliable {
            lane.keep(number, bytes.clone(), now);
            self.hand_over(shared);
        } else {
            lane.pass(number);
            if let Some(link) = self.sending_link() {
                self.transmit(link, destination.clone(), number, bytes.clone(), shared);
            }
        }
        self.holding_up |= self.is_full(&shared.config.outbox);
        self.wake(shared);
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
            let Lanes { direct, all } = &mut self.outgoing;
            if direct.under_way() + all.under_way() >= MAX_UNDER_WAY {
                return;
            }
            let to_all = match (direct.waiting(), all.waiting()) {
                (Some(one), Some(other)) => other.since < one.since,
                (one, _) => one.is_none(),
            };
            let (lane, destination) = match to_all {
                true => (all, Destination::All),
                false => (direct, Destination::Agent(self.id.clone())),
            };
            let Some(kept) = lane.hand_over() else { return };
            self.transmit(link, destination, kept.number, kept.bytes, shared);
        }
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
        if self.holding_up && self.live.is_none() {
            self.away_since.get_or_insert(now);
        }
        if self.holding_up && self.is_long_away(now) {
            self.holding_up = false;
            let peer = self.id.clone();
            shared.emit(Output::Room { peer });
        }
        self.go_on(shared);
    }

    /// Says that there is room again, if there was none.
    fn tell_of_room(&mut self, shared: &mut Shared) {
        if self.holding_up && self.has_room_again(&shared.config.outbox) {
            self.holding_up = false;
            let peer = self.id.clone();
            shared.emit(Output::Room { peer });
        }
    }

    /// When [`tend_outbox`](Self::tend_outbox) has something to do.
    pub(super) fn outbox_due(&self, limits: &OutboxLimits) -> Option<Instant> {
        let expires = self.oldest().map(|since| since + limits.keep);
        let away = self
            .away_since
            .filter(|_| self.holding_up && self.live.is_none());
        let patience = away.map(|since| since + PATIENCE);
        expires.into_iter().chain(patience).min()
    }

    /// Gives everything back.
    pub(super) fn give_all_back(&mut self, why: GivenBack, shared: &mut Shared) {
        while self.give_oldest_back(why, shared) {}
    }

    fn oldest(&self) -> Option<Instant> {
        let Lanes { direct, all } = &self.outgoing;
        direct.oldest().into_iter().chain(all.oldest()).min()
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

/// How long those who send to a peer wait for it when its outbox is full and it is away: a peer
/// that restarts, or changes its network, is back by then; for one that is gone nobody waits.
const PATIENCE: Duration = Duration::from_secs(60);
/// Numbers left out after a restart: more than a crash between giving a number out and keeping the
/// message can leave behind, which is one for each thread.
const GAP: u64 = 64;
