//! PodDisruptionBudgets: what they allow, and what evictions they hold back.

use serde_json::{Value, json};

use crate::client::Patch;
use crate::scene::{Scene, has_condition, name, workload};

fn budget(name: &str, spec: Value) -> Value {
    json!({"metadata": {"name": name, "labels": {"of": "budget"}}, "spec": spec})
}

fn selecting(app: &str, field: &str, value: Value) -> Value {
    json!({"selector": {"matchLabels": {"app": app}}, field: value})
}

fn budgets(scene: &Scene) -> String {
    scene.at("policy/v1", "poddisruptionbudgets")
}

/// Pods of a ReplicaSet, all of them ready.
fn ready(scene: &Scene, replicas: u32) -> Vec<Value> {
    let sets = scene.at("apps/v1", "replicasets");
    scene.create(&sets, &workload("web", replicas));
    let pods = scene.core("pods");
    scene.until_with(&pods, &format!("{sets}/web"), |set| set["status"]["readyReplicas"] == replicas);
    scene.items(&pods)
}

pub fn created_updated_patched_deleted(scene: &Scene) {
    let path = format!("{}/budget", budgets(scene));
    scene.create(&budgets(scene), &budget("budget", selecting("web", "minAvailable", json!("1%"))));
    scene.update(&path, |budget| budget["spec"]["minAvailable"] = "2%".into());
    let patch = json!({"spec": {"minAvailable": "3%"}});
    let patched = scene.api.patch(Patch::Strategic, &path, &patch).ok();
    assert_eq!(patched["spec"]["minAvailable"], "3%");
    // It selects by merging into the selector that is there.
    let patch = json!({"spec": {"selector": {"matchLabels": {"tier": "front"}}}});
    let patched = scene.api.patch(Patch::Merge, &path, &patch).ok();
    assert_eq!(patched["spec"]["selector"]["matchLabels"], json!({"app": "web", "tier": "front"}));
    assert_eq!(scene.get(&path)["metadata"]["generation"], 4);
    scene.api.delete(&path).ok();
    scene.until_gone(&path);
}

pub fn listed_everywhere_and_deleted(scene: &Scene) {
    let other = format!("{}-other", scene.ns);
    scene.namespace(&other, &json!({}));
    let there = crate::scene::collection("policy/v1", &other, "poddisruptionbudgets");
    for number in 0..3 {
        scene.create(
            &budgets(scene),
            &budget(&format!("b{number}"), selecting("x", "minAvailable", json!(1))),
        );
    }
    scene.create(&there, &budget("theirs", selecting("x", "minAvailable", json!(1))));
    let everywhere = scene.items("/apis/policy/v1/poddisruptionbudgets?labelSelector=of%3Dbudget");
    let ours = everywhere.iter().filter(|one| one["metadata"]["namespace"] == scene.ns.as_str());
    let theirs = everywhere.iter().filter(|one| one["metadata"]["namespace"] == other.as_str());
    assert_eq!((ours.count(), theirs.count()), (3, 1));
    scene.api.delete(&budgets(scene)).ok();
    scene.until_items(&budgets(scene), <[Value]>::is_empty);
    assert_eq!(scene.items(&there).len(), 1);
}

pub fn status_follows_pods(scene: &Scene) {
    ready(scene, 3);
    let path = format!("{}/budget", budgets(scene));
    scene.create(&budgets(scene), &budget("budget", selecting("web", "minAvailable", json!(2))));
    let seen = scene.until(&path, |budget| budget["status"]["disruptionsAllowed"] == 1);
    let status = &seen["status"];
    assert_eq!(
        (&status["currentHealthy"], &status["desiredHealthy"], &status["expectedPods"]),
        (&json!(3), &json!(2), &json!(3))
    );
    assert!(has_condition(&seen, "DisruptionAllowed", "True"), "{seen}");
}

pub fn status_is_written(scene: &Scene) {
    ready(scene, 1);
    let path = format!("{}/budget", budgets(scene));
    let status = format!("{path}/status");
    scene.create(&budgets(scene), &budget("budget", selecting("web", "minAvailable", json!(1))));
    scene.until(&path, |budget| budget["status"]["currentHealthy"] == 1);
    let disrupted = json!({"gone": "2026-01-01T00:00:00Z"});
    let updated = scene.update(&status, |budget| budget["status"]["disruptedPods"] = disrupted.clone());
    assert_eq!(updated["status"]["disruptedPods"], disrupted);
    let other =
        json!([{"op": "add", "path": "/status/disruptedPods", "value": {"other": "2026-01-01T00:00:00Z"}}]);
    let patched = scene.api.patch(Patch::Json, &status, &other).ok();
    assert_eq!(patched["status"]["disruptedPods"], json!({"other": "2026-01-01T00:00:00Z"}));
    assert_eq!(patched["spec"]["minAvailable"], 1);
}

pub fn evictions_wait_for_the_budget(scene: &Scene) {
    let pods = ready(scene, 3);
    let path = format!("{}/budget", budgets(scene));
    scene.create(&budgets(scene), &budget("budget", selecting("web", "minAvailable", json!(3))));
    scene.until(&path, |budget| budget["status"]["currentHealthy"] == 3);
    let pod = format!("{}/{}", scene.core("pods"), name(&pods[0]));
    let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction",
        "metadata": {"name": name(&pods[0]), "namespace": scene.ns}});
    let evict = || scene.api.post(&format!("{pod}/eviction"), &eviction);
    let refused = evict().refused(429);
    assert_eq!(refused, "Cannot evict pod as it would violate the pod's disruption budget.");
    scene.api.merge(&path, &json!({"spec": {"minAvailable": 2}})).ok();
    scene.until(&path, |budget| budget["status"]["disruptionsAllowed"] == 1);
    evict().ok();
    scene.until_gone(&pod);

    // Another one is left alone until what is missing is there again.
    let pod = format!("{}/{}", scene.core("pods"), name(&pods[1]));
    let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction",
        "metadata": {"name": name(&pods[1]), "namespace": scene.ns}});
    let evict = || scene.api.post(&format!("{pod}/eviction"), &eviction);
    evict().refused(429);
    let list = scene.core("pods");
    scene.until_with(&list, &path, |budget| budget["status"]["disruptionsAllowed"] == 1);
    evict().ok();
    scene.until_gone(&pod);
}
