//! An agent's end of all its links: one UDP port, one DTLS certificate, one set of settings.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rtc::crypto::{RTCCryptoProvider, SignatureScheme};
use rtc::ice::mdns::MulticastDnsMode;
use rtc::peer_connection::certificate::CertificateParams;
use rtc::peer_connection::configuration::setting_engine::SctpMaxMessageSize;
use webrtc::peer_connection::{
    RTCCertificate, RTCConfiguration, RTCConfigurationBuilder, RTCIceServer, SettingEngine,
    SettingEngineBuilder,
};

use super::conditions::{PathConditions, PathCounts};
use super::connection::{Link, LinkError};
use super::events::LinkEvents;
use super::port::{BindFailed, Port};
use super::seat::Seat;
use crate::identity::AgentId;

/// What an [`Endpoint`] is made of.
#[derive(Debug, Clone)]
pub struct EndpointConfig {
    /// The addresses to bind, each concrete: a wildcard makes no candidate a peer could use.
    pub addresses: Vec<IpAddr>,
    /// The UDP port on all of them; `None` takes a free one.
    pub udp_port: Option<u16>,
    /// STUN and TURN servers.
    pub ice_servers: Vec<IceServer>,
    /// How the messaging channel behaves.
    pub channel: ChannelOptions,
}

/// A STUN or TURN server (RFC 7064, RFC 7065).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IceServer {
    /// `stun:HOST:PORT` or `turn:HOST:PORT`.
    pub urls: Vec<String>,
    /// For TURN; empty for STUN.
    pub username: String,
    /// For TURN; empty for STUN.
    pub credential: String,
}

/// How the messaging channel behaves; both ends of a link must agree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChannelOptions {
    /// Whether messages arrive in the order they were sent.
    pub ordered: bool,
    /// How often a lost message is sent again; `None`: until it arrives.
    pub max_retransmits: Option<u16>,
    /// The largest message this end takes, in bytes. The stack keeps that much per connection.
    pub max_message: usize,
}

impl ChannelOptions {
    /// Whether every message arrives, in order, as long as the link lives.
    pub fn is_reliable(&self) -> bool {
        self.ordered && self.max_retransmits.is_none()
    }
}

impl Default for ChannelOptions {
    /// Reliable, 64 KiB.
    fn default() -> Self {
        Self {
            ordered: true,
            max_retransmits: None,
            max_message: 64 * 1024,
        }
    }
}

/// An agent's end of all its links. Cheap to clone.
#[derive(Clone)]
pub struct Endpoint(Arc<Inner>);

struct Inner {
    port: Arc<Port>,
    granted: usize,
    certificate: RTCCertificate,
    crypto: Arc<dyn RTCCryptoProvider>,
    config: EndpointConfig,
}

/// What has become of an endpoint's addresses.
#[derive(Debug, Default)]
pub struct Rebound {
    /// Bound now.
    pub added: Vec<SocketAddr>,
    /// Bound no more.
    pub removed: Vec<SocketAddr>,
    /// Wanted, and not to be had: an address that is not usable yet, for one. Ask again later.
    pub failed: Vec<BindError>,
}

/// What there is at an endpoint at one moment: when its links are closed, as much as before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EndpointUsage {
    /// Connections that have a place at the port.
    pub connections: usize,
    /// Entries of the tables by which datagrams find their connection.
    pub routes: usize,
    /// Loops that run: of connections, of sockets, and one for what is delayed.
    pub loops: usize,
    /// Datagrams that wait to leave, under [`PathConditions`].
    pub delayed: usize,
}

/// Why an endpoint could not be made.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another program has this UDP port.
    #[error(
        "UDP port {address} is in use: stop the program that has it, or set another `udp_port`"
    )]
    InUse {
        /// The address with its port.
        address: SocketAddr,
    },
    /// Ports below 1024 belong to root.
    #[error("no permission to bind UDP {address}: set a `udp_port` of 1024 or above")]
    Denied {
        /// The address with its port.
        address: SocketAddr,
    },
    /// The process may open no more files.
    #[error("no file descriptor left to bind UDP {address}: raise the limit (`ulimit -n`)")]
    NoDescriptors {
        /// The address with its port.
        address: SocketAddr,
    },
    /// The operating system refused for another reason.
    #[error("cannot bind UDP {address}: {source}")]
    Io {
        /// The address with its port.
        address: SocketAddr,
        /// What it said.
        source: io::Error,
    },
    /// There is nothing to bind.
    #[error("no local address to bind: give the endpoint at least one, such as 127.0.0.1")]
    NoAddress,
    /// The DTLS certificate could not be made.
    #[error("cannot make a DTLS certificate: {0}")]
    Certificate(String),
}

impl Endpoint {
    /// Binds the port and makes the certificate. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`BindError`], naming the address.
    pub fn bind(config: EndpointConfig) -> Result<Self, BindError> {
        if config.addresses.is_empty() {
            return Err(BindError::NoAddress);
        }
        let (port, granted) = Port::bind(&config.addresses, config.udp_port.unwrap_or(0))?;
        let no_certificate = |detail: String| BindError::Certificate(detail);
        let crypto =
            rtc::crypto::default_provider().map_err(|err| no_certificate(err.to_string()))?;
        // P-256: browsers take no Ed25519 certificates. One per agent, not per connection: making
        // one costs more than the rest of a connection's set-up.
        let certificate = CertificateParams::new(vec!["ifswarm".to_owned()])
            .map_err(|err| no_certificate(err.to_string()))
            .and_then(|params| {
                RTCCertificate::generate(crypto.crypto(), SignatureScheme::EcdsaP256Sha256, params)
                    .map_err(|err| no_certificate(err.to_string()))
            })?;
        Ok(Self(Arc::new(Inner {
            port,
            granted,
            certificate,
            crypto,
            config,
        })))
    }

    /// Begins a link to `peer`; the offer is to be signed and carried there.
    ///
    /// # Errors
    /// When the engine cannot make the connection or gathering takes too long.
    pub async fn dial(&self, peer: &AgentId) -> Result<(Link, LinkEvents, String), LinkError> {
        Link::dial(self, peer).await
    }

    /// Takes up the link that `peer` offers; the answer is to be signed and carried back.
    ///
    /// # Errors
    /// [`LinkError::BadSdp`] when the offer is none; otherwise as for [`dial`](Self::dial).
    pub async fn answer(
        &self,
        peer: &AgentId,
        offer: &str,
    ) -> Result<(Link, LinkEvents, String), LinkError> {
        Link::answer(self, peer, offer).await
    }

    /// The addresses the endpoint is bound to, with the same port wherever that was free.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.0.port.addresses()
    }

    /// Follows a change of the host's addresses: from now on it is bound to these and no others,
    /// and links that are made gather their candidates from them. Links on an address that is gone
    /// are left to fail; if it comes back first, they live on.
    pub fn rebind(&self, addresses: &[IpAddr]) -> Rebound {
        let rebinding = self.0.port.rebind(addresses);
        Rebound {
            added: rebinding.added,
            removed: rebinding.removed,
            failed: rebinding.failed.into_iter().map(Into::into).collect(),
        }
    }

    /// What there is at the endpoint now.
    pub fn usage(&self) -> EndpointUsage {
        self.0.port.usage()
    }

    /// The receive buffer the kernel granted, in bytes. Below [`ENOUGH_BUFFER`] a burst may
    /// overflow it, which costs a retransmission time-out of a second; raise `net.core.rmem_max`.
    pub fn receive_buffer(&self) -> usize {
        self.0.granted
    }

    /// Makes the path to `peer` bad, in the direction of sending, or good again: for the links
    /// there are and those made later. A tool for tests and chaos.
    ///
    /// New conditions begin anew from their seed. What was delayed still goes out as it was
    /// decided, unless they cut the path.
    pub fn condition(&self, peer: &AgentId, conditions: Option<PathConditions>) {
        self.0.port.conditioner().set(peer, conditions);
    }

    /// What became of the datagrams to `peer` while its path had conditions, in all.
    pub fn path_counts(&self, peer: &AgentId) -> PathCounts {
        self.0.port.conditioner().counts(peer)
    }

    /// The conditions that the path to `peer` has now, if any, and what became of the datagrams since
    /// they were set: that these conditions struck, and not those before.
    pub fn path_setting(&self, peer: &AgentId) -> Option<(PathConditions, PathCounts)> {
        self.0.port.conditioner().setting(peer)
    }

    /// Stops reading. Links that still live go down.
    pub async fn close(&self) {
        self.0.port.close().await;
    }

    pub(super) fn channel(&self) -> ChannelOptions {
        self.0.config.channel
    }

    pub(super) fn seat(&self, peer: &AgentId, ufrag: &str) -> Seat {
        Seat::take(&self.0.port, peer, ufrag)
    }

    /// Whether all candidates are known at once, without asking a server.
    pub(super) fn gathers_at_once(&self) -> bool {
        self.0.config.ice_servers.is_empty()
    }

    pub(super) fn configuration(&self) -> RTCConfiguration {
        let servers = self.0.config.ice_servers.iter().map(|server| RTCIceServer {
            urls: server.urls.clone(),
            username: server.username.clone(),
            credential: server.credential.clone(),
        });
        RTCConfigurationBuilder::new()
            .with_certificates(vec![self.0.certificate.clone()])
            .with_ice_servers(servers.collect())
            .build()
    }

    pub(super) fn settings(&self, ufrag: String, password: String) -> SettingEngine {
        let max_message = u32::try_from(self.channel().max_message).unwrap_or(u32::MAX);
        SettingEngineBuilder::new()
            .with_ice_credentials(ufrag, password)
            .with_ice_connection_attempts(Some(CHECK_INTERVAL), Some(CHECKS))
            .with_ice_timeouts(Some(DISTURBED_AFTER), Some(FAILED_AFTER), Some(KEEPALIVE))
            // A multicast socket per connection, which fails on a host without a multicast route.
            .with_multicast_dns_mode(MulticastDnsMode::Disabled)
            .with_include_loopback_candidate(true)
            .with_sctp_max_message_size(SctpMaxMessageSize::Bounded(max_message))
            .with_crypto_provider(Arc::clone(&self.0.crypto))
            .build()
    }
}

impl std::fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Endpoint").field(&self.addresses()).finish()
    }
}

impl From<BindFailed> for BindError {
    fn from(BindFailed { address, source }: BindFailed) -> Self {
        match source.kind() {
            io::ErrorKind::AddrInUse => Self::InUse { address },
            io::ErrorKind::PermissionDenied => Self::Denied { address },
            _ if source.raw_os_error() == Some(EMFILE) => Self::NoDescriptors { address },
            _ => Self::Io { address, source },
        }
    }
}

/// A receive buffer that holds the bursts of a busy agent, in bytes.
pub const ENOUGH_BUFFER: usize = 1024 * 1024;
/// Between two connectivity checks. The default of 200 ms is what a link waits for when the
/// first check comes too early; many checks cost little on the few pairs an agent has.
const CHECK_INTERVAL: Duration = Duration::from_millis(10);
/// Checks before a pair is given up: never as long as the attempt lasts, so that a path that comes
/// back meanwhile is found. [`ConnectionRuntime`](super::runtime::ConnectionRuntime) spaces them out.
const CHECKS: u16 = u16::MAX;
/// Between two STUN requests on an open link. The engine takes nothing else for a sign of life, but
/// the heartbeat on the control channel does: every 5 s it keeps the paths of routers open, and finds
/// a link that is dead, after 30 s. So these are rare.
const KEEPALIVE: Duration = Duration::from_secs(10);
/// Silence in STUN before the engine says `disconnected`: two requests of each end were lost.
const DISTURBED_AFTER: Duration = Duration::from_secs(25);
/// And `failed` so much later: after the heartbeat has decided, and late enough for the first
/// request after a cut of half a minute.
const FAILED_AFTER: Duration = Duration::from_secs(20);
/// "Too many open files", the same on every Unix.
const EMFILE: i32 = 24;
