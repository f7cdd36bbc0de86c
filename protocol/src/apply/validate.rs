//! Whether a value has the form that its shape wants, with upstream's words.

use std::collections::BTreeSet;
use std::fmt;

use serde_json::Value;

use super::element::Element;
use super::shape::{ListKind, Scalar, Shape};
use super::walk::{Form, Forms, entry};
use crate::go;

/// One thing that is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    path: String,
    message: String,
}

/// Everything that is wrong with a value; never empty.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Problems(Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let one = |p: &Problem| {
            if p.path.is_empty() { p.message.clone() } else { format!("{}: {}", p.path, p.message) }
        };
        match self.0.as_slice() {
            [problem] => f.write_str(&one(problem)),
            problems => {
                f.write_str("errors:")?;
                problems.iter().try_for_each(|p| write!(f, "\n  {}", one(p)))
            }
        }
    }
}

/// Collects problems on the way through a value.
#[derive(Debug, Default)]
pub(super) struct Report {
    path: Vec<Element>,
    found: Vec<Problem>,
}

/// More problems than anybody reads are not told.
const PROBLEMS_MAX: usize = 100;

impl Report {
    pub fn add(&mut self, message: String) {
        if self.found.len() < PROBLEMS_MAX {
            let path = super::set::shown(&self.path);
            self.found.push(Problem { path, message });
        }
    }

    /// Does something one step deeper.
    pub fn at<T>(&mut self, element: Element, inner: impl FnOnce(&mut Self) -> T) -> T {
        self.path.push(element);
        let done = inner(self);
        self.path.pop();
        done
    }

    pub fn finish(self) -> Result<(), Problems> {
        if self.found.is_empty() { Ok(()) } else { Err(Problems(self.found)) }
    }
}

/// What a value is where a scalar is wanted, if it is not allowed there.
pub(super) fn scalar_problem(scalar: Scalar, value: Option<&Value>) -> Option<String> {
    let value = value.filter(|v| !v.is_null())?;
    let fits = match scalar {
        Scalar::Numeric => value.is_number(),
        Scalar::String => value.is_string(),
        Scalar::Boolean => value.is_boolean(),
        Scalar::Untyped => !value.is_array() && !value.is_object(),
    };
    if fits {
        return None;
    }
    Some(match scalar {
        Scalar::Numeric => format!("expected numeric (int or float), got {}", go::type_name(value)),
        Scalar::String => {
            format!("expected string, got &value.valueUnstructured{{Value:{}}}", go_literal(value))
        }
        Scalar::Boolean => format!("expected boolean, got &{{{}}}", go::text(value)),
        Scalar::Untyped => format!("expected any scalar, got &{{{}}}", go::text(value)),
    })
}

/// Go's `%#v` of a value read from JSON.
fn go_literal(value: &Value) -> String {
    match value {
        Value::Null => "interface {}(nil)".to_owned(),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(go_literal).collect();
            format!("[]interface {{}}{{{}}}", items.join(", "))
        }
        Value::Object(fields) => {
            let fields: Vec<String> =
                fields.iter().map(|(k, v)| format!("{k:?}:{}", go_literal(v))).collect();
            format!("map[string]interface {{}}{{{}}}", fields.join(", "))
        }
        Value::Number(_) => go::text(value),
        other => other.to_string(),
    }
}

/// Checks a value. Objects that exist may repeat entries of sets and keyed lists; configurations may not.
pub fn validate<'s, S: Shape<'s>>(shape: S, value: &Value, duplicates: bool) -> Result<(), Problems> {
    let mut report = Report::default();
    check(shape, value, duplicates, &mut report);
    report.finish()
}

fn check<'s, S: Shape<'s>>(shape: S, value: &Value, duplicates: bool, report: &mut Report) {
    match Forms::of(shape, Some(value)).form() {
        Form::Scalar(scalar) => {
            if let Some(problem) = scalar_problem(scalar, Some(value)) {
                report.add(problem);
            }
        }
        Form::List(list) => {
            let items = match value {
                Value::Null => return,
                Value::Array(items) => items,
                other => return report.add(format!("expected list, got &{{{}}}", go::text(other))),
            };
            let mut seen = BTreeSet::new();
            for (i, item) in items.iter().enumerate() {
                let element = if list.kind == ListKind::Atomic {
                    Element::Index(i64::try_from(i).unwrap_or(i64::MAX))
                } else {
                    match entry(&list, item) {
                        Ok(element) => element,
                        // Without knowing which entry it is, nothing more can be said about the list.
                        Err(why) => return report.add(format!("element {i}: {why}")),
                    }
                };
                if list.kind != ListKind::Atomic && !seen.insert(element.clone()) && !duplicates {
                    report.add(format!("duplicate entries for key {element}"));
                }
                report.at(element, |report| check(list.element, item, duplicates, report));
            }
        }
        Form::Map(_) => {
            let fields = match value {
                Value::Null => return,
                Value::Object(fields) => fields,
                other => return report.add(format!("expected map, got &{{{}}}", go::text(other))),
            };
            for (name, value) in fields {
                let Some(member) = shape.field(name) else {
                    report.at(Element::field(name), |r| r.add("field not declared in schema".to_owned()));
                    return;
                };
                report.at(Element::field(name), |report| check(member.shape, value, duplicates, report));
            }
        }
        Form::None => report.add("schema error: invalid atom: inlined".to_owned()),
    }
}
