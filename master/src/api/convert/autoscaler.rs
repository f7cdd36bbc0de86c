//! `autoscaling/v1`: what that version has no field for lies in annotations, in forms of its own.

use protocol::quantity::Quantity;
use protocol::schema::{self, internal};
use serde_json::{Map, Value, json};

use crate::api::object::{existing_mut, list, object_mut, text};

const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const CURRENT: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";

/// The annotations of an object that is asked for in v1.
pub const KEPT_FOR_V1: [&str; 4] = [BEHAVIOR, CONDITIONS, CURRENT, METRICS];

/// One field of a metric: its name in v1, in the order of that struct, and where v2 has it.
type Renamed = (&'static str, &'static [&'static str]);

/// Amounts that v1 always says, in specs and in statuses: by the field of the kind, the name.
const ALWAYS: &[(&str, &str)] = &[
    ("object", "targetValue"),
    ("pods", "targetAverageValue"),
    ("object", "currentValue"),
    ("pods", "currentAverageValue"),
    ("resource", "currentAverageValue"),
    ("containerResource", "currentAverageValue"),
    ("external", "currentValue"),
];

/// Kinds of metrics: the type, its field, and its inner fields as a spec has them.
const SPECS: &[(&str, &str, &[Renamed])] = &[
    (
        "Object",
        "object",
        &[
            ("target", &["describedObject"]),
            ("metricName", &["metric", "name"]),
            ("targetValue", &["target", "value"]),
            ("selector", &["metric", "selector"]),
            ("averageValue", &["target", "averageValue"]),
        ],
    ),
    (
        "Pods",
        "pods",
        &[
            ("metricName", &["metric", "name"]),
            ("targetAverageValue", &["target", "averageValue"]),
            ("selector", &["metric", "selector"]),
        ],
    ),
    (
        "Resource",
        "resource",
        &[
            ("name", &["name"]),
            ("targetAverageUtilization", &["target", "averageUtilization"]),
            ("targetAverageValue", &["target", "averageValue"]),
        ],
    ),
    (
        "ContainerResource",
        "containerResource",
        &[
            ("name", &["name"]),
            ("targetAverageUtilization", &["target", "averageUtilization"]),
            ("targetAverageValue", &["target", "averageValue"]),
            ("container", &["container"]),
        ],
    ),
    (
        "External",
        "external",
        &[
            ("metricName", &["metric", "name"]),
            ("metricSelector", &["metric", "selector"]),
            ("targetValue", &["target", "value"]),
            ("targetAverageValue", &["target", "averageValue"]),
        ],
    ),
];

/// The same as a status has them.
const STATUSES: &[(&str, &str, &[Renamed])] = &[
    (
        "Object",
        "object",
        &[
            ("target", &["describedObject"]),
            ("metricName", &["metric", "name"]),
            ("currentValue", &["current", "value"]),
            ("selector", &["metric", "selector"]),
            ("averageValue", &["current", "averageValue"]),
        ],
    ),
    (
        "Pods",
        "pods",
        &[
            ("metricName", &["metric", "name"]),
            ("currentAverageValue", &["current", "averageValue"]),
            ("selector", &["metric", "selector"]),
        ],
    ),
    (
        "Resource",
        "resource",
        &[
            ("name", &["name"]),
            ("currentAverageUtilization", &["current", "averageUtilization"]),
            ("currentAverageValue", &["current", "averageValue"]),
        ],
    ),
    (
        "ContainerResource",
        "containerResource",
        &[
            ("name", &["name"]),
            ("currentAverageUtilization", &["current", "averageUtilization"]),
            ("currentAverageValue", &["current", "averageValue"]),
            ("container", &["container"]),
        ],
    ),
    (
        "External",
        "external",
        &[
            ("metricName", &["metric", "name"]),
            ("metricSelector", &["metric", "selector"]),
            ("currentValue", &["current", "value"]),
            ("currentAverageValue", &["current", "averageValue"]),
        ],
    ),
];

fn is_cpu(metric: &Value, figures: &str) -> bool {
    text(metric, &["type"]) == "Resource"
        && text(metric, &["resource", "name"]) == "cpu"
        && metric["resource"][figures]["averageUtilization"].is_number()
}

/// Metrics as an annotation spells them.
fn spelled(metrics: &[&Value], kinds: &[(&str, &str, &[Renamed])]) -> String {
    let one = |metric: &&Value| {
        let kind = text(metric, &["type"]);
        let Some((_, field, names)) = kinds.iter().find(|(k, _, _)| *k == kind) else {
            return format!("{{\"type\":{}}}", Value::from(kind));
        };
        let fields: Vec<String> = names
            .iter()
            .filter_map(|(name, path)| {
                let value = path.iter().fold(&metric[*field], |at, step| &at[*step]);
                match value.is_null() {
                    true => ALWAYS.contains(&(*field, *name)).then(|| format!("\"{name}\":\"0\"")),
                    false => Some(format!("\"{name}\":{}", inner(name, value))),
                }
            })
            .collect();
        format!("{{\"type\":\"{kind}\",\"{field}\":{{{}}}}}", fields.join(","))
    };
    format!("[{}]", metrics.iter().map(one).collect::<Vec<_>>().join(","))
}

fn inner(name: &str, value: &Value) -> String {
    let definition = match name {
        "target" => "a.autoscaling.v2.CrossVersionObjectReference",
        "selector" | "metricSelector" => "m.LabelSelector",
        _ => return value.to_string(),
    };
    match schema::definition(definition) {
        Some(definition) => internal::external(definition, value).compact(),
        None => value.to_string(),
    }
}

/// Metrics as they are stored, of an annotation's.
fn stored(annotated: &Value, kinds: &[(&str, &str, &[Renamed])], figures: &str) -> Vec<Value> {
    let one = |metric: &Value| {
        let kind = text(metric, &["type"]);
        let mut made = json!({ "type": kind });
        if let Some((_, field, names)) = kinds.iter().find(|(k, _, _)| *k == kind) {
            for (name, path) in *names {
                let value = match &metric[*field][*name] {
                    Value::Null if ALWAYS.contains(&(*field, *name)) => "0".into(),
                    Value::Null => continue,
                    value => value.clone(),
                };
                let at = path.iter().fold(&mut made[*field], |at, step| &mut at[*step]);
                *at = value;
            }
            if figures == "target" {
                target_type(field, &mut made[*field]["target"]);
            }
        }
        made
    };
    annotated.as_array().into_iter().flatten().map(one).collect()
}

/// Says of what type a target is, by what it has.
fn target_type(field: &str, target: &mut Value) {
    let has = |name: &str| !target[name].is_null();
    let kind = match field {
        "object" if !has("averageValue") => "Value",
        "external" if has("value") => "Value",
        "resource" | "containerResource" if has("averageUtilization") => "Utilization",
        _ => "AverageValue",
    };
    let zero =
        |value: &Value| value.as_str().and_then(|v| v.parse::<Quantity>().ok()).is_some_and(|q| q.is_zero());
    let fields = object_mut(target, &[]);
    // An average has no value beside it but one that says something: v1 cannot leave it out.
    let implied = |name: &str| field == "object" && kind == "AverageValue" && name == "value";
    fields.retain(|name, value| !value.is_null() && (!implied(name) || !zero(value)));
    fields.insert("type".to_owned(), kind.into());
}

/// A struct under Go's names, under those of JSON.
fn json_names(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let fields = map.into_iter().filter(|(_, v)| !v.is_null()).map(|(name, value)| {
                let mut chars = name.chars();
                let first = chars.next().map(|c| c.to_ascii_lowercase());
                (first.into_iter().chain(chars).collect(), json_names(value))
            });
            Value::Object(fields.collect::<Map<String, Value>>())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(json_names).collect()),
        other => other,
    }
}

/// The metric that v1 has a field for.
fn cpu_target(percent: Value) -> Value {
    json!({"type": "Resource", "resource": {
        "name": "cpu", "target": {"type": "Utilization", "averageUtilization": percent}}})
}

/// A v1 object as it is stored.
pub(super) fn to_storage(value: &mut Value) {
    let mut take = |key: &str| -> Option<Value> {
        let annotations = existing_mut(value, &["metadata", "annotations"])?;
        serde_json::from_str(annotations.remove(key)?.as_str()?).ok()
    };
    let mut metrics = take(METRICS).map(|m| stored(&m, SPECS, "target")).unwrap_or_default();
    let behavior = take(BEHAVIOR).map(json_names);
    let conditions = take(CONDITIONS);
    let current = take(CURRENT).map(|m| Value::from(stored(&m, STATUSES, "current")));
    let spec = object_mut(value, &["spec"]);
    if let Some(percent) = spec.remove("targetCPUUtilizationPercentage").filter(|p| !p.is_null()) {
        metrics.push(cpu_target(percent));
    }
    // Only here all metrics are known, those of the annotation too: so the version says itself what it stands for.
    if metrics.is_empty() {
        metrics.push(cpu_target(80.into()));
    }
    spec.insert("metrics".to_owned(), metrics.into());
    if let Some(behavior) = behavior {
        spec.insert("behavior".to_owned(), behavior);
    }
    let status = object_mut(value, &["status"]);
    let cpu = status.remove("currentCPUUtilizationPercentage").filter(|p| !p.is_null());
    let current = current.or_else(|| {
        cpu.map(|percent| {
            json!([{"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": percent}}}])
        })
    });
    for (name, found) in [("conditions", conditions), ("currentMetrics", current)] {
        if let Some(found) = found {
            status.insert(name.to_owned(), found);
        }
    }
    if existing_mut(value, &["metadata", "annotations"]).is_some_and(|a| a.is_empty()) {
        object_mut(value, &["metadata"]).remove("annotations");
    }
}

/// A stored object as v1 shows it.
pub(super) fn from_storage(value: &mut Value) {
    let metrics = list(value, &["spec", "metrics"]).to_vec();
    let others: Vec<&Value> = metrics.iter().filter(|m| !is_cpu(m, "target")).collect();
    let cpu = metrics.iter().find(|m| is_cpu(m, "target"));
    let spec = object_mut(value, &["spec"]);
    spec.remove("metrics");
    let behavior = spec.remove("behavior").filter(|b| !b.is_null());
    if let Some(metric) = cpu {
        let percent = metric["resource"]["target"]["averageUtilization"].clone();
        spec.insert("targetCPUUtilizationPercentage".to_owned(), percent);
    }
    let status = object_mut(value, &["status"]);
    let conditions = status.remove("conditions").filter(|c| c.as_array().is_some_and(|c| !c.is_empty()));
    let current = status.remove("currentMetrics");
    let current: Vec<Value> = current.and_then(|c| c.as_array().cloned()).unwrap_or_default();
    status.entry("currentReplicas").or_insert_with(|| 0.into());
    status.entry("desiredReplicas").or_insert_with(|| 0.into());
    if let Some(cpu) = current.iter().find(|m| is_cpu(m, "current")) {
        let percent = cpu["resource"]["current"]["averageUtilization"].clone();
        status.insert("currentCPUUtilizationPercentage".to_owned(), percent);
    }
    let mut annotate = |key: &str, text: String| {
        object_mut(value, &["metadata", "annotations"]).insert(key.to_owned(), text.into());
    };
    if !others.is_empty() {
        annotate(METRICS, spelled(&others, SPECS));
    }
    if !current.is_empty() {
        annotate(CURRENT, spelled(&current.iter().collect::<Vec<_>>(), STATUSES));
    }
    if let Some(conditions) = conditions {
        annotate(CONDITIONS, ordered_conditions(&conditions));
    }
    if let Some(behavior) = behavior
        && let Some(definition) = schema::definition("a.autoscaling.v2.HorizontalPodAutoscalerBehavior")
    {
        annotate(BEHAVIOR, internal::internal(definition, &behavior).compact());
    }
}

/// Conditions as the annotation spells them: when they changed is said also where nobody knows.
fn ordered_conditions(conditions: &Value) -> String {
    let one = |condition: &Value| {
        let fields: Vec<String> = ["type", "status", "lastTransitionTime", "reason", "message"]
            .into_iter()
            .filter(|name| {
                *name == "lastTransitionTime" || !matches!(condition[*name].as_str(), None | Some(""))
            })
            .map(|name| format!("\"{name}\":{}", internal::go_json(&condition[name].to_string())))
            .collect();
        format!("{{{}}}", fields.join(","))
    };
    let shown: Vec<String> = conditions.as_array().into_iter().flatten().map(one).collect();
    format!("[{}]", shown.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_target_has_a_field_and_the_rest_lies_in_annotations() {
        let mut value = json!({"metadata": {}, "spec": {"maxReplicas": 3, "metrics": [
            {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 60}}},
            {"type": "External", "external": {"metric": {"name": "q"}, "target": {"type": "Value", "value": "30"}}},
        ], "behavior": {"scaleDown": {"stabilizationWindowSeconds": 10}}}, "status": {}});
        let before = value.clone();
        from_storage(&mut value);
        assert_eq!(value["spec"]["targetCPUUtilizationPercentage"], 60);
        assert_eq!(
            value["metadata"]["annotations"][METRICS],
            r#"[{"type":"External","external":{"metricName":"q","targetValue":"30"}}]"#
        );
        let behavior = value["metadata"]["annotations"][BEHAVIOR].as_str().expect("behavior");
        assert!(
            behavior.starts_with(r#"{"ScaleUp":null,"ScaleDown":{"StabilizationWindowSeconds":10,"#),
            "{behavior}"
        );
        to_storage(&mut value);
        assert_eq!(value["spec"]["behavior"], before["spec"]["behavior"]);
        // The one with a field comes last on the way back.
        assert_eq!(value["spec"]["metrics"][0], before["spec"]["metrics"][1]);
        assert_eq!(value["spec"]["metrics"][1], before["spec"]["metrics"][0]);
    }
    #[test]
    fn what_is_not_said_stands_for_a_target_and_for_amounts_of_nothing() {
        let mut value = json!({"metadata": {}, "spec": {}, "status": {"currentCPUUtilizationPercentage": 7}});
        to_storage(&mut value);
        assert_eq!(value["spec"]["metrics"], json!([cpu_target(80.into())]));
        let cpu = json!({"name": "cpu", "current": {"averageUtilization": 7}});
        assert_eq!(value["status"]["currentMetrics"], json!([{"type": "Resource", "resource": cpu}]));
        value["status"]["conditions"] = json!([{"type": "A", "status": "True", "reason": ""}]);
        from_storage(&mut value);
        let annotations = &value["metadata"]["annotations"];
        assert_eq!(
            annotations[CURRENT],
            r#"[{"type":"Resource","resource":{"name":"cpu","currentAverageUtilization":7,"currentAverageValue":"0"}}]"#
        );
        assert_eq!(annotations[CONDITIONS], r#"[{"type":"A","status":"True","lastTransitionTime":null}]"#);
    }

    #[test]
    fn the_type_of_a_target_is_told_by_what_it_has() {
        for (field, target, expected) in [
            ("object", json!({"value": "5"}), json!({"type": "Value", "value": "5"})),
            (
                "object",
                json!({"value": "0", "averageValue": "5"}),
                json!({"type": "AverageValue", "averageValue": "5"}),
            ),
            ("external", json!({"averageValue": "5"}), json!({"type": "AverageValue", "averageValue": "5"})),
            ("external", json!({"value": "5"}), json!({"type": "Value", "value": "5"})),
            ("resource", json!({}), json!({"type": "AverageValue"})),
            (
                "resource",
                json!({"averageUtilization": 5}),
                json!({"type": "Utilization", "averageUtilization": 5}),
            ),
        ] {
            let mut made = target.clone();
            target_type(field, &mut made);
            assert_eq!(made, expected, "{field} {target}");
        }
    }
}
