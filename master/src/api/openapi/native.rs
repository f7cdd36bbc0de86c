//! The schema of a declared kind as documents show it: with what every object has, and, in version 2, without what that
//! version's readers cannot cope with.

use serde_json::{Value, json};

use super::described::{API_VERSION, KIND, METADATA};
use super::form::Form;
use crate::api::object::{list, object_mut};

/// The schema of a kind. Where readers would take known fields for all there are, none are named.
pub fn native(declared: &Value, form: Form) -> Value {
    let open = form == Form::V2 && preserves(declared);
    if !declared.is_object() || open {
        return json!({"type": "object"});
    }
    let mut made = declared.clone();
    each(&mut made, &mut unfold);
    if form == Form::V2 {
        each(&mut made, &mut reduce);
    }
    each(&mut made, &mut |schema| {
        if schema["x-kubernetes-embedded-resource"] == true && !(form == Form::V2 && preserves(schema)) {
            type_meta(schema, form);
            let mut required: Vec<Value> = list(schema, &["required"]).to_vec();
            for name in ["kind", "apiVersion"] {
                if !required.iter().any(|known| known == name) {
                    required.push(name.into());
                }
            }
            schema["required"] = required.into();
        }
    });
    type_meta(&mut made, form);
    made
}

/// What every object has.
fn type_meta(schema: &mut Value, form: Form) {
    let properties = object_mut(schema, &["properties"]);
    for (name, said) in [("apiVersion", API_VERSION), ("kind", KIND)] {
        properties.insert(name.to_owned(), json!({"type": "string", "description": said}));
    }
    properties.insert("metadata".to_owned(), form.described(form.meta("ObjectMeta"), METADATA));
}

fn preserves(schema: &Value) -> bool {
    schema["x-kubernetes-preserve-unknown-fields"] == true
}

/// Goes through a schema and those in it that describe a part of the object, the outer ones first.
fn each(schema: &mut Value, change: &mut impl FnMut(&mut Value)) {
    if !schema.is_object() {
        return;
    }
    change(schema);
    for name in ["items", "additionalProperties"] {
        if let Some(inner) = schema.get_mut(name) {
            each(inner, change);
        }
    }
    let properties = schema.get_mut("properties").and_then(Value::as_object_mut);
    properties.into_iter().flatten().for_each(|(_, inner)| each(inner, change));
}

/// Spells out which types a number or a text is of.
fn unfold(schema: &mut Value) {
    if schema["x-kubernetes-int-or-string"] != true {
        return;
    }
    let either = json!([{"type": "integer"}, {"type": "string"}]);
    let said =
        schema["anyOf"] == either || list(schema, &["allOf"]).first().is_some_and(|of| of["anyOf"] == either);
    match schema["anyOf"].is_null() {
        _ if said => {}
        true => schema["anyOf"] = either,
        false => {
            let mut all = vec![json!({"anyOf": either})];
            all.extend(list(schema, &["allOf"]).iter().cloned());
            schema["allOf"] = all.into();
        }
    }
}

/// Takes out what version 2 does not know, and what its readers take amiss.
fn reduce(schema: &mut Value) {
    let nullable = |schema: &Value| schema["nullable"] == true;
    let (null, open) = (nullable(schema), preserves(schema));
    let loose = schema["additionalProperties"].is_object() && nullable(&schema["additionalProperties"]);
    let Some(map) = schema.as_object_mut() else { return };
    for name in ["allOf", "oneOf", "anyOf", "not", "default"] {
        map.remove(name);
    }
    if null {
        map.remove("type");
        map.remove("nullable");
    }
    if null || open {
        map.remove("items");
        map.remove("properties");
    }
    let is =
        |map: &serde_json::Map<String, Value>, ty: &str| map.get("type").is_some_and(|known| known == ty);
    if (is(map, "array") && !map.contains_key("items")) || (is(map, "object") && open) {
        map.remove("type");
    }
    let properties = map.get("properties").and_then(Value::as_object);
    let optional: Vec<&String> =
        properties.into_iter().flatten().filter(|(_, of)| nullable(of)).map(|(name, _)| name).collect();
    let mut required: Vec<Value> = map.get("required").and_then(Value::as_array).cloned().unwrap_or_default();
    required.retain(|name| !loose && !optional.iter().any(|known| *name == known.as_str()));
    match required.is_empty() {
        true => drop(map.remove("required")),
        false => drop(map.insert("required".to_owned(), required.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(schema: Value, form: Form) -> Value {
        native(&json!({"type": "object", "properties": {"x": schema}}), form)["properties"]["x"].clone()
    }

    #[test]
    fn every_object_has_its_metadata() {
        let made = native(&json!({"type": "object", "properties": {"spec": {"type": "object"}}}), Form::V3);
        let expected = json!({"type": "object", "properties": {
            "apiVersion": {"type": "string", "description": API_VERSION},
            "kind": {"type": "string", "description": KIND},
            "metadata": {"description": METADATA,
                "allOf": [{"$ref": "#/components/schemas/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"}]},
            "spec": {"type": "object"}}});
        assert_eq!(made, expected);
        assert_eq!(native(&Value::Null, Form::V3), json!({"type": "object"}));
    }

    #[test]
    fn readers_of_version_2_are_told_of_no_fields_where_there_may_be_others() {
        let open = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true,
            "properties": {"spec": {"type": "object"}}});
        assert_eq!(native(&open, Form::V2), json!({"type": "object"}));
        assert!(native(&open, Form::V3)["properties"]["metadata"].is_object());
        let inner = json!({"x-kubernetes-preserve-unknown-fields": true});
        assert_eq!(field(open.clone(), Form::V2), inner);
        assert_eq!(field(open.clone(), Form::V3), open);
    }

    #[test]
    fn version_2_knows_less() {
        for (schema, expected) in [
            (json!({"type": "string", "nullable": true}), json!({})),
            (json!({"type": "array", "nullable": true, "items": {"type": "string"}}), json!({})),
            (
                json!({"type": "array", "x-kubernetes-preserve-unknown-fields": true, "items": {"type": "object"}}),
                json!({"x-kubernetes-preserve-unknown-fields": true}),
            ),
            (
                json!({"type": "string", "oneOf": [{"format": "a"}], "not": {"format": "b"}, "maxLength": 3, "default": "b"}),
                json!({"type": "string", "maxLength": 3}),
            ),
            (
                json!({"type": "object", "required": ["a", "b"], "properties": {"a": {"type": "string", "nullable": true},
                "b": {"type": "string"}}}),
                json!({"type": "object", "required": ["b"], "properties": {"a": {}, "b": {"type": "string"}}}),
            ),
            (
                json!({"type": "object", "required": ["a"], "additionalProperties": {"type": "string", "nullable": true}}),
                json!({"type": "object", "additionalProperties": {}}),
            ),
            (json!({"x-kubernetes-int-or-string": true}), json!({"x-kubernetes-int-or-string": true})),
        ] {
            assert_eq!(field(schema.clone(), Form::V2), expected, "{schema}");
        }
    }

    #[test]
    fn what_may_be_a_number_or_a_text_says_so_once() {
        let either = json!([{"type": "integer"}, {"type": "string"}]);
        for (schema, expected) in [
            (json!({}), json!({"anyOf": either})),
            (json!({"anyOf": either}), json!({"anyOf": either})),
            (
                json!({"anyOf": [{"minLength": 1}]}),
                json!({"anyOf": [{"minLength": 1}], "allOf": [{"anyOf": either}]}),
            ),
        ] {
            let [mut schema, mut expected] = [schema, expected];
            schema["x-kubernetes-int-or-string"] = true.into();
            expected["x-kubernetes-int-or-string"] = true.into();
            assert_eq!(field(schema, Form::V3), expected);
        }
    }

    #[test]
    fn embedded_objects_have_metadata_too() {
        let embedded = json!({"type": "object", "x-kubernetes-embedded-resource": true, "required": ["kind", "spec"],
            "properties": {"spec": {"type": "object"}}});
        let made = field(embedded, Form::V3);
        assert_eq!(made["required"], json!(["kind", "spec", "apiVersion"]));
        assert_eq!(made["properties"]["kind"]["type"], "string");
    }
}
