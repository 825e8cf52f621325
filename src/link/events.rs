//! What happens on a link: the events of the connection and of its two channels, in one stream.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::mpsc;
use webrtc::data_channel::{DataChannel, DataChannelEvent};
use webrtc::peer_connection::{
    PeerConnectionEventHandler, RTCIceConnectionState, RTCIceGatheringState,
    RTCPeerConnectionIceEvent, RTCPeerConnectionState,
};

use super::runtime::Hurry;
use super::sdp;
use super::seat::Seat;

/// What happens on a link, in order per channel.
pub struct LinkEvents {
    messaging: Arc<dyn DataChannel>,
    control: Arc<dyn DataChannel>,
    connection: mpsc::Receiver<ConnectionEvent>,
    seat: Seat,
    messaging_is_open: bool,
    control_is_open: bool,
    closed: bool,
    /// The same, told to the [`Link`](super::Link).
    down: Arc<AtomicBool>,
}

/// One thing that happened on a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkEvent {
    /// A candidate for the peer, found after the offer or answer was made.
    Candidate(CandidateLine),
    /// There are no more candidates.
    EndOfCandidates,
    /// Both channels are open. Comes once.
    Open,
    /// A message; `is_text` is false for a binary frame, which no message is.
    Message {
        /// The bytes as received.
        bytes: Bytes,
        /// Whether it came as text.
        is_text: bool,
    },
    /// A control frame; a binary one is none.
    Control {
        /// The bytes as received.
        bytes: Bytes,
        /// Whether it came as text.
        is_text: bool,
    },
    /// The connection's state changed, in the words of the W3C specification.
    State(&'static str),
    /// The link is down; nothing follows.
    Closed,
}

/// A trickled candidate (RFC 8838), as it stands in signaling.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CandidateLine {
    /// `candidate:…` (RFC 8839, section 5.1).
    pub candidate: String,
    /// The media section's identification tag.
    pub sdp_mid: Option<String>,
    /// The media section's index.
    pub sdp_mline_index: Option<u16>,
}

/// What the engine's callbacks report.
pub(super) enum ConnectionEvent {
    Candidate(CandidateLine),
    Gathered,
    State(RTCPeerConnectionState),
}

impl LinkEvents {
    pub(super) fn new(
        messaging: &Arc<dyn DataChannel>,
        control: &Arc<dyn DataChannel>,
        connection: mpsc::Receiver<ConnectionEvent>,
        seat: Seat,
        down: Arc<AtomicBool>,
    ) -> Self {
        Self {
            messaging: Arc::clone(messaging),
            control: Arc::clone(control),
            connection,
            seat,
            messaging_is_open: false,
            control_is_open: false,
            closed: false,
            down,
        }
    }

    /// The next thing that happens; after [`LinkEvent::Closed`], that again. Cancel-safe.
    ///
    /// Without `messages` the messaging channel is left unread once it is open, which in the end
    /// throttles its sender. All else goes on until the engine's queue of that channel is full, too.
    pub async fn recv(&mut self, messages: bool) -> LinkEvent {
        loop {
            if self.closed {
                return LinkEvent::Closed;
            }
            let messages = messages || !self.messaging_is_open;
            // All three are receivers of queues, which lose nothing when a poll is dropped.
            let on_channels = async {
                tokio::select! {
                    event = self.control.poll() => (event, true),
                    event = self.messaging.poll(), if messages => (event, false),
                }
            };
            let event = tokio::select! {
                // What was said before the end, the goodbye above all, is read before it.
                biased;
                (event, is_control) = on_channels => self.on_channel(event, is_control),
                event = self.connection.recv() => self.on_connection(event),
            };
            if let Some(event) = event {
                if event == LinkEvent::Closed {
                    self.closed = true;
                    self.down.store(true, Ordering::Release);
                }
                return event;
            }
        }
    }

    /// Waits until all candidates are known; drops those that come meanwhile, which stand in the
    /// description.
    pub(super) async fn gathered(&mut self) {
        while let Some(event) = self.connection.recv().await {
            if matches!(event, ConnectionEvent::Gathered) {
                return;
            }
        }
    }

    fn on_connection(&mut self, event: Option<ConnectionEvent>) -> Option<LinkEvent> {
        Some(match event {
            Some(ConnectionEvent::Candidate(line)) => LinkEvent::Candidate(line),
            Some(ConnectionEvent::Gathered) => LinkEvent::EndOfCandidates,
            // `failed` is final: no path carries packets any more.
            Some(ConnectionEvent::State(
                RTCPeerConnectionState::Failed | RTCPeerConnectionState::Closed,
            ))
            | None => LinkEvent::Closed,
            Some(ConnectionEvent::State(state)) => LinkEvent::State(state_name(state)?),
        })
    }

    fn on_channel(
        &mut self,
        event: Option<DataChannelEvent>,
        is_control: bool,
    ) -> Option<LinkEvent> {
        match event {
            Some(DataChannelEvent::OnOpen) => {
                match is_control {
                    true => self.control_is_open = true,
                    false => self.messaging_is_open = true,
                }
                if !(self.control_is_open && self.messaging_is_open) {
                    return None;
                }
                self.seat.opened();
                Some(LinkEvent::Open)
            }
            Some(DataChannelEvent::OnMessage(message)) if is_control => Some(LinkEvent::Control {
                is_text: message.is_string,
                bytes: message.data.freeze(),
            }),
            Some(DataChannelEvent::OnMessage(message)) => Some(LinkEvent::Message {
                is_text: message.is_string,
                bytes: message.data.freeze(),
            }),
            Some(DataChannelEvent::OnClose) | None => Some(LinkEvent::Closed),
            Some(_) => None,
        }
    }
}

/// The engine's callbacks.
pub(super) struct Handler {
    events: mpsc::Sender<ConnectionEvent>,
    hurry: Hurry,
    seat: Seat,
}

impl Handler {
    /// A handler, and what it reports.
    pub(super) fn new(hurry: Hurry, seat: Seat) -> (Self, mpsc::Receiver<ConnectionEvent>) {
        let (events, reported) = mpsc::channel(CONNECTION_EVENTS);
        let handler = Self {
            events,
            hurry,
            seat,
        };
        (handler, reported)
    }

    /// Never waits: it runs inside the connection's own loop. The queue holds more than a
    /// connection has candidates and states; what does not fit is lost, and time-outs find it.
    fn report(&self, event: ConnectionEvent) {
        if self.events.try_send(event).is_err() {
            tracing::debug!("a connection event was dropped");
        }
    }
}

#[async_trait]
impl PeerConnectionEventHandler for Handler {
    async fn on_ice_candidate(&self, event: RTCPeerConnectionIceEvent) {
        let Ok(candidate) = event.candidate.to_json() else {
            return;
        };
        self.report(ConnectionEvent::Candidate(CandidateLine {
            candidate: sdp::with_shared_port(&candidate.candidate, |ip| self.seat.port_on(ip)),
            sdp_mid: candidate.sdp_mid,
            sdp_mline_index: candidate.sdp_mline_index,
        }));
    }

    async fn on_ice_gathering_state_change(&self, state: RTCIceGatheringState) {
        if state == RTCIceGatheringState::Complete {
            self.report(ConnectionEvent::Gathered);
        }
    }

    async fn on_ice_connection_state_change(&self, state: RTCIceConnectionState) {
        if state == RTCIceConnectionState::Connected {
            self.hurry.once();
        }
    }

    async fn on_connection_state_change(&self, state: RTCPeerConnectionState) {
        if state == RTCPeerConnectionState::Connected {
            self.hurry.once();
        }
        self.report(ConnectionEvent::State(state));
    }
}

fn state_name(state: RTCPeerConnectionState) -> Option<&'static str> {
    Some(match state {
        RTCPeerConnectionState::New => "new",
        RTCPeerConnectionState::Connecting => "connecting",
        RTCPeerConnectionState::Connected => "connected",
        RTCPeerConnectionState::Disconnected => "disconnected",
        _ => return None,
    })
}

/// Candidates and states of one connection that may wait to be read.
const CONNECTION_EVENTS: usize = 64;
