//! Declared kinds and policies, through the pipeline.

use serde_json::{Value, json};

use super::*;
use crate::api::custom::{Catalog, DEFINITIONS};
use crate::api::policy::GROUP;

pub(super) fn request(verb: Verb, group: &str, plural: &str, namespace: &str, name: &str) -> ApiRequest {
    Cluster::request(verb, group, plural, namespace, name)
}

/// Declares `things.example.com` in one version, and lets it have its names.
async fn declare(cluster: &Cluster, schema: Value) {
    let version =
        json!({"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}});
    declare_in(cluster, json!([version])).await;
}

/// The same in several versions.
pub(super) async fn declare_in(cluster: &Cluster, versions: Value) {
    let (group, plural) = DEFINITIONS;
    let definition = json!({"metadata": {"name": "things.example.com"}, "spec": {
        "group": "example.com", "scope": "Namespaced", "names": {"plural": "things", "kind": "Thing"},
        "versions": versions}});
    let mut made = body(&cluster.create(group, plural, "", definition).await);
    made["status"]["acceptedNames"] = made["spec"]["names"].clone();
    made["status"]["conditions"] = json!([{"type": "Established", "status": "True", "reason": "r", "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z"}]);
    let mut status = request(Verb::Update, group, plural, "", "things.example.com");
    status.target.subresource = Some("status".to_owned());
    assert_eq!(cluster.send(status, made).await.code, 200);
}

pub(super) fn thing(name: &str, spec: Value) -> Value {
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
    // What an object is, it stays.
    for (change, expected) in [
        (
            json!({"kind": "Other"}),
            "Other.example.com \"a\" is invalid: kind: Invalid value: \"Other\": must be Thing",
        ),
        (
            json!({"apiVersion": "x/v1"}),
            "Thing.x \"a\" is invalid: apiVersion: Invalid value: \"x/v1\": must be example.com/v1",
        ),
    ] {
        let refused = cluster.send(patch.clone(), change).await;
        assert_eq!((refused.code, body(&refused)["message"].clone()), (422, expected.into()));
    }
    let refused = cluster.send(patch.clone(), json!({"kind": null})).await;
    let message = body(&refused)["message"].as_str().unwrap_or_default().to_owned();
    assert!(refused.code == 422 && message.contains("Object 'Kind' is missing in"), "{message}");
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

/// A policy that lets through what an expression says, for writes that a rule names.
async fn policy(cluster: &Cluster, name: &str, constraints: Value, expression: &str) {
    let policy = json!({"metadata": {"name": name}, "spec": {"matchConstraints": constraints,
        "validations": [{"expression": expression, "messageExpression":
            "request.kind.version + ' ' + request.resource.resource + ' ' + request.requestKind.version"}]}});
    assert_eq!(cluster.create(GROUP, "validatingadmissionpolicies", "", policy).await.code, 201);
    let binding =
        json!({"metadata": {"name": name}, "spec": {"policyName": name, "validationActions": ["Deny"]}});
    assert_eq!(cluster.create(GROUP, "validatingadmissionpolicybindings", "", binding).await.code, 201);
}

fn constraints(rule: Value, exact: bool) -> Value {
    let policy = if exact { "Exact" } else { "Equivalent" };
    json!({"matchPolicy": policy, "resourceRules": [rule]})
}

fn rule(group: &str, version: &str, resource: &str) -> Value {
    json!({"apiGroups": [group], "apiVersions": [version], "operations": ["CREATE", "UPDATE"],
        "resources": [resource]})
}

fn autoscaler(name: &str, max: i64) -> Value {
    json!({"apiVersion": "autoscaling/v1", "kind": "HorizontalPodAutoscaler", "metadata": {"name": name},
        "spec": {"maxReplicas": max, "targetCPUUtilizationPercentage": 50,
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "a"}}})
}

#[tokio::test]
async fn a_rule_about_one_version_meets_requests_in_another() {
    let cluster = cluster().await;
    let v2 = rule("autoscaling", "v2", "horizontalpodautoscalers");
    let expression =
        "object.spec.metrics[0].resource.target.averageUtilization != 50 || object.spec.maxReplicas < 5";
    policy(&cluster, "equivalent", constraints(v2.clone(), false), expression).await;
    policy(&cluster, "exact", constraints(v2, true), "object.spec.maxReplicas < 3").await;
    let make = async |name: &str, max: i64| {
        let mut request = request(Verb::Create, "autoscaling", "horizontalpodautoscalers", "default", "");
        request.target.version = "v1".to_owned();
        cluster.send(request, autoscaler(name, max)).await
    };
    let refused = make("a", 5).await;
    let said = body(&refused)["message"].as_str().unwrap_or_default().to_owned();
    let why = "'equivalent' with binding 'equivalent' denied request: v2 horizontalpodautoscalers v1";
    assert!(refused.code == 422 && said.ends_with(why), "{said}");
    let made = make("b", 4).await;
    assert_eq!((made.code, body(&made)["apiVersion"].clone()), (201, "autoscaling/v1".into()));
}

#[tokio::test]
async fn a_policy_for_one_version_changes_what_another_one_shows() {
    let cluster = cluster().await;
    let mutation = json!({"metadata": {"name": "utilization"}, "spec": {
        "matchConstraints": constraints(rule("autoscaling", "v2", "horizontalpodautoscalers"), false),
        "reinvocationPolicy": "Never", "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression":
            "[JSONPatch{op: 'replace', path: '/spec/metrics/0/resource/target/averageUtilization', value: 70}]"}}]}});
    assert_eq!(cluster.create(GROUP, "mutatingadmissionpolicies", "", mutation).await.code, 201);
    let binding = json!({"metadata": {"name": "utilization"}, "spec": {"policyName": "utilization"}});
    assert_eq!(cluster.create(GROUP, "mutatingadmissionpolicybindings", "", binding).await.code, 201);
    let mut request = request(Verb::Create, "autoscaling", "horizontalpodautoscalers", "default", "");
    request.target.version = "v1".to_owned();
    let made = cluster.send(request, autoscaler("a", 2)).await;
    assert_eq!(body(&made)["spec"]["targetCPUUtilizationPercentage"], 70, "{}", body(&made));
}

#[tokio::test]
async fn a_scale_is_seen_as_one() {
    let cluster = cluster().await;
    policy(
        &cluster,
        "scale",
        constraints(rule("apps", "*", "deployments/scale"), false),
        "object.kind == 'Scale' && oldObject.spec.replicas == 1 && object.spec.replicas < 4",
    )
    .await;
    let deployment = json!({"metadata": {"name": "a"}, "spec": {"replicas": 1,
        "selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {"labels": {"a": "b"}},
            "spec": {"containers": [{"name": "c", "image": "i"}]}}}});
    assert_eq!(cluster.create("apps", "deployments", "default", deployment).await.code, 201);
    let scale = async |replicas: i64| {
        let mut patch = request(Verb::Patch, "apps", "deployments", "default", "a");
        patch.patch = Some(PatchKind::Merge);
        patch.target.subresource = Some("scale".to_owned());
        cluster.send(patch, json!({"spec": {"replicas": replicas}})).await
    };
    let refused = scale(4).await;
    let said = body(&refused)["message"].as_str().unwrap_or_default().to_owned();
    assert!(refused.code == 422 && said.ends_with("v1 deployments v1"), "{said}");
    assert_eq!(scale(3).await.code, 200);
}

#[tokio::test]
async fn parameters_are_read_in_the_version_that_the_policy_names() {
    let cluster = cluster().await;
    let schema = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let version = |name: &str, storage: bool| json!({"name": name, "served": true, "storage": storage, "schema": {"openAPIV3Schema": schema}});
    declare_in(&cluster, json!([version("v1", true), version("v2", false)])).await;
    let made = cluster.create("example.com", "things", "default", thing("p", json!({"max": 3}))).await;
    assert_eq!(made.code, 201);
    let policy = json!({"metadata": {"name": "params"}, "spec": {
        "paramKind": {"apiVersion": "example.com/v2", "kind": "Thing"},
        "matchConstraints": constraints(rule("", "v1", "configmaps"), false),
        "validations": [{"expression": "params.apiVersion == 'example.com/v2' && object.metadata.name != 'no'",
            "messageExpression": "'read in ' + params.apiVersion"}]}});
    let made = cluster.create(GROUP, "validatingadmissionpolicies", "", policy).await;
    assert_eq!(made.code, 201, "{}", body(&made));
    let binding = json!({"metadata": {"name": "params"}, "spec": {"policyName": "params", "validationActions": ["Deny"],
        "paramRef": {"name": "p", "namespace": "default", "parameterNotFoundAction": "Deny"}}});
    assert_eq!(cluster.create(GROUP, "validatingadmissionpolicybindings", "", binding).await.code, 201);
    assert_eq!(cluster.create("", "configmaps", "default", config_map("yes")).await.code, 201);
    let refused = cluster.create("", "configmaps", "default", config_map("no")).await;
    let said = body(&refused)["message"].as_str().unwrap_or_default().to_owned();
    assert!(refused.code == 422 && said.ends_with(": read in example.com/v2"), "{said}");
}
