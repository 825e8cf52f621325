//! Signed and raw round trips of a link that has nothing else to do: what the signatures and the
//! witness add to a bare DataChannel.

use std::sync::Arc;
use std::time::Duration;

use super::floors::{self, Floors, Sample};
use super::progress::Progress;
use super::raw::RawPair;
use super::running::RunError;
use super::scenario;
use super::stats::{Latencies, median};
use super::suite::{links_missing, mesh_of};

/// What was measured.
pub(super) struct Unloaded {
    /// Of requests and replies.
    pub(super) signed: Latencies,
    /// Of the same bytes on a link without agents.
    pub(super) raw: Latencies,
    /// Of each turn: the median signed round trip over what it can never beat, of the same turn.
    pub(super) turn_ratios: Vec<f64>,
}

/// Round trips on the first link of a mesh, one at a time, for about `time`, in short turns with
/// raw ones and with the signatures alone, which go into `floors`: what the machine does besides
/// falls on all of them.
pub(super) async fn round_trips(
    peers: usize,
    payload: usize,
    sample: &Sample,
    time: Duration,
    floors: &mut Floors,
    progress: Arc<dyn Progress>,
) -> Result<Unloaded, RunError> {
    let running = mesh_of(peers, Arc::clone(&progress)).await?;
    progress.step("measuring one link, signed and raw in turns");
    let mut pair = RawPair::connect().await?;
    let mut signed = Latencies::new();
    let mut signatures = floors::Signatures::default();
    let (asker, answerer) = running.first_link().ok_or(links_missing(&running))?;
    let turns = time.as_millis().div_ceil(3 * TURN.as_millis()).max(1);
    let mut turn_ratios = Vec::new();
    for _ in 0..turns {
        let before = (signatures.count(), pair.round_trips().len());
        signatures = signatures.more(sample, TURN / 4).await;
        pair.measure(&sample.wire, TURN).await?;
        let turn = scenario::one_at_a_time(&asker, &answerer, payload, TURN).await?;
        signed.add(&turn);
        let floor = median(pair.round_trips()[before.1..].to_vec())
            + 2.0 * signatures.median_since(before.0);
        turn_ratios.push(turn.percentiles().p50 as f64 / floor);
    }
    drop((asker, answerer));
    signatures.put_into(floors);
    floors.put_round_trips(pair.round_trips());
    let raw = Latencies::of_micros(pair.round_trips());
    pair.close().await;
    running.finish().await?;
    Ok(Unloaded {
        signed,
        raw,
        turn_ratios,
    })
}

/// Short, because a virtual machine's processor may be half as fast for some tens of milliseconds;
/// long enough for a hundred round trips.
const TURN: Duration = Duration::from_millis(25);
