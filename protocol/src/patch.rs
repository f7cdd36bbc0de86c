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
