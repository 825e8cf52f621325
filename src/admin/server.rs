//! What is told of a signaling server.

use std::sync::OnceLock;

use super::{Page, Watched};
use crate::agent::Coverage;
use crate::signal::{Census, ServerObserver, Traffic};

/// A signaling server, also before it listens.
#[derive(Default)]
pub struct ServerWatch {
    server: OnceLock<ServerObserver>,
    /// How its witness logs stand, if it keeps any.
    witness: Option<Box<dyn Fn() -> Coverage + Send + Sync>>,
}

impl ServerWatch {
    /// One whose witness logs stand as `witness` says.
    pub fn new(witness: Option<Box<dyn Fn() -> Coverage + Send + Sync>>) -> Self {
        let server = OnceLock::new();
        Self { server, witness }
    }

    /// The server listens.
    pub fn started(&self, observer: ServerObserver) {
        // There is one server, which starts once.
        let _ = self.server.set(observer);
    }

    fn look(&self) -> Result<(Census, Traffic), &'static str> {
        let server = self.server.get().ok_or("the server does not listen yet")?;
        server.look().ok_or("the server is ending")
    }

    fn coverage(&self) -> Option<Coverage> {
        self.witness.as_ref().map(|witness| witness())
    }
}

impl Watched for ServerWatch {
    fn health(&self) -> Result<(), &'static str> {
        self.look()?;
        match self.coverage() {
            Some(coverage) if coverage.missing > 0 => {
                Err("the witness cannot be written, and the server goes on without it")
            }
            _ => Ok(()),
        }
    }

    fn page(&self) -> Page {
        let mut page = Page::default();
        if let Ok((census, traffic)) = self.look() {
            holds(&mut page, &census);
            counts(&mut page, &traffic);
        }
        if let Some(coverage) = self.coverage() {
            page.witness(&coverage);
        }
        page
    }
}

impl std::fmt::Debug for ServerWatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("ServerWatch");
        shown.field("server", &self.server).finish_non_exhaustive()
    }
}

/// What it holds now; all of it is bounded (`Limits`).
fn holds(page: &mut Page, census: &Census) {
    let held = [
        ("sockets", census.sockets),
        ("strangers", census.strangers),
        ("connections", census.connections),
        ("unregistered", census.unregistered),
        ("addresses", census.addresses),
        ("swarms", census.swarms),
        ("agents", census.agents),
        ("bound_ids", census.bound_ids),
        ("left", census.left),
    ];
    page.gauges(
        "ifswarm_signal_census",
        "What the server holds: open sockets and such as shake hands, connections and such as have not registered, addresses, swarms, agents, ids bound to a key, agents that left and whose session is remembered.",
        "what",
        held.map(|(what, n)| (what, n as f64)),
    );
    page.gauge(
        "ifswarm_signal_queued_bytes",
        "Bytes that wait for clients to read them.",
        census.queued_bytes as f64,
    );
}

/// What only grows.
fn counts(page: &mut Page, traffic: &Traffic) {
    page.counter(
        "ifswarm_signal_connections_total",
        "Connections that were challenged.",
        traffic.connections,
    );
    page.counter(
        "ifswarm_signal_turned_away_total",
        "Sockets dropped at once because all places were taken.",
        traffic.turned_away,
    );
    page.counter(
        "ifswarm_signal_registrations_total",
        "Registrations that were accepted.",
        traffic.registrations,
    );
    page.counters(
        "ifswarm_signal_refused_total",
        "Errors told to clients.",
        "code",
        traffic.refusals().map(|(code, n)| (code.as_str(), n)),
    );
    page.counters(
        "ifswarm_signal_relayed_total",
        "Frames handed on from agent to agent.",
        "frame",
        [
            ("offer", traffic.offers),
            ("answer", traffic.answers),
            ("ice-candidates", traffic.candidates),
            ("please-offer", traffic.requests),
        ],
    );
    page.counters(
        "ifswarm_signal_frames_total",
        "Frames that came, and frames queued for clients.",
        "direction",
        [("received", traffic.received), ("sent", traffic.sent)],
    );
    page.counter(
        "ifswarm_signal_dropped_clients_total",
        "Clients dropped because they did not read what they were sent.",
        traffic.dropped,
    );
}
