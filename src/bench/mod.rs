//! Measuring: whole swarms, in one process or one for each agent, their latencies, and the floors
//! they stand on.
//!
//! [`run_swarm`] is what a reader should meet first: it runs a swarm file from start to report.
//! Uses the public interface of [`agent`](crate::agent), as any program would; only the raw
//! floor goes below it, to [`link`](crate::link).

mod assertion;
mod course;
mod expect;
mod floors;
mod folder;
mod forming;
mod keeper;
mod keys;
mod lanes;
mod leaving;
mod loaded;
mod machine;
mod member;
mod orders;
mod pacer;
mod page;
mod plot;
mod probe;
mod processes;
mod progress;
mod raw;
mod raw_mesh;
mod report;
mod resources;
mod rows;
mod running;
mod scenario;
mod stats;
mod suite;
mod unloaded;

pub use assertion::{Assertion, AssertionError, Figures};
pub use floors::{Floors, Samples};
pub use folder::WitnessPlace;
pub use forming::{Formed, OpenLink};
pub use keys::KeysError;
pub use machine::{Machine, is_debug};
pub use member::Member;
pub use orders::{Answer, Numbered, Order};
pub use page::page;
pub use processes::Processes;
pub use progress::{Progress, Quiet};
pub use report::{LinkReport, Links, Messages, Report, Witness};
pub use resources::Resources;
pub use rows::{Row, rows};
pub use running::{Options, RunError, RunningSwarm, run_swarm, wall_clock};
pub use stats::{LONGEST, Latencies, Percentiles, grouped};
pub use suite::{
    BenchOptions, BenchReport, Broadcast, Formation, Load, Scenario, Throughput, bench, blank,
};

use course::Course;
