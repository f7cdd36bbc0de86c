//! The claims of a StatefulSet's pods: made from templates, kept or deleted with set and pods.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, PersistentVolumeClaimVolumeSource, Pod, Volume};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use protocol::{ApiError, Object};

use super::decide::place;
use crate::controllers::machinery::meta::{is_deleting, name, namespace, uid};
use crate::controllers::machinery::{Cx, ReconcileError};

/// The claims of the pod with an ordinal, by the names of their volumes.
pub fn claims(set: &StatefulSet, ordinal: i32) -> BTreeMap<String, PersistentVolumeClaim> {
    let spec = set.spec.as_ref();
    let labels = spec.and_then(|s| s.selector.match_labels.clone()).unwrap_or_default();
    let templates = spec.and_then(|s| s.volume_claim_templates.as_ref()).into_iter().flatten();
    templates
        .map(|template| {
            let volume = name(&template.metadata).to_owned();
            let mut claim = template.clone();
            claim.metadata.name = Some(format!("{volume}-{}-{ordinal}", name(&set.metadata)));
            claim.metadata.namespace = set.metadata.namespace.clone();
            claim.metadata.labels.get_or_insert_default().extend(labels.clone());
            claim.status = None;
            (volume, claim)
        })
        .collect()
}

/// Makes a pod's volumes those of its claims, besides its own.
pub fn mount(set: &StatefulSet, ordinal: i32, pod: &mut Pod) {
    let claims = claims(set, ordinal);
    let spec = pod.spec.get_or_insert_default();
    let others =
        spec.volumes.take().unwrap_or_default().into_iter().filter(|v| !claims.contains_key(&v.name));
    let mut volumes: Vec<Volume> = claims
        .iter()
        .map(|(volume, claim)| Volume {
            name: volume.clone(),
            persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
                claim_name: name(&claim.metadata).to_owned(),
                read_only: None,
            }),
            ..Volume::default()
        })
        .collect();
    volumes.extend(others);
    spec.volumes = (!volumes.is_empty()).then_some(volumes);
}

/// Whether a pod's volumes are those of its claims.
pub fn mounted(set: &StatefulSet, ordinal: i32, pod: &Pod) -> bool {
    let volumes = pod.spec.as_ref().and_then(|s| s.volumes.as_ref());
    claims(set, ordinal).iter().all(|(volume, claim)| {
        let found = volumes.into_iter().flatten().find(|v| v.name == *volume);
        found
            .and_then(|v| v.persistent_volume_claim.as_ref())
            .is_some_and(|c| c.claim_name == name(&claim.metadata))
    })
}

/// With what a claim goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GoesWith {
    /// Nothing.
    Nobody,
    /// The set.
    Set,
    /// Its pod, which is on its way out.
    Pod,
}

/// With what the claims of an ordinal go.
pub fn goes_with(set: &StatefulSet, ordinal: i32) -> GoesWith {
    let policy = set.spec.as_ref().and_then(|s| s.persistent_volume_claim_retention_policy.as_ref());
    let deletes = |field: Option<&String>| field.is_some_and(|p| p == "Delete");
    let surplus = place(set, ordinal).is_none();
    let when_scaled = deletes(policy.and_then(|p| p.when_scaled.as_ref()));
    let when_deleted = deletes(policy.and_then(|p| p.when_deleted.as_ref()));
    match (when_scaled && surplus, when_deleted) {
        (true, _) => GoesWith::Pod,
        (false, true) => GoesWith::Set,
        (false, false) => GoesWith::Nobody,
    }
}

fn reference<K: Object>(owner: &K) -> OwnerReference {
    OwnerReference {
        api_version: K::API_VERSION.to_owned(),
        kind: K::KIND.to_owned(),
        name: name(owner.metadata()).to_owned(),
        uid: uid(owner.metadata()).to_owned(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// The owners that a claim should have, given those that it has.
fn owners(set: &StatefulSet, ordinal: i32, pod: Option<&Pod>, claim: &ObjectMeta) -> Vec<OwnerReference> {
    let pod_name = format!("{}-{ordinal}", name(&set.metadata));
    let ours = |r: &OwnerReference| {
        r.uid == uid(&set.metadata) || (r.kind == "Pod" && r.api_version == "v1" && r.name == pod_name)
    };
    let mut owners: Vec<OwnerReference> =
        claim.owner_references.iter().flatten().filter(|r| !ours(r)).cloned().collect();
    // Somebody else manages the claim: then it is not ours to give away.
    if owners.iter().any(|r| r.controller == Some(true)) {
        return claim.owner_references.clone().unwrap_or_default();
    }
    match (goes_with(set, ordinal), pod) {
        (GoesWith::Set, _) => owners.push(reference(set)),
        (GoesWith::Pod, Some(pod)) => owners.push(reference(pod)),
        _ => {}
    }
    owners
}

/// Whether the claims of a pod that exist have the owners that they should have.
pub fn retained(cx: &Cx, set: &StatefulSet, ordinal: i32, pod: Option<&Pod>) -> bool {
    claims(set, ordinal).values().all(|claim| {
        let found = cx.cache.get::<PersistentVolumeClaim>(namespace(&set.metadata), name(&claim.metadata));
        found.is_none_or(|c| {
            owners(set, ordinal, pod, &c.metadata) == c.metadata.owner_references.clone().unwrap_or_default()
        })
    })
}

/// Gives the claims that exist the owners that they should have.
pub async fn retain(
    cx: &Cx,
    set: &StatefulSet,
    ordinal: i32,
    pod: Option<&Pod>,
) -> Result<(), ReconcileError> {
    for claim in claims(set, ordinal).values() {
        let found = cx.cache.get::<PersistentVolumeClaim>(namespace(&set.metadata), name(&claim.metadata));
        let Some(found) = found else { continue };
        let owners = owners(set, ordinal, pod, &found.metadata);
        if owners != found.metadata.owner_references.clone().unwrap_or_default() {
            let mut copy = (*found).clone();
            copy.metadata.owner_references = (!owners.is_empty()).then_some(owners);
            cx.client.update(&copy).await?;
        }
    }
    Ok(())
}

/// Makes the claims of a pod that are missing.
pub async fn make(cx: &Cx, set: &StatefulSet, ordinal: i32) -> Result<(), ReconcileError> {
    let pod = format!("{}-{ordinal}", name(&set.metadata));
    for mut claim in claims(set, ordinal).into_values() {
        let claim_name = name(&claim.metadata).to_owned();
        if let Some(found) = cx.cache.get::<PersistentVolumeClaim>(namespace(&set.metadata), &claim_name) {
            if is_deleting(&found.metadata) {
                return Err(ReconcileError::Other(format!("pvc {claim_name} is being deleted")));
            }
            continue;
        }
        let owners = owners(set, ordinal, None, &claim.metadata);
        claim.metadata.owner_references = (!owners.is_empty()).then_some(owners);
        match cx.client.create(&claim).await {
            Ok(_) => cx.events.normal(
                set,
                "SuccessfulCreate",
                format!("Create Claim {claim_name} Pod {pod} in StatefulSet {} success", name(&set.metadata)),
            ),
            Err(e) if e.is_already_exists() => {}
            Err(e) => {
                told_failure(cx, set, &claim_name, &pod, &e);
                return Err(e.into());
            }
        }
    }
    Ok(())
}

fn told_failure(cx: &Cx, set: &StatefulSet, claim: &str, pod: &str, error: &ApiError) {
    let set_name = name(&set.metadata);
    let message =
        format!("Create Claim {claim} for Pod {pod} in StatefulSet {set_name} failed error: {error}");
    cx.events.warning(set, "FailedCreate", message);
}
