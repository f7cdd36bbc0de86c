//! What is called rather than stored (evictions, bindings, requests for tokens, connections) comes to webhooks and policies
//! as what it is.

use serde_json::{Value, json};

use crate::plane::Plane;
use crate::plane::server::{Answer, Asked, Server};

/// A webhook that lets nobody evict or enter the pod `kept`.
fn answer(asked: &Asked) -> Answer {
    let request = &asked.body["request"];
    let guarded = matches!(request["subResource"].as_str(), Some("eviction" | "exec"));
    let allowed = !(guarded && request["name"] == "kept");
    let mut response = json!({"uid": request["uid"], "allowed": allowed, "warnings": ["seen"]});
    if !allowed {
        response["status"] = json!({"code": 403, "message": "it is kept"});
    }
    Answer::Json(
        200,
        json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response}),
    )
}

fn hook(server: &Server) -> Value {
    let rule = |operation: &str, resources: Value| {
        json!({"operations": [operation], "apiGroups": ["", "authorization.k8s.io"], "apiVersions": ["v1"],
            "resources": resources})
    };
    json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
    "metadata": {"name": "calls"}, "webhooks": [{
        "name": "calls.example.com", "clientConfig": server.client_config("/calls"),
        "admissionReviewVersions": ["v1"], "sideEffects": "None", "timeoutSeconds": 10,
        "rules": [
            rule("CREATE", json!(["pods/eviction", "pods/binding", "serviceaccounts/token",
                "selfsubjectaccessreviews"])),
            rule("CONNECT", json!(["pods/exec"])),
            rule("DELETE", json!(["pods"])),
        ]}]})
}

fn pod(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {"schedulerName": "nobody", "containers": [{"name": "c", "image": "registry.example.com/c"}]}})
}

/// Posts to a subresource of a pod.
fn call(plane: &Plane, name: &str, subresource: &str, body: &Value) -> (bool, String) {
    let path = format!("/api/v1/namespaces/default/pods/{name}/{subresource}");
    let output = plane.run(&["create", "--raw", &path, "-f", "-"], &body.to_string());
    (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
}

fn eviction(name: &str) -> Value {
    json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": "default"}})
}

fn only(server: &Server) -> Value {
    let asked = server.take("/calls");
    assert_eq!(asked.len(), 1, "{:?}", asked.iter().map(|a| a.body.to_string()).collect::<Vec<_>>());
    asked.into_iter().next().map(|a| a.body["request"].clone()).unwrap_or_default()
}

#[test]
fn webhooks_see_what_is_called_as_what_it_is() {
    let (plane, server) = (Plane::start(), Server::start(&[], None, answer));
    plane.until(&["get", "serviceaccount", "default", "-o", "name"], |said| {
        said.starts_with("serviceaccount/")
    });
    for name in ["kept", "loose"] {
        plane.apply(&pod(name));
    }
    plane.apply(&hook(&server));

    let (done, said) = call(&plane, "kept", "eviction", &eviction("kept"));
    assert!(!done && said.contains("denied the request: it is kept"), "{said}");
    let request = only(&server);
    assert_eq!(request["operation"], "CREATE");
    assert_eq!(request["kind"], json!({"group": "policy", "version": "v1", "kind": "Eviction"}));
    assert_eq!(request["resource"], json!({"group": "", "version": "v1", "resource": "pods"}));
    assert_eq!((&request["subResource"], &request["name"]), (&json!("eviction"), &json!("kept")));
    assert_eq!((&request["object"]["kind"], &request["oldObject"]), (&json!("Eviction"), &Value::Null));
    assert_eq!(request["options"]["kind"], "CreateOptions");
    plane.kubectl(&["get", "pod", "kept"]);

    // One that is allowed deletes the pod, which is nobody's deletion but its own.
    let (done, said) = call(&plane, "loose", "eviction", &eviction("loose"));
    assert!(done, "{said}");
    assert_eq!(only(&server)["object"]["metadata"]["name"], "loose");
    assert!(plane.refused(&["get", "pod", "loose"], "").contains("NotFound"));

    // A deletion is told with its options, and its client is told the warnings.
    plane.apply(&pod("loose"));
    let deleted = plane.run(&["delete", "pod", "loose", "--grace-period=3", "--wait=false"], "");
    assert!(String::from_utf8_lossy(&deleted.stderr).contains("Warning: seen"));
    let request = only(&server);
    assert_eq!((&request["operation"], &request["object"]), (&json!("DELETE"), &Value::Null));
    assert_eq!(request["options"]["gracePeriodSeconds"], 3);

    let said = plane.refused(&["exec", "kept", "--", "ls", "-l"], "");
    assert!(said.contains("denied the request: it is kept"), "{said}");
    // kubectl tries a WebSocket, and then SPDY.
    for asked in server.take("/calls") {
        let request = &asked.body["request"];
        assert_eq!((&request["operation"], &request["options"]), (&json!("CONNECT"), &Value::Null));
        assert_eq!(request["kind"], json!({"group": "", "version": "v1", "kind": "PodExecOptions"}));
        assert_eq!(request["object"]["command"], json!(["ls", "-l"]));
    }

    plane.kubectl(&["create", "token", "default"]);
    let request = only(&server);
    assert_eq!(request["kind"]["kind"], "TokenRequest");
    assert_eq!(
        (&request["resource"]["resource"], &request["name"]),
        (&json!("serviceaccounts"), &json!("default"))
    );
    plane.kubectl(&["auth", "can-i", "get", "pods"]);
    assert_eq!(only(&server)["object"]["spec"]["resourceAttributes"]["verb"], "get");

    let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "kept"},
        "target": {"kind": "Node", "name": "there"}});
    let mut stale = binding.clone();
    stale["metadata"]["resourceVersion"] = json!("1");
    let (done, said) = call(&plane, "kept", "binding", &stale);
    assert!(!done && said.contains("ResourceVersion in precondition: 1, "), "{said}");
    assert_eq!(only(&server)["kind"], json!({"group": "", "version": "v1", "kind": "Binding"}));
    let (done, said) = call(&plane, "kept", "binding", &binding);
    assert!(done, "{said}");
    assert_eq!(only(&server)["object"]["target"]["name"], "there");
    assert_eq!(plane.kubectl(&["get", "pod", "kept", "-o", "jsonpath={.spec.nodeName}"]), "there");
}

#[test]
fn policies_refuse_and_change_what_is_called() {
    let plane = Plane::start();
    plane.until(&["get", "serviceaccount", "default", "-o", "name"], |said| {
        said.starts_with("serviceaccount/")
    });
    plane.apply(&pod("kept"));
    let rules = json!({"resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"],
        "resources": ["pods/eviction", "pods/binding"]}]});
    plane.apply(&json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": "kept"}, "spec": {"matchConstraints": rules, "validations": [{
            "expression": "object.kind != 'Eviction' || object.metadata.name != 'kept'", "message": "it is kept"}]}}));
    plane.apply(
        &json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": "kept"}, "spec": {"policyName": "kept", "validationActions": ["Deny"]}}),
    );
    let (done, said) = call(&plane, "kept", "eviction", &eviction("kept"));
    assert!(!done && said.contains("it is kept"), "{said}");
    let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "kept"},
        "target": {"kind": "Node", "name": "there"}});
    let (done, said) = call(&plane, "kept", "binding", &binding);
    assert!(done, "{said}");

    // What is to be in a namespace that goes, goes with it.
    plane.kubectl(&["create", "namespace", "going"]);
    plane.apply(&json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "last", "namespace": "going", "finalizers": ["example.com/wait"]}}));
    plane.kubectl(&["delete", "namespace", "going", "--wait=false"]);
    let path = "/api/v1/namespaces/going/pods/none/eviction";
    let said = plane.refused(
        &["create", "--raw", path, "-f", "-"],
        &json!({"apiVersion": "policy/v1",
        "kind": "Eviction", "metadata": {"name": "none", "namespace": "going"}})
        .to_string(),
    );
    assert!(said.contains("because it is being terminated"), "{said}");
}

#[test]
fn what_other_servers_need_to_know_is_put_back() {
    let plane = Plane::start();
    let name = ["-n", "kube-system", "configmap", "extension-apiserver-authentication"];
    let args = |verb: &'static str, more: &[&'static str]| -> Vec<&'static str> {
        std::iter::once(verb).chain(name).chain(more.iter().copied()).collect()
    };
    let shown = args("get", &["-o", "jsonpath={.data.client-ca-file}{.data.more}"]);
    let before = plane.kubectl(&shown);
    assert!(before.starts_with("-----BEGIN CERTIFICATE"), "{before}");
    plane.kubectl(&args("patch", &["-p", r#"{"data":{"client-ca-file":"nobody","more":"x"}}"#]));
    plane.until(&shown, |said| *said == format!("{before}x"));
    plane.kubectl(&args("delete", &[]));
    plane.until(&shown, |said| said == before);
}
