//! CustomResourceDefinitions as objects: defaults, what the server keeps in their status, validation.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::kind::is_true;
use super::schema::{embedded, formats, openapi, structural};
use crate::api::invalid::{Errors, Path, go_quote};
use crate::api::object::{self, list, text};

pub mod columns;
mod conversion;
mod names;
mod selectable;
pub mod shown;

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
    // A status that says nothing of what is stored means what is stored now.
    if value["status"].is_object() && list(value, &["status", "storedVersions"]).is_empty() {
        let storage = list(value, &["spec", "versions"]).iter().filter(|v| v["storage"] == true);
        let storage: Vec<Value> = storage.map(|v| v["name"].clone()).collect();
        if !storage.is_empty() {
            value["status"]["storedVersions"] = storage.into();
        }
    }
}

/// A new definition has stored nothing but what its storage version says.
pub fn prepare_create(value: &mut Value) {
    value["status"] = json!({});
    read_defaults(value);
    remember_storage(value);
}

/// A definition that changes its storage version has stored in both.
pub fn prepare_update(value: &mut Value, _: &Value) {
    read_defaults(value);
    remember_storage(value);
}

/// Takes out of the defaults of a definition what objects within objects say in vain in their metadata.
fn read_defaults(value: &mut Value) {
    for version in object::list_mut(value, &["spec", "versions"]) {
        if let Some(schema) = version["schema"].get_mut("openAPIV3Schema") {
            embedded::read_defaults(schema);
        }
    }
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

/// What stands in each version, or (where it is alike in all of them) in the definition itself.
struct Hoisted<'a> {
    versions: &'a [Value],
}

impl Hoisted<'_> {
    /// The first version, if all of them have this field alike.
    fn first(&self, field: &str) -> Option<&Value> {
        let first = self.versions.first()?;
        self.versions.iter().all(|v| v[field] == first[field]).then_some(first)
    }
}

/// What is wrong with the name of a definition: it follows from what is defined.
pub fn own_name(value: &Value, name: &str) -> Option<String> {
    let spec = &value["spec"];
    let wanted = format!("{}.{}", text(spec, &["names", "plural"]), text(spec, &["group"]));
    (name != wanted).then(|| "must be spec.names.plural+\".\"+spec.group".to_owned())
}

/// Checks what a definition asks for.
pub fn validate(value: &Value, errors: &mut Errors) {
    let spec = &value["spec"];
    let path = Path::new("spec");
    names::group(text(spec, &["group"]), &path.child("group"), errors);
    let scope = text(spec, &["scope"]);
    if scope.is_empty() {
        errors.required(&path.child("scope"), "");
    } else if !["Cluster", "Namespaced"].contains(&scope) {
        errors.unsupported(&path.child("scope"), scope, &["Cluster", "Namespaced"]);
    }
    let hoisted = Hoisted { versions: list(spec, &["versions"]) };
    versions(spec, &hoisted, &path, errors);
    names::required(&spec["names"], &path.child("names"), errors);
    names::check(&spec["names"], &path.child("names"), errors);
    if let Some(first) = hoisted.first("schema") {
        let status = hoisted.versions.iter().any(|v| v["subresources"]["status"].is_object());
        schema(first, &path.child("versions").index(0), status, &path.child("validation"), errors);
    }
    if let Some(first) = hoisted.first("subresources") {
        columns::scale(&first["subresources"]["scale"], &path.child("subresources").child("scale"), errors);
    }
    if let Some(first) = hoisted.first("additionalPrinterColumns") {
        columns::validate_all(first, &path.child("additionalPrinterColumns"), errors);
    }
    if let Some(first) = hoisted.first("selectableFields").filter(|v| has_selectable(v)) {
        let at = path.child("selectableFields");
        unreadable(first, &path, errors);
        if hoisted.first("schema").is_some_and(|v| v["schema"].is_object()) {
            selectable::validate(first, &at, errors);
        } else {
            errors.invalid(&at, "", "may only be set when validations.schema is included");
        }
    }
    let strategy = text(spec, &["conversion", "strategy"]);
    if spec["preserveUnknownFields"] == true && strategy != "None" {
        let at = path.child("conversion").child("strategy");
        errors.invalid(&at, strategy, "must be None if spec.preserveUnknownFields is true");
    }
    conversion::validate(
        &spec["conversion"],
        is_true(value, "Established"),
        &path.child("conversion"),
        errors,
    );
}

/// Checks a new definition beyond what it asks for.
pub fn validate_create(value: &Value, errors: &mut Errors) {
    validate_status(value, errors);
    stored_versions(value, errors);
    names::approval(value, text(&value["spec"], &["group"]), errors);
    preserving(value, errors);
}

/// Checks the status of a definition.
pub fn validate_status(value: &Value, errors: &mut Errors) {
    names::check(&value["status"]["acceptedNames"], &Path::new("status.acceptedNames"), errors);
}

fn preserving(value: &Value, errors: &mut Errors) {
    if value["spec"]["preserveUnknownFields"] == true {
        let why = "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead";
        errors.invalid(&Path::new("spec.preserveUnknownFields"), true, why);
    }
}

/// What is allowed but unwise: forms of text that mean nothing here, where the definition did not have them before.
pub fn warnings(value: &Value, old: Option<&Value>, said: &mut Vec<String>) {
    let known = old.map(unknown_formats).unwrap_or_default();
    let found = unknown_formats(value);
    said.extend(found.difference(&known).map(|format| format!("unrecognized format {}", go_quote(format))));
}

fn unknown_formats(definition: &Value) -> BTreeSet<String> {
    let versions = list(definition, &["spec", "versions"]);
    // A schema that all versions have alike is one.
    let alike = versions.iter().all(|v| v["schema"] == versions[0]["schema"]);
    let looked_at = if alike { versions.get(..1).unwrap_or_default() } else { versions };
    let mut found = BTreeSet::new();
    for version in looked_at {
        openapi::each_part(&version["schema"]["openAPIV3Schema"], &mut |schema| {
            let (ty, format) = (text(schema, &["type"]), text(schema, &["format"]));
            if !format.is_empty() && !formats::is_known(ty, format) {
                found.insert(format.to_owned());
            }
        });
    }
    found
}

/// Who may select by fields is told of a schema that has none, once more.
fn unreadable(version: &Value, path: &Path, errors: &mut Errors) {
    if let Some(why) = structural::unreadable(&version["schema"]["openAPIV3Schema"]) {
        errors.invalid(&path.child("schema.openAPIV3Schema"), "", why);
    }
}

fn has_selectable(version: &Value) -> bool {
    !list(version, &["selectableFields"]).is_empty()
}

/// Checks a version's schema, which was sent with that version and is told of at `path`.
fn schema(version: &Value, sent: &Path, status: bool, path: &Path, errors: &mut Errors) {
    let sent = sent.child("schema").child("openAPIV3Schema");
    let schema = &errors.as_sent(&sent, &version["schema"]["openAPIV3Schema"]);
    if schema.is_object() {
        structural::validate_root(schema, status, &path.child("openAPIV3Schema"), errors);
    }
}

fn versions(spec: &Value, hoisted: &Hoisted<'_>, path: &Path, errors: &mut Errors) {
    let versions = hoisted.versions;
    let at = path.child("versions");
    for (i, version) in versions.iter().enumerate() {
        if !version["schema"]["openAPIV3Schema"].is_object() {
            errors.required(&at.index(i).child("schema").child("openAPIV3Schema"), "");
        }
    }
    for (i, version) in versions.iter().enumerate() {
        names::label(text(version, &["name"]), &at.index(i).child("name"), errors);
        self::version(version, hoisted, &at.index(i), errors);
    }
    let unique =
        versions.iter().enumerate().all(|(i, v)| versions[..i].iter().all(|o| o["name"] != v["name"]));
    if !unique {
        errors.invalid_shown(&at, &shown::versions(spec), "must contain unique version names");
    }
    if versions.iter().filter(|v| v["storage"] == true).count() != 1 {
        let none = if errors.is_given_empty(&at) { "[]" } else { "null" };
        let shown = if versions.is_empty() { none.to_owned() } else { shown::versions(spec) };
        errors.invalid_shown(&at, &shown, "must have exactly one version marked as storage version");
    }
    // The first version's name also stands where it stood before there were several.
    if let Some(name) = versions.first().map(|first| text(first, &["name"])).filter(|name| !name.is_empty()) {
        names::label(name, &path.child("version"), errors);
    }
}

/// Checks what a version has for itself.
fn version(version: &Value, hoisted: &Hoisted<'_>, at: &Path, errors: &mut Errors) {
    deprecation(version, &at.child("deprecationWarning"), errors);
    let own = |field: &str| hoisted.first(field).is_none();
    if own("schema") {
        let status = match hoisted.first("subresources") {
            Some(first) => &first["subresources"]["status"],
            None => &version["subresources"]["status"],
        };
        schema(version, at, status.is_object(), &at.child("schema"), errors);
    }
    if own("subresources") {
        let at = at.child("subresources").child("scale");
        columns::scale(&version["subresources"]["scale"], &at, errors);
    }
    if own("additionalPrinterColumns") {
        columns::validate_all(version, &at.child("additionalPrinterColumns"), errors);
    }
    if own("selectableFields") && has_selectable(version) {
        if own("schema") {
            unreadable(version, at, errors);
        }
        let at = at.child("selectableFields");
        if own("schema") && version["schema"]["openAPIV3Schema"].is_object() {
            selectable::validate(version, &at, errors);
        } else {
            let why = "may only be set when `version.schema.openAPIV3Schema` is not included";
            errors.invalid(&at, "", why);
        }
    }
}

fn deprecation(version: &Value, at: &Path, errors: &mut Errors) {
    const WARNING_BYTES_MAX: usize = 256;
    let Some(warning) = version["deprecationWarning"].as_str() else { return };
    if version["deprecated"] != true {
        errors.invalid(at, warning, "can only be set for deprecated versions");
        return;
    }
    if warning.len() > WARNING_BYTES_MAX {
        errors.invalid(at, warning, format!("must be <= {WARNING_BYTES_MAX} characters long"));
    }
    if warning.is_empty() {
        errors.invalid(at, warning, "must not be an empty string");
    }
    let printable = |c: char| !c.is_control() && (c == ' ' || !c.is_whitespace());
    if let Some((bad, _)) = warning.char_indices().find(|(_, c)| !printable(*c)) {
        let why = format!(
            "must only contain printable UTF-8 characters; non-printable character found at index {bad}"
        );
        errors.invalid(at, warning, why);
    }
}

fn stored_versions(value: &Value, errors: &mut Errors) {
    let stored = list(value, &["status", "storedVersions"]);
    let versions = list(value, &["spec", "versions"]);
    let path = Path::new("status.storedVersions");
    if stored.is_empty() {
        errors.invalid_shown(&path, "null", "must have at least one stored version");
        return;
    }
    let mut left: Vec<(usize, &Value)> = stored.iter().enumerate().collect();
    for version in versions {
        let known = left.iter().any(|(_, name)| **name == version["name"]);
        if version["storage"] == true && !known {
            let why = format!("must have the storage version {}", text(version, &["name"]));
            errors.invalid(&path, json!(stored), why);
        }
        left.retain(|(_, name)| **name != version["name"]);
    }
    for (i, name) in left {
        let v = name.as_str().unwrap_or_default();
        let why = format!(
            "missing from spec.versions; {v} was previously a storage version, and must remain in spec.versions \
             until a storage migration ensures no data remains persisted in {v} and removes {v} from \
             status.storedVersions"
        );
        errors.invalid(&path.index(i), v, why);
    }
}

/// Checks what may not change.
pub fn validate_update(new: &Value, old: &Value, errors: &mut Errors) {
    let path = Path::new("spec");
    let mut immutable = |names: &[&str]| {
        let (now, before) = (object::at(&new["spec"], names), object::at(&old["spec"], names));
        if now != before {
            let at = names.iter().fold(path.clone(), |at, name| at.child(name));
            errors.invalid(&at, now.as_str().unwrap_or_default(), "field is immutable");
        }
    };
    if is_true(old, "Established") {
        immutable(&["scope"]);
        immutable(&["names", "kind"]);
    }
    immutable(&["group"]);
    immutable(&["names", "plural"]);
    validate_status(new, errors);
    stored_versions(new, errors);
    // A group that was used without approval may go on so.
    let said = |definition: &Value| names::approval_state(definition).map_err(|(missing, _)| missing);
    let alike = match (said(new), said(old)) {
        (Ok(now), Ok(before)) => now.starts_with("not ") == before.starts_with("not "),
        (now, before) => now == before,
    };
    if !alike {
        names::approval(new, text(&new["spec"], &["group"]), errors);
    }
    preserving(new, errors);
}

#[cfg(test)]
mod tests;
