//! Validation of pod specs, wherever they occur.

use std::collections::HashSet;

use protocol::Selector;
use protocol::selector::{label_value_error, qualified_name_error};
use serde_json::Value;

use super::{containers, scheduling, security, volumes};
use crate::api::invalid::{Errors, Path};
use crate::api::kinds::checks::{self, ip, named, qualified};
use crate::api::kinds::resources;
use crate::api::meta::{self, NameRule};
use crate::api::object::{list, text};

const NAMESERVERS_MAX: usize = 3;
const SEARCHES_MAX: usize = 32;
const SEARCH_CHARS_MAX: usize = 2048;

/// Checks a pod spec.
pub fn validate(spec: &Value, path: &Path, errors: &mut Errors) {
    let volumes = volumes::volumes(spec, &path.child("volumes"), errors);
    let claims = claims(spec, &path.child("resourceClaims"), errors);
    containers::validate(
        spec,
        &containers::Around { spec, volumes: &volumes, claims: &claims },
        path,
        errors,
    );
    if spec["resources"].is_object() {
        resources::requirements(&spec["resources"], &claims, true, &path.child("resources"), errors);
    }
    host_ports(spec, path, errors);
    choice(spec, "restartPolicy", &["Always", "OnFailure", "Never"], path, errors);
    choice(spec, "dnsPolicy", &["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"], path, errors);
    for (key, value) in spec["nodeSelector"].as_object().into_iter().flatten() {
        let path = path.child("nodeSelector");
        qualified_name_error(key).into_iter().for_each(|e| errors.invalid(&path, key.as_str(), e));
        for error in label_value_error(value.as_str().unwrap_or_default()) {
            errors.invalid(&path, value.clone(), error);
        }
    }
    security::pod(spec, path, errors);
    for (i, secret) in list(spec, &["imagePullSecrets"]).iter().enumerate() {
        checks::required(secret, "name", &path.child("imagePullSecrets").index(i), errors);
    }
    scheduling::affinity(&spec["affinity"], &path.child("affinity"), errors);
    dns(spec, &path.child("dnsConfig"), errors);
    for (i, gate) in list(spec, &["readinessGates"]).iter().enumerate() {
        let path = path.child("readinessGates").index(i).child("conditionType");
        qualified(text(gate, &["conditionType"]), &path, errors);
    }
    gates(spec, &path.child("schedulingGates"), errors);
    scheduling::spread(spec, &path.child("topologySpreadConstraints"), errors);
    security::host_users(spec, path, errors);
    for name in ["serviceAccountName", "nodeName"] {
        checks::named_if_set(NameRule::Subdomain, spec, name, path, errors);
    }
    let deadline = path.child("activeDeadlineSeconds");
    checks::in_range(&spec["activeDeadlineSeconds"], 1, i64::from(i32::MAX), &deadline, errors);
    for name in ["hostname", "subdomain"] {
        checks::named_if_set(NameRule::Label, spec, name, path, errors);
    }
    scheduling::tolerations(list(spec, &["tolerations"]), &path.child("tolerations"), errors);
    host_aliases(spec, &path.child("hostAliases"), errors);
    for name in ["priorityClassName", "runtimeClassName"] {
        checks::named_if_set(NameRule::Subdomain, spec, name, path, errors);
    }
    checks::choice(
        &spec["preemptionPolicy"],
        &["PreemptLowerPriority", "Never"],
        &path.child("preemptionPolicy"),
        errors,
    );
    overhead(spec, &path.child("overhead"), errors);
    if spec["os"].is_object() {
        let path = path.child("os");
        match text(spec, &["os", "name"]) {
            "" => errors.required(&path.child("name"), "cannot be empty"),
            "linux" | "windows" => {}
            other => errors.unsupported(&path, other, &["linux", "windows"]),
        }
    }
}

fn choice(spec: &Value, name: &str, allowed: &[&str], path: &Path, errors: &mut Errors) {
    checks::required_choice(&spec[name], allowed, &path.child(name), errors);
}

fn claims<'a>(spec: &'a Value, path: &Path, errors: &mut Errors) -> Vec<&'a str> {
    let mut names: Vec<&str> = Vec::new();
    for (i, claim) in list(spec, &["resourceClaims"]).iter().enumerate() {
        let path = path.index(i);
        let name = text(claim, &["name"]);
        if name.is_empty() {
            errors.required(&path.child("name"), "");
        } else {
            if names.contains(&name) {
                errors.duplicate(&path.child("name"), name);
            }
            named(NameRule::Label, name, &path.child("name"), errors);
        }
        names.push(name);
        let given = ["resourceClaimName", "resourceClaimTemplateName"].map(|n| !claim[n].is_null());
        let shown = || checks::internal("a.core.v1.PodResourceClaim", claim);
        match given {
            [true, true] => {
                let detail =
                    "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified";
                errors.invalid_shown(&path, &shown(), detail);
            }
            [false, false] => {
                let detail = "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`";
                errors.invalid_shown(&path, &shown(), detail);
            }
            _ => {}
        }
        for field in ["resourceClaimName", "resourceClaimTemplateName"] {
            if let Some(name) = claim[field].as_str() {
                named(NameRule::Subdomain, name, &path.child(field), errors);
            }
        }
    }
    names
}

fn host_ports(spec: &Value, path: &Path, errors: &mut Errors) {
    if spec["hostNetwork"] != Value::Bool(true) {
        return;
    }
    for kind in ["containers", "initContainers"] {
        for (i, container) in list(spec, &[kind]).iter().enumerate() {
            for (j, port) in list(container, &["ports"]).iter().enumerate() {
                if port["hostPort"] != port["containerPort"] {
                    let at = path.child(kind).index(i).child("ports").index(j).child("containerPort");
                    let detail = "must match `hostPort` when `hostNetwork` is true";
                    errors.invalid(&at, port["containerPort"].clone(), detail);
                }
            }
        }
    }
}

fn dns(spec: &Value, path: &Path, errors: &mut Errors) {
    let config = &spec["dnsConfig"];
    if text(spec, &["dnsPolicy"]) == "None" {
        if config.is_null() {
            errors.required(path, "must provide `dnsConfig` when `dnsPolicy` is None");
            return;
        }
        if list(config, &["nameservers"]).is_empty() {
            let detail = "must provide at least one DNS nameserver when `dnsPolicy` is None";
            errors.required(&path.child("nameservers"), detail);
            return;
        }
    }
    let servers = list(config, &["nameservers"]);
    if servers.len() > NAMESERVERS_MAX {
        let detail = format!("must not have more than {NAMESERVERS_MAX} nameservers");
        errors.invalid(&path.child("nameservers"), servers.to_vec(), detail);
    }
    for (i, server) in servers.iter().filter_map(Value::as_str).enumerate() {
        ip(server, &path.child("nameservers").index(i), errors);
    }
    let searches: Vec<&str> = list(config, &["searches"]).iter().filter_map(Value::as_str).collect();
    let at = path.child("searches");
    if searches.len() > SEARCHES_MAX {
        let detail = format!("must not have more than {SEARCHES_MAX} search paths");
        errors.invalid(&at, config["searches"].clone(), detail);
    }
    if searches.join(" ").len() > SEARCH_CHARS_MAX {
        let detail = format!(
            "must not have more than {SEARCH_CHARS_MAX} characters (including spaces) in the search list"
        );
        errors.invalid(&at, config["searches"].clone(), detail);
    }
    for (i, search) in searches.iter().enumerate().filter(|(_, s)| **s != ".") {
        let trimmed = search.strip_suffix('.').unwrap_or(search).replace('_', "-");
        for error in meta::name_errors(NameRule::Subdomain, trimmed.trim_start_matches('-'), false) {
            errors.invalid(&at.index(i), *search, error);
        }
    }
    for (i, option) in list(config, &["options"]).iter().enumerate() {
        if text(option, &["name"]).is_empty() {
            errors.required(&path.child("options").index(i), "must not be empty");
        }
    }
}

fn gates(spec: &Value, path: &Path, errors: &mut Errors) {
    let mut names = HashSet::new();
    for (i, gate) in list(spec, &["schedulingGates"]).iter().enumerate() {
        let name = text(gate, &["name"]);
        qualified(name, &path.index(i), errors);
        if !names.insert(name) {
            errors.duplicate(&path.index(i), name);
        }
    }
}

fn host_aliases(spec: &Value, path: &Path, errors: &mut Errors) {
    for (i, alias) in list(spec, &["hostAliases"]).iter().enumerate() {
        let path = path.index(i);
        ip(text(alias, &["ip"]), &path.child("ip"), errors);
        for host in list(alias, &["hostnames"]).iter().filter_map(Value::as_str) {
            named(NameRule::Subdomain, host, &path.child("hostnames"), errors);
        }
    }
}

fn overhead(spec: &Value, path: &Path, errors: &mut Errors) {
    for (name, value) in spec["overhead"].as_object().into_iter().flatten() {
        let path = path.key(name);
        resources::container_resource_name(name, &path, errors);
        checks::quantity(value, &path, errors);
    }
}

/// The selector of a `LabelSelector` value; `None` where it is absent or not understood.
pub fn selector_of(value: &Value) -> Option<Selector> {
    let selector = serde_json::from_value(value.clone()).ok()?;
    Selector::from_label_selector(&selector).ok()
}

/// Checks a pod template by itself.
pub fn template_spec(template: &Value, path: &Path, errors: &mut Errors) {
    meta::labels(&template["metadata"]["labels"], &path.child("labels"), errors);
    meta::annotations(&template["metadata"]["annotations"], &path.child("annotations"), errors);
    validate(&template["spec"], &path.child("spec"), errors);
    if !list(template, &["spec", "ephemeralContainers"]).is_empty() {
        let path = path.child("spec").child("ephemeralContainers");
        errors.forbidden(&path, "ephemeral containers not allowed in pod template");
    }
}
