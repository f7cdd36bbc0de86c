//! The columns of nodes, events and the cluster's configuration.

use serde_json::Value;

use super::{age, human, int, int_or_string, n, or, parse, s, since};
use crate::api::object::{list, name, text};

const ROLE_LABEL: &str = "node-role.kubernetes.io/";

pub(super) fn node(item: &Value) -> Vec<Value> {
    let info = |field: &str| or(text(item, &["status", "nodeInfo", field]), "<unknown>");
    let address = |kind: &str| {
        let found = list(item, &["status", "addresses"]).iter().find(|a| text(a, &["type"]) == kind);
        or(found.map_or("", |a| text(a, &["address"])), "<none>")
    };
    vec![
        n(item),
        node_status(item).into(),
        or(&roles(item), "<none>"),
        age(item),
        s(text(item, &["status", "nodeInfo", "kubeletVersion"])),
        address("InternalIP"),
        address("ExternalIP"),
        info("osImage"),
        kernel(item).into(),
        info("containerRuntimeVersion"),
    ]
}

/// The version of a node's kernel, and what it was made for.
fn kernel(item: &Value) -> String {
    let info = |field: &str| text(item, &["status", "nodeInfo", field]);
    let version = Some(info("kernelVersion")).filter(|version| !version.is_empty()).unwrap_or("<unknown>");
    match info("architecture") {
        "" => version.to_owned(),
        architecture => format!("{version} ({architecture})"),
    }
}

fn node_status(item: &Value) -> String {
    let ready = list(item, &["status", "conditions"]).iter().find(|c| text(c, &["type"]) == "Ready");
    let mut status = match ready.map(|c| text(c, &["status"])) {
        Some("True") => "Ready".to_owned(),
        Some(_) => "NotReady".to_owned(),
        None => "Unknown".to_owned(),
    };
    if item["spec"]["unschedulable"] == Value::Bool(true) {
        status.push_str(",SchedulingDisabled");
    }
    status
}

fn roles(item: &Value) -> String {
    let mut roles: Vec<&str> = item["metadata"]["labels"]
        .as_object()
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| match key.strip_prefix(ROLE_LABEL) {
            Some(role) => Some(role).filter(|r| !r.is_empty()),
            None if key == "kubernetes.io/role" => value.as_str().filter(|v| !v.is_empty()),
            None => None,
        })
        .collect();
    roles.sort_unstable();
    roles.dedup();
    roles.join(",")
}

/// A core event.
pub(super) fn event(item: &Value) -> Vec<Value> {
    let at = |field: &str| text(item, &[field]);
    let first =
        [at("firstTimestamp"), at("eventTime")].into_iter().find(|t| !t.is_empty()).unwrap_or_default();
    let series = &item["series"];
    let last = match at("lastTimestamp") {
        _ if series.is_object() => text(series, &["lastObservedTime"]),
        "" => first,
        last => last,
    };
    let when = |time: &str| match parse(time) {
        Some(_) => since(time),
        None => "<unknown>".into(),
    };
    let count = match series.is_object() {
        true => series["count"].as_i64().unwrap_or(0),
        false => item["count"].as_i64().filter(|c| *c != 0).unwrap_or(1),
    };
    let either = |old: &str, new: &str| if old.is_empty() { new.to_owned() } else { old.to_owned() };
    let component = either(text(item, &["source", "component"]), at("reportingComponent"));
    let instance = either(text(item, &["source", "host"]), at("reportingInstance"));
    let source = if instance.is_empty() { component } else { format!("{component}, {instance}") };
    let about = &item["involvedObject"];
    let object = match text(about, &["name"]) {
        "" => text(about, &["kind"]).to_lowercase(),
        name => format!("{}/{name}", text(about, &["kind"]).to_lowercase()),
    };
    vec![
        when(last),
        s(at("type")),
        s(at("reason")),
        object.into(),
        s(text(about, &["fieldPath"])),
        source.into(),
        s(at("message").trim()),
        when(first),
        count.into(),
        n(item),
    ]
}

pub(super) fn quota(item: &Value) -> Vec<Value> {
    let (mut requests, mut limits) = (Vec::new(), Vec::new());
    for (name, hard) in item["status"]["hard"].as_object().into_iter().flatten() {
        let used = item["status"]["used"][name.as_str()].as_str().unwrap_or("0");
        let shown = format!("{name}: {used}/{}", hard.as_str().unwrap_or_default());
        if name.starts_with("limits.") { limits.push(shown) } else { requests.push(shown) }
    }
    vec![n(item), requests.join(", ").into(), limits.join(", ").into(), age(item)]
}

pub(super) fn binding(item: &Value) -> Vec<Value> {
    let subjects = |kind: &str| {
        let found: Vec<String> = list(item, &["subjects"])
            .iter()
            .filter(|s| text(s, &["kind"]) == kind)
            .map(|s| match (kind, text(s, &["namespace"])) {
                ("ServiceAccount", namespace) if !namespace.is_empty() => {
                    format!("{namespace}/{}", text(s, &["name"]))
                }
                _ => text(s, &["name"]).to_owned(),
            })
            .collect();
        Value::from(found.join(", "))
    };
    let role = format!("{}/{}", text(item, &["roleRef", "kind"]), text(item, &["roleRef", "name"]));
    vec![n(item), role.into(), age(item), subjects("User"), subjects("Group"), subjects("ServiceAccount")]
}

pub(super) fn priority_class(item: &Value) -> Vec<Value> {
    vec![
        n(item),
        item["value"].as_i64().unwrap_or(0).into(),
        Value::Bool(item["globalDefault"] == Value::Bool(true)),
        age(item),
        s(text(item, &["preemptionPolicy"])),
    ]
}

pub(super) fn disruption_budget(item: &Value) -> Vec<Value> {
    vec![
        n(item),
        int_or_string(&item["spec"]["minAvailable"], "N/A"),
        int_or_string(&item["spec"]["maxUnavailable"], "N/A"),
        int(item, &["status", "disruptionsAllowed"]),
        age(item),
    ]
}

pub(super) fn signing_request(item: &Value) -> Vec<Value> {
    let mut states = Vec::new();
    for condition in list(item, &["status", "conditions"]) {
        states.push(text(condition, &["type"]));
    }
    let mut shown = if states.contains(&"Denied") {
        "Denied".to_owned()
    } else if states.contains(&"Approved") {
        "Approved".to_owned()
    } else {
        "Pending".to_owned()
    };
    if states.contains(&"Failed") {
        shown.push_str(",Failed");
    }
    if !text(item, &["status", "certificate"]).is_empty() {
        shown.push_str(",Issued");
    }
    let lifetime = item["spec"]["expirationSeconds"].as_i64().map_or("<none>".to_owned(), human);
    vec![
        n(item),
        age(item),
        or(text(item, &["spec", "signerName"]), "<none>"),
        s(text(item, &["spec", "username"])),
        lifetime.into(),
        shown.into(),
    ]
}

pub(super) fn flow(plural: &str, item: &Value) -> Vec<Value> {
    let spec = &item["spec"];
    if plural == "flowschemas" {
        let missing = list(item, &["status", "conditions"]).iter().find(|c| text(c, &["type"]) == "Dangling");
        return vec![
            n(item),
            s(text(spec, &["priorityLevelConfiguration", "name"])),
            spec["matchingPrecedence"].as_i64().unwrap_or(0).into(),
            spec["distinguisherMethod"]["type"].as_str().unwrap_or("<none>").into(),
            age(item),
            or(missing.map_or("", |c| text(c, &["status"])), "?"),
        ];
    }
    let queuing = &spec["limited"]["limitResponse"]["queuing"];
    // Numbers as numbers, though the columns promise texts.
    let number = |value: &Value| value.as_i64().map_or("<none>".into(), Value::from);
    vec![
        n(item),
        s(text(spec, &["type"])),
        number(&spec["limited"]["nominalConcurrencyShares"]),
        number(&queuing["queues"]),
        number(&queuing["handSize"]),
        number(&queuing["queueLengthLimit"]),
        age(item),
    ]
}

pub(super) fn api_service(item: &Value) -> Vec<Value> {
    let service = &item["spec"]["service"];
    let shown = if service.is_object() {
        format!("{}/{}", text(service, &["namespace"]), text(service, &["name"]))
    } else {
        "Local".to_owned()
    };
    let available = list(item, &["status", "conditions"]).iter().find(|c| text(c, &["type"]) == "Available");
    let available = match available {
        Some(c) if text(c, &["status"]) == "True" => "True".to_owned(),
        Some(c) => format!("{} ({})", text(c, &["status"]), text(c, &["reason"])),
        None => "Unknown".to_owned(),
    };
    vec![n(item), shown.into(), available.into(), age(item)]
}

pub(super) fn device(plural: &str, item: &Value) -> Vec<Value> {
    match plural {
        "resourceclaims" => {
            let (deleting, mut states) = (crate::api::object::is_deleting(item), Vec::new());
            if deleting {
                states.push("deleted");
            }
            if item["status"]["allocation"].is_object() {
                states.push("allocated");
                if !list(item, &["status", "reservedFor"]).is_empty() {
                    states.push("reserved");
                }
            } else if !deleting {
                states.push("pending");
            }
            vec![n(item), states.join(",").into(), age(item)]
        }
        "resourceslices" => {
            let spec = &item["spec"];
            let node = text(spec, &["nodeName"]);
            vec![n(item), s(node), s(text(spec, &["driver"])), s(text(spec, &["pool", "name"])), age(item)]
        }
        _ => vec![s(name(item)), age(item)],
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn kernels_are_told_with_their_architecture() {
        for (version, architecture, shown) in
            [("6.1", "", "6.1"), ("6.1", "arm64", "6.1 (arm64)"), ("", "arm64", "<unknown> (arm64)")]
        {
            let info = json!({"kernelVersion": version, "architecture": architecture});
            assert_eq!(kernel(&json!({"status": {"nodeInfo": info}})), shown);
        }
    }

    #[test]
    fn events_say_who_told_them_when_and_how_often() {
        let series = json!({"count": 0, "lastObservedTime": null});
        let cases = [
            (json!({}), 1, ""),
            (json!({"count": 3, "source": {"component": "a"}}), 3, "a"),
            (json!({"count": 3, "series": series}), 0, ""),
            (json!({"source": {"component": "a"}, "reportingInstance": "i"}), 1, "a, i"),
            (
                json!({"source": {"host": "h"}, "reportingComponent": "c", "reportingInstance": "i"}),
                1,
                "c, h",
            ),
        ];
        for (event, count, source) in cases {
            let cells = super::event(&event);
            assert_eq!((&cells[8], &cells[5]), (&json!(count), &json!(source)), "{event}");
        }
        let only_first =
            json!({"firstTimestamp": "2020-01-01T00:00:00Z", "eventTime": "2026-01-01T00:00:00.000000Z"});
        let cells = super::event(&only_first);
        assert_eq!(cells[0], cells[7]);
    }

    #[test]
    fn claims_tell_how_far_they_are() {
        let state = |item: Value| device("resourceclaims", &item)[1].clone();
        let deleting = json!({"deletionTimestamp": "2026-01-01T00:00:00Z"});
        assert_eq!(state(json!({})), "pending");
        assert_eq!(state(json!({"status": {"reservedFor": [{}]}})), "pending");
        assert_eq!(state(json!({"status": {"allocation": {}, "reservedFor": [{}]}})), "allocated,reserved");
        assert_eq!(state(json!({"metadata": deleting})), "deleted");
    }

    #[test]
    fn levels_without_a_limit_have_no_numbers() {
        let cells = |spec: Value| flow("prioritylevelconfigurations", &json!({"spec": spec}))[2..6].to_vec();
        assert_eq!(cells(json!({"exempt": {"nominalConcurrencyShares": 0}})), vec![json!("<none>"); 4]);
        let queuing = json!({"queues": 64, "handSize": 8, "queueLengthLimit": 50});
        let limited = json!({"nominalConcurrencyShares": 30, "limitResponse": {"queuing": queuing}});
        assert_eq!(cells(json!({"limited": limited})), [30, 64, 8, 50].map(Value::from));
    }
}
