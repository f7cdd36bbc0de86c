//! Validation of probes and of what happens at a container's start and end.

use serde_json::Value;

use crate::api::invalid::{Errors, Path};
use crate::api::kinds::checks::{self, port, port_number};
use crate::api::object::{list, text};

const HEADER: &str = "a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', \
regex used for validation is '[-A-Za-z0-9]+')";

/// Checks a probe; `kind` is the field it stands in.
pub fn probe(probe: &Value, kind: &str, grace_seconds: i64, path: &Path, errors: &mut Errors) {
    if !probe.is_object() {
        return;
    }
    handler(probe, grace_seconds, path, errors);
    let numbers =
        ["initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"];
    checks::all_non_negative(probe, &numbers, path, errors);
    let (grace, at) = (&probe["terminationGracePeriodSeconds"], path.child("terminationGracePeriodSeconds"));
    if grace.as_i64().is_some_and(|seconds| seconds <= 0) {
        errors.invalid(&at, grace.clone(), "must be greater than 0");
    }
    if kind == "readinessProbe" {
        if !grace.is_null() {
            errors.invalid(&at, grace.clone(), "must not be set for readinessProbes");
        }
    } else if probe["successThreshold"].as_i64().is_some_and(|n| n != 1) {
        errors.invalid(&path.child("successThreshold"), probe["successThreshold"].clone(), "must be 1");
    }
}

/// Checks a container's hooks.
pub fn lifecycle(lifecycle: &Value, grace_seconds: i64, path: &Path, errors: &mut Errors) {
    for hook in ["postStart", "preStop"] {
        if lifecycle[hook].is_object() {
            handler(&lifecycle[hook], grace_seconds, &path.child(hook), errors);
        }
    }
}

/// A probe or a hook does exactly one thing.
fn handler(value: &Value, grace_seconds: i64, path: &Path, errors: &mut Errors) {
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
            "exec" => {
                if list(action, &["command"]).is_empty() {
                    errors.required(&path.child("command"), "");
                }
            }
            "httpGet" => http_get(action, &path, errors),
            "tcpSocket" => port(&action["port"], &path.child("port"), errors),
            "grpc" => port_number(action["port"].as_i64().unwrap_or(0), &path.child("port"), errors),
            _ => {
                let seconds = action["seconds"].as_i64().unwrap_or(0);
                if seconds < 0 || seconds > grace_seconds {
                    let detail = format!(
                        "must be non-negative and less than terminationGracePeriodSeconds ({grace_seconds})"
                    );
                    errors.invalid(&path, seconds, detail);
                }
            }
        }
    }
    if found == 0 {
        errors.required(path, "must specify a handler type");
    }
}

fn http_get(action: &Value, path: &Path, errors: &mut Errors) {
    checks::required(action, "path", path, errors);
    port(&action["port"], &path.child("port"), errors);
    checks::choice(&action["scheme"], &["HTTP", "HTTPS"], &path.child("scheme"), errors);
    for header in list(action, &["httpHeaders"]) {
        let name = text(header, &["name"]);
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
            errors.invalid(&path.child("httpHeaders"), name, HEADER);
        }
    }
}
