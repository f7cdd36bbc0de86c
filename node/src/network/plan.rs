//! What the kernel is to hold so that other nodes' pods are reached, and how to get there. Pure.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::peers::Ranges;

#[cfg(test)]
mod tests;

/// An Ethernet address.
pub type Mac = [u8; 6];

/// Where a route leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hop {
    /// The next machine; `None` where what is looked for is on the interface itself.
    pub gateway: Option<IpAddr>,
    /// Index of the interface.
    pub device: u32,
}

/// What the kernel holds of ours, or is to hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tables {
    /// Routes to other nodes' pods, and to Services.
    pub routes: BTreeMap<IpNet, Hop>,
    /// Inside the overlay: other nodes' ends, and their Ethernet addresses.
    pub neighbours: BTreeMap<IpAddr, Mac>,
    /// Below the overlay: Ethernet addresses, and the nodes that have them.
    pub forwarding: BTreeMap<Mac, Ipv4Addr>,
}

/// One change of the kernel's tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// A route goes.
    RemoveRoute(IpNet, Hop),
    /// A neighbour goes.
    RemoveNeighbour(IpAddr),
    /// A forwarding entry goes.
    RemoveForwarding(Mac, Ipv4Addr),
    /// A forwarding entry comes, or leads elsewhere.
    SetForwarding(Mac, Ipv4Addr),
    /// A neighbour comes, or has another Ethernet address.
    SetNeighbour(IpAddr, Mac),
    /// A route comes, or leads elsewhere.
    SetRoute(IpNet, Hop),
}

/// The end of a node in the overlay: the first address of its range, which no pod gets.
pub fn overlay_address(range: Ipv4Net) -> Ipv4Addr {
    range.network()
}

/// The same of IPv6: it is the anycast address of the network's routers, which the node is.
pub fn overlay_address6(range: Ipv6Net) -> Ipv6Addr {
    range.network()
}

/// The Ethernet address of a node's end in the overlay. It follows from the range, so that no node has to tell
/// it to others; the first byte says that it is locally administered.
pub fn overlay_mac(range: Ipv4Net) -> Mac {
    let [a, b, c, d] = overlay_address(range).octets();
    [0x0a, 0x58, a, b, c, d]
}

/// The tables that lead through the overlay, whose interface is `device`. It carries both families over IPv4.
pub fn through_overlay(ranges: &Ranges, device: u32) -> Tables {
    let mut tables = Tables::default();
    for (range, peer) in ranges {
        let mac = overlay_mac(*range);
        let v6 = peer.range6.map(|range| (IpNet::V6(range), IpAddr::V6(overlay_address6(range))));
        for (range, end) in [(IpNet::V4(*range), IpAddr::V4(overlay_address(*range)))].into_iter().chain(v6) {
            tables.routes.insert(range, Hop { gateway: Some(end), device });
            tables.neighbours.insert(end, mac);
        }
        tables.forwarding.insert(mac, peer.v4);
    }
    tables
}

/// The tables that lead to nodes on the same segment, which `device` is connected to. Packets of IPv6 need a node's
/// address of IPv6; [`unreached`] tells of nodes that have none.
pub fn by_routes(ranges: &Ranges, device: u32) -> Tables {
    let mut tables = Tables::default();
    for (range, peer) in ranges {
        tables.routes.insert(IpNet::V4(*range), Hop { gateway: Some(peer.v4.into()), device });
        if let (Some(range), Some(address)) = (peer.range6, peer.v6) {
            tables.routes.insert(IpNet::V6(range), Hop { gateway: Some(address.into()), device });
        }
    }
    tables
}

/// Leads to Services' addresses of IPv6, over the way to other nodes. Nobody is there: the Services' rules replace them. But
/// the kernel applies these to what it knows a way for, and a node that has no IPv6 beside its pods' knows none. So its own
/// packets get there, under an address that other nodes know the way back to, and pods' packets to a Service without
/// endpoints are refused instead of lost.
pub fn lead_to_services(tables: &mut Tables, services: Ipv6Net, device: u32) {
    tables.routes.insert(IpNet::V6(services), Hop { gateway: None, device });
}

/// The ranges that [`by_routes`] cannot lead to.
pub fn unreached(ranges: &Ranges) -> impl Iterator<Item = (Ipv6Net, Ipv4Addr)> + '_ {
    ranges.values().filter(|peer| peer.v6.is_none()).filter_map(|peer| Some((peer.range6?, peer.v4)))
}

/// What brings the kernel from what it holds to what it is to hold. In an order that never has a route lead to
/// an end that is not known: routes go before their ends, and come after them.
pub fn changes(held: &Tables, wanted: &Tables) -> Vec<Change> {
    let mut changes = Vec::new();
    let gone = |range: &IpNet| !wanted.routes.contains_key(range);
    changes.extend(held.routes.iter().filter(|(r, _)| gone(r)).map(|(r, h)| Change::RemoveRoute(*r, *h)));
    for (mac, node) in wanted.forwarding.iter().filter(|(m, n)| held.forwarding.get(*m) != Some(n)) {
        changes.push(Change::SetForwarding(*mac, *node));
    }
    for (end, mac) in wanted.neighbours.iter().filter(|(e, m)| held.neighbours.get(*e) != Some(m)) {
        changes.push(Change::SetNeighbour(*end, *mac));
    }
    for (range, hop) in wanted.routes.iter().filter(|(r, h)| held.routes.get(*r) != Some(h)) {
        changes.push(Change::SetRoute(*range, *hop));
    }
    let gone = |end: &IpAddr| !wanted.neighbours.contains_key(end);
    changes.extend(held.neighbours.keys().filter(|e| gone(e)).map(|e| Change::RemoveNeighbour(*e)));
    let gone = |mac: &Mac| !wanted.forwarding.contains_key(mac);
    changes.extend(
        held.forwarding.iter().filter(|(m, _)| gone(m)).map(|(m, n)| Change::RemoveForwarding(*m, *n)),
    );
    changes
}
