//! Validation of where a pod may run: affinity, tolerations, spreading.

use std::collections::HashSet;

use protocol::selector::label_value_error;
use serde_json::Value;

use crate::api::invalid::{Errors, Path};
use crate::api::kinds::checks::{self, label_selector, named, qualified};
use crate::api::meta::NameRule;
use crate::api::object::{list, text};

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";
const NO_SELECTOR: &str = "must not be specified when labelSelector is not set";

/// Checks tolerations.
pub fn tolerations(list: &[Value], path: &Path, errors: &mut Errors) {
    for (i, toleration) in list.iter().enumerate() {
        let path = path.index(i);
        let (key, operator, effect) =
            (text(toleration, &["key"]), text(toleration, &["operator"]), text(toleration, &["effect"]));
        if !key.is_empty() {
            qualified(key, &path.child("key"), errors);
        } else if operator != "Exists" {
            errors.invalid(
                &path.child("operator"),
                operator,
                "operator must be Exists when `key` is empty, which means \"match all values and all keys\"",
            );
        }
        if toleration["tolerationSeconds"].is_number() && effect != "NoExecute" {
            let detail = "effect must be 'NoExecute' when `tolerationSeconds` is set";
            errors.invalid(&path.child("effect"), effect, detail);
        }
        let value = text(toleration, &["value"]);
        match operator {
            "" | "Equal" => {
                let wrong = label_value_error(value);
                if !wrong.is_empty() {
                    errors.invalid(&path.child("operator"), value, wrong.join(";"));
                }
            }
            "Exists" => {
                if !value.is_empty() {
                    let detail = "value must be empty when `operator` is 'Exists'";
                    errors.invalid(&path.child("operator"), value, detail);
                }
            }
            // Comparing numbers is known, but not switched on.
            "Lt" | "Gt" => {
                errors.unsupported(&path.child("operator"), operator, &["Equal", "Exists", "Lt", "Gt"]);
            }
            other => errors.unsupported(&path.child("operator"), other, &["Equal", "Exists"]),
        }
        if !effect.is_empty() {
            let known = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
            checks::choice(&toleration["effect"], &known, &path.child("effect"), errors);
        }
    }
}

/// Checks a pod's affinity.
pub fn affinity(affinity: &Value, path: &Path, errors: &mut Errors) {
    let required = &affinity["nodeAffinity"][REQUIRED];
    if required.is_object() {
        checks::node_selector(required, &path.child("nodeAffinity").child(REQUIRED), errors);
    }
    let at = path.child("nodeAffinity").child(PREFERRED);
    for (i, term) in list(affinity, &["nodeAffinity", PREFERRED]).iter().enumerate() {
        weight(term, &at.index(i), errors);
        // A preference that no node can meet does no harm.
        checks::node_term(&term["preference"], false, &at.index(i).child("preference"), errors);
    }
    for kind in ["podAffinity", "podAntiAffinity"] {
        let at = path.child(kind).child(REQUIRED);
        for (i, term) in list(affinity, &[kind, REQUIRED]).iter().enumerate() {
            pod_term(term, &at.index(i), errors);
        }
        let at = path.child(kind).child(PREFERRED);
        for (i, term) in list(affinity, &[kind, PREFERRED]).iter().enumerate() {
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

fn pod_term(term: &Value, path: &Path, errors: &mut Errors) {
    for field in ["labelSelector", "namespaceSelector"] {
        label_selector(&term[field], &path.child(field), errors);
    }
    for namespace in list(term, &["namespaces"]).iter().filter_map(Value::as_str) {
        named(NameRule::Label, namespace, &path.child("namespace"), errors);
    }
    both_label_keys(term, path, errors);
    let key = text(term, &["topologyKey"]);
    if key.is_empty() {
        errors.required(&path.child("topologyKey"), "can not be empty");
    }
    qualified(key, &path.child("topologyKey"), errors);
}

/// Keys whose values are taken from the pod itself: known, and each in one way.
fn both_label_keys(term: &Value, path: &Path, errors: &mut Errors) {
    for field in ["matchLabelKeys", "mismatchLabelKeys"] {
        label_keys(term, field, path, errors);
    }
    let (match_keys, mismatch_keys) = (list(term, &["matchLabelKeys"]), list(term, &["mismatchLabelKeys"]));
    let selector = &term["labelSelector"];
    let mut selected: HashSet<&str> =
        selector["matchLabels"].as_object().into_iter().flatten().map(|(key, _)| key.as_str()).collect();
    // What the server makes of the keys stands in the selector already, so that only the second counts.
    for expression in list(selector, &["matchExpressions"]) {
        let key = text(expression, &["key"]);
        let at = match_keys.iter().rposition(|k| k == key);
        if let Some(i) = at.filter(|_| selected.contains(key)) {
            errors.invalid(&path.index(i), key, "exists in both matchLabelKeys and labelSelector");
        }
        selected.insert(key);
    }
    for (i, key) in match_keys.iter().enumerate().filter(|(_, k)| mismatch_keys.contains(k)) {
        let detail = "exists in both matchLabelKeys and mismatchLabelKeys";
        errors.invalid(&path.child("matchLabelKeys").index(i), key.clone(), detail);
    }
}

fn label_keys(term: &Value, field: &str, path: &Path, errors: &mut Errors) {
    let keys = list(term, &[field]);
    if keys.is_empty() {
        return;
    }
    if term["labelSelector"].is_null() {
        errors.forbidden(&path.child(field), NO_SELECTOR);
        return;
    }
    for (i, key) in keys.iter().filter_map(Value::as_str).enumerate() {
        qualified(key, &path.child(field).index(i), errors);
    }
}

/// Checks how a pod's kind is to be spread.
pub fn spread(spec: &Value, path: &Path, errors: &mut Errors) {
    let constraints = list(spec, &["topologySpreadConstraints"]);
    for (i, constraint) in constraints.iter().enumerate() {
        let path = path.index(i);
        if constraint["maxSkew"].as_i64().unwrap_or(0) <= 0 {
            let skew = constraint["maxSkew"].as_i64().unwrap_or(0);
            errors.invalid(&path.child("maxSkew"), skew, checks::POSITIVE);
        }
        if text(constraint, &["topologyKey"]).is_empty() {
            errors.required(&path.child("topologyKey"), "can not be empty");
        }
        let (key, when) = (text(constraint, &["topologyKey"]), text(constraint, &["whenUnsatisfiable"]));
        if !["DoNotSchedule", "ScheduleAnyway"].contains(&when) {
            errors.unsupported(&path.child("whenUnsatisfiable"), when, &["DoNotSchedule", "ScheduleAnyway"]);
        }
        let same = |c: &Value| {
            c["topologyKey"] == constraint["topologyKey"] && text(c, &["whenUnsatisfiable"]) == when
        };
        if constraints[i + 1..].iter().any(same) {
            errors.duplicate(&path.child("{topologyKey, whenUnsatisfiable}"), format!("{{{key}, {when}}}"));
        }
        min_domains(constraint, when, &path, errors);
        for field in ["nodeAffinityPolicy", "nodeTaintsPolicy"] {
            checks::choice(&constraint[field], &["Honor", "Ignore"], &path.child(field), errors);
        }
        both_label_keys(constraint, &path, errors);
        label_selector(&constraint["labelSelector"], &path.child("labelSelector"), errors);
    }
}

fn min_domains(constraint: &Value, when: &str, path: &Path, errors: &mut Errors) {
    let Some(domains) = constraint["minDomains"].as_i64() else { return };
    let path = path.child("minDomains");
    if domains <= 0 {
        errors.invalid(&path, domains, checks::POSITIVE);
    }
    if when != "DoNotSchedule" {
        let detail = format!("can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {when}");
        errors.invalid(&path, domains, detail);
    }
}
