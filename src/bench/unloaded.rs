//! Signed and raw round trips of a link that has nothing else to do: what the signatures and the
//! witness add to a bare DataChannel.

use std::sync::Arc;

use super::progress::Progress;
use super::raw::RawPair;
use super::running::RunError;
use super::scenario;
use super::stats::Latencies;
use super::suite::{BenchOptions, links_missing, mesh_of};

/// Round trips on the first link of the mesh, one at a time, and raw ones in turns with them:
/// what the machine does besides falls on both. The raw ones in microseconds.
pub(super) async fn round_trips(
    options: BenchOptions,
    wire: String,
    progress: Arc<dyn Progress>,
) -> Result<(Latencies, Vec<f64>), RunError> {
    let running = mesh_of(options.peers, Arc::clone(&progress)).await?;
    progress.step("measuring one link, signed and raw in turns");
    let mut pair = RawPair::connect().await?;
    let mut signed = Latencies::new();
    let (asker, answerer) = running.first_link().ok_or(links_missing(&running))?;
    let slice = options.duration / (2 * SLICES);
    for _ in 0..SLICES {
        pair.measure(&wire, slice).await?;
        let turn = scenario::one_at_a_time(&asker, &answerer, options.payload, slice).await?;
        signed.add(&turn);
    }
    drop((asker, answerer));
    let raw = pair.round_trips().to_vec();
    pair.close().await;
    running.finish().await?;
    Ok((signed, raw))
}

/// Runs a measurement on one thread. What it costs is then what it takes: on several, each packet
/// also wakes a thread, which on a small virtual machine takes as long as a signature, and hits a
/// long path more often than a short one.
pub(super) async fn on_one_thread<T: Send + 'static>(
    measurement: impl Future<Output = Result<T, RunError>> + Send + 'static,
) -> Result<T, RunError> {
    let run = move || {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().build().map_err(failed)?;
        runtime.block_on(measurement)
    };
    let ran = tokio::task::spawn_blocking(run).await;
    ran.map_err(failed)?
}

fn failed(detail: impl std::fmt::Display) -> RunError {
    RunError::Floor {
        what: "round trips on one thread",
        detail: detail.to_string(),
    }
}

/// Turns of raw and signed round trips.
const SLICES: u32 = 4;
