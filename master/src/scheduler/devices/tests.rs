//! Tables of what is asked for, what there is, and what comes of it; and that no device is ever given away twice.

use std::collections::BTreeSet;
use std::sync::Arc;

use actors::TraceContext;
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::jiff::Timestamp;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::Cluster;
use super::demand::Demand;
use super::taken::{Pending, Tally};
use crate::api::kinds::devices::extended::Backed;
use crate::cache::{Cache, Snapshot};
use crate::scheduler::pod::PodFacts;
use crate::scheduler::resources::Amounts;
use crate::store::Record;
use crate::store::keys::key;

mod extended;
mod taken;

const DRIVER: &str = "gpu.example.com";

/// A cluster of these objects, by kind and name.
fn cluster(objects: &[(&str, &str, Value)]) -> Arc<Snapshot> {
    let cache = Cache::new();
    let record = |(at, (kind, name, body)): (usize, &(&str, &str, Value))| {
        let ns = if *kind == "resourceclaims" { "ns" } else { "" };
        let mut value = body.clone();
        value["metadata"]["name"] = json!(name);
        value["metadata"]["uid"] = json!(name);
        if !ns.is_empty() {
            value["metadata"]["namespace"] = json!(ns);
        }
        let revision = at as u64 + 2;
        Record {
            key: key("resource.k8s.io", kind, ns, name),
            value: value.to_string().into(),
            trace: TraceContext::default(),
            create_revision: revision,
            mod_revision: revision,
            version: 1,
        }
    };
    cache.load(objects.iter().enumerate().map(record).collect(), objects.len() as u64 + 2);
    cache.snapshot()
}

fn class(name: &'static str, expression: &str) -> (&'static str, &'static str, Value) {
    ("deviceclasses", name, json!({"spec": {"selectors": [{"cel": {"expression": expression}}]}}))
}

fn slice(name: &'static str, devices: Value, patch: Value) -> (&'static str, &'static str, Value) {
    let mut spec = json!({"driver": DRIVER, "nodeName": "n1", "devices": devices,
        "pool": {"name": "pool", "generation": 1, "resourceSliceCount": 1}});
    if patch.get("nodeSelector").is_some() || patch.get("allNodes").is_some() {
        spec["nodeName"] = Value::Null;
    }
    for (field, value) in patch.as_object().into_iter().flatten() {
        spec[field] = value.clone();
    }
    ("resourceslices", name, json!({"spec": spec}))
}

fn claim(name: &'static str, devices: Value) -> (&'static str, &'static str, Value) {
    ("resourceclaims", name, json!({"spec": {"devices": devices}}))
}

fn one(patch: Value) -> Value {
    let mut request = json!({"deviceClassName": "any"});
    for (field, value) in patch.as_object().into_iter().flatten() {
        request[field] = value.clone();
    }
    json!({"requests": [{"name": "r", "exactly": request}]})
}

fn pod(claims: &[&str]) -> Pod {
    let claims: Vec<_> =
        claims.iter().map(|c| json!({"name": c.to_string(), "resourceClaimName": c})).collect();
    serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "ns", "uid": "p"},
        "spec": {"containers": [], "resourceClaims": claims}}))
    .expect("a pod")
}

/// What a pod asks for in a cluster.
fn demand(snapshot: &Snapshot, pending: &Pending, pod: Pod) -> Result<Option<Demand>, String> {
    let (taken, backed) = (Arc::new(Tally::of(snapshot)), Arc::new(Backed::of(snapshot)));
    let cluster = Cluster { snapshot, taken: &taken, pending, backed: &backed };
    Demand::of(cluster, &PodFacts::of(Arc::new(pod)), Timestamp::UNIX_EPOCH)
}

fn node(name: &str, labels: Value) -> Node {
    serde_json::from_value(json!({"metadata": {"name": name, "labels": labels}})).expect("a node")
}

fn devices(names: &[&str]) -> Value {
    names.iter().map(|n| json!({"name": n})).collect()
}

/// Which devices the pod's claims get on node `n1`, by request; or why none.
fn given(objects: &[(&str, &str, Value)], claims: &[&str]) -> Result<Vec<String>, String> {
    let snapshot = cluster(objects);
    let demand = demand(&snapshot, &Pending::new(), pod(claims))?;
    let Some(demand) = demand else { return Ok(Vec::new()) };
    let found = demand.on(&node("n1", json!({"zone": "a"})), &Amounts::default());
    let found = found.map_err(|e| e.to_string())?;
    let reservations = demand.reservations(&found, "n1", &mut || "share".to_owned());
    let allocations = reservations.iter().filter_map(|r| r.allocation.as_ref());
    let results = allocations.flat_map(|a| a.devices.iter().flat_map(|d| d.results.iter().flatten()));
    Ok(results.map(|r| format!("{}={}/{}", r.request, r.pool, r.device)).collect())
}

fn check(what: &str, objects: &[(&str, &str, Value)], expected: Result<&[&str], &str>) {
    let mut all = vec![class("any", "true")];
    all.extend(objects.iter().cloned());
    let claims: Vec<&str> =
        all.iter().filter(|o| o.0 == "resourceclaims" && o.2["status"].is_null()).map(|o| o.1).collect();
    let expected = expected.map(|e| e.iter().map(|s| s.to_string()).collect()).map_err(str::to_owned);
    assert_eq!(given(&all, &claims), expected, "{what}");
}

#[test]
fn devices_are_found_or_it_is_said_why_not() {
    let none = Err("cannot allocate all claims");
    let two = || slice("s", devices(&["a", "b"]), json!({}));
    check("one", &[two(), claim("c", one(json!({})))], Ok(&["r=pool/a"]));
    check("two", &[two(), claim("c", one(json!({"count": 2})))], Ok(&["r=pool/a", "r=pool/b"]));
    check("three", &[two(), claim("c", one(json!({"count": 3})))], none);
    check("all", &[two(), claim("c", one(json!({"allocationMode": "All"})))], Ok(&["r=pool/a", "r=pool/b"]));
    check("all of nothing", &[claim("c", one(json!({"allocationMode": "All"})))], none);
    check(
        "elsewhere",
        &[slice("s", devices(&["a"]), json!({"nodeName": "n2"})), claim("c", one(json!({})))],
        none,
    );
    check(
        "no such class",
        &[two(), claim("c", one(json!({"deviceClassName": "none"})))],
        Err("request r: device class none does not exist"),
    );
    check(
        "too many",
        &[two(), claim("c", one(json!({"count": 33})))],
        Err("claim ns/c: number of requested devices 33 exceeds the claim limit of 32"),
    );
    check(
        "two claims",
        &[two(), claim("c", one(json!({}))), claim("d", one(json!({})))],
        Ok(&["r=pool/a", "r=pool/b"]),
    );
    let used = json!({"spec": {}, "status": {"allocation": {"devices": {"results": [
        {"request": "r", "driver": DRIVER, "pool": "pool", "device": "a"}]}}}});
    check(
        "one is taken",
        &[two(), ("resourceclaims", "o", used), claim("c", one(json!({})))],
        Ok(&["r=pool/b"]),
    );
}

#[test]
fn a_choice_is_taken_back_where_it_leads_nowhere() {
    let kinds = json!([{"name": "a", "attributes": {"kind": {"string": "x"}}},
        {"name": "b", "attributes": {"kind": {"string": "y"}}}]);
    let picky = json!([{"cel": {"expression": "device.attributes['gpu.example.com'].kind == 'x'"}}]);
    let requests = json!({"requests": [{"name": "any", "exactly": {"deviceClassName": "any"}},
        {"name": "x", "exactly": {"deviceClassName": "any", "selectors": picky}}]});
    let slice = || slice("s", kinds.clone(), json!({}));
    check("the other way round", &[slice(), claim("c", requests)], Ok(&["any=pool/b", "x=pool/a"]));
    let first = json!({"requests": [
        {"name": "r", "firstAvailable": [{"name": "two", "deviceClassName": "any", "count": 2},
            {"name": "one", "deviceClassName": "any"}]},
        {"name": "x", "exactly": {"deviceClassName": "any", "selectors": picky}}]});
    check("the second best", &[slice(), claim("c", first)], Ok(&["r/one=pool/b", "x=pool/a"]));
}

#[test]
fn constraints_hold_for_the_devices_of_a_claim() {
    let four = json!([{"name": "a", "attributes": {"g": {"string": "1"}}}, {"name": "b", "attributes": {"g": {"string": "2"}}},
        {"name": "c", "attributes": {"g": {"string": "2"}}}, {"name": "d"}]);
    let with = |count: i64, constraint: Value| {
        let mut devices = one(json!({"count": count}));
        devices["constraints"] = json!([constraint]);
        [slice("s", four.clone(), json!({})), claim("x", devices)]
    };
    let same = || json!({"matchAttribute": "gpu.example.com/g"});
    let distinct = || json!({"distinctAttribute": "gpu.example.com/g"});
    check("the same", &with(2, same()), Ok(&["r=pool/b", "r=pool/c"]));
    check("different", &with(2, distinct()), Ok(&["r=pool/a", "r=pool/b"]));
    check("three the same", &with(3, same()), Err("cannot allocate all claims"));
    check("three different", &with(3, distinct()), Err("cannot allocate all claims"));
}

#[test]
fn only_whole_and_newest_pools_are_drawn_on() {
    let in_pool = |count: i64, generation: i64| json!({"pool": {"name": "pool", "generation": generation, "resourceSliceCount": count}});
    let c = || claim("c", one(json!({})));
    check(
        "half a pool",
        &[slice("s", devices(&["a"]), in_pool(2, 1)), c()],
        Err("cannot allocate all claims"),
    );
    check(
        "a newer one",
        &[slice("s", devices(&["a"]), in_pool(1, 1)), slice("t", devices(&["b"]), in_pool(1, 2)), c()],
        Ok(&["r=pool/b"]),
    );
    check(
        "twice the same name",
        &[slice("s", devices(&["a"]), in_pool(2, 1)), slice("t", devices(&["a"]), in_pool(2, 1)), c()],
        Err("invalid resource pools were encountered"),
    );
    let zone = |z: &str| {
        json!({"nodeSelector": {"nodeSelectorTerms": [
        {"matchExpressions": [{"key": "zone", "operator": "In", "values": [z]}]}]}})
    };
    check("the node's zone", &[slice("s", devices(&["a"]), zone("a")), c()], Ok(&["r=pool/a"]));
    check("another zone", &[slice("s", devices(&["a"]), zone("b")), c()], Err("cannot allocate all claims"));
    check("all nodes", &[slice("s", devices(&["a"]), json!({"allNodes": true})), c()], Ok(&["r=pool/a"]));
}

#[test]
fn parts_of_devices_are_counted() {
    let counters = |memory: &str| json!([{"counterSet": "set", "counters": {"memory": {"value": memory}}}]);
    let half = json!({"pool": {"name": "pool", "generation": 1, "resourceSliceCount": 2}});
    let mut sets = half.clone();
    sets["sharedCounters"] = json!([{"name": "set", "counters": {"memory": {"value": "4Gi"}}}]);
    sets["devices"] = Value::Null;
    let parts = json!([{"name": "a", "consumesCounters": counters("3Gi")},
        {"name": "b", "consumesCounters": counters("2Gi")}, {"name": "c", "consumesCounters": counters("1Gi")}]);
    let with = |count: i64| {
        [
            slice("s", parts.clone(), half.clone()),
            slice("t", Value::Null, sets.clone()),
            claim("x", one(json!({"count": count}))),
        ]
    };
    check("what fits", &with(2), Ok(&["r=pool/a", "r=pool/c"]));
    check("what does not", &with(3), Err("cannot allocate all claims"));

    let shared = json!([{"name": "a", "allowMultipleAllocations": true, "capacity": {"memory": {"value": "4Gi",
        "requestPolicy": {"default": "1Gi", "validRange": {"min": "1Gi", "step": "1Gi"}}}}}]);
    let take = |amount: &str| one(json!({"capacity": {"requests": {"memory": amount}}}));
    let s = || slice("s", shared.clone(), json!({}));
    check(
        "together",
        &[s(), claim("c", take("1500Mi")), claim("d", take("2Gi"))],
        Ok(&["r=pool/a", "r=pool/a"]),
    );
    check(
        "too much together",
        &[s(), claim("c", take("2500Mi")), claim("d", take("2Gi"))],
        Err("cannot allocate all claims"),
    );
}

#[test]
fn taints_keep_off_those_who_do_not_tolerate_them() {
    let tainted =
        |effect: &str| json!([{"name": "a", "taints": [{"key": "k", "value": "v", "effect": effect}]}]);
    let asks = |tolerations: Value| claim("c", one(json!({"tolerations": tolerations})));
    let none = Err("cannot allocate all claims");
    let s = |effect: &str| slice("s", tainted(effect), json!({}));
    check("not tolerated", &[s("NoSchedule"), asks(json!([]))], none);
    check("of no effect", &[s("None"), asks(json!([]))], Ok(&["r=pool/a"]));
    check("tolerated", &[s("NoExecute"), asks(json!([{"operator": "Exists"}]))], Ok(&["r=pool/a"]));
    check("another value", &[s("NoExecute"), asks(json!([{"key": "k", "value": "w"}]))], none);
}

#[test]
fn expressions_that_fail_are_told_of() {
    let s = || {
        slice(
            "s",
            json!([{"name": "a", "attributes": {"n": {"int": 1}, "v": {"version": "1.2.3"}}}]),
            json!({}),
        )
    };
    let by = |e: &str| claim("c", one(json!({"selectors": [{"cel": {"expression": e}}]})));
    let own = "device.attributes['gpu.example.com']";
    check("a number", &[s(), by(&format!("{own}.n == 1"))], Ok(&["r=pool/a"]));
    check("a version", &[s(), by(&format!("{own}.v.isGreaterThan(semver('1.2.0'))"))], Ok(&["r=pool/a"]));
    check(
        "an unknown domain",
        &[s(), by("has(device.attributes['x.org'].y)")],
        Err("cannot allocate all claims"),
    );
    check("not in it", &[s(), by("!('x.org' in device.attributes)")], Ok(&["r=pool/a"]));
    check(
        "an unknown name",
        &[s(), by(&format!("{own}.x == 1"))],
        Err("claim ns/c: selector #0: CEL runtime error: no such key: x"),
    );
    check(
        "no truth",
        &[s(), by(&format!("{own}.n"))],
        Err(
            "claim ns/c: selector #0: CEL runtime error: CEL result of type int could not be converted to bool: unsupported type conversion from 'int' to bool",
        ),
    );
}

#[test]
fn a_search_without_end_is_given_up() {
    // Twelve of twenty-four devices in any order, and then one that there is not.
    let many: Vec<_> = (0..24).map(|n| json!({"name": format!("d{n:02}")})).collect();
    let mut requests: Vec<_> =
        (0..12).map(|n| json!({"name": format!("r{n}"), "exactly": {"deviceClassName": "any"}})).collect();
    requests.push(json!({"name": "last", "exactly": {"deviceClassName": "never"}}));
    let all = [
        class("any", "true"),
        class("never", "false"),
        slice("s", json!(many), json!({})),
        claim("c", json!({"requests": requests})),
    ];
    assert_eq!(given(&all, &["c"]), Err("node n1: timed out trying to allocate devices".to_owned()));
}

/// How many devices are given away.
fn held(pending: &Pending) -> Vec<String> {
    let results = pending.values().flat_map(|a| a.devices.iter().flat_map(|d| d.results.iter().flatten()));
    results.map(|r| r.device.clone()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    /// Pods come and go; what they have is theirs alone, and whoever gets nothing really could not.
    #[test]
    fn no_device_is_given_away_twice(
        count in 1usize..12,
        steps in proptest::collection::vec((1i64..5, any::<bool>(), 0usize..20), 1..30),
    ) {
        let names: Vec<String> = (0..count).map(|n| format!("d{n:02}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let mut pending = Pending::new();
        for (at, (wants, goes, which)) in steps.into_iter().enumerate() {
            if goes && !pending.is_empty() {
                let mut uids: Vec<_> = pending.keys().cloned().collect();
                uids.sort();
                pending.remove(&uids[which % uids.len()]);
                continue;
            }
            let asks = claim("c", one(json!({"count": wants})));
            let snapshot = cluster(&[class("any", "true"), slice("s", devices(&names), json!({})), asks]);
            let demand = demand(&snapshot, &pending, pod(&["c"]));
            let demand = demand.expect("claims").expect("a demand");
            match demand.on(&node("n1", json!({})), &Amounts::default()) {
                Ok(found) => {
                    let made = demand.reservations(&found, "n1", &mut String::new);
                    let allocation = made[0].allocation.clone().expect("devices");
                    // Under another name than the claim's, which is asked for again.
                    pending.insert(format!("u{at}").into(), allocation);
                }
                Err(_) => prop_assert!(held(&pending).len() + wants as usize > count),
            }
            let all = held(&pending);
            prop_assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
        }
    }
}
