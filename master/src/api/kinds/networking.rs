//! The kinds of `networking.k8s.io`; Ingress and IngressClass here.

use serde_json::{Value, json};

use super::checks::{self, named, port_name_errors, port_number};
use super::services::balancer_ingress;
use super::{Strategy, base};
use crate::api::invalid::{Errors, Path};
use crate::api::meta::NameRule;
use crate::api::object::{default, list, object_mut, text};

mod addresses;
mod policies;

pub(super) use addresses::{ip_address, service_cidr};
pub(super) use policies::network_policy;

const CLASS: &str = "kubernetes.io/ingress.class";
const CONTROLLER_BYTES_MAX: usize = 250;

fn spec(name: &str) -> Path {
    Path::new("spec").child(name)
}

pub(super) fn ingress() -> Strategy {
    Strategy {
        prepare_create: |object| object["status"] = json!({"loadBalancer": {}}),
        validate: |object, errors| ingress_spec(&object["spec"], errors),
        validate_create: |object, errors| {
            let annotation = text(object, &["metadata", "annotations", CLASS]);
            if let Some(class) = object["spec"]["ingressClassName"].as_str()
                && object["metadata"]["annotations"].get(CLASS).is_some()
                && annotation != class
            {
                let path = Path::new("annotations").child(CLASS);
                errors.invalid(&path, annotation, "must match `ingressClassName` when both are specified");
            }
        },
        validate_status: |new, _, errors| {
            let path = Path::new("status.loadBalancer.ingress");
            balancer_ingress(&new["status"]["loadBalancer"], false, &path, errors);
        },
        warnings: |object, old, said| {
            if old.is_none()
                && object["metadata"]["annotations"].get(CLASS).is_some()
                && object["spec"]["ingressClassName"].is_null()
            {
                said.push(format!(
                    "annotation \"{CLASS}\" is deprecated, please use 'spec.ingressClassName' instead"
                ));
            }
        },
        status_warnings: Some(checks::balancer_notes),
        ..base()
    }
}

fn ingress_spec(ingress: &Value, errors: &mut Errors) {
    let rules = list(ingress, &["rules"]);
    let backend = &ingress["defaultBackend"];
    if rules.is_empty() && backend.is_null() {
        let shown = errors.as_sent(&spec("rules"), &Value::Null).to_string();
        let detail = "either `defaultBackend` or `rules` must be specified";
        errors.invalid_shown(&Path::new("spec"), &shown, detail);
    }
    if backend.is_object() {
        self::backend(backend, &spec("defaultBackend"), errors);
    }
    for (i, rule) in rules.iter().enumerate() {
        host(text(rule, &["host"]), &spec("rules").index(i).child("host"), errors);
        if rule["http"].is_object() {
            paths(&rule["http"], &spec("rules").index(i).child("http"), errors);
        }
    }
    for (i, tls) in list(ingress, &["tls"]).iter().enumerate() {
        let path = spec("tls").index(i);
        for (j, host) in list(tls, &["hosts"]).iter().filter_map(Value::as_str).enumerate() {
            host_name(host, &path.child("hosts").index(j), errors);
        }
        checks::named_if_set(NameRule::Subdomain, tls, "secretName", &path, errors);
    }
    if let Some(class) = ingress["ingressClassName"].as_str() {
        named(NameRule::Subdomain, class, &spec("ingressClassName"), errors);
    }
}

fn host(host: &str, path: &Path, errors: &mut Errors) {
    if host.is_empty() {
        return;
    }
    if checks::parse_ip(host).is_some() {
        errors.invalid(path, host, "must be a DNS name, not an IP address");
    }
    host_name(host, path, errors);
}

fn host_name(host: &str, path: &Path, errors: &mut Errors) {
    if host.contains('*') {
        checks::wildcard(host, path, errors);
    } else {
        named(NameRule::Subdomain, host, path, errors);
    }
}

fn paths(http: &Value, path: &Path, errors: &mut Errors) {
    let paths = list(http, &["paths"]);
    if paths.is_empty() {
        errors.required(&path.child("paths"), "");
    }
    for (i, item) in paths.iter().enumerate() {
        let path = path.child("paths").index(i);
        let (at, given) = (path.child("path"), text(item, &["path"]));
        match item["pathType"].as_str() {
            None => {
                errors.required(&path.child("pathType"), "pathType must be specified");
                continue;
            }
            Some("Exact" | "Prefix") => {
                if !given.starts_with('/') {
                    errors.invalid(&at, given, "must be an absolute path");
                }
                if !given.is_empty() {
                    for part in ["//", "/./", "/../", "%2f", "%2F"] {
                        if given.contains(part) {
                            errors.invalid(&at, given, format!("must not contain '{part}'"));
                        }
                    }
                    for end in ["/..", "/."] {
                        if given.ends_with(end) {
                            errors.invalid(&at, given, format!("cannot end with '{end}'"));
                        }
                    }
                }
            }
            Some("ImplementationSpecific") => {
                if !given.is_empty() && !given.starts_with('/') {
                    errors.invalid(&at, given, "must be an absolute path");
                }
            }
            Some(other) => {
                let kinds = ["Exact", "ImplementationSpecific", "Prefix"];
                errors.unsupported(&path.child("pathType"), other, &kinds);
            }
        }
        backend(&item["backend"], &path.child("backend"), errors);
    }
}

fn backend(backend: &Value, path: &Path, errors: &mut Errors) {
    let (service, resource) = (&backend["service"], &backend["resource"]);
    match (service.is_object(), resource.is_object()) {
        (true, true) => errors.invalid(path, "", "cannot set both resource and service backends"),
        (false, true) => local_reference(resource, &path.child("resource"), errors),
        (true, false) => {
            let at = path.child("service");
            checks::required_name(NameRule::Label, service, "name", &at, errors);
            let (name, number) =
                (text(service, &["port", "name"]), service["port"]["number"].as_i64().unwrap_or(0));
            let at = at.child("port");
            match (name.is_empty(), number) {
                (false, n) if n != 0 => {
                    errors.invalid(path, "", "cannot set both port name & port number");
                }
                (false, _) => {
                    for error in port_name_errors(name) {
                        errors.invalid(&at.child("name"), name, error);
                    }
                }
                (true, 0) => errors.required(path, "port name or number is required"),
                (true, number) => port_number(number, &at.child("number"), errors),
            }
        }
        (false, false) => errors.invalid(path, "", "resource or service backend is required"),
    }
}

fn local_reference(reference: &Value, path: &Path, errors: &mut Errors) {
    if let Some(group) = reference["apiGroup"].as_str() {
        named(NameRule::Subdomain, group, &path.child("apiGroup"), errors);
    }
    for name in ["kind", "name"] {
        checks::required_name(NameRule::PathSegment, reference, name, path, errors);
    }
}

pub(super) fn ingress_class() -> Strategy {
    Strategy {
        defaults: |object| {
            if object["spec"]["parameters"].is_object() {
                default(object_mut(object, &["spec", "parameters"]), "scope", "Cluster");
            }
        },
        validate: |object, errors| {
            let controller = text(object, &["spec", "controller"]);
            if controller.len() > CONTROLLER_BYTES_MAX {
                errors.too_long(&spec("controller"), CONTROLLER_BYTES_MAX);
            }
            checks::domain_prefixed_path(controller, &spec("controller"), errors);
            if object["spec"]["parameters"].is_object() {
                parameters(&object["spec"]["parameters"], &spec("parameters"), errors);
            }
        },
        validate_update: |new, old, errors| {
            let [new, old] = [new, old].map(|class| text(class, &["spec", "controller"]));
            checks::immutable(&new.into(), &old.into(), &spec("controller"), errors);
        },
        change_first: true,
        ..base()
    }
}

fn parameters(parameters: &Value, path: &Path, errors: &mut Errors) {
    local_reference(parameters, path, errors);
    let namespace = parameters["namespace"].as_str();
    match parameters["scope"].as_str() {
        None => errors.required(&path.child("scope"), ""),
        Some("Cluster") if namespace.is_some() => {
            errors.forbidden(&path.child("namespace"), "`parameters.scope` is set to 'Cluster'");
        }
        Some("Namespace") => match namespace {
            None | Some("") => {
                errors.required(&path.child("namespace"), "`parameters.scope` is set to 'Namespace'");
            }
            Some(name) => named(NameRule::Label, name, &path.child("namespace"), errors),
        },
        Some("Cluster") => {}
        Some(other) => errors.unsupported(&path.child("scope"), other, &["Cluster", "Namespace"]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_an_ingress_is_told_of_the_rule_it_is_in() {
        let rule = json!({"http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": {}}]}});
        let mut errors = Errors::default();
        ingress_spec(&json!({"rules": [{}, rule]}), &mut errors);
        let expected = "spec.rules[1].http.paths[0].backend: Invalid value: \"\": resource or service backend is required";
        assert_eq!(errors.messages(), [expected]);
    }
}
