//! Faults are done to the processes of a run and lifted again, and what shows them is noted.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tokio::time::timeout;

use super::heal::Part;
use super::record::Jump;
use super::run::ChaosError;
use super::said::{Order, PeerIs, Vitals};
use super::scenario::What;
use super::stage::{Actor, Lane, Stage};
use crate::bench::wall_clock;
use crate::identity::AgentId;
use crate::message::Timestamp;

impl Stage<'_> {
    /// A fault begins.
    pub(super) async fn begin(&mut self, fault: usize) -> Result<(), ChaosError> {
        let what = self.records[fault].fault.what.clone();
        let struck = self.parts_of(&what);
        self.options.progress.step(&format!(
            "{:>4} s of {}: {what}",
            self.elapsed().as_secs(),
            self.options.length(self.scenario).as_secs()
        ));
        tracing::info!(at_s = self.elapsed().as_secs_f64(), "{what}");
        // What was struck before it began is told before the order that begins it is read.
        self.ask_vitals(&what, 2 * fault as u64);
        self.healing.begin(fault, struck);
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
                self.records[fault].jump = Some(Jump::default());
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
                // The server has given it up; the agent will find that out, and say when it is back.
                let began = self.records[fault].began;
                if began.is_some_and(|began| began.elapsed() > GIVEN_UP_AFTER) {
                    self.registered.remove(&agent);
                }
            }
            What::Clock { agent, .. } => self.order(place(&ids, agent), &Order::Clock(0)),
            What::Cut { .. } | What::Partition(..) | What::Conditions { .. } => {}
        }
        self.records[fault].lifted = true;
        self.ask_vitals(&what, 2 * fault as u64 + 1);
        self.tell_all();
        self.over(fault);
        Ok(())
    }

    /// A fault is over: from now on it has to heal.
    pub(super) fn over(&mut self, fault: usize) {
        self.records[fault].ended = Some(Instant::now());
        let at = self.elapsed();
        let ledger = &self.ledger;
        self.healing.end(fault, at, |part| match part {
            Part::Lane(from, to) => ledger.next(&(*from, *to)),
            Part::Registration(_) => 0,
        });
        // Those who are registered already wait for nothing.
        for agent in &self.registered {
            self.healing.works(&Part::Registration(*agent), 0, at);
        }
    }

    /// What a fault strikes: messages between agents, and registrations.
    fn parts_of(&self, what: &What) -> Vec<Part> {
        let lanes = self.lanes_of(what).into_iter();
        let lanes = lanes.map(|(from, to)| Part::Lane(from, to));
        let is_struck = |agent: &usize| match what {
            What::Signaling => true,
            What::Kill(id) | What::Freeze(id) => self.agents[*agent].id == *id,
            _ => false,
        };
        let agents = (0..self.agents.len()).filter(is_struck);
        lanes.chain(agents.map(Part::Registration)).collect()
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

    /// Asks those whose paths a fault strikes what they have counted. Even numbers are asked before
    /// it, odd ones after it.
    fn ask_vitals(&mut self, what: &What, tag: u64) {
        if !matches!(
            what,
            What::Cut { .. } | What::Partition(..) | What::Conditions { .. }
        ) {
            return;
        }
        for agent in senders(&self.lanes_of(what)) {
            self.order(agent, &Order::Vitals(tag));
        }
    }

    /// An agent tells what it has counted.
    pub(super) fn hear_vitals(&mut self, agent: usize, vitals: &Vitals) {
        let all = vitals.paths.values().map(|struck| struck.all());
        let Ok(tag) = usize::try_from(vitals.tag) else {
            return;
        };
        let Some(record) = self.records.get_mut(tag / 2) else {
            self.struck += all.sum::<u64>();
            return;
        };
        let Actor { id, life, .. } = &self.agents[agent];
        match tag % 2 {
            0 => record.hear_before(agent, *life, vitals),
            _ => record.hear_at_end((agent, id), *life, vitals),
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

    /// A message is offered, which its sender will say when it wrote.
    pub(super) fn note_offered(&mut self, (from, to): Lane, number: u64) {
        let from = &self.agents[from].id;
        for record in self.records.iter_mut().filter(|r| r.is_under_way()) {
            if let (What::Clock { agent, .. }, Some(jump)) = (&record.fault.what, &mut record.jump)
                && agent == from
            {
                jump.offered((to, number), wall_clock().unix_ms());
            }
        }
    }

    /// A message has arrived that says when it was written.
    pub(super) fn note_delivered(&mut self, (from, to): Lane, number: u64, written: Timestamp) {
        let now = wall_clock().unix_ms();
        for record in self.records.iter_mut().filter(|r| r.is_under_way()) {
            record.delivered += 1;
            if let (What::Clock { agent, by_ms }, Some(jump)) =
                (&record.fault.what, &mut record.jump)
                && self.agents[from].id == *agent
            {
                let shows = jump.shows(*by_ms, (to, number), written.unix_ms(), now);
                record.seen += u64::from(shows);
            }
        }
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

/// The signaling server drops a connection that shows no life from one of its pings to the next, every
/// 15 s: after this one it surely has.
const GIVEN_UP_AFTER: Duration = Duration::from_secs(32);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_sends_on_many_lanes_is_asked_once_in_whatever_order_they_come() {
        let lanes = [(0, 1), (1, 0), (0, 2), (2, 0), (1, 2), (2, 1)];
        assert_eq!(senders(&lanes), BTreeSet::from([0, 1, 2]));
    }
}
