//! Deployments: a ReplicaSet for each version of the pod template, and pods moved from the old ones to the
//! current one.
//!
//! [`decide`](decide::decide) is the whole of the thinking; this file reads, claims and writes.
//! [`rolling`] and [`recreate`] are the strategies, [`scale`] handles a change of size, [`revision`] the
//! history, [`status`] the conditions.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;
use protocol::{ApiError, PatchKind};

use crate::cache::ChangeKind;
use crate::controllers::machinery::labels::{selector, selects};
use crate::controllers::machinery::meta::{controller_of, is_controlled_by, name, namespace, uid};
use crate::controllers::machinery::watches::{is_a, mapped, own, owned_or_selected};
use crate::controllers::machinery::{Cx, Key, Outcome, ReconcileError, Reconciler, Watch, claim};

pub mod decide;
pub mod hash;
pub mod recreate;
pub mod revision;
pub mod rollback;
pub mod rolling;
pub mod scale;
pub mod status;

use decide::{Plan, View};
use hash::without_hash;
use revision::REVISION;
use rollback::Rollback;
use status::{PROGRESSING, has_deadline, new_condition, set_condition};

/// The controller.
pub struct DeploymentController;

impl Reconciler for DeploymentController {
    const NAME: &'static str = "deployment";
    const ACCOUNT: &'static str = "deployment-controller";
    const RESOURCE: &'static str = "deployments";

    fn watches(&self) -> Vec<Watch> {
        vec![
            own::<Deployment>(),
            owned_or_selected::<ReplicaSet, Deployment>(|d| d.spec.as_ref().map(|s| s.selector.clone())),
            // Recreate waits for the last old pod to go.
            mapped::<Pod>(|change, cache| {
                if change.kind != ChangeKind::Deleted {
                    return Vec::new();
                }
                let meta = &change.stored.meta;
                let Some(owner) = meta.controller().filter(|o| is_a::<ReplicaSet>(o)) else {
                    return Vec::new();
                };
                let snapshot = cache.snapshot();
                let set = snapshot.get("apps", "replicasets", &meta.namespace, &owner.name);
                let of = set.and_then(|rs| rs.meta.controller()).filter(|o| is_a::<Deployment>(o));
                of.map(|o| Key::new(&meta.namespace, &o.name)).into_iter().collect()
            }),
        ]
    }

    async fn reconcile(&self, cx: &Cx, key: &Key) -> Result<Outcome, ReconcileError> {
        let Some(d) = cx.cache.get::<Deployment>(&key.namespace, &key.name) else { return Ok(Outcome::DONE) };
        let Some(spec) = &d.spec else { return Ok(Outcome::DONE) };
        let selector = selector(&spec.selector);
        if selector.is_everything() {
            let text = "This deployment is selecting all pods. A non-empty selector is required.";
            cx.events.warning(&*d, "SelectingAll", text);
            return Ok(Outcome::DONE);
        }
        let candidates = cx.cache.list::<ReplicaSet>(&key.namespace);
        let sets = claim_sets(cx, &d, &selector, candidates).await?;
        let pods: Vec<Arc<Pod>> = if rolling::is_rolling(&d) {
            Vec::new()
        } else {
            let of_sets = |pod: &Arc<Pod>| {
                let owner = controller_of(&pod.metadata);
                owner.is_some_and(|o| sets.iter().any(|rs| uid(&rs.metadata) == o.uid))
            };
            cx.cache.list::<Pod>(&key.namespace).into_iter().filter(of_sets).collect()
        };
        let view = View { d: &d, sets: sets.iter().map(AsRef::as_ref).collect(), pods, now: cx.now };
        let plan = decide::decide(&view);
        act(cx, &d, plan).await
    }
}

/// The Deployment's own ReplicaSets, after adopting and releasing those that need it.
async fn claim_sets(
    cx: &Cx,
    d: &Deployment,
    selector: &protocol::Selector,
    candidates: Vec<Arc<ReplicaSet>>,
) -> Result<Vec<Arc<ReplicaSet>>, ReconcileError> {
    let claimed = claim::classify(&d.metadata, selector, candidates, |rs| &rs.metadata);
    let mut sets = claimed.keep;
    if !claimed.adopt.is_empty() {
        claim::still_exists::<Deployment>(cx, &d.metadata).await?;
    }
    for rs in claimed.adopt {
        let patch = claim::adopt_patch(d, &rs.metadata);
        let (ns, n) = (namespace(&rs.metadata), name(&rs.metadata));
        match cx.client.patch::<ReplicaSet>(ns, n, None, PatchKind::Strategic, &patch).await {
            Ok(rs) => sets.push(Arc::new(rs)),
            Err(e) if e.is_not_found() => {}
            Err(e) => return Err(e.into()),
        }
    }
    for rs in claimed.release {
        let patch = claim::release_patch(&d.metadata, &rs.metadata);
        let (ns, n) = (namespace(&rs.metadata), name(&rs.metadata));
        match cx.client.patch::<ReplicaSet>(ns, n, None, PatchKind::Strategic, &patch).await {
            Err(e) if !e.is_not_found() && e.code() != 422 => return Err(e.into()),
            _ => {}
        }
    }
    debug_assert!(sets.iter().all(|rs| selects(selector, rs.metadata.labels.as_ref())));
    Ok(sets)
}

async fn act(cx: &Cx, d: &Deployment, plan: Plan) -> Result<Outcome, ReconcileError> {
    if let Some(Rollback { deployment, event }) = plan.rollback {
        if !event.done {
            cx.events.warning(d, event.reason, event.message.clone());
        }
        cx.client.update(&*deployment).await?;
        if event.done {
            cx.events.normal(d, event.reason, event.message);
        }
        return Ok(Outcome::DONE);
    }
    if let Some(rs) = plan.create {
        let size = rolling::replicas(&rs);
        match cx.client.create(&*rs).await {
            Ok(_) if size > 0 => {
                let text = format!("Scaled up replica set {} from 0 to {size}", name(&rs.metadata));
                cx.events.normal(d, "ScalingReplicaSet", text);
            }
            Ok(_) => {}
            Err(error) => return creation_failed(cx, d, &rs, error).await,
        }
    }
    let mut versions: BTreeMap<String, Option<String>> = BTreeMap::new();
    for (mut rs, resized) in plan.update {
        if let Some(version) = versions.get(name(&rs.metadata)) {
            rs.metadata.resource_version.clone_from(version);
        }
        let written = cx.client.update(&rs).await?;
        versions.insert(name(&rs.metadata).to_owned(), written.metadata.resource_version);
        if let Some((from, to)) = resized {
            let direction = if to > from { "up" } else { "down" };
            let text = format!("Scaled {direction} replica set {} from {from} to {to}", name(&rs.metadata));
            cx.events.normal(d, "ScalingReplicaSet", text);
        }
    }
    for gone in plan.delete {
        match cx.client.delete::<ReplicaSet>(namespace(&d.metadata), &gone, None, None).await {
            Err(e) if !e.is_not_found() => return Err(e.into()),
            _ => {}
        }
    }
    if plan.revision.is_some() || plan.status.is_some() {
        // In one write, and through the status: a change of annotations alone would count as a new
        // generation of the Deployment.
        let mut next = d.clone();
        if let Some(revision) = plan.revision {
            next.metadata.annotations.get_or_insert_default().insert(REVISION.to_owned(), revision);
        }
        let status = plan.status.or_else(|| d.status.clone()).unwrap_or_default();
        write_status(cx, next, status).await?;
    }
    Ok(Outcome::again(plan.again_after))
}

async fn write_status(cx: &Cx, mut d: Deployment, status: DeploymentStatus) -> Result<(), ReconcileError> {
    d.status = Some(status);
    cx.client.update_status(&d).await?;
    Ok(())
}

/// A ReplicaSet could not be made: it may be there already, be another template's, or be refused.
async fn creation_failed(
    cx: &Cx,
    d: &Deployment,
    rs: &ReplicaSet,
    error: ApiError,
) -> Result<Outcome, ReconcileError> {
    let mut next = d.status.clone().unwrap_or_default();
    if error.is_already_exists() {
        let found: ReplicaSet = cx.client.get(namespace(&d.metadata), name(&rs.metadata)).await?;
        let template = |rs: &ReplicaSet| rs.spec.as_ref().and_then(|s| s.template.as_ref()).map(without_hash);
        if is_controlled_by(&found.metadata, uid(&d.metadata)) && template(&found) == template(rs) {
            // The cache has not shown it yet: wait for it.
            return Err(ReconcileError::Other(format!(
                "replica set {} is not in the cache yet",
                name(&rs.metadata)
            )));
        }
        next.collision_count = Some(next.collision_count.unwrap_or(0) + 1);
        write_status(cx, d.clone(), next).await?;
        return Err(error.into());
    }
    if is_namespace_terminating(&error) {
        return Ok(Outcome::DONE);
    }
    let message = format!("Failed to create new replica set {:?}: {error}", name(&rs.metadata));
    if has_deadline(d) {
        let failed = new_condition(PROGRESSING, "False", "ReplicaSetCreateError", message.clone(), cx.now);
        set_condition(&mut next, failed);
        if d.status.as_ref() != Some(&next) {
            write_status(cx, d.clone(), next).await?;
        }
    }
    cx.events.warning(d, "ReplicaSetCreateError", message);
    Err(error.into())
}

/// Whether nothing can be created because the namespace is being deleted.
pub fn is_namespace_terminating(error: &ApiError) -> bool {
    match error {
        ApiError::Status(s) => s.details.contains("NamespaceTerminating"),
        _ => false,
    }
}
