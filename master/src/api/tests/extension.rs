//! Declared kinds and policies, through the pipeline.

use serde_json::{Value, json};

use super::*;
use crate::api::custom::{Catalog, DEFINITIONS};
use crate::api::policy::GROUP;

fn request(verb: Verb, group: &str, plural: &str, namespace: &str, name: &str) -> ApiRequest {
    Cluster::request(verb, group, plural, namespace, name)
}

/// Declares `things.example.com`, and lets it have its names.
async fn declare(cluster: &Cluster, schema: Value) {
    let (group, plural) = DEFINITIONS;
    let definition = json!({"metadata": {"name": "things.example.com"}, "spec": {
        "group": "example.com", "scope": "Namespaced", "names": {"plural": "things", "kind": "Thing"},
        "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}]}});
    let mut made = body(&cluster.create(group, plural, "", definition).await);
    made["status"]["acceptedNames"] = made["spec"]["names"].clone();
    made["status"]["conditions"] = json!([{"type": "Established", "status": "True", "reason": "r", "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z"}]);
    let mut status = request(Verb::Update, group, plural, "", "things.example.com");
    status.target.subresource = Some("status".to_owned());
    assert_eq!(cluster.send(status, made).await.code, 200);
}

fn thing(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "example.com/v1", "kind": "Thing", "metadata": {"name": name}, "spec": spec})
}

#[tokio::test]
async fn a_declared_kind_is_served_as_its_schema_says() {
    let cluster = cluster().await;
    assert_eq!(cluster.create("example.com", "things", "default", thing("a", json!({}))).await.code, 404);
    let schema = json!({"type": "object", "properties": {"spec": {
        "type": "object",
        "properties": {
            "size": {"type": "integer", "minimum": 1, "default": 3},
            "kind": {"type": "string", "x-kubernetes-validations": [{"rule": "self == oldSelf", "message": "it stays"}]},
        },
        "x-kubernetes-validations": [{"rule": "self.size < 10"}],
    }}});
    declare(&cluster, schema).await;
    let catalog = cluster.pipeline.cache().derived::<Catalog>();
    let again = cluster.pipeline.cache().derived::<Catalog>();
    assert!(Arc::ptr_eq(&catalog, &again), "nothing changed, so nothing is made anew");

    let made =
        cluster.create("example.com", "things", "default", thing("a", json!({"kind": "x", "no": 1}))).await;
    assert_eq!((made.code, made.warnings.clone()), (201, vec!["unknown field \"spec.no\"".to_owned()]));
    assert_eq!(body(&made)["spec"], json!({"kind": "x", "size": 3}));
    for (spec, why) in [
        (
            json!({"size": 0}),
            "spec.size: Invalid value: 0: spec.size in body should be greater than or equal to 1",
        ),
        (json!({"size": 10}), "spec: Invalid value: failed rule: self.size < 10"),
    ] {
        let refused = cluster.create("example.com", "things", "default", thing("b", spec)).await;
        let message = format!("Thing.example.com \"b\" is invalid: {why}");
        assert_eq!((refused.code, body(&refused)["message"].clone()), (422, message.into()));
    }
    let mut patch = request(Verb::Patch, "example.com", "things", "default", "a");
    patch.patch = Some(PatchKind::Merge);
    let refused = cluster.send(patch.clone(), json!({"spec": {"kind": "y"}})).await;
    let message = "Thing.example.com \"a\" is invalid: spec.kind: Invalid value: \"y\": it stays";
    assert_eq!(body(&refused)["message"], message);
    let grown = body(&cluster.send(patch, json!({"spec": {"size": 4}})).await);
    assert_eq!(
        (grown["metadata"]["generation"].clone(), grown["spec"]["size"].clone()),
        (2.into(), 4.into())
    );

    let list =
        body(&cluster.send(request(Verb::List, "example.com", "things", "default", ""), Value::Null).await);
    assert_eq!(
        (list["kind"].clone(), list["items"][0]["kind"].clone()),
        ("ThingList".into(), "Thing".into())
    );
}

#[tokio::test]
async fn a_schema_learned_later_is_used_for_what_is_stored() {
    let cluster = cluster().await;
    let with = |properties: Value| json!({"type": "object", "properties": {"spec": {"type": "object", "properties": properties}}});
    declare(&cluster, with(json!({"old": {"type": "string"}}))).await;
    cluster.create("example.com", "things", "default", thing("a", json!({"old": "x"}))).await;
    let (group, plural) = DEFINITIONS;
    let mut patch = request(Verb::Patch, group, plural, "", "things.example.com");
    patch.patch = Some(PatchKind::Json);
    let schema = with(json!({"new": {"type": "string", "default": "d"}}));
    let change =
        json!([{"op": "replace", "path": "/spec/versions/0/schema/openAPIV3Schema", "value": schema}]);
    assert_eq!(cluster.send(patch, change).await.code, 200);
    let read = request(Verb::Get, "example.com", "things", "default", "a");
    assert_eq!(body(&cluster.send(read, Value::Null).await)["spec"], json!({"new": "d"}));
}

#[tokio::test]
async fn a_policy_refuses_and_another_changes() {
    let cluster = cluster().await;
    let constraints = json!({"resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"],
        "operations": ["CREATE"], "resources": ["configmaps"]}]});
    let deny = json!({"metadata": {"name": "deny"}, "spec": {"matchConstraints": constraints,
        "variables": [{"name": "bad", "expression": "'deny' in object.data"}],
        "validations": [{"expression": "!variables.bad", "messageExpression": "'no ' + object.metadata.name"}]}});
    assert_eq!(cluster.create(GROUP, "validatingadmissionpolicies", "", deny).await.code, 201);
    let binding =
        json!({"metadata": {"name": "deny"}, "spec": {"policyName": "deny", "validationActions": ["Deny"]}});
    assert_eq!(cluster.create(GROUP, "validatingadmissionpolicybindings", "", binding).await.code, 201);
    let label = json!({"metadata": {"name": "label"}, "spec": {"matchConstraints": constraints,
        "reinvocationPolicy": "Never", "mutations": [{"patchType": "ApplyConfiguration", "applyConfiguration": {
            "expression": "Object{metadata: Object.metadata{labels: {'seen': 'yes'}}}"}}]}});
    assert_eq!(cluster.create(GROUP, "mutatingadmissionpolicies", "", label).await.code, 201);
    let binding = json!({"metadata": {"name": "label"}, "spec": {"policyName": "label"}});
    assert_eq!(cluster.create(GROUP, "mutatingadmissionpolicybindings", "", binding).await.code, 201);

    let object = json!({"metadata": {"name": "x"}, "data": {"deny": "1"}});
    let refused = cluster.create("", "configmaps", "default", object).await;
    let message = "configmaps \"x\" is forbidden: ValidatingAdmissionPolicy 'deny' with binding 'deny' denied request: no x";
    assert_eq!((refused.code, body(&refused)["message"].clone()), (422, message.into()));
    let made = body(&cluster.create("", "configmaps", "default", config_map("c")).await);
    assert_eq!(made["metadata"]["labels"], json!({"seen": "yes"}));
}
