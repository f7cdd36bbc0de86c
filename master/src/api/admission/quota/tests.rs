use serde_json::{Value, json};
use time::macros::datetime;

use super::pods::unsaid;
use super::usage::{View, counts, in_scopes, usage};
use crate::api::kinds::devices::extended::Backed;
use crate::cache::{Cache, Snapshot};
use crate::store::{Record, key};

const NOW: time::OffsetDateTime = datetime!(2026-01-01 00:01:00 UTC);

fn check(group: &str, plural: &str, object: Value, expected: Value) {
    check_in(&Snapshot::default(), group, plural, object, expected);
}

fn view_of(snapshot: &Snapshot) -> View<'_> {
    View { snapshot, backed: Backed::of(snapshot).into(), now: NOW }
}

fn check_in(snapshot: &Snapshot, group: &str, plural: &str, object: Value, expected: Value) {
    let view = view_of(snapshot);
    let got: serde_json::Map<String, Value> =
        usage(group, plural, &object, &view).into_iter().map(|(n, q)| (n, q.to_string().into())).collect();
    assert_eq!(Value::Object(got), expected, "{object}");
}

#[test]
fn objects_count_for_what_their_kind_says() {
    check("apps", "deployments", json!({}), json!({"count/deployments.apps": "1"}));
    check("", "secrets", json!({}), json!({"count/secrets": "1", "secrets": "1"}));
    check(
        "",
        "services",
        json!({"spec": {"type": "LoadBalancer", "ports": [{"port": 1}, {"port": 2}]}}),
        json!({"count/services": "1", "services": "1", "services.loadbalancers": "1", "services.nodeports": "2"}),
    );
    check(
        "",
        "services",
        json!({"spec": {"type": "LoadBalancer", "allocateLoadBalancerNodePorts": false, "ports": [{"port": 1}]}}),
        json!({"count/services": "1", "services": "1", "services.loadbalancers": "1", "services.nodeports": "0"}),
    );
    check(
        "",
        "persistentvolumeclaims",
        json!({"spec": {"storageClassName": "fast", "resources": {"requests": {"storage": "2Gi"}}}}),
        json!({"count/persistentvolumeclaims": "1", "persistentvolumeclaims": "1", "requests.storage": "2Gi",
            "fast.storageclass.storage.k8s.io/persistentvolumeclaims": "1",
            "fast.storageclass.storage.k8s.io/requests.storage": "2Gi"}),
    );
}

#[test]
fn pods_count_until_they_have_ended() {
    let pod = |status: Value, meta: Value| {
        json!({"metadata": meta, "status": status, "spec": {"containers": [{"name": "c", "resources": {
            "requests": {"cpu": "100m", "example.com/gpu": "1"}, "limits": {"memory": "1Gi"}}}]}})
    };
    let full = json!({"count/pods": "1", "pods": "1", "cpu": "100m", "requests.cpu": "100m",
        "requests.example.com/gpu": "1", "limits.memory": "1Gi"});
    let dying = |grace: i64| json!({"deletionTimestamp": "2026-01-01T00:00:00Z", "deletionGracePeriodSeconds": grace});
    check("", "pods", pod(json!({}), json!({})), full.clone());
    check("", "pods", pod(json!({"phase": "Failed"}), json!({})), json!({"count/pods": "1"}));
    check("", "pods", pod(json!({}), dying(90)), full);
    check("", "pods", pod(json!({}), dying(30)), json!({"count/pods": "1"}));
}

#[test]
fn what_a_quota_counts_must_be_said() {
    let pod = json!({"spec": {"containers": [{"name": "b"}, {"name": "a", "resources": {"requests": {"cpu": "1"}}}]}});
    let counted = ["pods", "requests.cpu", "limits.memory"].map(str::to_owned);
    assert_eq!(
        unsaid(&pod, &counted).as_deref(),
        Some("must specify limits.memory for: a,b; requests.cpu for: b")
    );
    assert_eq!(unsaid(&pod, &["pods".to_owned()]), None);
}

#[test]
fn scopes_choose_pods() {
    let quota = |scopes: Value| json!({"spec": {"scopes": scopes}});
    let ends = json!({"spec": {"activeDeadlineSeconds": 5, "containers": []}});
    let stays = json!({"spec": {"containers": [], "priorityClassName": "high"}});
    let cases = [
        (quota(json!(["Terminating"])), true, false),
        (quota(json!(["NotTerminating", "BestEffort"])), false, true),
        (quota(json!(["NotBestEffort"])), false, false),
        (
            json!({"spec": {"scopeSelector": {"matchExpressions": [
            {"scopeName": "PriorityClass", "operator": "In", "values": ["high"]}]}}}),
            false,
            true,
        ),
        (
            json!({"spec": {"scopeSelector": {"matchExpressions": [
            {"scopeName": "PriorityClass", "operator": "NotIn", "values": ["high"]}]}}}),
            true,
            false,
        ),
    ];
    for (quota, first, second) in cases {
        assert_eq!(in_scopes("", "pods", &quota, &ends), first, "{quota}");
        assert_eq!(in_scopes("", "pods", &quota, &stays), second, "{quota}");
        assert!(!in_scopes("", "services", &quota, &json!({})), "services are in no scope");
    }
    let nothing = Snapshot::default();
    let view = view_of(&nothing);
    assert!(counts("", "pods", "requests.example.com/gpu", &view));
    assert!(counts("", "pods", "requests.deviceclass.resource.kubernetes.io/gpu", &view));
    assert!(!counts("", "pods", "services", &view));
    assert!(counts("example.com", "widgets", "count/widgets.example.com", &view));
}

/// A class that names a resource, one that names none, and a pod that requests one of the former's.
fn with_classes(pod_status: Value, others: &[(&str, Value)]) -> std::sync::Arc<Snapshot> {
    let class = |name: &str, resource: Value| json!({"metadata": {"name": name, "uid": name}, "spec": {"extendedResourceName": resource}});
    let pod = json!({"metadata": {"name": "p", "namespace": "ns", "uid": "p"}, "status": pod_status,
        "spec": {"containers": [{"name": "c", "resources": {"requests": {"example.com/gpu": "1"}}}]}});
    let mut records = vec![
        (key("resource.k8s.io", "deviceclasses", "", "named"), class("named", "example.com/gpu".into())),
        (key("resource.k8s.io", "deviceclasses", "", "plain"), class("plain", Value::Null)),
        (key("", "pods", "ns", "p"), pod),
    ];
    let claim =
        |(name, claim): &(&str, Value)| (key("resource.k8s.io", "resourceclaims", "ns", name), claim.clone());
    records.extend(others.iter().map(claim));
    let cache = Cache::new();
    let records = records.into_iter().enumerate().map(|(at, (key, value))| Record {
        key,
        value: value.to_string().into(),
        trace: actors::TraceContext::default(),
        create_revision: at as u64 + 2,
        mod_revision: at as u64 + 2,
        version: 1,
    });
    cache.load(records.collect(), 9);
    cache.snapshot()
}

fn devices(requests: Value) -> Value {
    json!({"metadata": {"name": "c", "namespace": "ns"}, "spec": {"devices": {"requests": requests}}})
}

#[test]
fn claims_count_by_class() {
    let exactly = |class: &str, count: i64| json!({"name": "r", "exactly": {"deviceClassName": class, "allocationMode": "ExactCount", "count": count}});
    let snapshot = with_classes(json!({}), &[]);
    let check = |object: Value, expected: Value| {
        check_in(&snapshot, "resource.k8s.io", "resourceclaims", object, expected);
    };
    check(
        devices(json!([exactly("named", 1), exactly("named", 2), exactly("plain", 1)])),
        json!({"count/resourceclaims.resource.k8s.io": "1",
            "named.deviceclass.resource.k8s.io/devices": "3", "requests.example.com/gpu": "3",
            "requests.deviceclass.resource.kubernetes.io/named": "3",
            "plain.deviceclass.resource.k8s.io/devices": "1",
            "requests.deviceclass.resource.kubernetes.io/plain": "1"}),
    );
    let all = json!([{"name": "r", "exactly": {"deviceClassName": "plain", "allocationMode": "All"}}]);
    check(
        devices(all),
        json!({"count/resourceclaims.resource.k8s.io": "1",
            "plain.deviceclass.resource.k8s.io/devices": "32",
            "requests.deviceclass.resource.kubernetes.io/plain": "32"}),
    );
    let one = |class: &str, count: i64| json!({"name": "a", "deviceClassName": class, "allocationMode": "ExactCount", "count": count});
    let either = json!([{"name": "r", "firstAvailable": [one("plain", 2), one("plain", 5), one("x", 9)]}]);
    check(
        devices(either),
        json!({"count/resourceclaims.resource.k8s.io": "1",
            "plain.deviceclass.resource.k8s.io/devices": "5",
            "requests.deviceclass.resource.kubernetes.io/plain": "5",
            "x.deviceclass.resource.k8s.io/devices": "9",
            "requests.deviceclass.resource.kubernetes.io/x": "9"}),
    );
    let view = view_of(&snapshot);
    for (name, counted) in [
        ("count/resourceclaims.resource.k8s.io", true),
        ("x.deviceclass.resource.k8s.io/devices", true),
        ("requests.example.com/gpu", true),
        ("requests.example.com/other", false),
        ("requests.deviceclass.resource.kubernetes.io/plain", true),
        ("requests.deviceclass.resource.kubernetes.io/x", false),
        ("requests.cpu", false),
    ] {
        assert_eq!(counts("resource.k8s.io", "resourceclaims", name, &view), counted, "{name}");
    }
}

#[test]
fn what_a_claim_was_made_for_counts_once() {
    let made = |name: &str, second: u32, count: i64| {
        json!({"metadata": {"name": name, "namespace": "ns", "uid": name,
            "creationTimestamp": format!("2026-01-01T00:00:{second:02}Z"),
            "annotations": {"resource.kubernetes.io/extended-resource-claim": "true"},
            "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "p", "controller": true}]},
            "spec": {"devices": {"requests": [{"name": "r", "exactly": {"deviceClassName": "named",
                "allocationMode": "ExactCount", "count": count}}]}}})
    };
    let check = |snapshot: &Snapshot, claim: Value, left: Option<&str>| {
        let count = claim["spec"]["devices"]["requests"][0]["exactly"]["count"].to_string();
        let mut expected = json!({"count/resourceclaims.resource.k8s.io": "1",
            "named.deviceclass.resource.k8s.io/devices": count,
            "requests.deviceclass.resource.kubernetes.io/named": count});
        if let Some(left) = left {
            expected["requests.example.com/gpu"] = left.into();
        }
        check_in(snapshot, "resource.k8s.io", "resourceclaims", claim, expected);
    };
    let first = made("c", 1, 1);
    let says = |claim: &str| json!({"extendedResourceClaimStatus": {"resourceClaimName": claim}});
    let alone = with_classes(json!({}), &[("c", first.clone())]);
    check(&alone, first.clone(), None);
    check(&alone, made("c", 1, 3), Some("2"));
    check(&alone, made("d", 2, 1), Some("1"));
    check(&with_classes(says("c"), &[]), first.clone(), None);
    check(&with_classes(says("d"), &[]), first.clone(), Some("1"));
    check(&with_classes(json!({"phase": "Succeeded"}), &[]), first.clone(), Some("1"));
    let mut by_hand = first;
    by_hand["metadata"]["annotations"] = json!({});
    check(&alone, by_hand, Some("1"));
}
