use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::per_index::COUNTED;
use super::*;

/// A Job with its pods, and a clock.
struct World {
    job: Job,
    pods: Vec<Pod>,
    streak: Option<Streak>,
    now: Timestamp,
    serial: usize,
}

impl World {
    fn new(spec: Value) -> Self {
        let mut base = json!({"parallelism": 1, "completions": 1, "backoffLimit": 6, "template":
            {"spec": {"restartPolicy": "Never", "containers": []}}});
        for (k, v) in spec.as_object().unwrap() {
            base[k] = v.clone();
        }
        let job = json!({"metadata": {"name": "j", "namespace": "d", "uid": "j"}, "spec": base});
        World {
            job: serde_json::from_value(job).unwrap(),
            pods: Vec::new(),
            streak: None,
            now: "2026-01-01T00:00:00Z".parse().unwrap(),
            serial: 0,
        }
    }

    fn wait(&mut self, seconds: i64) {
        self.now = plus_seconds(self.now, seconds);
    }

    fn step(&mut self) -> Plan {
        let pods: Vec<Arc<Pod>> = self.pods.iter().cloned().map(Arc::new).collect();
        let plan = decide(&self.job, &pods, self.streak, self.now);
        self.streak = plan.streak;
        if let Some(status) = &plan.status {
            self.job.status = Some(status.clone());
        }
        let release = |pods: &mut Vec<Pod>, pod: &Pod| {
            let found = pods.iter_mut().find(|p| p.metadata.uid == pod.metadata.uid).unwrap();
            found.metadata.finalizers = None;
        };
        for pod in &plan.release {
            release(&mut self.pods, pod);
        }
        for (pod, uncounted) in &plan.delete {
            if *uncounted {
                release(&mut self.pods, pod);
            }
            let found = self.pods.iter_mut().find(|p| p.metadata.uid == pod.metadata.uid).unwrap();
            found.metadata.deletion_timestamp = Some(time(self.now));
        }
        // What is deleted and held by nothing is gone.
        self.pods.retain(|p| !is_deleting(&p.metadata) || p.metadata.finalizers.is_some());
        for wanted in &plan.create {
            self.serial += 1;
            let failures = wanted.failures.map(|failures| failures.counted.to_string());
            let annotations =
                wanted.index.map(|i| json!({INDEX: i.to_string(), COUNTED: failures.unwrap_or_default()}));
            let pod = json!({"metadata": {"name": format!("p{}", self.serial), "uid": format!("p{}", self.serial),
                "finalizers": [TRACKING], "annotations": annotations, "creationTimestamp": time(self.now)},
                "status": {"phase": "Running"}});
            self.pods.push(serde_json::from_value(pod).unwrap());
        }
        plan
    }

    fn rest(&mut self) {
        for _ in 0..20 {
            let plan = self.step();
            let still = plan.status.is_none() && plan.release.is_empty() && plan.delete.is_empty();
            if still && plan.create.is_empty() {
                return;
            }
        }
        panic!("does not come to rest: {:#?}", self.job.status);
    }

    fn end(&mut self, at: usize, phase: &str) {
        let now = time(self.now);
        let pod = self.pods.iter_mut().filter(|p| is_active(p)).nth(at).unwrap();
        let status = pod.status.get_or_insert_default();
        status.phase = Some(phase.to_owned());
        status.container_statuses = Some(vec![
            serde_json::from_value(json!({"name": "c", "image": "", "imageID": "",
            "ready": false, "restartCount": 0, "state": {"terminated": {"exitCode": 1, "finishedAt": now}}}))
            .unwrap(),
        ]);
    }

    /// Somebody takes an active pod away.
    fn take_away(&mut self, at: usize) {
        let now = time(self.now);
        let pod = self.pods.iter_mut().filter(|p| is_active(p)).nth(at).unwrap();
        pod.metadata.deletion_timestamp = Some(now);
    }

    /// Ends the active pod of an index.
    fn end_index(&mut self, index: i32, phase: &str) {
        let active = self.pods.iter().filter(|p| is_active(p));
        let at = active.filter_map(index_of).position(|other| other == index).unwrap();
        self.end(at, phase);
    }

    fn active(&self) -> usize {
        self.pods.iter().filter(|p| is_active(p)).count()
    }

    fn status(&self) -> &JobStatus {
        self.job.status.as_ref().unwrap()
    }

    fn reason(&self, kind: &str) -> Option<&str> {
        let mut all = self.status().conditions.iter().flatten();
        all.find(|c| c.type_ == kind && c.status == "True").and_then(|c| c.reason.as_deref())
    }
}

#[test]
fn a_job_completes() {
    let mut w = World::new(json!({"completions": 3, "parallelism": 2}));
    w.rest();
    assert_eq!((w.active(), w.status().active, w.status().ready), (2, Some(2), Some(0)));
    w.end(0, "Succeeded");
    w.rest();
    assert_eq!((w.active(), w.status().succeeded), (2, Some(1)));
    w.end(0, "Succeeded");
    w.rest();
    w.end(0, "Succeeded");
    w.rest();
    assert_eq!((w.active(), w.status().succeeded), (0, Some(3)));
    assert_eq!(w.reason("Complete"), Some("CompletionsReached"));
    assert!(w.status().completion_time.is_some() && w.status().active.is_none());
    assert!(w.pods.iter().all(|p| !has_finalizer(p)));
}

#[test]
fn a_pod_that_was_taken_away_is_replaced_after_a_while() {
    let mut w = World::new(json!({}));
    w.rest();
    w.take_away(0);
    w.rest();
    assert_eq!((w.active(), w.pods.len(), w.status().failed), (0, 0, Some(1)));
    assert_eq!(w.step().again_after, Some(Duration::from_secs(10)));
    w.wait(10);
    w.rest();
    assert_eq!(w.active(), 1);
    w.take_away(0);
    w.rest();
    assert_eq!(w.step().again_after, Some(Duration::from_secs(20)));
}

#[test]
fn failures_back_off_and_then_fail_the_job() {
    let mut w = World::new(json!({"backoffLimit": 1}));
    w.rest();
    w.end(0, "Failed");
    w.rest();
    assert_eq!((w.active(), w.status().failed), (0, Some(1)));
    assert_eq!(w.step().again_after, Some(Duration::from_secs(10)));
    w.wait(10);
    w.rest();
    assert_eq!(w.active(), 1);
    w.end(0, "Failed");
    w.rest();
    assert_eq!((w.reason("Failed"), w.status().failed), (Some("BackoffLimitExceeded"), Some(2)));
    w.wait(100);
    w.rest();
    assert_eq!(w.active(), 0);
}

#[test]
fn a_late_job_fails_and_its_pods_go() {
    let mut w = World::new(json!({"activeDeadlineSeconds": 60, "parallelism": 2, "completions": 5}));
    w.rest();
    assert_eq!(w.step().again_after, Some(Duration::from_secs(60)));
    w.wait(60);
    w.rest();
    assert_eq!((w.active(), w.reason("Failed")), (0, Some("DeadlineExceeded")));
    assert_eq!(w.status().failed, Some(2), "pods that the failing Job deleted count as failed");
}

#[test]
fn suspending_takes_the_pods_and_resuming_brings_them_back() {
    let mut w = World::new(json!({"suspend": true}));
    w.rest();
    assert_eq!(
        (w.active(), w.reason("Suspended"), w.status().start_time.clone()),
        (0, Some("JobSuspended"), None)
    );
    w.job.spec.as_mut().unwrap().suspend = Some(false);
    w.rest();
    assert_eq!((w.active(), w.reason("Suspended")), (1, None));
    w.job.spec.as_mut().unwrap().suspend = Some(true);
    w.rest();
    assert_eq!((w.active(), w.status().failed), (0, None), "pods taken by suspending are no failures");
}

#[test]
fn indexed_jobs_run_each_index() {
    let mut w = World::new(json!({"completionMode": "Indexed", "completions": 3, "parallelism": 2}));
    w.rest();
    let indexes = |w: &World| w.pods.iter().filter(|p| is_active(p)).filter_map(index_of).collect::<Vec<_>>();
    assert_eq!(indexes(&w), [0, 1]);
    w.end(1, "Succeeded");
    w.rest();
    assert_eq!((indexes(&w), w.status().completed_indexes.as_deref()), (vec![0, 2], Some("1")));
    w.end(0, "Failed");
    w.wait(10);
    w.rest();
    assert!(indexes(&w).contains(&0), "a failed index is tried again");
    while w.active() > 0 {
        w.end(0, "Succeeded");
        w.wait(1000);
        w.rest();
    }
    assert_eq!((w.status().completed_indexes.as_deref(), w.status().succeeded), (Some("0-2"), Some(3)));
    assert_eq!(w.reason("Complete"), Some("CompletionsReached"));
}

#[test]
fn an_index_that_fails_too_often_is_given_up() {
    let mut w = World::new(json!({"completionMode": "Indexed", "completions": 3, "parallelism": 3,
        "backoffLimitPerIndex": 1, "backoffLimit": i32::MAX}));
    w.rest();
    w.end_index(0, "Failed");
    w.rest();
    assert_eq!((w.active(), w.status().failed), (2, None), "it is kept until there is another");
    assert_eq!(w.step().again_after, Some(Duration::from_secs(10)));
    w.wait(10);
    w.rest();
    assert_eq!((w.active(), w.status().failed, w.status().failed_indexes.as_deref()), (3, Some(1), Some("")));
    w.end_index(0, "Failed");
    w.end_index(1, "Succeeded");
    w.wait(1000);
    w.rest();
    assert_eq!((w.active(), w.status().failed_indexes.as_deref()), (1, Some("0")));
    w.end_index(2, "Succeeded");
    w.rest();
    let status = w.status();
    assert_eq!(
        (status.completed_indexes.as_deref(), status.failed, status.succeeded),
        (Some("1,2"), Some(2), Some(2))
    );
    assert_eq!(w.reason("Failed"), Some("FailedIndexes"));
    assert!(w.pods.iter().all(|p| !has_finalizer(p)));
}

#[test]
fn too_many_failed_indexes_fail_the_job() {
    let mut w = World::new(json!({"completionMode": "Indexed", "completions": 4, "parallelism": 4,
        "backoffLimitPerIndex": 0, "maxFailedIndexes": 1, "backoffLimit": i32::MAX}));
    w.rest();
    w.end_index(0, "Failed");
    w.rest();
    assert_eq!((w.active(), w.reason("Failed")), (3, None));
    w.end_index(2, "Failed");
    w.step();
    assert_eq!(w.status().failed_indexes.as_deref(), Some("0,2"));
    assert_eq!(w.reason("FailureTarget"), Some("MaxFailedIndexesExceeded"));
    w.rest();
    assert_eq!((w.active(), w.reason("Failed")), (0, Some("MaxFailedIndexesExceeded")));
}

#[test]
fn a_policy_fails_an_index_at_once() {
    let mut w = World::new(json!({"completionMode": "Indexed", "completions": 2, "parallelism": 2,
        "backoffLimitPerIndex": 5, "backoffLimit": i32::MAX, "podFailurePolicy": {"rules": [
            {"action": "FailIndex", "onExitCodes": {"operator": "In", "values": [1]}}]}}));
    w.rest();
    w.end_index(1, "Failed");
    w.wait(1000);
    w.rest();
    assert_eq!((w.active(), w.status().failed_indexes.as_deref()), (1, Some("1")));
}

#[test]
fn a_success_policy_ends_the_job_before_its_time() {
    let mut w = World::new(json!({"completionMode": "Indexed", "completions": 3, "parallelism": 3,
        "successPolicy": {"rules": [{"succeededIndexes": "1"}]}}));
    w.rest();
    w.end_index(0, "Succeeded");
    w.rest();
    assert_eq!((w.active(), w.reason("SuccessCriteriaMet")), (2, None));
    w.end_index(1, "Succeeded");
    w.rest();
    assert_eq!((w.active(), w.reason("Complete")), (0, Some("SuccessPolicy")));
    assert_eq!(w.status().completed_indexes.as_deref(), Some("0,1"));
    assert_eq!(w.status().failed, None, "what success takes away has not failed");
}

#[test]
fn what_an_end_takes_away_says_nothing_of_its_index() {
    let mut w = World::new(json!({"completionMode": "Indexed", "completions": 3, "parallelism": 3,
        "backoffLimitPerIndex": 0, "maxFailedIndexes": 0}));
    w.rest();
    w.end_index(1, "Failed");
    w.rest();
    assert_eq!((w.active(), w.reason("Failed")), (0, Some("MaxFailedIndexesExceeded")));
    assert_eq!((w.status().failed_indexes.as_deref(), w.status().failed), (Some("1"), Some(3)));
}

#[test]
fn a_policy_fails_the_job_at_once() {
    let mut w = World::new(json!({"podFailurePolicy": {"rules": [
        {"action": "FailJob", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}]}}));
    w.rest();
    w.end(0, "Failed");
    let status = w.pods[0].status.as_mut().unwrap();
    status.conditions =
        serde_json::from_value(json!([{"type": "DisruptionTarget", "status": "True"}])).unwrap();
    w.rest();
    assert_eq!(w.reason("Failed"), Some("PodFailurePolicy"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// However pods end, every one is counted exactly once, never too many run, and the Job ends.
    #[test]
    fn every_pod_is_counted_once(
        completions in 1i32..6, parallelism in 1i32..5, indexed in any::<bool>(),
        ends in proptest::collection::vec((0usize..5, 0u8..100), 60),
    ) {
        let mode = if indexed { "Indexed" } else { "NonIndexed" };
        let mut w = World::new(json!({"completions": completions, "parallelism": parallelism, "backoffLimit": 4,
            "completionMode": mode}));
        w.rest();
        let (mut succeeded, mut failed) = (0, 0);
        for (which, dice) in ends {
            prop_assert!(w.active() as i32 <= parallelism.min(completions - succeeded));
            if w.active() == 0 {
                break;
            }
            let good = dice < 75;
            w.end(which % w.active(), if good { "Succeeded" } else { "Failed" });
            if good { succeeded += 1 } else { failed += 1 }
            let still_active = w.active() as i32;
            if dice % 3 == 0 {
                w.wait(1000);
            }
            w.rest();
            w.wait(1000);
            w.rest();
            if failed > 4 {
                // What the failing Job deleted counts as failed too.
                failed += still_active;
                break;
            }
        }
        prop_assert!(is_over(&w.job), "{:?}", w.job.status);
        prop_assert_eq!(w.status().succeeded.unwrap_or(0), succeeded);
        prop_assert_eq!(w.status().failed.unwrap_or(0), failed);
    }
}
