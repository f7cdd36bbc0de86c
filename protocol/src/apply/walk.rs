//! What all walks over values share: which form of a place a value has, and how list entries are found.

use serde_json::Value;

use super::element::Element;
use super::shape::{List, ListKind, Map, Scalar, Shape};

/// The forms that a place allows, narrowed to the one that a value has where it has an allowed one.
pub(super) struct Forms<'s, S> {
    pub scalar: Option<Scalar>,
    pub list: Option<List<'s, S>>,
    pub map: Option<Map>,
}

/// The form to go by.
pub(super) enum Form<'s, S> {
    Map(Map),
    Scalar(Scalar),
    List(List<'s, S>),
    /// Nothing may stand here.
    None,
}

impl<'s, S: Shape<'s>> Forms<'s, S> {
    pub fn of(shape: S, value: Option<&Value>) -> Self {
        let (scalar, list, map) = (shape.scalar(), shape.list(), shape.map());
        match value {
            Some(Value::Number(_) | Value::String(_) | Value::Bool(_)) if scalar.is_some() => {
                Forms { scalar, list: None, map: None }
            }
            Some(Value::Array(_)) if list.is_some() => Forms { scalar: None, list, map: None },
            Some(Value::Object(_)) if map.is_some() => Forms { scalar: None, list: None, map },
            _ => Forms { scalar, list, map },
        }
    }

    /// Whether two values of the same place have the same form.
    pub fn same(&self, other: &Self) -> bool {
        self.scalar.is_some() == other.scalar.is_some()
            && self.list.is_some() == other.list.is_some()
            && self.map.is_some() == other.map.is_some()
    }

    pub fn form(self) -> Form<'s, S> {
        match self {
            Forms { map: Some(map), .. } => Form::Map(map),
            Forms { scalar: Some(scalar), .. } => Form::Scalar(scalar),
            Forms { list: Some(list), .. } => Form::List(list),
            _ => Form::None,
        }
    }
}

/// How a list's entry is found; the error is upstream's.
pub(super) fn entry<'s, S: Shape<'s>>(list: &List<'s, S>, item: &Value) -> Result<Element, String> {
    match list.kind {
        ListKind::Atomic => Err("invalid indexing of non-associative list".to_owned()),
        ListKind::Map => keyed(list, item),
        ListKind::Set => match item {
            Value::Object(_) => {
                Err("associative list without keys has an element that's a map type".to_owned())
            }
            Value::Array(_) => Err("not supported: associative list with lists as elements".to_owned()),
            Value::Null => {
                Err("associative list without keys has an element that's an explicit null".to_owned())
            }
            value => Ok(Element::Value(value.clone())),
        },
    }
}

fn keyed<'s, S: Shape<'s>>(list: &List<'s, S>, item: &Value) -> Result<Element, String> {
    let object = match item {
        Value::Object(object) => object,
        Value::Null => return Err("associative list with keys may not have a null element".to_owned()),
        _ => return Err("associative list with keys may not have non-map elements".to_owned()),
    };
    let mut fields = Vec::new();
    for name in list.keys.iter() {
        let default = || list.element.field(name).and_then(|f| f.default);
        // A key that is absent and has no default is left out: that is another entry than one that has it.
        if let Some(value) = object.get(name).or_else(default) {
            fields.push((name.to_owned(), value.clone()));
        }
    }
    if fields.is_empty() {
        let names: Vec<String> = list.keys.iter().map(|k| format!("{k:?}")).collect();
        return Err(format!(
            "associative list with keys has an element that omits all key fields [{}] (and doesn't have default \
             values for any key fields)",
            names.join(" ")
        ));
    }
    Ok(Element::key(fields))
}

/// The list in a value; absent and null ones have no entries.
pub(super) fn items(value: Option<&Value>) -> &[Value] {
    value.and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// Whether a value is no object or an empty one.
pub(super) fn no_fields(value: Option<&Value>) -> bool {
    value.and_then(Value::as_object).is_none_or(serde_json::Map::is_empty)
}
