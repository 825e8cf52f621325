//! The world that simulated agents live in: a signaling server, links, faults, and the laws that
//! hold whatever happens.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use ifswarm::identity::{AgentId, LinkId, Session};
use ifswarm::link::memory::{Chance, Conditions, Network};
use ifswarm::mesh::{Config, Mesh, Neighbours, OutboxLimits, PeerState};
use ifswarm::message::{Destination, Timestamp};

use super::faults::Faults;
use super::node::{Frame, Message, Node, Place, Stream};

/// What kind of mesh.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub(super) agents: usize,
    pub(super) reliable: bool,
    pub(super) ring: bool,
}

/// What the signaling server sends.
#[derive(Debug, Clone)]
pub(super) enum Signal {
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

pub(super) struct World {
    pub(super) shape: Shape,
    pub(super) start: Instant,
    pub(super) now: Instant,
    pub(super) chance: Chance,
    pub(super) nodes: BTreeMap<usize, Node>,
    /// The server's list.
    pub(super) registered: BTreeMap<usize, (Place, Session)>,
    pub(super) signaling: Network<Place, Signal>,
    pub(super) control: Network<Wire, Frame>,
    pub(super) messages: Network<Wire, Frame>,
    /// Ends that will notice that their link is broken.
    pub(super) notices: Network<Place, LinkId>,
    /// The greatest number that came to an agent in any of its runs, refused ones included.
    pub(super) came: BTreeMap<(usize, Stream), u64>,
    /// All messages, by the number that the meshes keep in their place.
    pub(super) said: Vec<Message>,
    pub(super) runs: u32,
    pub(super) dials: u64,
    pub(super) stormy: bool,
    pub(super) faults: Faults,
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
            shape,
            start,
            now: start,
            signaling: Network::new(calm.clone(), chance.any()),
            control: Network::new(calm.clone(), chance.any()),
            messages: Network::new(calm, chance.any()),
            notices: Network::new(later, chance.any()),
            chance,
            nodes: BTreeMap::new(),
            registered: BTreeMap::new(),
            came: BTreeMap::new(),
            said: Vec::new(),
            runs: 0,
            dials: 0,
            stormy: false,
            faults: Faults::default(),
            trace: None,
        };
        for agent in 0..shape.agents {
            world.enter(agent);
        }
        world
    }

    pub(super) fn faults(&self) -> Faults {
        let signals = self.signaling.counts();
        let messages = self.messages.counts();
        Faults {
            signals_doubled: signals.duplicated,
            messages_lost: messages.lost,
            messages_doubled: messages.duplicated,
            replays_refused: self.nodes.values().map(|node| node.refused).sum(),
            ..self.faults
        }
    }

    pub(super) fn dials(&self) -> u64 {
        self.dials
    }

    pub(super) fn keep_trace(&mut self) {
        self.trace = Some(Vec::new());
    }

    pub(super) fn into_trace(self) -> Vec<String> {
        self.trace.unwrap_or_default()
    }

    fn id(agent: usize) -> AgentId {
        format!("agent-{agent:02}").parse().unwrap()
    }

    fn are_neighbours(&self, a: usize, b: usize) -> bool {
        let n = self.shape.agents;
        a != b && (!self.shape.ring || (a + 1) % n == b || (b + 1) % n == a)
    }

    pub(super) fn wall(&self) -> Timestamp {
        let ms = self.now.duration_since(self.start).as_millis();
        Timestamp::from_unix_ms(1_700_000_000_000 + ms as i64)
    }

    // Agents come and go.

    /// An agent starts and registers; an earlier run of it is no more.
    fn enter(&mut self, agent: usize) {
        self.runs += 1;
        let place = Place {
            agent,
            run: self.runs,
        };
        let mut random = [0; 10];
        random[..8].copy_from_slice(&self.chance.any().to_be_bytes());
        let session = Session::new(self.wall().unix_ms() as u64, random);
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
            outbox: OutboxLimits::default(),
            durable: false,
            seed: self.chance.any(),
        };
        let mut mesh = Mesh::new(config, self.now);
        for (other, (_, session)) in &self.registered {
            if *other != agent {
                mesh.peer_seen(&Self::id(*other), *session, self.now);
            }
        }
        let node = Node {
            id: Self::id(agent),
            session,
            place,
            mesh,
            ends: BTreeMap::new(),
            delivered: BTreeMap::new(),
            refused: 0,
            leaves_at: None,
        };
        self.nodes.insert(agent, node);
        if let Some((_, old)) = self.registered.insert(agent, (place, session)) {
            self.announce(agent, &Signal::Left(Self::id(agent), old));
        }
        self.announce(agent, &Signal::Joined(Self::id(agent), session));
        self.drain(agent);
    }

    /// An agent is gone from the server and from the world; its links break without a word.
    fn exit(&mut self, agent: usize) {
        self.nodes.remove(&agent);
        if let Some((_, session)) = self.registered.remove(&agent) {
            self.announce(agent, &Signal::Left(Self::id(agent), session));
        }
    }

    fn announce(&mut self, about: usize, signal: &Signal) {
        for (other, (place, _)) in &self.registered {
            if *other != about {
                self.signaling.send(*place, signal.clone(), self.now);
            }
        }
    }

    /// Relayed by the server, unless it is lost there. False: there is nobody of that id.
    pub(super) fn relay(&mut self, to: usize, signal: Signal) -> bool {
        let Some((place, _)) = self.registered.get(&to).copied() else {
            return false;
        };
        if self.stormy && self.chance.per_mille(80) {
            self.faults.signals_lost += 1;
        } else {
            self.signaling.send(place, signal, self.now);
        }
        true
    }

    // Time.

    /// Weather and traffic for a while.
    pub(super) fn live_through(&mut self, span: Duration) {
        self.stormy = true;
        self.signaling.set_conditions(Conditions {
            delay: (Duration::from_millis(1), Duration::from_millis(400)),
            loss: 0,
            duplicates: 150,
            ordered: false,
        });
        if !self.shape.reliable {
            self.messages.set_conditions(Conditions {
                delay: (Duration::from_millis(1), Duration::from_millis(60)),
                loss: 50,
                duplicates: 50,
                ordered: false,
            });
        }
        let end = self.now + span;
        while self.now < end {
            let pause = self
                .chance
                .between(Duration::from_millis(1), Duration::from_millis(120));
            self.run_until(self.now + pause);
            self.something_happens();
        }
    }

    /// The weather ends, everybody comes back, and time passes.
    pub(super) fn heal(&mut self, span: Duration) {
        self.stormy = false;
        let calm = Conditions {
            delay: (Duration::from_millis(1), Duration::from_millis(30)),
            ..Conditions::steady(Duration::ZERO)
        };
        self.signaling.set_conditions(calm.clone());
        self.messages.set_conditions(calm);
        for agent in 0..self.shape.agents {
            let leaving = |node: &Node| node.leaves_at.is_some();
            if self.nodes.get(&agent).is_none_or(leaving) {
                self.exit(agent);
                self.enter(agent);
            }
        }
        self.run_until(self.now + span);
    }

    fn run_until(&mut self, end: Instant) {
        while let Some(at) = self.next_at().filter(|at| *at <= end) {
            assert!(at >= self.now, "time runs forward");
            self.now = at;
            while let Some((to, signal)) = self.signaling.receive(at) {
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
            for agent in 0..self.shape.agents {
                let Some(node) = self.nodes.get_mut(&agent) else {
                    continue;
                };
                if node.leaves_at.is_some_and(|leaves| leaves <= at) {
                    assert_eq!(node.mesh.open_links(), 0, "all have parted");
                    self.exit(agent);
                } else if node.mesh.timeout().is_some_and(|due| due <= at) {
                    node.mesh.tick(at);
                    self.drain(agent);
                }
            }
        }
        self.now = end;
    }

    fn next_at(&self) -> Option<Instant> {
        let nodes = self.nodes.values();
        let nodes = nodes.flat_map(|node| [node.mesh.timeout(), node.leaves_at]);
        let networks = [
            self.signaling.next_at(),
            self.control.next_at(),
            self.messages.next_at(),
            self.notices.next_at(),
        ];
        nodes.chain(networks).flatten().min()
    }

    fn something_happens(&mut self) {
        let agent = self.chance.below(self.shape.agents as u64) as usize;
        let other = self.chance.below(self.shape.agents as u64) as usize;
        match self.chance.below(1000) {
            0..500 => self.say(agent, &Destination::Agent(Self::id(other))),
            500..850 => self.say(agent, &Destination::All),
            850..900 => self.cut(agent),
            900..930 => {
                // Forged or repeated: a server can do that.
                self.relay(agent, Signal::PleaseOffer(Self::id(other)));
            }
            930..955 => {
                self.faults.restarts += 1;
                self.nodes.remove(&agent);
                self.enter(agent);
            }
            955..970 => self.leave(agent),
            _ => {
                if !self.nodes.contains_key(&agent) {
                    self.enter(agent);
                }
            }
        }
    }

    fn say(&mut self, agent: usize, destination: &Destination) {
        let wall = self.wall();
        let Some(node) = self.nodes.get_mut(&agent) else {
            return;
        };
        let Ok(assigned) = node.mesh.assign(destination, self.now) else {
            return;
        };
        let spoiled = self.stormy && self.chance.per_mille(30);
        self.faults.spoiled += u64::from(spoiled);
        let message = Message {
            source: node.id.clone(),
            session: node.session,
            destination: destination.clone(),
            sequence_num: assigned.sequence_num,
            timestamp: wall,
            spoiled,
        };
        let place = self.said.len().to_string();
        self.said.push(message);
        node.mesh
            .sent(destination, &assigned, &place.into(), self.now);
        self.drain(agent);
    }

    /// A link breaks, both ways or one way; its ends notice sooner, later, or not at all.
    fn cut(&mut self, agent: usize) {
        let Some(node) = self.nodes.get(&agent) else {
            return;
        };
        let nth = self.chance.below(node.ends.len() as u64) as usize;
        let Some((link, end)) = node.ends.iter().nth(nth) else {
            return;
        };
        let (link, here, there) = (*link, node.place, end.to);
        let both = self.chance.per_mille(700);
        for to in if both { vec![here, there] } else { vec![there] } {
            for control in [true, false] {
                let wire = Wire { link, to, control };
                self.control.cut(wire);
                self.messages.cut(wire);
            }
            if both && self.chance.per_mille(700) {
                self.notices.send(to, link, self.now);
            }
        }
        match both {
            true => self.faults.cuts += 1,
            false => self.faults.one_way_cuts += 1,
        }
    }

    fn leave(&mut self, agent: usize) {
        let Some(node) = self.nodes.get_mut(&agent) else {
            return;
        };
        if node.leaves_at.is_some() {
            return;
        }
        self.faults.departures += 1;
        node.leaves_at = Some(self.now + Duration::from_secs(3));
        for farewell in node.mesh.leave(self.now) {
            self.transmit(agent, farewell.link, Frame::Goodbye(farewell.last));
        }
        self.drain(agent);
    }

    // What must be so in the end.

    /// Everybody says one thing to everybody, once directly and once to all.
    pub(super) fn probe(&mut self) {
        let delivered = |world: &Self| -> usize {
            let nodes = world.nodes.values();
            let sets = nodes.flat_map(|node| node.delivered.values());
            sets.map(BTreeSet::len).sum()
        };
        let before = delivered(self);
        let mut sent = 0;
        for a in 0..self.shape.agents {
            for b in 0..self.shape.agents {
                if !self.are_neighbours(a, b) {
                    continue;
                }
                self.say(a, &Destination::Agent(Self::id(b)));
                sent += 2;
            }
            self.say(a, &Destination::All);
        }
        self.run_until(self.now + Duration::from_secs(1));
        assert_eq!(delivered(self) - before, sent, "each probe arrives once");
    }

    pub(super) fn check(&self) {
        let mut links = BTreeSet::new();
        let mut expected = 0;
        for (a, node) in &self.nodes {
            let views: BTreeMap<_, _> = node.mesh.peers().map(|v| (v.id.clone(), v)).collect();
            let neighbours = (0..self.shape.agents).filter(|b| self.are_neighbours(*a, *b));
            let neighbours: Vec<_> = neighbours.collect();
            expected += neighbours.len();
            assert_eq!(node.mesh.open_links(), neighbours.len(), "{}", node.id);
            assert_eq!(node.mesh.expected_links(), neighbours.len());
            assert_eq!(node.ends.len(), neighbours.len(), "no end left over");
            assert_eq!(views.len(), neighbours.len(), "nobody else is kept");
            for b in neighbours {
                let view = &views[&Self::id(b)];
                assert_eq!(view.state, PeerState::Up, "{} to {b}", node.id);
                assert_eq!(view.session, Some(self.nodes[&b].session));
                assert_eq!(view.unacked, 0);
                assert!(view.rtt.is_some());
                let far = self.nodes[&b].mesh.peers().find(|v| v.id == node.id);
                let far = far.expect("they know each other");
                assert_eq!(view.link, far.link, "both ends mean the same link");
                links.extend(view.link);
            }
        }
        assert_eq!(links.len(), expected / 2);
        if !self.shape.ring {
            let n = self.shape.agents;
            assert_eq!(links.len(), n * (n - 1) / 2);
        }
        let in_flight = self.control.in_flight() + self.messages.in_flight();
        assert!(in_flight <= 4 * links.len(), "{in_flight} frames in flight");
    }
}

pub(super) fn index(id: &AgentId) -> usize {
    let digits = id.as_str().trim_start_matches("agent-");
    digits.parse().expect("made by this world")
}
