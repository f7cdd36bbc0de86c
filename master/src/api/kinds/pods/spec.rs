//! Validation of pod specs, wherever they occur.

use std::collections::HashSet;

use protocol::Selector;
use protocol::selector::{label_value_error, qualified_name_error};
use serde_json::{Value, json};

use super::{annotations, containers, scheduling, security, volumes, windows};
use crate::api::invalid::{Errors, Path};
use crate::api::kinds::checks::{self, ip, named, qualified};
use crate::api::kinds::resources;
use crate::api::meta::{self, NameRule};
use crate::api::object::{list, text};

const NAMESERVERS_MAX: usize = 3;
const SEARCHES_MAX: usize = 32;
const SEARCH_CHARS_MAX: usize = 2048;
const SEARCH_MAX: usize = 253;
const SEARCH: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', '-' or \
'.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
'_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?(\\._?[a-z0-9]([-_a-z0-9]*[a-z0-9])?)*')";
const HOST_NAME_MAX: usize = 64;

/// Checks a pod spec; `pod` is the metadata of the pod whose it is, where it is not a template's.
pub fn validate(spec: &Value, pod: Option<&Value>, path: &Path, errors: &mut Errors) {
    let volumes = volumes::volumes(spec, pod, &path.child("volumes"), errors);
    let claims = claims(spec, pod, &path.child("resourceClaims"), errors);
    containers::validate(
        spec,
        &containers::Around { spec, volumes: &volumes, claims: &claims },
        path,
        errors,
    );
    resources::whole_pod(spec, &claims, &path.child("resources"), errors);
    host_ports(spec, pod.is_some(), path, errors);
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
    scheduling::affinity(&spec["affinity"], &path.child("affinity"), errors);
    dns(spec, &path.child("dnsConfig"), errors);
    for (i, gate) in list(spec, &["readinessGates"]).iter().enumerate() {
        let path = path.child("readinessGates").index(i).child("conditionType");
        qualified(text(gate, &["conditionType"]), &path, errors);
    }
    gates(spec, &path.child("schedulingGates"), errors);
    scheduling::spread(spec, &path.child("topologySpreadConstraints"), errors);
    windows::host_processes(spec, path, errors);
    security::host_users(spec, path, errors);
    host_name(spec, path, errors);
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
    checks::named_if_set(NameRule::Subdomain, spec, "priorityClassName", path, errors);
    if let Some(class) = spec["runtimeClassName"].as_str() {
        named(NameRule::Subdomain, class, &path.child("runtimeClassName"), errors);
    }
    if !spec["preemptionPolicy"].is_null() {
        choice(spec, "preemptionPolicy", &["PreemptLowerPriority", "Never"], path, errors);
    }
    if spec["overhead"].is_object() {
        let limits = json!({"limits": spec["overhead"]});
        resources::requirements(&limits, &[], &path.child("overhead"), errors);
    }
    windows::system(spec, path, errors);
    containers::file_volumes(spec, path, errors);
}

/// A name that a pod has inside, in place of its own.
fn host_name(spec: &Value, path: &Path, errors: &mut Errors) {
    let Some(name) = spec["hostnameOverride"].as_str() else { return };
    let at = path.child("hostnameOverride");
    if spec["setHostnameAsFQDN"] == Value::Bool(true) {
        errors.forbidden(&at, "may not be specified when setHostnameAsFQDN is true");
    }
    if spec["hostNetwork"] == Value::Bool(true) {
        errors.forbidden(&at, "may not be specified when hostNetwork is true");
    }
    if name.len() > HOST_NAME_MAX {
        errors.too_long(&at, HOST_NAME_MAX);
    }
    named(NameRule::Subdomain, name, &at, errors);
}

fn choice(spec: &Value, name: &str, allowed: &[&str], path: &Path, errors: &mut Errors) {
    checks::required_choice(&spec[name], allowed, &path.child(name), errors);
}

fn claims<'a>(spec: &'a Value, pod: Option<&Value>, path: &Path, errors: &mut Errors) -> Vec<&'a str> {
    let mut names: Vec<&str> = Vec::new();
    for (i, claim) in list(spec, &["resourceClaims"]).iter().enumerate() {
        let path = path.index(i);
        let name = text(claim, &["name"]);
        if pod.is_some_and(annotations::is_mirror) {
            errors.forbidden(&Path::default(), "static pods do not support resource claims");
            continue;
        }
        if name.is_empty() {
            errors.required(&path.child("name"), "");
        } else if names.contains(&name) {
            errors.duplicate(&path.child("name"), name);
        } else {
            named(NameRule::Label, name, &path.child("name"), errors);
            names.push(name);
        }
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

/// On the host's network, ports are the host's. Templates may leave them out: pods get them by default.
fn host_ports(spec: &Value, in_pod: bool, path: &Path, errors: &mut Errors) {
    if spec["hostNetwork"] != Value::Bool(true) {
        return;
    }
    for (i, container) in list(spec, &["containers"]).iter().enumerate() {
        for (j, port) in list(container, &["ports"]).iter().enumerate() {
            let [host, inner] = ["hostPort", "containerPort"].map(|name| port[name].as_i64().unwrap_or(0));
            if (in_pod || host != 0) && host != inner {
                let at = path.child("containers").index(i).child("ports").index(j).child("hostPort");
                errors.invalid(&at, host, "must match `containerPort` when `hostNetwork` is true");
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
        let search = search.strip_suffix('.').unwrap_or(search);
        if search.len() > SEARCH_MAX {
            errors.invalid(&at.index(i), search, format!("must be no more than {SEARCH_MAX} characters"));
        }
        if !is_search(search) {
            errors.invalid(&at.index(i), search, SEARCH);
        }
    }
    for (i, option) in list(config, &["options"]).iter().enumerate() {
        if text(option, &["name"]).is_empty() {
            errors.required(&path.child("options").index(i), "must not be empty");
        }
    }
}

/// Labels joined by dots, in which underscores may stand too.
fn is_search(name: &str) -> bool {
    name.split('.').all(|label| {
        let label = label.strip_prefix('_').unwrap_or(label).as_bytes();
        let end = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        let inner = |b: &u8| end(Some(b)) || matches!(b, b'-' | b'_');
        end(label.first()) && end(label.last()) && label.iter().all(inner)
    })
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
        for (j, host) in list(alias, &["hostnames"]).iter().filter_map(Value::as_str).enumerate() {
            named(NameRule::Subdomain, host, &path.child("hostnames").index(j), errors);
        }
    }
}

/// The selector of a `LabelSelector` value; `None` where it is absent or not understood.
pub fn selector_of(value: &Value) -> Option<Selector> {
    let mut errors = Errors::default();
    checks::label_selector(value, &Path::default(), &mut errors);
    if !errors.is_empty() {
        return None;
    }
    let selector = serde_json::from_value(value.clone()).ok()?;
    Selector::from_label_selector(&selector).ok()
}

/// Checks the metadata of a pod template.
pub fn template_metadata(template: &Value, path: &Path, errors: &mut Errors) {
    meta::labels(&template["metadata"]["labels"], &path.child("labels"), errors);
    meta::annotations(&template["metadata"]["annotations"], &path.child("annotations"), errors);
    annotations::validate(&template["metadata"], &template["spec"], &path.child("annotations"), errors);
}

/// Checks a pod template by itself.
pub fn template_spec(template: &Value, path: &Path, errors: &mut Errors) {
    template_metadata(template, path, errors);
    validate(&template["spec"], None, &path.child("spec"), errors);
    annotations::match_fields(&template["metadata"], &template["spec"], &path.child("spec"), errors);
    if !list(template, &["spec", "ephemeralContainers"]).is_empty() {
        let path = path.child("spec").child("ephemeralContainers");
        errors.forbidden(&path, "ephemeral containers not allowed in pod template");
    }
}
