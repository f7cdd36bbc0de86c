use serde_json::{Value, json};
use time::macros::datetime;

use super::pods::unsaid;
use super::usage::{counts, in_scopes, usage};

fn check(group: &str, plural: &str, object: Value, expected: Value) {
    let got: serde_json::Map<String, Value> =
        usage(group, plural, &object, datetime!(2026-01-01 00:01:00 UTC))
            .into_iter()
            .map(|(n, q)| (n, q.to_string().into()))
            .collect();
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
    assert!(counts("", "pods", "requests.example.com/gpu"));
    assert!(!counts("", "pods", "services"));
    assert!(counts("example.com", "widgets", "count/widgets.example.com"));
}
