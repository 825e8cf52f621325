//! What must be so whatever happens, and what must be so in the end. A law that is broken stops the
//! run and is told with its seed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::world::{World, index};
use crate::mesh::{PeerState, SendError};
use crate::message::Destination;

/// The first law that was broken.
#[derive(Debug, Default)]
pub(super) struct Laws(Option<String>);

impl Laws {
    /// This holds, or the run ends.
    pub(super) fn must(&mut self, holds: bool, else_what: impl FnOnce() -> String) {
        if !holds && self.0.is_none() {
            self.0 = Some(else_what());
        }
    }

    pub(super) fn are_broken(&self) -> bool {
        self.0.is_some()
    }

    pub(super) fn broken(self) -> Option<String> {
        self.0
    }
}

impl World {
    /// Everybody says one thing to everybody, once directly and once to all.
    pub(super) fn probe(&mut self) {
        let before = self.given;
        let mut sent = 0;
        for a in 0..self.shape.agents {
            for b in 0..self.shape.agents {
                if self.are_neighbours(a, b) {
                    self.say(a, &Destination::Agent(Self::id(b)));
                    sent += 2;
                }
            }
            self.say(a, &Destination::All);
        }
        self.run_until(self.now + Duration::from_secs(1));
        let came = self.given - before;
        self.laws.must(came == sent, || {
            format!("of {sent} messages between agents that are linked {came} arrived")
        });
    }

    /// What a mesh may say to a program instead of taking its message.
    pub(super) fn may_refuse(&mut self, agent: usize, to: &Destination, err: &SendError) {
        let Some(node) = self.nodes.get(&agent) else {
            return;
        };
        // Both have it, or one may not know yet that the other is gone or leaves.
        let mut linked = node.ends.values().filter(|end| {
            let far = self.nodes.get(&end.to.agent);
            let far = far.filter(|far| far.place == end.to && far.leaves_at.is_none());
            end.up && far.is_some()
        });
        let may = match err {
            SendError::ToMyself => *to == Destination::Agent(node.id.clone()),
            SendError::Leaving => node.leaves_at.is_some(),
            SendError::NotConnected { peer } => linked.all(|end| end.to.agent != index(peer)),
            SendError::NoPeers => linked.next().is_none(),
            // In no run is there more to keep than an outbox holds.
            SendError::Full { .. } => false,
        };
        self.laws.must(may, || {
            format!("{agent} does not take a message to {to:?}: {err}")
        });
    }

    /// What must be so when all has healed.
    pub(super) fn check(&mut self) {
        if let Err(broken) = self.links_are_right() {
            self.laws.must(false, || broken);
        }
        if !self.shape.reliable {
            return;
        }
        let (sums, losses) = (self.ledger.sums(), self.ledger.losses());
        self.laws.must(sums.lost == 0, || {
            let ((from, to, to_all), count, first) = losses[0];
            let whom = if to_all { "everybody" } else { "it" };
            format!(
                "{} messages lost: {count} of agent {from} for agent {to}, to {whom}, the first is number {first}",
                sums.lost
            )
        });
        self.laws.must(sums.doubled == 0, || {
            format!("{} messages came twice", sums.doubled)
        });
        self.laws.must(sums.out_of_order == 0, || {
            format!("{} messages out of order", sums.out_of_order)
        });
        self.laws.must(sums.unasked == 0, || {
            format!("{} messages came that were refused", sums.unasked)
        });
        for (agent, disk) in &self.disks {
            let (_, peers) = disk.journal.remembered(self.wall());
            let kept = peers.iter().map(|peer| &peer.sent);
            let kept: usize = kept
                .map(|sent| sent.direct.kept.len() + sent.all.kept.len())
                .sum();
            self.laws.must(kept == 0, || {
                format!("the disk of {agent} keeps {kept} messages that are settled")
            });
        }
    }

    fn links_are_right(&self) -> Result<(), String> {
        let mut links = BTreeSet::new();
        let mut expected = 0;
        for (a, node) in &self.nodes {
            let views: BTreeMap<_, _> = node.mesh.peers().map(|v| (v.id.clone(), v)).collect();
            let neighbours = (0..self.shape.agents).filter(|b| self.are_neighbours(*a, *b));
            let neighbours: Vec<_> = neighbours.collect();
            expected += neighbours.len();
            let counts = [
                ("open links", node.mesh.open_links()),
                ("expected links", node.mesh.expected_links()),
                ("ends of links", node.ends.len()),
                ("peers kept", views.len()),
            ];
            for (what, found) in counts {
                if found != neighbours.len() {
                    let expected = neighbours.len();
                    return Err(format!("{} has {found} {what}, not {expected}", node.id));
                }
            }
            for b in neighbours {
                let wrong = |what: &str| Err(format!("{} and agent {b}: {what}", node.id));
                let Some(view) = views.get(&Self::id(b)) else {
                    return wrong("not known");
                };
                let far = self.nodes.get(&b);
                let Some(far) = far.filter(|far| view.session == Some(far.session)) else {
                    return wrong("known in another session");
                };
                if view.state != PeerState::Up {
                    return wrong(view.state.as_str());
                }
                if view.unacked != 0 && self.shape.reliable {
                    return wrong("something is not acknowledged");
                }
                let its = far.mesh.peers().find(|view| view.id == node.id);
                if its.is_none_or(|its| its.link != view.link) {
                    return wrong("the ends mean different links");
                }
                links.extend(view.link);
            }
        }
        let in_flight = self.control.in_flight() + self.messages.in_flight();
        match () {
            () if links.len() != expected / 2 => Err("a link is counted twice".into()),
            () if in_flight > 4 * links.len() => Err(format!("{in_flight} frames in flight")),
            () => Ok(()),
        }
    }
}
