//! A pod's claims: those that it names, and the one that was made for its extended resources.

use std::sync::Arc;

use k8s_openapi::Resource;
use k8s_openapi::api::core::v1::{Pod, PodResourceClaim};
use k8s_openapi::api::resource::v1::ResourceClaim;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use crate::api::kinds::devices::extended::CLAIM;
use crate::cache::Snapshot;
use crate::controllers::machinery::meta::{
    annotation, controller_of, is_controlled_by, is_deleting, name, namespace, uid,
};

/// What a pod says of the claims that it wants.
pub fn wanted(pod: &Pod) -> &[PodResourceClaim] {
    pod.spec.as_ref().and_then(|s| s.resource_claims.as_deref()).unwrap_or_default()
}

/// A pod's claims, in its order; otherwise what it has to wait for.
pub fn of_pod(snapshot: &Snapshot, pod: &Pod) -> Result<Vec<Arc<ResourceClaim>>, String> {
    let ns = namespace(&pod.metadata);
    let mut found = Vec::new();
    for wanted in wanted(pod) {
        let Some(n) = claim_name(pod, wanted)? else { continue };
        let stored = snapshot.get(ResourceClaim::GROUP, ResourceClaim::URL_PATH_SEGMENT, ns, n);
        let claim = stored.and_then(|s| s.typed::<ResourceClaim>().ok());
        let claim = claim.ok_or_else(|| format!("resourceclaim.resource.k8s.io {n:?} not found"))?;
        if is_deleting(&claim.metadata) {
            return Err(format!("resourceclaim {n:?} is being deleted"));
        }
        // Whoever writes a pod's status could name another's claim there.
        if wanted.resource_claim_template_name.is_some()
            && !is_controlled_by(&claim.metadata, uid(&pod.metadata))
        {
            let pod = name(&pod.metadata);
            return Err(format!(
                "ResourceClaim {ns}/{n} was not created for Pod {ns}/{pod} (Pod is not owner)"
            ));
        }
        found.push(claim);
    }
    Ok(found)
}

/// The name of a claim; `Ok(None)` where a template was found to make none.
fn claim_name<'a>(pod: &'a Pod, wanted: &'a PodResourceClaim) -> Result<Option<&'a str>, String> {
    let of = || format!("pod \"{}/{}\"", namespace(&pod.metadata), name(&pod.metadata));
    if let Some(n) = &wanted.resource_claim_name {
        return Ok(Some(n));
    }
    if wanted.resource_claim_template_name.is_none() {
        return Err(format!(
            "{}, spec.resourceClaim {:?}: none of the supported fields are set",
            of(),
            wanted.name
        ));
    }
    let made = pod.status.as_ref().and_then(|s| s.resource_claim_statuses.as_ref());
    match made.into_iter().flatten().find(|s| s.name == wanted.name) {
        Some(made) => Ok(made.resource_claim_name.as_deref()),
        None => Err(format!("{}: ResourceClaim not created yet", of())),
    }
}

/// The names of a pod's claims, as far as they are known yet.
pub fn names(pod: &Pod) -> impl Iterator<Item = &str> {
    wanted(pod).iter().filter_map(|wanted| claim_name(pod, wanted).ok().flatten())
}

/// Whether a claim was made for a pod's extended resources.
pub fn is_extended(claim: &ResourceClaim) -> bool {
    annotation(&claim.metadata, CLAIM) == Some("true")
}

/// The pod that a claim was made for.
pub fn owner(claim: &ResourceClaim) -> Option<&OwnerReference> {
    controller_of(&claim.metadata).filter(|o| o.kind == Pod::KIND && o.api_version == Pod::API_VERSION)
}

/// The claims that were made for a pod's extended resources: one, unless somebody else made more.
pub fn of_extended<'a>(
    snapshot: &'a Snapshot,
    ns: &'a str,
    pod: &'a str,
) -> impl Iterator<Item = Arc<ResourceClaim>> + use<'a> {
    let kind = (ResourceClaim::GROUP, ResourceClaim::URL_PATH_SEGMENT);
    // Anybody can name any uid in a namespace of their own.
    let owned = snapshot.owned_by(pod).filter(move |s| s.kind() == kind && &*s.meta.namespace == ns);
    let claims = owned.filter_map(|s| s.typed::<ResourceClaim>().ok());
    claims.filter(move |claim| is_extended(claim) && is_controlled_by(&claim.metadata, pod))
}

/// Whether a claim is reserved for a pod.
pub fn is_reserved_for(claim: &ResourceClaim, pod: &str) -> bool {
    let reserved = claim.status.as_ref().and_then(|s| s.reserved_for.as_ref());
    reserved.is_some_and(|all| all.iter().any(|r| r.uid == pod))
}
