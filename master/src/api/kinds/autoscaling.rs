//! HorizontalPodAutoscaler.

use serde_json::{Value, json};

use super::checks::{self, amount};
use super::resources::container_resource_name;
use super::{Strategy, base};
use crate::api::convert::KEPT_FOR_V1;
use crate::api::invalid::{Errors, Path};
use crate::api::meta::NameRule;
use crate::api::object::{default, drop_annotations, list, object_mut, text};

fn spec(name: &str) -> Path {
    Path::new("spec").child(name)
}

const STABILIZATION_SECONDS_MAX: i64 = 3600;
const PERIOD_SECONDS_MAX: i64 = 1800;
/// Where metrics come from: the type, its field, and what is said when that is absent.
const SOURCES: &[(&str, &str)] = &[
    ("Object", "object"),
    ("External", "external"),
    ("Pods", "pods"),
    ("Resource", "resource"),
    ("ContainerResource", "containerResource"),
];
const KINDS: [&str; 5] = ["ContainerResource", "External", "Object", "Pods", "Resource"];

pub(super) fn autoscaler() -> Strategy {
    Strategy {
        defaults,
        validate: |object, errors| {
            let scaler = &object["spec"];
            replicas(scaler, errors);
            reference(&scaler["scaleTargetRef"], false, &spec("scaleTargetRef"), errors);
            for (i, metric) in list(scaler, &["metrics"]).iter().enumerate() {
                self::metric(metric, &spec("metrics").index(i), errors);
            }
            let by_load = |m: &Value| matches!(text(m, &["type"]), "Object" | "External");
            if scaler["minReplicas"] == 0 && !list(scaler, &["metrics"]).iter().any(by_load) {
                let detail =
                    "must specify at least one Object or External metric to support scaling to zero replicas";
                errors.forbidden(&spec("metrics"), detail);
            }
            for direction in ["scaleUp", "scaleDown"] {
                let rules = &scaler["behavior"][direction];
                if rules.is_object() {
                    self::rules(rules, &spec("behavior").child(direction), errors);
                }
            }
        },
        validate_status: |new, _, errors| {
            let counts = ["currentReplicas", "desiredReplicas"];
            checks::all_non_negative(&new["status"], &counts, &Path::new("status"), errors);
        },
        ..base()
    }
}

fn defaults(object: &mut Value) {
    // Only the older version of this API keeps anything there.
    drop_annotations(object, &KEPT_FOR_V1);
    default(object_mut(object, &["spec"]), "minReplicas", 1);
    if list(object, &["spec", "metrics"]).is_empty() {
        object["spec"]["metrics"] = json!([{
            "type": "Resource",
            "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}},
        }]);
    }
    if !object["spec"]["behavior"].is_object() {
        return;
    }
    let behavior = object_mut(object, &["spec", "behavior"]);
    let up = behavior.entry("scaleUp").or_insert_with(|| json!({}));
    direction(
        up,
        Some(0),
        &json!([{"type": "Pods", "value": 4, "periodSeconds": 15},
        {"type": "Percent", "value": 100, "periodSeconds": 15}]),
    );
    let down = behavior.entry("scaleDown").or_insert_with(|| json!({}));
    direction(down, None, &json!([{"type": "Percent", "value": 100, "periodSeconds": 15}]));
}

fn direction(rules: &mut Value, window: Option<i64>, policies: &Value) {
    if !rules.is_object() {
        *rules = json!({});
    }
    let rules = object_mut(rules, &[]);
    default(rules, "selectPolicy", "Max");
    if let Some(window) = window {
        default(rules, "stabilizationWindowSeconds", window);
    }
    default(rules, "policies", policies.clone());
}

fn replicas(scaler: &Value, errors: &mut Errors) {
    let (min, max) = (scaler["minReplicas"].as_i64(), scaler["maxReplicas"].as_i64().unwrap_or(0));
    if min.is_some_and(|m| m < 1) {
        errors.invalid(&spec("minReplicas"), min, "must be greater than or equal to 1");
    }
    match max {
        0 => errors.required(&spec("maxReplicas"), "must be set and greater than 0"),
        ..0 => errors.invalid(&spec("maxReplicas"), max, "must be greater than or equal to 1"),
        _ => {}
    }
    if min.is_some_and(|m| max < m) {
        errors.invalid(&spec("maxReplicas"), max, "must be greater than or equal to `minReplicas`");
    }
}

/// What a field of the autoscaler refers to; `core` where that may be of the core group.
fn reference(reference: &Value, core: bool, path: &Path, errors: &mut Errors) {
    for name in ["kind", "name"] {
        checks::required_name(NameRule::PathSegment, reference, name, path, errors);
    }
    let version = text(reference, &["apiVersion"]);
    let path = path.child("apiVersion");
    if version.matches('/').count() > 1 {
        let detail = format!("unexpected GroupVersion string: {version}");
        errors.invalid(&path, version, detail);
    } else if !core && !version.contains('/') && text(reference, &["kind"]) != "ReplicationController" {
        errors.invalid(&path, version, "apiVersion must specify API group");
    }
}

fn metric(metric: &Value, path: &Path, errors: &mut Errors) {
    let kind = text(metric, &["type"]);
    if kind.is_empty() {
        errors.required(&path.child("type"), "must specify a metric source type");
    }
    if SOURCES.iter().all(|(k, _)| *k != kind) {
        errors.unsupported(&path.child("type"), kind, &KINDS);
    }
    let present: Vec<&str> =
        SOURCES.iter().map(|(_, field)| *field).filter(|f| metric[*f].is_object()).collect();
    if let Some(first) = present.first() {
        source(first, &metric[*first], &path.child(first), errors);
    }
    let wanted = SOURCES.iter().find(|(k, _)| *k == kind).map(|(_, field)| *field);
    if let Some(wanted) = wanted
        && !present.contains(&wanted)
    {
        errors.required(&path.child(wanted), "must populate information for the given metric source");
    }
    if wanted.is_none() {
        // Upstream finds this a second time.
        errors.unsupported(&path.child("type"), kind, &KINDS);
    }
    if present.len() != 1 {
        let mut others: Vec<&str> = present.into_iter().filter(|f| Some(*f) != wanted).collect();
        others.sort_unstable();
        for other in others {
            errors.forbidden(&path.child(other), "must populate the given metric source only");
        }
    }
}

fn source(kind: &str, source: &Value, path: &Path, errors: &mut Errors) {
    let target = &source["target"];
    let has = |name: &str| !target[name].is_null();
    let at = path.child("target");
    if kind == "object" {
        reference(&source["describedObject"], true, &path.child("describedObject"), errors);
    }
    if matches!(kind, "object" | "external" | "pods") {
        let identifier = path.child("metric");
        match text(source, &["metric", "name"]) {
            "" => errors.required(&identifier.child("name"), "must specify a metric name"),
            name => checks::named(NameRule::PathSegment, name, &identifier.child("name"), errors),
        }
        // Upstream leaves the selector to the metrics' source.
    } else {
        let name = text(source, &["name"]);
        if name.is_empty() {
            errors.required(&path.child("name"), "must specify a resource name");
        } else if kind == "containerResource" {
            container_resource_name(name, &path.child("name"), errors);
        }
        if kind == "containerResource" {
            match text(source, &["container"]) {
                "" => errors.required(&path.child("container"), "must specify a container"),
                container => checks::named(NameRule::Label, container, &path.child("container"), errors),
            }
        }
    }
    self::target(target, &at, errors);
    match kind {
        "object" if !has("value") && !has("averageValue") => {
            errors.required(&at.child("averageValue"), "must set either a target value or averageValue");
        }
        "external" if has("value") && has("averageValue") => errors
            .forbidden(&at.child("value"), "may not set both a target value for metric and a per-pod target"),
        "external" if !has("value") && !has("averageValue") => errors.required(
            &at.child("averageValue"),
            "must set either a target value for metric or a per-pod target",
        ),
        "pods" if !has("averageValue") => {
            errors.required(&at.child("averageValue"), "must specify a positive target averageValue");
        }
        "resource" | "containerResource" => match (has("averageUtilization"), has("averageValue")) {
            (false, false) => errors.required(
                &at.child("averageUtilization"),
                "must set either a target raw value or a target utilization",
            ),
            (true, true) => errors.forbidden(
                &at.child("averageValue"),
                "may not set both a target raw value and a target utilization",
            ),
            _ => {}
        },
        _ => {}
    }
}

fn target(target: &Value, path: &Path, errors: &mut Errors) {
    let kind = text(target, &["type"]);
    if kind.is_empty() {
        errors.required(&path.child("type"), "must specify a metric target type");
    }
    if !["Utilization", "Value", "AverageValue"].contains(&kind) {
        let detail = "must be either Utilization, Value, or AverageValue";
        errors.invalid(&path.child("type"), kind, detail);
    }
    for name in ["value", "averageValue"] {
        if amount(&target[name]).is_some_and(|q| q.is_zero() || q.is_negative()) {
            errors.invalid(&path.child(name), target[name].clone(), "must be positive");
        }
    }
    if target["averageUtilization"].as_i64().is_some_and(|n| n < 1) {
        let path = path.child("averageUtilization");
        errors.invalid(&path, target["averageUtilization"].clone(), "must be greater than 0");
    }
}

fn rules(rules: &Value, path: &Path, errors: &mut Errors) {
    if let Some(window) = rules["stabilizationWindowSeconds"].as_i64() {
        let path = path.child("stabilizationWindowSeconds");
        if window < 0 {
            errors.invalid(&path, window, "must be greater than or equal to zero");
        }
        if window > STABILIZATION_SECONDS_MAX {
            let detail = format!("must be less than or equal to {STABILIZATION_SECONDS_MAX}");
            errors.invalid(&path, window, detail);
        }
    }
    checks::choice(&rules["selectPolicy"], &["Disabled", "Max", "Min"], &path.child("selectPolicy"), errors);
    let mut policies = list(rules, &["policies"]);
    // Those that an empty list was filled up with are none.
    if errors.is_given_empty(&path.child("policies")) {
        policies = &[];
    }
    if policies.is_empty() {
        errors.required(&path.child("policies"), "must specify at least one Policy");
    }
    for (i, policy) in policies.iter().enumerate() {
        let path = path.child("policies").index(i);
        let kind = text(policy, &["type"]);
        if !["Percent", "Pods"].contains(&kind) {
            errors.unsupported(&path.child("type"), kind, &["Percent", "Pods"]);
        }
        for name in ["value", "periodSeconds"] {
            let number = policy[name].as_i64().unwrap_or(0);
            if number <= 0 {
                errors.invalid(&path.child(name), number, "must be greater than zero");
            }
            if name == "periodSeconds" && number > PERIOD_SECONDS_MAX {
                let detail = format!("must be less than or equal to {PERIOD_SECONDS_MAX}");
                errors.invalid(&path.child(name), number, detail);
            }
        }
    }
    if amount(&rules["tolerance"]).is_some_and(|q| q.is_negative()) {
        errors.invalid(&path.child("tolerance"), rules["tolerance"].clone(), checks::NOT_NEGATIVE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_say_what_is_measured() {
        let utilization = json!({"type": "Utilization", "averageUtilization": 50});
        for (given, expected) in [
            (json!({"type": "Resource", "resource": {"name": "cpu", "target": utilization}}), vec![]),
            (
                json!({"type": "Galaxy"}),
                vec![
                    "m.type: Unsupported value: \"Galaxy\": supported values: \"ContainerResource\", \"External\", \
                     \"Object\", \"Pods\", \"Resource\"";
                    2
                ],
            ),
            (
                json!({"type": "ContainerResource", "containerResource": {"target": utilization}}),
                vec![
                    "m.containerResource.name: Required value: must specify a resource name",
                    "m.containerResource.container: Required value: must specify a container",
                ],
            ),
            (
                json!({"type": "Pods", "pods": {"metric": {}, "target": {"type": "AverageValue", "averageValue": "0"}}}),
                vec![
                    "m.pods.metric.name: Required value: must specify a metric name",
                    "m.pods.target.averageValue: Invalid value: \"0\": must be positive",
                ],
            ),
        ] {
            let mut errors = Errors::default();
            metric(&given, &Path::new("m"), &mut errors);
            assert_eq!(errors.messages(), expected, "{given}");
        }
    }
}
