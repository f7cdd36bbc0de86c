//! Objects within objects, which have apiVersion, kind and metadata of their own.

use serde_json::Value;

use super::{Additional, Schema};
use crate::api::invalid::{Errors, Path};
use crate::api::managed::entries;
use crate::api::meta::{self, NameRule, name_errors};
use crate::api::object::text;

/// Reads the heads of the objects within an object: what they say of themselves must be of the types that it has in
/// any object. What is not ends the reading of the whole.
pub fn read(value: &mut Value, schema: &Schema, path: &Path) -> Result<(), String> {
    read_parts(value, schema, path).map_err(|errors| errors.messages().join(", "))
}

/// The same, with what is wrong as it is told of a definition.
pub fn read_parts(value: &mut Value, schema: &Schema, path: &Path) -> Result<(), Errors> {
    if schema.embedded && value.is_object() {
        read_head(value, path)?;
    }
    match value {
        Value::Array(items) => {
            let Some(of) = &schema.items else { return Ok(()) };
            items.iter_mut().enumerate().try_for_each(|(i, item)| read_parts(item, of, &path.index(i)))
        }
        Value::Object(map) => map.iter_mut().try_for_each(|(name, inner)| {
            match (schema.properties.get(name), &schema.additional) {
                (Some(of), _) => read_parts(inner, of, &path.child(name)),
                (None, Additional::Schema(of)) => read_parts(inner, of, &path.key(name)),
                _ => Ok(()),
            }
        }),
        _ => Ok(()),
    }
}

/// Reads the heads of the objects within the defaults of a schema. What cannot be read is left to whoever tells so.
pub fn read_defaults(schema: &mut Value) {
    if schema.get("default").is_some_and(|default| default.is_object() || default.is_array()) {
        let parsed = Schema::parse(schema);
        let mut default = schema["default"].clone();
        if read_parts(&mut default, &parsed, &Path::default()).is_ok() {
            schema["default"] = default;
        }
    }
    if let Some(items) = schema.get_mut("items").filter(|items| items.is_object()) {
        read_defaults(items);
    }
    let properties = schema.get_mut("properties").and_then(Value::as_object_mut);
    properties.into_iter().flat_map(|properties| properties.values_mut()).for_each(read_defaults);
}

fn read_head(value: &mut Value, path: &Path) -> Result<(), Errors> {
    let wrong = |name: &str, said: &Value, why: &str| {
        let mut errors = Errors::default();
        errors.invalid(&path.child(name), said.clone(), why);
        errors
    };
    for name in ["apiVersion", "kind"] {
        if let Some(said) = value.get(name).filter(|said| !said.is_string()) {
            return Err(wrong(name, said, "must be a string"));
        }
    }
    let Some(metadata) = value.get_mut("metadata") else { return Ok(()) };
    if metadata.is_null() {
        *metadata = Value::Object(Default::default());
    }
    if !metadata.is_object() {
        let why = protocol::go::cannot_unmarshal(metadata, "v1.ObjectMeta");
        return Err(wrong("metadata", metadata, &why));
    }
    let Some(definition) = protocol::schema::definition("m.ObjectMeta") else { return Ok(()) };
    let given = metadata.clone();
    protocol::schema::decode_in(definition, metadata).map_err(|why| wrong("metadata", &given, &why))?;
    Ok(())
}

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
        let at = path.child("metadata");
        meta::validate(&given, namespaced, NameRule::PathSegment, true, &at, errors);
        entries::validate(&given, &at, errors);
    }
}
