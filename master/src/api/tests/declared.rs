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
            "f": {"type": "number"},
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

/// A patch of the thing `a`, or of a part of it.
fn patch(kind: PatchKind, version: &str, subresource: Option<&str>) -> ApiRequest {
    let mut patch = request(Verb::Patch, "example.com", "things", "default", "a");
    patch.patch = Some(kind);
    patch.target.version = version.to_owned();
    patch.target.subresource = subresource.map(str::to_owned);
    patch.options.field_manager = Some("m".to_owned());
    patch
}

#[tokio::test]
async fn a_number_without_a_fraction_is_whole_once_it_is_stored() {
    let cluster = declared().await;
    let made = cluster.create("example.com", "things", "default", thing("a", json!({"f": 2.0}))).await;
    assert_eq!((made.code, &body(&made)["spec"]["f"]), (201, &json!(2)));
    let refused = cluster.create("example.com", "things", "default", thing("b", json!({"s": 2.0}))).await;
    let message = body(&refused)["message"].as_str().unwrap_or_default().to_owned();
    assert!(message.contains("must be of type string: \"number\""), "{message}");
}

#[tokio::test]
async fn managers_of_what_has_not_the_form_of_its_kind_are_forgotten() {
    let cluster = declared().await;
    assert_eq!(
        cluster.create("example.com", "things", "default", thing("a", json!({"s": "x"}))).await.code,
        201
    );
    // What is put back is looked at too.
    let status = patch(PatchKind::Merge, "v1", Some("status"));
    let written = body(&cluster.send(status.clone(), json!({"spec": {"s": 5}, "status": {"x": "1"}})).await);
    assert_eq!((&written["metadata"]["managedFields"], &written["spec"]["s"]), (&Value::Null, &json!("x")));
    let apply = patch(PatchKind::Apply, "v1", Some("status"));
    let config = json!({"apiVersion": "example.com/v1", "kind": "Thing", "metadata": {"name": "a"},
        "status": {"x": "2"}});
    let refused = body(&cluster.send(apply, config).await);
    let why = "Apply failed with 1 conflict: conflict with \"before-first-apply\" with subresource \"status\" using \
               example.com/v1: .status.x";
    assert_eq!(refused["message"], why);
}

#[tokio::test]
async fn what_is_put_back_is_known_of_the_version_asked_for_alone() {
    let cluster = declared().await;
    assert_eq!(
        cluster.create("example.com", "things", "default", thing("a", json!({"s": "x"}))).await.code,
        201
    );
    let status = patch(PatchKind::Merge, "v1", Some("status"));
    assert_eq!(cluster.send(status, json!({"status": {"x": "1"}})).await.code, 200);
    let status = patch(PatchKind::Merge, "v2", Some("status"));
    let written = body(&cluster.send(status, json!({"spec": {"s": "y"}, "status": {"x": "1"}})).await);
    let owners = written["metadata"]["managedFields"].to_string();
    assert!(owners.contains("f:s\""), "{owners}");
    for (version, code) in [("v1", 200), ("v2", 409)] {
        let config = json!({"apiVersion": format!("example.com/{version}"), "kind": "Thing",
            "metadata": {"name": "a"}, "spec": {"s": "x"}, "status": {"x": "2"}});
        let applied = cluster.send(patch(PatchKind::Apply, version, None), config).await;
        assert_eq!(applied.code, code, "{version}: {}", body(&applied));
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
