//! What devices of a pool use of one another: parts of one piece of hardware share what it has.

use std::collections::HashMap;

use k8s_openapi::api::resource::v1::Device;
use protocol::Quantity;

use super::slices::{Counters, Pool};
use super::taken::Taken;

/// Counters of the pools, by their place.
#[derive(Clone, Debug, Default)]
pub(super) struct Ledger {
    available: HashMap<usize, Counters>,
    used: HashMap<usize, Counters>,
}

/// What a device uses.
fn uses(device: &Device) -> impl Iterator<Item = ((String, String), Quantity)> + '_ {
    device.consumes_counters.iter().flatten().flat_map(|of| {
        let amount = |c: &k8s_openapi::api::resource::v1::Counter| c.value.0.parse().unwrap_or_default();
        of.counters.iter().map(move |(name, c)| ((of.counter_set.clone(), name.clone()), amount(c)))
    })
}

/// Whether a device uses any.
pub(super) fn has_uses(device: &Device) -> bool {
    device.consumes_counters.as_ref().is_some_and(|c| !c.is_empty())
}

/// What is left of a pool's counters beside the devices that somebody has.
fn left(pool: &Pool, taken: &Taken) -> Counters {
    let mut left = pool.counters.clone();
    for device in pool.devices.iter().chain(&pool.elsewhere).filter(|d| taken.is_used(&d.id())) {
        for (counter, amount) in uses(device.device()) {
            if let Some(left) = left.get_mut(&counter) {
                *left = *left - amount;
            }
        }
    }
    left
}

impl Ledger {
    /// Books a device, if there is enough for it.
    pub fn add(&mut self, at: usize, pool: &Pool, device: &Device, taken: &Taken) -> bool {
        let available = self.available.entry(at).or_insert_with(|| left(pool, taken));
        let used = self.used.entry(at).or_default();
        for (counter, amount) in uses(device) {
            let sum = used.get(&counter).map_or(amount, |before| *before + amount);
            used.insert(counter, sum);
        }
        let enough = available.iter().all(|(c, left)| used.get(c).copied().unwrap_or_default() <= *left);
        if !enough {
            self.remove(at, device);
        }
        enough
    }

    /// Takes a booking back.
    pub fn remove(&mut self, at: usize, device: &Device) {
        let Some(used) = self.used.get_mut(&at) else { return };
        for (counter, amount) in uses(device) {
            if let Some(sum) = used.get_mut(&counter) {
                *sum = *sum - amount;
            }
        }
    }
}
