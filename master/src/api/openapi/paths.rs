//! The paths of OpenAPI documents: every route of a kind, with what may be done there.

use protocol::Verb;
use protocol::Verb::{Create, Delete, DeleteCollection, Get, List, Patch, Update, Watch};
use protocol::resources::Resource;
use serde_json::{Map, Value, json};

/// Subresources that are connections; their methods are no verbs of objects.
const CONNECTS: &[(&str, &[&str])] = &[
    ("attach", &["get", "post"]),
    ("exec", &["get", "post"]),
    ("portforward", &["get", "post"]),
    ("proxy", &["get", "put", "post", "delete", "options", "head", "patch"]),
];

/// Where a group's version is served.
pub fn root(group: &str, version: &str) -> String {
    if group.is_empty() { format!("/api/{version}") } else { format!("/apis/{group}/{version}") }
}

/// The paths of some kinds.
pub fn of_kinds<'a>(resources: impl Iterator<Item = &'a Resource>, v3: bool) -> Map<String, Value> {
    let mut paths = Map::new();
    for resource in resources {
        let root = root(resource.group, resource.version);
        let base = if resource.namespaced {
            format!("{root}/namespaces/{{namespace}}/{}", resource.plural)
        } else {
            format!("{root}/{}", resource.plural)
        };
        let single = format!("{base}/{{name}}");
        let mut put = |path: String, entry: Map<String, Value>| {
            if !entry.is_empty() {
                paths.insert(path, Value::Object(entry));
            }
        };
        let methods = |verbs: &[Verb], routes: &[(Verb, &str, &str)]| -> Map<String, Value> {
            let offered = routes.iter().filter(|(verb, ..)| verbs.contains(verb));
            offered
                .map(|(verb, method, action)| ((*method).to_owned(), operation(resource, *verb, action, v3)))
                .collect()
        };
        let verbs = resource.verbs;
        put(
            base.clone(),
            methods(
                verbs,
                &[
                    (List, "get", "list"),
                    (Create, "post", "post"),
                    (DeleteCollection, "delete", "deletecollection"),
                ],
            ),
        );
        // Objects are created in their collection, whatever a subresource does.
        put(single.clone(), methods(verbs, &SINGLE[1..]));
        for sub in resource.subresources {
            let path = format!("{single}/{}", sub.name);
            match CONNECTS.iter().find(|(name, _)| *name == sub.name) {
                Some((name, connects)) => {
                    let entry: Map<String, Value> = connects
                        .iter()
                        .map(|method| ((*method).to_owned(), operation(resource, Get, "connect", v3)))
                        .collect();
                    if *name == "proxy" {
                        put(format!("{path}/{{path}}"), entry.clone());
                    }
                    put(path, entry);
                }
                None => put(path, methods(sub.verbs, SINGLE)),
            }
        }
        if resource.namespaced && verbs.contains(&List) {
            let across = methods(&[List], &[(List, "get", "list")]);
            put(format!("{root}/{}", resource.plural), across);
        }
        if verbs.contains(&Watch) {
            let watched = base.replacen(&root, &format!("{root}/watch"), 1);
            let one = methods(&[Watch], &[(Watch, "get", "watch")]);
            let many = methods(&[Watch], &[(Watch, "get", "watchlist")]);
            put(format!("{watched}/{{name}}"), one);
            if resource.namespaced {
                put(format!("{root}/watch/{}", resource.plural), many.clone());
            }
            put(watched, many);
        }
    }
    paths
}

const SINGLE: &[(Verb, &str, &str)] = &[
    (Create, "post", "post"),
    (Get, "get", "get"),
    (Update, "put", "put"),
    (Patch, "patch", "patch"),
    (Delete, "delete", "delete"),
];

/// A path that answers with a document about the server.
pub fn document(path: &str) -> (String, Value) {
    (path.to_owned(), json!({"get": {"responses": {"200": {"description": "OK"}}}}))
}

fn operation(resource: &Resource, verb: Verb, action: &str, v3: bool) -> Value {
    let query = |name: &str, kind: &str| {
        if v3 {
            json!({"name": name, "in": "query", "schema": {"type": kind, "uniqueItems": true}})
        } else {
            json!({"name": name, "in": "query", "type": kind, "uniqueItems": true})
        }
    };
    let mut parameters = Vec::new();
    if verb.is_write() {
        parameters.push(query("dryRun", "string"));
    }
    if matches!(verb, Create | Update | Patch) {
        parameters.push(query("fieldManager", "string"));
        parameters.push(query("fieldValidation", "string"));
    }
    if verb == Patch {
        parameters.push(query("force", "boolean"));
    }
    if matches!(verb, Delete | DeleteCollection) {
        parameters.push(query("gracePeriodSeconds", "integer"));
        parameters.push(query("propagationPolicy", "string"));
    }
    json!({
        "operationId": format!("{action}{}{}", resource.version.to_uppercase(), resource.kind),
        "parameters": parameters,
        "responses": {"200": {"description": "OK"}},
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": {"group": resource.group, "version": resource.version, "kind": resource.kind},
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_is_there() {
        let pods = protocol::resources::find("", "v1", "pods").expect("is served");
        let paths = of_kinds(std::iter::once(pods), true);
        for path in [
            "/api/v1/pods",
            "/api/v1/namespaces/{namespace}/pods",
            "/api/v1/namespaces/{namespace}/pods/{name}",
            "/api/v1/namespaces/{namespace}/pods/{name}/status",
            "/api/v1/namespaces/{namespace}/pods/{name}/exec",
            "/api/v1/namespaces/{namespace}/pods/{name}/proxy/{path}",
            "/api/v1/watch/pods",
            "/api/v1/watch/namespaces/{namespace}/pods",
            "/api/v1/watch/namespaces/{namespace}/pods/{name}",
        ] {
            assert!(paths.contains_key(path), "{path}");
        }
    }
}
