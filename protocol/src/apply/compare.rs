//! What changed between two objects of a shape, as sets of fields.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::element::{Element, same};
use super::set::Set;
use super::shape::{List, ListKind, Shape};
use super::validate::{Problems, Report, scalar_problem};
use super::walk::{Form, Forms, entry, items, no_fields};

/// The differences of two objects. No field is in more than one of the sets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    /// In the first and not in the second.
    pub removed: Set,
    /// In both, with other values.
    pub modified: Set,
    /// In the second and not in the first.
    pub added: Set,
}

/// Fields that a write does not own, because the server does not take them from it.
#[derive(Clone, Copy, Debug, Default)]
pub enum Filter<'f> {
    /// It owns all that it writes.
    #[default]
    None,
    /// These, and what is below them, are put back.
    Without(&'f Set),
}

impl Filter<'_> {
    /// The fields that the write owns.
    pub fn apply(&self, set: &Set) -> Set {
        match self {
            Filter::None => set.clone(),
            Filter::Without(fields) => set.recursive_difference(fields),
        }
    }
}

impl Comparison {
    /// Whether nothing changed.
    pub fn is_same(&self) -> bool {
        self.removed.is_empty() && self.modified.is_empty() && self.added.is_empty()
    }

    /// The changes that a filter lets through.
    pub fn filtered(self, filter: Filter<'_>) -> Comparison {
        if matches!(filter, Filter::None) {
            return self;
        }
        Comparison {
            removed: filter.apply(&self.removed),
            modified: filter.apply(&self.modified),
            added: filter.apply(&self.added),
        }
    }

    /// Fields that have another value now, or one for the first time.
    pub fn changed(&self) -> Set {
        self.modified.union(&self.added)
    }
}

/// Compares two objects.
pub fn compare<'s, S: Shape<'s>>(shape: S, old: &Value, new: &Value) -> Result<Comparison, Problems> {
    let mut walk = Walk { result: Comparison::default(), report: Report::default(), path: Vec::new() };
    walk.compare(shape, Some(old), Some(new));
    walk.report.finish()?;
    Ok(walk.result)
}

/// A step on the way, borrowed: most places do not differ, and then no path is ever made.
#[derive(Clone)]
enum Step<'v> {
    Field(&'v str),
    Entry(Element),
}

struct Walk<'v> {
    result: Comparison,
    report: Report,
    path: Vec<Step<'v>>,
}

enum Change {
    Removed,
    Modified,
    Added,
}

impl<'v> Walk<'v> {
    fn note(&mut self, change: &Change, last: Option<&Element>) {
        let steps = self.path.iter().map(|step| match step {
            Step::Field(name) => Element::field(name),
            Step::Entry(element) => element.clone(),
        });
        let path: Vec<Element> = steps.chain(last.cloned()).collect();
        match change {
            Change::Removed => self.result.removed.insert(path),
            Change::Modified => self.result.modified.insert(path),
            Change::Added => self.result.added.insert(path),
        }
    }

    fn below<'s, S: Shape<'s>>(
        &mut self,
        step: Step<'v>,
        shape: S,
        old: Option<&'v Value>,
        new: Option<&'v Value>,
    ) {
        self.path.push(step);
        self.compare(shape, old, new);
        self.path.pop();
    }

    fn compare<'s, S: Shape<'s>>(&mut self, shape: S, old: Option<&'v Value>, new: Option<&'v Value>) {
        let (before, after) = (Forms::of(shape, old), Forms::of(shape, new));
        let leaf = if new.is_none() {
            self.by_form(shape, before.form(), old, new, false)
        } else if old.is_none() || before.same(&after) {
            self.by_form(shape, after.form(), old, new, false)
        } else {
            let first = self.by_form(shape, before.form(), old, new, false);
            self.by_form(shape, after.form(), old, new, first)
        };
        if !leaf {
            match (old, new) {
                (None, _) => self.note(&Change::Added, None),
                (_, None) => self.note(&Change::Removed, None),
                _ => {}
            }
        }
    }

    /// Compares by one form; tells whether the place is a leaf (which is noted once).
    fn by_form<'s, S: Shape<'s>>(
        &mut self,
        shape: S,
        form: Form<'s, S>,
        old: Option<&'v Value>,
        new: Option<&'v Value>,
        noted: bool,
    ) -> bool {
        match form {
            Form::Scalar(scalar) => {
                if let (Some(_), Some(problem)) = (scalar_problem(scalar, old), scalar_problem(scalar, new)) {
                    self.report.add(problem);
                    return noted;
                }
                self.leaf(old, new, noted)
            }
            Form::List(list) => {
                let (before, after) = (items(old), items(new));
                if list.kind == ListKind::Atomic || (before.is_empty() && after.is_empty()) {
                    return self.leaf(old, new, noted);
                }
                if before != after {
                    self.entries(&list, before, after);
                }
                noted
            }
            Form::Map(map) => {
                if map.atomic || (no_fields(old) && no_fields(new)) {
                    return self.leaf(old, new, noted);
                }
                self.fields(shape, old.and_then(Value::as_object), new.and_then(Value::as_object));
                noted
            }
            Form::None => {
                self.report.add("schema error: invalid atom: inlined".to_owned());
                noted
            }
        }
    }

    fn leaf(&mut self, old: Option<&Value>, new: Option<&Value>, noted: bool) -> bool {
        if !noted {
            match (old, new) {
                (None, _) => self.note(&Change::Added, None),
                (_, None) => self.note(&Change::Removed, None),
                (Some(old), Some(new)) if !same(old, new) => self.note(&Change::Modified, None),
                _ => {}
            }
        }
        true
    }

    fn fields<'s, S: Shape<'s>>(
        &mut self,
        shape: S,
        old: Option<&'v Map<String, Value>>,
        new: Option<&'v Map<String, Value>>,
    ) {
        for (name, before) in old.into_iter().flatten() {
            let after = new.and_then(|n| n.get(name));
            self.member(shape, name, Some(before), after);
        }
        for (name, after) in new.into_iter().flatten() {
            if old.is_none_or(|o| !o.contains_key(name)) {
                self.member(shape, name, None, Some(after));
            }
        }
    }

    fn member<'s, S: Shape<'s>>(
        &mut self,
        shape: S,
        name: &'v str,
        old: Option<&'v Value>,
        new: Option<&'v Value>,
    ) {
        // Most of an object is as it was.
        if shape.is_read() && old.is_some() && old == new {
            return;
        }
        // Fields that the schema does not know belong to nobody.
        if let Some(member) = shape.field(name) {
            self.below(Step::Field(name), member.shape, old, new);
        }
    }

    fn entries<'s, S: Shape<'s>>(&mut self, list: &List<'s, S>, old: &'v [Value], new: &'v [Value]) {
        let mut found: BTreeMap<Element, (Vec<&'v Value>, Vec<&'v Value>)> = BTreeMap::new();
        for (items, second) in [(old, false), (new, true)] {
            for (i, item) in items.iter().enumerate() {
                match entry(list, item) {
                    Ok(element) => {
                        let both = found.entry(element).or_default();
                        if second { both.1.push(item) } else { both.0.push(item) }
                    }
                    Err(why) => self.report.add(format!("element {i}: {why}")),
                }
            }
        }
        for (element, (before, after)) in found {
            let (first, second) = (before.first().copied(), after.first().copied());
            match (before.len(), after.len()) {
                (0 | 1, 0 | 1) => self.below(Step::Entry(element), list.element, first, second),
                // Repeated entries are compared together, as if they were atomic.
                (2.., 2..) => {
                    let equal =
                        before.len() == after.len() && before.iter().zip(&after).all(|(a, b)| same(a, b));
                    if !equal {
                        self.note(&Change::Modified, Some(&element));
                    }
                }
                (2.., _) => {
                    if second.is_some() {
                        self.below(Step::Entry(element.clone()), list.element, None, second);
                    }
                    self.note(&Change::Removed, Some(&element));
                }
                _ => {
                    if first.is_some() {
                        self.below(Step::Entry(element.clone()), list.element, first, None);
                    }
                    self.note(&Change::Added, Some(&element));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
