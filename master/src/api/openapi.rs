//! OpenAPI documents, made from the field tables and the resource table, and of the schemas of declared kinds.
//!
//! Made once, at first use, and kept packed until kinds are declared anew. Clients use them for `explain`, client-side validation, strategic merge
//! on their side, and to learn that dry runs and server-side field validation exist.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use protocol::Verb;
use protocol::resources;
use protocol::schema::{self, Definition};
use serde_json::{Map, Value, json};

mod declared;
mod described;
mod form;
mod native;
mod operation;
mod packed;
mod parameters;
mod paths;
mod proto;
mod proto_v3;
mod registered;
mod schemas;
mod third;

pub use declared::Declared;
pub use packed::Packed;
pub use third::V3Document;

use self::form::Form;
use self::registered::Listed;
use self::schemas::{definition, scalars};
use super::custom::Catalog;
use crate::aggregation::openapi::Joined;

const JSON: &str = "application/json";
/// Clients ask for `…v2@v1.0+protobuf`, which is no media type (`@` is none of its letters); the answer is one.
const PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// A version 2 document in both of its forms.
pub struct V2Document {
    json: Packed,
    proto: Packed,
}

impl V2Document {
    /// Writes a document.
    pub fn of(document: &Value) -> Self {
        V2Document {
            json: Packed::of(document.to_string().as_bytes()),
            proto: Packed::of(&proto::document(document)),
        }
    }
}

/// Why there is no document for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unserved {
    /// There is none at the path.
    Path,
    /// There is, in no form that the client reads.
    Form,
}

/// The document at a path under `/openapi`, with its media type; `joined` are those of other servers.
///
/// # Errors
/// There is none, or none in a form that is accepted.
pub fn document(
    catalog: &Catalog,
    joined: Option<&Joined>,
    path: &str,
    accept: &str,
) -> Result<(Packed, &'static str), Unserved> {
    let v2 = || match (joined, declared(catalog)) {
        (Some(joined), _) => joined.v2(catalog),
        (None, Some(declared)) => declared.v2(catalog),
        (None, None) => &*V2_DOCUMENT,
    };
    match path {
        "/openapi/v2" if accept.contains("com.github.proto-openapi.spec.v2") => {
            Ok((v2().proto.clone(), PROTOBUF))
        }
        // What is neither is refused; upstream's reader of this header knows no more.
        "/openapi/v2"
            if accept.is_empty() || ["*/*", "application/*", JSON].iter().any(|t| accept.contains(t)) =>
        {
            Ok((v2().json.clone(), JSON))
        }
        "/openapi/v2" => Err(Unserved::Form),
        // The index is for everybody.
        "/openapi/v3" => {
            let index = joined.map_or_else(|| v3_index(catalog), Joined::index);
            Ok((index, "text/plain; charset=utf-8"))
        }
        path => {
            let name = path.strip_prefix("/openapi/v3/").filter(|name| !name.ends_with('/'));
            let name = name.ok_or(Unserved::Path)?;
            let others = joined.and_then(|joined| joined.v3(name));
            let own = || V3.iter().find(|(n, _)| n == name).map(|(_, document)| document);
            let found = others.or_else(own).or_else(|| declared(catalog)?.v3(name));
            found.ok_or(Unserved::Path)?.in_form(accept).ok_or(Unserved::Form)
        }
    }
}

/// The documents with declared kinds. Without any there is one set of documents, made once.
fn declared(catalog: &Catalog) -> Option<&Declared> {
    catalog.customs().next().map(|_| catalog.openapi())
}

/// The index of the version 3 documents about what is served here.
pub fn v3_index(catalog: &Catalog) -> Packed {
    declared(catalog).map_or_else(|| V3_INDEX.clone(), Declared::index)
}

/// The version 2 document about what is served here.
pub fn v2_value(catalog: &Catalog) -> Value {
    declared(catalog).map_or_else(v2, |_| declared::v2_value(catalog))
}

static V2_DOCUMENT: LazyLock<V2Document> = LazyLock::new(|| V2Document::of(&v2()));
static V3: LazyLock<Vec<(String, V3Document)>> = LazyLock::new(|| {
    let versions =
        resources::groups().iter().flat_map(|(g, versions)| versions.iter().map(move |v| (*g, *v)));
    let documents = documents().into_iter().map(|name| {
        let body = V3Document::of(v3_document(&name).to_string().as_bytes());
        (name, body)
    });
    versions
        .map(|(group, version)| {
            let name =
                if group.is_empty() { format!("api/{version}") } else { format!("apis/{group}/{version}") };
            (name, V3Document::of(v3(group, version).to_string().as_bytes()))
        })
        .chain(documents)
        .collect()
});
static V3_INDEX: LazyLock<Packed> = LazyLock::new(|| {
    let paths: Map<String, Value> =
        V3.iter().map(|(name, body)| (name.clone(), json!({"serverRelativeURL": body.url(name)}))).collect();
    Packed::of(json!({"paths": paths}).to_string().as_bytes())
});

fn v2() -> Value {
    let listed = schema::all().iter().filter(|definition| !definition.unlisted);
    let definitions: Map<String, Value> = listed.map(|d| (d.full_name(), definition(d, Form::V2))).collect();
    let mut all = definitions;
    all.extend(scalars(Form::V2));
    registered::list(&mut all, Listed::Everywhere);
    json!({
        "swagger": "2.0",
        "info": info(),
        "paths": v2_paths(),
        "definitions": all,
        "securityDefinitions": credentials(),
        "security": [{"BearerToken": []}],
    })
}

fn v2_paths() -> Value {
    let mut all = paths::of_kinds(resources::all().iter(), Form::V2);
    for (group, versions) in resources::groups() {
        all.extend(
            versions.iter().map(|v| paths::document(&format!("{}/", paths::root(group, v)), Form::V2)),
        );
    }
    all.extend(documents().iter().map(|name| paths::document(&format!("/{name}/"), Form::V2)));
    Value::Object(all)
}

/// Names of documents that are of no version of a group.
fn documents() -> Vec<String> {
    let mut names: Vec<String> =
        [".well-known/openid-configuration", "api", "apis", "openid/v1/jwks", "version"]
            .map(str::to_owned)
            .into();
    let groups = resources::groups().iter().filter(|(group, _)| !group.is_empty());
    names.extend(groups.map(|(group, _)| format!("apis/{group}")));
    names
}

/// The document about one of [`documents`].
fn v3_document(name: &str) -> Value {
    let root = match name {
        "version" => "p.version.Info",
        "api" => "m.APIVersions",
        "apis" => "m.APIGroupList",
        name if name.starts_with("apis/") => "m.APIGroup",
        _ => "",
    };
    v3_of(
        vec![paths::document(&format!("/{name}/"), Form::V3)].into_iter().collect(),
        schema::definition(root),
        Listed::Everywhere,
    )
}

fn v3(group: &str, version: &str) -> Value {
    let here = || resources::all().iter().filter(|r| r.group == group && r.version == version);
    let mut paths = paths::of_kinds(here(), Form::V3);
    paths.extend([paths::document(&format!("{}/", paths::root(group, version)), Form::V3)]);
    let mut roots = vec!["m.APIResourceList"];
    for (verb, names) in [
        (Verb::Delete, &["m.DeleteOptions", "m.Status"][..]),
        (Verb::Patch, &["m.Patch"]),
        (Verb::Watch, &["m.WatchEvent"]),
    ] {
        if here().any(|r| r.allows(verb)) {
            roots.extend(names);
        }
    }
    let kinds = here().flat_map(|r| {
        let own = [r.kind, if r.allows(Verb::List) { r.list_kind } else { r.kind }];
        let own = own.map(|kind| schema::kind(group, version, kind));
        let subs = r.subresources.iter().filter_map(|sub| {
            let (group, version) = sub.api.unwrap_or((group, version));
            schema::kind(group, version, sub.kind)
        });
        own.into_iter().flatten().chain(subs)
    });
    let roots = roots.into_iter().filter_map(schema::definition).chain(kinds);
    v3_of(paths, roots, Listed::Here(group, version))
}

/// A version 3 document of some paths, and of some definitions with all that they mention.
fn v3_of(
    paths: Map<String, Value>,
    roots: impl IntoIterator<Item = &'static Definition>,
    listed: Listed<'_>,
) -> Value {
    let mut found = Vec::new();
    roots.into_iter().for_each(|d| reach(d, &mut found));
    let mut mentioned = BTreeSet::new();
    let mut schemas: Map<String, Value> = Map::new();
    for d in &found {
        let made = definition(d, Form::V3);
        mention(&made, &mut mentioned);
        schemas.insert(d.full_name(), made);
    }
    let scalars = scalars(Form::V3).into_iter().filter(|(name, _)| mentioned.contains(name));
    schemas.extend(scalars);
    registered::list(&mut schemas, listed);
    let mut components = json!({"securitySchemes": credentials()});
    if !schemas.is_empty() {
        components["schemas"] = schemas.into();
    }
    json!({"openapi": "3.0.0", "info": info(), "paths": paths, "components": components})
}

/// What all documents are about.
fn info() -> Value {
    json!({"title": "Kubernetes", "version": protocol::kubernetes_minor()})
}

/// How clients say who they are.
fn credentials() -> Value {
    let said = "A bearer token says who asks.";
    json!({"BearerToken": {"type": "apiKey", "in": "header", "name": "authorization", "description": said}})
}

/// The names that a schema refers to.
fn mention(schema: &Value, names: &mut BTreeSet<String>) {
    match schema {
        Value::Object(map) => {
            if let Some(name) = map.get("$ref").and_then(Value::as_str).and_then(|r| r.rsplit('/').next()) {
                names.insert(name.to_owned());
            }
            map.values().for_each(|value| mention(value, names));
        }
        Value::Array(items) => items.iter().for_each(|value| mention(value, names)),
        _ => {}
    }
}

/// A definition and all that it mentions.
fn reach(definition: &'static Definition, found: &mut Vec<&'static Definition>) {
    if found.iter().any(|d| d.name == definition.name) {
        return;
    }
    found.push(definition);
    for field in &definition.fields {
        let mut ty = &field.ty;
        while let Some(element) = ty.element() {
            ty = element;
        }
        if let Some(inner) = ty.definition() {
            reach(inner, found);
        }
    }
}
