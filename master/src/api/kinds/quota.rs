//! LimitRange and ResourceQuota.

use std::collections::{BTreeMap, BTreeSet};

use protocol::Quantity;
use serde_json::{Value, json};

use super::checks::{self, amount, qualified};
use super::resources::{container_resource_name, is_extended, overcommit_allowed, resource_name};
use super::{Strategy, base};
use crate::api::invalid::{Errors, Path};
use crate::api::object::{list, list_mut, object_mut, text};

pub(super) fn limit_range() -> Strategy {
    Strategy {
        defaults: limit_defaults,
        prepare_create: |object| {
            if text(object, &["metadata", "name"]).is_empty() {
                let name = uuid::Uuid::new_v4().to_string();
                object_mut(object, &["metadata"]).insert("name".to_owned(), name.into());
            }
        },
        validate: |object, errors| {
            let mut types = BTreeSet::new();
            for (i, limit) in list(object, &["spec", "limits"]).iter().enumerate() {
                let path = Path::new("spec.limits").index(i);
                let kind = text(limit, &["type"]);
                limit_type(kind, &path.child("type"), errors);
                if !types.insert(kind) {
                    errors.duplicate(&path.child("type"), kind);
                }
                self::limit(limit, kind, &path, errors);
            }
        },
        ..base()
    }
}

fn limit_defaults(object: &mut Value) {
    for limit in list_mut(object, &["spec", "limits"]) {
        if limit["type"] != "Container" {
            continue;
        }
        let map = |v: &Value| v.as_object().cloned().unwrap_or_default();
        let (max, min) = (map(&limit["max"]), map(&limit["min"]));
        let mut defaults = map(&limit["default"]);
        for (name, value) in max {
            defaults.entry(name).or_insert(value);
        }
        let mut requests = map(&limit["defaultRequest"]);
        for (name, value) in &defaults {
            requests.entry(name.clone()).or_insert(value.clone());
        }
        for (name, value) in min {
            requests.entry(name).or_insert(value);
        }
        for (name, value) in [("default", defaults), ("defaultRequest", requests)] {
            if !value.is_empty() {
                limit[name] = json!(value);
            }
        }
    }
}

fn limit_type(kind: &str, path: &Path, errors: &mut Errors) {
    let before = errors.len();
    qualified(kind, path, errors);
    if errors.len() == before
        && !kind.contains('/')
        && !["Pod", "Container", "PersistentVolumeClaim"].contains(&kind)
    {
        errors.invalid(path, kind, "must be a standard limit type or fully qualified");
    }
}

type Amounts<'a> = BTreeMap<&'a str, Quantity>;

fn amounts(map: &Value) -> Amounts<'_> {
    map.as_object()
        .into_iter()
        .flatten()
        .filter_map(|(name, value)| Some((name.as_str(), amount(value)?)))
        .collect()
}

fn limit(limit: &Value, kind: &str, path: &Path, errors: &mut Errors) {
    let read = |field: &str, errors: &mut Errors| {
        let found = amounts(&limit[field]);
        for name in found.keys() {
            let path = path.child(field).key(name);
            match kind {
                "Pod" | "Container" => container_resource_name(name, &path, errors),
                _ => resource_name(name, &path, errors),
            }
        }
        found
    };
    let max = read("max", errors);
    let min = read("min", errors);
    let (mut default, mut request) = (Amounts::new(), Amounts::new());
    if kind == "Pod" {
        for field in ["default", "defaultRequest"] {
            if limit[field].as_object().is_some_and(|m| !m.is_empty()) {
                errors.forbidden(&path.child(field), "may not be specified when `type` is 'Pod'");
            }
        }
    } else {
        default = read("default", errors);
        request = read("defaultRequest", errors);
    }
    if kind == "PersistentVolumeClaim" && !min.contains_key("storage") && !max.contains_key("storage") {
        errors.required(
            &path.child("limits"),
            "either minimum or maximum storage value is required, but neither was provided",
        );
    }
    let ratio = read("maxLimitRequestRatio", errors);
    let names: BTreeSet<&str> =
        [&max, &min, &default, &request, &ratio].into_iter().flat_map(|m| m.keys().copied()).collect();
    for name in names {
        let all = Limits {
            min: min.get(name),
            max: max.get(name),
            default: default.get(name),
            request: request.get(name),
            ratio: ratio.get(name),
        };
        all.compare(name, path, errors);
    }
}

/// What one resource is limited to.
struct Limits<'a> {
    min: Option<&'a Quantity>,
    max: Option<&'a Quantity>,
    default: Option<&'a Quantity>,
    request: Option<&'a Quantity>,
    ratio: Option<&'a Quantity>,
}

impl Limits<'_> {
    fn compare(&self, name: &str, path: &Path, errors: &mut Errors) {
        let at = |field: &str| path.child(field).key(name);
        // Field, the value shown, the smaller, the greater, and what they are called.
        let rules = [
            ("min", self.min, self.min, self.max, "min value", "max value"),
            ("defaultRequest", self.request, self.min, self.request, "min value", "default request value"),
            ("defaultRequest", self.request, self.request, self.max, "default request value", "max value"),
            (
                "defaultRequest",
                self.request,
                self.request,
                self.default,
                "default request value",
                "default limit value",
            ),
            ("default", self.min, self.min, self.default, "min value", "default value"),
            ("default", self.max, self.default, self.max, "default value", "max value"),
        ];
        for (field, shown, small, great, small_name, great_name) in rules {
            if let (Some(shown), Some(small), Some(great)) = (shown, small, great)
                && small > great
            {
                let detail = format!("{small_name} {small} is greater than {great_name} {great}");
                errors.invalid(&at(field), shown.to_string(), detail);
            }
        }
        if let Some(ratio) = self.ratio {
            let path = at("maxLimitRequestRatio");
            if *ratio < Quantity::from_units(1) {
                errors.invalid(&path, ratio.to_string(), format!("ratio {ratio} is less than 1"));
            }
            if let (Some(min), Some(max)) = (self.min, self.max) {
                let milli = |q: &Quantity| q.milli() as f64;
                let most = milli(max) / milli(min);
                if milli(ratio) / 1000.0 > most {
                    let detail = format!("ratio {ratio} is greater than max/min = {most:.6}");
                    errors.invalid(&path, ratio.to_string(), detail);
                }
            }
        }
        if let (Some(default), Some(request)) = (self.default, self.request)
            && !overcommit_allowed(name)
            && default != request
        {
            let detail =
                format!("default value {default} must equal to defaultRequest value {request} in {name}");
            errors.invalid(&at("defaultRequest"), request.to_string(), detail);
        }
    }
}

const COUNTED: &[&str] = &[
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "services.nodeports",
    "services.loadbalancers",
];
const COMPUTE: &[&str] = &["cpu", "memory", "limits.cpu", "limits.memory", "requests.cpu", "requests.memory"];
const MEASURED: &[&str] = &[
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.storage",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
];
const SCOPES: &[&str] = &[
    "Terminating",
    "NotTerminating",
    "BestEffort",
    "NotBestEffort",
    "PriorityClass",
    "CrossNamespacePodAffinity",
    "VolumeAttributesClass",
];

/// Scopes that no object is in both of.
const CONFLICTS: &[(&str, &str)] = &[("BestEffort", "NotBestEffort"), ("Terminating", "NotTerminating")];

fn is_standard(name: &str) -> bool {
    COUNTED.contains(&name)
        || MEASURED.contains(&name)
        || name.starts_with("hugepages-")
        || name.starts_with("requests.hugepages-")
}

fn scope_fits(scope: &str, name: &str) -> bool {
    match scope {
        "BestEffort" => name == "pods",
        "Terminating"
        | "NotTerminating"
        | "NotBestEffort"
        | "PriorityClass"
        | "CrossNamespacePodAffinity" => name == "pods" || COMPUTE.contains(&name),
        "VolumeAttributesClass" => matches!(name, "persistentvolumeclaims" | "requests.storage"),
        _ => true,
    }
}

pub(super) fn resource_quota() -> Strategy {
    Strategy {
        validate: |object, errors| {
            let (spec, path) = (&object["spec"], Path::new("spec"));
            amounts_of(&spec["hard"], &path.child("hard"), errors);
            scopes(spec, &path.child("scopes"), errors);
            scope_selector(spec, &path.child("scopeSelector").child("matchExpressions"), errors);
        },
        validate_update: |new, old, errors| {
            let scopes = |object: &Value| -> BTreeSet<String> {
                list(object, &["spec", "scopes"])
                    .iter()
                    .filter_map(|s| s.as_str().map(str::to_owned))
                    .collect()
            };
            if scopes(new) != scopes(old) {
                errors.invalid(&Path::new("spec.scopes"), new["spec"]["scopes"].clone(), checks::IMMUTABLE);
            }
        },
        validate_status: |new, _, errors| {
            for field in ["hard", "used"] {
                amounts_of(&new["status"][field], &Path::new("status").child(field), errors);
            }
        },
        ..base()
    }
}

fn amounts_of(map: &Value, path: &Path, errors: &mut Errors) {
    for (name, value) in map.as_object().into_iter().flatten() {
        let path = path.key(name);
        resource_name(name, &path, errors);
        if !name.contains('/') && !is_standard(name) {
            errors.invalid(&path, name.as_str(), "must be a standard resource for quota");
        }
        checks::quantity(value, &path, errors);
        let whole = COUNTED.contains(&name.as_str()) || is_extended(name);
        if whole && amount(value).is_some_and(|q| !q.is_whole()) {
            errors.invalid(&path, value.clone(), "must be an integer");
        }
    }
}

fn scopes(spec: &Value, path: &Path, errors: &mut Errors) {
    let scopes: Vec<&str> = list(spec, &["scopes"]).iter().filter_map(Value::as_str).collect();
    for scope in &scopes {
        if !SCOPES.contains(scope) {
            errors.invalid(path, spec["scopes"].clone(), "unsupported scope");
        }
        for (name, _) in spec["hard"].as_object().into_iter().flatten() {
            if is_standard(name) && !scope_fits(scope, name) {
                errors.invalid(path, spec["scopes"].clone(), "unsupported scope applied to resource");
            }
        }
    }
    for (one, other) in CONFLICTS {
        if scopes.contains(one) && scopes.contains(other) {
            errors.invalid(path, spec["scopes"].clone(), "conflicting scopes");
        }
    }
}

fn scope_selector(spec: &Value, path: &Path, errors: &mut Errors) {
    for requirement in list(spec, &["scopeSelector", "matchExpressions"]) {
        let scope = text(requirement, &["scopeName"]);
        if !SCOPES.contains(&scope) {
            errors.invalid(&path.child("scopeName"), scope, "unsupported scope");
        }
        for (name, _) in spec["hard"].as_object().into_iter().flatten() {
            if is_standard(name) && !scope_fits(scope, name) {
                let shown = checks::internal("a.core.v1.ScopeSelector", &spec["scopeSelector"]);
                errors.invalid_shown(path, &shown, "unsupported scope applied to resource");
            }
        }
        let operator = text(requirement, &["operator"]);
        let bare =
            ["BestEffort", "NotBestEffort", "Terminating", "NotTerminating", "CrossNamespacePodAffinity"];
        if bare.contains(&scope) && operator != "Exists" {
            errors.invalid(
                &path.child("operator"),
                operator,
                "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, \
                 ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or \
                 ResourceQuotaScopeCrossNamespacePodAffinity",
            );
        }
        let values = list(requirement, &["values"]);
        match operator {
            "In" | "NotIn" if values.is_empty() => errors.required(
                &path.child("values"),
                "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector",
            ),
            "Exists" | "DoesNotExist" if !values.is_empty() => errors.invalid(
                &path.child("values"),
                requirement["values"].clone(),
                "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector",
            ),
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => errors.invalid(&path.child("operator"), other, "not a valid selector operator"),
        }
    }
    let named = |scope: &str| {
        let mut all = list(spec, &["scopeSelector", "matchExpressions"]).iter();
        all.any(|requirement| text(requirement, &["scopeName"]) == scope)
    };
    for (one, other) in CONFLICTS {
        if named(one) && named(other) {
            errors.invalid(path, spec["scopes"].clone(), "conflicting scopes");
        }
    }
}
