//! Deployments: how they get from one template to the next. The pods become ready because the test says so.

use serde_json::{Value, json};

use crate::client::Patch;
use crate::scene::{Scene, by_hand, has_condition, is_owned_by, items, name, workload};

struct Deployed<'a> {
    scene: &'a Scene<'a>,
    path: String,
    sets: String,
    pods: String,
}

/// Makes a deployment, and waits until its pods are available.
fn deployed<'a>(scene: &'a Scene, replicas: u32, more: &Value) -> Deployed<'a> {
    let deployments = scene.at("apps/v1", "deployments");
    let mut object = workload("web", replicas);
    for (field, value) in more.as_object().into_iter().flatten() {
        object["spec"][field] = value.clone();
    }
    scene.create(&deployments, &object);
    let path = format!("{deployments}/web");
    let deployed =
        Deployed { scene, path, sets: scene.at("apps/v1", "replicasets"), pods: scene.core("pods") };
    deployed.complete(replicas);
    deployed
}

impl Deployed<'_> {
    /// Waits until so many pods are all of the present template, and available.
    fn complete(&self, replicas: u32) -> Value {
        self.scene.until_with(&self.pods, &self.path, |deployment| {
            let status = &deployment["status"];
            status["observedGeneration"] == deployment["metadata"]["generation"]
                && status["updatedReplicas"] == replicas
                && status["availableReplicas"] == replicas
                && status["replicas"] == replicas
        })
    }

    fn image(&self, image: &str) -> Value {
        let change = json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": image}]}}}});
        self.scene.api.patch(Patch::Strategic, &self.path, &change).ok()
    }

    /// The image of each ReplicaSet, and how many pods it wants; in the order of images.
    fn sets(&self) -> Vec<(String, u64)> {
        sets(&self.scene.get(&self.sets))
    }
}

fn sets(list: &Value) -> Vec<(String, u64)> {
    let one = |set: &Value| {
        let image = set["spec"]["template"]["spec"]["containers"][0]["image"].as_str().unwrap_or_default();
        (image.to_owned(), set["spec"]["replicas"].as_u64().unwrap_or(0))
    };
    let mut all: Vec<_> = items(list).iter().map(one).collect();
    all.sort();
    all
}

fn wanted(expected: &[(&str, u64)]) -> Vec<(String, u64)> {
    expected.iter().map(|(image, replicas)| ((*image).to_owned(), *replicas)).collect()
}

pub fn rolls(scene: &Scene) {
    let web = deployed(scene, 3, &json!({}));
    assert!(has_condition(&scene.get(&web.path), "Available", "True"));
    web.image("newer");
    let seen = web.complete(3);
    assert_eq!(seen["metadata"]["annotations"]["deployment.kubernetes.io/revision"], "2");
    assert_eq!(web.sets(), wanted(&[("newer", 3), ("none", 0)]));
    let owned = scene.items(&web.sets).iter().all(|set| is_owned_by(set, &seen));
    assert!(owned);
    let pods = scene.until_items(&web.pods, |pods| pods.len() == 3);
    for pod in &pods {
        assert_eq!(pod["spec"]["containers"][0]["image"], "newer");
        assert!(pod["metadata"]["labels"]["pod-template-hash"].is_string());
    }
}

pub fn recreates(scene: &Scene) {
    let web = deployed(scene, 2, &json!({"strategy": {"type": "Recreate"}}));
    let list = format!("{}?labelSelector=app%3Dweb", web.pods);
    let version = scene.get(&list)["metadata"]["resourceVersion"].as_str().expect("a version").to_owned();
    let mut watch = scene.api.watch(&format!("{list}&resourceVersion={version}"));
    web.image("newer");
    web.complete(2);
    // Both old ones are gone before the first new one comes.
    let mut gone = 0;
    loop {
        let (kind, pod) = watch.next();
        let newer = pod["spec"]["containers"][0]["image"] == "newer";
        assert!(!newer || gone == 2, "{pod}");
        match kind.as_str() {
            "DELETED" => gone += 1,
            "ADDED" if newer => break,
            _ => {}
        }
    }
}

pub fn history_is_limited(scene: &Scene) {
    let web = deployed(scene, 1, &json!({"revisionHistoryLimit": 0}));
    web.image("newer");
    web.complete(1);
    let set = scene.until_items(&web.sets, |sets| sets.len() == 1);
    assert_eq!(set[0]["spec"]["template"]["spec"]["containers"][0]["image"], "newer");
}

pub fn rolls_over(scene: &Scene) {
    let strategy = json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}});
    let web = deployed(scene, 2, &json!({"strategy": strategy}));
    // The second one does not get anywhere: nobody says that its pod is ready.
    web.image("broken");
    scene.until(&web.sets, |list| sets(list) == wanted(&[("broken", 1), ("none", 2)]));
    web.image("newer");
    web.complete(2);
    assert_eq!(web.sets(), wanted(&[("broken", 0), ("newer", 2), ("none", 0)]));
}

pub fn scales_in_proportion(scene: &Scene) {
    let strategy = json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 2, "maxSurge": 3}});
    let web = deployed(scene, 10, &json!({"strategy": strategy}));
    web.image("broken");
    // As far as it gets without the new ones ever being ready.
    let reached = wanted(&[("broken", 5), ("none", 8)]);
    scene.until(&web.sets, |list| sets(list) == reached);
    scene.until(&web.path, |one| {
        one["status"]["availableReplicas"] == 8 && one["status"]["updatedReplicas"] == 5
    });
    scene.api.merge(&web.path, &json!({"spec": {"replicas": 30}})).ok();
    scene.until(&web.sets, |list| sets(list) == wanted(&[("broken", 13), ("none", 20)]));
}

pub fn scale(scene: &Scene) {
    let web = deployed(scene, 1, &json!({}));
    let scale = format!("{}/scale", web.path);
    assert_eq!(scene.get(&scale)["spec"]["replicas"], 1);
    scene.update(&scale, |scale| scale["spec"]["replicas"] = 2.into());
    web.complete(2);
    scene.api.merge(&scale, &json!({"spec": {"replicas": 4}})).ok();
    web.complete(4);
    assert_eq!(scene.get(&scale)["status"], json!({"replicas": 4, "selector": "app=web"}));
}

pub fn lifecycle(scene: &Scene) {
    let web = deployed(scene, 1, &json!({}));
    let list = format!("{}?labelSelector=app%3Dweb", scene.at("apps/v1", "deployments"));
    let version = scene.get(&list)["metadata"]["resourceVersion"].as_str().expect("a version").to_owned();
    let mut watch = scene.api.watch(&format!("{list}&resourceVersion={version}"));
    let change = json!({"metadata": {"labels": {"patched": "yes"}}, "spec": {"replicas": 2}});
    scene.api.patch(Patch::Strategic, &web.path, &change).ok();
    web.complete(2);
    watch.until("MODIFIED", |one| {
        one["metadata"]["labels"]["patched"] == "yes" && one["status"]["readyReplicas"] == 2
    });
    let status = format!("{}/status", web.path);
    scene.api.merge(&status, &json!({"status": {"readyReplicas": 0, "availableReplicas": 0}})).ok();
    watch.until("MODIFIED", |one| one["status"]["readyReplicas"].as_u64().unwrap_or(0) == 0);
    watch.until("MODIFIED", |one| one["status"]["readyReplicas"] == 2);
    scene.update(&status, |one| {
        one["status"]["conditions"].as_array_mut().expect("conditions").push(by_hand("StatusUpdate"));
    });
    watch.until("MODIFIED", |one| has_condition(one, "StatusUpdate", "True"));
    let condition = json!([{"type": "StatusPatched", "status": "True"}]);
    let patched = scene.api.merge(&status, &json!({"status": {"conditions": condition}})).ok();
    assert!(has_condition(&patched, "StatusPatched", "True"));
    scene.api.delete(&list).ok();
    watch.until("DELETED", |one| name(one) == "web");
    scene.until_items(&web.pods, <[Value]>::is_empty);
}
