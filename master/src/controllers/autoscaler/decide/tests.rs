use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use super::super::metrics::{Goal, Sample, propose};
use super::*;

fn hpa(spec: Value) -> HorizontalPodAutoscaler {
    let mut all = json!({"metadata": {"name": "h"}, "spec": {"minReplicas": 2, "maxReplicas": 10,
        "scaleTargetRef": {"kind": "Deployment", "name": "d"}}});
    for (key, value) in spec.as_object().unwrap() {
        all["spec"][key] = value.clone();
    }
    serde_json::from_value(all).unwrap()
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

#[test]
fn sizes_stay_within_bounds_and_rates() {
    for (spec, current, proposed, expected, reason) in [
        (json!({}), 3, 4, 4, "DesiredWithinRange"),
        (json!({}), 3, 9, 6, "ScaleUpLimit"),
        (json!({}), 8, 20, 10, "TooManyReplicas"),
        (json!({}), 3, 1, 2, "TooFewReplicas"),
        (json!({"behavior": {"scaleDown": {"selectPolicy": "Disabled"}}}), 5, 2, 5, "ScaleDownLimit"),
        (
            json!({"behavior": {"scaleUp": {"policies": [{"type": "Pods", "value": 1, "periodSeconds": 60}]}}}),
            3,
            9,
            4,
            "ScaleUpLimit",
        ),
    ] {
        let mut conditions = Vec::new();
        let got =
            settle(&hpa(spec.clone()), &mut Memory::default(), current, proposed, &mut conditions, at(0));
        let limited = conditions.iter().find(|c| c.type_ == "ScalingLimited").and_then(|c| c.reason.clone());
        assert_eq!((got, limited.as_deref()), (expected, Some(reason)), "{spec} {current} {proposed}");
    }
}

#[test]
fn a_lower_recommendation_waits() {
    let (hpa, mut memory, mut conditions) = (hpa(json!({})), Memory::default(), Vec::new());
    assert_eq!(settle(&hpa, &mut memory, 5, 5, &mut conditions, at(0)), 5);
    assert_eq!(settle(&hpa, &mut memory, 5, 3, &mut conditions, at(60)), 5);
    assert_eq!(conditions[0].reason.as_deref(), Some("ScaleDownStabilized"));
    assert_eq!(settle(&hpa, &mut memory, 5, 3, &mut conditions, at(301)), 3);
}

fn pod(name: &str, phase: &str) -> Arc<Pod> {
    Arc::new(
        serde_json::from_value(json!({"metadata": {"name": name},
            "spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "100m"}}}]},
            "status": {"phase": phase, "startTime": at(-3600), "conditions": [
                {"type": "Ready", "status": "True", "lastTransitionTime": at(-3500)}]}}))
        .unwrap(),
    )
}

#[test]
fn use_calls_for_pods() {
    let check =
        |pods: &[Arc<Pod>], used: &[(&str, i64)], goal: Goal, current, expected: Result<i32, &str>| {
            let sample = |milli| Sample { milli, at: at(0), window: SignedDuration::from_secs(30) };
            let samples: BTreeMap<String, Sample> =
                used.iter().map(|(n, m)| ((*n).to_owned(), sample(*m))).collect();
            let got = propose(pods, samples, "cpu", None, &goal, current, at(0)).map(|p| p.replicas);
            assert_eq!(got.as_ref().map_err(String::as_str).copied(), expected, "{used:?} {goal:?}");
        };
    let two = [pod("a", "Running"), pod("b", "Running")];
    check(&two, &[("a", 90), ("b", 90)], Goal::Utilization(50), 2, Ok(4));
    check(&two, &[("a", 52), ("b", 52)], Goal::Utilization(50), 2, Ok(2));
    check(&two, &[("a", 10), ("b", 10)], Goal::Utilization(50), 2, Ok(1));
    check(&two, &[("a", 200), ("b", 200)], Goal::Average(100), 2, Ok(4));
    check(&two, &[("a", 10)], Goal::Utilization(50), 2, Ok(2));
    check(
        &two,
        &[],
        Goal::Utilization(50),
        2,
        Err("did not receive metrics for targeted pods (pods might be unready)"),
    );
    let pending = [pod("a", "Running"), pod("b", "Pending")];
    check(&pending, &[("a", 90)], Goal::Utilization(50), 2, Ok(2));
}
