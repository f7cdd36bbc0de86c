//! Addresses of IPv6 that an interface has for a while, for others: the kernel answers neighbours' questions for an
//! address of IPv6 on the very interface that has it.
//!
//! They have no labels, as those of IPv4 have. What marks them is the metric of the route that comes with each, which
//! nobody else uses. They are deprecated from the start: the kernel answers for them, and does not speak under them by
//! itself.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr};

use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage};

use super::netlink::{Netlink, NetlinkFailure};

/// The metric ("trp" in ASCII).
pub const METRIC: u32 = 0x74_72_70;

/// Gives an interface an address. Fine when it has it.
pub async fn add(interface: u32, address: Ipv6Addr) -> Result<(), NetlinkFailure> {
    Netlink::connect()?.add_guest(interface, address, METRIC).await
}

/// The addresses of all interfaces.
pub async fn all() -> Result<BTreeSet<Ipv6Addr>, NetlinkFailure> {
    Ok(Netlink::connect()?.addresses().await?.iter().filter_map(guest).collect())
}

/// Takes an address from all interfaces. Fine when none has it.
pub async fn remove(address: Ipv6Addr) -> Result<(), NetlinkFailure> {
    let netlink = Netlink::connect()?;
    for message in netlink.addresses().await? {
        if guest(&message) == Some(address) {
            netlink.remove_address(message).await?;
        }
    }
    Ok(())
}

fn guest(message: &AddressMessage) -> Option<Ipv6Addr> {
    let marked = |a: &AddressAttribute| matches!(a, AddressAttribute::RoutePriority(METRIC));
    if message.header.prefix_len != 128 || !message.attributes.iter().any(marked) {
        return None;
    }
    message.attributes.iter().find_map(|a| match a {
        AddressAttribute::Address(IpAddr::V6(address)) => Some(*address),
        _ => None,
    })
}
