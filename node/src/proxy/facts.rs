//! What the proxy knows of the node that it runs on.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::family::Family;

/// The node's part in proxying decisions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeFacts {
    /// The node's name, as endpoints mention it.
    pub name: String,
    /// The node's zone ([`protocol::labels::ZONE`]), where it has one; the proxy follows its Node for it.
    pub zone: Option<String>,
    /// The addresses of all pods in the cluster, a range for each family. Traffic to a cluster IP from elsewhere is
    /// masqueraded, so that its answers come back through this node.
    pub cluster_cidrs: Vec<IpNet>,
    /// Where cluster IPs come from; unused ones are answered with a refusal rather than sent to the Internet.
    pub service_cidrs: Vec<IpNet>,
    /// Node addresses on which node ports answer; empty for all local ones.
    pub node_port_addresses: Vec<IpNet>,
    /// Cluster IPs that a process on this node serves itself (DNS): no rule may shadow them.
    pub served_here: BTreeSet<IpAddr>,
}

impl NodeFacts {
    /// The pods' addresses of one family.
    pub fn cluster_cidr(&self, family: Family) -> Option<IpNet> {
        self.cluster_cidrs.iter().find(|net| family.has(net)).copied()
    }
}
