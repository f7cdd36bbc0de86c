//! Strategic merge: merge patch that knows which lists merge by which key, with directives to delete, to replace
//! and to order.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use crate::apply::Element;
use crate::go;
use crate::schema::{Definition, Field, Type};

/// Why a patch cannot be applied, in upstream's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StrategicError {
    /// The patch's form is wrong: the client's fault.
    #[error("{0}")]
    Format(&'static str),
    /// Lists of lists do not merge.
    #[error("lists of lists are not supported")]
    ListOfLists,
    /// Upstream does not think about whose fault it is.
    #[error("{0}")]
    Other(String),
}

const BAD_LIST: StrategicError = StrategicError::Format("invalid patch format of primitive list");
const BAD_RETAIN_KEYS: StrategicError = StrategicError::Format("invalid patch format of retainKeys");
const BAD_ORDER: StrategicError = StrategicError::Format("invalid patch format of setElementOrder list");

const DIRECTIVE: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const DELETE_FROM_LIST: &str = "$deleteFromPrimitiveList";
const SET_ORDER: &str = "$setElementOrder";

type Object = Map<String, Value>;

/// Merges a patch into an object of a kind.
pub fn strategic(
    definition: &'static Definition,
    target: &mut Value,
    patch: Value,
) -> Result<(), StrategicError> {
    let (Value::Object(original), Value::Object(patch)) = (std::mem::take(target), patch) else {
        return Err(StrategicError::Format("invalid JSON document"));
    };
    *target = Value::Object(merge_object(Place::of_definition(definition), original, patch)?);
    Ok(())
}

/// What the tables know about a place in the object.
#[derive(Clone, Copy)]
struct Place {
    ty: Option<&'static Type>,
    field: Option<&'static Field>,
    definition: Option<&'static Definition>,
}

impl Place {
    fn of_definition(definition: &'static Definition) -> Place {
        Place { ty: None, field: None, definition: Some(definition) }
    }

    fn of(ty: &'static Type, field: Option<&'static Field>) -> Place {
        Place { ty: Some(ty), field, definition: ty.definition() }
    }

    /// The place of a field that is an object or a list.
    fn child(self, name: &str) -> Result<Place, StrategicError> {
        if let Some(definition) = self.definition {
            let found = definition.field(name).map(|f| Place::of(&f.ty, Some(f)));
            return found.ok_or_else(|| {
                let owner = definition.go_name();
                StrategicError::Other(format!(
                    "unable to find api field in struct {owner} for the json field {name:?}"
                ))
            });
        }
        Ok(match self.ty {
            Some(Type::Map(element)) => Place::of(element, None),
            _ => Place { ty: None, field: None, definition: None },
        })
    }

    fn element(self) -> Place {
        match self.ty.and_then(Type::element) {
            Some(element) => Place::of(element, None),
            None => Place { ty: None, field: None, definition: None },
        }
    }

    fn merges(self) -> bool {
        self.field.is_some_and(|f| f.merge)
    }

    fn replaces(self) -> bool {
        self.field.is_some_and(|f| f.replace)
    }

    fn key(self) -> &'static str {
        self.field.map_or("", |f| f.merge_key)
    }
}

fn no_key(object: &Object, key: &str) -> StrategicError {
    StrategicError::Other(format!("map: {} does not contain declared merge key: {key}", go::map(object)))
}

fn unknown_directive(directive: &Value, object: &Object) -> StrategicError {
    StrategicError::Other(format!(
        "unknown patch type: {} in map: {}",
        go::verb_s(directive),
        go::map(object)
    ))
}

fn wrong_type(expected: &str, got: &Value) -> StrategicError {
    let got = if got.is_null() { "%!s(<nil>)" } else { go::type_name(got) };
    StrategicError::Other(format!("expected a {expected}, but received a {got}"))
}

const GO_MAP: &str = "map[string]interface {}";
const GO_LIST: &str = "[]interface {}";

fn merge_object(place: Place, mut original: Object, mut patch: Object) -> Result<Object, StrategicError> {
    if let Some(directive) = patch.get(DIRECTIVE) {
        return match directive.as_str() {
            Some("replace") => {
                patch.remove(DIRECTIVE);
                Ok(patch)
            }
            Some("delete") => Ok(Object::new()),
            _ => Err(unknown_directive(directive, &patch)),
        };
    }
    retain_keys(&mut original, &mut patch)?;
    apply_orders(place, &mut original, &mut patch)?;
    for (name, value) in patch {
        let (name, deletes) = if name.starts_with(DELETE_FROM_LIST) {
            (after_slash(&name, DELETE_FROM_LIST, BAD_LIST)?, true)
        } else {
            (name, false)
        };
        if value.is_null() {
            original.remove(&name);
            continue;
        }
        let merged = match (original.remove(&name), value) {
            (Some(Value::Object(old)), Value::Object(new)) => {
                let inner = place.child(&name)?;
                Some(Value::Object(if inner.replaces() { new } else { merge_object(inner, old, new)? }))
            }
            (Some(Value::Array(old)), Value::Array(new)) => {
                let inner = place.child(&name)?;
                Some(Value::Array(if deletes || inner.merges() {
                    merge_list(inner, old, new, deletes)?
                } else {
                    new
                }))
            }
            (old, _) if deletes => old,
            (old, mut new) => {
                // What replaces nothing, or something of another type, is taken as it is.
                let same_type =
                    old.is_some_and(|o| std::mem::discriminant(&o) == std::mem::discriminant(&new));
                if !same_type {
                    discard_nulls(&mut new);
                }
                without_directives(new)
            }
        };
        if let Some(merged) = merged {
            original.insert(name, merged);
        }
    }
    Ok(original)
}

fn after_slash(name: &str, prefix: &str, error: StrategicError) -> Result<String, StrategicError> {
    match name.split_once('/') {
        Some((before, rest)) if before == prefix => Ok(rest.to_owned()),
        _ => Err(error),
    }
}

/// `$retainKeys`: other fields than these go. The patch may set no others.
fn retain_keys(original: &mut Object, patch: &mut Object) -> Result<(), StrategicError> {
    let Some(keys) = patch.remove(RETAIN_KEYS) else { return Ok(()) };
    let Value::Array(keys) = keys else { return Err(BAD_RETAIN_KEYS) };
    let keep: BTreeSet<&str> = keys.iter().filter_map(Value::as_str).collect();
    for (name, value) in &*patch {
        let directive = name.starts_with(DELETE_FROM_LIST) || name.starts_with(SET_ORDER);
        if !value.is_null() && !directive && !keep.contains(name.as_str()) {
            return Err(BAD_RETAIN_KEYS);
        }
    }
    original.retain(|name, _| keep.contains(name.as_str()));
    Ok(())
}

/// `$setElementOrder`: merges the lists that the patch orders, and puts them in order.
fn apply_orders(place: Place, original: &mut Object, patch: &mut Object) -> Result<(), StrategicError> {
    let names: Vec<String> = patch.keys().filter(|k| k.starts_with(SET_ORDER)).cloned().collect();
    for directive in names {
        let order = match patch.remove(&directive) {
            Some(Value::Array(order)) => order,
            other => return Err(wrong_type(GO_LIST, &other.unwrap_or_default())),
        };
        let name = after_slash(&directive, SET_ORDER, BAD_ORDER)?;
        let list = |found: Option<&Value>| match found {
            None => Ok(None),
            Some(Value::Array(items)) => Ok(Some(items.clone())),
            Some(other) => Err(wrong_type(GO_LIST, other)),
        };
        let (live, given) = (list(original.get(&name))?, list(patch.get(&name))?);
        let inner = place.child(&name)?;
        let key = inner.key();
        check_order(given.as_deref().unwrap_or_default(), &order, key)?;
        let merged = match (live.clone(), given.clone()) {
            (None, None) => continue,
            (Some(live), None) => live,
            (None, Some(given)) => given.into_iter().filter_map(without_directives).collect(),
            (Some(live), Some(given)) if inner.merges() => merge_list(inner, live, given, false)?,
            (Some(_), Some(given)) => given,
        };
        let live = live.unwrap_or_default();
        one_type(&live, given.as_deref().unwrap_or_default())?;
        let merged = ordered(merged, &order, &live, key)?;
        original.insert(name.clone(), Value::Array(merged));
        patch.remove(&name);
    }
    Ok(())
}

/// A patch may list only what its order lists, in that order.
fn check_order(given: &[Value], order: &[Value], key: &str) -> Result<(), StrategicError> {
    if given.is_empty() || order.is_empty() {
        return Ok(());
    }
    let mut rest = order.iter();
    for item in given {
        if !key.is_empty() {
            let Value::Object(object) = item else { return Err(wrong_type(GO_MAP, item)) };
            if object.contains_key(DIRECTIVE) {
                continue;
            }
        }
        let id = identity(item, key)?;
        let mut found = false;
        for next in rest.by_ref() {
            if identity(next, key)? == id {
                found = true;
                break;
            }
        }
        if !found {
            let shown = |items: &[Value]| go::text(&Value::Array(items.to_vec()));
            return Err(StrategicError::Other(format!(
                "The order in patch list:\n{}\n doesn't match {SET_ORDER} list:\n{}\n",
                shown(given),
                shown(order)
            )));
        }
    }
    Ok(())
}

/// What tells an entry from others: itself, or its key.
fn identity(item: &Value, key: &str) -> Result<Element, StrategicError> {
    if key.is_empty() {
        return Ok(Element::Value(item.clone()));
    }
    let Value::Object(object) = item else { return Err(wrong_type(GO_MAP, item)) };
    object.get(key).map(|id| Element::Value(id.clone())).ok_or_else(|| no_key(object, key))
}

/// Entries must be of one type, and no lists.
fn one_type(a: &[Value], b: &[Value]) -> Result<(), StrategicError> {
    let mut all = a.iter().chain(b);
    let Some(first) = all.next() else {
        return Err(StrategicError::Other("no elements in any of the given slices".to_owned()));
    };
    if first.is_array() {
        return Err(StrategicError::ListOfLists);
    }
    if all.all(|item| std::mem::discriminant(item) == std::mem::discriminant(first)) {
        return Ok(());
    }
    let shown = |items: &[Value]| go::text(&Value::Array(items.to_vec()));
    Err(StrategicError::Other(format!("list element types are not identical: [{} {}]", shown(a), shown(b))))
}

fn merge_list(
    place: Place,
    original: Vec<Value>,
    patch: Vec<Value>,
    deletes: bool,
) -> Result<Vec<Value>, StrategicError> {
    if original.is_empty() && patch.is_empty() {
        return Ok(original);
    }
    one_type(&original, &patch)?;
    if !original.first().or(patch.first()).is_some_and(Value::is_object) {
        let id = |item: &Value| Element::Value(item.clone());
        if deletes {
            let gone: BTreeSet<Element> = patch.iter().map(id).collect();
            return Ok(original.into_iter().filter(|item| !gone.contains(&id(item))).collect());
        }
        let mut seen = BTreeSet::new();
        let both = original.iter().chain(&patch).filter(|item| seen.insert(id(item)));
        let merged = both.cloned().collect();
        return ordered(merged, &patch, &original, "");
    }
    let key = place.key();
    if key.is_empty() {
        let name = if place.element().definition.is_some() { "struct" } else { "map" };
        return Err(StrategicError::Other(format!("cannot merge lists without merge key for {name}")));
    }
    let (original, patch) = apply_directives(original, patch, key)?;
    let mut merged = original.clone();
    let mut at: BTreeMap<Element, usize> = BTreeMap::new();
    for (i, item) in merged.iter().enumerate() {
        if let Some(id) = item.get(key) {
            at.entry(Element::Value(id.clone())).or_insert(i);
        }
    }
    for item in &patch {
        let id = identity(item, key)?;
        match at.get(&id).and_then(|i| merged.get_mut(*i)) {
            Some(slot) => {
                if let (Value::Object(old), Value::Object(new)) = (slot.take(), item.clone()) {
                    *slot = Value::Object(merge_object(place.element(), old, new)?);
                }
            }
            None => {
                at.insert(id, merged.len());
                merged.push(item.clone());
            }
        }
    }
    ordered(merged, &patch, &original, key)
}

/// Entries with a `$patch` delete others, or let the patch replace the whole list.
fn apply_directives(
    mut original: Vec<Value>,
    patch: Vec<Value>,
    key: &str,
) -> Result<(Vec<Value>, Vec<Value>), StrategicError> {
    let mut rest = Vec::with_capacity(patch.len());
    let mut gone = BTreeSet::new();
    let mut replace = false;
    for item in patch {
        let Value::Object(object) = &item else { return Err(wrong_type(GO_MAP, &item)) };
        let Some(directive) = object.get(DIRECTIVE) else {
            rest.push(item);
            continue;
        };
        match directive.as_str() {
            Some("delete") => {
                let id = object.get(key).ok_or_else(|| no_key(object, key))?;
                gone.insert(Element::Value(id.clone()));
            }
            Some("replace") => replace = true,
            Some("merge") => {
                let why = "merging lists cannot yet be specified in the patch";
                return Err(StrategicError::Other(why.to_owned()));
            }
            _ => return Err(unknown_directive(directive, object)),
        }
    }
    if replace {
        return Ok((rest, Vec::new()));
    }
    original.retain(|item| item.get(key).is_none_or(|id| !gone.contains(&Element::Value(id.clone()))));
    Ok((original, rest))
}

/// Puts the entries that an order lists into that order; entries that only the server has keep theirs, and
/// their places among the others as well as possible.
fn ordered(
    merged: Vec<Value>,
    order: &[Value],
    live: &[Value],
    key: &str,
) -> Result<Vec<Value>, StrategicError> {
    let positions = |items: &[Value]| -> Result<BTreeMap<Element, usize>, StrategicError> {
        let mut at = BTreeMap::new();
        for (i, item) in items.iter().enumerate() {
            at.entry(identity(item, key)?).or_insert(i);
        }
        Ok(at)
    };
    let (wanted, before) = (positions(order)?, positions(live)?);
    let (mut named, mut others) = (Vec::new(), Vec::new());
    for item in merged {
        let id = identity(&item, key)?;
        let (first, second) = (wanted.get(&id).copied(), before.get(&id).copied());
        if first.is_some() {
            named.push((first, second, item));
        } else {
            others.push((first, second, item));
        }
    }
    named.sort_by_key(|(wanted, ..)| *wanted);
    others.sort_by_key(|(_, before, _)| *before);
    let mut result = Vec::with_capacity(named.len() + others.len());
    let (mut named, mut others) = (named.into_iter().peekable(), others.into_iter().peekable());
    loop {
        let take_other = match (others.peek(), named.peek()) {
            (Some((_, Some(a), _)), Some((_, Some(b), _))) => a.cmp(b) == Ordering::Less,
            (Some(_), Some(_)) | (None, Some(_)) => false,
            (Some(_), None) => true,
            (None, None) => return Ok(result),
        };
        result.extend(if take_other { others.next() } else { named.next() }.map(|(_, _, item)| item));
    }
}

/// A value that is new to the object: directives have nothing to act on. `None` for one that is a directive.
fn without_directives(value: Value) -> Option<Value> {
    Some(match value {
        Value::Object(fields) => {
            if fields.contains_key(DIRECTIVE) {
                return None;
            }
            let kept = fields.into_iter().filter_map(|(name, v)| Some((name, without_directives(v)?)));
            Value::Object(kept.collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().filter_map(without_directives).collect()),
        other => other,
    })
}

/// A null of a new object removes nothing, so it says nothing.
fn discard_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, v| !v.is_null());
            fields.values_mut().for_each(discard_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(discard_nulls),
        _ => {}
    }
}

#[cfg(test)]
mod tests;
