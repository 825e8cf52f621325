//! One peer: what is known of it, the link being made with it, the open link, its retries.

use std::collections::VecDeque;
use std::time::Instant;

use super::guard::Guard;
use super::heartbeat::{Beat, Heartbeat};
use super::outgoing::Outgoing;
use super::shared::Shared;
use super::{CloseReason, HelloError, Lanes, Last, Next, Output, PeerState};
use crate::identity::{AgentId, LinkId, Session};
use crate::message::{Destination, SdpReason};

/// A peer. At most one link is open and one is being made; the latter replaces the former when
/// its channels open, which proves that the peer really is at its far end.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) id: AgentId,
    /// The latest session that the peer has proven, by signing with it.
    pub(super) session: Option<Session>,
    /// The latest session that anybody spoke of, signaling included. Never before `session`.
    hint: Option<Session>,
    /// Whether signaling says that it is there.
    present: bool,
    /// The session that said goodbye: not dialled again unless it asks.
    departed: Option<Session>,
    making: Option<Making>,
    pub(super) live: Option<Live>,
    /// Links that it offered in this session. Each is used once.
    used: VecDeque<LinkId>,
    /// Attempts that failed since a link was up.
    failures: u32,
    retry_at: Option<Instant>,
    /// What it sends, per destination: me, and `*`. Outlives its links, not its session.
    pub(super) guards: Lanes<Guard>,
    /// What I sent to it. Outlives its sessions.
    pub(super) outgoing: Lanes<Outgoing>,
    /// The greatest number given out to it alone.
    pub(super) direct_assigned: u64,
    /// Numbers refused because they were meant for others, so that none is refused twice.
    pub(super) misdirected: VecDeque<(AgentId, u64)>,
}

/// A link being made.
#[derive(Debug)]
struct Making {
    link: LinkId,
    session: Session,
    step: Step,
    /// Whether the channels are open, and our `hello` is out.
    open: bool,
    hello: Option<Next>,
    deadline: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// My offer is out.
    Offered,
    /// My offer was answered.
    Answered,
    /// Its offer was accepted.
    Accepted,
}

/// An open link.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) link: LinkId,
    pub(super) session: Session,
    pub(super) heartbeat: Heartbeat,
    since: Instant,
    /// The peer is leaving: closed when all of this was seen, or at this time.
    farewell: Option<(Last, Instant)>,
}

impl Peer {
    /// `floor`: numbers up to here may have been used towards an agent of this id.
    pub(super) fn new(id: AgentId, reliable: bool, floor: u64) -> Self {
        Self {
            id,
            session: None,
            hint: None,
            present: false,
            departed: None,
            making: None,
            live: None,
            used: VecDeque::new(),
            failures: 0,
            retry_at: None,
            guards: new_guards(reliable),
            outgoing: Lanes::default(),
            direct_assigned: floor,
            misdirected: VecDeque::new(),
        }
    }

    // What signaling says.

    pub(super) fn seen(&mut self, session: Session, shared: &mut Shared, now: Instant) {
        if self.hint.is_some_and(|hint| session < hint) {
            return;
        }
        let news = !self.present || self.hint != Some(session);
        self.hint = Some(session);
        self.present = true;
        let linked = self.live.as_ref().is_some_and(|l| l.session == session)
            || self.making.as_ref().is_some_and(|m| m.session == session);
        if !news || linked || self.departed == Some(session) {
            return;
        }
        self.failures = 0;
        if shared.config.me < self.id {
            self.dial(shared, now);
        } else {
            // Its offer should be on the way; it is asked only if none comes.
            self.retry_at = Some(now + shared.config.dial_timeout);
            self.wake(shared);
        }
    }

    pub(super) fn left(&mut self, session: Session) {
        if self.hint.is_none_or(|hint| session >= hint) {
            self.hint = Some(session);
            self.present = false;
            self.retry_at = None;
        }
    }

    pub(super) fn asks_for_offer(&mut self, shared: &mut Shared, now: Instant) {
        self.departed = None;
        // Anybody can forge this frame on its way: it never costs a link that came up just now.
        let settled = self
            .live
            .as_ref()
            .is_none_or(|live| now.duration_since(live.since) >= FRESH);
        if shared.config.me < self.id && self.making.is_none() && settled {
            self.dial(shared, now);
        }
    }

    // Offers and answers.

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
        if self.used.contains(&link) || !shared.take_link(link, &self.id) {
            return Err(SdpReason::Replayed);
        }
        self.abandon(CloseReason::Replaced, shared);
        self.adopt(session, shared);
        if self.used.len() == MAX_USED_LINKS {
            self.used.pop_front();
        }
        self.used.push_back(link);
        self.departed = None;
        self.make(link, session, Step::Accepted, shared, now);
        Ok(())
    }

    pub(super) fn answer(
        &mut self,
        session: Session,
        link: LinkId,
        shared: &mut Shared,
    ) -> Result<(), SdpReason> {
        if self.live.as_ref().is_some_and(|live| live.link == link) {
            return Err(SdpReason::Replayed);
        }
        let making = match &mut self.making {
            Some(making) if making.link == link => making,
            _ => return Err(SdpReason::UnknownLink),
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

    fn dial(&mut self, shared: &mut Shared, now: Instant) {
        let Some(session) = self.hint else {
            return; // an offer names the session it is meant for
        };
        self.abandon(CloseReason::Replaced, shared);
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
        self.making = Some(Making {
            link,
            session,
            step,
            open: false,
            hello: None,
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
        self.guards = new_guards(shared.config.reliable);
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
            open: true,
            hello: Some(next),
            ..
        }) = self.making
        else {
            return;
        };
        self.making = None;
        self.failures = 0;
        self.retry_at = None;
        self.live = Some(Live {
            link,
            session,
            heartbeat: Heartbeat::new(shared.origin, now),
            since: now,
            farewell: None,
        });
        self.resume(next, shared);
        shared.emit(Output::PeerUp {
            peer: self.id.clone(),
            link,
        });
        self.wake(shared);
    }

    /// Settles what was sent over earlier links.
    fn resume(&mut self, next: Next, shared: &mut Shared) {
        if !shared.config.reliable {
            return;
        }
        let direct = self
            .outgoing
            .direct
            .resume(next.direct, self.direct_assigned);
        let all = self.outgoing.all.resume(next.all, shared.all_assigned);
        for (resumed, destination) in [
            (direct, Destination::Agent(self.id.clone())),
            (all, Destination::All),
        ] {
            if let Some(up_to) = resumed.acked {
                shared.emit(Output::Acked {
                    peer: self.id.clone(),
                    destination: destination.clone(),
                    up_to,
                });
            }
            if let Some((from, to)) = resumed.undelivered {
                shared.emit(Output::Undelivered {
                    peer: self.id.clone(),
                    destination,
                    from,
                    to,
                });
            }
        }
    }

    /// The connection ended by itself.
    pub(super) fn lost(&mut self, link: LinkId, shared: &mut Shared, now: Instant) {
        if self.making.as_ref().is_some_and(|m| m.link == link) {
            self.abandon(CloseReason::Lost, shared);
        } else {
            self.down(CloseReason::Lost, shared);
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
        shared.emit(Output::PeerDown {
            peer: self.id.clone(),
            link: live.link,
            why,
        });
    }

    /// Plans another attempt where one makes sense.
    pub(super) fn retry(&mut self, shared: &mut Shared, now: Instant) {
        let linked = self.making.is_some()
            || self
                .live
                .as_ref()
                .is_some_and(|live| Some(live.session) == self.hint);
        let departed = self.departed.is_some() && self.departed == self.hint;
        self.retry_at = None;
        if self.present && !linked && !departed && shared.leaving.is_none() {
            self.retry_at = Some(now + shared.backoff(self.failures));
            self.failures = self.failures.saturating_add(1);
            self.wake(shared);
        }
    }

    // Time.

    pub(super) fn tick(&mut self, shared: &mut Shared, now: Instant) {
        self.send_acks(Some(now), shared);
        self.part_if_complete(shared, now);
        self.beat(shared, now);
        if self.making.as_ref().is_some_and(|m| now >= m.deadline) {
            self.abandon(CloseReason::DialTimeout, shared);
            self.retry(shared, now);
        }
        if self.retry_at.is_some_and(|at| now >= at) {
            if shared.config.me < self.id {
                self.dial(shared, now);
            } else {
                shared.emit(Output::AskForOffer {
                    peer: self.id.clone(),
                });
                self.retry(shared, now);
            }
        }
        self.wake(shared);
    }

    fn beat(&mut self, shared: &mut Shared, now: Instant) {
        let Some(live) = &mut self.live else { return };
        let link = live.link;
        match live.heartbeat.tick(now) {
            None => {}
            Some(Beat::Ping(t)) => shared.emit(Output::SendPing { link, t }),
            Some(Beat::Unhealthy(t)) => {
                shared.emit(Output::PeerUnhealthy {
                    peer: self.id.clone(),
                    link,
                });
                shared.emit(Output::SendPing { link, t });
            }
            Some(Beat::Dead) => {
                self.down(CloseReason::Dead, shared);
                self.retry(shared, now);
            }
        }
    }

    /// Sends the acknowledgements that are due by `now`, or all that are owed.
    pub(super) fn send_acks(&mut self, now: Option<Instant>, shared: &mut Shared) {
        let Some(live) = &self.live else { return };
        for (guard, to_all) in [
            (&mut self.guards.direct, false),
            (&mut self.guards.all, true),
        ] {
            let up_to = match now {
                Some(now) => guard.ack_due(now),
                None => guard.take_ack(),
            };
            if let Some(up_to) = up_to {
                let destination = if to_all {
                    Destination::All
                } else {
                    Destination::Agent(shared.config.me.clone())
                };
                shared.emit(Output::SendAck {
                    link: live.link,
                    session: live.session,
                    destination,
                    up_to,
                });
            }
        }
    }

    /// Tells when this peer needs the next tick.
    fn wake(&self, shared: &mut Shared) {
        let live = self.live.as_ref();
        for due in [
            self.making.as_ref().map(|making| making.deadline),
            live.map(|live| live.heartbeat.due()),
            live.and_then(|live| live.farewell.map(|(_, deadline)| deadline)),
            self.guards.direct.due(),
            self.guards.all.due(),
            self.retry_at,
        ]
        .into_iter()
        .flatten()
        {
            shared.wake(due);
        }
    }

    // What is so.

    pub(super) fn state(&self) -> PeerState {
        match (&self.live, &self.making) {
            (Some(live), _) if live.farewell.is_some() => PeerState::Gone,
            (Some(live), _) if live.heartbeat.is_unhealthy() => PeerState::Unhealthy,
            (Some(_), _) => PeerState::Up,
            (None, Some(making)) if making.open || making.step == Step::Answered => {
                PeerState::Opening
            }
            (None, Some(making)) if making.step == Step::Offered => PeerState::Dialing,
            (None, Some(_)) => PeerState::Answering,
            (None, None) if self.is_expected() => PeerState::Known,
            (None, None) => PeerState::Gone,
        }
    }

    /// Whether signaling says it is there and it has not said goodbye.
    pub(super) fn is_expected(&self) -> bool {
        self.present && (self.departed.is_none() || self.departed != self.hint)
    }

    /// Whether nothing would be lost but memory if it were forgotten.
    pub(super) fn is_forgettable(&self) -> bool {
        !self.present && self.live.is_none() && self.making.is_none()
    }

    pub(super) fn latest_session(&self) -> Option<Session> {
        self.hint
    }

    pub(super) fn making_link(&self) -> Option<LinkId> {
        self.making.as_ref().map(|making| making.link)
    }

    /// The link that messages to it go out on.
    pub(super) fn sending_link(&self) -> Option<LinkId> {
        let live = self.live.as_ref()?;
        live.farewell.is_none().then_some(live.link)
    }
}

fn new_guards(reliable: bool) -> Lanes<Guard> {
    Lanes {
        direct: Guard::new(reliable),
        all: Guard::new(reliable),
    }
}

/// Links of one session of one peer that are remembered. Each costs the peer a signed offer, an
/// honest one makes less than one a second; an older one that is offered again times out.
const MAX_USED_LINKS: usize = 1024;
/// How long a link must have been up before a request for a new one is believed.
const FRESH: std::time::Duration = std::time::Duration::from_secs(5);
/// How long messages before a goodbye are waited for (`wire.md`).
const FAREWELL: std::time::Duration = std::time::Duration::from_secs(2);
