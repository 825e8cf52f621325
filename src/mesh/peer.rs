//! One peer: what is known of it, when it is dialled again, what is due. The life of its links is
//! in `life.rs`.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::guard::Guard;
use super::heartbeat::{Beat, Heartbeat};
use super::outgoing::Outgoing;
use super::shared::Shared;
use super::{CloseReason, Config, Lanes, Last, Next, Output, PeerState};
use crate::identity::{AgentId, LinkId, Session};
use crate::message::Destination;

/// A peer. At most one link is open and one is being made; the latter replaces the former when
/// its channels open, which proves that the peer really is at its far end.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) id: AgentId,
    /// The latest session that the peer has proven, by signing with it.
    pub(super) session: Option<Session>,
    /// The latest session that anybody spoke of, signaling included. Never before `session`.
    pub(super) hint: Option<Session>,
    /// Whether signaling says that it is there.
    pub(super) present: bool,
    /// The session that said goodbye: not dialled again unless it asks.
    pub(super) departed: Option<Session>,
    /// This agent said goodbye to it: not dialled again unless one of the two asks.
    pub(super) parted: bool,
    pub(super) making: Option<Making>,
    pub(super) live: Option<Live>,
    /// Links that it offered in this session. Each is used once.
    pub(super) used: VecDeque<LinkId>,
    /// Attempts that failed since a link was up.
    pub(super) failures: u32,
    pub(super) retry_at: Option<Instant>,
    /// What it sends, per destination: me, and `*`. Outlives its links, not its session.
    pub(super) guards: Lanes<Guard>,
    /// Its sessions of which a message was accepted, the latest last.
    pub(super) heard: VecDeque<Session>,
    /// What I sent to it and it has not acknowledged. Outlives its sessions.
    pub(super) outgoing: Lanes<Outgoing>,
    /// Whether a link with it was ever up.
    pub(super) met: bool,
    /// Since when no link is up, if somebody wants to know.
    pub(super) away_since: Option<Instant>,
    /// Whether somebody may wait for room.
    pub(super) full: bool,
    /// The greatest number given out to it alone.
    pub(super) direct_assigned: u64,
    /// Numbers refused because they were meant for others, so that none is refused twice.
    pub(super) misdirected: VecDeque<(AgentId, u64)>,
}

/// A link being made.
#[derive(Debug)]
pub(super) struct Making {
    pub(super) link: LinkId,
    pub(super) session: Session,
    pub(super) step: Step,
    /// Whether the channels are open, and our `hello` is out.
    pub(super) open: bool,
    pub(super) hello: Option<Next>,
    pub(super) deadline: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
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
    pub(super) since: Instant,
    /// The peer is leaving: closed when all of this was seen, or at this time.
    pub(super) farewell: Option<(Last, Instant)>,
    /// This agent has said goodbye: closed by the peer, or at this time.
    pub(super) parting: Option<Instant>,
}

impl Peer {
    /// `floor`: numbers up to here may have been used towards an agent of this id.
    pub(super) fn new(id: AgentId, config: &Config, floor: u64) -> Self {
        Self {
            id,
            session: None,
            hint: None,
            present: false,
            departed: None,
            parted: false,
            making: None,
            live: None,
            used: VecDeque::new(),
            failures: 0,
            retry_at: None,
            guards: new_guards(config),
            heard: VecDeque::new(),
            outgoing: Lanes::default(),
            met: false,
            away_since: None,
            full: false,
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
        if !news || linked || self.parted || self.departed == Some(session) {
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
        self.parted = false;
        // Anybody can forge this frame on its way: it never costs a link that came up just now.
        let settled = self
            .live
            .as_ref()
            .is_none_or(|live| now.duration_since(live.since) >= FRESH);
        if shared.config.me < self.id && self.making.is_none() && settled {
            self.dial(shared, now);
        }
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
        let can = shared.leaving.is_none() && !shared.cut_off;
        if self.present && !linked && !departed && !self.parted && can {
            self.retry_at = Some(now + shared.backoff(self.failures));
            self.failures = self.failures.saturating_add(1);
            self.wake(shared);
        }
    }

    // Time.

    pub(super) fn tick(&mut self, shared: &mut Shared, now: Instant) {
        self.send_acks(Some(now), shared);
        self.part_if_complete(shared, now);
        self.end_parting(shared, now);
        self.beat(shared, now);
        self.tend_outbox(shared, now);
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
    pub(super) fn wake(&self, shared: &mut Shared) {
        let live = self.live.as_ref();
        for due in [
            self.making.as_ref().map(|making| making.deadline),
            live.map(|live| live.heartbeat.due()),
            live.and_then(|live| live.farewell.map(|(_, deadline)| deadline)),
            live.and_then(|live| live.parting),
            self.guards.direct.due(),
            self.guards.all.due(),
            self.retry_at,
            self.outbox_due(&shared.config.outbox),
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
            (Some(live), _) if live.is_ending() => PeerState::Gone,
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

    /// Whether signaling says it is there and neither of the two has said goodbye.
    pub(super) fn is_expected(&self) -> bool {
        self.present && !self.parted && (self.departed.is_none() || self.departed != self.hint)
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

    /// A message of `session` was accepted.
    pub(super) fn hear(&mut self, session: Session) {
        if self.heard.back() == Some(&session) {
            return;
        }
        if self.heard.len() == MAX_HEARD {
            self.heard.pop_front();
        }
        self.heard.push_back(session);
    }

    /// The link that messages to it go out on.
    pub(super) fn sending_link(&self) -> Option<LinkId> {
        let live = self.live.as_ref()?;
        (!live.is_ending()).then_some(live.link)
    }
}

impl Live {
    /// Whether one of the two has said goodbye.
    fn is_ending(&self) -> bool {
        self.farewell.is_some() || self.parting.is_some()
    }
}

pub(super) fn new_guards(config: &Config) -> Lanes<Guard> {
    Lanes {
        direct: Guard::new(config.reliable),
        all: Guard::new(config.reliable),
    }
}

/// How long a link must have been up before a request for a new one is believed.
const FRESH: Duration = std::time::Duration::from_secs(5);
/// Sessions remembered as heard: a peer that restarts more often within five minutes has its older
/// messages called stale where they are replayed, and refused either way.
const MAX_HEARD: usize = 8;
