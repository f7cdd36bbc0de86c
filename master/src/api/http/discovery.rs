//! Discovery documents, made from the resource table.

use protocol::resources::{self, Resource, Subresource};
use protocol::schema;
use serde_json::{Value, json};

fn group_version(group: &str, version: &str) -> String {
    if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }
}

/// `/api`.
pub fn core_versions(address: &str) -> Value {
    json!({
        "kind": "APIVersions", "versions": ["v1"],
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}],
    })
}

fn api_group(group: &str, versions: &[&str]) -> Value {
    let versions: Vec<Value> =
        versions.iter().map(|v| json!({"groupVersion": group_version(group, v), "version": v})).collect();
    json!({"name": group, "preferredVersion": versions.first(), "versions": versions})
}

/// `/apis`.
pub fn groups() -> Value {
    let groups: Vec<Value> =
        resources::groups().iter().filter(|(g, _)| !g.is_empty()).map(|(g, v)| api_group(g, v)).collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

/// `/apis/<group>`.
pub fn group(name: &str) -> Option<Value> {
    let (group, versions) = resources::groups().iter().find(|(g, _)| *g == name && !g.is_empty())?;
    let mut made = api_group(group, versions);
    made["kind"] = "APIGroup".into();
    made["apiVersion"] = "v1".into();
    Some(made)
}

fn of(group: &str, version: &str) -> impl Iterator<Item = &'static Resource> {
    resources::all().iter().filter(move |r| r.group == group && r.version == version)
}

fn verbs(verbs: &[protocol::Verb]) -> Vec<&'static str> {
    verbs.iter().map(|v| v.as_str()).collect()
}

/// `/api/v1`, `/apis/<group>/<version>`.
pub fn resources(group: &str, version: &str) -> Option<Value> {
    let mut list = Vec::new();
    for resource in of(group, version) {
        let mut entry = json!({
            "name": resource.plural, "singularName": resource.singular, "namespaced": resource.namespaced,
            "kind": resource.kind, "verbs": verbs(resource.verbs),
        });
        if !resource.short_names.is_empty() {
            entry["shortNames"] = json!(resource.short_names);
        }
        if !resource.categories.is_empty() {
            entry["categories"] = json!(resource.categories);
        }
        if resource.is_stored() {
            entry["storageVersionHash"] = resource.storage_hash.into();
        }
        list.push(entry);
        for sub in resource.subresources {
            let mut entry = json!({
                "name": format!("{}/{}", resource.plural, sub.name), "singularName": "",
                "namespaced": resource.namespaced, "kind": sub.kind, "verbs": verbs(sub.verbs),
            });
            if let Some((group, version)) = sub.api {
                entry["group"] = group.into();
                entry["version"] = version.into();
            }
            list.push(entry);
        }
    }
    if list.is_empty() {
        return None;
    }
    let mut made = json!({
        "kind": "APIResourceList", "groupVersion": group_version(group, version), "resources": list,
    });
    if !group.is_empty() {
        made["apiVersion"] = "v1".into();
    }
    Some(made)
}

/// The aggregated document of `/api` (`core`) or `/apis`.
pub fn aggregated(core: bool, document: &str) -> Value {
    let scope = |r: &Resource| if r.namespaced { "Namespaced" } else { "Cluster" };
    let kind =
        |group: &str, version: &str, kind: &str| json!({"group": group, "version": version, "kind": kind});
    let sub = |s: &Subresource| {
        let (group, version) = s.api.unwrap_or_default();
        json!({"subresource": s.name, "responseKind": kind(group, version, s.kind), "verbs": verbs(s.verbs)})
    };
    let one = |r: &'static Resource| {
        let mut entry = json!({
            "resource": r.plural, "responseKind": kind("", "", r.kind), "scope": scope(r),
            "singularResource": r.singular, "verbs": verbs(r.verbs),
        });
        if !r.short_names.is_empty() {
            entry["shortNames"] = json!(r.short_names);
        }
        if !r.categories.is_empty() {
            entry["categories"] = json!(r.categories);
        }
        if !r.subresources.is_empty() {
            entry["subresources"] = r.subresources.iter().map(sub).collect();
        }
        entry
    };
    let groups = resources::groups().iter().filter(|(g, _)| g.is_empty() == core);
    let items: Vec<Value> = groups
        .map(|(group, versions)| {
            let versions: Vec<Value> = versions
                .iter()
                .map(|v| {
                    let list: Vec<Value> = of(group, v).map(one).collect();
                    json!({"version": v, "resources": list, "freshness": "Current"})
                })
                .collect();
            let meta = if group.is_empty() { json!({}) } else { json!({"name": group}) };
            json!({"metadata": meta, "versions": versions})
        })
        .collect();
    let api_version = format!("apidiscovery.k8s.io/{document}");
    json!({"kind": "APIGroupDiscoveryList", "apiVersion": api_version, "metadata": {}, "items": items})
}

/// `/version`: the release whose API this is.
pub fn version() -> Value {
    json!({
        "major": "1", "minor": "36", "emulationMajor": "1", "emulationMinor": "36", "minCompatibilityMajor": "1",
        "minCompatibilityMinor": "35", "gitVersion": "v1.36.2", "gitCommit": "troupe", "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z", "goVersion": "go1.26.6", "compiler": "gc", "platform": "linux/amd64",
    })
}

/// Paths that `/` lists.
pub fn paths() -> Vec<String> {
    let mut paths: Vec<String> = [
        "/api",
        "/api/v1",
        "/apis",
        "/healthz",
        "/livez",
        "/metrics",
        "/openapi/v2",
        "/openapi/v3",
        "/openapi/v3/",
        "/readyz",
        "/version",
        "/.well-known/openid-configuration",
        "/openid/v1/jwks",
    ]
    .map(str::to_owned)
    .to_vec();
    for (group, versions) in resources::groups().iter().filter(|(g, _)| !g.is_empty()) {
        paths.push(format!("/apis/{group}"));
        paths.extend(versions.iter().map(|v| format!("/apis/{group}/{v}")));
    }
    paths.sort();
    paths
}

/// The definition behind a kind, by group, version and kind.
pub fn definition(resource: &Resource) -> Option<&'static schema::Definition> {
    schema::kind(resource.group, resource.version, resource.kind)
}
