//! What the records of a journal add up to. Pure.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::record::Record;
use crate::identity::{AgentId, Session};
use crate::mesh::{Lanes, Remembered, RememberedSeen, RememberedSent};
use crate::message::{Destination, Timestamp};

/// The state of an agent's messages. Cheap to clone: a peer is copied when one of the two changes
/// it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct State {
    /// The greatest number used under `*`.
    used: u64,
    peers: BTreeMap<AgentId, Arc<Peer>>,
    /// How many peers each message under `*` is kept for.
    broadcasts: BTreeMap<u64, usize>,
    /// Bytes of the messages that are kept, each counted once.
    kept_bytes: usize,
}

/// One peer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Peer {
    sent: Lanes<Sent>,
    seen: Option<(Session, Lanes<RememberedSeen>)>,
}

/// What was meant for a peer under one destination.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Sent {
    greatest: u64,
    kept: BTreeMap<u64, Kept>,
}

/// A message that is not settled.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Kept {
    at: i64,
    bytes: Bytes,
}

impl State {
    /// Takes a record in; the first line of a journal is none of its business.
    pub(super) fn apply(&mut self, record: &Record<'_>) {
        match record {
            Record::Opened { .. } => {}
            Record::Broadcasts { used } => self.used = self.used.max(*used),
            Record::Peer { peer, direct, all } => {
                let sent = &mut self.peer(peer).sent;
                sent.direct.greatest = sent.direct.greatest.max(*direct);
                sent.all.greatest = sent.all.greatest.max(*all);
            }
            Record::Accepted {
                to,
                destination,
                sequence_num,
                at,
                message,
            } => {
                let bytes = Bytes::copy_from_slice(message.as_bytes());
                self.accepted(to, destination, *sequence_num, *at, &bytes);
            }
            Record::Settled {
                peer,
                destination,
                from,
                to,
            } => self.settled(peer, destination, (*from, *to)),
            Record::Seen {
                peer,
                session,
                to_all,
                up_to,
            } => self.seen(peer, *session, *to_all, *up_to),
            Record::Taken {
                peer,
                session,
                to_all,
                number,
            } => self.taken(peer, *session, *to_all, *number),
        }
    }

    /// A message was accepted for these.
    pub(crate) fn accepted(
        &mut self,
        to: &[AgentId],
        destination: &Destination,
        number: u64,
        at: i64,
        bytes: &Bytes,
    ) {
        if *destination == Destination::All {
            self.used = self.used.max(number);
        }
        for peer in to {
            let sent = self.peer(peer).lane(destination);
            sent.greatest = sent.greatest.max(number);
            let kept = Kept {
                at,
                bytes: bytes.clone(),
            };
            if let Some(before) = sent.kept.insert(number, kept) {
                self.dropped(destination, number, before.bytes.len());
            }
            self.kept(destination, number, bytes.len());
        }
    }

    /// These are settled.
    pub(crate) fn settled(&mut self, peer: &AgentId, to: &Destination, (from, up_to): (u64, u64)) {
        let kept = &mut self.peer(peer).lane(to).kept;
        let mut gone = Vec::new();
        // Mostly the oldest, a few at a time.
        while let Some((number, kept_one)) = kept.range(from..).next()
            && *number <= up_to
        {
            let number = *number;
            gone.push((number, kept_one.bytes.len()));
            kept.remove(&number);
        }
        for (number, bytes) in gone {
            self.dropped(to, number, bytes);
        }
    }

    /// One peer more has a message kept for it.
    fn kept(&mut self, destination: &Destination, number: u64, bytes: usize) {
        if *destination == Destination::All {
            let receivers = self.broadcasts.entry(number).or_default();
            *receivers += 1;
            if *receivers > 1 {
                return;
            }
        }
        self.kept_bytes += bytes;
    }

    /// One peer fewer.
    fn dropped(&mut self, destination: &Destination, number: u64, bytes: usize) {
        if *destination == Destination::All
            && let Some(receivers) = self.broadcasts.get_mut(&number)
        {
            *receivers -= 1;
            if *receivers > 0 {
                return;
            }
            self.broadcasts.remove(&number);
        }
        // A file may say of a number that it is of two lengths.
        self.kept_bytes = self.kept_bytes.saturating_sub(bytes);
    }

    /// Messages of a peer are in the hands of the program, all up to this one.
    pub(crate) fn seen(&mut self, peer: &AgentId, session: Session, to_all: bool, up_to: u64) {
        if let Some(lane) = self.lane_of(peer, session, to_all) {
            lane.up_to = lane.up_to.max(Some(up_to));
            let up_to = lane.up_to;
            lane.beyond.retain(|number| Some(*number) > up_to);
        }
    }

    /// This one is, and those before it need not be.
    pub(crate) fn taken(&mut self, peer: &AgentId, session: Session, to_all: bool, number: u64) {
        if let Some(lane) = self.lane_of(peer, session, to_all)
            && Some(number) > lane.up_to
        {
            lane.beyond.insert(number);
        }
    }

    /// What was seen of a peer's session; none of one that a later one has taken the place of.
    fn lane_of(
        &mut self,
        peer: &AgentId,
        session: Session,
        to_all: bool,
    ) -> Option<&mut RememberedSeen> {
        let seen = &mut self.peer(peer).seen;
        if seen.as_ref().is_none_or(|(known, _)| *known < session) {
            *seen = Some((session, Lanes::default()));
        }
        let (_, lanes) = seen.as_mut().filter(|(known, _)| *known == session)?;
        Some(match to_all {
            true => &mut lanes.all,
            false => &mut lanes.direct,
        })
    }

    /// Whether this peer is known.
    pub(super) fn knows(&self, peer: &AgentId) -> bool {
        self.peers.contains_key(peer)
    }

    /// A peer belongs to the mesh.
    pub(crate) fn meet(&mut self, peer: &AgentId) {
        self.peer(peer);
    }

    /// Another session begins: nothing was sent in it. Returns what was not settled: peer, to
    /// everybody or not, number.
    pub(super) fn forget_sent(&mut self) -> Vec<(AgentId, bool, u64)> {
        self.used = 0;
        self.kept_bytes = 0;
        self.broadcasts.clear();
        let mut lost = Vec::new();
        for (id, peer) in &mut self.peers {
            let Lanes { direct, all } = std::mem::take(&mut Arc::make_mut(peer).sent);
            lost.extend(direct.kept.into_keys().map(|n| (id.clone(), false, n)));
            lost.extend(all.kept.into_keys().map(|n| (id.clone(), true, n)));
        }
        lost
    }

    /// As the mesh takes it up at `now`.
    pub(crate) fn remembered(&self, now: Timestamp) -> (u64, Vec<Remembered>) {
        let lane = |sent: &Sent| RememberedSent {
            greatest: sent.greatest,
            kept: sent
                .kept
                .iter()
                .map(|(number, kept)| {
                    // A clock that was put back makes nothing older than it is.
                    let age = now.unix_ms().saturating_sub(kept.at);
                    let age = u64::try_from(age).unwrap_or(0);
                    (*number, Duration::from_millis(age), kept.bytes.clone())
                })
                .collect(),
        };
        let peers = self.peers.iter().map(|(id, peer)| Remembered {
            peer: id.clone(),
            sent: Lanes {
                direct: lane(&peer.sent.direct),
                all: lane(&peer.sent.all),
            },
            seen: peer.seen.clone(),
        });
        (self.used, peers.collect())
    }

    /// How long a journal of this state alone would be, roughly.
    pub(super) fn live_bytes(&self) -> usize {
        self.kept_bytes + self.peers.len() * BYTES_PER_PEER
    }

    /// Hands on the records of a journal of this state alone, one after the other.
    ///
    /// # Errors
    /// Whatever `each` fails with, at once.
    pub(super) fn records<E>(
        &self,
        mut each: impl FnMut(&Record<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        each(&Record::Broadcasts { used: self.used })?;
        let mut broadcasts: BTreeMap<u64, (&Kept, Vec<AgentId>)> = BTreeMap::new();
        for (id, peer) in &self.peers {
            let Lanes { direct, all } = &peer.sent;
            each(&Record::Peer {
                peer: Cow::Borrowed(id),
                direct: direct.greatest,
                all: all.greatest,
            })?;
            let to_it = Destination::Agent(id.clone());
            for (number, kept) in &direct.kept {
                each(&kept.record(std::slice::from_ref(id), &to_it, *number))?;
            }
            for (number, kept) in &all.kept {
                let (_, to) = broadcasts.entry(*number).or_insert((kept, Vec::new()));
                to.push(id.clone());
            }
            let Some((session, seen)) = &peer.seen else {
                continue;
            };
            for (to_all, seen) in [(false, &seen.direct), (true, &seen.all)] {
                let mut records = seen.records(id, *session, to_all);
                records.try_for_each(|record| each(&record))?;
            }
        }
        for (number, (kept, to)) in broadcasts {
            each(&kept.record(&to, &Destination::All, number))?;
        }
        Ok(())
    }

    fn peer(&mut self, id: &AgentId) -> &mut Peer {
        Arc::make_mut(self.peers.entry(id.clone()).or_default())
    }
}

impl Peer {
    fn lane(&mut self, destination: &Destination) -> &mut Sent {
        match destination {
            Destination::All => &mut self.sent.all,
            Destination::Agent(_) => &mut self.sent.direct,
        }
    }
}

impl RememberedSeen {
    fn records<'a>(
        &'a self,
        peer: &'a AgentId,
        session: Session,
        to_all: bool,
    ) -> impl Iterator<Item = Record<'a>> {
        let up_to = self.up_to.map(|up_to| Record::Seen {
            peer: Cow::Borrowed(peer),
            session,
            to_all,
            up_to,
        });
        let beyond = self.beyond.iter().map(move |number| Record::Taken {
            peer: Cow::Borrowed(peer),
            session,
            to_all,
            number: *number,
        });
        up_to.into_iter().chain(beyond)
    }
}

impl Kept {
    fn record<'a>(
        &'a self,
        to: &'a [AgentId],
        destination: &'a Destination,
        sequence_num: u64,
    ) -> Record<'a> {
        Record::Accepted {
            to: Cow::Borrowed(to),
            destination: Cow::Borrowed(destination),
            sequence_num,
            at: self.at,
            message: String::from_utf8_lossy(&self.bytes),
        }
    }
}

/// Its records without messages.
const BYTES_PER_PEER: usize = 512;
