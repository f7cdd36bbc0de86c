//! Where a node's kubelet listens, by what the node's object says.

use k8s_openapi::api::core::v1::Node;
use protocol::ApiError;
use protocol::link::KUBELET_BUILD;

use crate::streams::proxy::place::kubelet_port;

/// The types of node addresses that are tried, the best first, unless settings say otherwise.
pub(super) const PREFERRED: [&str; 3] = ["InternalIP", "ExternalIP", "Hostname"];

/// A kubelet's address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    pub host: String,
    pub port: u16,
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// The first of a node's addresses of the first type that it has one of.
pub(super) fn of(node: &Node, preferred: &[String]) -> Result<Address, ApiError> {
    let known = node.status.as_ref().and_then(|s| s.addresses.as_deref()).unwrap_or_default();
    let host = preferred.iter().find_map(|kind| known.iter().find(|a| a.type_ == *kind));
    let Some(host) = host else {
        let known: Vec<String> = known.iter().map(|a| format!("{{{} {}}}", a.type_, a.address)).collect();
        return Err(ApiError::internal(format!(
            "no preferred addresses found; known addresses: [{}]",
            known.join(" ")
        )));
    };
    Ok(Address { host: host.address.clone(), port: kubelet_port(node) })
}

/// Whether a node is one of ours, which are reached by the link that they make and by nothing else.
pub(in crate::streams) fn is_linked(node: &Node) -> bool {
    let info = node.status.as_ref().and_then(|s| s.node_info.as_ref());
    info.is_some_and(|info| info.kubelet_version.ends_with(KUBELET_BUILD))
}
