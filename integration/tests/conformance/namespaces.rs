//! Namespaces: their writes, their finalizers, and what becomes of what is in them.

use serde_json::{Value, json};

use crate::client::Patch;
use crate::scene::{Scene, collection, has_condition, is_ending, pod};

fn path(name: &str) -> String {
    format!("/api/v1/namespaces/{name}")
}

/// Another namespace of the scene.
fn another(scene: &Scene) -> String {
    let name = format!("{}-other", scene.ns);
    scene.namespace(&name, &json!({"of": scene.ns}));
    name
}

/// Makes a namespace of the name of one that is gone, and expects nothing in it.
fn again_and_empty(scene: &Scene, ns: &str, plural: &str) {
    scene.namespace(ns, &json!({}));
    assert_eq!(scene.items(&collection("v1", ns, plural)), Vec::<Value>::new());
}

pub fn services_go_with_it(scene: &Scene) {
    let ns = another(scene);
    let services = collection("v1", &ns, "services");
    scene.create(&services, &json!({"metadata": {"name": "web"}, "spec": {"ports": [{"port": 80}]}}));
    scene.api.delete(&path(&ns)).ok();
    scene.until_gone(&path(&ns));
    again_and_empty(scene, &ns, "services");
}

pub fn pods_go_with_it(scene: &Scene) {
    let ns = another(scene);
    scene.create(&collection("v1", &ns, "pods"), &pod("web", "web"));
    scene.api.delete(&path(&ns)).ok();
    scene.until_gone(&path(&ns));
    again_and_empty(scene, &ns, "pods");
}

pub fn pods_go_first(scene: &Scene) {
    let ns = another(scene);
    let (pods, maps) = (collection("v1", &ns, "pods"), collection("v1", &ns, "configmaps"));
    let mut held = pod("held", "held");
    held["metadata"]["finalizers"] = json!(["example.com/held"]);
    scene.create(&pods, &held);
    scene.create(&maps, &json!({"metadata": {"name": "kept"}}));
    scene.api.delete(&path(&ns)).ok();
    scene.until(&format!("{pods}/held"), is_ending);
    let seen = scene.until(&path(&ns), |ns| has_condition(ns, "NamespaceDeletionContentFailure", "False"));
    assert_eq!(seen["status"]["phase"], "Terminating");
    assert!(!is_ending(&scene.get(&format!("{maps}/kept"))), "the pod is still there");
    // Nothing new is made there.
    let refused = scene.api.post(&maps, &json!({"metadata": {"name": "late"}})).refused(403);
    assert!(refused.contains("because it is being terminated"), "{refused}");
    scene.api.merge(&format!("{pods}/held"), &json!({"metadata": {"finalizers": null}})).ok();
    scene.until_gone(&path(&ns));
}

pub fn patched(scene: &Scene) {
    let change = json!({"metadata": {"labels": {"patched": "yes"}}});
    scene.api.patch(Patch::Strategic, &path(&scene.ns), &change).ok();
    let labels = &scene.get(&path(&scene.ns))["metadata"]["labels"];
    assert_eq!(*labels, json!({"patched": "yes", "kubernetes.io/metadata.name": scene.ns}));
}

pub fn updated(scene: &Scene) {
    let changed = scene.update(&path(&scene.ns), |ns| ns["metadata"]["labels"]["updated"] = "yes".into());
    assert_eq!(changed["metadata"]["labels"]["updated"], "yes");
    assert_eq!(scene.get(&path(&scene.ns))["metadata"]["labels"]["updated"], "yes");
}

pub fn status(scene: &Scene) {
    let status = format!("{}/status", path(&scene.ns));
    assert_eq!(scene.get(&status)["status"]["phase"], "Active");
    let condition = |kind: &str| {
        json!({"type": kind, "status": "True", "reason": "ByHand", "message": "set by hand",
            "lastTransitionTime": "2026-01-01T00:00:00Z"})
    };
    let change = json!({"metadata": {"annotations": {"patched": "yes"}}, "status": {"conditions": [condition("Patched")]}});
    let patched = scene.api.merge(&status, &change).ok();
    assert!(has_condition(&patched, "Patched", "True"));
    assert_eq!(patched["metadata"]["annotations"]["patched"], "yes");
    let updated = scene.update(&status, |ns| {
        ns["status"]["conditions"].as_array_mut().expect("conditions").push(condition("Updated"));
    });
    assert!(has_condition(&updated, "Updated", "True") && has_condition(&updated, "Patched", "True"));
    assert_eq!(updated["status"]["phase"], "Active");
}

pub fn finalizer(scene: &Scene) {
    let ns = another(scene);
    let finalize = format!("{}/finalize", path(&ns));
    let with = |finalizers: &[&str]| {
        let mut object = scene.get(&path(&ns));
        object["spec"]["finalizers"] = json!(finalizers);
        scene.api.put(&finalize, &object).ok()
    };
    let updated = with(&["kubernetes", "example.com/fake"]);
    assert_eq!(updated["spec"]["finalizers"], json!(["kubernetes", "example.com/fake"]));
    assert_eq!(scene.get(&path(&ns))["spec"]["finalizers"], json!(["kubernetes", "example.com/fake"]));
    let updated = with(&["kubernetes"]);
    assert_eq!(updated["spec"]["finalizers"], json!(["kubernetes"]));
    assert_eq!(scene.get(&path(&ns))["spec"]["finalizers"], json!(["kubernetes"]));
}
