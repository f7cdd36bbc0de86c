//! What the proxy knows of the node that it runs on.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

/// The node's part in proxying decisions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeFacts {
    /// The node's name, as endpoints mention it.
    pub name: String,
    /// The node's zone (`topology.kubernetes.io/zone`), where it has one.
    pub zone: Option<String>,
    /// The addresses of all pods in the cluster. Traffic to a cluster IP from elsewhere is masqueraded, so
    /// that its answers come back through this node.
    pub cluster_cidr: Option<Ipv4Net>,
    /// Where cluster IPs come from; unused ones are answered with a refusal rather than sent to the Internet.
    pub service_cidr: Option<Ipv4Net>,
    /// Node addresses on which node ports answer; empty for all local ones.
    pub node_port_addresses: Vec<Ipv4Net>,
    /// Cluster IPs that a process on this node serves itself (DNS): no rule may shadow them.
    pub served_here: BTreeSet<Ipv4Addr>,
}
