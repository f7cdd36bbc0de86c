//! Values as Go's own printing shows them: clients see it in messages.

use serde_json::{Map, Value};

/// What `%T` says of a value that was read from JSON.
pub fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(n) if n.is_i64() => "int64",
        // Whole numbers that are too large too.
        Value::Number(_) => "float64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

/// An object as Go's `%v` prints a map.
pub fn map(entries: &Map<String, Value>) -> String {
    let entries: Vec<String> = entries.iter().map(|(k, v)| format!("{k}:{}", text(v))).collect();
    format!("map[{}]", entries.join(" "))
}

/// A value as Go's `%v` prints it.
pub fn text(value: &Value) -> String {
    match value {
        Value::Object(entries) => map(entries),
        Value::Array(items) => format!("[{}]", items.iter().map(text).collect::<Vec<_>>().join(" ")),
        Value::String(said) => said.clone(),
        Value::Null => "<nil>".to_owned(),
        other => other.to_string(),
    }
}
