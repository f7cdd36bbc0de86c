//! Validation of object metadata, the same for every kind.

use protocol::selector::{label_value_error, qualified_name_error};
use serde_json::Value;

use super::invalid::{Errors, Path, go_quote};
use super::object::{list, text};

const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or \
'.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must \
start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is \
'[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const LABEL_1035: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an \
alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for \
validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";
const ANNOTATIONS_BYTES_MAX: usize = 256 * 1024;
/// What only an object itself has, not the template that one is made from.
pub const OF_ONE_OBJECT: &[&str] = &[
    "name",
    "generateName",
    "namespace",
    "selfLink",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "ownerReferences",
    "finalizers",
    "managedFields",
];

/// The form that a kind's names have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameRule {
    /// DNS subdomain.
    Subdomain,
    /// DNS label.
    Label,
    /// DNS label that starts with a letter.
    Label1035,
    /// DNS subdomain, as kinds with declared rules word its limit.
    LongName,
    /// Whatever fits into a path segment.
    PathSegment,
    /// An IP address in its canonical form.
    Address,
    /// Checked by the kind's own validation, or not at all.
    Any,
}

/// What is wrong with a name (or, with `prefix`, a generateName).
pub fn name_errors(rule: NameRule, name: &str, prefix: bool) -> Vec<String> {
    // A prefix may end in a dash: the generated part follows.
    let masked;
    let name = if prefix && name.len() > 1 && name.ends_with('-') {
        masked = format!("{}a", &name[..name.len() - 1]);
        masked.as_str()
    } else {
        name
    };
    let mut errors = Vec::new();
    match rule {
        NameRule::Subdomain => {
            limit(name, 253, &mut errors);
            if !subdomain_form(name) {
                errors.push(SUBDOMAIN.to_owned());
            }
        }
        NameRule::LongName => {
            if name.len() > 253 {
                errors.push("must be no more than 253 bytes".to_owned());
            }
            if !subdomain_form(name) {
                errors.push(SUBDOMAIN.to_owned());
            }
        }
        NameRule::Label => {
            limit(name, 63, &mut errors);
            if !label_form(name) {
                // Long or not: what would be a subdomain can only be wrong for its dots.
                let dots = subdomain_form(name);
                errors.push(if dots { "must not contain dots".to_owned() } else { LABEL.to_owned() });
            }
        }
        NameRule::Label1035 => {
            limit(name, 63, &mut errors);
            if !label_form(name) || !name.starts_with(|c: char| c.is_ascii_lowercase()) {
                errors.push(LABEL_1035.to_owned());
            }
        }
        NameRule::PathSegment => {
            if name == "." || name == ".." {
                errors.push(format!("may not be '{name}'"));
            } else {
                for bad in ['/', '%'] {
                    if name.contains(bad) {
                        errors.push(format!("may not contain '{bad}'"));
                    }
                }
            }
        }
        NameRule::Address => errors.extend(super::kinds::checks::strict_ip(name)),
        NameRule::Any => {}
    }
    errors
}

fn limit(name: &str, max: usize, errors: &mut Vec<String>) {
    if name.len() > max {
        errors.push(format!("must be no more than {max} characters"));
    }
}

/// A DNS label of any length.
fn label_form(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = text.as_bytes();
    bytes.first().is_some_and(|b| inner(*b))
        && bytes.last().is_some_and(|b| inner(*b))
        && bytes.iter().all(|b| inner(*b) || *b == b'-')
}

/// DNS labels of any length, joined by dots.
fn subdomain_form(text: &str) -> bool {
    text.split('.').all(label_form)
}

/// What a kind says of a name besides its form.
pub type AlsoNamed<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Checks the metadata of an object; `plain` allows finalizers that name no domain.
pub fn validate(
    meta: &Value,
    namespaced: bool,
    rule: NameRule,
    plain: bool,
    path: &Path,
    errors: &mut Errors,
) {
    validate_named(meta, namespaced, (rule, &|_| None), plain, path, errors);
}

/// The same where a kind says more of its names than what form they have.
pub fn validate_named(
    meta: &Value,
    namespaced: bool,
    (rule, also): (NameRule, AlsoNamed<'_>),
    plain: bool,
    path: &Path,
    errors: &mut Errors,
) {
    let named = |name: &str, prefix: bool| name_errors(rule, name, prefix).into_iter().chain(also(name));
    let generate = text(meta, &["generateName"]);
    // Declared rules are about the name alone.
    if !generate.is_empty() && rule != NameRule::LongName {
        for error in named(generate, true) {
            errors.invalid(&path.child("generateName"), generate, error);
        }
    }
    let name = text(meta, &["name"]);
    if name.is_empty() {
        errors.required(&path.child("name"), "name or generateName is required");
    } else {
        for error in named(name, false) {
            errors.invalid(&path.child("name"), name, error);
        }
    }
    let namespace = text(meta, &["namespace"]);
    if namespaced {
        if namespace.is_empty() {
            errors.required(&path.child("namespace"), "");
        } else {
            for error in name_errors(NameRule::Label, namespace, false) {
                errors.invalid(&path.child("namespace"), namespace, error);
            }
        }
    } else if !namespace.is_empty() {
        errors.forbidden(&path.child("namespace"), "not allowed on this type");
    }
    if meta["generation"].as_i64().is_some_and(|g| g < 0) {
        errors.invalid(
            &path.child("generation"),
            meta["generation"].clone(),
            "must be greater than or equal to 0",
        );
    }
    labels(&meta["labels"], &path.child("labels"), errors);
    annotations(&meta["annotations"], &path.child("annotations"), errors);
    owners(meta, &path.child("ownerReferences"), errors);
    finalizers(meta, plain, &path.child("finalizers"), errors);
}

/// Checks a map of labels.
pub fn labels(labels: &Value, path: &Path, errors: &mut Errors) {
    for (key, value) in labels.as_object().into_iter().flatten() {
        for error in qualified_name_error(key) {
            errors.invalid(path, key.as_str(), error);
        }
        let value = value.as_str().unwrap_or_default();
        for error in label_value_error(value) {
            errors.invalid(path, value, error);
        }
    }
}

/// Checks annotations: their keys, and their size together.
pub fn annotations(annotations: &Value, path: &Path, errors: &mut Errors) {
    let mut size = 0;
    for (key, value) in annotations.as_object().into_iter().flatten() {
        for error in qualified_name_error(&key.to_lowercase()) {
            errors.invalid(path, key.as_str(), error);
        }
        size += key.len() + value.as_str().map_or(0, str::len);
    }
    if size > ANNOTATIONS_BYTES_MAX {
        errors.too_long(path, ANNOTATIONS_BYTES_MAX);
    }
}

fn owners(meta: &Value, path: &Path, errors: &mut Errors) {
    let mut controller: Option<String> = None;
    for owner in list(meta, &["ownerReferences"]) {
        let api_version = text(owner, &["apiVersion"]);
        if api_version.is_empty()
            || api_version.split_once('/').is_some_and(|(_, v)| v.is_empty() || v.contains('/'))
        {
            errors.invalid(&path.child("apiVersion"), api_version, "version must not be empty");
        }
        for (name, message) in
            [("kind", "must not be empty"), ("name", "must not be empty"), ("uid", "must not be empty")]
        {
            if text(owner, &[name]).is_empty() {
                errors.invalid(&path.child(name), "", message);
            }
        }
        if text(owner, &["kind"]) == "Event" && api_version == "v1" {
            errors.invalid(path, owner.clone(), "/v1, Kind=Event is disallowed from being an owner");
        }
        if owner["controller"] == Value::Bool(true) {
            let shown = format!("{}/{}", text(owner, &["kind"]), text(owner, &["name"]));
            match &controller {
                Some(first) => errors.invalid_shown(
                    path,
                    &shown_owners(meta),
                    format!(
                        "Only one reference can have Controller set to true. Found \"true\" in references for {first} \
                         and {shown}"
                    ),
                ),
                None => controller = Some(shown),
            }
        }
    }
}

/// Owner references as Go prints them: fields in the order of its struct.
fn shown_owners(meta: &Value) -> String {
    let one = |owner: &Value| super::kinds::checks::internal("m.OwnerReference", owner);
    let owners: Vec<String> = list(meta, &["ownerReferences"]).iter().map(one).collect();
    format!("[{}]", owners.join(","))
}

/// Finalizers that need not name a domain.
const STANDARD_FINALIZERS: [&str; 3] = ["kubernetes", "orphan", "foregroundDeletion"];

fn finalizers(meta: &Value, plain: bool, path: &Path, errors: &mut Errors) {
    let names: Vec<&str> = list(meta, &["finalizers"]).iter().filter_map(Value::as_str).collect();
    for name in &names {
        for error in qualified_name_error(name) {
            errors.invalid(path, *name, error);
        }
    }
    if names.contains(&"orphan") && names.contains(&"foregroundDeletion") {
        errors.invalid(
            path,
            meta["finalizers"].clone(),
            "finalizer orphan and foregroundDeletion cannot be both set",
        );
    }
    for (i, name) in names.iter().enumerate() {
        if !plain {
            domain(name, &path.index(i), errors);
        }
    }
}

/// Checks that finalizers name a domain, or are standard ones.
pub fn domains(meta: &Value, path: &Path, errors: &mut Errors) {
    let path = path.child("finalizers");
    for (i, name) in list(meta, &["finalizers"]).iter().filter_map(Value::as_str).enumerate() {
        domain(name, &path.index(i), errors);
    }
}

fn domain(name: &str, path: &Path, errors: &mut Errors) {
    if !name.contains('/') && !STANDARD_FINALIZERS.contains(&name) {
        errors.invalid(path, name, "name is neither a standard finalizer name nor is it fully qualified");
    }
}

/// What is unwise about finalizers that a write adds.
pub fn finalizer_warnings(new: &Value, old: Option<&Value>, warnings: &mut Vec<String>) {
    let before = old.map_or(&[][..], |old| list(old, &["finalizers"]));
    let mut added: Vec<&str> = list(new, &["finalizers"])
        .iter()
        .filter(|name| !before.contains(name))
        .filter_map(Value::as_str)
        .collect();
    added.sort_unstable();
    added.dedup();
    for name in added {
        let shown = go_quote(name);
        for error in qualified_name_error(name) {
            warnings.push(format!("metadata.finalizers: {shown}: {error}"));
        }
        if name.contains('/') || STANDARD_FINALIZERS.contains(&name) {
            continue;
        }
        let form = if name.contains('.') { " including a path (/)" } else { "" };
        warnings.push(format!(
            "metadata.finalizers: {shown}: prefer a domain-qualified finalizer name{form} to avoid accidental \
             conflicts with other finalizer writers"
        ));
    }
}

/// Checks what an update does to metadata that may not change.
pub fn validate_update(new: &Value, old: &Value, path: &Path, errors: &mut Errors) {
    if old.get("deletionTimestamp").is_some() {
        let before: Vec<&str> = list(old, &["finalizers"]).iter().filter_map(Value::as_str).collect();
        let added: std::collections::BTreeSet<&str> = list(new, &["finalizers"])
            .iter()
            .filter_map(Value::as_str)
            .filter(|f| !before.contains(f))
            .collect();
        if !added.is_empty() {
            let shown: Vec<String> = added.iter().map(|f| format!("{f:?}")).collect();
            errors.forbidden(
                &path.child("finalizers"),
                format!(
                    "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
                    shown.join(", ")
                ),
            );
        }
    }
    let (before, after) = (old["generation"].as_i64().unwrap_or(0), new["generation"].as_i64().unwrap_or(0));
    if after < before {
        errors.invalid(&path.child("generation"), after, "must not be decremented");
    }
    let immutable =
        ["name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"];
    for name in immutable {
        if new[name] != old[name] {
            errors.invalid(&path.child(name), new[name].clone(), "field is immutable");
        }
    }
    labels(&new["labels"], &path.child("labels"), errors);
    annotations(&new["annotations"], &path.child("annotations"), errors);
    owners(new, &path.child("ownerReferences"), errors);
}
