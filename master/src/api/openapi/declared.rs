//! The documents about kinds that clients declare; made when somebody asks after the kinds changed.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use protocol::resources;
use protocol::schema;
use serde_json::{Map, Value, json};

use super::described::{API_VERSION, KIND, LIST_METADATA};
use super::form::Form;
use super::native::native;
use super::registered::Listed;
use super::{Packed, V2Document, V3, V3Document, paths, v2, v3_of};
use crate::api::custom::{Catalog, Version};

/// The documents about one set of declared kinds, joined with those about the table's.
pub struct Declared {
    v3: BTreeMap<String, V3Document>,
    index: Packed,
    v2: OnceLock<V2Document>,
}

/// The schemas of a kind and of its list.
fn schemas(version: &Version, form: Form) -> [(String, Value); 2] {
    let resource = version.resource;
    let gvk = |kind: &str| json!([{"group": resource.group, "version": resource.version, "kind": kind}]);
    let name = paths::name_of(resource.group, resource.version, resource.kind);
    let text = |said: &str| json!({"type": "string", "description": said});
    let mut own = native(version.fields.declared(), form);
    own["x-kubernetes-group-version-kind"] = gvk(resource.kind);
    let mut list = json!({
        "type": "object",
        "required": ["items"],
        "properties": {
            "apiVersion": text(API_VERSION), "kind": text(KIND),
            "metadata": form.described(form.meta("ListMeta"), LIST_METADATA),
            "items": {"type": "array", "items": form.reference(&name)},
        },
        "x-kubernetes-group-version-kind": gvk(resource.list_kind),
    });
    let selectable: Vec<Value> =
        resource.selectable.iter().map(|field| json!({"fieldPath": field})).collect();
    if !selectable.is_empty() {
        for schema in [&mut own, &mut list] {
            schema["x-kubernetes-selectable-fields"] = json!(selectable);
        }
    }
    [(name, own), (paths::name_of(resource.group, resource.version, resource.list_kind), list)]
}

impl Declared {
    /// The documents about the declared kinds of a catalog.
    pub fn new(catalog: &Catalog) -> Self {
        let mut by_version: BTreeMap<(&str, &str), Vec<&Version>> = BTreeMap::new();
        for version in catalog.customs().flat_map(|kind| &kind.versions) {
            by_version.entry((version.resource.group, version.resource.version)).or_default().push(version);
        }
        let own = |group: &str| resources::groups().iter().any(|(known, _)| *known == group);
        let v3: BTreeMap<String, V3Document> = by_version
            .iter()
            .filter(|((group, _), _)| !own(group))
            .map(|((group, version), kinds)| {
                let body = document(kinds);
                (format!("apis/{group}/{version}"), V3Document::of(body.to_string().as_bytes()))
            })
            .collect();
        let all = V3.iter().map(|(name, body)| (name, body)).chain(&v3);
        let paths: Map<String, Value> =
            all.map(|(name, body)| (name.clone(), json!({"serverRelativeURL": body.url(name)}))).collect();
        let index = Packed::of(json!({"paths": paths}).to_string().as_bytes());
        Declared { v3, index, v2: OnceLock::new() }
    }

    /// The index of version 3 documents.
    pub fn index(&self) -> Packed {
        self.index.clone()
    }

    /// A version 3 document.
    pub fn v3(&self, name: &str) -> Option<&V3Document> {
        self.v3.get(name)
    }

    /// The version 2 document.
    pub fn v2(&self, catalog: &Catalog) -> &V2Document {
        self.v2.get_or_init(|| V2Document::of(&v2_value(catalog)))
    }
}

/// The version 2 document, with the declared kinds.
pub fn v2_value(catalog: &Catalog) -> Value {
    let mut document = v2();
    let versions: Vec<&Version> = catalog.customs().flat_map(|kind| &kind.versions).collect();
    let paths = paths::of_kinds(versions.iter().map(|v| v.resource), Form::V2);
    if let Some(known) = document["paths"].as_object_mut() {
        known.extend(paths);
    }
    if let Some(known) = document["definitions"].as_object_mut() {
        known.extend(versions.iter().flat_map(|v| schemas(v, Form::V2)));
    }
    document
}

/// The version 3 document about the kinds of one version of a group.
fn document(kinds: &[&Version]) -> Value {
    let routes = paths::of_kinds(kinds.iter().map(|v| v.resource), Form::V3);
    let mentioned = ["m.DeleteOptions", "m.Status", "m.Patch", "m.ObjectMeta", "m.ListMeta"];
    let mut roots: Vec<_> = mentioned.into_iter().filter_map(schema::definition).collect();
    if kinds.iter().any(|v| v.resource.subresource("scale").is_some()) {
        roots.extend(schema::kind("autoscaling", "v1", "Scale"));
    }
    let mut made = v3_of(routes, roots, Listed::Declared);
    made["info"] = json!({"title": "Kubernetes CRD Swagger", "version": "v0.1.0"});
    if let Some(known) = made["components"].as_object_mut() {
        known.remove("securitySchemes");
    }
    if let Some(known) = made["components"]["schemas"].as_object_mut() {
        known.extend(kinds.iter().flat_map(|v| schemas(v, Form::V3)));
    }
    made
}
