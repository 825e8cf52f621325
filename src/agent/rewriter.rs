//! The one who rewrites the outbox on disk when it has become long: a task of its own, so that
//! neither the agent nor the [syncer](super::syncer) waits for it.
//!
//! 1. The round that made it long has taken down what it says, in no time.
//! 2. A thread that is made for it writes that to another file, and has the journal for moments only.
//! 3. What fails ends the agent, as does a journal that cannot be appended to; when the agent ends,
//!    what is not done is given up.

use std::sync::Arc;

use super::AgentError;
use super::core::Shared;
use super::syncer::blocking;

/// Runs until the witness is taken from the agent.
pub(super) async fn run(shared: Arc<Shared>) {
    loop {
        shared.rewrite_wanted().await;
        let (rewrite, journal) = {
            let mut core = shared.look();
            if core.witness.is_none() {
                return;
            }
            (core.rewrite.take(), core.journal.clone())
        };
        let Some((rewrite, journal)) = rewrite.zip(journal) else {
            continue;
        };
        if let Err(err) = blocking(move || rewrite.run(&journal)).await {
            let what = "the outbox cannot be written";
            shared.enter(|core| core.stop_since(what, AgentError::Outbox(err)));
        }
    }
}
