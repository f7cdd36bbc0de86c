//! Fields that nobody knows, or that are there twice: refused, warned of or let through, as the client asks.

use reqwest::Method;
use serde_json::json;

use crate::client::Answer;
use crate::crds::{declare, open};
use crate::plane::version;
use crate::scene::Scene;

/// Makes or applies what is written as text, so that a field can be there twice.
fn send(scene: &Scene, method: Method, path: &str, how: &str, text: &str) -> Answer {
    let media_type =
        if method == Method::PATCH { "application/apply-patch+yaml" } else { "application/json" };
    let path = format!("{path}?fieldManager=conformance&fieldValidation={how}");
    scene.api.ask(method, &path, &[("content-type", media_type)], text.to_owned())
}

fn deployment(name: &str, more: &str, metadata: &str) -> String {
    format!(
        r#"{{"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {{"name": "{name}", "labels": {{"app": "x"}}{metadata}}},
        "spec": {{{more}"replicas": 0, "selector": {{"matchLabels": {{"app": "x"}}}}, "template": {{
            "metadata": {{"labels": {{"app": "x"}}}}, "spec": {{"containers": [{{"name": "c", "image": "none"}}]}}}}}}}}"#
    )
}

pub fn of_typed_objects(scene: &Scene) {
    let deployments = scene.at("apps/v1", "deployments");
    let wrong = deployment("wrong", r#""unknownField": 1, "paused": true, "paused": true, "#, "");
    let said = send(scene, Method::POST, &deployments, "Strict", &wrong).refused(400);
    assert!(said.contains(r#"unknown field "spec.unknownField""#), "{said}");
    assert!(said.contains(r#"duplicate field "spec.paused""#), "{said}");
    let warned = send(scene, Method::POST, &deployments, "Warn", &wrong);
    assert_eq!(warned.warnings.len(), 2, "{warned:?}");
    warned.ok();
    let path = format!("{deployments}/wrong");
    let said = send(scene, Method::PUT, &path, "Strict", &wrong).refused(400);
    assert!(said.contains(r#"unknown field "spec.unknownField""#), "{said}");
    let silent = send(scene, Method::PUT, &path, "Ignore", &wrong);
    assert!(silent.warnings.is_empty(), "{silent:?}");
    silent.ok();
    let unknown = deployment("applied", r#""unknownField": 1, "#, "");
    let said = send(scene, Method::PATCH, &format!("{deployments}/applied"), "Strict", &unknown);
    assert!(said.code >= 400 && said.body.to_string().contains("unknownField"), "{said:?}");
}

pub fn of_typed_metadata(scene: &Scene) {
    let deployments = scene.at("apps/v1", "deployments");
    let wrong = deployment("wrong", "", r#", "unknownMeta": "x""#);
    let said = send(scene, Method::POST, &deployments, "Strict", &wrong).refused(400);
    assert!(said.contains(r#"unknown field "metadata.unknownMeta""#), "{said}");
    let said = send(scene, Method::PATCH, &format!("{deployments}/wrong"), "Strict", &wrong);
    assert!(said.code >= 400 && said.body.to_string().contains("unknownMeta"), "{said:?}");
}

/// A custom object as text.
fn custom(group: &str, kind: &str, name: &str, metadata: &str, spec: &str) -> String {
    format!(
        r#"{{"apiVersion": "{group}/v1", "kind": "{kind}", "metadata": {{"name": "{name}"{metadata}}}, "spec": {{{spec}}}}}"#
    )
}

/// A schema with a number, an array of objects, and an embedded object.
fn schema() -> serde_json::Value {
    json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
        "cronSpec": {"type": "string", "pattern": "^[a-z]+$"},
        "foo": {"type": "string"},
        "ports": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
            "items": {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"},
                "port": {"type": "integer"}}}},
        "template": {"type": "object", "x-kubernetes-embedded-resource": true, "properties": {
            "apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": {"type": "object"}}}}}}})
}

pub fn of_custom_objects_that_fit(scene: &Scene) {
    let (group, plural, kind) = declare(scene, json!([version("v1", true, schema())]));
    let objects = scene.at(&format!("{group}/v1"), &plural);
    let fits = r#""cronSpec": "abc", "ports": [{"name": "x", "port": 1}]"#;
    send(scene, Method::POST, &objects, "Strict", &custom(&group, &kind, "made", "", fits)).ok();
    let applied = send(
        scene,
        Method::PATCH,
        &format!("{objects}/applied"),
        "Strict",
        &custom(&group, &kind, "applied", "", fits),
    );
    assert_eq!(applied.ok()["spec"]["ports"][0]["port"], 1);
}

pub fn of_custom_objects_with_more(scene: &Scene) {
    let (group, plural, kind) = declare(scene, json!([version("v1", true, schema())]));
    let objects = scene.at(&format!("{group}/v1"), &plural);
    let more = r#""cronSpec": "abc", "extraProperty": "unknown", "ports": [{"name": "x", "other": 1}]"#;
    let said =
        send(scene, Method::POST, &objects, "Strict", &custom(&group, &kind, "made", "", more)).refused(400);
    assert!(said.contains(r#"unknown field "spec.extraProperty""#), "{said}");
    assert!(said.contains(r#"unknown field "spec.ports[0].other""#), "{said}");
    let said = send(
        scene,
        Method::PATCH,
        &format!("{objects}/applied"),
        "Strict",
        &custom(&group, &kind, "applied", "", more),
    );
    assert!(said.code >= 400 && said.body.to_string().contains("extraProperty"), "{said:?}");
    let pruned =
        send(scene, Method::POST, &objects, "Ignore", &custom(&group, &kind, "pruned", "", more)).ok();
    assert_eq!(pruned["spec"], json!({"cronSpec": "abc", "ports": [{"name": "x"}]}));
}

pub fn of_custom_objects_without_a_schema(scene: &Scene) {
    let (group, plural, kind) = declare(scene, json!([version("v1", true, open())]));
    let objects = scene.at(&format!("{group}/v1"), &plural);
    let spec = r#""foo": {"bar": [1, {"a": null}]}, "other": true"#;
    let made = send(scene, Method::POST, &objects, "Strict", &custom(&group, &kind, "made", "", spec)).ok();
    assert_eq!(made["spec"], json!({"foo": {"bar": [1, {"a": null}]}, "other": true}));
    send(
        scene,
        Method::PATCH,
        &format!("{objects}/applied"),
        "Strict",
        &custom(&group, &kind, "applied", "", spec),
    )
    .ok();
}

pub fn twice_where_all_is_kept(scene: &Scene) {
    let (group, plural, kind) = declare(scene, json!([version("v1", true, open())]));
    let objects = scene.at(&format!("{group}/v1"), &plural);
    let twice = custom(&group, &kind, "twice", "", r#""foo": "a", "foo": "b""#);
    let said = send(scene, Method::POST, &objects, "Strict", &twice).refused(400);
    assert!(said.contains(r#"duplicate field "spec.foo""#), "{said}");
    let said = send(scene, Method::PATCH, &format!("{objects}/twice"), "Strict", &twice);
    assert!(said.code >= 400 && said.body.to_string().contains("foo"), "{said:?}");
}

pub fn of_custom_metadata(scene: &Scene) {
    let (group, plural, kind) = declare(scene, json!([version("v1", true, schema())]));
    let objects = scene.at(&format!("{group}/v1"), &plural);
    let template = r#""template": {"apiVersion": "foo/v1", "kind": "Sub", "metadata": {"unknownSubMeta": "x", "name": "sub"}}"#;
    let wrong = custom(&group, &kind, "wrong", r#", "unknownMeta": "x""#, template);
    let said = send(scene, Method::POST, &objects, "Strict", &wrong).refused(400);
    for field in ["metadata.unknownMeta", "spec.template.metadata.unknownSubMeta"] {
        assert!(said.contains(&format!(r#"unknown field "{field}""#)), "{said}");
    }
    let said = send(scene, Method::PATCH, &format!("{objects}/wrong"), "Strict", &wrong);
    assert!(said.code >= 400 && said.body.to_string().contains("unknownMeta"), "{said:?}");
}
