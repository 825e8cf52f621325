//! The one who waits for the disk, so that nobody else does: a task of its own, which blocks
//! threads that are made for it.
//!
//! 1. It takes what is committed, in no time, and waits until the disk has it.
//! 2. It enters the state, which lets out everything that waited for that: however many entries
//!    came together meanwhile wait for the next round, and share it.
//! 3. When a checkpoint is due, it signs what the disk has; the peers are shown it.

use std::sync::Arc;

use super::AgentError;
use super::core::Shared;
use super::countersigning::Round;
use super::taking::open;
use crate::identity::KeyPair;
use crate::witness::{Committed, Secured, SignedCheckpoint, WriteError};

/// Runs until the witness is taken from the agent.
pub(super) async fn run(shared: Arc<Shared>) {
    let key = shared.look().key.clone();
    loop {
        shared.disk_wanted().await;
        let (committed, round, journal) = {
            let mut core = shared.look();
            let Some(committed) = core.witness.as_ref().map(|log| log.committed()) else {
                return;
            };
            if !core.gate.wants_the_disk() {
                continue;
            }
            let round = core.gate.begin().then(|| core.begin_round());
            let holds = core.gate.holds();
            let journal = core.journal.as_ref().filter(|_| holds);
            let journal = journal.map(|journal| open(journal).file());
            (committed, round, journal)
        };
        if let Some(journal) = journal
            && let Err(err) = blocking(move || journal.sync()).await
        {
            let what = "the outbox cannot be written";
            shared.enter(|core| core.stop_since(what, AgentError::Outbox(err)));
            continue;
        }
        let secured = match secure(committed).await {
            Ok(secured) => secured,
            Err(err) => {
                shared.enter(|core| core.witness_failed(err));
                continue;
            }
        };
        let entries = secured.entries();
        shared.enter(|core| core.synced(entries));
        if let Some(round) = round {
            let key = key.clone();
            let made = blocking(move || checkpoint(&secured, &key, round)).await;
            shared.enter(|core| match made {
                Ok((checkpoint, round)) => core.offer(round, &checkpoint),
                Err(err) => core.checkpoint_failed(err),
            });
        }
    }
}

/// Signs what the disk has, and makes ready what the peers are to be shown with it.
fn checkpoint(
    secured: &Secured,
    key: &KeyPair,
    mut round: Round,
) -> Result<(SignedCheckpoint, Round), WriteError> {
    let checkpoint = secured.checkpoint(key)?;
    round.prepare(secured)?;
    Ok((checkpoint, round))
}

/// Waits for the disk.
pub(super) async fn secure(committed: Committed) -> Result<Secured, WriteError> {
    blocking(move || committed.secure()).await
}

/// Runs what waits for the disk where that holds nobody up.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(err) if err.is_panic() => std::panic::resume_unwind(err.into_panic()),
        // The runtime ends, and this task with it.
        Err(_) => std::future::pending().await,
    }
}
