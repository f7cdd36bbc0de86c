//! Which schemas are accepted: those whose structure says of every field what it is, so that pruning and
//! defaulting are well defined.

use serde_json::{Value, json};

use super::pattern::pattern_error;
use super::{Additional, Schema, embedded, openapi, prune, validate};
use crate::api::custom::definition::shown;
use crate::api::custom::rules::Compiled;
use crate::api::invalid::{Errors, Path};
use crate::api::object::{list, text};

/// Where in a schema a part of it stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Root,
    Item,
    Field,
}

/// Fields that the root schema may have while the status is written by itself, by their internal names.
const AT_ROOT: &str = "Description Type Format Title Maximum ExclusiveMaximum Minimum ExclusiveMinimum MaxLength \
                       MinLength Pattern MaxItems MinItems UniqueItems MultipleOf Required Items Properties \
                       ExternalDocs Example XPreserveUnknownFields XValidations";

/// Checks the root schema of a kind and its rules.
pub fn validate_root(value: &Value, status: bool, path: &Path, errors: &mut Errors) {
    let before = errors.len();
    if status {
        beside_status(value, path, errors);
    }
    if value["nullable"] == true {
        errors.forbidden(&path.child("nullable"), "nullable cannot be true at the root");
    }
    let unreadable = unreadable(value);
    let schema = Schema::parse(value);
    let mut rules = false;
    if unreadable.is_none() {
        let mut found = Errors::default();
        structure(value, Level::Root, path, &mut found);
        completeness(value, path, &mut found);
        found.sort();
        if found.is_empty() {
            check_defaults(&schema, true, path, &mut found);
            rules = found.is_empty();
        }
        errors.append(found);
    }
    openapi::validate_root(value, rules.then_some(&schema), path, errors);
    if let Some(why) = unreadable.filter(|_| errors.len() == before) {
        errors.invalid(path, "", why);
    }
}

/// The status has a schema of its own then, taken out of this one; what would not be taken along may not be there.
fn beside_status(value: &Value, path: &Path, errors: &mut Errors) {
    for name in shown::set_fields(value) {
        if name == "Type" {
            let ty = text(value, &["type"]);
            if ty != "object" {
                let why = "only \"object\" is allowed as the type at the root of the schema if the status subresource \
                           is enabled";
                errors.invalid(&path.child("type"), ty, why);
                return;
            }
        } else if !AT_ROOT.split(' ').any(|allowed| allowed == name) {
            let why = format!(
                "only [{AT_ROOT}] fields are allowed at the root of the schema if the status subresource is enabled"
            );
            errors.invalid_shown(path, &shown::schema(value).compact(), why);
            return;
        }
    }
}

/// Why a schema cannot even be read as a structural one.
pub fn unreadable(s: &Value) -> Option<String> {
    let unsupported =
        ["id", "schema", "$ref", "patternProperties", "dependencies", "additionalItems", "definitions"];
    let named = |name: &str| if name == "schema" { "$schema".to_owned() } else { name.to_owned() };
    if let Some(name) = unsupported.iter().find(|name| openapi::is_set(&s[named(name)], name)) {
        return Some(format!("OpenAPIV3Schema '{name}' is not supported"));
    }
    let below = |name: &str| list(s, &[name]).iter().find_map(unreadable);
    let one = |name: &str| Some(&s[name]).filter(|v| v.is_object()).and_then(unreadable);
    one("not").or_else(|| JUNCTORS.iter().find_map(|name| below(name))).or_else(|| {
        if s["x-kubernetes-preserve-unknown-fields"] == false {
            let why = "internal error: 'x-kubernetes-preserve-unknown-fields' must be true or undefined";
            return Some(why.to_owned());
        }
        if s["items"].as_array().is_some_and(|items| !items.is_empty()) {
            return Some("OpenAPIV3Schema 'items' must be a schema, but is an array".to_owned());
        }
        let properties = s["properties"].as_object().into_iter().flatten();
        one("items")
            .or_else(|| properties.map(|(_, inner)| inner).find_map(unreadable))
            .or_else(|| one("additionalProperties"))
    })
}

/// What the structure of a schema must be like.
fn structure(s: &Value, level: Level, path: &Path, errors: &mut Errors) {
    if text(s, &["type"]) == "array" && !s["items"].is_object() {
        errors.required(&path.child("items"), "must be specified");
    }
    if !s["additionalProperties"].is_null() && level == Level::Root {
        errors.forbidden(&path.child("additionalProperties"), "must not be used at the root");
    }
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
    nested_all(s, path, errors);
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
    patterns(s, path, errors);
}

/// A pattern must be one.
fn patterns(s: &Value, path: &Path, errors: &mut Errors) {
    if let Some(error) = s["pattern"].as_str().filter(|p| !p.is_empty()).and_then(pattern_error) {
        let why = format!("must be a valid regular expression, but isn't: {error}");
        errors.invalid(&path.child("pattern"), s["pattern"].clone(), why);
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
fn nested_all(s: &Value, path: &Path, errors: &mut Errors) {
    let first = list(s, &["allOf"]).first();
    let skip_first = first.is_some_and(|f| is_two_types(list(f, &["anyOf"])));
    conditions(s, is_two_types(list(s, &["anyOf"])), skip_first, path, errors);
}

/// Checks what a schema says in addition; what is skipped is the one way to say that a field has two types.
fn conditions(s: &Value, skip_any: bool, skip_first: bool, path: &Path, errors: &mut Errors) {
    let any_of = list(s, &["anyOf"]).as_ptr_range();
    let first = list(s, &["allOf"]).first();
    for (at, inner) in nested(s, path) {
        if skip_any && any_of.contains(&std::ptr::from_ref(inner)) {
            continue;
        }
        let skip = skip_first && first.is_some_and(|f| std::ptr::eq(f, inner));
        condition(inner, skip, &at, errors);
    }
}

fn condition(s: &Value, skip_any: bool, path: &Path, errors: &mut Errors) {
    conditions(s, skip_any, false, path, errors);
    patterns(s, path, errors);
    if s["items"].is_object() {
        condition(&s["items"], false, &path.child("items"), errors);
    }
    for (name, inner) in s["properties"].as_object().into_iter().flatten() {
        condition(inner, false, &path.child("properties").key(name), errors);
    }
    if !text(s, &["type"]).is_empty() {
        errors.forbidden(&path.child("type"), "must be empty to be structural");
    }
    if s["additionalProperties"].is_object() || s["additionalProperties"] == true {
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
    for name in ["x-kubernetes-list-map-keys", "x-kubernetes-validations"] {
        if !list(s, &[name]).is_empty() {
            errors.forbidden(&path.child(name), "must be empty to be structural");
        }
    }
    for name in ["x-kubernetes-list-type", "x-kubernetes-map-type"] {
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
        } else {
            errors.required(&at, &format!("because it is defined in {path}"));
        }
    }
}

/// A schema as defaults are held against it: what is an integer or a text may be anything there.
fn untyped(schema: &Schema) -> Schema {
    let mut made = schema.clone();
    made.int_or_string = false;
    made.properties.values_mut().for_each(|inner| *inner = untyped(inner));
    if let Some(items) = &mut made.items {
        **items = untyped(items);
    }
    if let Additional::Schema(inner) = &mut made.additional {
        **inner = untyped(inner);
    }
    made
}

/// Defaults must be what the schema allows.
fn check_defaults(s: &Schema, resource: bool, path: &Path, errors: &mut Errors) {
    if let Some(default) = &s.default {
        let at = path.child("default");
        match embedded::read_parts(&mut default.clone(), s, &at) {
            Ok(()) => check_default(default, s, resource || s.embedded, &at, errors),
            Err(unread) => errors.append(unread),
        }
    }
    // Below additional properties there are no defaults.
    if let Some(items) = &s.items {
        check_defaults(items, false, &path.child("items"), errors);
    }
    // Metadata of an object has no default at all, which is told elsewhere.
    let own = s.properties.iter().filter(|(name, _)| !(resource && *name == "metadata"));
    for (name, inner) in own {
        check_defaults(inner, false, &path.child("properties").key(name), errors);
    }
}

/// Checks a default, of a whole object where it is `resource`.
fn check_default(default: &Value, s: &Schema, resource: bool, at: &Path, errors: &mut Errors) {
    let mut pruned = default.clone();
    prune::prune(&mut pruned, s, resource);
    if pruned != *default {
        errors.invalid(at, default.clone(), "must not have unknown fields");
    }
    let mut found = Errors::default();
    embedded::validate(default, &Schema { embedded: resource, ..s.clone() }, at, &mut found);
    if found.is_empty() {
        let mut inside = Errors::default();
        validate::validate(default, None, &untyped(s), &Path::default(), &mut inside);
        found.append(inside.within(at));
    }
    if found.is_empty() {
        Compiled::of(s, resource).check_default(default, s, at, &mut found);
    }
    errors.append(found);
}
