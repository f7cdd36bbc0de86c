//! Discovery documents, made from the served kinds whenever those change.

use std::collections::BTreeMap;

use bytes::Bytes;
use protocol::resources::Resource;
use protocol::schema::written;
use protocol::{KUBERNETES_VERSION, Verb};
use serde::Serialize;
use serde_json::{Map, Value, json};

/// The paths that `/` lists, beside discovery's own and those of the health checks.
const OTHER_PATHS: &[&str] = &[
    "/.well-known/openid-configuration",
    "/apis/",
    "/flagz",
    "/metrics",
    "/metrics/slis",
    "/openapi/v2",
    "/openapi/v3",
    "/openapi/v3/",
    "/openid/v1/jwks",
    "/statusz",
    "/version",
];

/// The documents about one set of served kinds.
pub struct Documents {
    plain: BTreeMap<String, Bytes>,
    aggregated: BTreeMap<String, Bytes>,
}

/// A group and its versions, the preferred one first.
type Group = (&'static str, Vec<&'static str>);

impl Documents {
    /// The document for a path, or `None` when the path has none. `aggregated` asks for the
    /// `APIGroupDiscoveryList` form of `/api` and `/apis`.
    pub fn get(&self, path: &str, aggregated: bool) -> Option<Bytes> {
        let path = path.strip_suffix('/').filter(|p| !p.is_empty()).unwrap_or(path);
        if aggregated && let Some(found) = self.aggregated.get(path) {
            return Some(found.clone());
        }
        self.plain.get(path).cloned()
    }

    /// The documents about some kinds of some groups, both in discovery order.
    pub fn new(groups: &[Group], kinds: &[&'static Resource]) -> Self {
        let mut plain = BTreeMap::new();
        let mut aggregated = BTreeMap::new();
        let mut put = |path: String, value: Value| {
            plain.insert(path, Bytes::from(written::own(&value)));
        };
        let mut group_list = Vec::new();
        let mut group_items = Vec::new();
        for (group, versions) in groups {
            let base = if group.is_empty() { "/api".to_owned() } else { format!("/apis/{group}") };
            for version in versions {
                put(format!("{base}/{version}"), resource_list(kinds, group, version));
            }
            if group.is_empty() {
                aggregated.insert("/api".to_owned(), aggregate(vec![group_item(kinds, group, versions)]));
                continue;
            }
            let of =
                |version: &&str| json!({"groupVersion": format!("{group}/{version}"), "version": version});
            let mut document = json!({
                "name": group,
                "versions": versions.iter().map(of).collect::<Vec<_>>(),
                "preferredVersion": versions.first().map(of),
            });
            group_list.push(document.clone());
            document["kind"] = "APIGroup".into();
            document["apiVersion"] = "v1".into();
            put(base, document);
            group_items.push(group_item(kinds, group, versions));
        }
        put("/apis".to_owned(), json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": group_list}));
        aggregated.insert("/apis".to_owned(), aggregate(group_items));
        plain.insert("/version".to_owned(), Bytes::from(serde_json::to_vec(&version()).unwrap_or_default()));
        let mut paths: Vec<String> = plain.keys().cloned().collect();
        paths.push("/api".to_owned());
        paths.extend(OTHER_PATHS.iter().map(|p| (*p).to_owned()));
        paths.extend(super::health::paths());
        paths.sort();
        paths.dedup();
        plain.insert("/".to_owned(), Bytes::from(json!({"paths": paths}).to_string()));
        Documents { plain, aggregated }
    }
}

/// `/api` names the server's address, which is only known to the running server.
pub fn api_versions(address: &str) -> Bytes {
    let addresses = json!([{"clientCIDR": "0.0.0.0/0", "serverAddress": address}]);
    Bytes::from(written::own(
        &json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": addresses}),
    ))
}

/// What `/version` says, in upstream's order.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Version {
    /// The version's first number.
    pub major: &'static str,
    /// Its second.
    pub minor: &'static str,
    emulation_major: &'static str,
    emulation_minor: &'static str,
    min_compatibility_major: &'static str,
    min_compatibility_minor: &'static str,
    /// The version.
    pub git_version: &'static str,
    /// What it was built from.
    pub git_commit: &'static str,
    /// Whether that is what was committed.
    pub git_tree_state: &'static str,
    /// When it was built.
    pub build_date: &'static str,
    go_version: &'static str,
    compiler: &'static str,
    /// What it was built for.
    pub platform: String,
}

/// This server's version.
pub fn version() -> Version {
    let minor = protocol::kubernetes_minor().rsplit('.').next().unwrap_or_default();
    Version {
        major: "1",
        minor,
        emulation_major: "1",
        emulation_minor: minor,
        min_compatibility_major: "1",
        min_compatibility_minor: "35",
        git_version: KUBERNETES_VERSION,
        git_commit: "troupe",
        git_tree_state: "clean",
        build_date: "1970-01-01T00:00:00Z",
        go_version: "rust",
        compiler: "rustc",
        platform: format!("linux/{}", if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }),
    }
}

/// Names of verbs: sorted, but for declared kinds, whose order is a fixed one.
fn verbs(r: &Resource, verbs: &[Verb]) -> Vec<&'static str> {
    let mut names: Vec<_> = verbs.iter().map(|v| v.as_str()).collect();
    if !r.custom {
        names.sort_unstable();
    }
    names
}

fn of_version<'a>(
    kinds: &'a [&'static Resource],
    group: &'a str,
    version: &'a str,
) -> impl Iterator<Item = &'static Resource> + 'a {
    kinds.iter().copied().filter(move |r| r.group == group && r.version == version)
}

fn resource_list(kinds: &[&'static Resource], group: &str, version: &str) -> Value {
    let mut list = Vec::new();
    let mut declared = Vec::new();
    for r in of_version(kinds, group, version) {
        let list = if r.custom { &mut declared } else { &mut list };
        let mut entry = json!({
            "name": r.plural, "singularName": r.singular, "namespaced": r.namespaced, "kind": r.kind,
            "verbs": verbs(r, r.verbs),
        });
        let optional = [
            ("shortNames", json!(r.short_names), r.short_names.is_empty()),
            ("categories", json!(r.categories), r.categories.is_empty()),
            ("storageVersionHash", json!(r.storage_hash), r.storage_hash.is_empty()),
        ];
        for (name, value, absent) in optional {
            if !absent {
                entry[name] = value;
            }
        }
        list.push(entry);
        for sub in r.subresources {
            let mut entry = json!({
                "name": format!("{}/{}", r.plural, sub.name), "singularName": "", "namespaced": r.namespaced,
                "kind": sub.kind, "verbs": verbs(r, sub.verbs),
            });
            if let Some((group, version)) = sub.api {
                entry["group"] = group.into();
                entry["version"] = version.into();
            }
            list.push(entry);
        }
    }
    list.sort_by(|a, b| a["name"].as_str().cmp(&b["name"].as_str()));
    list.append(&mut declared);
    let group_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    let mut document = json!({"kind": "APIResourceList", "groupVersion": group_version, "resources": list});
    if !group.is_empty() {
        document["apiVersion"] = "v1".into();
    }
    document
}

fn aggregate(items: Vec<Value>) -> Bytes {
    let list = json!({
        "kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items,
    });
    Bytes::from(written::own(&list))
}

fn group_item(kinds: &[&'static Resource], group: &str, versions: &[&str]) -> Value {
    let mut metadata = Map::new();
    if !group.is_empty() {
        metadata.insert("name".to_owned(), group.into());
    }
    let versions: Vec<Value> = versions
        .iter()
        .map(|version| {
            let mut list: Vec<_> = of_version(kinds, group, version).collect();
            list.sort_by_key(|r| r.plural);
            let list: Vec<Value> = list.into_iter().map(aggregated_resource).collect();
            json!({"version": version, "resources": list, "freshness": "Current"})
        })
        .collect();
    json!({"metadata": metadata, "versions": versions})
}

fn aggregated_resource(r: &Resource) -> Value {
    let kind =
        |group: &str, version: &str, kind: &str| json!({"group": group, "version": version, "kind": kind});
    // Of the table's kinds upstream says only how they are called.
    let (own_group, own_version) = if r.custom { (r.group, r.version) } else { ("", "") };
    let mut entry = json!({
        "resource": r.plural, "responseKind": kind(own_group, own_version, r.kind),
        "scope": if r.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": r.singular, "verbs": verbs(r, r.verbs),
    });
    if !r.short_names.is_empty() {
        entry["shortNames"] = json!(r.short_names);
    }
    if !r.categories.is_empty() {
        entry["categories"] = json!(r.categories);
    }
    if !r.subresources.is_empty() {
        let mut subs: Vec<_> = r.subresources.iter().collect();
        subs.sort_by_key(|s| s.name);
        let subs = subs.into_iter().map(|s| {
            let (group, version) = s.api.unwrap_or((own_group, own_version));
            json!({"subresource": s.name, "responseKind": kind(group, version, s.kind), "verbs": verbs(r, s.verbs)})
        });
        entry["subresources"] = subs.collect();
    }
    entry
}
