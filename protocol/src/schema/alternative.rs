//! Fields that hold a JSON schema or something else in its place.
//!
//! Go reads each of them by code of its own, apart from what is around it: fields of the schema that nobody knows, and
//! those that come twice, are passed over in silence, and a schema that is wrong is told at the field that holds it.

use serde_json::Value;

use super::{Type, decode, definition};

/// What may stand in a schema's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alternative {
    /// `true` or `false`.
    Bool,
    /// Several schemas.
    Schemas,
    /// Several texts.
    Texts,
}

impl Alternative {
    /// Brings a value into the form that Go would print. The error is Go's message, which does not know yet where the
    /// value stands.
    pub(super) fn read_in(self, value: &mut Value) -> Result<(), String> {
        match (self, &mut *value) {
            (_, Value::Null) => Ok(()),
            (_, Value::Object(_)) => schema(value),
            (Alternative::Bool, Value::Bool(_)) => Ok(()),
            (Alternative::Bool, _) => Err("boolean or JSON schema expected".to_owned()),
            (Alternative::Schemas, Value::Array(items)) if !items.is_empty() => {
                items.iter_mut().try_for_each(schema)
            }
            (Alternative::Texts, Value::Array(items)) if !items.is_empty() => {
                items.iter_mut().try_for_each(text)
            }
            _ => {
                *value = Value::Null;
                Ok(())
            }
        }
    }
}

fn schema(value: &mut Value) -> Result<(), String> {
    let Some(schema) = definition("x.JSONSchemaProps") else { return Ok(()) };
    if value.is_null() {
        *value = Value::Object(serde_json::Map::new());
    }
    decode::decode_in(schema, value).map(|_| ())
}

fn text(value: &mut Value) -> Result<(), String> {
    match value {
        Value::String(_) => Ok(()),
        Value::Null => {
            *value = Value::String(String::new());
            Ok(())
        }
        other => Err(crate::go::cannot_unmarshal(other, "string")),
    }
}

/// The type of that name in the schemas of kinds.
pub(super) fn named(name: &str) -> Option<Type> {
    Some(Type::Alternative(match name {
        "x.JSONSchemaPropsOrArray" => Alternative::Schemas,
        "x.JSONSchemaPropsOrBool" => Alternative::Bool,
        "x.JSONSchemaPropsOrStringArray" => Alternative::Texts,
        _ => return None,
    }))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_schema_is_read_apart_from_what_is_around_it() {
        let props = definition("x.JSONSchemaProps").expect("a type");
        for (given, wanted) in [
            // Of the outer schema unknown fields are told, of the inner one they are not.
            (
                r#"{"what": 1, "items": {"type": "string", "type": "object", "required": [], "what": 2}}"#,
                Ok((json!({"items": {"type": "object"}}), vec!["unknown field \"what\""])),
            ),
            (r#"{"additionalProperties": false}"#, Ok((json!({"additionalProperties": false}), vec![]))),
            (r#"{"additionalProperties": null, "items": "x"}"#, Ok((json!({}), vec![]))),
            (r#"{"additionalProperties": 1}"#, Err("boolean or JSON schema expected")),
            (
                r#"{"properties": {"a": {"items": {"properties": {"b": {"type": 1}}}}}}"#,
                Err(
                    "json: cannot unmarshal number into Go struct field JSONSchemaProps.properties.items of type string",
                ),
            ),
            (
                r#"{"items": [{"type": "string", "format": ""}, 1]}"#,
                Err(
                    "json: cannot unmarshal number into Go struct field JSONSchemaProps.items of type v1.JSONSchemaProps",
                ),
            ),
            (
                r#"{"items": [{"type": "string", "format": ""}, null]}"#,
                Ok((json!({"items": [{"type": "string"}, {}]}), vec![])),
            ),
            (
                r#"{"dependencies": {"a": ["b"], "c": {"what": 1}}}"#,
                Ok((json!({"dependencies": {"a": ["b"], "c": {}}}), vec![])),
            ),
        ] {
            let read = decode::decode(props, given.as_bytes()).map(|read| (read.value, read.strict));
            let read = read
                .as_ref()
                .map(|(value, strict)| (value.clone(), strict.iter().map(String::as_str).collect()));
            assert_eq!(read.map_err(String::as_str), wanted, "{given}");
        }
    }
}
