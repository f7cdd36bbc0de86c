//! The shared sets and maps of a rule set, and the words in which the families differ.

use crate::family::Family;

/// The words of one family.
#[derive(Clone, Copy, Debug)]
pub struct Words {
    /// The table that everything lies in.
    pub table: &'static str,
    /// The header's name.
    pub ip: &'static str,
    /// The type of an address.
    pub address: &'static str,
    /// How a destination is replaced.
    pub dnat: &'static str,
    /// The loopback addresses.
    pub loopback: &'static str,
}

impl Words {
    /// A family's.
    pub fn of(family: Family) -> Words {
        match family {
            Family::V4 => Words {
                table: "ip troupe",
                ip: family.nft(),
                address: family.nft_address(),
                dnat: "dnat ip",
                loopback: "127.0.0.0/8",
            },
            Family::V6 => Words {
                table: "ip6 troupe",
                ip: family.nft(),
                address: family.nft_address(),
                dnat: "dnat ip6",
                loopback: "::1",
            },
        }
    }
}

/// How a set or map is declared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declaration {
    /// `set` or `map`.
    pub kind: &'static str,
    /// What stands in the braces.
    pub body: String,
}

/// The sets and maps that all Services share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Shared {
    /// Address, protocol, port → the service's chain.
    Services,
    /// Protocol, port → the service's chain, on the node's own addresses.
    NodePorts,
    /// Address, protocol, port of services with nobody behind them → refuse or drop.
    NoEndpoints,
    /// The same for node ports.
    NoEndpointNodePorts,
    /// Address, protocol, port → the chain that lets only some sources in.
    Firewalls,
    /// All cluster IPs.
    ClusterIps,
    /// Endpoint address twice: an endpoint that calls itself through its service.
    Hairpins,
    /// Address, protocol, port, a number → an endpoint. The numbers of one service port begin with 0.
    Endpoints,
    /// Protocol, port, a number → an endpoint, on the node's own addresses.
    NodePortEndpoints,
}

impl Shared {
    /// Every one of them.
    pub const ALL: [Shared; 9] = [
        Shared::Services,
        Shared::NodePorts,
        Shared::NoEndpoints,
        Shared::NoEndpointNodePorts,
        Shared::Firewalls,
        Shared::ClusterIps,
        Shared::Hairpins,
        Shared::Endpoints,
        Shared::NodePortEndpoints,
    ];

    /// Its name in the table.
    pub fn name(self) -> &'static str {
        match self {
            Shared::Services => "services",
            Shared::NodePorts => "node-ports",
            Shared::NoEndpoints => "no-endpoints",
            Shared::NoEndpointNodePorts => "no-endpoint-node-ports",
            Shared::Firewalls => "firewalls",
            Shared::ClusterIps => "cluster-ips",
            Shared::Hairpins => "hairpins",
            Shared::Endpoints => "endpoints",
            Shared::NodePortEndpoints => "node-port-endpoints",
        }
    }

    /// How it is declared: keyword and type.
    pub fn declaration(self, words: Words) -> Declaration {
        let address = words.address;
        let (kind, body) = match self {
            Shared::Services | Shared::NoEndpoints | Shared::Firewalls => {
                ("map", format!("type {address} . inet_proto . inet_service : verdict;"))
            }
            Shared::NodePorts | Shared::NoEndpointNodePorts => {
                ("map", "type inet_proto . inet_service : verdict;".to_owned())
            }
            Shared::ClusterIps => ("set", format!("type {address};")),
            Shared::Hairpins => ("set", format!("type {address} . {address};")),
            Shared::Endpoints => ("map", endpoints(&format!("{} daddr . ", words.ip), words)),
            Shared::NodePortEndpoints => ("map", endpoints("", words)),
        };
        Declaration { kind, body }
    }
}

/// The type of a map to endpoints, by what stands before protocol and port.
fn endpoints(before: &str, words: Words) -> String {
    let ip = words.ip;
    format!("typeof {before}meta l4proto . th dport . numgen random mod 2 : {ip} daddr . tcp dport;")
}
