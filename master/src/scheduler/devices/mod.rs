//! Devices for pods that claim them: which nodes have what a pod's claims ask for, and which devices it gets there. Pure;
//! the plugin asks, the binder writes.
//!
//! - [`claims`]: a pod's claims, and why they are none yet. - [`demand`]: what they ask for, node by node.
//! - [`extended`]: a pod's extended resources as such a claim, of which [`mappings`] says what is for whom.
//! - [`slices`]: the pools that a node can reach. - [`taken`]: what others have of them.
//! - [`request`]: one request, and which devices satisfy it; [`selectors`], [`capacity`], [`taints`]: by what.
//! - [`allocator`]: the search, over [`attempt`], what it has chosen so far; [`constraints`], [`counters`]: what chosen devices
//!   must have in common, and share.
//! - [`outcome`]: what is written into a claim. - [`conditions`]: devices that have to be made ready first.

use std::fmt;
use std::sync::Arc;

use crate::api::kinds::devices::extended::Backed;
use crate::cache::Snapshot;

pub mod allocator;
mod attempt;
pub mod capacity;
pub mod claims;
pub mod conditions;
mod constraints;
mod counters;
pub mod demand;
mod extended;
mod mappings;
pub mod outcome;
mod request;
pub mod selectors;
pub mod slices;
mod taints;
pub mod taken;
#[cfg(test)]
mod tests;

/// Keeps a claim while devices are allocated to it.
pub const PROTECTION: &str = "resource.kubernetes.io/delete-protection";
/// Devices that a claim can have.
pub const DEVICES_MAX: usize = 32;
/// Alternatives that a request can have.
pub const ALTERNATIVES_MAX: usize = 8;

/// A device in the cluster.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceId {
    /// Whose it is.
    pub driver: String,
    /// Among which it is.
    pub pool: String,
    /// Its name among those.
    pub device: String,
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.driver, self.pool, self.device)
    }
}

/// What is known of the cluster's devices.
#[derive(Clone, Copy)]
pub struct Cluster<'a> {
    /// Claims, classes and slices.
    pub snapshot: &'a Snapshot,
    /// What of these devices is taken.
    pub taken: &'a Arc<taken::Tally>,
    /// What will be.
    pub pending: &'a taken::Pending,
    /// Extended resources that classes stand behind.
    pub backed: &'a Arc<Backed>,
}

/// Why there are no devices for a pod on a node.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// This node will not do.
    #[error("{0}")]
    Node(String),
    /// What is asked for, or what there is, is at fault: no node is worth looking at.
    #[error("{0}")]
    Broken(String),
}

/// What one attempt to place a pod may spend on looking for devices.
#[derive(Clone, Debug)]
pub struct Budget {
    /// Devices that are considered, each time anew.
    pub steps: u64,
    /// What expressions cost.
    pub cost: u64,
}

impl Default for Budget {
    fn default() -> Self {
        Budget { steps: 1_000_000, cost: 20_000_000 }
    }
}
