//! # The worker
//!
//! What runs on every node: it keeps the pods that the master assigned to it as they were declared.
//!
//! ## Layout
//!
//! - [`kubelet`]: desired pods to running containers, probes, status, the kubelet's HTTP ports.
//! - [`runtime`]: the container engine behind a trait; Docker, and a simulated one.
//! - [`volumes`]: pods' volumes on the host's file system.
//! - [`logs`]: containers' output in the CRI format, written and read.
//! - [`network`]: pods' interfaces, by the standard CNI plugins, and the ways from node to node.
//! - [`policy`]: NetworkPolicies. [`proxy`]: Services. [`nft`]: what both tell the kernel by.
//! - [`keeping`]: bringing the kernel to what is known, batch by batch.
//! - [`dns`]: names of Services and pods. [`announce`]: addresses of balanced Services, told to the segment.
//! - [`ingress`]: HTTP from outside, by host and path.
//! - [`certificate`]: the node's own, renewed in time.
//! - [`link`]: the one connection to the master; [`follow`]: what exists of a kind, and its changes, over it.
//! - [`services`]: what is known of Services here. `unverified`: TLS without proof. [`transport`]: TCP, UDP and SCTP. [`family`]: IPv4 and IPv6. [`simulation`]: a node without a machine.

pub mod announce;
pub mod certificate;
pub mod dns;
pub mod family;
pub mod follow;
pub mod ingress;
pub mod keeping;
pub mod kubelet;
pub mod link;
pub mod logs;
pub mod network;
pub mod nft;
pub mod node;
pub mod policy;
pub mod proxy;
pub mod runtime;
pub mod services;
pub mod simulation;
pub mod transport;
mod unverified;
pub mod volumes;

pub use node::{Node, NodeConfig, NodeError, clean_up};
