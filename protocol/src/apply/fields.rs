//! The fields that a value mentions, and sets of fields after their schema changed.

use std::collections::BTreeMap;

use serde_json::Value;

use super::element::Element;
use super::set::Set;
use super::shape::{ListKind, Shape};
use super::walk::{Form, Forms, entry};

/// Every leaf and every list entry that a (valid) value mentions.
pub fn fields<'s, S: Shape<'s>>(shape: S, value: &Value) -> Set {
    let mut set = Set::new();
    collect(shape, value, &mut Vec::new(), &mut set);
    set
}

fn collect<'s, S: Shape<'s>>(shape: S, value: &Value, path: &mut Vec<Element>, set: &mut Set) {
    match Forms::of(shape, Some(value)).form() {
        Form::Scalar(_) => set.insert(path.iter().cloned()),
        Form::List(list) => {
            if list.kind == ListKind::Atomic {
                return set.insert(path.iter().cloned());
            }
            let Value::Array(items) = value else { return };
            let elements: Vec<Option<Element>> = items.iter().map(|item| entry(&list, item).ok()).collect();
            let mut counts: BTreeMap<&Element, usize> = BTreeMap::new();
            elements.iter().flatten().for_each(|e| *counts.entry(e).or_default() += 1);
            for (element, item) in elements.iter().zip(items) {
                let Some(element) = element else { continue };
                path.push(element.clone());
                // Of repeated entries only the key is owned, as nobody can tell them apart.
                if counts.get(element).is_some_and(|n| *n == 1) {
                    collect(list.element, item, path, set);
                }
                set.insert(path.iter().cloned());
                path.pop();
            }
        }
        Form::Map(map) => {
            if map.atomic {
                return set.insert(path.iter().cloned());
            }
            let Value::Object(fields) = value else { return };
            for (name, value) in fields {
                let Some(member) = shape.field(name) else { continue };
                path.push(Element::field(name));
                collect(member.shape, value, path, set);
                let empty = value.is_null() || value.as_object().is_some_and(serde_json::Map::is_empty);
                if empty || !member.declared {
                    set.insert(path.iter().cloned());
                }
                path.pop();
            }
        }
        Form::None => {}
    }
}

/// The set as it would be under the present schema: where something became atomic, the whole is owned
/// instead of its parts. `None` when nothing changes.
pub fn reconcile<'s, S: Shape<'s>>(shape: S, set: &Set) -> Option<Set> {
    let mut changed = Set::new();
    find_atomic(shape, set, false, &mut Vec::new(), &mut changed);
    if changed.is_empty() {
        return None;
    }
    Some(set.recursive_difference(&changed).union(&changed))
}

fn find_atomic<'s, S: Shape<'s>>(
    shape: S,
    set: &Set,
    whole: bool,
    path: &mut Vec<Element>,
    changed: &mut Set,
) {
    // A set tells no form; maps come first, as everywhere.
    match Forms::of(shape, None).form() {
        Form::Map(map) if map.deduced => {}
        Form::Map(map) if map.atomic => {
            if !whole && !set.is_empty() {
                changed.insert(path.iter().cloned());
            }
        }
        Form::Map(_) => {
            for (element, member, children) in set.nodes() {
                let Element::Field(name) = element else { continue };
                let Some(inner) = shape.field(name) else { continue };
                path.push(element.clone());
                find_atomic(inner.shape, children, member && children.is_empty(), path, changed);
                path.pop();
            }
        }
        Form::List(list) if list.kind == ListKind::Atomic => {
            if !whole {
                changed.insert(path.iter().cloned());
            }
        }
        Form::List(list) => {
            for (element, member, children) in set.nodes() {
                path.push(element.clone());
                find_atomic(list.element, children, member && children.is_empty(), path, changed);
                path.pop();
            }
        }
        Form::Scalar(_) | Form::None => {}
    }
}
