//! The columns of autoscalers.

use serde_json::Value;

use super::{age, int, int_or_string, n};
use crate::api::object::{list, text};

/// How many metrics are shown.
const SHOWN_MAX: usize = 2;
const UNKNOWN: &str = "<unknown>";

/// An autoscaler, in the version that is stored.
pub(super) fn autoscaler(item: &Value) -> Vec<Value> {
    let target = &item["spec"]["scaleTargetRef"];
    let reference = format!("{}/{}", text(target, &["kind"]), text(target, &["name"]));
    let metrics = list(item, &["spec", "metrics"]);
    vec![
        n(item),
        reference.into(),
        targets(metrics, list(item, &["status", "currentMetrics"])).into(),
        int_or_string(&item["spec"]["minReplicas"], "<unset>"),
        int(item, &["spec", "maxReplicas"]),
        int(item, &["status", "currentReplicas"]),
        age(item),
    ]
}

fn targets(metrics: &[Value], current: &[Value]) -> String {
    if metrics.is_empty() {
        return "<none>".to_owned();
    }
    let each =
        metrics.iter().enumerate().map(|(i, metric)| target(metric, current.get(i).unwrap_or(&Value::Null)));
    let shown = each.take(SHOWN_MAX).collect::<Vec<_>>().join(", ");
    match metrics.len().checked_sub(SHOWN_MAX) {
        None | Some(0) => shown,
        Some(more) => format!("{shown} + {more} more..."),
    }
}

/// What a metric is, and what it shall be. The status at the same place need not be about the same kind.
fn target(metric: &Value, status: &Value) -> String {
    let (source, of_resource) = match text(metric, &["type"]) {
        "External" => ("external", false),
        "Object" => ("object", false),
        "Pods" => ("pods", false),
        "Resource" => ("resource", true),
        "ContainerResource" => ("containerResource", true),
        _ => return "<unknown type>".to_owned(),
    };
    let (wanted, told) = (&metric[source]["target"], status[source].is_object());
    let current = &status[source]["current"];
    // An amount that a known status lacks is shown as Go shows a nil pointer.
    let now = |field: &str| match (told, current[field].as_str()) {
        (false, _) => UNKNOWN.to_owned(),
        (true, found) => found.unwrap_or("<nil>").to_owned(),
    };
    let amount = |field: &str| wanted[field].as_str().unwrap_or("<nil>").to_owned();
    if of_resource {
        let name = text(metric, &[source, "name"]);
        if wanted["averageValue"].is_string() {
            return format!("{name}: {}/{}", now("averageValue"), amount("averageValue"));
        }
        let percent = |value: &Value, none: &str| value.as_i64().map_or(none.to_owned(), |n| format!("{n}%"));
        let now = percent(&current["averageUtilization"], UNKNOWN);
        return format!("{name}: {now}/{}", percent(&wanted["averageUtilization"], "<auto>"));
    }
    if source == "pods" {
        return format!("{}/{}", now("averageValue"), amount("averageValue"));
    }
    if wanted["averageValue"].is_string() {
        let now = current["averageValue"].as_str().unwrap_or(UNKNOWN);
        return format!("{now}/{} (avg)", amount("averageValue"));
    }
    format!("{}/{}", now("value"), amount("value"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn targets_are_shown_by_kind() {
        let cpu =
            json!({"type": "Resource", "resource": {"name": "cpu", "target": {"averageUtilization": 80}}});
        let object = json!({"type": "Object", "object": {"target": {"value": "2k"}}});
        let external = json!({"type": "External", "external": {"target": {"averageValue": "30"}}});
        let pods = json!({"type": "Pods", "pods": {"target": {"averageValue": "1"}}});
        let memory = json!({
            "type": "ContainerResource",
            "containerResource": {"name": "memory", "container": "c", "target": {"averageValue": "1Gi"}},
        });
        let used =
            json!({"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": 7}}});
        let cases = [
            (json!([]), json!([]), "<none>"),
            (json!([cpu]), json!([]), "cpu: <unknown>/80%"),
            (json!([cpu]), json!([used]), "cpu: 7%/80%"),
            (json!([object]), json!([{"object": {"current": {"value": "1k"}}}]), "1k/2k"),
            (json!([object]), json!([used]), "<unknown>/2k"),
            (json!([external]), json!([{"external": {"current": {"averageValue": "5"}}}]), "5/30 (avg)"),
            (json!([pods]), json!([{"pods": {"current": {}}}]), "<nil>/1"),
            (json!([memory]), json!([]), "memory: <unknown>/1Gi"),
            (
                json!([cpu, external, pods, {"type": "?"}]),
                json!([]),
                "cpu: <unknown>/80%, <unknown>/30 (avg) + 2 more...",
            ),
            (json!([{"type": "?"}]), json!([]), "<unknown type>"),
        ];
        for (metrics, current, expected) in cases {
            let of = |v: &Value| v.as_array().cloned().unwrap_or_default();
            assert_eq!(targets(&of(&metrics), &of(&current)), expected, "{metrics}");
        }
    }
}
