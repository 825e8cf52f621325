//! Signed and raw round trips on every link of a mesh, at the same rate and at the same time: what
//! the signatures and the witness add where links are mostly idle and processors asleep.

use std::sync::Arc;
use std::time::Duration;

use super::pacer::Schedule;
use super::progress::Progress;
use super::raw_mesh::RawMesh;
use super::report::Report;
use super::running::RunError;
use super::stats::Latencies;
use super::suite::mesh_of;

/// What was measured.
pub(super) struct Loaded {
    /// Of requests and replies between agents.
    pub(super) signed: Latencies,
    /// Of the same bytes on links without agents.
    pub(super) raw: Latencies,
    /// Of the mesh of agents.
    pub(super) report: Report,
}

/// One probe per `interval` on each link of a mesh of agents, with `payload` bytes, and one with
/// the text `wire` on each link of a raw mesh beside it, in the middle between two signed ones.
pub(super) async fn round_trips(
    peers: usize,
    (probes, interval): (u64, Duration),
    (payload, wire): (usize, &str),
    progress: Arc<dyn Progress>,
) -> Result<Loaded, RunError> {
    let mut running = mesh_of(peers, progress).await?;
    let mut beside = RawMesh::connect(peers).await?;
    let schedule = running.schedule(probes, interval);
    let between = interval / (2 * schedule.lanes.max(1));
    let raw_schedule = Schedule {
        start: schedule.start + between,
        ..schedule
    };
    let (signed, raw) = tokio::join!(
        running.probe_on(schedule, payload),
        beside.probe(raw_schedule, wire)
    );
    signed?;
    let raw = raw?;
    let links = beside.links();
    beside.close().await;
    let signed = running.rtt();
    let mut report = running.finish().await?;
    // Those of the raw mesh had their share of the memory.
    let connections = 2 * (report.links.open + links) as u64;
    let resources = &mut report.resources;
    resources.kib_per_connection = resources.rss_kib.checked_div(connections).unwrap_or(0);
    Ok(Loaded {
        signed,
        raw,
        report,
    })
}
