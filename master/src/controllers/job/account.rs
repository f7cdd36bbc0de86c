//! Accounting for ended pods: each is noted as uncounted, loses its finalizer, and only then is counted. Pure.

use std::sync::Arc;

use k8s_openapi::api::batch::v1::{Job, JobStatus, UncountedTerminatedPods};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;

use super::backoff::ended;
use super::decide::{Plan, has_finalizer, index_of, int, positive};
use super::failure_policy::{self, Verdict};
use super::indexes::Indexes;
use super::per_index::PerIndex;
use crate::controllers::machinery::meta::{is_deleting, uid};
use crate::controllers::machinery::pods::{is_active, phase};

/// Whether it is decided already how the Job ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Not yet.
    Open,
    /// It fails: pods that are taken away for it have failed.
    Failing,
    /// It succeeds: pods that are taken away for it have not failed.
    Succeeding,
}

/// What is known of a Job's pods.
pub struct Counts {
    /// Pods, or indexes, that succeeded.
    pub succeeded: i32,
    /// Pods that failed.
    pub failed: i32,
    /// Indexes that succeeded.
    pub done: Indexes,
    /// What is known of indexes, where their failures are bounded.
    pub per_index: Option<PerIndex>,
    /// When those pods ended that were not looked at before, and succeeded.
    pub now_succeeded: Vec<Timestamp>,
    /// When those ended that were not looked at before, and failed.
    pub now_failed: Vec<Timestamp>,
}

impl Counts {
    /// The indexes that need no further pod: they succeeded, or failed for good.
    pub fn settled(&self) -> Indexes {
        let failed = self.per_index.as_ref().map(|known| self.done.or(&known.failed));
        failed.unwrap_or_else(|| self.done.clone())
    }
}

/// Moves ended pods through "uncounted" into the counters. Returns the totals, uncounted ones included, and
/// the failure policy's verdict where a pod fails the whole Job.
pub fn account(
    job: &Job,
    pods: &[Arc<Pod>],
    next: &mut JobStatus,
    plan: &mut Plan,
    indexed: bool,
    only_failed: bool,
    ending: Ending,
) -> (Counts, Option<String>) {
    let spec = job.spec.clone().unwrap_or_default();
    let completions = spec.completions.unwrap_or(i32::MAX);
    let mut uncounted = next.uncounted_terminated_pods.clone().unwrap_or_default();
    let mut done = Indexes::parse(next.completed_indexes.as_deref().unwrap_or_default(), completions);
    let tracked = |id: &String| pods.iter().any(|p| uid(&p.metadata) == id && has_finalizer(p));

    // Noted earlier, and without their finalizer (or gone) by now: count them.
    let fold = |list: &mut Option<Vec<String>>| -> i32 {
        let all = list.take().unwrap_or_default();
        let (stay, count): (Vec<String>, Vec<String>) = all.into_iter().partition(|id| tracked(id));
        *list = (!stay.is_empty()).then_some(stay);
        int(count.len())
    };
    let folded = (fold(&mut uncounted.succeeded), fold(&mut uncounted.failed));
    next.failed = positive(next.failed.unwrap_or(0).saturating_add(folded.1));
    if !indexed {
        next.succeeded = positive(next.succeeded.unwrap_or(0).saturating_add(folded.0));
    }

    let lost = |pod: &Pod| {
        phase(pod) == "Failed"
            || phase(pod) != "Succeeded"
                && is_deleting(&pod.metadata)
                && (!only_failed || ending != Ending::Open)
    };
    let per_index = if indexed {
        let open = |pod: &&Arc<Pod>| has_finalizer(pod) && !is_noted(&uncounted, pod);
        let succeeded = pods.iter().filter(open).filter(|p| phase(p) == "Succeeded");
        done.extend(succeeded.filter_map(|p| index_of(p)).filter(|index| *index < completions));
        // What is taken away because the Job ends says nothing of its index.
        let own = |pod: &&Arc<Pod>| lost(pod) && (ending == Ending::Open || phase(pod) == "Failed");
        let lost: Vec<Arc<Pod>> = pods.iter().filter(open).filter(own).cloned().collect();
        let active = pods.iter().filter(|p| is_active(p)).filter_map(|p| index_of(p)).collect();
        PerIndex::of(&spec, next.failed_indexes.as_deref().unwrap_or_default(), &lost, &done, &active)
    } else {
        None
    };
    let mut verdict = None;
    let (mut now_succeeded, mut now_failed) = (Vec::new(), Vec::new());
    for pod in pods.iter().filter(|p| has_finalizer(p)) {
        if is_noted(&uncounted, pod) {
            plan.release.push(pod.clone());
            continue;
        }
        let id = uid(&pod.metadata).to_owned();
        if phase(pod) == "Succeeded" {
            now_succeeded.extend(ended(pod));
            // The set of indexes is the counter itself: an index needs no note.
            if !indexed || index_of(pod).is_none() {
                uncounted.succeeded.get_or_insert_default().push(id);
            }
            plan.release.push(pod.clone());
        } else if lost(pod) {
            let judged = failure_policy::judge(spec.pod_failure_policy.as_ref(), pod);
            let ignored = judged == Verdict::Ignore;
            if let Verdict::FailJob(message) = judged {
                verdict.get_or_insert(message);
            }
            now_failed.extend(ended(pod));
            if ending == Ending::Open && per_index.as_ref().is_some_and(|known| known.keeps(pod)) {
                continue;
            }
            if !ignored && (ending != Ending::Succeeding || phase(pod) == "Failed") {
                uncounted.failed.get_or_insert_default().push(id);
            }
            plan.release.push(pod.clone());
        }
    }
    if indexed {
        let text = done.to_string();
        next.completed_indexes = (!text.is_empty()).then_some(text);
        next.succeeded = positive(done.count());
    }
    if let Some(known) = &per_index {
        next.failed_indexes = Some(known.failed.to_string());
    }
    let waiting = |list: &Option<Vec<String>>| int(list.as_ref().map_or(0, Vec::len));
    let counts = Counts {
        succeeded: next.succeeded.unwrap_or(0).saturating_add(if indexed {
            0
        } else {
            waiting(&uncounted.succeeded)
        }),
        failed: next.failed.unwrap_or(0).saturating_add(waiting(&uncounted.failed)),
        done,
        per_index,
        now_succeeded,
        now_failed,
    };
    next.uncounted_terminated_pods = Some(uncounted);
    (counts, verdict)
}

/// Whether a pod's end is noted, and not counted yet.
fn is_noted(uncounted: &UncountedTerminatedPods, pod: &Pod) -> bool {
    let noted = [&uncounted.succeeded, &uncounted.failed].into_iter().flatten().flatten();
    noted.into_iter().any(|id| id == uid(&pod.metadata))
}
