//! The kinds of `resource.k8s.io`: claims and their templates, device classes, slices.

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::checks::{self, named, qualified};
use super::{Strategy, base, keep_metadata};
use crate::api::invalid::{Errors, Path};
use crate::api::meta::{NameRule, name_errors};
use crate::api::object::{default, list, list_mut, object_mut, text};

mod selectors;

use selectors::selectors;

const REQUESTS_MAX: usize = 32;
const ALTERNATIVES_MAX: usize = 8;
const CONSTRAINTS_MAX: usize = 32;
const CONFIGS_MAX: usize = 32;
const DEVICES_MAX: usize = 128;
const ATTRIBUTES_MAX: usize = 32;
const DRIVER_CHARS_MAX: usize = 63;
const IDENTIFIER_CHARS_MAX: usize = 32;
const ATTRIBUTE_CHARS_MAX: usize = 64;

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
        validate: |object, errors| {
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
            let meta = &object["spec"]["metadata"];
            crate::api::meta::labels(&meta["labels"], &path.child("metadata").child("labels"), errors);
            let at = path.child("metadata").child("annotations");
            crate::api::meta::annotations(&meta["annotations"], &at, errors);
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

fn limited<'a>(value: &'a Value, field: &str, max: usize, path: &Path, errors: &mut Errors) -> &'a [Value] {
    let found = list(value, &[field]);
    if found.len() > max {
        errors.too_many(&path.child(field), found.len(), max);
    }
    found
}

fn claim_spec(claim: &Value, path: &Path, errors: &mut Errors) {
    let (devices, path) = (&claim["devices"], path.child("devices"));
    let mut names: HashSet<String> = HashSet::new();
    for (i, request) in limited(devices, "requests", REQUESTS_MAX, &path, errors).iter().enumerate() {
        self::request(request, &mut names, &path.child("requests").index(i), errors);
    }
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

fn request(request: &Value, names: &mut HashSet<String>, path: &Path, errors: &mut Errors) {
    let name = text(request, &["name"]);
    checks::required_name(NameRule::Label, request, "name", path, errors);
    if !name.is_empty() && !names.insert(name.to_owned()) {
        errors.duplicate(&path.child("name"), name);
    }
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
            if first.len() > ALTERNATIVES_MAX {
                errors.too_many(&path.child("firstAvailable"), first.len(), ALTERNATIVES_MAX);
            }
            for (i, alternative) in first.iter().enumerate() {
                let path = path.child("firstAvailable").index(i);
                checks::required_name(NameRule::Label, alternative, "name", &path, errors);
                let inner = text(alternative, &["name"]);
                if !inner.is_empty() && !names.insert(format!("{name}/{inner}")) {
                    errors.duplicate(&path.child("name"), inner);
                }
                exact(alternative, &path, errors);
            }
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
        errors.unsupported(&path.child("effect"), effect, &["NoExecute", "NoSchedule"]);
    }
}

fn request_names(object: &Value, names: &HashSet<String>, path: &Path, errors: &mut Errors) {
    let given = limited(object, "requests", REQUESTS_MAX, path, errors);
    for (i, name) in given.iter().filter_map(Value::as_str).enumerate() {
        let path = path.child("requests").index(i);
        if !names.contains(name) {
            let detail = "must be the name of a request in the claim or the name of a request and a subrequest \
                          separated by '/'";
            errors.invalid(&path, name, detail);
        }
        if given[..i].iter().any(|n| n == name) {
            errors.duplicate(&path, name);
        }
    }
}

fn constraint(constraint: &Value, names: &HashSet<String>, path: &Path, errors: &mut Errors) {
    request_names(constraint, names, path, errors);
    match constraint["matchAttribute"].as_str() {
        Some(attribute) => qualified_attribute(attribute, true, &path.child("matchAttribute"), errors),
        None if constraint["distinctAttribute"].is_null() => {
            errors.required(&path.child("matchAttribute"), "");
        }
        None => {}
    }
}

fn qualified_attribute(name: &str, full: bool, path: &Path, errors: &mut Errors) {
    if name.is_empty() {
        errors.required(path, "name required");
        return;
    }
    let (domain, id) = match name.split_once('/') {
        Some((domain, id)) => (Some(domain), id),
        None => (None, name),
    };
    match domain {
        None if full => errors.invalid(path, name, "must include a domain"),
        None => {}
        Some("") => errors.required(path, "the domain must not be empty"),
        Some(domain) => driver(domain, path, errors),
    }
    if id.is_empty() {
        errors.required(path, "the name must not be empty");
        return;
    }
    if id.len() > IDENTIFIER_CHARS_MAX {
        errors.too_long(path, IDENTIFIER_CHARS_MAX);
    }
    checks::c_identifier(id, path, errors);
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

fn configuration(config: &Value, path: &Path, errors: &mut Errors) {
    let (opaque, path) = (&config["opaque"], path.child("opaque"));
    if opaque.is_null() {
        errors.required(&path, "");
        return;
    }
    driver(text(opaque, &["driver"]), &path.child("driver"), errors);
    match &opaque["parameters"] {
        Value::Null => errors.required(&path.child("parameters"), ""),
        Value::Object(_) => {}
        other => {
            let detail = "parameters must be a valid JSON object";
            errors.invalid(&path.child("parameters"), other.clone(), detail);
        }
    }
}

pub(super) fn class() -> Strategy {
    Strategy {
        validate: |object, errors| {
            let path = Path::new("spec");
            selectors(&object["spec"], &path, errors);
            let configs = limited(&object["spec"], "config", CONFIGS_MAX, &path, errors);
            for (i, config) in configs.iter().enumerate() {
                configuration(config, &path.child("config").index(i), errors);
            }
        },
        ..base()
    }
}

pub(super) fn slice() -> Strategy {
    Strategy {
        validate: |object, errors| {
            let (slice, path) = (&object["spec"], Path::new("spec"));
            placement(slice, &path, errors);
            driver(text(slice, &["driver"]), &path.child("driver"), errors);
            pool(&slice["pool"], &path.child("pool"), errors);
            let devices = limited(slice, "devices", DEVICES_MAX, &path, errors);
            let mut names = HashSet::new();
            for (i, device) in devices.iter().enumerate() {
                self::device(device, &mut names, &path.child("devices").index(i), errors);
            }
        },
        validate_update: |new, old, errors| {
            for field in ["driver", "nodeName"] {
                let path = Path::new("spec").child(field);
                checks::immutable(&new["spec"][field], &old["spec"][field], &path, errors);
            }
            let path = Path::new("spec.pool.name");
            checks::immutable(&new["spec"]["pool"]["name"], &old["spec"]["pool"]["name"], &path, errors);
        },
        ..base()
    }
}

fn placement(slice: &Value, path: &Path, errors: &mut Errors) {
    const WAYS: [&str; 4] = ["nodeName", "nodeSelector", "allNodes", "perDeviceNodeSelection"];
    let given: Vec<String> = WAYS
        .iter()
        .filter(|way| match &slice[**way] {
            Value::Null => false,
            Value::Bool(set) => *set,
            Value::String(text) => !text.is_empty(),
            _ => true,
        })
        .map(|way| format!("`{way}`"))
        .collect();
    let all = WAYS.map(|way| format!("`{way}`")).join(", ");
    match given.len() {
        0 => errors.required(path, &format!("exactly one of {all} is required")),
        1 => {}
        _ => {
            let detail = format!("exactly one of {all} is required, but multiple fields are set");
            errors.invalid(path, format!("{{{}}}", given.join(", ")), detail);
        }
    }
    checks::named_if_set(NameRule::Subdomain, slice, "nodeName", path, errors);
    if slice["nodeSelector"].is_object() {
        let path = path.child("nodeSelector");
        checks::node_selector(&slice["nodeSelector"], &path, errors);
        if list(&slice["nodeSelector"], &["nodeSelectorTerms"]).len() > 1 {
            let detail = "must have exactly one node selector term";
            let terms = slice["nodeSelector"]["nodeSelectorTerms"].clone();
            errors.invalid(&path.child("nodeSelectorTerms"), terms, detail);
        }
    }
}

fn pool(pool: &Value, path: &Path, errors: &mut Errors) {
    let name = text(pool, &["name"]);
    if name.is_empty() {
        errors.required(&path.child("name"), "");
    } else {
        for part in name.split('/') {
            named(NameRule::Subdomain, part, &path.child("name"), errors);
        }
    }
    let count = pool["resourceSliceCount"].as_i64().unwrap_or(0);
    if count <= 0 {
        errors.invalid(&path.child("resourceSliceCount"), count, checks::POSITIVE);
    }
    checks::non_negative(&pool["generation"], &path.child("generation"), errors);
}

fn device<'a>(device: &'a Value, names: &mut HashSet<&'a str>, path: &Path, errors: &mut Errors) {
    let name = text(device, &["name"]);
    checks::required_name(NameRule::Label, device, "name", path, errors);
    if !name.is_empty() && !names.insert(name) {
        errors.duplicate(path, name);
    }
    let count = |field: &str| device[field].as_object().map_or(0, Map::len);
    if count("attributes") + count("capacity") > ATTRIBUTES_MAX {
        let detail =
            format!("the total number of attributes and capacities must not exceed {ATTRIBUTES_MAX}");
        errors.invalid(path, count("attributes") + count("capacity"), detail);
    }
    for (name, value) in device["attributes"].as_object().into_iter().flatten() {
        let path = path.child("attributes").key(name);
        qualified_attribute(name, false, &path, errors);
        attribute(value, &path, errors);
    }
    for (name, _) in device["capacity"].as_object().into_iter().flatten() {
        qualified_attribute(name, false, &path.child("capacity").key(name), errors);
    }
}

fn attribute(value: &Value, path: &Path, errors: &mut Errors) {
    let given = ["int", "bool", "string", "version"].iter().filter(|k| !value[**k].is_null()).count();
    if given == 0 {
        errors.required(path, "exactly one value must be specified");
    } else if given > 1 {
        let shown = checks::internal("a.resource.v1.DeviceAttribute", value);
        errors.invalid_shown(path, &shown, "exactly one value must be specified");
    }
    for kind in ["string", "version"] {
        if value[kind].as_str().is_some_and(|v| v.len() > ATTRIBUTE_CHARS_MAX) {
            errors.too_long(&path.child(kind), ATTRIBUTE_CHARS_MAX);
        }
    }
}
