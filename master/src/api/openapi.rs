//! OpenAPI documents, made from the field tables and the resource table.
//!
//! Made once, at first use, and kept. Clients use them for `explain`, client-side validation, strategic merge
//! on their side, and to learn that dry runs and server-side field validation exist.

use std::sync::LazyLock;

use bytes::Bytes;
use protocol::resources::{self, Resource};
use protocol::schema::{self, Definition, Field, ListKind, Type};
use serde_json::{Map, Value, json};

mod proto;

const JSON: &str = "application/json";
const PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";

/// The document at a path under `/openapi`, with its media type.
pub fn document(path: &str, accept: &str) -> Option<(Bytes, &'static str)> {
    match path.trim_end_matches('/') {
        "/openapi/v2" if accept.contains("com.github.proto-openapi.spec.v2") => {
            Some((V2_PROTO.clone(), PROTOBUF))
        }
        "/openapi/v2" => Some((V2_JSON.clone(), JSON)),
        "/openapi/v3" => Some((V3_INDEX.clone(), "text/plain; charset=utf-8")),
        path => {
            let name = path.strip_prefix("/openapi/v3/")?;
            let (_, body) = V3.iter().find(|(n, _)| n == name)?;
            Some((body.clone(), JSON))
        }
    }
}

static V2: LazyLock<Value> = LazyLock::new(v2);
static V2_JSON: LazyLock<Bytes> = LazyLock::new(|| Bytes::from(V2.to_string()));
static V2_PROTO: LazyLock<Bytes> = LazyLock::new(|| Bytes::from(proto::document(&V2)));
static V3: LazyLock<Vec<(String, Bytes)>> = LazyLock::new(|| {
    let versions =
        resources::groups().iter().flat_map(|(g, versions)| versions.iter().map(move |v| (*g, *v)));
    versions
        .map(|(group, version)| {
            let name =
                if group.is_empty() { format!("api/{version}") } else { format!("apis/{group}/{version}") };
            (name, Bytes::from(v3(group, version).to_string()))
        })
        .collect()
});
static V3_INDEX: LazyLock<Bytes> = LazyLock::new(|| {
    let paths: Map<String, Value> = V3
        .iter()
        .map(|(name, body)| {
            // Clients cache a document as long as its address stays the same.
            let url = format!("/openapi/v3/{name}?hash={:016X}", fingerprint(body));
            (name.clone(), json!({"serverRelativeURL": url}))
        })
        .collect();
    Bytes::from(json!({"paths": paths}).to_string())
});

/// FNV-1a: tells documents apart, nothing more.
fn fingerprint(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3))
}

fn v2() -> Value {
    let definitions: Map<String, Value> =
        schema::all().iter().map(|d| (d.full_name(), definition(d, "#/definitions/"))).collect();
    let mut all = definitions;
    all.extend(scalars());
    json!({
        "swagger": "2.0",
        "info": {"title": "Kubernetes", "version": "v1.36.2"},
        "paths": paths(resources::all().iter(), false),
        "definitions": all,
    })
}

fn v3(group: &str, version: &str) -> Value {
    let mut names: Vec<&'static Definition> = Vec::new();
    let mut add = |d: &'static Definition| reach(d, &mut names);
    let here = resources::all().iter().filter(|r| r.group == group && r.version == version);
    for d in schema::all() {
        if d.gvk.is_some_and(|(g, v, _)| g == group && v == version) {
            add(d);
        }
    }
    let mut schemas: Map<String, Value> =
        names.iter().map(|d| (d.full_name(), definition(d, "#/components/schemas/"))).collect();
    schemas.extend(scalars());
    json!({
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": "v1.36.2"},
        "paths": paths(here, true),
        "components": {"schemas": schemas},
    })
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

const TIME: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Time";
const MICRO_TIME: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime";
const QUANTITY: &str = "io.k8s.apimachinery.pkg.api.resource.Quantity";
const INT_OR_STRING: &str = "io.k8s.apimachinery.pkg.util.intstr.IntOrString";
const RAW: &str = "io.k8s.apimachinery.pkg.runtime.RawExtension";

fn scalars() -> [(String, Value); 5] {
    [
        (TIME.to_owned(), json!({"type": "string", "format": "date-time"})),
        (MICRO_TIME.to_owned(), json!({"type": "string", "format": "date-time"})),
        (QUANTITY.to_owned(), json!({"type": "string"})),
        (INT_OR_STRING.to_owned(), json!({"type": "string", "format": "int-or-string"})),
        (RAW.to_owned(), json!({"type": "object"})),
    ]
}

fn definition(definition: &Definition, prefix: &str) -> Value {
    let properties: Map<String, Value> =
        definition.fields.iter().map(|f| (f.name.to_owned(), property(f, prefix))).collect();
    let mut made = json!({"type": "object"});
    if !properties.is_empty() {
        made["properties"] = Value::Object(properties);
    }
    let required: Vec<&str> = definition.fields.iter().filter(|f| f.required).map(|f| f.name).collect();
    if !required.is_empty() {
        made["required"] = json!(required);
    }
    if definition.atomic {
        made["x-kubernetes-map-type"] = "atomic".into();
    }
    if let Some((group, version, kind)) = definition.gvk {
        made["x-kubernetes-group-version-kind"] = json!([{"group": group, "version": version, "kind": kind}]);
    }
    made
}

fn property(field: &Field, prefix: &str) -> Value {
    let mut made = type_of(&field.ty, prefix);
    // A reference has no room for anything else in version 3.
    let reference = made.get("$ref").is_some();
    if reference && prefix.contains("components") && (field.retain_keys || field.merge) {
        made = json!({"allOf": [made]});
    }
    if let Some(default) = &field.default
        && !reference
    {
        made["default"] = default.clone();
    }
    if !field.values.is_empty() {
        made["enum"] = json!(field.values);
    }
    match (&field.ty, field.list) {
        (Type::List(_), ListKind::Map) => {
            made["x-kubernetes-list-type"] = "map".into();
            made["x-kubernetes-list-map-keys"] = json!(field.keys);
        }
        (Type::List(_), ListKind::Set) => made["x-kubernetes-list-type"] = "set".into(),
        (Type::List(_), ListKind::Atomic) => made["x-kubernetes-list-type"] = "atomic".into(),
        _ => {}
    }
    if field.atomic {
        made["x-kubernetes-map-type"] = "atomic".into();
    }
    let strategy: Vec<&str> = [(field.merge, "merge"), (field.retain_keys, "retainKeys")]
        .iter()
        .filter(|(on, _)| *on)
        .map(|(_, s)| *s)
        .collect();
    if !strategy.is_empty() {
        made["x-kubernetes-patch-strategy"] = strategy.join(",").into();
    }
    if !field.merge_key.is_empty() {
        made["x-kubernetes-patch-merge-key"] = field.merge_key.into();
    }
    made
}

fn type_of(ty: &Type, prefix: &str) -> Value {
    let reference = |name: &str| json!({"$ref": format!("{prefix}{name}")});
    match ty {
        Type::String => json!({"type": "string"}),
        Type::Bool => json!({"type": "boolean"}),
        Type::Int32 => json!({"type": "integer", "format": "int32"}),
        Type::Int64 => json!({"type": "integer", "format": "int64"}),
        Type::Number => json!({"type": "number", "format": "double"}),
        Type::Bytes => json!({"type": "string", "format": "byte"}),
        Type::Time => reference(TIME),
        Type::MicroTime => reference(MICRO_TIME),
        Type::Quantity => reference(QUANTITY),
        Type::IntOrString => reference(INT_OR_STRING),
        Type::Any => reference(RAW),
        Type::Object(_) => reference(&ty.definition().map(Definition::full_name).unwrap_or_default()),
        Type::List(element) => json!({"type": "array", "items": type_of(element, prefix)}),
        Type::Map(element) => json!({"type": "object", "additionalProperties": type_of(element, prefix)}),
    }
}

fn paths<'a>(resources: impl Iterator<Item = &'a Resource>, v3: bool) -> Value {
    let mut paths = Map::new();
    for resource in resources {
        let root = if resource.group.is_empty() {
            format!("/api/{}", resource.version)
        } else {
            format!("/apis/{}/{}", resource.group, resource.version)
        };
        let base = if resource.namespaced {
            format!("{root}/namespaces/{{namespace}}/{}", resource.plural)
        } else {
            format!("{root}/{}", resource.plural)
        };
        let has = |verb: protocol::Verb| resource.verbs.contains(&verb);
        use protocol::Verb::{Create, Delete, DeleteCollection, Get, List, Patch, Update};
        let mut collection = Map::new();
        for (verb, method, action) in [
            (List, "get", "list"),
            (Create, "post", "post"),
            (DeleteCollection, "delete", "deletecollection"),
        ] {
            if has(verb) {
                collection.insert(method.to_owned(), operation(resource, verb, action, v3));
            }
        }
        if !collection.is_empty() {
            paths.insert(base.clone(), Value::Object(collection));
        }
        let mut single = Map::new();
        for (verb, method, action) in [
            (Get, "get", "get"),
            (Update, "put", "put"),
            (Patch, "patch", "patch"),
            (Delete, "delete", "delete"),
        ] {
            if has(verb) {
                single.insert(method.to_owned(), operation(resource, verb, action, v3));
            }
        }
        if !single.is_empty() {
            paths.insert(format!("{base}/{{name}}"), Value::Object(single));
        }
    }
    Value::Object(paths)
}

fn operation(resource: &Resource, verb: protocol::Verb, action: &str, v3: bool) -> Value {
    let query = |name: &str, kind: &str| {
        if v3 {
            json!({"name": name, "in": "query", "schema": {"type": kind, "uniqueItems": true}})
        } else {
            json!({"name": name, "in": "query", "type": kind, "uniqueItems": true})
        }
    };
    let mut parameters = Vec::new();
    use protocol::Verb::{Create, Delete, DeleteCollection, Patch, Update};
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
