//! The life of a peer's links: offered, answered, opened, greeted, up, lost, parted from
//! (`wire.md`, sections *Signaling* and *DataChannels*).

use std::time::{Duration, Instant};

use super::heartbeat::Heartbeat;
use super::keeping::outgoing;
use super::peer::{Live, Making, Peer, Step, new_guards};
use super::shared::Shared;
use super::{CloseReason, HelloError, Lanes, Last, Next, Output};
use crate::identity::{AgentId, LinkId, Session};
use crate::message::{Destination, SdpReason};

impl Peer {
    pub(super) fn offer(
        &mut self,
        session: Session,
        link: LinkId,
        shared: &mut Shared,
        now: Instant,
    ) -> Result<(), SdpReason> {
        if self.session.is_some_and(|known| session < known) {
            return Err(SdpReason::OlderSession);
        }
        if self.used.contains(&link) {
            return Err(SdpReason::Replayed);
        }
        // A newer offer takes the place of the one before.
        if self.making.is_none() && shared.line.is_busy() {
            self.retry(shared, now); // it is asked for another
            return Err(SdpReason::Busy);
        }
        if !shared.take_link(link, &self.id) {
            return Err(SdpReason::Replayed);
        }
        self.abandon(CloseReason::Replaced, shared);
        self.adopt(session, shared);
        if self.used.len() == MAX_USED_LINKS {
            self.used.pop_front();
        }
        self.used.push_back(link);
        self.departed = None;
        self.parted = false;
        self.make(link, session, Step::Accepted, shared, now);
        Ok(())
    }

    pub(super) fn answer(
        &mut self,
        session: Session,
        link: LinkId,
        shared: &mut Shared,
        now: Instant,
    ) -> Result<(), SdpReason> {
        if self.live.as_ref().is_some_and(|live| live.link == link) {
            return Err(SdpReason::Replayed);
        }
        let making = match &mut self.making {
            Some(making) if making.link == link => making,
            _ => {
                if self.hint == Some(session) {
                    // Too late, and a proof that the peer is there.
                    self.hurry(shared, now);
                }
                return Err(SdpReason::UnknownLink);
            }
        };
        match making.step {
            Step::Offered if making.session == session => making.step = Step::Answered,
            Step::Offered => return Err(SdpReason::WrongSession),
            Step::Answered => return Err(SdpReason::Replayed),
            Step::Accepted => return Err(SdpReason::UnknownLink),
        }
        self.adopt(session, shared);
        Ok(())
    }

    pub(super) fn has_link(&self, link: LinkId) -> bool {
        self.live.as_ref().is_some_and(|l| l.link == link)
            || self.making.as_ref().is_some_and(|m| m.link == link)
    }

    pub(super) fn dial(&mut self, shared: &mut Shared, now: Instant) {
        let Some(session) = self.hint.filter(|_| !shared.cut_off) else {
            return; // an offer names the session it is meant for, and has to be carried
        };
        self.abandon(CloseReason::Replaced, shared);
        self.retry_at = None;
        if shared.line.is_full() {
            if !std::mem::replace(&mut self.in_line, true) {
                shared.line.enter(self.id.clone(), self.failures > 0);
            }
            return;
        }
        let link = shared.make_link(&self.id);
        self.make(link, session, Step::Offered, shared, now);
        shared.emit(Output::Dial {
            peer: self.id.clone(),
            session,
            link,
        });
    }

    fn make(
        &mut self,
        link: LinkId,
        session: Session,
        step: Step,
        shared: &mut Shared,
        now: Instant,
    ) {
        let deadline = now + shared.config.dial_timeout;
        shared.line.begun(step);
        self.making = Some(Making {
            link,
            session,
            step,
            open: false,
            hello: None,
            since: now,
            deadline,
        });
        self.retry_at = None;
        shared.wake(deadline);
    }

    /// The peer has proven this session. A newer one ends the links of the older at once, and
    /// what was known of its messages.
    pub(super) fn adopt(&mut self, session: Session, shared: &mut Shared) {
        if self.session.is_some_and(|known| known >= session) {
            return;
        }
        self.session = Some(session);
        self.hint = self.hint.max(Some(session));
        self.guards = new_guards(&shared.config);
        self.used.clear();
        self.misdirected.clear();
        if self.making.as_ref().is_some_and(|m| m.session < session) {
            self.abandon(CloseReason::NewerSession, shared);
        }
        if self.live.as_ref().is_some_and(|l| l.session < session) {
            self.down(CloseReason::NewerSession, shared);
        }
    }

    // The life of a link.

    /// The channels are open.
    pub(super) fn open(&mut self, link: LinkId, shared: &mut Shared, now: Instant) {
        match &mut self.making {
            Some(making) if making.link == link && !making.open => making.open = true,
            _ => return,
        }
        // Before `next` is said: what still came over the old link would be missing in it.
        self.down(CloseReason::Replaced, shared);
        let next = Lanes {
            direct: self.guards.direct.next(),
            all: self.guards.all.next(),
        };
        shared.emit(Output::SendHello { link, next });
        self.up_if_greeted(shared, now);
    }

    pub(super) fn hello(
        &mut self,
        link: LinkId,
        agent_id: &AgentId,
        session: Session,
        next: Next,
        shared: &mut Shared,
        now: Instant,
    ) -> Result<(), HelloError> {
        let again = HelloError::Again {
            peer: self.id.clone(),
        };
        if self.live.as_ref().is_some_and(|live| live.link == link) {
            return Err(again);
        }
        let making = match &mut self.making {
            Some(making) if making.link == link => making,
            _ => return Err(HelloError::UnknownLink { link }),
        };
        if making.hello.is_some() {
            return Err(again);
        }
        let expected = making.session;
        let wrong = if *agent_id != self.id {
            HelloError::WrongAgent {
                peer: self.id.clone(),
                found: agent_id.clone(),
            }
        } else if session != expected {
            HelloError::WrongSession {
                peer: self.id.clone(),
                expected,
                found: session,
            }
        } else {
            making.hello = Some(next);
            self.up_if_greeted(shared, now);
            return Ok(());
        };
        self.abandon(CloseReason::WrongHello, shared);
        self.retry(shared, now);
        Err(wrong)
    }

    fn up_if_greeted(&mut self, shared: &mut Shared, now: Instant) {
        let Some(Making {
            link,
            session,
            step,
            open: true,
            hello: Some(next),
            ..
        }) = self.making
        else {
            return;
        };
        self.making = None;
        shared.line.ended(step);
        self.retry_at = None;
        self.live = Some(Live {
            link,
            session,
            heartbeat: Heartbeat::new(shared.origin, now),
            since: now,
            farewell: None,
            parting: None,
        });
        self.met = true;
        // A goodbye that was read late was that of an earlier process, in the same session.
        self.departed = None;
        self.away_since = None;
        self.guards.direct.link_is_up();
        self.guards.all.link_is_up();
        self.resume(next, shared, now);
        shared.emit(Output::PeerUp {
            peer: self.id.clone(),
            link,
        });
        self.go_on(shared);
        self.wake(shared);
    }

    /// Settles what was sent over earlier links.
    fn resume(&mut self, next: Next, shared: &mut Shared, now: Instant) {
        if !shared.config.reliable {
            return;
        }
        for (next, destination) in [
            (next.direct, Destination::Agent(self.id.clone())),
            (next.all, Destination::All),
        ] {
            if self.catch_up(&destination, next.saturating_sub(1), shared) {
                continue;
            }
            let acked = outgoing(self, &destination).and_then(|lane| lane.resume(next));
            if let Some(up_to) = acked {
                self.is_acked(destination, up_to, shared, now);
            }
        }
    }

    /// The connection ended by itself.
    pub(super) fn lost(&mut self, link: LinkId, shared: &mut Shared, now: Instant) {
        if self.making.as_ref().is_some_and(|m| m.link == link) {
            self.abandon(CloseReason::Lost, shared);
        } else {
            // The peer lets go of a link when it has heard the goodbye.
            let parting = self.live.as_ref().is_some_and(|l| l.parting.is_some());
            let why = match parting {
                true => CloseReason::Leaving,
                false => CloseReason::Lost,
            };
            self.down(why, shared);
        }
        self.retry(shared, now);
    }

    pub(super) fn goodbye(&mut self, link: LinkId, last: Last, shared: &mut Shared, now: Instant) {
        match &mut self.live {
            Some(live) if live.link == link => {
                self.departed = Some(live.session);
                live.farewell = Some((last, now + FAREWELL));
                self.part_if_complete(shared, now);
                self.wake(shared);
            }
            _ => {
                self.departed = self.making.as_ref().map(|making| making.session);
                self.abandon(CloseReason::Goodbye, shared);
                self.retry(shared, now); // should a newer session be known
            }
        }
    }

    /// Closes the link of a peer that said goodbye, once all of it has come or time is up.
    pub(super) fn part_if_complete(&mut self, shared: &mut Shared, now: Instant) {
        let Some((last, deadline)) = self.live.as_ref().and_then(|live| live.farewell) else {
            return;
        };
        let complete =
            self.guards.direct.has_reached(last.direct) && self.guards.all.has_reached(last.all);
        if complete || now >= deadline {
            self.send_acks(None, shared);
            self.down(CloseReason::Goodbye, shared);
            self.retry(shared, now); // should a newer session be known
        }
    }

    /// Gives up the link being made, if there is one.
    pub(super) fn abandon(&mut self, why: CloseReason, shared: &mut Shared) {
        if let Some(making) = self.making.take() {
            shared.line.ended(making.step);
            shared.drop_link(making.link, why);
        }
    }

    /// The open link, if there is one, is no more.
    pub(super) fn down(&mut self, why: CloseReason, shared: &mut Shared) {
        let Some(live) = self.live.take() else {
            return;
        };
        shared.drop_link(live.link, why);
        // The next hello says what an acknowledgement would have said.
        self.guards.direct.take_ack();
        self.guards.all.take_ack();
        self.outgoing.direct.link_lost();
        self.outgoing.all.link_lost();
        if self.is_waited_for() {
            shared.wake(shared.origin); // those who wait wait for it to come back now
        }
        if self.is_waited_for() && !self.is_member(shared) {
            // Nothing more is for it.
            let peer = self.id.clone();
            shared.emit(Output::Room { peer });
        }
        shared.emit(Output::PeerDown {
            peer: self.id.clone(),
            link: live.link,
            why,
        });
    }
}

/// Links of one session of one peer that are remembered. Each costs the peer a signed offer, an
/// honest one makes less than one a second; an older one that is offered again times out.
const MAX_USED_LINKS: usize = 1024;
/// How long messages before a goodbye are waited for (`wire.md`).
const FAREWELL: Duration = Duration::from_secs(2);
