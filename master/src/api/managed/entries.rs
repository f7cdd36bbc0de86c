//! Managed fields as they lie in an object.

use protocol::apply::managers;
use protocol::apply::{Comparison, Manager, Operation};
use serde_json::Value;

use crate::api::invalid::{Errors, Path};
use crate::api::object::{self, list, text};

const MANAGER_CHARS_MAX: usize = 128;
const SUBRESOURCE_BYTES_MAX: usize = 256;

/// Takes them out of an object.
pub fn take(value: &mut Value) -> Value {
    let meta = object::existing_mut(value, &["metadata"]);
    meta.and_then(|m| m.remove("managedFields")).unwrap_or(Value::Null)
}

/// Puts them into an object; null is none.
pub fn set(value: &mut Value, entries: Value) {
    let meta = object::object_mut(value, &["metadata"]);
    if entries.is_null() {
        meta.remove("managedFields");
    } else {
        meta.insert("managedFields".to_owned(), entries);
    }
}

/// Whether an entry is what a writer wrote in a version.
pub fn is_of(entry: &Value, writer: &Manager, version: &str) -> bool {
    let operation = if writer.operation == Operation::Apply { "Apply" } else { "Update" };
    text(entry, &["manager"]) == writer.name
        && text(entry, &["operation"]) == operation
        && text(entry, &["subresource"]) == writer.subresource
        && text(entry, &["apiVersion"]) == version
}

/// The entry of a writer that holds all fields which a write changes, where they belong to nobody else: then the write
/// changes nothing of the entries but its time.
pub fn holder(entries: &Value, changes: &Comparison, writer: &Manager, version: &str) -> Option<usize> {
    if !changes.removed.is_empty() {
        return None;
    }
    let changed = changes.changed();
    let mut own = None;
    for (i, entry) in entries.as_array()?.iter().enumerate() {
        let fields = &entry["fieldsV1"];
        if is_of(entry, writer, version) {
            if !changed.is_held_by(fields) {
                return None;
            }
            own = Some(i);
        } else if entry["apiVersion"] != version || changed.may_touch(fields) {
            return None;
        }
    }
    own
}

/// Entries of which one is of now; in upstream's order.
pub fn dated(mut entries: Value, which: usize, now: &str) -> Value {
    if let Value::Array(list) = &mut entries {
        if let Some(entry) = list.get_mut(which) {
            entry["time"] = now.into();
        }
        list.sort_by_cached_key(managers::order);
    }
    entries
}

/// Whether two lists of entries differ in nothing but times.
fn same_but_times(a: &[Value], b: &[Value]) -> bool {
    let same = |a: &Value, b: &Value| {
        ["manager", "operation", "apiVersion", "subresource", "fieldsV1"]
            .iter()
            .all(|name| a[*name] == b[*name])
    };
    // Times may have changed the order.
    a.len() == b.len() && a.iter().all(|x| b.iter().any(|y| same(x, y)))
}

/// Forgets that a writer wrote where it changed nothing: the times of its entries are put back.
pub fn keep_times(old: &Value, new: &mut Value) {
    let path = ["metadata", "managedFields"];
    let (before, after) = (list(old, &path), list(new, &path));
    if before == after || !same_but_times(before, after) || !same_but_managers(old, new) {
        return;
    }
    let kept = old["metadata"]["managedFields"].clone();
    set(new, kept);
}

/// Whether two objects are the same, but for their managers and versions.
fn same_but_managers(a: &Value, b: &Value) -> bool {
    let fields = |v: &'_ Value| v.as_object().map(|o| o.len());
    let (Some(first), Some(second)) = (a.as_object(), b.as_object()) else { return a == b };
    let rest = |name: &&String| !["managedFields", "resourceVersion", "selfLink"].contains(&name.as_str());
    let meta = |v: &Value| v["metadata"].as_object().map_or(0, |m| m.keys().filter(rest).count());
    fields(a) == fields(b)
        && first.iter().filter(|(name, _)| *name != "metadata").all(|(name, v)| second.get(name) == Some(v))
        && meta(a) == meta(b)
        && a["metadata"]
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(name, _)| rest(name))
            .all(|(name, v)| b["metadata"].get(name) == Some(v))
}

/// Checks entries that a client wrote by hand.
pub fn validate(meta: &Value, path: &Path, errors: &mut Errors) {
    for (i, entry) in list(meta, &["managedFields"]).iter().enumerate() {
        let path = path.child("managedFields").index(i);
        let (operation, form) = (text(entry, &["operation"]), text(entry, &["fieldsType"]));
        if !matches!(operation, "Apply" | "Update") {
            errors.invalid(&path.child("operation"), operation, "must be `Apply` or `Update`");
        }
        if !matches!(form, "" | "FieldsV1") {
            errors.invalid(&path.child("fieldsType"), form, "must be `FieldsV1`");
        }
        let manager = text(entry, &["manager"]);
        if manager.chars().count() > MANAGER_CHARS_MAX {
            errors.too_long(&path.child("manager"), MANAGER_CHARS_MAX);
        }
        if let Some((at, bad)) = manager.char_indices().find(|(_, c)| c.is_control()) {
            let why = format!("invalid character U+{:04X} (at position {at})", u32::from(bad));
            errors.invalid(&path.child("manager"), manager, why);
        }
        if text(entry, &["subresource"]).len() > SUBRESOURCE_BYTES_MAX {
            errors.too_long(&path.child("subresource"), SUBRESOURCE_BYTES_MAX);
        }
    }
}
