//! A bare WebRTC link between two endpoints: no agents, no signatures, no witness. The floor that
//! signed messages stand on.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::floors::{MOST_SAMPLES, micros};
use super::running::RunError;
use crate::identity::AgentId;
use crate::link::{ChannelOptions, Endpoint, EndpointConfig, Link, LinkEvent, LinkEvents};

/// One link between two endpoints. The far end sends back what comes.
pub(super) struct RawLink {
    near: Link,
    /// Of the near end; taken while measuring.
    events: Option<LinkEvents>,
    echo: JoinHandle<()>,
    setup: Duration,
}

impl RawLink {
    /// Makes the link; the descriptions go from hand to hand.
    pub(super) async fn between(near: &Endpoint, far: &Endpoint) -> Result<Self, RunError> {
        let name = |text: &str| -> AgentId { text.parse().expect("letters are an id") };
        let start = Instant::now();
        let dialled = near.dial(&name("far")).await;
        let (link, mut events, offer) = dialled.map_err(failed)?;
        let answered = far.answer(&name("near"), &offer).await;
        let (far_link, mut far_events, answer) = answered.map_err(failed)?;
        link.accept(&answer).await.map_err(failed)?;
        let both = async { tokio::join!(open(&mut events), open(&mut far_events)) };
        if !matches!(timeout(OPEN, both).await, Ok((true, true))) {
            return Err(failed("the link did not open"));
        }
        Ok(Self {
            setup: start.elapsed(),
            echo: tokio::spawn(echo(far_link, far_events)),
            events: Some(events),
            near: link,
        })
    }

    /// The end that asks.
    pub(super) fn near(&self) -> Link {
        self.near.clone()
    }

    /// What comes back to it. Once.
    pub(super) fn take_events(&mut self) -> Result<LinkEvents, RunError> {
        self.events.take().ok_or(failed("the link is gone"))
    }

    pub(super) async fn close(self) {
        self.near.close().await;
        self.echo.abort();
    }
}

/// Two endpoints with one link.
pub(super) struct RawPair {
    endpoints: [Endpoint; 2],
    link: RawLink,
    round_trips: Vec<f64>,
}

impl RawPair {
    pub(super) async fn connect() -> Result<Self, RunError> {
        let endpoints = [bind()?, bind()?];
        let [near, far] = &endpoints;
        Ok(Self {
            link: RawLink::between(near, far).await?,
            endpoints,
            round_trips: Vec::new(),
        })
    }

    /// How long it took to make.
    pub(super) fn setup_ms(&self) -> f64 {
        self.link.setup.as_secs_f64() * 1e3
    }

    /// The round trips so far, in microseconds.
    pub(super) fn round_trips(&self) -> &[f64] {
        &self.round_trips
    }

    /// Sends `text` there and back, one at a time, for so long.
    pub(super) async fn measure(&mut self, text: &str, time: Duration) -> Result<(), RunError> {
        let mut events = self.link.take_events()?;
        let (link, text) = (self.link.near(), text.to_owned());
        let most = MOST_SAMPLES.saturating_sub(self.round_trips.len());
        // In a task, as the drivers of agents are.
        let asking = tokio::spawn(async move {
            let mut samples = Vec::new();
            let until = Instant::now() + time;
            while Instant::now() < until && samples.len() < most {
                let start = Instant::now();
                link.send_message(&text).await.map_err(failed)?;
                loop {
                    match events.recv(true).await {
                        LinkEvent::Message { .. } => break,
                        LinkEvent::Closed => return Err(failed("the link went down")),
                        _ => {}
                    }
                }
                samples.push(micros(start.elapsed()));
            }
            Ok((samples, events))
        });
        let joined = timeout(time + OPEN, asking).await;
        let joined = joined.map_err(|_| failed("an echo was lost"))?;
        let (samples, events) = joined.map_err(failed)??;
        self.round_trips.extend(samples);
        self.link.events = Some(events);
        Ok(())
    }

    pub(super) async fn close(self) {
        self.link.close().await;
        for endpoint in &self.endpoints {
            endpoint.close().await;
        }
    }
}

pub(super) fn bind() -> Result<Endpoint, RunError> {
    let config = EndpointConfig {
        addresses: vec![Ipv4Addr::LOCALHOST.into()],
        udp_port: None,
        ice_servers: Vec::new(),
        channel: ChannelOptions::default(),
    };
    Endpoint::bind(config).map_err(failed)
}

/// Whether the link came up.
async fn open(events: &mut LinkEvents) -> bool {
    loop {
        match events.recv(true).await {
            LinkEvent::Open => return true,
            LinkEvent::Closed => return false,
            _ => {}
        }
    }
}

async fn echo(link: Link, mut events: LinkEvents) {
    loop {
        match events.recv(true).await {
            LinkEvent::Message { bytes, .. } => {
                let text = String::from_utf8_lossy(&bytes);
                if link.send_message(&text).await.is_err() {
                    return;
                }
            }
            LinkEvent::Closed => return,
            _ => {}
        }
    }
}

pub(super) fn failed(detail: impl std::fmt::Display) -> RunError {
    RunError::Floor {
        what: "a raw DataChannel",
        detail: detail.to_string(),
    }
}

/// For a link on loopback to open, or to bring one echo back; both take milliseconds.
const OPEN: Duration = Duration::from_secs(10);
