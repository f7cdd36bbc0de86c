//! How long a Job waits before it replaces pods that failed. Pure.

use std::time::Duration;

use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use k8s_openapi::jiff::Timestamp;

use crate::controllers::machinery::meta::{plus_seconds, until};

const BACKOFF_SECONDS: i64 = 10;
const BACKOFF_SECONDS_MAX: i64 = 600;

/// When a pod ended, as far as it is known: with its last container, or when it was no longer ready, or when it was taken
/// away.
pub fn ended(pod: &Pod) -> Option<Timestamp> {
    let turned = || {
        let conditions = pod.status.as_ref()?.conditions.as_ref()?;
        let unready = conditions.iter().find(|c| c.type_ == "Ready").filter(|c| c.status == "False")?;
        unready.last_transition_time.as_ref().map(|at| at.0)
    };
    let doomed = || {
        let at = pod.metadata.deletion_timestamp.as_ref()?;
        Some(plus_seconds(at.0, -pod.metadata.deletion_grace_period_seconds.unwrap_or(0)))
    };
    containers_ended(pod)
        .or_else(turned)
        .or_else(doomed)
        .or_else(|| pod.metadata.creation_timestamp.as_ref().map(|t| t.0))
}

/// When the last container ended; none while one of them has not. Sidecars end after the others.
fn containers_ended(pod: &Pod) -> Option<Timestamp> {
    let status = pod.status.as_ref()?;
    let spec = pod.spec.as_ref();
    let inits = spec.and_then(|s| s.init_containers.as_ref()).into_iter().flatten();
    let sidecars: Vec<&str> =
        inits.filter(|c| c.restart_policy.as_deref() == Some("Always")).map(|c| c.name.as_str()).collect();
    let of_sidecar = |status: &&ContainerStatus| sidecars.contains(&status.name.as_str());
    let all = status.container_statuses.iter().flatten();
    let all = all.chain(status.init_container_statuses.iter().flatten().filter(of_sidecar));
    let times: Option<Vec<Timestamp>> =
        all.map(|c| Some(c.state.as_ref()?.terminated.as_ref()?.finished_at.as_ref()?.0)).collect();
    times?.into_iter().max()
}

/// How long to wait for another try after so many failures, the last of them then: 10 s, doubling with each.
pub fn pause_after(last: Timestamp, failures: i32, now: Timestamp) -> Duration {
    let doublings = u32::try_from(failures - 1).unwrap_or(0).min(10);
    let seconds = (BACKOFF_SECONDS << doublings).min(BACKOFF_SECONDS_MAX);
    until(now, plus_seconds(last, seconds))
}

/// A Job's failures since its last success. The pods that failed may be gone by now: it has to be remembered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Streak {
    failures: i32,
    last: Option<Timestamp>,
}

impl Streak {
    /// What it is after further pods have ended, then.
    pub fn after(self, succeeded: &[Timestamp], failed: &[Timestamp]) -> Streak {
        let success = succeeded.iter().max();
        let later = || failed.iter().filter(|at| success.is_none_or(|success| *at > success));
        let before = if success.is_some() { Streak::default() } else { self };
        Streak {
            failures: before.failures.saturating_add(i32::try_from(later().count()).unwrap_or(i32::MAX)),
            last: later().max().copied().or(before.last),
        }
    }

    /// How long to wait before pods that failed are replaced. `None` for no longer.
    pub fn pause(self, now: Timestamp) -> Option<Duration> {
        let pause = pause_after(self.last?, self.failures, now);
        (!pause.is_zero()).then_some(pause)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).expect("a time")
    }

    #[test]
    fn failures_since_the_last_success_count() {
        for (before, succeeded, failed, wanted) in [
            (Streak::default(), vec![], vec![], None),
            (Streak::default(), vec![], vec![100], Some(10)),
            (Streak::default(), vec![], vec![90, 100], Some(20)),
            (Streak { failures: 2, last: Some(at(80)) }, vec![], vec![100], Some(40)),
            (Streak { failures: 2, last: Some(at(95)) }, vec![], vec![], Some(15)),
            (Streak { failures: 2, last: Some(at(95)) }, vec![96], vec![], None),
            (Streak { failures: 2, last: Some(at(95)) }, vec![96], vec![90, 99], Some(9)),
            (Streak { failures: 40, last: Some(at(95)) }, vec![], vec![100], Some(600)),
            (Streak::default(), vec![], vec![90], None),
        ] {
            let times = |all: &[i64]| all.iter().map(|s| at(*s)).collect::<Vec<_>>();
            let after = before.after(&times(&succeeded), &times(&failed));
            let pause = after.pause(at(100)).map(|pause| pause.as_secs());
            assert_eq!(pause, wanted, "{before:?} {succeeded:?} {failed:?}");
        }
    }

    #[test]
    fn a_pod_ends_with_its_last_container() {
        let state = |name: &str, ended: Option<i64>| -> Value {
            let time = |seconds| at(seconds).to_string();
            let state = match ended {
                Some(seconds) => json!({"terminated": {"exitCode": 0, "finishedAt": time(seconds)}}),
                None => json!({"running": {}}),
            };
            json!({"name": name, "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": state})
        };
        let pod = |containers: Value, inits: Value, ready: &str| -> Pod {
            serde_json::from_value(json!({
                "metadata": {"creationTimestamp": at(1).to_string(), "deletionTimestamp": at(100).to_string(),
                    "deletionGracePeriodSeconds": 30},
                "spec": {"containers": [], "initContainers": [
                    {"name": "init"}, {"name": "side", "restartPolicy": "Always"},
                ]},
                "status": {"containerStatuses": containers, "initContainerStatuses": inits,
                    "conditions": [{"type": "Ready", "status": ready, "lastTransitionTime": at(50).to_string()}]},
            }))
            .expect("a pod")
        };
        for (containers, inits, ready, wanted) in [
            (
                json!([state("a", Some(10)), state("b", Some(20))]),
                json!([state("init", Some(99))]),
                "False",
                20,
            ),
            (json!([state("a", Some(10))]), json!([state("side", Some(30))]), "False", 30),
            (json!([state("a", Some(10)), state("b", None)]), json!([]), "False", 50),
            (json!([]), json!([]), "True", 70),
        ] {
            assert_eq!(ended(&pod(containers.clone(), inits, ready)), Some(at(wanted)), "{containers}");
        }
    }
}
