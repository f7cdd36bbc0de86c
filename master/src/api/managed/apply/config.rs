//! Reading an applied configuration: YAML, of which JSON is most of what is sent.

use std::fmt;

use protocol::ApiError;
use protocol::go::cannot_unmarshal;
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// A configuration, and what strict reading finds wrong with it: keys that are given twice.
pub struct Config {
    /// The configuration; the last of repeated keys counts.
    pub value: Value,
    /// What is repeated.
    pub repeated: Vec<String>,
}

/// Reads a configuration.
pub fn read(body: &[u8]) -> Result<Config, ApiError> {
    let bad = |why: String| ApiError::bad_request(format!("error decoding YAML: {why}"));
    let text =
        std::str::from_utf8(body).map_err(|e| bad(format!("error converting YAML to JSON: yaml: {e}")))?;
    let config = match serde_json::from_str::<Json>(text) {
        Ok(json) if !json.repeats => Config { value: json.value, repeated: Vec::new() },
        _ => from_yaml(text).map_err(|e| bad(format!("error converting YAML to JSON: {e}")))?,
    };
    match &config.value {
        Value::Object(_) => Ok(config),
        Value::Null => Ok(Config { value: Value::Object(Map::new()), ..config }),
        other => {
            let why = cannot_unmarshal(other, "map[string]interface {}");
            Err(bad(format!("error unmarshaling JSON: while decoding JSON: {why}")))
        }
    }
}

/// What strict validation makes of repeated keys.
pub fn strict(config: &Config, validation: Option<&str>, warnings: &mut Vec<String>) -> Result<(), ApiError> {
    match validation {
        Some("Ignore") => Ok(()),
        Some("Strict") if !config.repeated.is_empty() => Err(ApiError::bad_request(format!(
            "error strict decoding YAML: error converting YAML to JSON: yaml: unmarshal errors:\n  {}",
            config.repeated.join("\n  ")
        ))),
        _ => {
            warnings.extend_from_slice(&config.repeated);
            Ok(())
        }
    }
}

fn from_yaml(text: &str) -> Result<Config, String> {
    let read = crate::yaml::read(text)?;
    Ok(Config { value: read.value, repeated: read.strict })
}

/// JSON, and whether any object in it has a key twice.
struct Json {
    value: Value,
    repeats: bool,
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Json, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

struct Reader;

fn plain<E>(value: impl Into<Value>) -> Result<Json, E> {
    Ok(Json { value: value.into(), repeats: false })
}

impl<'de> Visitor<'de> for Reader {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        plain(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        plain(value)
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json, E> {
        plain(value)
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
        plain(value)
    }

    fn visit_f64<E>(self, value: f64) -> Result<Json, E> {
        plain(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Json, E> {
        plain(value)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json, A::Error> {
        let (mut list, mut repeats) = (Vec::new(), false);
        while let Some(item) = items.next_element::<Json>()? {
            repeats |= item.repeats;
            list.push(item.value);
        }
        Ok(Json { value: Value::Array(list), repeats })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Json, A::Error> {
        let (mut map, mut repeats) = (Map::new(), false);
        while let Some((name, item)) = entries.next_entry::<String, Json>()? {
            repeats |= item.repeats;
            repeats |= map.insert(name, item.value).is_some();
        }
        Ok(Json { value: Value::Object(map), repeats })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn yaml_and_json_are_read_alike() {
        let wanted = serde_json::json!({"kind": "A", "data": {"a": "1", "n": 2}});
        for text in ["kind: A\ndata: {a: \"1\", n: 2}\n", r#"{"kind":"A","data":{"a":"1","n":2}}"#] {
            let config = read(text.as_bytes()).expect(text);
            assert_eq!((config.value, config.repeated), (wanted.clone(), Vec::new()), "{text}");
        }
    }

    #[test]
    fn repeated_keys_are_told_and_the_last_counts() {
        let wanted = "line 2: key \"a\" already set in map";
        for text in ["a: 1\na: 2\n", "{\"a\":1,\n\"a\":2}"] {
            let config = read(text.as_bytes()).expect(text);
            assert_eq!(config.value, serde_json::json!({"a": 2}), "{text}");
            assert_eq!(config.repeated, [wanted], "{text}");
        }
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for text in ["[]", "- a", "text", "3", "{a: [}"] {
            assert!(read(text.as_bytes()).is_err(), "{text}");
        }
        assert!(read(b"").is_ok_and(|c| c.value == serde_json::json!({})));
    }
}
