use serde_json::json;

use super::*;

fn pod(name: &str, patch: serde_json::Value) -> Pod {
    let mut value = json!({
        "metadata": {"name": name, "uid": name, "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"nodeName": "n1", "containers": []},
        "status": {"phase": "Running", "conditions": [
            {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:01:00Z"}]},
    });
    merge(&mut value, patch);
    serde_json::from_value(value).unwrap()
}

fn merge(into: &mut serde_json::Value, patch: serde_json::Value) {
    match (into, patch) {
        (serde_json::Value::Object(a), serde_json::Value::Object(b)) => {
            for (k, v) in b {
                merge(a.entry(k).or_insert(serde_json::Value::Null), v);
            }
        }
        (a, b) => *a = b,
    }
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

#[test]
fn availability_waits_for_min_ready_seconds() {
    let p = pod("a", json!({}));
    assert!(is_available(&p, 0, at("2026-01-01T00:01:00Z")));
    assert!(!is_available(&p, 30, at("2026-01-01T00:01:29Z")));
    assert!(is_available(&p, 30, at("2026-01-01T00:01:30Z")));
    assert_eq!(available_at(&p, 30), Some(at("2026-01-01T00:01:30Z")));
    let unready = pod("b", json!({"status": {"conditions": [{"type": "Ready", "status": "False"}]}}));
    assert_eq!(available_at(&unready, 30), None);
}

/// The first of each pair is given up before the second.
#[test]
fn the_least_useful_pod_goes_first() {
    let unready = json!({"status": {"conditions": [{"type": "Ready", "status": "False"}]}});
    let cases = [
        ("unassigned", pod("a", json!({"spec": {"nodeName": ""}})), 0, pod("b", unready.clone()), 0),
        ("pending", pod("a", json!({"status": {"phase": "Pending"}})), 0, pod("b", unready.clone()), 0),
        ("not ready", pod("a", unready), 0, pod("b", json!({})), 9),
        (
            "cheap",
            pod("a", json!({"metadata": {"annotations": {DELETION_COST: "-1"}}})),
            0,
            pod("b", json!({})),
            9,
        ),
        ("crowded node", pod("a", json!({})), 3, pod("b", json!({})), 1),
        (
            "restarted",
            pod(
                "b",
                json!({"status": {"containerStatuses":
                [{"name": "c", "image": "", "imageID": "", "ready": true, "restartCount": 3}]}}),
            ),
            1,
            pod("a", json!({})),
            1,
        ),
        (
            "young",
            pod("b", json!({"metadata": {"creationTimestamp": "2026-01-01T09:59:00Z"}})),
            1,
            pod("a", json!({})),
            1,
        ),
        ("tie by uid", pod("a", json!({})), 1, pod("b", json!({})), 1),
    ];
    let now = at("2026-01-01T10:00:00Z");
    for (what, first, related_first, second, related_second) in &cases {
        let order = deletion_order((first, *related_first), (second, *related_second), now);
        assert_eq!(order, Ordering::Less, "{what}");
        let back = deletion_order((second, *related_second), (first, *related_first), now);
        assert_eq!(back, Ordering::Greater, "{what}, reversed");
    }
}
