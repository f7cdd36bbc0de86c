//! What is taken of the cluster's devices: by claims, and by those that are about to be written.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use k8s_openapi::Resource;
use k8s_openapi::api::resource::v1::{AllocationResult, DeviceRequestAllocationResult, ResourceClaim};
use protocol::Quantity;

use super::DeviceId;
use super::claims::{is_extended, owner};
use crate::cache::{Snapshot, Stored};
use crate::controllers::machinery::meta::uid;

/// Allocations that were decided on and cannot be seen in the cluster yet, by the claim's uid. One that is still to be made
/// has its pod's.
pub type Pending = HashMap<Arc<str>, Arc<AllocationResult>>;

/// Amounts by name.
pub type Amounts = BTreeMap<String, Quantity>;

/// What the cluster's claims have, kept up to date claim by claim.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tally {
    /// Devices that nobody else can have, with how many claims say that they have them: written by hand, it may be several.
    devices: HashMap<DeviceId, usize>,
    /// What is used of devices that are shared, and by how many.
    consumed: HashMap<DeviceId, (usize, Amounts)>,
    /// Claims that have devices, by uid, and the pods that such claims were made for.
    holders: HashSet<String>,
}

fn allocated(stored: &Arc<Stored>) -> Option<Arc<ResourceClaim>> {
    if !stored.mentions("allocation") {
        return None;
    }
    let claim = stored.typed::<ResourceClaim>().ok()?;
    claim.status.as_ref().is_some_and(|s| s.allocation.is_some()).then_some(claim)
}

/// What an allocation takes: device, and how much of it where others may have the rest.
fn results(
    allocation: &AllocationResult,
) -> impl Iterator<Item = (DeviceId, Option<&DeviceRequestAllocationResult>)> {
    let all = allocation.devices.iter().flat_map(|d| d.results.iter().flatten());
    // An administrator's look takes nothing from anybody.
    all.filter(|r| r.admin_access != Some(true)).map(|r| {
        let id = DeviceId { driver: r.driver.clone(), pool: r.pool.clone(), device: r.device.clone() };
        (id, r.share_id.as_ref().map(|_| r))
    })
}

fn amounts(of: &DeviceRequestAllocationResult) -> impl Iterator<Item = (&String, Quantity)> {
    let all = of.consumed_capacity.iter().flatten().filter_map(|(name, amount)| {
        let amount: Quantity = amount.0.parse().ok()?;
        Some((name, amount))
    });
    // Nothing of it is like no word of it.
    all.filter(|(_, amount)| !amount.is_zero())
}

impl Tally {
    /// What all claims of a cluster have.
    pub fn of(snapshot: &Snapshot) -> Self {
        let mut tally = Tally::default();
        tally.follow(&Snapshot::default(), snapshot);
        tally
    }

    /// Takes up what became of the claims between two states of the cluster. Whether anything did.
    pub fn follow(&mut self, older: &Snapshot, newer: &Snapshot) -> bool {
        let changed = newer.changed_since(older, ResourceClaim::GROUP, ResourceClaim::URL_PATH_SEGMENT);
        for (key, now) in &changed {
            if let Some(claim) = older.get_key(key).and_then(allocated) {
                self.remove(&claim);
            }
            if let Some(claim) = now.as_ref().and_then(allocated) {
                self.add(&claim);
            }
        }
        !changed.is_empty()
    }

    fn add(&mut self, claim: &ResourceClaim) {
        self.holders.extend(holders(claim));
        for (id, share) in claim.status.iter().flat_map(|s| &s.allocation).flat_map(results) {
            let Some(share) = share else {
                *self.devices.entry(id).or_insert(0) += 1;
                continue;
            };
            let (users, sum) = self.consumed.entry(id).or_default();
            *users += 1;
            for (name, amount) in amounts(share) {
                let of = sum.entry(name.clone()).or_default();
                *of = *of + amount;
            }
        }
    }

    fn remove(&mut self, claim: &ResourceClaim) {
        for holder in holders(claim) {
            self.holders.remove(&holder);
        }
        for (id, share) in claim.status.iter().flat_map(|s| &s.allocation).flat_map(results) {
            let Some(share) = share else {
                if let Some(holders) = self.devices.get_mut(&id) {
                    *holders -= 1;
                    if *holders == 0 {
                        self.devices.remove(&id);
                    }
                }
                continue;
            };
            let Some((users, sum)) = self.consumed.get_mut(&id) else { continue };
            *users -= 1;
            for (name, amount) in amounts(share) {
                let of = sum.entry(name.clone()).or_default();
                *of = *of - amount;
            }
            sum.retain(|_, amount| !amount.is_zero());
            if *users == 0 {
                self.consumed.remove(&id);
            }
        }
    }
}

/// By what pending allocations know a claim.
fn holders(claim: &ResourceClaim) -> impl Iterator<Item = String> {
    let pod = owner(claim).filter(|_| is_extended(claim)).map(|o| o.uid.clone());
    [uid(&claim.metadata).to_owned()].into_iter().chain(pod)
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Taken {
    claims: Arc<Tally>,
    /// What is on the way.
    devices: HashSet<DeviceId>,
    /// What will be used of shared devices then, all in all.
    consumed: HashMap<DeviceId, Amounts>,
}

impl Taken {
    /// What all claims have, and what is on the way to them.
    pub fn of(claims: Arc<Tally>, pending: &Pending) -> Self {
        let mut taken = Taken { claims, devices: HashSet::new(), consumed: HashMap::new() };
        for (claim, allocation) in pending {
            // What has arrived counts already.
            if !taken.claims.holders.contains(&**claim) {
                taken.add(allocation);
            }
        }
        taken
    }

    /// One more allocation.
    pub fn add(&mut self, allocation: &AllocationResult) {
        for (id, share) in results(allocation) {
            let Some(share) = share else {
                self.devices.insert(id);
                continue;
            };
            let used = || self.claims.consumed.get(&id).map(|(_, a)| a.clone()).unwrap_or_default();
            let mut of = self.consumed.remove(&id).unwrap_or_else(used);
            for (name, amount) in amounts(share) {
                let sum = of.get(name).map_or(amount, |before| *before + amount);
                of.insert(name.clone(), sum);
            }
            self.consumed.insert(id, of);
        }
    }

    /// Whether a device is somebody's alone.
    pub fn is_taken(&self, id: &DeviceId) -> bool {
        self.claims.devices.contains_key(id) || self.devices.contains(id)
    }

    /// What is used of a shared device; `None` where nobody uses it.
    pub fn consumed(&self, id: &DeviceId) -> Option<&Amounts> {
        self.consumed.get(id).or_else(|| self.claims.consumed.get(id).map(|(_, amounts)| amounts))
    }

    /// Whether anybody has anything of a device.
    pub fn is_used(&self, id: &DeviceId) -> bool {
        self.is_taken(id) || self.consumed(id).is_some()
    }
}
