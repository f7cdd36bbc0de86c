//! Objects within objects, which have apiVersion, kind and metadata of their own.

use serde_json::Value;

use super::{Additional, Schema};
use crate::api::invalid::{Errors, Path};
use crate::api::meta::{self, NameRule, name_errors};
use crate::api::object::text;

/// Checks what the objects within an object say of themselves.
pub fn validate(value: &Value, schema: &Schema, path: &Path, errors: &mut Errors) {
    if schema.embedded && value.is_object() {
        head(value, path, errors);
    }
    match value {
        Value::Array(items) => {
            if let Some(of) = &schema.items {
                items.iter().enumerate().for_each(|(i, item)| validate(item, of, &path.index(i), errors));
            }
        }
        Value::Object(map) => {
            for (name, inner) in map {
                match (schema.properties.get(name), &schema.additional) {
                    (Some(of), _) => validate(inner, of, &path.child(name), errors),
                    (None, Additional::Schema(of)) => validate(inner, of, &path.key(name), errors),
                    _ => {}
                }
            }
        }
        _ => {}
    }
}

fn wrong_version(said: &str) -> Option<String> {
    (said.matches('/').count() > 1).then(|| format!("unexpected GroupVersion string: {said}"))
}

fn wrong_kind(said: &str) -> Option<String> {
    let wrong = name_errors(NameRule::Label1035, &said.to_lowercase(), false);
    let why = || format!("may have mixed case, but should otherwise match: {}", wrong.join(","));
    (!wrong.is_empty()).then(why)
}

fn head(value: &Value, path: &Path, errors: &mut Errors) {
    for name in ["apiVersion", "kind"] {
        if value.get(name).is_none() {
            errors.required(&path.child(name), "");
        }
    }
    for name in ["apiVersion", "kind"] {
        let at = path.child(name);
        match value.get(name) {
            None => {}
            Some(Value::String(said)) if said.is_empty() => errors.invalid(&at, "", "must not be empty"),
            Some(Value::String(said)) => {
                let wrong = if name == "kind" { wrong_kind(said) } else { wrong_version(said) };
                if let Some(why) = wrong {
                    errors.invalid(&at, said.as_str(), why);
                }
            }
            Some(other) => errors.invalid(&at, other.clone(), "must be a string"),
        }
    }
    if let Some(given) = value.get("metadata").filter(|m| m.is_object()) {
        let mut given = given.clone();
        // A name need not be there, but if it is it must be one.
        if text(&given, &["name"]).is_empty() {
            given["name"] = "fakename".into();
        }
        let namespaced = !text(&given, &["namespace"]).is_empty();
        meta::validate(&given, namespaced, NameRule::PathSegment, false, &path.child("metadata"), errors);
    }
}
