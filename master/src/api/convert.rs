//! Between the version that clients ask for and the one that is stored, for kinds with two.
//!
//! `events.k8s.io` shows core events under other names; `autoscaling/v1` shows `v2` with what it has no field
//! for in annotations.

use protocol::Resource;
use serde_json::{Value, json};

use super::object::{list, object_mut, text};

/// New name, and name in core events.
const EVENT_NAMES: [(&str, &str); 7] = [
    ("regarding", "involvedObject"),
    ("note", "message"),
    ("reportingController", "reportingComponent"),
    ("deprecatedSource", "source"),
    ("deprecatedFirstTimestamp", "firstTimestamp"),
    ("deprecatedLastTimestamp", "lastTimestamp"),
    ("deprecatedCount", "count"),
];

fn rename(value: &mut Value, from: &str, to: &str) {
    if let Some(map) = value.as_object_mut()
        && let Some(field) = map.remove(from)
    {
        map.insert(to.to_owned(), field);
    }
}

fn set_version(value: &mut Value, group: &str, version: &str) {
    value["apiVersion"] = if group.is_empty() { version.into() } else { format!("{group}/{version}").into() };
}

/// An object of the view, as it is stored.
pub fn to_storage(view: &Resource, mut value: Value) -> Value {
    if !view.is_view() {
        return value;
    }
    match view.plural {
        "events" => EVENT_NAMES.iter().for_each(|(new, old)| rename(&mut value, new, old)),
        "horizontalpodautoscalers" => autoscaler_to_storage(&mut value),
        _ => {}
    }
    set_version(&mut value, view.storage.0, view.storage.1);
    value
}

/// A stored object, as the view shows it.
pub fn from_storage(view: &Resource, mut value: Value) -> Value {
    if !view.is_view() {
        return value;
    }
    match view.plural {
        "events" => EVENT_NAMES.iter().for_each(|(new, old)| rename(&mut value, old, new)),
        "horizontalpodautoscalers" => autoscaler_from_storage(&mut value),
        _ => {}
    }
    set_version(&mut value, view.group, view.version);
    value
}

const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const CURRENT: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";

fn is_cpu(metric: &Value) -> bool {
    text(metric, &["type"]) == "Resource"
        && text(metric, &["resource", "name"]) == "cpu"
        && metric["resource"]["target"]["averageUtilization"].is_number()
}

fn autoscaler_to_storage(value: &mut Value) {
    let take = |value: &mut Value, key: &str| -> Option<Value> {
        let annotations = super::object::existing_mut(value, &["metadata", "annotations"])?;
        let text = annotations.remove(key)?;
        serde_json::from_str(text.as_str()?).ok()
    };
    let mut metrics = take(value, METRICS).and_then(|m| m.as_array().cloned()).unwrap_or_default();
    let behavior = take(value, BEHAVIOR);
    let conditions = take(value, CONDITIONS);
    let current = take(value, CURRENT);
    let spec = object_mut(value, &["spec"]);
    if let Some(percent) = spec.remove("targetCPUUtilizationPercentage").filter(|p| !p.is_null()) {
        metrics.insert(
            0,
            json!({"type": "Resource", "resource": {
                "name": "cpu", "target": {"type": "Utilization", "averageUtilization": percent}}}),
        );
    }
    if !metrics.is_empty() {
        spec.insert("metrics".to_owned(), metrics.into());
    }
    if let Some(behavior) = behavior {
        spec.insert("behavior".to_owned(), behavior);
    }
    let status = object_mut(value, &["status"]);
    status.remove("currentCPUUtilizationPercentage");
    for (name, found) in [("conditions", conditions), ("currentMetrics", current)] {
        if let Some(found) = found {
            status.insert(name.to_owned(), found);
        }
    }
    if super::object::existing_mut(value, &["metadata", "annotations"]).is_some_and(|a| a.is_empty()) {
        object_mut(value, &["metadata"]).remove("annotations");
    }
}

fn autoscaler_from_storage(value: &mut Value) {
    let metrics = list(value, &["spec", "metrics"]).to_vec();
    let (cpu, others): (Vec<Value>, Vec<Value>) = metrics.into_iter().partition(is_cpu);
    let spec = object_mut(value, &["spec"]);
    spec.remove("metrics");
    let behavior = spec.remove("behavior");
    if let Some(metric) = cpu.first() {
        let percent = metric["resource"]["target"]["averageUtilization"].clone();
        spec.insert("targetCPUUtilizationPercentage".to_owned(), percent);
    }
    let status = object_mut(value, &["status"]);
    let conditions = status.remove("conditions");
    let current = status.remove("currentMetrics");
    status.entry("currentReplicas").or_insert_with(|| 0.into());
    status.entry("desiredReplicas").or_insert_with(|| 0.into());
    let mut annotate = |key: &str, found: Option<Value>| {
        if let Some(found) = found.filter(|f| !f.is_null() && f.as_array().is_none_or(|a| !a.is_empty())) {
            object_mut(value, &["metadata", "annotations"]).insert(key.to_owned(), found.to_string().into());
        }
    };
    annotate(METRICS, Some(others.into()));
    annotate(BEHAVIOR, behavior);
    annotate(CONDITIONS, conditions);
    annotate(CURRENT, current);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_keep_everything_on_the_way_there_and_back() {
        let view = protocol::resources::find("events.k8s.io", "v1", "events").expect("events");
        let event = json!({"apiVersion": "events.k8s.io/v1", "note": "hello", "regarding": {"name": "a"}, "reason": "Why"});
        let stored = to_storage(view, event.clone());
        assert_eq!(
            stored,
            json!({"apiVersion": "v1", "message": "hello", "involvedObject": {"name": "a"}, "reason": "Why"})
        );
        assert_eq!(from_storage(view, stored), event);
    }

    #[test]
    fn autoscalers_keep_the_cpu_target() {
        let view = protocol::resources::find("autoscaling", "v1", "horizontalpodautoscalers").expect("hpa");
        let v1 = json!({"metadata": {}, "spec": {"maxReplicas": 3, "targetCPUUtilizationPercentage": 50}});
        let stored = to_storage(view, v1);
        assert_eq!(stored["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"], 50);
        assert_eq!(from_storage(view, stored)["spec"]["targetCPUUtilizationPercentage"], 50);
    }
}
