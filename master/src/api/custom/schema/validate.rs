//! Validation of objects by a schema, with upstream's words.

use std::collections::HashMap;

use protocol::go;
use serde_json::Value;

use super::{Additional, Schema, formats};
use crate::api::invalid::{Errors, Path, go_quote, shown};

/// Checks a value. `old` is the value that stood at the same place before the write: where an update did not
/// change a part, what is wrong with that part is not held against it.
pub fn validate(value: &Value, old: Option<&Value>, schema: &Schema, path: &Path, errors: &mut Errors) {
    if old == Some(value) {
        return;
    }
    if value.is_null() {
        if !schema.nullable {
            ty(value, schema, path, errors);
        }
        // No list of values has it, whatever it says.
        values(value, schema, path, errors);
        return;
    }
    ty(value, schema, path, errors);
    junctors(value, old, schema, path, errors);
    match value {
        Value::String(text) => string(text, schema, path, errors),
        Value::Number(_) => number(value, schema, path, errors),
        Value::Array(_) => array(value, old, schema, path, errors),
        _ => {}
    }
    values(value, schema, path, errors);
    object(value, old, schema, path, errors);
}

/// From here on a number is none of 64 bits.
const INTEGER_BOUND: f64 = 9_223_372_036_854_775_808.0;

/// How often a factor is in a number at most, for that to be an integer that every JSON reader knows.
const MULTIPLE_MAX: f64 = 9_007_199_254_740_991.0;

/// What a value is called in messages.
fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        // As it was read, whether it has a fraction or not.
        Value::Number(n) if !n.is_i64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// The form that a value has by itself, as messages about a form that does not fit name it.
fn own_format(value: &Value) -> &'static str {
    match value {
        Value::Number(n) if !n.is_i64() => "float64",
        Value::Number(_) => "int64",
        _ => "",
    }
}

/// Checks that the value is of the schema's type.
fn ty(value: &Value, schema: &Schema, path: &Path, errors: &mut Errors) {
    let is = type_name(value);
    if schema.int_or_string {
        if !matches!(is, "integer" | "string") {
            wrong_type("integer,string", is, path, errors);
        }
        return;
    }
    if schema.ty.is_empty() || is == schema.ty || (schema.ty == "number" && is == "integer") {
        return;
    }
    if schema.ty == "integer" && value.as_f64().is_some_and(|n| n.fract() == 0.0 && n.abs() < INTEGER_BOUND) {
        return;
    }
    let formed = formats::is_known(&schema.ty, &schema.format) && !value.is_null();
    let numeric = matches!(schema.ty.as_str(), "integer" | "number");
    match value {
        // Upstream sees a text or a list under a form of texts as a matter of the form alone.
        Value::Array(_) if formed && !numeric => {}
        Value::Bool(_) | Value::Number(_) | Value::Object(_) if formed => {
            wrong_type(&schema.format, own_format(value), path, errors);
        }
        _ => wrong_type(&schema.ty, is, path, errors),
    }
}

/// Checks that a number is within what the schema's type and form can hold.
fn range(value: &Value, schema: &Schema, path: &Path, errors: &mut Errors) {
    let format = schema.format.as_str();
    let format = if formats::is_known(&schema.ty, format) { format } else { "" };
    let fits = match schema.ty.as_str() {
        "integer" => match (format, value.as_i64(), value.as_f64()) {
            ("int32", Some(n), _) => i32::try_from(n).is_ok(),
            ("int32", None, Some(n)) => n.fract() == 0.0 && n.abs() <= f64::from(i32::MAX),
            (_, Some(_), _) => true,
            (_, None, Some(n)) => n.fract() == 0.0 && n.abs() < INTEGER_BOUND,
            _ => false,
        },
        "number" if format == "float" => {
            value.as_f64().is_none_or(|n| n.abs() <= f64::from(f32::MAX) || n == 0.0)
        }
        _ => true,
    };
    if !fits {
        let form =
            if format.is_empty() { " (default format)".to_owned() } else { format!(" with format {format}") };
        let ty = &schema.ty;
        bare(format!("Checked value must be of type {ty}{form} in {}", in_body(path)), errors);
    }
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
    if schema.values.is_empty() || schema.values.iter().any(|v| !v.is_null() && same(v, value)) {
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
    let too_long = schema.length.1.filter(|max| length > *max);
    let too_short = schema.length.0.filter(|min| length < *min);
    let unmatched = schema.pattern.as_ref().filter(|(_, p)| !p.as_ref().is_some_and(|p| p.is_match(text)));
    if let Some(max) = too_long {
        errors.too_long(path, usize::try_from(max).unwrap_or(0));
    } else if let Some(min) = too_short {
        errors.invalid(path, text, body(path, format!("should be at least {min} chars long")));
    } else if let Some((pattern, _)) = unmatched {
        errors.invalid(path, text, body(path, format!("should match '{pattern}'")));
    }
    if formats::matches(&schema.format, text) == Some(false) {
        let what = format!("must be of type {}: {}", schema.format, go_quote(text));
        errors.wrong_type(path, text, &body(path, what));
    }
}

/// A bound of a number: of an integer it is one.
fn bound_shown(value: &Value, bound: f64) -> String {
    let whole = !value.is_f64() && bound.fract() == 0.0 && bound.abs() < 9e18;
    if whole { format!("{bound:.0}") } else { go::float(bound) }
}

fn number(value: &Value, schema: &Schema, path: &Path, errors: &mut Errors) {
    let Some(n) = value.as_f64() else { return };
    range(value, schema, path, errors);
    if let Some(of) = schema.multiple_of {
        // An integer is divided by what of the factor is one.
        let of = if value.is_f64() { of } else { of.trunc() };
        let times = n / of;
        // What is too large for a float is still an integer.
        let odd = match value.as_i64() {
            Some(whole) if of.abs() >= 1.0 && of.abs() < 9e15 => whole % (of as i64) != 0,
            _ => times.abs() > MULTIPLE_MAX || (times - times.round()).abs() > 1e-9,
        };
        if of <= 0.0 {
            let what = format!(
                "factor MultipleOf declared for {} must be positive: {}",
                in_body(path),
                bound_shown(value, of)
            );
            errors.invalid_shown(path, &bound_shown(value, of), what);
        } else if odd {
            let what = format!("should be a multiple of {}", bound_shown(value, of));
            errors.invalid(path, value.clone(), body(path, what));
        }
    }
    // So it is compared to what of a bound is one.
    let whole = |bound: (f64, bool)| if value.is_f64() { bound } else { (bound.0.trunc(), bound.1) };
    if let Some((min, exclusive)) = schema.minimum.map(whole)
        && (n < min || (exclusive && n == min))
    {
        let or_equal = if exclusive { "" } else { "or equal to " };
        let what = format!("should be greater than {or_equal}{}", bound_shown(value, min));
        errors.invalid(path, value.clone(), body(path, what));
    }
    if let Some((max, exclusive)) = schema.maximum.map(whole)
        && (n > max || (exclusive && n == max))
    {
        let or_equal = if exclusive { "" } else { "or equal to " };
        let what = format!("should be less than {or_equal}{}", bound_shown(value, max));
        errors.invalid(path, value.clone(), body(path, what));
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
    if let Some(of) = &schema.items {
        for (i, item) in items.iter().enumerate() {
            validate(item, former(old, item, schema), of, &path.index(i), errors);
        }
    }
    count(items.len(), schema.items_count, "items", path, errors);
    if schema.unique_items && items.iter().enumerate().any(|(i, a)| items[..i].contains(a)) {
        errors.duplicate(path, value.clone());
    }
}

/// The entry of the old list that an entry of the new one goes on from, where the list says which that is.
pub fn former<'a>(old: Option<&'a Value>, item: &Value, schema: &Schema) -> Option<&'a Value> {
    let old = old?.as_array()?;
    match schema.list_type.as_str() {
        "map" if !schema.list_keys.is_empty() => {
            old.iter().find(|o| schema.list_keys.iter().all(|k| o.get(k) == item.get(k)))
        }
        "set" => old.iter().find(|o| *o == item),
        // A list that is one value as a whole has no entries of its own to compare.
        _ => None,
    }
}

fn object(value: &Value, old: Option<&Value>, schema: &Schema, path: &Path, errors: &mut Errors) {
    let Some(map) = value.as_object() else { return };
    count(map.len(), schema.properties_count, "properties", path, errors);
    let former = |name: &str| old.and_then(|o| o.get(name));
    for (name, inner) in map.iter().filter(|(name, _)| !schema.properties.contains_key(*name)) {
        match &schema.additional {
            Additional::Any(false) => {
                let what = format!("{}.{name} in body is a forbidden property", in_body(path));
                errors.invalid(path, name.as_str(), what);
            }
            // What no path leads to is written as if one did.
            Additional::Schema(of) if *path == Path::default() => {
                validate(inner, former(name), of, &Path::new(&format!(".{name}")), errors);
            }
            Additional::Schema(of) => validate(inner, former(name), of, &path.child(name), errors),
            _ => {}
        }
    }
    for (name, of) in &schema.properties {
        if let Some(inner) = map.get(name) {
            validate(inner, former(name), of, &path.child(name), errors);
        }
    }
    for name in schema.required.iter().filter(|name| !map.contains_key(*name)) {
        errors.required(&path.child(name), "");
    }
}

/// How much of a value an alternative speaks of: of several that failed, the one that says most is told.
fn spoken_of(value: &Value, schema: &Schema) -> usize {
    let below: usize = match value {
        Value::Object(map) => {
            map.iter().filter_map(|(name, inner)| Some(spoken_of(inner, schema.property(name)?))).sum()
        }
        Value::Array(items) => {
            schema.items.as_ref().map_or(0, |of| items.iter().map(|item| spoken_of(item, of)).sum())
        }
        _ => 0,
    };
    1 + below
}

/// Of several failed alternatives the errors of the one that speaks of most, the first of equals.
fn closest(value: &Value, of: &[Schema], all: Vec<Errors>) -> Errors {
    let mut best: Option<(usize, Errors)> = None;
    for (schema, found) in of.iter().zip(all) {
        let said = spoken_of(value, schema);
        if best.as_ref().is_none_or(|(most, _)| said > *most) {
            best = Some((said, found));
        }
    }
    best.map(|(_, found)| found).unwrap_or_default()
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
            errors.append(closest(value, &schema.any_of, all));
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
                errors.append(closest(value, &schema.one_of, all));
            }
        }
    }
    if !schema.all_of.is_empty() {
        let mut bad = 0;
        for found in schema.all_of.iter().map(check) {
            bad += usize::from(!found.is_empty());
            errors.append(found);
        }
        if bad > 0 {
            let none = if bad == schema.all_of.len() { ". None validated" } else { "" };
            bare(format!("{quoted} must validate all the schemas (allOf){none}"), errors);
        }
    }
    if schema.not.as_ref().is_some_and(|not| check(not).is_empty()) {
        bare(format!("{quoted} must not validate the schema (not)"), errors);
    }
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
    if !matches!(schema.list_type.as_str(), "set" | "map") {
        return;
    }
    if schema.list_type == "map"
        && let Some((i, other)) = items.iter().enumerate().find(|(_, x)| !x.is_null() && !x.is_object())
    {
        errors.invalid(&path.index(i), other.clone(), "must be an object for an array of list-type map");
        return;
    }
    let key = |item: &Value| -> Value {
        if schema.list_type == "map" {
            let keys = schema.list_keys.iter().filter_map(|k| item.get(k).map(|v| (k.clone(), v.clone())));
            Value::Object(keys.collect())
        } else {
            item.clone()
        }
    };
    // What is there a third time is told no more.
    let mut seen: HashMap<String, usize> = HashMap::new();
    for (i, item) in items.iter().enumerate() {
        let key = key(item);
        let times = seen.entry(shown(&key)).or_default();
        *times += 1;
        if *times == 2 {
            errors.duplicate(&path.index(i), key);
        }
    }
}
