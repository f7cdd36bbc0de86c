//! Reads JSON or YAML as it is, and tells of the names in it where they stand: what strict validation is about.

use std::fmt;

use serde::Deserializer;
use serde::de::{DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// A name in an object, as it is come across.
pub struct Seen<'a> {
    within: &'a [Step],
    /// The name.
    pub name: &'a str,
    /// The object has it already.
    pub repeated: bool,
}

enum Step {
    Name(String),
    Index(usize),
}

impl Seen<'_> {
    /// How many lists and objects are around the object that the name is in.
    pub fn depth(&self) -> usize {
        self.within.len()
    }
}

/// The place: `[0].value.x`.
impl fmt::Display for Seen<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, step) in self.within.iter().enumerate() {
            match step {
                Step::Name(name) if at > 0 => write!(f, ".{name}")?,
                Step::Name(name) => f.write_str(name)?,
                Step::Index(index) => write!(f, "[{index}]")?,
            }
        }
        let dot = if self.within.is_empty() { "" } else { "." };
        write!(f, "{dot}{}", self.name)
    }
}

/// Reads a value; `see` is told of every name in it, in order. Of a name that is repeated the last value counts.
///
/// # Errors
/// The deserializer's own.
pub fn read<'de, D: Deserializer<'de>>(
    deserializer: D,
    see: &mut dyn FnMut(&Seen<'_>),
) -> Result<Value, D::Error> {
    Reader { within: &mut Vec::new(), see }.deserialize(deserializer)
}

struct Reader<'r> {
    within: &'r mut Vec<Step>,
    see: &'r mut dyn FnMut(&Seen<'_>),
}

impl Reader<'_> {
    fn below(&mut self) -> Reader<'_> {
        Reader { within: self.within, see: self.see }
    }
}

impl<'de> DeserializeSeed<'de> for Reader<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Reader<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        loop {
            self.within.push(Step::Index(list.len()));
            let item = items.next_element_seed(self.below())?;
            self.within.pop();
            match item {
                Some(item) => list.push(item),
                None => return Ok(Value::Array(list)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(name) = entries.next_key::<String>()? {
            (self.see)(&Seen { within: self.within, name: &name, repeated: map.contains_key(&name) });
            self.within.push(Step::Name(name));
            let value = entries.next_value_seed(self.below())?;
            if let Some(Step::Name(name)) = self.within.pop() {
                map.insert(name, value);
            }
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_are_told_where_they_stand() {
        let text = r#"{"a":[{"b":1},{"b":1.5,"b":{"c":null}}],"d":"","a":true}"#;
        let mut told = Vec::new();
        let mut see = |seen: &Seen<'_>| told.push((seen.to_string(), seen.depth(), seen.repeated));
        let value = read(&mut serde_json::Deserializer::from_str(text), &mut see).expect("JSON");
        assert_eq!(value, json!({"a": true, "d": ""}));
        let told: Vec<_> =
            told.iter().map(|(place, depth, repeated)| (place.as_str(), *depth, *repeated)).collect();
        let wanted = [
            ("a", 0, false),
            ("a[0].b", 2, false),
            ("a[1].b", 2, false),
            ("a[1].b", 2, true),
            ("a[1].b.c", 3, false),
            ("d", 0, false),
            ("a", 0, true),
        ];
        assert_eq!(told, wanted);
    }
}
