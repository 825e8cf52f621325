//! One connection: offer, answer, candidates, the two channels, and an orderly end.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::OnceCell;
use tokio::time::timeout;
use webrtc::data_channel::{DataChannel, RTCDataChannelInit};
use webrtc::error::Error;
use webrtc::peer_connection::{
    PeerConnection, PeerConnectionBuilder, RTCIceCandidateInit, RTCIceCandidateType,
    RTCSessionDescription,
};

use super::endpoint::Endpoint;
use super::events::{CandidateLine, Handler, LinkEvents};
use super::files::{FILES, FileChannel};
use super::pace::Pace;
use super::runtime::{ConnectionRuntime, Hurry};
use super::sdp;
use super::seat::Seat;
use crate::identity::AgentId;
use crate::message::one_line;

/// One WebRTC connection to one peer. Cheap to clone; closed by [`close`](Self::close).
#[derive(Clone)]
pub struct Link(Arc<Inner>);

struct Inner {
    connection: Arc<dyn PeerConnection>,
    messaging: Arc<dyn DataChannel>,
    control: Arc<dyn DataChannel>,
    files: OnceCell<FileChannel>,
    seat: Seat,
    pace: Pace,
    own_max_message: usize,
    peer_max_message: OnceLock<usize>,
    closed: AtomicBool,
    /// The peer has closed, or no path is left: nothing will be acknowledged any more.
    down: Arc<AtomicBool>,
}

/// How the packets of a link travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Path {
    /// Directly, between the hosts' own addresses.
    Host,
    /// Directly, through address translation.
    Reflexive,
    /// Through a TURN server.
    Relay,
    /// Not known (yet).
    Unknown,
}

/// Why a link could not be made or used.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The peer's description could not be read or applied.
    #[error("the peer's {what} cannot be applied: {detail}")]
    BadSdp {
        /// `offer`, `answer` or `candidate`.
        what: &'static str,
        /// What the engine said: one bounded line.
        detail: String,
    },
    /// No candidates within the time allowed.
    #[error("no candidates after {} s: check the STUN and TURN servers", GATHERING.as_secs())]
    Gathering,
    /// More bytes than the peer takes (`a=max-message-size`) or this end's `channel.max_message`.
    #[error(
        "{size} bytes are more than the {limit} this link carries: raise `channel.max_message` (256 KiB at most), or send evidence as a file"
    )]
    TooLarge {
        /// How many there are.
        size: usize,
        /// How many are allowed.
        limit: usize,
    },
    /// The host has no address left, after a change of network.
    #[error("this host has no address to be reached at now: it is tried again when it has one")]
    NoAddress,
    /// The link is closed.
    #[error("the link is closed")]
    Closed,
    /// The engine failed.
    #[error("the WebRTC engine failed: {0}")]
    Engine(String),
}

impl Link {
    pub(super) async fn dial(
        endpoint: &Endpoint,
        peer: &AgentId,
    ) -> Result<(Self, LinkEvents, String), LinkError> {
        let (link, mut events) = Self::built(endpoint, peer).await?;
        let offer = link.0.connection.create_offer(None).await.map_err(engine)?;
        let offer = link.describe(endpoint, &mut events, offer).await?;
        Ok((link, events, offer))
    }

    pub(super) async fn answer(
        endpoint: &Endpoint,
        peer: &AgentId,
        offer: &str,
    ) -> Result<(Self, LinkEvents, String), LinkError> {
        let remote = RTCSessionDescription::offer(offer.to_owned()).map_err(bad_sdp("offer"))?;
        let (link, mut events) = Self::built(endpoint, peer).await?;
        link.remote(remote, offer, "offer").await?;
        let answer = link.0.connection.create_answer(None).await;
        let answer = answer.map_err(bad_sdp("offer"))?;
        let answer = link.describe(endpoint, &mut events, answer).await?;
        Ok((link, events, answer))
    }

    /// Applies the peer's answer; the connection comes up by itself after that.
    ///
    /// # Errors
    /// [`LinkError::BadSdp`] when it is none.
    pub async fn accept(&self, answer: &str) -> Result<(), LinkError> {
        let remote = RTCSessionDescription::answer(answer.to_owned()).map_err(bad_sdp("answer"))?;
        self.remote(remote, answer, "answer").await
    }

    /// Adds a candidate that the peer found after its offer or answer.
    ///
    /// # Errors
    /// [`LinkError::BadSdp`] when it is none.
    pub async fn add_candidate(&self, candidate: CandidateLine) -> Result<(), LinkError> {
        let candidate = RTCIceCandidateInit {
            candidate: candidate.candidate,
            sdp_mid: candidate.sdp_mid,
            sdp_mline_index: candidate.sdp_mline_index,
            ..Default::default()
        };
        let added = self.0.connection.add_ice_candidate(candidate).await;
        added.map_err(bad_sdp("candidate"))
    }

    /// Sends one message as text; waits while more than the send buffer's bound is under way, or
    /// the connection's loop has enough to do.
    ///
    /// # Errors
    /// [`LinkError::TooLarge`] before anything is sent; [`LinkError::Closed`].
    pub async fn send_message(&self, text: &str) -> Result<(), LinkError> {
        self.check_size(text)?;
        loop {
            // In this order: a round that begins in between is not missed.
            let round = self.0.pace.round();
            if self.0.pace.has_room() {
                match self.0.messaging.try_send_text(text).await {
                    Err(Error::ErrSendBufferFull) => {}
                    sent => return self.handed(sent),
                }
            }
            round.await;
        }
    }

    /// Sends one message as text if that needs no waiting, and says whether it did.
    ///
    /// # Errors
    /// As for [`send_message`](Self::send_message).
    pub fn try_send_message(&self, text: &str) -> Result<bool, LinkError> {
        self.check_size(text)?;
        if !self.0.pace.has_room() {
            return Ok(false);
        }
        // The engine's call waits for the lock of its state, and, once it has sent, yields, which
        // [`ConnectionRuntime`] makes a no-op. So not ready means not sent.
        match self.0.messaging.try_send_text(text).now_or_never() {
            None | Some(Err(Error::ErrSendBufferFull)) => Ok(false),
            Some(sent) => self.handed(sent).map(|()| true),
        }
    }

    /// Sends one control frame; waits as [`send_message`](Self::send_message) does.
    ///
    /// # Errors
    /// As for [`send_message`](Self::send_message).
    pub async fn send_control(&self, text: &str) -> Result<(), LinkError> {
        self.check_size(text)?;
        send(&self.0.control, text).await
    }

    /// Opens this end of the channel for files; the second time gives the same one.
    ///
    /// # Errors
    /// [`LinkError::Closed`], or what the engine says.
    pub async fn open_files(&self) -> Result<FileChannel, LinkError> {
        if self.0.closed.load(Ordering::Acquire) {
            return Err(LinkError::Closed);
        }
        let open = async || {
            let options = Some(FileChannel::options());
            let channel = self.0.connection.create_data_channel(FILES, options).await;
            channel.map(FileChannel::new).map_err(engine)
        };
        self.0.files.get_or_try_init(open).await.cloned()
    }

    /// The largest message the link carries, in bytes.
    pub fn max_message(&self) -> usize {
        let peer = self.0.peer_max_message.get().copied();
        self.0.own_max_message.min(peer.unwrap_or(usize::MAX))
    }

    /// How the packets travel.
    pub async fn path(&self) -> Path {
        let Some(sctp) = self.0.connection.sctp().await else {
            return Path::Unknown;
        };
        let ice = sctp.transport().ice_transport();
        let Ok(Some(pair)) = ice.get_selected_candidate_pair().await else {
            return Path::Unknown;
        };
        let types = [pair.local().typ, pair.remote().typ];
        if types.contains(&RTCIceCandidateType::Relay) {
            Path::Relay
        } else if types.iter().all(|typ| *typ == RTCIceCandidateType::Host) {
            Path::Host
        } else {
            Path::Reflexive
        }
    }

    /// Lets what was sent go out, then closes. Does nothing the second time.
    pub async fn close(&self) {
        if self.0.closed.swap(true, Ordering::AcqRel) {
            return;
        }
        // The engine's own `close` may cut off what it has not flushed yet.
        let _ = timeout(LAST_FLUSH, self.flushed()).await;
        if let Err(err) = self.0.connection.close().await {
            tracing::debug!(%err, "close failed");
        }
        self.0.pace.end();
        self.0.seat.leave();
    }

    async fn flushed(&self) {
        for channel in [&self.0.messaging, &self.0.control] {
            while !self.0.down.load(Ordering::Acquire)
                && channel.outstanding_bytes().await.is_ok_and(|n| n > 0)
            {
                tokio::time::sleep(FLUSH_CHECK).await;
            }
        }
    }

    /// A connection, in a task of its own until it is a [`Link`], which closes when it is dropped.
    /// Whoever wants one may give up at any time: halfway, the engine would leave a loop running.
    async fn built(endpoint: &Endpoint, peer: &AgentId) -> Result<(Self, LinkEvents), LinkError> {
        let building = tokio::spawn(Self::build(endpoint.clone(), peer.clone()));
        let built = building.await;
        built.map_err(|err| LinkError::Engine(err.to_string()))?
    }

    async fn build(endpoint: Endpoint, peer: AgentId) -> Result<(Self, LinkEvents), LinkError> {
        let (ufrag, password) = ice_credentials()?;
        let seat = endpoint.seat(&peer, &ufrag);
        let addresses = seat.believed_addresses();
        if addresses.is_empty() {
            seat.leave();
            return Err(LinkError::NoAddress);
        }
        let hurry = Hurry::default();
        let down = Arc::new(AtomicBool::new(false));
        let (handler, events) = Handler::new(hurry.clone(), seat.clone());
        let pace = Pace::default();
        let runtime = ConnectionRuntime::new(seat.clone(), hurry, pace.clone());
        let built = PeerConnectionBuilder::new()
            .with_configuration(endpoint.configuration())
            .with_setting_engine(endpoint.settings(ufrag, password))
            .with_runtime(Arc::new(runtime))
            .with_handler(Arc::new(handler))
            .with_udp_addrs(addresses)
            .with_data_channel_send_buffer_limit(SEND_BUFFER)
            .build()
            .await;
        let connection: Arc<dyn PeerConnection> = match built {
            Ok(connection) => Arc::new(connection),
            Err(err) => {
                seat.leave();
                return Err(engine(err));
            }
        };
        let options = endpoint.channel();
        let messaging = RTCDataChannelInit {
            ordered: options.ordered,
            max_retransmits: options.max_retransmits,
            negotiated: Some(MESSAGING_ID),
            ..Default::default()
        };
        let control = RTCDataChannelInit {
            negotiated: Some(CONTROL_ID),
            ..Default::default()
        };
        let messaging = connection
            .create_data_channel(MESSAGING, Some(messaging))
            .await;
        let control = connection.create_data_channel(CONTROL, Some(control)).await;
        let (messaging, control) = match (messaging, control) {
            (Ok(messaging), Ok(control)) => (messaging, control),
            (Err(err), _) | (_, Err(err)) => {
                let _ = connection.close().await;
                seat.leave();
                return Err(engine(err));
            }
        };
        let events = LinkEvents::new(
            &messaging,
            &control,
            events,
            seat.clone(),
            Arc::clone(&down),
        );
        let link = Self(Arc::new(Inner {
            connection,
            messaging,
            control,
            files: OnceCell::new(),
            seat,
            pace,
            own_max_message: options.max_message,
            peer_max_message: OnceLock::new(),
            closed: AtomicBool::new(false),
            down,
        }));
        Ok((link, events))
    }

    /// Applies this end's description and returns it as it is to travel: with all candidates
    /// where they are known at once (then they are signed along), else with those known so far.
    async fn describe(
        &self,
        endpoint: &Endpoint,
        events: &mut LinkEvents,
        description: RTCSessionDescription,
    ) -> Result<String, LinkError> {
        let applied = self.0.connection.set_local_description(description).await;
        applied.map_err(engine)?;
        if endpoint.gathers_at_once() {
            timeout(GATHERING, events.gathered())
                .await
                .map_err(|_| LinkError::Gathering)?;
        }
        let local = self.0.connection.local_description().await;
        let local = local.ok_or_else(|| LinkError::Engine("no local description".into()))?;
        let seat = &self.0.seat;
        Ok(sdp::with_shared_port(&local.sdp, |ip| seat.port_on(ip)))
    }

    async fn remote(
        &self,
        remote: RTCSessionDescription,
        sdp: &str,
        what: &'static str,
    ) -> Result<(), LinkError> {
        let _ = self.0.peer_max_message.set(sdp::max_message_size(sdp));
        let applied = self.0.connection.set_remote_description(remote).await;
        applied.map_err(bad_sdp(what))
    }

    /// What came of handing a message to the connection.
    fn handed(&self, sent: Result<(), Error>) -> Result<(), LinkError> {
        sent.map_err(|err| match err {
            Error::ErrDataChannelClosed => LinkError::Closed,
            other => engine(other),
        })?;
        self.0.pace.handed();
        Ok(())
    }

    fn check_size(&self, text: &str) -> Result<(), LinkError> {
        let (size, limit) = (text.len(), self.max_message());
        if size > limit {
            return Err(LinkError::TooLarge { size, limit });
        }
        Ok(())
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if self.closed.swap(true, Ordering::AcqRel) {
            return;
        }
        // A connection that is only dropped leaves its driver running.
        self.seat.leave();
        let connection = Arc::clone(&self.connection);
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { connection.close().await });
        }
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Link").field(&self.0.seat).finish()
    }
}

async fn send(channel: &Arc<dyn DataChannel>, text: &str) -> Result<(), LinkError> {
    channel.send_text(text).await.map_err(|err| match err {
        Error::ErrDataChannelClosed => LinkError::Closed,
        other => engine(other),
    })
}

/// A random user fragment, by which the shared port tells connections apart, and password
/// (RFC 8445, section 5.3: at least 24 and 128 bits).
fn ice_credentials() -> Result<(String, String), LinkError> {
    let mut random = [0; 24];
    getrandom::fill(&mut random).map_err(|err| LinkError::Engine(err.to_string()))?;
    Ok((hex::encode(&random[..8]), hex::encode(&random[8..])))
}

fn engine(err: Error) -> LinkError {
    LinkError::Engine(err.to_string())
}

fn bad_sdp(what: &'static str) -> impl Fn(Error) -> LinkError {
    move |err| LinkError::BadSdp {
        what,
        // The engine quotes the whole text where it finds fault with it.
        detail: one_line(&err.to_string(), MAX_DETAIL),
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Host => "host",
            Self::Reflexive => "srflx",
            Self::Relay => "relay",
            Self::Unknown => "unknown",
        })
    }
}

const MESSAGING: &str = "if-agent-messaging";
const MESSAGING_ID: u16 = 0;
const CONTROL: &str = "if-agent-control";
const CONTROL_ID: u16 = 1;
/// Bytes under way per channel before a sender waits: measured as the fast end, and a bound on
/// what a peer that reads nothing can make this end keep.
const SEND_BUFFER: usize = 128 * 1024;

/// Characters of what the engine says about a peer's text.
const MAX_DETAIL: usize = 300;
/// Host candidates take a millisecond.
const GATHERING: Duration = Duration::from_secs(5);
/// What a closing link waits for its last bytes to be acknowledged.
const LAST_FLUSH: Duration = Duration::from_millis(500);
/// The engine reports no event for "all acknowledged", so it is asked.
const FLUSH_CHECK: Duration = Duration::from_millis(1);
