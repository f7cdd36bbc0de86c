//! The paths of OpenAPI documents: every route of a kind, with what may be done there.

use protocol::Verb;
use protocol::Verb::{Create, Delete, DeleteCollection, Get, List, Patch, Update, Watch};
use protocol::resources::{Resource, Subresource};
use serde_json::{Map, Value};

use super::form::Form;
use super::operation::{self, Body, Content, Operation};
use super::parameters::{self, Parameter};

/// Subresources that are connections; their methods are no verbs of objects.
/// With them, the kind of their options; those of proxies begin with the kind that they lead to.
const CONNECTS: &[(&str, &str, &[&str])] = &[
    ("attach", "PodAttachOptions", &["get", "post"]),
    ("exec", "PodExecOptions", &["get", "post"]),
    ("portforward", "PodPortForwardOptions", &["get", "post"]),
    ("proxy", "ProxyOptions", &["get", "put", "post", "delete", "options", "head", "patch"]),
];

/// Where a group's version is served.
pub fn root(group: &str, version: &str) -> String {
    if group.is_empty() { format!("/api/{version}") } else { format!("/apis/{group}/{version}") }
}

/// The paths of some kinds.
pub fn of_kinds<'a>(resources: impl Iterator<Item = &'a Resource>, form: Form) -> Map<String, Value> {
    let mut paths = Map::new();
    for resource in resources {
        let mut put = |path: String, operations: Vec<(&'static str, Operation)>| {
            if !operations.is_empty() {
                paths.insert(path, operation::path(operations, form));
            }
        };
        let root = root(resource.group, resource.version);
        let base = if resource.namespaced {
            format!("{root}/namespaces/{{namespace}}/{}", resource.plural)
        } else {
            format!("{root}/{}", resource.plural)
        };
        let single = format!("{base}/{{name}}");
        let verbs = resource.verbs;
        let made = |verbs: &[Verb], routes: &[Route], of: &Place<'_>| -> Vec<(&'static str, Operation)> {
            let offered = routes.iter().filter(|route| verbs.contains(&route.0));
            offered.map(|route| (route.1, operation(resource, *route, of))).collect()
        };
        let whole = Place { namespaced: resource.namespaced, ..Place::default() };
        let one = Place { named: true, ..whole };
        put(base.clone(), made(verbs, COLLECTION, &whole));
        // Objects are created in their collection, whatever a subresource does.
        put(single.clone(), made(verbs, &SINGLE[1..], &one));
        for sub in resource.subresources {
            let path = format!("{single}/{}", sub.name);
            let of = Place { sub: Some(sub), ..one };
            match CONNECTS.iter().find(|(name, ..)| *name == sub.name) {
                Some((name, options, methods)) => {
                    let connect = |with_path: bool| {
                        let connected = methods.iter().map(|method| {
                            (*method, connection(resource, sub.name, options, method, with_path))
                        });
                        connected.collect::<Vec<_>>()
                    };
                    if *name == "proxy" {
                        put(format!("{path}/{{path}}"), connect(true));
                    }
                    put(path, connect(false));
                }
                None => put(path, made(sub.verbs, SINGLE, &of)),
            }
        }
        let everywhere = Place { everywhere: true, ..Place::default() };
        if resource.namespaced && verbs.contains(&List) {
            put(format!("{root}/{}", resource.plural), made(verbs, &COLLECTION[..1], &everywhere));
        }
        // Those of declared kinds are not told: a list says that it can be watched.
        if verbs.contains(&Watch) && !resource.custom {
            let watched = base.replacen(&root, &format!("{root}/watch"), 1);
            put(format!("{watched}/{{name}}"), made(verbs, &[(Watch, "get", "watch")], &one));
            let many = &[(Watch, "get", "watchlist")];
            if resource.namespaced {
                put(format!("{root}/watch/{}", resource.plural), made(verbs, many, &everywhere));
            }
            put(watched, made(verbs, many, &whole));
        }
    }
    paths
}

/// A verb, the method by which it is asked for, and what documents call it.
type Route = (Verb, &'static str, &'static str);

const COLLECTION: &[Route] =
    &[(List, "get", "list"), (Create, "post", "post"), (DeleteCollection, "delete", "deletecollection")];
const SINGLE: &[Route] = &[
    (Create, "post", "post"),
    (Get, "get", "get"),
    (Update, "put", "put"),
    (Patch, "patch", "patch"),
    (Delete, "delete", "delete"),
];

/// What a path leads to.
#[derive(Clone, Copy, Default)]
struct Place<'a> {
    /// Something in a namespace.
    namespaced: bool,
    /// What is in all namespaces.
    everywhere: bool,
    /// One object.
    named: bool,
    /// A part of it.
    sub: Option<&'a Subresource>,
}

/// Kinds whose deletion is answered with the object.
const DELETED_WHOLE: &[(&str, &[&str])] = &[
    (
        "",
        &[
            "PersistentVolume",
            "PersistentVolumeClaim",
            "Pod",
            "PodTemplate",
            "ResourceQuota",
            "Service",
            "ServiceAccount",
        ],
    ),
    ("resource.k8s.io", &["DeviceClass", "ResourceClaim", "ResourceClaimTemplate", "ResourceSlice"]),
    (
        "storage.k8s.io",
        &["CSIDriver", "CSINode", "StorageClass", "VolumeAttachment", "VolumeAttributesClass"],
    ),
];

/// What patches are sent in.
const PATCHES: &[&str] = &[
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
];
const PATCHES_OF_DECLARED: &[&str] =
    &["application/json-patch+json", "application/merge-patch+json", "application/apply-patch+yaml"];
const DECLARED: &[&str] = &["application/json", "application/yaml"];
const LOGS: &[&str] =
    &["text/plain", "application/json", "application/yaml", "application/vnd.kubernetes.protobuf"];

/// What a kind is called in documents.
pub fn name_of(group: &str, version: &str, kind: &str) -> String {
    protocol::schema::kind(group, version, kind).map_or_else(
        || {
            let group: Vec<&str> = group.rsplit('.').collect();
            format!("{}.{version}.{kind}", group.join("."))
        },
        |definition| definition.full_name(),
    )
}

/// A group, with its version, as the names of operations and their tags have it.
fn group_of(resource: &Resource) -> (String, String) {
    let group = if resource.group.is_empty() { "core" } else { resource.group };
    let group = group.strip_suffix(".k8s.io").unwrap_or(group);
    let tag = format!("{}_{}", operation::camel(group, false), operation::camel(resource.version, false));
    (operation::camel(group, true) + &operation::camel(resource.version, true), tag)
}

/// The parameters that a path itself has.
fn of_path(namespaced: bool, named: Option<&str>) -> Vec<Parameter> {
    let namespace = namespaced.then(|| Parameter::path("namespace", "The namespace that is meant."));
    let name = named.map(|kind| Parameter::path("name", format!("Name of the {kind}.")));
    namespace.into_iter().chain(name).collect()
}

fn operation(resource: &Resource, (verb, _, action): Route, of: &Place<'_>) -> Operation {
    let kind = resource.kind;
    let (group, tag) = group_of(resource);
    let (begins, said) = match action {
        "list" => ("list", format!("Lists or watches objects of kind {kind}")),
        "post" => ("create", format!("Creates a {kind}")),
        "deletecollection" => ("delete", format!("Deletes all objects of kind {kind} that are chosen")),
        "get" => ("read", format!("Reads a {kind}")),
        "put" => ("replace", format!("Replaces a {kind}")),
        "patch" => ("patch", format!("Changes parts of a {kind}")),
        "delete" => ("delete", format!("Deletes a {kind}")),
        _ => ("watch", format!("Watches objects of kind {kind}; better, list them with `watch`")),
    };
    let part = of.sub.map_or_else(String::new, |sub| operation::camel(sub.name, true));
    let id = [
        begins,
        &group,
        if verb == DeleteCollection { "Collection" } else { "" },
        if of.namespaced { "Namespaced" } else { "" },
        kind,
        &part,
        if action == "watchlist" { "List" } else { "" },
        if of.everywhere { "ForAllNamespaces" } else { "" },
    ]
    .concat();
    let said = match of.sub {
        Some(sub) => format!("{said}: its {}.", sub.name),
        None => said + ".",
    };
    let (own_group, own_version, own_kind) = of.sub.map_or((resource.group, resource.version, kind), |sub| {
        let (group, version) = sub.api.unwrap_or((resource.group, resource.version));
        (group, version, sub.kind)
    });
    // Of a part of a declared kind it is told whose it is, not what.
    let about = match resource.custom {
        true => [resource.group, resource.version, kind],
        false => [own_group, own_version, own_kind],
    };
    let logs = of.sub.is_some_and(|sub| sub.name == "log");
    let itself = || Content::Named(name_of(own_group, own_version, own_kind));
    let whole = DELETED_WHOLE.iter().any(|(g, kinds)| *g == resource.group && kinds.contains(&kind));
    let answer = match verb {
        _ if logs => Content::Text,
        List => Content::Named(name_of(resource.group, resource.version, resource.list_kind)),
        Watch => Content::meta("WatchEvent"),
        Delete if !whole => Content::meta("Status"),
        DeleteCollection => Content::meta("Status"),
        _ => itself(),
    };
    let body = match verb {
        Create | Update => Some(Body { content: itself(), required: true }),
        Patch => Some(Body { content: Content::meta("Patch"), required: true }),
        Delete => Some(Body { content: Content::meta("DeleteOptions"), required: false }),
        DeleteCollection if !resource.custom => {
            Some(Body { content: Content::meta("DeleteOptions"), required: false })
        }
        _ => None,
    };
    let codes: &[u16] = match verb {
        Create => &[200, 201, 202],
        Update => &[200, 201],
        Patch if !resource.custom => &[200, 201],
        Delete => &[200, 202],
        _ => &[200],
    };
    let mut parameters = of_path(of.namespaced, of.named.then_some(kind));
    parameters.extend(match resource.custom {
        true => parameters::of_declared(verb),
        false => parameters::of(verb),
    });
    if logs {
        parameters.extend(parameters::of_options("PodLogOptions"));
    }
    Operation {
        tag,
        id,
        said,
        parameters,
        body,
        consumes: match (verb, resource.custom) {
            (Patch, false) => PATCHES,
            (Patch, true) => PATCHES_OF_DECLARED,
            (_, true) => DECLARED,
            _ => operation::ANY,
        },
        produces: match verb {
            _ if logs => LOGS,
            _ if resource.custom => DECLARED,
            List | Watch => operation::STREAMS,
            _ => operation::OBJECTS,
        },
        codes,
        answer,
        about: Some((action, about.map(str::to_owned))),
    }
}

/// A way through to a container, a pod, a Service or a node.
fn connection(
    resource: &Resource,
    sub: &str,
    options: &str,
    method: &'static str,
    with_path: bool,
) -> Operation {
    let (group, tag) = group_of(resource);
    let kind =
        if options == "ProxyOptions" { format!("{}{options}", resource.kind) } else { options.to_owned() };
    let id = [
        "connect",
        &group,
        &operation::camel(method, true),
        if resource.namespaced { "Namespaced" } else { "" },
        resource.kind,
        &operation::camel(sub, true),
        if with_path { "WithPath" } else { "" },
    ]
    .concat();
    let mut parameters = of_path(resource.namespaced, Some(&kind));
    parameters.extend(parameters::of_options(&kind));
    if with_path {
        parameters.push(Parameter::path("path", "The path that is passed on."));
    }
    Operation {
        tag,
        id,
        said: format!("Connects a {} request to the {sub} of a {}.", method.to_uppercase(), resource.kind),
        parameters,
        body: None,
        consumes: operation::ANY,
        produces: operation::ANY,
        codes: &[200],
        answer: Content::Text,
        about: Some(("connect", [resource.group.to_owned(), resource.version.to_owned(), kind])),
    }
}

/// A path that answers with a document about the server.
pub fn document(path: &str, form: Form) -> (String, Value) {
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let part = |n: usize| parts.get(n).copied().unwrap_or_default();
    let info = || Content::Named("io.k8s.apimachinery.pkg.version.Info".to_owned());
    let group = match part(0) {
        "api" => "core",
        _ => part(1).strip_suffix(".k8s.io").unwrap_or(part(1)),
    };
    let (group, tagged) = (operation::camel(group, true), operation::camel(group, false));
    let version = match part(0) {
        "api" => part(1),
        _ => part(2),
    };
    const JSON: &[&str] = &["application/json"];
    const KEYS: &[&str] = &["application/jwk-set+json"];
    let (id, tag, answer, consumes, produces) = match part(0) {
        "version" => ("getCodeVersion".to_owned(), "version".to_owned(), info(), JSON, JSON),
        "openid" => (
            "getServiceAccountIssuerOpenIDKeyset".to_owned(),
            "openid".to_owned(),
            Content::Text,
            &[][..],
            KEYS,
        ),
        ".well-known" => {
            let id = "getServiceAccountIssuerOpenIDConfiguration".to_owned();
            (id, "WellKnown".to_owned(), Content::Text, &[][..], JSON)
        }
        _ => {
            let (id, tag, answer) = match (part(0), version) {
                ("apis", "") if parts.len() == 1 => {
                    ("getAPIVersions".to_owned(), "apis".to_owned(), "APIGroupList")
                }
                ("api", "") => ("getCoreAPIVersions".to_owned(), tagged, "APIVersions"),
                (_, "") => (format!("get{group}APIGroup"), tagged, "APIGroup"),
                (_, version) => {
                    let tag = format!("{tagged}_{}", operation::camel(version, false));
                    let id = format!("get{group}{}APIResources", operation::camel(version, true));
                    (id, tag, "APIResourceList")
                }
            };
            (id, tag, Content::meta(answer), operation::OBJECTS, operation::OBJECTS)
        }
    };
    let said = "Tells of the server.".to_owned();
    let (parameters, body, codes, about) = (Vec::new(), None, &[200][..], None);
    let get = Operation { tag, id, said, parameters, body, consumes, produces, codes, answer, about };
    (path.to_owned(), operation::path(vec![("get", get)], form))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_is_there() {
        let pods = protocol::resources::find("", "v1", "pods").expect("is served");
        let paths = of_kinds(std::iter::once(pods), Form::V3);
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
