//! What the agents of a run are told: orders, and how their paths are.

use super::conditions::Conditions;
use super::process::Unwritten;
use super::said::Order;
use super::scenario::Kind;
use super::stage::Stage;

impl Stage<'_> {
    /// Writes an order; none is held up by drafts.
    pub(super) fn order(&mut self, agent: usize, order: &Order) {
        let Some(process) = &mut self.agents[agent].process else {
            return; // One that starts is told how its paths are.
        };
        if process.write(order.line()) == Err(Unwritten::Full) {
            let id = &self.agents[agent].id;
            self.fail(format!("{id} reads nothing: an order to it is lost"));
        }
    }

    /// Tells an agent how its paths are, where that has changed.
    pub(super) fn tell_conditions(&mut self, agent: usize) {
        let peers: Vec<_> = self.lanes.iter().filter(|lane| lane.0 == agent).collect();
        let peers: Vec<_> = peers.into_iter().map(|lane| lane.1).collect();
        for peer in peers {
            let path = self.path(agent, peer);
            let told = self.agents[agent].told.insert(peer, path);
            if told.unwrap_or_default() == path {
                continue;
            }
            self.turn += 1;
            // Each path has its own luck, and it changes with what befalls it.
            let seed =
                self.options.seed ^ ((agent as u64) << 32) ^ ((peer as u64) << 16) ^ self.turn;
            let (a, b) = (&self.agents[agent].id, &self.agents[peer].id);
            for record in self.records.iter_mut().filter(|r| r.is_under_way()) {
                let what = &record.fault.what;
                if what.kind() == Kind::Conditions && what.touches(a, b) {
                    record.seeds.insert(seed);
                }
            }
            let order = Order::Conditions {
                peer: b.clone(),
                path: (!path.are_calm()).then_some(path),
                seed,
            };
            self.order(agent, &order);
        }
    }

    /// How the path from an agent to a peer is, faults and all.
    fn path(&self, from: usize, to: usize) -> Conditions {
        let (a, b) = (&self.agents[from].id, &self.agents[to].id);
        let calm = self.rung.unwrap_or_else(|| self.scenario.conditions(a, b));
        let under_way = self.records.iter().filter(|record| record.is_under_way());
        under_way.fold(calm, |path, record| record.fault.what.applied(path, a, b))
    }
}
