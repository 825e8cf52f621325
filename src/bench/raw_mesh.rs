//! A mesh of bare WebRTC links: no agents, no signatures, no witness. What signed round trips of a
//! mesh are compared with, at the same rate, on the same schedule and at the same time.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::pacer::{Pacer, Schedule};
use super::raw::{RawLink, bind, failed};
use super::running::RunError;
use super::stats::Latencies;
use crate::link::{Endpoint, Link, LinkEvent, LinkEvents};

/// Endpoints, each linked with each. One end of each link sends back what comes.
pub(super) struct RawMesh {
    endpoints: Vec<Endpoint>,
    lanes: Vec<RawLink>,
}

impl RawMesh {
    /// Makes the links, one after the other; the descriptions go from hand to hand.
    pub(super) async fn connect(peers: usize) -> Result<Self, RunError> {
        let endpoints: Vec<_> = (0..peers).map(|_| bind()).collect::<Result<_, _>>()?;
        let mut lanes = Vec::new();
        for (n, near) in endpoints.iter().enumerate() {
            for far in &endpoints[n + 1..] {
                lanes.push(RawLink::between(near, far).await?);
            }
        }
        Ok(Self { endpoints, lanes })
    }

    /// How many links.
    pub(super) fn links(&self) -> usize {
        self.lanes.len()
    }

    /// Sends `text` over each link and back whenever `schedule` says; a latency counts from then.
    pub(super) async fn probe(
        &mut self,
        schedule: Schedule,
        text: &str,
    ) -> Result<Latencies, RunError> {
        let text: Arc<str> = text.into();
        let mut tasks = JoinSet::new();
        let mut wake = Vec::new();
        for (lane, link) in (0..).zip(&mut self.lanes) {
            let due = Arc::new(Notify::new());
            wake.push(Arc::clone(&due));
            let events = link.take_events()?;
            let sent = Arc::new(Mutex::new(VecDeque::new()));
            let asking = ask(
                link.near(),
                Arc::clone(&text),
                schedule,
                lane,
                due,
                Arc::clone(&sent),
            );
            tasks.spawn(async move { asking.await.map(|()| Latencies::new()) });
            tasks.spawn(listen(events, sent, schedule.probes));
        }
        let pacer = Pacer::start(schedule, wake);
        let mut all = Latencies::new();
        let last = schedule.due(schedule.lanes, schedule.probes) + LAST_ECHOES;
        while let Some(joined) = timeout(
            last.saturating_duration_since(Instant::now()),
            tasks.join_next(),
        )
        .await
        .map_err(|_| failed("an echo was lost"))?
        {
            all.add(&joined.map_err(failed)??);
        }
        drop(pacer);
        Ok(all)
    }

    pub(super) async fn close(self) {
        for lane in self.lanes {
            lane.close().await;
        }
        for endpoint in &self.endpoints {
            endpoint.close().await;
        }
    }
}

type Sent = Arc<Mutex<VecDeque<Instant>>>;

/// Sends, and notes for each text when it was due.
async fn ask(
    link: Link,
    text: Arc<str>,
    schedule: Schedule,
    lane: u32,
    wake: Arc<Notify>,
    sent: Sent,
) -> Result<(), RunError> {
    for k in 0..schedule.probes {
        let due = schedule.due(lane, k);
        // A wake-up for an earlier probe may be left over.
        while Instant::now() < due {
            wake.notified().await;
        }
        sent.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push_back(due);
        link.send_message(&text).await.map_err(failed)?;
    }
    Ok(())
}

/// Takes so many echoes; they come in the order in which the texts were sent.
async fn listen(mut events: LinkEvents, sent: Sent, probes: u64) -> Result<Latencies, RunError> {
    let mut rtt = Latencies::new();
    while rtt.count() < probes {
        match events.recv(true).await {
            LinkEvent::Message { .. } => {
                let now = Instant::now();
                let due = sent
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .pop_front();
                let due = due.ok_or(failed("an echo of nothing"))?;
                rtt.record(now.saturating_duration_since(due));
            }
            LinkEvent::Closed => return Err(failed("the link went down")),
            _ => {}
        }
    }
    Ok(rtt)
}

/// How long the last echoes may take after the last text.
const LAST_ECHOES: Duration = Duration::from_secs(10);
