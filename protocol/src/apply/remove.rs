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
                (!gone.has_member(&element)).then(|| below(list.element, item, gone, &element))
            });
            some(kept.collect::<Vec<_>>(), Vec::is_empty, Value::Array)
        }
        (Form::Map(map), Value::Object(fields)) => {
            if fields.is_empty() || map.atomic {
                return Value::Null;
            }
            let kept = fields.iter().filter_map(|(name, value)| {
                let element = Element::field(name);
                let left = || match shape.field(name) {
                    Some(member) => below(member.shape, value, gone, &element),
                    None => value.clone(),
                };
                (!gone.has_member(&element)).then(|| (name.clone(), left()))
            });
            some(kept.collect::<Map<_, _>>(), Map::is_empty, Value::Object)
        }
        (Form::List(_) | Form::Map(_), _) => Value::Null,
        _ => value.clone(),
    }
}

fn below<'s, S: Shape<'s>>(shape: S, value: &Value, gone: &Set, element: &Element) -> Value {
    let Some(gone) = gone.below(element) else { return value.clone() };
    match (remove(shape, value, gone), value) {
        // What held things that went, and does not go itself, is empty now, not absent.
        (Value::Null, Value::Object(_)) => Value::Object(Map::new()),
        (Value::Null, Value::Array(_)) => Value::Array(Vec::new()),
        (left, _) => left,
    }
}

fn some<T>(kept: T, empty: impl Fn(&T) -> bool, make: impl Fn(T) -> Value) -> Value {
    if empty(&kept) { Value::Null } else { make(kept) }
}
