//! OpenAPI, joined.
//!
//! Version 3 has a document for each version of a group; another server's is given back as it was read. Version 2
//! is one document; of another server's, what is about its version of the group is added to ours.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use serde_json::{Map, Value, json};

use super::known::All;
use super::services::Registered;
use crate::api::custom::Catalog;
use crate::api::openapi::{self, Packed, V2Document, V3Document};

/// The documents that others are in.
pub struct Joined {
    v3: BTreeMap<String, V3Document>,
    index: Packed,
    v2_parts: Vec<Value>,
    v2: OnceLock<V2Document>,
}

impl Joined {
    pub(super) fn new(catalog: &Catalog, registered: &Registered, known: &All) -> Self {
        let mut index: Value = serde_json::from_slice(&openapi::v3_index(catalog).plain())
            .unwrap_or_else(|_| json!({"paths": {}}));
        let (mut v3, mut v2_parts) = (BTreeMap::new(), Vec::new());
        for backend in registered.backends() {
            let Some(said) = known.get(&backend.name) else { continue };
            let name = format!("apis/{}/{}", backend.group, backend.version);
            if let Some(body) = &said.openapi {
                let body = V3Document::of(body);
                let url = body.url(&name);
                index["paths"][&name] = json!({"serverRelativeURL": url});
                v3.insert(name.clone(), body);
            }
            if let Some(v2) = &said.openapi_v2 {
                v2_parts.push(part_of(v2, &format!("/{name}/")));
            }
        }
        Joined { v3, index: Packed::of(index.to_string().as_bytes()), v2_parts, v2: OnceLock::new() }
    }

    /// The index of version 3 documents.
    pub fn index(&self) -> Packed {
        self.index.clone()
    }

    /// Another server's version 3 document; `None` where the document is ours.
    pub fn v3(&self, name: &str) -> Option<&V3Document> {
        self.v3.get(name)
    }

    /// The version 2 document.
    pub fn v2(&self, catalog: &Catalog) -> &V2Document {
        self.v2.get_or_init(|| {
            let mut document = openapi::v2_value(catalog);
            for part in &self.v2_parts {
                for section in ["paths", "definitions"] {
                    let (Some(known), Some(more)) =
                        (document[section].as_object_mut(), part[section].as_object())
                    else {
                        continue;
                    };
                    for (name, value) in more {
                        // What both have (the types of metadata, say) is ours.
                        known.entry(name).or_insert_with(|| value.clone());
                    }
                }
            }
            V2Document::of(&document)
        })
    }
}

/// What a version 2 document says of the paths below one, with the definitions that this needs.
fn part_of(document: &Value, below: &str) -> Value {
    let under = |path: &str| path == below.trim_end_matches('/') || path.starts_with(below);
    let paths: Map<String, Value> = document["paths"]
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(path, _)| under(path))
        .map(|(path, value)| (path.clone(), value.clone()))
        .collect();
    let mut definitions = Map::new();
    let mut open: Vec<String> = Vec::new();
    paths.values().for_each(|value| mentioned(value, &mut open));
    while let Some(name) = open.pop() {
        if definitions.contains_key(&name) {
            continue;
        }
        let Some(definition) = document["definitions"].get(&name) else { continue };
        mentioned(definition, &mut open);
        definitions.insert(name, definition.clone());
    }
    json!({"paths": paths, "definitions": definitions})
}

/// The definitions that a part of a document refers to.
fn mentioned(value: &Value, names: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            let reference = map.get("$ref").and_then(Value::as_str);
            names.extend(reference.and_then(|r| r.strip_prefix("#/definitions/")).map(str::to_owned));
            map.values().for_each(|value| mentioned(value, names));
        }
        Value::Array(items) => items.iter().for_each(|value| mentioned(value, names)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_about_the_version_is_taken() {
        let document = json!({
            "paths": {
                "/apis/g/v1/flunders": {"get": {"schema": {"$ref": "#/definitions/Flunder"}}},
                "/apis/g/v10/flunders": {}, "/version": {},
            },
            "definitions": {
                "Flunder": {"properties": {"spec": {"$ref": "#/definitions/Spec"}}},
                "Spec": {"properties": {"next": {"$ref": "#/definitions/Spec"}}},
                "Other": {},
            },
        });
        let part = part_of(&document, "/apis/g/v1/");
        let names = |section: &str| -> Vec<String> {
            part[section].as_object().into_iter().flatten().map(|(name, _)| name.clone()).collect()
        };
        assert_eq!(names("paths"), ["/apis/g/v1/flunders"]);
        assert_eq!(names("definitions"), ["Flunder", "Spec"]);
    }
}
