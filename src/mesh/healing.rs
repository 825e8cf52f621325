//! Healing: doubts about a link that is up, a new one beside it while it is in trouble, and when an
//! attempt is repeated.
//!
//! 1. A doubt costs a ping, now and every second: of the heartbeat itself, of the connection, of
//!    signaling, of a change of network.
//! 2. Unanswered three times the link is unhealthy, and another is made beside it. The old one goes
//!    on carrying what it can: the new one takes its place when its channels are open.
//! 3. An attempt that fails is repeated after a wait that doubles, by chance anything up to it; at
//!    once when there is news that it would succeed.
//!
//! The path of the old link is not renewed (no ICE restart): after some seconds of silence its
//! retransmission timer would keep data back for longer than a new link takes to make.

use std::time::{Duration, Instant};

use super::peer::{Peer, Step};
use super::shared::Shared;
use super::{Mesh, Output};
use crate::identity::{LinkId, Session};

impl Mesh {
    /// The connection doubts that packets still arrive (ICE: `disconnected`). Nothing is torn down:
    /// the far end is asked.
    pub fn link_disturbed(&mut self, link: LinkId, now: Instant) {
        if let Some((peer, shared)) = self.of_live_link(link) {
            peer.suspect(shared, now);
        }
    }

    /// Packets arrive again (ICE: `connected`): what was put off is tried now.
    pub fn link_settled(&mut self, link: LinkId, now: Instant) {
        if let Some((peer, shared)) = self.of_live_link(link) {
            peer.hurry(shared, now);
        }
    }

    /// This host is reached in another way than before: every far end is asked, and what was put
    /// off is tried now.
    pub fn network_changed(&mut self, now: Instant) {
        for peer in self.peers.values_mut() {
            peer.suspect(&mut self.shared, now);
            peer.hurry(&mut self.shared, now);
        }
    }

    /// Dials those whose turn it is. Due after everything that may end the making of a link.
    pub(super) fn next_in_line(&mut self, now: Instant) {
        while let Some(id) = self.shared.line.next() {
            if let Some(peer) = self.peers.get_mut(&id) {
                peer.have_turn(&mut self.shared, now);
            }
        }
    }
}

impl Peer {
    /// Asks the far end of the open link whether it is there.
    pub(super) fn suspect(&mut self, shared: &mut Shared, now: Instant) {
        let Some(live) = self.live.as_mut().filter(|live| !live.is_ending()) else {
            return;
        };
        if let Some(t) = live.heartbeat.suspect(now) {
            shared.emit(Output::SendPing { link: live.link, t });
            self.wake(shared);
        }
    }

    /// Whether a link is to be made now: the peer should be linked, none is up that works, and none
    /// is being made.
    pub(super) fn wants_link(&self, shared: &Shared) -> bool {
        let can = shared.leaving.is_none() && !shared.cut_off;
        can && self.is_expected() && !self.is_linked(self.hint) && self.making.is_none()
    }

    /// Whether a link to this session is up, and works.
    fn is_linked(&self, session: Option<Session>) -> bool {
        let live = self.live.as_ref();
        live.is_some_and(|live| Some(live.session) == session && !live.heartbeat.is_unhealthy())
    }

    // What signaling says.

    pub(super) fn seen(&mut self, session: Session, shared: &mut Shared, now: Instant) {
        if self.hint.is_some_and(|hint| session < hint) {
            return;
        }
        let news = !self.present || self.hint != Some(session);
        let was_away = std::mem::take(&mut self.away);
        self.hint = Some(session);
        self.present = true;
        if was_away {
            // In the same session too it may be another process, which knows nothing of the link,
            // of an offer that was not answered, or of a goodbye.
            self.suspect(shared, now);
            self.departed = None;
        }
        let making = self.making.as_ref().is_some_and(|making| {
            making.session == session && !(was_away && making.step == Step::Offered)
        });
        let linked = making || self.is_linked(Some(session));
        if !news || linked || !self.is_expected() {
            return;
        }
        self.failures = 0;
        if shared.config.me < self.id {
            self.dial(shared, now);
        } else {
            // Its offer should be on the way; it is asked only if none comes.
            self.retry_at = Some(now + ASK_AFTER);
            self.wake(shared);
        }
    }

    pub(super) fn left(&mut self, session: Session, shared: &mut Shared, now: Instant) {
        if self.hint.is_some_and(|hint| session < hint) {
            return;
        }
        self.hint = Some(session);
        self.present = false;
        self.away = true;
        self.retry_at = None;
        self.suspect(shared, now);
    }

    pub(super) fn asks_for_offer(&mut self, shared: &mut Shared, now: Instant) {
        self.departed = None;
        self.parted = false;
        if shared.config.me > self.id {
            return; // the larger never offers
        }
        // It may have lost the link that is up here, or never had the offer that is out.
        self.suspect(shared, now);
        // Anybody can forge this frame on its way: it never costs a link that came up just now, nor
        // an attempt that may yet succeed.
        let settled = (self.live.as_ref()).is_none_or(|live| now >= live.since + FRESH);
        let idle = (self.making.as_ref())
            .is_none_or(|making| !making.open && now >= making.since + ASK_AFTER);
        if settled && idle {
            self.dial(shared, now);
        }
    }

    // Attempts.

    /// Makes a link: by an offer, or by asking for one.
    pub(super) fn attempt(&mut self, shared: &mut Shared, now: Instant) {
        if shared.config.me < self.id {
            self.dial(shared, now);
        } else {
            let peer = self.id.clone();
            shared.emit(Output::AskForOffer { peer });
            self.retry(shared, now);
            self.retry_at = self.retry_at.map(|at| at + ASK_AFTER);
        }
    }

    /// Plans another attempt where one makes sense.
    pub(super) fn retry(&mut self, shared: &mut Shared, now: Instant) {
        self.retry_at = None;
        if self.wants_link(shared) && !self.in_line {
            self.retry_at = Some(now + shared.backoff(self.failures));
            self.failures = self.failures.saturating_add(1);
            self.wake(shared);
        }
    }

    /// An attempt would succeed now, as it seems: one that was put off is made.
    pub(super) fn hurry(&mut self, shared: &mut Shared, now: Instant) {
        self.failures = 0;
        if self.retry_at.take().is_some() && self.wants_link(shared) {
            self.attempt(shared, now);
        }
    }

    /// Makes the attempt that is due, if it is still wanted.
    pub(super) fn attempt_if_due(&mut self, shared: &mut Shared, now: Instant) {
        if self.retry_at.is_some_and(|at| now >= at) {
            self.retry_at = None;
            if self.wants_link(shared) {
                self.attempt(shared, now);
            }
        }
    }

    /// The open link does not work: another is made beside it.
    pub(super) fn rebuild(&mut self, shared: &mut Shared, now: Instant) {
        if self.wants_link(shared) && self.retry_at.is_none() {
            self.attempt(shared, now);
        }
    }

    /// It is this peer's turn to be dialled, if that is still wanted.
    fn have_turn(&mut self, shared: &mut Shared, now: Instant) {
        if std::mem::take(&mut self.in_line) && self.wants_link(shared) {
            self.dial(shared, now);
        }
    }

    /// A link that has been up for a while makes the failures before it a thing of the past; one
    /// that falls again and again does not.
    pub(super) fn forget_failures(&mut self, now: Instant) {
        let live = self.live.as_ref();
        if live.is_some_and(|l| now >= l.since + STEADY && !l.heartbeat.is_unhealthy()) {
            self.failures = 0;
        }
    }
}

/// How long the smaller id has to offer before it is asked: it may have lost sight of this agent, or
/// take a link for open whose far end was another process.
const ASK_AFTER: Duration = Duration::from_secs(2);
/// How long a link must have been up before a request for a new one is believed; before, the far
/// end is asked whether it is there.
const FRESH: Duration = Duration::from_secs(5);
/// How long a link must have been up for the next wait to be short again.
const STEADY: Duration = Duration::from_secs(10);
