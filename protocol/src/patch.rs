//! Patches of objects, as upstream's implementations understand them.
//!
//! - [`merge`]: JSON merge patch. - [`json`]: JSON patch. - [`mod@strategic`]: strategic merge patch.
//! - [`typed`]: what is wrong with an untyped object that is to be one of a kind.

use serde_json::{Map, Value};

pub mod json;
pub mod strategic;
pub mod typed;

pub use json::{JsonPatch, JsonPatchError};
pub use strategic::{StrategicError, strategic};

/// RFC 7386: objects merge, `null` removes, everything else replaces.
pub fn merge(target: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *target = patch;
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Some(target) = target.as_object_mut() else { return };
    for (key, value) in patch {
        if value.is_null() {
            target.remove(&key);
        } else {
            merge(target.entry(key).or_insert(Value::Null), value);
        }
    }
}

/// An object as Go's `%v` prints a map.
pub fn go_map(map: &Map<String, Value>) -> String {
    let entries: Vec<String> = map.iter().map(|(k, v)| format!("{k}:{}", go_value(v))).collect();
    format!("map[{}]", entries.join(" "))
}

/// A value as Go's `%v` prints it.
pub fn go_value(value: &Value) -> String {
    match value {
        Value::Object(map) => go_map(map),
        Value::Array(items) => format!("[{}]", items.iter().map(go_value).collect::<Vec<_>>().join(" ")),
        Value::String(text) => text.clone(),
        Value::Null => "<nil>".to_owned(),
        other => other.to_string(),
    }
}
