//! Tables: what kubectl's columns say about an object.
//!
//! The headers are in the resource table; the cells are computed here, one function a kind, in the order of
//! the headers. A kind without a function has name and age (or creation time).

use std::borrow::Cow;

use protocol::Resource;
use protocol::resources::{AGE_COLUMN, Column, NAME_COLUMN};
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::object::{at, list, name, text};

mod admission;
mod autoscaling;
mod cluster;
mod pods;
mod services;
mod storage;
mod workloads;

/// The columns of a kind that upstream has no printer for.
const DEFAULT: &[Column] = &[
    Column { name: "Name", kind: "string", format: "name", priority: 0, description: NAME_COLUMN },
    Column { name: "Created At", kind: "date", format: "", priority: 0, description: AGE_COLUMN },
];

/// The columns of a scale, whatever is scaled.
pub const SCALE: &[Column] = &[
    Column { name: "Name", kind: "string", format: "", priority: 0, description: NAME_COLUMN },
    Column {
        name: "Desired",
        kind: "integer",
        format: "",
        priority: 0,
        description: "How many replicas there should be",
    },
    Column {
        name: "Available",
        kind: "integer",
        format: "",
        priority: 0,
        description: "How many replicas there were when somebody last looked",
    },
    Column { name: "Age", kind: "string", format: "", priority: 0, description: AGE_COLUMN },
];

/// A scale's cells.
pub fn scale_cells(item: &Value) -> Vec<Value> {
    let count = |part: &str| item[part]["replicas"].as_i64().unwrap_or(0).into();
    vec![n(item), count("spec"), count("status"), age(item)]
}

/// A kind's columns.
pub fn columns(resource: &Resource) -> &'static [Column] {
    if resource.columns.is_empty() { DEFAULT } else { resource.columns }
}

/// An object's cells.
pub fn cells(resource: &Resource, item: &Value) -> Vec<Value> {
    match (resource.group, resource.plural) {
        ("", "pods") => pods::pod(item),
        ("", "podtemplates") => workloads::pod_template(item),
        ("", "replicationcontrollers") => workloads::replicas(item),
        ("apps", "replicasets") => workloads::replicas(item),
        ("apps", "deployments") => workloads::deployment(item),
        ("apps", "statefulsets") => workloads::stateful_set(item),
        ("apps", "daemonsets") => workloads::daemon_set(item),
        ("apps", "controllerrevisions") => workloads::revision(item),
        ("batch", "jobs") => workloads::job(item),
        ("batch", "cronjobs") => workloads::cron_job(item),
        ("", "services") => services::service(item),
        ("", "endpoints") => services::endpoints(item),
        ("discovery.k8s.io", "endpointslices") => services::slice(item),
        ("networking.k8s.io", "ingresses") => services::ingress(item),
        ("networking.k8s.io", "ingressclasses") => services::ingress_class(item),
        ("networking.k8s.io", "networkpolicies") => services::network_policy(item),
        ("networking.k8s.io", "ipaddresses") => services::address(item),
        ("networking.k8s.io", "servicecidrs") => services::cidr(item),
        ("", "nodes") => cluster::node(item),
        ("", "namespaces") => vec![n(item), s(text(item, &["status", "phase"])), age(item)],
        ("", "events") => cluster::event(item),
        ("events.k8s.io", "events") => cluster::event(&stored(resource, item)),
        ("", "configmaps") => {
            vec![n(item), (entries(&item["data"]) + entries(&item["binaryData"])).into(), age(item)]
        }
        ("", "secrets") => vec![n(item), s(text(item, &["type"])), entries(&item["data"]).into(), age(item)],
        ("", "serviceaccounts") => vec![n(item), age(item)],
        ("", "resourcequotas") => cluster::quota(item),
        ("", "persistentvolumes") => storage::volume(item),
        ("", "persistentvolumeclaims") => storage::claim(item),
        ("storage.k8s.io", "storageclasses") => storage::class(item),
        ("storage.k8s.io", "csidrivers") => storage::driver(item),
        ("storage.k8s.io", "csinodes") => {
            vec![n(item), list(item, &["spec", "drivers"]).len().into(), age(item)]
        }
        ("storage.k8s.io", "volumeattachments") => storage::attachment(item),
        ("storage.k8s.io", "volumeattributesclasses") => {
            vec![n(item), s(text(item, &["driverName"])), age(item)]
        }
        ("rbac.authorization.k8s.io", "rolebindings" | "clusterrolebindings") => cluster::binding(item),
        ("coordination.k8s.io", "leases") => {
            vec![n(item), s(text(item, &["spec", "holderIdentity"])), age(item)]
        }
        ("node.k8s.io", "runtimeclasses") => vec![n(item), s(text(item, &["handler"])), age(item)],
        ("scheduling.k8s.io", "priorityclasses") => cluster::priority_class(item),
        ("policy", "poddisruptionbudgets") => cluster::disruption_budget(item),
        ("autoscaling", _) => autoscaling::autoscaler(&stored(resource, item)),
        ("certificates.k8s.io", _) => cluster::signing_request(item),
        ("admissionregistration.k8s.io", plural) => admission::row(plural, item),
        ("flowcontrol.apiserver.k8s.io", plural) => cluster::flow(plural, item),
        ("apiregistration.k8s.io", _) => cluster::api_service(item),
        ("resource.k8s.io", plural) => cluster::device(plural, item),
        _ => vec![n(item), at(item, &["metadata", "creationTimestamp"]).clone()],
    }
}

/// Conditions of a row: pods that have ended say so.
pub fn conditions(resource: &Resource, item: &Value) -> Option<Value> {
    if resource.plural != "pods" {
        return None;
    }
    let phase = text(item, &["status", "phase"]);
    let (reason, message) = match phase {
        "Succeeded" => ("Succeeded", "The pod has completed successfully."),
        "Failed" => ("Failed", "The pod failed."),
        _ => return None,
    };
    Some(json!([{"type": "Completed", "status": "True", "reason": reason, "message": message}]))
}

fn n(item: &Value) -> Value {
    name(item).into()
}

fn s(text: &str) -> Value {
    text.into()
}

/// A text, or what stands for none.
fn or(text: &str, none: &str) -> Value {
    if text.is_empty() { none.into() } else { text.into() }
}

fn entries(value: &Value) -> usize {
    value.as_object().map_or(0, serde_json::Map::len)
}

fn int(item: &Value, path: &[&str]) -> Value {
    at(item, path).as_i64().unwrap_or(0).into()
}

fn joined(items: &[Value]) -> String {
    items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(",")
}

/// A number or a percentage, as it is written.
fn int_or_string(value: &Value, none: &str) -> Value {
    match value {
        Value::String(text) => text.as_str().into(),
        Value::Number(number) => number.to_string().into(),
        _ => none.into(),
    }
}

/// How long ago the object was made.
fn age(item: &Value) -> Value {
    since(text(item, &["metadata", "creationTimestamp"]))
}

/// How long ago a time was, in kubectl's short form.
pub fn since(time: &str) -> Value {
    match parse(time) {
        Some(then) => {
            let now: OffsetDateTime = actors::time::now().into();
            human((now - then).whole_seconds()).into()
        }
        None => "<unknown>".into(),
    }
}

/// Whether a text is a time.
pub fn is_time(text: &str) -> bool {
    parse(text).is_some()
}

fn parse(time: &str) -> Option<OffsetDateTime> {
    OffsetDateTime::parse(time, &Rfc3339).ok()
}

/// A duration in at most two units.
pub fn human(seconds: i64) -> String {
    let two = |big: i64, unit: &str, small: i64, small_unit: &str| {
        if small == 0 { format!("{big}{unit}") } else { format!("{big}{unit}{small}{small_unit}") }
    };
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    match seconds {
        ..-1 => "<invalid>".to_owned(),
        -1 => "0s".to_owned(),
        0..120 => format!("{seconds}s"),
        _ if minutes < 10 => two(minutes, "m", seconds % 60, "s"),
        _ if minutes < 180 => format!("{minutes}m"),
        _ if hours < 8 => two(hours, "h", minutes % 60, "m"),
        _ if hours < 48 => format!("{hours}h"),
        _ if hours < 192 => two(hours / 24, "d", hours % 24, "h"),
        _ if hours < 24 * 365 * 2 => format!("{}d", hours / 24),
        _ if hours < 24 * 365 * 8 => two(hours / 24 / 365, "y", hours / 24 % 365, "d"),
        _ => format!("{}y", hours / 24 / 365),
    }
}

/// Labels as `a=b,c=d`.
fn labels(map: &Value) -> Value {
    let pairs: Vec<String> = map
        .as_object()
        .into_iter()
        .flatten()
        .map(|(k, v)| format!("{k}={}", v.as_str().unwrap_or_default()))
        .collect();
    or(&pairs.join(","), "<none>")
}

/// A `LabelSelector`, or a plain map of labels.
fn selector(value: &Value) -> Value {
    if value["matchLabels"].is_null() && value["matchExpressions"].is_null() && value.is_object() {
        return labels(value);
    }
    let parsed = serde_json::from_value(value.clone()).ok();
    let parsed = parsed.and_then(|s| protocol::Selector::from_label_selector(&s).ok());
    or(&parsed.map(|s| s.to_string()).unwrap_or_default(), "<none>")
}

/// Names and images of a pod spec's containers.
fn containers(spec: &Value) -> (Value, Value) {
    let all = list(spec, &["containers"]);
    let of = |field: &str| all.iter().map(|c| text(c, &[field])).collect::<Vec<_>>().join(",");
    (of("name").into(), of("image").into())
}

/// An object in the version that is stored: columns are the same for all.
fn stored<'a>(resource: &Resource, item: &'a Value) -> Cow<'a, Value> {
    match resource.is_view() {
        true => Cow::Owned(super::convert::to_storage(resource, item.clone())),
        false => Cow::Borrowed(item),
    }
}

/// The rows of a list, in the order that upstream shows them in.
pub fn in_order<'a>(resource: &Resource, items: &'a [Value]) -> Vec<&'a Value> {
    let mut items: Vec<&Value> = items.iter().collect();
    if resource.group == "flowcontrol.apiserver.k8s.io" && resource.plural == "flowschemas" {
        items.sort_by_key(|item| (at(item, &["spec", "matchingPrecedence"]).as_i64(), name(item)));
    }
    items
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_short() {
        for (seconds, text) in [
            (-5, "<invalid>"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (125, "2m5s"),
            (600, "10m"),
            (3 * 3600, "3h"),
            (3 * 3600 + 60, "3h1m"),
            (40 * 3600, "40h"),
            (49 * 3600, "2d1h"),
            (10 * 86400, "10d"),
            (800 * 86400, "2y70d"),
            (4000 * 86400, "10y"),
        ] {
            assert_eq!(human(seconds), text);
        }
    }

    #[test]
    fn every_kind_has_as_many_cells_as_columns() {
        let item = json!({"metadata": {"name": "x", "creationTimestamp": "2026-01-01T00:00:00Z"}});
        for resource in protocol::resources::all().iter().filter(|r| r.is_stored()) {
            let cells = cells(resource, &item);
            // Upstream gives addresses an age that no column speaks of.
            let more = usize::from(resource.plural == "ipaddresses");
            assert_eq!(cells.len(), columns(resource).len() + more, "{}/{}", resource.group, resource.plural);
        }
    }
}
