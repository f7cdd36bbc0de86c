//! `FieldsV1`: a set of fields as JSON. Every element is a key (`f:name`, `k:{…}`, `v:…`, `i:…`), whose value
//! holds what is below it; `.` says that the element itself is a member too.

use serde_json::{Map, Value};

use super::element::{Element, ElementError};
use super::set::Set;

/// Why fields are not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FieldsError {
    /// A step of a path is not understood.
    #[error(transparent)]
    Element(#[from] ElementError),
    /// The value of a step is no object.
    #[error("expected an object, got {0}")]
    NotAnObject(String),
}

impl Set {
    /// Reads the encoded form.
    pub fn decode(fields: &Value) -> Result<Set, FieldsError> {
        let object = match fields {
            Value::Object(object) => object,
            Value::Null => return Ok(Set::new()),
            other => return Err(FieldsError::NotAnObject(other.to_string())),
        };
        let mut set = Set::new();
        for (key, value) in object.iter().filter(|(key, _)| *key != ".") {
            let children = Set::decode(value)?;
            let inner = value.as_object();
            // Without anything in it, the element itself is meant.
            let member = inner.is_none_or(|i| i.is_empty() || i.contains_key("."));
            if let Some(element) = Element::parse(key)? {
                set.attach(element, member, children);
            }
        }
        Ok(set)
    }

    /// The encoded form.
    pub fn encode(&self) -> Value {
        let nodes = self.nodes().map(|(element, member, children)| {
            let mut inner = match children.encode() {
                Value::Object(inner) => inner,
                _ => Map::new(),
            };
            if member && !inner.is_empty() {
                inner.insert(".".to_owned(), Value::Object(Map::new()));
            }
            (element.encode(), Value::Object(inner))
        });
        Value::Object(nodes.collect())
    }

    /// Whether the encoded form holds every field of this set. It may say no where only its spelling differs.
    pub fn is_held_by(&self, encoded: &Value) -> bool {
        let Some(encoded) = encoded.as_object() else { return self.is_empty() };
        self.nodes().all(|(element, member, children)| {
            encoded.get(&element.encode()).is_some_and(|inner| {
                let itself = inner.as_object().is_some_and(|i| i.is_empty() || i.contains_key("."));
                (!member || itself) && children.is_held_by(inner)
            })
        })
    }

    /// Whether the encoded form may hold any field of this set. It may say yes where it holds none.
    pub fn may_touch(&self, encoded: &Value) -> bool {
        let Some(encoded) = encoded.as_object() else { return false };
        self.nodes().any(|(element, _, children)| match element {
            // Keys and values have more than one spelling.
            Element::Key(_) | Element::Value(_) => !encoded.is_empty(),
            _ => encoded.get(&element.encode()).is_some_and(|inner| {
                inner.as_object().is_none_or(|i| i.is_empty() || i.contains_key("."))
                    || children.may_touch(inner)
            }),
        })
    }
}
