//! Versions of a declared kind that a webhook converts.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::plane::server::{Answer, Asked, Server};
use crate::plane::{Plane, definition, version};

/// What the versions call the same number.
const FIELDS: [(&str, &str); 2] = [("example.com/v1", "size"), ("example.com/v2", "count")];

fn field(api_version: &str) -> &'static str {
    FIELDS.iter().find(|(version, _)| *version == api_version).map_or("none", |(_, field)| field)
}

/// Admits, and doubles the number that it finds under its name in the second version.
fn admit(asked: &Asked) -> Answer {
    let request = &asked.body["request"];
    let count = request["object"]["spec"]["count"].as_i64().unwrap_or(0);
    let patch = json!([{"op": "replace", "path": "/spec/count", "value": 2 * count}]);
    let response = json!({"uid": request["uid"], "allowed": true, "patchType": "JSONPatch",
        "patch": STANDARD.encode(patch.to_string())});
    let review =
        json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response});
    Answer::Json(200, review)
}

/// Converts, unless an object's label says how not to.
fn answer(asked: &Asked) -> Answer {
    if asked.path() == "/admit" {
        return admit(asked);
    }
    let request = &asked.body["request"];
    let desired = request["desiredAPIVersion"].as_str().unwrap_or_default();
    let objects = request["objects"].as_array().cloned().unwrap_or_default();
    let converted: Vec<Value> = objects
        .into_iter()
        .map(|mut object| {
            let from = field(object["apiVersion"].as_str().unwrap_or_default());
            // Of owners of fields, parts of objects are asked for too.
            if let Some(spec) = object["spec"].as_object_mut()
                && let Some(value) = spec.remove(from)
            {
                spec.insert(field(desired).to_owned(), value);
            }
            object["apiVersion"] = desired.into();
            object["metadata"]["finalizers"] = json!(["what/webhooks-add-here-is-dropped"]);
            if object["metadata"]["labels"]["rename"] == "yes" {
                object["metadata"]["name"] = "another".into();
            }
            object
        })
        .collect();
    let response =
        json!({"uid": request["uid"], "result": {"status": "Success"}, "convertedObjects": converted});
    Answer::Json(
        200,
        json!({"apiVersion": asked.body["apiVersion"], "kind": "ConversionReview", "response": response}),
    )
}

fn versions(stored: &str) -> Value {
    let one = |(api_version, field): &(&str, &str)| {
        let name = api_version.rsplit('/').next().unwrap_or_default();
        let schema = json!({"type": "object", "properties": {
            "spec": {"type": "object", "properties": {*field: {"type": "integer"}}},
            "status": {"type": "object", "properties": {"seen": {"type": "integer"}}}}});
        let mut made = version(name, name == stored, schema);
        made["subresources"] = json!({"status": {}, "scale": {
            "specReplicasPath": format!(".spec.{field}"), "statusReplicasPath": ".status.seen"}});
        made
    };
    FIELDS.iter().map(one).collect()
}

fn widget(name: &str, api_version: &str, number: i64) -> Value {
    json!({"apiVersion": api_version, "kind": "Widget", "metadata": {"name": name, "namespace": "default"},
        "spec": {field(api_version): number}})
}

const ROOT_V1: &str = "/apis/example.com/v1/namespaces/default/widgets";
const ROOT_V2: &str = "/apis/example.com/v2/namespaces/default/widgets";

fn start() -> (Plane, Server) {
    let (plane, server) = (Plane::start(), Server::start(&["converter.default.svc"], None, answer));
    for object in server.service("converter") {
        plane.apply(&object);
    }
    plane.apply(&declared(&server, "v1"));
    plane.established("widgets");
    (plane, server)
}

fn declared(server: &Server, stored: &str) -> Value {
    let client = json!({"service": {"name": "converter", "namespace": "default", "path": "/convert"},
        "caBundle": server.ca_bundle});
    let webhook = json!({"conversionReviewVersions": ["v1"], "clientConfig": client});
    definition("widgets", "Widget", versions(stored), json!({"strategy": "Webhook", "webhook": webhook}))
}

#[test]
fn objects_are_seen_in_every_version_and_converted_once() {
    let (plane, server) = start();
    plane.apply(&widget("a", "example.com/v1", 3));
    plane.apply(&widget("b", "example.com/v2", 7));
    assert_eq!(plane.raw(&format!("{ROOT_V2}/a"))["spec"], json!({"count": 3}));
    assert_eq!(plane.raw(&format!("{ROOT_V1}/b"))["spec"], json!({"size": 7}));
    let asked = server.take("/convert");
    assert!(asked.iter().all(|asked| asked.uri == "/convert?timeout=30s"), "{asked:?}");

    let list = plane.raw(ROOT_V2);
    let counts: Vec<&Value> =
        list["items"].as_array().expect("items").iter().map(|i| &i["spec"]["count"]).collect();
    assert_eq!((counts, &list["apiVersion"]), (vec![&json!(3), &json!(7)], &json!("example.com/v2")));
    assert_eq!(list["items"][0]["metadata"].get("finalizers"), None);
    plane.raw(ROOT_V2);
    plane.raw(&format!("{ROOT_V2}/b"));
    let watched = plane.kubectl(&["get", "--raw", &format!("{ROOT_V2}?watch=1&timeoutSeconds=1")]);
    let events: Vec<Value> =
        watched.lines().map(|line| serde_json::from_str(line).expect("an event")).collect();
    let seen: Vec<_> =
        events.iter().map(|e| (e["type"].as_str(), e["object"]["spec"]["count"].as_i64())).collect();
    assert_eq!(seen, [(Some("ADDED"), Some(3)), (Some("ADDED"), Some(7))]);
    assert!(server.take("/convert").is_empty(), "what was converted once is asked for again");

    // Through other parts of the object, in the version that is not stored.
    plane.kubectl(&["scale", "widgets.v2.example.com/a", "--replicas=5"]);
    assert_eq!(plane.raw(&format!("{ROOT_V1}/a"))["spec"], json!({"size": 5}));
    let status = "{\"status\":{\"seen\":4}}";
    plane.kubectl(&[
        "patch",
        "widgets.v2.example.com",
        "a",
        "--subresource=status",
        "--type=merge",
        "-p",
        status,
    ]);
    assert_eq!(plane.raw(&format!("{ROOT_V1}/a"))["status"], json!({"seen": 4}));
    assert_eq!(plane.raw(&format!("{ROOT_V2}/a/scale"))["spec"]["replicas"], 5);
    plane.kubectl(&["delete", "widgets.v2.example.com", "b"]);

    // The version that is stored changes; what lies there is converted when it is written.
    plane.apply(&declared(&server, "v2"));
    let stored = ["get", "crd", "widgets.example.com", "-o", "jsonpath={.status.storedVersions}"];
    plane.until(&stored, |said| said == "[\"v1\",\"v2\"]");
    assert_eq!(plane.raw(&format!("{ROOT_V2}/a"))["spec"], json!({"count": 5}));
    plane.kubectl(&["label", "widgets.v1.example.com", "a", "touched=yes"]);
    server.take("/convert");
    let touched = plane.raw(&format!("{ROOT_V2}/a"));
    assert_eq!(
        (&touched["spec"]["count"], &touched["metadata"]["labels"]["touched"]),
        (&json!(5), &json!("yes"))
    );
    assert!(server.take("/convert").is_empty(), "it is stored as it is asked for");
    plane.kubectl(&["delete", "crd", "widgets.example.com"]);
}

#[test]
fn owners_of_fields_meet_across_versions() {
    let (plane, _server) = start();
    let apply = |manager: &str, object: &Value| {
        let args = ["apply", "--server-side", &format!("--field-manager={manager}"), "-f", "-"];
        plane.run(&args, &object.to_string())
    };
    assert!(apply("one", &widget("a", "example.com/v1", 3)).status.success());
    // The same number under its other name is no conflict, another number is.
    let same = apply("two", &widget("a", "example.com/v2", 3));
    assert!(same.status.success(), "{}", String::from_utf8_lossy(&same.stderr));
    let other = apply("two", &widget("a", "example.com/v2", 4));
    let said = String::from_utf8_lossy(&other.stderr).into_owned();
    let conflict = "conflict with \"one\": .spec.size";
    assert!(!other.status.success() && said.contains(conflict), "{said}");
}

#[test]
fn a_webhook_that_does_not_keep_to_the_rules_is_found_out() {
    let (plane, _server) = start();
    let mut renamed = widget("a", "example.com/v1", 3);
    renamed["metadata"]["labels"] = json!({"rename": "yes"});
    plane.apply(&renamed);
    let said = plane.refused(&["get", "widgets.v2.example.com", "a"], "");
    let why = "conversion webhook for example.com/v1, Kind=Widget returned invalid object: must have the same name: \
               a != another";
    assert!(said.contains(why), "{said}");
    // As it is stored, it can still be read and mended.
    plane.kubectl(&["label", "widgets.v1.example.com", "a", "rename-"]);
    assert_eq!(plane.raw(&format!("{ROOT_V2}/a"))["spec"], json!({"count": 3}));
}

#[test]
fn a_webhook_for_one_version_sees_writes_in_the_other_converted() {
    let (plane, server) = start();
    let hook = |name: &str, policy: &str| {
        json!({"name": format!("{name}.example.com"), "clientConfig": server.client_config("/admit"),
            "admissionReviewVersions": ["v1"], "sideEffects": "None", "matchPolicy": policy,
            "rules": [{"operations": ["CREATE", "UPDATE"], "apiGroups": ["example.com"], "apiVersions": ["v2"],
                "resources": ["widgets"]}]})
    };
    plane.apply(&json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": "test"}, "webhooks": [hook("exact", "Exact"), hook("equivalent", "Equivalent")]}));
    plane.apply(&widget("a", "example.com/v1", 3));
    let asked = server.take("/admit");
    let [asked] = asked.as_slice() else { panic!("the exact one was asked too, or none: {asked:?}") };
    let request = &asked.body["request"];
    let seen = |field: &str| request[field].clone();
    assert_eq!(seen("kind"), json!({"group": "example.com", "version": "v2", "kind": "Widget"}));
    assert_eq!(seen("resource"), json!({"group": "example.com", "version": "v2", "resource": "widgets"}));
    assert_eq!(seen("requestKind"), json!({"group": "example.com", "version": "v1", "kind": "Widget"}));
    assert_eq!(
        seen("requestResource"),
        json!({"group": "example.com", "version": "v1", "resource": "widgets"})
    );
    assert_eq!(request["object"]["apiVersion"], "example.com/v2");
    assert_eq!(request["object"]["spec"], json!({"count": 3}));
    assert_eq!(plane.raw(&format!("{ROOT_V1}/a"))["spec"], json!({"size": 6}));
    // In its own version both are asked, one after the other.
    plane.apply(&widget("b", "example.com/v2", 1));
    assert_eq!(plane.raw(&format!("{ROOT_V2}/b"))["spec"], json!({"count": 4}));
}
