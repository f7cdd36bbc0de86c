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
        without_nulls(target);
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

/// Takes fields that are null out of the objects in a list that a merge patch puts in place; entries that are null stay, as
/// the library that upstream uses has it.
fn without_nulls(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(without_nulls),
        Value::Object(fields) => {
            fields.retain(|_, value| !value.is_null());
            fields.values_mut().for_each(without_nulls);
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_merge_patch_merges_objects_and_replaces_the_rest() {
        for (target, patch, wanted) in [
            (
                json!({"a": 1, "b": {"c": 2}}),
                json!({"a": null, "b": {"d": 3}}),
                json!({"b": {"c": 2, "d": 3}}),
            ),
            (json!({"a": [1, 2]}), json!({"a": [3]}), json!({"a": [3]})),
            (json!({"a": 1}), json!({"a": {"b": null, "c": {"d": null}}}), json!({"a": {"c": {}}})),
            // Entries of lists may be null, fields of objects in them may not.
            (
                json!({"a": 1}),
                json!({"a": [null, {"b": null, "c": 1}, [null, {"d": null}]]}),
                json!({"a": [null, {"c": 1}, [null, {}]]}),
            ),
            (json!([1]), json!({"a": 1}), json!({"a": 1})),
        ] {
            let mut merged = target.clone();
            merge(&mut merged, patch.clone());
            assert_eq!(merged, wanted, "{target} {patch}");
        }
    }
}
