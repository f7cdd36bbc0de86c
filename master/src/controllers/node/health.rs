//! What a node's silence and its conditions mean: conditions that turn unknown, and taints. Pure.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, NodeCondition, Taint};
use k8s_openapi::jiff::Timestamp;

use crate::controllers::machinery::meta::{is_deleting, time};

/// Taint of a node whose `Ready` condition is false.
pub const NOT_READY: &str = "node.kubernetes.io/not-ready";
/// Taint of a node that is silent.
pub const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
/// Nodes with this label are kept out of what reaches a cluster from outside.
const EXCLUDED: &str = "node.kubernetes.io/exclude-from-external-load-balancers";
/// Taint of a cordoned node.
pub const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";

/// Why a condition is unknown of a node that has said something once.
pub const SILENT: &str = "NodeStatusUnknown";

/// Condition, status of it that taints, taint.
const BY_CONDITION: [(&str, &str, &str); 4] = [
    ("MemoryPressure", "True", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "True", "node.kubernetes.io/disk-pressure"),
    ("PIDPressure", "True", "node.kubernetes.io/pid-pressure"),
    ("NetworkUnavailable", "True", "node.kubernetes.io/network-unavailable"),
];

/// Conditions that a silent node no longer vouches for.
const VOUCHED: [&str; 4] = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"];

/// A condition of a node.
pub fn condition<'a>(node: &'a Node, kind: &str) -> Option<&'a NodeCondition> {
    node.status.as_ref()?.conditions.as_ref()?.iter().find(|c| c.type_ == kind)
}

/// The status of the `Ready` condition; `Unknown` where there is none.
pub fn ready(node: &Node) -> &str {
    condition(node, "Ready").map_or("Unknown", |c| c.status.as_str())
}

/// Whether traffic from outside the cluster may be led to a node.
pub fn takes_outside_traffic(node: &Node) -> bool {
    let excluded = node.metadata.labels.as_ref().is_some_and(|l| l.contains_key(EXCLUDED));
    ready(node) == "True" && !excluded && !is_deleting(&node.metadata)
}

/// The conditions to write when a node has been silent for `silence`; empty when it is not too long, or
/// they are written already.
pub fn silent_conditions(
    node: &Node,
    silence: Duration,
    grace: Duration,
    now: Timestamp,
) -> Vec<NodeCondition> {
    if silence <= grace {
        return Vec::new();
    }
    let mut out = Vec::new();
    for kind in VOUCHED {
        match condition(node, kind) {
            None => out.push(NodeCondition {
                type_: kind.to_owned(),
                status: "Unknown".to_owned(),
                reason: Some("NodeStatusNeverUpdated".to_owned()),
                message: Some("Kubelet never posted node status.".to_owned()),
                last_heartbeat_time: node.metadata.creation_timestamp.clone(),
                last_transition_time: Some(time(now)),
            }),
            Some(c) if c.status != "Unknown" => out.push(NodeCondition {
                type_: kind.to_owned(),
                status: "Unknown".to_owned(),
                reason: Some(SILENT.to_owned()),
                message: Some("Kubelet stopped posting node status.".to_owned()),
                last_heartbeat_time: c.last_heartbeat_time.clone(),
                last_transition_time: Some(time(now)),
            }),
            Some(_) => {}
        }
    }
    out
}

/// The taints that a node should have, where they differ from those it has. `evict` is false while no node
/// is alive: then rather the master's own network is at fault, and nobody is evicted.
pub fn taints(node: &Node, evict: bool, now: Timestamp) -> Option<Vec<Taint>> {
    let current = node.spec.as_ref().and_then(|s| s.taints.clone()).unwrap_or_default();
    let mut wanted: Vec<(&str, &str)> = Vec::new();
    let readiness = match ready(node) {
        "True" => None,
        "False" => Some(NOT_READY),
        _ => Some(UNREACHABLE),
    };
    // A node that has not said anything yet is not known to be unready: what admission put on it goes.
    if let Some(key) = readiness.filter(|_| condition(node, "Ready").is_some()) {
        wanted.push((key, "NoSchedule"));
        if evict {
            wanted.push((key, "NoExecute"));
        }
    }
    for (kind, status, key) in BY_CONDITION {
        if condition(node, kind).is_some_and(|c| c.status == status) {
            wanted.push((key, "NoSchedule"));
        }
    }
    if node.spec.as_ref().and_then(|s| s.unschedulable).unwrap_or(false) {
        wanted.push((UNSCHEDULABLE, "NoSchedule"));
    }
    let ours = |t: &Taint| {
        let readiness = t.key == NOT_READY || t.key == UNREACHABLE;
        let others = BY_CONDITION.iter().any(|(_, _, key)| *key == t.key) || t.key == UNSCHEDULABLE;
        (readiness && (t.effect == "NoSchedule" || t.effect == "NoExecute"))
            || (others && t.effect == "NoSchedule")
    };
    let mut next: Vec<Taint> = Vec::new();
    for taint in &current {
        let stays = !ours(taint) || wanted.iter().any(|(k, e)| *k == taint.key && *e == taint.effect);
        if stays {
            next.push(taint.clone());
        }
    }
    for (key, effect) in wanted {
        if !next.iter().any(|t| t.key == key && t.effect == effect) {
            next.push(Taint {
                key: key.to_owned(),
                effect: effect.to_owned(),
                value: None,
                time_added: Some(time(now)),
            });
        }
    }
    (next != current).then_some(next)
}

/// How long a pod may stay on a node with these taints; `None` for as long as it likes. The time runs from when the taints
/// were added, and `since` then where they do not say.
pub fn may_stay(
    tolerations: &[k8s_openapi::api::core::v1::Toleration],
    taints: &[Taint],
    since: Timestamp,
    now: Timestamp,
) -> Option<Duration> {
    let mut limit: Option<Duration> = None;
    for taint in taints.iter().filter(|t| t.effect == "NoExecute") {
        let covering: Vec<_> = tolerations
            .iter()
            .filter(|t| crate::scheduler::plugins::taint_toleration::tolerates(t, taint))
            .collect();
        if covering.is_empty() {
            return Some(Duration::ZERO);
        }
        let Some(seconds) = covering.iter().filter_map(|t| t.toleration_seconds).min() else { continue };
        let added = taint.time_added.as_ref().map_or(since, |added| added.0);
        let until = super::super::machinery::meta::plus_seconds(added, seconds.max(0));
        let left = super::super::machinery::meta::until(now, until);
        limit = Some(limit.map_or(left, |l| l.min(left)));
    }
    limit
}

/// Whether a pod with these tolerations may stay on a node with these taints, if only for a while.
pub fn tolerates_all(tolerations: &[k8s_openapi::api::core::v1::Toleration], taints: &[Taint]) -> bool {
    let tolerated = |taint: &Taint| {
        tolerations.iter().any(|t| crate::scheduler::plugins::taint_toleration::tolerates(t, taint))
    };
    taints.iter().filter(|t| t.effect == "NoExecute").all(tolerated)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn ready_nodes_take_traffic_from_outside_unless_they_are_excluded_or_going() {
        let node = |ready: &str, meta: Value| -> Node {
            let status = json!({"conditions": [{"type": "Ready", "status": ready}]});
            serde_json::from_value(json!({"metadata": meta, "status": status})).expect("a node")
        };
        assert!(takes_outside_traffic(&node("True", json!({"name": "a"}))));
        assert!(!takes_outside_traffic(&node("False", json!({"name": "a"}))));
        assert!(!takes_outside_traffic(&node("Unknown", json!({"name": "a"}))));
        assert!(!takes_outside_traffic(&node("True", json!({"labels": {EXCLUDED: ""}}))));
        assert!(!takes_outside_traffic(&node("True", json!({"deletionTimestamp": "2026-01-01T00:00:00Z"}))));
        assert!(!takes_outside_traffic(&Node::default()));
    }

    fn node(conditions: Value, taints: Value) -> Node {
        serde_json::from_value(json!({
            "metadata": {"name": "n1", "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"taints": taints}, "status": {"conditions": conditions},
        }))
        .unwrap()
    }

    fn now() -> Timestamp {
        "2026-01-01T00:10:00Z".parse().unwrap()
    }

    #[test]
    fn silence_makes_conditions_unknown() {
        let n = node(json!([{"type": "Ready", "status": "True"}]), json!([]));
        let grace = Duration::from_secs(40);
        assert!(silent_conditions(&n, Duration::from_secs(40), grace, now()).is_empty());
        let got = silent_conditions(&n, Duration::from_secs(41), grace, now());
        let reasons: Vec<_> = got.iter().map(|c| (c.type_.as_str(), c.reason.as_deref().unwrap())).collect();
        assert_eq!(reasons[0], ("Ready", "NodeStatusUnknown"));
        assert_eq!(reasons[1], ("MemoryPressure", "NodeStatusNeverUpdated"));
        assert_eq!(got.len(), 4);
    }

    fn check(conditions: Value, before: Value, evict: bool, expected: Option<&[&str]>) {
        let got = taints(&node(conditions.clone(), before), evict, now());
        let got: Option<Vec<String>> =
            got.map(|list| list.iter().map(|t| format!("{}:{}", t.key, t.effect)).collect());
        let expected = expected.map(|list| list.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>());
        assert_eq!(got, expected, "{conditions}");
    }

    #[test]
    fn conditions_become_taints() {
        let ready = |s: &str| json!([{"type": "Ready", "status": s}]);
        let taint = |k: &str, e: &str| json!([{"key": k, "effect": e}]);
        check(ready("True"), json!([]), true, None);
        check(ready("True"), taint(NOT_READY, "NoSchedule"), true, Some(&[]));
        check(ready("True"), taint("mine", "NoSchedule"), true, None);
        check(
            ready("False"),
            json!([]),
            true,
            Some(&["node.kubernetes.io/not-ready:NoSchedule", "node.kubernetes.io/not-ready:NoExecute"]),
        );
        check(ready("Unknown"), json!([]), false, Some(&["node.kubernetes.io/unreachable:NoSchedule"]));
        check(
            ready("Unknown"),
            json!([{"key": NOT_READY, "effect": "NoSchedule"}, {"key": NOT_READY, "effect": "NoExecute"}]),
            true,
            Some(&["node.kubernetes.io/unreachable:NoSchedule", "node.kubernetes.io/unreachable:NoExecute"]),
        );
        check(
            json!([{"type": "Ready", "status": "True"}, {"type": "MemoryPressure", "status": "True"}]),
            json!([]),
            true,
            Some(&["node.kubernetes.io/memory-pressure:NoSchedule"]),
        );
        // Nothing was said yet: nothing holds it back either.
        check(json!([]), taint(NOT_READY, "NoSchedule"), true, Some(&[]));
    }

    #[test]
    fn tolerations_buy_time() {
        let taint: Vec<Taint> = serde_json::from_value(
            json!([{"key": UNREACHABLE, "effect": "NoExecute", "timeAdded": "2026-01-01T00:09:00Z"}]),
        )
        .unwrap();
        let stays = |t: Value, taints: &[Taint], since: Timestamp| {
            may_stay(&serde_json::from_value::<Vec<_>>(t).unwrap(), taints, since, now())
        };
        let with = |t: Value| stays(t, &taint, now());
        assert_eq!(with(json!([])), Some(Duration::ZERO));
        assert_eq!(with(json!([{"key": UNREACHABLE, "operator": "Exists"}])), None);
        let for_seconds =
            |n: i64| json!([{"key": UNREACHABLE, "operator": "Exists", "tolerationSeconds": n}]);
        assert_eq!(with(for_seconds(300)), Some(Duration::from_secs(240)));
        assert_eq!(with(for_seconds(30)), Some(Duration::ZERO));
        let tolerations =
            |t: Value| -> Vec<k8s_openapi::api::core::v1::Toleration> { serde_json::from_value(t).unwrap() };
        assert!(tolerates_all(&tolerations(for_seconds(0)), &taint));
        assert!(!tolerates_all(&[], &taint));
        // A taint that does not say when it came counts from when it was noticed.
        let unsaid: Vec<Taint> =
            serde_json::from_value(json!([{"key": UNREACHABLE, "effect": "NoExecute"}])).unwrap();
        let noticed = crate::controllers::machinery::meta::plus_seconds(now(), -20);
        assert_eq!(stays(for_seconds(30), &unsaid, noticed), Some(Duration::from_secs(10)));
        assert_eq!(stays(for_seconds(10), &unsaid, noticed), Some(Duration::ZERO));
    }
}
