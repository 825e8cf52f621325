//! Where the loops of all of an agent's connections run: one task, together with the reader of
//! the port they share.
//!
//! A datagram then goes from the socket through ICE, DTLS and SCTP without a change of task, and
//! so of thread. With a task per connection, a round trip on one host spent more time on waking
//! threads than on all of its cryptography. Signatures are still verified beside it, on as many
//! cores as there are.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};

use futures_util::future::{AbortHandle, Abortable};
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Runs futures together in one task.
#[derive(Debug)]
pub(super) struct Engine {
    /// Unbounded as a type; it is emptied at once, and a future comes per connection only.
    newcomers: mpsc::UnboundedSender<Loop>,
    task: Mutex<Option<JoinHandle<()>>>,
}

type Loop = Abortable<Pin<Box<dyn Future<Output = ()> + Send>>>;

/// One future of an [`Engine`].
pub(super) struct LoopHandle(AbortHandle);

impl Engine {
    /// Starts the task. Must be called within a tokio runtime.
    pub(super) fn start() -> Self {
        let (newcomers, arrivals) = mpsc::unbounded_channel();
        Self {
            newcomers,
            task: Mutex::new(Some(tokio::spawn(run(arrivals)))),
        }
    }

    /// Runs `future` until it ends, is aborted, or the engine stops.
    pub(super) fn spawn(&self, future: Pin<Box<dyn Future<Output = ()> + Send>>) -> LoopHandle {
        let (abort, registration) = AbortHandle::new_pair();
        // After the stop it is dropped unrun, as on a runtime that has shut down.
        let _ = self.newcomers.send(Abortable::new(future, registration));
        LoopHandle(abort)
    }

    /// Ends the task and all that runs in it.
    pub(super) async fn stop(&self) {
        let task = self
            .task
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(task) = task {
            task.abort();
            let _ = task.await;
        }
    }
}

impl webrtc::runtime::JoinHandle for LoopHandle {
    fn detach(&self) {
        // It runs on without its handle.
    }

    fn abort(&self) {
        self.0.abort();
    }

    fn is_finished(&self) -> bool {
        self.0.is_aborted()
    }
}

async fn run(mut arrivals: mpsc::UnboundedReceiver<Loop>) {
    let mut loops = FuturesUnordered::new();
    loop {
        // Cancel-safe: a queue, and a set of futures that stay in it.
        tokio::select! {
            Some(newcomer) = arrivals.recv() => loops.push(newcomer),
            Some(_) = loops.next(), if !loops.is_empty() => {}
            else => return,
        }
    }
}
