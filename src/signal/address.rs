//! Authorities (`HOST:PORT`) and URLs: what a client signs as `server`, and which names a server
//! takes for its own.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use tokio_tungstenite::tungstenite::http::Uri;

use super::connect::ConnectError;
use crate::identity::SwarmName;

/// The names under which one server may be registered with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Names {
    /// It listens on every address and was given no name: any will do.
    Any,
    /// These.
    These(BTreeSet<String>),
}

/// A `ws://` or `wss://` URL, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    /// The URL to ask for, path included.
    pub(super) url: String,
    /// Whether it says `wss://`.
    pub(super) tls: bool,
    /// The host to look up, without brackets.
    pub(super) host: String,
    /// Its port.
    pub(super) port: u16,
    /// What is signed as `server`.
    pub(super) authority: String,
}

impl Names {
    /// The names of a server that listens on `listen`: this address, `localhost`, and `names`.
    ///
    /// # Errors
    /// The name that is no `HOST:PORT`.
    pub(super) fn new(listen: SocketAddr, names: &[String]) -> Result<Self, String> {
        let mut own = BTreeSet::new();
        for name in names {
            own.insert(parse_authority(name).ok_or_else(|| name.clone())?);
        }
        if own.is_empty() && listen.ip().is_unspecified() {
            return Ok(Self::Any);
        }
        own.insert(listen.to_string());
        own.insert(authority("localhost", listen.port()));
        Ok(Self::These(own))
    }

    /// Whether `server` is one of them.
    pub(super) fn contain(&self, server: &str) -> bool {
        match self {
            Self::Any => true,
            Self::These(names) => names.contains(server),
        }
    }
}

impl Target {
    /// Takes a URL apart; without a path, the swarm's is added.
    ///
    /// # Errors
    /// What is wrong with it and what was expected.
    pub(super) fn new(url: &str, swarm: &SwarmName) -> Result<Self, String> {
        let expected =
            "expected ws://HOST:PORT, such as ws://127.0.0.1:8443, or wss://HOST:PORT with TLS";
        let uri: Uri = url.parse().map_err(|err| format!("{err}; {expected}"))?;
        let (scheme, tls, default_port) = match uri.scheme_str() {
            Some("ws") => ("ws", false, 80),
            Some("wss") => ("wss", true, 443),
            _ => return Err(expected.into()),
        };
        let Some(parts) = uri.authority() else {
            return Err(expected.into());
        };
        if parts.host().is_empty() || parts.as_str().contains('@') {
            return Err(expected.into());
        }
        // A port that is there but unreadable must not become the default one.
        let port = match parts.as_str().strip_prefix(parts.host()) {
            Some("") => default_port,
            _ => parts.port_u16().ok_or(expected)?,
        };
        let authority = authority(parts.host(), port);
        let path = match uri.path_and_query().map_or("/", |path| path.as_str()) {
            "/" => swarm_path(swarm),
            path => path.to_string(),
        };
        let host = parts.host().trim_matches(['[', ']']).to_string();
        Ok(Self {
            url: format!("{scheme}://{authority}{path}"),
            tls,
            host,
            port,
            authority,
        })
    }
}

/// The URLs in `list`, one or several, separated by commas. Each is one of a signaling server.
///
/// # Errors
/// [`ConnectError::Url`], with the first that is none.
pub fn servers(list: &str, swarm: &SwarmName) -> Result<Vec<String>, ConnectError> {
    let bad = |url: &str, detail| {
        let url = url.escape_debug().to_string();
        ConnectError::Url { url, detail }
    };
    let urls: Vec<_> = list.split(',').map(|url| url.trim().to_owned()).collect();
    if urls.len() > MAX_SERVERS {
        let detail = format!(
            "{} servers are listed, at most {MAX_SERVERS} are tried",
            urls.len()
        );
        return Err(bad(list, detail));
    }
    for url in &urls {
        Target::new(url, swarm).map_err(|detail| bad(url, detail))?;
    }
    Ok(urls)
}

/// The path of a swarm.
pub(super) fn swarm_path(swarm: &SwarmName) -> String {
    format!("{PATH_PREFIX}{swarm}")
}

/// The swarm of a path.
pub(super) fn swarm_of_path(path: &str) -> Option<SwarmName> {
    path.strip_prefix(PATH_PREFIX)?.parse().ok()
}

/// `HOST:PORT` in the one spelling that is signed: lower case, addresses as RFC 5952 writes them,
/// IPv6 in brackets, always with the port.
fn authority(host: &str, port: u16) -> String {
    let bare = host.trim_matches(['[', ']']);
    match bare.parse::<IpAddr>() {
        Ok(address) => SocketAddr::new(address, port).to_string(),
        Err(_) => format!("{}:{port}", host.to_ascii_lowercase()),
    }
}

fn parse_authority(text: &str) -> Option<String> {
    let (host, port) = text.rsplit_once(':')?;
    let port = port.parse().ok()?;
    let good = match host.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']')?.parse::<Ipv6Addr>().is_ok(),
        None => !host.is_empty() && !host.contains([':', '/', '@', ' ']),
    };
    good.then(|| authority(host, port))
}

/// Servers of one agent: a round of attempts at all of them is to end.
const MAX_SERVERS: usize = 16;
/// Before the swarm's name.
const PATH_PREFIX: &str = "/v1/";

#[cfg(test)]
mod tests {
    use super::*;

    fn target(url: &str) -> Result<Target, String> {
        Target::new(url, &"five".parse().unwrap())
    }

    #[test]
    fn signs_an_authority_in_one_spelling() {
        for (url, expected) in [
            ("ws://127.0.0.1:8443", "127.0.0.1:8443"),
            ("ws://LocalHost:1", "localhost:1"),
            ("ws://example.org", "example.org:80"),
            ("ws://[0:0::1]:9/", "[::1]:9"),
        ] {
            let target = target(url).unwrap();
            assert_eq!(target.authority, expected);
            assert_eq!(target.url, format!("ws://{expected}/v1/five"));
        }
        assert_eq!(target("ws://[::1]:9").unwrap().host, "::1");
        let secured = target("wss://Example.org").unwrap();
        assert_eq!(secured.url, "wss://example.org:443/v1/five");
        assert_eq!((secured.tls, secured.port), (true, 443));
    }

    #[test]
    fn takes_a_path_as_it_is_and_adds_the_swarm_where_there_is_none() {
        let url = |url| target(url).unwrap().url;
        assert_eq!(url("ws://a:1"), "ws://a:1/v1/five");
        assert_eq!(url("ws://a:1/"), "ws://a:1/v1/five");
        assert_eq!(url("ws://a:1/x/y?z=1"), "ws://a:1/x/y?z=1");
        let swarm = "five".parse().unwrap();
        assert_eq!(swarm_of_path(&swarm_path(&swarm)), Some(swarm));
        for bad in ["/", "/v1/", "/v1/Five", "/v2/five", "/v1/five/x"] {
            assert_eq!(swarm_of_path(bad), None, "{bad}");
        }
    }

    #[test]
    fn several_servers_are_separated_by_commas_and_each_is_looked_at() {
        let servers = |list: &str| servers(list, &"five".parse().unwrap());
        let both = servers("ws://a:1, wss://b").unwrap();
        assert_eq!(both, ["ws://a:1", "wss://b"]);
        assert_eq!(servers("ws://a:1").unwrap(), ["ws://a:1"]);
        for (bad, named) in [
            ("ws://a:1,http://b:1", "`http://b:1`"),
            ("ws://a:1,", "``"),
            ("ws://a:1,,ws://b:1", "``"),
            (&"ws://a:1,".repeat(17), "at most 16"),
        ] {
            let err = servers(bad).unwrap_err().to_string();
            assert!(err.contains(named), "{err}");
        }
    }

    #[test]
    fn refuses_what_is_no_websocket_url_and_says_what_one_is() {
        for bad in [
            "",
            "8443",
            "localhost:8443",
            "http://a:1",
            "https://a:1",
            "ws://",
            "wss://",
            "ws://u@a:1",
            "ws://a:99999",
            "ws://a:",
            "ws://a b",
        ] {
            let err = target(bad).unwrap_err();
            assert!(err.contains("expected ws://HOST:PORT"), "{bad}: {err}");
        }
    }

    #[test]
    fn knows_its_own_names_and_takes_any_only_when_it_cannot_know() {
        let names = |listen: &str, names: &[&str]| {
            let names: Vec<_> = names.iter().map(|n| (*n).to_string()).collect();
            Names::new(listen.parse().unwrap(), &names)
        };
        let own = names("127.0.0.1:7", &["Signal.example:443", "[0::1]:7"]).unwrap();
        for good in [
            "127.0.0.1:7",
            "localhost:7",
            "signal.example:443",
            "[::1]:7",
        ] {
            assert!(own.contain(good), "{good}");
        }
        assert!(!own.contain("evil.example:7"));
        assert!(!own.contain("127.0.0.1:8"));
        assert_eq!(names("0.0.0.0:7", &[]), Ok(Names::Any));
        assert!(!names("0.0.0.0:7", &["a:7"]).unwrap().contain("b:7"));
        for bad in ["a", ":7", "a:x", "[a]:7", "::1:7", "ws://a:7"] {
            assert_eq!(names("127.0.0.1:7", &[bad]), Err(bad.to_string()));
        }
    }
}
