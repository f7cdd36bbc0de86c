//! What of scheduling needs no kubelet: runtime classes, priorities, limits. The nodes here are objects alone, which
//! nobody else's pods tolerate.

use serde_json::{Value, json};

use crate::client::Patch;
use crate::scene::{Scene, collection, has_condition, pod};

const RUNTIME_CLASSES: &str = "/apis/node.k8s.io/v1/runtimeclasses";
const PRIORITY_CLASSES: &str = "/apis/scheduling.k8s.io/v1/priorityclasses";

/// A pod that may go to the scene's node.
fn for_node(scene: &Scene, name: &str) -> Value {
    let mut pod = pod(name, name);
    pod["spec"]["nodeSelector"] = json!({"of": scene.ns});
    pod["spec"]["tolerations"] = json!([{"key": "of", "operator": "Exists"}]);
    pod
}

fn scheduled(scene: &Scene, name: &str, node: &str) -> Value {
    let path = format!("{}/{name}", scene.core("pods"));
    let seen = scene.until(&path, |pod| pod["spec"]["nodeName"] == node);
    assert!(has_condition(&seen, "PodScheduled", "True"), "{seen}");
    seen
}

pub fn runtime_class_with_overhead(scene: &Scene) {
    let node = scene.node(1);
    let class = format!("{}-heavy", scene.ns);
    scene.create(
        RUNTIME_CLASSES,
        &json!({"metadata": {"name": class}, "handler": "any",
        "overhead": {"podFixed": {"cpu": "10m", "memory": "1Mi"}}}),
    );
    let mut object = for_node(scene, "heavy");
    object["spec"]["runtimeClassName"] = class.as_str().into();
    let made = scene.create(&scene.core("pods"), &object);
    assert_eq!(made["spec"]["overhead"], json!({"cpu": "10m", "memory": "1Mi"}));
    scheduled(scene, "heavy", &node);
    // What the class says and what the pod says must be the same.
    object["metadata"]["name"] = "other".into();
    object["spec"]["overhead"] = json!({"cpu": "20m"});
    let refused = scene.api.post(&scene.core("pods"), &object).refused(403);
    assert!(
        refused.contains("pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead"),
        "{refused}"
    );
}

pub fn runtime_class_without_overhead(scene: &Scene) {
    let node = scene.node(1);
    let class = format!("{}-light", scene.ns);
    // A class may say where its pods go.
    scene.create(
        RUNTIME_CLASSES,
        &json!({"metadata": {"name": class}, "handler": "any", "scheduling": {
        "nodeSelector": {"of": scene.ns}, "tolerations": [{"key": "of", "operator": "Exists"}]}}),
    );
    let mut object = pod("light", "light");
    object["spec"]["runtimeClassName"] = class.as_str().into();
    let made = scene.create(&scene.core("pods"), &object);
    assert_eq!(made["spec"]["overhead"], Value::Null);
    assert_eq!(made["spec"]["nodeSelector"], json!({"of": scene.ns}));
    scheduled(scene, "light", &node);
}

fn rejected_for_its_class(scene: &Scene, class: &str) {
    let mut object = pod("classless", "classless");
    object["spec"]["runtimeClassName"] = class.into();
    let refused = scene.api.post(&scene.core("pods"), &object).refused(403);
    assert_eq!(
        refused,
        format!("pods \"classless\" is forbidden: pod rejected: RuntimeClass \"{class}\" not found")
    );
}

pub fn runtime_class_that_is_not_there(scene: &Scene) {
    rejected_for_its_class(scene, "nonexistent");
}

pub fn runtime_class_that_is_gone(scene: &Scene) {
    let class = format!("{}-gone", scene.ns);
    scene.create(RUNTIME_CLASSES, &json!({"metadata": {"name": class}, "handler": "any"}));
    scene.api.delete(&format!("{RUNTIME_CLASSES}/{class}")).ok();
    rejected_for_its_class(scene, &class);
}

pub fn selector_that_no_node_has(scene: &Scene) {
    scene.node(1);
    let mut object = for_node(scene, "picky");
    object["spec"]["nodeSelector"]["nonempty"] = "selector".into();
    scene.create(&scene.core("pods"), &object);
    let path = format!("{}/picky", scene.core("pods"));
    let seen = scene.until(&path, |pod| has_condition(pod, "PodScheduled", "False"));
    assert_eq!(
        (&seen["spec"]["nodeName"], &seen["status"]["conditions"][0]["reason"]),
        (&Value::Null, &json!("Unschedulable"))
    );
    let said = |list: &Value| {
        crate::scene::items(list)
            .iter()
            .any(|event| event["reason"] == "FailedScheduling" && event["involvedObject"]["name"] == "picky")
    };
    scene.until(&scene.core("events"), said);
}

pub fn selector_that_a_node_has(scene: &Scene) {
    let node = scene.node(1);
    scene.create(&scene.core("pods"), &for_node(scene, "content"));
    scheduled(scene, "content", &node);
}

fn asking(scene: &Scene, name: &str, cpu: &str) -> Value {
    let mut pod = for_node(scene, name);
    pod["spec"]["containers"][0]["resources"] = json!({"requests": {"cpu": cpu}});
    pod
}

pub fn node_without_room(scene: &Scene) {
    let node = scene.node(1);
    scene.create(&scene.core("pods"), &asking(scene, "most", "700m"));
    scheduled(scene, "most", &node);
    scene.create(&scene.core("pods"), &asking(scene, "more", "600m"));
    let path = format!("{}/more", scene.core("pods"));
    let seen = scene.until(&path, |pod| has_condition(pod, "PodScheduled", "False"));
    let message = seen["status"]["conditions"][0]["message"].as_str().unwrap_or_default();
    assert!(message.contains("1 Insufficient cpu"), "{message}");
}

pub fn host_ports_conflict(scene: &Scene) {
    let node = scene.node(1);
    let port = |name: &str, host: &str| {
        let mut pod = for_node(scene, name);
        pod["spec"]["containers"][0]["ports"] =
            json!([{"containerPort": 80, "hostPort": 54322, "hostIP": host}]);
        pod
    };
    scene.create(&scene.core("pods"), &port("everywhere", "0.0.0.0"));
    scheduled(scene, "everywhere", &node);
    scene.create(&scene.core("pods"), &port("somewhere", "127.0.0.1"));
    let path = format!("{}/somewhere", scene.core("pods"));
    let seen = scene.until(&path, |pod| has_condition(pod, "PodScheduled", "False"));
    let message = seen["status"]["conditions"][0]["message"].as_str().unwrap_or_default();
    assert!(message.contains("didn't have free ports"), "{message}");
}

pub fn the_more_important_comes_first(scene: &Scene) {
    let node = scene.node(1);
    let class = format!("{}-high", scene.ns);
    scene.create(PRIORITY_CLASSES, &json!({"metadata": {"name": class}, "value": 1000}));
    scene.create(&scene.core("pods"), &asking(scene, "low", "700m"));
    scheduled(scene, "low", &node);
    let low = format!("{}/low", scene.core("pods"));
    // Held, so that what is said of it can be read.
    scene.api.merge(&low, &json!({"metadata": {"finalizers": ["example.com/held"]}})).ok();
    let mut high = asking(scene, "high", "700m");
    high["spec"]["priorityClassName"] = class.as_str().into();
    let made = scene.create(&scene.core("pods"), &high);
    assert_eq!(made["spec"]["priority"], 1000);
    let seen = scene.until(&low, |pod| has_condition(pod, "DisruptionTarget", "True"));
    let conditions = seen["status"]["conditions"].as_array().expect("conditions");
    let target = conditions.iter().find(|one| one["type"] == "DisruptionTarget").expect("it");
    assert_eq!(target["reason"], "PreemptionByScheduler");
    scene.until(&low, crate::scene::is_ending);
    // The kubelet that is not there would let go of it now.
    let now = json!({"gracePeriodSeconds": 0});
    scene.api.delete_with(&low, &now).ok();
    scene.api.merge(&low, &json!({"metadata": {"finalizers": null}})).ok();
    scheduled(scene, "high", &node);
}

pub fn priority_classes(scene: &Scene) {
    let (one, two) = (format!("{}-p1", scene.ns), format!("{}-p2", scene.ns));
    for (name, value) in [(&one, 100), (&two, 200)] {
        scene.create(
            PRIORITY_CLASSES,
            &json!({"metadata": {"name": name, "labels": {"of": scene.ns}}, "value": value}),
        );
    }
    for name in [&one, &two] {
        let path = format!("{PRIORITY_CLASSES}/{name}");
        let patched = scene.api.patch(Patch::Strategic, &path, &json!({"description": "patched"})).ok();
        assert_eq!(patched["description"], "patched");
        scene.api.merge(&path, &json!({"value": 1})).refused(422);
        scene.api.merge(&path, &json!({"preemptionPolicy": "Never"})).refused(422);
        let updated = scene.update(&path, |class| class["description"] = "updated".into());
        assert_eq!(updated["description"], "updated");
        let mut other = scene.get(&path);
        other["value"] = 2.into();
        scene.api.put(&path, &other).refused(422);
    }
    let list = format!("{PRIORITY_CLASSES}?labelSelector=of%3D{}", scene.ns);
    let values: Vec<_> = scene.items(&list).iter().map(|class| class["value"].clone()).collect();
    assert_eq!(values, [100, 200]);
    scene.api.delete(&list).ok();
    scene.until_items(&list, <[Value]>::is_empty);
}

fn range(name: &str, of: &str) -> Value {
    json!({"metadata": {"name": name, "labels": {"of": of}}, "spec": {"limits": [{"type": "Container",
        "min": {"cpu": "50m", "memory": "100Mi"}, "max": {"cpu": "500m", "memory": "500Mi"},
        "defaultRequest": {"cpu": "100m", "memory": "200Mi"}, "default": {"cpu": "300m", "memory": "300Mi"}}]}})
}

pub fn limits_have_defaults(scene: &Scene) {
    let ranges = scene.core("limitranges");
    scene.create(&ranges, &range("limits", "x"));
    let pods = scene.core("pods");
    let resources = |pod: &Value| pod["spec"]["containers"][0]["resources"].clone();
    let made = scene.create(&pods, &pod("plain", "x"));
    assert_eq!(
        resources(&made),
        json!({"requests": {"cpu": "100m", "memory": "200Mi"}, "limits": {"cpu": "300m", "memory": "300Mi"}})
    );
    let with = |name: &str, resources: Value| {
        let mut pod = pod(name, "x");
        pod["spec"]["containers"][0]["resources"] = resources;
        pod
    };
    let made = scene
        .create(&pods, &with("partly", json!({"requests": {"cpu": "140m"}, "limits": {"memory": "400Mi"}})));
    assert_eq!(
        resources(&made),
        json!({"requests": {"cpu": "140m", "memory": "400Mi"}, "limits": {"cpu": "300m", "memory": "400Mi"}}),
        "what is bounded and asks for nothing asks for its bound, before the defaults"
    );
    let refused = scene
        .api
        .post(&pods, &with("small", json!({"requests": {"cpu": "10m", "memory": "50Mi"}})))
        .refused(403);
    assert!(refused.contains("minimum cpu usage per Container is 50m, but request is 10m"), "{refused}");
    let large = json!({"requests": {"cpu": "100m"}, "limits": {"cpu": "600m"}});
    let refused = scene.api.post(&pods, &with("large", large)).refused(403);
    assert!(refused.contains("maximum cpu usage per Container is 500m, but limit is 600m"), "{refused}");
    // What is changed holds for what is made then.
    scene.update(&format!("{ranges}/limits"), |range| {
        range["spec"]["limits"][0]["min"] = json!({"cpu": "9m", "memory": "10Mi"});
    });
    scene.create(&pods, &with("small", json!({"requests": {"cpu": "10m", "memory": "50Mi"}})));
    scene.api.delete(&format!("{ranges}/limits")).ok();
    scene.until_gone(&format!("{ranges}/limits"));
    let made = scene.create(&pods, &pod("free", "x"));
    assert_eq!(resources(&made), json!({}));
}

pub fn limits_are_listed_everywhere_and_deleted(scene: &Scene) {
    let other = format!("{}-other", scene.ns);
    scene.namespace(&other, &json!({}));
    let (ours, theirs) = (scene.core("limitranges"), collection("v1", &other, "limitranges"));
    scene.create(&ours, &range("limits", &scene.ns));
    scene.create(&theirs, &range("limits", &scene.ns));
    let everywhere = format!("/api/v1/limitranges?labelSelector=of%3D{}", scene.ns);
    assert_eq!(scene.items(&everywhere).len(), 2);
    let change = json!({"metadata": {"labels": {"patched": "yes"}},
        "spec": {"limits": [{"type": "Container", "max": {"cpu": "400m"}}]}});
    let patched = scene.api.patch(Patch::Strategic, &format!("{ours}/limits"), &change).ok();
    assert_eq!(patched["metadata"]["labels"]["patched"], "yes");
    assert_eq!(patched["spec"]["limits"][0]["max"]["cpu"], "400m");
    scene.api.delete(&format!("{ours}?labelSelector=patched%3Dyes")).ok();
    let left = scene.until_items(&everywhere, |left| left.len() == 1);
    assert_eq!(left[0]["metadata"]["namespace"], other.as_str());
}
