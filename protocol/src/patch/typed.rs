//! What is wrong with an untyped object when Go makes a typed one of it field by field (not from JSON text):
//! another code path there, with other words.

use serde_json::Value;

use crate::go;
use crate::quantity::{Quantity, QuantityError};
use crate::schema::internal::in_order;
use crate::schema::{Definition, Field, Type, binary, times};

/// The first value that does not fit its field.
pub fn problem(definition: &'static Definition, value: &Value) -> Option<String> {
    let fields = match value {
        Value::Null => return None,
        Value::Object(fields) => fields,
        other => return Some(format!("cannot restore struct from: {}", kind(other))),
    };
    let wrong = |field: &'static Field| {
        let why = of_type(&field.ty, Some(field), fields.get(field.name)?)?;
        Some((field, why))
    };
    let mut found: Vec<(&Field, String)> = definition.fields.iter().filter_map(wrong).collect();
    // Most patches fit, and few miss twice: only then it matters which field was declared first.
    if found.len() > 1 {
        let order = in_order(definition);
        found.sort_by_cached_key(|(field, _)| order.iter().position(|of| of.name == field.name));
    }
    found.into_iter().next().map(|(_, why)| why)
}

fn of_type(ty: &'static Type, field: Option<&'static Field>, value: &Value) -> Option<String> {
    if value.is_null() {
        return None;
    }
    match ty {
        Type::Object(_) => ty.definition().and_then(|d| problem(d, value)),
        Type::List(element) => match value {
            Value::Array(items) => items.iter().find_map(|item| of_type(element, field, item)),
            other => Some(format!("cannot restore slice from {}", kind(other))),
        },
        Type::Map(element) => match value {
            Value::Object(entries) => entries.values().find_map(|v| of_type(element, field, v)),
            other => Some(format!("cannot restore map from {}", kind(other))),
        },
        Type::Bytes if value.is_string() => {
            let wrong = binary::canonical(value.as_str().unwrap_or_default()).err();
            wrong.map(|why| format!("error decoding from json: {why}"))
        }
        // Bytes may be given one by one.
        Type::Bytes => match value {
            Value::Array(items) => {
                items.iter().find_map(|item| of_type(&Type::Int32, None, item)).map(|why| {
                    let (of, wrong) = ("int32", "uint8");
                    why.strip_suffix(of).map_or(why.clone(), |said| format!("{said}{wrong}"))
                })
            }
            other => Some(format!("cannot restore slice from {}", kind(other))),
        },
        Type::Any | Type::Alternative(_) => None,
        // These are read by code of their own, from JSON that knows not where it stands.
        Type::Quantity => match value {
            Value::String(text) => Quantity::written(text, false).err().map(|e| e.to_string()),
            Value::Number(_) => None,
            _ => Some(QuantityError::Form.to_string()),
        },
        Type::Time | Type::MicroTime => match value {
            Value::String(text) => times::error(text, *ty == Type::MicroTime),
            other => Some(go::cannot_unmarshal(other, "string")),
        },
        Type::IntOrString => match value {
            Value::String(_) => None,
            Value::Number(n) if n.as_i64().is_some_and(|n| i32::try_from(n).is_ok()) => None,
            Value::Number(n) => {
                Some(format!("json: cannot unmarshal number {n} into Go value of type int32"))
            }
            other => Some(go::cannot_unmarshal(other, "int32")),
        },
        Type::String => scalar("string", field, value, value.is_string()),
        Type::Bool => scalar("bool", field, value, value.is_boolean()),
        Type::Int32 => scalar("int32", field, value, is_whole(value)),
        Type::Int64 => scalar("int64", field, value, is_whole(value)),
        Type::Number => scalar("float64", field, value, value.is_number()),
    }
}

fn is_whole(value: &Value) -> bool {
    value.as_i64().is_some() || value.as_f64().is_some_and(|f| f.trunc() == f)
}

/// Go converts between the kinds of numbers, and refuses (with words) what it would convert but JSON would not.
fn scalar(go: &str, field: Option<&Field>, value: &Value, fits: bool) -> Option<String> {
    if fits {
        return None;
    }
    let number_to_text = go == "string" && value.as_i64().is_some();
    let fraction_to_whole = go.starts_with("int") && value.is_f64();
    if number_to_text || fraction_to_whole {
        let named = field.and_then(Field::go_type).filter(|name| !name.starts_with('['));
        let to = named.unwrap_or_else(|| go.to_owned());
        return Some(format!("cannot convert {} to {to}", kind(value)));
    }
    Some(format!("unrecognized type: {go}"))
}

/// Makes numbers what Go makes of them on this path: a fraction of zero goes, and so do bits that there is no room for.
pub fn fit(definition: &'static Definition, value: &mut Value) {
    let Value::Object(fields) = value else { return };
    for field in &definition.fields {
        if let Some(value) = fields.get_mut(field.name) {
            fit_type(&field.ty, value);
        }
    }
}

fn fit_type(ty: &'static Type, value: &mut Value) {
    match (ty, &mut *value) {
        (Type::Object(_), _) => {
            if let Some(definition) = ty.definition() {
                fit(definition, value);
            }
        }
        (Type::List(element), Value::Array(items)) => {
            items.iter_mut().for_each(|item| fit_type(element, item));
        }
        (Type::Map(element), Value::Object(entries)) => {
            entries.values_mut().for_each(|item| fit_type(element, item));
        }
        (Type::Int32 | Type::Int64, Value::Number(number)) => {
            let whole = number.as_i64().or_else(|| {
                // What has no room becomes the least.
                number.as_f64().map(|number| go::truncated(number).unwrap_or(i64::MIN))
            });
            if let Some(whole) = whole {
                *value = if *ty == Type::Int32 { (whole as i32).into() } else { whole.into() };
            }
        }
        _ => {}
    }
}

/// Go's kind of a value read from JSON.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "invalid",
        Value::Bool(_) => "bool",
        Value::Number(n) if n.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "slice",
        Value::Object(_) => "map",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::problem;
    use crate::schema;

    #[test]
    fn values_that_do_not_fit_are_told_in_gos_words() {
        let cases = [
            (json!({"spec": {"replicas": "two"}}), "unrecognized type: int32"),
            (json!({"spec": {"replicas": 1.5}}), "cannot convert float64 to int32"),
            (json!({"spec": {"paused": 1}}), "unrecognized type: bool"),
            (json!({"metadata": {"labels": {"a": 1}}}), "cannot convert int64 to string"),
            (json!({"metadata": {"labels": "a"}}), "cannot restore map from string"),
            (json!({"spec": "x"}), "cannot restore struct from: string"),
            (json!({"spec": {"template": {"spec": {"containers": {}}}}}), "cannot restore slice from map"),
            // What is declared first is told, wherever its name is in the alphabet.
            (
                json!({"spec": {"minReadySeconds": "x", "selector": "x"}}),
                "cannot restore struct from: string",
            ),
            (json!({"spec": {"revisionHistoryLimit": "x", "paused": "x"}}), "unrecognized type: int32"),
        ];
        let definition = schema::kind("apps", "v1", "Deployment").expect("deployment");
        for (value, wanted) in cases {
            assert_eq!(problem(definition, &value).as_deref(), Some(wanted), "{value}");
        }
        assert_eq!(problem(definition, &json!({"spec": {"replicas": 2.0, "selector": null}})), None);
        for (kind, value, wanted) in [
            (
                "Secret",
                json!({"data": {"a": "*"}}),
                "error decoding from json: illegal base64 data at input byte 0",
            ),
            ("Secret", json!({"data": {"a": [1, "b"]}}), "unrecognized type: uint8"),
            (
                "Pod",
                json!({"metadata": {"creationTimestamp": 5}}),
                "json: cannot unmarshal number into Go value of type string",
            ),
            (
                "Pod",
                json!({"metadata": {"creationTimestamp": "10%"}}),
                "parsing time \"10%\" as \"2006-01-02T15:04:05Z07:00\": cannot parse \"10%\" as \"2006\"",
            ),
            (
                "Service",
                json!({"spec": {"ports": [{"targetPort": {}}]}}),
                "json: cannot unmarshal object into Go value of type int32",
            ),
        ] {
            let definition = schema::kind("", "v1", kind).expect("a kind");
            assert_eq!(problem(definition, &value).as_deref(), Some(wanted), "{value}");
        }
    }

    #[test]
    fn numbers_are_made_to_fit() {
        let definition = schema::kind("apps", "v1", "Deployment").expect("deployment");
        for (given, made) in [
            (json!(2.0), 2),
            (json!(99_999_999_999_i64), 1_215_752_191),
            (json!(-1), -1),
            (json!(1e300), 0),
            (json!(u64::MAX), 0),
        ] {
            let mut value = json!({"spec": {"replicas": given}});
            super::fit(definition, &mut value);
            assert_eq!(value, json!({"spec": {"replicas": made}}));
        }
    }
}
