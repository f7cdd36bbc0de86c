//! One step of a path into an object: a field, or an entry of a list found by keys, by value or by place.

use std::cmp::Ordering;
use std::fmt::{self, Write};

use serde_json::{Map, Number, Value};

/// One step of a path.
#[derive(Clone, Debug)]
pub enum Element {
    /// A field of an object, or a key of a map.
    Field(String),
    /// The entry of a list that has these values in its key fields; sorted by name.
    Key(Vec<(String, Value)>),
    /// The entry of a set that is this value.
    Value(Value),
    /// The entry of a list at this place.
    Index(i64),
}

/// Why an encoded step is not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ElementError {
    /// Too short to tell its kind.
    #[error("key must be 2 characters long")]
    Short,
    /// The kind is not separated from the rest.
    #[error("missing colon: {0}")]
    NoColon(String),
    /// The rest is not what the kind promises.
    #[error("{0}")]
    Invalid(String),
}

impl Element {
    /// A field.
    pub fn field(name: &str) -> Element {
        Element::Field(name.to_owned())
    }

    /// A key of several fields, in any order.
    pub fn key(mut fields: Vec<(String, Value)>) -> Element {
        fields.sort_by(|a, b| a.0.cmp(&b.0));
        Element::Key(fields)
    }

    /// Reads the form that `FieldsV1` uses; `None` for kinds of a future version, which are passed over.
    pub fn parse(text: &str) -> Result<Option<Element>, ElementError> {
        let mut chars = text.chars();
        let (Some(kind), Some(colon)) = (chars.next(), chars.next()) else {
            return Err(ElementError::Short);
        };
        if colon != ':' {
            return Err(ElementError::NoColon(text.to_owned()));
        }
        let rest = chars.as_str();
        let invalid = |e: serde_json::Error| ElementError::Invalid(e.to_string());
        Ok(Some(match kind {
            'f' => Element::Field(rest.to_owned()),
            'v' => Element::Value(serde_json::from_str(rest).map_err(invalid)?),
            'k' => {
                let fields: Map<String, Value> = serde_json::from_str(rest).map_err(invalid)?;
                Element::key(fields.into_iter().collect())
            }
            'i' => Element::Index(
                rest.parse().map_err(|e: std::num::ParseIntError| ElementError::Invalid(e.to_string()))?,
            ),
            _ => return Ok(None),
        }))
    }

    /// The form that `FieldsV1` uses.
    pub fn encode(&self) -> String {
        match self {
            Element::Field(name) => format!("f:{name}"),
            Element::Key(fields) => {
                let mut text = String::from("k:{");
                for (i, (name, value)) in fields.iter().enumerate() {
                    let comma = if i == 0 { "" } else { "," };
                    // Writing to a String cannot fail.
                    let _ = write!(text, "{comma}{}:{value}", Value::from(name.as_str()));
                }
                text.push('}');
                text
            }
            Element::Value(value) => format!("v:{value}"),
            Element::Index(index) => format!("i:{index}"),
        }
    }

    fn rank(&self) -> u8 {
        match self {
            Element::Field(_) => 0,
            Element::Key(_) => 1,
            Element::Value(_) => 2,
            Element::Index(_) => 3,
        }
    }
}

/// As messages show it: `.spec`, `[name="a"]`, `[="x"]`, `[0]`.
impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Element::Field(name) => write!(f, ".{name}"),
            Element::Key(fields) => {
                f.write_str("[")?;
                for (i, (name, value)) in fields.iter().enumerate() {
                    let comma = if i == 0 { "" } else { "," };
                    write!(f, "{comma}{name}={}", Shown(value))?;
                }
                f.write_str("]")
            }
            Element::Value(value) => write!(f, "[={}]", Shown(value)),
            Element::Index(index) => write!(f, "[{index}]"),
        }
    }
}

/// A value within an element: what is none of the simple ones is shown without its edges.
struct Shown<'v>(&'v Value);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Value::Object(map) => {
                map.iter().try_for_each(|(name, value)| write!(f, "{name}={}", Shown(value)))
            }
            Value::Array(items) => {
                let items: Vec<String> = items.iter().map(|item| Shown(item).to_string()).collect();
                write!(f, "[{}]", items.join(","))
            }
            value => value.fmt(f),
        }
    }
}

impl Ord for Element {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Element::Field(a), Element::Field(b)) => a.cmp(b),
            (Element::Key(a), Element::Key(b)) => {
                let mut pairs = a.iter().zip(b);
                pairs
                    .find_map(|((n, v), (m, w))| {
                        Some(n.cmp(m).then_with(|| compare_values(v, w))).filter(|o| o.is_ne())
                    })
                    .unwrap_or_else(|| a.len().cmp(&b.len()))
            }
            (Element::Value(a), Element::Value(b)) => compare_values(a, b),
            (Element::Index(a), Element::Index(b)) => a.cmp(b),
            (a, b) => a.rank().cmp(&b.rank()),
        }
    }
}

impl PartialOrd for Element {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Element {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Element {}

/// A total order of values: numbers (however written), text, truth, lists, maps, nothing.
pub fn compare_values(a: &Value, b: &Value) -> Ordering {
    let rank = |v: &Value| match v {
        Value::Number(_) => 0,
        Value::String(_) => 1,
        Value::Bool(_) => 2,
        Value::Array(_) => 3,
        Value::Object(_) => 4,
        Value::Null => 5,
    };
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => compare_numbers(a, b),
        (Value::String(a), Value::String(b)) => a.cmp(b),
        (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
        (Value::Array(a), Value::Array(b)) => {
            let mut pairs = a.iter().zip(b);
            let differs = pairs.find_map(|(a, b)| Some(compare_values(a, b)).filter(|o| o.is_ne()));
            differs.unwrap_or_else(|| a.len().cmp(&b.len()))
        }
        (Value::Object(a), Value::Object(b)) => {
            let mut pairs = a.iter().zip(b);
            let differs = pairs.find_map(|((k, v), (l, w))| {
                Some(k.cmp(l).then_with(|| compare_values(v, w))).filter(|o| o.is_ne())
            });
            differs.unwrap_or_else(|| a.len().cmp(&b.len()))
        }
        (a, b) => rank(a).cmp(&rank(b)),
    }
}

fn compare_numbers(a: &Number, b: &Number) -> Ordering {
    match (a.as_i64(), b.as_i64()) {
        (Some(a), Some(b)) => a.cmp(&b),
        // JSON has no NaN, so floats have a total order.
        _ => a.as_f64().partial_cmp(&b.as_f64()).unwrap_or(Ordering::Equal),
    }
}

/// Whether two values are the same, `1` and `1.0` included.
pub fn same(a: &Value, b: &Value) -> bool {
    a == b || compare_values(a, b).is_eq()
}
