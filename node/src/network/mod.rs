//! The pods' network: one bridge a node, an interface a pod, addresses from the node's range, and ways from
//! node to node that keep the pods' own addresses.
//!
//! The standard CNI plugin binaries do the plugging (`bridge` with `host-local`, `portmap` for host ports,
//! `loopback`); this module calls them, remembers what they answered, and opens the way out of the node.
//!
//! ## Layout
//!
//! - [`cni`]: configurations and calls of the plugins.
//! - [`host`]: the node's own part: forwarding, masquerading, firewall, and undoing all of it.
//! - [`pods`]: [`PodBridge`], which plugs pods in and out and sweeps leaks.
//! - [`mode`]: VXLAN or plain routes. [`peers`]: the other nodes; [`plan`]: the tables that lead to them, and what is
//!   to change; [`reach`]: makes it so, by [`netlink`]; `happenings`: what others do to it meanwhile.
//! - [`loopback`] and [`guests`]: addresses that the node answers for beside its own, on all interfaces and on some.
//! - `actor`: follows the nodes and keeps all this up to date; [`cluster`]: it as the kubelet sees it.
//! - `plug`: the bridge as the kubelet sees it; [`made_up`]: addresses for simulated runtimes.
//!
//! ## On the wire
//!
//! By default packets between nodes travel in VXLAN: interface `troupe-vxlan`, network number 0x747270, UDP port
//! 8472 between the nodes' InternalIPs, which must reach one another there. VXLAN neither encrypts nor authenticates:
//! the nodes' network has to be trusted, as for any such overlay. With plain routes nodes have to share a segment.
//!
//! Everything made here is named `troupe*`, or lies in the node's state directory; routes carry protocol number 116.

mod actor;
pub mod cluster;
pub mod cni;
pub mod guests;
pub mod happenings;
pub mod host;
pub mod loopback;
pub mod made_up;
pub mod mode;
pub mod netlink;
pub mod peers;
pub mod plan;
mod plug;
pub mod pods;
pub mod reach;

pub use cluster::{ClusterNetwork, ClusterNetworkConfig};
pub use mode::PodNetworkMode;
pub use pods::{NetworkConfig, NetworkFailure, PodBridge, PortMap, clean_up};
