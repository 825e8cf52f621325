//! Measuring: whole swarms in one process, their latencies, and the floors they stand on.
//!
//! [`run_swarm`] is what a reader should meet first: it runs a swarm file from start to report.
//! Uses the public interface of [`agent`](crate::agent), as any program would; only the raw
//! floor goes below it, to [`link`](crate::link).

mod course;
mod expect;
mod folder;
mod forming;
mod keys;
mod leaving;
mod pacer;
mod probe;
mod progress;
mod report;
mod resources;
mod running;
mod stats;

pub use folder::WitnessPlace;
pub use forming::{Formed, OpenLink};
pub use keys::KeysError;
pub use progress::{Progress, Quiet};
pub use report::{LinkReport, Links, Messages, Report, Witness, path_text};
pub use resources::Resources;
pub use running::{Options, RunError, RunningSwarm, run_swarm};
pub use stats::{LONGEST, Latencies, Percentiles};

use course::Course;
