//! Autoscalers follow metrics that another API server brings.

use serde_json::{Value, json};

use crate::plane::Plane;
use crate::plane::server::{Answer, Asked, Server};

const CUSTOM: &str = "/apis/custom.metrics.k8s.io/v1beta2";
const EXTERNAL: &str = "/apis/external.metrics.k8s.io/v1beta1";

/// An adapter as small as one can be: a queue of thirty, and an Ingress with forty requests.
fn answer(asked: &Asked) -> Answer {
    let found = |value: Value| Answer::Json(200, value);
    let kinds = |root: &str| {
        found(json!({"kind": "APIResourceList", "apiVersion": "v1",
            "groupVersion": root.trim_start_matches("/apis/"), "resources": []}))
    };
    let list = |item: Value| found(json!({"kind": "MetricValueList", "metadata": {}, "items": [item]}));
    let time = "2026-01-01T00:00:00Z";
    match asked.path() {
        path if path == CUSTOM || path == EXTERNAL => kinds(path),
        path if path == format!("{EXTERNAL}/namespaces/default/queue") => {
            list(json!({"metricName": "queue", "timestamp": time, "value": "30"}))
        }
        path if path == format!("{CUSTOM}/namespaces/default/ingresses.networking.k8s.io/web/requests") => {
            list(
                json!({"describedObject": {"kind": "Ingress", "name": "web"}, "metric": {"name": "requests"},
                "timestamp": time, "value": "40"}),
            )
        }
        _ => Answer::Json(
            404,
            json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 404,
            "reason": "NotFound", "message": "not here"}),
        ),
    }
}

fn autoscaler(name: &str, metric: Value) -> Value {
    json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": name},
        "spec": {"minReplicas": 1, "maxReplicas": 10, "metrics": [metric],
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name}}})
}

fn registration(group: &str, version: &str, server: &Server) -> Value {
    json!({"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
        "metadata": {"name": format!("{version}.{group}")},
        "spec": {"group": group, "version": version, "groupPriorityMinimum": 100, "versionPriority": 100,
            "caBundle": server.ca_bundle, "service": {"name": "metrics", "namespace": "default"}}})
}

#[test]
fn autoscalers_follow_metrics_of_other_servers() {
    let (plane, server) = (Plane::start(), Server::start(&["metrics.default.svc"], None, answer));
    for object in server.service("metrics") {
        plane.apply(&object);
    }
    for name in ["outside", "inside"] {
        plane.kubectl(&["create", "deployment", name, "--image=none"]);
    }
    let average = json!({"type": "AverageValue", "averageValue": "10"});
    let queue = json!({"name": "queue", "selector": {"matchLabels": {"of": "mail"}}});
    plane.apply(&autoscaler(
        "outside",
        json!({"type": "External", "external": {"metric": queue, "target": average}}),
    ));
    let object = json!({"metric": {"name": "requests"}, "target": average,
        "describedObject": {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "name": "web"}});
    plane.apply(&autoscaler("inside", json!({"type": "Object", "object": object})));
    let active = "jsonpath={.status.conditions[?(@.type==\"ScalingActive\")].message}";
    let unable = "the HPA was unable to compute the replica count";
    let selector = "&LabelSelector{MatchLabels:map[string]string{of: mail,},MatchExpressions:[]LabelSelectorRequirement{},}";
    let outside = format!(
        "{unable}: unable to get external metric default/queue/{selector}: unable to fetch metrics from external metrics \
         API: the server could not find the requested resource (get queue.external.metrics.k8s.io)"
    );
    plane.until(&["get", "hpa", "outside", "-o", active], |said| said == outside);
    let inside = format!(
        "{unable}: unable to get metric requests: Ingress on default web/unable to fetch metrics from custom metrics \
         API: no custom metrics API (custom.metrics.k8s.io) registered"
    );
    plane.until(&["get", "hpa", "inside", "-o", active], |said| said == inside);

    for (group, version) in [("custom.metrics.k8s.io", "v1beta2"), ("external.metrics.k8s.io", "v1beta1")] {
        plane.apply(&registration(group, version, &server));
        let name = format!("apiservice/{version}.{group}");
        plane.kubectl(&["wait", "--for=condition=Available", &name, "--timeout=60s"]);
    }
    for (name, replicas) in [("outside", "3"), ("inside", "4")] {
        plane.until(&["get", "deployment", name, "-o", "jsonpath={.spec.replicas}"], |said| said == replicas);
    }
    let found = format!(
        "the HPA was able to successfully calculate a replica count from external metric queue({selector})"
    );
    plane.until(&["get", "hpa", "outside", "-o", active], |said| said == found);
    let asked = server.take(&format!("{EXTERNAL}/namespaces/default/queue"));
    let asked = asked.first().expect("it was asked");
    assert!(asked.uri.ends_with("?labelSelector=of%3Dmail"), "{}", asked.uri);
    let caller = "system:serviceaccount:kube-system:horizontal-pod-autoscaler";
    assert_eq!(asked.header("x-remote-user"), [caller]);
    let events = ["get", "events", "-o", "jsonpath={.items[*].message}"];
    plane.until(&events, |said| {
        said.contains(&format!("New size: 3; reason: external metric queue({selector}) above target"))
    });
}
