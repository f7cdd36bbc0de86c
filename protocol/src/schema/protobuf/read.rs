//! Protobuf messages to JSON.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Number, Value};
use time::OffsetDateTime;

use super::{DEPTH_MAX, Kind, MAGIC, MESSAGES, ProtobufError, Special, message_of};
use crate::schema::decode::{print_micro, print_time};

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
    let Some(name) = message_of(&version, &kind) else { return Err(ProtobufError::Kind { kind, version }) };
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
    if let Some(special) = special(name, bytes, depth)? {
        return Ok(special);
    }
    let Some(table) = MESSAGES.get(name) else { return Ok(Value::Object(Map::new())) };
    let mut made = Map::new();
    for field in fields(bytes) {
        let (number, wire) = field?;
        let Ok(at) = table.binary_search_by_key(&number, |entry| entry.number) else { continue };
        let entry = &table[at];
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
        } else if entry.embedded && value.is_object() {
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
        (Kind::Bytes, Wire::Bytes(bytes)) => STANDARD.encode(bytes).into(),
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
fn special(name: &str, bytes: &[u8], depth: usize) -> Result<Option<Value>, ProtobufError> {
    let Some(special) = Special::of(name) else { return Ok(None) };
    let mut ints = [0i64; 4];
    let mut texts: Vec<(u64, &[u8])> = Vec::new();
    for field in fields(bytes) {
        match field? {
            (n @ 1..=3, Wire::Varint(value)) => ints[n as usize] = value as i64,
            (n, Wire::Bytes(text)) => texts.push((n, text)),
            _ => {}
        }
    }
    let text = |n: u64| texts.iter().find(|(number, _)| *number == n).map(|(_, text)| *text);
    let string = |n: u64| Value::String(String::from_utf8_lossy(text(n).unwrap_or_default()).into_owned());
    let schema_at = |n: u64| text(n).map(|bytes| message("x.JSONSchemaProps", bytes, depth + 1)).transpose();
    Ok(Some(match special {
        // No bytes are Go's zero time, which JSON shows as null.
        Special::Time | Special::MicroTime if bytes.is_empty() => Value::Null,
        Special::Time | Special::MicroTime => {
            let nanos = i128::from(ints[1]) * 1_000_000_000 + i128::from(ints[2]);
            match (OffsetDateTime::from_unix_timestamp_nanos(nanos), special) {
                (Ok(time), Special::Time) => print_time(time).into(),
                (Ok(time), _) => print_micro(time).into(),
                (Err(_), _) => return Err(ProtobufError::Malformed),
            }
        }
        Special::Quantity => string(1),
        Special::IntOrString if ints[1] == 0 => ints[2].into(),
        Special::IntOrString => string(3),
        Special::Raw => serde_json::from_slice(text(1).unwrap_or_default()).unwrap_or(Value::Null),
        Special::Texts => {
            texts.iter().map(|(_, t)| Value::String(String::from_utf8_lossy(t).into_owned())).collect()
        }
        Special::SchemaOrArray => match schema_at(1)? {
            Some(schema) => schema,
            None => {
                let each = texts.iter().map(|(_, bytes)| message("x.JSONSchemaProps", bytes, depth + 1));
                Value::Array(each.collect::<Result<_, _>>()?)
            }
        },
        Special::SchemaOrBool => schema_at(2)?.unwrap_or_else(|| (ints[1] != 0).into()),
        Special::SchemaOrTexts => match schema_at(1)? {
            Some(schema) => schema,
            None => {
                texts.iter().map(|(_, t)| Value::String(String::from_utf8_lossy(t).into_owned())).collect()
            }
        },
    }))
}
