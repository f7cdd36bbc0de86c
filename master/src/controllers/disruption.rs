//! PodDisruptionBudgets: how many pods of an application may be evicted now.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::{Pod, ReplicationController};
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use k8s_openapi::jiff::Timestamp;

use super::deployment::rolling::resolve;
use super::machinery::labels::{selector_option, shown};
use super::machinery::meta::{controller_of, is_deleting, name, namespace, plus_seconds, time, until};
use super::machinery::pods::is_ready;
use super::machinery::totals::total;
use super::machinery::watches::{key_of, mapped, own};
use super::machinery::{Cx, Key, Outcome, ReconcileError, Reconciler, Watch};
use crate::api::custom::Catalog;

/// An eviction that was allowed, but whose pod is still there after this long, did not happen.
const DISRUPTION_SECONDS: i64 = 120;

/// The controller.
pub struct DisruptionController;

impl Reconciler for DisruptionController {
    const NAME: &'static str = "disruption";
    const ACCOUNT: &'static str = "disruption-controller";
    const COMPONENT: &'static str = "controllermanager";
    const RESOURCE: &'static str = "poddisruptionbudgets";

    fn watches(&self) -> Vec<Watch> {
        let of_pods = |change: &crate::cache::Change, cache: &crate::cache::Cache| {
            let budgets = cache.list::<PodDisruptionBudget>(&change.stored.meta.namespace);
            let concerned = budgets.iter().filter(|b| {
                let selector = selector_option(b.spec.as_ref().and_then(|s| s.selector.as_ref()));
                change
                    .previous
                    .iter()
                    .chain([&change.stored])
                    .any(|p| selector.matches_by(|k| p.meta.labels.get(k)))
            });
            concerned.map(|b| Key::of(&b.metadata)).collect()
        };
        // A change of size is a change of what is expected; which budgets it concerns, its pods tell.
        let of_sizes = |change: &crate::cache::Change, cache: &crate::cache::Cache| {
            let snapshot = cache.snapshot();
            let all = snapshot.list("policy", "poddisruptionbudgets", &change.stored.meta.namespace);
            all.map(|s| key_of(s)).collect()
        };
        vec![
            own::<PodDisruptionBudget>(),
            mapped::<Pod>(of_pods),
            mapped::<Deployment>(of_sizes),
            mapped::<StatefulSet>(of_sizes),
            mapped::<ReplicationController>(of_sizes),
        ]
    }

    async fn reconcile(&self, cx: &Cx, key: &Key) -> Result<Outcome, ReconcileError> {
        let Some(budget) = cx.cache.get::<PodDisruptionBudget>(&key.namespace, &key.name) else {
            return Ok(Outcome::DONE);
        };
        if is_deleting(&budget.metadata) {
            return Ok(Outcome::DONE);
        }
        let selector = selector_option(budget.spec.as_ref().and_then(|s| s.selector.as_ref()));
        let snapshot = cx.cache.snapshot();
        let pods: Vec<Arc<Pod>> = snapshot
            .list("", "pods", &key.namespace)
            .filter(|p| selector.matches_by(|k| p.meta.labels.get(k)))
            .filter_map(|p| p.typed::<Pod>().ok())
            .collect();
        if pods.is_empty() {
            cx.events.normal(&*budget, "NoPods", "No matching pods found");
        }
        if let Some(message) = unmanaged(&budget, &pods) {
            cx.events.warning(&*budget, "UnmanagedPods", message);
        }
        let sizes = |pod: &Pod| size_of_owner(cx, pod);
        let (status, again) = match decide(&budget, &pods, sizes, cx.now) {
            Ok(decided) => decided,
            Err(why) => {
                cx.events.warning(
                    &*budget,
                    "CalculateExpectedPodCountFailed",
                    format!("Failed to calculate the number of expected pods: {why}"),
                );
                let mut status = budget.status.clone().unwrap_or_default();
                status.disruptions_allowed = Some(0);
                set_condition(None, &mut status, "SyncFailed", &why, cx.now);
                (status, None)
            }
        };
        if budget.status.as_ref() != Some(&status) {
            let mut next = (*budget).clone();
            next.status = Some(status);
            cx.client.update_status(&next).await?;
        }
        Ok(Outcome::again(again))
    }
}

/// The owner by which a pod counts, and how many pods that wants: the Deployment behind a ReplicaSet, or the
/// controller itself. `None` for a pod that nobody manages.
fn size_of_owner(cx: &Cx, pod: &Pod) -> Option<Result<(String, i32), String>> {
    let owner = controller_of(&pod.metadata)?;
    let ns = namespace(&pod.metadata);
    let size = |uid: &str, n: Option<i32>| Some(Ok((uid.to_owned(), n.unwrap_or(1))));
    match owner.kind.as_str() {
        "ReplicaSet" => {
            let set = cx.cache.get::<ReplicaSet>(ns, &owner.name)?;
            let of = controller_of(&set.metadata).filter(|o| o.kind == "Deployment");
            match of.and_then(|o| cx.cache.get::<Deployment>(ns, &o.name)) {
                Some(d) => size(
                    &d.metadata.uid.clone().unwrap_or_default(),
                    d.spec.as_ref().and_then(|s| s.replicas),
                ),
                None => size(&owner.uid, set.spec.as_ref().and_then(|s| s.replicas)),
            }
        }
        "ReplicationController" => {
            let rc = cx.cache.get::<ReplicationController>(ns, &owner.name)?;
            size(&owner.uid, rc.spec.as_ref().and_then(|s| s.replicas))
        }
        "StatefulSet" => {
            let set = cx.cache.get::<StatefulSet>(ns, &owner.name)?;
            size(&owner.uid, set.spec.as_ref().and_then(|s| s.replicas))
        }
        kind => {
            let catalog = cx.cache.derived::<Catalog>();
            let what = catalog.by_kind(&owner.api_version, kind).map_or_else(
                || kind.to_lowercase(),
                |resource| protocol::error::qualified(resource.group, resource.plural),
            );
            Some(Err(format!("{what} does not implement the scale subresource")))
        }
    }
}

/// The status that a budget should have, and when to look again. Pure.
fn decide(
    budget: &PodDisruptionBudget,
    pods: &[Arc<Pod>],
    size_of_owner: impl Fn(&Pod) -> Option<Result<(String, i32), String>>,
    now: Timestamp,
) -> Result<(PodDisruptionBudgetStatus, Option<Duration>), String> {
    let spec = budget.spec.clone().unwrap_or_default();
    let count = |n: usize| i32::try_from(n).unwrap_or(i32::MAX);
    let by_owners = || -> Result<i32, String> {
        let mut owners: BTreeMap<String, i32> = BTreeMap::new();
        for pod in pods {
            match size_of_owner(pod) {
                Some(Ok((uid, size))) => drop(owners.insert(uid, size)),
                Some(Err(why)) => return Err(why),
                None => {}
            }
        }
        Ok(total(owners.values().copied()))
    };
    let (expected, desired) = if let Some(max) = &spec.max_unavailable {
        let expected = by_owners()?;
        let max =
            resolve(max, expected, true).ok_or("maxUnavailable is neither a number nor a percentage")?;
        (expected, (expected - max).max(0))
    } else if let Some(min) = &spec.min_available {
        match min {
            IntOrString::Int(n) => (count(pods.len()), *n),
            percent => {
                let expected = by_owners()?;
                let min = resolve(percent, expected, true)
                    .ok_or("minAvailable is neither a number nor a percentage")?;
                (expected, min)
            }
        }
    } else {
        (count(pods.len()), 0)
    };

    // Evictions that were allowed and have not shown yet.
    let mut disrupted: BTreeMap<String, Time> = BTreeMap::new();
    let mut again: Option<Duration> = None;
    let old = budget.status.clone().unwrap_or_default();
    for (pod, since) in old.disrupted_pods.iter().flatten() {
        let Some(found) = pods.iter().find(|p| name(&p.metadata) == pod) else { continue };
        let expires = plus_seconds(since.0, DISRUPTION_SECONDS);
        if !is_deleting(&found.metadata) && expires > now {
            disrupted.insert(pod.clone(), since.clone());
            let left = until(now, expires);
            again = Some(again.map_or(left, |a| a.min(left)));
        }
    }
    let healthy = pods
        .iter()
        .filter(|p| !is_deleting(&p.metadata) && is_ready(p) && !disrupted.contains_key(name(&p.metadata)));
    let healthy = count(healthy.count());
    let allowed = if expected <= 0 || healthy <= desired { 0 } else { healthy - desired };
    let mut status = PodDisruptionBudgetStatus {
        current_healthy: Some(healthy),
        desired_healthy: Some(desired),
        expected_pods: Some(expected),
        disruptions_allowed: Some(allowed),
        disrupted_pods: (!disrupted.is_empty()).then_some(disrupted),
        observed_generation: budget.metadata.generation,
        conditions: old.conditions,
    };
    let reason = if allowed > 0 { "SufficientPods" } else { "InsufficientPods" };
    set_condition(budget.metadata.generation, &mut status, reason, "", now);
    Ok((status, again))
}

/// What is said of pods that nobody manages, where a budget needs to know how many there should be.
fn unmanaged(budget: &PodDisruptionBudget, pods: &[Arc<Pod>]) -> Option<String> {
    let spec = budget.spec.as_ref()?;
    let counts =
        spec.max_unavailable.is_none() && !matches!(spec.min_available, Some(IntOrString::String(_)));
    if counts || !pods.iter().any(|pod| controller_of(&pod.metadata).is_none()) {
        return None;
    }
    Some(format!(
        "Pods selected by this PodDisruptionBudget (selector: {}) were found to be unmanaged. As a result, the status \
         of the PDB cannot be calculated correctly, which may result in undefined behavior. To account for these pods \
         please set \".spec.minAvailable\" field of the PDB to an integer value.",
        shown(spec.selector.as_ref())
    ))
}

fn set_condition(
    generation: Option<i64>,
    status: &mut PodDisruptionBudgetStatus,
    reason: &str,
    message: &str,
    now: Timestamp,
) {
    let state = if reason == "SufficientPods" { "True" } else { "False" };
    let list = status.conditions.get_or_insert_default();
    let since = list.iter().find(|c| c.type_ == "DisruptionAllowed" && c.status == state);
    let condition = Condition {
        type_: "DisruptionAllowed".to_owned(),
        status: state.to_owned(),
        reason: reason.to_owned(),
        message: message.to_owned(),
        observed_generation: generation,
        last_transition_time: since.map_or_else(|| time(now), |c| c.last_transition_time.clone()),
    };
    list.retain(|c| c.type_ != "DisruptionAllowed");
    list.push(condition);
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn check(spec: Value, ready: usize, unready: usize, size: i32, expected: (i32, i32, i32, i32)) {
        let budget: PodDisruptionBudget =
            serde_json::from_value(json!({"metadata": {"name": "b", "generation": 1}, "spec": spec}))
                .unwrap();
        let pod = |n: usize| {
            let status = if n < ready { "True" } else { "False" };
            Arc::new(
                serde_json::from_value::<Pod>(json!({"metadata": {"name": n.to_string()}, "status":
                    {"phase": "Running", "conditions": [{"type": "Ready", "status": status}]}}))
                .unwrap(),
            )
        };
        let pods: Vec<_> = (0..ready + unready).map(pod).collect();
        let owner = |_: &Pod| Some(Ok(("d".to_owned(), size)));
        let (s, _) = decide(&budget, &pods, owner, Timestamp::UNIX_EPOCH).unwrap();
        let n = |v: Option<i32>| v.unwrap();
        let got = (n(s.current_healthy), n(s.desired_healthy), n(s.expected_pods), n(s.disruptions_allowed));
        assert_eq!(got, expected, "{budget:?}");
    }

    #[test]
    fn budgets_count_as_upstream() {
        check(json!({"minAvailable": 1}), 0, 0, 0, (0, 1, 0, 0));
        check(json!({"minAvailable": 1}), 3, 0, 3, (3, 1, 3, 2));
        check(json!({"minAvailable": "50%"}), 3, 0, 3, (3, 2, 3, 1));
        check(json!({"maxUnavailable": "50%"}), 2, 0, 2, (2, 1, 2, 1));
        check(json!({"maxUnavailable": 1}), 2, 1, 3, (2, 2, 3, 0));
        check(json!({"maxUnavailable": 0}), 3, 0, 3, (3, 3, 3, 0));
    }

    #[test]
    fn pods_that_nobody_manages_are_told_of_where_their_number_is_needed() {
        let budget = |spec: Value| -> PodDisruptionBudget {
            serde_json::from_value(json!({"metadata": {"name": "b"}, "spec": spec})).unwrap()
        };
        let pod = |owners: Value| {
            Arc::new(
                serde_json::from_value::<Pod>(json!({"metadata": {"name": "p", "ownerReferences": owners}}))
                    .unwrap(),
            )
        };
        let owner = json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": "1", "controller": true}]);
        for (spec, owners, told) in [
            (json!({"maxUnavailable": 1}), json!([]), true),
            (json!({"minAvailable": "50%"}), json!([]), true),
            (json!({"minAvailable": 1}), json!([]), false),
            (json!({"maxUnavailable": 1}), owner, false),
        ] {
            assert_eq!(unmanaged(&budget(spec.clone()), &[pod(owners)]).is_some(), told, "{spec}");
        }
    }
}
