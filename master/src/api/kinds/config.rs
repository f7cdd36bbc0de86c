//! ConfigMap, Secret, LimitRange.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::{Strategy, base, immutable};
use crate::api::invalid::{Errors, Path};
use crate::api::object::{default, list_mut, object_mut, text};

const DATA_BYTES_MAX: usize = 1024 * 1024;

fn key_errors(key: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if key.len() > 253 {
        errors.push("must be no more than 253 characters".to_owned());
    }
    if key.is_empty() || !key.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.')) {
        errors.push(
            "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or \
             'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')"
                .to_owned(),
        );
    } else if key == "." {
        errors.push("must not be '.'".to_owned());
    } else if key == ".." {
        errors.push("must not be '..'".to_owned());
    } else if key.starts_with("..") {
        errors.push("must not start with '..'".to_owned());
    }
    errors
}

fn size(value: &Value) -> usize {
    value.as_object().into_iter().flatten().map(|(_, v)| v.as_str().map_or(0, str::len)).sum()
}

fn unchanged_if_immutable(new: &Value, old: &Value, fields: &[&str], errors: &mut Errors) {
    if old["immutable"] != Value::Bool(true) {
        return;
    }
    if new["immutable"] != Value::Bool(true) {
        errors.forbidden(&Path::new("immutable"), "field is immutable when `immutable` is set");
    }
    for field in fields {
        if new[*field] != old[*field] {
            errors.forbidden(&Path::new(field), "field is immutable when `immutable` is set");
        }
    }
}

pub(super) fn config_map() -> Strategy {
    Strategy {
        validate: |object, errors| {
            for (key, _) in object["data"].as_object().into_iter().flatten() {
                for error in key_errors(key) {
                    errors.invalid(&Path::new("data").key(key), key.as_str(), error);
                }
                if object["binaryData"].get(key).is_some() {
                    let message = "duplicate of key present in binaryData";
                    errors.invalid(&Path::new("data").key(key), key.as_str(), message);
                }
            }
            for (key, _) in object["binaryData"].as_object().into_iter().flatten() {
                for error in key_errors(key) {
                    errors.invalid(&Path::new("binaryData").key(key), key.as_str(), error);
                }
            }
            if size(&object["data"]) + size(&object["binaryData"]) > DATA_BYTES_MAX {
                errors.too_long(&Path::default(), DATA_BYTES_MAX);
            }
        },
        validate_update: |new, old, errors| unchanged_if_immutable(new, old, &["data", "binaryData"], errors),
        ..base()
    }
}

pub(super) fn secret() -> Strategy {
    Strategy {
        defaults: |object| {
            let fields = object_mut(object, &[]);
            default(fields, "type", "Opaque");
            // Plain text is for writing only.
            if let Some(Value::Object(plain)) = fields.remove("stringData") {
                let data = object_mut(object, &["data"]);
                for (key, value) in plain {
                    data.insert(key, STANDARD.encode(value.as_str().unwrap_or_default()).into());
                }
            }
        },
        validate: |object, errors| {
            let data = object["data"].as_object();
            for (key, value) in data.into_iter().flatten() {
                for error in key_errors(key) {
                    errors.invalid(&Path::new("data").key(key), key.as_str(), error);
                }
                if STANDARD.decode(value.as_str().unwrap_or_default()).is_err() {
                    errors.invalid(&Path::new("data").key(key), value.clone(), "illegal base64 data");
                }
            }
            if size(&object["data"]) > DATA_BYTES_MAX * 4 / 3 {
                errors.too_long(&Path::new("data"), DATA_BYTES_MAX);
            }
            let has = |key: &str| data.is_some_and(|d| d.contains_key(key));
            let mut need = |keys: &[&str]| {
                for key in keys.iter().filter(|k| !has(k)) {
                    errors.required(&Path::new("data").key(key), "");
                }
            };
            match text(object, &["type"]) {
                "kubernetes.io/tls" => need(&["tls.crt", "tls.key"]),
                "kubernetes.io/dockerconfigjson" => need(&[".dockerconfigjson"]),
                "kubernetes.io/dockercfg" => need(&[".dockercfg"]),
                "kubernetes.io/ssh-auth" => need(&["ssh-privatekey"]),
                "kubernetes.io/basic-auth" if !has("username") && !has("password") => {
                    need(&["username", "password"])
                }
                "kubernetes.io/service-account-token" => {
                    let annotation =
                        text(object, &["metadata", "annotations", "kubernetes.io/service-account.name"]);
                    if annotation.is_empty() {
                        let path =
                            Path::new("metadata.annotations").key("kubernetes.io/service-account.name");
                        errors.required(&path, "");
                    }
                }
                _ => {}
            }
        },
        validate_update: |new, old, errors| {
            immutable(&new["type"], &old["type"], &Path::new("type"), errors);
            unchanged_if_immutable(new, old, &["data"], errors);
        },
        ..base()
    }
}

pub(super) fn limit_range() -> Strategy {
    Strategy {
        defaults: |object| {
            for limit in list_mut(object, &["spec", "limits"]) {
                if limit["type"] != "Container" {
                    continue;
                }
                let map = |v: &Value| v.as_object().cloned().unwrap_or_default();
                let (max, min) = (map(&limit["max"]), map(&limit["min"]));
                let mut defaults = map(&limit["default"]);
                for (name, value) in max {
                    defaults.entry(name).or_insert(value);
                }
                let mut requests = map(&limit["defaultRequest"]);
                for (name, value) in &defaults {
                    requests.entry(name.clone()).or_insert(value.clone());
                }
                for (name, value) in min {
                    requests.entry(name).or_insert(value);
                }
                for (name, value) in [("default", defaults), ("defaultRequest", requests)] {
                    if !value.is_empty() {
                        limit[name] = json!(value);
                    }
                }
            }
        },
        ..base()
    }
}
