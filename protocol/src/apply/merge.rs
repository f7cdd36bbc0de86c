//! Merging a configuration into an object: what the configuration says wins, what it does not mention stays.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde_json::{Map, Value};

use super::element::Element;
use super::shape::{List, ListKind, Shape};
use super::validate::{Problems, Report, scalar_problem};
use super::walk::{Form, Forms, entry, items, no_fields};

/// The object with the configuration merged in.
pub fn merge<'s, S: Shape<'s>>(shape: S, live: &Value, config: &Value) -> Result<Value, Problems> {
    let mut report = Report::default();
    let merged = merge_place(shape, Some(live), Some(config), &mut report);
    report.finish()?;
    Ok(merged.unwrap_or(Value::Null))
}

fn merge_place<'s, S: Shape<'s>>(
    shape: S,
    live: Option<&Value>,
    config: Option<&Value>,
    report: &mut Report,
) -> Option<Value> {
    let form = match config {
        None => Forms::of(shape, live).form(),
        // Of two forms, the configuration's decides.
        Some(_) => Forms::of(shape, config).form(),
    };
    let leaf = || config.or(live).cloned();
    match form {
        Form::Scalar(scalar) => {
            if let (Some(_), Some(problem)) = (scalar_problem(scalar, live), scalar_problem(scalar, config)) {
                report.add(problem);
                return None;
            }
            leaf()
        }
        Form::List(list) => {
            let (ours, theirs) = (items(live), items(config));
            // Two empty lists are a leaf, which keeps apart those that are absent and those that are empty.
            if list.kind == ListKind::Atomic || (ours.is_empty() && theirs.is_empty()) {
                return leaf();
            }
            let merged = merge_list(&list, ours, theirs, report);
            (!merged.is_empty()).then_some(Value::Array(merged))
        }
        Form::Map(map) => {
            if map.atomic || (no_fields(live) && no_fields(config)) {
                return leaf();
            }
            let merged = merge_map(shape, live, config, report);
            (!merged.is_empty()).then_some(Value::Object(merged))
        }
        Form::None => leaf(),
    }
}

fn merge_map<'s, S: Shape<'s>>(
    shape: S,
    live: Option<&Value>,
    config: Option<&Value>,
    report: &mut Report,
) -> Map<String, Value> {
    let (live, config) = (live.and_then(Value::as_object), config.and_then(Value::as_object));
    let mut merged = Map::new();
    let names: BTreeSet<&String> = live.into_iter().chain(config).flat_map(Map::keys).collect();
    for name in names {
        let (ours, theirs) = (live.and_then(|l| l.get(name)), config.and_then(|c| c.get(name)));
        let value = match shape.field(name) {
            Some(member) => report.at(Element::field(name), |r| merge_place(member.shape, ours, theirs, r)),
            None => theirs.or(ours).cloned(),
        };
        if let Some(value) = value {
            merged.insert(name.clone(), value);
        }
    }
    merged
}

/// The entries of one side, in order, with the value of each; entries that are repeated have none, for they
/// cannot be told apart.
struct Side<'v> {
    order: Vec<Element>,
    values: BTreeMap<Element, Option<&'v Value>>,
}

impl<'v> Side<'v> {
    fn of<'s, S: Shape<'s>>(
        list: &List<'s, S>,
        items: &'v [Value],
        repeats: bool,
        report: &mut Report,
    ) -> Self {
        let mut side = Side { order: Vec::with_capacity(items.len()), values: BTreeMap::new() };
        for (i, item) in items.iter().enumerate() {
            let element = match entry(list, item) {
                Ok(element) => element,
                Err(why) => {
                    report.add(format!("element {i}: {why}"));
                    continue;
                }
            };
            let known = side.values.contains_key(&element);
            if known && !repeats {
                report.add(format!("duplicate entries for key {element}"));
                continue;
            }
            side.values.insert(element.clone(), (!known).then_some(item));
            side.order.push(element);
        }
        side
    }

    fn has(&self, element: &Element) -> bool {
        self.values.contains_key(element)
    }

    fn value(&self, element: &Element) -> Option<&'v Value> {
        self.values.get(element).copied().flatten()
    }
}

/// Entries that both sides have come in the configuration's order; those that only the object has keep their
/// places between them.
fn merge_list<'s, S: Shape<'s>>(
    list: &List<'s, S>,
    live: &[Value],
    config: &[Value],
    report: &mut Report,
) -> Vec<Value> {
    let theirs = Side::of(list, config, false, report);
    let ours = Side::of(list, live, true, report);
    if ours.order.len() != live.len() || theirs.order.len() != config.len() {
        return Vec::new();
    }
    let mut shared: VecDeque<&Element> = theirs.order.iter().filter(|e| ours.has(e)).collect();
    let mut merged = Vec::with_capacity(live.len().max(config.len()));
    let mut done: BTreeSet<&Element> = BTreeSet::new();
    let (mut l, mut r) = (0, 0);
    let mut put = |element: &Element, ours: Option<&Value>, theirs: Option<&Value>| {
        // Both are absent only where the object repeats an entry, which the configuration then has.
        if ours.is_some() || theirs.is_some() {
            let value = report.at(element.clone(), |r| merge_place(list.element, ours, theirs, r));
            merged.extend(value);
        }
    };
    while l < ours.order.len() || r < theirs.order.len() {
        if let (Some(here), Some(there)) = (ours.order.get(l), theirs.order.get(r)) {
            if here == there {
                done.insert(there);
                put(here, ours.value(here), theirs.value(here));
                l += 1;
                r += 1;
                shared.pop_front();
                continue;
            }
            if theirs.has(here) && shared.front().is_some_and(|next| *next != here) {
                // Shared, but not the one whose turn it is.
                l += 1;
                continue;
            }
        }
        if let Some(here) = ours.order.get(l) {
            if !theirs.has(here) {
                put(here, live.get(l), None);
                l += 1;
                continue;
            }
            if done.contains(here) {
                l += 1;
            }
        }
        if let Some(there) = theirs.order.get(r) {
            done.insert(there);
            put(there, ours.value(there), theirs.value(there));
            r += 1;
            if shared.front() == Some(&there) {
                shared.pop_front();
            }
        }
    }
    merged
}
