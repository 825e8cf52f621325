//! The scenarios of `bench`: what each one does with a running swarm.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio::time::timeout;

use super::course;
use super::running::{RunError, RunningSwarm};
use super::stats::Latencies;
use crate::agent::{Agent, AgentEvent, Subscription};
use crate::message::{Destination, Draft, Performative};

/// What flooding has carried.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Flood {
    /// Messages that `send` accepted.
    pub(super) sent: u64,
    /// Of these times the receivers, how many subscribers got.
    pub(super) delivered: u64,
    /// What a subscriber got twice.
    pub(super) duplicated: u64,
    /// From the first message until the last delivery.
    pub(super) time: Duration,
}

impl Flood {
    pub(super) fn deliveries_per_second(&self) -> f64 {
        self.delivered as f64 / self.time.as_secs_f64().max(1e-9)
    }
}

/// Signed requests and replies between two agents, one at a time, for so long.
pub(super) async fn one_at_a_time(
    asker: &Arc<Agent>,
    answerer: &Arc<Agent>,
    payload: usize,
    time: Duration,
) -> Result<Latencies, RunError> {
    let mut inbox = asker.subscribe();
    let mut requests = answerer.subscribe();
    let mut tasks = JoinSet::new();
    let me = Arc::clone(answerer);
    tasks.spawn(async move {
        while let Some(event) = requests.recv().await {
            if let AgentEvent::Message(message) = event {
                let payload = message.payload().clone();
                let answer = message.reply(Performative::Inform, payload);
                if me.send(answer).await.is_err() {
                    break;
                }
            }
        }
        Latencies::new()
    });
    let (me, peer) = (Arc::clone(asker), answerer.id().clone());
    // In a task, as the raw round trip is.
    let asking = tasks.spawn(async move {
        let mut rtt = Latencies::new();
        let mut padding = serde_json::Map::new();
        course::pad(&mut padding, payload);
        let until = Instant::now() + time;
        while Instant::now() < until {
            let draft = Draft {
                performative: Some(Performative::Request),
                ..Draft::new(peer.clone(), padding.clone())
            };
            let start = Instant::now();
            let Ok(receipt) = me.send(draft).await else {
                break;
            };
            loop {
                match inbox.recv().await {
                    Some(AgentEvent::Message(message))
                        if message.in_reply_to() == Some(&receipt.id) =>
                    {
                        break rtt.record(start.elapsed());
                    }
                    Some(_) => {}
                    None => return rtt,
                }
            }
        }
        rtt
    });
    // Whichever ends first: the asker when the time is over, the answerer when something is wrong.
    let first = timeout(time + LAST, tasks.join_next()).await;
    drop(asking);
    tasks.shutdown().await;
    match first {
        Ok(Some(Ok(rtt))) if rtt.count() > 0 => Ok(rtt),
        _ => Err(RunError::Floor {
            what: "one signed round trip",
            detail: "a reply was lost".into(),
        }),
    }
}

/// As many messages as `sender` can send in `time`, to `destination`, and how many arrive at
/// `receivers`.
pub(super) async fn flood(
    sender: &Arc<Agent>,
    receivers: &[Arc<Agent>],
    destination: Destination,
    payload: usize,
    time: Duration,
) -> Result<Flood, RunError> {
    let mut padding = serde_json::Map::new();
    course::pad(&mut padding, payload);
    let draft = Draft {
        performative: Some(Performative::Inform),
        ..Draft::new(destination, padding)
    };
    let delivered = Arc::new(AtomicU64::new(0));
    let duplicated = Arc::new(AtomicU64::new(0));
    let mut inboxes = JoinSet::new();
    for receiver in receivers {
        let inbox = receiver.subscribe();
        let (delivered, duplicated) = (Arc::clone(&delivered), Arc::clone(&duplicated));
        inboxes.spawn(count(inbox, delivered, duplicated));
    }
    let (sent, stop) = (
        Arc::new(AtomicU64::new(0)),
        Arc::new(AtomicBool::new(false)),
    );
    let start = Instant::now();
    let mut senders = JoinSet::new();
    for _ in 0..SENDERS {
        let (agent, draft) = (Arc::clone(sender), draft.clone());
        let (sent, stop) = (Arc::clone(&sent), Arc::clone(&stop));
        senders.spawn(async move {
            while !stop.load(Ordering::Relaxed) && agent.send(draft.clone()).await.is_ok() {
                sent.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    tokio::time::sleep(time).await;
    stop.store(true, Ordering::Relaxed);
    while senders.join_next().await.is_some() {}
    let sent = sent.load(Ordering::Relaxed);
    let expected = sent * receivers.len() as u64;
    // Looked at every millisecond: the end is known as well as that, of seconds.
    let all = async {
        while delivered.load(Ordering::Relaxed) < expected {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let _ = timeout(LAST, all).await;
    let time = start.elapsed();
    inboxes.shutdown().await;
    Ok(Flood {
        sent,
        delivered: delivered.load(Ordering::Relaxed),
        duplicated: duplicated.load(Ordering::Relaxed),
        time,
    })
}

/// Counts what one subscriber gets.
async fn count(mut inbox: Subscription, delivered: Arc<AtomicU64>, duplicated: Arc<AtomicU64>) {
    // Numbers of one sender only grow: one that does not has been here before.
    let mut last = 0;
    while let Some(event) = inbox.recv().await {
        if let AgentEvent::Message(message) = event {
            if message.sequence_num() > last {
                last = message.sequence_num();
                delivered.fetch_add(1, Ordering::Relaxed);
            } else {
                duplicated.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// Broadcasts one at a time, for so long: from `send` until the last receiver has it.
pub(super) async fn last_receiver(
    sender: &Arc<Agent>,
    receivers: &[Arc<Agent>],
    payload: usize,
    time: Duration,
) -> Result<Latencies, RunError> {
    let (arrived, mut arrivals) = tokio::sync::mpsc::channel(receivers.len().max(1));
    let mut tasks = JoinSet::new();
    for receiver in receivers {
        let mut inbox = receiver.subscribe();
        let arrived = arrived.clone();
        tasks.spawn(async move {
            while let Some(event) = inbox.recv().await {
                if let AgentEvent::Message(message) = event {
                    let arrival = (message.sequence_num(), Instant::now());
                    if arrived.send(arrival).await.is_err() {
                        return;
                    }
                }
            }
        });
    }
    let (me, receivers) = (Arc::clone(sender), receivers.len());
    let asking = tokio::spawn(async move {
        let mut latencies = Latencies::new();
        let mut padding = serde_json::Map::new();
        course::pad(&mut padding, payload);
        let until = Instant::now() + time;
        while Instant::now() < until {
            let draft = Draft {
                performative: Some(Performative::Inform),
                ..Draft::new(Destination::All, padding.clone())
            };
            let start = Instant::now();
            let Ok(receipt) = me.send(draft).await else {
                break;
            };
            let mut last = start;
            let mut missing = receivers;
            while missing > 0 {
                match timeout(LAST, arrivals.recv()).await {
                    Ok(Some((number, at))) if number == receipt.sequence_num => {
                        last = last.max(at);
                        missing -= 1;
                    }
                    Ok(Some(_)) => {}
                    Ok(None) | Err(_) => return latencies,
                }
            }
            latencies.record(last - start);
        }
        latencies
    });
    let latencies = asking.await.unwrap_or_default();
    tasks.shutdown().await;
    Ok(latencies)
}

impl RunningSwarm {
    /// Both ends of the first link, the one that dialled first.
    pub(super) fn first_link(&self) -> Option<(Arc<Agent>, Arc<Agent>)> {
        let link = self.formed.as_ref()?.open.first()?;
        let find = |id| self.agents.iter().find(|agent| agent.id() == id).cloned();
        Some((find(&link.a)?, find(&link.b)?))
    }
}

/// Tasks that send at the same time: one write to the witness serves all that wait for it. Half and
/// twice as many carried less.
const SENDERS: usize = 32;
/// How long the last messages may take.
const LAST: Duration = Duration::from_secs(10);
