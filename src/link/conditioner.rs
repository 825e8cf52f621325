//! Makes paths bad, for tests and chaos: between the connections and the port's sockets. What
//! happens to a datagram is decided in `conditions`; here those that leave later wait.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use bytes::Bytes;
use tokio::sync::Notify;

use super::conditions::{ConditionedPath, Fate, PathConditions, PathCounts};
use super::port::lock;
use super::socket::SharedSocket;
use crate::identity::AgentId;

/// The conditions of all paths of a port, and the datagrams that they delay.
#[derive(Debug, Default)]
pub(super) struct Conditioner {
    /// Whether any path has conditions: all that one without them pays for.
    on: AtomicBool,
    state: Mutex<State>,
    /// The first of the delayed datagrams is another one.
    sooner: Notify,
}

/// A datagram on its way out.
pub(super) struct Datagram<'a> {
    pub(super) socket: &'a Arc<SharedSocket>,
    pub(super) contents: &'a [u8],
    pub(super) to: SocketAddr,
}

#[derive(Debug, Default)]
struct State {
    paths: BTreeMap<AgentId, Path>,
    /// The first to leave on top.
    delayed: BinaryHeap<Reverse<Delayed>>,
    count: u64,
}

/// What is remembered of a peer that has, or had, conditions.
#[derive(Debug, Default)]
struct Path {
    conditioned: Option<ConditionedPath>,
    counts: PathCounts,
    /// The part of them under the conditions that there are now.
    lately: PathCounts,
}

#[derive(Debug)]
struct Delayed {
    /// When it leaves; the count keeps those of one moment in the order they came.
    at: (Instant, u64),
    peer: AgentId,
    socket: Arc<SharedSocket>,
    contents: Bytes,
    to: SocketAddr,
}

impl Conditioner {
    /// Sets the conditions of the path to `peer`, or removes them.
    pub(super) fn set(&self, peer: &AgentId, conditions: Option<PathConditions>) {
        let mut state = lock(&self.state);
        if let Some(conditions) = conditions {
            let path = state.paths.entry(peer.clone()).or_default();
            path.conditioned = Some(ConditionedPath::new(conditions));
            path.lately = PathCounts::default();
        } else if let Some(path) = state.paths.get_mut(peer) {
            path.conditioned = None;
        }
        let on = state.paths.values().any(|path| path.conditioned.is_some());
        self.on.store(on, Ordering::Relaxed);
    }

    /// What happened to the datagrams to `peer`.
    pub(super) fn counts(&self, peer: &AgentId) -> PathCounts {
        let state = lock(&self.state);
        state
            .paths
            .get(peer)
            .map_or_else(Default::default, |path| path.counts)
    }

    /// The conditions of the path to `peer`, and what happened since they were set.
    pub(super) fn setting(&self, peer: &AgentId) -> Option<(PathConditions, PathCounts)> {
        let state = lock(&self.state);
        let path = state.paths.get(peer)?;
        let conditioned = path.conditioned.as_ref()?;
        Some((conditioned.conditions(), path.lately))
    }

    /// How many datagrams wait to leave.
    pub(super) fn waiting(&self) -> usize {
        lock(&self.state).delayed.len()
    }

    /// Whether [`takes`](Self::takes) has to be asked.
    pub(super) fn is_on(&self) -> bool {
        self.on.load(Ordering::Relaxed)
    }

    /// Takes a datagram to `peer` over; if it does not, the caller sends it, now.
    pub(super) fn takes(&self, peer: &AgentId, datagram: &Datagram<'_>, now: Instant) -> bool {
        let mut state = lock(&self.state);
        let full = state.delayed.len() + 2 > MAX_DELAYED;
        let Some(path) = state.paths.get_mut(peer) else {
            return false;
        };
        let Some(conditioned) = &mut path.conditioned else {
            return false;
        };
        let (fate, is_cut) = (
            conditioned.decide(datagram.contents.len(), now),
            conditioned.is_cut(),
        );
        path.count(|counts| counts.sent += 1);
        let (at, copies) = match fate {
            Fate::Leaves {
                at,
                twice: false,
                overtaken: false,
            } if at <= now => return false,
            Fate::Leaves {
                at,
                twice,
                overtaken,
            } if !full => {
                path.count(|counts| {
                    counts.duplicated += u64::from(twice);
                    counts.reordered += u64::from(overtaken);
                    counts.delayed += u64::from(at > now);
                });
                (at, 1 + usize::from(twice))
            }
            Fate::Leaves { .. } | Fate::Lost => {
                path.count(|counts| counts.lose(is_cut));
                return true;
            }
        };
        let contents = Bytes::copy_from_slice(datagram.contents);
        for _ in 0..copies {
            state.count += 1;
            let delayed = Delayed {
                at: (at, state.count),
                peer: peer.clone(),
                socket: Arc::clone(datagram.socket),
                contents: contents.clone(),
                to: datagram.to,
            };
            state.delayed.push(Reverse(delayed));
        }
        if state.first() == Some(at) {
            self.sooner.notify_one();
        }
        true
    }

    /// Sends what is delayed when its time has come, for as long as it is polled.
    pub(super) async fn send_delayed(&self) {
        loop {
            let first = lock(&self.state).send_due(Instant::now());
            // Both cancel-safe: a notification that keeps its permit, and a sleep.
            tokio::select! {
                () = self.sooner.notified() => {}
                () = sleep_until(first) => {}
            }
        }
    }
}

impl State {
    fn first(&self) -> Option<Instant> {
        self.delayed.peek().map(|Reverse(first)| first.at.0)
    }

    /// Sends what is due; returns when the next is.
    fn send_due(&mut self, now: Instant) -> Option<Instant> {
        while self.first().is_some_and(|at| at <= now) {
            let Reverse(due) = self.delayed.pop()?;
            let Some(path) = self.paths.get_mut(&due.peer) else {
                continue;
            };
            let cut = path
                .conditioned
                .as_ref()
                .is_some_and(ConditionedPath::is_cut);
            if cut {
                path.count(|counts| counts.lose(true));
            } else if due.socket.try_send(&due.contents, due.to).is_err() {
                // A full socket loses it, as any router would: no doing of the conditions.
                path.counts.lose(false);
            }
        }
        self.first()
    }
}

impl Path {
    fn count(&mut self, add: impl Fn(&mut PathCounts)) {
        add(&mut self.counts);
        add(&mut self.lately);
    }
}

impl PathCounts {
    fn lose(&mut self, by_cut: bool) {
        self.dropped += 1;
        self.cut += u64::from(by_cut);
    }
}

impl Ord for Delayed {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.at.cmp(&other.at)
    }
}

impl PartialOrd for Delayed {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Delayed {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at
    }
}

impl Eq for Delayed {}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

/// Datagrams of one agent that may be under way, in memory, each of up to 1.2 KiB; beyond it they
/// are lost. 300 ms of 250 Mbit/s.
const MAX_DELAYED: usize = 8_192;
