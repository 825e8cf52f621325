//! The world that simulated agents live in: a signaling server, links, and time.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::faults::Faults;
use super::laws::Laws;
use super::node::{Disk, Frame, Input, Message, Node, Place, Stream};
use super::storm::Storm;
use crate::chaos::ledger::Ledger;
use crate::identity::{AgentId, LinkId, Session};
use crate::link::memory::{Chance, Conditions, Network};
use crate::mesh::{Config, Mesh, Neighbours, OutboxLimits};
use crate::message::Timestamp;
use crate::outbox::State as Journal;

/// What kind of mesh.
#[derive(Debug, Clone)]
pub struct Shape {
    /// How many agents.
    pub agents: usize,
    /// Whether the messaging channel is reliable and ordered.
    pub reliable: bool,
    /// Neighbours only, in a ring; otherwise everybody.
    pub ring: bool,
    /// How much each agent keeps for each other, and how long: where that is not enough for the
    /// storm, messages are given back, which is against the law.
    pub outbox: OutboxLimits,
    /// What befalls it.
    pub kinds: Vec<crate::chaos::Kind>,
}

/// What the signaling server sends.
#[derive(Debug, Clone)]
pub(super) enum Signal {
    /// The connection is gone.
    Lost,
    /// Registered, beside these.
    Registered(Vec<(AgentId, Session)>),
    Joined(AgentId, Session),
    Left(AgentId, Session),
    Offer(Sdp),
    Answer(Sdp),
    PleaseOffer(AgentId),
}

#[derive(Debug, Clone)]
pub(super) struct Sdp {
    pub(super) from: Place,
    pub(super) from_id: AgentId,
    pub(super) session: Session,
    pub(super) to_session: Session,
    pub(super) link: LinkId,
}

/// One direction of one channel of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Wire {
    pub(super) link: LinkId,
    pub(super) to: Place,
    pub(super) control: bool,
}

/// Messages of one agent to another, and whether they were to everybody.
pub(super) type Lane = (usize, usize, bool);

pub(super) struct World {
    pub(super) shape: Shape,
    pub(super) start: Instant,
    pub(super) now: Instant,
    pub(super) chance: Chance,
    pub(super) nodes: BTreeMap<usize, Node>,
    /// Of those that have one.
    pub(super) disks: BTreeMap<usize, Disk>,
    /// The server's list; none while it is away.
    pub(super) registered: Option<BTreeMap<usize, (Place, Session)>>,
    /// Frames of other agents, which come in any order and twice.
    pub(super) signaling: Network<Place, Signal>,
    /// What the server says itself, in order.
    pub(super) roll: Network<Place, Signal>,
    pub(super) control: Network<Wire, Frame>,
    pub(super) messages: Network<Wire, Frame>,
    /// Ends that will notice that their link is broken.
    pub(super) notices: Network<Place, LinkId>,
    /// Offers that the server did not take.
    pub(super) failed: Vec<(Place, LinkId)>,
    /// Frames that wait for a path to be mended, and who sent them.
    pub(super) stalled: Vec<(usize, Wire, Frame)>,
    /// The greatest number that came to an agent in any of its runs, refused ones included.
    pub(super) came: BTreeMap<(usize, Stream), u64>,
    /// All messages, by the number that the meshes keep in their place.
    pub(super) said: Vec<Message>,
    pub(super) ledger: Ledger<Lane>,
    /// Messages that programs were given.
    pub(super) given: u64,
    pub(super) runs: u32,
    pub(super) dials: u64,
    pub(super) stormy: bool,
    pub(super) storm: Storm,
    pub(super) faults: Faults,
    pub(super) laws: Laws,
    pub(super) trace: Option<Vec<String>>,
}

impl World {
    pub(super) fn new(seed: u64, shape: Shape) -> Self {
        let mut chance = Chance::new(seed);
        let start = Instant::now();
        let ms = Duration::from_millis;
        let calm = Conditions {
            delay: (ms(1), ms(30)),
            loss: 0,
            duplicates: 0,
            ordered: true,
        };
        let later = Conditions {
            delay: (ms(0), ms(3000)),
            ordered: false,
            ..calm.clone()
        };
        let mut world = Self {
            start,
            now: start,
            signaling: Network::new(calm.clone(), chance.any()),
            roll: Network::new(calm.clone(), chance.any()),
            control: Network::new(calm.clone(), chance.any()),
            messages: Network::new(calm, chance.any()),
            notices: Network::new(later, chance.any()),
            nodes: BTreeMap::new(),
            disks: BTreeMap::new(),
            registered: Some(BTreeMap::new()),
            failed: Vec::new(),
            stalled: Vec::new(),
            came: BTreeMap::new(),
            said: Vec::new(),
            ledger: Ledger::new(),
            given: 0,
            runs: 0,
            dials: 0,
            stormy: false,
            storm: Storm::default(),
            faults: Faults::default(),
            laws: Laws::default(),
            trace: None,
            chance,
            shape,
        };
        for agent in 0..world.shape.agents {
            if world.shape.reliable && world.chance.per_mille(600) {
                let session = world.new_session();
                let journal = Journal::default();
                world.disks.insert(agent, Disk { session, journal });
            }
        }
        for agent in 0..world.shape.agents {
            world.enter(agent);
        }
        world
    }

    /// The faults that took place, those of the networks among them.
    pub(super) fn faults(&self) -> Faults {
        let mut faults = self.faults.clone();
        faults.add("signals doubled", self.signaling.counts().duplicated);
        let messages = self.messages.counts();
        faults.add("frames lost", messages.lost);
        faults.add("frames doubled", messages.duplicated);
        faults
    }

    pub(super) fn id(agent: usize) -> AgentId {
        let id = format!("agent-{agent:02}").parse();
        id.expect("letters, digits and a dash are an id")
    }

    pub(super) fn are_neighbours(&self, a: usize, b: usize) -> bool {
        let n = self.shape.agents;
        a != b && (!self.shape.ring || (a + 1) % n == b || (b + 1) % n == a)
    }

    pub(super) fn wall(&self) -> Timestamp {
        let ms = self.now.duration_since(self.start).as_millis();
        Timestamp::from_unix_ms(1_700_000_000_000 + ms as i64)
    }

    /// The time that the wall clock of an agent shows.
    pub(super) fn wall_of(&self, agent: usize) -> Timestamp {
        let off = self.nodes.get(&agent).and_then(|node| node.clock_off);
        let off = off.filter(|(_, until)| self.now < *until);
        Timestamp::from_unix_ms(self.wall().unix_ms() + off.map_or(0, |(by_ms, _)| by_ms))
    }

    fn new_session(&mut self) -> Session {
        let mut random = [0; 10];
        random[..8].copy_from_slice(&self.chance.any().to_be_bytes());
        Session::new(self.wall().unix_ms() as u64, random)
    }

    // Agents come and go.

    /// An agent starts, with what its disk remembers, and registers if the server is there; an earlier
    /// run of it is no more.
    pub(super) fn enter(&mut self, agent: usize) {
        self.runs += 1;
        let place = Place {
            agent,
            run: self.runs,
        };
        let made = self.new_session();
        let disk = self.disks.get(&agent);
        let session = disk.map_or(made, |disk| disk.session);
        let neighbours = if self.shape.ring {
            let all = 0..self.shape.agents;
            let ids = all.filter(|other| self.are_neighbours(agent, *other));
            Neighbours::Only(ids.map(Self::id).collect())
        } else {
            Neighbours::All
        };
        let config = Config {
            me: Self::id(agent),
            session,
            neighbours,
            reliable: self.shape.reliable,
            dial_timeout: Duration::from_secs(10),
            making_at_once: 2 + agent % 4,
            outbox: self.shape.outbox,
            durable: disk.is_some(),
            seed: self.chance.any(),
        };
        let mut mesh = Mesh::new(config, self.now);
        if let Some(disk) = self.disks.get(&agent) {
            let (used, peers) = disk.journal.remembered(self.wall());
            mesh.remember(used, peers, self.now);
        }
        let node = Node {
            id: Self::id(agent),
            session,
            place,
            mesh,
            ends: BTreeMap::new(),
            delivered: BTreeMap::new(),
            acked: BTreeMap::new(),
            refused: 0,
            leaves_at: None,
            frozen_until: None,
            backlog: Default::default(),
            unread: Default::default(),
            busy_until: self.now,
            vouched: BTreeMap::new(),
            clock_off: None,
        };
        self.nodes.insert(agent, node);
        self.register(agent);
    }

    /// An agent is killed. Without a disk, what it had to say and what its program had not read are
    /// gone with it.
    pub(super) fn kill(&mut self, agent: usize) {
        if !self.nodes.contains_key(&agent) {
            return;
        }
        if !self.disks.contains_key(&agent) {
            for other in 0..self.shape.agents {
                for to_all in [false, true] {
                    self.ledger.forgive_all(&(agent, other, to_all));
                }
            }
            self.forgive_unread(agent);
        }
        self.exit(agent);
    }

    /// An agent has left for good, in its own time. Nothing is forgiven: what it had to say has come,
    /// or was given back, and what came to it its program reads.
    fn depart(&mut self, agent: usize) {
        if !self.disks.contains_key(&agent) {
            self.program_reads_all(agent);
        }
        self.exit(agent);
    }

    /// The process of an agent is no more. Its links break without a word.
    fn exit(&mut self, agent: usize) {
        self.nodes.remove(&agent);
        self.stalled.retain(|(from, _, _)| *from != agent);
        if !self.disks.contains_key(&agent) {
            for other in 0..self.shape.agents {
                for to_all in [false, true] {
                    self.ledger.receiver_forgets(&(other, agent, to_all));
                }
            }
        }
        let registered = self.registered.as_mut();
        if let Some((_, session)) = registered.and_then(|list| list.remove(&agent)) {
            self.announce(agent, &Signal::Left(Self::id(agent), session));
        }
    }

    // The server.

    /// An agent registers, for the first time or again, if the server is there.
    pub(super) fn register(&mut self, agent: usize) {
        let (Some(node), Some(list)) = (self.nodes.get_mut(&agent), &mut self.registered) else {
            return;
        };
        let others = list.iter().filter(|(other, _)| **other != agent);
        let there = others.map(|(other, (_, session))| (Self::id(*other), *session));
        let there = Signal::Registered(there.collect());
        let (session, place) = (node.session, node.place);
        if let Some((_, old)) = list.insert(agent, (place, session)) {
            self.announce(agent, &Signal::Left(Self::id(agent), old));
        }
        self.announce(agent, &Signal::Joined(Self::id(agent), session));
        self.roll.send(place, there, self.now);
    }

    /// The server is gone, and with it whoever is registered and what it was about to say.
    pub(super) fn lose_server(&mut self) -> bool {
        let Some(list) = self.registered.take() else {
            return false;
        };
        while self.roll.receive(self.now + LONG).is_some() {}
        while self.signaling.receive(self.now + LONG).is_some() {}
        for (place, _) in list.into_values() {
            self.on_signal(place, Signal::Lost);
        }
        true
    }

    fn announce(&mut self, about: usize, signal: &Signal) {
        for (other, (place, _)) in self.registered.iter().flatten() {
            if *other != about {
                self.roll.send(*place, signal.clone(), self.now);
            }
        }
    }

    /// Relayed by the server, unless it is lost there. False: there is nobody of that id, or no server.
    pub(super) fn relay(&mut self, to: usize, signal: Signal) -> bool {
        let registered = self.registered.as_ref();
        let Some((place, _)) = registered.and_then(|list| list.get(&to)).copied() else {
            return false;
        };
        if self.stormy && self.chance.per_mille(80) {
            self.faults.add("signals lost", 1);
        } else {
            self.signaling.send(place, signal, self.now);
        }
        true
    }

    // Time.

    pub(super) fn run_until(&mut self, end: Instant) {
        while let Some(at) = self.next_at().filter(|at| *at <= end) {
            if self.laws.are_broken() {
                return;
            }
            let now = self.now;
            self.laws
                .must(at >= now, || "something is due in the past".into());
            self.now = at.max(now);
            while let Some((to, signal)) = self.signaling.receive(at) {
                self.on_signal(to, signal);
            }
            while let Some((to, signal)) = self.roll.receive(at) {
                self.on_signal(to, signal);
            }
            while let Some((wire, frame)) = self.control.receive(at) {
                self.on_frame(wire, frame);
            }
            while let Some((wire, frame)) = self.messages.receive(at) {
                self.on_frame(wire, frame);
            }
            while let Some((to, link)) = self.notices.receive(at) {
                self.end_broke(to, link);
            }
            self.weather_changes();
            for agent in 0..self.shape.agents {
                self.agent_wakes(agent);
            }
        }
        self.now = self.now.max(end);
    }

    /// What is due for an agent.
    fn agent_wakes(&mut self, agent: usize) {
        let at = self.now;
        let Some(node) = self.nodes.get_mut(&agent) else {
            return;
        };
        if node.frozen_until.is_some_and(|until| until <= at) {
            node.frozen_until = None;
            // What it would have done meanwhile, it does now.
            node.leaves_at = node.leaves_at.map(|_| at + PARTING);
            let backlog = std::mem::take(&mut node.backlog);
            let place = node.place;
            for input in backlog {
                match input {
                    Input::Signal(signal) => self.on_signal(place, signal),
                    Input::Frame(wire, frame) => self.on_frame(wire, frame),
                    Input::Broke(link) => self.end_broke(place, link),
                }
            }
        }
        self.program_reads(agent);
        let Some(node) = self.nodes.get_mut(&agent).filter(|n| !n.is_frozen()) else {
            return;
        };
        if node.leaves_at.is_some_and(|leaves| leaves <= at) {
            let open = node.mesh.open_links();
            self.laws
                .must(open == 0, || format!("{agent} has left with {open} links"));
            self.depart(agent);
        } else if node.mesh.timeout().is_some_and(|due| due <= at) {
            node.mesh.tick(at);
            // Otherwise the loop of an agent would never sleep.
            let next = node.mesh.timeout();
            self.laws.must(next.is_none_or(|next| next > at), || {
                format!("{agent} has done what is due, and the same is due again")
            });
            self.drain(agent);
        }
    }

    fn next_at(&self) -> Option<Instant> {
        let nodes = self.nodes.values();
        let nodes = nodes.filter_map(|node| match node.frozen_until {
            Some(until) => Some(until),
            None => {
                let unread = node.unread.front().map(|unread| unread.at);
                let due = [node.mesh.timeout(), node.leaves_at, unread];
                due.into_iter().flatten().min()
            }
        });
        let networks = [
            self.signaling.next_at(),
            self.roll.next_at(),
            self.control.next_at(),
            self.messages.next_at(),
            self.notices.next_at(),
            self.storm.next_at(),
        ];
        nodes.chain(networks.into_iter().flatten()).min()
    }
}

/// The place of an agent, by its id.
pub(super) fn index(id: &AgentId) -> usize {
    let digits = id.as_str().trim_start_matches("agent-");
    digits.parse().expect("made by this world")
}

/// From the goodbye to the end of a process.
pub(super) const PARTING: Duration = Duration::from_secs(3);
/// Later than anything in flight arrives.
const LONG: Duration = Duration::from_secs(3600);
