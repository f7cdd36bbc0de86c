//! What an expression makes, as the configuration that is applied to an object. A value that is absent is nothing there;
//! `null` is a value, and one that fits nowhere.

use protocol::apply::set::shown;
use protocol::apply::{Element, Scalar, Shape};
use serde_json::{Map, Value};

use crate::api::cel::value::Value as Made;

/// More of these nobody asks about.
const NULLS_MAX: usize = 100;

/// A configuration, and where `null` stands in it.
pub struct Configured {
    /// The configuration.
    pub value: Value,
    nulls: Vec<Vec<Element>>,
}

impl Configured {
    /// What an expression made; `None` where it has no form as an object.
    pub fn of(made: &Made<'_>) -> Option<Self> {
        let mut nulls = Vec::new();
        let value = read(made, &mut Vec::new(), &mut nulls)?;
        Some(Configured { value, nulls })
    }

    /// The words for the first `null`, which is no value of anything there.
    pub fn null_problem<'s, S: Shape<'s>>(&self, shape: S) -> Option<String> {
        self.nulls.iter().find_map(|path| {
            let wanted = wanted(path.iter().try_fold(shape, |shape, step| below(shape, step))?)?;
            // Of a text it is told as the number that it is to Go.
            let got = if wanted == "string" { "value.valueUnstructured{Value:0}" } else { "{NULL_VALUE}" };
            Some(format!("{}: expected {wanted}, got &{got}", shown(path)))
        })
    }
}

fn read(made: &Made<'_>, path: &mut Vec<Element>, nulls: &mut Vec<Vec<Element>>) -> Option<Value> {
    Some(match made {
        Made::Optional(None) => Value::Null,
        Made::Optional(Some(inner)) => read(inner, path, nulls)?,
        Made::Null => {
            if nulls.len() < NULLS_MAX {
                nulls.push(path.clone());
            }
            Value::Null
        }
        Made::List(items) => {
            let mut list = Vec::new();
            for (i, item) in items.iter().enumerate() {
                path.push(Element::Index(i64::try_from(i).unwrap_or(i64::MAX)));
                list.push(read(item, path, nulls)?);
                path.pop();
            }
            list.into()
        }
        Made::Map(_) | Made::Open(_) | Made::Struct(..) => {
            let mut map = Map::new();
            for (key, value) in made.entries()? {
                let Made::String(key) = key else { return None };
                path.push(Element::field(&key));
                map.insert(key.to_string(), read(&value, path, nulls)?);
                path.pop();
            }
            map.into()
        }
        other => other.to_json()?,
    })
}

fn below<'s, S: Shape<'s>>(shape: S, step: &Element) -> Option<S> {
    match step {
        Element::Field(name) => shape.field(name).map(|member| member.shape),
        _ => shape.list().map(|list| list.element),
    }
}

/// What is expected somewhere, in upstream's words.
fn wanted<'s, S: Shape<'s>>(shape: S) -> Option<&'static str> {
    if shape.map().is_some() {
        return Some("map");
    }
    if shape.list().is_some() {
        return Some("list");
    }
    match shape.scalar() {
        Some(Scalar::Numeric) => Some("numeric (int or float)"),
        Some(Scalar::Boolean) => Some("boolean"),
        Some(Scalar::String) => Some("string"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use protocol::apply::Table;
    use protocol::schema;
    use serde_json::json;

    use super::*;

    fn map(entries: Vec<(&str, Made<'static>)>) -> Made<'static> {
        Made::Map(Arc::new(entries.into_iter().map(|(key, value)| (Made::text(key), value)).collect()))
    }

    #[test]
    fn what_is_absent_is_nothing_and_null_is_told() {
        let shape = Table::of(schema::kind("", "v1", "Pod").expect("a kind"));
        for (labels, value, told) in [
            (map(vec![("a", Made::Optional(None))]), json!({"a": null}), None),
            (map(vec![("a", Made::Optional(Some(Arc::new(Made::text("b")))))]), json!({"a": "b"}), None),
            (
                map(vec![("a", Made::Null)]),
                json!({"a": null}),
                Some(".metadata.labels.a: expected string, got &value.valueUnstructured{Value:0}"),
            ),
            (Made::Null, json!(null), Some(".metadata.labels: expected map, got &{NULL_VALUE}")),
        ] {
            let made =
                Configured::of(&map(vec![("metadata", map(vec![("labels", labels)]))])).expect("an object");
            assert_eq!(made.value, json!({"metadata": {"labels": value}}));
            assert_eq!(made.null_problem(shape).as_deref(), told, "{value}");
        }
        assert!(Configured::of(&Made::Map(Arc::new(vec![(Made::Int(1), Made::Null)]))).is_none());
    }
}
