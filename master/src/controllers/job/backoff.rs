//! How long a Job waits before it replaces pods that failed. Pure.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;

use super::decide::has_finalizer;
use crate::controllers::machinery::meta::{is_deleting, plus_seconds, until};
use crate::controllers::machinery::pods::phase;

const BACKOFF_SECONDS: i64 = 10;
const BACKOFF_SECONDS_MAX: i64 = 600;

/// When a pod ended, as far as it is known.
pub fn ended(pod: &Pod) -> Option<Timestamp> {
    let statuses = pod.status.as_ref().and_then(|s| s.container_statuses.as_ref());
    let times = statuses.into_iter().flatten().filter_map(|c| {
        c.state.as_ref().and_then(|s| s.terminated.as_ref()).and_then(|t| t.finished_at.as_ref()).map(|t| t.0)
    });
    let last = times.max();
    let conditions = pod.status.as_ref().and_then(|s| s.conditions.as_ref());
    let turned =
        conditions.into_iter().flatten().filter(|c| c.type_ == "Ready" || c.type_ == "DisruptionTarget");
    let doomed = pod.metadata.deletion_timestamp.as_ref().map(|at| {
        let grace = pod.metadata.deletion_grace_period_seconds.unwrap_or(0);
        plus_seconds(at.0, -grace)
    });
    last.or_else(|| turned.filter_map(|c| c.last_transition_time.as_ref().map(|t| t.0)).max())
        .or(doomed)
        .or_else(|| pod.metadata.creation_timestamp.as_ref().map(|t| t.0))
}

/// How long to wait for another try after so many failures, the last of them then: 10 s, doubling with each.
pub fn pause_after(last: Timestamp, failures: i32, now: Timestamp) -> Duration {
    let doublings = u32::try_from(failures - 1).unwrap_or(0).min(10);
    let seconds = (BACKOFF_SECONDS << doublings).min(BACKOFF_SECONDS_MAX);
    until(now, plus_seconds(last, seconds))
}

/// How long to wait before pods that failed are replaced: 10 s, doubling with each failure since the last
/// success. One that is taken away has failed, unless `only_failed` pods count. `None` for no longer.
pub fn backoff(pods: &[Arc<Pod>], only_failed: bool, now: Timestamp) -> Option<Duration> {
    let failed = |pod: &&Arc<Pod>| match phase(pod) {
        "Failed" => true,
        "Succeeded" => false,
        _ => !only_failed && is_deleting(&pod.metadata) && has_finalizer(pod),
    };
    let last_success = pods.iter().filter(|p| phase(p) == "Succeeded").filter_map(|p| ended(p)).max();
    let failures: Vec<Timestamp> = pods
        .iter()
        .filter(failed)
        .filter_map(|p| ended(p))
        .filter(|at| last_success.is_none_or(|s| *at > s))
        .collect();
    let pause = pause_after(*failures.iter().max()?, i32::try_from(failures.len()).unwrap_or(i32::MAX), now);
    (!pause.is_zero()).then_some(pause)
}
