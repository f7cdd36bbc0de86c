//! A group that another API server serves.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use serde_json::{Value, json};

use crate::plane::Plane;
use crate::plane::server::{Answer, Asked, Server};

const GROUP: &str = "stars.example.org";

fn star(name: &str) -> Value {
    json!({"apiVersion": format!("{GROUP}/v1"), "kind": "Star", "metadata": {"name": name, "namespace": "default",
        "resourceVersion": "5", "uid": name}})
}

/// An API server of one kind, as small as one can be.
fn answer(asked: &Asked) -> Answer {
    let found = |value: Value| Answer::Json(200, value);
    let (root, stars) = (format!("/apis/{GROUP}/v1"), format!("/apis/{GROUP}/v1/namespaces/default/stars"));
    match asked.path() {
        path if path == root => found(json!({"kind": "APIResourceList", "apiVersion": "v1",
            "groupVersion": format!("{GROUP}/v1"), "resources": [{"name": "stars", "singularName": "star",
                "namespaced": true, "kind": "Star", "verbs": ["get", "list", "watch", "create", "delete", "deletecollection"], "shortNames": ["st"]}]})),
        path if path == stars && asked.uri.contains("watch=") => {
            Answer::Lines(vec![json!({"type": "ADDED", "object": star("vega")})])
        }
        path if path == stars && asked.method == "POST" => Answer::Json(201, asked.body.clone()),
        path if path.starts_with(&format!("{root}/namespaces/doomed/")) && asked.method == "DELETE" => {
            found(json!({"kind": "Status", "apiVersion": "v1", "status": "Success"}))
        }
        path if path.starts_with(&format!("{root}/namespaces/doomed/")) => found(json!({"kind": "StarList",
            "apiVersion": format!("{GROUP}/v1"), "metadata": {"resourceVersion": "5"}, "items": []})),
        path if path == stars => found(json!({"kind": "StarList", "apiVersion": format!("{GROUP}/v1"),
            "metadata": {"resourceVersion": "5"}, "items": [star("sirius")]})),
        path if path == format!("/openapi/v3/apis/{GROUP}/v1") => found(json!({"openapi": "3.0.0",
            "info": {"title": "Stars", "version": "1"},
            "paths": {format!("{root}/namespaces/{{namespace}}/stars"): {"get": {
                "responses": {"200": {"description": "OK"}}, "x-kubernetes-action": "list",
                "x-kubernetes-group-version-kind": {"group": GROUP, "version": "v1", "kind": "Star"}}}},
            "components": {"schemas": {"org.example.stars.v1.Star": {"type": "object",
                "description": "A star burns.",
                "x-kubernetes-group-version-kind": [{"group": GROUP, "version": "v1", "kind": "Star"}]}}}})),
        _ => Answer::Json(
            404,
            json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 404,
            "reason": "NotFound", "message": "not here"}),
        ),
    }
}

#[test]
fn another_servers_group_is_found_listed_and_watched() {
    let plane = Plane::start();
    let ca = plane.kubectl(&[
        "get",
        "configmap",
        "extension-apiserver-authentication",
        "-n",
        "kube-system",
        "-o",
        "jsonpath={.data.requestheader-client-ca-file}",
    ]);
    let server = Server::start(&["stars.default.svc"], Some(&ca), answer);
    let registration = json!({"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
        "metadata": {"name": format!("v1.{GROUP}")},
        "spec": {"group": GROUP, "version": "v1", "groupPriorityMinimum": 100, "versionPriority": 10,
            "caBundle": server.ca_bundle, "service": {"name": "stars", "namespace": "default"}}});
    plane.apply(&registration);
    let name = format!("apiservice/v1.{GROUP}");
    let condition =
        |field: &str| format!("jsonpath={{.status.conditions[?(@.type==\"Available\")].{field}}}");
    plane.until(&["get", &name, "-o", &condition("message")], |said| {
        said == "service/stars in \"default\" is not present"
    });
    // While it is not there, everything else is.
    let said = plane.refused(&["get", "--raw", &format!("/apis/{GROUP}/v1")], "");
    assert!(said.contains("ServiceUnavailable"), "{said}");
    plane.kubectl(&["get", "configmaps"]);

    for object in server.service("stars") {
        plane.apply(&object);
    }
    plane.until(&["get", &name, "-o", &condition("reason")], |said| said == "Passed");
    let probed = server.take("/apis/");
    assert!(
        probed.iter().any(|asked| asked.header("x-remote-user") == ["system:kube-aggregator"]),
        "{probed:?}"
    );

    let group =
        |document: &Value| document["groups"].as_array().into_iter().flatten().any(|g| g["name"] == GROUP);
    assert!(group(&plane.raw("/apis")));
    assert_eq!(plane.raw(&format!("/apis/{GROUP}"))["preferredVersion"]["version"], "v1");
    plane.until(&["api-resources", "--api-group", GROUP, "-o", "name"], |said| {
        said == format!("stars.{GROUP}\n")
    });
    let listed = plane.kubectl(&[
        "get",
        "st",
        "-o",
        "name",
        "--as=jane",
        "--as-group=system:masters",
        "--as-group=dev",
    ]);
    assert_eq!(listed, format!("star.{GROUP}/sirius\n"));
    let asked = server.take(&format!("/apis/{GROUP}/v1/namespaces"));
    let asked = asked.last().expect("it was asked");
    assert_eq!(asked.header("x-remote-user"), ["jane"]);
    assert_eq!(asked.header("x-remote-group"), ["system:masters", "dev", "system:authenticated"]);
    let private = |(name, _): &&(String, String)| name == "authorization" || name.starts_with("impersonate-");
    assert_eq!(asked.headers.iter().find(private), None);
    // Who may not do it does not get so far.
    let said = plane.refused(&["get", "stars", "--as=jane"], "");
    assert!(said.contains("User \"jane\" cannot list resource \"stars\" in API group"), "{said}");

    let made = plane.run(&["create", "--validate=false", "-f", "-"], &star("deneb").to_string());
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let said = plane.kubectl(&["explain", "stars"]);
    assert!(said.contains("A star burns."), "{said}");

    let mut watching = plane.command(&["get", "stars", "--watch-only", "-o", "name"]);
    let mut watching = watching.stdout(Stdio::piped()).spawn().expect("kubectl runs");
    let mut line = String::new();
    BufReader::new(watching.stdout.take().expect("its output")).read_line(&mut line).expect("a line");
    assert_eq!(line, format!("star.{GROUP}/vega\n"));
    watching.kill().expect("it runs");
    watching.wait().expect("it ends");

    // What it holds in a namespace goes with that.
    plane.kubectl(&["create", "namespace", "doomed"]);
    plane.kubectl(&["delete", "namespace", "doomed", "--timeout=60s"]);
    let asked = server.take(&format!("/apis/{GROUP}/v1/namespaces/doomed/stars"));
    let deleted = asked.iter().find(|asked| asked.method == "DELETE").expect("it was asked to delete");
    assert_eq!(deleted.header("x-remote-user"), ["system:serviceaccount:kube-system:namespace-controller"]);
    assert_eq!(deleted.body["propagationPolicy"], "Background");

    plane.kubectl(&["delete", "endpointslice", "stars-1"]);
    plane.until(&["get", &name, "-o", &condition("reason")], |said| said == "EndpointsNotFound");
    let said = plane.refused(&["get", "--raw", &format!("/apis/{GROUP}/v1")], "");
    assert!(said.contains("ServiceUnavailable"), "{said}");
    // While it is away, nobody knows what it holds.
    plane.kubectl(&["create", "namespace", "waiting"]);
    plane.kubectl(&["delete", "namespace", "waiting", "--wait=false"]);
    let discovery = "jsonpath={.status.conditions[?(@.type==\"NamespaceDeletionDiscoveryFailure\")].message}";
    let why = format!("{GROUP}/v1: stale GroupVersion discovery: {GROUP}/v1");
    plane.until(&["get", "namespace", "waiting", "-o", discovery], |said| said.ends_with(&why));
    plane.kubectl(&["delete", &name]);
    plane.kubectl(&["wait", "--for=delete", "namespace/waiting", "--timeout=60s"]);
    plane.until(&["get", "--raw", &format!("/apis/{GROUP}/v1")], |said| said.contains("NotFound"));
}

#[test]
fn declared_groups_are_registered_as_long_as_they_are_declared() {
    let plane = Plane::start();
    let schema = json!({"type": "object"});
    let versions = json!([crate::plane::version("v1", true, schema)]);
    plane.apply(&crate::plane::definition("knobs", "Knob", versions, json!({"strategy": "None"})));
    let name = ["get", "apiservice", "v1.example.com", "-o"];
    let get = |output: &'static str| [&name[..], &[output]].concat();
    plane.until(&get("jsonpath={.status.conditions[0].reason}"), |said| said == "Local");
    let label =
        plane.kubectl(&get("jsonpath={.metadata.labels.kube-aggregator\\.kubernetes\\.io/automanaged}"));
    assert_eq!(label, "true");
    let spec: Value = serde_json::from_str(&plane.kubectl(&get("jsonpath={.spec}"))).expect("JSON");
    let expected = json!({"group": "example.com", "version": "v1", "groupPriorityMinimum": 1000, "versionPriority": 100});
    assert_eq!(spec, expected);
    plane.kubectl(&["delete", "crd", "knobs.example.com"]);
    plane.until(&get("name"), |said| said.contains("NotFound"));
}
