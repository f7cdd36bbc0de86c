//! Admission webhooks, for namespaces with the scene's label alone: what they deny, what they change, and what is none
//! of their business.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::client::{Answer, Patch};
use crate::crds::{DEFINITIONS, declaration, declare, open, words};
use crate::plane::server::{Answer as Said, Asked, Server};
use crate::plane::version;
use crate::scene::{Scene, pod};

const CONFIGURATIONS: &str = "/apis/admissionregistration.k8s.io/v1";

fn review(asked: &Asked, mut response: Value) -> Said {
    response["uid"] = asked.body["request"]["uid"].clone();
    Said::Json(
        200,
        json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response}),
    )
}

/// What the webhooks say: `/deny` denies, `/mutate` adds data, `/pod` adds a container.
fn answer(asked: &Asked) -> Said {
    let patch = |patch: Value| {
        let patch = STANDARD.encode(patch.to_string());
        review(asked, json!({"allowed": true, "patchType": "JSONPatch", "patch": patch}))
    };
    match asked.path() {
        "/mutate" => patch(json!([{"op": "add", "path": "/data/mutated", "value": "yes"}])),
        "/pod" => {
            let container = json!({"name": "added", "image": "some", "resources": {}});
            patch(json!([{"op": "add", "path": "/spec/initContainers", "value": [container]}]))
        }
        _ => review(asked, json!({"allowed": false, "status": {"message": "the webhook says no"}})),
    }
}

/// What a webhook is asked about.
struct Rules<'a>(&'a [&'a str], &'a str, &'a str);

fn hook(scene: &Scene, client: &Value, rules: &Rules) -> Value {
    let Rules(operations, group, resource) = rules;
    json!({"name": format!("{}.example.com", scene.ns), "clientConfig": client, "admissionReviewVersions": ["v1"],
        "sideEffects": "None", "timeoutSeconds": 10, "namespaceSelector": {"matchLabels": {"of": scene.ns}},
        "rules": [{"operations": operations, "apiGroups": [group], "apiVersions": ["*"], "resources": [resource]}]})
}

fn collection(kind: &str) -> String {
    format!("{CONFIGURATIONS}/{}webhookconfigurations", kind.to_lowercase())
}

/// Puts webhooks in force, for the scene's namespace.
fn in_force(scene: &Scene, kind: &str, hooks: &[Value]) -> String {
    let label = json!({"metadata": {"labels": {"of": scene.ns}}});
    scene.api.merge(&format!("/api/v1/namespaces/{}", scene.ns), &label).ok();
    let name = format!("{}-{}", scene.ns, kind.to_lowercase());
    let object = json!({"metadata": {"name": name, "labels": {"of": scene.ns}}, "webhooks": hooks});
    scene.create(&collection(kind), &object);
    format!("{}/{name}", collection(kind))
}

fn map(name: &str) -> Value {
    json!({"metadata": {"name": name}, "data": {"start": "here"}})
}

/// Whether a webhook denied a request.
fn denied(answer: &Answer) -> bool {
    answer.body["message"]
        .as_str()
        .is_some_and(|said| said.ends_with("denied the request: the webhook says no"))
}

pub fn denies(scene: &Scene) {
    let server = Server::start(&[], None, answer);
    let client = server.client_config("/deny");
    scene.create(&scene.core("configmaps"), &map("before"));
    let of = |resource| hook(scene, &client, &Rules(&["CREATE", "UPDATE"], "", resource));
    let mut second = of("pods");
    second["name"] = format!("{}.pods.example.com", scene.ns).into();
    let path = in_force(scene, "Validating", &[of("configmaps"), second]);
    let (maps, pods) = (scene.core("configmaps"), scene.core("pods"));
    assert!(denied(&scene.api.post(&maps, &map("after"))));
    assert!(denied(&scene.api.post(&pods, &pod("after", "x"))));
    let before = format!("{maps}/before");
    assert!(denied(&scene.api.put(&before, &map("before"))));
    assert!(denied(&scene.api.merge(&before, &json!({"data": {"x": "y"}}))));
    assert_eq!(scene.get(&before)["data"], json!({"start": "here"}));
    // Elsewhere nobody is asked.
    let other = format!("{}-other", scene.ns);
    scene.namespace(&other, &json!({}));
    scene.create(&crate::scene::collection("v1", &other, "configmaps"), &map("after"));
    // It is asked for what its rules say now.
    scene.update(&path, |one| one["webhooks"][0]["rules"][0]["operations"] = json!(["UPDATE"]));
    scene.until_answered(|| scene.api.post(&maps, &map("after")), |answer| answer.code == 201);
    assert!(denied(&scene.api.merge(&before, &json!({"data": {"x": "y"}}))));
    let add = json!([{"op": "replace", "path": "/webhooks/0/rules/0/operations", "value": ["CREATE"]}]);
    scene.api.patch(Patch::Json, &path, &add).ok();
    scene.until_answered(|| scene.api.post(&maps, &map("more")), denied);
}

pub fn changes(scene: &Scene) {
    let server = Server::start(&[], None, answer);
    let client = server.client_config("/mutate");
    let hook = hook(scene, &client, &Rules(&["CREATE"], "", "configmaps"));
    let mut skips = hook.clone();
    skips["objectSelector"] =
        json!({"matchExpressions": [{"key": "skip-me", "operator": "NotIn", "values": ["yes"]}]});
    in_force(scene, "Mutating", &[skips]);
    let maps = scene.core("configmaps");
    let made = scene.create(&maps, &map("changed"));
    assert_eq!(made["data"], json!({"start": "here", "mutated": "yes"}));
    let mut skipped = map("skipped");
    skipped["metadata"]["labels"] = json!({"skip-me": "yes"});
    let made = scene.create(&maps, &skipped);
    assert_eq!(made["data"], json!({"start": "here"}));
}

pub fn changes_pods(scene: &Scene) {
    let server = Server::start(&[], None, answer);
    let client = server.client_config("/pod");
    in_force(scene, "Mutating", &[hook(scene, &client, &Rules(&["CREATE"], "", "pods"))]);
    let made = scene.create(&scene.core("pods"), &pod("changed", "x"));
    let added = &made["spec"]["initContainers"][0];
    assert_eq!(added["name"], "added");
    // What is added has defaults, too.
    assert_eq!(
        (&added["terminationMessagePath"], &added["terminationMessagePolicy"]),
        (&json!("/dev/termination-log"), &json!("File"))
    );
}

pub fn custom_objects(scene: &Scene) {
    let server = Server::start(&[], None, answer);
    let schema = json!({"type": "object", "properties": {"data": {"type": "object", "properties": {
        "start": {"type": "string"}}}}});
    let (group, plural, kind) = declare(scene, json!([version("v1", true, schema)]));
    let objects = scene.at(&format!("{group}/v1"), &plural);
    let object = |name: &str| json!({"apiVersion": format!("{group}/v1"), "kind": kind, "metadata": {"name": name}, "data": {"start": "here"}});
    scene.create(&objects, &object("before"));
    let mutating = hook(scene, &server.client_config("/mutate"), &Rules(&["CREATE"], &group, &plural));
    let path = in_force(scene, "Mutating", &[mutating]);
    // What the schema does not know is left out, whoever added it.
    let made = scene.create(&objects, &object("pruned"));
    assert_eq!(made["data"], json!({"start": "here"}));
    assert_eq!(server.take("/mutate").len(), 1);
    scene.api.delete(&path).ok();
    let client = server.client_config("/deny");
    in_force(
        scene,
        "Validating",
        &[hook(scene, &client, &Rules(&["CREATE", "UPDATE", "DELETE"], &group, &plural))],
    );
    assert!(denied(&scene.api.post(&objects, &object("after"))));
    assert!(denied(&scene.api.merge(&format!("{objects}/before"), &json!({"data": {"start": "there"}}))));
    assert!(denied(&scene.api.delete(&format!("{objects}/before"))));
    scene.get(&format!("{objects}/before"));
}

pub fn denies_declarations(scene: &Scene) {
    let server = Server::start(&[], None, answer);
    let client = server.client_config("/deny");
    let mut hook =
        hook(scene, &client, &Rules(&["CREATE"], "apiextensions.k8s.io", "customresourcedefinitions"));
    hook["objectSelector"] = json!({"matchLabels": {"of": format!("{}-denied", scene.ns)}});
    in_force(scene, "Validating", &[hook]);
    let (group, plural, kind) = words(scene);
    let mut object = declaration(&group, &plural, &kind, json!([version("v1", true, open())]));
    object["metadata"]["labels"] = json!({"of": format!("{}-denied", scene.ns)});
    assert!(denied(&scene.api.post(DEFINITIONS, &object)));
}

pub fn fails_closed(scene: &Scene) {
    // Nobody listens on the discard port.
    let client = json!({"url": "https://127.0.0.1:9/none"});
    let mut hook = hook(scene, &client, &Rules(&["CREATE"], "", "configmaps"));
    hook["failurePolicy"] = "Fail".into();
    in_force(scene, "Validating", &[hook]);
    let said = scene.api.post(&scene.core("configmaps"), &map("any")).refused(500);
    assert!(said.contains("failed calling webhook"), "{said}");
}

pub fn own_configurations(scene: &Scene) {
    let server = Server::start(&[], None, answer);
    let mut paths = Vec::new();
    for kind in ["Validating", "Mutating"] {
        let mut hook =
            hook(scene, &server.client_config("/deny"), &Rules(&["*"], "admissionregistration.k8s.io", "*"));
        hook["objectSelector"] = json!({"matchLabels": {"of": scene.ns}});
        hook["namespaceSelector"] = json!({});
        paths.push(in_force(scene, kind, &[hook]));
    }
    for path in paths {
        let updated = scene.update(&path, |one| one["metadata"]["labels"]["still"] = "changes".into());
        assert_eq!(updated["metadata"]["labels"]["still"], "changes");
        scene.api.delete(&path).ok();
        scene.until_gone(&path);
    }
    assert!(!server.was_asked("/deny"));
}

pub fn listed_and_patched(scene: &Scene) {
    let server = Server::start(&[], None, answer);
    for (kind, at) in [("Validating", "/deny"), ("Mutating", "/mutate")] {
        let hook = hook(scene, &server.client_config(at), &Rules(&["CREATE"], "", "configmaps"));
        in_force(scene, kind, &[hook]);
        let list = format!("{}?labelSelector=of%3D{}", collection(kind), scene.ns);
        assert_eq!(scene.items(&list).len(), 1);
        let maps = scene.core("configmaps");
        let answer = scene.api.post(&maps, &map("tried"));
        assert!(denied(&answer) || answer.body["data"]["mutated"] == "yes", "{answer:?}");
        scene.api.delete(&list).ok();
        scene.until_items(&list, <[Value]>::is_empty);
        scene.api.delete(&format!("{maps}/tried"));
        let made = scene.until_answered(|| scene.api.post(&maps, &map("tried")), |answer| answer.code == 201);
        assert_eq!(made.ok()["data"], json!({"start": "here"}));
        scene.api.delete(&format!("{maps}/tried")).ok();
    }
}

pub fn conditions(scene: &Scene) {
    let server = Server::start(&[], None, answer);
    for kind in ["Validating", "Mutating"] {
        let mut hook = hook(scene, &server.client_config("/deny"), &Rules(&["CREATE"], "", "configmaps"));
        hook["matchConditions"] = json!([{"name": "all", "expression": "object.metadata.name != 'spared'"}]);
        let path = in_force(scene, kind, &[hook.clone()]);
        scene.create(&scene.core("configmaps"), &map("spared"));
        assert!(denied(&scene.api.post(&scene.core("configmaps"), &map("any"))));
        let condition = json!([{"name": "changed", "expression": "false"}]);
        scene.update(&path, |one| one["webhooks"][0]["matchConditions"] = condition.clone());
        assert_eq!(scene.get(&path)["webhooks"][0]["matchConditions"], condition);
        scene.api.delete(&path).ok();
        scene.api.delete(&format!("{}/spared", scene.core("configmaps"))).ok();
        // One that is no expression is not accepted.
        hook["matchConditions"] = json!([{"name": "broken", "expression": "... [}"}]);
        let object = json!({"metadata": {"name": format!("{}-broken", scene.ns)}, "webhooks": [hook]});
        let said = scene.api.post(&collection(kind), &object).refused(422);
        assert!(
            said.contains("matchConditions[0].expression") && said.contains("compilation failed"),
            "{said}"
        );
    }
}
