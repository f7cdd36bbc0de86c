//! Documents about kinds that the HTTP front serves: Tables and OpenAPI.

use std::sync::Arc;

use bytes::Bytes;
use protocol::{ApiRequest, Resource, Target};
use serde_json::{Value, json};

use super::custom::Catalog;
use super::custom::columns::{self, PrinterColumn};
use super::openapi::{Packed, Unserved};
use super::{kinds, openapi, tables};
use crate::aggregation::Aggregation;
use crate::aggregation::documents::Joined;
use crate::auth::tokens::TokenKeys;
use crate::cache::Cache;
use crate::front::{Documents, metadata};

/// Documents about the kinds that are served now, and about the key that signs tokens.
pub struct ServedDocuments {
    /// Where the declared kinds are found.
    cache: Cache,
    /// What other servers serve.
    aggregation: Option<Aggregation>,
    keys: Bytes,
    configuration: Bytes,
}

impl ServedDocuments {
    /// Documents of a server that signs tokens with `keys` and is reached at `address`.
    pub fn new(cache: Cache, keys: &TokenKeys, address: &str) -> Self {
        let jwks_uri = format!("https://{address}/openid/v1/jwks");
        ServedDocuments {
            cache,
            aggregation: None,
            keys: Bytes::from(keys.jwks().to_string()),
            configuration: Bytes::from(keys.openid_configuration(&jwks_uri).to_string()),
        }
    }

    /// Joins the documents of other servers.
    pub fn with_aggregation(mut self, aggregation: Aggregation) -> Self {
        self.aggregation = Some(aggregation);
        self
    }

    fn joined(&self, catalog: &Arc<Catalog>) -> Option<Arc<Joined>> {
        self.aggregation.as_ref()?.joined(catalog)
    }
}

impl Documents for ServedDocuments {
    fn kind(&self, target: &Target) -> Option<&'static Resource> {
        Catalog::find_in(&self.cache, target).map(|found| found.resource)
    }

    fn notices(&self, resource: &Resource, request: &ApiRequest) -> Vec<String> {
        kinds::notices(resource, request)
    }

    fn undeclared(&self, resource: &Resource, text: &[u8]) -> Option<Vec<String>> {
        self.cache.derived::<Catalog>().version(resource)?.undeclared(text)
    }

    fn discovery(&self, path: &str, aggregated: bool) -> Option<Bytes> {
        let catalog = self.cache.derived::<Catalog>();
        let joined = self.joined(&catalog).and_then(|joined| joined.discovery(path, aggregated));
        joined.or_else(|| catalog.discovery().get(path, aggregated))
    }

    fn openapi(&self, path: &str, accept: &str) -> Result<(Packed, &'static str), Unserved> {
        let catalog = self.cache.derived::<Catalog>();
        let joined = self.joined(&catalog);
        openapi::document(&catalog, joined.as_ref().map(|joined| joined.openapi()), path, accept)
    }

    fn identity(&self, path: &str) -> Option<(Bytes, &'static str)> {
        match path {
            "/openid/v1/jwks" => Some((self.keys.clone(), "application/jwk-set+json")),
            "/.well-known/openid-configuration" => Some((self.configuration.clone(), "application/json")),
            _ => None,
        }
    }

    fn table(&self, resource: &Resource, object: &Value, include_object: &str) -> Option<Value> {
        let catalog = self.cache.derived::<Catalog>();
        let columns = catalog.version(resource).map_or(&[][..], |version| &version.columns);
        Some(table(resource, columns, object, include_object))
    }
}

/// A Table of an object or a list.
pub fn table(resource: &Resource, declared: &[PrinterColumn], value: &Value, include: &str) -> Value {
    let (items, meta) = match value["items"].as_array() {
        Some(items) if value["kind"] == resource.list_kind => (items.as_slice(), value["metadata"].clone()),
        // What was only tried has no version.
        _ => {
            let version = value["metadata"].get("resourceVersion");
            let meta = version.map_or_else(|| json!({}), |version| json!({"resourceVersion": version}));
            (std::slice::from_ref(value), meta)
        }
    };
    // A subresource is an object of another kind than the resource.
    let scale = value["kind"] == "Scale" && value["apiVersion"] == "autoscaling/v1";
    let cells = |item: &Value| match (scale, resource.custom) {
        (true, _) => tables::scale_cells(item),
        (_, true) => columns::cells(declared, item),
        _ => tables::cells(resource, item),
    };
    let items = tables::in_order(resource, items);
    let rows: Vec<Value> = items.into_iter().map(|item| row(resource, cells(item), item, include)).collect();
    let columns: Vec<Value> = if resource.custom && !scale {
        columns::headers(declared)
    } else {
        let columns = if scale { tables::SCALE } else { tables::columns(resource) };
        columns
            .iter()
            .map(|c| json!({"name": c.name, "type": c.kind, "format": c.format, "description": c.description, "priority": c.priority}))
            .collect()
    };
    let mut meta = meta;
    if meta["continue"] == "" {
        meta.as_object_mut().and_then(|map| map.remove("continue"));
    }
    json!({
        "kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": meta, "columnDefinitions": columns, "rows": rows,
    })
}

fn row(resource: &Resource, cells: Vec<Value>, item: &Value, include: &str) -> Value {
    let mut row = json!({"cells": cells});
    if let Some(conditions) = tables::conditions(resource, item) {
        row["conditions"] = conditions;
    }
    match include {
        "None" => row["object"] = Value::Null,
        "Object" => {
            let mut object = item.clone();
            object["kind"] = resource.kind.into();
            object["apiVersion"] = resource.api_version().into();
            row["object"] = object;
        }
        _ => {
            row["object"] = json!({
                "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1",
                "metadata": metadata::own(resource, item["metadata"].clone()),
            });
        }
    }
    row
}
