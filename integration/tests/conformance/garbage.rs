//! Owners and what they own: what becomes of dependents when an owner is deleted.

use serde_json::{Value, json};

use crate::client::Patch;
use crate::scene::{
    Scene, has_condition, is_ending, is_owned_by, items, name, pod, replication_controller, uid, workload,
};

fn policy(propagation: &str) -> Value {
    json!({"propagationPolicy": propagation})
}

/// A Deployment whose ReplicaSet and pods are there: the paths of Deployment and ReplicaSet.
fn deployed(scene: &Scene) -> (String, String) {
    let (deployments, sets) = (scene.at("apps/v1", "deployments"), scene.at("apps/v1", "replicasets"));
    let deployment = scene.create(&deployments, &workload("web", 2));
    let made = scene.until_items(&sets, |sets| sets.len() == 1);
    assert!(is_owned_by(&made[0], &deployment));
    scene.until_items(&scene.core("pods"), |pods| pods.len() == 2);
    (format!("{deployments}/web"), format!("{sets}/{}", name(&made[0])))
}

pub fn deployment_in_the_background(scene: &Scene) {
    let (deployment, set) = deployed(scene);
    scene.api.delete_with(&deployment, &policy("Background")).ok();
    scene.until_gone(&deployment);
    scene.until_gone(&set);
    scene.until_items(&scene.core("pods"), <[Value]>::is_empty);
}

pub fn deployment_orphans_its_replica_set(scene: &Scene) {
    let (deployment, set) = deployed(scene);
    scene.api.delete_with(&deployment, &policy("Orphan")).ok();
    scene.until_gone(&deployment);
    let set = scene.get(&set);
    assert_eq!((&set["metadata"]["ownerReferences"], is_ending(&set)), (&Value::Null, false));
    let pods = scene.items(&scene.core("pods"));
    assert_eq!(pods.len(), 2);
    assert!(pods.iter().all(|pod| is_owned_by(pod, &set) && !is_ending(pod)), "{pods:?}");
}

/// A replication controller whose pods are there.
fn replicated(scene: &Scene, app: &str, replicas: u32, finalizers: &Value) -> (String, Value, Vec<Value>) {
    let mut object = replication_controller(app, replicas);
    object["spec"]["template"]["metadata"]["finalizers"] = finalizers.clone();
    let controller = scene.create(&scene.core("replicationcontrollers"), &object);
    let pods = scene.until_items(&format!("{}?labelSelector=app%3D{app}", scene.core("pods")), |pods| {
        pods.len() == replicas as usize
    });
    (format!("{}/{app}", scene.core("replicationcontrollers")), controller, pods)
}

pub fn replication_controller_in_the_background(scene: &Scene) {
    let (path, _, _) = replicated(scene, "rc", 2, &json!(null));
    scene.api.delete_with(&path, &policy("Background")).ok();
    scene.until_gone(&path);
    scene.until_items(&scene.core("pods"), <[Value]>::is_empty);
}

pub fn replication_controller_in_the_foreground(scene: &Scene) {
    // The pods stay until somebody lets go of them.
    let (path, _, pods) = replicated(scene, "rc", 10, &json!(["example.com/held"]));
    scene.api.delete_with(&path, &policy("Foreground")).ok();
    scene.until_items(&scene.core("pods"), |pods| pods.len() == 10 && pods.iter().all(is_ending));
    let controller = scene.get(&path);
    assert!(is_ending(&controller));
    assert_eq!(controller["metadata"]["finalizers"], json!(["foregroundDeletion"]));
    let (last, first) = pods.split_last().expect("ten pods");
    let free = json!([{"op": "remove", "path": "/metadata/finalizers"}]);
    let release =
        |pod: &Value| scene.api.patch(Patch::Json, &format!("{}/{}", scene.core("pods"), name(pod)), &free);
    first.iter().for_each(|pod| drop(release(pod).ok()));
    scene.until_items(&scene.core("pods"), |pods| pods.len() == 1);
    assert!(is_ending(&scene.get(&path)), "one pod is left");
    release(last).ok();
    scene.until_gone(&path);
    assert_eq!(scene.items(&scene.core("pods")), Vec::<Value>::new());
}

pub fn replication_controller_orphans_its_pods(scene: &Scene) {
    let (path, _, _) = replicated(scene, "rc", 10, &json!(null));
    scene.api.delete_with(&path, &policy("Orphan")).ok();
    scene.until_gone(&path);
    let pods = scene.items(&scene.core("pods"));
    assert_eq!(pods.len(), 10);
    for pod in &pods {
        assert_eq!((&pod["metadata"]["ownerReferences"], is_ending(pod)), (&Value::Null, false), "{pod}");
    }
}

fn owner(object: &Value, kind: &str, blocks: bool) -> Value {
    json!({"apiVersion": "v1", "kind": kind, "name": name(object), "uid": uid(object),
        "blockOwnerDeletion": blocks})
}

pub fn pods_with_another_owner_stay(scene: &Scene) {
    let (leaving, _, pods) = replicated(scene, "leaving", 10, &json!(null));
    let (_, staying, _) = replicated(scene, "staying", 0, &json!(null));
    let (shared, _) = pods.split_at(5);
    for pod in shared {
        let path = format!("{}/{}", scene.core("pods"), name(pod));
        let owners = json!([owner(&staying, "ReplicationController", false)]);
        scene.api.patch(Patch::Strategic, &path, &json!({"metadata": {"ownerReferences": owners}})).ok();
    }
    scene.api.delete_with(&leaving, &policy("Foreground")).ok();
    scene.until_gone(&leaving);
    let left = scene.until_items(&scene.core("pods"), |pods| pods.len() == 5);
    for pod in &left {
        assert!(shared.iter().any(|one| uid(one) == uid(pod)), "{pod}");
        assert!(is_owned_by(pod, &staying) && !is_ending(pod), "{pod}");
        assert_eq!(pod["metadata"]["ownerReferences"].as_array().map(Vec::len), Some(1), "{pod}");
    }
}

pub fn owners_in_a_circle(scene: &Scene) {
    let pods = scene.core("pods");
    let made: Vec<Value> =
        ["a", "b", "c"].iter().map(|name| scene.create(&pods, &pod(name, "circle"))).collect();
    for (index, owned) in made.iter().enumerate() {
        let before = made.get(index + 2).or_else(|| made.get(index.wrapping_sub(1))).expect("a pod before");
        let change = json!({"metadata": {"ownerReferences": [owner(before, "Pod", true)]}});
        scene.api.merge(&format!("{pods}/{}", name(owned)), &change).ok();
    }
    scene.api.delete_with(&format!("{pods}/a"), &policy("Foreground")).ok();
    scene.until_items(&pods, <[Value]>::is_empty);
}

pub fn custom_resources_own_one_another(scene: &Scene) {
    let plural = "gcthings";
    let definition = crate::plane::definition(
        plural,
        "GcThing",
        json!([crate::plane::version(
            "v1",
            true,
            json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
        )]),
        json!({"strategy": "None"}),
    );
    let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    scene.create(definitions, &definition);
    scene.until(&format!("{definitions}/{plural}.example.com"), |one| {
        has_condition(one, "Established", "True")
    });
    let things = scene.at("example.com/v1", plural);
    let thing = |name: &str, owners: Value| {
        json!({"apiVersion": "example.com/v1", "kind": "GcThing",
            "metadata": {"name": name, "ownerReferences": owners}})
    };
    let parent = scene.create(&things, &thing("parent", json!([])));
    let reference = json!({"apiVersion": "example.com/v1", "kind": "GcThing", "name": "parent",
        "uid": uid(&parent), "blockOwnerDeletion": true});
    scene.create(&things, &thing("child", json!([reference])));
    scene.create(&things, &thing("other", json!([])));
    scene.api.delete_with(&format!("{things}/parent"), &policy("Foreground")).ok();
    scene.until_gone(&format!("{things}/parent"));
    let left = items(&scene.get(&things));
    assert_eq!(left.iter().map(name).collect::<Vec<_>>(), ["other"]);
}
