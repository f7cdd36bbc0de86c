//! CustomResourceDefinitions as objects: defaults, what the server keeps in their status, validation.

use serde_json::{Value, json};

use super::kind::is_true;
use crate::api::invalid::{Errors, Path, go_quote};
use crate::api::object::{self, list, text};

pub mod columns;
mod conversion;
mod names;
mod selectable;

/// The finalizer that keeps a definition until its objects are gone.
pub const CLEANUP: &str = "customresourcecleanup.apiextensions.k8s.io";

/// Fills in what upstream defaults.
pub fn defaults(value: &mut Value) {
    let Some(spec) = object::existing_mut(value, &["spec"]) else { return };
    if spec.get("conversion").is_none_or(Value::is_null) {
        spec.insert("conversion".to_owned(), json!({"strategy": "None"}));
    }
    let names = spec.entry("names").or_insert_with(|| json!({}));
    let kind = text(names, &["kind"]).to_owned();
    if let Some(names) = names.as_object_mut() {
        object::default(names, "singular", kind.to_lowercase());
        if !kind.is_empty() {
            object::default(names, "listKind", format!("{kind}List"));
        }
    }
    let service = spec.get_mut("conversion").and_then(|c| c.pointer_mut("/webhook/clientConfig/service"));
    if let Some(service) = service.and_then(Value::as_object_mut) {
        object::default(service, "port", 443);
    }
}

/// A new definition has stored nothing but what its storage version says.
pub fn prepare_create(value: &mut Value) {
    value["status"] = json!({});
    remember_storage(value);
}

/// A definition that changes its storage version has stored in both.
pub fn prepare_update(value: &mut Value, _: &Value) {
    remember_storage(value);
}

fn remember_storage(value: &mut Value) {
    let storage = list(value, &["spec", "versions"]).iter().find(|v| v["storage"] == true);
    let Some(storage) = storage.map(|v| text(v, &["name"]).to_owned()) else { return };
    let mut stored = list(value, &["status", "storedVersions"]).to_vec();
    if !stored.iter().any(|s| *s == storage) {
        stored.push(storage.into());
    }
    object::object_mut(value, &["status"]).insert("storedVersions".to_owned(), stored.into());
}

/// What the condition about a protected group's approval says; `None` for other groups.
pub fn approval(definition: &Value) -> Option<(&'static str, &'static str, String)> {
    if !names::is_protected(text(definition, &["spec", "group"])) {
        return None;
    }
    Some(match names::approval_state(definition) {
        Ok(why) if why.starts_with("not ") => ("False", "UnapprovedAnnotation", why),
        Ok(why) => ("True", "ApprovedAnnotation", why),
        Err((true, why)) => ("False", "MissingAnnotation", why),
        Err((false, why)) => ("False", "InvalidAnnotation", why),
    })
}

/// What the first delete does: the objects go first.
pub fn mark_deleted(value: &mut Value) {
    let mut finalizers: Vec<Value> = list(value, &["metadata", "finalizers"]).to_vec();
    if !finalizers.iter().any(|f| f == CLEANUP) {
        finalizers.push(CLEANUP.into());
    }
    value["metadata"]["finalizers"] = finalizers.into();
    set_condition(
        value,
        json!({
            "type": "Terminating", "status": "True", "reason": "InstanceDeletionPending",
            "message": "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon",
        }),
    );
}

/// Sets a condition; its time is that of the last change of its status.
pub fn set_condition(value: &mut Value, mut condition: Value) {
    let mut conditions = list(value, &["status", "conditions"]).to_vec();
    condition["lastTransitionTime"] = object::now().into();
    match conditions.iter_mut().find(|c| c["type"] == condition["type"]) {
        Some(known) => {
            if known["status"] == condition["status"] {
                condition["lastTransitionTime"] = known["lastTransitionTime"].clone();
            }
            *known = condition;
        }
        None => conditions.push(condition),
    }
    object::object_mut(value, &["status"]).insert("conditions".to_owned(), conditions.into());
}

/// A part of a definition that stands in its versions, or (alike in all of them) in the definition itself.
struct Part<'a> {
    path: Path,
    version: &'a Value,
}

/// Where upstream looks at a part: in the definition, if all versions have the same one; else in each version.
fn parts<'a>(spec: &'a Value, field: &str, hoisted: &str, path: &Path) -> Vec<Part<'a>> {
    let versions = list(spec, &["versions"]);
    let Some(first) = versions.first() else { return Vec::new() };
    if versions.iter().all(|v| v[field] == first[field]) {
        return vec![Part { path: path.child(hoisted), version: first }];
    }
    let each = versions.iter().enumerate();
    each.map(|(i, v)| Part { path: path.child("versions").index(i).child(field), version: v }).collect()
}

/// Versions as upstream's internal type prints them.
fn shown_versions(spec: &Value) -> String {
    let versions = list(spec, &["versions"]);
    let hoisted = |field: &str| versions.iter().all(|v| v[field] == versions[0][field]);
    let part = |v: &Value, field: &str| {
        if hoisted(field) || v[field].is_null() { "null".to_owned() } else { v[field].to_string() }
    };
    let one = |v: &Value| {
        format!(
            "{{\"Name\":{},\"Served\":{},\"Storage\":{},\"Deprecated\":{},\"DeprecationWarning\":{},\"Schema\":{},\
             \"Subresources\":{},\"AdditionalPrinterColumns\":{},\"SelectableFields\":{}}}",
            go_quote(text(v, &["name"])),
            v["served"] == true,
            v["storage"] == true,
            v["deprecated"] == true,
            v["deprecationWarning"],
            part(v, "schema"),
            part(v, "subresources"),
            part(v, "additionalPrinterColumns"),
            part(v, "selectableFields"),
        )
    };
    format!("[{}]", versions.iter().map(one).collect::<Vec<_>>().join(","))
}

/// Checks a definition.
pub fn validate(value: &Value, errors: &mut Errors) {
    let spec = &value["spec"];
    let path = Path::new("spec");
    let (group, plural) = (text(spec, &["group"]), text(spec, &["names", "plural"]));
    // What neither may change need not be held against an update.
    let new = text(value, &["metadata", "resourceVersion"]).is_empty();
    if new && object::name(value) != format!("{plural}.{group}") {
        let why = "must be spec.names.plural+\".\"+spec.group";
        errors.invalid(&Path::new("metadata.name"), object::name(value), why);
    }
    names::group(group, &path.child("group"), errors);
    let scope = text(spec, &["scope"]);
    if scope.is_empty() {
        errors.required(&path.child("scope"), "");
    } else if !["Cluster", "Namespaced"].contains(&scope) {
        errors.unsupported(&path.child("scope"), scope, &["Cluster", "Namespaced"]);
    }
    if spec["preserveUnknownFields"] == true {
        let why = "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead";
        errors.invalid(&path.child("preserveUnknownFields"), true, why);
    }
    versions(spec, &path, errors);
    names::check(&spec["names"], &path.child("names"), errors);
    for part in parts(spec, "schema", "validation", &path) {
        let schema = &part.version["schema"]["openAPIV3Schema"];
        if schema.is_object() {
            let status = part.version["subresources"]["status"].is_object();
            super::rules::validate_schema(schema, status, &part.path.child("openAPIV3Schema"), errors);
        }
    }
    for part in parts(spec, "subresources", "subresources", &path) {
        columns::scale(&part.version["subresources"]["scale"], &part.path.child("scale"), errors);
    }
    for part in parts(spec, "additionalPrinterColumns", "additionalPrinterColumns", &path) {
        for (i, column) in list(part.version, &["additionalPrinterColumns"]).iter().enumerate() {
            columns::validate(column, &part.path.index(i), errors);
        }
    }
    for part in parts(spec, "selectableFields", "selectableFields", &path) {
        selectable::validate(part.version, &part.path, errors);
    }
    conversion::validate(&spec["conversion"], &path.child("conversion"), errors);
    stored_versions(value, errors);
    names::approval(value, group, errors);
}

fn versions(spec: &Value, path: &Path, errors: &mut Errors) {
    let versions = list(spec, &["versions"]);
    let at = path.child("versions");
    for (i, version) in versions.iter().enumerate() {
        if version["served"] == true && !version["schema"]["openAPIV3Schema"].is_object() {
            errors.required(&at.index(i).child("schema").child("openAPIV3Schema"), "");
        }
    }
    for (i, version) in versions.iter().enumerate() {
        names::label(text(version, &["name"]), &at.index(i).child("name"), errors);
        if let Some(warning) = version["deprecationWarning"].as_str() {
            let at = at.index(i).child("deprecationWarning");
            if version["deprecated"] != true {
                errors.invalid(&at, warning, "can only be set for deprecated versions");
            }
            if warning.is_empty() {
                errors.invalid(&at, warning, "must not be an empty string");
            } else if warning.len() > 256 {
                errors.invalid(&at, warning, "must be <= 256 characters long");
            }
            if let Some(bad) = warning.chars().position(char::is_control) {
                errors.invalid(&at, warning, format!("must only contain printable UTF-8 characters; non-printable character found at index {bad}"));
            }
        }
    }
    let unique =
        versions.iter().enumerate().all(|(i, v)| versions[..i].iter().all(|o| o["name"] != v["name"]));
    if !unique {
        errors.invalid_shown(&at, &shown_versions(spec), "must contain unique version names");
    }
    if versions.iter().filter(|v| v["storage"] == true).count() != 1 {
        let shown = if versions.is_empty() { "null".to_owned() } else { shown_versions(spec) };
        errors.invalid_shown(&at, &shown, "must have exactly one version marked as storage version");
    }
    // The first version's name also stands where it stood before there were several.
    if let Some(first) = versions.first() {
        names::label(text(first, &["name"]), &path.child("version"), errors);
    }
}

fn stored_versions(value: &Value, errors: &mut Errors) {
    let stored = list(value, &["status", "storedVersions"]);
    let versions = list(value, &["spec", "versions"]);
    let path = Path::new("status.storedVersions");
    if stored.is_empty() {
        errors.invalid_shown(&path, "[]", "must have at least one stored version");
        return;
    }
    for version in versions.iter().filter(|v| v["storage"] == true) {
        if !stored.contains(&version["name"]) {
            let why = format!("must have the storage version {}", text(version, &["name"]));
            errors.invalid(&path, json!(stored), why);
        }
    }
    for (i, name) in stored.iter().enumerate() {
        if !versions.iter().any(|v| v["name"] == *name) {
            let v = name.as_str().unwrap_or_default();
            let why = format!(
                "missing from spec.versions; {v} was previously a storage version, and must remain in spec.versions \
                 until a storage migration ensures no data remains persisted in {v} and removes {v} from \
                 status.storedVersions"
            );
            errors.invalid(&path.index(i), v, why);
        }
    }
}

/// Checks what may not change.
pub fn validate_update(new: &Value, old: &Value, errors: &mut Errors) {
    let path = Path::new("spec");
    let mut immutable = |names: &[&str]| {
        let (now, before) = (object::at(&new["spec"], names), object::at(&old["spec"], names));
        if now != before {
            let at = names.iter().fold(path.clone(), |at, name| at.child(name));
            errors.invalid(&at, now.clone(), "field is immutable");
        }
    };
    if is_true(old, "Established") {
        immutable(&["scope"]);
        immutable(&["names", "kind"]);
    }
    immutable(&["group"]);
    immutable(&["names", "plural"]);
}

#[cfg(test)]
mod tests;
