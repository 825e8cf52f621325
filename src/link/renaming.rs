//! The transaction ids of questions to STUN servers.
//!
//! The engine asks every STUN server for a connection's reflexive address under the transaction
//! id zero. At a port of its own that goes well. At a shared one each answer would go to the
//! connection that has asked last, and the others would wait for their next try; and anybody who
//! knows the server's address could have answered. RFC 8489, section 5: the id is random and
//! unique. So such a question goes out under a name of its own, by which the answer is routed
//! and then gets its zero back.

use std::borrow::Cow;

/// Renames questions, and their answers back.
#[derive(Debug)]
pub(super) struct Renaming {
    /// How the names given here begin. The engine's own are random.
    mark: [u8; 4],
}

impl Renaming {
    pub(super) fn new() -> Self {
        let mut mark = [0; 4];
        randomize(&mut mark);
        Self { mark }
    }

    /// A datagram as it is to go out.
    pub(super) fn outgoing<'a>(&self, datagram: &'a [u8]) -> Cow<'a, [u8]> {
        let mut datagram = Cow::Borrowed(datagram);
        if is_stun(&datagram) && datagram[ID] == [0; 12] {
            let id = &mut datagram.to_mut()[ID];
            id[..4].copy_from_slice(&self.mark);
            randomize(&mut id[4..]);
        }
        datagram
    }

    /// Makes a datagram that was routed what the connection expects.
    pub(super) fn incoming(&self, datagram: &mut [u8]) {
        if !is_stun(datagram) || !datagram[ID].starts_with(&self.mark) {
            return;
        }
        let mut id = [0; 12];
        id.copy_from_slice(&datagram[ID]);
        datagram[ID].fill(0);
        // XOR-MAPPED-ADDRESS of IPv6 is masked with the cookie and the id (RFC 8489, section
        // 14.2); the connection takes the mask of its own id off, which is none.
        let mut attributes = &mut datagram[ID.end..];
        while let Some((head, rest)) = attributes.split_at_mut_checked(4) {
            let length = usize::from(u16::from_be_bytes([head[2], head[3]]));
            let is_mapped = head[..2] == XOR_MAPPED_ADDRESS && length == IPV6_LENGTH;
            if let Some(masked) = rest.get_mut(8..IPV6_LENGTH).filter(|_| is_mapped) {
                masked
                    .iter_mut()
                    .zip(id)
                    .for_each(|(byte, mask)| *byte ^= mask);
            }
            // Values are padded to a multiple of four bytes.
            let Some(next) = rest.get_mut(length.next_multiple_of(4)..) else {
                return;
            };
            attributes = next;
        }
    }
}

fn is_stun(datagram: &[u8]) -> bool {
    datagram.len() >= ID.end && datagram[0] & 0xc0 == 0 && datagram[4..8] == MAGIC_COOKIE
}

/// Without randomness the id stays what it is, which works for one connection at a time.
fn randomize(bytes: &mut [u8]) {
    if let Err(err) = getrandom::fill(bytes) {
        tracing::debug!(%err, "no randomness for a transaction id");
    }
}

const MAGIC_COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
/// Where in a STUN message the transaction id is.
const ID: std::ops::Range<usize> = 8..20;
const XOR_MAPPED_ADDRESS: [u8; 2] = [0x00, 0x20];
/// Family, port, and the address, the first four bytes of which only the cookie masks.
const IPV6_LENGTH: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn question() -> Vec<u8> {
        let mut message = vec![0x00, 0x01, 0, 0];
        message.extend(MAGIC_COOKIE);
        message.extend([0; 12]);
        message
    }

    /// The answer to `question`, with an attribute of odd length before the address.
    fn answer(question: &[u8], mapped: std::net::Ipv6Addr) -> Vec<u8> {
        let mut message = vec![0x01, 0x01, 0, 32];
        message.extend(&question[4..20]);
        message.extend([0x80, 0x22, 0, 3, b'x', b'y', b'z', 0]);
        message.extend([0x00, 0x20, 0, 20, 0, 2, 0x12, 0x34]);
        let masked = mapped.octets().into_iter().zip(&question[4..20]);
        message.extend(masked.map(|(byte, mask)| byte ^ mask));
        message
    }

    #[test]
    fn each_question_goes_out_under_a_name_of_its_own_and_its_answer_comes_in_under_none() {
        let renaming = Renaming::new();
        let mapped = "2001:db8::1234:5678".parse().unwrap();
        let [one, other] = [(); 2].map(|()| renaming.outgoing(&question()).into_owned());
        assert_ne!(one, other);
        for asked in [one, other] {
            assert_ne!(asked, question());
            assert_eq!((&asked[..8], asked.len()), (&question()[..8], 20));
            let mut answered = answer(&asked, mapped);
            renaming.incoming(&mut answered);
            assert_eq!(answered, answer(&question(), mapped));
        }
    }

    #[test]
    fn all_else_goes_out_and_comes_in_as_it_is() {
        let renaming = Renaming { mark: [7; 4] };
        let mut check = question();
        check[ID].fill(9);
        for datagram in [&check[..], &[0; 20], &[22, 254, 253, 0], &[]] {
            assert_eq!(*renaming.outgoing(datagram), *datagram);
            let mut came = datagram.to_vec();
            renaming.incoming(&mut came);
            assert_eq!(came, datagram);
        }
    }

    proptest::proptest! {
        #[test]
        fn never_panics_on_a_datagram(tail: Vec<u8>) {
            let renaming = Renaming { mark: [0; 4] };
            let mut almost = question();
            almost.extend(tail);
            renaming.incoming(&mut almost);
            renaming.outgoing(&almost);
        }
    }
}
