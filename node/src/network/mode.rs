//! How pods' packets get from node to node.

use serde::{Deserialize, Serialize};

/// How pods' packets get from node to node. All nodes of a cluster use the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum PodNetworkMode {
    /// In VXLAN (UDP between the nodes' addresses): wherever nodes reach one another.
    #[default]
    Vxlan,
    /// By plain routes: without overhead, but nodes must share a network segment.
    Routes,
}

/// Bytes that VXLAN puts around a packet over IPv4: the inner Ethernet header, VXLAN, UDP, IPv4.
const VXLAN_OVERHEAD: u32 = 14 + 8 + 8 + 20;
/// Smallest MTU that IPv4 permits.
const MTU_MIN: u32 = 68;

impl PodNetworkMode {
    /// The MTU of pods' interfaces, where the nodes' own network has `host_mtu`.
    pub fn pod_mtu(self, host_mtu: u32) -> u32 {
        match self {
            PodNetworkMode::Vxlan => host_mtu.saturating_sub(VXLAN_OVERHEAD).max(MTU_MIN),
            PodNetworkMode::Routes => host_mtu,
        }
    }
}
