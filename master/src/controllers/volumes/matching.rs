//! Which volume suits which claim. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ObjectReference, PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Amount;
use protocol::Quantity;

use crate::controllers::machinery::labels::{selector, selects};
use crate::controllers::machinery::meta::{annotation, is_deleting, name, namespace, uid};

const CLASS: &str = "volume.beta.kubernetes.io/storage-class";

/// The class that a claim names; empty for none.
pub fn class_of_claim(claim: &PersistentVolumeClaim) -> &str {
    let named = claim.spec.as_ref().and_then(|s| s.storage_class_name.as_deref());
    annotation(&claim.metadata, CLASS).or(named).unwrap_or_default()
}

/// The class that a volume is of; empty for none.
pub fn class_of_volume(volume: &PersistentVolume) -> &str {
    let named = volume.spec.as_ref().and_then(|s| s.storage_class_name.as_deref());
    annotation(&volume.metadata, CLASS).or(named).unwrap_or_default()
}

/// Who a volume belongs to.
pub fn claim_ref(volume: &PersistentVolume) -> Option<&ObjectReference> {
    volume.spec.as_ref()?.claim_ref.as_ref()
}

/// Whether a volume names this claim: by name, and by uid unless that is still open.
pub fn names(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    claim_ref(volume).is_some_and(|r| {
        let same = r.uid.as_deref().unwrap_or_default();
        r.name.as_deref() == Some(name(&claim.metadata))
            && r.namespace.as_deref() == Some(namespace(&claim.metadata))
            && (same.is_empty() || same == uid(&claim.metadata))
    })
}

fn size_of_volume(volume: &PersistentVolume) -> Quantity {
    let capacity = volume.spec.as_ref().and_then(|s| s.capacity.as_ref());
    storage(capacity)
}

/// The storage that amounts speak of.
pub(super) fn storage(amounts: Option<&BTreeMap<String, Amount>>) -> Quantity {
    amounts.and_then(|a| a.get("storage")).and_then(|q| q.0.parse().ok()).unwrap_or_default()
}

/// The size that a claim asks for.
pub(super) fn size_of_claim(claim: &PersistentVolumeClaim) -> Quantity {
    let requests = claim.spec.as_ref().and_then(|s| s.resources.as_ref()).and_then(|r| r.requests.as_ref());
    storage(requests)
}

fn mode(mode: Option<&String>) -> &str {
    mode.map_or("Filesystem", String::as_str)
}

/// Whether one is a block device and the other a file system.
pub fn modes_differ(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    mode(volume.spec.as_ref().and_then(|s| s.volume_mode.as_ref()))
        != mode(claim.spec.as_ref().and_then(|s| s.volume_mode.as_ref()))
}

fn has_access_modes(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let offered = volume.spec.as_ref().and_then(|s| s.access_modes.as_deref()).unwrap_or_default();
    let wanted = claim.spec.as_ref().and_then(|s| s.access_modes.as_deref()).unwrap_or_default();
    wanted.iter().all(|m| offered.contains(m))
}

fn attributes_class(of: Option<&String>) -> &str {
    of.map_or("", String::as_str)
}

fn attributes_differ(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    attributes_class(volume.spec.as_ref().and_then(|s| s.volume_attributes_class_name.as_ref()))
        != attributes_class(claim.spec.as_ref().and_then(|s| s.volume_attributes_class_name.as_ref()))
}

/// Why a volume that a claim asks for by name does not suit it; `None` when it does.
pub fn mismatch(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> Option<&'static str> {
    if size_of_volume(volume) < size_of_claim(claim) {
        return Some("requested PV is too small");
    }
    if class_of_volume(volume) != class_of_claim(claim) {
        return Some("storageClassName does not match");
    }
    if attributes_differ(volume, claim) {
        return Some("volumeAttributesClassName does not match");
    }
    if modes_differ(volume, claim) {
        return Some("incompatible volumeMode");
    }
    if !has_access_modes(volume, claim) {
        return Some("incompatible accessMode");
    }
    None
}

/// The volume for a claim that names none: one that names the claim, or of those that suit it, the smallest of those with
/// the fewest access modes. Where binding waits for a pod, only the former; `fits` says which nodes' needs are to be met.
pub fn best(
    claim: &PersistentVolumeClaim,
    volumes: &[Arc<PersistentVolume>],
    delayed: bool,
    fits: impl Fn(&PersistentVolume) -> bool,
) -> Option<Arc<PersistentVolume>> {
    let labels = claim.spec.as_ref().and_then(|s| s.selector.as_ref()).map(selector);
    let mut smallest: Option<&Arc<PersistentVolume>> = None;
    for volume in volumes {
        let ours = names(volume, claim);
        let unsuitable = (claim_ref(volume).is_some() && !ours)
            || size_of_volume(volume) < size_of_claim(claim)
            || modes_differ(volume, claim)
            || attributes_differ(volume, claim)
            || is_deleting(&volume.metadata)
            || !has_access_modes(volume, claim)
            || !fits(volume);
        if unsuitable {
            continue;
        }
        if ours {
            return Some(volume.clone());
        }
        // One that was made just now is as good: nobody has looked at it yet.
        let phase = volume.status.as_ref().and_then(|s| s.phase.as_deref());
        let free = matches!(phase, None | Some("Pending" | "Available"));
        let chosen = labels.as_ref().is_none_or(|s| selects(s, volume.metadata.labels.as_ref()));
        if delayed || !free || !chosen || class_of_volume(volume) != class_of_claim(claim) {
            continue;
        }
        // One that can do no more than what is asked for is left to nobody else.
        let rank = |volume: &PersistentVolume| (access_modes(volume), size_of_volume(volume));
        if smallest.is_none_or(|s| rank(volume) < rank(s)) {
            smallest = Some(volume);
        }
    }
    smallest.cloned()
}

/// In how many ways a volume can be accessed.
fn access_modes(volume: &PersistentVolume) -> usize {
    volume.spec.as_ref().and_then(|spec| spec.access_modes.as_ref()).map_or(0, Vec::len)
}

#[cfg(test)]
mod tests;
