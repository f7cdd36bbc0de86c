//! Claims of devices: made from templates for the pods that ask for them (by the scheduler for extended resources), gone with
//! those pods, and given back when nobody has a use for what they got.

use k8s_openapi::Resource;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::resource::v1::{ResourceClaim, ResourceClaimTemplate};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use serde_json::{Value, json};

use super::machinery::meta::{annotation, is_controlled_by, is_deleting, name, namespace, uid};
use super::machinery::pods::{is_finished, node_name};
use super::machinery::watches::{key_of, mapped, own};
use super::machinery::{Cx, Key, Outcome, ReconcileError, Reconciler, Watch};
use crate::cache::ChangeKind;
use crate::scheduler::devices::PROTECTION;
use crate::scheduler::devices::claims::owner;

/// Group and resource of claims.
const CLAIMS: (&str, &str) = ("resource.k8s.io", "resourceclaims");
/// Annotation of a claim with the pod's own name for it.
const CLAIM_OF: &str = "resource.kubernetes.io/pod-claim-name";
/// Who owns what a pod's status says of its claims.
const MANAGER: &str = "ResourceClaimController";
const ACCOUNT: &str = "resource-claim-controller";

/// Makes the claims that pods' templates ask for.
pub struct ClaimMaker;

/// Ends claims whose pods are gone, and what was reserved for those.
pub struct ClaimKeeper;

impl Reconciler for ClaimMaker {
    const NAME: &'static str = "resource_claim";
    const ACCOUNT: &'static str = ACCOUNT;
    const COMPONENT: &'static str = "resource_claim";
    const RESOURCE: &'static str = "pods";

    fn watches(&self) -> Vec<Watch> {
        vec![
            mapped::<Pod>(|change, _| {
                let asks =
                    change.kind != ChangeKind::Deleted && change.stored.mentions("resourceClaimTemplateName");
                if asks { vec![key_of(&change.stored)] } else { Vec::new() }
            }),
            // A template may come after the pods that name it.
            mapped::<ResourceClaimTemplate>(|change, cache| {
                let snapshot = cache.snapshot();
                let pods = snapshot.list("", "pods", &change.stored.meta.namespace);
                pods.filter(|p| p.mentions("resourceClaimTemplateName")).map(|p| key_of(p)).collect()
            }),
        ]
    }

    async fn reconcile(&self, cx: &Cx, key: &Key) -> Result<Outcome, ReconcileError> {
        let Some(pod) = cx.cache.get::<Pod>(&key.namespace, &key.name) else { return Ok(Outcome::DONE) };
        if is_deleting(&pod.metadata) || is_finished(&pod) {
            return Ok(Outcome::DONE);
        }
        let snapshot = cx.cache.snapshot();
        let owned = snapshot.owned_by(uid(&pod.metadata)).filter(|s| s.kind() == CLAIMS);
        let made: Vec<_> = owned.filter_map(|s| s.typed::<ResourceClaim>().ok()).collect();
        let mut news: Vec<(String, String)> = Vec::new();
        for (wanted, template) in templates(&pod) {
            if said(&pod, wanted).is_some() {
                continue;
            }
            let there = made.iter().find(|claim| is_for(claim, &pod, wanted));
            let claim = match there {
                Some(claim) => name(&claim.metadata).to_owned(),
                None => match make(cx, &pod, wanted, template).await {
                    Ok(claim) => claim,
                    Err(why) => {
                        let message = format!("PodResourceClaim {wanted}: {why}");
                        cx.events.warning(&*pod, "FailedResourceClaimCreation", message.clone());
                        return Err(ReconcileError::Other(message));
                    }
                },
            };
            news.push((wanted.to_owned(), claim));
        }
        if news.is_empty() {
            return Ok(Outcome::DONE);
        }
        let old = pod.status.as_ref().and_then(|s| s.resource_claim_statuses.as_ref()).into_iter().flatten();
        let old = old.map(|s| json!(s));
        let all: Vec<Value> =
            old.chain(news.iter().map(|(n, claim)| json!({"name": n, "resourceClaimName": claim}))).collect();
        let wanted = json!({
            "apiVersion": Pod::API_VERSION, "kind": Pod::KIND,
            "metadata": {"name": pod.metadata.name, "namespace": pod.metadata.namespace, "uid": pod.metadata.uid},
            "status": {"resourceClaimStatuses": all},
        });
        match cx.client.apply::<Pod>(&key.namespace, &key.name, Some("status"), MANAGER, &wanted).await {
            Err(e) if !e.is_not_found() => Err(e.into()),
            _ => Ok(Outcome::DONE),
        }
    }
}

/// A pod's own names for the claims that it wants made, and their templates.
fn templates(pod: &Pod) -> Vec<(&str, &str)> {
    let claims = pod.spec.as_ref().and_then(|s| s.resource_claims.as_ref()).into_iter().flatten();
    claims.filter_map(|c| Some((c.name.as_str(), c.resource_claim_template_name.as_deref()?))).collect()
}

/// The claim that a pod's status names.
fn said<'a>(pod: &'a Pod, wanted: &str) -> Option<&'a str> {
    let statuses = pod.status.as_ref()?.resource_claim_statuses.as_ref()?;
    statuses.iter().find(|s| s.name == wanted)?.resource_claim_name.as_deref()
}

fn is_for(claim: &ResourceClaim, pod: &Pod, wanted: &str) -> bool {
    annotation(&claim.metadata, CLAIM_OF) == Some(wanted)
        && is_controlled_by(&claim.metadata, uid(&pod.metadata))
        && !is_deleting(&claim.metadata)
}

async fn make(cx: &Cx, pod: &Pod, wanted: &str, template: &str) -> Result<String, String> {
    let ns = namespace(&pod.metadata);
    let Some(found) = cx.cache.get::<ResourceClaimTemplate>(ns, template) else {
        return Err(format!(
            "resource claim template {template:?}: resourceclaimtemplate.resource.k8s.io {template:?} not found"
        ));
    };
    let meta = found.spec.metadata.clone().unwrap_or_default();
    let mut annotations = meta.annotations.unwrap_or_default();
    annotations.insert(CLAIM_OF.to_owned(), wanted.to_owned());
    let claim = ResourceClaim {
        metadata: ObjectMeta {
            generate_name: Some(format!("{}-{wanted}-", name(&pod.metadata))),
            namespace: pod.metadata.namespace.clone(),
            labels: meta.labels,
            annotations: Some(annotations),
            owner_references: Some(vec![OwnerReference {
                api_version: Pod::API_VERSION.to_owned(),
                kind: Pod::KIND.to_owned(),
                name: name(&pod.metadata).to_owned(),
                uid: uid(&pod.metadata).to_owned(),
                controller: Some(true),
                block_owner_deletion: None,
            }]),
            ..ObjectMeta::default()
        },
        spec: found.spec.spec.clone(),
        status: None,
    };
    match cx.client.create(&claim).await {
        Ok(made) => Ok(name(&made.metadata).to_owned()),
        Err(e) => Err(format!("create claim: {e}")),
    }
}

impl Reconciler for ClaimKeeper {
    const NAME: &'static str = "resource_claim_use";
    const ACCOUNT: &'static str = ACCOUNT;
    const COMPONENT: &'static str = "resource_claim";
    const RESOURCE: &'static str = "resourceclaims";

    fn watches(&self) -> Vec<Watch> {
        vec![
            own::<ResourceClaim>(),
            // A pod that ends or goes frees what it has, by its own names or made for its extended resources.
            mapped::<Pod>(|change, cache| {
                let meta = &change.stored.meta;
                let ended = matches!(meta.field("status.phase"), "Succeeded" | "Failed");
                let never = meta.is_deleting() && meta.field("spec.nodeName").is_empty();
                let has = |what: &str| change.stored.mentions(what);
                if (change.kind != ChangeKind::Deleted && !ended && !never)
                    || !(has("resourceClaims") || has("extendedResourceClaimStatus"))
                {
                    return Vec::new();
                }
                let snapshot = cache.snapshot();
                let claims = snapshot.list(CLAIMS.0, CLAIMS.1, &change.stored.meta.namespace);
                claims.filter(|c| c.mentions(&change.stored.meta.uid)).map(|c| key_of(c)).collect()
            }),
        ]
    }

    async fn reconcile(&self, cx: &Cx, key: &Key) -> Result<Outcome, ReconcileError> {
        let Some(claim) = cx.cache.get::<ResourceClaim>(&key.namespace, &key.name) else {
            return Ok(Outcome::DONE);
        };
        let uses = |pod: &str, id: &str| {
            let found = cx.cache.get::<Pod>(&key.namespace, pod);
            found.is_some_and(|p| uid(&p.metadata) == id && !is_done(&p))
        };
        if let Some(freed) = freed(&claim, uses) {
            let written: ResourceClaim = cx.client.update_status(&freed).await?;
            // The scheduler protects a claim before it gives it devices: only when they are given back is that over.
            if is_protected(&written) && !is_allocated(&written) {
                unprotect(cx, written).await?;
            }
            // The rest once that is seen.
            return Ok(Outcome::DONE);
        }
        let reserved =
            claim.status.as_ref().and_then(|s| s.reserved_for.as_ref()).is_some_and(|r| !r.is_empty());
        if is_protected(&claim) && is_deleting(&claim.metadata) && !reserved {
            let mut copy = (*claim).clone();
            if let Some(status) = copy.status.as_mut().filter(|s| s.allocation.is_some()) {
                status.allocation = None;
                copy = cx.client.update_status(&copy).await?;
            }
            unprotect(cx, copy).await?;
            return Ok(Outcome::DONE);
        }
        if !reserved && !is_deleting(&claim.metadata) {
            // Without its pod the garbage collector deletes it.
            let ended = owner(&claim).is_some_and(|o| {
                let pod = cx.cache.get::<Pod>(&key.namespace, &o.name);
                pod.is_some_and(|p| uid(&p.metadata) != o.uid || is_done(&p))
            });
            if ended {
                let id = Some(uid(&claim.metadata));
                match cx.client.delete::<ResourceClaim>(&key.namespace, &key.name, id, None).await {
                    Err(e) if !e.is_not_found() && !e.is_conflict() => return Err(e.into()),
                    _ => {}
                }
            }
        }
        Ok(Outcome::DONE)
    }
}

/// Whether a pod will run no more, or never.
fn is_done(pod: &Pod) -> bool {
    is_finished(pod) || (is_deleting(&pod.metadata) && node_name(pod).is_empty())
}

fn is_protected(claim: &ResourceClaim) -> bool {
    claim.metadata.finalizers.iter().flatten().any(|f| f == PROTECTION)
}

fn is_allocated(claim: &ResourceClaim) -> bool {
    claim.status.as_ref().is_some_and(|s| s.allocation.is_some())
}

async fn unprotect(cx: &Cx, mut claim: ResourceClaim) -> Result<(), ReconcileError> {
    claim.metadata.finalizers.iter_mut().for_each(|all| all.retain(|f| f != PROTECTION));
    match cx.client.update(&claim).await {
        Err(e) if !e.is_not_found() => Err(e.into()),
        _ => Ok(()),
    }
}

/// The claim without those pods that have no use for it any more, and without what was allocated to it once none has;
/// `None` where nothing changes. `uses` says by name and uid whether a pod still does.
fn freed(claim: &ResourceClaim, uses: impl Fn(&str, &str) -> bool) -> Option<ResourceClaim> {
    let reserved = claim.status.as_ref()?.reserved_for.as_ref()?;
    // What is reserved for others than pods is not known here.
    let stays = |r: &k8s_openapi::api::resource::v1::ResourceClaimConsumerReference| {
        r.resource != "pods"
            || !r.api_group.as_deref().unwrap_or_default().is_empty()
            || uses(&r.name, &r.uid)
    };
    if reserved.iter().all(stays) {
        return None;
    }
    let mut copy = claim.clone();
    let given = is_protected(claim);
    if let Some(status) = &mut copy.status {
        let left: Vec<_> = reserved.iter().filter(|r| stays(r)).cloned().collect();
        // What was not allocated by the scheduler is not its to take.
        if left.is_empty() && given {
            status.allocation = None;
        }
        status.reserved_for = (!left.is_empty()).then_some(left);
    }
    Some(copy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_is_freed_of_the_pods_that_are_done_with_it() {
        let claim: ResourceClaim = serde_json::from_value(json!({"metadata": {"name": "c",
            "finalizers": [PROTECTION]}, "spec": {}, "status": {
            "allocation": {}, "reservedFor": [
                {"resource": "pods", "name": "a", "uid": "1"}, {"resource": "pods", "name": "b", "uid": "2"}]}}))
        .unwrap();
        assert_eq!(freed(&claim, |_, _| true), None);
        let one = freed(&claim, |pod, _| pod == "a").unwrap().status.unwrap();
        assert!(one.allocation.is_some());
        assert_eq!(one.reserved_for.unwrap().len(), 1);
        let none = freed(&claim, |_, _| false).unwrap().status.unwrap();
        assert!(none.allocation.is_none() && none.reserved_for.is_none());
    }

    #[test]
    fn a_pod_is_done_that_has_ended_or_will_never_run() {
        let pod = |value: Value| serde_json::from_value::<Pod>(value).unwrap();
        let going = json!({"deletionTimestamp": "2030-01-01T00:00:00Z"});
        let on = |node: &str| json!({"containers": [], "nodeName": node});
        assert!(is_done(&pod(json!({"metadata": {}, "status": {"phase": "Succeeded"}}))));
        assert!(is_done(&pod(json!({"metadata": going, "spec": {"containers": []}}))));
        assert!(!is_done(&pod(json!({"metadata": going, "spec": on("n")}))));
        assert!(!is_done(&pod(json!({"metadata": {}, "spec": {"containers": []}}))));
    }

    #[test]
    fn claims_that_are_made_already_are_known_by_the_pods_status() {
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p"},
            "spec": {"containers": [], "resourceClaims": [
                {"name": "a", "resourceClaimTemplateName": "t"}, {"name": "b", "resourceClaimName": "mine"}]},
            "status": {"resourceClaimStatuses": [{"name": "a", "resourceClaimName": "p-a-x"}]}}))
        .unwrap();
        assert_eq!(templates(&pod), [("a", "t")]);
        assert_eq!(said(&pod, "a"), Some("p-a-x"));
        assert_eq!(said(&pod, "b"), None);
    }
}
