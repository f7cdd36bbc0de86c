//! One declared kind, as its CustomResourceDefinition says.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use protocol::resources::{self, Declaration, Resource};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::columns::{self, PrinterColumn};
use super::conversion::Webhook;
use super::fields::Fields;
use super::scale::ScalePaths;
use crate::api::object::{list, text};

/// A declared kind that is served.
pub struct CustomKind {
    /// Uid of the definition.
    pub uid: Box<str>,
    /// API group.
    pub group: &'static str,
    /// Plural name.
    pub plural: &'static str,
    /// Served versions, the preferred one first.
    pub versions: Vec<Version>,
}

/// A declared kind in one served version.
pub struct Version {
    /// What it is called and may do.
    pub resource: &'static Resource,
    /// The version in which its objects are stored.
    pub stored: &'static Resource,
    /// What clients of a deprecated version are told.
    pub deprecation: Option<String>,
    /// The fields of its objects.
    pub fields: Arc<Fields>,
    /// The fields of objects as they are stored.
    pub stored_fields: Arc<Fields>,
    /// The fields of every version, served or not, by the version's name.
    pub siblings: Arc<BTreeMap<String, Arc<Fields>>>,
    /// The kind in every version, served or not, as the definition lists them.
    pub family: Arc<[&'static Resource]>,
    /// What converts its objects; without one, versions differ in their names only.
    pub webhook: Option<Arc<Webhook>>,
    /// Columns of its Table.
    pub columns: Vec<PrinterColumn>,
    /// Where its scale is found.
    pub scale: Option<ScalePaths>,
    /// The definition is being deleted: nothing new may be made.
    pub terminating: bool,
    /// Objects stored after this revision were made by these very schemas.
    pub since: u64,
}

/// Whether a definition's condition is true.
pub fn is_true(definition: &Value, condition: &str) -> bool {
    list(definition, &["status", "conditions"])
        .iter()
        .any(|c| c["type"] == condition && c["status"] == "True")
}

fn texts(value: &Value, path: &[&str]) -> Vec<String> {
    list(value, path).iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// What discovery shows so that clients notice kinds that are stored alike.
fn storage_hash(group: &str, version: &str, kind: &str) -> String {
    let digest = Sha256::digest(format!("{group}/{version}/{kind}"));
    STANDARD.encode(&digest[..8])
}

impl CustomKind {
    /// The kind that a definition declares; `None` while it is not established.
    pub fn of(definition: &Value, uid: &str, revision: u64) -> Option<Arc<CustomKind>> {
        if !is_true(definition, "Established") {
            return None;
        }
        let spec = &definition["spec"];
        let terminating = is_true(definition, "Terminating");
        let group = text(spec, &["group"]);
        let all = list(spec, &["versions"]);
        let storage_version = all.iter().find(|v| v["storage"] == true).map(|v| text(v, &["name"]))?;
        let declared = |version: &Value| -> Option<&'static Resource> {
            let names = &definition["status"]["acceptedNames"];
            let kind = text(names, &["kind"]);
            let declaration = Declaration {
                group: group.to_owned(),
                version: text(version, &["name"]).to_owned(),
                kind: kind.to_owned(),
                list_kind: text(names, &["listKind"]).to_owned(),
                plural: text(names, &["plural"]).to_owned(),
                singular: text(names, &["singular"]).to_owned(),
                namespaced: text(spec, &["scope"]) == "Namespaced",
                short_names: texts(names, &["shortNames"]),
                categories: texts(names, &["categories"]),
                storage_hash: storage_hash(group, storage_version, kind),
                storage_version: storage_version.to_owned(),
                status: version["subresources"]["status"].is_object(),
                scale: version["subresources"]["scale"].is_object(),
                selectable: list(version, &["selectableFields"])
                    .iter()
                    .map(|f| text(f, &["jsonPath"]).trim_start_matches('.').to_owned())
                    .collect(),
            };
            let made = resources::declare(&declaration);
            if made.is_none() {
                tracing::error!(
                    group,
                    plural = declaration.plural,
                    "too many kinds were declared; restart to go on"
                );
            }
            made
        };
        let storage = all.iter().find(|v| v["storage"] == true)?;
        let stored = declared(storage)?;
        let fields = |version: &Value| {
            Arc::new(Fields::new(
                &version["schema"]["openAPIV3Schema"],
                spec["preserveUnknownFields"] == true,
            ))
        };
        let named = |version: &Value| (text(version, &["name"]).to_owned(), fields(version));
        let siblings: Arc<BTreeMap<String, Arc<Fields>>> = Arc::new(all.iter().map(named).collect());
        let stored_fields = siblings.get(stored.version)?.clone();
        let family: Arc<[&'static Resource]> = all.iter().filter_map(declared).collect();
        let webhook = Webhook::of(definition).map(Arc::new);
        let mut versions: Vec<Version> = all
            .iter()
            .filter(|v| v["served"] == true)
            .filter_map(|v| {
                let resource = declared(v)?;
                let deprecation = (v["deprecated"] == true).then(|| match v["deprecationWarning"].as_str() {
                    Some(own) => own.to_owned(),
                    None => format!("{} {} is deprecated", resource.api_version(), resource.kind),
                });
                Some(Version {
                    resource,
                    stored,
                    deprecation,
                    fields: siblings.get(resource.version)?.clone(),
                    stored_fields: stored_fields.clone(),
                    siblings: siblings.clone(),
                    family: family.clone(),
                    webhook: webhook.clone(),
                    columns: columns::declared(v),
                    scale: ScalePaths::of(&v["subresources"]["scale"]),
                    terminating,
                    since: revision,
                })
            })
            .collect();
        versions.sort_by(|a, b| super::versions::compare(a.resource.version, b.resource.version));
        Some(Arc::new(CustomKind { uid: uid.into(), group: stored.group, plural: stored.plural, versions }))
    }

    /// The kind in a served version.
    pub fn version(&self, version: &str) -> Option<&Version> {
        self.versions.iter().find(|v| v.resource.version == version)
    }
}
