//! How many pods to make, which to delete, and what status follows. Pure; shared by ReplicaSets and
//! ReplicationControllers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::ReplicaSetCondition;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;

use crate::controllers::machinery::labels::{Labels, Selector, selects};
use crate::controllers::machinery::meta::{time, until};
use crate::controllers::machinery::pods::{
    BURST_PODS_MAX, available_at, count_by_node, deletion_order, is_available, is_ready, node_name,
};

/// What to do about the number of pods.
#[derive(Debug, PartialEq)]
pub enum Change {
    /// Enough.
    Nothing,
    /// Make so many.
    Create(usize),
    /// Delete these, in this order.
    Delete(Vec<Arc<Pod>>),
}

/// Compares the active pods with the wanted number. `related` are all pods of the owner's own owner, so
/// that nodes crowded by a whole Deployment give up pods first.
pub fn change(active: &[Arc<Pod>], wanted: i32, related: &[Arc<Pod>], now: Timestamp) -> Change {
    let wanted = usize::try_from(wanted).unwrap_or(0);
    if active.len() < wanted {
        return Change::Create((wanted - active.len()).min(BURST_PODS_MAX));
    }
    let surplus = (active.len() - wanted).min(BURST_PODS_MAX);
    if surplus == 0 {
        return Change::Nothing;
    }
    let by_node: BTreeMap<&str, usize> = count_by_node(related.iter().map(AsRef::as_ref));
    let rank = |pod: &Pod| by_node.get(node_name(pod)).copied().unwrap_or(0);
    let mut order: Vec<Arc<Pod>> = active.to_vec();
    if surplus < active.len() {
        order.sort_by(|a, b| deletion_order((a, rank(a)), (b, rank(b)), now));
    }
    order.truncate(surplus);
    Change::Delete(order)
}

/// Sizes of the batches in which `count` pods are made: 1, 2, 4, …; a batch with a failure is the last, so
/// that a quota or a broken admission plugin is not asked five hundred times.
pub fn batches(count: usize) -> impl Iterator<Item = usize> {
    let mut left = count;
    let mut size = 1;
    std::iter::from_fn(move || {
        let batch = size.min(left);
        left -= batch;
        size *= 2;
        (batch > 0).then_some(batch)
    })
}

/// The status that ReplicaSets and ReplicationControllers share.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Status {
    /// Active pods.
    pub replicas: i32,
    /// Those with every label of the template.
    pub fully_labeled: i32,
    /// Those that are ready.
    pub ready: i32,
    /// Those that have been ready for long enough.
    pub available: i32,
    /// Pods on their way out.
    pub terminating: i32,
    /// Generation that this status is about.
    pub observed_generation: Option<i64>,
    /// Conditions, ReplicaFailure among them.
    pub conditions: Vec<ReplicaSetCondition>,
}

/// What went wrong while pods were made or deleted.
#[derive(Clone, Debug)]
pub struct Failure {
    /// `FailedCreate` or `FailedDelete`.
    pub reason: &'static str,
    /// The first error's text.
    pub message: String,
}

/// Counts the pods, and keeps the failure condition.
pub fn status(
    active: &[Arc<Pod>],
    terminating: usize,
    template_labels: Option<&Labels>,
    min_ready_seconds: i32,
    mut conditions: Vec<ReplicaSetCondition>,
    failure: Option<Failure>,
    now: Timestamp,
) -> Status {
    let template = template_labels.map_or_else(Selector::default, Selector::from_map);
    let count = |test: &dyn Fn(&Pod) -> bool| int(active.iter().filter(|p| test(p)).count());
    let at = conditions.iter().position(|c| c.type_ == "ReplicaFailure");
    match (failure, at) {
        (Some(failure), None) => conditions.push(ReplicaSetCondition {
            type_: "ReplicaFailure".to_owned(),
            status: "True".to_owned(),
            reason: Some(failure.reason.to_owned()),
            message: Some(failure.message),
            last_transition_time: Some(time(now)),
        }),
        (None, Some(at)) => drop(conditions.remove(at)),
        _ => {}
    }
    Status {
        replicas: int(active.len()),
        fully_labeled: count(&|p| selects(&template, p.metadata.labels.as_ref())),
        ready: count(&is_ready),
        available: count(&|p| is_available(p, min_ready_seconds, now)),
        terminating: int(terminating),
        observed_generation: None,
        conditions,
    }
}

/// When the next ready pod becomes available, should nothing else happen.
pub fn next_available_after(active: &[Arc<Pod>], min_ready_seconds: i32, now: Timestamp) -> Option<Duration> {
    let soonest =
        active.iter().filter_map(|p| available_at(p, min_ready_seconds)).filter(|at| *at > now).min();
    soonest.map(|at| until(now, at))
}

fn int(n: usize) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(name: &str, node: &str, ready: bool) -> Arc<Pod> {
        let status = if ready { "True" } else { "False" };
        Arc::new(
            serde_json::from_value(json!({
                "metadata": {"name": name, "uid": name, "labels": {"app": "web"}},
                "spec": {"containers": [], "nodeName": node},
                "status": {"phase": "Running", "conditions":
                    [{"type": "Ready", "status": status, "lastTransitionTime": "2026-01-01T00:00:10Z"}]},
            }))
            .unwrap(),
        )
    }

    fn at(second: i64) -> Timestamp {
        "2026-01-01T00:00:00Z".parse::<Timestamp>().unwrap() + std::time::Duration::from_secs(second as u64)
    }

    #[test]
    fn the_number_of_pods_is_kept() {
        let pods = [pod("a", "n1", true), pod("b", "n1", false), pod("c", "n2", true)];
        assert_eq!(change(&pods, 3, &pods, at(60)), Change::Nothing);
        assert_eq!(change(&pods, 5, &pods, at(60)), Change::Create(2));
        assert_eq!(change(&pods, 100_000, &pods, at(60)), Change::Create(BURST_PODS_MAX));
        assert_eq!(change(&pods, 2, &pods, at(60)), Change::Delete(vec![pods[1].clone()]));
        // n1 still holds two of the family, so its ready pod goes before n2's.
        let Change::Delete(gone) = change(&pods, 1, &pods, at(60)) else { panic!("nothing deleted") };
        assert_eq!(gone.iter().map(|p| p.metadata.name.as_deref().unwrap()).collect::<Vec<_>>(), ["b", "a"]);
    }

    #[test]
    fn batches_double() {
        assert_eq!(batches(10).collect::<Vec<_>>(), [1, 2, 4, 3]);
        assert_eq!(batches(0).count(), 0);
    }

    #[test]
    fn status_counts_and_remembers_failure() {
        let pods = [pod("a", "n1", true), pod("b", "n1", false)];
        let labels = Labels::from([("app".to_owned(), "web".to_owned())]);
        let failure = Failure { reason: "FailedCreate", message: "no".to_owned() };
        let first = status(&pods, 1, Some(&labels), 30, Vec::new(), Some(failure), at(20));
        assert_eq!(
            (first.replicas, first.fully_labeled, first.ready, first.available, first.terminating),
            (2, 2, 1, 0, 1)
        );
        assert_eq!(first.conditions[0].reason.as_deref(), Some("FailedCreate"));
        assert_eq!(next_available_after(&pods, 30, at(20)), Some(Duration::from_secs(20)));
        let second = status(&pods, 0, Some(&labels), 30, first.conditions, None, at(40));
        assert_eq!((second.available, second.conditions.len()), (1, 0));
    }
}
