//! How many of something there are, in all and from each network.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};

/// Where a connection comes from: an IPv4 address, or the 64 bits of an IPv6 address that one
/// subscriber is given all addresses of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Network(IpAddr);

/// So many and no more. Holds nothing about a network from which nobody is left.
#[derive(Debug)]
pub(super) struct Crowd {
    most: usize,
    most_of_one: usize,
    all: usize,
    of: HashMap<Network, usize>,
}

/// There is no place for one more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Full {
    /// For nobody.
    All,
    /// For nobody from this network.
    Network,
}

impl From<IpAddr> for Network {
    fn from(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
            }
            v4 => v4,
        })
    }
}

impl Crowd {
    /// Nobody yet; at most `most`, and `most_of_one` from one network.
    pub(super) fn new(most: usize, most_of_one: usize) -> Self {
        Self {
            most,
            most_of_one,
            all: 0,
            of: HashMap::new(),
        }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.all
    }

    /// How many networks they come from.
    pub(super) fn networks(&self) -> usize {
        self.of.len()
    }

    /// Lets one more in.
    ///
    /// # Errors
    /// [`Full`]: there is no place.
    pub(super) fn enter(&mut self, network: Network) -> Result<(), Full> {
        if self.all >= self.most {
            return Err(Full::All);
        }
        if self.of.get(&network).copied().unwrap_or(0) >= self.most_of_one {
            return Err(Full::Network);
        }
        self.all += 1;
        *self.of.entry(network).or_insert(0) += 1;
        Ok(())
    }

    /// One that came from there is gone.
    pub(super) fn leave(&mut self, network: Network) {
        let Some(there) = self.of.get_mut(&network) else {
            return;
        };
        self.all -= 1;
        *there -= 1;
        if *there == 0 {
            self.of.remove(&network);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(address: &str) -> Network {
        address.parse::<IpAddr>().unwrap().into()
    }

    #[test]
    fn one_network_cannot_take_all_places_and_all_together_cannot_take_more() {
        let mut crowd = Crowd::new(3, 2);
        let (a, b) = (network("10.0.0.1"), network("10.0.0.2"));
        assert_eq!([crowd.enter(a), crowd.enter(a)], [Ok(()), Ok(())]);
        assert_eq!(crowd.enter(a), Err(Full::Network));
        assert_eq!(crowd.enter(b), Ok(()));
        assert_eq!(crowd.enter(b), Err(Full::All));
        crowd.leave(a);
        assert_eq!(crowd.enter(b), Ok(()));
        for gone in [a, b, b] {
            crowd.leave(gone);
        }
        crowd.leave(a);
        assert_eq!(
            (crowd.all, crowd.of.len()),
            (0, 0),
            "nothing is left behind"
        );
    }

    #[test]
    fn all_addresses_of_one_subscriber_are_one_network() {
        assert_eq!(network("2001:db8:1:2::3"), network("2001:db8:1:2:ffff::4"));
        assert_ne!(network("2001:db8:1:2::3"), network("2001:db8:1:3::3"));
        assert_eq!(network("::ffff:10.0.0.1"), network("10.0.0.1"));
        assert_ne!(network("::1"), network("127.0.0.1"));
    }
}
