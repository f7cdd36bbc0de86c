//! Kinds that make pods from a template: Deployment, ReplicaSet, StatefulSet, DaemonSet, ReplicationController.

use serde_json::{Value, json};

use super::podspec::{label_selector, template_spec};
use super::{Strategy, base, immutable, non_negative, podspec_defaults, validate_template};
use crate::api::invalid::{Errors, Path};
use crate::api::meta::NameRule;
use crate::api::object::{at, default, list_mut, object_mut, text};

fn template(object: &mut Value) {
    podspec_defaults::pod_spec(&mut object["spec"]["template"]["spec"]);
}

fn spec_path(name: &str) -> Path {
    Path::new("spec").child(name)
}

/// What every workload's spec must satisfy.
fn common(object: &Value, errors: &mut Errors) {
    let spec = &object["spec"];
    non_negative(&spec["replicas"], &spec_path("replicas"), errors);
    non_negative(&spec["minReadySeconds"], &spec_path("minReadySeconds"), errors);
    selector(spec, errors);
}

fn selector(spec: &Value, errors: &mut Errors) {
    let path = spec_path("selector");
    if spec["selector"].is_null() {
        errors.required(&path, "");
        return;
    }
    label_selector(&spec["selector"], &path, errors);
    let empty = |name: &str| spec["selector"][name].as_object().is_none_or(|m| m.is_empty());
    let expressions = spec["selector"]["matchExpressions"].as_array().is_none_or(Vec::is_empty);
    if empty("matchLabels") && expressions {
        errors.invalid(&path, spec["selector"].clone(), "empty selector is invalid for deployment");
    }
}

fn same_selector(new: &Value, old: &Value, errors: &mut Errors) {
    immutable(at(new, &["spec", "selector"]), at(old, &["spec", "selector"]), &spec_path("selector"), errors);
}

pub(super) fn deployment() -> Strategy {
    Strategy {
        defaults: |object| {
            template(object);
            let spec = object_mut(object, &["spec"]);
            default(spec, "replicas", 1);
            default(spec, "revisionHistoryLimit", 10);
            default(spec, "progressDeadlineSeconds", 600);
            let strategy = object_mut(object, &["spec", "strategy"]);
            default(strategy, "type", "RollingUpdate");
            if strategy.get("type").is_some_and(|t| t == "RollingUpdate") {
                let rolling = object_mut(object, &["spec", "strategy", "rollingUpdate"]);
                default(rolling, "maxUnavailable", "25%");
                default(rolling, "maxSurge", "25%");
            }
        },
        validate: |object, errors| {
            common(object, errors);
            let spec = &object["spec"];
            validate_template(spec, &["Always"], errors);
            strategy(spec, errors);
            non_negative(&spec["revisionHistoryLimit"], &spec_path("revisionHistoryLimit"), errors);
            let (deadline, ready) =
                (&spec["progressDeadlineSeconds"], spec["minReadySeconds"].as_i64().unwrap_or(0));
            non_negative(deadline, &spec_path("progressDeadlineSeconds"), errors);
            if deadline.as_i64().is_some_and(|d| d <= ready) {
                errors.invalid(
                    &spec_path("progressDeadlineSeconds"),
                    deadline.clone(),
                    "must be greater than minReadySeconds",
                );
            }
        },
        validate_update: same_selector,
        ..base()
    }
}

fn strategy(spec: &Value, errors: &mut Errors) {
    let path = spec_path("strategy");
    let strategy = &spec["strategy"];
    match text(strategy, &["type"]) {
        "Recreate" => {
            if strategy["rollingUpdate"].is_object() {
                errors.forbidden(
                    &path.child("rollingUpdate"),
                    "may not be specified when strategy `type` is 'Recreate'",
                );
            }
        }
        "RollingUpdate" => {
            let rolling = &strategy["rollingUpdate"];
            let path = path.child("rollingUpdate");
            for name in ["maxUnavailable", "maxSurge"] {
                int_or_percent(&rolling[name], &path.child(name), errors);
            }
            let zero = |v: &Value| v.as_i64() == Some(0) || v.as_str() == Some("0%");
            if zero(&rolling["maxUnavailable"]) && zero(&rolling["maxSurge"]) {
                errors.invalid(
                    &path.child("maxUnavailable"),
                    rolling["maxUnavailable"].clone(),
                    "may not be 0 when `maxSurge` is 0",
                );
            }
            if let Some(percent) = percent(&rolling["maxUnavailable"]).filter(|p| *p > 100) {
                errors.invalid(
                    &path.child("maxUnavailable"),
                    format!("{percent}%"),
                    "must not be greater than 100%",
                );
            }
        }
        other => errors.unsupported(&path.child("type"), other, &["Recreate", "RollingUpdate"]),
    }
}

fn percent(value: &Value) -> Option<i64> {
    value.as_str()?.strip_suffix('%')?.parse().ok()
}

/// Checks a value that is a number or a percentage.
pub(super) fn int_or_percent(value: &Value, path: &Path, errors: &mut Errors) {
    match value {
        Value::String(text) => {
            let digits = text.strip_suffix('%');
            if digits.is_none_or(|d| d.is_empty() || !d.bytes().all(|b| b.is_ascii_digit())) {
                errors.invalid(
                    path,
                    text.as_str(),
                    "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', \
                     regex used for validation is '[0-9]+%')",
                );
            }
        }
        number => non_negative(number, path, errors),
    }
}

pub(super) fn replica_set() -> Strategy {
    Strategy {
        defaults: |object| {
            template(object);
            default(object_mut(object, &["spec"]), "replicas", 1);
        },
        prepare_create: |object| object["status"] = json!({"replicas": 0}),
        validate: |object, errors| {
            common(object, errors);
            validate_template(&object["spec"], &["Always"], errors);
        },
        validate_update: same_selector,
        ..base()
    }
}

pub(super) fn replication_controller() -> Strategy {
    Strategy {
        defaults: |object| {
            template(object);
            let labels = at(object, &["spec", "template", "metadata", "labels"]).clone();
            if labels.as_object().is_some_and(|l| !l.is_empty()) {
                let spec = object_mut(object, &["spec"]);
                if spec.get("selector").and_then(Value::as_object).is_none_or(|s| s.is_empty()) {
                    spec.insert("selector".to_owned(), labels.clone());
                }
                let meta = object_mut(object, &["metadata"]);
                if meta.get("labels").and_then(Value::as_object).is_none_or(|s| s.is_empty()) {
                    meta.insert("labels".to_owned(), labels);
                }
            }
            default(object_mut(object, &["spec"]), "replicas", 1);
        },
        prepare_create: |object| object["status"] = json!({"replicas": 0}),
        validate: |object, errors| {
            let spec = &object["spec"];
            non_negative(&spec["minReadySeconds"], &spec_path("minReadySeconds"), errors);
            non_negative(&spec["replicas"], &spec_path("replicas"), errors);
            let selector = spec["selector"].as_object();
            if selector.is_none_or(|s| s.is_empty()) {
                errors.required(&spec_path("selector"), "");
            }
            if spec["template"].is_null() {
                errors.required(&spec_path("template"), "");
                return;
            }
            let labels = at(spec, &["template", "metadata", "labels"]);
            if selector.into_iter().flatten().any(|(k, v)| labels.get(k) != Some(v)) {
                let path = spec_path("template").child("metadata").child("labels");
                errors.invalid(&path, labels.clone(), "`selector` does not match template `labels`");
            }
            template_spec(&spec["template"], &spec_path("template"), &["Always"], errors);
        },
        ..base()
    }
}

pub(super) fn stateful_set() -> Strategy {
    Strategy {
        names: NameRule::Subdomain,
        defaults: |object| {
            template(object);
            let spec = object_mut(object, &["spec"]);
            default(spec, "podManagementPolicy", "OrderedReady");
            default(spec, "replicas", 1);
            default(spec, "revisionHistoryLimit", 10);
            default(spec, "persistentVolumeClaimRetentionPolicy", json!({}));
            let retention = object_mut(object, &["spec", "persistentVolumeClaimRetentionPolicy"]);
            default(retention, "whenDeleted", "Retain");
            default(retention, "whenScaled", "Retain");
            let strategy = object_mut(object, &["spec", "updateStrategy"]);
            default(strategy, "type", "RollingUpdate");
            if strategy.get("type").is_some_and(|t| t == "RollingUpdate") {
                let rolling = object_mut(object, &["spec", "updateStrategy", "rollingUpdate"]);
                default(rolling, "partition", 0);
            }
            for claim in list_mut(object, &["spec", "volumeClaimTemplates"]) {
                default(object_mut(claim, &["spec"]), "volumeMode", "Filesystem");
                default(object_mut(claim, &["status"]), "phase", "Pending");
                default(object_mut(claim, &[]), "apiVersion", "v1");
                default(object_mut(claim, &[]), "kind", "PersistentVolumeClaim");
            }
        },
        prepare_create: |object| object["status"] = json!({"replicas": 0, "availableReplicas": 0}),
        validate: |object, errors| {
            let spec = &object["spec"];
            let policy = text(spec, &["podManagementPolicy"]);
            if !["OrderedReady", "Parallel"].contains(&policy) {
                let message = "must be 'OrderedReady' or 'Parallel'";
                errors.invalid(&spec_path("podManagementPolicy"), policy, message);
            }
            let kind = text(spec, &["updateStrategy", "type"]);
            if !["OnDelete", "RollingUpdate"].contains(&kind) {
                let message = "must be 'RollingUpdate' or 'OnDelete'";
                errors.invalid(&spec_path("updateStrategy"), spec["updateStrategy"].clone(), message);
            }
            common(object, errors);
            validate_template(spec, &["Always"], errors);
        },
        validate_update: |new, old, errors| {
            let mut masked = new["spec"].clone();
            for name in [
                "replicas",
                "ordinals",
                "template",
                "updateStrategy",
                "revisionHistoryLimit",
                "persistentVolumeClaimRetentionPolicy",
                "minReadySeconds",
            ] {
                crate::api::object::copy_field(&old["spec"], &mut masked, name);
            }
            if masked != old["spec"] {
                errors.forbidden(
                    &Path::new("spec"),
                    "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', \
                     'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and \
                     'minReadySeconds' are forbidden",
                );
            }
        },
        ..base()
    }
}

pub(super) fn daemon_set() -> Strategy {
    Strategy {
        defaults: |object| {
            template(object);
            default(object_mut(object, &["spec"]), "revisionHistoryLimit", 10);
            let strategy = object_mut(object, &["spec", "updateStrategy"]);
            default(strategy, "type", "RollingUpdate");
            if strategy.get("type").is_some_and(|t| t == "RollingUpdate") {
                let rolling = object_mut(object, &["spec", "updateStrategy", "rollingUpdate"]);
                default(rolling, "maxUnavailable", 1);
                default(rolling, "maxSurge", 0);
            }
        },
        validate: |object, errors| {
            let spec = &object["spec"];
            selector(spec, errors);
            validate_template(spec, &["Always"], errors);
            non_negative(&spec["minReadySeconds"], &spec_path("minReadySeconds"), errors);
            let kind = text(spec, &["updateStrategy", "type"]);
            if !["OnDelete", "RollingUpdate"].contains(&kind) {
                errors.unsupported(
                    &spec_path("updateStrategy").child("type"),
                    kind,
                    &["RollingUpdate", "OnDelete"],
                );
            }
            non_negative(&spec["revisionHistoryLimit"], &spec_path("revisionHistoryLimit"), errors);
        },
        validate_update: same_selector,
        ..base()
    }
}

pub(super) fn pod_template() -> Strategy {
    Strategy {
        defaults: |object| podspec_defaults::pod_spec(&mut object["template"]["spec"]),
        validate: |object, errors| {
            template_spec(
                &object["template"],
                &Path::new("template"),
                &["Always", "OnFailure", "Never"],
                errors,
            );
        },
        ..base()
    }
}
