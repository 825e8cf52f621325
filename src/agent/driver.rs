//! The loop of an agent: time, signaling, and leaving. All else enters the state by itself.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;

use super::core::{Core, Shared};
use super::countersigning::store;
use super::effects::Effect;
use super::signaling::{Came, Signaling};
use super::taking::{SharedJournal, open};
use super::{AgentError, rewriter, syncer, testimony};
use crate::identity::KeyPair;
use crate::mesh::CloseReason;
use crate::signal::{Client, ClientFrame, Goodbye};
use crate::witness::{Event, Log, OnWriteError, Secured, Summary, WriteError};

/// Runs until the agent is told to leave, is replaced, or cannot write its witness.
pub(super) async fn run(
    shared: Arc<Shared>,
    mut signaling: Signaling,
) -> Result<Summary, AgentError> {
    let syncer = tokio::spawn(syncer::run(Arc::clone(&shared)));
    let rewriter = tokio::spawn(rewriter::run(Arc::clone(&shared)));
    let mut crowded = shared.look().gate.crowded();
    while let Some(deadline) = arm(&shared) {
        let is_crowded = *crowded.borrow_and_update();
        // Cancel-safe: what stands in `signaling`, a sleep, a notification that keeps its permit, a
        // change that stays one.
        tokio::select! {
            came = signaling.next(), if !is_crowded => match came {
                Came::Frame(frame) => {
                    let heard = shared.enter(|core| core.on_signaling(frame));
                    if let Some(ControlFlow::Break(asked)) = heard {
                        signaling.lost(asked);
                    }
                }
                Came::Back(sender, registered) => {
                    shared.enter(|core| core.signaling_back(sender, &registered));
                }
                Came::Replaced => {
                    shared.enter(Core::replaced);
                }
            },
            () = tokio::time::sleep_until(deadline.into()) => {
                // A round with nothing but the time in it.
                shared.enter(|_| ());
            }
            () = shared.changed() => {
                if shared.has_marks() {
                    shared.enter(|_| ());
                }
            }
            _ = crowded.changed(), if is_crowded => {}
        }
    }
    leave(&shared, signaling.into_client(), syncer, rewriter).await
}

/// Until when to sleep; `None` when it is time to leave.
fn arm(shared: &Shared) -> Option<Instant> {
    let mut core = shared.look();
    core.read_clocks();
    core.armed = core.deadline();
    (!core.may_leave()).then_some(core.armed)
}

/// Says goodbye to everybody, lets the last bytes out, and closes the witness.
async fn leave(
    shared: &Shared,
    client: Option<Client>,
    syncer: JoinHandle<()>,
    rewriter: JoinHandle<()>,
) -> Result<Summary, AgentError> {
    let (mut why, witness, holds, journal) = {
        let mut core = shared.look();
        let why = core.say_goodbyes();
        let witness = core.witness.take().expect("taken here only");
        (why, witness, core.gate.holds(), core.journal.clone())
    };
    // From here on nobody enters. What the syncer is about is done first.
    shared.want_the_disk();
    let _ = syncer.await;
    if let Some(journal) = &journal {
        // The folder is free when the agent has ended.
        open(journal).stop_rewriting();
    }
    shared.want_a_rewrite();
    let _ = rewriter.await;
    let secured = match holds {
        true => Some(secure_all(&witness, journal.as_ref()).await),
        false => None,
    };
    let (endpoint, tasks, key, on_error, cosignatures) = {
        let mut core = shared.look();
        match secured.transpose() {
            Ok(secured) => core.let_go(secured.map_or(0, |secured| secured.entries())),
            Err(err) => why = why.or(Some(err)),
        }
        let endpoint = core.endpoint.clone();
        core.subscribers.end();
        let tasks = core.end_links();
        let cosignatures = core.countersigning.take_unstored();
        let (key, on_error) = (core.key.clone(), core.on_error);
        (endpoint, tasks, key, on_error, cosignatures)
    };
    finish(tasks).await;
    if let Some(client) = client {
        client.close().await;
    }
    endpoint.close().await;
    let closed = move || {
        if let Err(err) = store(witness.folder().as_ref(), &cosignatures) {
            // They are in the log too.
            tracing::warn!(reason = %err, "the last cosignatures are not in their files");
        }
        close(witness, &key, on_error)
    };
    let summary = syncer::blocking(closed).await?;
    why.map_or(Ok(summary), Err)
}

/// Waits until the disk has everything that what is held back needs.
async fn secure_all(witness: &Log, journal: Option<&SharedJournal>) -> Result<Secured, AgentError> {
    if let Some(journal) = journal {
        let file = open(journal).file();
        syncer::blocking(move || file.sync()).await?;
    }
    Ok(syncer::secure(witness.committed()).await?)
}

/// Closes the witness under a last checkpoint.
fn close(witness: Log, key: &KeyPair, on_error: OnWriteError) -> Result<Summary, WriteError> {
    let signed = witness.committed().secure()?.checkpoint(key);
    match (signed, on_error) {
        (Err(err), OnWriteError::Stop) => return Err(err),
        (Err(err), OnWriteError::Continue) => tracing::warn!(reason = %err, "no last checkpoint"),
        (Ok(_), _) => {}
    }
    let summary = witness.close()?;
    if summary.unwitnessed > 0 {
        let missing = summary.unwitnessed;
        tracing::warn!(
            missing,
            reason = "it cannot be written",
            "the witness lacks its last entries, and cannot say so"
        );
    }
    Ok(summary)
}

/// Waits for the closing links, and for nothing else.
async fn finish(mut tasks: JoinSet<()>) {
    let closed = async { while tasks.join_next().await.is_some() {} };
    // Whatever still runs is a reader whose link was never made.
    let _ = timeout(LAST_STEPS, closed).await;
    tasks.shutdown().await;
}

impl Core {
    fn say_goodbyes(&mut self) -> Option<AgentError> {
        self.read_clocks();
        let leaving = self.leaving.take();
        let (reason, why) = leaving.map_or_else(Default::default, |l| (l.reason, l.why));
        let farewells = self.mesh.leave(self.now);
        // The last acknowledgements go first: a peer lets go of the link at the goodbye.
        self.drain_mesh();
        for farewell in farewells {
            self.say_goodbye(&farewell, &reason);
        }
        self.testify_closing();
        let goodbye = Goodbye::sign(
            &self.swarm,
            &self.me,
            self.session,
            &reason,
            BTreeMap::new(),
            &self.key,
        );
        let goodbye = ClientFrame::Goodbye(goodbye);
        self.effects.push(Effect::Signal(goodbye));
        self.commit_and_release();
        why.or_else(|| self.leaving.take().and_then(|leaving| leaving.why))
    }

    /// The links that are left are closed once nothing can be witnessed any more.
    fn testify_closing(&mut self) {
        let open = self.links.iter();
        let links: Vec<_> = open.map(|(id, link)| (id, link.peer.clone())).collect();
        for (id, peer) in links {
            let why = json!({ "reason": CloseReason::Leaving.as_str() });
            let event = Event::DatachannelClosed;
            self.testify(testimony::link(event, &peer, id, why, self.wall));
        }
    }

    /// Lets out what waited for the disk to have so many entries; it is all there is.
    fn let_go(&mut self, entries: u64) {
        self.gate.synced(entries);
        self.release();
    }

    /// All tasks of the agent, those that close its links among them.
    fn end_links(&mut self) -> JoinSet<()> {
        // The forwarder ends when it has carried the goodbye to the server.
        self.signal_queue = tokio::sync::mpsc::channel(1).0;
        // Callers of `send` wait no longer; they are told that the agent has ended.
        self.rooms.clear();
        self.files.end();
        for link in self.links.remove_all() {
            self.spawn(link.end());
        }
        std::mem::take(&mut self.tasks)
    }
}

/// What closing links and the goodbye to the server may take together.
const LAST_STEPS: Duration = Duration::from_secs(3);
