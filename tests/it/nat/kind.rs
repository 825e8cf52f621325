//! The kinds of address translation, in the words of RFC 4787, and how nftables does each of them.
//!
//! The kernel's conntrack by itself is address- and port-dependent in what it lets in: the answer to
//! what went out, and nothing else. The rules below widen that where a kind lets in more.

/// What a router does between a host and the public network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// There is no router: the host has a public address.
    None,
    /// "Full cone": one public port for the host's port, open for everybody.
    EndpointIndependent,
    /// "Restricted cone": one public port, open for the addresses that the host has sent to.
    AddressRestricted,
    /// "Port-restricted cone", which plain `masquerade` is: one public port, open for the
    /// addresses and ports that the host has sent to.
    PortRestricted,
    /// "Symmetric": a public port of its own, which nobody can foresee, for each address and port
    /// that the host sends to, open for that one.
    Symmetric,
}

/// RFC 4787, section 5: whose packets a router lets in.
#[derive(Debug, PartialEq, Eq)]
enum Filtering {
    EndpointIndependent,
    AddressDependent,
    AddressAndPortDependent,
}

impl Kind {
    pub(super) const ALL: [Self; 5] = [
        Self::None,
        Self::EndpointIndependent,
        Self::AddressRestricted,
        Self::PortRestricted,
        Self::Symmetric,
    ];

    /// A word that may stand in an agent's id.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::EndpointIndependent => "independent",
            Self::AddressRestricted => "address",
            Self::PortRestricted => "port",
            Self::Symmetric => "symmetric",
        }
    }

    /// Whether a link between two such hosts needs no relay.
    ///
    /// ICE (RFC 8445) has both ends send to what the other has announced. One of these packets
    /// must arrive; from then on its receiver knows where answers go.
    pub(super) fn is_direct(self, other: Self) -> bool {
        self.reaches(other) || other.reaches(self)
    }

    /// Whether its packets arrive at `other`, which has sent to the announced address too.
    fn reaches(self, other: Self) -> bool {
        // What a STUN server saw of it is where others find it only if it is the same for all.
        other.maps_alike()
            && match other.filtering() {
                Filtering::EndpointIndependent | Filtering::AddressDependent => true,
                // Open for the announced port. It must be the one that the packets come from.
                Filtering::AddressAndPortDependent => self.maps_alike(),
            }
    }

    /// RFC 4787, section 4.1: endpoint-independent mapping.
    fn maps_alike(self) -> bool {
        self != Self::Symmetric
    }

    fn filtering(self) -> Filtering {
        match self {
            Self::None | Self::EndpointIndependent => Filtering::EndpointIndependent,
            Self::AddressRestricted => Filtering::AddressDependent,
            Self::PortRestricted | Self::Symmetric => Filtering::AddressAndPortDependent,
        }
    }

    /// What `turnutils_natdiscovery` says of its mapping, and of its filtering.
    pub(super) fn discovered(self) -> (&'static str, &'static str) {
        let mapping = match self.maps_alike() {
            true => "NAT with Endpoint Independent Mapping!",
            false => "NAT with Address and Port Dependent Mapping!",
        };
        let filtering = match self.filtering() {
            Filtering::EndpointIndependent => "NAT with Endpoint Independent Filtering!",
            Filtering::AddressDependent => "NAT with Address Dependent Filtering!",
            Filtering::AddressAndPortDependent => "NAT with Address and Port Dependent Filtering!",
        };
        (mapping, filtering)
    }

    /// The rules of a router of this kind, for a host whose UDP `ports` translate to these.
    ///
    /// Unsolicited packets are dropped in the input chain. Without that the router itself takes
    /// them, conntrack remembers a connection, and `masquerade` has to give the host another port
    /// towards that peer: whether two such hosts reach each other depends on who sends first.
    pub(super) fn rules(self, public: &str, host: &str, ports: &[(u16, u16)]) -> String {
        let [mut sets, mut sent, mut out, mut into] = [const { String::new() }; 4];
        for (inside, outside) in ports {
            match self {
                Self::None | Self::PortRestricted | Self::Symmetric => {}
                // The host's port has its public one at all times, as a port forwarding.
                Self::EndpointIndependent => {
                    out += &format!("oifname wan udp sport {inside} snat to {public}:{outside}\n");
                    into += &format!("iifname wan udp dport {outside} dnat to {host}:{inside}\n");
                }
                Self::AddressRestricted => {
                    let known = format!("sent_to_{inside}");
                    sets += &format!("set {known} {{ type ipv4_addr; flags dynamic; }}\n");
                    sent +=
                        &format!("iifname lan udp sport {inside} add @{known} {{ ip daddr }}\n");
                    out += &format!("oifname wan udp sport {inside} snat to {public}:{outside}\n");
                    into += &format!(
                        "iifname wan ip saddr @{known} udp dport {outside} dnat to {host}:{inside}\n"
                    );
                }
            }
        }
        let all_else = match self {
            Self::Symmetric => "masquerade random,fully-random",
            _ => "masquerade",
        };
        format!(
            "table ip nat {{
                counter unsolicited {{ }}
                {sets}
                chain forward {{
                    type filter hook forward priority filter; policy drop;
                    {sent}
                    iifname lan accept
                    ct state established,related accept
                    ct status dnat accept
                    counter name unsolicited
                }}
                chain input {{
                    type filter hook input priority filter;
                    iifname wan counter name unsolicited drop
                }}
                chain inbound {{
                    type nat hook prerouting priority dstnat;
                    {into}
                }}
                chain outbound {{
                    type nat hook postrouting priority srcnat;
                    {out}
                    oifname wan {all_else}
                }}
            }}"
        )
    }
}
