//! Where the loops of all of an agent's connections run: one task, together with the reader of
//! the port they share.
//!
//! A datagram then goes from the socket through ICE, DTLS and SCTP without a change of task, and
//! so of thread. With a task per connection, a round trip on one host spent more time on waking
//! threads than on all of its cryptography. Signatures are still verified beside it, on as many
//! cores as there are.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use futures_util::future::{AbortHandle, Abortable};
use futures_util::stream::{FuturesUnordered, StreamExt};
use futures_util::task::{ArcWake, AtomicWaker, waker};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Runs futures together in one task.
#[derive(Debug)]
pub(super) struct Engine {
    /// Unbounded as a type; it is emptied at once, and a future comes per connection only.
    newcomers: mpsc::UnboundedSender<Loop>,
    /// One clone of it lives in every future that runs.
    running: Arc<()>,
    task: Mutex<Option<JoinHandle<()>>>,
}

type Loop = Abortable<Pin<Box<dyn Future<Output = ()> + Send>>>;

/// One future of an [`Engine`].
#[derive(Debug)]
pub(super) struct LoopHandle(AbortHandle);

impl Engine {
    /// Starts the task. Must be called within a tokio runtime.
    pub(super) fn start() -> Self {
        let (newcomers, arrivals) = mpsc::unbounded_channel();
        Self {
            newcomers,
            running: Arc::new(()),
            task: Mutex::new(Some(tokio::spawn(run(arrivals)))),
        }
    }

    /// Runs `future` until it ends, is aborted, or the engine stops.
    pub(super) fn spawn(&self, future: Pin<Box<dyn Future<Output = ()> + Send>>) -> LoopHandle {
        let (abort, registration) = AbortHandle::new_pair();
        let runs = Arc::clone(&self.running);
        let future = Box::pin(async move {
            future.await;
            drop(runs);
        });
        // After the stop it is dropped unrun, as on a runtime that has shut down.
        let _ = self.newcomers.send(Abortable::new(future, registration));
        LoopHandle(abort)
    }

    /// How many futures run.
    pub(super) fn loops(&self) -> usize {
        Arc::strong_count(&self.running) - 1
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

impl LoopHandle {
    /// Ends the future.
    pub(super) fn stop(&self) {
        self.0.abort();
    }
}

impl webrtc::runtime::JoinHandle for LoopHandle {
    fn detach(&self) {
        // It runs on without its handle.
    }

    fn abort(&self) {
        self.stop();
    }

    fn is_finished(&self) -> bool {
        self.0.is_aborted()
    }
}

async fn run(mut arrivals: mpsc::UnboundedReceiver<Loop>) {
    let mut loops = FuturesUnordered::new();
    let wakes = Arc::new(Wakes::default());
    let waker = waker(Arc::clone(&wakes));
    poll_fn(|cx| {
        wakes.task.register(cx.waker());
        let cx = &mut Context::from_waker(&waker);
        for _ in 0..PASSES {
            wakes.state.store(POLLING, Ordering::Release);
            while let Poll::Ready(arrival) = arrivals.poll_recv(cx) {
                match arrival {
                    Some(newcomer) => loops.push(newcomer),
                    // The port is gone, and with it all that could run here.
                    None => return Poll::Ready(()),
                }
            }
            while let Poll::Ready(Some(_)) = loops.poll_next_unpin(cx) {}
            let idle =
                wakes
                    .state
                    .compare_exchange(POLLING, IDLE, Ordering::AcqRel, Ordering::Acquire);
            if idle.is_ok() {
                return Poll::Pending;
            }
        }
        // Other tasks get their turn.
        wakes.state.store(IDLE, Ordering::Release);
        wakes.task.wake();
        Poll::Pending
    })
    .await;
}

/// Wakes the engine's task, but for wakes that come from inside its own poll, as when the reader
/// of the port hands a datagram to a connection: these lead to one more pass. tokio would put a
/// task that wakes itself at the end of its queue and call another thread for it.
#[derive(Default)]
struct Wakes {
    task: AtomicWaker,
    state: AtomicU8,
}

impl ArcWake for Wakes {
    fn wake_by_ref(wakes: &Arc<Self>) {
        let polling =
            wakes
                .state
                .compare_exchange(POLLING, AGAIN, Ordering::AcqRel, Ordering::Acquire);
        if polling == Err(IDLE) {
            wakes.task.wake();
        }
    }
}

const IDLE: u8 = 0;
const POLLING: u8 = 1;
/// Woken while polling.
const AGAIN: u8 = 2;
/// Passes before other tasks get their turn.
const PASSES: usize = 64;
