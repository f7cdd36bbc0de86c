//! What is taken of the cluster's devices: by claims, and by those that are about to be written.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use k8s_openapi::Resource;
use k8s_openapi::api::resource::v1::{AllocationResult, DeviceRequestAllocationResult, ResourceClaim};
use protocol::Quantity;

use super::DeviceId;
use crate::cache::Snapshot;
use crate::controllers::machinery::meta::uid;

/// Allocations that were decided on and cannot be seen in the cluster yet, by the claim's uid.
pub type Pending = HashMap<Arc<str>, Arc<AllocationResult>>;

/// Amounts by name.
pub type Amounts = BTreeMap<String, Quantity>;

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Taken {
    /// Devices that nobody else can have.
    devices: HashSet<DeviceId>,
    /// What is used of devices that are shared.
    consumed: HashMap<DeviceId, Amounts>,
}

impl Taken {
    /// What all claims have, and what is on the way to them.
    pub fn of(snapshot: &Snapshot, pending: &Pending) -> Self {
        let mut taken = Taken::default();
        let claims = snapshot.list(ResourceClaim::GROUP, ResourceClaim::URL_PATH_SEGMENT, "");
        for stored in claims.filter(|s| s.mentions("allocation")) {
            let Ok(claim) = stored.typed::<ResourceClaim>() else { continue };
            let allocation = claim.status.as_ref().and_then(|s| s.allocation.as_ref());
            if let Some(allocation) = allocation.filter(|_| !pending.contains_key(uid(&claim.metadata))) {
                taken.add(allocation);
            }
        }
        for allocation in pending.values() {
            taken.add(allocation);
        }
        taken
    }

    /// One more allocation.
    pub fn add(&mut self, allocation: &AllocationResult) {
        for result in allocation.devices.iter().flat_map(|d| d.results.iter().flatten()) {
            // An administrator's look takes nothing from anybody.
            if result.admin_access == Some(true) {
                continue;
            }
            self.take(result);
        }
    }

    fn take(&mut self, result: &DeviceRequestAllocationResult) {
        let id = DeviceId {
            driver: result.driver.clone(),
            pool: result.pool.clone(),
            device: result.device.clone(),
        };
        if result.share_id.is_none() {
            self.devices.insert(id);
            return;
        }
        let of = self.consumed.entry(id).or_default();
        for (name, amount) in result.consumed_capacity.iter().flatten() {
            if let Ok(amount) = amount.0.parse::<Quantity>() {
                let sum = of.get(name).map_or(amount, |before| *before + amount);
                of.insert(name.clone(), sum);
            }
        }
    }

    /// Whether a device is somebody's alone.
    pub fn is_taken(&self, id: &DeviceId) -> bool {
        self.devices.contains(id)
    }

    /// What is used of a shared device; `None` where nobody uses it.
    pub fn consumed(&self, id: &DeviceId) -> Option<&Amounts> {
        self.consumed.get(id)
    }

    /// Whether anybody has anything of a device.
    pub fn is_used(&self, id: &DeviceId) -> bool {
        self.is_taken(id) || self.consumed.contains_key(id)
    }
}
