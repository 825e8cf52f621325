//! Faults on purpose: a swarm under a scenario of them, and the ledger of what became of its messages
//! (`docs/CHAOS.md`).
//!
//! Start at [`Scenario`]. A scenario is run at two levels:
//!
//! - [`run`](run()): real processes of this program and real sockets. The runner is the program at
//!   every agent's pipes; it kills, stops, and starts processes, and tells agents how their paths are.
//! - [`sim`]: the meshes of many agents on simulated time, in one thread, thousands of seeds a minute.
//!
//! Pure, and told of time: the plan of faults from a seed, the ledger, and how long a fault took to
//! heal. Whatever is claimed of a fault was seen: one that did not take place fails the run.

mod account;
mod conditions;
mod heal;
mod hear;
mod ledger;
mod place;
mod plan;
mod process;
mod read;
mod read_faults;
mod read_paths;
mod record;
mod report;
mod run;
mod said;
mod scenario;
pub mod sim;
mod stage;
#[cfg(test)]
mod stage_tests;
mod strike;
mod tell;

pub use conditions::{Conditions, RUNGS, Rung};
pub use ledger::{Ledger, Sums};
pub use plan::{PlanError, plan};
pub use report::{FaultLine, FaultRow, HealMs, LinkSums, ProcessRow, Report, RungRow};
pub use run::{ChaosError, Options, run};
pub use said::{Order, Setting, Struck, Vitals};
pub use scenario::{Expect, Fault, Kind, RandomFaults, Scenario, ScenarioError, Traffic, What};
