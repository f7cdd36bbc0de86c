//! A YAML node as JSON, with the keys that its maps have twice.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use serde_saphyr::Spanned;

/// How many repeated keys are told.
const REPEATED_MAX: usize = 100;

/// Beyond this not every whole number is a float of its own.
const EXACT_FLOAT_MAX: f64 = 9_007_199_254_740_992.0;

/// What a node says.
#[derive(Debug, Default)]
pub(super) struct Node {
    /// Its value; of keys that are there twice the last counts.
    pub value: Value,
    /// Those keys as Go prints them, with the lines of their values.
    pub repeated: Vec<(u64, String)>,
}

impl From<Value> for Node {
    fn from(value: Value) -> Self {
        Node { value, repeated: Vec::new() }
    }
}

/// A key, which in JSON is a text whatever it was.
struct Key {
    name: String,
    is_text: bool,
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Nodes)
    }
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let node = Node::deserialize(deserializer)?;
        match node.value {
            Value::String(name) => Ok(Key { name, is_text: true }),
            Value::Bool(_) | Value::Number(_) => Ok(Key { name: node.value.to_string(), is_text: false }),
            _ => Err(serde::de::Error::custom("invalid map key")),
        }
    }
}

struct Nodes;

impl<'de> Visitor<'de> for Nodes {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::default())
    }

    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::default())
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        Node::deserialize(deserializer)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Value::Bool(value).into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Value::from(value).into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Value::from(value).into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
        // Go prints a float that is whole as a whole number.
        if value.fract() == 0.0 && value.abs() <= EXACT_FLOAT_MAX {
            return Ok(Value::from(value as i64).into());
        }
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number).into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(Value::from(value).into())
    }

    fn visit_string<E>(self, value: String) -> Result<Node, E> {
        Ok(Value::String(value).into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
        let (mut list, mut repeated) = (Vec::new(), Vec::new());
        while let Some(item) = items.next_element::<Node>()? {
            list.push(item.value);
            repeated.extend(item.repeated);
        }
        Ok(Node { value: Value::Array(list), repeated })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Node, A::Error> {
        let (mut map, mut repeated) = (Map::new(), Vec::new());
        while let Some((key, entry)) = entries.next_entry::<Key, Spanned<Node>>()? {
            repeated.extend(entry.value.repeated);
            if map.contains_key(&key.name) && repeated.len() < REPEATED_MAX {
                let shown = if key.is_text { format!("{:?}", key.name) } else { key.name.clone() };
                repeated.push((entry.referenced.line(), shown));
            }
            map.insert(key.name, entry.value.value);
        }
        repeated.truncate(REPEATED_MAX);
        Ok(Node { value: Value::Object(map), repeated })
    }
}
