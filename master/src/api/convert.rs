//! Between the version that clients ask for and the one that is stored, for kinds with two.
//!
//! `events.k8s.io` shows core events under other names; `autoscaling/v1` shows `v2` with what it has no field
//! for in annotations.

use protocol::Resource;
use serde_json::Value;

mod autoscaler;

pub use autoscaler::KEPT_FOR_V1;

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
        "horizontalpodautoscalers" => autoscaler::to_storage(&mut value),
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
        "events" => {
            EVENT_NAMES.iter().for_each(|(new, old)| rename(&mut value, old, new));
            // The view says of a series what core events leave out.
            if let Some(series) = value.get_mut("series").and_then(Value::as_object_mut) {
                series.entry("count").or_insert_with(|| 0.into());
                series.entry("lastObservedTime").or_insert(Value::Null);
            }
            // Core events say these even when they are empty.
            for field in ["reportingController", "reportingInstance"] {
                if value[field] == "" {
                    value.as_object_mut().and_then(|event| event.remove(field));
                }
            }
        }
        "horizontalpodautoscalers" => autoscaler::from_storage(&mut value),
        _ => {}
    }
    set_version(&mut value, view.group, view.version);
    value
}

#[cfg(test)]
mod tests {
    use serde_json::json;

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
    fn a_series_says_how_many_it_is_also_when_there_are_none() {
        let view = protocol::resources::find("events.k8s.io", "v1", "events").expect("events");
        let event = from_storage(view, json!({"series": {"lastObservedTime": null}}));
        assert_eq!(event["series"], json!({"count": 0, "lastObservedTime": null}));
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
