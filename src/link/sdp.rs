//! The few places where a session description (RFC 8866) is read or amended: the port in
//! candidate lines (RFC 8839, section 5.1) and `a=max-message-size` (RFC 8841, section 6).

use std::net::IpAddr;

/// Replaces the port a connection believes in by the shared one, in every candidate of `text`
/// (a whole SDP, or one candidate line), both as address and as related address.
pub(super) fn with_shared_port(text: &str, port_on: impl Fn(IpAddr) -> Option<u16>) -> String {
    let amended = text.split_inclusive('\n').map(|line| {
        if line.starts_with("a=candidate:") || line.starts_with("candidate:") {
            amend_candidate(line, &port_on)
        } else {
            line.to_owned()
        }
    });
    amended.collect()
}

/// `candidate:F C udp PRIORITY ADDRESS PORT typ TYPE [raddr ADDRESS rport PORT] …`
fn amend_candidate(line: &str, port_on: &impl Fn(IpAddr) -> Option<u16>) -> String {
    let end = line.trim_end_matches(['\r', '\n']).len();
    let mut tokens: Vec<String> = line[..end].split(' ').map(Into::into).collect();
    let is_host = tokens.windows(2).any(|pair| pair == ["typ", "host"]);
    let mut amend = |address: usize, port: usize| {
        let ip = tokens.get(address).and_then(|ip| ip.parse().ok());
        if let (Some(number), Some(token)) = (ip.and_then(port_on), tokens.get_mut(port)) {
            *token = number.to_string();
        }
    };
    // Only a host candidate's own address is ours; others name what a server saw.
    if is_host {
        amend(4, 5);
    }
    let related = line[..end].split(' ').position(|token| token == "raddr");
    if let Some(related) = related {
        amend(related + 1, related + 3);
    }
    tokens.join(" ") + &line[end..]
}

/// The largest message the author of `sdp` takes, in bytes; 64 KiB when it does not say.
pub(super) fn max_message_size(sdp: &str) -> usize {
    let stated = sdp
        .lines()
        .find_map(|line| line.strip_prefix("a=max-message-size:"))
        .and_then(|size| size.trim().parse().ok());
    match stated {
        // "0 means that the endpoint can handle messages of any size."
        Some(0) => usize::MAX,
        Some(size) => size,
        None => 65_536,
    }
}

/// A believed address is only ever one of the host's own.
#[cfg(test)]
fn shared(ip: IpAddr) -> Option<u16> {
    let own: std::net::SocketAddr = "127.0.0.1:40001".parse().expect("an address");
    (ip == own.ip()).then_some(own.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn puts_the_shared_port_into_candidates_and_nowhere_else() {
        let sdp = "v=0\r\nc=IN IP4 127.0.0.1\r\n\
            a=candidate:1 1 udp 2130706431 127.0.0.1 55555 typ host\r\n\
            a=candidate:2 1 udp 1694498815 203.0.113.7 61000 typ srflx raddr 127.0.0.1 rport 55555\r\n\
            a=candidate:3 1 udp 2130706431 10.0.0.1 55555 typ host\r\n";
        let expected = "v=0\r\nc=IN IP4 127.0.0.1\r\n\
            a=candidate:1 1 udp 2130706431 127.0.0.1 40001 typ host\r\n\
            a=candidate:2 1 udp 1694498815 203.0.113.7 61000 typ srflx raddr 127.0.0.1 rport 40001\r\n\
            a=candidate:3 1 udp 2130706431 10.0.0.1 55555 typ host\r\n";
        assert_eq!(with_shared_port(sdp, shared), expected);
        assert_eq!(
            with_shared_port("candidate:1 1 udp 1 127.0.0.1 5 typ host", shared),
            "candidate:1 1 udp 1 127.0.0.1 40001 typ host"
        );
    }

    #[test]
    fn reads_the_largest_message_a_peer_takes() {
        assert_eq!(
            max_message_size("v=0\r\na=max-message-size:262144\r\n"),
            262_144
        );
        assert_eq!(
            max_message_size("v=0\r\na=max-message-size:0\r\n"),
            usize::MAX
        );
        assert_eq!(max_message_size("v=0\r\n"), 65_536);
    }

    proptest::proptest! {
        #[test]
        fn never_panics_on_a_candidate(tail: String) {
            with_shared_port(&format!("a=candidate:{tail} raddr"), shared);
        }
    }
}
