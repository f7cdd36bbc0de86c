//! Discovery, joined: what is served here with what other servers serve.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use protocol::schema::written;
use serde_json::{Value, json};

use super::known::All;
use super::openapi;
use super::services::Registered;
use crate::api::custom::Catalog;
use crate::api::object::{list_mut, text};

/// Documents that belong to one state of everything that they are made from.
pub struct Joined {
    catalog: Arc<Catalog>,
    registered: Arc<Registered>,
    known: Arc<All>,
    discovery: OnceLock<Discovery>,
    openapi: OnceLock<openapi::Joined>,
}

struct Discovery {
    plain: BTreeMap<String, Bytes>,
    aggregated: Bytes,
}

impl Joined {
    pub(super) fn new(catalog: Arc<Catalog>, registered: Arc<Registered>, known: Arc<All>) -> Self {
        Joined { catalog, registered, known, discovery: OnceLock::new(), openapi: OnceLock::new() }
    }

    pub(super) fn is_of(
        &self,
        catalog: &Arc<Catalog>,
        registered: &Arc<Registered>,
        known: &Arc<All>,
    ) -> bool {
        Arc::ptr_eq(&self.catalog, catalog)
            && Arc::ptr_eq(&self.registered, registered)
            && Arc::ptr_eq(&self.known, known)
    }

    /// A discovery document by its path; `None` for those that are not joined.
    pub fn discovery(&self, path: &str, aggregated: bool) -> Option<Bytes> {
        let path = path.strip_suffix('/').filter(|path| !path.is_empty()).unwrap_or(path);
        let made = self.discovery.get_or_init(|| self.make_discovery());
        if aggregated && path == "/apis" {
            return Some(made.aggregated.clone());
        }
        made.plain.get(path).cloned()
    }

    /// The OpenAPI documents.
    pub fn openapi(&self) -> &openapi::Joined {
        self.openapi.get_or_init(|| openapi::Joined::new(&self.catalog, &self.registered, &self.known))
    }

    fn make_discovery(&self) -> Discovery {
        let own = self.catalog.discovery();
        let parsed = |path: &str, aggregated: bool| -> Value {
            let bytes = own.get(path, aggregated).unwrap_or_default();
            serde_json::from_slice(&bytes).unwrap_or(Value::Null)
        };
        let mut groups = parsed("/apis", false);
        let mut all = parsed("/apis", true);
        let mut root = parsed("/", false);
        let mut plain = BTreeMap::new();
        join_groups(&mut groups, &self.registered);
        join_aggregated(&mut all, &self.registered, &self.known);
        let mut paths: Vec<Value> = root["paths"].as_array().cloned().unwrap_or_default();
        for backend in self.registered.backends() {
            let at = format!("/apis/{}", backend.group);
            paths.extend([at.as_str().into(), backend.root().into()]);
            let of_group = |g: &&Value| text(g, &["name"]) == backend.group;
            if let Some(group) = groups["groups"].as_array().into_iter().flatten().find(of_group) {
                let mut document = group.clone();
                document["kind"] = "APIGroup".into();
                document["apiVersion"] = "v1".into();
                plain.insert(at, Bytes::from(written::own(&document)));
            }
        }
        paths.sort_by(|a, b| a.as_str().cmp(&b.as_str()));
        paths.dedup();
        root["paths"] = paths.into();
        plain.insert("/".to_owned(), Bytes::from(root.to_string()));
        plain.insert("/apis".to_owned(), Bytes::from(written::own(&groups)));
        Discovery { plain, aggregated: Bytes::from(written::own(&all)) }
    }
}

/// Puts a group where its priority wants it, among groups whose names `name_of` tells.
fn place(
    groups: &mut Vec<Value>,
    group: &str,
    made: Value,
    registered: &Registered,
    name_of: impl Fn(&Value) -> &str,
) {
    let rank = registered.rank(group);
    let at = groups.iter().position(|other| registered.rank(name_of(other)) > rank).unwrap_or(groups.len());
    groups.insert(at, made);
}

/// Adds the others' versions to an `APIGroupList`.
fn join_groups(document: &mut Value, registered: &Registered) {
    for backend in registered.backends() {
        let (group, version) = (&backend.group, &backend.version);
        let made = json!({"groupVersion": format!("{group}/{version}"), "version": version});
        let known = list_mut(document, &["groups"]).iter_mut().find(|g| text(g, &["name"]) == group);
        let Some(known) = known else {
            let entry = json!({"name": group, "versions": [made], "preferredVersion": made});
            if let Some(groups) = document["groups"].as_array_mut() {
                place(groups, group, entry, registered, |other| text(other, &["name"]));
            }
            continue;
        };
        if let Some(versions) = known["versions"].as_array_mut() {
            versions.retain(|v| v["version"] != made["version"]);
            versions.push(made);
            versions.sort_by_key(|v| registered.version_rank(group, text(v, &["version"])));
            known["preferredVersion"] = known["versions"][0].clone();
        }
    }
}

/// Adds the others' kinds to an `APIGroupDiscoveryList`.
fn join_aggregated(document: &mut Value, registered: &Registered, known: &All) {
    for backend in registered.backends() {
        let (group, version) = (&backend.group, &backend.version);
        let said = known.get(&backend.name);
        let current = said.is_some_and(|said| !said.stale);
        let mut made = json!({"version": version, "freshness": if current { "Current" } else { "Stale" }});
        if let Some(said) = said {
            made["resources"] = json!(said.resources);
        }
        let entries = list_mut(document, &["items"]).iter_mut();
        let entry = entries.into_iter().find(|g| text(g, &["metadata", "name"]) == group);
        let Some(entry) = entry else {
            let entry = json!({"metadata": {"name": group}, "versions": [made]});
            if let Some(items) = document["items"].as_array_mut() {
                place(items, group, entry, registered, |other| text(other, &["metadata", "name"]));
            }
            continue;
        };
        if let Some(versions) = entry["versions"].as_array_mut() {
            versions.retain(|v| v["version"] != made["version"]);
            versions.push(made);
            versions.sort_by_key(|v| registered.version_rank(group, text(v, &["version"])));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::known::Documents;
    use super::super::services::tests::registered;
    use super::*;

    fn names(document: &Value, list: &str, name: &str) -> Vec<String> {
        let groups = document[list].as_array().into_iter().flatten();
        groups
            .map(|group| {
                let versions = group["versions"].as_array().into_iter().flatten();
                let versions: Vec<&str> = versions.map(|v| text(v, &["version"])).collect();
                let name = group.pointer(name).and_then(Value::as_str).unwrap_or_default();
                format!("{name} {}", versions.join(","))
            })
            .collect()
    }

    #[test]
    fn others_stand_where_their_priority_wants_them() {
        let registered = registered(&[
            ("apps", "v1", 17800, 15, None),
            ("batch", "v1", 17400, 15, None),
            ("mixed.example.com", "v1", 1000, 100, None),
            ("mixed.example.com", "v2", 1000, 200, Some("s")),
            ("metrics.k8s.io", "v1beta1", 17500, 100, Some("m")),
            ("zz.example.com", "v1", 100, 100, Some("z")),
        ]);
        let group = |name: &str| {
            json!({"name": name, "versions": [{"groupVersion": format!("{name}/v1"), "version": "v1"}],
                "preferredVersion": {"groupVersion": format!("{name}/v1"), "version": "v1"}})
        };
        let mut plain = json!({"groups": [group("apps"), group("batch"), group("mixed.example.com")]});
        join_groups(&mut plain, &registered);
        let expected =
            ["apps v1", "metrics.k8s.io v1beta1", "batch v1", "mixed.example.com v2,v1", "zz.example.com v1"];
        assert_eq!(names(&plain, "groups", "/name"), expected);
        assert_eq!(plain["groups"][3]["preferredVersion"]["version"], "v2");

        let item = |name: &str| json!({"metadata": {"name": name}, "versions": [{"version": "v1"}]});
        let mut all = json!({"items": [item("apps"), item("batch"), item("mixed.example.com")]});
        let said = Documents { resources: vec![json!({"resource": "nodes"})], ..Documents::default() };
        let known = All::from([("v1beta1.metrics.k8s.io".to_owned(), Arc::new(said))]);
        join_aggregated(&mut all, &registered, &known);
        assert_eq!(names(&all, "items", "/metadata/name"), expected);
        let metrics = &all["items"][1]["versions"][0];
        assert_eq!(
            (&metrics["freshness"], &metrics["resources"][0]["resource"]),
            (&json!("Current"), &json!("nodes"))
        );
        assert_eq!(all["items"][4]["versions"][0]["freshness"], "Stale");
    }
}
