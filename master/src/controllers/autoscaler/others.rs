//! Metrics that other API servers bring: `custom.metrics.k8s.io` about pods and other objects, and
//! `external.metrics.k8s.io` about whatever there is outside.

use std::collections::BTreeMap;

use k8s_openapi::api::autoscaling::v2::{CrossVersionObjectReference, MetricIdentifier};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::jiff::SignedDuration;
use protocol::request::Target;
use protocol::{ApiError, ApiRequest, Quantity, Selector, Verb};
use serde_json::Value;

use super::metrics::{Sample, TOLERANCE};
use crate::aggregation::services::Registered;
use crate::api::custom::Catalog;
use crate::api::object::{list, text};
use crate::controllers::machinery::Cx;

const CUSTOM: &str = "custom.metrics.k8s.io";
const EXTERNAL: &str = "external.metrics.k8s.io";
/// Versions of the custom metrics API, the most wanted first.
const VERSIONS: [&str; 2] = ["v1beta2", "v1beta1"];

/// A selector of metrics as query parameters have it; empty for all.
fn query(selector: Option<&LabelSelector>) -> Result<String, String> {
    let Some(selector) = selector else { return Ok(String::new()) };
    Selector::from_label_selector(selector).map(|s| s.to_string()).map_err(|e| e.to_string())
}

/// The version of the custom metrics API that is there.
fn version(cx: &Cx) -> Result<&'static str, String> {
    let registered = cx.cache.derived::<Registered>();
    let found = VERSIONS.into_iter().find(|version| registered.backend(CUSTOM, version).is_some());
    found.ok_or_else(|| format!("no custom metrics API ({CUSTOM}) registered"))
}

async fn items(cx: &Cx, request: ApiRequest) -> Result<Vec<Value>, ApiError> {
    let answer = cx.client.send(request).await?;
    let body: Value = serde_json::from_slice(&answer.body).map_err(ApiError::internal)?;
    Ok(list(&body, &["items"]).to_vec())
}

fn milli(item: &Value) -> Option<i64> {
    text(item, &["value"]).parse::<Quantity>().ok().map(|q| q.milli())
}

/// What a metric says of the selected pods, by pod.
pub async fn of_pods(
    cx: &Cx,
    namespace: &str,
    selector: &str,
    metric: &MetricIdentifier,
) -> Result<BTreeMap<String, Sample>, String> {
    let read = async || -> Result<Vec<Value>, String> {
        let target = Target {
            group: CUSTOM.to_owned(),
            version: version(cx)?.to_owned(),
            resource: "pods".to_owned(),
            namespace: Some(namespace.to_owned()),
            name: Some("*".to_owned()),
            subresource: Some(metric.name.clone()),
        };
        let mut request = ApiRequest::new(Verb::Get, target);
        request.options.label_selector = Some(selector.to_owned());
        with_metric_selector(&mut request, metric)?;
        items(cx, request).await.map_err(|e| e.to_string())
    };
    let items =
        read().await.map_err(|why| format!("unable to fetch metrics from custom metrics API: {why}"))?;
    if items.is_empty() {
        return Err("no metrics returned from custom metrics API".to_owned());
    }
    Ok(samples(&items))
}

fn samples(items: &[Value]) -> BTreeMap<String, Sample> {
    let sample = |item: &Value| {
        let window =
            item["windowSeconds"].as_i64().map_or(SignedDuration::from_mins(1), SignedDuration::from_secs);
        let sample = Sample { milli: milli(item)?, at: text(item, &["timestamp"]).parse().ok()?, window };
        Some((text(item, &["describedObject", "name"]).to_owned(), sample))
    };
    items.iter().filter_map(sample).collect()
}

fn with_metric_selector(request: &mut ApiRequest, metric: &MetricIdentifier) -> Result<(), String> {
    let selector = query(metric.selector.as_ref())?;
    if !selector.is_empty() {
        request.options.extra.push(("metricLabelSelector".to_owned(), selector));
    }
    Ok(())
}

/// What a metric says of an object, in thousandths.
pub async fn of_object(
    cx: &Cx,
    namespace: &str,
    object: &CrossVersionObjectReference,
    metric: &MetricIdentifier,
) -> Result<i64, String> {
    let read = async || -> Result<Vec<Value>, String> {
        let version = version(cx)?;
        let target = described(&cx.cache.derived(), namespace, object, &metric.name, version)?;
        let mut request = ApiRequest::new(Verb::Get, target);
        with_metric_selector(&mut request, metric)?;
        items(cx, request).await.map_err(|e| e.to_string())
    };
    let items =
        read().await.map_err(|why| format!("unable to fetch metrics from custom metrics API: {why}"))?;
    match items.as_slice() {
        [one] => milli(one).ok_or_else(|| "the metric's value is no quantity".to_owned()),
        other => Err(format!(
            "the custom metrics API server returned {} results when we asked for exactly one",
            other.len()
        )),
    }
}

/// Where the custom metrics API tells of an object.
fn described(
    catalog: &Catalog,
    namespace: &str,
    object: &CrossVersionObjectReference,
    metric: &str,
    version: &str,
) -> Result<Target, String> {
    let api_version = object.api_version.as_deref().unwrap_or("v1");
    let none = || format!("no matches for kind {:?} in version {api_version:?}", object.kind);
    let resource = catalog.by_kind(api_version, &object.kind).ok_or_else(none)?;
    let base = Target { group: CUSTOM.to_owned(), version: version.to_owned(), ..Target::default() };
    if (resource.group, resource.plural) == ("", "namespaces") {
        // Metrics about a namespace are listed in it.
        let (resource, namespace) = ("metrics".to_owned(), Some(object.name.clone()));
        return Ok(Target { resource, namespace, name: Some(metric.to_owned()), ..base });
    }
    Ok(Target {
        resource: protocol::error::qualified(resource.group, resource.plural),
        namespace: resource.namespaced.then(|| namespace.to_owned()),
        name: Some(object.name.clone()),
        subresource: Some(metric.to_owned()),
        ..base
    })
}

/// What an external metric says, all its series together, in thousandths.
pub async fn external(cx: &Cx, namespace: &str, metric: &MetricIdentifier) -> Result<i64, String> {
    let read = async || -> Result<Vec<Value>, String> {
        let target = Target {
            group: EXTERNAL.to_owned(),
            version: "v1beta1".to_owned(),
            resource: metric.name.clone(),
            namespace: Some(namespace.to_owned()),
            ..Target::default()
        };
        let mut request = ApiRequest::new(Verb::List, target);
        let selector = query(metric.selector.as_ref())?;
        request.options.label_selector = Some(selector).filter(|s| !s.is_empty());
        let registered = cx.cache.derived::<Registered>().backend(EXTERNAL, "v1beta1").is_some();
        let name = &metric.name;
        if !registered {
            return Err(format!("the server could not find the requested resource (get {name}.{EXTERNAL})"));
        }
        items(cx, request).await.map_err(|e| e.to_string())
    };
    let items =
        read().await.map_err(|why| format!("unable to fetch metrics from external metrics API: {why}"))?;
    if items.is_empty() {
        return Err("no metrics returned from external metrics API".to_owned());
    }
    Ok(items.iter().filter_map(milli).fold(0, i64::saturating_add))
}

/// Rounds up, but not for what floating point adds.
fn up(pods: f64) -> i32 {
    (pods - 1e-9).ceil() as i32
}

fn near(ratio: f64) -> bool {
    (1.0 - ratio).abs() <= TOLERANCE
}

/// Pods that a value calls for which is to stay at a target, whoever shares it. `ready` counts the ready pods.
pub fn by_value(value: i64, target: i64, current: i32, ready: usize) -> i32 {
    let ratio = value as f64 / target.max(1) as f64;
    if current == 0 {
        return up(ratio);
    }
    if near(ratio) { current } else { up(ratio * ready as f64) }
}

/// Pods that a value calls for of which each pod is to have so much; and what each of them has now.
pub fn by_average(value: i64, target: i64, running: i32) -> (i32, i64) {
    let each = target.max(1) as f64;
    let ratio = value as f64 / (each * f64::from(running));
    let replicas = if near(ratio) { running } else { up(value as f64 / each) };
    (replicas, (value as f64 / f64::from(running.max(1))).ceil() as i64)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_are_shared_and_averages_are_not() {
        for (value, target, current, ready, replicas) in [
            (20_000, 10_000, 2, 2, 4),
            (10_500, 10_000, 3, 3, 3),
            (5_000, 10_000, 4, 4, 2),
            (20_000, 10_000, 4, 1, 2),
            (25_000, 10_000, 0, 0, 3),
        ] {
            assert_eq!(by_value(value, target, current, ready), replicas, "{value} of {target}");
        }
        for (value, target, running, replicas, each) in [
            (30_000, 10_000, 2, 3, 15_000),
            (21_000, 10_000, 2, 2, 10_500),
            (0, 10_000, 3, 0, 0),
            (10_000, 10_000, 0, 1, 10_000),
        ] {
            assert_eq!(by_average(value, target, running), (replicas, each), "{value} of {target}");
        }
    }

    #[test]
    fn objects_have_paths() {
        let of = |api_version: &str, kind: &str, name: &str| {
            let object = CrossVersionObjectReference {
                api_version: Some(api_version.to_owned()),
                kind: kind.to_owned(),
                name: name.to_owned(),
            };
            let target = described(&Catalog::default(), "n", &object, "m", "v1beta2")?;
            Ok::<_, String>((target.resource, target.namespace, target.name, target.subresource))
        };
        let some = |text: &str| Some(text.to_owned());
        let ingress = of("networking.k8s.io/v1", "Ingress", "web");
        assert_eq!(
            ingress,
            Ok(("ingresses.networking.k8s.io".to_owned(), some("n"), some("web"), some("m")))
        );
        assert_eq!(of("v1", "Namespace", "x"), Ok(("metrics".to_owned(), some("x"), some("m"), None)));
        assert_eq!(of("v1", "Node", "x"), Ok(("nodes".to_owned(), None, some("x"), some("m"))));
        let why = "no matches for kind \"Nothing\" in version \"v1\"";
        assert_eq!(of("v1", "Nothing", "x"), Err(why.to_owned()));
    }

    #[test]
    fn both_versions_tell_of_pods() {
        let items = [
            json!({"describedObject": {"kind": "Pod", "name": "a"}, "metric": {"name": "m"},
                "timestamp": "2026-01-01T00:00:00Z", "windowSeconds": 30, "value": "1500m"}),
            json!({"describedObject": {"kind": "Pod", "name": "b"}, "metricName": "m",
                "timestamp": "2026-01-01T00:00:00Z", "value": "2"}),
            json!({"describedObject": {"kind": "Pod", "name": "c"}, "value": "much"}),
        ];
        let told = samples(&items);
        let amounts: Vec<_> =
            told.iter().map(|(name, s)| (name.as_str(), s.milli, s.window.as_secs())).collect();
        assert_eq!(amounts, [("a", 1500, 30), ("b", 2000, 60)]);
    }
}
