//! Which agents are linked with which. Every topology is decided by the order of the agents in
//! the file alone, so that every process of a swarm comes to the same links without asking.

use crate::identity::AgentId;

/// Which pairs of agents get a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Topology {
    /// Every pair.
    #[default]
    FullMesh,
    /// Every agent has this many links: the circulant graph. Agents stand in a circle, and each
    /// is linked with the nearest on both sides; an odd number adds the one opposite.
    KRegular(usize),
    /// The first agent of the file is linked with every other one, and these with nobody else.
    HubSpoke,
    /// Every agent is linked with the one before and the one after it, the last with the first.
    Ring,
}

impl Topology {
    /// The links between `agents`: each once, its smaller id first, sorted.
    pub fn links(&self, agents: &[AgentId]) -> Vec<(AgentId, AgentId)> {
        let mut links: Vec<_> = self
            .pairs(agents.len())
            .map(|(a, b)| {
                let (a, b) = (&agents[a], &agents[b]);
                (a.min(b).clone(), a.max(b).clone())
            })
            .collect();
        links.sort_unstable();
        links
    }

    /// The agents that `of` is linked with, sorted. None when `of` is not among `agents`.
    pub fn neighbours(&self, agents: &[AgentId], of: &AgentId) -> Vec<AgentId> {
        let Some(me) = agents.iter().position(|id| id == of) else {
            return Vec::new();
        };
        let mut neighbours: Vec<_> = (0..agents.len())
            .filter(|&other| self.joins(me, other, agents.len()))
            .map(|other| agents[other].clone())
            .collect();
        neighbours.sort_unstable();
        neighbours
    }

    /// How many links `agents` agents have.
    pub(crate) fn count(&self, agents: usize) -> usize {
        self.pairs(agents).count()
    }

    fn pairs(&self, agents: usize) -> impl Iterator<Item = (usize, usize)> {
        (0..agents)
            .flat_map(move |a| (a + 1..agents).map(move |b| (a, b)))
            .filter(move |&(a, b)| self.joins(a, b, agents))
    }

    /// Whether the agents at places `a` and `b`, of `agents`, are linked.
    fn joins(&self, a: usize, b: usize, agents: usize) -> bool {
        let around = a.abs_diff(b);
        let distance = around.min(agents - around);
        distance > 0
            && match *self {
                Self::FullMesh => true,
                Self::KRegular(k) => distance <= k / 2 || (k % 2 == 1 && distance * 2 == agents),
                Self::HubSpoke => a == 0 || b == 0,
                Self::Ring => distance == 1,
            }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ids(n: usize) -> Vec<AgentId> {
        (0..n)
            .map(|i| format!("a{i:03}").parse().unwrap())
            .collect()
    }

    fn written(topology: Topology, agents: &[&str]) -> String {
        let agents: Vec<AgentId> = agents.iter().map(|id| id.parse().unwrap()).collect();
        let links = topology.links(&agents);
        let links: Vec<_> = links.iter().map(|(a, b)| format!("{a}{b}")).collect();
        links.join(" ")
    }

    #[test]
    fn links_have_the_smaller_id_first_and_are_sorted() {
        let agents = ["d", "b", "a", "c"];
        assert_eq!(written(Topology::FullMesh, &agents), "ab ac ad bc bd cd");
        assert_eq!(written(Topology::HubSpoke, &agents), "ad bd cd");
        assert_eq!(written(Topology::Ring, &agents), "ab ac bd cd");
        assert_eq!(written(Topology::KRegular(1), &agents), "ad bc");
        assert_eq!(written(Topology::KRegular(2), &agents), "ab ac bd cd");
        assert_eq!(written(Topology::KRegular(3), &agents), "ab ac ad bc bd cd");
    }

    #[test]
    fn two_agents_have_one_link_in_every_topology() {
        for topology in [
            Topology::FullMesh,
            Topology::HubSpoke,
            Topology::Ring,
            Topology::KRegular(1),
        ] {
            assert_eq!(written(topology, &["a", "b"]), "ab", "{topology:?}");
        }
    }

    #[test]
    fn a_stranger_has_no_neighbours() {
        let stranger = "b".parse().unwrap();
        assert!(Topology::FullMesh.neighbours(&ids(3), &stranger).is_empty());
    }

    fn any_topology() -> impl Strategy<Value = Topology> {
        prop_oneof![
            Just(Topology::FullMesh),
            Just(Topology::HubSpoke),
            Just(Topology::Ring),
            (0usize..50).prop_map(Topology::KRegular),
        ]
    }

    proptest! {
        #[test]
        fn neighbours_say_the_same_as_links(topology in any_topology(), n in 0usize..40) {
            let agents = ids(n);
            let links = topology.links(&agents);
            prop_assert_eq!(topology.count(n), links.len());
            prop_assert!(links.windows(2).all(|pair| pair[0] < pair[1]));
            for me in &agents {
                let mut expected: Vec<_> = links
                    .iter()
                    .filter_map(|(a, b)| match me {
                        me if me == a => Some(b.clone()),
                        me if me == b => Some(a.clone()),
                        _ => None,
                    })
                    .collect();
                expected.sort();
                prop_assert_eq!(topology.neighbours(&agents, me), expected);
            }
        }

        #[test]
        fn every_agent_of_a_k_regular_swarm_has_k_links(n in 2usize..40, k in 1usize..39) {
            prop_assume!(k < n && (n * k).is_multiple_of(2));
            let agents = ids(n);
            for me in &agents {
                prop_assert_eq!(Topology::KRegular(k).neighbours(&agents, me).len(), k);
            }
        }
    }
}
