//! StatefulSets: one pod after the other, each with a name that stays.

use serde_json::{Value, json};

use crate::client::Patch;
use crate::scene::{Scene, is_ending, items, name, uid, workload};

struct Set<'a> {
    scene: &'a Scene<'a>,
    path: String,
    pods: String,
}

fn made<'a>(scene: &'a Scene, replicas: u32, more: &Value) -> Set<'a> {
    let sets = scene.at("apps/v1", "statefulsets");
    let mut object = workload("ss", replicas);
    object["spec"]["serviceName"] = "ss".into();
    for (field, value) in more.as_object().into_iter().flatten() {
        object["spec"][field] = value.clone();
    }
    scene.create(&sets, &object);
    Set { scene, path: format!("{sets}/ss"), pods: scene.core("pods") }
}

fn names(items: &[Value]) -> Vec<String> {
    let mut all: Vec<_> = items.iter().map(|pod| name(pod).to_owned()).collect();
    all.sort();
    all
}

impl Set<'_> {
    /// Waits until just these pods are there.
    fn until_pods(&self, expected: &[&str]) {
        self.scene.until_items(&self.pods, |pods| names(pods) == expected);
    }

    /// Waits until so many pods are ready, while they become so.
    fn until_ready(&self, replicas: u32) -> Value {
        self.scene.until_with(&self.pods, &self.path, |set| {
            set["status"]["readyReplicas"].as_u64().unwrap_or(0) == u64::from(replicas)
                && set["status"]["replicas"] == replicas
                && set["status"]["observedGeneration"] == set["metadata"]["generation"]
        })
    }

    fn scale(&self, replicas: u32) {
        self.scene.api.merge(&self.path, &json!({"spec": {"replicas": replicas}})).ok();
    }

    fn image(&self, image: &str) {
        let change = json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": image}]}}}});
        self.scene.api.patch(Patch::Strategic, &self.path, &change).ok();
    }

    /// Waits until the pods, in the order of their names, have these images.
    fn until_images(&self, expected: &[&str]) {
        self.scene.until_with(&self.pods, &self.pods, |list| {
            let mut pods = items(list);
            pods.sort_by(|a, b| name(a).cmp(name(b)));
            let images =
                pods.iter().map(|pod| pod["spec"]["containers"][0]["image"].as_str().unwrap_or_default());
            images.eq(expected.iter().copied()) && !pods.iter().any(is_ending)
        });
    }

    fn unready(&self, pod: &str) {
        let condition = json!({"conditions": [{"type": "Ready", "status": "False"}]});
        self.scene.pod_status(pod, &condition);
    }
}

pub fn in_order(scene: &Scene) {
    let set = made(scene, 3, &json!({}));
    for expected in [&["ss-0"][..], &["ss-0", "ss-1"], &["ss-0", "ss-1", "ss-2"]] {
        set.until_pods(expected);
        let last = expected.last().expect("a pod");
        scene.until(&set.path, |one| one["status"]["replicas"] == expected.len());
        // The next one comes only when this one is ready.
        set.until_pods(expected);
        scene.pod_ready(last);
    }
    set.until_ready(3);
    let pod = scene.get(&format!("{}/ss-1", set.pods));
    assert_eq!((&pod["spec"]["hostname"], &pod["spec"]["subdomain"]), (&json!("ss-1"), &json!("ss")));
    assert_eq!(pod["metadata"]["labels"]["apps.kubernetes.io/pod-index"], "1");
    // While more than one is not ready, none goes.
    let all = ["ss-0", "ss-1", "ss-2"];
    all.iter().for_each(|pod| set.unready(pod));
    scene.until(&set.path, |one| one["status"]["readyReplicas"].as_u64().unwrap_or(0) == 0);
    set.scale(0);
    scene.until(&set.path, |one| one["status"]["observedGeneration"] == one["metadata"]["generation"]);
    assert_eq!(names(&scene.items(&set.pods)), all);
    let version = scene.get(&set.pods)["metadata"]["resourceVersion"].as_str().expect("a version").to_owned();
    let mut watch = scene.api.watch(&format!("{}?resourceVersion={version}", set.pods));
    // The last one goes first, once it is ready; the first one that is not ready need not be.
    for pod in ["ss-2", "ss-1", "ss-0"] {
        if pod != "ss-0" {
            scene.pod_ready(pod);
        }
        assert_eq!(name(&watch.until("DELETED", |_| true)), pod);
    }
}

pub fn all_at_once(scene: &Scene) {
    let set = made(scene, 3, &json!({"podManagementPolicy": "Parallel"}));
    // Nobody is ready.
    set.until_pods(&["ss-0", "ss-1", "ss-2"]);
    set.scale(5);
    set.until_pods(&["ss-0", "ss-1", "ss-2", "ss-3", "ss-4"]);
    set.scale(0);
    set.until_pods(&[]);
}

pub fn partitions(scene: &Scene) {
    let partition = |number: u32| json!({"type": "RollingUpdate", "rollingUpdate": {"partition": number}});
    let set = made(scene, 3, &json!({"updateStrategy": partition(3)}));
    let before = set.until_ready(3)["status"]["currentRevision"].clone();
    set.image("newer");
    let seen =
        scene.until(&set.path, |one| one["status"]["updateRevision"] != one["status"]["currentRevision"]);
    assert_eq!(seen["status"]["currentRevision"], before);
    set.until_images(&["none", "none", "none"]);
    for (number, images) in
        [(2, ["none", "none", "newer"]), (1, ["none", "newer", "newer"]), (0, ["newer", "newer", "newer"])]
    {
        // A canary first, then the rest in phases.
        scene.api.merge(&set.path, &json!({"spec": {"updateStrategy": partition(number)}})).ok();
        set.until_images(&images);
    }
    scene.until_with(&set.pods, &set.path, |one| {
        one["status"]["updateRevision"] == one["status"]["currentRevision"]
    });
}

pub fn rolls_and_rolls_back(scene: &Scene) {
    let set = made(scene, 2, &json!({}));
    let first = set.until_ready(2)["status"]["currentRevision"].clone();
    set.image("newer");
    set.until_images(&["newer", "newer"]);
    let there = |one: &Value| {
        one["status"]["updateRevision"] == one["status"]["currentRevision"]
            && one["status"]["observedGeneration"] == one["metadata"]["generation"]
    };
    let second = scene.until_with(&set.pods, &set.path, there)["status"]["currentRevision"].clone();
    assert_ne!(first, second);
    set.image("none");
    set.until_images(&["none", "none"]);
    let third = scene.until_with(&set.pods, &set.path, there)["status"]["currentRevision"].clone();
    assert_eq!(first, third);
    assert_eq!(scene.items(&scene.at("apps/v1", "controllerrevisions")).len(), 2);
}

pub fn failed_pods(scene: &Scene) {
    let set = made(scene, 1, &json!({}));
    set.until_pods(&["ss-0"]);
    let path = format!("{}/ss-0", set.pods);
    let before = scene.get(&path);
    scene.pod_ended("ss-0", "Failed", 1);
    scene.until(&path, |pod| uid(pod) != uid(&before) && pod["status"]["phase"] == "Pending");
}

pub fn scale(scene: &Scene) {
    let set = made(scene, 1, &json!({}));
    let scale = format!("{}/scale", set.path);
    assert_eq!(scene.get(&scale)["spec"]["replicas"], 1);
    scene.update(&scale, |scale| scale["spec"]["replicas"] = 2.into());
    set.until_ready(2);
    scene.api.merge(&scale, &json!({"spec": {"replicas": 4}})).ok();
    set.until_ready(4);
    scene.until(&scale, |scale| scale["status"]["replicas"] == 4);
}

pub fn status(scene: &Scene) {
    let set = made(scene, 1, &json!({}));
    set.until_ready(1);
    scene.set_conditions(&format!("{}/status", set.path));
    let list = format!("{}?labelSelector=app%3Dss", scene.at("apps/v1", "statefulsets"));
    let change = json!({"metadata": {"labels": {"patched": "yes"}}, "spec": {"replicas": 2}});
    scene.api.patch(Patch::Strategic, &set.path, &change).ok();
    set.until_ready(2);
    assert_eq!(scene.items(&list).len(), 1);
    scene.api.delete(&list).ok();
    scene.until_items(&list, <[Value]>::is_empty);
}
