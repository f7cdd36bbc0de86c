//! DaemonSets: one pod on every node that they are for.
//!
//! [`eligible`] says which nodes those are, [`decide`] is the rest of the thinking; revisions of the template
//! are kept by [`history`](super::machinery::history).

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet};
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::jiff::Timestamp;

use super::deployment::is_namespace_terminating;
use super::machinery::claim::claim_pods;
use super::machinery::history::{self, REVISION_LABEL, Wanted};
use super::machinery::labels::selector;
use super::machinery::meta::{annotation, controller_reference, is_deleting, name, namespace, uid};
use super::machinery::pods::{from_template, name_prefix, phase};
use super::machinery::watches::{key_of, mapped, own, owned_or_selected};
use super::machinery::{Cx, Key, Outcome, ReconcileError, Reconciler, Watch};
use super::replicaset::decide::batches;
use crate::cache::{Change, ChangeKind};

pub mod decide;
pub mod eligible;
mod patience;

use decide::{Plan, Wants, manage, next_available_after, roll};
use eligible::{Rule, Verdict, aim, by_node, tolerate};
use patience::Patience;

const GENERATION: &str = "deprecated.daemonset.template.generation";
const GENERATION_LABEL: &str = "pod-template-generation";

/// The controller.
#[derive(Default)]
pub struct DaemonSetController {
    patience: Patience,
}

/// Whether a node changed in what decides about daemons; heartbeats don't.
fn matters(change: &Change) -> bool {
    if change.kind != ChangeKind::Modified {
        return true;
    }
    let Some(before) = change.previous.as_ref() else { return true };
    if before.meta.labels != change.stored.meta.labels {
        return true;
    }
    let placed = |s: &crate::cache::Stored| {
        let spec = s.value().ok().map(|v| v["spec"].clone()).unwrap_or_default();
        (spec["taints"].clone(), spec["unschedulable"].clone())
    };
    placed(before) != placed(&change.stored)
}

impl Reconciler for DaemonSetController {
    const NAME: &'static str = "daemonset";
    const ACCOUNT: &'static str = "daemon-set-controller";
    const COMPONENT: &'static str = "daemonset-controller";
    const RESOURCE: &'static str = "daemonsets";

    fn watches(&self) -> Vec<Watch> {
        vec![
            own::<DaemonSet>(),
            owned_or_selected::<Pod, DaemonSet>(|set| set.spec.as_ref().map(|s| s.selector.clone())),
            mapped::<Node>(|change, cache| {
                if !matters(change) {
                    return Vec::new();
                }
                let snapshot = cache.snapshot();
                snapshot.list("apps", "daemonsets", "").map(|s| key_of(s)).collect()
            }),
        ]
    }

    async fn reconcile(&self, cx: &Cx, key: &Key) -> Result<Outcome, ReconcileError> {
        let Some(set) = cx.cache.get::<DaemonSet>(&key.namespace, &key.name) else {
            return Ok(Outcome::DONE);
        };
        let Some(spec) = &set.spec else { return Ok(Outcome::DONE) };
        if is_deleting(&set.metadata) {
            return Ok(Outcome::DONE);
        }
        let selector = selector(&spec.selector);
        let revisions = history::claim(cx, &*set, &selector).await?;
        let collisions = set.status.as_ref().and_then(|s| s.collision_count);
        let mut wanted =
            Wanted { template: &spec.template, collisions: collisions.unwrap_or(0), label: REVISION_LABEL };
        let current = history::current(cx, &*set, &revisions, &mut wanted).await?;
        let collisions = if wanted.collisions > 0 { Some(wanted.collisions) } else { collisions };
        let hash = hash_of(&current);

        let pods = claim_pods(cx, &*set, &selector).await?;
        let by_node = by_node(&pods);
        let rule = Rule::of(&set);
        let nodes = cx.cache.list::<Node>("");
        let judged: Vec<(&str, Verdict)> = nodes.iter().map(|n| (name(&n.metadata), rule.judge(n))).collect();
        let desired = judged.iter().filter(|(_, v)| v.should_run).count();
        let wants = Wants::of(&set, hash, i32::try_from(desired).unwrap_or(i32::MAX), cx.now);

        let mut plan = manage(&judged, &by_node, &wants);
        let waits = self.wait_for_failed(&mut plan, uid(&set.metadata), cx.now);
        if plan.create.is_empty() && plan.delete.is_empty() {
            plan = roll(&by_node, &wants);
        }
        let status = decide::status(&set, &judged, &by_node, &wants, collisions);
        if set.status.as_ref() != Some(&status) {
            let mut next = (*set).clone();
            next.status = Some(status);
            cx.client.update_status(&next).await?;
        }
        act(cx, &set, hash, plan).await?;
        let live = |r: &ControllerRevision| {
            let hash = hash_of(r);
            r.metadata.uid == current.metadata.uid || pods.iter().any(|p| pod_hash(p) == Some(hash))
        };
        history::truncate(cx, &revisions, live, spec.revision_history_limit.unwrap_or(10)).await?;
        let times = next_available_after(&pods, &wants).into_iter().chain(waits);
        Ok(Outcome::again(times.min()))
    }
}

impl DaemonSetController {
    /// Leaves failed daemons alone whose node has a pause; returns when the first of those is over.
    fn wait_for_failed(&self, plan: &mut Plan, set: &str, now: Timestamp) -> Option<Duration> {
        let mut first: Option<Duration> = None;
        let mut waiting: Vec<Arc<Pod>> = Vec::new();
        plan.ended.retain(|(node, pod)| {
            if phase(pod) != "Failed" {
                return true;
            }
            let Some(left) = self.patience.left(set, node, now) else { return true };
            first = Some(first.map_or(left, |f| f.min(left)));
            waiting.push(pod.clone());
            false
        });
        plan.delete.retain(|pod| !waiting.iter().any(|w| w.metadata.uid == pod.metadata.uid));
        first
    }
}

fn hash_of(revision: &ControllerRevision) -> &str {
    revision.metadata.labels.as_ref().and_then(|l| l.get(REVISION_LABEL)).map_or("", String::as_str)
}

fn pod_hash(pod: &Pod) -> Option<&str> {
    pod.metadata.labels.as_ref()?.get(REVISION_LABEL).map(String::as_str)
}

async fn act(cx: &Cx, set: &DaemonSet, hash: &str, plan: Plan) -> Result<(), ReconcileError> {
    for (node, pod) in &plan.ended {
        let (ns, n) = (namespace(&pod.metadata), name(&pod.metadata));
        if phase(pod) == "Failed" {
            let message = format!("Found failed daemon pod {ns}/{n} on node {node}, will try to kill it");
            cx.events.warning(set, "FailedDaemonPod", message);
        } else {
            let message =
                format!("Found succeeded daemon pod {ns}/{n} on node {node}, will try to delete it");
            cx.events.normal(set, "SucceededDaemonPod", message);
        }
    }
    create(cx, set, hash, &plan.create).await?;
    for pod in &plan.delete {
        delete(cx, set, pod).await?;
    }
    Ok(())
}

async fn create(cx: &Cx, set: &DaemonSet, hash: &str, nodes: &[String]) -> Result<(), ReconcileError> {
    let mut left = nodes;
    for batch in batches(nodes.len()) {
        let (now, later) = left.split_at(batch);
        left = later;
        let pods: Vec<Pod> = now.iter().filter_map(|node| pod_of(set, hash, node)).collect();
        let mut failure = None;
        for result in futures::future::join_all(pods.iter().map(|p| cx.client.create(p))).await {
            match result {
                Ok(pod) => {
                    let message = format!("Created pod: {}", name(&pod.metadata));
                    cx.events.normal(set, "SuccessfulCreate", message);
                }
                Err(e) if is_namespace_terminating(&e) => return Ok(()),
                Err(e) => {
                    cx.events.warning(set, "FailedCreate", format!("Error creating: {e}"));
                    failure = failure.or(Some(e));
                }
            }
        }
        if let Some(e) = failure {
            return Err(e.into());
        }
    }
    Ok(())
}

fn pod_of(set: &DaemonSet, hash: &str, node: &str) -> Option<Pod> {
    let template = &set.spec.as_ref()?.template;
    let prefix = name_prefix(name(&set.metadata));
    let mut pod = from_template(template, namespace(&set.metadata), &prefix, controller_reference(set));
    let labels = pod.metadata.labels.get_or_insert_default();
    labels.insert(REVISION_LABEL.to_owned(), hash.to_owned());
    if let Some(generation) = annotation(&set.metadata, GENERATION) {
        labels.insert(GENERATION_LABEL.to_owned(), generation.to_owned());
    }
    let spec = pod.spec.get_or_insert_default();
    tolerate(spec);
    aim(spec, node);
    Some(pod)
}

async fn delete(cx: &Cx, set: &DaemonSet, pod: &Arc<Pod>) -> Result<(), ReconcileError> {
    let (ns, n) = (namespace(&pod.metadata), name(&pod.metadata));
    match cx.client.delete::<Pod>(ns, n, Some(uid(&pod.metadata)), None).await {
        Ok(()) => {
            cx.events.normal(set, "SuccessfulDelete", format!("Deleted pod: {n}"));
            Ok(())
        }
        Err(e) if e.is_not_found() || e.is_conflict() => Ok(()),
        Err(e) => {
            cx.events.warning(set, "FailedDelete", format!("Error deleting: {e}"));
            Err(e.into())
        }
    }
}
