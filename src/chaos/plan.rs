//! When which fault comes: those of the scenario, and those that a seed draws. Pure: one seed, one
//! plan.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::conditions::RUNGS;
use super::scenario::{Fault, Kind, RandomFaults, Scenario, What};
use crate::identity::AgentId;
use crate::link::memory::Chance;

/// Why a run of this length would leave out faults of its scenario.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// A fault of the file ends after the run: the one that ends last.
    #[error(
        "found a run of {} and `{what}` at {} that lasts until {}, expected a run in which every fault of the file ends: give it {} or more (`--for`, or `for:` in the file)",
        written(*length), written(*at), written(*ends), written(*ends)
    )]
    TooShort {
        /// What happens.
        what: String,
        /// When it begins,
        at: Duration,
        /// and when it ends: the shortest run that has all faults.
        ends: Duration,
        /// How long the run is.
        length: Duration,
    },
    /// Chance has drawn no fault, though the file has `random`.
    #[error(
        "found no fault that the seed {seed} draws for a run of {}, expected at least one of `random`: give the run {} or more (`--for`, or `for:` in the file), or take another seed",
        written(*length), written(*enough)
    )]
    NoneDrawn {
        /// What chance started from.
        seed: u64,
        /// How long the run is.
        length: Duration,
        /// A run in which there is time for one, whatever the seed.
        enough: Duration,
    },
    /// Chance may draw more faults than a run can have.
    #[error(
        "found `random` with a fault every {} in a run of {}, expected at most {MAX_FAULTS} faults: give it {} or less (`--for`, or `for:` in the file), or a longer `every`",
        written(*every), written(*length), written(longest_of(*every))
    )]
    TooMany {
        /// The shortest time from one to the next.
        every: Duration,
        /// How long the run is.
        length: Duration,
    },
}

/// All faults of a run of this length, by the time at which they begin.
///
/// # Errors
/// [`PlanError`]: a run that leaves out what its scenario says would show less than it seems to, and
/// one that is too long for its `random` would never be drawn to its end.
pub fn plan(scenario: &Scenario, seed: u64, length: Duration) -> Result<Vec<Fault>, PlanError> {
    let mut faults = scenario.faults.clone();
    if let Some(last) = faults.iter().max_by_key(|fault| fault.ends())
        && last.ends() > length
    {
        return Err(PlanError::TooShort {
            what: last.what.to_string(),
            at: last.at,
            ends: last.ends(),
            length,
        });
    }
    if let Some(random) = &scenario.random {
        let every = *random.every.start();
        if length > longest_of(every) {
            return Err(PlanError::TooMany { every, length });
        }
        let mut chance = Chance::new(seed);
        draw(scenario, random, &mut chance, length, &mut faults);
        if faults.len() == scenario.faults.len() {
            let drawn = *random.every.end() + *random.lasts.end();
            // Those of the file may have left no place for one.
            let last = scenario.faults.iter().map(|f| f.ends() + REST_AFTER_KILL);
            let enough = drawn + last.max().unwrap_or_default();
            return Err(PlanError::NoneDrawn {
                seed,
                length,
                enough,
            });
        }
    }
    faults.sort_by_key(|fault| fault.at);
    Ok(faults)
}

/// The longest run in which chance draws no more faults than there may be, if it draws one so often.
pub(super) fn longest_of(every: Duration) -> Duration {
    every.saturating_mul(MAX_FAULTS as u32)
}

/// A time as `--for` and files have it.
pub(super) fn written(time: Duration) -> String {
    match (time.as_secs(), time.subsec_micros()) {
        (secs, 0) if secs > 0 && secs % 3_600 == 0 => format!("{}h", secs / 3_600),
        (secs, 0) => format!("{secs}s"),
        (_, micros) if micros % 1_000 == 0 => format!("{}ms", time.as_millis()),
        _ => format!("{}us", time.as_micros()),
    }
}

fn draw(
    scenario: &Scenario,
    random: &RandomFaults,
    chance: &mut Chance,
    length: Duration,
    faults: &mut Vec<Fault>,
) {
    let paths = Paths::of(scenario);
    let mut at = Duration::ZERO;
    loop {
        at += chance.between(*random.every.start(), *random.every.end());
        let lasts = chance.between(*random.lasts.start(), *random.lasts.end());
        if at + lasts > length {
            return;
        }
        // Whom it strikes must be well, or nothing would show that it took place.
        let soon = at + lasts + REST_AFTER_KILL;
        let near = faults
            .iter()
            .filter(|other| other.at < soon && at < other.ends() + REST_AFTER_KILL);
        let near: Vec<_> = near.collect();
        let drawn = (0..TRIES).find_map(|_| {
            let kind = random.of[chance.below(random.of.len() as u64) as usize];
            let what = strike(scenario, &paths, kind, chance);
            let fault = Fault { at, lasts, what };
            let mut near = near.iter();
            let is_hidden = near.any(|other| in_each_others_way(&paths, &fault, other));
            (!is_hidden).then_some(fault)
        });
        faults.extend(drawn);
    }
}

/// The links of a swarm, found once for all that is drawn.
struct Paths {
    links: Vec<(AgentId, AgentId)>,
    /// Agents that have links with one other agent only, and that other one.
    only: BTreeMap<AgentId, AgentId>,
}

impl Paths {
    fn of(scenario: &Scenario) -> Self {
        let mut peers = BTreeMap::<_, BTreeSet<_>>::new();
        for (from, to) in scenario.lanes() {
            peers.entry(from).or_default().insert(to);
        }
        let only = peers.into_iter().filter(|(_, peers)| peers.len() == 1);
        let only = only.filter_map(|(agent, mut peers)| Some((agent, peers.pop_first()?)));
        Self {
            links: scenario.swarm.links(),
            only: only.collect(),
        }
    }
}

/// A fault of this kind, somewhere.
fn strike(scenario: &Scenario, paths: &Paths, kind: Kind, chance: &mut Chance) -> What {
    let agents = &scenario.swarm.agents;
    let anyone = |chance: &mut Chance| {
        let n = chance.below(agents.len() as u64) as usize;
        agents[n].id.clone()
    };
    let anywhere = |chance: &mut Chance| {
        let links = &paths.links;
        let (a, b) = links[chance.below(links.len() as u64) as usize].clone();
        match chance.per_mille(500) {
            true => (a, b),
            false => (b, a),
        }
    };
    match kind {
        Kind::Kill => What::Kill(anyone(chance)),
        Kind::Freeze => What::Freeze(anyone(chance)),
        Kind::Cut | Kind::OneWayCut => {
            let (from, to) = anywhere(chance);
            let one_way = kind == Kind::OneWayCut;
            What::Cut { from, to, one_way }
        }
        Kind::Partition => {
            let first = anyone(chance);
            let (mut one, mut other) = (vec![first.clone()], Vec::new());
            for agent in agents.iter().filter(|agent| agent.id != first) {
                match chance.per_mille(400) {
                    true => one.push(agent.id.clone()),
                    false => other.push(agent.id.clone()),
                }
            }
            // Nobody is alone with everybody on one side.
            if other.is_empty() {
                other.extend(one.pop());
            }
            What::Partition(one, other)
        }
        Kind::Signaling => What::Signaling,
        Kind::Clock => What::Clock {
            agent: anyone(chance),
            by_ms: {
                let by = chance.between(Duration::from_secs(60), JUMP).as_millis();
                let by = i64::try_from(by).unwrap_or(i64::MAX);
                if chance.per_mille(500) { by } else { -by }
            },
        },
        Kind::Conditions => {
            let (a, b) = anywhere(chance);
            // What is calm strikes nothing, and what the path is like anyway is no fault.
            let usual = scenario.conditions(&a, &b);
            let rungs = RUNGS.iter().map(|rung| rung.conditions);
            let rungs = rungs.filter(|rung| !rung.are_calm() && *rung != usual);
            let rungs: Vec<_> = rungs.collect();
            What::Conditions {
                between: Some(if a < b { (a, b) } else { (b, a) }),
                conditions: rungs[chance.below(rungs.len() as u64) as usize],
            }
        }
    }
}

/// Whether one of two faults hides that the other took place: a process that is not there drops no
/// packet of a path that is cut, and one that is killed itself does not say that its only neighbour was.
fn in_each_others_way(paths: &Paths, one: &Fault, other: &Fault) -> bool {
    let over = |fault: &Fault| fault.ends() + rest_after(&fault.what);
    if one.at >= over(other) || other.at >= over(one) {
        return false;
    }
    let strikes = |process: &AgentId, what: &What| match what {
        What::Cut { from, to, .. } => process == from || process == to,
        What::Partition(a, b) => a.contains(process) || b.contains(process),
        What::Conditions { between, .. } => between
            .as_ref()
            .is_none_or(|(a, b)| process == a || process == b),
        what => what.process() == Some(process),
    };
    match (&one.what, &other.what) {
        (What::Signaling, What::Signaling) => true,
        (What::Signaling, _) | (_, What::Signaling) => false,
        (What::Kill(a), What::Kill(b)) => {
            a == b || paths.only.get(a) == Some(b) || paths.only.get(b) == Some(a)
        }
        (a, b) => match (a.process(), b.process()) {
            (Some(process), _) => strikes(process, b),
            (_, Some(process)) => strikes(process, a),
            (None, None) => paths_meet(a, b),
        },
    }
}

/// How long what was struck is left alone.
fn rest_after(what: &What) -> Duration {
    match what {
        What::Kill(_) => REST_AFTER_KILL,
        _ => REST,
    }
}

/// Whether two faults of paths strike the same one.
fn paths_meet(a: &What, b: &What) -> bool {
    let ends = |what: &What| match what {
        What::Cut { from, to, .. } => Some((from.clone(), to.clone())),
        What::Conditions { between, .. } => between.clone(),
        _ => None,
    };
    match (ends(a), ends(b)) {
        (Some((from, to)), _) => b.touches(&from, &to),
        (_, Some((from, to))) => a.touches(&from, &to),
        (None, None) => true,
    }
}

/// The faults of a run, those of its file and those by chance each: a run of a day has one every ten
/// seconds.
pub(super) const MAX_FAULTS: usize = 10_000;
/// Places that are tried for a fault before it is left out.
const TRIES: usize = 20;
/// From the end of a fault to the next one at the same place: to start again, and to be seen well.
const REST: Duration = Duration::from_secs(3);
/// The same after a kill, when the server may be away too: there is a link again that can be cut.
const REST_AFTER_KILL: Duration = Duration::from_secs(10);
/// The farthest that a clock jumps by chance.
const JUMP: Duration = Duration::from_secs(24 * 60 * 60);

#[cfg(test)]
mod tests {
    use super::super::conditions::Conditions;
    use super::*;
    use crate::swarm::Swarm;

    fn scenario(of: &[Kind]) -> Scenario {
        let second = Duration::from_secs(1);
        Scenario {
            name: "plan".into(),
            swarm: Swarm::full_mesh("plan".parse().unwrap(), 5),
            length: 600 * second,
            traffic: Default::default(),
            all: Default::default(),
            links: Default::default(),
            faults: Vec::new(),
            random: Some(RandomFaults {
                every: 2 * second..=6 * second,
                lasts: second..=6 * second,
                of: of.to_vec(),
            }),
            ladder: Vec::new(),
            expect: Default::default(),
        }
    }

    #[test]
    fn one_seed_is_one_plan_and_another_is_another() {
        let scenario = scenario(&Kind::ALL.map(|(_, kind)| kind));
        let with_seed = |seed| plan(&scenario, seed, scenario.length).unwrap();
        let made = with_seed(7);
        assert_eq!(made, with_seed(7));
        assert_ne!(made, with_seed(8));
        assert!(made.len() > 60, "{}", made.len());
        assert!(made.is_sorted_by_key(|fault| fault.at));
        for (_, kind) in Kind::ALL {
            assert!(
                made.iter().any(|fault| fault.what.kind() == kind),
                "{kind:?}"
            );
        }
        assert!(made.iter().all(|f| f.at + f.lasts <= scenario.length));
    }

    #[test]
    fn no_fault_hides_another() {
        let kinds = [Kind::Kill, Kind::Freeze, Kind::Cut, Kind::Signaling];
        let scenario = scenario(&kinds);
        for seed in 0..20 {
            let made = plan(&scenario, seed, scenario.length).unwrap();
            for (n, one) in made.iter().enumerate() {
                for other in &made[n + 1..] {
                    let apart = other.at >= one.at + one.lasts;
                    let same = one.what == other.what;
                    assert!(apart || !same, "{} and {}", one.what, other.what);
                    if let (false, Some(process)) = (apart, one.what.process())
                        && let What::Cut { from, to, .. } = &other.what
                    {
                        assert!(from != process && to != process);
                    }
                }
            }
        }
    }

    #[test]
    fn of_two_agents_one_lives_to_say_that_the_other_was_killed() {
        let mut scenario = scenario(&[Kind::Kill]);
        scenario.swarm = Swarm::full_mesh("plan".parse().unwrap(), 2);
        for seed in 0..20 {
            let made = plan(&scenario, seed, scenario.length).unwrap();
            assert!(made.windows(2).all(|two| two[0].ends() < two[1].at));
            assert!(made.len() > 10, "{}", made.len());
        }
    }

    #[test]
    fn conditions_that_are_drawn_differ_from_how_the_path_is() {
        let mut scenario = scenario(&[Kind::Conditions]);
        scenario.all = Conditions::named("good-wifi").unwrap();
        for seed in 0..20 {
            for fault in plan(&scenario, seed, scenario.length).unwrap() {
                let What::Conditions { conditions, .. } = fault.what else {
                    panic!("conditions")
                };
                assert!(conditions != scenario.all && !conditions.are_calm());
            }
        }
    }

    #[test]
    fn a_run_too_short_for_a_fault_of_the_file_has_no_plan_and_says_how_long_it_must_be() {
        let mut scenario = scenario(&[]);
        scenario.random = None;
        let second = Duration::from_secs(1);
        let fault = |at, lasts, agent: &str| Fault {
            at: at * second,
            lasts: lasts * second,
            what: What::Kill(agent.parse().unwrap()),
        };
        scenario.faults = vec![fault(1, 9, "agent-01"), fault(5, 2, "agent-02")];
        assert_eq!(plan(&scenario, 1, 10 * second).unwrap().len(), 2);
        let err = plan(&scenario, 1, 8 * second).unwrap_err().to_string();
        for part in [
            "run of 8s",
            "`kill agent-01` at 1s",
            "until 10s",
            "10s or more",
        ] {
            assert!(err.contains(part), "{err}");
        }
        assert!(plan(&scenario, 1, second).is_err(), "not an empty plan");
    }

    #[test]
    fn chance_that_draws_no_fault_is_an_error_that_says_how_long_is_enough() {
        let scenario = scenario(&[Kind::Kill]);
        let second = Duration::from_secs(1);
        let enough = 12 * second;
        let seed = 5;
        let none = PlanError::NoneDrawn {
            seed,
            length: second,
            enough,
        };
        assert_eq!(plan(&scenario, seed, second), Err(none));
        for seed in 0..100 {
            assert!(plan(&scenario, seed, enough).is_ok(), "{seed}");
        }
    }

    #[test]
    fn more_faults_than_a_run_may_have_are_an_error_and_as_many_are_drawn_to_the_end() {
        let mut scenario = scenario(&Kind::ALL.map(|(_, kind)| kind));
        let ms = Duration::from_millis(1);
        let random = scenario.random.as_mut().unwrap();
        random.every = 60 * ms..=6000 * ms;
        let ten_minutes = 600_000 * ms;
        assert!(plan(&scenario, 1, ten_minutes).is_ok());
        let err = plan(&scenario, 1, ten_minutes + ms).unwrap_err();
        for part in ["every 60ms", "at most 10000", "600s or less"] {
            assert!(err.to_string().contains(part), "{err}");
        }
        // Also when each of them meets another at nearly every place.
        let random = scenario.random.as_mut().unwrap();
        random.every = 60 * ms..=60 * ms;
        random.lasts = ten_minutes / 2..=ten_minutes / 2;
        assert!(plan(&scenario, 1, ten_minutes).is_ok());
    }

    #[test]
    fn both_halves_of_a_partition_have_somebody() {
        let scenario = scenario(&[Kind::Partition]);
        for fault in plan(&scenario, 3, scenario.length).unwrap() {
            let What::Partition(one, other) = fault.what else {
                panic!("a partition")
            };
            assert!(!one.is_empty() && !other.is_empty());
            assert_eq!(one.len() + other.len(), 5);
        }
    }
}
