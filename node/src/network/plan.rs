//! What the kernel is to hold so that other nodes' pods are reached, and how to get there. Pure.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use super::peers::Ranges;

#[cfg(test)]
mod tests;

/// An Ethernet address.
pub type Mac = [u8; 6];

/// Where a route leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hop {
    /// The next machine.
    pub gateway: Ipv4Addr,
    /// Index of the interface.
    pub device: u32,
}

/// What the kernel holds of ours, or is to hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tables {
    /// Routes to other nodes' pods.
    pub routes: BTreeMap<Ipv4Net, Hop>,
    /// Inside the overlay: other nodes' ends, and their Ethernet addresses.
    pub neighbours: BTreeMap<Ipv4Addr, Mac>,
    /// Below the overlay: Ethernet addresses, and the nodes that have them.
    pub forwarding: BTreeMap<Mac, Ipv4Addr>,
}

/// One change of the kernel's tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// A route goes.
    RemoveRoute(Ipv4Net, Hop),
    /// A neighbour goes.
    RemoveNeighbour(Ipv4Addr),
    /// A forwarding entry goes.
    RemoveForwarding(Mac, Ipv4Addr),
    /// A forwarding entry comes, or leads elsewhere.
    SetForwarding(Mac, Ipv4Addr),
    /// A neighbour comes, or has another Ethernet address.
    SetNeighbour(Ipv4Addr, Mac),
    /// A route comes, or leads elsewhere.
    SetRoute(Ipv4Net, Hop),
}

/// The end of a node in the overlay: the first address of its range, which no pod gets.
pub fn overlay_address(range: Ipv4Net) -> Ipv4Addr {
    range.network()
}

/// The Ethernet address of a node's end in the overlay. It follows from the range, so that no node has to tell
/// it to others; the first byte says that it is locally administered.
pub fn overlay_mac(range: Ipv4Net) -> Mac {
    let [a, b, c, d] = overlay_address(range).octets();
    [0x0a, 0x58, a, b, c, d]
}

/// The tables that lead through the overlay, whose interface is `device`.
pub fn through_overlay(ranges: &Ranges, device: u32) -> Tables {
    let mut tables = Tables::default();
    for (range, node) in ranges {
        let (end, mac) = (overlay_address(*range), overlay_mac(*range));
        tables.routes.insert(*range, Hop { gateway: end, device });
        tables.neighbours.insert(end, mac);
        tables.forwarding.insert(mac, *node);
    }
    tables
}

/// The tables that lead to nodes on the same segment, which `device` is connected to.
pub fn by_routes(ranges: &Ranges, device: u32) -> Tables {
    let routes = ranges.iter().map(|(range, node)| (*range, Hop { gateway: *node, device })).collect();
    Tables { routes, ..Tables::default() }
}

/// What brings the kernel from what it holds to what it is to hold. In an order that never has a route lead to
/// an end that is not known: routes go before their ends, and come after them.
pub fn changes(held: &Tables, wanted: &Tables) -> Vec<Change> {
    let mut changes = Vec::new();
    let gone = |range: &Ipv4Net| !wanted.routes.contains_key(range);
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
    let gone = |end: &Ipv4Addr| !wanted.neighbours.contains_key(end);
    changes.extend(held.neighbours.keys().filter(|e| gone(e)).map(|e| Change::RemoveNeighbour(*e)));
    let gone = |mac: &Mac| !wanted.forwarding.contains_key(mac);
    changes.extend(
        held.forwarding.iter().filter(|(m, _)| gone(m)).map(|(m, n)| Change::RemoveForwarding(*m, *n)),
    );
    changes
}
