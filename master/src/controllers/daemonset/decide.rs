//! Which daemons to make and delete, which to replace in a rollout, and what status follows. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::{DaemonSet, DaemonSetStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;

use super::eligible::Verdict;
use crate::controllers::deployment::rolling::resolve;
use crate::controllers::machinery::history::REVISION_LABEL;
use crate::controllers::machinery::meta::{created_second, is_deleting, name, until};
use crate::controllers::machinery::pods::{available_at, is_available, is_ready, node_name, phase};

/// A set's pods by the nodes that they are for.
pub type ByNode<'a> = BTreeMap<&'a str, Vec<&'a Arc<Pod>>>;

/// What a set wants, in the form that decisions need.
pub struct Wants<'a> {
    /// Hash of the template that pods should have.
    pub hash: &'a str,
    /// How long a pod must be ready.
    pub min_ready: i32,
    /// How many pods may be missing in a rollout.
    pub unavailable_max: i32,
    /// How many more there may be in a rollout.
    pub surge_max: i32,
    /// Pods are replaced only when somebody deletes them.
    pub on_delete: bool,
    /// Now.
    pub now: Timestamp,
}

impl<'a> Wants<'a> {
    /// Reads a set; `desired` is the number of nodes that should have a daemon.
    pub fn of(set: &DaemonSet, hash: &'a str, desired: i32, now: Timestamp) -> Self {
        let strategy = set.spec.as_ref().and_then(|s| s.update_strategy.as_ref());
        let rolling = strategy.and_then(|s| s.rolling_update.as_ref());
        let of = |v: Option<&k8s_openapi::apimachinery::pkg::util::intstr::IntOrString>| {
            v.and_then(|v| resolve(v, desired, true))
        };
        let surge = of(rolling.and_then(|r| r.max_surge.as_ref())).unwrap_or(0);
        let unavailable = of(rolling.and_then(|r| r.max_unavailable.as_ref())).unwrap_or(1);
        Wants {
            hash,
            min_ready: set.spec.as_ref().and_then(|s| s.min_ready_seconds).unwrap_or(0),
            // Something must give.
            unavailable_max: if surge == 0 && unavailable == 0 { 1 } else { unavailable },
            surge_max: surge,
            on_delete: strategy.and_then(|s| s.type_.as_deref()) == Some("OnDelete"),
            now,
        }
    }

    fn available(&self, pod: &Pod) -> bool {
        is_available(pod, self.min_ready, self.now)
    }

    fn updated(&self, pod: &Pod) -> bool {
        pod.metadata.labels.as_ref().and_then(|l| l.get(REVISION_LABEL)).is_some_and(|h| h == self.hash)
    }

    fn surges(&self) -> bool {
        !self.on_delete && self.surge_max > 0
    }
}

/// What to do.
#[derive(Debug, Default)]
pub struct Plan {
    /// Nodes that need a daemon.
    pub create: Vec<String>,
    /// Pods to delete.
    pub delete: Vec<Arc<Pod>>,
    /// Daemons that have ended and are among those to delete: node and pod.
    pub ended: Vec<(String, Arc<Pod>)>,
}

/// Bound before unbound, then the further phase, then ready, then older first.
fn oldest_first(pods: &mut [&Arc<Pod>]) {
    let stage = |p: &Pod| match phase(p) {
        "Running" => 0,
        "Unknown" => 1,
        _ => 2,
    };
    pods.sort_by_key(|p| {
        (
            node_name(p).is_empty(),
            stage(p),
            !is_ready(p),
            created_second(&p.metadata),
            name(&p.metadata).to_owned(),
        )
    });
}

/// Makes daemons where there is none and there should be one, and deletes those that should not be.
pub fn manage(nodes: &[(&str, Verdict)], by_node: &ByNode<'_>, wants: &Wants<'_>) -> Plan {
    let mut plan = Plan::default();
    for (node, verdict) in nodes {
        let pods = by_node.get(node).map(Vec::as_slice).unwrap_or_default();
        if verdict.should_run && pods.is_empty() {
            plan.create.push((*node).to_owned());
        } else if verdict.may_stay {
            keep_one(node, *verdict, pods, wants, &mut plan);
        } else {
            plan.delete.extend(pods.iter().filter(|p| !is_deleting(&p.metadata)).map(|p| (*p).clone()));
        }
    }
    // Daemons aimed at nodes that are gone will never run.
    for (node, pods) in by_node {
        if !nodes.iter().any(|(n, _)| n == node) {
            let lost = pods.iter().filter(|p| node_name(p).is_empty() && !is_deleting(&p.metadata));
            plan.delete.extend(lost.map(|p| (*p).clone()));
        }
    }
    plan
}

fn keep_one(node: &str, verdict: Verdict, pods: &[&Arc<Pod>], wants: &Wants<'_>, plan: &mut Plan) {
    let mut running: Vec<&Arc<Pod>> = Vec::new();
    for pod in pods.iter().filter(|p| !is_deleting(&p.metadata)) {
        if matches!(phase(pod), "Failed" | "Succeeded") {
            plan.ended.push((node.to_owned(), (*pod).clone()));
            plan.delete.push((*pod).clone());
        } else {
            running.push(pod);
        }
    }
    oldest_first(&mut running);
    if !wants.surges() {
        plan.delete.extend(running.iter().skip(1).map(|p| (*p).clone()));
        return;
    }
    if running.is_empty() && verdict.should_run {
        // The old one is on its way out; the new one need not wait for it.
        plan.create.push(node.to_owned());
    }
    if running.len() < 2 {
        return;
    }
    // Two may stay: the oldest of the new ones until it is available, and the oldest of the old ones.
    let (mut new, mut old) = (None, None);
    for pod in running {
        let place = if wants.updated(pod) { &mut new } else { &mut old };
        match place {
            None => *place = Some(pod),
            Some(_) => plan.delete.push(pod.clone()),
        }
    }
    if let (Some(new), Some(old)) = (new, old)
        && (!is_ready(old) || wants.available(new))
    {
        plan.delete.push(old.clone());
    }
}

/// A pod of the new template, and one of an older.
type Pair<'a> = (Option<&'a Arc<Pod>>, Option<&'a Arc<Pod>>);

/// The one pod of the new template on a node and the one of an older, `None` where there are more.
fn pair<'a>(pods: &[&'a Arc<Pod>], wants: &Wants<'_>) -> Option<Pair<'a>> {
    let (mut new, mut old) = (None, None);
    for pod in pods.iter().filter(|p| !is_deleting(&p.metadata)) {
        let place = if wants.updated(pod) { &mut new } else { &mut old };
        if place.replace(*pod).is_some() {
            return None;
        }
    }
    Some((new, old))
}

/// The next step of a rollout.
pub fn roll(by_node: &ByNode<'_>, wants: &Wants<'_>) -> Plan {
    let mut plan = Plan::default();
    if wants.on_delete {
        return plan;
    }
    if wants.surges() {
        let (mut surging, mut candidates) = (0, Vec::new());
        for (node, pods) in by_node {
            match pair(pods, wants) {
                None => surging += 1,
                Some((_, None)) => {}
                Some((None, Some(old))) if wants.available(old) => candidates.push((*node).to_owned()),
                // Nothing is lost by a second one.
                Some((None, Some(_))) => plan.create.push((*node).to_owned()),
                Some((Some(new), Some(old))) if wants.available(new) => plan.delete.push(old.clone()),
                Some((Some(_), Some(_))) => surging += 1,
            }
        }
        let room = usize::try_from(wants.surge_max - surging).unwrap_or(0);
        plan.create.extend(candidates.into_iter().take(room));
        return plan;
    }
    let (mut missing, mut candidates) = (0, Vec::new());
    for pods in by_node.values() {
        match pair(pods, wants) {
            None | Some((None, None) | (Some(_), Some(_))) => missing += 1,
            Some((Some(new), None)) if wants.available(new) => {}
            Some((Some(_), None)) => missing += 1,
            Some((None, Some(old))) if wants.available(old) => candidates.push(old.clone()),
            Some((None, Some(old))) => plan.delete.push(old.clone()),
        }
    }
    let room = usize::try_from(wants.unavailable_max - missing).unwrap_or(0);
    plan.delete.extend(candidates.into_iter().take(room));
    plan
}

/// The status that the pods make.
pub fn status(
    set: &DaemonSet,
    nodes: &[(&str, Verdict)],
    by_node: &ByNode<'_>,
    wants: &Wants<'_>,
    collisions: Option<i32>,
) -> DaemonSetStatus {
    let (mut desired, mut scheduled, mut misscheduled) = (0, 0, 0);
    let (mut ready, mut available, mut updated) = (0, 0, 0);
    for (node, verdict) in nodes {
        let mut pods = by_node.get(node).cloned().unwrap_or_default();
        if !verdict.should_run {
            misscheduled += i32::from(!pods.is_empty());
            continue;
        }
        desired += 1;
        oldest_first(&mut pods);
        let Some(pod) = pods.first() else { continue };
        scheduled += 1;
        ready += i32::from(is_ready(pod));
        available += i32::from(wants.available(pod));
        updated += i32::from(wants.updated(pod));
    }
    let some = |n: i32| (n > 0).then_some(n);
    DaemonSetStatus {
        desired_number_scheduled: desired,
        current_number_scheduled: scheduled,
        number_misscheduled: misscheduled,
        number_ready: ready,
        number_available: some(available),
        number_unavailable: some(desired - available),
        updated_number_scheduled: some(updated),
        observed_generation: set.metadata.generation,
        collision_count: collisions,
        conditions: set.status.as_ref().and_then(|s| s.conditions.clone()),
    }
}

/// How long until the next pod has been ready for long enough.
pub fn next_available_after(pods: &[Arc<Pod>], wants: &Wants<'_>) -> Option<Duration> {
    let times = pods.iter().filter_map(|p| available_at(p, wants.min_ready)).filter(|at| *at > wants.now);
    times.min().map(|at| until(wants.now, at))
}

#[cfg(test)]
mod tests;
