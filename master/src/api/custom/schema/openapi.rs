//! What holds for every part of a declared schema, conditions included, and the acceptance of its rules.

use serde_json::{Value, json};

use super::{Additional, Schema};
use crate::api::custom::rules::acceptance::{self, Costs, Place};
use crate::api::invalid::{Errors, Path};
use crate::api::object::{list, text};

const TYPES: [&str; 6] = ["array", "boolean", "integer", "number", "object", "string"];
/// What every object has.
const META: [&str; 3] = ["metadata", "kind", "apiVersion"];

/// What is wrong with a part of a schema and below it. Rules are compiled only where the schema is good.
#[derive(Default)]
struct Found {
    schema: Errors,
    rules: Errors,
}

impl Found {
    fn append(&mut self, other: Found) {
        self.schema.append(other.schema);
        self.rules.append(other.rules);
    }
}

/// What a part of a schema inherits from what it is within.
#[derive(Clone, Default)]
struct Within {
    /// Why there may be no defaults.
    no_defaults: Option<String>,
    /// It describes an object's own metadata.
    meta: bool,
    /// The list around it whose entries have no identity.
    loose: Option<Path>,
}

/// Checks a root schema; with `parsed`, which is structural, its rules too.
pub fn validate_root(value: &Value, parsed: Option<&Schema>, path: &Path, errors: &mut Errors) {
    let mut costs = Costs::default();
    let place = parsed.map(|schema| Place { schema, many: Some(1), resource: true });
    let found = part(value, place, &Within::default(), true, path, &mut costs);
    errors.append(found.schema);
    errors.append(found.rules);
    if parsed.is_some() {
        costs.finish(path, errors);
    }
}

/// Calls a function for a schema and each schema in it.
pub fn each_part(schema: &Value, visit: &mut impl FnMut(&Value)) {
    if !schema.is_object() {
        return;
    }
    visit(schema);
    let lists = ["items", "allOf", "anyOf", "oneOf"];
    let maps = ["properties", "patternProperties", "definitions", "dependencies"];
    for inner in ["items", "not", "additionalProperties", "additionalItems"].map(|name| &schema[name]) {
        each_part(inner, visit);
    }
    let listed = lists.iter().flat_map(|name| list(schema, &[name]));
    let mapped = maps.iter().filter_map(|name| schema[*name].as_object()).flat_map(|map| map.values());
    for inner in listed.chain(mapped) {
        each_part(inner, visit);
    }
}

/// Whether a field that is not supported says anything.
pub fn is_set(value: &Value, name: &str) -> bool {
    match value {
        Value::Null => false,
        Value::String(text) => !text.is_empty() || name == "$ref",
        Value::Object(map) => !map.is_empty() || ["additionalItems", "dependencies"].contains(&name),
        _ => true,
    }
}

fn part(
    s: &Value,
    place: Option<Place<'_>>,
    within: &Within,
    root: bool,
    path: &Path,
    costs: &mut Costs,
) -> Found {
    let mut found = Found::default();
    standard(s, within, path, &mut found.schema);
    if s["uniqueItems"] == true {
        let why = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
        found.schema.forbidden(&path.child("uniqueItems"), why);
    }
    let additional = &s["additionalProperties"];
    let at = path.child("additionalProperties");
    let properties = s["properties"].as_object();
    if !additional.is_null() && properties.is_some_and(|p| !p.is_empty()) && *additional != true {
        found.schema.forbidden(&at, "additionalProperties and properties are mutual exclusive");
    }
    if additional.is_object() {
        let inner = place.and_then(|place| match &place.schema.additional {
            Additional::Schema(of) => Some(place.below(of)),
            _ => None,
        });
        let mut below = within.clone();
        if within.meta {
            below.no_defaults = Some("inside additionalProperties applying to object metadata".to_owned());
        }
        found.append(part(additional, inner, &below, false, &at, costs));
    }
    for (name, inner) in properties.into_iter().flatten() {
        let mut below = within.clone();
        if !s["x-kubernetes-map-type"].as_str().is_none_or(|ty| ["granular", "atomic"].contains(&ty)) {
            below.loose.get_or_insert_with(|| path.clone());
        }
        if (root || s["x-kubernetes-embedded-resource"] == true) && META.contains(&name.as_str()) {
            below.meta = true;
            if root {
                below.no_defaults = Some(format!("in top-level {name}"));
            }
        }
        let of = place.and_then(|place| Some(place.below(place.schema.properties.get(name)?)));
        found.append(part(inner, of, &below, false, &path.child("properties").key(name), costs));
    }
    if s["not"].is_object() {
        found.append(part(&s["not"], None, within, false, &path.child("not"), costs));
    }
    for junctor in ["allOf", "oneOf", "anyOf"] {
        for (i, inner) in list(s, &[junctor]).iter().enumerate() {
            found.append(part(inner, None, within, false, &path.child(junctor).index(i), costs));
        }
    }
    // What is not supported is looked into nevertheless.
    let named = |name: &'static str, costs: &mut Costs, found: &mut Found| {
        for (key, inner) in s[name].as_object().into_iter().flatten().filter(|(_, inner)| inner.is_object()) {
            found.append(part(inner, None, within, false, &path.child(name).key(key), costs));
        }
    };
    named("definitions", costs, &mut found);
    let mut entries = within.clone();
    if s["x-kubernetes-list-type"] != "map" {
        entries.loose.get_or_insert_with(|| path.clone());
    }
    let at = path.child("items");
    if s["items"].is_object() {
        let of = place.and_then(|place| Some(place.below(place.schema.items.as_deref()?)));
        found.append(part(&s["items"], of, &entries, false, &at, costs));
    }
    for (i, inner) in list(s, &["items"]).iter().enumerate() {
        found.append(part(inner, None, &entries, false, &at.index(i), costs));
    }
    named("dependencies", costs, &mut found);
    if s["x-kubernetes-preserve-unknown-fields"] == false {
        let at = path.child("x-kubernetes-preserve-unknown-fields");
        found.schema.invalid(&at, false, "must be true or undefined");
    }
    collections(s, path, &mut found.schema);
    rules(s, place, within, path, &mut found, costs);
    found
}

fn rules(
    s: &Value,
    place: Option<Place<'_>>,
    within: &Within,
    path: &Path,
    found: &mut Found,
    costs: &mut Costs,
) {
    let declared = Schema::parse(&json!({"x-kubernetes-validations": s["x-kubernetes-validations"]}));
    let at = path.child("x-kubernetes-validations");
    for (i, rule) in declared.rules.iter().enumerate() {
        acceptance::words(rule, s, &at.index(i), &mut found.schema);
    }
    if let Some(place) = place.filter(|_| found.schema.is_empty()) {
        acceptance::compile(place, within.loose.as_ref(), &at, &mut found.rules, costs);
    }
}

/// What holds whatever a schema is for.
fn standard(s: &Value, within: &Within, path: &Path, errors: &mut Errors) {
    let ty = text(s, &["type"]);
    let at = path.child("type");
    if !ty.is_empty() && !TYPES.contains(&ty) {
        errors.unsupported(&at, ty, &TYPES);
    }
    if let Some(why) = within.no_defaults.as_ref().filter(|_| !s["default"].is_null()) {
        errors.forbidden(&path.child("default"), format!("must not be set {why}"));
    }
    for name in ["id", "additionalItems", "patternProperties", "definitions", "dependencies", "$ref"] {
        if is_set(&s[name], name) {
            errors.forbidden(&path.child(name), format!("{name} is not supported"));
        }
    }
    if ty == "null" {
        errors.forbidden(&at, "type cannot be set to null, use nullable as an alternative");
    }
    if s["items"].as_array().is_some_and(|items| !items.is_empty()) {
        errors.forbidden(&path.child("items"), "items must be a schema object and not an array");
    }
    if within.meta && s["x-kubernetes-embedded-resource"] == true {
        let at = path.child("x-kubernetes-embedded-resource");
        errors.forbidden(&at, "must not be used inside of resource meta");
    }
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
        } else if list_type == "set" {
            set_list(&s["items"], &path.child("items"), errors);
        }
        if !["atomic", "set", "map"].contains(&list_type) {
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
    if list_type == "map" {
        map_list(s, keys, path, errors);
    }
    entries(s, keys, &path.child("items"), errors);
}

fn map_list(s: &Value, keys: &[Value], path: &Path, errors: &mut Errors) {
    let (at, items, items_path) =
        (path.child("x-kubernetes-list-map-keys"), &s["items"], path.child("items"));
    if keys.is_empty() {
        errors.required(&at, "must not be empty if x-kubernetes-list-type is map");
    }
    if items.is_null() {
        errors.required(&items_path, "must have a schema if x-kubernetes-list-type is map");
    }
    if !items.is_object() {
        return;
    }
    if text(items, &["type"]) != "object" {
        let why = "must be object if parent array's x-kubernetes-list-type is map";
        errors.invalid(&items_path.child("type"), text(items, &["type"]), why);
        return;
    }
    for (i, key) in keys.iter().enumerate() {
        let property = &items["properties"][key.as_str().unwrap_or_default()];
        if !property.is_object() {
            errors.invalid(&at, json!(keys), "entries must all be names of item properties");
        } else if ["array", "object"].contains(&text(property, &["type"])) {
            let why = "must be a scalar type if parent array's x-kubernetes-list-type is map";
            let at = items_path.child("properties").key(key.as_str().unwrap_or_default()).child("type");
            errors.invalid(&at, text(items, &["type"]), why);
        }
        if keys[..i].contains(key) {
            errors.invalid(&at, json!(keys), "must not contain duplicate entries");
        }
    }
}

/// Entries with an identity must be there, and so must what identifies them.
fn entries(s: &Value, keys: &[Value], path: &Path, errors: &mut Errors) {
    let (items, list_type) = (&s["items"], text(s, &["x-kubernetes-list-type"]));
    if !items.is_object() || !["set", "map"].contains(&list_type) {
        return;
    }
    if items["nullable"] == true {
        let why = format!("cannot be nullable when x-kubernetes-list-type is {list_type}");
        errors.forbidden(&path.child("nullable"), why);
    }
    if list_type != "map" {
        return;
    }
    for key in keys.iter().filter_map(Value::as_str) {
        let property = &items["properties"][key];
        if !property.is_object() {
            continue;
        }
        let at = path.child("properties").key(key);
        let required = list(items, &["required"]).iter().any(|r| r == key);
        if property["default"].is_null() && !required {
            let why = "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required \
                       property";
            errors.required(&at.child("default"), why);
        }
        if property["nullable"] == true {
            let why = "this property is in x-kubernetes-list-map-keys, so it cannot be nullable";
            errors.forbidden(&at.child("nullable"), why);
        }
    }
}

fn set_list(items: &Value, path: &Path, errors: &mut Errors) {
    let why = "must be atomic as item of a list with x-kubernetes-list-type=set";
    for (ty, extension) in [("object", "x-kubernetes-map-type"), ("array", "x-kubernetes-list-type")] {
        // An array is atomic unless it says otherwise; an object is not.
        let said = items[extension].as_str().or((ty == "array").then_some("atomic"));
        if text(items, &["type"]) == ty && said != Some("atomic") {
            // Whatever it is about, what is shown is the type of list.
            errors.invalid(&path.child(extension), items["x-kubernetes-list-type"].clone(), why);
        }
    }
}
