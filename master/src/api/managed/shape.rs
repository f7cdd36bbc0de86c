//! How objects of every kind merge: built-in ones by the field tables, declared ones by their schemas.

use protocol::apply::{Keys, List, ListKind, Map, Member, Scalar, Shape, Table};
use protocol::schema;

use crate::api::custom::schema::{Additional, Schema};

/// A place in an object.
#[derive(Clone, Copy)]
pub enum Place<'s> {
    /// Of a built-in kind, or in metadata.
    Table(Table),
    /// Of a declared kind.
    Declared(Declared<'s>),
}

/// A place in an object of a declared kind.
#[derive(Clone, Copy)]
pub struct Declared<'s> {
    /// What is said about it; nothing, below where unknown fields are kept.
    schema: Option<&'s Schema>,
    /// The object itself, or one in it that has apiVersion, kind and metadata of its own.
    whole: bool,
    /// Unknown fields are kept here and below.
    preserve: bool,
}

impl<'s> Place<'s> {
    /// A whole object of a declared kind.
    pub fn declared(schema: &'s Schema) -> Self {
        Place::Declared(Declared { schema: Some(schema), whole: true, preserve: schema.preserve })
    }
}

impl<'s> Declared<'s> {
    fn below(self, schema: &'s Schema) -> Place<'s> {
        let preserve = self.preserve || schema.preserve;
        Place::Declared(Declared { schema: Some(schema), whole: schema.embedded, preserve })
    }

    /// A place of which nothing is said.
    fn unsaid() -> Place<'s> {
        Place::Declared(Declared { schema: None, whole: false, preserve: true })
    }

    fn ty(self) -> &'s str {
        self.schema.map_or("", |s| s.ty.as_str())
    }

    fn scalar(self) -> Option<Scalar> {
        let format = self.schema.map_or("", |s| s.format.as_str());
        Some(match self.ty() {
            "" => Scalar::Untyped,
            "integer" | "number" => Scalar::Numeric,
            "boolean" => Scalar::Boolean,
            "string" if matches!(format, "" | "byte") => Scalar::String,
            "string" => Scalar::Untyped,
            _ => return None,
        })
    }

    fn list(self) -> Option<List<'s, Place<'s>>> {
        if !matches!(self.ty(), "" | "array") {
            return None;
        }
        let kind = match self.schema.map_or("", |s| s.list_type.as_str()) {
            "set" => ListKind::Set,
            "map" => ListKind::Map,
            _ => ListKind::Atomic,
        };
        let element = self.schema.and_then(|s| s.items.as_deref());
        Some(List {
            kind,
            keys: Keys::Loaded(self.schema.map_or(&[], |s| &s.list_keys)),
            element: element.map_or_else(Declared::unsaid, |items| self.below(items)),
        })
    }

    fn map(self) -> Option<Map> {
        if !matches!(self.ty(), "" | "object") {
            return None;
        }
        let atomic = self.schema.is_some_and(|s| s.map_type == "atomic");
        let silent = self.schema.is_none_or(|s| s.properties.is_empty());
        Some(Map { atomic, deduced: silent && !self.whole && self.takes_anything() })
    }

    /// Whether fields that are not listed may hold anything.
    fn takes_anything(self) -> bool {
        match self.schema {
            None => true,
            Some(schema) => match schema.additional {
                Additional::Unsaid => self.preserve || (schema.properties.is_empty() && !self.whole),
                Additional::Any(any) => any,
                Additional::Schema(_) => false,
            },
        }
    }

    fn field(self, name: &str) -> Option<Member<'s, Place<'s>>> {
        if self.whole {
            // What every object has is typed, whatever the schema says of it.
            let own = schema::custom().field(name).is_some();
            if own {
                let inner = Table::of(schema::custom()).field(name)?;
                return Some(Member { shape: Place::Table(inner.shape), declared: true, default: None });
            }
        }
        if let Some(listed) = self.schema.and_then(|s| s.properties.get(name)) {
            return Some(Member {
                shape: self.below(listed),
                declared: true,
                default: listed.default.as_ref(),
            });
        }
        match self.schema.map(|s| &s.additional) {
            Some(Additional::Schema(values)) => {
                Some(Member { shape: self.below(values), declared: false, default: None })
            }
            _ if self.takes_anything() => {
                Some(Member { shape: Declared::unsaid(), declared: false, default: None })
            }
            _ => None,
        }
    }
}

impl<'s> Shape<'s> for Place<'s> {
    fn scalar(self) -> Option<Scalar> {
        match self {
            Place::Table(table) => table.scalar(),
            Place::Declared(declared) => declared.scalar(),
        }
    }

    fn list(self) -> Option<List<'s, Self>> {
        match self {
            Place::Table(table) => table.list().map(|list: List<'s, Table>| List {
                kind: list.kind,
                keys: list.keys,
                element: Place::Table(list.element),
            }),
            Place::Declared(declared) => declared.list(),
        }
    }

    fn map(self) -> Option<Map> {
        match self {
            Place::Table(table) => table.map(),
            Place::Declared(declared) => declared.map(),
        }
    }

    fn field(self, name: &str) -> Option<Member<'s, Self>> {
        match self {
            Place::Table(table) => table.field(name).map(|member: Member<'s, Table>| Member {
                shape: Place::Table(member.shape),
                declared: member.declared,
                default: member.default,
            }),
            Place::Declared(declared) => declared.field(name),
        }
    }

    fn is_read(self) -> bool {
        match self {
            Place::Table(table) => table.is_read(),
            // A schema may say something else by now than when the object was stored.
            Place::Declared(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use protocol::apply::fields::fields;
    use protocol::apply::validate::validate;
    use serde_json::{Value, json};

    use super::*;

    fn schema() -> Schema {
        Schema::parse(&json!({"type": "object", "properties": {
        "spec": {"type": "object", "properties": {
            "text": {"type": "string"},
            "set": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
            "map": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name", "kind"],
                    "items": {"type": "object", "properties": {
                        "name": {"type": "string"}, "kind": {"type": "string", "default": "A"}, "v": {"type": "integer"}}}},
            "whole": {"type": "array", "items": {"type": "integer"}},
            "one": {"type": "object", "x-kubernetes-map-type": "atomic", "properties": {"a": {"type": "string"}}},
            "values": {"type": "object", "additionalProperties": {"type": "string"}},
            "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
        }}}}))
    }

    #[test]
    fn declared_kinds_merge_as_their_schemas_say() {
        let schema = schema();
        let cases = [
            (json!({"text": "a"}), json!({"f:text": {}})),
            (json!({"set": ["a"]}), json!({"f:set": {"v:\"a\"": {}}})),
            (
                json!({"map": [{"name": "x", "v": 1}]}),
                json!({"f:map": {"k:{\"kind\":\"A\",\"name\":\"x\"}": {".": {}, "f:name": {}, "f:v": {}}}}),
            ),
            (json!({"whole": [1, 2]}), json!({"f:whole": {}})),
            (json!({"one": {"a": "b"}}), json!({"f:one": {}})),
            (json!({"values": {"a": "b"}}), json!({"f:values": {"f:a": {}}})),
            (json!({"free": {"a": {"b": [1]}}}), json!({"f:free": {"f:a": {".": {}, "f:b": {}}}})),
        ];
        for (spec, wanted) in cases {
            let object = json!({"spec": spec});
            assert!(validate(Place::declared(&schema), &object, false).is_ok(), "{object}");
            let found = fields(Place::declared(&schema), &object).encode();
            assert_eq!(found["f:spec"], wanted, "{object}");
        }
    }

    #[test]
    fn unknown_fields_and_wrong_types_are_refused() {
        let schema = schema();
        let refusal = |object: Value| {
            validate(Place::declared(&schema), &object, false)
                .map_err(|e| e.to_string())
                .err()
                .unwrap_or_default()
        };
        assert_eq!(refusal(json!({"spec": {"golden": 1}})), ".spec.golden: field not declared in schema");
        assert_eq!(refusal(json!({"golden": 1})), ".golden: field not declared in schema");
        assert_eq!(
            refusal(json!({"metadata": {"labels": {"a": 1}}})),
            ".metadata.labels.a: expected string, got &value.valueUnstructured{Value:1}"
        );
        assert_eq!(
            refusal(json!({"metadata": {"labels": {"a": "b"}}, "kind": "A", "apiVersion": "a/v1"})),
            ""
        );
    }
}
