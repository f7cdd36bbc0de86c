//! Jobs that bound the failures of each index (`backoffLimitPerIndex`): which indexes have failed for good, and which
//! are to be tried again, when. Pure.
//!
//! How often an index failed stands in its present pod, which got it from the one before. So the last failed pod of
//! an index that has no other keeps its finalizer until there is one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::batch::v1::JobSpec;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;

use super::backoff::{ended, pause_after};
use super::decide::index_of;
use super::failure_policy::{self, Verdict};
use super::indexes::Indexes;
use crate::controllers::machinery::meta::{annotation, uid};

/// Annotation: how often the index failed before, so that it counts.
pub const COUNTED: &str = "batch.kubernetes.io/job-index-failure-count";
/// Annotation: how often it failed before, and a policy said that it does not count.
pub const IGNORED: &str = "batch.kubernetes.io/job-index-ignored-failure-count";

/// How often an index failed before a pod of it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Failures {
    /// Those that count.
    pub counted: i32,
    /// Those that a policy ignores.
    pub ignored: i32,
}

impl Failures {
    /// What a pod says.
    pub fn of(pod: &Pod) -> Failures {
        let read =
            |name| annotation(&pod.metadata, name).and_then(|text| text.parse().ok()).unwrap_or(0).max(0);
        Failures { counted: read(COUNTED), ignored: read(IGNORED) }
    }

    fn total(self) -> i32 {
        self.counted.saturating_add(self.ignored)
    }
}

/// What is known of a Job's indexes.
#[derive(Clone, Debug, Default)]
pub struct PerIndex {
    /// Those that are not tried again.
    pub failed: Indexes,
    /// The last failed pod of each that is.
    again: BTreeMap<i32, Arc<Pod>>,
}

impl PerIndex {
    /// Looks at the pods that ended without success and are not accounted for, `lost`. `before` are the indexes that
    /// had failed earlier; those that are `done` or have an active pod need no other.
    pub fn of(
        spec: &JobSpec,
        before: &str,
        lost: &[Arc<Pod>],
        done: &Indexes,
        active: &BTreeSet<i32>,
    ) -> Option<PerIndex> {
        let (limit, completions) = (spec.backoff_limit_per_index?, spec.completions?);
        let mut known = PerIndex { failed: Indexes::parse(before, completions), again: BTreeMap::new() };
        let indexed = || lost.iter().filter_map(|pod| Some((index_of(pod)?, pod)));
        let open = |index: &i32| (0..completions).contains(index) && !done.contains(*index);
        for (index, pod) in indexed().filter(|(index, _)| open(index)) {
            let fails = match failure_policy::judge(spec.pod_failure_policy.as_ref(), pod) {
                Verdict::FailIndex => true,
                Verdict::Ignore => false,
                Verdict::Count | Verdict::FailJob(_) => Failures::of(pod).counted >= limit,
            };
            if fails {
                known.failed.insert(index);
            }
        }
        for (index, pod) in indexed().filter(|(index, _)| open(index) && !active.contains(index)) {
            let rank = |pod: &Pod| (Failures::of(pod).total(), ended(pod));
            let later = known.again.get(&index).is_none_or(|other| rank(other) <= rank(pod));
            if !known.failed.contains(index) && later {
                known.again.insert(index, pod.clone());
            }
        }
        Some(known)
    }

    /// Whether a pod is kept until there is another one of its index.
    pub fn keeps(&self, pod: &Pod) -> bool {
        self.again.values().any(|kept| uid(&kept.metadata) == uid(&pod.metadata))
    }

    /// What the next pod of an index is to say.
    pub fn next(&self, spec: &JobSpec, index: i32) -> Failures {
        let Some(last) = self.again.get(&index) else { return Failures::default() };
        let mut failures = Failures::of(last);
        let ignored = failure_policy::judge(spec.pod_failure_policy.as_ref(), last) == Verdict::Ignore;
        let counter = if ignored { &mut failures.ignored } else { &mut failures.counted };
        *counter = counter.saturating_add(1);
        failures
    }

    /// How long an index still waits; nothing if its time has come.
    pub fn pause(&self, index: i32, now: Timestamp) -> Duration {
        let last = self.again.get(&index);
        let ended = last.and_then(|pod| Some((ended(pod)?, Failures::of(pod).total())));
        ended.map_or(Duration::ZERO, |(at, before)| pause_after(at, before.saturating_add(1), now))
    }
}
