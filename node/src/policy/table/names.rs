//! Sets, their elements and chains, as the kernel's table names them.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use crate::family::Family;
use crate::policy::rules::{Direction, Protocol};

/// A set or map. In the kernel it is one for each family.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SetName {
    /// Isolated pods' addresses, to the chains of what they may receive or send.
    Isolated(Direction),
    /// Isolated pods' addresses twice: a pod that calls itself through a Service.
    Selves,
    /// Addresses that this node serves as pods elsewhere would: that of the cluster's DNS.
    Served,
    /// The addresses of the pods that a rule means.
    Pods(Arc<str>),
    /// The addresses and numbers of the ports of this name.
    Ports(Protocol, Arc<str>),
}

impl fmt::Display for SetName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SetName::Isolated(Direction::Ingress) => f.write_str("isolated-ingress"),
            SetName::Isolated(Direction::Egress) => f.write_str("isolated-egress"),
            SetName::Selves => f.write_str("selves"),
            SetName::Served => f.write_str("served"),
            SetName::Pods(id) => write!(f, "pods/{id}"),
            SetName::Ports(protocol, name) => write!(f, "ports/{}/{name}", protocol.name()),
        }
    }
}

impl SetName {
    /// Those that are always there.
    pub(super) const FIXED: [SetName; 4] = [
        SetName::Isolated(Direction::Ingress),
        SetName::Isolated(Direction::Egress),
        SetName::Selves,
        SetName::Served,
    ];

    /// Its name in the kernel, with the addresses of this family.
    pub(super) fn of(&self, family: Family) -> String {
        match family {
            Family::V4 => self.to_string(),
            Family::V6 => format!("ip6-{self}"),
        }
    }

    pub(super) fn keyword(&self) -> &'static str {
        if matches!(self, SetName::Isolated(_)) { "map" } else { "set" }
    }

    /// The type of its elements.
    pub(super) fn body(&self, family: Family) -> String {
        let address = family.nft_address();
        match self {
            SetName::Isolated(_) => format!("type {address} : verdict;"),
            SetName::Selves => format!("type {address} . {address};"),
            SetName::Served | SetName::Pods(_) => format!("type {address};"),
            SetName::Ports(..) => format!("type {address} . inet_service;"),
        }
    }

    pub(super) fn is_fixed(&self) -> bool {
        Self::FIXED.contains(self)
    }

    /// An element as nftables spells it, and its value in a map.
    pub(super) fn spell(&self, element: Element) -> (String, String) {
        let Element { address, port } = element;
        match self {
            SetName::Isolated(direction) => {
                (address.to_string(), format!("goto {}", ChainName::Pod(*direction, address)))
            }
            SetName::Selves => (format!("{address} . {address}"), String::new()),
            SetName::Served | SetName::Pods(_) => (address.to_string(), String::new()),
            SetName::Ports(..) => (format!("{address} . {port}"), String::new()),
        }
    }
}

/// An element of a set: an address, and a port where the set is of ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Element {
    /// Address.
    pub address: IpAddr,
    /// Port, or 0.
    pub port: u16,
}

impl From<IpAddr> for Element {
    fn from(address: IpAddr) -> Self {
        Element { address, port: 0 }
    }
}

/// A chain.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ChainName {
    /// Of a policy. The text is its key, or a hash of one that is too long.
    Policy(Direction, Arc<str>),
    /// Of the isolated pod that has this address.
    Pod(Direction, IpAddr),
}

impl fmt::Display for ChainName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ChainName::Policy(Direction::Ingress, key) => write!(f, "ingress-policy/{key}"),
            ChainName::Policy(Direction::Egress, key) => write!(f, "egress-policy/{key}"),
            ChainName::Pod(Direction::Ingress, address) => write!(f, "ingress/{}", plain(*address)),
            ChainName::Pod(Direction::Egress, address) => write!(f, "egress/{}", plain(*address)),
        }
    }
}

/// An address as part of a name: names have no colons.
fn plain(address: IpAddr) -> String {
    address.to_string().replace(':', "-")
}
