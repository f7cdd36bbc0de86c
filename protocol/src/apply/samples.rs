//! Objects of any kind for property tests: every choice is taken from a list of bytes, so that failures shrink.

use serde_json::{Map, Value, json};

use crate::schema::{self, Definition, Type};

/// How deep objects are filled in.
const DEPTH_MAX: usize = 7;

/// Choices, from bytes; the first of all once they are used up.
pub struct Choices<'b>(pub &'b [u8]);

impl Choices<'_> {
    fn of(&mut self, n: usize) -> usize {
        match self.0.split_first() {
            None => 0,
            Some((first, rest)) => {
                self.0 = rest;
                usize::from(*first) % n
            }
        }
    }

    /// One of the kinds that writers own fields of.
    pub fn kind(&mut self) -> &'static Definition {
        let kinds = [
            ("", "v1", "Pod"),
            ("apps", "v1", "Deployment"),
            ("", "v1", "Service"),
            ("", "v1", "ConfigMap"),
            ("", "v1", "Node"),
            ("", "v1", "Namespace"),
            ("networking.k8s.io", "v1", "Ingress"),
            ("apiextensions.k8s.io", "v1", "CustomResourceDefinition"),
        ];
        let (group, version, kind) = kinds[self.of(kinds.len())];
        schema::kind(group, version, kind).expect("a kind")
    }

    /// An object of a definition, whatever sense it makes.
    pub fn object(&mut self, definition: &'static Definition) -> Value {
        self.fields(definition, 0)
    }

    fn fields(&mut self, definition: &'static Definition, depth: usize) -> Value {
        let mut made = Map::new();
        if depth >= DEPTH_MAX {
            return Value::Object(made);
        }
        // Few of many fields, else objects grow without end.
        for _ in 0..self.of(6) {
            if definition.fields.is_empty() {
                break;
            }
            let field = &definition.fields[self.of(definition.fields.len())];
            let value = match self.of(12) {
                0 => Value::Null,
                _ => self.value(&field.ty, depth + 1),
            };
            made.insert(field.name.to_owned(), value);
        }
        Value::Object(made)
    }

    fn value(&mut self, ty: &'static Type, depth: usize) -> Value {
        match ty {
            Type::String | Type::Bytes | Type::Time | Type::MicroTime | Type::Quantity => {
                ["a", "b", "", "\"\\é"][self.of(4)].into()
            }
            Type::Bool => (self.of(2) == 0).into(),
            Type::Int32 | Type::Int64 | Type::Number => self.of(3).into(),
            Type::IntOrString => [json!(1), json!("a")][self.of(2)].clone(),
            Type::Any | Type::Alternative(_) => {
                let values = [json!(1), json!("a"), json!({"x": [1, {}]}), json!([1.5, "b"]), Value::Null];
                values[self.of(values.len())].clone()
            }
            Type::Object(_) => ty.definition().map_or(Value::Null, |d| self.fields(d, depth)),
            Type::List(element) => (0..self.of(4)).map(|_| self.value(element, depth)).collect(),
            Type::Map(element) => {
                let names = ["a", "b.c/d", ""];
                let chosen =
                    (0..self.of(3)).map(|_| (names[self.of(3)].to_owned(), self.value(element, depth)));
                Value::Object(chosen.collect::<Vec<_>>().into_iter().collect())
            }
        }
    }

    /// An object that differs from another in few places.
    pub fn changed(&mut self, definition: &'static Definition, object: &Value) -> Value {
        let mut made = object.clone();
        let other = self.object(definition);
        for (name, value) in other.as_object().into_iter().flatten() {
            let within = [made.get(name), Some(value)].iter().all(|v| v.is_some_and(Value::is_object));
            match self.of(3) {
                0 => made[name] = value.clone(),
                1 if within => {
                    for (inner, value) in value.as_object().into_iter().flatten() {
                        made[name][inner] = value.clone();
                    }
                }
                _ => {}
            }
        }
        made
    }
}
