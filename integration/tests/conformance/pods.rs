//! What of pods needs no kubelet: what the server makes of their specifications and says of them.

use serde_json::{Value, json};

use crate::client::Patch;
use crate::scene::{Scene, name, pod};

fn asking(name: &str, resources: Value) -> Value {
    let mut pod = pod(name, "x");
    pod["spec"]["containers"][0]["resources"] = resources;
    pod
}

pub fn quality_of_service(scene: &Scene) {
    let all = json!({"cpu": "100m", "memory": "100Mi"});
    for (name, resources, class) in [
        ("guaranteed", json!({"requests": all, "limits": all}), "Guaranteed"),
        ("burstable", json!({"requests": all}), "Burstable"),
        ("best", json!({}), "BestEffort"),
    ] {
        let made = scene.create(&scene.core("pods"), &asking(name, resources));
        assert_eq!(made["status"]["qosClass"], class);
    }
}

pub fn sysctls_that_are_none(scene: &Scene) {
    let mut pod = pod("sysctl", "x");
    let sysctl = |name: &str| json!({"name": name, "value": "0"});
    pod["spec"]["securityContext"]["sysctls"] =
        json!([sysctl("foo-"), sysctl("kernel.shmmax"), sysctl("safe-and-unsafe"), sysctl("bar..")]);
    let said = scene.api.post(&scene.core("pods"), &pod).refused(422);
    for (index, name) in [(0, "foo-"), (3, "bar..")] {
        let wanted = format!("spec.securityContext.sysctls[{index}].name: Invalid value: \"{name}\"");
        assert!(said.contains(&wanted), "{said}");
    }
    assert!(!said.contains("kernel.shmmax"), "{said}");
}

pub fn inline_volumes(scene: &Scene) {
    let mut object = pod("inline", "inline");
    object["spec"]["volumes"] = json!([{"name": "own", "csi": {"driver": "inline.example.com", "readOnly": true,
        "volumeAttributes": {"a": "b"}}}]);
    object["spec"]["containers"][0]["volumeMounts"] = json!([{"name": "own", "mountPath": "/own"}]);
    let (pods, path) = (scene.core("pods"), format!("{}/inline", scene.core("pods")));
    let made = scene.create(&pods, &object);
    let volume = made["spec"]["volumes"].as_array().expect("volumes").iter().find(|one| one["name"] == "own");
    assert_eq!(volume.expect("it")["csi"]["volumeAttributes"], json!({"a": "b"}));
    assert_eq!(scene.items(&format!("{pods}?labelSelector=app%3Dinline")).len(), 1);
    let change = json!({"metadata": {"labels": {"patched": "yes"}}});
    let patched = scene.api.patch(Patch::Strategic, &path, &change).ok();
    assert_eq!(patched["metadata"]["labels"]["patched"], "yes");
    scene.api.delete(&path).ok();
    scene.until_gone(&path);
}

pub fn status_is_patched(scene: &Scene) {
    scene.create(&scene.core("pods"), &pod("watched", "watched"));
    let list = format!("{}?labelSelector=app%3Dwatched", scene.core("pods"));
    let mut watch = scene.api.watch(&list);
    watch.until("ADDED", |pod| name(pod) == "watched");
    let status = format!("{}/watched/status", scene.core("pods"));
    let condition = json!({"type": "ByHand", "status": "True", "reason": "Test"});
    let patched =
        scene.api.patch(Patch::Strategic, &status, &json!({"status": {"conditions": [condition]}})).ok();
    assert!(crate::scene::has_condition(&patched, "ByHand", "True"));
    watch.until("MODIFIED", |pod| crate::scene::has_condition(pod, "ByHand", "True"));
    // A status says nothing about what is wanted.
    let change = json!({"status": {"message": "x"}, "spec": {"activeDeadlineSeconds": 5}});
    let patched = scene.api.merge(&status, &change).ok();
    assert_eq!(
        (&patched["status"]["message"], &patched["spec"]["activeDeadlineSeconds"]),
        (&json!("x"), &Value::Null)
    );
    scene.api.delete(&list).ok();
    watch.until("DELETED", |pod| name(pod) == "watched");
}

pub fn generations(scene: &Scene) {
    let path = format!("{}/counted", scene.core("pods"));
    let mut object = pod("counted", "x");
    object["metadata"]["generation"] = 100.into();
    let made = scene.create(&scene.core("pods"), &object);
    assert_eq!(made["metadata"]["generation"], 1, "nobody chooses it");
    let image = |image: &str| json!({"spec": {"containers": [{"name": "c", "image": image}]}});
    for (number, change) in [
        (2, image("a")),
        (2, image("a")),
        (2, json!({"metadata": {"labels": {"x": "y"}}})),
        (3, json!({"spec": {"activeDeadlineSeconds": 300}})),
        (4, json!({"spec": {"tolerations": [{"key": "x", "operator": "Exists", "effect": "NoSchedule"}]}})),
    ] {
        let seen = scene.api.patch(Patch::Strategic, &path, &change).ok();
        assert_eq!(seen["metadata"]["generation"], number, "{change}");
    }
    scene.pod_ready("counted");
    assert_eq!(scene.get(&path)["metadata"]["generation"], 4);
}

pub fn deadline_is_shortened(scene: &Scene) {
    let path = format!("{}/late", scene.core("pods"));
    scene.create(&scene.core("pods"), &pod("late", "x"));
    let with = |seconds: Value| scene.api.merge(&path, &json!({"spec": {"activeDeadlineSeconds": seconds}}));
    assert_eq!(with(json!(30)).ok()["spec"]["activeDeadlineSeconds"], 30);
    assert_eq!(with(json!(5)).ok()["spec"]["activeDeadlineSeconds"], 5);
    with(json!(60)).refused(422);
    with(json!(null)).refused(422);
}

pub fn deleted_together(scene: &Scene) {
    let pods = scene.core("pods");
    for name in ["a", "b", "c"] {
        scene.create(&pods, &pod(name, "group"));
    }
    scene.create(&pods, &pod("d", "other"));
    scene.api.delete(&format!("{pods}?labelSelector=app%3Dgroup")).ok();
    let left = scene.until_items(&pods, |left| left.len() == 1);
    assert_eq!(name(&left[0]), "d");
}
