//! One simulated agent: its mesh, the ends of its links, and what it has delivered.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use ifswarm::identity::{AgentId, LinkId, Session};
use ifswarm::mesh::{Claimed, Header, Last, Mesh, Next, RefusedNotice};
use ifswarm::message::{Destination, Reason, Timestamp};

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

#[derive(Debug)]
pub(super) struct Node {
    pub(super) id: AgentId,
    pub(super) session: Session,
    pub(super) place: Place,
    pub(super) mesh: Mesh,
    pub(super) ends: BTreeMap<LinkId, End>,
    pub(super) delivered: BTreeMap<Stream, BTreeSet<u64>>,
    pub(super) refused: u64,
    /// When it leaves for good, after its goodbyes.
    pub(super) leaves_at: Option<Instant>,
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
    /// A message came over a link that is up. Returns the `refused` that is due for a spoiled one.
    pub(super) fn receive(
        &mut self,
        link: LinkId,
        message: &Message,
        reliable: bool,
        now: Instant,
        wall: Timestamp,
    ) -> Option<RefusedNotice> {
        if message.spoiled {
            self.refused += 1;
            let claim = Claimed {
                source: Some(&message.source),
                session: Some(message.session),
                destination: Some(&message.destination),
                sequence_num: Some(message.sequence_num),
            };
            return self.mesh.refused_unverified(link, &claim, now);
        }
        let header = Header {
            source: &message.source,
            session: message.session,
            destination: &message.destination,
            sequence_num: message.sequence_num,
            timestamp: message.timestamp,
        };
        match self.mesh.accept(link, &header, now, wall) {
            Ok(()) => {
                let delivered = self.delivered.entry(message.stream()).or_default();
                let last = delivered.last().copied();
                if reliable {
                    assert!(
                        last < Some(message.sequence_num),
                        "{message:?} after {last:?}"
                    );
                }
                assert!(delivered.insert(message.sequence_num), "twice: {message:?}");
            }
            Err(reason) => {
                self.refused += 1;
                let told = !reliable && reason == Reason::Replayed;
                assert!(told, "{} refuses {message:?}: {reason}", self.id);
            }
        }
        None
    }
}
