//! Reading another server's discovery documents: the kinds of one version of a group, in the form of aggregated
//! discovery. Pure.

use serde_json::{Value, json};

use crate::api::object::{list, text};

/// The kinds of a version in an `APIGroupDiscoveryList`; `None` where it is no such document.
pub fn aggregated(document: &Value, group: &str, version: &str) -> Option<Vec<Value>> {
    if document["kind"] != "APIGroupDiscoveryList" {
        return None;
    }
    let groups = list(document, &["items"]).iter().filter(|g| text(g, &["metadata", "name"]) == group);
    let mut versions = groups.flat_map(|g| list(g, &["versions"]));
    let found = versions.find(|v| text(v, &["version"]) == version);
    Some(found.map(|v| list(v, &["resources"]).to_vec()).unwrap_or_default())
}

/// The kinds of an `APIResourceList`; `None` where it is no such document.
pub fn legacy(document: &Value, group: &str, version: &str) -> Option<Vec<Value>> {
    if document["kind"] != "APIResourceList" {
        return None;
    }
    let kind = |entry: &Value| {
        let own = |field: &str, default: &str| {
            Some(text(entry, &[field])).filter(|t| !t.is_empty()).unwrap_or(default).to_owned()
        };
        json!({"group": own("group", group), "version": own("version", version), "kind": text(entry, &["kind"])})
    };
    let verbs = |entry: &Value| json!(list(entry, &["verbs"]));
    let mut made: Vec<Value> = Vec::new();
    let (whole, parts): (Vec<&Value>, Vec<&Value>) =
        list(document, &["resources"]).iter().partition(|entry| !text(entry, &["name"]).contains('/'));
    for entry in whole {
        let mut resource = json!({
            "resource": text(entry, &["name"]), "responseKind": kind(entry),
            "scope": if entry["namespaced"] == true { "Namespaced" } else { "Cluster" },
            "singularResource": text(entry, &["singularName"]), "verbs": verbs(entry),
        });
        for field in ["shortNames", "categories"] {
            if let Some(names) = entry.get(field).filter(|names| names.is_array()) {
                resource[field] = names.clone();
            }
        }
        made.push(resource);
    }
    for entry in parts {
        let (name, subresource) = text(entry, &["name"]).split_once('/').unwrap_or_default();
        let Some(resource) = made.iter_mut().find(|r| r["resource"] == name) else { continue };
        let part = json!({"subresource": subresource, "responseKind": kind(entry), "verbs": verbs(entry)});
        match resource.get_mut("subresources").and_then(Value::as_array_mut) {
            Some(parts) => parts.push(part),
            None => resource["subresources"] = json!([part]),
        }
    }
    Some(made)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_kinds_become_aggregated_ones() {
        let document = json!({"kind": "APIResourceList", "groupVersion": "g/v1", "resources": [
            {"name": "flunders", "singularName": "flunder", "namespaced": true, "kind": "Flunder",
             "verbs": ["get", "list"], "shortNames": ["fl"]},
            {"name": "flunders/scale", "singularName": "", "namespaced": true, "kind": "Scale",
             "group": "autoscaling", "version": "v1", "verbs": ["get"]},
            {"name": "lost/status", "kind": "Lost", "verbs": ["get"]}]});
        let expected = json!([{"resource": "flunders", "scope": "Namespaced", "singularResource": "flunder",
            "responseKind": {"group": "g", "version": "v1", "kind": "Flunder"}, "verbs": ["get", "list"],
            "shortNames": ["fl"],
            "subresources": [{"subresource": "scale", "verbs": ["get"],
                "responseKind": {"group": "autoscaling", "version": "v1", "kind": "Scale"}}]}]);
        assert_eq!(legacy(&document, "g", "v1").map(Value::Array), Some(expected));
        assert_eq!(legacy(&json!({"kind": "Status"}), "g", "v1"), None);
    }

    #[test]
    fn one_version_of_many_is_taken() {
        let document = json!({"kind": "APIGroupDiscoveryList", "items": [
            {"metadata": {"name": "other"}, "versions": [{"version": "v1", "resources": [{"resource": "x"}]}]},
            {"metadata": {"name": "g"}, "versions": [
                {"version": "v2", "resources": [{"resource": "y"}]},
                {"version": "v1", "resources": [{"resource": "z"}]}]}]});
        assert_eq!(aggregated(&document, "g", "v1"), Some(vec![json!({"resource": "z"})]));
        assert_eq!(aggregated(&document, "g", "v3"), Some(Vec::new()));
        assert_eq!(aggregated(&json!({"kind": "APIGroupList"}), "g", "v1"), None);
    }
}
