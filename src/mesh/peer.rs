//! One peer: what is known of it, and what is due. The life of its links is in `life.rs`; when one
//! is made, and made again, in `healing.rs`.

use std::collections::VecDeque;
use std::time::Instant;

use super::guard::Guard;
use super::heartbeat::{Beat, Heartbeat};
use super::outgoing::Outgoing;
use super::pressure::Pressure;
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
    /// Whether signaling said that it left, and not yet that it is back.
    pub(super) away: bool,
    /// The session that said goodbye: not dialled again unless it asks.
    pub(super) departed: Option<Session>,
    /// This agent said goodbye to it: not dialled again unless one of the two asks.
    pub(super) parted: bool,
    pub(super) making: Option<Making>,
    pub(super) live: Option<Live>,
    /// Links that it offered in this session. Each is used once.
    pub(super) used: VecDeque<LinkId>,
    /// Attempts that failed since a link was up for a while.
    pub(super) failures: u32,
    pub(super) retry_at: Option<Instant>,
    /// Whether it waits in line to be dialled.
    pub(super) in_line: bool,
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
    /// How full its outbox is, and so whether who sends to it has to wait.
    pub(super) pressure: Pressure,
    /// The greatest number given out to it alone.
    pub(super) direct_assigned: u64,
    /// What it was when this run began, or the peer was entered.
    pub(super) direct_began: u64,
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
    pub(super) since: Instant,
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
            away: false,
            departed: None,
            parted: false,
            making: None,
            live: None,
            used: VecDeque::new(),
            failures: 0,
            retry_at: None,
            in_line: false,
            guards: new_guards(config),
            heard: VecDeque::new(),
            outgoing: Lanes::default(),
            met: false,
            away_since: None,
            pressure: Pressure::Roomy,
            direct_assigned: floor,
            direct_began: floor,
            misdirected: VecDeque::new(),
        }
    }

    // Time.

    pub(super) fn tick(&mut self, shared: &mut Shared, now: Instant) {
        self.send_acks(Some(now), shared);
        self.part_if_complete(shared, now);
        self.end_parting(shared, now);
        self.forget_failures(now);
        self.beat(shared, now);
        self.tend_outbox(shared, now);
        if self.making.as_ref().is_some_and(|m| now >= m.deadline) {
            self.abandon(CloseReason::DialTimeout, shared);
            self.retry(shared, now);
        }
        self.attempt_if_due(shared, now);
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
                self.rebuild(shared, now);
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

    /// The last acknowledgements before a goodbye. On a mesh that is not durable what came is with the
    /// program, as what was acknowledged at once is: sent again, it would come to it twice.
    pub(super) fn send_last_acks(&mut self, shared: &mut Shared, now: Instant) {
        if !shared.config.durable {
            let owes = self.owes_acks(shared);
            for guard in [&mut self.guards.direct, &mut self.guards.all] {
                if guard.release_all() && owes {
                    guard.owe_ack(now);
                }
            }
        }
        self.send_acks(None, shared);
    }

    /// Whether what came is acknowledged. Without a link nothing is owed, for the next `hello` says
    /// it; and it would be due until there is one.
    pub(super) fn owes_acks(&self, shared: &Shared) -> bool {
        shared.config.reliable && self.live.is_some()
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
    pub(super) fn is_ending(&self) -> bool {
        self.farewell.is_some() || self.parting.is_some()
    }
}

pub(super) fn new_guards(config: &Config) -> Lanes<Guard> {
    Lanes {
        direct: Guard::new(config.reliable),
        all: Guard::new(config.reliable),
    }
}

/// Sessions remembered as heard: a peer that restarts more often within five minutes has its older
/// messages called stale where they are replayed, and refused either way.
const MAX_HEARD: usize = 8;
