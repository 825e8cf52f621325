//! Which connection a datagram is for, when all of an agent's connections share one UDP port.
//!
//! Pure. In the manner of RFC 7983 the first byte tells STUN from the rest, then:
//!
//! | datagram | belongs to |
//! |---|---|
//! | STUN request | the connection whose ICE user fragment stands before the `:` in USERNAME |
//! | STUN response | the connection that sent the request with this transaction id |
//! | all else (DTLS) | the connection that has claimed the sender's address |
//!
//! An address is claimed by the first two. A claim of one peer is never taken over by a
//! connection to another peer, or a peer could draw a third one's packets to itself by sending
//! one request with that one's address as sender; only a later connection to the same peer may.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;

use crate::identity::AgentId;

/// Numbers the connections of one port; a later connection has the greater number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct ConnectionId(pub(super) u64);

/// The routing table of one port.
#[derive(Debug, Default)]
pub(super) struct Demux {
    connections: HashMap<ConnectionId, Connection>,
    by_ufrag: HashMap<String, ConnectionId>,
    by_address: HashMap<SocketAddr, ConnectionId>,
    /// Requests that were not answered yet.
    requests: HashMap<TransactionId, ConnectionId>,
}

#[derive(Debug)]
struct Connection {
    peer: AgentId,
    ufrag: String,
    addresses: usize,
    /// Its unanswered requests, oldest first: what is never answered is forgotten.
    requests: VecDeque<TransactionId>,
}

type TransactionId = [u8; 12];

impl Demux {
    /// Adds a connection to `peer` whose ICE user fragment is `ufrag`.
    pub(super) fn add(&mut self, id: ConnectionId, peer: AgentId, ufrag: String) {
        self.by_ufrag.insert(ufrag.clone(), id);
        let connection = Connection {
            peer,
            ufrag,
            addresses: 0,
            requests: VecDeque::new(),
        };
        self.connections.insert(id, connection);
    }

    /// Forgets a connection and all that was routed to it.
    pub(super) fn remove(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.remove(&id) {
            self.by_ufrag.remove(&connection.ufrag);
            self.by_address.retain(|_, owner| *owner != id);
            for transaction in connection.requests {
                self.requests.remove(&transaction);
            }
        }
    }

    /// Notes what a connection sends, so that the answer finds its way back.
    pub(super) fn sent(&mut self, id: ConnectionId, datagram: &[u8]) {
        let Some(stun) = Stun::read(datagram) else {
            return;
        };
        if stun.class != Class::Request {
            return;
        }
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        if self.requests.insert(stun.transaction, id).is_none() {
            connection.requests.push_back(stun.transaction);
        }
        if connection.requests.len() > MAX_REQUESTS {
            let oldest = connection.requests.pop_front();
            oldest.map(|transaction| self.requests.remove(&transaction));
        }
    }

    /// How many entries there are in all tables.
    pub(super) fn len(&self) -> usize {
        self.connections.len() + self.by_ufrag.len() + self.by_address.len() + self.requests.len()
    }

    /// The connection that `datagram` from `sender` is for, if any.
    pub(super) fn route(&mut self, sender: SocketAddr, datagram: &[u8]) -> Option<ConnectionId> {
        let named = match Stun::read(datagram) {
            Some(stun) if stun.class == Class::Request => {
                self.by_ufrag.get(stun.local_ufrag?).copied()
            }
            Some(stun) if stun.class == Class::Response => self.answered(&stun.transaction),
            _ => None,
        };
        match named.filter(|id| self.connections.contains_key(id)) {
            Some(id) => {
                self.claim(sender, id);
                Some(id)
            }
            None => self.by_address.get(&sender).copied(),
        }
    }

    /// The connection that sent this request, which is awaited no more: a second answer goes by
    /// its address.
    fn answered(&mut self, transaction: &TransactionId) -> Option<ConnectionId> {
        let id = self.requests.remove(transaction)?;
        let requests = &mut self.connections.get_mut(&id)?.requests;
        requests.retain(|awaited| awaited != transaction);
        Some(id)
    }

    fn claim(&mut self, sender: SocketAddr, id: ConnectionId) {
        if let Some(owner) = self.by_address.get(&sender) {
            let same_peer = self.connections[owner].peer == self.connections[&id].peer;
            if *owner >= id || !same_peer {
                return;
            }
        }
        let connection = self
            .connections
            .get_mut(&id)
            .expect("checked by the caller");
        if connection.addresses < MAX_ADDRESSES {
            connection.addresses += 1;
            self.by_address.insert(sender, id);
        }
    }
}

/// As much of a STUN message (RFC 8489, section 5) as routing needs.
#[derive(Debug, PartialEq, Eq)]
struct Stun<'a> {
    class: Class,
    transaction: TransactionId,
    /// What stands before the `:` in USERNAME: the user fragment of the receiver.
    local_ufrag: Option<&'a str>,
}

#[derive(Debug, PartialEq, Eq)]
enum Class {
    Request,
    Indication,
    Response,
}

impl<'a> Stun<'a> {
    fn read(datagram: &'a [u8]) -> Option<Self> {
        let (header, mut attributes) = datagram.split_at_checked(20)?;
        if header[0] & 0xc0 != 0 || header[4..8] != MAGIC_COOKIE {
            return None;
        }
        let class = match (header[0] & 1, header[1] & 0x10) {
            (0, 0) => Class::Request,
            (0, _) => Class::Indication,
            _ => Class::Response,
        };
        let transaction = header[8..20].try_into().expect("twelve bytes");
        let mut local_ufrag = None;
        while let Some((head, rest)) = attributes.split_at_checked(4) {
            let kind = u16::from_be_bytes([head[0], head[1]]);
            let length = usize::from(u16::from_be_bytes([head[2], head[3]]));
            let value = rest.get(..length)?;
            if kind == USERNAME {
                let name = std::str::from_utf8(value).ok()?;
                local_ufrag = name.split_once(':').map(|(local, _)| local);
                break;
            }
            // Values are padded to a multiple of four bytes.
            attributes = rest.get(length.next_multiple_of(4)..)?;
        }
        Some(Self {
            class,
            transaction,
            local_ufrag,
        })
    }
}

const MAGIC_COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
const USERNAME: u16 = 0x0006;
/// Requests of one connection whose answers are awaited: eight pairs, a check every 10 ms each,
/// over a path of half a second. A forgotten one costs one check of many.
const MAX_REQUESTS: usize = 512;
/// Addresses that one connection may claim: more than any host has interfaces in use, and a
/// bound for a peer that sends from ever new ones.
const MAX_ADDRESSES: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    const REQUEST: [u8; 2] = [0x00, 0x01];
    const RESPONSE: [u8; 2] = [0x01, 0x01];

    fn stun(kind: [u8; 2], transaction: u8, username: Option<&str>) -> Vec<u8> {
        let mut attributes = Vec::new();
        // An attribute of odd length first: USERNAME is found behind padding.
        attributes.extend([0x80, 0x22, 0, 3, b'x', b'y', b'z', 0]);
        if let Some(name) = username {
            attributes.extend(USERNAME.to_be_bytes());
            attributes.extend((name.len() as u16).to_be_bytes());
            attributes.extend(name.as_bytes());
            attributes.resize(attributes.len().next_multiple_of(4), 0);
        }
        let mut message = kind.to_vec();
        message.extend((attributes.len() as u16).to_be_bytes());
        message.extend(MAGIC_COOKIE);
        message.extend([transaction; 12]);
        message.extend(attributes);
        message
    }

    fn demux() -> Demux {
        let mut demux = Demux::default();
        for (id, peer) in [(1, "a"), (2, "b")] {
            demux.add(ConnectionId(id), peer.parse().unwrap(), format!("u{id}"));
        }
        demux
    }

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    const DTLS: &[u8] = &[22, 254, 253, 0];

    #[test]
    fn a_request_finds_its_connection_by_ufrag_and_dtls_follows_it() {
        let mut demux = demux();
        assert_eq!(demux.route(address(9), DTLS), None);
        let request = stun(REQUEST, 1, Some("u2:remote"));
        assert_eq!(demux.route(address(9), &request), Some(ConnectionId(2)));
        assert_eq!(demux.route(address(9), DTLS), Some(ConnectionId(2)));
    }

    #[test]
    fn a_response_finds_the_connection_that_asked() {
        let mut demux = demux();
        demux.sent(ConnectionId(1), &stun(REQUEST, 7, Some("x:y")));
        let response = stun(RESPONSE, 7, None);
        assert_eq!(demux.route(address(9), &response), Some(ConnectionId(1)));
        assert_eq!(demux.route(address(9), DTLS), Some(ConnectionId(1)));
        let unasked = stun(RESPONSE, 8, None);
        assert_eq!(demux.route(address(8), &unasked), None);
    }

    #[test]
    fn one_peer_cannot_draw_the_packets_of_another_to_itself() {
        let mut demux = demux();
        demux.route(address(9), &stun(REQUEST, 1, Some("u1:r")));
        demux.route(address(9), &stun(REQUEST, 2, Some("u2:r")));
        assert_eq!(demux.route(address(9), DTLS), Some(ConnectionId(1)));
    }

    #[test]
    fn a_later_connection_to_the_same_peer_takes_its_address_over_for_good() {
        let mut demux = demux();
        demux.route(address(9), &stun(REQUEST, 1, Some("u1:r")));
        demux.add(ConnectionId(3), "a".parse().unwrap(), "u3".into());
        demux.route(address(9), &stun(REQUEST, 2, Some("u3:r")));
        // A late keepalive on the earlier connection does not take it back.
        demux.route(address(9), &stun(REQUEST, 3, Some("u1:r")));
        assert_eq!(demux.route(address(9), DTLS), Some(ConnectionId(3)));
    }

    #[test]
    fn a_removed_connection_leaves_nothing_behind() {
        let mut demux = demux();
        demux.sent(ConnectionId(1), &stun(REQUEST, 7, None));
        demux.route(address(9), &stun(REQUEST, 1, Some("u1:r")));
        demux.remove(ConnectionId(1));
        assert_eq!(demux.route(address(9), DTLS), None);
        assert_eq!(
            demux.route(address(9), &stun(REQUEST, 1, Some("u1:r"))),
            None
        );
        assert_eq!(demux.route(address(9), &stun(RESPONSE, 7, None)), None);
    }

    #[test]
    fn tables_stay_bounded_whatever_arrives() {
        let mut demux = demux();
        for port in 1..=1_000 {
            demux.route(address(port), &stun(REQUEST, 1, Some("u1:r")));
        }
        assert_eq!(demux.by_address.len(), MAX_ADDRESSES);
        for n in 0..2 * MAX_REQUESTS {
            let mut request = stun(REQUEST, 0, None);
            request[8..16].copy_from_slice(&(n as u64).to_be_bytes());
            demux.sent(ConnectionId(1), &request);
        }
        assert_eq!(demux.requests.len(), MAX_REQUESTS);
    }

    proptest::proptest! {
        #[test]
        fn never_panics_on_a_datagram(bytes: Vec<u8>, tail: Vec<u8>) {
            let mut demux = demux();
            demux.route(address(9), &bytes);
            let mut almost = stun(REQUEST, 1, None);
            almost.extend(tail);
            demux.route(address(9), &almost);
            demux.sent(ConnectionId(1), &almost);
        }
    }
}
