//! ReplicaSets and ReplicationControllers: which pods are theirs, how many there are, and what stands in the way.

use serde_json::{Value, json};

use crate::client::Patch;
use crate::scene::{
    Scene, by_hand, has_condition, is_ending, is_owned_by, name, pod, replication_controller, uid, workload,
};

/// The two kinds, which differ in little.
#[derive(Clone, Copy)]
pub enum Kind {
    Set,
    Controller,
}

impl Kind {
    fn collection(self, scene: &Scene) -> String {
        match self {
            Kind::Set => scene.at("apps/v1", "replicasets"),
            Kind::Controller => scene.core("replicationcontrollers"),
        }
    }

    fn object(self, app: &str, replicas: u32) -> Value {
        match self {
            Kind::Set => workload(app, replicas),
            Kind::Controller => replication_controller(app, replicas),
        }
    }
}

fn made(scene: &Scene, kind: Kind, replicas: u32) -> (String, Value) {
    let object = scene.create(&kind.collection(scene), &kind.object("web", replicas));
    (format!("{}/web", kind.collection(scene)), object)
}

fn serves(scene: &Scene, kind: Kind) {
    let (path, object) = made(scene, kind, 3);
    let seen = scene.until_with(&scene.core("pods"), &path, |object| object["status"]["readyReplicas"] == 3);
    assert_eq!(seen["status"]["availableReplicas"], 3);
    for pod in scene.items(&scene.core("pods")) {
        assert!(is_owned_by(&pod, &object) && name(&pod).starts_with("web-"), "{pod}");
    }
}

pub fn set_serves(scene: &Scene) {
    serves(scene, Kind::Set);
}

pub fn controller_serves(scene: &Scene) {
    serves(scene, Kind::Controller);
}

fn scale(scene: &Scene, kind: Kind) {
    let (path, _) = made(scene, kind, 1);
    let scale = format!("{path}/scale");
    let seen = scene.get(&scale);
    assert_eq!((&seen["kind"], &seen["apiVersion"]), (&json!("Scale"), &json!("autoscaling/v1")));
    assert_eq!((&seen["spec"]["replicas"], &seen["status"]["selector"]), (&json!(1), &json!("app=web")));
    let updated = scene.update(&scale, |scale| scale["spec"]["replicas"] = 2.into());
    assert_eq!(updated["spec"]["replicas"], 2);
    scene.until(&path, |object| object["spec"]["replicas"] == 2 && object["status"]["replicas"] == 2);
    let patched = scene.api.merge(&scale, &json!({"spec": {"replicas": 4}})).ok();
    assert_eq!(patched["spec"]["replicas"], 4);
    scene.until_items(&scene.core("pods"), |pods| pods.len() == 4);
    scene.until(&scale, |scale| scale["status"]["replicas"] == 4);
}

pub fn set_scales(scene: &Scene) {
    scale(scene, Kind::Set);
}

pub fn controller_scales(scene: &Scene) {
    scale(scene, Kind::Controller);
}

fn adopts(scene: &Scene, kind: Kind) {
    let orphan = scene.create(&scene.core("pods"), &pod("orphan", "web"));
    let (_, object) = made(scene, kind, 1);
    let adopted = scene.until(&format!("{}/orphan", scene.core("pods")), |pod| is_owned_by(pod, &object));
    assert_eq!(uid(&adopted), uid(&orphan));
    let reference = &adopted["metadata"]["ownerReferences"][0];
    assert_eq!((&reference["controller"], &reference["blockOwnerDeletion"]), (&json!(true), &json!(true)));
    assert_eq!(scene.items(&scene.core("pods")).len(), 1, "one is enough");
}

fn releases(scene: &Scene, kind: Kind) {
    let (_, object) = made(scene, kind, 1);
    let pods = scene.until_items(&scene.core("pods"), |pods| pods.len() == 1);
    let path = format!("{}/{}", scene.core("pods"), name(&pods[0]));
    scene.api.merge(&path, &json!({"metadata": {"labels": {"app": "other"}}})).ok();
    scene.until(&path, |pod| pod["metadata"]["ownerReferences"].is_null() && !is_ending(pod));
    let list = format!("{}?labelSelector=app%3Dweb", scene.core("pods"));
    let instead = scene.until_items(&list, |pods| pods.len() == 1);
    assert!(is_owned_by(&instead[0], &object));
}

pub fn set_adopts_and_releases(scene: &Scene) {
    adopts(scene, Kind::Set);
    let path = format!("{}/orphan", scene.core("pods"));
    scene.api.merge(&path, &json!({"metadata": {"labels": {"app": "other"}}})).ok();
    scene.until(&path, |pod| pod["metadata"]["ownerReferences"].is_null());
    scene.until_items(&format!("{}?labelSelector=app%3Dweb", scene.core("pods")), |pods| pods.len() == 1);
}

pub fn controller_adopts(scene: &Scene) {
    adopts(scene, Kind::Controller);
}

pub fn controller_releases(scene: &Scene) {
    releases(scene, Kind::Controller);
}

fn says_what_fails(scene: &Scene, kind: Kind) {
    let quota = json!({"metadata": {"name": "quota"}, "spec": {"hard": {"pods": "2"}}});
    scene.create(&scene.core("resourcequotas"), &quota);
    scene.until(&format!("{}/quota", scene.core("resourcequotas")), |quota| {
        quota["status"]["hard"]["pods"] == "2"
    });
    let (path, _) = made(scene, kind, 3);
    let failed = scene.until(&path, |object| has_condition(object, "ReplicaFailure", "True"));
    let condition = &failed["status"]["conditions"][0];
    assert_eq!(condition["reason"], "FailedCreate");
    assert!(
        condition["message"].as_str().is_some_and(|m| m.contains("exceeded quota: quota")),
        "{condition}"
    );
    scene.api.merge(&path, &json!({"spec": {"replicas": 2}})).ok();
    scene
        .until(&path, |object| object["status"]["replicas"] == 2 && object["status"]["conditions"].is_null());
}

pub fn controller_says_what_fails(scene: &Scene) {
    says_what_fails(scene, Kind::Controller);
}

pub fn set_says_what_fails(scene: &Scene) {
    says_what_fails(scene, Kind::Set);
}

pub fn set_is_replaced_and_patched(scene: &Scene) {
    let (path, _) = made(scene, Kind::Set, 1);
    scene.update(&path, |set| set["spec"]["replicas"] = 2.into());
    scene.until_with(&scene.core("pods"), &path, |set| set["status"]["readyReplicas"] == 2);
    let change = json!({"metadata": {"labels": {"patched": "yes"}}, "spec": {"replicas": 3,
        "template": {"spec": {"containers": [{"name": "c", "image": "newer"}]}}}});
    let patched = scene.api.patch(Patch::Strategic, &path, &change).ok();
    assert_eq!(patched["metadata"]["labels"], json!({"app": "web", "patched": "yes"}));
    let seen = scene.until_with(&scene.core("pods"), &path, |set| set["status"]["readyReplicas"] == 3);
    assert_eq!(seen["spec"]["template"]["spec"]["containers"][0]["image"], "newer");
    // The pods that were there stay as they are; the new one is of the new template.
    let pods = scene.items(&scene.core("pods"));
    let newer = pods.iter().filter(|pod| pod["spec"]["containers"][0]["image"] == "newer");
    assert_eq!((pods.len(), newer.count()), (3, 1));
}

fn lifecycle(scene: &Scene, kind: Kind) {
    let (path, _) = made(scene, kind, 1);
    let list = format!("{}?labelSelector=app%3Dweb", kind.collection(scene));
    let version = scene.get(&list)["metadata"]["resourceVersion"].as_str().expect("a version").to_owned();
    let mut watch = scene.api.watch(&format!("{list}&resourceVersion={version}"));
    scene.until_with(&scene.core("pods"), &path, |object| object["status"]["readyReplicas"] == 1);
    watch.until("MODIFIED", |object| object["status"]["readyReplicas"] == 1);
    scene.api.merge(&path, &json!({"metadata": {"labels": {"patched": "yes"}}})).ok();
    watch.until("MODIFIED", |object| object["metadata"]["labels"]["patched"] == "yes");
    // A status that somebody else writes is seen, and mended by whoever counts.
    let status = format!("{path}/status");
    scene.api.merge(&status, &json!({"status": {"readyReplicas": 0, "availableReplicas": 0}})).ok();
    watch.until("MODIFIED", |object| object["status"]["readyReplicas"].as_i64().unwrap_or(0) == 0);
    watch.until("MODIFIED", |object| object["status"]["readyReplicas"] == 1);
    scene.update(&status, |object| object["status"]["conditions"] = json!([by_hand("StatusUpdate")]));
    watch.until("MODIFIED", |object| has_condition(object, "StatusUpdate", "True"));
    scene.api.delete(&list).ok();
    watch.until("DELETED", |object| name(object) == "web");
    scene.until_items(&list, <[Value]>::is_empty);
}

pub fn set_lifecycle(scene: &Scene) {
    lifecycle(scene, Kind::Set);
}

pub fn controller_lifecycle(scene: &Scene) {
    lifecycle(scene, Kind::Controller);
}
