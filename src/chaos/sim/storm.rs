//! What befalls a simulated mesh: the faults of a scenario, at times from the seed, and the weather
//! that is always there (signals lost, doubled and overtaken; dials without a path; spoiled messages).

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::world::{PARTING, World};
use crate::chaos::{Kind, RUNGS};
use crate::identity::LinkId;
use crate::link::memory::Conditions;
use crate::mesh::Last;
use crate::message::Destination;

use super::node::{Frame, Place};

/// Faults that are under way.
#[derive(Debug, Default)]
pub(super) struct Storm {
    /// Pairs between which nothing gets through, in this direction, until then.
    cuts: Vec<(usize, usize, Instant)>,
    /// Who starts again, and when.
    starts: Vec<(usize, Instant)>,
    /// Who comes back to the server, and when.
    returns: Vec<(usize, Instant)>,
    server_back: Option<Instant>,
    calm_again: Option<Instant>,
}

impl Storm {
    /// When something of it is over.
    pub(super) fn next_at(&self) -> Option<Instant> {
        let cuts = self.cuts.iter().map(|(_, _, until)| *until);
        let starts = self.starts.iter().map(|(_, at)| *at);
        let returns = self.returns.iter().map(|(_, at)| *at);
        let single = [self.server_back, self.calm_again].into_iter().flatten();
        cuts.chain(starts).chain(returns).chain(single).min()
    }
}

impl World {
    /// Weather and traffic for a while.
    pub(super) fn live_through(&mut self, span: Duration) {
        self.stormy = true;
        let ms = Duration::from_millis;
        self.signaling.set_conditions(Conditions {
            delay: (ms(1), ms(400)),
            loss: 0,
            duplicates: 150,
            ordered: false,
        });
        self.set_paths(ms(1), ms(60));
        let end = self.now + span;
        while self.now < end && !self.laws.are_broken() {
            let pause = self.chance.between(ms(1), ms(120));
            self.run_until(self.now + pause);
            self.something_happens();
        }
    }

    /// The storm ends, everybody comes back, and time passes.
    pub(super) fn heal(&mut self, span: Duration) {
        self.stormy = false;
        let ms = Duration::from_millis;
        let calm = Conditions {
            delay: (ms(1), ms(30)),
            ..Conditions::steady(Duration::ZERO)
        };
        self.signaling.set_conditions(calm.clone());
        self.control.set_conditions(calm.clone());
        self.messages.set_conditions(calm);
        let over = self.now;
        let storm = &mut self.storm;
        let cuts = storm.cuts.iter_mut().map(|(_, _, at)| at);
        let starts = storm.starts.iter_mut().map(|(_, at)| at);
        let single = [&mut storm.server_back, &mut storm.calm_again];
        let single = single.into_iter().flatten();
        cuts.chain(starts).chain(single).for_each(|at| *at = over);
        self.run_until(over);
        for agent in 0..self.shape.agents {
            let is_leaving = self.nodes.get(&agent).map(|n| n.leaves_at.is_some());
            if is_leaving.unwrap_or(true) {
                self.kill(agent);
                self.enter(agent);
            }
        }
        for node in self.nodes.values_mut() {
            node.clock_off = None;
        }
        self.run_until(self.now + span);
    }

    fn set_paths(&mut self, least: Duration, most: Duration) {
        let reliable = self.shape.reliable;
        // A reliable channel hides loss behind delay; there it is seen as that.
        let paths = |reliable: bool| Conditions {
            delay: (least, most),
            loss: if reliable { 0 } else { 50 },
            duplicates: if reliable { 0 } else { 50 },
            ordered: reliable,
        };
        self.control.set_conditions(paths(true));
        self.messages.set_conditions(paths(reliable));
    }

    fn something_happens(&mut self) {
        let agent = self.anyone();
        let other = self.anyone();
        match self.chance.below(1000) {
            0..480 => self.say(agent, &Destination::Agent(Self::id(other))),
            480..800 => self.say(agent, &Destination::All),
            800..840 => self.break_a_link(agent),
            840..870 => {
                // Forged or repeated: a server can do that.
                self.relay(agent, super::world::Signal::PleaseOffer(Self::id(other)));
            }
            870..885 => self.leave(agent),
            885..889 => self.falls_behind(agent, other),
            889..920 => {
                let waits = self.storm.starts.iter().any(|(who, _)| *who == agent);
                if !self.nodes.contains_key(&agent) && !waits {
                    self.enter(agent);
                }
            }
            _ => {
                let kinds = self.shape.kinds.len() as u64;
                let kind = self.chance.below(kinds) as usize;
                if let Some(kind) = self.shape.kinds.get(kind).copied() {
                    self.strike(kind, agent, other);
                }
            }
        }
    }

    fn anyone(&mut self) -> usize {
        self.chance.below(self.shape.agents as u64) as usize
    }

    fn strike(&mut self, kind: Kind, agent: usize, other: usize) {
        let lasts = self
            .chance
            .between(Duration::from_millis(50), Duration::from_secs(6));
        let until = self.now + lasts;
        match kind {
            Kind::Kill => {
                if self.nodes.contains_key(&agent) {
                    self.kill(agent);
                    // Half of them start again at once.
                    let at = if self.chance.per_mille(500) {
                        self.now
                    } else {
                        until
                    };
                    self.storm.starts.push((agent, at));
                    self.faults.add("kills", 1);
                    if self.disks.contains_key(&agent) {
                        self.faults.add("kills of agents with a disk", 1);
                    }
                    self.weather_changes();
                }
            }
            Kind::Freeze => {
                if let Some(node) = self.nodes.get_mut(&agent)
                    && node.frozen_until.is_none()
                {
                    node.frozen_until = Some(until);
                    self.faults.add("freezes", 1);
                }
            }
            Kind::Cut | Kind::OneWayCut => {
                if self.are_neighbours(agent, other) {
                    self.storm.cuts.push((agent, other, until));
                    match kind {
                        Kind::Cut => {
                            self.storm.cuts.push((other, agent, until));
                            self.faults.add("cuts", 1);
                        }
                        _ => self.faults.add("one-way cuts", 1),
                    }
                }
            }
            Kind::Partition => {
                let one: BTreeSet<_> = (0..self.shape.agents)
                    .filter(|_| self.chance.per_mille(500))
                    .collect();
                for a in 0..self.shape.agents {
                    for b in 0..self.shape.agents {
                        if one.contains(&a) != one.contains(&b) {
                            self.storm.cuts.push((a, b, until));
                        }
                    }
                }
                let is_one = !one.is_empty() && one.len() < self.shape.agents;
                self.faults.add("partitions", u64::from(is_one));
            }
            Kind::Signaling => {
                if self.lose_server() {
                    self.storm.server_back = Some(until);
                    self.faults.add("servers lost", 1);
                }
            }
            Kind::Clock => {
                let by = self.chance.between(Duration::ZERO, JUMP).as_millis() as i64;
                let by = if self.chance.per_mille(500) { by } else { -by };
                if let Some(node) = self.nodes.get_mut(&agent) {
                    node.clock_off = Some((by, until));
                    self.faults.add("clock jumps", 1);
                }
            }
            Kind::Conditions => {
                let rung = RUNGS[self.chance.below(RUNGS.len() as u64) as usize];
                let (least, most) = rung.conditions.delays();
                // What is lost is sent again by the transport, a round trip later.
                let again = if rung.conditions.loss_per_mille > 0 {
                    3 * most
                } else {
                    most
                };
                self.set_paths(least, again.max(Duration::from_millis(1)));
                self.storm.calm_again = Some(until);
                self.faults.add("bad paths", 1);
            }
        }
    }

    /// Faults are over that were to end by now.
    pub(super) fn weather_changes(&mut self) {
        let now = self.now;
        if self.storm.cuts.iter().any(|(_, _, until)| *until <= now) {
            self.storm.cuts.retain(|(_, _, until)| *until > now);
            let stalled = std::mem::take(&mut self.stalled);
            for (from, wire, frame) in stalled {
                match self.is_cut(from, wire.to.agent) {
                    true => self.stalled.push((from, wire, frame)),
                    false => self.put(wire, frame),
                }
            }
        }
        let due: Vec<_> = self
            .storm
            .starts
            .extract_if(.., |(_, at)| *at <= now)
            .collect();
        for (agent, _) in due {
            if !self.nodes.contains_key(&agent) {
                self.enter(agent);
            }
        }
        if self.storm.server_back.is_some_and(|at| at <= now) {
            self.storm.server_back = None;
            self.registered = Some(Default::default());
            for agent in 0..self.shape.agents {
                let pause = self.chance.between(Duration::ZERO, Duration::from_secs(2));
                self.storm.returns.push((agent, now + pause));
            }
        }
        let due: Vec<_> = self
            .storm
            .returns
            .extract_if(.., |(_, at)| *at <= now)
            .collect();
        for (agent, _) in due {
            let node = self.nodes.get(&agent);
            if let Some(thaws) = node.and_then(|node| node.frozen_until) {
                // Once it goes on, and has learnt that the server was gone.
                self.faults.add("registrations put off by a freeze", 1);
                self.storm.returns.push((agent, thaws));
                continue;
            }
            let list = self.registered.as_ref();
            if list.is_some_and(|list| !list.contains_key(&agent)) {
                self.register(agent);
            }
        }
        if self.storm.calm_again.is_some_and(|at| at <= now) {
            self.storm.calm_again = None;
            if self.stormy {
                self.set_paths(Duration::from_millis(1), Duration::from_millis(60));
            }
        }
    }

    /// Whether nothing gets from one to another.
    pub(super) fn is_cut(&self, from: usize, to: usize) -> bool {
        let mut cuts = self.storm.cuts.iter();
        cuts.any(|(a, b, until)| (*a, *b) == (from, to) && *until > self.now)
    }

    /// A link breaks for good, both ways or one way; its ends notice sooner, later, or not at all.
    fn break_a_link(&mut self, agent: usize) {
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
            self.break_wires(link, to);
            if both && self.chance.per_mille(700) {
                self.notices.send(to, link, self.now);
            }
        }
        match both {
            true => self.faults.add("links broken", 1),
            false => self.faults.add("links broken one way", 1),
        }
    }

    fn break_wires(&mut self, link: LinkId, to: Place) {
        for control in [true, false] {
            let wire = super::world::Wire { link, to, control };
            self.control.cut(wire);
            self.messages.cut(wire);
        }
        self.stalled
            .retain(|(_, wire, _)| (wire.link, wire.to) != (link, to));
    }

    pub(super) fn leave(&mut self, agent: usize) {
        let Some(node) = self.nodes.get_mut(&agent).filter(|n| !n.is_frozen()) else {
            return;
        };
        if node.leaves_at.is_some() {
            return;
        }
        self.faults.add("departures", 1);
        node.leaves_at = Some(self.now + PARTING);
        self.release_unread(agent);
        let Some(node) = self.nodes.get_mut(&agent) else {
            return;
        };
        let farewells: Vec<(LinkId, Last)> = node
            .mesh
            .leave(self.now)
            .into_iter()
            .map(|farewell| (farewell.link, farewell.last))
            .collect();
        for (link, last) in farewells {
            self.transmit(agent, link, Frame::Goodbye(last));
        }
        self.drain(agent);
    }
}

/// The farthest that a clock jumps: less than an outbox keeps, so that no message that is read from
/// a disk looks too old to be kept.
const JUMP: Duration = Duration::from_secs(23 * 60 * 60);

#[cfg(test)]
mod tests {
    use super::super::tests::linked;
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_clock_is_put_right_at_the_end_of_its_jump_and_of_the_storm() {
        let mut world = linked();
        world.strike(Kind::Clock, 0, 1);
        assert_ne!(world.wall_of(0), world.wall());
        world.run_until(world.now + 6 * SECOND);
        assert_eq!(world.wall_of(0), world.wall());

        world.strike(Kind::Clock, 0, 1);
        assert_ne!(world.wall_of(0), world.wall());
        world.heal(Duration::ZERO);
        assert_eq!(world.wall_of(0), world.wall());
    }

    #[test]
    fn a_stopped_agent_registers_again_only_when_it_goes_on() {
        let mut world = linked();
        let registered = |world: &World| -> Vec<usize> {
            world
                .registered
                .iter()
                .flatten()
                .map(|(agent, _)| *agent)
                .collect()
        };
        let frozen_until = world.now + 10 * SECOND;
        world.nodes.get_mut(&0).unwrap().frozen_until = Some(frozen_until);
        assert!(world.lose_server());
        world.storm.server_back = Some(world.now + SECOND);
        world.run_until(frozen_until - SECOND);
        assert_eq!(registered(&world), [1]);
        world.run_until(frozen_until + SECOND);
        assert_eq!(registered(&world), [0, 1]);
    }
}
