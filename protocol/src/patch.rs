//! Patches that need the field tables: JSON merge patch and strategic merge patch.
//!
//! (JSON patch needs no table; the API server applies it with a crate of its own.)

use serde_json::{Map, Value};

pub mod typed;

use crate::schema::{Definition, Field, Type};

/// Why a patch cannot be applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    /// The patch has the wrong form.
    #[error("{0}")]
    Invalid(String),
}

/// RFC 7386: objects merge, `null` removes, everything else replaces.
pub fn merge(target: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *target = patch;
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Some(target) = target.as_object_mut() else { return };
    for (key, value) in patch {
        if value.is_null() {
            target.remove(&key);
        } else {
            merge(target.entry(key).or_insert(Value::Null), value);
        }
    }
}

const DIRECTIVE: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const DELETE_FROM_LIST: &str = "$deleteFromPrimitiveList/";
const SET_ORDER: &str = "$setElementOrder/";

/// Strategic merge: lists with a merge key merge by it; directives delete, replace and order.
pub fn strategic(
    definition: &'static Definition,
    target: &mut Value,
    patch: Value,
) -> Result<(), PatchError> {
    let original = std::mem::take(target);
    *target =
        merge_value(Some(Shape { ty: None, field: None, definition: Some(definition) }), original, patch)?;
    Ok(())
}

/// What the tables know about a place in the object.
#[derive(Clone, Copy)]
struct Shape {
    ty: Option<&'static Type>,
    field: Option<&'static Field>,
    definition: Option<&'static Definition>,
}

impl Shape {
    fn of(ty: &'static Type, field: Option<&'static Field>) -> Shape {
        Shape { ty: Some(ty), field, definition: ty.definition() }
    }

    fn child(&self, name: &str) -> Option<Shape> {
        match self.definition {
            Some(definition) => definition.field(name).map(|f| Shape::of(&f.ty, Some(f))),
            None => match self.ty {
                Some(Type::Map(element)) => Some(Shape::of(element, None)),
                _ => None,
            },
        }
    }

    fn element(&self) -> Option<Shape> {
        self.ty.and_then(Type::element).map(|e| Shape::of(e, None))
    }
}

fn merge_value(shape: Option<Shape>, original: Value, patch: Value) -> Result<Value, PatchError> {
    match (original, patch) {
        (Value::Object(original), Value::Object(patch)) => merge_object(shape, original, patch),
        (Value::Array(original), Value::Array(patch)) => {
            merge_list(shape, original, patch, None).map(Value::Array)
        }
        (_, patch) => without_directives(shape, patch),
    }
}

/// A value that is new to the object: directives and nulls have nothing to act on.
fn without_directives(shape: Option<Shape>, patch: Value) -> Result<Value, PatchError> {
    match patch {
        Value::Object(patch) => merge_object(shape, Map::new(), patch),
        Value::Array(patch) if shape.is_some_and(|s| s.field.is_some_and(|f| f.merge)) => {
            merge_list(shape, Vec::new(), patch, None).map(Value::Array)
        }
        other => Ok(other),
    }
}

fn merge_object(
    shape: Option<Shape>,
    mut original: Map<String, Value>,
    mut patch: Map<String, Value>,
) -> Result<Value, PatchError> {
    match patch.remove(DIRECTIVE) {
        None => {}
        Some(Value::String(directive)) => match directive.as_str() {
            "replace" => return Ok(Value::Object(patch)),
            "delete" => return Ok(Value::Object(Map::new())),
            "merge" => {}
            other => return Err(PatchError::Invalid(format!("Unknown patch type found: {other}"))),
        },
        Some(_) => return Err(PatchError::Invalid("Unknown patch type found".to_owned())),
    }
    if let Some(Value::Array(keep)) = patch.remove(RETAIN_KEYS) {
        original.retain(|key, _| keep.iter().any(|k| k.as_str() == Some(key)));
    }
    let mut orders = Map::new();
    let names: Vec<String> = patch.keys().filter(|k| k.starts_with('$')).cloned().collect();
    for name in names {
        let Some(value) = patch.remove(&name) else { continue };
        if let Some(field) = name.strip_prefix(SET_ORDER) {
            orders.insert(field.to_owned(), value);
        } else if let Some(field) = name.strip_prefix(DELETE_FROM_LIST) {
            if let (Some(Value::Array(list)), Value::Array(gone)) = (original.get_mut(field), &value) {
                list.retain(|item| !gone.contains(item));
            }
        } else {
            // An ordinary key that happens to begin with a dollar sign.
            patch.insert(name, value);
        }
    }
    for (key, value) in patch {
        let inner = shape.and_then(|s| s.child(&key));
        if value.is_null() {
            original.remove(&key);
            continue;
        }
        let order = orders.remove(&key);
        let merged = match (original.remove(&key), value) {
            (Some(Value::Array(old)), Value::Array(new)) => Value::Array(merge_list(inner, old, new, order)?),
            (Some(old), new) => merge_value(inner, old, new)?,
            (None, Value::Array(new)) if order.is_some() => {
                Value::Array(merge_list(inner, Vec::new(), new, order)?)
            }
            (None, new) => without_directives(inner, new)?,
        };
        original.insert(key, merged);
    }
    // An order without changes still reorders what is there.
    for (key, order) in orders {
        if let Some(Value::Array(list)) = original.remove(&key) {
            let inner = shape.and_then(|s| s.child(&key));
            original.insert(key, Value::Array(merge_list(inner, list, Vec::new(), Some(order))?));
        }
    }
    Ok(Value::Object(original))
}

fn merge_list(
    shape: Option<Shape>,
    original: Vec<Value>,
    patch: Vec<Value>,
    order: Option<Value>,
) -> Result<Vec<Value>, PatchError> {
    let field = shape.and_then(|s| s.field);
    let Some(field) = field.filter(|f| f.merge) else {
        return Ok(patch);
    };
    if field.merge_key.is_empty() {
        let order = order.unwrap_or_else(|| Value::Array(patch.clone()));
        let mut merged = original.clone();
        for item in patch {
            if !merged.contains(&item) {
                merged.push(item);
            }
        }
        return Ok(ordered(merged, &original, Some(order), ""));
    }
    let key = field.merge_key;
    let element = shape.and_then(|s| s.element());
    let mut merged = original.clone();
    let replace = patch.iter().any(|i| i.get(DIRECTIVE).is_some_and(|d| d == "replace"));
    if replace {
        let rest = patch.into_iter().filter(|i| i.get(DIRECTIVE).is_none_or(|d| d != "replace"));
        return Ok(rest.collect());
    }
    // Without an order of its own a patch puts its entries as it lists them.
    let order = order.unwrap_or_else(|| {
        Value::Array(patch.iter().filter(|i| i.get(DIRECTIVE).is_none()).cloned().collect())
    });
    for item in patch {
        let Value::Object(mut item) = item else {
            return Err(PatchError::Invalid(format!("invalid JSON document: {item} is not an object")));
        };
        let Some(id) = item.get(key).cloned() else {
            return Err(PatchError::Invalid(format!(
                "map: {} does not contain declared merge key: {key}",
                go_map(&item)
            )));
        };
        let found = merged.iter().position(|m| m.get(key) == Some(&id));
        match item.get(DIRECTIVE).and_then(Value::as_str) {
            Some("delete") => merged.retain(|m| m.get(key) != Some(&id)),
            Some("merge") | None => {
                item.remove(DIRECTIVE);
                match found {
                    Some(at) => {
                        let old = std::mem::take(&mut merged[at]);
                        merged[at] = merge_value(element, old, Value::Object(item))?;
                    }
                    None => merged.push(without_directives(element, Value::Object(item))?),
                }
            }
            Some(other) => return Err(PatchError::Invalid(format!("Unknown patch type found: {other}"))),
        }
    }
    Ok(ordered(merged, &original, Some(order), key))
}

/// Puts the entries that the patch orders into that order; entries that only the server has keep their
/// places among them as well as possible.
fn ordered(merged: Vec<Value>, original: &[Value], order: Option<Value>, key: &str) -> Vec<Value> {
    let Some(Value::Array(order)) = order else { return merged };
    let id = |item: &Value| {
        if key.is_empty() { item.clone() } else { item.get(key).cloned().unwrap_or(Value::Null) }
    };
    let wanted: Vec<Value> = order.iter().map(id).collect();
    let live: Vec<Value> = original.iter().map(id).collect();
    let at = |list: &[Value], item: &Value| list.iter().position(|x| *x == id(item));
    let (mut named, mut others): (Vec<Value>, Vec<Value>) =
        merged.into_iter().partition(|item| at(&wanted, item).is_some());
    named.sort_by_key(|item| at(&wanted, item));
    others.sort_by_key(|item| at(&live, item).unwrap_or(usize::MAX));
    let mut result = Vec::with_capacity(named.len() + others.len());
    let (mut named, mut others) = (named.into_iter().peekable(), others.into_iter().peekable());
    loop {
        let take_other = match (others.peek(), named.peek()) {
            (Some(other), Some(name)) => match (at(&live, other), at(&live, name)) {
                (Some(a), Some(b)) => a < b,
                _ => false,
            },
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (None, None) => return result,
        };
        result.extend(if take_other { others.next() } else { named.next() });
    }
}

/// An object as Go's `%v` prints a map.
pub fn go_map(map: &Map<String, Value>) -> String {
    let entries: Vec<String> = map.iter().map(|(k, v)| format!("{k}:{}", go_value(v))).collect();
    format!("map[{}]", entries.join(" "))
}

/// A value as Go's `%v` prints it.
pub fn go_value(value: &Value) -> String {
    match value {
        Value::Object(map) => go_map(map),
        Value::Array(items) => format!("[{}]", items.iter().map(go_value).collect::<Vec<_>>().join(" ")),
        Value::String(text) => text.clone(),
        Value::Null => "<nil>".to_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests;
