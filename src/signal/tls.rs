//! TLS for signaling, both ends (`wss://`, RFC 8446): what the server shows, whom the client believes,
//! and what went wrong in words.
//!
//! TLS 1.3 alone: every end of this protocol is younger than it. TLS only keeps the introduction
//! from the eyes of others; that nobody sits in the middle of a link does not depend on it.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::ServerName;
use rustls::server::NoServerSessionStorage;
use rustls::{CertificateError, ClientConfig, RootCertStore, ServerConfig, version};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::pem::{PemError, certificates, private_key};

/// A socket with or without TLS.
pub(super) type Stream = Box<dyn Bytes>;

/// What both kinds of socket can do.
pub(super) trait Bytes: AsyncRead + AsyncWrite + Send + Unpin {}

/// What a server shows to its clients: a certificate chain and the key that belongs to it.
#[derive(Clone)]
pub struct ServerTls(Arc<ServerConfig>);

/// Whose certificates a client believes when it dials `wss://`.
#[derive(Debug, Clone, Default)]
pub struct Trust(Authorities);

#[derive(Debug, Clone, Default)]
enum Authorities {
    /// Those of the operating system.
    #[default]
    System,
    /// These and no others.
    Private(Arc<ClientConfig>),
}

/// Why a server's certificate is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificateFault {
    /// None of the authorities that the client believes has signed it.
    #[error(
        "no authority that is trusted here has signed it; if a private one has, name its certificate with --ca FILE"
    )]
    UnknownAuthority,
    /// It was made for other names than the one that was dialled.
    #[error(
        "it is not valid for `{dialled}`, but for {names}; dial a name that it is valid for, or give the server a certificate for this one"
    )]
    OtherName {
        /// The host of the URL.
        dialled: String,
        /// What it is valid for.
        names: String,
    },
    /// Its time is over.
    #[error("it has expired; renew it, or set this machine's clock right")]
    Expired,
    /// Its time has not come.
    #[error("it is not valid yet; set the clock of this machine or the server's right")]
    NotYetValid,
    /// The server shows the certificate of an authority as its own.
    #[error(
        "it is that of an authority (CA:TRUE), not of a server; let this authority sign one for the server, and keep its own for --ca FILE"
    )]
    OfAnAuthority,
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

/// What went wrong in a TLS handshake, as the client sees it.
#[derive(Debug)]
pub(super) enum HandshakeFault {
    Certificate(CertificateFault),
    /// What came is no TLS.
    NoTls,
    /// Neither files nor the system name anybody to believe.
    NobodyToBelieve(String),
    /// The server broke off, or the socket did.
    Other(String),
}

impl ServerTls {
    /// Reads a certificate chain, the server's own first, and its private key, both PEM.
    ///
    /// # Errors
    /// [`PemError`], which names the file and what is expected in it.
    pub fn read(cert: &Path, key: &Path) -> Result<Self, PemError> {
        let chain = certificates(cert)?;
        let secret = private_key(key)?;
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&version::TLS13])
            .expect("the provider speaks TLS 1.3")
            .with_no_client_auth()
            .with_single_cert(chain, secret)
            .map_err(|err| match err {
                rustls::Error::InconsistentKeys(_) => PemError::Mismatch {
                    cert: cert.into(),
                    key: key.into(),
                },
                rustls::Error::InvalidCertificate(_) => PemError::unusable(cert, &err),
                _ => PemError::unusable(key, &err),
            })?;
        // Nothing is kept of a client that left: agents come once and stay.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Self(Arc::new(config)))
    }

    /// The server's part of the handshake.
    pub(super) async fn accept(&self, tcp: TcpStream) -> io::Result<Stream> {
        let acceptor = TlsAcceptor::from(Arc::clone(&self.0));
        Ok(Box::new(acceptor.accept(tcp).await?))
    }
}

impl Trust {
    /// The authorities of the operating system. `SSL_CERT_FILE` and `SSL_CERT_DIR` are heeded.
    pub fn system() -> Self {
        Self::default()
    }

    /// Only the authorities whose certificates stand in this PEM file: who has one of his own need
    /// not believe everybody else's.
    ///
    /// # Errors
    /// [`PemError`], which names the file and what is expected in it.
    pub fn authority(path: &Path) -> Result<Self, PemError> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates(path)? {
            let added = roots.add(certificate);
            added.map_err(|err| PemError::unusable(path, &err))?;
        }
        Ok(Self(Authorities::Private(client_config(roots))))
    }

    /// The client's part of the handshake, with a server that must be `host`.
    pub(super) async fn connect(
        &self,
        tcp: TcpStream,
        host: &str,
    ) -> Result<Stream, HandshakeFault> {
        let name = ServerName::try_from(host.to_owned()).map_err(|_| {
            HandshakeFault::Other(format!("`{host}` is no name that a certificate can have"))
        })?;
        let config = match &self.0 {
            Authorities::Private(config) => Arc::clone(config),
            // Reading them takes milliseconds, and connecting anew is rare.
            Authorities::System => tokio::task::spawn_blocking(system_authorities)
                .await
                .map_err(|err| HandshakeFault::Other(err.to_string()))?
                .map_err(HandshakeFault::NobodyToBelieve)?,
        };
        match TlsConnector::from(config).connect(name, tcp).await {
            Ok(stream) => Ok(Box::new(stream)),
            Err(err) => Err(fault_of(err, host)),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Bytes for S {}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the key.
        f.debug_struct("ServerTls").finish_non_exhaustive()
    }
}

fn fault_of(err: io::Error, host: &str) -> HandshakeFault {
    use rustls::Error as Tls;
    let inner = err.get_ref().and_then(|inner| inner.downcast_ref::<Tls>());
    match inner {
        Some(Tls::InvalidCertificate(fault)) => {
            HandshakeFault::Certificate(CertificateFault::of(fault, host))
        }
        Some(Tls::InvalidMessage(_)) => HandshakeFault::NoTls,
        // Whoever does not know TLS may also just hang up on it.
        None if HUNG_UP.contains(&err.kind()) => HandshakeFault::NoTls,
        _ => HandshakeFault::Other(err.to_string()),
    }
}

impl CertificateFault {
    fn of(fault: &CertificateError, host: &str) -> Self {
        use CertificateError as E;
        match fault {
            // A bad signature: it names an authority that is trusted here, and another of that
            // name has signed it.
            E::UnknownIssuer | E::BadSignature => Self::UnknownAuthority,
            E::Expired | E::ExpiredContext { .. } => Self::Expired,
            E::NotValidYet | E::NotValidYetContext { .. } => Self::NotYetValid,
            E::NotValidForName => Self::OtherName {
                dialled: host.into(),
                names: "others".into(),
            },
            E::NotValidForNameContext { presented, .. } => Self::OtherName {
                dialled: host.into(),
                names: listed(presented),
            },
            // The library has no case of its own for it.
            E::Other(other) if format!("{other:?}").contains("CaUsedAsEndEntity") => {
                Self::OfAnAuthority
            }
            other => Self::Other(other.to_string()),
        }
    }
}

/// Names that a certificate is valid for; it is the server's text, so that it is cut.
fn listed(presented: &[String]) -> String {
    let shown: Vec<_> = presented.iter().take(MAX_NAMES).map(|n| bare(n)).collect();
    let visible = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    let text: String = shown.join(", ").chars().take(300).map(visible).collect();
    match presented.len() {
        0 => "no name at all".into(),
        n if n > MAX_NAMES => format!("{text}, …"),
        _ => text,
    }
}

/// The library says `DnsName("a.example")` and `IpAddress(127.0.0.1)`.
fn bare(name: &str) -> &str {
    let inside = |before, after| name.strip_prefix(before)?.strip_suffix(after);
    inside("DnsName(\"", "\")")
        .or_else(|| inside("IpAddress(", ")"))
        .unwrap_or(name)
}

fn system_authorities() -> Result<Arc<ClientConfig>, String> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // Old systems keep some that cannot be read any more; the others are as good as before.
    let (added, _) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        let because = found.errors.first().map(|err| format!(" ({err})"));
        return Err(because.unwrap_or_default());
    }
    Ok(client_config(roots))
}

fn client_config(roots: RootCertStore) -> Arc<ClientConfig> {
    let config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&version::TLS13])
        .expect("the provider speaks TLS 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}

/// The one that the WebRTC stack has brought along already.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// Names of a certificate that are shown; most have one or two.
const MAX_NAMES: usize = 8;
/// How it looks when the other end closes the connection.
const HUNG_UP: [io::ErrorKind; 4] = [
    io::ErrorKind::UnexpectedEof,
    io::ErrorKind::ConnectionReset,
    io::ErrorKind::ConnectionAborted,
    io::ErrorKind::BrokenPipe,
];
