//! What controllers read from pods: readiness, availability, activity, and the order in which a
//! ReplicaSet gives pods up.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Pod, PodCondition, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use super::meta::{annotation, created_second, is_deleting, plus_seconds, time};

/// Most pods that one reconcile makes or deletes. The rest once these are seen.
pub const BURST_PODS_MAX: usize = 500;
/// Annotation by which a user says which pods to give up first.
pub const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// The pod's phase, empty before the first status.
pub fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|s| s.phase.as_deref()).unwrap_or_default()
}

/// The node that the pod is bound to; empty for none.
pub fn node_name(pod: &Pod) -> &str {
    pod.spec.as_ref().and_then(|s| s.node_name.as_deref()).unwrap_or_default()
}

/// A status condition of the pod.
pub fn condition<'a>(pod: &'a Pod, kind: &str) -> Option<&'a PodCondition> {
    pod.status.as_ref()?.conditions.as_ref()?.iter().find(|c| c.type_ == kind)
}

/// Whether the `Ready` condition is true.
pub fn is_ready(pod: &Pod) -> bool {
    condition(pod, "Ready").is_some_and(|c| c.status == "True")
}

/// Whether the pod has ended for good.
pub fn is_finished(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

/// Neither ended nor being deleted.
pub fn is_active(pod: &Pod) -> bool {
    !is_finished(pod) && !is_deleting(&pod.metadata)
}

/// Being deleted but not ended yet.
pub fn is_terminating(pod: &Pod) -> bool {
    !is_finished(pod) && is_deleting(&pod.metadata)
}

/// When a pod counts, or will count, as available: ready for `min_ready_seconds`. `None` when not ready.
pub fn available_at(pod: &Pod, min_ready_seconds: i32) -> Option<Timestamp> {
    let ready = condition(pod, "Ready").filter(|c| c.status == "True")?;
    if min_ready_seconds <= 0 {
        return Some(Timestamp::MIN);
    }
    ready.last_transition_time.as_ref().map(|t| plus_seconds(t.0, i64::from(min_ready_seconds)))
}

/// Whether the pod has been ready for long enough.
pub fn is_available(pod: &Pod, min_ready_seconds: i32, now: Timestamp) -> bool {
    available_at(pod, min_ready_seconds).is_some_and(|t| t <= now)
}

fn restarts(pod: &Pod) -> i32 {
    let status = pod.status.as_ref();
    let of = |list: Option<&Vec<k8s_openapi::api::core::v1::ContainerStatus>>| {
        list.into_iter().flatten().map(|c| c.restart_count).max().unwrap_or(0)
    };
    of(status.and_then(|s| s.container_statuses.as_ref()))
        .max(of(status.and_then(|s| s.init_container_statuses.as_ref())))
}

/// The order in which pods are given up: `Less` goes first. `related` is how many pods of the same owner
/// family run on the pod's node, so that crowded nodes give up first.
pub fn deletion_order(a: (&Pod, usize), b: (&Pod, usize), now: Timestamp) -> Ordering {
    let (pa, ra) = a;
    let (pb, rb) = b;
    let assigned = |p: &Pod| !node_name(p).is_empty();
    let stage = |p: &Pod| match phase(p) {
        "Running" => 2,
        "Unknown" => 1,
        _ => 0,
    };
    let cost =
        |p: &Pod| annotation(&p.metadata, DELETION_COST).and_then(|v| v.parse::<i32>().ok()).unwrap_or(0);
    // Logarithmic ages: pods whose ages differ little count as equally old, so that the choice among them
    // is not always the same one.
    let age_rank = |second: i64| {
        let age = (now.as_second() - second).max(0);
        if age == 0 { 0 } else { 64 - i64::from(age.leading_zeros()) }
    };
    let ready_since = |p: &Pod| {
        condition(p, "Ready")
            .filter(|c| c.status == "True")
            .and_then(|c| c.last_transition_time.as_ref())
            .map_or(0, |t| t.0.as_second())
    };
    let uid = |p: &Pod| p.metadata.uid.clone().unwrap_or_default();
    assigned(pa)
        .cmp(&assigned(pb))
        .then_with(|| stage(pa).cmp(&stage(pb)))
        .then_with(|| is_ready(pa).cmp(&is_ready(pb)))
        .then_with(|| cost(pa).cmp(&cost(pb)))
        .then_with(|| rb.cmp(&ra))
        .then_with(|| {
            if is_ready(pa) && is_ready(pb) {
                age_rank(ready_since(pa)).cmp(&age_rank(ready_since(pb)))
            } else {
                Ordering::Equal
            }
        })
        .then_with(|| restarts(pb).cmp(&restarts(pa)))
        .then_with(|| age_rank(created_second(&pa.metadata)).cmp(&age_rank(created_second(&pb.metadata))))
        .then_with(|| uid(pa).cmp(&uid(pb)))
}

/// How many of `all` run on each node, for [`deletion_order`].
pub fn count_by_node<'a>(all: impl IntoIterator<Item = &'a Pod>) -> BTreeMap<&'a str, usize> {
    let mut counts = BTreeMap::new();
    for pod in all.into_iter().filter(|p| is_active(p) && !node_name(p).is_empty()) {
        *counts.entry(node_name(pod)).or_insert(0) += 1;
    }
    counts
}

/// A pod from a template: labels, annotations, finalizers and spec, owned by `owner`.
pub fn from_template(
    template: &PodTemplateSpec,
    namespace: &str,
    generate_name: &str,
    owner: OwnerReference,
) -> Pod {
    let meta = template.metadata.clone().unwrap_or_default();
    Pod {
        metadata: ObjectMeta {
            generate_name: Some(generate_name.to_owned()),
            namespace: Some(namespace.to_owned()),
            labels: meta.labels,
            annotations: meta.annotations,
            finalizers: meta.finalizers,
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        spec: template.spec.clone(),
        status: None,
    }
}

/// The prefix for generated pod names: the owner's name and a dash where that is still a valid name.
pub fn name_prefix(owner: &str) -> String {
    const NAME_BYTES_MAX: usize = 253;
    if owner.len() < NAME_BYTES_MAX { format!("{owner}-") } else { owner.to_owned() }
}

/// The strategic merge patch of a pod's status that says why it is taken away, after what is said already.
pub fn disruption(pod: &Pod, reason: &str, message: &str, now: Timestamp) -> Value {
    const KIND: &str = "DisruptionTarget";
    let said = pod.status.as_ref().and_then(|s| s.conditions.as_ref()).into_iter().flatten();
    let order = said.map(|c| c.type_.as_str()).filter(|kind| *kind != KIND).chain([KIND]);
    let order: Vec<Value> = order.map(|kind| json!({"type": kind})).collect();
    json!({"metadata": {"uid": pod.metadata.uid}, "status": {
        "$setElementOrder/conditions": order,
        "conditions": [{
            "type": KIND, "status": "True", "reason": reason, "message": message,
            "observedGeneration": pod.metadata.generation, "lastTransitionTime": time(now),
        }],
    }})
}

#[cfg(test)]
mod tests;
