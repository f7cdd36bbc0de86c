//! Kubeconfig files. A file that people use already keeps everything else in it: only the entries of our
//! name are set, or taken out again. YAML is read, and YAML is written.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::{Pair, PkiError, write};

/// How to reach a cluster, and as whom.
pub struct Access<'a> {
    /// The server's URL.
    pub server: &'a str,
    /// The CA of its certificate, PEM.
    pub ca: &'a str,
    /// The client's certificate and key.
    pub client: &'a Pair,
}

/// A kubeconfig with one context, `name`, which is current.
pub fn new(name: &str, access: &Access<'_>) -> Value {
    let mut config = json!({});
    set(&mut config, name, access);
    config
}

/// As text.
pub fn to_text(config: &Value) -> String {
    crate::yaml::to_text(config)
}

/// Puts cluster, user and context of a name into a kubeconfig and makes the context current.
pub fn set(config: &mut Value, name: &str, access: &Access<'_>) {
    if !config.is_object() {
        *config = json!({});
    }
    config["apiVersion"] = "v1".into();
    config["kind"] = "Config".into();
    let encode = |text: &str| STANDARD.encode(text);
    put(
        config,
        "clusters",
        name,
        "cluster",
        json!({
            "server": access.server, "certificate-authority-data": encode(access.ca),
        }),
    );
    put(
        config,
        "users",
        name,
        "user",
        json!({
            "client-certificate-data": encode(&access.client.certificate),
            "client-key-data": encode(&access.client.key),
        }),
    );
    put(config, "contexts", name, "context", json!({"cluster": name, "user": name}));
    config["current-context"] = name.into();
}

/// Takes the entries of a name out. Another context becomes current when that one was and there is one.
pub fn unset(config: &mut Value, name: &str) {
    for list in ["clusters", "users", "contexts"] {
        if let Some(entries) = config[list].as_array_mut() {
            entries.retain(|entry| entry["name"] != name);
        }
    }
    if config["current-context"] == name {
        let next = config["contexts"][0]["name"].as_str().unwrap_or_default().to_owned();
        config["current-context"] = next.into();
    }
}

fn put(config: &mut Value, list: &str, name: &str, member: &str, value: Value) {
    if !config[list].is_array() {
        config[list] = json!([]);
    }
    let entry = json!({"name": name, member: value});
    if let Some(entries) = config[list].as_array_mut() {
        match entries.iter_mut().find(|e| e["name"] == name) {
            Some(found) => *found = entry,
            None => entries.push(entry),
        }
    }
}

/// Merges a context into a file, which may not exist yet. Blocks.
pub fn merge_into(path: &Path, name: &str, access: &Access<'_>) -> Result<(), PkiError> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)
            .map_err(|source| PkiError::File { path: parent.to_owned(), source })?;
    }
    let mut config = read(path)?.unwrap_or_else(|| json!({}));
    set(&mut config, name, access);
    write(path, &to_text(&config))
}

/// Takes a context out of a file again. Blocks.
pub fn remove_from(path: &Path, name: &str) -> Result<(), PkiError> {
    let Some(mut config) = read(path)? else { return Ok(()) };
    let before = config.clone();
    unset(&mut config, name);
    if config == before { Ok(()) } else { write(path, &to_text(&config)) }
}

fn read(path: &Path) -> Result<Option<Value>, PkiError> {
    let Some(text) = super::read(path)?.filter(|text| !text.trim().is_empty()) else { return Ok(None) };
    let parsed: Value = serde_saphyr::from_str(&text)
        .map_err(|e| PkiError::Damaged { path: path.to_owned(), why: e.to_string() })?;
    // A file that is not a mapping is somebody's mistake, not ours to overwrite.
    match parsed {
        Value::Null => Ok(None),
        Value::Object(_) => Ok(Some(parsed)),
        _ => Err(PkiError::Damaged { path: path.to_owned(), why: "it is not a kubeconfig".to_owned() }),
    }
}
