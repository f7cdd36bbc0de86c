use serde_json::json;

use super::*;

fn spec(resources: &[serde_json::Value]) -> PodSpec {
    let containers: Vec<_> =
        resources.iter().enumerate().map(|(n, r)| json!({"name": format!("c{n}"), "resources": r})).collect();
    serde_json::from_value(json!({"containers": containers})).unwrap()
}

#[test]
fn qos_classes() {
    let full =
        json!({"requests": {"cpu": "100m", "memory": "1Gi"}, "limits": {"cpu": "0.1", "memory": "1024Mi"}});
    let limits = json!({"limits": {"cpu": "1", "memory": "1Gi"}});
    let some = json!({"requests": {"cpu": "1"}});
    let none = json!({});
    let cases = [
        (vec![none.clone()], Qos::BestEffort),
        (vec![full.clone()], Qos::Guaranteed),
        (vec![limits.clone(), full.clone()], Qos::Guaranteed),
        (vec![full, none], Qos::Burstable),
        (vec![some], Qos::Burstable),
        (vec![json!({"limits": {"cpu": "1"}})], Qos::Burstable),
        (vec![json!({"requests": {"nvidia.com/gpu": "1"}})], Qos::BestEffort),
    ];
    for (resources, wanted) in cases {
        assert_eq!(qos(&spec(&resources)), wanted, "{resources:?}");
    }
}

#[test]
fn cgroup_numbers() {
    for (milli, wanted) in [(0, 2), (1, 2), (100, 102), (1000, 1024), (1_000_000, 262_144)] {
        assert_eq!(shares(milli), wanted, "{milli}m");
    }
    for (milli, wanted) in [(0, 0), (1, 1000), (500, 50_000), (2000, 200_000)] {
        assert_eq!(quota(milli), wanted, "{milli}m");
    }
    let gib = 1 << 30;
    for (qos, request, wanted) in [
        (Qos::Guaranteed, gib, -997),
        (Qos::BestEffort, 0, 1000),
        (Qos::Burstable, 0, 999),
        (Qos::Burstable, 2 * gib, 500),
        (Qos::Burstable, 4 * gib, 3),
    ] {
        assert_eq!(oom_score(qos, request, 4 * gib), wanted, "{qos:?} {request}");
    }
    let pod = spec(&[json!({"requests": {"cpu": "250m"}, "limits": {"cpu": "500m", "memory": "64Mi"}})]);
    let limits = limits(&pod, &pod.containers[0], 1 << 40, 7);
    assert_eq!(
        (limits.cpu_shares, limits.cpu_quota, limits.memory, limits.pids, limits.oom_score_adj),
        (256, 50_000, 64 << 20, 7, 999)
    );
    assert_eq!(cgroup("kubepods", &pod, "a-b", false), "/kubepods/burstable/poda-b");
    assert_eq!(cgroup("kubepods", &pod, "a-b", true), "kubepods-burstable-poda_b.slice");
    assert_eq!(cgroup("", &pod, "a-b", false), "");
}

#[test]
fn resource_fields_are_divided_and_rounded_up() {
    let pod = spec(&[json!({"requests": {"cpu": "250m"}, "limits": {"memory": "64Mi"}})]);
    let node = Amounts::from([("cpu".to_owned(), ApiQuantity("4".to_owned()))]);
    for (field, divisor, wanted) in [
        ("requests.cpu", "", Some("1")),
        ("requests.cpu", "1m", Some("250")),
        ("limits.memory", "1Mi", Some("64")),
        ("limits.memory", "0", Some("67108864")),
        ("limits.cpu", "1", Some("4")),
        ("requests.memory", "1", Some("0")),
        ("nonsense", "1", None),
    ] {
        let found = resource_field(&pod.containers[0], field, divisor, &node);
        assert_eq!(found.as_deref(), wanted, "{field} / {divisor}");
    }
}
