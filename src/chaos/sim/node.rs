//! One simulated agent: its mesh, the ends of its links, its disk, and its program.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Instant;

use crate::identity::{AgentId, LinkId, Session};
use crate::mesh::{Claimed, Header, Last, Mesh, Next, RefusedNotice};
use crate::message::{Destination, Reason, Timestamp};
use crate::outbox::State as Journal;

use super::world::Signal;

/// Which agent, and which run of it: the far end of wires.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) agent: usize,
    pub(super) run: u32,
}

/// What goes over a link.
#[derive(Debug, Clone)]
pub(super) enum Frame {
    Syn,
    SynAck,
    Hello {
        agent_id: AgentId,
        session: Session,
        next: Next,
    },
    Ack {
        session: Session,
        destination: Destination,
        up_to: u64,
    },
    Refused {
        session: Session,
        destination: Destination,
        sequence_num: u64,
        reason: Reason,
    },
    Ping(u64),
    Pong(u64),
    Goodbye(Last),
    /// The connection was closed by the far end.
    Fin,
    Message(Message),
}

/// A message, and whether it was spoiled on its way.
#[derive(Debug, Clone)]
pub(super) struct Message {
    pub(super) source: AgentId,
    pub(super) session: Session,
    pub(super) destination: Destination,
    pub(super) sequence_num: u64,
    pub(super) timestamp: Timestamp,
    pub(super) spoiled: bool,
    /// Its number in the ledger, for each receiver.
    pub(super) numbers: BTreeMap<usize, u64>,
}

/// One end of a link.
#[derive(Debug)]
pub(super) struct End {
    pub(super) to: Place,
    pub(super) open: bool,
    pub(super) up: bool,
    /// Came before the link was up.
    pub(super) held: Vec<Message>,
}

/// Messages are numbered within these: source, session, whether to everybody.
pub(super) type Stream = (AgentId, Session, bool);

/// What comes to an agent.
#[derive(Debug)]
pub(super) enum Input {
    Signal(Signal),
    Frame(super::world::Wire, Frame),
    /// This link is broken, as far as this end can see.
    Broke(LinkId),
}

/// A message that came, and that the program has not read yet.
#[derive(Debug)]
pub(super) struct Unread {
    /// When it does.
    pub(super) at: Instant,
    pub(super) message: Message,
    /// Whether it is acknowledged only then.
    pub(super) until_taken: bool,
}

#[derive(Debug)]
pub(super) struct Node {
    pub(super) id: AgentId,
    pub(super) session: Session,
    pub(super) place: Place,
    pub(super) mesh: Mesh,
    pub(super) ends: BTreeMap<LinkId, End>,
    /// What its program was given, per stream: the greatest, and on an unreliable channel all.
    pub(super) delivered: BTreeMap<Stream, BTreeSet<u64>>,
    /// What it was told is acknowledged, per receiver and whether to everybody.
    pub(super) acked: BTreeMap<(usize, bool), u64>,
    pub(super) refused: u64,
    /// When it leaves for good, after its goodbyes.
    pub(super) leaves_at: Option<Instant>,
    /// Until when the process is stopped, and what has come meanwhile.
    pub(super) frozen_until: Option<Instant>,
    pub(super) backlog: VecDeque<Input>,
    /// What its program has not read yet, in the order it came.
    pub(super) unread: VecDeque<Unread>,
    /// Until when its program reads nothing that comes.
    pub(super) busy_until: Instant,
    /// Up to where it has acknowledged, per stream.
    pub(super) vouched: BTreeMap<Stream, u64>,
    /// How far its wall clock is off, in milliseconds, and until when.
    pub(super) clock_off: Option<(i64, Instant)>,
}

/// What outlives a process.
#[derive(Debug)]
pub(super) struct Disk {
    pub(super) session: Session,
    pub(super) journal: Journal,
}

/// What became of a message that came.
pub(super) enum Verdict {
    Accepted,
    /// It was spoiled; the peer is to be told, perhaps.
    Spoiled(Option<RefusedNotice>),
    Refused(Reason),
}

impl End {
    pub(super) fn to(to: Place) -> Self {
        Self {
            to,
            open: false,
            up: false,
            held: Vec::new(),
        }
    }
}

impl Message {
    pub(super) fn stream(&self) -> Stream {
        let to_all = self.destination == Destination::All;
        (self.source.clone(), self.session, to_all)
    }
}

impl Node {
    /// A message came over a link that is up; `until_taken` as [`Mesh::accept`] says.
    pub(super) fn receive(
        &mut self,
        link: LinkId,
        message: &Message,
        until_taken: bool,
        now: Instant,
        wall: Timestamp,
    ) -> Verdict {
        if message.spoiled {
            self.refused += 1;
            let claim = Claimed {
                source: Some(&message.source),
                session: Some(message.session),
                destination: Some(&message.destination),
                sequence_num: Some(message.sequence_num),
            };
            return Verdict::Spoiled(self.mesh.refused_unverified(link, &claim, now));
        }
        let header = Header {
            source: &message.source,
            session: message.session,
            destination: &message.destination,
            sequence_num: message.sequence_num,
            timestamp: message.timestamp,
        };
        match self.mesh.accept(link, &header, until_taken, now, wall) {
            Ok(()) => Verdict::Accepted,
            Err(reason) => {
                self.refused += 1;
                Verdict::Refused(reason)
            }
        }
    }

    pub(super) fn is_frozen(&self) -> bool {
        self.frozen_until.is_some()
    }
}
