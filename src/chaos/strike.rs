//! Faults are done to the processes of a run and lifted again, and what shows them is noted.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tokio::time::timeout;

use super::heal::Part;
use super::record::Written;
use super::run::ChaosError;
use super::said::{Order, PeerIs, Vitals};
use super::scenario::{Kind, What};
use super::stage::{Actor, Lane, Stage};
use crate::identity::AgentId;

impl Stage<'_> {
    /// A fault begins.
    pub(super) async fn begin(&mut self, fault: usize) -> Result<(), ChaosError> {
        let what = self.records[fault].fault.what.clone();
        let struck = self.parts_of(fault, &what);
        self.options.progress.step(&format!(
            "{:>4} s of {}: {what}",
            self.elapsed().as_secs(),
            self.options.length(self.scenario).as_secs()
        ));
        tracing::info!(at_s = self.elapsed().as_secs_f64(), "{what}");
        // What was struck before it began is told before the order that begins it is read.
        self.ask_vitals(fault, Ask::Before);
        let stops = !what.lets_heal();
        self.healing.begin((fault, stops), self.elapsed(), struck);
        self.records[fault].began = Some(Instant::now());
        match &what {
            What::Kill(agent) => {
                let agent = place(&self.scenario.swarm.ids(), agent);
                self.records[fault].witnesses = self.linked_with(agent);
                let actor = &mut self.agents[agent];
                actor.ready = false;
                if let Some(mut process) = actor.process.take() {
                    let killed = process.kill().await;
                    self.records[fault].by_kernel = killed.unwrap_or(false);
                    // Its successor may speak before the end of its output is heard.
                    self.forget(agent);
                }
            }
            What::Freeze(agent) => {
                let actor = &self.agents[place(&self.scenario.swarm.ids(), agent)];
                if let Some(process) = &actor.process {
                    let _ = process.freeze();
                }
            }
            What::Signaling => {
                if let Some(mut server) = self.server.take() {
                    let killed = server.kill().await.unwrap_or(false);
                    self.server_is_gone();
                    self.records[fault].by_kernel = killed && self.is_refused().await;
                }
            }
            What::Clock { agent, by_ms } => {
                let agent = place(&self.scenario.swarm.ids(), agent);
                self.order(agent, &Order::Clock(*by_ms));
            }
            What::Cut { .. } | What::Partition(..) | What::Conditions { .. } => self.tell_all(),
        }
        Ok(())
    }

    /// A fault is lifted. It is over at once, or when what it struck has started again.
    pub(super) fn end(&mut self, fault: usize) -> Result<(), ChaosError> {
        let what = self.records[fault].fault.what.clone();
        let ids = self.scenario.swarm.ids();
        match &what {
            What::Kill(agent) => {
                let agent = place(&ids, agent);
                self.agents[agent].ends.push(fault);
                self.start_agent(agent)?;
                self.records[fault].lifted = true;
                return Ok(());
            }
            What::Signaling => {
                self.server_ends.push(fault);
                self.start_server()?;
                self.records[fault].lifted = true;
                return Ok(());
            }
            What::Freeze(agent) => {
                let agent = place(&ids, agent);
                if let Some(process) = &self.agents[agent].process {
                    self.records[fault].by_kernel = process.is_frozen();
                    let _ = process.thaw();
                }
            }
            What::Clock { agent, .. } => self.order(place(&ids, agent), &Order::Clock(0)),
            What::Cut { .. } | What::Partition(..) | What::Conditions { .. } => {}
        }
        self.records[fault].lifted = true;
        self.ask_vitals(fault, Ask::AtEnd);
        self.tell_all();
        self.over(fault);
        self.ask_vitals(fault, Ask::After);
        Ok(())
    }

    /// A fault is over: from now on it has to heal.
    pub(super) fn over(&mut self, fault: usize) {
        self.records[fault].ended = Some(Instant::now());
        let at = self.elapsed();
        let ledger = &self.ledger;
        self.healing.end(fault, at, |part| match part {
            Part::Lane(from, to) => ledger.next(&(*from, *to)),
            Part::Registration(_) | Part::Paths { .. } => 0,
        });
        // Those who are registered already wait for nothing.
        for agent in 0..self.agents.len() {
            if self.has_registered(agent) {
                let registration = Part::Registration(agent);
                self.healing.works(&registration, at, |_, _| true);
            }
            // And who is no more has no conditions.
            if self.agents[agent].process.is_none() {
                self.paths_are_as_before(fault, agent);
            }
        }
    }

    /// The agent does not have the conditions of this fault, or not any more.
    pub(super) fn paths_are_as_before(&mut self, fault: usize, agent: usize) {
        // It took no time: another fault may hold its word up, and how long it is until messages get
        // through is measured by them.
        let at = Duration::ZERO;
        let paths = Part::Paths { fault, agent };
        self.healing.works(&paths, at, |_, _| true);
    }

    /// What a fault strikes: messages between agents, registrations, and how paths are.
    fn parts_of(&self, fault: usize, what: &What) -> Vec<Part> {
        let lanes = self.lanes_of(what);
        let paths = match what {
            What::Conditions { .. } => senders(&lanes),
            _ => BTreeSet::new(),
        };
        let paths = paths.into_iter().map(|agent| Part::Paths { fault, agent });
        let lanes = lanes.into_iter().map(|(from, to)| Part::Lane(from, to));
        let is_struck = |agent: &usize| match what {
            What::Signaling => true,
            What::Kill(id) | What::Freeze(id) => self.agents[*agent].id == *id,
            _ => false,
        };
        let agents = (0..self.agents.len()).filter(is_struck);
        let registrations = agents.map(Part::Registration);
        lanes.chain(registrations).chain(paths).collect()
    }

    fn lanes_of(&self, what: &What) -> Vec<Lane> {
        let touches = |lane: &&Lane| what.touches(&self.agents[lane.0].id, &self.agents[lane.1].id);
        self.lanes.iter().filter(touches).copied().collect()
    }

    /// The living agents that say of their link with this one that it is up.
    fn linked_with(&self, agent: usize) -> BTreeSet<usize> {
        let lanes = self.up.iter().filter(|lane| lane.1 == agent);
        let lives = |other: &usize| self.agents[*other].process.is_some();
        lanes.map(|lane| lane.0).filter(lives).collect()
    }

    fn tell_all(&mut self) {
        for agent in 0..self.agents.len() {
            self.tell_conditions(agent);
        }
    }

    /// Whether nobody takes connections where the server was.
    async fn is_refused(&self) -> bool {
        let Some(at) = self.server_at else {
            return false;
        };
        let connecting = timeout(Duration::from_secs(1), TcpStream::connect(at)).await;
        matches!(connecting, Ok(Err(_)))
    }

    // What shows them.

    /// Asks those whose paths a fault strikes what they have counted, and under which conditions.
    fn ask_vitals(&mut self, fault: usize, when: Ask) {
        let what = &self.records[fault].fault.what;
        let is_path = match what {
            What::Cut { .. } | What::Partition(..) => when != Ask::After,
            What::Conditions { .. } => true,
            _ => false,
        };
        if is_path {
            for agent in senders(&self.lanes_of(what)) {
                self.order(agent, &Order::Vitals(when.tag(fault)));
            }
        }
    }

    /// An agent tells what it has counted.
    pub(super) fn hear_vitals(&mut self, agent: usize, vitals: &Vitals) {
        let all = vitals.paths.values().map(|struck| struck.all());
        let Some((fault, when)) = Ask::of(vitals.tag) else {
            return;
        };
        let Some(record) = self.records.get_mut(fault) else {
            self.struck += all.sum::<u64>();
            return;
        };
        let Actor { id, life, .. } = &self.agents[agent];
        match when {
            Ask::Before => record.hear_before(agent, *life, vitals),
            Ask::AtEnd => record.hear_at_end((agent, id), *life, vitals),
            Ask::After if record.is_gone_from(vitals) => self.paths_are_as_before(fault, agent),
            Ask::After => {}
        }
    }

    /// A line of an agent came.
    pub(super) fn note_heard(&mut self, agent: usize, at: Instant) {
        let me = &self.agents[agent].id;
        for record in &mut self.records {
            if matches!(&record.fault.what, What::Freeze(frozen) if frozen == me)
                && record.has_settled(at)
            {
                record.against += 1;
            }
        }
    }

    /// An agent speaks of its link with another.
    pub(super) fn note_link(&mut self, agent: usize, peer: usize, state: PeerIs) {
        let peer = &self.agents[peer].id;
        for record in &mut self.records {
            if matches!(&record.fault.what, What::Kill(killed) if killed == peer) {
                record.hear_of_link(agent, state);
            }
        }
    }

    /// An agent has seen that the server is gone.
    pub(super) fn note_signaling_lost(&mut self) {
        for record in &mut self.records {
            if record.fault.what == What::Signaling && record.is_under_way() {
                record.seen += 1;
            }
        }
    }

    /// A message has arrived: whether it shows that faults took place, or that they have healed.
    pub(super) fn note_delivered(
        &mut self,
        (from, to): Lane,
        number: u64,
        written: Option<Written>,
        at: Instant,
    ) {
        for record in self.records.iter_mut().filter(|r| r.is_under_way()) {
            record.delivered += 1;
            if let What::Clock { agent, by_ms } = &record.fault.what
                && self.agents[from].id == *agent
                && written.is_some_and(|written| written.is_off_by(*by_ms))
            {
                record.seen += 1;
            }
        }
        let is_right = written.is_some_and(Written::is_right);
        let at = at.saturating_duration_since(self.begun);
        let records = &self.records;
        self.healing
            .works(&Part::Lane(from, to), at, |fault, first| {
                // One that did not set its clock right would go on sending.
                let is_clock = records[fault].fault.what.kind() == Kind::Clock;
                number >= first && (is_right || !is_clock)
            });
    }
}

/// When vitals are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ask {
    /// Before the fault is done.
    Before,
    /// Before it is lifted.
    AtEnd,
    /// After that.
    After,
}

impl Ask {
    const ALL: [Self; 3] = [Self::Before, Self::AtEnd, Self::After];

    /// The number that they are asked with.
    fn tag(self, fault: usize) -> u64 {
        (Self::ALL.len() * fault + self as usize) as u64
    }

    /// The fault, and when they were asked, by that number.
    fn of(tag: u64) -> Option<(usize, Self)> {
        let tag = usize::try_from(tag).ok()?;
        let count = Self::ALL.len();
        Some((tag / count, *Self::ALL.get(tag % count)?))
    }
}

/// Who sends on these lanes, each once.
fn senders(lanes: &[Lane]) -> BTreeSet<usize> {
    lanes.iter().map(|lane| lane.0).collect()
}

/// The place of an agent of the swarm; the reader has looked that it is one.
fn place(ids: &[AgentId], id: &AgentId) -> usize {
    let place = ids.iter().position(|other| other == id);
    place.expect("a scenario names agents of its swarm only")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_sends_on_many_lanes_is_asked_once_in_whatever_order_they_come() {
        let lanes = [(0, 1), (1, 0), (0, 2), (2, 0), (1, 2), (2, 1)];
        assert_eq!(senders(&lanes), BTreeSet::from([0, 1, 2]));
    }
}
