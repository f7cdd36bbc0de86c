//! Reading objects that clients send as protobuf, by the table of field numbers.
//!
//! The outcome is JSON text, which then goes the same way as any other body. Fields that the table does not
//! know are passed over, as protobuf readers do.

use std::collections::HashMap;
use std::sync::LazyLock;

use serde_json::{Map, Number, Value};
use time::OffsetDateTime;

use super::decode::{print_micro, print_time};

/// What every such body starts with.
const MAGIC: &[u8] = b"k8s\0";
/// How deep messages may nest.
const DEPTH_MAX: usize = 64;

/// Why a protobuf body cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtobufError {
    /// The envelope is not there.
    #[error("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")]
    Prefix,
    /// The bytes end too early or make no sense.
    #[error("proto: unexpected EOF or malformed field")]
    Malformed,
    /// The kind is not served.
    #[error("no kind \"{kind}\" is registered for version \"{version}\"")]
    Kind {
        /// Kind.
        kind: String,
        /// Group and version.
        version: String,
    },
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Text,
    Bool,
    Int,
    Double,
    Bytes,
    Message(&'static str),
}

struct Entry {
    name: &'static str,
    kind: Kind,
    repeated: bool,
    map: bool,
}

type Messages = HashMap<&'static str, HashMap<u64, Entry>>;

static MESSAGES: LazyLock<Messages> = LazyLock::new(|| {
    let mut messages = Messages::new();
    let mut current = "";
    for line in include_str!("../../data/protobuf.txt").lines().filter(|l| !l.starts_with('#')) {
        if let Some(name) = line.strip_prefix("msg ") {
            current = name;
            messages.entry(name).or_default();
            continue;
        }
        let mut words = line.split(' ');
        let mut next = || words.next().unwrap_or_default();
        let (number, name, ty) = (next(), next(), next());
        let (repeated, map) = (ty.starts_with('['), ty.starts_with('{'));
        let kind = match ty.trim_start_matches(['[', '{']) {
            "s" => Kind::Text,
            "b" => Kind::Bool,
            "d" => Kind::Double,
            "B" => Kind::Bytes,
            other => other.strip_prefix('@').map_or(Kind::Int, Kind::Message),
        };
        if let Ok(number) = number.parse() {
            messages.entry(current).or_default().insert(number, Entry { name, kind, repeated, map });
        }
    }
    messages
});

/// Reads a body in the protobuf envelope as JSON text.
pub fn to_json(body: &[u8]) -> Result<Vec<u8>, ProtobufError> {
    let rest = body.strip_prefix(MAGIC).ok_or(ProtobufError::Prefix)?;
    let (mut version, mut kind, mut raw) = (String::new(), String::new(), &[][..]);
    for field in fields(rest) {
        match field? {
            (1, Wire::Bytes(meta)) => {
                for field in fields(meta) {
                    match field? {
                        (1, Wire::Bytes(text)) => version = String::from_utf8_lossy(text).into_owned(),
                        (2, Wire::Bytes(text)) => kind = String::from_utf8_lossy(text).into_owned(),
                        _ => {}
                    }
                }
            }
            (2, Wire::Bytes(bytes)) => raw = bytes,
            _ => {}
        }
    }
    let (group, short) = version.split_once('/').unwrap_or(("", &version));
    let name = match super::kind(group, short, &kind) {
        Some(definition) => definition.name,
        // Options have every group's version.
        None if kind == "DeleteOptions" => "m.DeleteOptions",
        None => return Err(ProtobufError::Kind { kind, version }),
    };
    let mut value = message(name, raw, 0)?;
    value["kind"] = kind.into();
    value["apiVersion"] = version.into();
    Ok(value.to_string().into_bytes())
}

enum Wire<'a> {
    Varint(u64),
    Fixed(u64),
    Bytes(&'a [u8]),
}

fn varint(bytes: &mut &[u8]) -> Result<u64, ProtobufError> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first().ok_or(ProtobufError::Malformed)?;
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(ProtobufError::Malformed)
}

fn take<'a>(bytes: &mut &'a [u8], count: usize) -> Result<&'a [u8], ProtobufError> {
    let (taken, rest) = bytes.split_at_checked(count).ok_or(ProtobufError::Malformed)?;
    *bytes = rest;
    Ok(taken)
}

/// The fields of a message, one after another; ends at the first that is malformed.
fn fields(mut bytes: &[u8]) -> impl Iterator<Item = Result<(u64, Wire<'_>), ProtobufError>> {
    let mut broken = false;
    std::iter::from_fn(move || {
        if bytes.is_empty() || broken {
            return None;
        }
        let mut one = || -> Result<(u64, Wire<'_>), ProtobufError> {
            let tag = varint(&mut bytes)?;
            let wire = match tag & 7 {
                0 => Wire::Varint(varint(&mut bytes)?),
                1 => {
                    let fixed = take(&mut bytes, 8)?.try_into().map_err(|_| ProtobufError::Malformed)?;
                    Wire::Fixed(u64::from_le_bytes(fixed))
                }
                2 => {
                    let length =
                        usize::try_from(varint(&mut bytes)?).map_err(|_| ProtobufError::Malformed)?;
                    Wire::Bytes(take(&mut bytes, length)?)
                }
                5 => {
                    let fixed = take(&mut bytes, 4)?.try_into().map_err(|_| ProtobufError::Malformed)?;
                    Wire::Fixed(u64::from(u32::from_le_bytes(fixed)))
                }
                _ => return Err(ProtobufError::Malformed),
            };
            Ok((tag >> 3, wire))
        };
        let result = one();
        broken = result.is_err();
        Some(result)
    })
}

fn message(name: &'static str, bytes: &[u8], depth: usize) -> Result<Value, ProtobufError> {
    if depth > DEPTH_MAX {
        return Err(ProtobufError::Malformed);
    }
    if let Some(special) = special(name, bytes)? {
        return Ok(special);
    }
    let Some(table) = MESSAGES.get(name) else { return Ok(Value::Object(Map::new())) };
    let definition = super::definition(name);
    let mut made = Map::new();
    for field in fields(bytes) {
        let (number, wire) = field?;
        let Some(entry) = table.get(&number) else { continue };
        if entry.map {
            let Wire::Bytes(pair) = wire else { continue };
            let (mut key, mut value) = (String::new(), None);
            for field in fields(pair) {
                match field? {
                    (1, Wire::Bytes(text)) => key = String::from_utf8_lossy(text).into_owned(),
                    (2, wire) => value = Some(scalar(entry.kind, wire, depth)?),
                    _ => {}
                }
            }
            let value = value.unwrap_or_else(|| zero(entry.kind));
            let map = made.entry(entry.name).or_insert_with(|| Value::Object(Map::new()));
            if let Some(map) = map.as_object_mut() {
                map.insert(key, value);
            }
            continue;
        }
        let value = scalar(entry.kind, wire, depth)?;
        if entry.repeated {
            let list = made.entry(entry.name).or_insert_with(|| Value::Array(Vec::new()));
            if let Some(list) = list.as_array_mut() {
                list.push(value);
            }
        } else if definition.is_some_and(|d| d.field(entry.name).is_none()) && value.is_object() {
            // What Go embeds, JSON shows as fields of the outer object.
            if let Value::Object(inner) = value {
                made.extend(inner);
            }
        } else {
            made.insert(entry.name.to_owned(), value);
        }
    }
    Ok(Value::Object(made))
}

fn zero(kind: Kind) -> Value {
    match kind {
        Kind::Text | Kind::Bytes => Value::String(String::new()),
        Kind::Bool => Value::Bool(false),
        Kind::Int | Kind::Double => 0.into(),
        Kind::Message(_) => Value::Object(Map::new()),
    }
}

fn scalar(kind: Kind, wire: Wire<'_>, depth: usize) -> Result<Value, ProtobufError> {
    Ok(match (kind, wire) {
        (Kind::Text, Wire::Bytes(text)) => String::from_utf8_lossy(text).into_owned().into(),
        (Kind::Bytes, Wire::Bytes(bytes)) => base64(bytes).into(),
        (Kind::Bool, Wire::Varint(n)) => (n != 0).into(),
        (Kind::Int, Wire::Varint(n)) => (n as i64).into(),
        (Kind::Double, Wire::Fixed(bits)) => {
            Number::from_f64(f64::from_bits(bits)).map_or(Value::Null, Value::Number)
        }
        (Kind::Message(name), Wire::Bytes(bytes)) => message(name, bytes, depth + 1)?,
        _ => return Err(ProtobufError::Malformed),
    })
}

/// Messages whose JSON form is not an object of their fields.
fn special(name: &str, bytes: &[u8]) -> Result<Option<Value>, ProtobufError> {
    let mut ints = [0i64; 4];
    let mut texts: Vec<(u64, &[u8])> = Vec::new();
    if !matches!(
        name,
        "m.Time"
            | "m.MicroTime"
            | "p.api.resource.Quantity"
            | "p.util.intstr.IntOrString"
            | "p.runtime.RawExtension"
            | "m.FieldsV1"
            | "x.JSON"
    ) && !name.ends_with(".ExtraValue")
    {
        return Ok(None);
    }
    for field in fields(bytes) {
        match field? {
            (n @ 1..=3, Wire::Varint(value)) => ints[n as usize] = value as i64,
            (n, Wire::Bytes(text)) => texts.push((n, text)),
            _ => {}
        }
    }
    let text = |n: u64| texts.iter().find(|(number, _)| *number == n).map_or(&[][..], |(_, text)| text);
    let string = |n: u64| Value::String(String::from_utf8_lossy(text(n)).into_owned());
    Ok(Some(match name {
        // No bytes are Go's zero time, which JSON shows as null.
        "m.Time" | "m.MicroTime" if bytes.is_empty() => Value::Null,
        "m.Time" | "m.MicroTime" => {
            let nanos = i128::from(ints[1]) * 1_000_000_000 + i128::from(ints[2]);
            match OffsetDateTime::from_unix_timestamp_nanos(nanos) {
                Ok(time) if name == "m.Time" => print_time(time).into(),
                Ok(time) => print_micro(time).into(),
                Err(_) => return Err(ProtobufError::Malformed),
            }
        }
        "p.api.resource.Quantity" => string(1),
        "p.util.intstr.IntOrString" if ints[1] == 0 => ints[2].into(),
        "p.util.intstr.IntOrString" => string(3),
        "p.runtime.RawExtension" | "m.FieldsV1" | "x.JSON" => {
            serde_json::from_slice(text(1)).unwrap_or(Value::Null)
        }
        _ => texts.iter().map(|(_, t)| Value::String(String::from_utf8_lossy(t).into_owned())).collect(),
    }))
}

/// Standard base64 with padding.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().fold(0u32, |w, b| w << 8 | u32::from(*b)) << (8 * (3 - chunk.len()));
        for i in 0..4 {
            let digit = DIGITS[(word >> (18 - 6 * i) & 63) as usize];
            out.push(if i <= chunk.len() { char::from(digit) } else { '=' });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn field(number: u64, bytes: &[u8]) -> Vec<u8> {
        let mut out = vec![(number << 3 | 2) as u8, bytes.len() as u8];
        out.extend_from_slice(bytes);
        out
    }

    #[test]
    fn a_pod_with_an_embedded_volume_source_is_read() {
        // Pod > spec(2) > volumes(1) > name(1), volumeSource(2) > emptyDir(2) > sizeLimit(2) > string(1)
        let limit = field(2, &field(1, b"1Gi"));
        let volume = [field(1, b"v"), field(2, &field(2, &limit))].concat();
        let meta =
            field(1, &[field(1, b"p"), field(11, &[field(1, b"a"), field(2, b"b")].concat())].concat());
        let raw = [meta, field(2, &field(1, &volume))].concat();
        let envelope = [field(1, &[field(1, b"v1"), field(2, b"Pod")].concat()), field(2, &raw)].concat();
        let body = [MAGIC, &envelope].concat();
        let json: Value = serde_json::from_slice(&to_json(&body).expect("reads")).expect("json");
        let expected = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "labels": {"a": "b"}},
            "spec": {"volumes": [{"name": "v", "emptyDir": {"sizeLimit": "1Gi"}}]},
        });
        assert_eq!(json, expected);
    }

    #[test]
    fn what_is_not_ours_is_refused() {
        assert_eq!(to_json(b"{}"), Err(ProtobufError::Prefix));
        assert_eq!(to_json(b"k8s\0\x0a\xff"), Err(ProtobufError::Malformed));
        assert_eq!(base64(b"ab"), "YWI=");
        assert_eq!(base64(b"abc"), "YWJj");
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
            let envelope = [field(1, &[field(1, b"v1"), field(2, b"Pod")].concat()), field(2, &bytes[..bytes.len().min(120)])].concat();
            let _ = to_json(&[MAGIC, &envelope].concat());
        }
    }
}
