use serde_json::{Value, json};

use super::*;

fn state(value: Value) -> ContainerStatus {
    serde_json::from_value(json!({"name": "c", "image": "", "imageID": "", "ready": false, "restartCount": 0,
        "state": value}))
    .unwrap()
}

fn run() -> ContainerStatus {
    state(json!({"running": {}}))
}

fn end(code: i32) -> ContainerStatus {
    state(json!({"terminated": {"exitCode": code}}))
}

fn wait() -> ContainerStatus {
    state(json!({"waiting": {"reason": "ContainerCreating"}}))
}

fn crashed() -> ContainerStatus {
    let mut status = state(json!({"waiting": {"reason": "CrashLoopBackOff"}}));
    status.last_state = end(1).state;
    status.restart_count = 3;
    status
}

#[test]
fn phases() {
    let plain: Container = serde_json::from_value(json!({"name": "i"})).unwrap();
    let sidecar: Container = serde_json::from_value(json!({"name": "s", "restartPolicy": "Always"})).unwrap();
    for (policy, init, main, ended, wanted) in [
        ("Always", vec![], vec![wait()], false, "Pending"),
        ("Always", vec![], vec![run(), wait()], false, "Pending"),
        ("Always", vec![], vec![run(), run()], false, "Running"),
        ("Always", vec![], vec![crashed()], false, "Running"),
        ("Always", vec![], vec![end(0)], false, "Running"),
        ("OnFailure", vec![], vec![end(0), run()], false, "Running"),
        ("OnFailure", vec![], vec![end(0), end(0)], false, "Succeeded"),
        ("OnFailure", vec![], vec![end(1)], false, "Running"),
        ("Never", vec![], vec![end(0), end(1)], false, "Failed"),
        ("Always", vec![], vec![end(0)], true, "Succeeded"),
        ("Always", vec![], vec![end(143)], true, "Failed"),
        ("Always", vec![(&plain, run())], vec![wait()], false, "Pending"),
        ("Never", vec![(&plain, end(1))], vec![wait()], false, "Failed"),
        ("Always", vec![(&plain, crashed())], vec![wait()], false, "Pending"),
        ("Always", vec![(&plain, end(0)), (&sidecar, run())], vec![run()], false, "Running"),
        ("Always", vec![(&sidecar, wait())], vec![wait()], false, "Pending"),
    ] {
        let (specs, statuses): (Vec<_>, Vec<_>) = init.into_iter().map(|(c, s)| (c.clone(), s)).unzip();
        let found = phase(policy, &specs, &statuses, &main, ended);
        assert_eq!(found, wanted, "{policy} {statuses:?} {main:?} {ended}");
    }
}

#[test]
fn durations_read_as_go_writes_them() {
    for (seconds, wanted) in [(10, "10s"), (80, "1m20s"), (300, "5m0s")] {
        assert_eq!(go_duration(Duration::from_secs(seconds)), wanted);
    }
}

#[test]
fn conditions_keep_their_time_and_others_stay() {
    let early = Time(k8s_openapi::jiff::Timestamp::UNIX_EPOCH);
    let late = Time(k8s_openapi::jiff::Timestamp::from_second(60).unwrap());
    let old = vec![
        PodCondition {
            last_transition_time: Some(early.clone()),
            ..condition("Ready", true, "", String::new())
        },
        PodCondition {
            last_transition_time: Some(early.clone()),
            ..condition("example.com/gate", true, "", String::new())
        },
    ];
    let new =
        vec![condition("Ready", true, "", String::new()), condition("Initialized", true, "", String::new())];
    let merged = merge_conditions(Some(old), new, Some(3), &late);
    let times: Vec<_> =
        merged.iter().map(|c| (c.type_.as_str(), c.last_transition_time.clone().unwrap())).collect();
    assert_eq!(times, [("Ready", early.clone()), ("Initialized", late), ("example.com/gate", early)]);
    assert_eq!(merged[0].observed_generation, Some(3));
}

#[test]
fn what_others_say_of_claims_of_devices_stays() {
    let said = json!({"phase": "Pending", "resourceClaimStatuses": [{"name": "x", "resourceClaimName": "p-x-1"}],
        "extendedResourceClaimStatus": {"resourceClaimName": "p-e-1", "requestMappings": [
            {"containerName": "c", "resourceName": "example.com/gpu", "requestName": "container-0-request-0"}]}});
    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c"}]}, "status": said});
    let pod: Pod = serde_json::from_value(pod).unwrap();
    let (observed, health) = (Observed::default(), Health::default());
    let facts = super::Facts {
        engine: "docker",
        observed: &observed,
        health: &health,
        errors: &BTreeMap::new(),
        backing_off: &BTreeMap::new(),
        last_words: &BTreeMap::new(),
        image_ids: &BTreeMap::new(),
        ips: &[],
        host_ips: &[],
        ended: false,
        verdict: None,
    };
    let made = status(&pod, &facts, &Time(k8s_openapi::jiff::Timestamp::UNIX_EPOCH));
    let made = serde_json::to_value(made).unwrap();
    for field in ["resourceClaimStatuses", "extendedResourceClaimStatus"] {
        assert_eq!(made[field], said[field], "{field}");
    }
}
