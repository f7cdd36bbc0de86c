//! The cluster's nodes, as far as the pods' network needs them. Pure.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};
use k8s_openapi::api::core::v1::Node;
use protocol::DualRange;

#[cfg(test)]
mod tests;

/// What a Node object says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Facts {
    v4: Option<Ipv4Addr>,
    v6: Option<Ipv6Addr>,
    range: Option<DualRange>,
}

impl Facts {
    fn of(node: &Node) -> Facts {
        let addresses = node.status.iter().flat_map(|s| s.addresses.iter().flatten());
        let internal: Vec<IpAddr> = addresses
            .filter(|a| a.type_ == "InternalIP")
            .filter_map(|a| a.address.parse::<IpAddr>().ok())
            // Nobody else is reached there.
            .filter(|a| !a.is_loopback() && !a.is_unspecified() && !a.is_multicast())
            .filter(|a| *a != IpAddr::V4(Ipv4Addr::BROADCAST))
            .collect();
        let ranges = node.spec.iter().flat_map(|s| s.pod_cidrs.iter().flatten().chain(&s.pod_cidr));
        Facts {
            v4: internal.iter().find_map(|a| if let IpAddr::V4(a) = a { Some(*a) } else { None }),
            v6: internal.iter().find_map(|a| if let IpAddr::V6(a) = a { Some(*a) } else { None }),
            range: DualRange::among(ranges.map(String::as_str)),
        }
    }
}

/// Another node, beside the range of its pods' IPv4 addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its own address.
    pub v4: Ipv4Addr,
    /// Its own address of IPv6, where it has one.
    pub v6: Option<Ipv6Addr>,
    /// The range of its pods' IPv6 addresses, where these are to be reached.
    pub range6: Option<Ipv6Net>,
}

impl From<Ipv4Addr> for Peer {
    fn from(v4: Ipv4Addr) -> Self {
        Peer { v4, v6: None, range6: None }
    }
}

/// The nodes that watches have told of.
#[derive(Debug)]
pub struct Peers {
    own: String,
    nodes: BTreeMap<String, Facts>,
}

/// Other nodes, by the ranges of their pods' IPv4 addresses.
pub type Ranges = BTreeMap<Ipv4Net, Peer>;

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
    pub fn own_range(&self) -> Option<DualRange> {
        self.nodes.get(&self.own)?.range
    }

    /// The ranges to reach through others, from a node with this address and range. A range that overlaps
    /// one's own, or one that an earlier node (by name) has, would take others' packets and is left out. Where one's own
    /// pods have no IPv6, nobody's are reached by it.
    pub fn ranges(&self, address: IpAddr, own: DualRange) -> Ranges {
        let mut ranges = Ranges::new();
        let mut taken6: Vec<Ipv6Net> = own.v6.into_iter().collect();
        for (name, facts) in self.nodes.iter().filter(|(name, _)| **name != self.own) {
            let (Some(v4), Some(range)) = (facts.v4, facts.range) else { continue };
            if IpAddr::V4(v4) == address {
                continue;
            }
            let overlaps = |other: &Ipv4Net| other.contains(&range.v4) || range.v4.contains(other);
            if overlaps(&own.v4) || ranges.keys().any(overlaps) {
                tracing::warn!(node = name, %range, "the node's pod range overlaps another one; it gets no route");
                continue;
            }
            let mut range6 = range.v6.filter(|_| own.v6.is_some());
            if let Some(range) = range6 {
                if taken6.iter().any(|other| other.contains(&range) || range.contains(other)) {
                    tracing::warn!(node = name, %range, "the node's pod range overlaps another one; it gets no route");
                    range6 = None;
                } else {
                    taken6.push(range);
                }
            }
            ranges.insert(range.v4, Peer { v4, v6: facts.v6, range6 });
        }
        ranges
    }
}
