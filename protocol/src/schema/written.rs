//! Objects as JSON text, their fields in the order in which Go declares them: that is how upstream prints what it has
//! types for. What it has none for, such as objects of declared kinds, it prints sorted by name.

use serde_json::{Map, Value};

use super::{Definition, Field, Type, definition};

/// An object as text, by what it says it is.
pub fn own(value: &Value) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    Writer::default().own(value, &mut out);
    out
}

/// An object of a definition as text; of none, sorted.
pub fn of(definition: Option<&'static Definition>, value: &Value) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    match value {
        Value::Object(map) => Writer::default().object(map, definition, &mut out),
        other => plain(other, &mut out),
    }
    out
}

/// An object of a definition as text, after an opening that says what it is, such as `{"kind":"Pod","apiVersion":"v1"`.
pub fn after(opening: Vec<u8>, definition: Option<&'static Definition>, value: &Value) -> Vec<u8> {
    let mut out = opening;
    if let Value::Object(map) = value {
        Writer::default().members(map, definition, true, &mut out);
    }
    out.push(b'}');
    out
}

/// A member of an object that is being written.
struct Member<'v> {
    /// Where it is declared; what is not comes last.
    order: u16,
    name: &'v str,
    value: &'v Value,
    ty: Option<&'static Type>,
}

/// Members of the objects that are being written, the outer ones' first.
#[derive(Default)]
struct Writer<'v> {
    members: Vec<Member<'v>>,
}

impl<'v> Writer<'v> {
    fn own(&mut self, value: &'v Value, out: &mut Vec<u8>) {
        match value.as_object().and_then(|map| Some((map, super::of(value)?))) {
            Some((map, definition)) => self.object(map, Some(definition), out),
            None => plain(value, out),
        }
    }

    fn value(&mut self, ty: Option<&'static Type>, value: &'v Value, out: &mut Vec<u8>) {
        match (ty, value) {
            (Some(ty @ Type::Object(_)), Value::Object(map)) => self.object(map, ty.definition(), out),
            (Some(Type::List(element)), Value::Array(items)) => self.list(Some(element), items, out),
            (Some(Type::Map(element)), Value::Object(map)) => {
                out.push(b'{');
                for (i, (name, value)) in map.iter().enumerate() {
                    key(i == 0, name, out);
                    self.value(Some(element), value, out);
                }
                out.push(b'}');
            }
            (Some(Type::Alternative(_)), Value::Object(map)) => self.object(map, definition(SCHEMA), out),
            (Some(Type::Any), value) => self.own(value, out),
            (_, other) => plain(other, out),
        }
    }

    fn list(&mut self, element: Option<&'static Type>, items: &'v [Value], out: &mut Vec<u8>) {
        out.push(b'[');
        for (i, item) in items.iter().enumerate() {
            if i > 0 {
                out.push(b',');
            }
            self.value(element, item, out);
        }
        out.push(b']');
    }

    fn object(&mut self, map: &'v Map<String, Value>, of: Option<&'static Definition>, out: &mut Vec<u8>) {
        out.push(b'{');
        self.members(map, of, false, out);
        out.push(b'}');
    }

    /// Writes what is in an object; where something stands there already, that says what the object is.
    fn members(
        &mut self,
        map: &'v Map<String, Value>,
        of: Option<&'static Definition>,
        opened: bool,
        out: &mut Vec<u8>,
    ) {
        let base = self.members.len();
        for (name, value) in map {
            if opened && (name == "kind" || name == "apiVersion") {
                continue;
            }
            let field: Option<&Field> = of.and_then(|of| of.field(name));
            let order = field.map_or(u16::MAX, |field| field.order);
            self.members.push(Member { order, name, value, ty: field.map(|field| &field.ty) });
        }
        // Names are sorted, and what is in the same place stays in their order.
        self.members[base..].sort_by_key(|member| member.order);
        for at in base..self.members.len() {
            let Member { name, value, ty, .. } = self.members[at];
            key(at == base && !opened, name, out);
            self.value(ty, value, out);
        }
        self.members.truncate(base);
    }
}

/// The definition of what an alternative may hold.
const SCHEMA: &str = "x.JSONSchemaProps";

fn key(first: bool, name: &str, out: &mut Vec<u8>) {
    if !first {
        out.push(b',');
    }
    text(name, out);
    out.push(b':');
}

fn text(text: &str, out: &mut Vec<u8>) {
    // Writing to memory does not fail.
    let _ = serde_json::to_writer(out, text);
}

fn plain(value: &Value, out: &mut Vec<u8>) {
    // Nor does it for values, whose maps have texts as keys.
    let _ = serde_json::to_writer(out, value);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::super::kind;
    use super::*;

    fn printed(value: &Value) -> String {
        String::from_utf8(own(value)).expect("text")
    }

    #[test]
    fn fields_stand_in_the_order_of_declaration() {
        for (value, expected) in [
            (
                json!({"apiVersion": "v1", "kind": "Pod", "status": {}, "metadata": {"labels": {"b": "1", "a": "2"},
                    "uid": "u", "namespace": "ns", "name": "n", "resourceVersion": "1"},
                    "spec": {"containers": [{"image": "i", "name": "c", "zz": 1, "aa": 2}], "volumes": []}}),
                r#"{"kind":"Pod","apiVersion":"v1","metadata":{"name":"n","namespace":"ns","uid":"u","resourceVersion":"1","labels":{"a":"2","b":"1"}},"spec":{"volumes":[],"containers":[{"name":"c","image":"i","aa":2,"zz":1}]},"status":{}}"#,
            ),
            (
                json!({"apiVersion": "v1", "kind": "Status", "code": 404, "message": "m", "metadata": {},
                    "reason": "NotFound", "status": "Failure", "details": {"kind": "pods", "name": "x"}}),
                r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"m","reason":"NotFound","details":{"name":"x","kind":"pods"},"code":404}"#,
            ),
            // Structs that Go embeds are in JSON's outer object.
            (
                json!({"apiVersion": "v1", "kind": "Pod", "spec": {"volumes": [{"emptyDir": {}, "name": "v"}]}}),
                r#"{"kind":"Pod","apiVersion":"v1","spec":{"volumes":[{"name":"v","emptyDir":{}}]}}"#,
            ),
            // An object in a row is one of its own.
            (
                json!({"apiVersion": "meta.k8s.io/v1", "kind": "Table", "rows": [{"object": {"apiVersion": "v1",
                    "kind": "Pod"}, "cells": []}], "columnDefinitions": [{"type": "string", "name": "Name"}]}),
                r#"{"kind":"Table","apiVersion":"meta.k8s.io/v1","columnDefinitions":[{"name":"Name","type":"string"}],"rows":[{"cells":[],"object":{"kind":"Pod","apiVersion":"v1"}}]}"#,
            ),
            // Nobody knows in what order.
            (
                json!({"kind": "Thing", "apiVersion": "example.com/v1", "metadata": {"uid": "u", "name": "n"}}),
                r#"{"apiVersion":"example.com/v1","kind":"Thing","metadata":{"name":"n","uid":"u"}}"#,
            ),
        ] {
            assert_eq!(printed(&value), expected);
        }
    }

    #[test]
    fn an_opening_is_gone_on_from() {
        let value = json!({"apiVersion": "other", "kind": "Other", "spec": {}, "metadata": {"name": "n"}});
        let made = after(b"{\"kind\":\"Pod\"".to_vec(), kind("", "v1", "Pod"), &value);
        assert_eq!(made, br#"{"kind":"Pod","metadata":{"name":"n"},"spec":{}}"#);
        assert_eq!(after(b"{\"kind\":\"X\"".to_vec(), None, &json!({})), br#"{"kind":"X"}"#);
    }

    proptest! {
        #[test]
        fn nothing_is_lost(names in proptest::collection::vec("metadata|spec|status|containers|volumes|name|x|rows|object|kind|apiVersion", 1..12), leaf in "[ -~]{0,8}") {
            let mut value = json!({"apiVersion": "v1", "kind": "Pod", "leaf": leaf});
            let mut at = &mut value;
            for (i, name) in names.iter().enumerate() {
                at[name] = if i % 3 == 2 { json!([{"a": i}]) } else { json!({"b": i}) };
                at = match i % 3 { 2 => &mut at[name][0], _ => &mut at[name] };
            }
            let read: Value = serde_json::from_slice(&own(&value)).expect("JSON");
            prop_assert_eq!(read, value);
        }
    }
}
