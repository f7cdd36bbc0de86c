//! Jobs, whose pods end as the test says.

use serde_json::{Value, json};

use crate::client::Patch;
use crate::scene::{Scene, has_condition, is_ending, is_owned_by, name, pod_spec, uid};

/// Where an indexed job's pods say their index.
const INDEX: &str = "batch.kubernetes.io/job-completion-index";

struct Job<'a> {
    scene: &'a Scene<'a>,
    path: String,
    pods: String,
    object: Value,
}

fn made<'a>(scene: &'a Scene, more: &Value) -> Job<'a> {
    let jobs = scene.at("batch/v1", "jobs");
    let mut spec = pod_spec();
    spec["restartPolicy"] = "Never".into();
    let mut object =
        json!({"metadata": {"name": "job", "labels": {"of": "job"}}, "spec": {"template": {"spec": spec}}});
    for (field, value) in more.as_object().into_iter().flatten() {
        object["spec"][field] = value.clone();
    }
    let object = scene.create(&jobs, &object);
    Job { scene, path: format!("{jobs}/job"), pods: scene.core("pods"), object }
}

fn index(pod: &Value) -> Option<u64> {
    pod["metadata"]["annotations"][INDEX].as_str().and_then(|index| index.parse().ok())
}

/// Whether a pod has come to an end, or is about to be gone.
fn is_over(pod: &Value) -> bool {
    matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed")) || is_ending(pod)
}

impl Job<'_> {
    /// The pods that are under way.
    fn active(&self) -> Vec<Value> {
        self.scene.items(&self.pods).into_iter().filter(|pod| !is_over(pod)).collect()
    }

    /// Ends each pod as it comes, until this holds for the job. How a pod ends is a phase and an exit code; none, and
    /// it goes on.
    fn until(
        &self,
        how: impl Fn(&Value) -> Option<(&'static str, i64)>,
        expected: impl Fn(&Value) -> bool,
    ) -> Value {
        let one = |job: &Value| {
            for pod in self.active() {
                if let Some((phase, code)) = how(&pod) {
                    self.scene.pod_ended(name(&pod), phase, code);
                }
            }
            expected(job)
        };
        self.scene.until(&self.path, one)
    }
}

fn succeeds(_: &Value) -> Option<(&'static str, i64)> {
    Some(("Succeeded", 0))
}

fn complete(job: &Value) -> bool {
    has_condition(job, "Complete", "True")
}

fn failed(job: &Value) -> bool {
    has_condition(job, "Failed", "True")
}

fn reason(job: &Value, kind: &str) -> String {
    let conditions = job["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let found = conditions.iter().find(|one| one["type"] == kind);
    found.and_then(|one| one["reason"].as_str()).unwrap_or_default().to_owned()
}

pub fn runs_to_its_end(scene: &Scene) {
    let job = made(scene, &json!({"parallelism": 2, "completions": 4}));
    scene.until_items(&job.pods, |pods| pods.len() == 2);
    let seen = job.until(succeeds, complete);
    assert_eq!((&seen["status"]["succeeded"], &seen["status"]["failed"]), (&json!(4), &Value::Null));
    assert!(
        seen["status"]["completionTime"].is_string() && has_condition(&seen, "SuccessCriteriaMet", "True")
    );
    let pods = scene.items(&job.pods);
    assert_eq!(pods.len(), 4);
    assert!(pods.iter().all(|pod| is_owned_by(pod, &job.object)));
}

pub fn indexed(scene: &Scene) {
    let job = made(scene, &json!({"parallelism": 2, "completions": 4, "completionMode": "Indexed"}));
    let seen = job.until(succeeds, complete);
    assert_eq!(seen["status"]["completedIndexes"], "0-3");
    let mut indexes: Vec<_> = scene.items(&job.pods).iter().filter_map(index).collect();
    indexes.sort_unstable();
    assert_eq!(indexes, [0, 1, 2, 3]);
    for pod in scene.items(&job.pods) {
        let index = index(&pod).expect("an index");
        assert_eq!(pod["spec"]["hostname"], format!("job-{index}"));
        let env = pod["spec"]["containers"][0]["env"].as_array().cloned().unwrap_or_default();
        assert!(env.iter().any(|one| one["name"] == "JOB_COMPLETION_INDEX"), "{pod}");
    }
}

pub fn adopts_and_releases(scene: &Scene) {
    let job = made(scene, &json!({"parallelism": 2}));
    let pods = scene.until_items(&job.pods, |pods| pods.len() == 2);
    let path = format!("{}/{}", job.pods, name(&pods[0]));
    scene.api.patch(Patch::Merge, &path, &json!({"metadata": {"ownerReferences": null}})).ok();
    scene.until(&path, |pod| is_owned_by(pod, &job.object));
    scene.api.patch(Patch::Merge, &path, &json!({"metadata": {"labels": null}})).ok();
    scene.until(&path, |pod| !is_owned_by(pod, &job.object));
}

pub fn lifecycle(scene: &Scene) {
    let job = made(scene, &json!({"suspend": true, "parallelism": 1}));
    let seen = scene.until(&job.path, |job| has_condition(job, "Suspended", "True"));
    assert_eq!(seen["status"]["active"].as_u64().unwrap_or(0), 0);
    assert_eq!(scene.items(&job.pods), Vec::<Value>::new());
    let label = json!({"metadata": {"labels": {"patched": "yes"}}});
    scene.api.patch(Patch::Strategic, &job.path, &label).ok();
    scene.update(&job.path, |job| job["metadata"]["annotations"]["updated"] = "yes".into());
    scene.api.merge(&job.path, &json!({"spec": {"suspend": false}})).ok();
    let seen = scene
        .until(&job.path, |job| has_condition(job, "Suspended", "False") && job["status"]["active"] == 1);
    assert!(seen["status"]["startTime"].is_string());

    let status = format!("{}/status", job.path);
    let condition = |kind: &str| {
        json!({"type": kind, "status": "True", "reason": "ByHand", "message": "set by hand",
        "lastTransitionTime": "2026-01-01T00:00:00Z"})
    };
    let updated = scene.update(&status, |job| {
        job["status"]["conditions"].as_array_mut().expect("conditions").push(condition("Updated"));
    });
    assert!(has_condition(&updated, "Updated", "True"));
    let add = json!([{"op": "add", "path": "/status/conditions/-", "value": condition("Patched")}]);
    let patched = scene.api.patch(Patch::Json, &status, &add).ok();
    assert!(has_condition(&patched, "Patched", "True"));
    // Its pods are counted by whoever counts them, and go with it.
    let list = format!("{}?labelSelector=patched%3Dyes", scene.at("batch/v1", "jobs"));
    assert_eq!(scene.items(&list).len(), 1);
    scene
        .api
        .ask(
            reqwest::Method::DELETE,
            &list,
            &[("content-type", "application/json")],
            json!({"propagationPolicy": "Foreground"}).to_string(),
        )
        .ok();
    scene.until_gone(&job.path);
    assert_eq!(scene.items(&job.pods), Vec::<Value>::new());
}

pub fn fails_by_exit_code(scene: &Scene) {
    let rule =
        json!({"action": "FailJob", "onExitCodes": {"containerName": "c", "operator": "In", "values": [42]}});
    let job = made(
        scene,
        &json!({"parallelism": 2, "completions": 4, "backoffLimit": 9, "podFailurePolicy": {"rules": [rule]}}),
    );
    scene.until_items(&job.pods, |pods| pods.len() == 2);
    let first = name(&job.active()[0]).to_owned();
    let seen = job.until(|pod| (name(pod) == first).then_some(("Failed", 42)), failed);
    assert_eq!(reason(&seen, "Failed"), "PodFailurePolicy");
    assert!(has_condition(&seen, "FailureTarget", "True"));
}

pub fn overlooks_disruptions(scene: &Scene) {
    let rule =
        json!({"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]});
    let job = made(scene, &json!({"backoffLimit": 0, "podFailurePolicy": {"rules": [rule]}}));
    let pods = scene.until_items(&job.pods, |pods| pods.len() == 1);
    let disrupted = json!({"conditions": [{"type": "DisruptionTarget", "status": "True", "reason": "Test"}]});
    scene.pod_status(name(&pods[0]), &disrupted);
    scene.pod_ended(name(&pods[0]), "Failed", 1);
    // Another one comes, and no failure is counted.
    scene.until(&job.pods, |_| job.active().iter().any(|pod| uid(pod) != uid(&pods[0])));
    let seen = job.until(succeeds, complete);
    assert_eq!(seen["status"]["failed"].as_u64().unwrap_or(0), 0);
}

fn even_fail(pod: &Value) -> Option<(&'static str, i64)> {
    Some(if index(pod).is_some_and(|index| index.is_multiple_of(2)) {
        ("Failed", 1)
    } else {
        ("Succeeded", 0)
    })
}

pub fn limit_per_index(scene: &Scene) {
    let job = made(
        scene,
        &json!({"parallelism": 2, "completions": 4, "completionMode": "Indexed", "backoffLimitPerIndex": 0}),
    );
    let seen = job.until(even_fail, failed);
    let status = &seen["status"];
    assert_eq!((&status["failedIndexes"], &status["completedIndexes"]), (&json!("0,2"), &json!("1,3")));
    assert_eq!(
        (&status["failed"], &status["succeeded"], reason(&seen, "Failed").as_str()),
        (&json!(2), &json!(2), "FailedIndexes")
    );
}

pub fn fails_an_index(scene: &Scene) {
    let rule = json!({"action": "FailIndex", "onExitCodes": {"containerName": "c", "operator": "In", "values": [42]}});
    let job = made(
        scene,
        &json!({"parallelism": 2, "completions": 2, "completionMode": "Indexed",
        "backoffLimitPerIndex": 9, "podFailurePolicy": {"rules": [rule]}}),
    );
    let how = |pod: &Value| Some(if index(pod) == Some(0) { ("Failed", 42) } else { ("Succeeded", 0) });
    let seen = job.until(how, failed);
    let status = &seen["status"];
    assert_eq!(
        (&status["failedIndexes"], &status["completedIndexes"], &status["failed"]),
        (&json!("0"), &json!("1"), &json!(1))
    );
}

pub fn too_many_indexes(scene: &Scene) {
    let job = made(
        scene,
        &json!({"parallelism": 10, "completions": 10, "completionMode": "Indexed",
        "backoffLimitPerIndex": 0, "maxFailedIndexes": 4}),
    );
    scene.until_items(&job.pods, |pods| pods.len() == 10);
    let how = |pod: &Value| index(pod).is_some_and(|index| index % 2 == 0).then_some(("Failed", 1));
    let seen = job.until(how, failed);
    assert_eq!(reason(&seen, "Failed"), "MaxFailedIndexesExceeded");
    assert_eq!(seen["status"]["completedIndexes"], Value::Null);
    scene.until(&job.path, |job| job["status"]["active"].as_u64().unwrap_or(0) == 0);
}

pub fn succeeds_by_policy(scene: &Scene) {
    for (number, rule, ends, indexes) in [
        (0, json!({"succeededIndexes": "0-2"}), &[0, 1, 2][..], "0-2"),
        (1, json!({"succeededIndexes": "0"}), &[0], "0"),
        (2, json!({"succeededCount": 1}), &[3], "3"),
    ] {
        let completions = if number == 0 { 3 } else { 5 };
        let job = made(
            scene,
            &json!({"parallelism": completions, "completions": completions, "completionMode": "Indexed",
            "successPolicy": {"rules": [rule]}}),
        );
        scene.until_items(&job.pods, |pods| pods.len() == completions);
        let how =
            |pod: &Value| index(pod).is_some_and(|index| ends.contains(&index)).then_some(("Succeeded", 0));
        let seen = job.until(how, complete);
        assert_eq!(seen["status"]["completedIndexes"], indexes);
        let why = reason(&seen, "Complete");
        assert!(why == "SuccessPolicy" || why == "CompletionsReached" && number == 0, "{why}");
        scene.api.delete_with(&job.path, &json!({"propagationPolicy": "Foreground"})).ok();
        scene.until_gone(&job.path);
        scene.until_items(&job.pods, <[Value]>::is_empty);
    }
}
