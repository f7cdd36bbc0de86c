//! Objects that hold data: what they may hold, and what may not change any more. Events. Nodes.

use serde_json::{Value, json};

use crate::client::Patch;
use crate::scene::{Scene, collection, name};

fn with_an_empty_key(scene: &Scene, plural: &str) {
    let object = json!({"metadata": {"name": "keyless"}, "data": {"": "dmFsdWU="}});
    let said = scene.api.post(&scene.core(plural), &object).refused(422);
    assert!(said.contains("data[]: Invalid value: \"\""), "{said}");
}

pub fn config_map_with_an_empty_key(scene: &Scene) {
    with_an_empty_key(scene, "configmaps");
}

pub fn secret_with_an_empty_key(scene: &Scene) {
    with_an_empty_key(scene, "secrets");
}

fn immutable(scene: &Scene, plural: &str) {
    let path = format!("{}/fixed", scene.core(plural));
    scene.create(&scene.core(plural), &json!({"metadata": {"name": "fixed"}, "data": {"key": "b25l"}}));
    scene.update(&path, |one| one["data"]["key"] = "dHdv".into());
    scene.update(&path, |one| one["immutable"] = true.into());
    let refused = |change: &dyn Fn(&mut Value), because: &str| {
        let mut object = scene.get(&path);
        change(&mut object);
        let said = scene.api.put(&path, &object).refused(422);
        assert!(said.contains(because), "{said}");
    };
    refused(&|one| one["data"]["key"] = "dGhyZWU=".into(), "field is immutable when `immutable` is set");
    refused(&|one| one["immutable"] = false.into(), "field is immutable when `immutable` is set");
    refused(&|one| drop(one.as_object_mut().and_then(|o| o.remove("immutable"))), "immutable");
    let seen = scene.update(&path, |one| one["metadata"]["labels"] = json!({"still": "changes"}));
    assert_eq!(seen["metadata"]["labels"]["still"], "changes");
    scene.api.delete(&path).ok();
    scene.until_gone(&path);
}

pub fn immutable_config_map(scene: &Scene) {
    immutable(scene, "configmaps");
}

pub fn immutable_secret(scene: &Scene) {
    immutable(scene, "secrets");
}

fn lifecycle(scene: &Scene, plural: &str) {
    let (path, label) = (format!("{}/one", scene.core(plural)), format!("labelSelector=of%3D{}", scene.ns));
    let mut watch = scene.api.watch(&format!("{}?{label}", scene.core(plural)));
    let object = json!({"metadata": {"name": "one", "labels": {"of": scene.ns}}, "data": {"key": "b25l"}});
    scene.create(&scene.core(plural), &object);
    watch.until("ADDED", |one| one["data"]["key"] == "b25l");
    let change =
        json!({"metadata": {"labels": {"static": "true"}}, "data": {"key": "dHdv", "other": "b25l"}});
    scene.api.patch(Patch::Strategic, &path, &change).ok();
    watch.until("MODIFIED", |one| one["metadata"]["labels"]["static"] == "true");
    let seen = scene.get(&path);
    assert_eq!(seen["data"], json!({"key": "dHdv", "other": "b25l"}));
    let everywhere = format!("{}?{label}", collection("v1", "", plural));
    let all = scene.items(&everywhere);
    assert_eq!((all.len(), &all[0]["data"]["key"]), (1, &json!("dHdv")));
    scene.api.delete(&format!("{}?labelSelector=static%3Dtrue", scene.core(plural))).ok();
    watch.until("DELETED", |one| name(one) == "one");
    assert_eq!(scene.items(&everywhere), Vec::<Value>::new());
}

pub fn config_map_lifecycle(scene: &Scene) {
    lifecycle(scene, "configmaps");
}

pub fn secret_lifecycle(scene: &Scene) {
    lifecycle(scene, "secrets");
}

pub fn config_map_is_updated(scene: &Scene) {
    let path = format!("{}/one", scene.core("configmaps"));
    scene.create(&scene.core("configmaps"), &json!({"metadata": {"name": "one"}, "data": {"a": "1"}}));
    scene.update(&path, |one| one["data"] = json!({"a": "2", "b": "3"}));
    let seen = scene.get(&path);
    assert_eq!(seen["data"], json!({"a": "2", "b": "3"}));
    // Binary data lies beside it, under names of its own.
    scene.update(&path, |one| one["binaryData"] = json!({"c": "AAE="}));
    let said = scene.api.merge(&path, &json!({"binaryData": {"a": "AAE="}})).refused(422);
    assert!(said.contains("duplicate of key present in binaryData"), "{said}");
}

pub fn pod_template_is_replaced(scene: &Scene) {
    let templates = scene.core("podtemplates");
    let path = format!("{templates}/one");
    scene.create(&templates, &json!({"metadata": {"name": "one"}, "template": crate::scene::template("x")}));
    scene.update(&path, |one| one["metadata"]["annotations"] = json!({"replaced": "yes"}));
    assert_eq!(scene.get(&path)["metadata"]["annotations"]["replaced"], "yes");
}

/// Events of the two groups are the same objects.
fn event(scene: &Scene, group_version: &str, name: &str) -> Value {
    let about = json!({"kind": "Pod", "name": "any", "namespace": scene.ns});
    let mut event = json!({"metadata": {"name": name, "labels": {"of": "test"}}, "type": "Normal", "reason": "Test",
        "reportingInstance": "test-1", "action": "Do", "eventTime": "2026-01-01T00:00:00.000001Z"});
    if group_version == "v1" {
        event["involvedObject"] = about;
        event["message"] = "something happened".into();
        event["reportingComponent"] = "example.com/test".into();
    } else {
        event["regarding"] = about;
        event["note"] = "something happened".into();
        event["reportingController"] = "example.com/test".into();
    }
    event
}

fn events(scene: &Scene, group_version: &str) {
    let events = scene.at(group_version, "events");
    let path = format!("{events}/first");
    scene.create(&events, &event(scene, group_version, "first"));
    let everywhere = format!("{}?labelSelector=of%3Dtest", collection(group_version, "", "events"));
    let here = |list: Vec<Value>| {
        list.into_iter().filter(|e| e["metadata"]["namespace"] == scene.ns.as_str()).count()
    };
    assert_eq!(here(scene.items(&everywhere)), 1);
    // What the newer group wrote says what it says.
    let patch = |change: Value| scene.api.patch(Patch::Strategic, &path, &change);
    if group_version == "v1" {
        assert_eq!(patch(json!({"message": "something else"})).ok()["message"], "something else");
    } else {
        patch(json!({"note": "something else"})).refused(422);
        let series = json!({"count": 2, "lastObservedTime": "2026-01-01T00:00:00.000001Z"});
        assert_eq!(patch(json!({"series": series})).ok()["series"], series);
    }
    let series = json!({"count": 100, "lastObservedTime": "2026-01-02T00:00:00.500000Z"});
    scene.update(&path, |event| event["series"] = series.clone());
    assert_eq!(scene.get(&path)["series"], series);
    // The other group shows the same.
    let other = if group_version == "v1" { "events.k8s.io/v1" } else { "v1" };
    let same = scene.get(&format!("{}/first", scene.at(other, "events")));
    assert_eq!(same["series"]["count"], 100);
    let of = |name: &str, reason: &str| {
        let field = if group_version == "v1" { "involvedObject.name" } else { "regarding.name" };
        scene.items(&format!("{events}?fieldSelector={field}%3D{name},reason%3D{reason}")).len()
    };
    assert_eq!((of("any", "Test"), of("other", "Test"), of("any", "Other")), (1, 0, 0));
    scene.api.delete(&path).ok();
    assert_eq!(here(scene.items(&everywhere)), 0);
}

pub fn core_events(scene: &Scene) {
    events(scene, "v1");
}

pub fn newer_events(scene: &Scene) {
    events(scene, "events.k8s.io/v1");
}

fn events_together(scene: &Scene, group_version: &str) {
    let events = scene.at(group_version, "events");
    for name in ["one", "two", "three"] {
        scene.create(&events, &event(scene, group_version, name));
    }
    let mut other = event(scene, group_version, "other");
    other["metadata"]["labels"] = json!({"of": "other"});
    scene.create(&events, &other);
    let list = format!("{events}?labelSelector=of%3Dtest");
    assert_eq!(scene.items(&list).len(), 3);
    scene.api.delete(&list).ok();
    scene.until_items(&list, <[Value]>::is_empty);
    scene.get(&format!("{events}/other"));
}

pub fn core_events_together(scene: &Scene) {
    events_together(scene, "v1");
}

pub fn newer_events_together(scene: &Scene) {
    events_together(scene, "events.k8s.io/v1");
}

pub fn leases(scene: &Scene) {
    let leases = scene.at("coordination.k8s.io/v1", "leases");
    let path = format!("{leases}/one");
    let spec = json!({"holderIdentity": "holder", "leaseDurationSeconds": 30, "leaseTransitions": 0,
        "acquireTime": "2026-01-01T00:00:00.000001Z", "renewTime": "2026-01-01T00:00:05.000001Z"});
    scene.create(&leases, &json!({"metadata": {"name": "one"}, "spec": spec}));
    assert_eq!(scene.get(&path)["spec"], spec);
    let next = json!({"holderIdentity": "next", "leaseDurationSeconds": 40, "leaseTransitions": 1,
        "acquireTime": "2026-01-01T00:00:30.000001Z", "renewTime": "2026-01-01T00:00:40.000001Z"});
    scene.update(&path, |lease| lease["spec"] = next.clone());
    assert_eq!(scene.get(&path)["spec"], next);
    let patched =
        scene.api.patch(Patch::Strategic, &path, &json!({"spec": {"leaseDurationSeconds": 60}})).ok();
    assert_eq!(
        (&patched["spec"]["leaseDurationSeconds"], &patched["spec"]["holderIdentity"]),
        (&json!(60), &json!("next"))
    );
    scene.create(
        &leases,
        &json!({"metadata": {"name": "two", "labels": {"deletecollection": "true"}}, "spec": spec}),
    );
    assert_eq!(scene.items(&leases).len(), 2);
    scene.api.delete(&format!("{leases}?labelSelector=deletecollection%3Dtrue")).ok();
    let left = scene.until_items(&leases, |left| left.len() == 1);
    assert_eq!(name(&left[0]), "one");
    scene.api.delete(&path).ok();
    scene.api.get(&path).refused(404);
}

pub fn node_lifecycle(scene: &Scene) {
    let node = format!("{}-fake", scene.ns);
    let path = format!("/api/v1/nodes/{node}");
    scene.create("/api/v1/nodes", &json!({"metadata": {"name": node}}));
    assert_eq!(name(&scene.get(&path)), node);
    let change = json!({"metadata": {"labels": {&node: "patched"}}});
    let patched = scene.api.patch(Patch::Strategic, &path, &change).ok();
    assert_eq!(patched["metadata"]["labels"][&node], "patched");
    assert_eq!(scene.items(&format!("/api/v1/nodes?labelSelector={node}%3Dpatched")).len(), 1);
    let updated = scene.update(&path, |one| one["metadata"]["labels"][&node] = "updated".into());
    assert_eq!(updated["metadata"]["labels"][&node], "updated");
    assert_eq!(scene.items(&format!("/api/v1/nodes?labelSelector={node}%3Dpatched")).len(), 0);
    scene.api.delete(&path).ok();
    scene.until_gone(&path);
}
