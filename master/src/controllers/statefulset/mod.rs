//! StatefulSets: pods with lasting names and storage of their own, made, updated and deleted in order.
//!
//! [`decide`] is the thinking, [`claims`] the storage; revisions of the template are kept by
//! [`history`](super::machinery::history).

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet};
use k8s_openapi::api::core::v1::Pod;

use super::deployment::is_namespace_terminating;
use super::machinery::claim::claim_pods_named;
use super::machinery::history::{self, HASH, REVISION_LABEL, Wanted};
use super::machinery::labels::selector;
use super::machinery::meta::{controller_reference, name, namespace, uid};
use super::machinery::pods::{from_template, name_prefix, phase};
use super::machinery::watches::{own, owned_or_selected};
use super::machinery::{Cx, Key, Outcome, ReconcileError, Reconciler, Watch};

pub mod claims;
pub mod decide;

use decide::{Revisions, Step, ordinal};

const POD_NAME: &str = "statefulset.kubernetes.io/pod-name";
const POD_INDEX: &str = "apps.kubernetes.io/pod-index";

/// The controller.
pub struct StatefulSetController;

impl Reconciler for StatefulSetController {
    const NAME: &'static str = "statefulset";
    const ACCOUNT: &'static str = "statefulset-controller";
    const RESOURCE: &'static str = "statefulsets";

    fn watches(&self) -> Vec<Watch> {
        vec![
            own::<StatefulSet>(),
            owned_or_selected::<Pod, StatefulSet>(|set| set.spec.as_ref().map(|s| s.selector.clone())),
        ]
    }

    async fn reconcile(&self, cx: &Cx, key: &Key) -> Result<Outcome, ReconcileError> {
        let Some(set) = cx.cache.get::<StatefulSet>(&key.namespace, &key.name) else {
            return Ok(Outcome::DONE);
        };
        let Some(spec) = &set.spec else { return Ok(Outcome::DONE) };
        let member = |pod: &str| ordinal(&key.name, pod).is_some();
        let pods = claim_pods_named(cx, &*set, &selector(&spec.selector), member).await?;
        let revisions = history::claim(cx, &*set, &selector(&spec.selector)).await?;
        let collisions = set.status.as_ref().and_then(|s| s.collision_count).unwrap_or(0);
        let mut wanted = Wanted { template: &spec.template, collisions, label: HASH };
        let update = history::current(cx, &*set, &revisions, &mut wanted).await?;
        let collisions = wanted.collisions;
        let named = set.status.as_ref().and_then(|s| s.current_revision.as_deref()).unwrap_or_default();
        let current = revisions.iter().find(|r| name(&r.metadata) == named).unwrap_or(&update).clone();
        let names = Revisions { current: name(&current.metadata), update: name(&update.metadata) };

        let fits = |pod: &Pod| fits(cx, &set, pod);
        let plan = decide::plan(&set, &pods, names, fits, cx.now);
        // First the status: what is done next must be seen as the answer to it.
        let status = decide::status(&set, &pods, names, collisions, cx.now);
        if set.status.as_ref() != Some(&status) {
            let mut next = (*set).clone();
            next.status = Some(status);
            cx.client.update_status(&next).await?;
        }
        for step in plan.steps {
            act(cx, &set, step, &current, &update).await?;
        }
        let live = |r: &ControllerRevision| {
            let n = name(&r.metadata);
            n == names.current || n == names.update || pods.iter().any(|p| decide::revision_of(p) == n)
        };
        let keep = spec.revision_history_limit.unwrap_or(10);
        history::truncate(cx, &revisions, live, keep).await?;
        Ok(Outcome::again(plan.again_after))
    }
}

async fn act(
    cx: &Cx,
    set: &StatefulSet,
    step: Step,
    current: &ControllerRevision,
    update: &ControllerRevision,
) -> Result<(), ReconcileError> {
    match step {
        Step::Create { ordinal, updated } => {
            create(cx, set, ordinal, if updated { update } else { current }).await
        }
        Step::Replace(pod) => delete(cx, set, &pod).await,
        Step::Delete(pod) => {
            if let Some(ordinal) = ordinal(name(&set.metadata), name(&pod.metadata)) {
                claims::retain(cx, set, ordinal, Some(&pod)).await?;
            }
            delete(cx, set, &pod).await
        }
        Step::Claims(pod) => restore_claims(cx, set, &pod).await,
        Step::Restore(pod) => restore(cx, set, &pod).await,
    }
}

fn tell(cx: &Cx, set: &StatefulSet, verb: &str, pod: &str, error: Option<&protocol::ApiError>) {
    let set_name = name(&set.metadata);
    match error {
        None => {
            let message = format!("{verb} Pod {pod} in StatefulSet {set_name} successful");
            cx.events.normal(set, &format!("Successful{verb}"), message);
        }
        Some(error) => {
            let message = format!("{verb} Pod {pod} in StatefulSet {set_name} failed error: {error}");
            cx.events.warning(set, &format!("Failed{verb}"), message);
        }
    }
}

async fn create(
    cx: &Cx,
    set: &StatefulSet,
    ordinal: i32,
    revision: &ControllerRevision,
) -> Result<(), ReconcileError> {
    claims::make(cx, set, ordinal).await?;
    let Some(pod) = pod_of(set, ordinal, revision) else {
        return Err(ReconcileError::Other(format!("{} holds no template", name(&revision.metadata))));
    };
    match cx.client.create(&pod).await {
        Ok(_) => tell(cx, set, "Create", name(&pod.metadata), None),
        Err(e) if e.is_already_exists() => return Err(e.into()),
        Err(e) if is_namespace_terminating(&e) => {}
        Err(e) => {
            tell(cx, set, "Create", name(&pod.metadata), Some(&e));
            return Err(e.into());
        }
    }
    Ok(())
}

async fn delete(cx: &Cx, set: &StatefulSet, pod: &Pod) -> Result<(), ReconcileError> {
    let (ns, n) = (namespace(&pod.metadata), name(&pod.metadata));
    match cx.client.delete::<Pod>(ns, n, Some(uid(&pod.metadata)), None).await {
        Ok(()) => tell(cx, set, "Delete", n, None),
        Err(e) if e.is_not_found() || e.is_conflict() => {}
        Err(e) => {
            tell(cx, set, "Delete", n, Some(&e));
            return Err(e.into());
        }
    }
    Ok(())
}

/// The pod to make.
fn pod_of(set: &StatefulSet, ordinal: i32, revision: &ControllerRevision) -> Option<Pod> {
    let template = history::template(revision)?;
    let prefix = name_prefix(name(&set.metadata));
    let mut pod = from_template(&template, namespace(&set.metadata), &prefix, controller_reference(set));
    pod.metadata.name = Some(format!("{}-{ordinal}", name(&set.metadata)));
    let labels = pod.metadata.labels.get_or_insert_default();
    labels.insert(REVISION_LABEL.to_owned(), name(&revision.metadata).to_owned());
    let spec = pod.spec.get_or_insert_default();
    spec.hostname = pod.metadata.name.clone();
    spec.subdomain = set.spec.as_ref().and_then(|s| s.service_name.clone()).filter(|s| !s.is_empty());
    identify(ordinal, &mut pod);
    claims::mount(set, ordinal, &mut pod);
    Some(pod)
}

fn identify(ordinal: i32, pod: &mut Pod) {
    let name = pod.metadata.name.clone().unwrap_or_default();
    let labels = pod.metadata.labels.get_or_insert_default();
    labels.insert(POD_NAME.to_owned(), name);
    labels.insert(POD_INDEX.to_owned(), ordinal.to_string());
}

/// Whether a pod has the name, labels, volumes and claims that it should have.
fn fits(cx: &Cx, set: &StatefulSet, pod: &Pod) -> bool {
    let Some(ordinal) = ordinal(name(&set.metadata), name(&pod.metadata)) else { return true };
    let label = |key: &str| pod.metadata.labels.as_ref().and_then(|l| l.get(key)).map(String::as_str);
    let missing = |claim: &k8s_openapi::api::core::v1::PersistentVolumeClaim| {
        let snapshot = cx.cache.snapshot();
        snapshot.get("", "persistentvolumeclaims", namespace(&set.metadata), name(&claim.metadata)).is_none()
    };
    label(POD_NAME) == Some(name(&pod.metadata))
        && claims::mounted(set, ordinal, pod)
        && claims::retained(cx, set, ordinal, Some(pod))
        && !(phase(pod) == "Pending" && claims::claims(set, ordinal).values().any(missing))
}

async fn restore_claims(cx: &Cx, set: &StatefulSet, pod: &Arc<Pod>) -> Result<(), ReconcileError> {
    let Some(ordinal) = ordinal(name(&set.metadata), name(&pod.metadata)) else { return Ok(()) };
    claims::make(cx, set, ordinal).await?;
    claims::retain(cx, set, ordinal, Some(pod)).await
}

async fn restore(cx: &Cx, set: &StatefulSet, pod: &Arc<Pod>) -> Result<(), ReconcileError> {
    restore_claims(cx, set, pod).await?;
    let Some(ordinal) = ordinal(name(&set.metadata), name(&pod.metadata)) else { return Ok(()) };
    let mut copy = (**pod).clone();
    identify(ordinal, &mut copy);
    if copy == **pod {
        return Ok(());
    }
    match cx.client.update(&copy).await {
        Ok(_) => tell(cx, set, "Update", name(&pod.metadata), None),
        Err(e) => {
            if !e.is_conflict() {
                tell(cx, set, "Update", name(&pod.metadata), Some(&e));
            }
            return Err(e.into());
        }
    }
    Ok(())
}
