//! Addresses that this node answers for: /32s (or /128s) on `lo`, since not every kernel has a dummy driver, and
//! what `lo` has is answered for on every interface.
//!
//! A label tells whose an IPv4 address is, so that whoever added it finds it again (IPv6 addresses have none).

use std::net::{IpAddr, Ipv4Addr};

use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage};

use super::netlink::{Netlink, NetlinkFailure};

const INTERFACE: &str = "lo";

/// Whose address it is. Linux wants labels to begin with the interface's name, and to be short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Label(&'static str);

impl Label {
    /// The cluster's DNS.
    pub const DNS: Label = Label("lo:troupe-dns");
    /// The service proxy's programs.
    pub const PROXY: Label = Label("lo:troupe-proxy");
    /// Services of type LoadBalancer.
    pub const BALANCED: Label = Label("lo:troupe-lb");
}

/// Adds the address unless the machine has it; loopback addresses always are there.
pub async fn ensure(address: IpAddr, label: Label) -> Result<(), NetlinkFailure> {
    if needs_nothing(address) {
        return Ok(());
    }
    let netlink = Netlink::connect()?;
    if netlink.addresses().await?.iter().any(|m| address_of(m) == Some(address)) {
        return Ok(());
    }
    match netlink.link(INTERFACE).await? {
        Some(lo) => netlink.ensure_address(lo.index, address, Some(label.0)).await,
        None => Ok(()),
    }
}

/// Removes the address if it is there and ours.
pub async fn remove(address: IpAddr, label: Label) -> Result<(), NetlinkFailure> {
    if needs_nothing(address) {
        return Ok(());
    }
    let netlink = Netlink::connect()?;
    let Some(lo) = netlink.link(INTERFACE).await? else { return Ok(()) };
    for message in netlink.addresses().await? {
        let whole = address.is_ipv6() && message.header.prefix_len == 128;
        let ours = message.header.index == lo.index && (whole || has_label(&message, label));
        if ours && address_of(&message) == Some(address) {
            netlink.remove_address(message).await?;
        }
    }
    Ok(())
}

/// The IPv4 addresses with a label.
pub async fn labelled(label: Label) -> Result<Vec<Ipv4Addr>, NetlinkFailure> {
    let all = Netlink::connect()?.addresses().await?;
    let ours = all.iter().filter(|m| has_label(m, label)).filter_map(address_of);
    Ok(ours
        .filter_map(|address| if let IpAddr::V4(address) = address { Some(address) } else { None })
        .collect())
}

fn address_of(message: &AddressMessage) -> Option<IpAddr> {
    message.attributes.iter().find_map(|a| match a {
        AddressAttribute::Address(address) => Some(*address),
        _ => None,
    })
}

fn needs_nothing(address: IpAddr) -> bool {
    address.is_loopback() || address.is_unspecified()
}

fn has_label(message: &AddressMessage, label: Label) -> bool {
    message.attributes.iter().any(|a| matches!(a, AddressAttribute::Label(l) if l == label.0))
}
