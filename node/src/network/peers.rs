//! The cluster's nodes, as far as the pods' network needs them. Pure.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::Ipv4Net;
use k8s_openapi::api::core::v1::Node;

#[cfg(test)]
mod tests;

/// What a Node object says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Facts {
    address: Option<Ipv4Addr>,
    range: Option<Ipv4Net>,
}

impl Facts {
    fn of(node: &Node) -> Facts {
        let addresses = node.status.iter().flat_map(|s| s.addresses.iter().flatten());
        let address = addresses
            .filter(|a| a.type_ == "InternalIP")
            .find_map(|a| a.address.parse::<Ipv4Addr>().ok())
            // Nobody else is reached there.
            .filter(|a| !a.is_loopback() && !a.is_unspecified() && !a.is_multicast() && !a.is_broadcast());
        let range = node.spec.iter().flat_map(|s| s.pod_cidrs.iter().flatten().chain(&s.pod_cidr));
        Facts { address, range: range.filter_map(|r| r.parse::<Ipv4Net>().ok()).map(|r| r.trunc()).next() }
    }
}

/// The nodes that watches have told of.
#[derive(Debug)]
pub struct Peers {
    own: String,
    nodes: BTreeMap<String, Facts>,
}

/// Other nodes' pod ranges, and the node's address that each is reached by.
pub type Ranges = BTreeMap<Ipv4Net, Ipv4Addr>;

impl Peers {
    /// Nobody yet, seen from the node of this name.
    pub fn new(own: &str) -> Self {
        Peers { own: own.to_owned(), nodes: BTreeMap::new() }
    }

    /// Takes in all nodes that there are.
    pub fn replace(&mut self, nodes: &[Node]) {
        self.nodes.clear();
        nodes.iter().for_each(|n| self.put(n));
    }

    /// Takes in one node.
    pub fn put(&mut self, node: &Node) {
        if let Some(name) = &node.metadata.name {
            self.nodes.insert(name.clone(), Facts::of(node));
        }
    }

    /// Takes out one node.
    pub fn remove(&mut self, node: &Node) {
        if let Some(name) = &node.metadata.name {
            self.nodes.remove(name);
        }
    }

    /// This node's own pod range, once it has one.
    pub fn own_range(&self) -> Option<Ipv4Net> {
        self.nodes.get(&self.own)?.range
    }

    /// The ranges to reach through others, from a node with this address and range. A range that overlaps
    /// one's own, or one that an earlier node (by name) has, would take others' packets and is left out.
    pub fn ranges(&self, address: IpAddr, own: Ipv4Net) -> Ranges {
        let mut ranges = Ranges::new();
        for (name, facts) in self.nodes.iter().filter(|(name, _)| **name != self.own) {
            let (Some(peer), Some(range)) = (facts.address, facts.range) else { continue };
            if IpAddr::V4(peer) == address {
                continue;
            }
            let overlaps = |other: &Ipv4Net| other.contains(&range) || range.contains(other);
            if overlaps(&own) || ranges.keys().any(overlaps) {
                tracing::warn!(node = name, %range, "the node's pod range overlaps another one; it gets no route");
                continue;
            }
            ranges.insert(range, peer);
        }
        ranges
    }
}
