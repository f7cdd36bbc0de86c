//! The columns of workloads.

use serde_json::Value;

use super::{age, containers, human, int, labels, n, parse, s, selector, since};
use crate::api::object::{list, text};

pub(super) fn deployment(item: &Value) -> Vec<Value> {
    let ready = item["status"]["readyReplicas"].as_i64().unwrap_or(0);
    let wanted = item["spec"]["replicas"].as_i64().unwrap_or(0);
    let (names, images) = containers(&item["spec"]["template"]["spec"]);
    vec![
        n(item),
        format!("{ready}/{wanted}").into(),
        int(item, &["status", "updatedReplicas"]),
        int(item, &["status", "availableReplicas"]),
        age(item),
        names,
        images,
        selector(&item["spec"]["selector"]),
    ]
}

/// ReplicaSets and ReplicationControllers.
pub(super) fn replicas(item: &Value) -> Vec<Value> {
    let (names, images) = containers(&item["spec"]["template"]["spec"]);
    vec![
        n(item),
        int(item, &["spec", "replicas"]),
        int(item, &["status", "replicas"]),
        int(item, &["status", "readyReplicas"]),
        age(item),
        names,
        images,
        selector(&item["spec"]["selector"]),
    ]
}

pub(super) fn stateful_set(item: &Value) -> Vec<Value> {
    let ready = item["status"]["readyReplicas"].as_i64().unwrap_or(0);
    let wanted = item["spec"]["replicas"].as_i64().unwrap_or(0);
    let (names, images) = containers(&item["spec"]["template"]["spec"]);
    vec![n(item), format!("{ready}/{wanted}").into(), age(item), names, images]
}

pub(super) fn daemon_set(item: &Value) -> Vec<Value> {
    let (names, images) = containers(&item["spec"]["template"]["spec"]);
    vec![
        n(item),
        int(item, &["status", "desiredNumberScheduled"]),
        int(item, &["status", "currentNumberScheduled"]),
        int(item, &["status", "numberReady"]),
        int(item, &["status", "updatedNumberScheduled"]),
        int(item, &["status", "numberAvailable"]),
        labels(&item["spec"]["template"]["spec"]["nodeSelector"]),
        age(item),
        names,
        images,
        selector(&item["spec"]["selector"]),
    ]
}

pub(super) fn revision(item: &Value) -> Vec<Value> {
    let owner =
        list(item, &["metadata", "ownerReferences"]).iter().find(|o| o["controller"] == Value::Bool(true));
    let controller = owner.map_or("<none>".to_owned(), |o| {
        let version = text(o, &["apiVersion"]);
        let group = version.split_once('/').map_or("", |(g, _)| g);
        let kind = text(o, &["kind"]).to_lowercase();
        let kind = if group.is_empty() { kind } else { format!("{kind}.{}", group.to_lowercase()) };
        format!("{kind}/{}", text(o, &["name"]))
    });
    vec![n(item), controller.into(), item["revision"].as_i64().unwrap_or(0).into(), age(item)]
}

pub(super) fn pod_template(item: &Value) -> Vec<Value> {
    let (names, images) = containers(&item["template"]["spec"]);
    vec![n(item), names, images, labels(&item["template"]["metadata"]["labels"])]
}

pub(super) fn job(item: &Value) -> Vec<Value> {
    let done = item["status"]["succeeded"].as_i64().unwrap_or(0);
    let completions = match (item["spec"]["completions"].as_i64(), item["spec"]["parallelism"].as_i64()) {
        (Some(wanted), _) => format!("{done}/{wanted}"),
        (None, Some(parallel)) if parallel > 1 => format!("{done}/1 of {parallel}"),
        _ => format!("{done}/1"),
    };
    let started = parse(text(item, &["status", "startTime"]));
    let ended = parse(text(item, &["status", "completionTime"]));
    let duration = match (started, ended) {
        (None, _) => String::new(),
        (Some(start), Some(end)) => human((end - start).whole_seconds()),
        (Some(_), None) => {
            since(text(item, &["status", "startTime"])).as_str().unwrap_or_default().to_owned()
        }
    };
    let (names, images) = containers(&item["spec"]["template"]["spec"]);
    vec![
        n(item),
        job_status(item).into(),
        completions.into(),
        duration.into(),
        age(item),
        names,
        images,
        selector(&item["spec"]["selector"]),
    ]
}

fn job_status(item: &Value) -> &'static str {
    let has = |kind: &str| {
        let mut all = list(item, &["status", "conditions"]).iter();
        all.find(|c| text(c, &["type"]) == kind).is_some_and(|c| text(c, &["status"]) == "True")
    };
    if has("Complete") {
        "Complete"
    } else if has("Failed") {
        "Failed"
    } else if crate::api::object::is_deleting(item) {
        "Terminating"
    } else if has("Suspended") {
        "Suspended"
    } else if has("FailureTarget") {
        "FailureTarget"
    } else if has("SuccessCriteriaMet") {
        "SuccessCriteriaMet"
    } else {
        "Running"
    }
}

pub(super) fn cron_job(item: &Value) -> Vec<Value> {
    let last = text(item, &["status", "lastScheduleTime"]);
    let (names, images) = containers(&item["spec"]["jobTemplate"]["spec"]["template"]["spec"]);
    let suspended = match item["spec"]["suspend"].as_bool() {
        None => "<unset>",
        Some(true) => "True",
        Some(false) => "False",
    };
    vec![
        n(item),
        s(text(item, &["spec", "schedule"])),
        item["spec"]["timeZone"].as_str().unwrap_or("<none>").into(),
        suspended.into(),
        list(item, &["status", "active"]).len().into(),
        if last.is_empty() { "<none>".into() } else { since(last) },
        age(item),
        names,
        images,
        match &item["spec"]["jobTemplate"]["spec"]["selector"] {
            Value::Null => "<none>".into(),
            given => selector(given),
        },
    ]
}
