//! Reading an applied configuration: YAML, of which JSON is most of what is sent.

use protocol::ApiError;
use protocol::go::{self, cannot_unmarshal};
use protocol::schema::untyped;
use serde_json::{Map, Value};

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
    let config = match from_json(text) {
        Some(value) => Config { value, repeated: Vec::new() },
        None => from_yaml(text).map_err(|e| bad(format!("error converting YAML to JSON: {e}")))?,
    };
    let mut config = config;
    go::rewrite(&mut config.value);
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

/// JSON, unless an object in it has a key twice: where, only YAML's reader tells.
fn from_json(text: &str) -> Option<Value> {
    let mut repeats = false;
    let mut reader = serde_json::Deserializer::from_str(text);
    let value = untyped::read(&mut reader, &mut |seen| repeats |= seen.repeated).ok()?;
    (reader.end().is_ok() && !repeats).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn yaml_and_json_are_read_alike() {
        let wanted = serde_json::json!({"kind": "A", "data": {"a": "1", "m": 2}});
        for text in ["kind: A\ndata: {a: \"1\", m: 2.0}\n", r#"{"kind":"A","data":{"a":"1","m":2.0}}"#] {
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
