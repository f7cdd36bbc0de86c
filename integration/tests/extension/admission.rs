//! Admission webhooks: what they change, what they refuse, and what becomes of a request when they cannot be asked.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::plane::Plane;
use crate::plane::server::{Answer, Asked, Server};

fn review(asked: &Asked, mut response: Value) -> Answer {
    response["uid"] = asked.body["request"]["uid"].clone();
    Answer::Json(
        200,
        json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response}),
    )
}

/// A patch that sets an annotation.
fn annotated(asked: &Asked, name: &str) -> Answer {
    let known = asked.body["request"]["object"]["metadata"]["annotations"].is_object();
    let mut patch =
        vec![json!({"op": "add", "path": format!("/metadata/annotations/{name}"), "value": "yes"})];
    if !known {
        patch.insert(0, json!({"op": "add", "path": "/metadata/annotations", "value": {}}));
    }
    let patch = STANDARD.encode(json!(patch).to_string());
    review(
        asked,
        json!({"allowed": true, "patchType": "JSONPatch", "patch": patch, "warnings": [format!("{name} was here")], "auditAnnotations": {"seen": name}}),
    )
}

/// A patch that adds a container to a pod that does not have it, in the older version of reviews.
fn sidecar(asked: &Asked) -> Answer {
    let has = asked.body["request"]["object"]["spec"]["containers"].as_array().is_some_and(|c| c.len() > 1);
    let container = json!({"name": "sidecar", "image": "sidecar"});
    let patch = json!([{"op": "add", "path": "/spec/containers/-", "value": container}]);
    let mut response = json!({"allowed": true});
    if !has {
        response["patch"] = STANDARD.encode(patch.to_string()).into();
    }
    let review =
        json!({"apiVersion": "admission.k8s.io/v1beta1", "kind": "AdmissionReview", "response": response});
    Answer::Json(200, review)
}

fn answer(asked: &Asked) -> Answer {
    match asked.path() {
        "/first" => annotated(asked, "first"),
        "/second" => annotated(asked, "second"),
        "/sidecar" => sidecar(asked),
        "/deny" if asked.body["request"]["object"]["data"]["colour"] == "red" => {
            review(asked, json!({"allowed": false, "status": {"code": 403, "message": "not this colour"}}))
        }
        "/deny" => review(asked, json!({"allowed": true})),
        "/late" => Answer::Late(Duration::from_secs(60)),
        "/other" => Answer::Json(
            200,
            json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
            "response": {"uid": "another", "allowed": true}}),
        ),
        _ => Answer::Json(500, json!({})),
    }
}

fn hook(name: &str, client: Value, more: Value) -> Value {
    let mut hook = json!({
        "name": format!("{name}.example.com"), "clientConfig": client, "admissionReviewVersions": ["v1"],
        "sideEffects": "None", "timeoutSeconds": 10,
        "rules": [{"operations": ["CREATE", "UPDATE"], "apiGroups": [""], "apiVersions": ["v1"],
            "resources": ["configmaps"]}],
        // The cluster's own ones are left alone.
        "objectSelector": {"matchLabels": {"test": "yes"}},
    });
    for (field, value) in more.as_object().into_iter().flatten() {
        hook[field] = value.clone();
    }
    hook
}

fn configuration(kind: &str, hooks: Value) -> Value {
    json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": format!("{kind}WebhookConfiguration"),
        "metadata": {"name": "test"}, "webhooks": hooks})
}

fn config_map(name: &str, colour: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": {"test": "yes"}},
        "data": {"colour": colour}})
}

#[test]
fn webhooks_change_objects_one_after_the_other() {
    let (plane, server) = (Plane::start(), Server::start(&[], None, answer));
    let conditions = json!([{"name": "wanted", "expression": "object.metadata.name != 'left-alone'"}]);
    let first = json!({"reinvocationPolicy": "IfNeeded", "matchConditions": conditions});
    plane.apply(&configuration(
        "Mutating",
        json!([
            hook("first", server.client_config("/first"), first),
            hook("second", server.client_config("/second"), json!({})),
        ]),
    ));

    let said = plane.apply(&config_map("a", "blue"));
    assert!(said.contains("Warning: first was here") && said.contains("Warning: second was here"), "{said}");
    let made = plane.kubectl(&[
        "get",
        "configmap",
        "a",
        "-o",
        "jsonpath={.metadata.annotations.first}{.metadata.annotations.second}",
    ]);
    assert_eq!(made, "yesyes");
    // The second one changed what the first one had seen; nothing changed after that.
    let (first, second) = (server.take("/first"), server.take("/second"));
    assert_eq!((first.len(), second.len()), (2, 1));
    assert!(first[0].from.is_some() && first[0].from == first[1].from, "a connection is used again");
    let request = &first[0].body["request"];
    assert_eq!(request["operation"], "CREATE");
    assert_eq!(request["resource"], json!({"group": "", "version": "v1", "resource": "configmaps"}));
    assert_eq!(request["kind"], json!({"group": "", "version": "v1", "kind": "ConfigMap"}));
    assert_eq!((&request["namespace"], &request["dryRun"]), (&json!("default"), &json!(false)));
    assert_eq!(request["userInfo"]["username"], "admin");
    assert_eq!(second[0].body["request"]["object"]["metadata"]["annotations"]["first"], "yes");
    assert_eq!(second[0].uri, "/second?timeout=10s");

    let record = plane.audited(|r| {
        r["objectRef"]["name"] == "a" && r["verb"] == "create" && r["stage"] == "ResponseComplete"
    });
    assert_eq!(record["annotations"]["first.example.com/seen"], "first");
    assert_eq!(record["annotations"]["second.example.com/seen"], "second");

    plane.apply(&config_map("left-alone", "blue"));
    assert_eq!((server.take("/first").len(), server.take("/second").len()), (0, 1));

    let dry = plane.run(
        &["create", "--dry-run=server", "-o", "json", "-f", "-"],
        &config_map("dry", "blue").to_string(),
    );
    let dry: Value = serde_json::from_slice(&dry.stdout).expect("an object");
    assert_eq!(dry["metadata"]["annotations"]["second"], "yes");
    assert!(server.take("/first").iter().all(|asked| asked.body["request"]["dryRun"] == true));
    assert!(plane.refused(&["get", "configmap", "dry"], "").contains("NotFound"));
}

#[test]
fn what_a_webhook_adds_is_completed_as_if_it_had_been_sent() {
    let (plane, server) = (Plane::start(), Server::start(&[], None, answer));
    plane.apply(&json!({"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "limits"},
        "spec": {"limits": [{"type": "Container", "default": {"cpu": "100m"}}]}}));
    let rules =
        json!([{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}]);
    let more = json!({"rules": rules, "admissionReviewVersions": ["v1beta1", "v1"]});
    let injects = hook("sidecar", server.client_config("/sidecar"), more);
    let first = json!({"rules": rules, "reinvocationPolicy": "IfNeeded"});
    let watches = hook("first", server.client_config("/first"), first);
    plane.apply(&configuration("Mutating", json!([watches, injects])));

    plane.apply(&json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "a", "labels": {"test": "yes"}},
        "spec": {"containers": [{"name": "main", "image": "main"}]}}));
    let pod = plane.kubectl(&["get", "pod", "a", "-o", "json"]);
    let pod: Value = serde_json::from_str(&pod).expect("an object");
    let sidecar = &pod["spec"]["containers"][1];
    assert_eq!(sidecar["resources"]["limits"]["cpu"], "100m");
    assert_eq!(sidecar["volumeMounts"][0]["mountPath"], "/var/run/secrets/kubernetes.io/serviceaccount");
    assert_eq!(sidecar["imagePullPolicy"], "Always");

    let (first, sidecars) = (server.take("/first"), server.take("/sidecar"));
    assert_eq!((first.len(), sidecars.len()), (2, 1));
    assert_eq!(sidecars[0].body["apiVersion"], "admission.k8s.io/v1beta1");
    let again = &first[1].body["request"]["object"]["spec"]["containers"][1];
    assert_eq!(again["resources"]["limits"]["cpu"], "100m");

    let record = plane.audited(|r| {
        r["objectRef"]["name"] == "a" && r["verb"] == "create" && r["stage"] == "ResponseComplete"
    });
    let said = |round: usize, index: usize| -> Value {
        let key = format!("mutation.webhook.admission.k8s.io/round_{round}_index_{index}");
        serde_json::from_str(record["annotations"][key].as_str().unwrap_or("null")).expect("JSON")
    };
    for (round, index, expected) in [(0, 0, "first"), (0, 1, "sidecar")] {
        let name = format!("{expected}.example.com");
        assert_eq!(said(round, index), json!({"configuration": "test", "webhook": name, "mutated": true}));
    }
    assert_eq!(said(1, 0)["webhook"], "first.example.com");
    assert_eq!(said(1, 1), Value::Null);
}

#[test]
fn webhooks_refuse_objects_and_failures_are_as_the_policy_says() {
    let (plane, server) = (Plane::start(), Server::start(&["hooks.default.svc"], None, answer));
    for object in server.service("hooks") {
        plane.apply(&object);
    }
    let by_service = json!({"service": {"name": "hooks", "namespace": "default", "path": "/deny"},
        "caBundle": server.ca_bundle});
    let in_force = |hook: Value| plane.apply(&configuration("Validating", json!([hook])));
    let create = ["create", "-f", "-"];
    let red = config_map("red", "red").to_string();

    in_force(hook("deny", by_service, json!({})));
    let said = plane.refused(&create, &red);
    let denied = "admission webhook \"deny.example.com\" denied the request: not this colour";
    assert!(said.contains("Error from server: ") && said.contains(denied), "{said}");
    plane.apply(&config_map("blue", "blue"));
    assert_eq!(server.take("/deny").len(), 2);

    // Nobody listens on the discard port.
    let gone = json!({"url": "https://127.0.0.1:9/gone", "caBundle": server.ca_bundle});
    in_force(hook("gone", gone.clone(), json!({"failurePolicy": "Fail"})));
    let said = plane.refused(&create, &red);
    let failed = "failed calling webhook \"gone.example.com\": failed to call webhook: Post \
                  \"https://127.0.0.1:9/gone?timeout=10s\": dial tcp 127.0.0.1:9: connect: connection refused";
    assert!(said.contains(failed), "{said}");
    in_force(hook("gone", gone, json!({"failurePolicy": "Ignore"})));
    plane.apply(&config_map("ignored", "red"));

    in_force(hook("late", server.client_config("/late"), json!({"timeoutSeconds": 1})));
    let said = plane.refused(&create, &red);
    assert!(said.contains("/late?timeout=1s\": context deadline exceeded"), "{said}");

    in_force(hook("other", server.client_config("/other"), json!({})));
    let said = plane.refused(&create, &red);
    assert!(said.contains("received invalid webhook response: expected response.uid="), "{said}");

    // Somebody else's certificate is not believed.
    let other = Server::start(&[], None, answer);
    let untrusted = json!({"url": server.client_config("/deny")["url"], "caBundle": other.ca_bundle});
    in_force(hook("untrusted", untrusted, json!({})));
    let said = plane.refused(&create, &red);
    assert!(said.contains("failed calling webhook \"untrusted.example.com\""), "{said}");
    assert!(server.take("/deny").is_empty());
}
