//! What to do about a StatefulSet's pods, one step at a time, and what status follows. Pure.
//!
//! Pods have ordinals. In the usual, ordered mode nothing happens to a pod before all that come first are
//! ready: pods are made upwards, deleted downwards, and updated downwards, one after the other.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;

use crate::controllers::deployment::rolling::resolve;
use crate::controllers::machinery::history::REVISION_LABEL;
use crate::controllers::machinery::meta::{is_deleting, name, until};
use crate::controllers::machinery::pods::{BURST_PODS_MAX, available_at, is_available, is_ready, phase};

/// A revision by its name: the one in use, or the one to come.
#[derive(Clone, Copy, Debug)]
pub struct Revisions<'a> {
    /// What pods were made from until now.
    pub current: &'a str,
    /// What pods are to be made from.
    pub update: &'a str,
}

/// What to do.
#[derive(Debug, PartialEq)]
pub enum Step {
    /// Make the pod with this ordinal, from the update revision or the current one.
    Create {
        /// Which.
        ordinal: i32,
        /// From the revision to come.
        updated: bool,
    },
    /// Delete a pod that has ended, so that it can be made anew.
    Replace(Arc<Pod>),
    /// Delete a pod that is one too many, or of an old revision.
    Delete(Arc<Pod>),
    /// Give a pod its claims back, and nothing else yet.
    Claims(Arc<Pod>),
    /// Give a pod its identity and storage back.
    Restore(Arc<Pod>),
}

/// What follows from the pods that there are.
#[derive(Debug, Default)]
pub struct Plan {
    /// What to do, in this order.
    pub steps: Vec<Step>,
    /// Something changes after this long by itself.
    pub again_after: Option<Duration>,
}

/// The number in a pod's name; `None` where the pod is no member.
pub fn ordinal(set: &str, pod: &str) -> Option<i32> {
    let number = pod.strip_prefix(set)?.strip_prefix('-')?;
    number.bytes().all(|b| b.is_ascii_digit()).then(|| number.parse().ok())?
}

/// Pods wanted.
fn wanted(set: &StatefulSet) -> i32 {
    set.spec.as_ref().and_then(|s| s.replicas).unwrap_or(1).max(0)
}

/// The first ordinal.
fn start(set: &StatefulSet) -> i32 {
    set.spec.as_ref().and_then(|s| s.ordinals.as_ref()).and_then(|o| o.start).unwrap_or(0)
}

fn min_ready(set: &StatefulSet) -> i32 {
    set.spec.as_ref().and_then(|s| s.min_ready_seconds).unwrap_or(0)
}

/// The revision that a pod was made from.
pub fn revision_of(pod: &Pod) -> &str {
    pod.metadata.labels.as_ref().and_then(|l| l.get(REVISION_LABEL)).map_or("", String::as_str)
}

fn running_ready(pod: &Pod) -> bool {
    phase(pod) == "Running" && is_ready(pod)
}

fn running_available(pod: &Pod, min_ready: i32, now: Timestamp) -> bool {
    phase(pod) == "Running" && is_available(pod, min_ready, now)
}

/// Whether pods are made and deleted all at once.
fn is_parallel(set: &StatefulSet) -> bool {
    set.spec.as_ref().and_then(|s| s.pod_management_policy.as_deref()) == Some("Parallel")
}

/// How the set is updated: from which place on, and how many pods may be missing meanwhile.
struct Update {
    on_delete: bool,
    partition: i32,
    unavailable_max: i32,
}

fn update(set: &StatefulSet) -> Update {
    let strategy = set.spec.as_ref().and_then(|s| s.update_strategy.as_ref());
    let rolling = strategy.and_then(|s| s.rolling_update.as_ref());
    let unavailable = rolling.and_then(|r| r.max_unavailable.as_ref());
    Update {
        on_delete: strategy.and_then(|s| s.type_.as_deref()) == Some("OnDelete"),
        partition: rolling.and_then(|r| r.partition).unwrap_or(0),
        unavailable_max: unavailable.and_then(|u| resolve(u, wanted(set), false)).unwrap_or(1).max(1),
    }
}

/// Decides. `fits` says whether a pod still has the identity and storage that it should have.
pub fn plan(
    set: &StatefulSet,
    pods: &[Arc<Pod>],
    revisions: Revisions<'_>,
    fits: impl Fn(&Pod) -> bool,
    now: Timestamp,
) -> Plan {
    let mut plan = Plan::default();
    if is_deleting(&set.metadata) {
        return plan;
    }
    let (mut members, mut condemned) = (BTreeMap::new(), Vec::new());
    for pod in pods {
        let Some(ordinal) = ordinal(name(&set.metadata), name(&pod.metadata)) else { continue };
        match place(set, ordinal) {
            Some(place) => drop(members.insert(place, pod)),
            None => condemned.push((ordinal, pod)),
        }
    }
    condemned.sort_by_key(|(ordinal, _)| std::cmp::Reverse(*ordinal));
    let condemned: Vec<&Arc<Pod>> = condemned.into_iter().map(|(_, pod)| pod).collect();

    if !living(set, &members, &fits, now, &mut plan) || !surplus(set, &members, &condemned, now, &mut plan) {
        return plan;
    }
    outdated(set, &members, revisions, now, &mut plan);
    plan
}

/// The place of an ordinal among those wanted, from 0; `None` where it is not wanted.
pub fn place(set: &StatefulSet, ordinal: i32) -> Option<i32> {
    ordinal.checked_sub(start(set)).filter(|place| (0..wanted(set)).contains(place))
}

/// The pods that are there of those wanted, by their places. There may be many fewer than are wanted.
type Members<'a> = BTreeMap<i32, &'a Arc<Pod>>;

/// Makes what is missing and repairs what is there; false where the rest has to wait.
fn living(
    set: &StatefulSet,
    members: &Members<'_>,
    fits: &impl Fn(&Pod) -> bool,
    now: Timestamp,
    plan: &mut Plan,
) -> bool {
    let ordered = !is_parallel(set);
    for place in 0..wanted(set) {
        let Some(pod) = members.get(&place) else {
            // There is no pod beyond the last ordinal that there can be.
            let Some(ordinal) = start(set).checked_add(place) else { break };
            plan.steps.push(Step::Create { ordinal, updated: !needs_current(set, place) });
            // The rest once these are seen.
            if ordered || plan.steps.len() >= BURST_PODS_MAX {
                return false;
            }
            continue;
        };
        if matches!(phase(pod), "Failed" | "Succeeded") {
            if !is_deleting(&pod.metadata) {
                plan.steps.push(Step::Replace((*pod).clone()));
            }
            // Whatever comes next waits for the new one.
            if ordered {
                return false;
            }
            continue;
        }
        let ready = running_available(pod, min_ready(set), now) && !is_deleting(&pod.metadata);
        if !fits(pod) && !is_deleting(&pod.metadata) {
            // In order, a pod gets its labels back once it is ready; what it waits for are its claims.
            let step = if ready || !ordered { Step::Restore } else { Step::Claims };
            plan.steps.push(step((*pod).clone()));
        }
        if !ready {
            wait_for(pod, min_ready(set), now, plan);
            if ordered {
                return false;
            }
        }
    }
    true
}

/// Whether a new pod at a place is still made from the current revision.
fn needs_current(set: &StatefulSet, place: i32) -> bool {
    let strategy = set.spec.as_ref().and_then(|s| s.update_strategy.as_ref());
    match strategy.and_then(|s| s.rolling_update.as_ref()) {
        Some(rolling) => place < rolling.partition.unwrap_or(0),
        None if strategy.and_then(|s| s.type_.as_deref()) == Some("OnDelete") => false,
        None => place < set.status.as_ref().and_then(|s| s.current_replicas).unwrap_or(0),
    }
}

fn wait_for(pod: &Pod, min_ready: i32, now: Timestamp, plan: &mut Plan) {
    if let Some(at) = available_at(pod, min_ready).filter(|at| *at > now) {
        let left = until(now, at);
        plan.again_after = Some(plan.again_after.map_or(left, |other| other.min(left)));
    }
}

/// Deletes pods beyond the wanted number, the highest first; false where the rest has to wait.
fn surplus(
    set: &StatefulSet,
    members: &Members<'_>,
    condemned: &[&Arc<Pod>],
    now: Timestamp,
    plan: &mut Plan,
) -> bool {
    let ordered = !is_parallel(set);
    let ready = |p: &&Arc<Pod>| running_available(p, min_ready(set), now) && !is_deleting(&p.metadata);
    // The first that is not healthy may go, though those before it are not.
    let living = members.values().copied();
    let first_unhealthy = living.chain(condemned.iter().rev().copied()).find(|p| !ready(p));
    for pod in condemned {
        if is_deleting(&pod.metadata) {
            if ordered {
                return false;
            }
            continue;
        }
        let is_first = first_unhealthy.is_some_and(|p| p.metadata.uid == pod.metadata.uid);
        if ordered && !ready(pod) && !is_first {
            wait_for(pod, min_ready(set), now, plan);
            return false;
        }
        plan.steps.push(Step::Delete((*pod).clone()));
        if ordered {
            return false;
        }
    }
    true
}

/// Deletes pods of old revisions, the highest first, as far as enough others are available.
fn outdated(
    set: &StatefulSet,
    members: &Members<'_>,
    revisions: Revisions<'_>,
    now: Timestamp,
    plan: &mut Plan,
) {
    let update = update(set);
    if update.on_delete {
        return;
    }
    let available = |p: &Pod| !is_deleting(&p.metadata) && running_available(p, min_ready(set), now);
    let there = i32::try_from(members.values().filter(|p| available(p)).count()).unwrap_or(i32::MAX);
    let mut budget = update.unavailable_max.saturating_sub(wanted(set).saturating_sub(there));
    for (_, pod) in members.range(update.partition.max(0)..).rev() {
        if revision_of(pod) == revisions.update || is_deleting(&pod.metadata) {
            continue;
        }
        if !available(pod) {
            // Nothing is lost with it.
            plan.steps.push(Step::Delete((*pod).clone()));
        } else if budget > 0 {
            budget -= 1;
            plan.steps.push(Step::Delete((*pod).clone()));
        }
    }
}

/// The status that the pods make.
pub fn status(
    set: &StatefulSet,
    pods: &[Arc<Pod>],
    revisions: Revisions<'_>,
    collisions: i32,
    now: Timestamp,
) -> StatefulSetStatus {
    let before = set.status.clone().unwrap_or_default();
    let members = || pods.iter().filter(|p| ordinal(name(&set.metadata), name(&p.metadata)).is_some());
    let count = |test: &dyn Fn(&Pod) -> bool| {
        i32::try_from(members().filter(|p| test(p)).count()).unwrap_or(i32::MAX)
    };
    let of = |name: &str| count(&|p| !is_deleting(&p.metadata) && revision_of(p) == name);
    let mut current_revision = revisions.current.to_owned();
    let replicas = count(&|_| true);
    let ready = count(&running_ready);
    let available = count(&|p| running_available(p, min_ready(set), now));
    let mut current = of(revisions.current);
    let updated = of(revisions.update);
    let all = wanted(set);
    // Once everything is of the revision to come, that is the current one.
    if !update(set).on_delete && updated == all && ready == all && replicas == all {
        current = updated;
        current_revision = revisions.update.to_owned();
    }
    let some = |n: i32| (n > 0).then_some(n);
    StatefulSetStatus {
        replicas,
        ready_replicas: some(ready),
        available_replicas: Some(available),
        current_replicas: some(current),
        updated_replicas: some(updated),
        current_revision: Some(current_revision),
        update_revision: Some(revisions.update.to_owned()),
        collision_count: Some(collisions),
        observed_generation: set.metadata.generation,
        conditions: before.conditions,
    }
}

#[cfg(test)]
mod tests;
