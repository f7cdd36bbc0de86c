//! Admission policies in CEL, on namespaces with the scene's label alone.

use serde_json::{Value, json};

use crate::client::Answer;
use crate::scene::{Scene, workload};

const POLICIES: &str = "/apis/admissionregistration.k8s.io/v1";

/// Puts a policy in force in the scene's namespace, and waits until it is: until a request that it changes or refuses
/// is changed or refused.
fn in_force(scene: &Scene, kind: &str, spec: &Value, binding: &Value, seen: impl Fn(&Answer) -> bool) {
    let name = format!("{}.example.com", scene.ns);
    scene
        .api
        .merge(
            &format!("/api/v1/namespaces/{}", scene.ns),
            &json!({"metadata": {"labels": {"of": scene.ns}}}),
        )
        .ok();
    let mut spec = spec.clone();
    spec["matchConstraints"] = json!({"namespaceSelector": {"matchLabels": {"of": scene.ns}}, "resourceRules": [
        {"apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "resources": ["deployments"]}]});
    let (policies, bindings) = match kind {
        "Validating" => ("validatingadmissionpolicies", "validatingadmissionpolicybindings"),
        _ => ("mutatingadmissionpolicies", "mutatingadmissionpolicybindings"),
    };
    scene.create(&format!("{POLICIES}/{policies}"), &json!({"metadata": {"name": name}, "spec": spec}));
    let mut bound = json!({"metadata": {"name": name}, "spec": {"policyName": name}});
    for (field, value) in binding.as_object().into_iter().flatten() {
        bound["spec"][field] = value.clone();
    }
    scene.create(&format!("{POLICIES}/{bindings}"), &bound);
    let probe = format!("{}?dryRun=All", scene.at("apps/v1", "deployments"));
    scene.until_answered(|| scene.api.post(&probe, &workload("probe", 1)), seen);
}

pub fn deployments_are_validated(scene: &Scene) {
    let spec = json!({"validations": [
        {"expression": "object.spec.replicas > 1", "messageExpression": "'wants replicas > 1, got ' + string(object.spec.replicas)"},
        {"expression": "namespaceObject.metadata.name == object.metadata.namespace", "message": "another namespace"}]});
    in_force(scene, "Validating", &spec, &json!({"validationActions": ["Deny"]}), |answer| {
        answer.code == 422
    });
    let deployments = scene.at("apps/v1", "deployments");
    let said = scene.api.post(&deployments, &workload("one", 1)).refused(422);
    assert!(said.contains("denied request: wants replicas > 1, got 1"), "{said}");
    scene.create(&deployments, &workload("two", 2));
    let said = scene.api.merge(&format!("{deployments}/two"), &json!({"spec": {"replicas": 1}})).refused(422);
    assert!(said.contains("denied request"), "{said}");
}

pub fn expressions_have_variables(scene: &Scene) {
    let spec = json!({
        "variables": [{"name": "replicas", "expression": "object.spec.replicas"},
            {"name": "oddReplicas", "expression": "variables.replicas % 2 == 1"}],
        "validations": [{"expression": "variables.replicas > 1"}, {"expression": "variables.oddReplicas"}]});
    in_force(scene, "Validating", &spec, &json!({"validationActions": ["Deny"]}), |answer| {
        answer.code == 422
    });
    let deployments = scene.at("apps/v1", "deployments");
    scene.create(&deployments, &workload("three", 3));
    let said = scene.api.post(&deployments, &workload("two", 2)).refused(422);
    assert!(said.contains("failed expression: variables.oddReplicas"), "{said}");
    let said = scene.api.post(&deployments, &workload("one", 1)).refused(422);
    assert!(said.contains("failed expression: variables.replicas > 1"), "{said}");
}

pub fn types_are_checked(scene: &Scene) {
    let name = format!("{}.types.example.com", scene.ns);
    let rules = json!([{"apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["deployments"]}]);
    scene.create(&format!("{POLICIES}/validatingadmissionpolicies"), &json!({"metadata": {"name": name}, "spec": {
        "matchConstraints": {"resourceRules": rules},
        "validations": [{"expression": "object.spec.replicas > '1'"}, {"expression": "object.spec.replicas > 0"}]}}));
    let path = format!("{POLICIES}/validatingadmissionpolicies/{name}");
    let seen = scene.until(&path, |policy| policy["status"]["typeChecking"].is_object());
    let warnings = seen["status"]["typeChecking"]["expressionWarnings"].as_array().expect("warnings");
    assert_eq!((warnings.len(), &warnings[0]["fieldRef"]), (1, &json!("spec.validations[0].expression")));
}

pub fn deployments_are_changed(scene: &Scene) {
    let expression = "Object{spec: Object.spec{replicas: 5}}";
    let spec = json!({"reinvocationPolicy": "Never", "mutations": [
        {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": expression}}]});
    in_force(scene, "Mutating", &spec, &json!({}), |answer| answer.body["spec"]["replicas"] == 5);
    let made = scene.create(&scene.at("apps/v1", "deployments"), &workload("web", 1));
    assert_eq!(made["spec"]["replicas"], 5);
    scene.until_items(&scene.core("pods"), |pods| pods.len() == 5);
}

pub fn deployments_are_annotated(scene: &Scene) {
    let expression = "[JSONPatch{op: 'add', path: '/metadata/annotations', value: {'my-foo-annotation': 'myAnnotationValue'}}]";
    let spec = json!({"reinvocationPolicy": "Never", "mutations": [
        {"patchType": "JSONPatch", "jsonPatch": {"expression": expression}}]});
    let annotation =
        |object: &Value| object["metadata"]["annotations"]["my-foo-annotation"] == "myAnnotationValue";
    in_force(scene, "Mutating", &spec, &json!({}), |answer| annotation(&answer.body));
    let made = scene.create(&scene.at("apps/v1", "deployments"), &workload("web", 0));
    assert!(annotation(&made), "{made}");
}
