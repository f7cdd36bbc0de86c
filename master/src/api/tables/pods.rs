//! The columns of pods.

use serde_json::Value;

use super::{age, n, or, parse, since};
use crate::api::object::{is_deleting, list, text};

/// A pod's row.
pub fn pod(item: &Value) -> Vec<Value> {
    let seen = look(item);
    let count = seen.restarts.count;
    let restarts = match &seen.restarts.last {
        Some(time) if count != 0 => format!("{count} ({} ago)", since(time).as_str().unwrap_or_default()),
        _ => count.to_string(),
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
    restarts: Restarts,
}

fn condition(item: &Value, kind: &str) -> Option<bool> {
    let found = list(item, &["status", "conditions"]).iter().find(|c| text(c, &["type"]) == kind)?;
    Some(text(found, &["status"]) == "True")
}

fn is_sidecar(container: &Value) -> bool {
    text(container, &["restartPolicy"]) == "Always"
}

/// How often containers began anew, and when one did last.
#[derive(Clone, Default)]
struct Restarts {
    count: i64,
    last: Option<String>,
}

impl Restarts {
    fn add(&mut self, status: &Value) {
        self.count += status["restartCount"].as_i64().unwrap_or(0);
        let finished = text(status, &["lastState", "terminated", "finishedAt"]);
        let newer = |known: &Option<String>| {
            known.as_deref().is_none_or(|k| parse(finished).zip(parse(k)).is_some_and(|(a, b)| a > b))
        };
        if !finished.is_empty() && newer(&self.last) {
            self.last = Some(finished.to_owned());
        }
    }
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
    let sidecars = list(item, &["spec", "initContainers"]).iter().filter(|c| is_sidecar(c)).count();
    let total = list(item, &["spec", "containers"]).len() + sidecars;
    let mut seen = Seen { reason, ready: 0, total, restarts: Restarts::default() };
    let (waits, of_sidecars) = initialization(item, &mut seen);
    if !waits || condition(item, "Initialized") == Some(true) {
        // What init containers did is over; sidecars go on.
        seen.restarts = of_sidecars;
        main_containers(item, &mut seen);
    }
    if is_deleting(item) {
        if given == "NodeLost" {
            seen.reason = "Unknown".to_owned();
        } else if !matches!(phase, "Succeeded" | "Failed") {
            seen.reason = "Terminating".to_owned();
        }
    }
    seen
}

/// Looks at init containers up to the first that is not done, which says what the pod waits for. Tells whether
/// there is one, and how often sidecars restarted.
fn initialization(item: &Value, seen: &mut Seen) -> (bool, Restarts) {
    let containers = list(item, &["spec", "initContainers"]);
    let mut of_sidecars = Restarts::default();
    for (i, status) in list(item, &["status", "initContainerStatuses"]).iter().enumerate() {
        let name = text(status, &["name"]);
        let sidecar = containers.iter().any(|c| text(c, &["name"]) == name && is_sidecar(c));
        seen.restarts.add(status);
        if sidecar {
            of_sidecars.add(status);
        }
        let state = &status["state"];
        if state["terminated"].is_object() && state["terminated"]["exitCode"].as_i64().unwrap_or(0) == 0 {
            continue;
        }
        if sidecar && status["started"] == Value::Bool(true) {
            seen.ready += usize::from(status["ready"] == Value::Bool(true));
            continue;
        }
        seen.reason = if state["terminated"].is_object() {
            format!("Init:{}", ended(&state["terminated"]))
        } else {
            match text(state, &["waiting", "reason"]) {
                "" | "PodInitializing" => format!("Init:{i}/{}", containers.len()),
                reason => format!("Init:{reason}"),
            }
        };
        return (true, of_sidecars);
    }
    (false, of_sidecars)
}

fn main_containers(item: &Value, seen: &mut Seen) {
    let (mut running, mut failure) = (false, None);
    for status in list(item, &["status", "containerStatuses"]).iter().rev() {
        seen.restarts.add(status);
        let state = &status["state"];
        let waiting = text(state, &["waiting", "reason"]);
        if !waiting.is_empty() {
            seen.reason = waiting.to_owned();
        } else if state["terminated"].is_object() {
            seen.reason = ended(&state["terminated"]);
            if state["terminated"]["exitCode"].as_i64().unwrap_or(0) != 0 {
                failure = Some(seen.reason.clone());
            }
        } else if status["ready"] == Value::Bool(true) && state["running"].is_object() {
            running = true;
            seen.ready += 1;
        }
    }
    if seen.reason != "Completed" {
        return;
    }
    // One is done; what matters is what became of the others.
    if running && condition(item, "Ready") == Some(true) {
        seen.reason = "Running".to_owned();
    } else if let Some(failure) = failure {
        seen.reason = failure;
    } else if running {
        seen.reason = "NotReady".to_owned();
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
    fn init_containers_count_while_the_pod_waits_for_them() {
        let sidecar = json!({"name": "s", "restartPolicy": "Always"});
        let spec = json!({"initContainers": [{"name": "i"}, sidecar], "containers": [{"name": "c"}]});
        let row = |statuses: Value, main: Value| {
            let status =
                json!({"phase": "Pending", "initContainerStatuses": statuses, "containerStatuses": main});
            let cells = pod(&json!({"metadata": {"name": "p"}, "spec": spec, "status": status}));
            [1, 2, 3].map(|i| cells[i].as_str().unwrap_or_default().to_owned())
        };
        let done = json!({"name": "i", "restartCount": 2, "state": {"terminated": {"exitCode": 0}}});
        let runs =
            json!({"name": "s", "restartCount": 1, "started": true, "ready": true, "state": {"running": {}}});
        let stuck =
            json!({"name": "i", "restartCount": 2, "state": {"waiting": {"reason": "CrashLoopBackOff"}}});
        assert_eq!(row(json!([stuck, runs]), json!([])), ["0/2", "Init:CrashLoopBackOff", "2"]);
        let ready = json!([{"name": "c", "ready": true, "restartCount": 4, "state": {"running": {}}}]);
        assert_eq!(row(json!([done, runs]), ready), ["2/2", "Pending", "5"]);
        let slow = json!({"name": "s", "ready": true, "state": {"running": {}}});
        assert_eq!(row(json!([done, slow]), json!([])), ["0/2", "Init:1/2", "2"]);
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
            (
                json!({"phase": "Running", "containerStatuses": [
                    {"name": "a", "state": {"terminated": {"reason": "Completed", "exitCode": 0}}},
                    {"name": "b", "restartCount": 1, "state": {"terminated": {"reason": "OOMKilled", "exitCode": 137}}}]}),
                ("0/2", "OOMKilled", "1"),
            ),
        ];
        for (status, (ready, reason, restarts)) in cases {
            assert_eq!(shown(status.clone()), (ready.into(), reason.into(), restarts.into()), "{status}");
        }
    }
}
