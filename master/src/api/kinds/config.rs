//! ConfigMap and Secret.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::checks::{config_key_errors, immutable};
use super::{Strategy, base};
use crate::api::invalid::{Errors, Path};
use crate::api::object::{default, list_mut, object_mut, text};

const DATA_BYTES_MAX: usize = 1024 * 1024;

fn size(value: &Value) -> usize {
    value.as_object().into_iter().flatten().map(|(_, v)| v.as_str().map_or(0, str::len)).sum()
}

/// The size of what is written in base64.
fn decoded_size(value: &Value) -> usize {
    let length = |text: &str| {
        (text.len() / 4 * 3).saturating_sub(text.bytes().rev().take_while(|b| *b == b'=').count())
    };
    value.as_object().into_iter().flatten().map(|(_, v)| v.as_str().map_or(0, length)).sum()
}

fn unchanged_if_immutable(new: &Value, old: &Value, fields: &[&str], errors: &mut Errors) {
    if old["immutable"] != Value::Bool(true) {
        return;
    }
    if new["immutable"] != Value::Bool(true) {
        errors.forbidden(&Path::new("immutable"), "field is immutable when `immutable` is set");
    }
    for field in fields {
        // An empty map is not none, while it can be told from it.
        if new[*field] != old[*field] || errors.is_given_empty(&Path::new(field)) {
            errors.forbidden(&Path::new(field), "field is immutable when `immutable` is set");
        }
    }
}

pub(super) fn config_map() -> Strategy {
    Strategy {
        validate: |object, errors| {
            for (key, _) in object["data"].as_object().into_iter().flatten() {
                for error in config_key_errors(key) {
                    errors.invalid(&Path::new("data").key(key), key.as_str(), error);
                }
                if object["binaryData"].get(key).is_some() {
                    let message = "duplicate of key present in binaryData";
                    errors.invalid(&Path::new("data").key(key), key.as_str(), message);
                }
            }
            for (key, _) in object["binaryData"].as_object().into_iter().flatten() {
                for error in config_key_errors(key) {
                    errors.invalid(&Path::new("binaryData").key(key), key.as_str(), error);
                }
            }
            if size(&object["data"]) + decoded_size(&object["binaryData"]) > DATA_BYTES_MAX {
                // Of no field in particular, which upstream shows so.
                errors.too_long(&Path::new("[]"), DATA_BYTES_MAX);
            }
        },
        validate_update: |new, old, errors| unchanged_if_immutable(new, old, &["data", "binaryData"], errors),
        change_first: true,
        ..base()
    }
}

/// A secret of logins holds JSON; what it holds instead is not repeated.
fn registry_logins(data: Option<&Map<String, Value>>, key: &str, errors: &mut Errors) {
    let path = Path::new("data").key(key);
    let Some(encoded) = data.and_then(|d| d.get(key)).and_then(Value::as_str) else {
        errors.required(&path, "");
        return;
    };
    let bytes = STANDARD.decode(encoded).unwrap_or_default();
    let wrong = match serde_json::from_slice::<Value>(&bytes) {
        Ok(Value::Object(_) | Value::Null) => return,
        Ok(other) => protocol::go::cannot_unmarshal(&other, "map[string]interface {}"),
        Err(error) => protocol::schema::syntax::error(&bytes).unwrap_or_else(|| error.to_string()),
    };
    errors.invalid(&path, "<secret contents redacted>", wrong);
}

/// An account's secrets are named, and nothing else is said of them.
fn only_names(account: &mut Value) {
    for secret in list_mut(account, &["secrets"]).iter_mut().filter_map(Value::as_object_mut) {
        secret.retain(|field, _| field == "name");
    }
}

/// Says that pods of an account may mount its secrets alone.
const MOUNTABLE: &str = "kubernetes.io/enforce-mountable-secrets";

pub(super) fn service_account() -> Strategy {
    Strategy {
        prepare_create: only_names,
        prepare_update: |new, _| only_names(new),
        warnings: |account, old, said| {
            let has = |account: &Value| account["metadata"]["annotations"].get(MOUNTABLE).is_some();
            if has(account) && !old.is_some_and(has) {
                said.push(format!(
                    "metadata.annotations[{MOUNTABLE}]: deprecated in v1.32+; prefer separate namespaces to isolate \
                     access to mounted secrets"
                ));
            }
        },
        ..base()
    }
}

pub(super) fn secret() -> Strategy {
    Strategy {
        warnings: |secret, _, said| super::key_pairs::notes(secret, said),
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
            for key in data.into_iter().flat_map(Map::keys) {
                for error in config_key_errors(key) {
                    errors.invalid(&Path::new("data").key(key), key.as_str(), error);
                }
            }
            if decoded_size(&object["data"]) > DATA_BYTES_MAX {
                errors.too_long(&Path::new("data"), DATA_BYTES_MAX);
            }
            let has = |key: &str| data.is_some_and(|d| d.contains_key(key));
            let need = |keys: &[&str], errors: &mut Errors| {
                for key in keys.iter().filter(|k| !has(k)) {
                    errors.required(&Path::new("data").key(key), "");
                }
            };
            match text(object, &["type"]) {
                "kubernetes.io/tls" => need(&["tls.crt", "tls.key"], errors),
                "kubernetes.io/dockerconfigjson" => registry_logins(data, ".dockerconfigjson", errors),
                "kubernetes.io/dockercfg" => registry_logins(data, ".dockercfg", errors),
                "kubernetes.io/ssh-auth" if text(object, &["data", "ssh-privatekey"]).is_empty() => {
                    errors.required(&Path::new("data").key("ssh-privatekey"), "");
                }
                "kubernetes.io/basic-auth" if !has("username") && !has("password") => {
                    need(&["username", "password"], errors);
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
        change_first: true,
        ..base()
    }
}

#[cfg(test)]
mod tests {
    use protocol::schema::Empties;
    use serde_json::json;

    use super::*;

    #[test]
    fn an_immutable_map_does_not_get_an_empty_part() {
        let definition = protocol::schema::definition("a.core.v1.ConfigMap").expect("a kind");
        let map = json!({"immutable": true, "data": {"a": "1"}});
        for (sent, wrong) in
            [(json!({}), false), (json!({"binaryData": {}}), true), (json!({"data": {}}), true)]
        {
            let mut errors = Errors::of(Empties::of(definition, &sent));
            unchanged_if_immutable(&map, &map, &["data", "binaryData"], &mut errors);
            assert_eq!(!errors.is_empty(), wrong, "{sent}");
        }
    }
}
