//! IPv4 and IPv6: the same decisions, with other words.

use std::net::IpAddr;

use ipnet::IpNet;

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both.
    pub const ALL: [Family; 2] = [Family::V4, Family::V6];

    /// Those whose rules this machine's kernel takes.
    pub fn here() -> &'static [Family] {
        let dual = std::fs::exists("/proc/net/if_inet6").unwrap_or(false);
        if dual { &Family::ALL } else { &[Family::V4] }
    }

    /// An address's.
    pub fn of(ip: IpAddr) -> Family {
        if ip.is_ipv4() { Family::V4 } else { Family::V6 }
    }

    /// Whether a range is of this family.
    pub fn has(self, net: &IpNet) -> bool {
        Family::of(net.addr()) == self
    }

    /// The header's name in nftables, and the family of its tables.
    pub fn nft(self) -> &'static str {
        match self {
            Family::V4 => "ip",
            Family::V6 => "ip6",
        }
    }

    /// The type of its addresses in nftables.
    pub fn nft_address(self) -> &'static str {
        match self {
            Family::V4 => "ipv4_addr",
            Family::V6 => "ipv6_addr",
        }
    }

    /// As endpoint slices call it.
    pub fn address_type(self) -> &'static str {
        match self {
            Family::V4 => "IPv4",
            Family::V6 => "IPv6",
        }
    }
}
