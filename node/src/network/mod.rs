//! The pods' network: one bridge a node, an interface a pod, addresses from the node's range.
//!
//! The standard CNI plugin binaries do the plugging (`bridge` with `host-local`, `portmap` for host ports,
//! `loopback`); this module calls them, remembers what they answered, and opens the way out of the node.
//!
//! ## Layout
//!
//! - [`cni`]: configurations and calls of the plugins.
//! - [`host`]: the node's own part: forwarding, masquerading, firewall, MTU, and undoing all of it.
//! - [`pods`]: [`PodBridge`], which plugs pods in and out and sweeps leaks.
//! - `plug`: the bridge as the kubelet sees it; [`made_up`]: addresses for simulated runtimes.
//!
//! Everything made here is named `troupe*`, or lies in the node's state directory.

pub mod cluster;
pub mod cni;
pub mod host;
pub mod made_up;
mod plug;
pub mod pods;

pub use pods::{NetworkConfig, NetworkFailure, PodBridge, PortMap, clean_up};
