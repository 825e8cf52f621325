//! Who asks and who answers on each link: requests go from the smaller id to the greater, but to a
//! program where one end is one.

use std::collections::HashSet;

use crate::identity::AgentId;
use crate::swarm::Swarm;

/// A link, in the direction in which requests go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ends {
    pub(super) from: AgentId,
    pub(super) to: AgentId,
    pub(super) answers: Answers,
}

/// Who answers the requests of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answers {
    /// The agent, at once.
    Agent,
    /// The program at its pipes.
    Program,
    /// Both ends are programs, which would not know what they are answered: nobody asks.
    Nobody,
}

/// Who asks on these links, which name the smaller end first.
pub(super) fn ends(
    swarm: &Swarm,
    links: impl IntoIterator<Item = (AgentId, AgentId)>,
) -> Vec<Ends> {
    let programs: HashSet<_> = swarm
        .agents
        .iter()
        .filter(|agent| agent.exec.is_some())
        .map(|agent| &agent.id)
        .collect();
    let links = links.into_iter();
    links
        .map(|(a, b)| {
            let (from, to, answers) = match (programs.contains(&a), programs.contains(&b)) {
                (false, false) => (a, b, Answers::Agent),
                (false, true) => (a, b, Answers::Program),
                (true, false) => (b, a, Answers::Program),
                (true, true) => (a, b, Answers::Nobody),
            };
            Ends { from, to, answers }
        })
        .collect()
}

/// On how many of them somebody asks.
pub(super) fn asked(ends: &[Ends]) -> u64 {
    let asked = ends.iter().filter(|ends| ends.answers != Answers::Nobody);
    asked.count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::swarm::Exec;

    #[test]
    fn programs_are_asked_and_never_ask() {
        let mut swarm = Swarm::full_mesh("x".parse().unwrap(), 4);
        for program in [0, 2] {
            swarm.agents[program].exec = Some(Exec {
                command: "cat".into(),
                folder: ".".into(),
            });
        }
        let ends = ends(&swarm, swarm.links());
        let shown = ends.iter().map(|ends| {
            let number = |id: &AgentId| id.as_str().trim_start_matches("agent-").to_owned();
            (number(&ends.from) + &number(&ends.to), ends.answers)
        });
        let expected = [
            ("0201", Answers::Program),
            ("0103", Answers::Nobody),
            ("0401", Answers::Program),
            ("0203", Answers::Program),
            ("0204", Answers::Agent),
            ("0403", Answers::Program),
        ];
        assert_eq!(
            shown.collect::<Vec<_>>(),
            expected.map(|(ends, answers)| (ends.to_owned(), answers))
        );
        assert_eq!(asked(&ends), 5);
    }
}
