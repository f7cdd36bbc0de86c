//! Extended resources: which nodes need a claim for them, and what is in it.

use super::*;
use crate::scheduler::resources::amounts;

const GPU: &str = "example.com/gpu";

fn backing(name: &'static str, second: u32) -> (&'static str, &'static str, Value) {
    (
        "deviceclasses",
        name,
        json!({"metadata": {"creationTimestamp": format!("2030-01-01T00:00:{second:02}Z")},
        "spec": {"extendedResourceName": GPU}}),
    )
}

fn requesting(requests: Value) -> Pod {
    serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "ns", "uid": "p"},
        "spec": {"containers": [{"name": "c", "resources": {"requests": requests}}]}}))
    .expect("a pod")
}

/// What is claimed on a node that has so much itself: class and devices by request.
fn claimed(objects: &[(&str, &str, Value)], requests: Value, has: Value) -> Result<Vec<String>, String> {
    let snapshot = cluster(objects);
    let Some(demand) = demand(&snapshot, &Pending::new(), requesting(requests))? else {
        return Ok(vec!["no demand".to_owned()]);
    };
    let has = amounts(serde_json::from_value(has).ok().as_ref());
    let found = demand.on(&node("n1", json!({})), &has).map_err(|e| e.to_string())?;
    let mut out = Vec::new();
    for made in demand.reservations(&found, "n1", &mut String::new) {
        let meta = &made.claim.metadata;
        assert_eq!(meta.generate_name.as_deref(), Some("p-extended-resources-"));
        assert_eq!(made.made_for.as_ref().map(|m| m[0].container_name.as_str()), Some("c"));
        let requests = made.claim.spec.devices.iter().flat_map(|d| d.requests.iter().flatten());
        out.extend(
            requests.filter_map(|r| Some(format!("{}:{}", r.name, r.exactly.as_ref()?.device_class_name))),
        );
        let results =
            made.allocation.iter().flat_map(|a| a.devices.iter().flat_map(|d| d.results.iter().flatten()));
        out.extend(results.map(|r| format!("{}={}", r.request, r.device)));
    }
    Ok(out)
}

fn check(
    what: &str,
    objects: &[(&str, &str, Value)],
    requests: Value,
    has: Value,
    expected: Result<&[&str], &str>,
) {
    let expected = expected.map(|e| e.iter().map(|s| s.to_string()).collect()).map_err(str::to_owned);
    assert_eq!(claimed(objects, requests, has), expected, "{what}");
}

#[test]
fn a_claim_is_made_where_the_node_offers_no_such_resource() {
    let two = || slice("s", devices(&["a", "b"]), json!({}));
    let all = [two(), backing("k", 1)];
    let one = json!({GPU: "1"});
    let given: Result<&[&str], &str> = Ok(&["container-0-request-0:k", "container-0-request-0=a"]);
    check("devices", &all, one.clone(), json!({}), given);
    check("a node whose plugin has none", &all, one.clone(), json!({GPU: "0"}), given);
    check("a node whose plugin has some", &all, one.clone(), json!({GPU: "1"}), Ok(&[]));
    check("no class", &all[..1], one.clone(), json!({}), Ok(&["no demand"]));
    check("nothing of it", &all, json!({GPU: "0"}), json!({}), Ok(&["no demand"]));
    check("too many", &all, json!({GPU: "3"}), json!({}), Err("cannot allocate all claims"));
    check(
        "far too many",
        &all,
        json!({GPU: "33"}),
        json!({}),
        Err("claim ns/<extended-resources>: number of requested devices 33 exceeds the claim limit of 32"),
    );
    check(
        "by the class's own name",
        &all,
        json!({"cpu": "1", "deviceclass.resource.kubernetes.io/k": "2"}),
        json!({}),
        Ok(&["container-0-request-1:k", "container-0-request-1=a", "container-0-request-1=b"]),
    );
    check(
        "the newer class",
        &[two(), backing("k", 1), backing("l", 2)],
        one,
        json!({}),
        Ok(&["container-0-request-0:l", "container-0-request-0=a"]),
    );
}

#[test]
fn a_claim_that_was_left_behind_is_in_the_way() {
    let left = |owner: &str| {
        let left = json!({"metadata": {
            "annotations": {"resource.kubernetes.io/extended-resource-claim": "true"},
            "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": owner, "controller": true}]},
            "spec": {"devices": {"requests": [{"name": "r", "exactly": {"deviceClassName": "k"}}]}}});
        [slice("s", devices(&["a"]), json!({})), backing("k", 1), ("resourceclaims", "old", left)]
    };
    let one = json!({GPU: "1"});
    let refused = Err("cannot schedule extended resource claim");
    check("its own", &left("p"), one.clone(), json!({}), refused);
    check(
        "another's",
        &left("q"),
        one,
        json!({}),
        Ok(&["container-0-request-0:k", "container-0-request-0=a"]),
    );
}
