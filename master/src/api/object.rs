//! Reading and writing untyped objects.

use bytes::Bytes;
use protocol::Resource;
use protocol::schema::{self, written};
use serde_json::{Map, Value};
use time::OffsetDateTime;

/// The value at a path of names; `Null` where there is none.
pub fn at<'a>(value: &'a Value, path: &[&str]) -> &'a Value {
    path.iter().fold(value, |v, name| &v[*name])
}

/// The text at a path; empty where there is none.
pub fn text<'a>(value: &'a Value, path: &[&str]) -> &'a str {
    at(value, path).as_str().unwrap_or_default()
}

/// The integer at a path.
pub fn int(value: &Value, path: &[&str]) -> Option<i64> {
    at(value, path).as_i64()
}

/// The list at a path; empty where there is none.
pub fn list<'a>(value: &'a Value, path: &[&str]) -> &'a [Value] {
    at(value, path).as_array().map_or(&[], Vec::as_slice)
}

/// The object (or map) at a path, made where there is none. Anything else there is replaced.
pub fn object_mut<'a>(value: &'a mut Value, path: &[&str]) -> &'a mut Map<String, Value> {
    let mut value = value;
    for name in path {
        if !value.is_object() {
            *value = Value::Object(Map::new());
        }
        value = &mut value[*name];
    }
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    match value {
        Value::Object(map) => map,
        _ => unreachable!("just made an object"),
    }
}

/// The object at a path, where there is one.
pub fn existing_mut<'a>(value: &'a mut Value, path: &[&str]) -> Option<&'a mut Map<String, Value>> {
    path.iter().try_fold(value, |v, name| v.get_mut(*name))?.as_object_mut()
}

/// The list at a path, where there is one.
pub fn list_mut<'a>(value: &'a mut Value, path: &[&str]) -> &'a mut [Value] {
    path.iter()
        .try_fold(value, |v, name| v.get_mut(*name))
        .and_then(Value::as_array_mut)
        .map_or(&mut [], Vec::as_mut_slice)
}

/// Sets a field that is absent or null. Where Go cannot tell empty text from none, reading left it out already.
pub fn default(object: &mut Map<String, Value>, name: &str, value: impl Into<Value>) {
    if object.get(name).is_none_or(Value::is_null) {
        object.insert(name.to_owned(), value.into());
    }
}

/// As [`default`], for what takes work to find out.
pub fn default_with(
    object: &mut Map<String, Value>,
    name: &str,
    value: impl FnOnce(&Map<String, Value>) -> Value,
) {
    if object.get(name).is_none_or(Value::is_null) {
        let value = value(object);
        object.insert(name.to_owned(), value);
    }
}

/// Sets a text that is absent or empty, for fields that are there even when they are empty.
pub fn default_text(object: &mut Map<String, Value>, name: &str, value: impl Into<Value>) {
    if object.get(name).and_then(Value::as_str).is_none_or(str::is_empty) {
        object.insert(name.to_owned(), value.into());
    }
}

/// Drops a field of the object at a path, for what is not switched on; where the old object has it already, it stays.
pub fn drop_unless_had(value: &mut Value, old: &Value, path: &[&str], name: &str) {
    if at(old, path)[name].is_null()
        && let Some(object) = existing_mut(value, path)
    {
        object.remove(name);
    }
}

/// Copies a top-level field, or removes it where the source has none.
pub fn copy_field(from: &Value, to: &mut Value, name: &str) {
    let Some(to) = to.as_object_mut() else { return };
    match from.get(name) {
        Some(value) => to.insert(name.to_owned(), value.clone()),
        None => to.remove(name),
    };
}

/// Copies a field of the metadata, or removes it where the source has none.
pub fn copy_meta(from: &Value, to: &mut Value, name: &str) {
    let value = from["metadata"].get(name).cloned();
    let to = object_mut(to, &["metadata"]);
    match value {
        Some(value) => to.insert(name.to_owned(), value),
        None => to.remove(name),
    };
}

/// Removes annotations, and with the last of them their map.
pub fn drop_annotations(value: &mut Value, keys: &[&str]) {
    let Some(annotations) = existing_mut(value, &["metadata", "annotations"]) else { return };
    let before = annotations.len();
    annotations.retain(|key, _| !keys.contains(&key.as_str()));
    if before > 0 && annotations.is_empty() {
        object_mut(value, &["metadata"]).remove("annotations");
    }
}

/// The object's name.
pub fn name(value: &Value) -> &str {
    text(value, &["metadata", "name"])
}

/// The object's name, or what it will begin with where it has none yet.
pub fn name_so_far(value: &Value) -> &str {
    let name = name(value);
    if name.is_empty() { text(value, &["metadata", "generateName"]) } else { name }
}

/// The object's namespace; empty for cluster-scoped ones.
pub fn namespace(value: &Value) -> &str {
    text(value, &["metadata", "namespace"])
}

/// Whether the object is being deleted.
pub fn is_deleting(value: &Value) -> bool {
    value["metadata"].get("deletionTimestamp").is_some_and(|t| !t.is_null())
}

/// The finalizers.
pub fn finalizers(value: &Value) -> Vec<&str> {
    list(value, &["metadata", "finalizers"]).iter().filter_map(Value::as_str).collect()
}

/// An object's version and kind, as Go prints them: `apps/v1, Kind=Deployment`.
pub fn shown_kind(value: &Value) -> String {
    let version = text(value, &["apiVersion"]);
    let (group, version) = version.split_once('/').unwrap_or(("", version));
    format!("{group}/{version}, Kind={}", text(value, &["kind"]))
}

/// Now, as objects spell times.
pub fn now() -> String {
    protocol::schema::decode::print_time(OffsetDateTime::from(actors::time::now()))
}

/// The start of an object's JSON, which says what it is. Lists leave it out of their items, as upstream's do.
pub fn head(resource: &Resource) -> String {
    let (version, kind) = (resource.api_version(), resource.kind);
    // What Go has no types for it prints sorted.
    if resource.custom {
        format!("{{\"apiVersion\":\"{version}\",\"kind\":\"{kind}\"")
    } else {
        format!("{{\"kind\":\"{kind}\",\"apiVersion\":\"{version}\"")
    }
}

/// The object as JSON that starts with [`head`], its fields in upstream's order.
pub fn encode(resource: &Resource, value: &Value) -> Bytes {
    let definition = schema::kind(resource.group, resource.version, resource.kind);
    Bytes::from(written::after(head(resource).into_bytes(), definition, value))
}

/// The object as JSON that starts as [`head`] does, with the version and kind that it has.
pub fn encode_own(value: &Value) -> Bytes {
    if let known @ Some(_) = schema::of(value) {
        return Bytes::from(written::of(known, value));
    }
    let (version, kind) = (&value["apiVersion"], &value["kind"]);
    let head = format!("{{\"apiVersion\":{version},\"kind\":{kind}");
    Bytes::from(written::after(head.into_bytes(), None, value))
}

/// Whether two label maps (or absent ones) are the same.
pub fn same(a: &Value, b: &Value, path: &[&str]) -> bool {
    let empty = |v: &Value| v.is_null() || v.as_object().is_some_and(Map::is_empty);
    let (a, b) = (at(a, path), at(b, path));
    a == b || (empty(a) && empty(b))
}
