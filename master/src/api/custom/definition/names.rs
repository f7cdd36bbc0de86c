//! Names in definitions.

use serde_json::Value;

use crate::api::invalid::{Errors, Path};
use crate::api::meta::{NameRule, name_errors};
use crate::api::object::{list, text};

const APPROVED: &str = "api-approved.kubernetes.io";
const SEE: &str = "see https://github.com/kubernetes/enhancements/pull/1111";

/// What is wrong with a label that must be there.
fn label_errors(name: &str) -> Option<String> {
    let errors = name_errors(NameRule::Label1035, name, false);
    (!errors.is_empty()).then(|| errors.join(","))
}

/// Checks a label.
pub fn label(name: &str, path: &Path, errors: &mut Errors) {
    if let Some(why) = label_errors(name) {
        errors.invalid(path, name, why);
    }
}

/// Checks a group.
pub fn group(group: &str, path: &Path, errors: &mut Errors) {
    let wrong = name_errors(NameRule::Subdomain, group, false);
    if group.is_empty() {
        errors.required(path, "");
    } else if !wrong.is_empty() {
        errors.invalid(path, group, wrong.join(","));
    } else if !group.contains('.') {
        errors.invalid(path, group, "should be a domain with at least one dot");
    }
}

/// Names that a definition must ask for.
pub fn required(names: &Value, path: &Path, errors: &mut Errors) {
    for field in ["plural", "singular", "kind", "listKind"] {
        if text(names, &[field]).is_empty() {
            errors.required(&path.child(field), "");
        }
    }
}

/// Checks the names of a kind, as they are asked for or accepted.
pub fn check(names: &Value, path: &Path, errors: &mut Errors) {
    let name = |field: &str| text(names, &[field]);
    for field in ["plural", "singular"] {
        if !name(field).is_empty() {
            label(name(field), &path.child(field), errors);
        }
    }
    for field in ["kind", "listKind"] {
        let given = name(field);
        if let Some(why) = label_errors(&given.to_lowercase()).filter(|_| !given.is_empty()) {
            let why = format!("may have mixed case, but should otherwise match: {why}");
            errors.invalid(&path.child(field), given, why);
        }
    }
    for field in ["shortNames", "categories"] {
        if field == "categories" && !name("kind").is_empty() && name("kind") == name("listKind") {
            let why = "kind and listKind may not be the same";
            errors.invalid(&path.child("listKind"), name("listKind"), why);
        }
        for (i, given) in list(names, &[field]).iter().filter_map(Value::as_str).enumerate() {
            label(given, &path.child(field).index(i), errors);
        }
    }
}

/// Whether a group is the project's own.
pub fn is_protected(group: &str) -> bool {
    ["k8s.io", "kubernetes.io"]
        .iter()
        .any(|own| group == *own || group.strip_suffix(own).is_some_and(|rest| rest.ends_with('.')))
}

/// What a definition says of its approval: whether there is one, and why (not).
pub fn approval_state(definition: &Value) -> Result<String, (bool, String)> {
    let said = text(definition, &["metadata", "annotations", APPROVED]);
    if said.is_empty() {
        return Err((true, format!("protected groups must have approval annotation \"{APPROVED}\", {SEE}")));
    }
    if said.starts_with("unapproved") {
        return Ok(format!("not approved: {}", crate::api::invalid::go_quote(said)));
    }
    let url = said
        .split_once("://")
        .is_some_and(|(scheme, rest)| !scheme.is_empty() && !rest.trim_matches('/').is_empty());
    if url {
        return Ok(format!("approved in {said}"));
    }
    Err((
        false,
        format!(
            "protected groups must have approval annotation \"{APPROVED}\" with either a URL or a reason starting with \
             \"unapproved\", {SEE}"
        ),
    ))
}

/// Checks that a protected group is used with approval.
pub fn approval(definition: &Value, group: &str, errors: &mut Errors) {
    if !is_protected(group) {
        return;
    }
    let path = Path::new("metadata.annotations").key(APPROVED);
    match approval_state(definition) {
        Ok(_) => {}
        Err((true, why)) => errors.required(&path, &why),
        Err((false, why)) => {
            errors.invalid(&path, text(definition, &["metadata", "annotations", APPROVED]), why);
        }
    }
}
