//! STUN and TURN servers and their URIs (RFC 7064, RFC 7065), as far as the WebRTC stack carries
//! them: over UDP, without TLS.

use std::net::Ipv6Addr;

use super::error::Fault;
use super::field::Field;
use super::{IceConfig, MAX_ICE_SERVERS, TurnServer};

/// The section `ice`.
pub(super) fn config(field: &Field<'_>) -> Result<IceConfig, Fault> {
    let members = field.members(&["stun", "turn"])?;
    let stun = members.read("stun", |field| {
        servers(
            field,
            "a list of STUN servers, such as `stun:stun.example.org:3478`",
        )?
        .iter()
        .map(stun)
        .collect()
    })?;
    let turn = members.read("turn", |field| {
        servers(
            field,
            "a list of TURN servers, each with `url`, `username` and `credential`",
        )?
        .iter()
        .map(turn)
        .collect()
    })?;
    Ok(IceConfig {
        stun: stun.unwrap_or_default(),
        turn: turn.unwrap_or_default(),
    })
}

fn servers<'a>(field: &Field<'a>, expected: &str) -> Result<Vec<Field<'a>>, Fault> {
    let items = field.list(expected)?;
    if items.len() > MAX_ICE_SERVERS {
        let found = format!("{} servers", items.len());
        return Err(field.fault_found(found, format!("at most {MAX_ICE_SERVERS}")));
    }
    Ok(items)
}

fn turn(field: &Field<'_>) -> Result<TurnServer, Fault> {
    let members = field.members(&["url", "username", "credential"])?;
    let text = |name| {
        let expected = format!("text of 1-{MAX_CREDENTIAL} characters");
        let field = members.need(name, &expected)?;
        let text = field.text(&expected)?;
        if !(1..=MAX_CREDENTIAL).contains(&text.chars().count()) {
            return Err(field.fault(expected));
        }
        Ok(text.to_owned())
    };
    Ok(TurnServer {
        url: turn_uri(members.need("url", "such as `turn:turn.example.org:3478`")?)?,
        username: text("username")?,
        credential: text("credential")?,
    })
}

/// `stun:HOST` or `stun:HOST:PORT`.
fn stun(field: &Field<'_>) -> Result<String, Fault> {
    let expected = "`stun:HOST` or `stun:HOST:PORT`";
    let text = field.text(expected)?;
    match text.strip_prefix("stun:").filter(|rest| is_host(rest)) {
        Some(_) => Ok(text.into()),
        None => Err(explain(field.fault(expected), text)),
    }
}

/// `turn:HOST` or `turn:HOST:PORT`, and `?transport=udp` if one likes.
fn turn_uri(field: &Field<'_>) -> Result<String, Fault> {
    let expected = "`turn:HOST` or `turn:HOST:PORT`";
    let text = field.text(expected)?;
    let host = text.strip_suffix("?transport=udp").unwrap_or(text);
    match host.strip_prefix("turn:").filter(|rest| is_host(rest)) {
        Some(_) => Ok(text.into()),
        None => Err(explain(field.fault(expected), text)),
    }
}

/// The usual mistakes.
fn explain(fault: Fault, text: &str) -> Fault {
    if text.starts_with("stuns:") || text.starts_with("turns:") || text.contains("=tcp") {
        fault.help("servers are reached over UDP only, without TLS")
    } else if text.contains("://") {
        fault.help("no `//` stands after the colon (RFC 7064, RFC 7065)")
    } else {
        fault
    }
}

/// `HOST` or `HOST:PORT`; the host a name, an IPv4 address, or an IPv6 address in brackets.
fn is_host(text: &str) -> bool {
    let (host_is_good, port) = if let Some(rest) = text.strip_prefix('[') {
        let Some((address, port)) = rest.split_once(']') else {
            return false;
        };
        (address.parse::<Ipv6Addr>().is_ok(), port)
    } else {
        let (name, port) = text.split_at(text.find(':').unwrap_or(text.len()));
        let good = (1..=MAX_NAME).contains(&name.len())
            && name
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'.' || b == b'-');
        (good, port)
    };
    host_is_good
        && match port.strip_prefix(':') {
            Some(digits) => {
                digits.bytes().all(|b| b.is_ascii_digit())
                    && digits.parse::<u16>().is_ok_and(|port| port > 0)
            }
            None => port.is_empty(),
        }
}

/// RFC 1035, section 2.3.4.
const MAX_NAME: usize = 253;
/// RFC 8489, section 14.3: a username has less than 509 bytes.
const MAX_CREDENTIAL: usize = 508;
