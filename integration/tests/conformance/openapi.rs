//! What the documents say of declared kinds, and what kubectl makes of it: it explains them, and sees what is wrong
//! before it asks.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::crds::{DEFINITIONS, declaration, declare, open, served, words};
use crate::plane::version;
use crate::scene::Scene;

/// The names of a group's types in a document of version 2.
fn types(document: &Value, group: &str) -> Vec<String> {
    let prefix: Vec<&str> = group.rsplit('.').collect();
    let prefix = format!("{}.", prefix.join("."));
    let definitions = document["definitions"].as_object().into_iter().flatten();
    let ours = definitions.filter_map(|(name, _)| name.strip_prefix(&prefix));
    ours.filter(|name| !name.ends_with("List")).map(str::to_owned).collect()
}

/// Waits until just these types of a group are in the documents of both versions.
fn until_published(scene: &Scene, group: &str, expected: &[&str]) {
    let third = scene.until("/openapi/v3", |index| {
        let paths = index["paths"].as_object().into_iter().flatten();
        let versions: BTreeSet<&str> =
            paths.filter_map(|(path, _)| path.strip_prefix(&format!("apis/{group}/"))).collect();
        versions == expected.iter().filter_map(|one| one.split('.').next()).collect()
    });
    for one in expected {
        let (version, kind) = one.split_once('.').expect("a version and a kind");
        let url = third["paths"][format!("apis/{group}/{version}")]["serverRelativeURL"].as_str();
        let document = scene.get(url.expect("the version has a document"));
        let schemas = document["components"]["schemas"].as_object().expect("schemas");
        assert!(schemas.keys().any(|name| name.ends_with(&format!(".{version}.{kind}"))), "{kind}");
    }
    scene.until("/openapi/v2", |document| types(document, group) == expected);
}

/// Tries kubectl with an object that fits, whose fields beside the metadata are these.
fn accepted(scene: &Scene, group: &str, kind: &str, mut fields: Value) {
    fields["apiVersion"] = format!("{group}/v1").into();
    fields["kind"] = kind.into();
    fields["metadata"] = json!({"name": "tried", "namespace": scene.ns});
    for verb in ["create", "apply"] {
        let said = scene.plane.run(&[verb, "-f", "-"], &fields.to_string());
        assert!(said.status.success(), "{verb}: {}", String::from_utf8_lossy(&said.stderr));
    }
    let plural = kind.to_lowercase();
    scene.plane.kubectl(&["delete", &format!("{plural}.{group}"), "tried", "-n", &scene.ns]);
}

/// Tries kubectl with an object that does not fit; what it says.
fn rejected(scene: &Scene, group: &str, kind: &str, mut fields: Value, because: &str) {
    fields["apiVersion"] = format!("{group}/v1").into();
    fields["kind"] = kind.into();
    fields["metadata"] = json!({"name": "wrong", "namespace": scene.ns});
    for verb in ["create", "apply"] {
        let said = scene.plane.refused(&[verb, "-f", "-"], &fields.to_string());
        assert!(said.contains(because), "{verb}: {said}");
    }
}

pub fn with_a_schema(scene: &Scene) {
    let bars = json!({"type": "array", "description": "The bars and their particulars.", "items": {
        "type": "object", "required": ["name"], "properties": {
            "name": {"type": "string", "description": "What it is called."},
            "age": {"type": "string"},
            "feeling": {"type": "string", "enum": ["Great", "Down"]},
            "bazs": {"type": "array", "items": {"type": "string"}, "description": "Several of them."}}}});
    let schema = json!({"type": "object", "description": "A thing for a test.", "properties": {
        "spec": {"type": "object", "description": "What is wanted.", "properties": {"bars": bars}},
        "status": {"type": "object", "properties": {"bars": {"type": "array", "items": {"type": "object",
            "properties": {"name": {"type": "string"}, "available": {"type": "boolean"}}}}}}}});
    let (group, _, kind) = declare(scene, json!([version("v1", true, schema)]));
    until_published(scene, &group, &[&format!("v1.{kind}")]);
    accepted(scene, &group, &kind, json!({"spec": {"bars": [{"name": "one", "age": "10", "bazs": ["x"]}]}}));
    rejected(scene, &group, &kind, json!({"spec": {"foo": true}}), "unknown field");
    rejected(scene, &group, &kind, json!({"spec": {"bars": [{"age": "10"}]}}), "name");
    rejected(
        scene,
        &group,
        &kind,
        json!({"spec": {"bars": [{"name": "x", "feeling": "Odd"}]}}),
        "Unsupported value",
    );
    let explain = |path: &str| {
        scene.plane.kubectl(&[
            "explain",
            &format!("{}{path}", kind.to_lowercase()),
            "--api-version",
            &format!("{group}/v1"),
        ])
    };
    assert!(explain("").contains("A thing for a test."));
    let said = explain(".metadata");
    assert!(said.contains("<ObjectMeta>") && said.contains("creationTimestamp\t<string>"), "{said}");
    assert!(explain(".spec").contains("What is wanted."));
    let said = explain(".spec.bars");
    assert!(said.contains("The bars and their particulars.") && said.contains("-required-"), "{said}");
    let missing = ["explain", &format!("{}.spec.bars2", kind.to_lowercase())];
    assert!(scene.plane.refused(&missing, "").contains("does not exist"));
}

fn explained(scene: &Scene, kind: &str) -> String {
    scene.plane.kubectl(&["explain", &kind.to_lowercase()])
}

pub fn without_a_schema(scene: &Scene) {
    let schema = json!({"type": "object", "properties": {
        "spec": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
        "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}});
    let (group, _, kind) = declare(scene, json!([version("v1", true, schema)]));
    until_published(scene, &group, &[&format!("v1.{kind}")]);
    accepted(scene, &group, &kind, json!({"spec": {"a": null, "b": [{"c": "d"}]}}));
    assert!(explained(scene, &kind).contains("DESCRIPTION:"));
}

pub fn preserving_at_the_root(scene: &Scene) {
    let (group, _, kind) = declare(scene, json!([version("v1", true, open())]));
    until_published(scene, &group, &[&format!("v1.{kind}")]);
    accepted(scene, &group, &kind, json!({"a": null, "b": [{"c": "d"}], "spec": {"e": 1}}));
    assert!(explained(scene, &kind).contains(&format!("KIND:       {kind}")));
}

pub fn preserving_in_an_embedded_object(scene: &Scene) {
    let schema = json!({"type": "object", "properties": {
        "spec": {"type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true},
        "status": {"type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true}}});
    let (group, _, kind) = declare(scene, json!([version("v1", true, schema)]));
    until_published(scene, &group, &[&format!("v1.{kind}")]);
    let inner = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "x"}, "a": null, "b": [{"c": "d"}]});
    accepted(scene, &group, &kind, json!({"spec": inner}));
    let said = explained(scene, &kind);
    assert!(said.contains("spec\t<Object>"), "{said}");
}

pub fn several_groups(scene: &Scene) {
    let (group, plural, kind) = declare(scene, json!([version("v1", true, open())]));
    let other = format!("other-{group}");
    scene.create(DEFINITIONS, &declaration(&other, &plural, &kind, json!([version("v2", true, open())])));
    served(scene, &format!("{plural}.{other}"));
    until_published(scene, &group, &[&format!("v1.{kind}")]);
    until_published(scene, &other, &[&format!("v2.{kind}")]);
}

pub fn several_versions(scene: &Scene) {
    let versions = json!([version("v2", true, open()), version("v3", false, open())]);
    let (group, _, kind) = declare(scene, versions);
    until_published(scene, &group, &[&format!("v2.{kind}"), &format!("v3.{kind}")]);
}

pub fn several_kinds(scene: &Scene) {
    let (group, _, kind) = declare(scene, json!([version("v1", true, open())]));
    let (_, plural, _) = words(scene);
    let other = format!("{kind}b");
    scene.create(
        DEFINITIONS,
        &declaration(&group, &format!("{plural}b"), &other, json!([version("v1", true, open())])),
    );
    served(scene, &format!("{plural}b.{group}"));
    until_published(scene, &group, &[&format!("v1.{kind}"), &format!("v1.{other}")]);
}

pub fn renamed_version(scene: &Scene) {
    let versions = json!([version("v2", true, open()), version("v3", false, open())]);
    let (group, plural, kind) = declare(scene, versions);
    until_published(scene, &group, &[&format!("v2.{kind}"), &format!("v3.{kind}")]);
    let rename = json!([{"op": "replace", "path": "/spec/versions/1/name", "value": "v4"}]);
    let path = format!("{DEFINITIONS}/{plural}.{group}");
    scene.api.patch(crate::client::Patch::Json, &path, &rename).ok();
    until_published(scene, &group, &[&format!("v2.{kind}"), &format!("v4.{kind}")]);
    scene.until_gone(&scene.at(&format!("{group}/v3"), &plural));
}

pub fn version_no_longer_served(scene: &Scene) {
    let versions = json!([version("v5", true, open()), version("v6alpha1", false, open())]);
    let (group, plural, kind) = declare(scene, versions);
    until_published(scene, &group, &[&format!("v5.{kind}"), &format!("v6alpha1.{kind}")]);
    let path = format!("{DEFINITIONS}/{plural}.{group}");
    scene.update(&path, |one| one["spec"]["versions"][1]["served"] = false.into());
    until_published(scene, &group, &[&format!("v5.{kind}")]);
}
