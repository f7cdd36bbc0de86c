//! What the writer of a new object owns, printed while the object is walked once.
//!
//! The same as comparing the object with an empty one, filtering the differences and encoding them, without a set of
//! paths ever being made. Where the two objects cannot be compared so simply there is no answer, and that long way
//! has to be gone.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::compare::Filter;
use super::element::{Element, same};
use super::set::Set;
use super::shape::{List, ListKind, Shape};
use super::validate::scalar_problem;
use super::walk::{Form, Forms, entry, items, no_fields};

/// Fields that are not the writer's, as far as they lie below a place.
#[derive(Clone, Copy)]
struct Except<'f> {
    /// These, and all that is below them.
    whole: Option<&'f Set>,
    /// These, but not what is below them.
    single: Option<&'f Set>,
}

impl<'f> Except<'f> {
    fn below(self, element: &Element) -> Except<'f> {
        let below = |set: Option<&'f Set>| set.and_then(|set| set.below(element));
        Except { whole: below(self.whole), single: below(self.single) }
    }

    fn is_empty(self) -> bool {
        self.whole.is_none() && self.single.is_none()
    }
}

/// The `FieldsV1` of all that is in `new` and not in `empty`, without what a filter puts back and the single fields
/// `nobodys`. `None` where only a comparison can tell.
pub(super) fn created<'s, S: Shape<'s>>(
    shape: S,
    empty: &Value,
    new: &Value,
    filter: Filter<'_>,
    nobodys: &Set,
) -> Option<Value> {
    let whole = match filter {
        Filter::None => None,
        Filter::Without(fields) => Some(fields),
    };
    let found = place(shape, Some(empty), new, Except { whole, single: Some(nobodys) })?;
    Some(Value::Object(found.below))
}

/// What is owned of a place.
struct Found {
    /// The place itself.
    member: bool,
    /// What is below it, encoded.
    below: Map<String, Value>,
}

impl Found {
    fn encode(self) -> Value {
        let Found { member, mut below } = self;
        if member && !below.is_empty() {
            below.insert(".".to_owned(), Value::Object(Map::new()));
        }
        Value::Object(below)
    }
}

fn place<'s, S: Shape<'s>>(shape: S, old: Option<&Value>, new: &Value, except: Except<'_>) -> Option<Found> {
    let after = Forms::of(shape, Some(new));
    if old.is_some() && !Forms::of(shape, old).same(&after) {
        return None;
    }
    let leaf = || Some(Found { member: old.is_none_or(|old| !same(old, new)), below: Map::new() });
    let below = match after.form() {
        Form::Scalar(scalar) => {
            if scalar_problem(scalar, old).is_some() {
                return None;
            }
            return leaf();
        }
        Form::List(list) => {
            let (before, after) = (items(old), items(Some(new)));
            if list.kind == ListKind::Atomic || (before.is_empty() && after.is_empty()) {
                return leaf();
            }
            if !before.is_empty() {
                return None;
            }
            entries(&list, after, except)?
        }
        Form::Map(map) => {
            if map.atomic || (no_fields(old) && no_fields(Some(new))) {
                return leaf();
            }
            fields(shape, old, new, except)?
        }
        Form::None => return None,
    };
    Some(Found { member: old.is_none(), below })
}

fn fields<'s, S: Shape<'s>>(
    shape: S,
    old: Option<&Value>,
    new: &Value,
    except: Except<'_>,
) -> Option<Map<String, Value>> {
    let old = old.and_then(Value::as_object);
    let mut made = Map::new();
    for (name, value) in new.as_object().into_iter().flatten() {
        // Fields that the schema does not know belong to nobody.
        let Some(member) = shape.field(name) else { continue };
        let before = old.and_then(|old| old.get(name));
        // Mostly there is no exception, and then no element is made.
        let element = if except.is_empty() { None } else { Some(Element::field(name)) };
        put(member.shape, before, value, element.as_ref(), except, || format!("f:{name}"), &mut made)?;
    }
    Some(made)
}

fn entries<'s, S: Shape<'s>>(
    list: &List<'s, S>,
    new: &[Value],
    except: Except<'_>,
) -> Option<Map<String, Value>> {
    let mut found: BTreeMap<Element, (&Value, bool)> = BTreeMap::new();
    for item in new {
        found
            .entry(entry(list, item).ok()?)
            .and_modify(|(_, repeated)| *repeated = true)
            .or_insert((item, false));
    }
    let mut made = Map::new();
    for (element, (item, repeated)) in &found {
        if *repeated {
            // Nobody can tell repeated entries apart: only the key is owned.
            keep(
                Found { member: true, below: Map::new() },
                Some(element),
                except,
                || element.encode(),
                &mut made,
            );
        } else {
            put(list.element, None, item, Some(element), except, || element.encode(), &mut made)?;
        }
    }
    Some(made)
}

/// Puts what is owned of an element among what is made.
fn put<'s, S: Shape<'s>>(
    shape: S,
    old: Option<&Value>,
    new: &Value,
    element: Option<&Element>,
    except: Except<'_>,
    encoded: impl FnOnce() -> String,
    made: &mut Map<String, Value>,
) -> Option<()> {
    let below = element.map_or(Except { whole: None, single: None }, |element| except.below(element));
    let found = place(shape, old, new, below)?;
    keep(found, element, except, encoded, made);
    Some(())
}

fn keep(
    mut found: Found,
    element: Option<&Element>,
    except: Except<'_>,
    encoded: impl FnOnce() -> String,
    made: &mut Map<String, Value>,
) {
    let has = |set: Option<&Set>| element.is_some_and(|e| set.is_some_and(|set| set.has_member(e)));
    if has(except.whole) {
        return;
    }
    found.member &= !has(except.single);
    if found.member || !found.below.is_empty() {
        made.insert(encoded(), found.encode());
    }
}

#[cfg(test)]
mod tests;
