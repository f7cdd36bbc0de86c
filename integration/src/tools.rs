//! Tools around a running cluster.

pub mod actors;
pub mod bench;
pub mod client;
pub mod panic;
pub mod token;
pub mod trace;

pub use client::{Cluster, ToolError, kubeconfig_path};
