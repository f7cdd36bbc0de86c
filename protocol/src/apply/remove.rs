//! Taking fields out of an object.

use serde_json::{Map, Value};

use super::element::Element;
use super::set::Set;
use super::shape::{ListKind, Shape};
use super::walk::{Form, Forms, entry};

/// The object without the fields and entries of a set. What is atomic goes as a whole when any part of it is
/// in the set.
pub fn remove<'s, S: Shape<'s>>(shape: S, value: &Value, gone: &Set) -> Value {
    match (Forms::of(shape, Some(value)).form(), value) {
        (Form::List(list), Value::Array(items)) => {
            if items.is_empty() || list.kind == ListKind::Atomic {
                return Value::Null;
            }
            let kept = items.iter().filter_map(|item| {
                let Ok(element) = entry(&list, item) else { return Some(item.clone()) };
                if gone.has_member(&element) {
                    return None;
                }
                Some(below(list.element, item, gone, &element))
            });
            some(kept.collect::<Vec<_>>(), Vec::is_empty, Value::Array)
        }
        (Form::Map(map), Value::Object(fields)) => {
            if fields.is_empty() || map.atomic {
                return Value::Null;
            }
            let kept = fields.iter().filter_map(|(name, value)| {
                let element = Element::field(name);
                if gone.has_member(&element) {
                    return None;
                }
                let value = match shape.field(name) {
                    Some(member) => below(member.shape, value, gone, &element),
                    None => value.clone(),
                };
                Some((name.clone(), value))
            });
            some(kept.collect::<Map<_, _>>(), Map::is_empty, Value::Object)
        }
        (Form::List(_) | Form::Map(_), _) => Value::Null,
        _ => value.clone(),
    }
}

fn below<'s, S: Shape<'s>>(shape: S, value: &Value, gone: &Set, element: &Element) -> Value {
    match gone.below(element) {
        Some(gone) => remove(shape, value, gone),
        None => value.clone(),
    }
}

fn some<T>(kept: T, empty: impl Fn(&T) -> bool, make: impl Fn(T) -> Value) -> Value {
    if empty(&kept) { Value::Null } else { make(kept) }
}
