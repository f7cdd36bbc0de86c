//! Validation of pod specs, wherever they occur.

use std::collections::HashSet;

use protocol::Selector;
use protocol::selector::{is_dns1123_label, qualified_name_error};
use serde_json::Value;

use super::containers;
use crate::api::invalid::{Errors, Path};
use crate::api::meta::{self, NameRule, name_errors};
use crate::api::object::{list, text};

/// Checks a pod spec.
pub fn validate(spec: &Value, path: &Path, errors: &mut Errors) {
    let volumes = volumes(spec, &path.child("volumes"), errors);
    containers::validate(spec, &volumes, path, errors);
    choice(spec, "restartPolicy", &["Always", "OnFailure", "Never"], path, errors);
    choice(spec, "dnsPolicy", &["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"], path, errors);
    for (key, value) in spec["nodeSelector"].as_object().into_iter().flatten() {
        let path = path.child("nodeSelector");
        for error in qualified_name_error(key) {
            errors.invalid(&path, key.as_str(), error);
        }
        for error in protocol::selector::label_value_error(value.as_str().unwrap_or_default()) {
            errors.invalid(&path, value.clone(), error);
        }
    }
    let host_network = spec["hostNetwork"] == Value::Bool(true);
    if host_network {
        for (i, container) in list(spec, &["containers"]).iter().enumerate() {
            for (j, port) in list(container, &["ports"]).iter().enumerate() {
                if port["hostPort"] != port["containerPort"] {
                    let at = path.child("containers").index(i).child("ports").index(j).child("containerPort");
                    errors.invalid(
                        &at,
                        port["containerPort"].clone(),
                        "must match `hostPort` when `hostNetwork` is true",
                    );
                }
            }
        }
    }
    for (i, secret) in list(spec, &["imagePullSecrets"]).iter().enumerate() {
        if text(secret, &["name"]).is_empty() {
            errors.required(&path.child("imagePullSecrets").index(i).child("name"), "");
        }
    }
    affinity(&spec["affinity"], &path.child("affinity"), errors);
    let account = text(spec, &["serviceAccountName"]);
    if !account.is_empty() {
        for error in name_errors(NameRule::Subdomain, account, false) {
            errors.invalid(&path.child("serviceAccountName"), account, error);
        }
    }
    let node = text(spec, &["nodeName"]);
    if !node.is_empty() {
        for error in name_errors(NameRule::Subdomain, node, false) {
            errors.invalid(&path.child("nodeName"), node, error);
        }
    }
    if let Some(seconds) = spec["activeDeadlineSeconds"].as_i64()
        && !(1..=i64::from(i32::MAX)).contains(&seconds)
    {
        let message = format!("must be between 1 and {}, inclusive", i32::MAX);
        errors.invalid(&path.child("activeDeadlineSeconds"), seconds, message);
    }
    for name in ["hostname", "subdomain"] {
        let value = text(spec, &[name]);
        if !value.is_empty() {
            for error in name_errors(NameRule::Label, value, false) {
                errors.invalid(&path.child(name), value, error);
            }
        }
    }
    tolerations(list(spec, &["tolerations"]), &path.child("tolerations"), errors);
    let class = text(spec, &["priorityClassName"]);
    if !class.is_empty() {
        for error in name_errors(NameRule::Subdomain, class, false) {
            errors.invalid(&path.child("priorityClassName"), class, error);
        }
    }
    spread(spec, &path.child("topologySpreadConstraints"), errors);
}

fn choice(spec: &Value, name: &str, allowed: &[&str], path: &Path, errors: &mut Errors) {
    let value = text(spec, &[name]);
    if value.is_empty() {
        errors.required(&path.child(name), "");
    } else if !allowed.contains(&value) {
        let mut sorted = allowed.to_vec();
        if name != "dnsPolicy" {
            sorted.sort_unstable_by_key(|a| allowed.iter().position(|b| a == b));
        }
        errors.unsupported(&path.child(name), value, &sorted);
    }
}

fn volumes<'a>(spec: &'a Value, path: &Path, errors: &mut Errors) -> HashSet<&'a str> {
    let (mut names, mut sound) = (HashSet::new(), HashSet::new());
    for (i, volume) in list(spec, &["volumes"]).iter().enumerate() {
        let (path, name) = (path.index(i), text(volume, &["name"]));
        let before = errors.len();
        if name.is_empty() {
            errors.required(&path.child("name"), "");
        } else {
            if !is_dns1123_label(name) {
                for error in name_errors(NameRule::Label, name, false) {
                    errors.invalid(&path.child("name"), name, error);
                }
            }
            if !names.insert(name) {
                errors.duplicate(&path.child("name"), name);
            }
        }
        let sources: Vec<&String> = volume
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(k, v)| *k != "name" && !v.is_null())
            .map(|(k, _)| k)
            .collect();
        match sources.as_slice() {
            [] => errors.required(&path, "must specify a volume type"),
            [_] => {}
            [_, more @ ..] => {
                for extra in more {
                    errors.forbidden(&path.child(extra), "may not specify more than 1 volume type");
                }
            }
        }
        if volume["hostPath"].is_object() && text(volume, &["hostPath", "path"]).is_empty() {
            errors.required(&path.child("hostPath").child("path"), "");
        }
        if volume["secret"].is_object() && text(volume, &["secret", "secretName"]).is_empty() {
            errors.required(&path.child("secret").child("secretName"), "");
        }
        if volume["configMap"].is_object() && text(volume, &["configMap", "name"]).is_empty() {
            errors.required(&path.child("configMap").child("name"), "");
        }
        let claim = &volume["persistentVolumeClaim"];
        if claim.is_object() && text(claim, &["claimName"]).is_empty() {
            errors.required(&path.child("persistentVolumeClaim").child("claimName"), "");
        }
        // A volume with mistakes is none that a container could mount.
        if errors.len() == before {
            sound.insert(name);
        }
    }
    sound
}

/// Checks tolerations.
pub fn tolerations(list: &[Value], path: &Path, errors: &mut Errors) {
    for (i, toleration) in list.iter().enumerate() {
        let path = path.index(i);
        let (key, operator, effect) =
            (text(toleration, &["key"]), text(toleration, &["operator"]), text(toleration, &["effect"]));
        if !key.is_empty() {
            for error in qualified_name_error(key) {
                errors.invalid(&path.child("key"), key, error);
            }
        } else if operator != "Exists" {
            errors.invalid(
                &path.child("operator"),
                operator,
                "operator must be Exists when `key` is empty, which means \"match all values and all keys\"",
            );
        }
        if toleration["tolerationSeconds"].is_number() && effect != "NoExecute" {
            errors.invalid(
                &path.child("effect"),
                effect,
                "effect must be 'NoExecute' when `tolerationSeconds` is set",
            );
        }
        match operator {
            "" | "Equal" => {
                for error in protocol::selector::label_value_error(text(toleration, &["value"])) {
                    errors.invalid(&path.child("operator"), text(toleration, &["value"]), error);
                }
            }
            "Exists" => {
                if !text(toleration, &["value"]).is_empty() {
                    errors.invalid(
                        &path.child("operator"),
                        toleration["value"].clone(),
                        "value must be empty when `operator` is 'Exists'",
                    );
                }
            }
            other => errors.unsupported(&path.child("operator"), other, &["Equal", "Exists"]),
        }
        if !effect.is_empty() && !["NoSchedule", "PreferNoSchedule", "NoExecute"].contains(&effect) {
            errors.unsupported(
                &path.child("effect"),
                effect,
                &["NoSchedule", "PreferNoSchedule", "NoExecute"],
            );
        }
    }
}

fn affinity(affinity: &Value, path: &Path, errors: &mut Errors) {
    let required = &affinity["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"];
    let at = path.child("nodeAffinity").child("requiredDuringSchedulingIgnoredDuringExecution");
    if required.is_object() {
        let terms = list(required, &["nodeSelectorTerms"]);
        let at = at.child("nodeSelectorTerms");
        if terms.is_empty() {
            errors.required(&at, "must have at least one node selector term");
        }
        for (i, term) in terms.iter().enumerate() {
            node_term(term, &at.index(i), errors);
        }
    }
    let at = path.child("nodeAffinity").child("preferredDuringSchedulingIgnoredDuringExecution");
    for (i, term) in list(affinity, &["nodeAffinity", "preferredDuringSchedulingIgnoredDuringExecution"])
        .iter()
        .enumerate()
    {
        weight(term, &at.index(i), errors);
        node_term(&term["preference"], &at.index(i).child("preference"), errors);
    }
    for kind in ["podAffinity", "podAntiAffinity"] {
        let at = path.child(kind).child("requiredDuringSchedulingIgnoredDuringExecution");
        for (i, term) in
            list(affinity, &[kind, "requiredDuringSchedulingIgnoredDuringExecution"]).iter().enumerate()
        {
            pod_term(term, &at.index(i), errors);
        }
        let at = path.child(kind).child("preferredDuringSchedulingIgnoredDuringExecution");
        for (i, term) in
            list(affinity, &[kind, "preferredDuringSchedulingIgnoredDuringExecution"]).iter().enumerate()
        {
            weight(term, &at.index(i), errors);
            pod_term(&term["podAffinityTerm"], &at.index(i).child("podAffinityTerm"), errors);
        }
    }
}

fn weight(term: &Value, path: &Path, errors: &mut Errors) {
    let weight = term["weight"].as_i64().unwrap_or(0);
    if !(1..=100).contains(&weight) {
        errors.invalid(&path.child("weight"), weight, "must be in the range 1-100");
    }
}

fn node_term(term: &Value, path: &Path, errors: &mut Errors) {
    for (j, requirement) in list(term, &["matchExpressions"]).iter().enumerate() {
        let path = path.child("matchExpressions").index(j);
        let (operator, values) = (text(requirement, &["operator"]), list(requirement, &["values"]).len());
        match operator {
            "In" | "NotIn" if values == 0 => {
                errors
                    .required(&path.child("values"), "must be specified when `operator` is 'In' or 'NotIn'");
            }
            "Exists" | "DoesNotExist" if values > 0 => {
                errors.forbidden(
                    &path.child("values"),
                    "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
                );
            }
            "Gt" | "Lt" if values != 1 => {
                errors.required(
                    &path.child("values"),
                    "must be specified single value when `operator` is 'Lt' or 'Gt'",
                );
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
            other => errors.invalid(&path.child("operator"), other, "not a valid selector operator"),
        }
        for error in qualified_name_error(text(requirement, &["key"])) {
            errors.invalid(&path.child("key"), text(requirement, &["key"]), error);
        }
    }
    for (j, requirement) in list(term, &["matchFields"]).iter().enumerate() {
        let path = path.child("matchFields").index(j);
        let operator = text(requirement, &["operator"]);
        if !["In", "NotIn"].contains(&operator) {
            errors.invalid(&path.child("operator"), operator, "not a valid selector operator");
        } else if list(requirement, &["values"]).len() != 1 {
            errors.required(
                &path.child("values"),
                "must be only one value when `operator` is 'In' or 'NotIn' for node field selector",
            );
        }
        if text(requirement, &["key"]) != "metadata.name" {
            errors.invalid(&path.child("key"), requirement["key"].clone(), "not a valid field selector key");
        }
    }
}

fn pod_term(term: &Value, path: &Path, errors: &mut Errors) {
    label_selector(&term["labelSelector"], &path.child("labelSelector"), errors);
    let key = text(term, &["topologyKey"]);
    if key.is_empty() {
        errors.required(&path.child("topologyKey"), "can not be empty");
    }
    for error in qualified_name_error(key) {
        errors.invalid(&path.child("topologyKey"), key, error);
    }
}

fn spread(spec: &Value, path: &Path, errors: &mut Errors) {
    for (i, constraint) in list(spec, &["topologySpreadConstraints"]).iter().enumerate() {
        let path = path.index(i);
        if constraint["maxSkew"].as_i64().unwrap_or(0) <= 0 {
            errors.invalid(
                &path.child("maxSkew"),
                constraint["maxSkew"].clone(),
                "must be greater than zero",
            );
        }
        if text(constraint, &["topologyKey"]).is_empty() {
            errors.required(&path.child("topologyKey"), "can not be empty");
        }
        let when = text(constraint, &["whenUnsatisfiable"]);
        if !["DoNotSchedule", "ScheduleAnyway"].contains(&when) {
            errors.unsupported(&path.child("whenUnsatisfiable"), when, &["DoNotSchedule", "ScheduleAnyway"]);
        }
        label_selector(&constraint["labelSelector"], &path.child("labelSelector"), errors);
    }
}

/// Checks a label selector field.
pub fn label_selector(selector: &Value, path: &Path, errors: &mut Errors) {
    meta::labels(&selector["matchLabels"], &path.child("matchLabels"), errors);
    for (i, expression) in list(selector, &["matchExpressions"]).iter().enumerate() {
        let path = path.child("matchExpressions").index(i);
        let (operator, values) = (text(expression, &["operator"]), list(expression, &["values"]));
        match operator {
            "In" | "NotIn" if values.is_empty() => {
                errors
                    .required(&path.child("values"), "must be specified when `operator` is 'In' or 'NotIn'");
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                errors.forbidden(
                    &path.child("values"),
                    "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
                );
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => errors.invalid(&path.child("operator"), other, "not a valid selector operator"),
        }
        for error in qualified_name_error(text(expression, &["key"])) {
            errors.invalid(&path.child("key"), text(expression, &["key"]), error);
        }
        for (j, value) in values.iter().filter_map(Value::as_str).enumerate() {
            for error in protocol::selector::label_value_error(value) {
                errors.invalid(&path.child("values").index(j), value, error);
            }
        }
    }
}

/// The selector of a `LabelSelector` value; `None` where it is absent or not understood.
pub fn selector_of(value: &Value) -> Option<Selector> {
    let selector = serde_json::from_value(value.clone()).ok()?;
    Selector::from_label_selector(&selector).ok()
}

/// Checks the pod template of a workload: its selector must select the template's labels.
pub fn validate_template(spec: &Value, restart: &[&str], errors: &mut Errors) {
    let path = Path::new("spec.template");
    let template = &spec["template"];
    let labels = &template["metadata"]["labels"];
    if let Some(selector) =
        selector_of(&spec["selector"]).filter(|s| !spec["selector"].is_null() || s.is_everything())
    {
        let own = |key: &str| labels.get(key).and_then(Value::as_str);
        if spec["selector"].is_null() || !selector.matches_by(own) {
            errors.invalid(
                &path.child("metadata").child("labels"),
                labels.clone(),
                "`selector` does not match template `labels`",
            );
        }
    } else {
        errors.invalid(
            &path.child("metadata").child("labels"),
            labels.clone(),
            "`selector` does not match template `labels`",
        );
    }
    template_spec(template, &path, restart, errors);
}

/// Checks a pod template by itself.
pub fn template_spec(template: &Value, path: &Path, restart: &[&str], errors: &mut Errors) {
    meta::labels(&template["metadata"]["labels"], &path.child("labels"), errors);
    meta::annotations(&template["metadata"]["annotations"], &path.child("annotations"), errors);
    validate(&template["spec"], &path.child("spec"), errors);
    let policy = text(template, &["spec", "restartPolicy"]);
    if ["Always", "OnFailure", "Never"].contains(&policy) && !restart.contains(&policy) {
        errors.unsupported(&path.child("spec").child("restartPolicy"), policy, restart);
    }
}
