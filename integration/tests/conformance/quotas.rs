//! ResourceQuotas: what is counted, when it is counted, and what is refused.

use serde_json::{Value, json};

use crate::client::Patch;
use crate::scene::{Scene, pod, replication_controller, workload};

fn quota(name: &str, hard: &Value, scopes: &Value) -> Value {
    json!({"metadata": {"name": name}, "spec": {"hard": hard, "scopes": scopes}})
}

/// A quota of the scene, whose use is computed.
fn set(scene: &Scene, name: &str, hard: &Value, scopes: &Value) -> String {
    scene.create(&scene.core("resourcequotas"), &quota(name, hard, scopes));
    let path = format!("{}/{name}", scene.core("resourcequotas"));
    scene.until(&path, |quota| quota["status"]["hard"] == *hard && quota["status"]["used"].is_object());
    path
}

/// Waits until so much is used.
fn used(scene: &Scene, quota: &str, expected: &Value) {
    let expected = expected.as_object().expect("an object");
    scene.until(quota, |quota| expected.iter().all(|(what, much)| quota["status"]["used"][what] == *much));
}

pub fn status_is_computed(scene: &Scene) {
    let hard = json!({"count/configmaps": "9", "pods": "5", "requests.cpu": "1", "services": "3"});
    let quota = set(scene, "quota", &hard, &json!([]));
    let seen = scene.get(&quota);
    assert_eq!(seen["status"]["hard"], hard);
    // The namespace's own is counted as soon as it is there.
    used(scene, &quota, &json!({"count/configmaps": "1", "pods": "0", "requests.cpu": "0", "services": "0"}));
}

/// An object is counted as long as it is there.
fn counts(scene: &Scene, what: &str, collection: &str, object: &Value, before: u32) {
    let quota = set(scene, "quota", &json!({what: "10"}), &json!([]));
    used(scene, &quota, &json!({what: before.to_string()}));
    let made = scene.create(collection, object);
    used(scene, &quota, &json!({what: (before + 1).to_string()}));
    scene.api.delete(&format!("{collection}/{}", crate::scene::name(&made))).ok();
    used(scene, &quota, &json!({what: before.to_string()}));
}

pub fn config_maps(scene: &Scene) {
    scene.until(&format!("{}/kube-root-ca.crt", scene.core("configmaps")), |_| true);
    let object = json!({"metadata": {"name": "counted"}});
    counts(scene, "configmaps", &scene.core("configmaps"), &object, 1);
}

pub fn secrets(scene: &Scene) {
    let object = json!({"metadata": {"name": "counted"}, "stringData": {"a": "b"}});
    counts(scene, "secrets", &scene.core("secrets"), &object, 0);
}

pub fn replica_sets(scene: &Scene) {
    let object = workload("counted", 0);
    counts(scene, "count/replicasets.apps", &scene.at("apps/v1", "replicasets"), &object, 0);
}

pub fn replication_controllers(scene: &Scene) {
    let object = replication_controller("counted", 0);
    counts(scene, "replicationcontrollers", &scene.core("replicationcontrollers"), &object, 0);
}

pub fn custom_resources(scene: &Scene) {
    let plural = "counteds";
    let open = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let versions = json!([crate::plane::version("v1", true, open)]);
    let definition = crate::plane::definition(plural, "Counted", versions, json!({"strategy": "None"}));
    scene.create("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", &definition);
    let things = scene.at("example.com/v1", plural);
    scene.until(&things, |_| true);
    let object = json!({"apiVersion": "example.com/v1", "kind": "Counted", "metadata": {"name": "one"}});
    counts(scene, "count/counteds.example.com", &things, &object, 0);
}

pub fn persistent_volume_claims(scene: &Scene) {
    let hard = json!({"persistentvolumeclaims": "5", "requests.storage": "10Gi"});
    let quota = set(scene, "quota", &hard, &json!([]));
    let claim = json!({"metadata": {"name": "counted"}, "spec": {"accessModes": ["ReadWriteOnce"],
        "storageClassName": "none", "resources": {"requests": {"storage": "1Gi"}}}});
    scene.create(&scene.core("persistentvolumeclaims"), &claim);
    used(scene, &quota, &json!({"persistentvolumeclaims": "1", "requests.storage": "1Gi"}));
    scene.api.delete(&format!("{}/counted", scene.core("persistentvolumeclaims"))).ok();
    used(scene, &quota, &json!({"persistentvolumeclaims": "0", "requests.storage": "0"}));
}

pub fn services(scene: &Scene) {
    let hard = json!({"services": "10", "services.nodeports": "1", "services.loadbalancers": "1"});
    let quota = set(scene, "quota", &hard, &json!([]));
    let service = |name: &str, kind: &str, allocates: Value| {
        json!({"metadata": {"name": name}, "spec": {"type": kind, "ports": [{"port": 80}],
            "selector": {"app": name}, "allocateLoadBalancerNodePorts": allocates}})
    };
    let services = scene.core("services");
    scene.create(&services, &service("cluster-ip", "ClusterIP", json!(null)));
    scene.create(&services, &service("node-port", "NodePort", json!(null)));
    used(scene, &quota, &json!({"services": "2", "services.nodeports": "1", "services.loadbalancers": "0"}));
    // A balancer with node ports needs one more than there is.
    let refused = scene.api.post(&services, &service("balanced", "LoadBalancer", json!(null))).refused(403);
    assert!(refused.contains("exceeded quota: quota"), "{refused}");
    scene.create(&services, &service("portless", "LoadBalancer", json!(false)));
    used(scene, &quota, &json!({"services": "3", "services.nodeports": "1", "services.loadbalancers": "1"}));
    for name in ["cluster-ip", "node-port", "portless"] {
        scene.api.delete(&format!("{services}/{name}")).ok();
    }
    used(scene, &quota, &json!({"services": "0", "services.nodeports": "0", "services.loadbalancers": "0"}));
}

/// A pod that asks for so much, and may have as much.
fn asking(name: &str, requests: &Value) -> Value {
    let mut pod = pod(name, name);
    pod["spec"]["containers"][0]["resources"] = json!({"requests": requests, "limits": requests});
    pod
}

pub fn pods(scene: &Scene) {
    let extended = "requests.example.com/dongle";
    let hard =
        json!({"pods": "5", "cpu": "1", "memory": "500Mi", "ephemeral-storage": "50Gi", extended: "3"});
    let quota = set(scene, "quota", &hard, &json!([]));
    let pods = scene.core("pods");
    let requests =
        json!({"cpu": "500m", "memory": "252Mi", "ephemeral-storage": "30Gi", "example.com/dongle": "2"});
    scene.create(&pods, &asking("fits", &requests));
    let taken =
        json!({"pods": "1", "cpu": "500m", "memory": "252Mi", "ephemeral-storage": "30Gi", extended: "2"});
    used(scene, &quota, &taken);
    for (name, more) in [
        ("too-much-cpu", json!({"cpu": "600m", "memory": "100Mi", "ephemeral-storage": "1Gi"})),
        (
            "too-many-dongles",
            json!({"cpu": "100m", "memory": "100Mi", "ephemeral-storage": "1Gi", "example.com/dongle": "2"}),
        ),
    ] {
        let refused = scene.api.post(&pods, &asking(name, &more)).refused(403);
        assert!(refused.contains("exceeded quota: quota"), "{refused}");
    }
    // A pod cannot ask for more later.
    let mut grown = scene.get(&format!("{pods}/fits"));
    grown["spec"]["containers"][0]["resources"] =
        json!({"requests": {"cpu": "100m", "memory": "100Mi"}, "limits": {"cpu": "100m", "memory": "100Mi"}});
    scene.api.put(&format!("{pods}/fits"), &grown).refused(422);
    used(scene, &quota, &taken);
    scene.api.delete(&format!("{pods}/fits")).ok();
    let none = json!({"pods": "0", "cpu": "0", "memory": "0", "ephemeral-storage": "0", extended: "0"});
    used(scene, &quota, &none);
}

pub fn scopes_of_quality(scene: &Scene) {
    let hard = json!({"pods": "5"});
    let best = set(scene, "best", &hard, &json!(["BestEffort"]));
    let other = set(scene, "other", &hard, &json!(["NotBestEffort"]));
    let pods = scene.core("pods");
    let both = |of_best: &str, of_other: &str| {
        used(scene, &best, &json!({"pods": of_best}));
        used(scene, &other, &json!({"pods": of_other}));
    };
    scene.create(&pods, &pod("effortless", "x"));
    both("1", "0");
    scene.api.delete(&format!("{pods}/effortless")).ok();
    both("0", "0");
    scene.create(&pods, &asking("asking", &json!({"cpu": "100m"})));
    both("0", "1");
    scene.api.delete(&format!("{pods}/asking")).ok();
    both("0", "0");
}

pub fn scopes_of_ending(scene: &Scene) {
    let hard = json!({"pods": "5", "requests.cpu": "1", "limits.memory": "1Gi"});
    let ending = set(scene, "ending", &hard, &json!(["Terminating"]));
    let lasting = set(scene, "lasting", &hard, &json!(["NotTerminating"]));
    let pods = scene.core("pods");
    let requests = json!({"cpu": "500m", "memory": "200Mi"});
    let some = json!({"pods": "1", "requests.cpu": "500m", "limits.memory": "200Mi"});
    let none = json!({"pods": "0", "requests.cpu": "0", "limits.memory": "0"});
    let both = |of_ending: &Value, of_lasting: &Value| {
        used(scene, &ending, of_ending);
        used(scene, &lasting, of_lasting);
    };
    scene.create(&pods, &asking("lasts", &requests));
    both(&none, &some);
    scene.api.delete(&format!("{pods}/lasts")).ok();
    both(&none, &none);
    let mut ends = asking("ends", &requests);
    ends["spec"]["activeDeadlineSeconds"] = 3600.into();
    scene.create(&pods, &ends);
    both(&some, &none);
    scene.api.delete(&format!("{pods}/ends")).ok();
    both(&none, &none);
}

pub fn scopes_of_priority(scene: &Scene) {
    let class = format!("{}-high", scene.ns);
    let classes = "/apis/scheduling.k8s.io/v1/priorityclasses";
    scene.create(classes, &json!({"metadata": {"name": class}, "value": 1000}));
    let selector = json!({"matchExpressions": [
        {"scopeName": "PriorityClass", "operator": "In", "values": [class]}]});
    let mut object = quota("high", &json!({"pods": "1"}), &json!(null));
    object["spec"]["scopeSelector"] = selector;
    scene.create(&scene.core("resourcequotas"), &object);
    let quota = format!("{}/high", scene.core("resourcequotas"));
    used(scene, &quota, &json!({"pods": "0"}));
    let pods = scene.core("pods");
    let high = |name: &str| {
        let mut pod = pod(name, name);
        pod["spec"]["priorityClassName"] = class.as_str().into();
        pod
    };
    scene.create(&pods, &pod("low", "low"));
    scene.create(&pods, &high("first"));
    used(scene, &quota, &json!({"pods": "1"}));
    let refused = scene.api.post(&pods, &high("second")).refused(403);
    assert!(
        refused.contains("exceeded quota: high, requested: pods=1, used: pods=1, limited: pods=1"),
        "{refused}"
    );
    scene.api.delete(&format!("{pods}/first")).ok();
    used(scene, &quota, &json!({"pods": "0"}));
}

pub fn updated_and_deleted(scene: &Scene) {
    let quota = set(scene, "quota", &json!({"cpu": "1", "memory": "500Mi"}), &json!([]));
    let wanted = json!({"cpu": "2", "memory": "1Gi"});
    scene.update(&quota, |quota| quota["spec"]["hard"] = wanted.clone());
    let updated = scene.until(&quota, |quota| quota["status"]["hard"] == wanted);
    assert_eq!(updated["spec"]["hard"], wanted);
    scene.api.delete(&quota).ok();
    scene.until_gone(&quota);
}

pub fn lifecycle(scene: &Scene) {
    let quotas = scene.core("resourcequotas");
    let label = scene.ns.as_str();
    let mut object = quota("quota", &json!({"cpu": "500m", "memory": "500Mi"}), &json!([]));
    object["metadata"]["labels"] = json!({"of": label});
    scene.create(&quotas, &object);
    let everywhere = format!("/api/v1/resourcequotas?labelSelector=of%3D{label}");
    assert_eq!(scene.items(&everywhere).len(), 1);
    let change = json!({"metadata": {"labels": {"patched": "yes"}},
        "spec": {"hard": {"memory": "750Mi"}}});
    let patched = scene.api.patch(Patch::Strategic, &format!("{quotas}/quota"), &change).ok();
    assert_eq!(patched["metadata"]["labels"]["patched"], "yes");
    assert_eq!(patched["spec"]["hard"], json!({"cpu": "500m", "memory": "750Mi"}));
    scene.api.delete(&format!("{quotas}?labelSelector=patched%3Dyes")).ok();
    scene.until_items(&everywhere, <[Value]>::is_empty);
}

pub fn status_is_written(scene: &Scene) {
    let hard = json!({"cpu": "500m", "memory": "500Mi"});
    let path = set(scene, "quota", &hard, &json!([]));
    let (status, list) = (format!("{path}/status"), scene.core("resourcequotas"));
    let version = scene.get(&list)["metadata"]["resourceVersion"].clone();
    let mut watch = scene.api.watch(&format!(
        "{list}?fieldSelector=metadata.name%3Dquota&resourceVersion={}",
        version.as_str().expect("a version")
    ));
    let more = json!({"cpu": "600m", "memory": "600Mi"});
    scene.update(&status, |quota| quota["status"]["hard"] = more.clone());
    let seen = watch.until("MODIFIED", |quota| quota["status"]["hard"] == more);
    assert_eq!(seen["spec"]["hard"], hard, "a status is no specification");
    // Whoever keeps quotas says again what is so.
    watch.until("MODIFIED", |quota| quota["status"]["hard"] == hard);

    scene.api.patch(Patch::Merge, &path, &json!({"spec": {"hard": more}})).ok();
    watch.until("MODIFIED", |quota| quota["spec"]["hard"] == more && quota["status"]["hard"] == more);
    let other = json!({"cpu": "250m", "memory": "250Mi"});
    let patched = scene.api.patch(Patch::Strategic, &status, &json!({"status": {"hard": other}})).ok();
    assert_eq!((&patched["status"]["hard"], &patched["spec"]["hard"]), (&other, &more));
    watch.until("MODIFIED", |quota| quota["status"]["hard"] == other);
    watch.until("MODIFIED", |quota| quota["status"]["hard"] == more);
    assert_eq!(scene.get(&status)["status"]["hard"], more);
}
