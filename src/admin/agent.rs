//! What is told of an agent.

use std::sync::OnceLock;

use super::{Page, Watched};
use crate::agent::{Observer, Vitals};
use crate::mesh::PeerState;

/// An agent, also before it is there: while it registers it is not well, and says so.
#[derive(Debug, Default)]
pub struct AgentWatch(OnceLock<Observer>);

impl AgentWatch {
    /// The agent has started.
    pub fn started(&self, observer: Observer) {
        // There is one agent, which starts once.
        let _ = self.0.set(observer);
    }

    fn look(&self) -> Result<Vitals, &'static str> {
        let observer = self.0.get().ok_or("the agent has not registered yet")?;
        observer.look().ok_or("the agent has ended")
    }
}

impl Watched for AgentWatch {
    fn health(&self) -> Result<(), &'static str> {
        let vitals = self.look()?;
        if vitals.is_leaving {
            Err("the agent is leaving")
        } else if !vitals.is_registered {
            Err(
                "the signaling server is gone: links live on, new ones cannot be made; trying to reach it again",
            )
        } else if vitals.witness.missing > 0 {
            Err("the witness cannot be written, and the agent goes on without it")
        } else {
            Ok(())
        }
    }

    fn page(&self) -> Page {
        let mut page = Page::default();
        if let Ok(vitals) = self.look() {
            traffic(&mut page, &vitals);
            state(&mut page, &vitals);
            page.witness(&vitals.witness);
        }
        page
    }
}

/// What only grows.
fn traffic(page: &mut Page, vitals: &Vitals) {
    let stats = &vitals.stats;
    page.counters(
        "ifswarm_messages_total",
        "Messages sent (one to everybody counts once), and messages verified and delivered.",
        "direction",
        [("sent", stats.sent), ("delivered", stats.delivered)],
    );
    page.counter(
        "ifswarm_signaling_comebacks_total",
        "Registrations after the signaling server was gone.",
        vitals.comebacks,
    );
    page.counters(
        "ifswarm_refused_total",
        "Messages of peers that this agent has refused.",
        "reason",
        vitals
            .refused
            .iter()
            .map(|(reason, n)| (reason.as_str(), *n)),
    );
    page.counter(
        "ifswarm_refused_by_peers_total",
        "Messages of this agent that peers have refused.",
        stats.refused_by_peers,
    );
    let rejected = vitals.sdp_rejected.iter();
    page.counters(
        "ifswarm_sdp_rejected_total",
        "Offers and answers that this agent has refused.",
        "reason",
        rejected.map(|(reason, n)| (reason.as_str(), *n)),
    );
    page.counters(
        "ifswarm_control_refused_total",
        "Control frames that were not acted upon.",
        "reason",
        [
            ("bad", stats.bad_control),
            ("unknown", stats.unknown_control),
        ],
    );
    page.counters(
        "ifswarm_cosignatures_total",
        "Checkpoints of peers that this agent has countersigned, and its own that peers have.",
        "direction",
        [("given", stats.countersigned), ("received", stats.cosigned)],
    );
    page.counter(
        "ifswarm_equivocations_total",
        "Logs with two histories. Any is an attack, or two processes with one key.",
        stats.equivocations,
    );
}

/// What is so now.
fn state(page: &mut Page, vitals: &Vitals) {
    // Where there is no link at all, `ifswarm_peers` tells.
    let has_link = |state| !matches!(state, PeerState::Known | PeerState::Gone);
    let named = |(state, n): &(PeerState, u64)| (state.as_str(), *n as f64);
    let links = vitals.peers.iter().filter(|(state, _)| has_link(*state));
    page.gauges(
        "ifswarm_links",
        "Links by state; `up` and `unhealthy` carry messages, the others are being made.",
        "state",
        links.map(named),
    );
    let peers = vitals.peers.iter().filter(|(state, _)| !has_link(*state));
    page.gauges(
        "ifswarm_peers_without_link",
        "Peers that are known to be there, or are gone, and have no link.",
        "state",
        peers.map(named),
    );
    page.round_trips(
        "ifswarm_rtt_seconds",
        "Round trips of the heartbeats of all links.",
        &vitals.round_trips,
    );
    page.gauge(
        "ifswarm_registered",
        "Whether the agent is registered with the signaling server.",
        f64::from(u8::from(vitals.is_registered)),
    );
    let queued = vitals.queued;
    page.gauges(
        "ifswarm_queued",
        "What waits: messages and control frames for links, frames for the server, and what waits for the disk.",
        "queue",
        [
            ("messages", queued.messages as f64),
            ("unacknowledged", queued.unacknowledged as f64),
            ("control", queued.control as f64),
            ("signaling", queued.signaling as f64),
            ("disk", queued.disk as f64),
        ],
    );
}
