//! What programs do: they say things, and they read what they are given, when they like.

use std::collections::BTreeMap;
use std::time::Duration;

use super::node::{Message, Place, Unread};
use super::world::{World, index};
use crate::identity::Session;
use crate::mesh::MAX_UNDER_WAY;
use crate::message::Destination;

impl World {
    /// An agent says something, to one or to everybody, if its mesh takes it.
    pub(super) fn say(&mut self, agent: usize, destination: &Destination) {
        let wall = self.wall_of(agent);
        let Some(node) = self.nodes.get_mut(&agent).filter(|n| !n.is_frozen()) else {
            return;
        };
        let assigned = match node.mesh.assign(destination, self.now) {
            Ok(assigned) => assigned,
            Err(err) => return self.may_refuse(agent, destination, &err),
        };
        let spoiled = self.stormy && self.chance.per_mille(30);
        self.faults.add("spoiled", u64::from(spoiled));
        let mut numbers = BTreeMap::new();
        for peer in assigned.to.iter().filter(|_| !spoiled) {
            let to = index(peer);
            let lane = (agent, to, *destination == Destination::All);
            let number = self.ledger.offer(&lane);
            self.ledger.accepted(&lane, number);
            numbers.insert(to, number);
        }
        let place = self.said.len().to_string().into();
        self.said.push(Message {
            source: node.id.clone(),
            session: node.session,
            destination: destination.clone(),
            sequence_num: assigned.sequence_num,
            timestamp: wall,
            spoiled,
            numbers,
        });
        if let Some(disk) = self.disks.get_mut(&agent) {
            let (to, number, at) = (&assigned.to, assigned.sequence_num, wall.unix_ms());
            disk.journal.accepted(to, destination, number, at, &place);
        }
        node.mesh.sent(destination, &assigned, &place, self.now);
        self.drain(agent);
    }

    /// A program reads nothing for a while, and another one has more to say to it than may be under
    /// way at a time.
    pub(super) fn falls_behind(&mut self, agent: usize, other: usize) {
        let busy = self.chance.between(Duration::ZERO, LONGEST_BUSY);
        let Some(node) = self.nodes.get_mut(&agent) else {
            return;
        };
        node.busy_until = node.busy_until.max(self.now + busy);
        self.faults.add("programs busy", 1);
        for _ in 0..self.chance.below(MUCH) {
            let to = match self.chance.per_mille(50) {
                true => Destination::All,
                false => Destination::Agent(Self::id(agent)),
            };
            self.say(other, &to);
        }
    }

    /// Whether a message that comes is acknowledged only when the program has read it: on an agent
    /// with a disk, and on one in memory whose program is behind, as in `agent::taking`.
    pub(super) fn waits_for_program(&self, agent: usize, message: &Message) -> bool {
        let Some(node) = self.nodes.get(&agent) else {
            return false;
        };
        let of_its = node.unread.iter();
        let of_its = of_its.filter(|unread| unread.message.source == message.source);
        self.disks.contains_key(&agent) || self.shape.reliable && of_its.count() >= MAX_UNDER_WAY
    }

    /// A message is accepted, and lies there until the program reads it.
    pub(super) fn hand_over(&mut self, agent: usize, message: Message, until_taken: bool) {
        let pause = match self.chance.per_mille(200) {
            true => self.chance.between(Duration::ZERO, LONGEST_PAUSE),
            false => Duration::ZERO,
        };
        let has_disk = self.disks.contains_key(&agent);
        let Some(node) = self.nodes.get_mut(&agent) else {
            return;
        };
        let (source, session) = (message.source.clone(), message.session);
        let last = node.unread.back().map_or(self.now, |unread| unread.at);
        node.unread.push_back(Unread {
            at: (self.now + pause).max(last).max(node.busy_until),
            message,
            until_taken,
        });
        let of_its = node.unread.iter().map(|unread| &unread.message);
        let of_its = of_its.filter(|m| m.source == source && m.session == session);
        let count = of_its.count();
        if until_taken && !has_disk {
            self.faults.add("messages held until read", 1);
        }
        // Those acknowledged before it was behind, and those under way meanwhile: an agent has room
        // for no more, and would have to leave its link unread.
        let bound = self.shape.reliable.then_some(2 * MAX_UNDER_WAY);
        self.laws
            .must(bound.is_none_or(|bound| count <= bound), || {
                format!("{count} messages of {source} lie unread at {agent}")
            });
        self.program_reads(agent);
    }

    /// A program reads what it reads by now.
    pub(super) fn program_reads(&mut self, agent: usize) {
        let now = self.now;
        while let Some(node) = self.nodes.get_mut(&agent)
            && !node.is_frozen()
            && node.unread.front().is_some_and(|unread| unread.at <= now)
            && let Some(Unread {
                message,
                until_taken,
                ..
            }) = node.unread.pop_front()
        {
            self.given += 1;
            let to_all = message.destination == Destination::All;
            if until_taken {
                let (source, session) = (&message.source, message.session);
                let (to, number) = (&message.destination, message.sequence_num);
                let settled = node.mesh.taken(source, session, to, number, now);
                if let (Some(up_to), Some(disk)) = (settled, self.disks.get_mut(&agent)) {
                    disk.journal.seen(source, session, to_all, up_to);
                }
            }
            match message.numbers.get(&agent) {
                Some(number) => {
                    let lane = (index(&message.source), agent, to_all);
                    self.ledger.delivered(&lane, *number);
                }
                None => self.laws.must(false, || {
                    format!("{agent} is given {message:?}, which was never accepted for it")
                }),
            }
            self.drain(agent);
        }
    }

    /// The program of an agent that has left reads all that it was given.
    pub(super) fn program_reads_all(&mut self, agent: usize) {
        let now = self.now;
        if let Some(node) = self.nodes.get_mut(&agent) {
            node.unread.iter_mut().for_each(|unread| unread.at = now);
        }
        self.program_reads(agent);
    }

    /// Nothing waits for the program any more to be acknowledged, for the agent leaves: without a
    /// disk, what it was given it has.
    pub(super) fn release_unread(&mut self, agent: usize) {
        let node = self.nodes.get_mut(&agent);
        let node = node.filter(|_| !self.disks.contains_key(&agent));
        for unread in node.into_iter().flat_map(|node| &mut node.unread) {
            unread.until_taken = false;
        }
    }

    /// What an agent without a disk has acknowledged and its program has not read is gone with it, and
    /// need not come. What it has not acknowledged must come again.
    pub(super) fn forgive_unread(&mut self, agent: usize) {
        let Some(node) = self.nodes.get(&agent) else {
            return;
        };
        for Unread { message, .. } in &node.unread {
            let vouched = node.vouched.get(&message.stream()).copied();
            if let Some(number) = message.numbers.get(&agent)
                && vouched >= Some(message.sequence_num)
            {
                let to_all = message.destination == Destination::All;
                let lane = (index(&message.source), agent, to_all);
                self.ledger.forgive(&lane, *number);
                self.faults.add("messages lost unread", 1);
            }
        }
    }

    /// An agent acknowledges what came from another one in this session, up to this number.
    pub(super) fn vouches(
        &mut self,
        agent: usize,
        (far, session): (usize, Session),
        to_all: bool,
        up_to: u64,
    ) {
        let stream = (Self::id(far), session, to_all);
        let Some(node) = self.nodes.get_mut(&agent) else {
            return;
        };
        let mut waiting = node.unread.iter().filter(|unread| unread.until_taken);
        let waits = waiting.find(|Unread { message, .. }| {
            message.sequence_num <= up_to && message.stream() == stream
        });
        let waits = waits.map(|unread| unread.message.sequence_num);
        if let Some(number) = waits {
            self.laws.must(false, || {
                format!(
                    "{agent} acknowledges {up_to} of {far}, and its program has not read {number}"
                )
            });
        }
        let vouched = node.vouched.entry(stream).or_default();
        *vouched = up_to.max(*vouched);
    }

    /// In which session an agent is, or was, that is at the far end of a wire. Not known of one that
    /// has neither a process nor a disk.
    pub(super) fn session_at(&self, place: Place) -> Option<Session> {
        let disk = self.disks.get(&place.agent).map(|disk| disk.session);
        let node = self.nodes.get(&place.agent).filter(|n| n.place == place);
        disk.or(node.map(|node| node.session))
    }
}

/// How long a program that is not busy leaves a message unread.
const LONGEST_PAUSE: Duration = Duration::from_millis(80);
/// How long one is busy: longer than a peer that leaves waits for it.
const LONGEST_BUSY: Duration = Duration::from_secs(6);
/// What is said to one that is busy: up to half more than it keeps unread, so that some has to wait.
const MUCH: u64 = 3 * MAX_UNDER_WAY as u64;
