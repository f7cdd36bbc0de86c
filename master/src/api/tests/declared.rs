//! Writes of declared kinds in their several ways, through the pipeline.

use serde_json::{Value, json};

use super::extension::{declare_in, request, thing};
use super::*;

/// Declares things in two versions, which have a status.
async fn declared() -> Cluster {
    let cluster = cluster().await;
    let schema = json!({"type": "object", "properties": {
        "spec": {"type": "object", "properties": {
            "s": {"type": "string"},
            "d": {"type": "string", "default": "x"},
            "n": {"type": "string", "nullable": true},
        }},
        "status": {"type": "object", "properties": {"x": {"type": "string"}}},
    }});
    let version = |name: &str, storage: bool| {
        json!({"name": name, "served": true, "storage": storage, "schema": {"openAPIV3Schema": schema},
            "subresources": {"status": {}}})
    };
    declare_in(&cluster, json!([version("v1", true), version("v2", false)])).await;
    cluster
}

#[tokio::test]
async fn what_is_null_is_refused_where_it_is_applied_and_dropped_where_it_is_sent() {
    let cluster = declared().await;
    for version in ["v1", "v2"] {
        let of = |name: &str, spec: Value| {
            let mut made = thing(name, spec);
            made["apiVersion"] = format!("example.com/{version}").into();
            made
        };
        let name = |way: &str| format!("{way}-{version}");
        let mut apply = request(Verb::Patch, "example.com", "things", "default", &name("applied"));
        apply.patch = Some(PatchKind::Apply);
        apply.target.version = version.to_owned();
        apply.options.field_manager = Some("m".to_owned());
        let refused = cluster.send(apply.clone(), of(&name("applied"), json!({"s": null}))).await;
        let why = "spec.s: Invalid value: \"null\": spec.s in body must be of type string: \"null\"";
        let message = body(&refused)["message"].as_str().unwrap_or_default().to_owned();
        assert!(refused.code == 422 && message.ends_with(why), "{version}: {message}");
        let applied = cluster.send(apply, of(&name("applied"), json!({"d": null, "n": null}))).await;
        assert_eq!(body(&applied)["spec"], json!({"d": "x", "n": null}), "{version}");
        let mut create = request(Verb::Create, "example.com", "things", "default", "");
        create.target.version = version.to_owned();
        let made = cluster.send(create, of(&name("made"), json!({"s": null, "d": null, "n": null}))).await;
        assert_eq!(body(&made)["spec"], json!({"d": "x", "n": null}), "{version}");
    }
}

#[tokio::test]
async fn who_writes_the_status_owns_nothing_else() {
    let cluster = declared().await;
    let mut made = thing("a", json!({"s": "x"}));
    made["metadata"]["labels"] = json!({"a": "1"});
    assert_eq!(cluster.create("example.com", "things", "default", made).await.code, 201);
    let mut status = request(Verb::Patch, "example.com", "things", "default", "a");
    status.target.subresource = Some("status".to_owned());
    status.options.field_manager = Some("m".to_owned());
    let change = json!({"apiVersion": "example.com/v1", "kind": "Thing", "status": {"x": "1"}, "spec": {"s": "y"},
        "metadata": {"name": "a", "labels": {"a": "2", "b": "2"}, "annotations": {"c": "d"}}});
    for kind in [PatchKind::Merge, PatchKind::Apply] {
        status.patch = Some(kind);
        let written = body(&cluster.send(status.clone(), change.clone()).await);
        assert_eq!(written["metadata"]["labels"], json!({"a": "1"}), "{kind:?}");
        let managers = written["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
        let own = managers.iter().filter(|entry| entry["subresource"] == "status");
        let owned: Vec<&Value> = own.map(|entry| &entry["fieldsV1"]).collect();
        assert!(
            !owned.is_empty()
                && owned.iter().all(|fields| **fields == json!({"f:status": {"f:x": {}}})
                    || **fields == json!({"f:status": {".": {}, "f:x": {}}})),
            "{kind:?}: {owned:?}"
        );
    }
}
