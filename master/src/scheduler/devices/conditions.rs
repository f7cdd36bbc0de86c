//! Devices that have to be made ready for a node before their pods can be bound there: their drivers say so by conditions.

use std::time::Duration;

use k8s_openapi::api::resource::v1::{
    AllocatedDeviceStatus, AllocationResult, DeviceRequestAllocationResult, ResourceClaim,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use k8s_openapi::jiff::Timestamp;

/// How long that may take.
pub const READY_MAX: Duration = Duration::from_secs(600);

/// How far a claim's devices are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// They are ready.
    Ready,
    /// They are not yet.
    Pending,
    /// They will not be; why.
    Failed(String),
    /// They were not in time.
    Late,
}

fn results(allocation: &AllocationResult) -> impl Iterator<Item = &DeviceRequestAllocationResult> {
    allocation.devices.iter().flat_map(|d| d.results.iter().flatten())
}

/// Whether any device of an allocation has to be made ready.
pub fn has_conditions(allocation: &AllocationResult) -> bool {
    results(allocation).any(|r| r.binding_conditions.as_ref().is_some_and(|c| !c.is_empty()))
}

fn status<'a>(
    claim: &'a ResourceClaim,
    of: &DeviceRequestAllocationResult,
) -> Option<&'a AllocatedDeviceStatus> {
    let all = claim.status.as_ref().and_then(|s| s.devices.as_ref());
    all.into_iter().flatten().find(|d| d.device == of.device && d.driver == of.driver && d.pool == of.pool)
}

fn condition<'a>(of: &'a AllocatedDeviceStatus, kind: &str) -> Option<&'a Condition> {
    of.conditions.iter().flatten().find(|c| c.type_ == kind && c.status == "True")
}

/// How far the devices of an allocated claim are.
pub fn readiness(claim: &ResourceClaim, now: Timestamp) -> Readiness {
    let Some(allocation) = claim.status.as_ref().and_then(|s| s.allocation.as_ref()) else {
        return Readiness::Pending;
    };
    let mut ready = true;
    for result in results(allocation) {
        let wanted = result.binding_conditions.as_deref().unwrap_or_default();
        if wanted.is_empty() {
            continue;
        }
        let Some(status) = status(claim, result) else {
            ready = false;
            continue;
        };
        let bad = result.binding_failure_conditions.iter().flatten();
        if let Some(bad) = bad.filter_map(|kind| condition(status, kind)).next() {
            let name = claim.metadata.name.as_deref().unwrap_or_default();
            return Readiness::Failed(format!(
                "device binding failed: claim={name}, reason={}, message={:?}",
                bad.reason, bad.message
            ));
        }
        ready &= wanted.iter().all(|kind| condition(status, kind).is_some());
    }
    if ready {
        return Readiness::Ready;
    }
    let since = allocation.allocation_timestamp.as_ref().map(|t| t.0);
    let late = since.is_some_and(|t| now.duration_since(t).unsigned_abs() > READY_MAX && now > t);
    if late { Readiness::Late } else { Readiness::Pending }
}
