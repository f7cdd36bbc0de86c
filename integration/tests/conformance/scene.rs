//! Where one behaviour is tried: a namespace of its own on the common plane, and the words that the tests are
//! written in. Where a pod has to run, a test writes its status, as a kubelet does.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::client::{Answer, Api, Patch};
use crate::plane::Plane;

/// How long something that has to come about may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(50);
/// Attempts to write what others write to as well.
const ATTEMPTS: usize = 50;

/// A namespace of the plane, and who may do everything there.
pub struct Scene<'a> {
    pub plane: &'a Plane,
    pub api: &'a Api,
    pub ns: String,
}

impl<'a> Scene<'a> {
    /// Makes the namespace, and waits until pods may be made there.
    pub fn new(plane: &'a Plane, api: &'a Api, ns: String) -> Scene<'a> {
        let scene = Scene { plane, api, ns };
        scene.namespace(&scene.ns, &json!({}));
        scene
    }

    /// Makes another namespace with these labels.
    pub fn namespace(&self, name: &str, labels: &Value) {
        let metadata = json!({"name": name, "labels": labels});
        self.api.post("/api/v1/namespaces", &json!({"metadata": metadata})).ok();
        self.until(&format!("/api/v1/namespaces/{name}/serviceaccounts/default"), |_| true);
    }

    /// A collection in the scene's namespace.
    pub fn at(&self, group_version: &str, plural: &str) -> String {
        collection(group_version, &self.ns, plural)
    }

    /// A collection of the core group in the scene's namespace.
    pub fn core(&self, plural: &str) -> String {
        self.at("v1", plural)
    }

    /// Makes an object in a collection, which is a path.
    #[track_caller]
    pub fn create(&self, collection: &str, object: &Value) -> Value {
        self.api.post(collection, object).ok()
    }

    /// An object, or a list.
    #[track_caller]
    pub fn get(&self, path: &str) -> Value {
        self.api.get(path).ok()
    }

    /// A list's items.
    #[track_caller]
    pub fn items(&self, path: &str) -> Vec<Value> {
        items(&self.get(path))
    }

    /// Reads, changes and writes until nobody came in between.
    #[track_caller]
    pub fn update(&self, path: &str, change: impl Fn(&mut Value)) -> Value {
        for _ in 0..ATTEMPTS {
            let mut object = self.get(path);
            change(&mut object);
            let answer: Answer = self.api.put(path, &object);
            if answer.code != 409 {
                return answer.ok();
            }
        }
        panic!("somebody always comes in between at {path}");
    }

    /// Sets conditions of a status, by an update and by a patch.
    #[track_caller]
    pub fn set_conditions(&self, status: &str) {
        let updated =
            self.update(status, |one| one["status"]["conditions"] = json!([by_hand("StatusUpdate")]));
        assert!(has_condition(&updated, "StatusUpdate", "True"));
        let change = json!({"status": {"conditions": [by_hand("StatusPatched")]}});
        assert!(has_condition(&self.api.merge(status, &change).ok(), "StatusPatched", "True"));
    }

    /// Waits until something is there and this holds.
    #[track_caller]
    pub fn until(&self, path: &str, expected: impl Fn(&Value) -> bool) -> Value {
        let begun = Instant::now();
        loop {
            let answer = self.api.get(path);
            if answer.code == 200 && expected(&answer.body) {
                return answer.body;
            }
            assert!(begun.elapsed() < PATIENCE, "{path} still is: {} {}", answer.code, answer.body);
            pause();
        }
    }

    /// Waits until this holds for a list's items.
    #[track_caller]
    pub fn until_items(&self, path: &str, expected: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        items(&self.until(path, |list| list["items"].as_array().is_some_and(|items| expected(items))))
    }

    /// Waits until something is no longer there.
    #[track_caller]
    pub fn until_gone(&self, path: &str) {
        let begun = Instant::now();
        loop {
            let answer = self.api.get(path);
            if answer.code == 404 {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "{path} still is: {} {}", answer.code, answer.body);
            pause();
        }
    }

    /// Waits until a request is answered as expected, and repeats it until then.
    #[track_caller]
    pub fn until_answered(&self, ask: impl Fn() -> Answer, expected: impl Fn(&Answer) -> bool) -> Answer {
        let begun = Instant::now();
        loop {
            let answer = ask();
            if expected(&answer) {
                return answer;
            }
            assert!(begun.elapsed() < PATIENCE, "still answered: {answer:?}");
            pause();
        }
    }

    /// What a kubelet writes about a pod of the scene's namespace.
    #[track_caller]
    pub fn pod_status(&self, pod: &str, status: &Value) {
        let path = format!("{}/{pod}/status", self.core("pods"));
        self.api.patch(Patch::Strategic, &path, &json!({"status": status})).ok();
    }

    /// Makes a node that says that it is ready, for pods of this scene alone. It is an object without a kubelet.
    #[track_caller]
    pub fn node(&self, number: u8) -> String {
        let name = format!("{}-node{number}", self.ns);
        let taint = json!({"key": "of", "value": self.ns, "effect": "NoSchedule"});
        let object =
            json!({"metadata": {"name": name, "labels": {"of": self.ns}}, "spec": {"taints": [taint]}});
        self.create("/api/v1/nodes", &object);
        let room = json!({"cpu": "1", "memory": "1Gi", "pods": "10"});
        let status = json!({"status": {"capacity": room, "allocatable": room, "conditions": [
            {"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "ready"}]}});
        self.api.patch(Patch::Strategic, &format!("/api/v1/nodes/{name}/status"), &status).ok();
        name
    }

    /// A pod runs and is ready.
    #[track_caller]
    pub fn pod_ready(&self, pod: &str) {
        self.pod_status(pod, &ready());
    }

    /// A pod's containers ended; the phase is `Succeeded` or `Failed`.
    #[track_caller]
    pub fn pod_ended(&self, pod: &str, phase: &str, exit_code: i64) {
        let state = json!({"terminated": {"exitCode": exit_code, "reason": "Completed",
            "startedAt": "2026-01-01T00:00:00Z", "finishedAt": "2026-01-01T00:00:01Z"}});
        let containers = json!([{"name": "c", "image": "none", "imageID": "none", "ready": false,
            "restartCount": 0, "state": state}]);
        self.pod_status(pod, &json!({"phase": phase, "containerStatuses": containers}));
    }

    /// Every pod of a list that has not started yet becomes ready.
    pub fn all_ready(&self, pods: &str) {
        for pod in self.items(pods) {
            if pod["status"]["phase"] == "Pending" && !is_ending(&pod) {
                // It may be gone by now.
                let path = format!("{}/{}/status", self.core("pods"), name(&pod));
                self.api.patch(Patch::Strategic, &path, &json!({"status": ready()}));
            }
        }
    }

    /// Waits as `until`, while every pod of a list becomes ready.
    #[track_caller]
    pub fn until_with(&self, pods: &str, path: &str, expected: impl Fn(&Value) -> bool) -> Value {
        let begun = Instant::now();
        loop {
            self.all_ready(pods);
            let answer = self.api.get(path);
            if answer.code == 200 && expected(&answer.body) {
                return answer.body;
            }
            assert!(begun.elapsed() < PATIENCE, "{path} still is: {} {}", answer.code, answer.body);
            pause();
        }
    }
}

fn ready() -> Value {
    json!({"phase": "Running", "podIP": "10.9.8.7", "podIPs": [{"ip": "10.9.8.7"}],
        "startTime": "2026-01-01T00:00:00Z", "conditions": [
            {"type": "Initialized", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"},
            {"type": "ContainersReady", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"},
            {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}],
        "containerStatuses": [{"name": "c", "image": "none", "imageID": "none", "ready": true, "started": true,
            "restartCount": 0, "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}}]})
}

/// Where a kind's objects are; no namespace for a cluster's, or for those of all namespaces.
pub fn collection(group_version: &str, ns: &str, plural: &str) -> String {
    let root = if group_version == "v1" { "/api/v1".into() } else { format!("/apis/{group_version}") };
    if ns.is_empty() { format!("{root}/{plural}") } else { format!("{root}/namespaces/{ns}/{plural}") }
}

/// A list's items.
pub fn items(list: &Value) -> Vec<Value> {
    list["items"].as_array().cloned().unwrap_or_default()
}

/// An object's name.
pub fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or_default()
}

/// An object's uid.
pub fn uid(object: &Value) -> &str {
    object["metadata"]["uid"].as_str().unwrap_or_default()
}

/// Whether an object is being deleted.
pub fn is_ending(object: &Value) -> bool {
    object["metadata"]["deletionTimestamp"].is_string()
}

/// Whether an object has a condition of this type with this status.
pub fn has_condition(object: &Value, kind: &str, status: &str) -> bool {
    let conditions = object["status"]["conditions"].as_array();
    conditions.is_some_and(|all| all.iter().any(|one| one["type"] == kind && one["status"] == status))
}

/// A condition as nobody but a test sets it.
pub fn by_hand(kind: &str) -> Value {
    json!({"type": kind, "status": "True", "reason": "ByHand", "message": "set by hand"})
}

/// Whether an owner is among an object's owners.
pub fn is_owned_by(object: &Value, owner: &Value) -> bool {
    let owners = object["metadata"]["ownerReferences"].as_array();
    owners.is_some_and(|all| all.iter().any(|one| one["uid"] == owner["metadata"]["uid"]))
}

/// A template of pods with the label `app`.
pub fn template(app: &str) -> Value {
    json!({"metadata": {"labels": {"app": app}}, "spec": pod_spec()})
}

/// What a pod of one container is made from.
pub fn pod_spec() -> Value {
    json!({"containers": [{"name": "c", "image": "none"}]})
}

/// A pod with the label `app`.
pub fn pod(name: &str, app: &str) -> Value {
    json!({"metadata": {"name": name, "labels": {"app": app}}, "spec": pod_spec()})
}

/// Something that keeps so many pods with the label `app`, named like it.
pub fn workload(app: &str, replicas: u32) -> Value {
    json!({"metadata": {"name": app, "labels": {"app": app}}, "spec": {"replicas": replicas,
        "selector": {"matchLabels": {"app": app}}, "template": template(app)}})
}

/// A replication controller that keeps so many pods with the label `app`, named like it.
pub fn replication_controller(app: &str, replicas: u32) -> Value {
    json!({"metadata": {"name": app, "labels": {"app": app}}, "spec": {"replicas": replicas,
        "selector": {"app": app}, "template": template(app)}})
}

#[expect(clippy::disallowed_methods, reason = "the test's own thread, between two looks at the plane")]
fn pause() {
    std::thread::sleep(PAUSE);
}
