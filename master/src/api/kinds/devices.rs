//! The kinds of `resource.k8s.io`: claims and their templates, device classes, slices.

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::checks::{self, named, qualified};
use super::resources::is_extended;
use super::{Strategy, base, keep_metadata};
use crate::api::invalid::{Errors, Path};
use crate::api::meta::{NameRule, name_errors};
use crate::api::object::{default, list, list_mut, object_mut, text};

pub mod extended;
mod policies;
pub(crate) mod selectors;
mod slices;
mod status;
#[cfg(test)]
mod tests;

use selectors::selectors;
pub(super) use slices::slice;

const REQUESTS_MAX: usize = 32;
const ALTERNATIVES_MAX: usize = 8;
const CONSTRAINTS_MAX: usize = 32;
const CONFIGS_MAX: usize = 32;
const DRIVER_CHARS_MAX: usize = 63;
const IDENTIFIER_CHARS_MAX: usize = 32;
const OPAQUE_BYTES_MAX: usize = 10 * 1024;

fn request_defaults(request: &mut Value) {
    if request["exactly"].is_object() {
        counted(object_mut(request, &["exactly"]));
    }
    for alternative in list_mut(request, &["firstAvailable"]) {
        counted(object_mut(alternative, &[]));
    }
    let tolerate = |request: &mut Value, path: &[&str]| {
        for toleration in list_mut(request, path) {
            default(object_mut(toleration, &[]), "operator", "Equal");
        }
    };
    tolerate(request, &["exactly", "tolerations"]);
    for alternative in list_mut(request, &["firstAvailable"]) {
        tolerate(alternative, &["tolerations"]);
    }
}

fn counted(request: &mut Map<String, Value>) {
    default(request, "allocationMode", "ExactCount");
    let exact = request.get("allocationMode").is_some_and(|m| m == "ExactCount");
    if exact && request.get("count").and_then(Value::as_i64).unwrap_or(0) == 0 {
        request.insert("count".to_owned(), 1.into());
    }
}

pub(super) fn claim() -> Strategy {
    Strategy {
        defaults: |object| {
            list_mut(object, &["spec", "devices", "requests"]).iter_mut().for_each(request_defaults);
        },
        prepare_status: keep_metadata,
        // What may not change is not looked at again.
        validate_create: |object, errors| {
            claim_spec(&object["spec"], &Path::new("spec"), errors);
        },
        validate_update: |new, old, errors| {
            checks::immutable_struct(
                "a.resource.v1.ResourceClaimSpec",
                &new["spec"],
                &old["spec"],
                &Path::new("spec"),
                errors,
            );
        },
        validate_status: status::validate,
        ..base()
    }
}

pub(super) fn claim_template() -> Strategy {
    Strategy {
        defaults: |object| {
            list_mut(object, &["spec", "spec", "devices", "requests"]).iter_mut().for_each(request_defaults);
        },
        validate: |object, errors| {
            let path = Path::new("spec");
            checks::template_metadata(&object["spec"]["metadata"], &path.child("metadata"), errors);
            claim_spec(&object["spec"]["spec"], &path.child("spec"), errors);
        },
        validate_update: |new, old, errors| {
            checks::immutable_struct(
                "a.resource.v1.ResourceClaimTemplateSpec",
                &new["spec"],
                &old["spec"],
                &Path::new("spec"),
                errors,
            );
        },
        ..base()
    }
}

/// A list that has a limit; of one beyond it nothing else is told.
fn limited<'a>(value: &'a Value, field: &str, max: usize, path: &Path, errors: &mut Errors) -> &'a [Value] {
    let found = list(value, &[field]);
    if found.len() > max {
        errors.too_many(&path.child(field), found.len(), max);
        return &[];
    }
    found
}

/// Names that appear twice, told after what is wrong with each.
fn unique<'a>(names: impl Iterator<Item = &'a str>, path: &Path, errors: &mut Errors) {
    let mut seen = HashSet::new();
    for (i, name) in names.enumerate() {
        if !seen.insert(name) {
            errors.duplicate(&path.index(i), name);
        }
    }
}

/// The names of a claim's requests, and `request/alternative` for those with alternatives.
fn names_of(devices: &Value) -> HashSet<String> {
    let mut names = HashSet::new();
    for request in list(devices, &["requests"]) {
        let name = text(request, &["name"]);
        names.insert(name.to_owned());
        let alternatives = list(request, &["firstAvailable"]).iter();
        names.extend(alternatives.map(|other| format!("{name}/{}", text(other, &["name"]))));
    }
    names
}

fn claim_spec(claim: &Value, path: &Path, errors: &mut Errors) {
    let (devices, path) = (&claim["devices"], path.child("devices"));
    let names = names_of(devices);
    let requests = limited(devices, "requests", REQUESTS_MAX, &path, errors);
    for (i, request) in requests.iter().enumerate() {
        self::request(request, &path.child("requests").index(i), errors);
    }
    unique(requests.iter().map(|r| text(r, &["name"])), &path.child("requests"), errors);
    for (i, constraint) in limited(devices, "constraints", CONSTRAINTS_MAX, &path, errors).iter().enumerate()
    {
        self::constraint(constraint, &names, &path.child("constraints").index(i), errors);
    }
    for (i, config) in limited(devices, "config", CONFIGS_MAX, &path, errors).iter().enumerate() {
        let path = path.child("config").index(i);
        request_names(config, &names, &path, errors);
        configuration(config, &path, errors);
    }
}

fn request(request: &Value, path: &Path, errors: &mut Errors) {
    named(NameRule::Label, text(request, &["name"]), &path.child("name"), errors);
    let (exactly, first) = (&request["exactly"], list(request, &["firstAvailable"]));
    match (exactly.is_object(), !first.is_empty()) {
        (false, false) => {
            errors.required(path, "exactly one of `exactly` or `firstAvailable` is required");
        }
        (true, true) => {
            let detail =
                "exactly one of `exactly` or `firstAvailable` is required, but multiple fields are set";
            errors.invalid(path, Value::Null, detail);
        }
        (true, false) => exact(exactly, &path.child("exactly"), errors),
        (false, true) => {
            let first = limited(request, "firstAvailable", ALTERNATIVES_MAX, path, errors);
            let path = path.child("firstAvailable");
            for (i, alternative) in first.iter().enumerate() {
                let path = path.index(i);
                named(NameRule::Label, text(alternative, &["name"]), &path.child("name"), errors);
                exact(alternative, &path, errors);
            }
            unique(first.iter().map(|a| text(a, &["name"])), &path, errors);
        }
    }
}

fn exact(request: &Value, path: &Path, errors: &mut Errors) {
    checks::required_name(NameRule::Subdomain, request, "deviceClassName", path, errors);
    selectors(request, path, errors);
    let (count, mode) = (request["count"].as_i64().unwrap_or(0), text(request, &["allocationMode"]));
    match mode {
        "All" => {
            if count != 0 {
                let detail = "must not be specified when allocationMode is 'All'";
                errors.invalid(&path.child("count"), count, detail);
            }
        }
        "ExactCount" => {
            if count <= 0 {
                errors.invalid(&path.child("count"), count, checks::POSITIVE);
            }
        }
        other => errors.unsupported(&path.child("allocationMode"), other, &["All", "ExactCount"]),
    }
    for (i, toleration) in list(request, &["tolerations"]).iter().enumerate() {
        self::toleration(toleration, &path.child("tolerations").index(i), errors);
    }
}

fn toleration(toleration: &Value, path: &Path, errors: &mut Errors) {
    let (key, operator) = (text(toleration, &["key"]), text(toleration, &["operator"]));
    if !key.is_empty() {
        qualified(key, &path.child("key"), errors);
    }
    match operator {
        "Exists" => {
            if !text(toleration, &["value"]).is_empty() {
                let detail = "must be empty for operator `Exists`";
                errors.invalid(&path.child("value"), toleration["value"].clone(), detail);
            }
        }
        "Equal" => {
            for error in protocol::selector::label_value_error(text(toleration, &["value"])) {
                errors.invalid(&path.child("value"), toleration["value"].clone(), error);
            }
        }
        "" => errors.required(&path.child("operator"), ""),
        other => errors.unsupported(&path.child("operator"), other, &["Equal", "Exists"]),
    }
    let effect = text(toleration, &["effect"]);
    if !["", "NoExecute", "NoSchedule", "None"].contains(&effect) {
        errors.unsupported(&path.child("effect"), effect, &["NoExecute", "NoSchedule", "None"]);
    }
}

fn request_names(object: &Value, names: &HashSet<String>, path: &Path, errors: &mut Errors) {
    let given = limited(object, "requests", REQUESTS_MAX, path, errors);
    let path = path.child("requests");
    for (i, name) in given.iter().filter_map(Value::as_str).enumerate() {
        request_name(name, names, &path.index(i), errors);
    }
    unique(given.iter().filter_map(Value::as_str), &path, errors);
}

/// The name of a request of the claim.
fn request_name(name: &str, names: &HashSet<String>, path: &Path, errors: &mut Errors) {
    let detail = "must be the name of a request in the claim or the name of a request and a subrequest separated by \
                  '/'";
    if name.matches('/').count() > 1 {
        errors.invalid(path, name, detail);
        return;
    }
    name.split('/').for_each(|part| named(NameRule::Label, part, path, errors));
    if !names.contains(name) {
        errors.invalid(path, name, detail);
    }
}

fn constraint(constraint: &Value, names: &HashSet<String>, path: &Path, errors: &mut Errors) {
    request_names(constraint, names, path, errors);
    for field in ["matchAttribute", "distinctAttribute"] {
        if let Some(attribute) = constraint[field].as_str() {
            qualified_attribute(attribute, true, &path.child(field), errors);
            return;
        }
    }
    let detail =
        "exactly one of \"matchAttribute\" or \"distinctAttribute\" is required, but multiple fields are set";
    errors.required(path, detail);
}

/// The name of an attribute or capacity, with a driver's name before it or without.
fn qualified_attribute(name: &str, full: bool, path: &Path, errors: &mut Errors) {
    let identifier = |id: &str, errors: &mut Errors| {
        if id.len() > IDENTIFIER_CHARS_MAX {
            errors.too_long(path, IDENTIFIER_CHARS_MAX);
        }
        checks::c_identifier(id, path, errors);
    };
    match name.split('/').collect::<Vec<_>>()[..] {
        [id] => identifier(id, errors),
        [domain, id] => {
            match domain {
                "" => errors.invalid(path, "", "the domain must not be empty"),
                domain => driver(domain, path, errors),
            }
            match id {
                "" => errors.invalid(path, "", "the name must not be empty"),
                id => identifier(id, errors),
            }
        }
        // Upstream lets more parts pass.
        _ => {}
    }
    if full && !name.contains('/') {
        let detail = "a fully qualified name must be a domain and a name separated by a slash";
        errors.invalid(path, name, detail);
    }
}

fn driver(name: &str, path: &Path, errors: &mut Errors) {
    if name.is_empty() {
        errors.required(path, "");
        return;
    }
    if name.len() > DRIVER_CHARS_MAX {
        errors.too_long(path, DRIVER_CHARS_MAX);
    }
    for error in name_errors(NameRule::Subdomain, &name.to_lowercase(), false) {
        errors.invalid(path, name, error);
    }
}

/// The conditions that a device waits for before it is used, and those that end the waiting.
fn binding_conditions(device: &Value, path: &Path, errors: &mut Errors) {
    const CONDITIONS_MAX: usize = 4;
    let [fine, bad] = ["bindingConditions", "bindingFailureConditions"];
    for field in [fine, bad] {
        let given = limited(device, field, CONDITIONS_MAX, path, errors);
        for (i, condition) in given.iter().filter_map(Value::as_str).enumerate() {
            qualified(condition, &path.child(field).index(i), errors);
        }
    }
    let named = |field: &str| list(device, &[field]).iter().filter_map(Value::as_str).collect::<Vec<_>>();
    unique(named(fine).into_iter(), &path.child(fine), errors);
    for (i, condition) in named(bad).iter().enumerate() {
        let at = path.child(bad).index(i);
        if named(bad)[..i].contains(condition) {
            errors.duplicate(&at, *condition);
        }
        if named(fine).contains(condition) {
            let detail = "bindingFailureConditions must not overlap with bindingConditions";
            errors.invalid(&at, *condition, detail);
        }
    }
    for (lacks, has) in [(fine, bad), (bad, fine)] {
        if named(lacks).is_empty() && !named(has).is_empty() {
            errors.invalid(&path.child(lacks), Value::Null, format!("{lacks} are required to use {has}"));
        }
    }
}

fn configuration(config: &Value, path: &Path, errors: &mut Errors) {
    let (opaque, path) = (&config["opaque"], path.child("opaque"));
    if opaque.is_null() {
        errors.required(&path, "");
        return;
    }
    driver(text(opaque, &["driver"]), &path.child("driver"), errors);
    object_of(&opaque["parameters"], &path.child("parameters"), errors);
}

/// What a driver alone understands: an object, and not a big one.
fn object_of(given: &Value, path: &Path, errors: &mut Errors) {
    match given {
        Value::Null => errors.required(path, ""),
        given if given.to_string().len() > OPAQUE_BYTES_MAX => errors.too_long(path, OPAQUE_BYTES_MAX),
        Value::Object(_) => {}
        _ => errors.invalid(path, "<value omitted>", "must be a valid JSON object"),
    }
}

pub(super) fn class() -> Strategy {
    Strategy {
        names: NameRule::LongName,
        validate: |object, errors| {
            let path = Path::new("spec");
            selectors(&object["spec"], &path, errors);
            let configs = limited(&object["spec"], "config", CONFIGS_MAX, &path, errors);
            for (i, config) in configs.iter().enumerate() {
                configuration(config, &path.child("config").index(i), errors);
            }
            if let Some(name) = object["spec"]["extendedResourceName"].as_str()
                && !is_extended(name)
            {
                let detail = "must be a valid extended resource name";
                errors.invalid(&path.child("extendedResourceName"), name, detail);
            }
        },
        ..base()
    }
}
