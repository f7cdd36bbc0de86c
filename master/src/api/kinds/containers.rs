//! Validation of containers.

use std::collections::HashSet;

use protocol::selector::is_dns1123_label;
use serde_json::Value;

use super::resources;
use crate::api::invalid::{Errors, Path};
use crate::api::meta::{NameRule, name_errors};
use crate::api::object::{list, text};

const PULL_POLICIES: &[&str] = &["Always", "IfNotPresent", "Never"];

/// Checks all containers of a pod spec against its volumes.
pub fn validate(spec: &Value, volumes: &HashSet<&str>, path: &Path, errors: &mut Errors) {
    let mut names = HashSet::new();
    let regular = list(spec, &["containers"]);
    if regular.is_empty() {
        errors.required(&path.child("containers"), "");
    }
    for kind in ["containers", "initContainers", "ephemeralContainers"] {
        for (i, item) in list(spec, &[kind]).iter().enumerate() {
            let path = path.child(kind).index(i);
            container(item, volumes, &path, errors);
            let name = text(item, &["name"]);
            if !name.is_empty() && !names.insert(name) {
                errors.duplicate(&path.child("name"), name);
            }
        }
    }
    let mut host_ports = HashSet::new();
    for (i, item) in regular.iter().enumerate() {
        for (j, port) in list(item, &["ports"]).iter().enumerate() {
            let Some(number) = port["hostPort"].as_i64().filter(|n| *n != 0) else { continue };
            let shown = format!("{}/{}/{}", text(port, &["protocol"]), text(port, &["hostIP"]), number);
            if !host_ports.insert(shown.clone()) {
                let path = path.child("containers").index(i).child("ports").index(j).child("hostPort");
                errors.duplicate(&path, shown);
            }
        }
    }
}

fn container(item: &Value, volumes: &HashSet<&str>, path: &Path, errors: &mut Errors) {
    let name = text(item, &["name"]);
    if name.is_empty() {
        errors.required(&path.child("name"), "");
    } else if !is_dns1123_label(name) {
        for error in name_errors(NameRule::Label, name, false) {
            errors.invalid(&path.child("name"), name, error);
        }
    }
    let image = text(item, &["image"]);
    if image.is_empty() {
        errors.required(&path.child("image"), "");
    } else if image.trim() != image {
        errors.invalid(&path.child("image"), image, "must not have leading or trailing whitespace");
    }
    let message_policy = text(item, &["terminationMessagePolicy"]);
    if !["File", "FallbackToLogsOnError"].contains(&message_policy) {
        errors.unsupported(
            &path.child("terminationMessagePolicy"),
            message_policy,
            &["FallbackToLogsOnError", "File"],
        );
    }
    ports(item, &path.child("ports"), errors);
    environment(item, &path.child("env"), errors);
    mounts(item, volumes, &path.child("volumeMounts"), errors);
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        self::probe(&item[probe], probe, &path.child(probe), errors);
    }
    for hook in ["postStart", "preStop"] {
        let value = &item["lifecycle"][hook];
        if value.is_object() {
            handler(value, &path.child("lifecycle").child(hook), errors);
        }
    }
    let pull = text(item, &["imagePullPolicy"]);
    if !PULL_POLICIES.contains(&pull) {
        errors.unsupported(&path.child("imagePullPolicy"), pull, PULL_POLICIES);
    }
    resources::requirements(&item["resources"], &path.child("resources"), errors);
}

fn ports(item: &Value, path: &Path, errors: &mut Errors) {
    let mut names = HashSet::new();
    for (i, port) in list(item, &["ports"]).iter().enumerate() {
        let path = path.index(i);
        let name = text(port, &["name"]);
        if !name.is_empty() {
            for error in port_name_errors(name) {
                errors.invalid(&path.child("name"), name, error);
            }
            if !names.insert(name) {
                errors.duplicate(&path.child("name"), name);
            }
        }
        match port["containerPort"].as_i64().unwrap_or(0) {
            0 => errors.required(&path.child("containerPort"), ""),
            number => port_number(number, &path.child("containerPort"), errors),
        }
        if let Some(number) = port["hostPort"].as_i64().filter(|n| *n != 0) {
            port_number(number, &path.child("hostPort"), errors);
        }
        let protocol = text(port, &["protocol"]);
        if !["TCP", "UDP", "SCTP"].contains(&protocol) {
            errors.unsupported(&path.child("protocol"), protocol, &["SCTP", "TCP", "UDP"]);
        }
    }
}

/// Checks the range of a port number.
pub fn port_number(number: i64, path: &Path, errors: &mut Errors) {
    if !(1..=65535).contains(&number) {
        errors.invalid(path, number, "must be between 1 and 65535, inclusive");
    }
}

/// What is wrong with a port's name.
pub fn port_name_errors(name: &str) -> Vec<&'static str> {
    let mut errors = Vec::new();
    if name.len() > 15 {
        errors.push("must be no more than 15 characters");
    }
    if !name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') {
        errors.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)");
    }
    if !name.bytes().any(|b| b.is_ascii_lowercase()) {
        errors.push("must contain at least one letter (a-z)");
    }
    if name.contains("--") {
        errors.push("must not contain consecutive hyphens");
    }
    if name.starts_with('-') || name.ends_with('-') {
        errors.push("must not begin or end with a hyphen");
    }
    errors
}

fn environment(item: &Value, path: &Path, errors: &mut Errors) {
    for (i, variable) in list(item, &["env"]).iter().enumerate() {
        let path = path.index(i);
        let name = text(variable, &["name"]);
        if name.is_empty() {
            errors.required(&path.child("name"), "");
        } else if name.contains('=') || !name.bytes().all(|b| (0x20..0x7f).contains(&b)) {
            errors.invalid(
                &path.child("name"),
                name,
                "a valid environment variable name must consist only of printable ASCII characters other than '='",
            );
        }
        let from = &variable["valueFrom"];
        if from.is_object() {
            let sources = from.as_object().map_or(0, |m| m.values().filter(|v| !v.is_null()).count());
            let path = path.child("valueFrom");
            if sources == 0 {
                errors.invalid(
                    &path,
                    "",
                    "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`",
                );
            } else if !text(variable, &["value"]).is_empty() {
                errors.invalid(&path, "", "may not be specified when `value` is not empty");
            } else if sources > 1 {
                errors.invalid(&path, "", "may not have more than one field specified at a time");
            }
            for kind in ["configMapKeyRef", "secretKeyRef"] {
                let reference = &from[kind];
                if reference.is_object() {
                    for field in ["name", "key"] {
                        if text(reference, &[field]).is_empty() {
                            errors.required(&path.child(kind).child(field), "");
                        }
                    }
                }
            }
        }
    }
}

fn mounts(item: &Value, volumes: &HashSet<&str>, path: &Path, errors: &mut Errors) {
    let mut paths = HashSet::new();
    for (i, mount) in list(item, &["volumeMounts"]).iter().enumerate() {
        let path = path.index(i);
        let name = text(mount, &["name"]);
        if name.is_empty() {
            errors.required(&path.child("name"), "");
        }
        let target = text(mount, &["mountPath"]);
        if target.is_empty() {
            errors.required(&path.child("mountPath"), "");
        }
        if !volumes.contains(name) {
            errors.not_found(&path.child("name"), name);
        }
        if !paths.insert(target) {
            errors.invalid(&path.child("mountPath"), target, "must be unique");
        }
        let inner = text(mount, &["subPath"]);
        if inner.starts_with('/') {
            errors.invalid(&path.child("subPath"), inner, "must be a relative path");
        }
        if inner.split('/').any(|part| part == "..") {
            errors.invalid(&path.child("subPath"), inner, "must not contain '..'");
        }
    }
}

fn probe(probe: &Value, kind: &str, path: &Path, errors: &mut Errors) {
    if !probe.is_object() {
        return;
    }
    handler(probe, path, errors);
    for name in
        ["initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"]
    {
        super::non_negative(&probe[name], &path.child(name), errors);
    }
    if kind != "readinessProbe" && probe["successThreshold"].as_i64().is_some_and(|n| n != 1) {
        errors.invalid(&path.child("successThreshold"), probe["successThreshold"].clone(), "must be 1");
    }
}

/// A probe or a lifecycle hook does exactly one thing.
fn handler(value: &Value, path: &Path, errors: &mut Errors) {
    let mut found = 0;
    for kind in ["exec", "httpGet", "tcpSocket", "grpc", "sleep"] {
        let action = &value[kind];
        if action.is_null() {
            continue;
        }
        found += 1;
        let path = path.child(kind);
        if found > 1 {
            errors.forbidden(&path, "may not specify more than 1 handler type");
            continue;
        }
        match kind {
            "exec" if list(action, &["command"]).is_empty() => errors.required(&path.child("command"), ""),
            "httpGet" | "tcpSocket" | "grpc" => {
                if kind == "httpGet" && text(action, &["path"]).is_empty() {
                    errors.required(&path.child("path"), "");
                }
                match (&action["port"], action["port"].as_i64()) {
                    (_, Some(number)) => port_number(number, &path.child("port"), errors),
                    (Value::String(name), _) => {
                        for error in port_name_errors(name) {
                            errors.invalid(&path.child("port"), name.as_str(), error);
                        }
                    }
                    _ => port_number(0, &path.child("port"), errors),
                }
            }
            _ => {}
        }
    }
    if found == 0 {
        errors.required(path, "must specify a handler type");
    }
}
