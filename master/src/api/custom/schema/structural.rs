//! Which schemas are accepted: those whose structure says of every field what it is, so that pruning and
//! defaulting are well defined.

use serde_json::{Value, json};

use super::{Additional, Schema, defaults, pattern_error, prune, validate};
use crate::api::invalid::{Errors, Path};
use crate::api::object::{list, text};

const TYPES: [&str; 6] = ["array", "boolean", "integer", "number", "object", "string"];
/// Where in a schema a part of it stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Root,
    Item,
    Field,
}

/// Checks the root schema of a kind, without its rules; returns whether it is structural.
pub fn validate_root(value: &Value, status: bool, path: &Path, errors: &mut Errors) -> bool {
    let before = errors.len();
    if status {
        let ty = text(value, &["type"]);
        if ty != "object" {
            errors.invalid(
                &path.child("type"),
                ty,
                "only \"object\" is allowed as the type at the root of the schema if the status subresource is enabled",
            );
        }
    }
    if value["nullable"] == true {
        errors.forbidden(&path.child("nullable"), "nullable cannot be true at the root");
    }
    structure(value, Level::Root, path, errors);
    completeness(value, path, errors);
    let structural = errors.len() == before;
    if structural {
        let schema = Schema::parse(value);
        check_defaults(&schema, true, path, errors);
    }
    openapi(value, path, true, errors);
    structural && errors.len() == before
}

/// What the structure of a schema must be like.
fn structure(s: &Value, level: Level, path: &Path, errors: &mut Errors) {
    if s["items"].is_object() {
        structure(&s["items"], Level::Item, &path.child("items"), errors);
    }
    for (name, inner) in s["properties"].as_object().into_iter().flatten() {
        structure(inner, Level::Field, &path.child("properties").key(name), errors);
    }
    if s["additionalProperties"].is_object() {
        structure(&s["additionalProperties"], Level::Field, &path.child("additionalProperties"), errors);
    }
    let flag = |name: &str| s[format!("x-kubernetes-{name}")] == true;
    let (embedded, preserve, int_or_string) =
        (flag("embedded-resource"), flag("preserve-unknown-fields"), flag("int-or-string"));
    let extension = |name: &str| path.child(&format!("x-kubernetes-{name}"));
    if int_or_string && preserve {
        errors.invalid(
            &extension("preserve-unknown-fields"),
            true,
            "must be false if x-kubernetes-int-or-string is true",
        );
    }
    if int_or_string && embedded {
        errors.invalid(
            &extension("embedded-resource"),
            true,
            "must be false if x-kubernetes-int-or-string is true",
        );
    }
    let properties = s["properties"].as_object();
    if embedded && !preserve && properties.is_none_or(serde_json::Map::is_empty) {
        errors.required(
            &path.child("properties"),
            "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields",
        );
    }
    nested_all(s, int_or_string, path, errors);
    let ty = text(s, &["type"]);
    let at = path.child("type");
    if embedded && ty != "object" {
        let why = "must be object if x-kubernetes-embedded-resource is true";
        if ty.is_empty() {
            errors.required(&at, why);
        } else {
            errors.invalid(&at, ty, why);
        }
    } else if ty.is_empty() && !int_or_string && !preserve {
        errors.required(
            &at,
            match level {
                Level::Root => "must not be empty at the root",
                Level::Item => "must not be empty for specified array items",
                Level::Field => "must not be empty for specified object fields",
            },
        );
    }
    if embedded && !s["additionalProperties"].is_null() {
        errors.forbidden(
            &path.child("additionalProperties"),
            "must not be used if x-kubernetes-embedded-resource is set",
        );
    }
    if level == Level::Root && !ty.is_empty() && ty != "object" {
        errors.invalid(&at, ty, "must be object at the root");
    }
    if level == Level::Root || embedded {
        for name in ["kind", "apiVersion"] {
            let inner = &s["properties"][name];
            if inner.is_object() && text(inner, &["type"]) != "string" {
                let at = path.child("properties").key(name).child("type");
                errors.invalid(&at, text(inner, &["type"]), "must be string");
            }
        }
        metadata(&s["properties"]["metadata"], level, &path.child("properties").key("metadata"), errors);
    }
}

fn metadata(s: &Value, level: Level, path: &Path, errors: &mut Errors) {
    if !s.is_object() {
        return;
    }
    if text(s, &["type"]) != "object" {
        errors.invalid(&path.child("type"), text(s, &["type"]), "must be object");
    }
    if level != Level::Root {
        return;
    }
    let mut rest = s.as_object().cloned().unwrap_or_default();
    for name in ["type", "default", "description"] {
        rest.remove(name);
    }
    if let Some(properties) = rest.get_mut("properties").and_then(Value::as_object_mut) {
        properties.remove("name");
        properties.remove("generateName");
        if properties.is_empty() {
            rest.remove("properties");
        }
    }
    if !rest.is_empty() {
        errors.forbidden(
            path,
            "must not specify anything other than name and generateName, but metadata is implicitly specified",
        );
    }
}

const JUNCTORS: [&str; 3] = ["allOf", "anyOf", "oneOf"];

/// The schemas that only add conditions to a schema, with their paths.
fn nested<'a>(s: &'a Value, path: &Path) -> Vec<(Path, &'a Value)> {
    let mut all = Vec::new();
    for name in JUNCTORS {
        for (i, inner) in list(s, &[name]).iter().enumerate() {
            all.push((path.child(name).index(i), inner));
        }
    }
    if s["not"].is_object() {
        all.push((path.child("not"), &s["not"]));
    }
    all
}

/// Whether alternatives are just the two types that an int-or-string has.
fn is_two_types(any_of: &[Value]) -> bool {
    let only = |value: &Value, ty: &str| *value == json!({"type": ty});
    matches!(any_of, [a, b] if only(a, "integer") && only(b, "string"))
}

/// Conditions may not say what structure says.
fn nested_all(s: &Value, int_or_string: bool, path: &Path, errors: &mut Errors) {
    let skip_any = int_or_string && is_two_types(list(s, &["anyOf"]));
    let first = list(s, &["allOf"]).first();
    let skip_first = int_or_string && first.is_some_and(|f| is_two_types(list(f, &["anyOf"])));
    let any_of = list(s, &["anyOf"]).as_ptr_range();
    for (at, inner) in nested(s, path) {
        let skipped = (skip_any && any_of.contains(&std::ptr::from_ref(inner)))
            || (skip_first && first.is_some_and(|f| std::ptr::eq(f, inner)));
        if !skipped {
            condition(inner, &at, errors);
        }
    }
}

fn condition(s: &Value, path: &Path, errors: &mut Errors) {
    for (at, inner) in nested(s, path) {
        condition(inner, &at, errors);
    }
    if s["items"].is_object() {
        condition(&s["items"], &path.child("items"), errors);
    }
    for (name, inner) in s["properties"].as_object().into_iter().flatten() {
        condition(inner, &path.child("properties").key(name), errors);
    }
    if !text(s, &["type"]).is_empty() {
        errors.forbidden(&path.child("type"), "must be empty to be structural");
    }
    if !s["additionalProperties"].is_null() {
        errors.forbidden(&path.child("additionalProperties"), "must be undefined to be structural");
    }
    if !s["default"].is_null() {
        errors.forbidden(&path.child("default"), "must be undefined to be structural");
    }
    for name in ["title", "description"] {
        if !text(s, &[name]).is_empty() {
            errors.forbidden(&path.child(name), "must be empty to be structural");
        }
    }
    for name in [
        "nullable",
        "x-kubernetes-preserve-unknown-fields",
        "x-kubernetes-embedded-resource",
        "x-kubernetes-int-or-string",
    ] {
        if s[name] == true {
            errors.forbidden(&path.child(name), "must be false to be structural");
        }
    }
    for name in ["x-kubernetes-list-map-keys", "x-kubernetes-list-type", "x-kubernetes-map-type"] {
        if !s[name].is_null() {
            errors.forbidden(&path.child(name), "must be undefined to be structural");
        }
    }
    if s["properties"]["metadata"].is_object() {
        errors.forbidden(
            &path.child("properties").key("metadata"),
            "must not be specified in a nested context",
        );
    }
}

/// What conditions mention must be there in the structure.
fn completeness(s: &Value, path: &Path, errors: &mut Errors) {
    for (at, inner) in nested(s, path) {
        complete(inner, s, &at, path, errors);
    }
    if s["items"].is_object() {
        completeness(&s["items"], &path.child("items"), errors);
    }
    for (name, inner) in s["properties"].as_object().into_iter().flatten() {
        completeness(inner, &path.child("properties").key(name), errors);
    }
    if s["additionalProperties"].is_object() {
        completeness(&s["additionalProperties"], &path.child("additionalProperties"), errors);
    }
}

fn complete(condition: &Value, structure: &Value, path: &Path, at: &Path, errors: &mut Errors) {
    for (inner_path, inner) in nested(condition, path) {
        complete(inner, structure, &inner_path, at, errors);
    }
    if condition["items"].is_object() {
        let (path, at) = (path.child("items"), at.child("items"));
        if structure["items"].is_object() {
            complete(&condition["items"], &structure["items"], &path, &at, errors);
        } else {
            errors.required(&at, &format!("because it is defined in {path}"));
        }
    }
    for (name, inner) in condition["properties"].as_object().into_iter().flatten() {
        let (path, at) = (path.child("properties").key(name), at.child("properties").key(name));
        if structure["properties"][name.as_str()].is_object() {
            complete(inner, &structure["properties"][name.as_str()], &path, &at, errors);
        } else if structure["additionalProperties"].is_object() {
            complete(inner, &structure["additionalProperties"], &path, &at, errors);
        } else {
            errors.required(&at, &format!("because it is defined in {path}"));
        }
    }
}

/// Defaults must be what the schema allows.
fn check_defaults(s: &Schema, root: bool, path: &Path, errors: &mut Errors) {
    if let Some(default) = &s.default {
        let at = path.child("default");
        let mut pruned = default.clone();
        prune::prune(&mut pruned, s, root || s.embedded);
        if pruned != *default {
            errors.invalid(&at, default.clone(), "must not have unknown fields");
        } else {
            let before = errors.len();
            let schema = Schema { embedded: root || s.embedded, ..s.clone() };
            validate::embedded(default, &schema, &at, errors);
            if errors.len() == before {
                let mut complete = default.clone();
                defaults::apply(&mut complete, s);
                validate::validate(&complete, None, s, &at, errors);
            }
        }
    }
    if let Some(items) = &s.items {
        check_defaults(items, false, &path.child("items"), errors);
    }
    for (name, inner) in &s.properties {
        check_defaults(inner, false, &path.child("properties").key(name), errors);
    }
    if let Additional::Schema(inner) = &s.additional {
        check_defaults(inner, false, &path.child("additionalProperties"), errors);
    }
}

/// What holds for every part of a schema, conditions included.
fn openapi(s: &Value, path: &Path, root: bool, errors: &mut Errors) {
    for name in ["id", "additionalItems", "patternProperties", "definitions", "dependencies", "$ref"] {
        let set = match &s[name] {
            Value::Null => false,
            Value::String(text) => !text.is_empty(),
            Value::Object(map) => !map.is_empty() || name == "additionalItems",
            _ => true,
        };
        if set {
            errors.forbidden(&path.child(name), format!("{name} is not supported"));
        }
    }
    let ty = text(s, &["type"]);
    if ty == "null" {
        errors.forbidden(&path.child("type"), "type cannot be set to null, use nullable as an alternative");
    } else if !ty.is_empty() && !TYPES.contains(&ty) {
        errors.unsupported(&path.child("type"), ty, &TYPES);
    }
    if s["items"].is_array() {
        errors.forbidden(&path.child("items"), "items must be a schema object and not an array");
    }
    if let Some(error) = s["pattern"].as_str().and_then(pattern_error) {
        let why = format!("must be a valid regular expression, but isn't: {error}");
        errors.invalid(&path.child("pattern"), s["pattern"].clone(), why);
    }
    if s["uniqueItems"] == true {
        errors.forbidden(
            &path.child("uniqueItems"),
            "uniqueItems cannot be set to true since the runtime complexity becomes quadratic",
        );
    }
    let additional = &s["additionalProperties"];
    let at = path.child("additionalProperties");
    if !additional.is_null()
        && s["properties"].as_object().is_some_and(|p| !p.is_empty())
        && *additional != true
    {
        errors.forbidden(&at, "additionalProperties and properties are mutual exclusive");
    }
    if *additional == false {
        errors.forbidden(&at, "additionalProperties cannot be set to false");
    }
    if root && !additional.is_null() {
        errors.forbidden(&at, "additionalProperties cannot be used at the root");
    }
    if additional.is_object() {
        openapi(additional, &at, false, errors);
    }
    for (name, inner) in s["properties"].as_object().into_iter().flatten() {
        openapi(inner, &path.child("properties").key(name), false, errors);
    }
    for (at, inner) in nested(s, path) {
        openapi(inner, &at, false, errors);
    }
    if s["items"].is_object() {
        openapi(&s["items"], &path.child("items"), false, errors);
    }
    if s["x-kubernetes-preserve-unknown-fields"] == false {
        let at = path.child("x-kubernetes-preserve-unknown-fields");
        errors.invalid(&at, false, "must be true or undefined");
    }
    collections(s, path, errors);
}

/// What is said about lists and maps.
fn collections(s: &Value, path: &Path, errors: &mut Errors) {
    let ty = text(s, &["type"]);
    let must_be = |wanted: &str, extension: &str, errors: &mut Errors| {
        let why = format!("must be {wanted} if {extension} is specified");
        if ty.is_empty() {
            errors.required(&path.child("type"), &why);
        } else {
            errors.invalid(&path.child("type"), ty, why);
        }
    };
    let (map_type, list_type) = (&s["x-kubernetes-map-type"], &s["x-kubernetes-list-type"]);
    let at = path.child("x-kubernetes-map-type");
    if let Some(map_type) = map_type.as_str() {
        if ty != "object" {
            must_be("object", "x-kubernetes-map-type", errors);
        }
        if !["atomic", "granular"].contains(&map_type) {
            errors.unsupported(&at, map_type, &["atomic", "granular"]);
        }
    }
    let at = path.child("x-kubernetes-list-type");
    if let Some(list_type) = list_type.as_str() {
        if ty != "array" {
            must_be("array", "x-kubernetes-list-type", errors);
        } else if !["atomic", "set", "map"].contains(&list_type) {
            errors.unsupported(&at, list_type, &["atomic", "set", "map"]);
        }
    }
    let keys = list(s, &["x-kubernetes-list-map-keys"]);
    if !keys.is_empty() {
        let why = "must be map if x-kubernetes-list-map-keys is non-empty";
        match list_type.as_str() {
            None => errors.required(&at, why),
            Some("map") => {}
            Some(other) => errors.invalid(&at, other, why),
        }
    }
    match list_type.as_str() {
        Some("map") => map_list(s, keys, path, errors),
        Some("set") => set_list(&s["items"], &path.child("items"), errors),
        _ => {}
    }
}

fn map_list(s: &Value, keys: &[Value], path: &Path, errors: &mut Errors) {
    let (at, items, items_path) =
        (path.child("x-kubernetes-list-map-keys"), &s["items"], path.child("items"));
    if keys.is_empty() {
        errors.required(&at, "must not be empty if x-kubernetes-list-type is map");
    }
    if !items.is_object() {
        errors.required(&items_path, "must have a schema if x-kubernetes-list-type is map");
        return;
    }
    if text(items, &["type"]) != "object" {
        let why = "must be object if parent array's x-kubernetes-list-type is map";
        errors.invalid(&items_path.child("type"), text(items, &["type"]), why);
    }
    if keys.iter().enumerate().any(|(i, k)| keys[..i].contains(k)) {
        errors.invalid(&at, json!(keys), "must not contain duplicate entries");
    }
    for key in keys.iter().filter_map(Value::as_str) {
        let property = &items["properties"][key];
        let property_path = items_path.child("properties").key(key);
        if !property.is_object() {
            errors.invalid(&at, json!(keys), "entries must all be names of item properties");
            continue;
        }
        if ["array", "object"].contains(&text(property, &["type"])) {
            let why = "must be a scalar type if parent array's x-kubernetes-list-type is map";
            errors.invalid(&property_path.child("type"), text(property, &["type"]), why);
        }
        let required = list(items, &["required"]).iter().any(|r| r == key);
        if property["default"].is_null() && !required {
            errors.required(
                &property_path.child("default"),
                "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property",
            );
        }
        if property["nullable"] == true {
            let why = "this property is in x-kubernetes-list-map-keys, so it cannot be nullable";
            errors.forbidden(&property_path.child("nullable"), why);
        }
    }
}

fn set_list(items: &Value, path: &Path, errors: &mut Errors) {
    let why = "must be atomic as item of a list with x-kubernetes-list-type=set";
    for (ty, extension) in [("object", "x-kubernetes-map-type"), ("array", "x-kubernetes-list-type")] {
        // An array is atomic unless it says otherwise; an object is not.
        let said = items[extension].as_str().or((ty == "array").then_some("atomic"));
        if text(items, &["type"]) == ty && said != Some("atomic") {
            errors.invalid(&path.child(extension), items[extension].clone(), why);
        }
    }
    if items["nullable"] == true {
        errors.forbidden(&path.child("nullable"), "cannot be nullable when x-kubernetes-list-type is set");
    }
}
