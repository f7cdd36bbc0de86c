//! One look at a Job and its pods; what to write now. Pure.
//!
//! Every pod carries a finalizer until the Job has accounted for it: an ended pod is first noted as
//! uncounted in the status, then loses its finalizer, and only then moves into the counters. So a pod is
//! counted exactly once, wherever the controller stops in between.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::batch::v1::{Job, JobCondition, JobStatus, UncountedTerminatedPods};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;

use super::account::{Counts, Ending, account};
use super::backoff::{Streak, ended};
use super::per_index::Failures;
use super::success_policy;
use crate::controllers::machinery::meta::{annotation, is_deleting, plus_seconds, time, until};
use crate::controllers::machinery::pods::{BURST_PODS_MAX, is_active, is_finished, is_ready, phase};
use crate::controllers::machinery::totals::total;

/// The finalizer of pods that are not accounted for.
pub const TRACKING: &str = "batch.kubernetes.io/job-tracking";
/// Annotation and label with a pod's completion index.
pub const INDEX: &str = "batch.kubernetes.io/job-completion-index";

/// An event to tell.
#[derive(Clone, Debug, PartialEq)]
pub struct Tell {
    /// `Normal` or `Warning`.
    pub kind: &'static str,
    /// Reason.
    pub reason: String,
    /// Text.
    pub message: String,
}

/// A pod to make.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Its completion index, in indexed Jobs.
    pub index: Option<i32>,
    /// How often the index failed before, where that is bounded.
    pub failures: Option<Failures>,
}

/// What to write, in this order.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// The status, if it differs.
    pub status: Option<JobStatus>,
    /// Pods whose end is noted: they lose their finalizer once the status is written.
    pub release: Vec<Arc<Pod>>,
    /// Pods to delete; with `true`, uncounted (their finalizer goes first).
    pub delete: Vec<(Arc<Pod>, bool)>,
    /// Pods to make.
    pub create: Vec<Wanted>,
    /// What to tell once all is written.
    pub tell: Vec<Tell>,
    /// Look again after this long.
    pub again_after: Option<Duration>,
    /// The failures since the last success, to be remembered once the status is written.
    pub streak: Option<Streak>,
}

/// A condition of the status that is true.
pub fn is_true(status: &JobStatus, kind: &str) -> bool {
    status.conditions.iter().flatten().any(|c| c.type_ == kind && c.status == "True")
}

/// Whether the Job is over.
pub fn is_over(job: &Job) -> bool {
    job.status.as_ref().is_some_and(|s| is_true(s, "Complete") || is_true(s, "Failed"))
}

pub(super) fn has_finalizer(pod: &Pod) -> bool {
    pod.metadata.finalizers.as_ref().is_some_and(|f| f.iter().any(|f| f == TRACKING))
}

/// A pod's completion index.
pub fn index_of(pod: &Pod) -> Option<i32> {
    annotation(&pod.metadata, INDEX)?.parse().ok()
}

fn set_condition(
    status: &mut JobStatus,
    kind: &str,
    state: &str,
    reason: &str,
    message: &str,
    now: Timestamp,
) {
    let list = status.conditions.get_or_insert_default();
    if list.iter().any(|c| c.type_ == kind && c.status == state) {
        return;
    }
    list.retain(|c| c.type_ != kind);
    list.push(JobCondition {
        type_: kind.to_owned(),
        status: state.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_probe_time: Some(time(now)),
        last_transition_time: Some(time(now)),
    });
}

/// Decides the next writes. `pods` are the Job's own; `streak` is what is remembered of its failures.
pub fn decide(job: &Job, pods: &[Arc<Pod>], streak: Option<Streak>, now: Timestamp) -> Plan {
    let Some(spec) = &job.spec else { return Plan::default() };
    if is_over(job) || is_deleting(&job.metadata) {
        return let_go(job, pods);
    }
    let old = job.status.clone().unwrap_or_default();
    let mut next = old.clone();
    let mut plan = Plan::default();
    let indexed = spec.completion_mode.as_deref() == Some("Indexed");
    let suspended = spec.suspend.unwrap_or(false);
    let parallelism = spec.parallelism.unwrap_or(1).max(0);
    let only_failed = spec.pod_replacement_policy.as_deref() == Some("Failed");

    let said =
        |kind: &str| old.conditions.iter().flatten().find(|c| c.type_ == kind && c.status == "True").cloned();
    let (failing, succeeding) = (said("FailureTarget"), said("SuccessCriteriaMet"));
    let ending = match (&failing, &succeeding) {
        (Some(_), _) => Ending::Failing,
        (None, Some(_)) => Ending::Succeeding,
        (None, None) => Ending::Open,
    };
    let (counts, verdict) = account(job, pods, &mut next, &mut plan, indexed, only_failed, ending);
    let streak = match streak {
        Some(streak) => streak.after(&counts.now_succeeded, &counts.now_failed),
        None => seen(pods, only_failed),
    };
    plan.streak = Some(streak);
    let active: Vec<Arc<Pod>> = pods.iter().filter(|p| is_active(p)).cloned().collect();
    let terminating = pods.iter().filter(|p| is_deleting(&p.metadata) && !is_finished(p)).count();

    if next.start_time.is_none() && !suspended {
        next.start_time = Some(time(now));
    }
    let deadline = spec
        .active_deadline_seconds
        .filter(|_| !suspended)
        .and_then(|seconds| next.start_time.as_ref().map(|t| plus_seconds(t.0, seconds)));
    let failure = failing
        .map(|c| (c.reason.unwrap_or_default(), c.message.unwrap_or_default()))
        .or_else(|| verdict.map(|message| ("PodFailurePolicy".to_owned(), message)))
        .or_else(|| {
            let limit = spec.backoff_limit.unwrap_or(6);
            (counts.failed > limit || restarts_beyond(job, pods, limit)).then(|| {
                ("BackoffLimitExceeded".to_owned(), "Job has reached the specified backoff limit".to_owned())
            })
        })
        .or_else(|| {
            deadline.filter(|at| *at <= now).map(|_| {
                ("DeadlineExceeded".to_owned(), "Job was active longer than specified deadline".to_owned())
            })
        });
    let failure = failure.or_else(|| {
        let known = counts.per_index.as_ref()?;
        let (failed, done) = (known.failed.count(), counts.done.count());
        let of = |reason: &str, message: &str| Some((reason.to_owned(), message.to_owned()));
        if spec.max_failed_indexes.is_some_and(|most| failed > most) {
            let message = "Job has exceeded the specified maximal number of failed indexes";
            return of("MaxFailedIndexesExceeded", message);
        }
        let all = failed > 0 && spec.completions.is_some_and(|n| failed.saturating_add(done) >= n);
        if all { of("FailedIndexes", "Job has failed indexes") } else { None }
    });
    let wanted = spec.completions;
    let reached = match wanted {
        None => counts.succeeded > 0 && active.is_empty(),
        Some(n) => counts.succeeded >= n && active.is_empty(),
    };
    // What was said once holds, whatever comes of the pods that are still there.
    let success =
        succeeding.map(|c| (c.reason.unwrap_or_default(), c.message.unwrap_or_default())).or_else(|| {
            let by_policy =
                success_policy::met(spec, &counts.done).map(|why| ("SuccessPolicy".to_owned(), why));
            let all =
                || ("CompletionsReached".to_owned(), "Reached expected number of succeeded pods".to_owned());
            by_policy.filter(|_| indexed).or_else(|| reached.then(all))
        });
    let success = success.filter(|_| failure.is_none());

    if let Some((reason, message)) = &failure {
        set_condition(&mut next, "FailureTarget", "True", reason, message, now);
        plan.delete = active.iter().map(|p| (p.clone(), false)).collect();
    } else if let Some((reason, message)) = &success {
        set_condition(&mut next, "SuccessCriteriaMet", "True", reason, message, now);
        plan.delete = active.iter().map(|p| (p.clone(), false)).collect();
    } else if suspended {
        plan.delete = active.iter().map(|p| (p.clone(), true)).collect();
        if !is_true(&old, "Suspended") {
            set_condition(&mut next, "Suspended", "True", "JobSuspended", "Job suspended", now);
            plan.tell.push(normal("Suspended", "Job suspended"));
        }
        next.start_time = None;
    } else {
        if is_true(&old, "Suspended") {
            set_condition(&mut next, "Suspended", "False", "JobResumed", "Job resumed", now);
            plan.tell.push(normal("Resumed", "Job resumed"));
            next.start_time = Some(time(now));
        }
        let most = match wanted {
            None if counts.succeeded > 0 => int(active.len()),
            None => parallelism,
            Some(n) => {
                let failed = counts.per_index.as_ref().map_or(0, |known| known.failed.count());
                parallelism.min(n.saturating_sub(counts.succeeded).saturating_sub(failed).max(0))
            }
        };
        size(job, pods, &active, terminating, &counts, streak, most, indexed, only_failed, now, &mut plan);
    }

    let ready = active.iter().filter(|p| is_ready(p)).count();
    let gone = plan.delete.len();
    let left = active.len() - gone.min(active.len());
    next.active = positive(int(left));
    next.ready = Some(int(ready.min(left)));
    next.terminating = Some(int(terminating + gone));
    // The end is told only when every pod has ended and is accounted for.
    let uncounted = next.uncounted_terminated_pods.as_ref();
    let accounted = uncounted.is_none_or(|u| *u == UncountedTerminatedPods::default());
    let untracked = pods.iter().all(|p| !has_finalizer(p) || is_active(p));
    if accounted && untracked && left == 0 && gone == 0 && terminating == 0 {
        if let Some((reason, message)) = failure {
            set_condition(&mut next, "Failed", "True", &reason, &message, now);
            plan.tell.push(Tell { kind: "Warning", reason, message });
        } else if let Some((reason, message)) = success {
            set_condition(&mut next, "Complete", "True", &reason, &message, now);
            next.completion_time = Some(time(now));
            plan.tell.push(normal("Completed", "Job completed"));
        }
    } else if let Some(at) = deadline.filter(|_| failure.is_none()) {
        sooner(&mut plan.again_after, until(now, at));
    }
    if job.status.as_ref() != Some(&next) {
        plan.status = Some(next);
    }
    plan
}

/// The failures of a Job of which nothing is remembered, as far as its pods tell. One that is taken away has failed, unless
/// `only_failed` pods count.
fn seen(pods: &[Arc<Pod>], only_failed: bool) -> Streak {
    let failed = |pod: &&Arc<Pod>| match phase(pod) {
        "Failed" => true,
        "Succeeded" => false,
        _ => !only_failed && is_deleting(&pod.metadata) && has_finalizer(pod),
    };
    let succeeded: Vec<Timestamp> =
        pods.iter().filter(|pod| phase(pod) == "Succeeded").filter_map(|pod| ended(pod)).collect();
    let failed: Vec<Timestamp> = pods.iter().filter(failed).filter_map(|pod| ended(pod)).collect();
    Streak::default().after(&succeeded, &failed)
}

/// Makes or deletes pods until `most` are active.
#[allow(clippy::too_many_arguments)]
fn size(
    job: &Job,
    pods: &[Arc<Pod>],
    active: &[Arc<Pod>],
    terminating: usize,
    counts: &Counts,
    streak: Streak,
    most: i32,
    indexed: bool,
    only_failed: bool,
    now: Timestamp,
    plan: &mut Plan,
) {
    let most = usize::try_from(most).unwrap_or(0);
    let mut keep: Vec<&Arc<Pod>> = active.iter().collect();
    let settled = counts.settled();
    if indexed {
        // Pods whose index is done, taken twice or out of range have no work.
        let completions = job.spec.as_ref().and_then(|s| s.completions).unwrap_or(0);
        let mut seen = BTreeSet::new();
        keep.retain(|p| {
            let useful =
                index_of(p).is_some_and(|i| i < completions && !settled.contains(i) && seen.insert(i));
            if !useful {
                plan.delete.push(((*p).clone(), true));
            }
            useful
        });
    }
    // Those that do the least go first.
    keep.sort_by_key(|p| (is_ready(p), phase(p) == "Running"));
    while keep.len() > most && plan.delete.len() < BURST_PODS_MAX {
        plan.delete.push((keep.remove(0).clone(), true));
    }
    let held = if only_failed { terminating } else { 0 };
    let missing = most.saturating_sub(keep.len() + held).min(BURST_PODS_MAX);
    if missing == 0 || !plan.delete.is_empty() {
        return;
    }
    // Where failures are bounded by index, each index waits for itself.
    if let Some(pause) = streak.pause(now).filter(|_| counts.per_index.is_none()) {
        sooner(&mut plan.again_after, pause);
        return;
    }
    if indexed {
        let completions = job.spec.as_ref().and_then(|s| s.completions).unwrap_or(0);
        let mut taken: BTreeSet<i32> = keep.iter().filter_map(|p| index_of(p)).collect();
        if only_failed {
            taken.extend(
                pods.iter()
                    .filter(|p| is_deleting(&p.metadata) && !is_finished(p))
                    .filter_map(|p| index_of(p)),
            );
        }
        let spec = job.spec.clone().unwrap_or_default();
        for index in settled.missing(completions).filter(|index| !taken.contains(index)) {
            if plan.create.len() == missing {
                break;
            }
            let pause = counts.per_index.as_ref().map_or(Duration::ZERO, |known| known.pause(index, now));
            if pause.is_zero() {
                let failures = counts.per_index.as_ref().map(|known| known.next(&spec, index));
                plan.create.push(Wanted { index: Some(index), failures });
            } else {
                sooner(&mut plan.again_after, pause);
            }
        }
    } else {
        plan.create = vec![Wanted::default(); missing];
    }
}

/// Containers of pods that restart in place count their restarts towards the limit.
fn restarts_beyond(job: &Job, pods: &[Arc<Pod>], limit: i32) -> bool {
    let template = job.spec.as_ref().and_then(|s| s.template.spec.as_ref());
    if template.and_then(|s| s.restart_policy.as_deref()) != Some("OnFailure") {
        return false;
    }
    let statuses =
        pods.iter().filter(|p| matches!(phase(p), "Running" | "Pending")).filter_map(|p| p.status.as_ref());
    let containers = statuses.flat_map(|s| {
        s.container_statuses.iter().flatten().chain(s.init_container_statuses.iter().flatten())
    });
    let restarts = total(containers.map(|c| c.restart_count));
    if limit == 0 { restarts > 0 } else { restarts >= limit }
}

/// A Job that is over, or going, holds no pod back.
fn let_go(job: &Job, pods: &[Arc<Pod>]) -> Plan {
    let mut plan =
        Plan { release: pods.iter().filter(|p| has_finalizer(p)).cloned().collect(), ..Plan::default() };
    let mut next = job.status.clone().unwrap_or_default();
    if is_over(job) && next.active.is_some() {
        next.active = None;
        plan.status = Some(next);
    }
    plan
}

fn normal(reason: &str, message: &str) -> Tell {
    Tell { kind: "Normal", reason: reason.to_owned(), message: message.to_owned() }
}

fn sooner(at: &mut Option<Duration>, new: Duration) {
    *at = Some(at.map_or(new, |old| old.min(new)));
}

pub(super) fn positive(n: i32) -> Option<i32> {
    (n > 0).then_some(n)
}

pub(super) fn int(n: usize) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests;
