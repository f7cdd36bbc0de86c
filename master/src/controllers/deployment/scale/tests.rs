use serde_json::json;

use super::*;

fn set(name: &str, size: i32, desired: i32, max: i32, age: i32) -> ReplicaSet {
    serde_json::from_value(json!({
        "metadata": {"name": name, "uid": name, "creationTimestamp": format!("2026-01-01T00:00:{age:02}Z"),
            "annotations": {"deployment.kubernetes.io/desired-replicas": desired.to_string(),
                "deployment.kubernetes.io/max-replicas": max.to_string()}},
        "spec": {"replicas": size, "selector": {}},
        "status": {"replicas": size, "availableReplicas": 0},
    }))
    .unwrap()
}

fn deployment(replicas: i32, surge: i32) -> Deployment {
    serde_json::from_value(json!({
        "metadata": {"name": "web"},
        "spec": {"replicas": replicas, "selector": {}, "template": {},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": 1}}},
    }))
    .unwrap()
}

#[test]
fn pods_are_added_and_taken_in_proportion() {
    // Two sets half way through a rollout, 10 pods and a surge of 2; (now wanted) → (new, old).
    for (wanted, expected) in [(20, (7, 15)), (5, (2, 5)), (10, (4, 8)), (0, (0, 0))] {
        let (new, old) = (set("new", 4, 10, 12, 20), set("old", 8, 10, 12, 10));
        let got = sizes(&deployment(wanted, 2), Some(&new), &[&old]);
        let of = |name: &str| got.iter().find(|(n, _)| n == name).map(|(_, s)| *s).unwrap();
        assert_eq!((of("new"), of("old")), expected, "scaled to {wanted}");
    }
}

#[test]
fn a_single_active_set_takes_it_all() {
    let (new, old) = (set("new", 3, 3, 4, 20), set("old", 0, 3, 4, 10));
    assert_eq!(sizes(&deployment(7, 1), Some(&new), &[&old]), [("new".to_owned(), 7)]);
    assert_eq!(sizes(&deployment(7, 1), None, &[&old]), [("old".to_owned(), 7)]);
}

#[test]
fn scaling_is_seen_by_the_annotation() {
    let rs = set("new", 3, 3, 4, 20);
    assert!(!is_scaling(&deployment(3, 1), &[&rs]));
    assert!(is_scaling(&deployment(4, 1), &[&rs]));
    assert!(!is_scaling(&deployment(4, 1), &[&set("old", 0, 3, 4, 1)]));
}
