//! A Deployment's status: counts, and the conditions Available, Progressing and ReplicaFailure.

use std::time::Duration;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentCondition, DeploymentStatus, ReplicaSet};
use k8s_openapi::jiff::Timestamp;

use super::rolling::{Limits, desired, replicas};
use crate::controllers::machinery::meta::{name, plus_seconds, time, until};
use crate::controllers::machinery::totals::total;

/// Condition type: the rollout moves, is complete, or is stuck.
pub const PROGRESSING: &str = "Progressing";
/// Condition type: enough pods are available.
pub const AVAILABLE: &str = "Available";
/// Condition type: pods could not be made or deleted.
pub const REPLICA_FAILURE: &str = "ReplicaFailure";

/// Reason: the current ReplicaSet is complete.
pub const NEW_RS_AVAILABLE: &str = "NewReplicaSetAvailable";
/// Reason: no progress for `progressDeadlineSeconds`.
pub const TIMED_OUT: &str = "ProgressDeadlineExceeded";
/// Reason: the rollout is paused.
pub const PAUSED: &str = "DeploymentPaused";
/// Reason: it goes on after a pause.
pub const RESUMED: &str = "DeploymentResumed";

/// A condition of the status.
pub fn condition<'a>(status: &'a DeploymentStatus, kind: &str) -> Option<&'a DeploymentCondition> {
    status.conditions.as_ref()?.iter().find(|c| c.type_ == kind)
}

/// Sets a condition unless its status and reason are already so; the transition time is kept while the
/// status stays.
pub fn set_condition(status: &mut DeploymentStatus, mut new: DeploymentCondition) {
    if let Some(current) = condition(status, &new.type_) {
        if current.status == new.status && current.reason == new.reason {
            return;
        }
        if current.status == new.status {
            new.last_transition_time = current.last_transition_time.clone();
        }
    }
    remove_condition(status, &new.type_);
    status.conditions.get_or_insert_default().push(new);
}

/// Removes a condition.
pub fn remove_condition(status: &mut DeploymentStatus, kind: &str) {
    if let Some(list) = &mut status.conditions {
        list.retain(|c| c.type_ != kind);
    }
}

/// A condition that changes now.
pub fn new_condition(
    kind: &str,
    status: &str,
    reason: &str,
    message: String,
    now: Timestamp,
) -> DeploymentCondition {
    DeploymentCondition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message),
        last_update_time: Some(time(now)),
        last_transition_time: Some(time(now)),
    }
}

/// Whether the Deployment wants to be told of a stuck rollout.
pub fn has_deadline(d: &Deployment) -> bool {
    d.spec.as_ref().and_then(|s| s.progress_deadline_seconds).is_some_and(|n| n != i32::MAX)
}

/// Every pod is of the current template, and available.
pub fn is_complete(d: &Deployment, status: &DeploymentStatus) -> bool {
    let wanted = desired(d);
    status.updated_replicas.unwrap_or(0) == wanted
        && status.replicas.unwrap_or(0) == wanted
        && status.available_replicas.unwrap_or(0) == wanted
        && status.observed_generation.unwrap_or(0) >= d.metadata.generation.unwrap_or(0)
}

/// More new pods, fewer old ones, or more ready or available ones than before.
fn is_progressing(old: &DeploymentStatus, new: &DeploymentStatus) -> bool {
    let n = |v: Option<i32>| v.unwrap_or(0);
    let stale = |s: &DeploymentStatus| n(s.replicas) - n(s.updated_replicas);
    n(new.updated_replicas) > n(old.updated_replicas)
        || stale(new) < stale(old)
        || n(new.ready_replicas) > n(old.ready_replicas)
        || n(new.available_replicas) > n(old.available_replicas)
}

/// When the rollout counts as stuck, if it stays as it is; `None` where it cannot.
fn deadline(d: &Deployment, status: &DeploymentStatus) -> Option<Timestamp> {
    let progressing = condition(status, PROGRESSING)?;
    let seconds = d.spec.as_ref()?.progress_deadline_seconds?;
    progressing.last_update_time.as_ref().map(|t| plus_seconds(t.0, i64::from(seconds)))
}

fn is_timed_out(d: &Deployment, status: &DeploymentStatus, now: Timestamp) -> bool {
    let reason = condition(status, PROGRESSING).and_then(|c| c.reason.as_deref());
    match reason {
        None | Some(NEW_RS_AVAILABLE) => false,
        Some(TIMED_OUT) => true,
        Some(_) => deadline(d, status).is_some_and(|at| at < now),
    }
}

/// The counts, and whether enough pods are available.
pub fn counts(
    d: &Deployment,
    new: Option<&ReplicaSet>,
    all: &[&ReplicaSet],
    now: Timestamp,
) -> DeploymentStatus {
    let sum = |f: fn(&k8s_openapi::api::apps::v1::ReplicaSetStatus) -> i32| {
        total(all.iter().filter_map(|rs| rs.status.as_ref()).map(f))
    };
    let positive = |n: i32| (n > 0).then_some(n);
    let available = sum(|s| s.available_replicas.unwrap_or(0));
    let asked = total(all.iter().map(|rs| replicas(rs)));
    let old = d.status.clone().unwrap_or_default();
    let mut status = DeploymentStatus {
        observed_generation: d.metadata.generation,
        replicas: positive(sum(|s| s.replicas)),
        updated_replicas: positive(new.and_then(|rs| rs.status.as_ref()).map_or(0, |s| s.replicas)),
        ready_replicas: positive(sum(|s| s.ready_replicas.unwrap_or(0))),
        available_replicas: positive(available),
        unavailable_replicas: positive(asked.saturating_sub(available)),
        terminating_replicas: all
            .iter()
            .all(|rs| rs.status.as_ref().is_some_and(|s| s.terminating_replicas.is_some()))
            .then(|| sum(|s| s.terminating_replicas.unwrap_or(0))),
        collision_count: old.collision_count,
        conditions: old.conditions,
    };
    let (state, reason, message) = if available >= Limits::of(d).min_available() {
        ("True", "MinimumReplicasAvailable", "Deployment has minimum availability.")
    } else {
        ("False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability.")
    };
    set_condition(&mut status, new_condition(AVAILABLE, state, reason, message.to_owned(), now));
    status
}

/// The status during a rollout: counts, and how the rollout goes.
pub fn rollout(
    d: &Deployment,
    new: Option<&ReplicaSet>,
    all: &[&ReplicaSet],
    now: Timestamp,
) -> DeploymentStatus {
    let old = d.status.clone().unwrap_or_default();
    let mut status = counts(d, new, all, now);
    if !has_deadline(d) {
        remove_condition(&mut status, PROGRESSING);
    }
    let current = condition(&old, PROGRESSING);
    let was_complete = status.replicas == status.updated_replicas
        && current.is_some_and(|c| c.reason.as_deref() == Some(NEW_RS_AVAILABLE));
    if has_deadline(d) && !was_complete {
        let subject = match new {
            Some(rs) => format!("ReplicaSet {:?}", name(&rs.metadata)),
            None => format!("Deployment {:?}", name(&d.metadata)),
        };
        if is_complete(d, &status) {
            let message = format!("{subject} has successfully progressed.");
            set_condition(&mut status, new_condition(PROGRESSING, "True", NEW_RS_AVAILABLE, message, now));
        } else if is_progressing(&old, &status) {
            let message = format!("{subject} is progressing.");
            let mut next = new_condition(PROGRESSING, "True", "ReplicaSetUpdated", message, now);
            // Each bit of progress restarts the clock, even where neither status nor reason changes.
            if let Some(current) = current.filter(|c| c.status == "True") {
                next.last_transition_time = current.last_transition_time.clone();
            }
            remove_condition(&mut status, PROGRESSING);
            set_condition(&mut status, next);
        } else if is_timed_out(d, &status, now) {
            let message = format!("{subject} has timed out progressing.");
            set_condition(&mut status, new_condition(PROGRESSING, "False", TIMED_OUT, message, now));
        }
    }
    match replica_failure(new, all) {
        Some(failure) => set_condition(&mut status, failure),
        None => remove_condition(&mut status, REPLICA_FAILURE),
    }
    status
}

/// A ReplicaSet's failure condition, the current one's before the others'.
fn replica_failure(new: Option<&ReplicaSet>, all: &[&ReplicaSet]) -> Option<DeploymentCondition> {
    let of = |rs: &ReplicaSet| {
        let list = rs.status.as_ref()?.conditions.as_ref()?;
        let c = list.iter().find(|c| c.type_ == REPLICA_FAILURE)?;
        Some(DeploymentCondition {
            type_: c.type_.clone(),
            status: c.status.clone(),
            reason: c.reason.clone(),
            message: c.message.clone(),
            last_transition_time: c.last_transition_time.clone(),
            last_update_time: c.last_transition_time.clone(),
        })
    };
    new.and_then(of).or_else(|| all.iter().find_map(|rs| of(rs)))
}

/// The condition that says that a rollout was paused or resumed, where it has to change.
pub fn paused_condition(d: &Deployment, now: Timestamp) -> Option<DeploymentCondition> {
    if !has_deadline(d) {
        return None;
    }
    let reason = d.status.as_ref().and_then(|s| condition(s, PROGRESSING)).and_then(|c| c.reason.as_deref());
    if reason == Some(TIMED_OUT) {
        return None;
    }
    let paused = d.spec.as_ref().and_then(|s| s.paused).unwrap_or(false);
    match (paused, reason == Some(PAUSED)) {
        (true, false) => {
            Some(new_condition(PROGRESSING, "Unknown", PAUSED, "Deployment is paused".to_owned(), now))
        }
        (false, true) => {
            Some(new_condition(PROGRESSING, "Unknown", RESUMED, "Deployment is resumed".to_owned(), now))
        }
        _ => None,
    }
}

/// How long until the rollout has to be looked at again, should nothing happen.
pub fn check_again_after(d: &Deployment, status: &DeploymentStatus, now: Timestamp) -> Option<Duration> {
    let reason = condition(status, PROGRESSING).and_then(|c| c.reason.as_deref());
    if !has_deadline(d) || is_complete(d, status) || reason == Some(TIMED_OUT) {
        return None;
    }
    // One second more, because times in conditions are whole seconds.
    deadline(d, status).map(|at| until(now, at) + Duration::from_secs(1))
}
