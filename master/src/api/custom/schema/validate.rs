//! Validation of objects by a schema, with upstream's words.

use serde_json::Value;

use super::{Additional, Schema, formats};
use crate::api::invalid::{Errors, Path, go_quote, shown};

/// Checks a value. `old` is the value that stood at the same place before the write: where an update did not
/// change a part, what is wrong with that part is not held against it.
pub fn validate(value: &Value, old: Option<&Value>, schema: &Schema, path: &Path, errors: &mut Errors) {
    if old == Some(value) {
        return;
    }
    if value.is_null() && schema.nullable {
        return;
    }
    if !ty(value, schema, path, errors) {
        return;
    }
    values(value, schema, path, errors);
    match value {
        Value::String(text) => string(text, schema, path, errors),
        Value::Number(_) => number(value, schema, path, errors),
        Value::Array(_) => array(value, old, schema, path, errors),
        Value::Object(_) => object(value, old, schema, path, errors),
        _ => {}
    }
    junctors(value, old, schema, path, errors);
}

/// What a value is called in messages.
fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(n) if n.is_f64() && n.as_f64().is_some_and(|f| f.fract() != 0.0) => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// Whether the value is of the schema's type. A wrong one ends the checks of this value.
fn ty(value: &Value, schema: &Schema, path: &Path, errors: &mut Errors) -> bool {
    let is = type_name(value);
    if schema.int_or_string {
        if matches!(is, "integer" | "string") {
            return true;
        }
        wrong_type("integer,string", is, path, errors);
        return false;
    }
    if schema.ty.is_empty() {
        return true;
    }
    let fits = is == schema.ty || (schema.ty == "number" && is == "integer");
    if !fits {
        wrong_type(&schema.ty, is, path, errors);
        if schema.ty == "integer" && is == "number" {
            let why = if schema.format.is_empty() {
                " (default format)".to_owned()
            } else {
                format!(" with format {}", schema.format)
            };
            bare(format!("Checked value must be of type integer{why} in {}", in_body(path)), errors);
        }
        return false;
    }
    if schema.ty == "integer"
        && schema.format == "int32"
        && value.as_i64().is_none_or(|n| i32::try_from(n).is_err())
    {
        bare(format!("Checked value must be of type integer with format int32 in {}", in_body(path)), errors);
        return false;
    }
    true
}

fn in_body(path: &Path) -> String {
    let text = path.to_string();
    if text == "<nil>" { String::new() } else { text }
}

/// An error that upstream cannot place.
fn bare(message: String, errors: &mut Errors) {
    errors.invalid(&Path::default(), "", message);
}

fn wrong_type(wanted: &str, is: &str, path: &Path, errors: &mut Errors) {
    let at = in_body(path);
    errors.wrong_type(path, is, &format!("{at} in body must be of type {wanted}: {}", go_quote(is)));
}

fn values(value: &Value, schema: &Schema, path: &Path, errors: &mut Errors) {
    if schema.values.is_empty() || schema.values.iter().any(|v| same(v, value)) {
        return;
    }
    let supported: Vec<String> =
        schema.values.iter().map(|v| v.as_str().map_or_else(|| v.to_string(), str::to_owned)).collect();
    let supported: Vec<&str> = supported.iter().map(String::as_str).collect();
    errors.unsupported(path, value.clone(), &supported);
}

/// Whether two values are equal; numbers by what they are worth.
pub fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(x), Value::Number(y)) => x == y || x.as_f64() == y.as_f64(),
        _ => a == b,
    }
}

fn body(path: &Path, what: impl std::fmt::Display) -> String {
    format!("{} in body {what}", in_body(path))
}

fn string(text: &str, schema: &Schema, path: &Path, errors: &mut Errors) {
    let length = text.chars().count() as i64;
    if let Some(max) = schema.length.1.filter(|max| length > *max) {
        errors.too_long(path, usize::try_from(max).unwrap_or(0));
    }
    if let Some(min) = schema.length.0.filter(|min| length < *min) {
        errors.invalid(path, text, body(path, format!("should be at least {min} chars long")));
    }
    if let Some((pattern, compiled)) = &schema.pattern
        && !compiled.as_ref().is_some_and(|p| p.is_match(text))
    {
        errors.invalid(path, text, body(path, format!("should match '{pattern}'")));
    }
    if formats::matches(&schema.format, text) == Some(false) {
        let what = format!("must be of type {}: {}", schema.format, go_quote(text));
        errors.wrong_type(path, text, &body(path, what));
    }
}

/// A number as Go prints floats.
pub fn go_number(n: f64) -> String {
    if n.fract() == 0.0 && n.abs() < 1e21 { format!("{n:.0}") } else { format!("{n}") }
}

fn number(value: &Value, schema: &Schema, path: &Path, errors: &mut Errors) {
    let Some(n) = value.as_f64() else { return };
    if let Some((min, exclusive)) = schema.minimum
        && (n < min || (exclusive && n == min))
    {
        let or_equal = if exclusive { "" } else { "or equal to " };
        let what = format!("should be greater than {or_equal}{}", go_number(min));
        errors.invalid(path, value.clone(), body(path, what));
    }
    if let Some((max, exclusive)) = schema.maximum
        && (n > max || (exclusive && n == max))
    {
        let or_equal = if exclusive { "" } else { "or equal to " };
        let what = format!("should be less than {or_equal}{}", go_number(max));
        errors.invalid(path, value.clone(), body(path, what));
    }
    if let Some(of) = schema.multiple_of.filter(|of| *of > 0.0) {
        let times = n / of;
        if (times - times.round()).abs() > 1e-9 {
            errors.invalid(
                path,
                value.clone(),
                body(path, format!("should be a multiple of {}", go_number(of))),
            );
        }
    }
}

fn count(len: usize, bounds: (Option<i64>, Option<i64>), what: &str, path: &Path, errors: &mut Errors) {
    let len = len as i64;
    if let Some(min) = bounds.0.filter(|min| len < *min) {
        errors.invalid(path, len, body(path, format!("should have at least {min} {what}")));
    }
    if let Some(max) = bounds.1.filter(|max| len > *max) {
        errors.too_many(path, len as usize, usize::try_from(max).unwrap_or(0));
    }
}

fn array(value: &Value, old: Option<&Value>, schema: &Schema, path: &Path, errors: &mut Errors) {
    let Some(items) = value.as_array() else { return };
    count(items.len(), schema.items_count, "items", path, errors);
    if schema.unique_items && items.iter().enumerate().any(|(i, a)| items[..i].contains(a)) {
        errors.duplicate(path, value.clone());
    }
    if let Some(of) = &schema.items {
        for (i, item) in items.iter().enumerate() {
            validate(item, former(old, i, item, schema), of, &path.index(i), errors);
        }
    }
}

/// The entry of the old list that an entry of the new one goes on from, where the list says which that is.
pub fn former<'a>(old: Option<&'a Value>, index: usize, item: &Value, schema: &Schema) -> Option<&'a Value> {
    let old = old?.as_array()?;
    match schema.list_type.as_str() {
        "map" if !schema.list_keys.is_empty() => {
            old.iter().find(|o| schema.list_keys.iter().all(|k| o.get(k) == item.get(k)))
        }
        "set" => old.iter().find(|o| *o == item),
        // A list that is one value as a whole has no entries of its own to compare.
        _ => old.get(index).filter(|o| *o == item),
    }
}

fn object(value: &Value, old: Option<&Value>, schema: &Schema, path: &Path, errors: &mut Errors) {
    let Some(map) = value.as_object() else { return };
    count(map.len(), schema.properties_count, "properties", path, errors);
    for name in schema.required.iter().filter(|name| !map.contains_key(*name)) {
        errors.required(&path.child(name), "");
    }
    for (name, inner) in map {
        let of = match (schema.properties.get(name), &schema.additional) {
            (Some(of), _) => of,
            (None, Additional::Schema(of)) => of,
            (None, Additional::Any(false)) => {
                bare(format!("{}.{name} in body is a forbidden property", in_body(path)), errors);
                continue;
            }
            _ => continue,
        };
        validate(inner, old.and_then(|o| o.get(name)), of, &path.child(name), errors);
    }
}

fn junctors(value: &Value, old: Option<&Value>, schema: &Schema, path: &Path, errors: &mut Errors) {
    let check = |schema: &Schema| {
        let mut found = Errors::default();
        validate(value, old, schema, path, &mut found);
        found
    };
    let quoted = go_quote(&in_body(path));
    if !schema.any_of.is_empty() {
        let all: Vec<Errors> = schema.any_of.iter().map(check).collect();
        if !all.iter().any(Errors::is_empty) {
            bare(format!("{quoted} must validate at least one schema (anyOf)"), errors);
            errors.append(least(all));
        }
    }
    if !schema.one_of.is_empty() {
        let all: Vec<Errors> = schema.one_of.iter().map(check).collect();
        let good = all.iter().filter(|e| e.is_empty()).count();
        if good != 1 {
            let found =
                if good == 0 { "none valid".to_owned() } else { format!("{good} valid alternatives") };
            bare(format!("{quoted} must validate one and only one schema (oneOf). Found {found}"), errors);
            if good == 0 {
                errors.append(least(all));
            }
        }
    }
    if !schema.all_of.is_empty() {
        let mut wrong = Errors::default();
        let mut bad = 0;
        for found in schema.all_of.iter().map(check) {
            bad += usize::from(!found.is_empty());
            wrong.append(found);
        }
        if bad > 0 {
            let none = if bad == schema.all_of.len() { ". None validated" } else { "" };
            bare(format!("{quoted} must validate all the schemas (allOf){none}"), errors);
            errors.append(wrong);
        }
    }
    if schema.not.as_ref().is_some_and(|not| check(not).is_empty()) {
        bare(format!("{quoted} must not validate the schema (not)"), errors);
    }
}

/// Of several failed alternatives, the one that came closest.
fn least(all: Vec<Errors>) -> Errors {
    all.into_iter().min_by_key(Errors::len).unwrap_or_default()
}

/// Checks that lists which are sets or maps hold nothing twice.
pub fn uniqueness(value: &Value, schema: &Schema, path: &Path, errors: &mut Errors) {
    match value {
        Value::Array(items) => {
            duplicates(items, schema, path, errors);
            if let Some(of) = &schema.items {
                for (i, item) in items.iter().enumerate() {
                    uniqueness(item, of, &path.index(i), errors);
                }
            }
        }
        Value::Object(map) => {
            for (name, inner) in map {
                match (schema.properties.get(name), &schema.additional) {
                    (Some(of), _) => uniqueness(inner, of, &path.child(name), errors),
                    (None, Additional::Schema(of)) => uniqueness(inner, of, &path.key(name), errors),
                    _ => {}
                }
            }
        }
        _ => {}
    }
}

fn duplicates(items: &[Value], schema: &Schema, path: &Path, errors: &mut Errors) {
    let mut seen = std::collections::HashSet::new();
    let key = |item: &Value| -> Value {
        if schema.list_type == "map" {
            let keys = schema.list_keys.iter().filter_map(|k| item.get(k).map(|v| (k.clone(), v.clone())));
            Value::Object(keys.collect())
        } else {
            item.clone()
        }
    };
    if !matches!(schema.list_type.as_str(), "set" | "map") {
        return;
    }
    for (i, item) in items.iter().enumerate() {
        let key = key(item);
        if !seen.insert(shown(&key)) {
            errors.duplicate(&path.index(i), key);
        }
    }
}

/// Checks the objects within an object that have apiVersion, kind and metadata of their own.
pub fn embedded(value: &Value, schema: &Schema, path: &Path, errors: &mut Errors) {
    if schema.embedded {
        for name in ["apiVersion", "kind"] {
            if value[name].as_str().is_none_or(str::is_empty) {
                errors.required(&path.child(name), "");
            }
        }
    }
    match value {
        Value::Array(items) => {
            if let Some(of) = &schema.items {
                items.iter().enumerate().for_each(|(i, item)| embedded(item, of, &path.index(i), errors));
            }
        }
        Value::Object(map) => {
            for (name, inner) in map {
                match (schema.properties.get(name), &schema.additional) {
                    (Some(of), _) => embedded(inner, of, &path.child(name), errors),
                    (None, Additional::Schema(of)) => embedded(inner, of, &path.key(name), errors),
                    _ => {}
                }
            }
        }
        _ => {}
    }
}
