//! JSON to protobuf messages.
//!
//! What JSON leaves out is left out here too, but for what Go writes even at zero. Its clients read both alike; that
//! ours are the same bytes lets them be compared, and counted.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{DEPTH_MAX, Entry, Kind, MAGIC, MESSAGES, Special, message_of};

/// An object in the envelope that says its kind; `None` where the kind has no protobuf form.
pub fn envelope(object: &Value) -> Option<Vec<u8>> {
    let (version, kind) = (object["apiVersion"].as_str()?, object["kind"].as_str()?);
    let name = message_of(version, kind)?;
    let mut raw = Vec::new();
    message(&mut raw, name, object, 0);
    let types = types(version, kind);
    let mut out = Vec::with_capacity(raw.len() + types.len() + 32);
    out.extend_from_slice(MAGIC);
    bytes(&mut out, 1, &types);
    bytes(&mut out, 2, &raw);
    // Content encoding and content type: upstream writes them empty.
    bytes(&mut out, 3, b"");
    bytes(&mut out, 4, b"");
    Some(out)
}

/// What an envelope says of its content.
pub(super) fn types(version: &str, kind: &str) -> Vec<u8> {
    let mut types = Vec::new();
    bytes(&mut types, 1, version.as_bytes());
    bytes(&mut types, 2, kind.as_bytes());
    types
}

/// One event of a watch: its length in four bytes, then a `WatchEvent` that carries the enveloped object.
pub fn watch_frame(kind: &str, object: &Value) -> Option<Vec<u8>> {
    let mut extension = Vec::new();
    bytes(&mut extension, 1, &envelope(object)?);
    let mut event = Vec::new();
    bytes(&mut event, 1, kind.as_bytes());
    bytes(&mut event, 2, &extension);
    let mut frame = u32::try_from(event.len()).ok()?.to_be_bytes().to_vec();
    frame.extend_from_slice(&event);
    Some(frame)
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn integer(out: &mut Vec<u8>, number: u64, value: i64) {
    varint(out, number << 3);
    // Negative numbers are ten bytes, 32-bit ones too.
    varint(out, value as u64);
}

/// The beginning of a field of so many bytes.
pub(super) fn length_of(out: &mut Vec<u8>, number: u64, length: u64) {
    varint(out, number << 3 | 2);
    varint(out, length);
}

pub(super) fn bytes(out: &mut Vec<u8>, number: u64, bytes: &[u8]) {
    length_of(out, number, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

pub(super) fn message(out: &mut Vec<u8>, name: &str, value: &Value, depth: usize) {
    if depth > DEPTH_MAX || value.is_null() {
        return;
    }
    if let Some(special) = Special::of(name) {
        return self::special(out, special, value, depth);
    }
    let Some(table) = MESSAGES.get(name) else { return };
    put_entries(out, table, value, depth);
}

/// Writes those fields of a message that a value has, and those that are always there.
pub(super) fn put_entries(out: &mut Vec<u8>, table: &[Entry], value: &Value, depth: usize) {
    for entry in table {
        if entry.embedded {
            scalar(out, entry.number, entry.kind, value, depth);
            continue;
        }
        match value.get(entry.name) {
            None | Some(Value::Null) if entry.always => zero(out, entry, depth),
            None | Some(Value::Null) => {}
            Some(Value::Object(map)) if entry.map => {
                for (key, value) in map {
                    let mut pair = Vec::new();
                    bytes(&mut pair, 1, key.as_bytes());
                    scalar(&mut pair, 2, entry.kind, value, depth);
                    bytes(out, entry.number, &pair);
                }
            }
            Some(Value::Array(items)) if entry.repeated => {
                items.iter().for_each(|item| scalar(out, entry.number, entry.kind, item, depth));
            }
            Some(value) => single(out, entry, value, depth),
        }
    }
}

/// Writes a field that nothing is said of.
fn zero(out: &mut Vec<u8>, entry: &Entry, depth: usize) {
    let value = match entry.kind {
        Kind::Message(name) => match Special::of(name) {
            Some(Special::Quantity) => "0".into(),
            Some(Special::IntOrString) => 0.into(),
            // No bytes are the zero of the others.
            Some(_) => return bytes(out, entry.number, b""),
            None => Value::Object(Map::new()),
        },
        _ => Value::Null,
    };
    scalar(out, entry.number, entry.kind, &value, depth);
}

fn single(out: &mut Vec<u8>, entry: &Entry, value: &Value, depth: usize) {
    if !entry.map && !entry.repeated {
        scalar(out, entry.number, entry.kind, value, depth);
    }
}

fn scalar(out: &mut Vec<u8>, number: u64, kind: Kind, value: &Value, depth: usize) {
    match kind {
        Kind::Text => match value {
            Value::String(text) => bytes(out, number, text.as_bytes()),
            Value::Null => bytes(out, number, b""),
            other => bytes(out, number, other.to_string().as_bytes()),
        },
        Kind::Bytes => {
            // The API lets no other text into such a field.
            let decoded = STANDARD.decode(value.as_str().unwrap_or_default()).unwrap_or_default();
            bytes(out, number, &decoded);
        }
        Kind::Bool => integer(out, number, i64::from(value.as_bool().unwrap_or(false))),
        Kind::Int => integer(out, number, value.as_i64().unwrap_or(0)),
        Kind::Double => {
            varint(out, number << 3 | 1);
            out.extend_from_slice(&value.as_f64().unwrap_or(0.0).to_bits().to_le_bytes());
        }
        Kind::Message(name) => {
            let mut inner = Vec::new();
            message(&mut inner, name, value, depth + 1);
            bytes(out, number, &inner);
        }
    }
}

fn special(out: &mut Vec<u8>, special: Special, value: &Value, depth: usize) {
    let schema = |out: &mut Vec<u8>, number: u64, value: &Value| {
        let mut inner = Vec::new();
        message(&mut inner, "x.JSONSchemaProps", value, depth + 1);
        bytes(out, number, &inner);
    };
    let texts = |out: &mut Vec<u8>, number: u64| {
        for text in value.as_array().into_iter().flatten().filter_map(Value::as_str) {
            bytes(out, number, text.as_bytes());
        }
    };
    match special {
        Special::Time | Special::MicroTime => {
            let Ok(time) = OffsetDateTime::parse(value.as_str().unwrap_or_default(), &Rfc3339) else {
                return;
            };
            integer(out, 1, time.unix_timestamp());
            integer(out, 2, i64::from(time.nanosecond()));
        }
        Special::Quantity => scalar(out, 1, Kind::Text, value, depth),
        Special::IntOrString => {
            integer(out, 1, i64::from(value.is_string()));
            integer(out, 2, value.as_i64().unwrap_or(0));
            bytes(out, 3, value.as_str().unwrap_or_default().as_bytes());
        }
        Special::Raw => bytes(out, 1, value.to_string().as_bytes()),
        Special::Texts => texts(out, 1),
        Special::SchemaOrArray => match value {
            Value::Array(items) => items.iter().for_each(|item| schema(out, 2, item)),
            one => schema(out, 1, one),
        },
        Special::SchemaOrBool => match value {
            Value::Bool(allows) => integer(out, 1, i64::from(*allows)),
            one => {
                integer(out, 1, 1);
                schema(out, 2, one);
            }
        },
        Special::SchemaOrTexts => match value {
            Value::Array(_) => texts(out, 2),
            one => schema(out, 1, one),
        },
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::schema::protobuf::to_json;

    #[test]
    fn what_is_written_is_read_back() {
        for object in [
            json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {
                    "name": "p", "labels": {"a": "b", "c": ""}, "creationTimestamp": "2024-05-06T07:08:09Z",
                    "ownerReferences": [{"apiVersion": "v1", "kind": "X", "name": "o", "uid": "u", "controller": true}],
                },
                "spec": {
                    "containers": [{
                        "name": "c", "image": "i", "ports": [{"containerPort": 80, "protocol": "TCP"}],
                        "resources": {"limits": {"cpu": "100m"}},
                        "livenessProbe": {"httpGet": {"path": "/x", "port": "http"}, "periodSeconds": 3},
                        "env": [{"name": "e", "valueFrom": {"configMapKeyRef": {"name": "m", "key": "k"}}}],
                    }],
                    "volumes": [{"name": "v", "emptyDir": {"sizeLimit": "1Gi"}}],
                    "terminationGracePeriodSeconds": -1,
                },
            }),
            json!({
                "apiVersion": "v1", "kind": "SecretList", "metadata": {"resourceVersion": "7"},
                "items": [{"metadata": {"name": "s"}, "data": {"a": "YWI=", "b": "/+8="}}],
            }),
            json!({
                "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "l"},
                "spec": {"renewTime": "2024-05-06T07:08:09.123456Z", "leaseDurationSeconds": 40},
            }),
            json!({
                "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
                "metadata": {"name": "w"},
                "webhooks": [{
                    "name": "a.b.c", "clientConfig": {"caBundle": "YQ==", "url": "https://x"},
                    "rules": [{"operations": ["*"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}],
                }],
            }),
            json!({
                "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "d"},
                "spec": {"group": "g", "versions": [{"name": "v1", "schema": {"openAPIV3Schema": {
                    "type": "object", "x-kubernetes-preserve-unknown-fields": true,
                    "properties": {
                        "a": {"type": "array", "items": {"type": "string"}, "default": [1, {"x": null}]},
                        "b": {"type": "object", "additionalProperties": {"type": "number", "maximum": 1.5}},
                    },
                }}}]},
            }),
            json!({
                "apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Failure", "code": 404,
                "reason": "NotFound", "message": "no", "details": {"name": "x", "causes": [{"message": "m"}]},
            }),
            json!({
                "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadataList", "metadata": {"continue": "c"},
                "items": [{"metadata": {"name": "x"}}],
            }),
        ] {
            let written = envelope(&object).expect("has a protobuf form");
            let read: Value = serde_json::from_slice(&to_json(&written).expect("is read")).expect("is JSON");
            assert_eq!(said(read), said(object));
        }
        assert_eq!(envelope(&json!({"apiVersion": "example.com/v1", "kind": "Thing"})), None);
    }

    /// A value without what says nothing.
    fn said(value: Value) -> Value {
        let says = |value: &Value| {
            !value.is_null() && *value != 0 && *value != false && *value != "" && *value != json!({})
        };
        match value {
            Value::Object(fields) => {
                let fields = fields.into_iter().map(|(name, value)| (name, said(value)));
                Value::Object(fields.filter(|(_, value)| says(value)).collect())
            }
            Value::Array(items) => items.into_iter().map(said).collect(),
            other => other,
        }
    }

    #[test]
    fn what_go_has_no_pointer_for_is_written_even_at_zero() {
        // Texts, a number and a time of metadata; a status holds lists and pointers besides, which are left out.
        let metadata = |name: &str| {
            let mut out = Vec::new();
            for (number, text) in [(1, name), (2, ""), (3, ""), (4, ""), (5, ""), (6, "")] {
                bytes(&mut out, number, text.as_bytes());
            }
            integer(&mut out, 7, 0);
            bytes(&mut out, 8, b"");
            out
        };
        let of = |name: &str, object: Value| {
            let mut out = Vec::new();
            message(&mut out, name, &object, 0);
            out
        };
        let mut map = Vec::new();
        bytes(&mut map, 1, &metadata("a"));
        assert_eq!(of("a.core.v1.ConfigMap", json!({"metadata": {"name": "a"}})), map);
        let mut port = Vec::new();
        bytes(&mut port, 1, b"");
        bytes(&mut port, 2, b"");
        integer(&mut port, 3, 80);
        bytes(&mut port, 4, b"\x08\x00\x10\x00\x1a\x00");
        integer(&mut port, 5, 0);
        assert_eq!(of("a.core.v1.ServicePort", json!({"port": 80})), port);
        // The source of a volume is embedded, and there even if it is none.
        assert_eq!(of("a.core.v1.Volume", json!({"name": "v"})), b"\x0a\x01v\x12\x00");
        // Nothing is what a divisor is if it is not said: no amount at all.
        let divided = of("a.core.v1.ResourceFieldSelector", json!({"resource": "limits.cpu"}));
        assert_eq!(divided, b"\x0a\x00\x12\x0alimits.cpu\x1a\x03\x0a\x010");
    }

    #[test]
    fn a_watch_frame_carries_its_length() {
        let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}});
        let frame = watch_frame("ADDED", &object).expect("has a protobuf form");
        let (length, event) = frame.split_at(4);
        assert_eq!(u32::from_be_bytes(length.try_into().expect("four bytes")) as usize, event.len());
        assert_eq!(&event[..7], b"\x0a\x05ADDED");
        let inner = event.windows(MAGIC.len()).position(|w| w == MAGIC).expect("has the envelope");
        assert!(to_json(&event[inner..]).is_ok());
    }
}
