//! The columns of pods.

use serde_json::Value;

use super::{age, n, or, parse, since};
use crate::api::object::{is_deleting, list, text};

/// A pod's row.
pub fn pod(item: &Value) -> Vec<Value> {
    let seen = look(item);
    let restarts = match &seen.last_restart {
        Some(time) if seen.restarts > 0 => {
            format!("{} ({} ago)", seen.restarts, since(time).as_str().unwrap_or_default())
        }
        _ => seen.restarts.to_string(),
    };
    let gates = list(item, &["spec", "readinessGates"]);
    let gates = if gates.is_empty() {
        "<none>".to_owned()
    } else {
        let met = gates.iter().filter(|g| condition(item, text(g, &["conditionType"])) == Some(true)).count();
        format!("{met}/{}", gates.len())
    };
    let ip = list(item, &["status", "podIPs"]).first().map_or("", |ip| text(ip, &["ip"]));
    vec![
        n(item),
        format!("{}/{}", seen.ready, seen.total).into(),
        seen.reason.into(),
        restarts.into(),
        age(item),
        or(ip, "<none>"),
        or(text(item, &["spec", "nodeName"]), "<none>"),
        or(text(item, &["status", "nominatedNodeName"]), "<none>"),
        gates.into(),
    ]
}

struct Seen {
    reason: String,
    ready: usize,
    total: usize,
    restarts: i64,
    last_restart: Option<String>,
}

fn condition(item: &Value, kind: &str) -> Option<bool> {
    let found = list(item, &["status", "conditions"]).iter().find(|c| text(c, &["type"]) == kind)?;
    Some(text(found, &["status"]) == "True")
}

fn restartable(item: &Value, name: &str) -> bool {
    list(item, &["spec", "initContainers"])
        .iter()
        .any(|c| text(c, &["name"]) == name && text(c, &["restartPolicy"]) == "Always")
}

fn look(item: &Value) -> Seen {
    let phase = text(item, &["status", "phase"]);
    let given = text(item, &["status", "reason"]);
    let mut reason = if given.is_empty() { phase.to_owned() } else { given.to_owned() };
    let gated = list(item, &["status", "conditions"])
        .iter()
        .any(|c| text(c, &["type"]) == "PodScheduled" && text(c, &["reason"]) == "SchedulingGated");
    if gated {
        reason = "SchedulingGated".to_owned();
    }
    let sidecars: Vec<&Value> = list(item, &["spec", "initContainers"])
        .iter()
        .filter(|c| text(c, &["restartPolicy"]) == "Always")
        .collect();
    let total = list(item, &["spec", "containers"]).len() + sidecars.len();
    let mut seen = Seen { reason, ready: 0, total, restarts: 0, last_restart: None };

    let initial = list(item, &["spec", "initContainers"]).len();
    let mut initializing = false;
    for (i, status) in list(item, &["status", "initContainerStatuses"]).iter().enumerate() {
        let sidecar = restartable(item, text(status, &["name"]));
        count(status, &mut seen);
        if sidecar && status["ready"] == Value::Bool(true) {
            seen.ready += 1;
        }
        let state = &status["state"];
        let done =
            state["terminated"].is_object() && state["terminated"]["exitCode"].as_i64().unwrap_or(0) == 0;
        if initializing || done || (sidecar && status["started"] == Value::Bool(true)) {
            continue;
        }
        initializing = true;
        seen.reason = if state["terminated"].is_object() {
            format!("Init:{}", ended(&state["terminated"]))
        } else {
            match text(state, &["waiting", "reason"]) {
                "" | "PodInitializing" => format!("Init:{i}/{initial}"),
                reason => format!("Init:{reason}"),
            }
        };
    }
    if !initializing || condition(item, "Initialized") == Some(true) {
        if !initializing {
            seen.restarts = if sidecars.is_empty() { 0 } else { seen.restarts };
        }
        let mut running = false;
        for status in list(item, &["status", "containerStatuses"]).iter().rev() {
            count(status, &mut seen);
            let state = &status["state"];
            let waiting = text(state, &["waiting", "reason"]);
            if !waiting.is_empty() {
                seen.reason = waiting.to_owned();
            } else if state["terminated"].is_object() {
                seen.reason = ended(&state["terminated"]);
            } else if status["ready"] == Value::Bool(true) && state["running"].is_object() {
                running = true;
                seen.ready += 1;
            }
        }
        // A pod that runs on beside a container that is done.
        if seen.reason == "Completed" && running {
            seen.reason =
                if condition(item, "Ready") == Some(true) { "Running" } else { "NotReady" }.to_owned();
        }
    }
    if is_deleting(item) {
        let lost = text(item, &["status", "reason"]) == "NodeLost";
        if lost {
            seen.reason = "Unknown".to_owned();
        } else if !matches!(phase, "Succeeded" | "Failed") {
            seen.reason = "Terminating".to_owned();
        }
    }
    seen
}

fn count(status: &Value, seen: &mut Seen) {
    seen.restarts += status["restartCount"].as_i64().unwrap_or(0);
    let finished = text(status, &["lastState", "terminated", "finishedAt"]);
    let newer = |known: &Option<String>| {
        known.as_deref().is_none_or(|k| parse(finished).zip(parse(k)).is_some_and(|(a, b)| a > b))
    };
    if !finished.is_empty() && newer(&seen.last_restart) {
        seen.last_restart = Some(finished.to_owned());
    }
}

fn ended(terminated: &Value) -> String {
    match text(terminated, &["reason"]) {
        "" => match terminated["signal"].as_i64().filter(|s| *s != 0) {
            Some(signal) => format!("Signal:{signal}"),
            None => format!("ExitCode:{}", terminated["exitCode"].as_i64().unwrap_or(0)),
        },
        reason => reason.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn shown(status: Value) -> (Value, Value, Value) {
        let item = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "a"}, {"name": "b"}]}, "status": status});
        let cells = pod(&item);
        (cells[1].clone(), cells[2].clone(), cells[3].clone())
    }

    #[test]
    fn a_pods_status_tells_what_matters() {
        let cases = [
            (json!({"phase": "Pending"}), ("0/2", "Pending", "0")),
            (
                json!({"phase": "Running", "containerStatuses": [
                    {"name": "a", "ready": true, "restartCount": 2, "state": {"running": {}}},
                    {"name": "b", "state": {"waiting": {"reason": "CrashLoopBackOff"}}}]}),
                ("1/2", "CrashLoopBackOff", "2"),
            ),
            (
                json!({"phase": "Succeeded", "containerStatuses": [
                    {"name": "a", "state": {"terminated": {"reason": "Completed", "exitCode": 0}}}]}),
                ("0/2", "Completed", "0"),
            ),
            (
                json!({"phase": "Failed", "containerStatuses": [{"name": "a", "state": {"terminated": {"exitCode": 3}}}]}),
                ("0/2", "ExitCode:3", "0"),
            ),
        ];
        for (status, (ready, reason, restarts)) in cases {
            assert_eq!(shown(status.clone()), (ready.into(), reason.into(), restarts.into()), "{status}");
        }
    }
}
